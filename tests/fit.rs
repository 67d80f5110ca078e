//! `captiond fit` through the real program, on a tiny pack and pictures that we draw.

#[path = "support/tiny.rs"]
mod tiny;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use captiond::{
    engine::{Engine, EngineError, Network, NetworkSpec},
    fit::{
        embed::Embedder,
        gram::GramSums,
        pairs,
        solve::{MapChoice, solve},
    },
    pack::Pack,
    realignment::{MapKind, Realignment},
};
use serde_json::json;
use tempfile::TempDir;
use tiny::{Captiond, copy, draw_colours, edit, folder, tsv};

/// Pictures, their pairs, and a pack to fit; a cache that every fit of a test shares.
struct Bench {
    work: TempDir,
    pack: TempDir,
    pairs: Vec<(String, [String; 2])>,
}

impl Bench {
    fn new() -> Self {
        let work = tempfile::tempdir().unwrap();
        let pairs = draw_colours(work.path(), 5);
        let pack = copy(&folder("convnet"));
        fs::write(work.path().join("pairs.tsv"), tsv(&pairs)).unwrap();
        Self { work, pack, pairs }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.file(name), content).unwrap();
        self.file(name)
    }

    fn cache(&self) -> PathBuf {
        self.file("cache")
    }

    fn fit(&self, words: &[&str]) -> Captiond {
        Captiond::new(&["fit"])
            .path("--pack", self.pack.path())
            .path("--cache", self.cache())
            .args(words)
    }

    /// The realignment that a fit of these pairs writes, without touching the pack.
    fn map(&self, pairs: &Path, words: &[&str]) -> Realignment {
        let out = self.file("map.safetensors");
        let _ = fs::remove_file(&out);
        self.fit(words)
            .path("--pairs", pairs)
            .path("--out", &out)
            .succeed();
        read(&out)
    }
}

fn read(path: &Path) -> Realignment {
    Realignment::from_bytes(&fs::read(path).unwrap()).unwrap()
}

/// Whether the files hold the same numbers: 1e-9 of the largest, and the last bit of each, which
/// rounding to f32 can turn.
fn same_floats(a: &Realignment, b: &Realignment) -> bool {
    let largest = a.w().iter().fold(1f32, |most, v| most.max(v.abs()));
    let close = |(x, y): (&f32, &f32)| {
        f64::from(x - y).abs() <= 1e-9 * f64::from(largest) + f64::from(f32::EPSILON * x.abs())
    };
    a.w().len() == b.w().len()
        && a.w().iter().zip(b.w()).all(close)
        && a.mean_text().iter().zip(b.mean_text()).all(close)
}

#[test]
fn the_four_forms_of_pairs_give_the_same_map() {
    let bench = Bench::new();
    let token: String = bench
        .pairs
        .iter()
        .flat_map(|(file, captions)| {
            captions
                .iter()
                .enumerate()
                .map(move |(n, c)| format!("{file}#{n}\t{c}\n"))
        })
        .collect();
    let mut images = Vec::new();
    let mut annotations = Vec::new();
    let mut karpathy = Vec::new();
    for (id, (file, captions)) in bench.pairs.iter().enumerate() {
        images.push(json!({"id": id, "file_name": file, "width": 40, "license": 3}));
        for caption in captions {
            annotations.push(json!({"id": annotations.len(), "image_id": id, "caption": caption}));
        }
        let sentences: Vec<_> = captions
            .iter()
            .map(|c| json!({"raw": c, "tokens": []}))
            .collect();
        karpathy.push(json!({"filename": file, "split": "train", "sentences": sentences}));
    }
    karpathy.push(json!({"filename": "absent.jpg", "split": "test", "sentences": [{"raw": "x"}]}));
    let whole = bench.map(&bench.file("pairs.tsv"), &["--lambda", "0.1"]);
    assert_eq!(whole.provenance.pairs, 60);
    for (name, content) in [
        ("token.txt", token),
        (
            "coco.json",
            json!({"images": images, "annotations": annotations}).to_string(),
        ),
        (
            "karpathy.json",
            json!({"images": karpathy, "dataset": "ours"}).to_string(),
        ),
    ] {
        let map = bench.map(&bench.write(name, content), &["--lambda", "0.1"]);
        assert_eq!(map, whole, "{name}");
    }
    let split = bench
        .fit(&["--split", "dev"])
        .path("--pairs", bench.file("karpathy.json"))
        .fail();
    assert!(
        split.contains("\"dev\"") && split.contains("karpathy.json"),
        "{split}"
    );
}

