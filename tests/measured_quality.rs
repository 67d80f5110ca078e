//! The default pack on real photographs: the bars that its quality may not fall below. Needs the
//! data beside the checkout; without it each test says loudly that it was skipped.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn flickr8k() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/flickr8k");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: ../shared/data/flickr8k is absent, nothing was measured");
    None
}

fn captiond(arguments: &[&str], paths: &[(&str, PathBuf)]) -> serde_json::Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_captiond"));
    command.args(arguments);
    for (name, path) in paths {
        command.arg(name).arg(path);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn retrieval_and_agreement_with_people() {
    let Some(data) = flickr8k() else { return };
    let cache = tempfile::tempdir().unwrap();
    let images = ("--images", data.join("images"));
    let cached = ("--cache", cache.path().to_owned());
    let found = captiond(
        &["eval", "retrieval", "--json"],
        &[
            ("--pairs", data.join("dev.tsv")),
            images.clone(),
            cached.clone(),
        ],
    );
    let recall_at_10 = found["image_to_text"][2].as_f64().unwrap();
    eprintln!("dev image-to-text R@10 {recall_at_10:.3}");
    assert!(recall_at_10 >= 0.60, "{found}");
    let found = captiond(
        &["eval", "metrics", "--json"],
        &[
            ("--captions", data.join("Flickr8k.token.txt")),
            ("--expert", data.join("ExpertAnnotations.txt")),
            ("--crowdflower", data.join("CrowdFlowerAnnotations.txt")),
            images,
            cached,
        ],
    );
    let expert = found["aCLIP-S"]["expert_tau_c"].as_f64().unwrap();
    eprintln!("Flickr8k-Expert tau-c {expert:.2}");
    assert!(expert >= 52.0, "{found}");
}
