//! The caption metrics against pycocoevalcap 1.2 on real captions. The digests and values here were
//! computed with it by `models/metric_parity.py`; no caption is stored. Needs the data beside the
//! checkout; without it each test says loudly that it was skipped.

#[path = "support/tiny.rs"]
mod tiny;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use captiond::{
    eval::captions::{
        NAMES, Scorer, corpus,
        references::{self, Referenced},
        tokenizer::tokenize_all,
    },
    pack::digest,
};

fn data(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/data")
        .join(file);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("SKIPPED: ../shared/data/{file} is absent, nothing was compared");
    None
}

fn assert_tokens(captions: &[String], count: usize, sha256: &str) {
    let lines: String = tokenize_all(captions)
        .iter()
        .map(|tokens| tokens.join(" ") + "\n")
        .collect();
    assert_eq!(captions.len(), count);
    assert_eq!(digest::of_bytes(lines.as_bytes()), sha256);
}

/// One caption of each image against its others.
fn assert_scores(
    images: &[Referenced],
    place: impl Fn(usize) -> usize,
    count: usize,
    expected: [f64; NAMES.len()],
) {
    let (mut rest, mut captions) = (Vec::new(), Vec::new());
    for image in images {
        let mut others = image.captions.clone();
        captions.push(others.remove(place(others.len())));
        rest.push(others);
    }
    let found = corpus(&Scorer::new(&rest).score(&captions)).array();
    assert_eq!(images.len(), count);
    for ((name, found), expected) in NAMES.iter().zip(found).zip(expected) {
        assert!(
            (found - expected).abs() < 1e-9,
            "{name}: found {found}, pycocoevalcap {expected}"
        );
    }
}

#[test]
fn tokens_of_every_coco_val2017_caption() {
    let Some(path) = data("coco/captions_val2017.json") else {
        return;
    };
    let file: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let captions: Vec<String> = file["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["caption"].as_str().unwrap().to_owned())
        .collect();
    assert_tokens(
        &captions,
        25_014,
        "7e0f6eeeb51991c2eab4ff4f48d977d8cd4eeea526bc4f1c16447a7da2703305",
    );
}

#[test]
fn tokens_of_every_flickr8k_caption() {
    let Some(path) = data("flickr8k/Flickr8k.token.txt") else {
        return;
    };
    let captions: Vec<String> = fs::read_to_string(path)
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.split_once('\t')?.1.to_owned()))
        .collect();
    assert_tokens(
        &captions,
        38_000,
        "fe4b7aee532ed7e5a0e5dbb1b63a0c9c76e21b1aeb32c8beecf3ef81d5d4aafe",
    );
}

#[test]
fn scores_of_the_fifth_dev_caption() {
    let Some(path) = data("flickr8k/dev.tsv") else {
        return;
    };
    let found = references::read(&path, None).unwrap();
    assert_scores(
        &found.images,
        |_| 4,
        1000,
        [
            0.623858447489,
            0.427768903876,
            0.289273332711,
            0.194813606041,
            0.458894400428,
            0.781813625227,
        ],
    );
}

#[test]
fn scores_of_the_last_coco_caption() {
    let Some(path) = data("coco/captions_val2017.json") else {
        return;
    };
    let found = references::read(&path, None).unwrap();
    assert_scores(
        &found.images,
        |count| count - 1,
        5000,
        [
            0.626694632472,
            0.429305605503,
            0.285671333104,
            0.189104405763,
            0.465449119231,
            0.864933768444,
        ],
    );
}

fn captiond(arguments: &[&str]) -> (bool, String, String) {
    let output = tiny::program().args(arguments).output().unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn the_command_scores_compares_and_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let refs = file(
        "refs.tsv",
        "a.jpg\tA grey cat sleeps on a chair.\nb.jpg\tTwo boats lie in the harbour.\n",
    );
    let good = file(
        "good.jsonl",
        "{\"file\":\"x/a.jpg\",\"caption\":\"A grey cat sleeps on a chair\"}\n{\"file\":\"x/b.jpg\",\"caption\":\"Two boats lie in the harbour\"}\n",
    );
    let bad = file("bad.tsv", "a.jpg\ta bus\nb.jpg\ta bus\n");
    let some = file("some.tsv", "a.jpg\ta grey cat\n");
    let images = folder.path().join("images.jsonl");
    let command = [
        "eval",
        "captions",
        "--refs",
        &refs,
        "--json",
        "--predictions",
    ];
    let with = |more: &[&str]| captiond(&[&command, more].concat());

    let (worked, out, error) = with(&[
        &good,
        "--against",
        &bad,
        "--per-image",
        images.to_str().unwrap(),
    ]);
    assert!(worked, "{error}");
    let found: HashMap<String, serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(found["images"], 2);
    for name in NAMES {
        assert!(found[name].as_f64().unwrap() > 0.99, "{out}");
        assert_eq!(found["intervals"][name].as_array().unwrap().len(), 2);
        assert!(found["against"][name]["difference"].as_f64().unwrap() > 0.8);
        assert!(found["against"][name]["p"].is_number());
    }
    assert_eq!(fs::read_to_string(images).unwrap().lines().count(), 2);

    let (worked, _, error) = with(&[&some]);
    assert!(
        !worked && error.contains("b.jpg") && error.contains("--subset"),
        "{error}"
    );
    let (worked, out, error) = with(&[&some, "--subset", "--draws", "0"]);
    assert!(worked && out.contains("\"images\":1"), "{out}{error}");
}