#[test]
fn three_shards_join_to_the_map_of_the_whole() {
    let bench = Bench::new();
    let partial = |name: &str, pairs: &Path| {
        let sums = bench.file(&format!("{name}.safetensors"));
        bench
            .fit(&[])
            .path("--pairs", pairs)
            .path("--partial", &sums)
            .succeed();
        sums
    };
    let shards: Vec<PathBuf> = (0..3)
        .map(|shard| {
            let part: Vec<_> = bench.pairs.iter().skip(shard).step_by(3).cloned().collect();
            partial(
                &format!("shard{shard}"),
                &bench.write("shard.tsv", tsv(&part)),
            )
        })
        .collect();
    let sums = |file: &Path| GramSums::from_bytes(&fs::read(file).unwrap()).unwrap();
    let whole_sums = sums(&partial("whole", &bench.file("pairs.tsv")));
    let mut joined_sums = sums(&shards[0]);
    joined_sums.merge(sums(&shards[1])).unwrap();
    joined_sums.merge(sums(&shards[2])).unwrap();
    for kind in MapKind::LINEAR {
        let choice = MapChoice::new(kind, 0.1, 0.3);
        let (a, b) = (
            solve(&whole_sums, choice).unwrap(),
            solve(&joined_sums, choice).unwrap(),
        );
        let most = a.iter().fold(0f64, |most, v| most.max(v.abs()));
        let apart = a
            .iter()
            .zip(&b)
            .map(|(x, y)| (x - y).abs())
            .fold(0.0, f64::max);
        assert!(
            apart < 1e-9 * most.max(1.0),
            "{kind:?}: {apart:e} of {most}"
        );

        let words = ["--map", kind.name(), "--lambda", "0.1"];
        let whole = bench.map(&bench.file("pairs.tsv"), &words);
        let out = bench.file("joined.safetensors");
        bench
            .fit(&words)
            .path("--out", &out)
            .arg("--merge")
            .args(&shards)
            .succeed();
        let joined = read(&out);
        assert_eq!(joined.provenance, whole.provenance);
        assert!(same_floats(&joined, &whole), "{kind:?}");
    }

    // The sums hold no pairs, so there is nothing to choose a penalty on.
    let message = bench.fit(&["--merge"]).args(&shards).fail();
    assert!(message.contains("--lambda"), "{message}");
    // OLS and Procrustes have none; without --out the pack gets the map.
    bench
        .fit(&["--map", "procrustes", "--merge"])
        .args(&shards)
        .succeed();
    let map = Pack::open(bench.pack.path())
        .unwrap()
        .realignment()
        .unwrap();
    assert_eq!(map.provenance.pairs, 60);

    // Another pack's sums, a damaged file and one that is no file of sums.
    let other = copy(&folder("cls"));
    let message = Captiond::new(&["fit", "--map", "ols", "--merge"])
        .args(&shards)
        .path("--pack", other.path())
        .fail();
    assert!(
        message.contains("shard0.safetensors") && message.contains("other embeddings"),
        "{message}"
    );
    let whole = fs::read(&shards[1]).unwrap();
    fs::write(&shards[1], &whole[..whole.len() / 2]).unwrap();
    let message = bench.fit(&["--map", "ols", "--merge"]).args(&shards).fail();
    assert!(
        message.contains("shard1.safetensors") && message.contains("content"),
        "{message}"
    );
    fs::write(
        &shards[1],
        fs::read(bench.pack.path().join("realignment.safetensors")).unwrap(),
    )
    .unwrap();
    let message = bench.fit(&["--map", "ols", "--merge"]).args(&shards).fail();
    assert!(
        message.contains("shard1.safetensors") && message.contains("sum_x"),
        "{message}"
    );
}

/// An engine that must not be asked.
struct NoEngine;

impl Engine for NoEngine {
    fn load(&self, _: &mut dyn Read, _: &NetworkSpec) -> Result<Box<dyn Network>, EngineError> {
        panic!("a tower was loaded");
    }
}

