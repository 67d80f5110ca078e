//! `captiond calibrate` through the real program, on a tiny pack and pictures that we draw.

#[path = "support/tiny.rs"]
mod tiny;

use std::{fs, path::PathBuf};

use captiond::pack::{Pack, Standing};
use serde_json::Value;
use tempfile::TempDir;
use tiny::{COLOURS, Captiond};

/// A pack of six colours, its pictures, and votes on captions of right and wrong colours.
struct Workshop {
    work: TempDir,
    pack: TempDir,
}

impl Workshop {
    fn new() -> Self {
        let work = tempfile::tempdir().unwrap();
        let pack = tiny::whole_pack(work.path());
        fs::write(work.path().join("votes.tsv"), tiny::colour_votes()).unwrap();
        Self { work, pack }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn calibrate(&self) -> Captiond {
        Captiond::new(&["calibrate", "--json"])
            .path("--pack", self.pack.path())
            .path("--images", self.work.path())
            .path("--cache", self.file("cache"))
            .path("--votes", self.file("votes.tsv"))
    }

    /// What is said of a picture, and what stands on standard error.
    fn caption(&self, name: &str) -> (Value, String) {
        let output = Captiond::new(&["caption", "--json"])
            .path("--pack", self.pack.path())
            .arg(self.file(name))
            .output();
        assert!(output.status.success());
        let said = serde_json::from_slice(&output.stdout).unwrap();
        (said, String::from_utf8(output.stderr).unwrap())
    }

    fn standing(&self) -> Option<Standing> {
        let pack = Pack::open(self.pack.path()).unwrap();
        pack.calibration().unwrap().map(|(_, standing)| standing)
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn votes_make_a_probability_and_a_changed_pack_loses_it() {
    let shop = Workshop::new();
    let (before, _) = shop.caption("red_3.png");
    assert_eq!(before["confidence_calibrated"], false);

    let report = json(&shop.calibrate().succeed());
    let votes = &report["votes"];
    assert_eq!(votes["rows"], 144);
    assert!(votes["auroc"].as_f64().unwrap() > 0.8, "{votes}");
    assert!(votes["ece"].as_f64().unwrap() < 0.15, "{votes}");
    assert_eq!(report["own"], Value::Null);

    let (said, errors) = shop.caption("red_3.png");
    assert_eq!(said["confidence_calibrated"], true);
    // Five in six say yes to a right caption.
    let confidence = said["confidence"].as_f64().unwrap();
    assert!((0.5..1.0).contains(&confidence), "{said}");
    assert_ne!(said["confidence"], before["confidence"]);
    assert_eq!(errors, "");
    let pinned = Captiond::new(&["caption", "--json", "--retrieval-margin", "0.5"])
        .path("--pack", shop.pack.path())
        .arg(shop.file("red_3.png"))
        .succeed();
    assert_eq!(json(&pinned)["confidence_calibrated"], false);

    // Other captions: the number stays, but it's no longer vouched for.
    fs::write(shop.file("more.txt"), "a purple field\n").unwrap();
    Captiond::new(&["datastore", "add"])
        .path("--pack", shop.pack.path())
        .path("--cache", shop.file("cache"))
        .arg(shop.file("more.txt"))
        .succeed();
    assert_eq!(shop.standing(), Some(Standing::OtherCaptions));
    let (said, errors) = shop.caption("red_3.png");
    assert_eq!(said["confidence_calibrated"], false);
    assert!(errors.contains("run `captiond calibrate`"), "{errors}");

    // Another realignment: it means nothing any more.
    Captiond::new(&["fit", "--held-out", "0.3", "--map", "procrustes"])
        .path("--pack", shop.pack.path())
        .path("--cache", shop.file("cache"))
        .path("--pairs", shop.file("pairs.tsv"))
        .succeed();
    assert_eq!(shop.standing(), Some(Standing::OtherScores));
    let (said, errors) = shop.caption("red_3.png");
    assert_eq!(said["confidence_calibrated"], false);
    assert!(errors.contains("it is not used"), "{errors}");
    shop.calibrate().succeed();
    assert_eq!(shop.standing(), Some(Standing::Current));
}

#[test]
fn own_captions_teach_it_what_they_are_worth() {
    let shop = Workshop::new();
    // References: right for every other picture, of another colour for the rest.
    let mut pairs = String::new();
    for shade in 0..12usize {
        for (at, (name, _)) in COLOURS.iter().enumerate() {
            let shown = if (shade + at) % 2 == 0 {
                at
            } else {
                (at + 3) % 6
            };
            pairs += &format!("{name}_{shade}.png\ta {} picture\n", COLOURS[shown].0);
        }
    }
    fs::write(shop.file("own.tsv"), pairs).unwrap();
    // Plain fields look like a covered lens and would be left out: these have edges.
    let own = shop.file("edges");
    fs::create_dir(&own).unwrap();
    for shade in 0..12u8 {
        for (name, colour) in COLOURS {
            let picture = image::RgbImage::from_fn(96, 72, |x, y| {
                let dark = (x / 12 + y / 12) % 2 == 0;
                image::Rgb(colour.map(|v| v.saturating_add(3 * shade) / if dark { 2 } else { 1 }))
            });
            picture
                .save(own.join(format!("{name}_{shade}.png")))
                .unwrap();
        }
    }
    let with_own = |shop: &Workshop| {
        let own = shop.calibrate().path("--own", shop.file("own.tsv"));
        // Another colour's caption is near, in a language of six words.
        own.path("--own-images", shop.file("edges"))
            .args(&["--acceptable", "0.8"])
    };
    let report = with_own(&shop)
        .path("--diagram", shop.file("diagram.svg"))
        .path("--features", shop.file("features.tsv"))
        .succeed();
    let report = json(&report);
    let (own, boast) = (&report["own"], &report["own_by_votes_alone"]);
    // The gate leaves some of the darkest out.
    let rows = own["rows"].as_u64().unwrap() as usize;
    assert!((50..=72).contains(&rows), "{own}");
    let accepted = own["accepted"].as_f64().unwrap();
    assert!((0.2..0.7).contains(&accepted), "{own}");
    // By votes alone nearly every caption is a certain one; half of them are not.
    let promised = |r: &Value| r["confidence"].as_f64().unwrap();
    assert!(promised(boast) > accepted + 0.1, "{boast}");
    assert!((promised(own) - accepted).abs() < 0.08, "{own}");
    assert!(report["own_by_folder"].as_object().unwrap().is_empty());
    assert_eq!(own["coverage"].as_array().unwrap().len(), 20);
    let svg = fs::read_to_string(shop.file("diagram.svg")).unwrap();
    assert!(svg.contains("own captions, by votes alone"));
    let features = fs::read_to_string(shop.file("features.tsv")).unwrap();
    assert_eq!(features.lines().count(), rows + 1);
    let columns: Vec<usize> = features.lines().map(|l| l.split('\t').count()).collect();
    assert!(columns.iter().all(|count| *count == 11));

    let manifest = fs::read(shop.pack.path().join("pack.toml")).unwrap();
    let measured = json(&with_own(&shop).arg("--measure").succeed());
    // The same rows; here the regression has seen them.
    assert_eq!(measured["own"]["accepted"], report["own"]["accepted"]);
    assert_eq!(
        measured["own_by_votes_alone"]["brier"],
        report["own_by_votes_alone"]["brier"]
    );
    let after = fs::read(shop.pack.path().join("pack.toml")).unwrap();
    assert_eq!(manifest, after);
}

#[test]
fn what_is_wrong_is_named_and_the_pack_stays() {
    let shop = Workshop::new();
    let manifest = fs::read(shop.pack.path().join("pack.toml")).unwrap();
    let refused = |command: Captiond, parts: &[&str]| {
        let error = command.fail();
        for part in parts {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    };
    refused(
        shop.calibrate().arg("--measure"),
        &["no [calibration]", "captiond calibrate"],
    );
    refused(
        shop.calibrate().args(&["--folds", "100"]),
        &["100 folds of 72 images"],
    );
    refused(
        shop.calibrate().args(&["--acceptable", "46"]),
        &["--acceptable", "46"],
    );
    fs::write(shop.file("votes.tsv"), "red_0.png\ta red field\tyes\n").unwrap();
    refused(
        shop.calibrate(),
        &["the votes", "1 of 1 captions are accepted"],
    );
    fs::write(shop.file("votes.tsv"), "nowhere.png\ta red field\tyes\n").unwrap();
    refused(shop.calibrate(), &["nowhere.png"]);
    assert_eq!(
        manifest,
        fs::read(shop.pack.path().join("pack.toml")).unwrap()
    );
}

#[test]
fn pictures_that_the_gate_refuses_teach_nothing() {
    let shop = Workshop::new();
    let error = shop
        .calibrate()
        .path("--own", shop.file("pairs.tsv"))
        .fail();
    assert!(error.contains("72 of 72 pictures are left out"), "{error}");
}

#[test]
fn a_calibration_that_is_none_is_refused_by_name() {
    let shop = Workshop::new();
    shop.calibrate().succeed();
    let file = shop.pack.path().join("calibration.toml");
    let good = fs::read_to_string(&file).unwrap();
    for (from, to, parts) in [
        ("format = 1", "format = 2", ["format", "found 2"]),
        ("[votes]", "[vote]", ["line", "vote"]),
        ("\"margin\"", "\"marging\"", ["line", "marging"]),
        (
            "deviation = 0",
            "deviation = -0",
            ["votes.terms[0].deviation", "above 0"],
        ),
        ("bias = ", "bias = nan #", ["votes.bias", "NaN"]),
    ] {
        assert!(good.contains(from), "{from} is not in {good}");
        tiny::put(
            shop.pack.path(),
            "calibration.toml",
            good.replacen(from, to, 1).as_bytes(),
        );
        let error = Captiond::new(&["caption"])
            .path("--pack", shop.pack.path())
            .arg(shop.file("red_3.png"))
            .fail();
        for part in ["calibration.toml", "captiond calibrate"]
            .iter()
            .chain(&parts)
        {
            assert!(error.contains(part), "{part} is not in {error}");
        }
        tiny::put(shop.pack.path(), "calibration.toml", good.as_bytes());
    }
}
