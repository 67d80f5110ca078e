use super::*;
use serde_json::json;

const NOW: (Duration, SystemTime) = (Duration::from_secs(9), SystemTime::UNIX_EPOCH);

fn wall() -> SystemTime {
    humantime::parse_rfc3339("2026-03-01T06:30:00Z").unwrap()
}

fn parsed(topic: &str, payload: &[u8]) -> Result<Command, Rejected> {
    let topics = Topics::new("home/captiond", "porch");
    let topic = format!("home/captiond/porch/{topic}");
    let mut gate = Gate::new(NOW.0);
    parse(&topics, &topic, payload, false, &mut gate, (NOW.0, wall()))
}

fn set(change: Change) -> Result<Command, Rejected> {
    Ok(Command::Set(change))
}

#[test]
fn settings_are_read() {
    let nothing = Change::default();
    for (topic, payload, change) in [
        (
            "enabled/set",
            "ON",
            Change {
                enabled: Some(true),
                ..nothing
            },
        ),
        (
            "enabled/set",
            " OFF\n",
            Change {
                enabled: Some(false),
                ..nothing
            },
        ),
        (
            "interval/set",
            "2.5",
            Change {
                interval: Some(Duration::from_millis(2500)),
                ..nothing
            },
        ),
        (
            "interval/set",
            "0",
            Change {
                interval: Some(Duration::ZERO),
                ..nothing
            },
        ),
        (
            "interval/set",
            "86400",
            Change {
                interval: Some(Duration::from_secs(86_400)),
                ..nothing
            },
        ),
        (
            "min_confidence/set",
            "0.35",
            Change {
                min_confidence: Some(0.35),
                ..nothing
            },
        ),
        (
            "detail/set",
            "long",
            Change {
                detail: Some(Detail::Long),
                ..nothing
            },
        ),
    ] {
        assert_eq!(
            parsed(topic, payload.as_bytes()),
            set(change),
            "{topic} {payload}"
        );
    }
    let mut values = Values::default();
    let change = Change {
        detail: Some(Detail::Long),
        ..nothing
    };
    change.apply(&mut values);
    assert_eq!(
        values,
        Values {
            detail: Detail::Long,
            ..Values::default()
        }
    );
}

#[test]
fn what_is_no_command_is_rejected_with_what_would_be_one() {
    for (topic, payload, expected) in [
        ("enabled/set", &b"on"[..], "ON or OFF"),
        ("enabled/set", b"", "ON or OFF"),
        ("interval/set", b"-1", "0 to 86400"),
        ("interval/set", b"86401", "0 to 86400"),
        ("interval/set", b"NaN", "0 to 86400"),
        ("interval/set", b"inf", "0 to 86400"),
        ("interval/set", b"2s", "0 to 86400"),
        ("min_confidence/set", b"1.01", "0 to 1"),
        ("min_confidence/set", b"nan", "0 to 1"),
        ("detail/set", b"medium", "short or long"),
        ("describe", b"", "PRESS"),
        ("describe", b"press", "PRESS"),
        ("describe", b"\xff\xfe", "UTF-8"),
    ] {
        let rejected = parsed(topic, payload).unwrap_err();
        assert_eq!(rejected.reason, Reason::Malformed, "{topic} {payload:?}");
        assert!(rejected.problem.contains(expected), "{}", rejected.problem);
        assert_eq!(rejected.reply, None);
    }
    assert_eq!(parsed("describe", b"PRESS"), Ok(Command::Describe));
}

#[test]
fn a_request_keeps_its_id() {
    let request =
        |name: &str, payload: &str| parsed(&format!("request/{name}"), payload.as_bytes());
    for (id, payload) in [
        (json!(null), "{}".to_owned()),
        (json!(7), "{\"id\": 7}".to_owned()),
        (
            json!("abc"),
            "{\"id\": \"abc\", \"time\": \"2026-03-01T06:29:30Z\"}".to_owned(),
        ),
    ] {
        let Ok(Command::Request(found)) = request("status", &payload) else {
            panic!("{payload}");
        };
        assert_eq!((found.id, found.what), (id, Wish::Status));
    }
    let set = "{\"id\": 1, \"enabled\": false, \"interval\": 1.5, \"detail\": \"long\"}";
    let Ok(Command::Request(found)) = request("set", set) else {
        panic!();
    };
    let change = Change {
        enabled: Some(false),
        interval: Some(Duration::from_millis(1500)),
        min_confidence: None,
        detail: Some(Detail::Long),
    };
    assert_eq!(found.what, Wish::Set(change));
}