#[test]
fn a_second_fit_takes_every_embedding_from_the_cache() {
    let bench = Bench::new();
    let first = bench.map(&bench.file("pairs.tsv"), &[]);
    let sizes = || {
        let entries = fs::read_dir(bench.cache())
            .unwrap()
            .map(|entry| entry.unwrap());
        let mut sizes: Vec<_> = entries
            .map(|e| (e.path(), e.metadata().unwrap().len()))
            .collect();
        sizes.sort();
        sizes
    };
    let before = sizes();
    assert_eq!(before.len(), 2, "one file for each tower: {before:?}");
    // 30 pictures and 48 different captions, each with its 32-byte key and 16 floats.
    let mut lengths: Vec<u64> = before.iter().map(|(_, length)| *length).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [30 * 96, 48 * 96]);

    let pack = Pack::open(bench.pack.path()).unwrap();
    let embedder = Embedder {
        pack: &pack,
        cache: bench.cache(),
        threads: 2,
        skip_bad: false,
        progress: false,
    };
    let pairs = pairs::read(&bench.file("pairs.tsv"), None).unwrap();
    let mut seen = 0;
    let skipped = embedder
        .run(
            &NoEngine,
            bench.work.path(),
            &pairs,
            |_, image, captions| {
                assert_eq!((image.len(), captions.len()), (16, 2));
                seen += 1;
                Ok(())
            },
        )
        .unwrap();
    assert_eq!((seen, skipped.len()), (30, 0));

    // A moved picture keeps its embedding.
    fs::create_dir(bench.file("moved")).unwrap();
    for (file, _) in &bench.pairs {
        fs::rename(bench.file(file), bench.file("moved").join(file)).unwrap();
    }
    let images = bench.file("moved").display().to_string();
    let second = bench.map(&bench.file("pairs.tsv"), &["--images", &images]);
    assert_eq!(second, first);
    assert_eq!(sizes(), before);

    // Another resize is another embedding: nothing of the cache may be used for it.
    edit(bench.pack.path(), "\"bicubic\"", "\"bilinear\"");
    let other = bench.map(&bench.file("pairs.tsv"), &["--images", &images]);
    assert_ne!(
        other.provenance.image_embedding,
        first.provenance.image_embedding
    );
    assert_ne!(other.w(), first.w());
    assert_eq!(sizes().len(), 3);
}

#[test]
fn missing_and_damaged_images_end_the_fit_unless_they_may_be_left_out() {
    let bench = Bench::new();
    let good = bench.map(&bench.file("pairs.tsv"), &["--lambda", "0.1"]);
    let whole = fs::read(bench.file("red_0.png")).unwrap();
    bench.write("cut.png", &whole[..whole.len() / 2]);
    let more = format!(
        "{}absent.png\ta red field\ncut.png\ta red square\n",
        tsv(&bench.pairs)
    );
    let pairs = bench.write("more.tsv", more);
    let message = bench.fit(&[]).path("--pairs", &pairs).fail();
    for part in ["2 of 32", "absent.png", "--skip-bad"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let out = bench.file("skipped.safetensors");
    let output = bench
        .fit(&["--skip-bad", "--lambda", "0.1"])
        .path("--pairs", &pairs)
        .path("--out", &out)
        .output();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    for name in ["absent.png", "cut.png"] {
        assert!(
            errors
                .lines()
                .any(|l| l.contains("left out") && l.contains(name)),
            "{errors}"
        );
    }
    assert_eq!(read(&out), good);
}

#[test]
fn bad_arguments_and_bad_pairs_are_named() {
    let bench = Bench::new();
    let pairs = bench.file("pairs.tsv");
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--held-out", "1"], &["--held-out", "found 1"]),
        (&["--held-out=-0.1"], &["--held-out", "-0.1"]),
        (&["--held-out", "0"], &["--held-out"]),
        (&["--lambda=-1"], &["--lambda", "-1"]),
        (&["--lambda", "nan"], &["--lambda", "NaN"]),
        (&["--ridge-share", "1.5"], &["--ridge-share", "1.5"]),
        (&["--map", "affine"], &["affine", "procrustes"]),
        (&["--evaluate", "no such file"], &["no such file"]),
        (&["--partial", "x", "--out", "y"], &["--partial", "--out"]),
    ];
    for (words, parts) in cases {
        let message = bench.fit(words).path("--pairs", &pairs).fail();
        for part in parts {
            assert!(message.contains(part), "{words:?}: {part}: {message}");
        }
    }
    let message = bench.fit(&[]).fail();
    assert!(message.contains("--pairs"), "{message}");

    let cases: [(&str, &[u8], &str); 7] = [
        ("none.tsv", b"", "no image with a caption"),
        ("space.tsv", b"red_0.png a red field\n", "line 1"),
        ("half.tsv", b"red_0.png\ta red field\nred_1.png\n", "line 2"),
        ("blank.tsv", b"red_0.png\t \n", "line 1"),
        ("latin.tsv", b"red_0.png\tcaf\xe9\n", "UTF-8"),
        ("other.json", b"{\"data\": []}", "expected COCO"),
        ("cut.json", b"{\"images\": [", "line 1"),
    ];
    for (name, content, part) in cases {
        let message = bench
            .fit(&[])
            .path("--pairs", bench.write(name, content))
            .fail();
        assert!(
            message.contains(name) && message.contains(part),
            "{name}: {message}"
        );
    }
    // One picture gives nothing to centre, one pair nothing to solve.
    let one = bench.write("one.tsv", "red_0.png\ta red field\n");
    let message = bench
        .fit(&["--evaluate"])
        .arg(&one)
        .path("--pairs", &one)
        .fail();
    assert!(message.contains("at least two"), "{message}");
    assert!(!bench.pack.path().join("realignment.safetensors").exists());
}

