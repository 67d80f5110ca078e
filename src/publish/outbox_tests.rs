use super::*;

const WALL: SystemTime = SystemTime::UNIX_EPOCH;
const SECOND: Duration = Duration::from_secs(1);

fn outbox() -> (Outbox, Slot) {
    bounded(100, 10_000)
}

fn bounded(entries: usize, bytes: usize) -> (Outbox, Slot) {
    let mut outbox = Outbox::new(Bounds { entries, bytes });
    let slot = outbox.latest("caption", false);
    outbox.reconnected();
    (outbox, slot)
}

fn event(id: u64) -> Queued {
    Queued {
        id,
        topic: "event".into(),
        payload: id.to_string().into_bytes(),
        expires: 60 * SECOND,
        made: None,
        on_disk: false,
        always_acknowledged: false,
        sent: false,
        acknowledged_before: false,
    }
}

/// Hands over all there is at `now` and gives the payloads.
fn drain(outbox: &mut Outbox, now: Duration) -> Vec<String> {
    let mut sent = Vec::new();
    while let Some(packet) = outbox.next(now, WALL) {
        outbox.handed_over(packet.kind);
        sent.push(String::from_utf8(packet.payload).unwrap());
    }
    sent
}

#[test]
fn the_newest_value_waits_for_the_one_on_its_way() {
    let (mut outbox, caption) = outbox();
    outbox.set(caption, b"one".to_vec());
    assert_eq!(drain(&mut outbox, SECOND), ["one"]);
    outbox.set(caption, b"two".to_vec());
    outbox.set(caption, b"three".to_vec());
    assert!(drain(&mut outbox, SECOND).is_empty());
    assert_eq!(outbox.written(9), None);
    assert_eq!(outbox.acknowledged(8, SECOND), None);
    assert_eq!(
        outbox.acknowledged(9, SECOND),
        Some(Kind::Latest(caption, 1))
    );
    assert_eq!(drain(&mut outbox, SECOND), ["three"]);
}

#[test]
fn an_event_leaves_on_its_acknowledgement_only() {
    let (mut outbox, _) = outbox();
    for id in 1..=3 {
        outbox.push(event(id));
    }
    assert_eq!(drain(&mut outbox, SECOND), ["1", "2", "3"]);
    assert_eq!(outbox.waiting().0, 3);
    for id in [11, 12, 13] {
        assert_eq!(outbox.written(id), None);
    }
    assert_eq!(outbox.acknowledged(12, SECOND), Some(Kind::Queued(2)));
    assert_eq!(outbox.waiting(), (2, 2 * "event1".len()));
    // A new connection: what wasn't acknowledged goes again, in order, and nothing else.
    outbox.reconnected();
    assert_eq!(outbox.acknowledged(11, SECOND), None);
    assert_eq!(drain(&mut outbox, SECOND), ["1", "3"]);
}

#[test]
fn what_was_acknowledged_just_before_a_loss_goes_again() {
    let (mut outbox, _) = outbox();
    let now = |tenths: u32| 10 * SECOND + SECOND * tenths / 10;
    for id in 1..=4 {
        outbox.push(Queued {
            on_disk: true,
            ..event(id)
        });
    }
    drain(&mut outbox, now(0));
    for (id, tenths) in [(1, 0), (2, 11), (3, 30)] {
        outbox.written(id);
        assert!(outbox.acknowledged(id, now(tenths)).is_some());
    }
    outbox.lost(now(30));
    assert_eq!(outbox.take_erasable(), [1, 2, 3]);
    // 1 has settled; 4 was never acknowledged.
    assert_eq!(drain(&mut outbox, now(30)), ["2", "3", "4"]);
    // Once more only if the connection breaks again just after the next acknowledgement.
    for id in [5, 6, 7] {
        outbox.written(id);
        outbox.acknowledged(id, now(40));
    }
    outbox.lost(now(60));
    assert!(drain(&mut outbox, now(60)).is_empty());
    assert_eq!(outbox.waiting(), (0, 0));
}

#[test]
fn what_is_sent_again_after_its_acknowledgement_is_no_loss_when_it_is_dropped() {
    let acknowledged_and_lost = |(mut outbox, _): (Outbox, Slot)| {
        outbox.push(event(1));
        drain(&mut outbox, SECOND);
        outbox.written(1);
        outbox.acknowledged(1, SECOND);
        outbox.lost(SECOND);
        assert_eq!(outbox.waiting().0, 1);
        outbox
    };
    let mut expired = acknowledged_and_lost(outbox());
    assert!(drain(&mut expired, 60 * SECOND).is_empty());
    let mut full = acknowledged_and_lost(bounded(2, 10_000));
    (2..=4).for_each(|id| full.push(event(id)));
    assert_eq!(drain(&mut full, SECOND), ["3", "4"]);
    assert_eq!((expired.dropped().expired, full.dropped().full), (0, 1));
}

