//! What the default pack says of our sample pictures, against tests/golden.
//!
//! A new datastore, realignment or rule of choice changes captions. Then
//! `UPDATE_GOLDEN=1 cargo test --test golden` writes the files again; read the difference.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use captiond::{
    caption::wording::{HEDGE_BELOW, WITHHOLD_BELOW},
    captioner::{Captioner, Describe as _},
    engine::tract::TractEngine,
    pack::Pack,
    source::{Frame, Pixels},
};
use serde::{Deserialize, Serialize};

/// Scores differ in the last digits between instruction sets.
const TOLERANCE: f32 = 0.01;

#[derive(Debug, Serialize, Deserialize)]
struct Golden {
    caption: String,
    confidence: f32,
    verdict: String,
    reason: Option<String>,
    spoken: String,
    alternatives: Vec<String>,
    nearest: String,
    score: f32,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|e| endings.iter().any(|x| e == *x))
        })
        .collect();
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn the_samples_are_captioned_as_before() {
    let golden = root().join("tests/golden");
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let samples = files(&root().join("tests/samples"), &["jpg", "png"]);
    assert!(samples.len() >= 10);
    let mut pack = Pack::open(&root().join("models/default")).unwrap();
    // A busy test machine must not change what is said.
    pack.manifest.generation.deadline_ms = 600_000;
    let mut captioner = Captioner::load(&pack, &TractEngine).unwrap();
    let mut wrong = Vec::new();
    if update {
        fs::create_dir_all(&golden).unwrap();
        for old in files(&golden, &["json"]) {
            fs::remove_file(old).unwrap();
        }
    }
    for sample in &samples {
        let found = captioner
            .describe(&Frame {
                pixels: Pixels::Encoded(fs::read(sample).unwrap()),
                origin: sample.display().to_string(),
                taken: Default::default(),
            })
            .unwrap();
        let alternatives = found.alternatives.into_iter();
        let found = Golden {
            caption: found.caption,
            confidence: found.confidence,
            verdict: found.verdict.name().to_owned(),
            reason: found
                .verdict
                .reason()
                .map(|reason| reason.name().to_owned()),
            spoken: found.spoken,
            alternatives: alternatives.map(|one| one.caption).collect(),
            nearest: found.neighbours[0].caption.clone(),
            score: found.neighbours[0].score,
        };
        let file = golden.join(stem(sample)).with_extension("json");
        if update {
            let text = serde_json::to_string_pretty(&found).unwrap();
            fs::write(&file, text + "\n").unwrap();
            continue;
        }
        let Ok(text) = fs::read_to_string(&file) else {
            wrong.push(format!("{} is missing", file.display()));
            continue;
        };
        let expected: Golden = serde_json::from_str(&text).unwrap();
        let apart = (found.confidence - expected.confidence)
            .abs()
            .max((found.score - expected.score).abs());
        let same = (&found.caption, &found.nearest, &found.alternatives)
            == (&expected.caption, &expected.nearest, &expected.alternatives);
        let said = (&found.verdict, &found.reason, &found.spoken)
            == (&expected.verdict, &expected.reason, &expected.spoken);
        // Beside a threshold those last digits decide, but only between its two sides.
        let either = [HEDGE_BELOW, WITHHOLD_BELOW]
            .iter()
            .any(|threshold| (expected.confidence - threshold).abs() <= TOLERANCE);
        if !same || apart > TOLERANCE || !(said || either) {
            wrong.push(format!(
                "{}: found {found:?}, expected {expected:?}",
                stem(sample)
            ));
        }
    }
    let names: BTreeSet<String> = samples.iter().map(|path| stem(path)).collect();
    for file in files(&golden, &["json"]) {
        if !names.contains(&stem(&file)) {
            wrong.push(format!("{} has no sample", file.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "UPDATE_GOLDEN=1 writes the files again:\n{}",
        wrong.join("\n")
    );
}