#[test]
fn a_fit_keeps_what_stands_in_the_manifest() {
    let bench = Bench::new();
    edit(
        bench.pack.path(),
        "pooling = \"average\"",
        "# measured, not guessed\npooling = \"average\" # over 5 x 7",
    );
    let before = fs::read_to_string(bench.pack.path().join("pack.toml")).unwrap();
    for _ in 0..2 {
        bench
            .fit(&["--lambda", "0.1"])
            .path("--pairs", bench.file("pairs.tsv"))
            .succeed();
        Captiond::new(&[
            "datastore",
            "build",
            "--licence",
            "CC0-1.0",
            "--provenance",
            "of \"ours\"",
        ])
        .path("--pack", bench.pack.path())
        .path("--cache", bench.cache())
        .arg(bench.write("captions.txt", "a red field\na blue field\n"))
        .succeed();
        let after = fs::read_to_string(bench.pack.path().join("pack.toml")).unwrap();
        let mut lines = after.lines();
        for line in before.lines() {
            assert!(
                lines.any(|l| l == line),
                "{line:?} is lost or moved:\n{after}"
            );
        }
        for key in ["realignment", "datastore"] {
            let table = format!("[files.\"{key}.safetensors\"]");
            assert_eq!(after.matches(&table).count(), 1, "{after}");
        }
    }
    let pack = Pack::open(bench.pack.path()).unwrap();
    let entry = &pack.manifest.files["datastore.safetensors"];
    assert_eq!(
        (entry.licence.as_str(), entry.provenance.as_str()),
        ("CC0-1.0", "of \"ours\"")
    );
    assert!(
        pack.manifest.files["realignment.safetensors"]
            .provenance
            .contains("blend on 60 pairs")
    );
    pack.realignment().unwrap();
    assert_eq!(pack.datastore().unwrap().len(), 2);
}

