//! `captiond datastore augment` with the default pack's own decoder on our sample pictures.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use captiond::pack::Pack;

/// What the samples show, in words that the decoder is unlikely to choose.
const SAMPLES: [(&str, &str); 4] = [
    ("beach_at_sunset", "the sun sets over the sea at the beach"),
    (
        "sailing_boat_on_the_sea",
        "a boat with a white sail on blue water",
    ),
    ("wooden_staircase", "wooden stairs with a railing going up"),
    (
        "snowy_mountain_and_forest",
        "a high mountain with snow above dark trees",
    ),
];
/// Nothing that any sample shows.
const UNRELATED: &str = "a bowl of tomato soup\ntwo violins on a chair\na dentist at work\n";

struct Workshop(tempfile::TempDir);

impl Workshop {
    /// A copy of the default pack that retrieves only, with a datastore of three captions.
    fn new() -> Self {
        let shop = Self(tempfile::tempdir().unwrap());
        fs::create_dir(shop.pack()).unwrap();
        for entry in fs::read_dir("models/default").unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), shop.pack().join(entry.file_name())).unwrap();
        }
        let manifest = fs::read_to_string(shop.pack().join("pack.toml")).unwrap();
        let (before, after) = manifest.split_once("[generation]\n").unwrap();
        let (_, after) = after.split_once("\n\n").unwrap();
        let retrieving = format!("{before}[generation]\nmethod = \"retrieve\"\n\n{after}");
        fs::write(shop.pack().join("pack.toml"), retrieving).unwrap();
        fs::write(shop.path("captions.txt"), UNRELATED).unwrap();
        let lines: Vec<String> = samples()
            .map(|(file, caption)| format!("{file}\t{caption}\n"))
            .collect();
        fs::write(shop.path("pairs.tsv"), lines.concat()).unwrap();
        let built = shop.captiond(&["datastore", "build"], &[shop.path("captions.txt")], &[]);
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pack(&self) -> PathBuf {
        self.path("pack")
    }

    fn captiond(&self, command: &[&str], files: &[PathBuf], options: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_captiond"))
            .args(command)
            .args(files)
            .args(options)
            .arg("--pack")
            .arg(self.pack())
            .arg("--cache")
            .arg(self.path("cache"))
            .output()
            .unwrap()
    }

    fn augment(&self, thresholds: &str, options: &[&str]) -> String {
        let pairs = self.path("pairs.tsv");
        let pairs = pairs.to_str().unwrap();
        let mut all = vec![
            "--pairs",
            pairs,
            "--evaluate",
            pairs,
            "--images",
            "tests/samples",
            "--rounds",
            "1",
            "--method",
            "sample",
            "--candidates",
            "4",
            "--thresholds",
            thresholds,
            "--deadline-ms",
            "600000",
        ];
        all.extend_from_slice(options);
        let output = self.captiond(&["datastore", "augment"], &[], &all);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn captions(&self) -> Vec<String> {
        let store = Pack::open(&self.pack()).unwrap().datastore().unwrap();
        store.captions().map(str::to_owned).collect()
    }
}

fn samples() -> impl Iterator<Item = (String, &'static str)> {
    SAMPLES.iter().filter_map(|(name, caption)| {
        let file = format!("{name}.jpg");
        Path::new("tests/samples")
            .join(&file)
            .is_file()
            .then_some((file, *caption))
    })
}

#[test]
fn adds_what_the_pack_says_itself_and_keeps_out_what_it_is_told_to() {
    assert!(
        samples().count() == SAMPLES.len(),
        "the samples were renamed"
    );
    let shop = Workshop::new();
    let told = shop.augment("0.1,2", &[]);
    let captions = shop.captions();
    assert!(told.contains("round 1: threshold 0.1"), "{told}");
    assert!(captions.len() > 3, "{told}");
    assert_eq!(captions[..3].join("\n") + "\n", UNRELATED);
    let entry = fs::read_to_string(shop.pack().join("pack.toml")).unwrap();
    assert!(entry.contains("datastore augment"), "{entry}");

    // The same again, but for one of them.
    let again = Workshop::new();
    let unwanted = captions[3].to_uppercase() + " !";
    fs::write(again.path("unwanted.txt"), unwanted).unwrap();
    let file = again.path("unwanted.txt");
    let told = again.augment("0.1", &["--not-in", file.to_str().unwrap()]);
    assert!(
        told.contains("of --not-in") && !told.contains(" 0 of --not-in"),
        "{told}"
    );
    let without = again.captions();
    assert!(!without.contains(&captions[3]), "{without:?}");
}

#[test]
fn a_threshold_that_nothing_passes_leaves_the_pack_as_it_was() {
    let shop = Workshop::new();
    let before = fs::read(shop.pack().join("pack.toml")).unwrap();
    let told = shop.augment("2", &[]);
    assert!(told.contains("round 1: nothing new"), "{told}");
    assert_eq!(fs::read(shop.pack().join("pack.toml")).unwrap(), before);
    assert_eq!(shop.captions().len(), 3);
}