#[test]
fn a_bad_request_is_answered_as_far_as_it_was_understood() {
    let rejected = |name: &str, payload: &str| {
        parsed(&format!("request/{name}"), payload.as_bytes()).unwrap_err()
    };
    for (name, payload, reason, id, part) in [
        ("status", "", Reason::Malformed, json!(null), "JSON object"),
        (
            "status",
            "[1]",
            Reason::Malformed,
            json!(null),
            "JSON object",
        ),
        (
            "status",
            "{\"id\": {}}",
            Reason::Malformed,
            json!(null),
            "`id`",
        ),
        (
            "status",
            "{\"id\": 1, \"x\": 2}",
            Reason::Malformed,
            json!(1),
            "\"x\"",
        ),
        (
            "reboot",
            "{\"id\": 1}",
            Reason::Malformed,
            json!(1),
            "describe, status",
        ),
        (
            "set",
            "{\"id\": 1, \"interval\": -3}",
            Reason::Malformed,
            json!(1),
            "`interval`",
        ),
        (
            "set",
            "{\"id\": 1, \"enabled\": \"ON\"}",
            Reason::Malformed,
            json!(1),
            "true or false",
        ),
        (
            "set",
            "{\"id\": 1, \"volume\": 3}",
            Reason::Malformed,
            json!(1),
            "`volume`",
        ),
        (
            "status",
            "{\"id\": 1, \"time\": 5}",
            Reason::Malformed,
            json!(1),
            "RFC 3339",
        ),
        (
            "status",
            "{\"id\": 1, \"time\": \"noon\"}",
            Reason::Malformed,
            json!(1),
            "RFC 3339",
        ),
        (
            "status",
            "{\"id\": 1, \"time\": \"2026-03-01T06:28:00Z\"}",
            Reason::Stale,
            json!(1),
            "120 s",
        ),
        (
            "status",
            "{\"id\": 1, \"time\": \"2026-03-01T06:31:01Z\"}",
            Reason::Stale,
            json!(1),
            "61 s",
        ),
    ] {
        let rejected = rejected(name, payload);
        assert_eq!(rejected.reason, reason, "{payload}");
        assert!(rejected.problem.contains(part), "{}", rejected.problem);
        assert_eq!(rejected.reply, Some((name.to_owned(), id)), "{payload}");
    }
    // A name that could be no part of a topic, and one that is too long, get no answer.
    for name in ["", "a b", &"x".repeat(33), "ä"] {
        assert_eq!(rejected(name, "{}").reply, None, "{name}");
    }
}

#[test]
fn large_and_retained_ones_are_rejected_unread() {
    let large = vec![b' '; MAX_PAYLOAD + 1];
    let rejected = parsed("request/status", &large).unwrap_err();
    assert_eq!(rejected.reason, Reason::Oversized);
    assert_eq!(rejected.reply, Some(("status".into(), Value::Null)));
    let topics = Topics::new("c", "d");
    let mut gate = Gate::new(NOW.0);
    let rejected = parse(&topics, "c/d/describe", b"PRESS", true, &mut gate, NOW).unwrap_err();
    assert_eq!((rejected.reason, rejected.reply), (Reason::Retained, None));
}

#[test]
fn a_flood_is_cut_off_and_trickles_on() {
    let mut gate = Gate::new(Duration::ZERO);
    let admitted = (0..1000).filter(|_| gate.admit(Duration::ZERO)).count();
    assert_eq!(admitted, 20);
    // Ten seconds of a hundred a second.
    let admitted = (1..=1000)
        .filter(|tick| gate.admit(Duration::from_millis(tick * 10)))
        .count();
    assert_eq!(admitted, 20);
    assert!(gate.admit(Duration::from_secs(3600)));
    let mut rejections = Rejections::default();
    rejections.count(Reason::Flooding);
    rejections.count(Reason::Stale);
    assert_eq!(
        serde_json::to_value(rejections).unwrap(),
        json!({"oversized": 0, "malformed": 0, "retained": 0, "stale": 1, "flooding": 1})
    );
}

#[test]
fn deeply_nested_and_odd_json_does_no_harm() {
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    for payload in [
        deep.as_str(),
        "{\"id\": 1e999}",
        "{\"id\": [1]}",
        "null",
        "\"x\"",
    ] {
        let rejected = parsed("request/status", payload.as_bytes()).unwrap_err();
        assert_eq!(rejected.reason, Reason::Malformed, "{payload}");
    }
}