/// Even root can't write into a folder that is not there; a name that a folder has can't be
/// replaced by a file.
#[test]
fn a_fit_that_can_not_write_leaves_the_old_realignment() {
    let bench = Bench::new();
    let fit = || {
        bench
            .fit(&["--map", "ols"])
            .path("--pairs", bench.file("pairs.tsv"))
    };
    fit().succeed();
    let old = fs::read(bench.pack.path().join("realignment.safetensors")).unwrap();

    let names = || {
        let entries = fs::read_dir(bench.pack.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();

    let message = fit().path("--out", bench.file("no such folder/map")).fail();
    assert!(message.contains("no such folder"), "{message}");
    fs::create_dir(bench.file("taken")).unwrap();
    let message = fit().path("--out", bench.file("taken")).fail();
    assert!(message.contains("taken"), "{message}");
    let message = fit()
        .path("--partial", bench.file("no such folder/sums"))
        .fail();
    assert!(message.contains("no such folder"), "{message}");
    // A cache that can't be one.
    bench.write("file", "");
    let message = Captiond::new(&["fit"])
        .path("--pack", bench.pack.path())
        .path("--cache", bench.file("file"))
        .path("--pairs", bench.file("pairs.tsv"))
        .fail();
    assert!(message.contains("embedding cache"), "{message}");

    // A read-only pack, where the user may not write (root may everywhere).
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |mode| {
        fs::set_permissions(bench.pack.path(), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o555);
    if fs::write(bench.pack.path().join("probe"), "").is_err() {
        let message = fit().fail();
        assert!(
            message.contains("write") && message.contains("realignment"),
            "{message}"
        );
    } else {
        eprintln!("SKIPPED: this user may write into read-only folders");
        fs::remove_file(bench.pack.path().join("probe")).unwrap();
    }
    mode(0o755);

    assert_eq!(
        fs::read(bench.pack.path().join("realignment.safetensors")).unwrap(),
        old
    );
    assert_eq!(names(), before, "temporary files are left");
    Pack::open(bench.pack.path())
        .unwrap()
        .realignment()
        .unwrap();
}

#[test]
fn a_full_disk_or_a_limit_ends_the_fit_and_leaves_the_old_realignment() {
    let bench = Bench::new();
    let fit = |words: &[&str]| bench.fit(words).path("--pairs", bench.file("pairs.tsv"));
    fit(&["--map", "ols"]).succeed();
    let old = fs::read(bench.pack.path().join("realignment.safetensors")).unwrap();
    // No file may grow over one block of 512 bytes; SIGXFSZ is ignored, so write(2) fails as on a
    // full disk.
    let command = format!(
        "trap '' XFSZ; ulimit -f 1; exec '{}' fit --map ridge --pack '{}' --cache '{}' --pairs '{}'",
        env!("CARGO_BIN_EXE_captiond"),
        bench.pack.path().display(),
        bench.cache().display(),
        bench.file("pairs.tsv").display(),
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &command])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("realignment.safetensors"), "{errors}");
    assert_eq!(
        fs::read(bench.pack.path().join("realignment.safetensors")).unwrap(),
        old
    );
    let map = Pack::open(bench.pack.path())
        .unwrap()
        .realignment()
        .unwrap();
    assert_eq!(map.provenance.kind.name(), "ols");
}

#[test]
fn every_switch_makes_another_map_and_stands_in_its_file() {
    let bench = Bench::new();
    let pairs = bench.file("pairs.tsv");
    let fit = |words: &[&str]| bench.map(&pairs, &[&["--lambda", "0.1"], words].concat());
    let plain = fit(&[]);
    assert_eq!(plain.provenance.recipe, "");
    for (words, recipe) in [
        (&["--whitening", "0.5"][..], "whitening 0.5"),
        (&["--no-centring"], "not centred"),
        (&["--rows", "mean"], "rows mean"),
        (&["--rows", "central"], "rows central"),
        (&["--hard-negatives", "0.3"], "hard negatives 0.3"),
    ] {
        let map = fit(words);
        assert_eq!(map.provenance.recipe, recipe);
        assert_ne!(map.w(), plain.w(), "{words:?}");
        // One row for each of the 30 images, or for each caption.
        let pairs = if words[0] == "--rows" { 30 } else { 60 };
        assert_eq!(map.provenance.pairs, pairs);
        let zero = map.mean_text().iter().all(|v| *v == 0.0);
        assert_eq!(zero, words[0] == "--no-centring");
    }
    // Captions stay centred on their own mean, whatever is taken off the targets.
    let second = fit(&["--hard-negatives", "0.3"]);
    assert_eq!(second.mean_text(), plain.mean_text());
    let report = bench
        .fit(&["--hard-negatives", "0.3", "--held-out", "0.3"])
        .path("--pairs", &pairs)
        .path("--out", bench.file("o"))
        .succeed();
    assert!(report.contains("blend, hard neg."), "{report}");
    for (words, part) in [
        (&["--whitening", "2"][..], "--whitening: found 2"),
        (&["--hard-negatives", "1.5"], "--hard-negatives: found 1.5"),
        (
            &["--map", "kernel", "--no-centring"],
            "a kernel map has none",
        ),
    ] {
        let error = bench.fit(words).path("--pairs", &pairs).fail();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_judge_of_other_captions_is_refused() {
    let work = tempfile::tempdir().unwrap();
    let pack = tiny::whole_pack(work.path());
    let judge = |words: &[&str]| {
        Captiond::new(&["fit", "--judge", "--map", "ridge", "--lambda", "0.1"])
            .args(words)
            .path("--pack", pack.path())
            .path("--cache", work.path().join("cache"))
            .path("--pairs", work.path().join("pairs.tsv"))
            .succeed();
        Captiond::new(&["caption"])
            .path("--pack", pack.path())
            .arg(work.path().join("red_0.png"))
    };
    judge(&[]).succeed();
    // Its captions lie around another mean than the realignment's.
    let error = judge(&["--no-centring"]).fail();
    for part in [
        "judge.safetensors",
        "mean_text",
        "fit both on the same pairs",
    ] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
}