#[test]
fn values_go_before_events_and_again_after_a_new_connection() {
    let (mut outbox, caption) = outbox();
    outbox.push(event(1));
    outbox.set(caption, b"a door".to_vec());
    assert_eq!(drain(&mut outbox, SECOND), ["a door", "1"]);
    outbox.written(1);
    outbox.written(2);
    outbox.acknowledged(1, SECOND);
    outbox.acknowledged(2, SECOND);
    assert!(drain(&mut outbox, SECOND).is_empty());
    outbox.repeat(caption);
    assert_eq!(drain(&mut outbox, SECOND), ["a door"]);
    outbox.reconnected();
    assert_eq!(drain(&mut outbox, SECOND), ["a door"]);
}

#[test]
fn without_acknowledgements_written_is_done() {
    let (mut outbox, caption) = outbox();
    outbox.set(caption, b"one".to_vec());
    outbox.push(event(1));
    drain(&mut outbox, SECOND);
    assert_eq!(outbox.written(0), Some(Kind::Latest(caption, 1)));
    assert_eq!(outbox.written(0), Some(Kind::Queued(1)));
    assert_eq!(outbox.waiting(), (0, 0));
    assert!(drain(&mut outbox, SECOND).is_empty());
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let (mut outbox, _) = bounded(3, 10_000);
    for id in 1..=5 {
        outbox.push(Queued {
            on_disk: true,
            ..event(id)
        });
    }
    assert_eq!(outbox.dropped().full, 2);
    assert_eq!(outbox.take_erasable(), [1, 2]);
    assert!(outbox.take_erasable().is_empty());
    assert_eq!(drain(&mut outbox, SECOND), ["3", "4", "5"]);

    // By bytes: each is "event" and a payload of 25.
    let (mut outbox, _) = bounded(100, 100);
    for id in 1..=5 {
        outbox.push(Queued {
            payload: vec![b'x'; 25],
            ..event(id)
        });
    }
    assert_eq!((outbox.waiting(), outbox.dropped().full), ((3, 90), 2));
    outbox.push(Queued {
        payload: vec![b'x'; 200],
        ..event(6)
    });
    assert_eq!((outbox.waiting(), outbox.dropped().full), ((0, 0), 6));
}

#[test]
fn what_is_on_its_way_is_the_last_to_be_dropped() {
    let (mut outbox, _) = bounded(2, 10_000);
    outbox.push(event(1));
    drain(&mut outbox, SECOND);
    outbox.push(event(2));
    outbox.push(event(3));
    outbox.written(1);
    assert_eq!(outbox.acknowledged(1, SECOND), Some(Kind::Queued(1)));
    assert_eq!(drain(&mut outbox, SECOND), ["3"]);
}

#[test]
fn late_events_are_not_said() {
    let (mut outbox, _) = outbox();
    outbox.push(event(1));
    outbox.push(Queued {
        expires: 120 * SECOND,
        ..event(2)
    });
    assert_eq!(drain(&mut outbox, 60 * SECOND), ["2"]);
    assert_eq!((outbox.waiting().0, outbox.dropped().expired), (1, 1));
    // On its way: left to the acknowledgement, or to the loss of the connection.
    outbox.expire(500 * SECOND, WALL);
    assert_eq!(outbox.waiting().0, 1);
    outbox.reconnected();
    assert!(drain(&mut outbox, 500 * SECOND).is_empty());
    assert_eq!((outbox.waiting().0, outbox.dropped().expired), (0, 2));
}

#[test]
fn an_event_of_an_earlier_run_has_the_age_that_the_date_tells() {
    let made = SystemTime::UNIX_EPOCH + 1000 * SECOND;
    let old = |id| Queued {
        made: Some((made, 60 * SECOND)),
        ..event(id)
    };
    let next = |wall| {
        let (mut outbox, _) = outbox();
        outbox.push(old(1));
        let packet = outbox.next(SECOND, wall);
        (packet.is_some(), outbox.waiting().0)
    };
    assert_eq!(next(made + 59 * SECOND), (true, 1));
    assert_eq!(next(made + 60 * SECOND), (false, 0));
    // A clock that hasn't been set yet: it waits, but not for ever.
    assert_eq!(next(made - SECOND), (false, 1));
    let (mut outbox, _) = outbox();
    outbox.push(old(1));
    outbox.expire(60 * SECOND, made - SECOND);
    assert_eq!(outbox.waiting().0, 0);
}

#[test]
fn what_the_client_holds_is_bounded() {
    let (mut outbox, _) = bounded(1000, 100_000);
    for id in 1..=100 {
        outbox.push(event(id));
    }
    assert_eq!(drain(&mut outbox, SECOND).len(), WINDOW);
    outbox.written(1);
    assert!(drain(&mut outbox, SECOND).is_empty());
    outbox.acknowledged(1, SECOND);
    assert_eq!(drain(&mut outbox, SECOND), [(WINDOW + 1).to_string()]);
}
