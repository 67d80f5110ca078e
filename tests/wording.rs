//! What is said of a frame: as it is, as a guess, or not at all, by `captiond caption` and by the
//! chain as the daemon runs it.

#[path = "support/tiny.rs"]
mod tiny;

use std::path::{Path, PathBuf};

use captiond::{
    caption::wording::{Reason, Thresholds, Verdict},
    captioner::{Captioner, Describe as _, Description},
    engine::tract::TractEngine,
    pack::Pack,
    source::{Frame, Pixels},
};
use tiny::Captiond;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/samples")
        .join(name)
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn the_verdict_follows_the_thresholds_and_the_pack_has_the_words() {
    let work = tempfile::tempdir().unwrap();
    let pack = tiny::whole_pack(work.path());
    tiny::edit(
        pack.path(),
        "[text_tower]",
        "[phrases]\nhedged = \"vielleicht: {caption}\"\ndark = \"zu dunkel\"\n\n[text_tower]",
    );
    // Of six colours every caption is a certain one; a confidence below 1 is needed here.
    tiny::edit(
        pack.path(),
        "candidates = 5",
        "candidates = 5\nclip_s_weight = 0.5",
    );
    let good = sample("football_on_the_grass.jpg");
    let dark = sample("too_dark_staircase.jpg");
    let run = |options: &[&str]| {
        Captiond::new(&["caption"])
            .path("--pack", pack.path())
            .args(options)
            .arg(&good)
            .arg(&dark)
            .succeed()
    };
    let caption = {
        let said = run(&["--json", "--hedge-below", "0"]);
        let found = json(said.lines().next().unwrap());
        assert_eq!(found["verdict"], "sure", "{found}");
        assert_eq!(found["reason"], serde_json::Value::Null);
        assert_eq!(found["spoken"], found["caption"]);
        assert_eq!(found["confidence_calibrated"], false);
        assert!(found["quality"]["sharpness"].as_f64().unwrap() > 0.5);
        assert!(found["alternatives"].as_array().unwrap().len() <= 3);
        found["caption"].as_str().unwrap().to_owned()
    };
    let hedged = run(&["--hedge-below", "1", "--withhold-below", "0"]);
    let lines: Vec<Vec<&str>> = hedged.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(lines[0][2], format!("vielleicht: {caption}"));
    assert_eq!(lines[1][2], "unsure (dark)");
    let withheld = run(&["--withhold-below", "1"]);
    assert!(
        withheld
            .lines()
            .next()
            .unwrap()
            .ends_with("\tunsure (unfamiliar)")
    );

    // For evaluations the caption stays what it is; what's said is another key.
    let said = run(&["--json", "--withhold-below", "1"]);
    let lines: Vec<serde_json::Value> = said.lines().map(json).collect();
    assert_eq!(lines[0]["caption"], caption.as_str());
    assert_eq!(lines[0]["spoken"], "I am not sure what this is");
    assert_eq!(lines[1]["reason"], "dark");
    assert_eq!(lines[1]["spoken"], "zu dunkel");
    assert_ne!(lines[1]["caption"], "");
}

#[test]
fn thresholds_that_are_no_probabilities_are_refused_before_the_pack_is_read() {
    for (options, parts) in [
        (["--hedge-below", "70"], ["--hedge-below", "70", "0 to 1"]),
        (
            ["--withhold-below", "nan"],
            ["--withhold-below", "NaN", "0 to 1"],
        ),
    ] {
        let error = Captiond::new(&["caption", "x.jpg", "--pack", "/nowhere"])
            .args(&options)
            .fail();
        for part in parts {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }
}

/// The default pack, as the daemon sets it up or as evaluations do.
fn describe(captioner: &mut Captioner, name: &str) -> Description {
    captioner
        .describe(&Frame {
            pixels: Pixels::Encoded(std::fs::read(sample(name)).unwrap()),
            origin: name.to_owned(),
            taken: Default::default(),
        })
        .unwrap()
}

#[test]
fn the_gate_spares_the_work_and_evaluations_do_without_it() {
    let mut pack =
        Pack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default")).unwrap();
    pack.manifest.generation.deadline_ms = 600_000;
    let mut captioner = Captioner::load(&pack, &TractEngine).unwrap();
    captioner.set_thresholds(Thresholds::new(Some(0.0), None).unwrap());
    let bad = [
        ("too_dark_staircase.jpg", Reason::Dark),
        ("blurred_football.jpg", Reason::Blurred),
    ];
    let scored: Vec<Description> = bad
        .iter()
        .map(|(name, _)| describe(&mut captioner, name))
        .collect();
    captioner.gate(true);
    for ((name, reason), scored) in bad.iter().zip(scored) {
        let gated = describe(&mut captioner, name);
        assert_eq!(gated.verdict, Verdict::Unsure(*reason), "{name}");
        assert_eq!((gated.caption.as_str(), gated.confidence), ("", 0.0));
        assert_eq!((gated.ms.embed, gated.ms.generate), (0.0, 0.0));
        assert!(gated.ms.decode > 0.0 && gated.ms.total >= gated.ms.decode);
        assert!(gated.neighbours.is_empty() && gated.alternatives.is_empty());
        // Without the gate the same frame has a caption and the same verdict.
        assert_eq!(
            (scored.verdict, scored.quality),
            (gated.verdict, gated.quality)
        );
        assert_eq!(scored.spoken, gated.spoken);
        assert!(!scored.caption.is_empty() && scored.ms.embed > 0.0);
        assert!(!scored.spoken.contains(&scored.caption));
    }
    // A good frame passes the gate.
    let good = describe(&mut captioner, "football_on_the_grass.jpg");
    assert_eq!(good.verdict, Verdict::Sure);
    assert_eq!(good.spoken, good.caption);
    assert!(good.ms.quality > 0.0 && good.ms.embed > 0.0);
}
