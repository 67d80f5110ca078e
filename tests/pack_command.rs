//! `captiond pack build`, `info`, `verify` and `diff` through the real program, on tiny packs.

#[path = "support/tiny.rs"]
mod tiny;

use std::{
    fs,
    path::{Path, PathBuf},
};

use captiond::pack::{Pack, Standing, digest};
use serde_json::Value;
use tempfile::TempDir;
use tiny::{Captiond, colour_votes, copy, draw_colours, edit, folder, put, tsv, whole_pack};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Towers, pictures with captions, and votes.
struct Bench {
    work: TempDir,
    towers: TempDir,
}

impl Bench {
    fn new() -> Self {
        let work = tempfile::tempdir().unwrap();
        let towers = copy(&folder("convnet"));
        edit(
            towers.path(),
            "[text_tower]",
            "[caption]\ncandidates = 5\n\n[text_tower]",
        );
        let pairs = draw_colours(work.path(), 12);
        fs::write(work.path().join("pairs.tsv"), tsv(&pairs)).unwrap();
        fs::write(work.path().join("votes.tsv"), colour_votes()).unwrap();
        Self { work, towers }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn build(&self, words: &[&str]) -> Captiond {
        Captiond::new(&["pack", "build"])
            .arg(self.towers.path())
            .path("--out", self.file("pack"))
            .path("--cache", self.file("cache"))
            .args(words)
    }

    fn with_pairs(&self, words: &[&str]) -> Captiond {
        self.build(words).path("--pairs", self.file("pairs.tsv"))
    }

    fn captiond(&self, words: &[&str], pack: &Path) -> Captiond {
        Captiond::new(words)
            .path("--pack", pack)
            .path("--cache", self.file("cache"))
    }
}

/// The tensors of two files. Not their headers, whose metadata stand in no order.
fn same_tensors(a: &Path, b: &Path, name: &str) -> bool {
    let tensors = |pack: &Path| {
        let bytes = fs::read(pack.join(name)).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    tensors(a) == tensors(b)
}

#[test]
fn a_build_makes_what_the_commands_make_one_by_one() {
    let bench = Bench::new();
    let output = bench
        .with_pairs(&["--map", "ridge", "--lambda", "0.1", "--judge"])
        .path("--votes", bench.file("votes.tsv"))
        .output();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    for part in [
        "captiond fit --pairs=",
        "captiond datastore build",
        "captiond calibrate",
        "6/6",
    ] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    let built = bench.file("pack");
    let pack = Pack::open(&built).unwrap();
    let standing = pack.calibration().unwrap().map(|(_, standing)| standing);
    assert_eq!(standing, Some(Standing::Current));
    assert!(
        pack.manifest
            .files
            .values()
            .all(|entry| entry.size.is_some())
    );
    assert_eq!(pack.datastore().unwrap().len(), 48);

    // By hand, on a copy of the towers.
    let hand = copy(bench.towers.path());
    let pairs = |command: Captiond| command.path("--pairs", bench.file("pairs.tsv"));
    pairs(bench.captiond(&["fit", "--map", "ridge", "--lambda", "0.1"], hand.path())).succeed();
    pairs(bench.captiond(&["fit", "--map", "kernel", "--judge"], hand.path())).succeed();
    bench
        .captiond(&["datastore", "build"], hand.path())
        .arg(bench.file("pairs.tsv"))
        .succeed();
    bench
        .captiond(&["calibrate"], hand.path())
        .path("--votes", bench.file("votes.tsv"))
        .path("--images", bench.work.path())
        .succeed();
    for name in [
        "realignment.safetensors",
        "judge.safetensors",
        "datastore.safetensors",
    ] {
        assert!(same_tensors(&built, hand.path(), name), "{name}");
    }
    // Nothing is left beside it, and the towers are as they were.
    assert!(!bench.file(".pack.build").exists());
    assert!(!bench.towers.path().join("realignment.safetensors").exists());
    let said = Captiond::new(&["caption"])
        .path("--pack", &built)
        .arg(bench.file("red_3.png"))
        .succeed();
    assert!(said.contains("red"), "{said}");
}

#[test]
fn a_second_build_embeds_nothing_and_keeps_the_old_pack() {
    let bench = Bench::new();
    bench.with_pairs(&[]).succeed();
    let cache = |bench: &Bench| -> u64 {
        let files = fs::read_dir(bench.file("cache")).unwrap();
        files.map(|f| f.unwrap().metadata().unwrap().len()).sum()
    };
    let before = cache(&bench);
    assert!(before > 0);
    // As if a first one had been killed.
    fs::create_dir_all(bench.file(".pack.build/pack")).unwrap();
    fs::write(bench.file(".pack.build/pack/rest"), "x").unwrap();
    bench.with_pairs(&["--name", "second"]).succeed();
    assert_eq!(cache(&bench), before);
    assert_eq!(
        Pack::open(&bench.file("pack")).unwrap().manifest.name,
        "second"
    );
    let old = Pack::open(&bench.file("pack.old")).unwrap();
    assert_eq!(old.manifest.name, "tiny-convnet");
    assert!(!bench.file("pack/rest").exists());
}

#[test]
fn a_build_that_fails_leaves_the_old_pack_and_nothing_else() {
    let bench = Bench::new();
    bench.with_pairs(&[]).succeed();
    let before = fs::read(bench.file("pack/pack.toml")).unwrap();
    fs::write(bench.file("damaged.png"), "no picture").unwrap();
    let damaged = fs::read_to_string(bench.file("pairs.tsv")).unwrap() + "damaged.png\ta cup\n";
    fs::write(bench.file("pairs.tsv"), damaged).unwrap();
    let errors = bench.with_pairs(&[]).fail();
    assert!(
        errors.contains("captiond fit") && errors.contains("damaged.png"),
        "{errors}"
    );
    assert_eq!(fs::read(bench.file("pack/pack.toml")).unwrap(), before);
    assert!(!bench.file(".pack.build").exists() && !bench.file("pack.old").exists());
    bench.with_pairs(&["--skip-bad"]).succeed();
}

#[test]
fn what_is_wrong_with_a_build_is_said_before_anything_is_embedded() {
    let bench = Bench::new();
    let pairs = bench.file("pairs.tsv");
    let towers = |text: &str| {
        let towers = copy(&folder("convnet"));
        let path = towers.path().join("pack.toml");
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("<whole>", &whole)).unwrap();
        towers
    };
    let build = |towers: &Path, words: &[&str]| {
        Captiond::new(&["pack", "build"])
            .arg(towers)
            .path("--out", bench.file("pack"))
            .path("--cache", bench.file("cache"))
            .path("--pairs", &pairs)
            .args(words)
            .fail()
    };
    let here = bench.towers.path();
    let escape = format!(
        "<whole>\n[files.\"../loot\"]\nsha256 = \"{}\"\nlicence = \"MIT\"\nprovenance = \"x\"\n",
        "0".repeat(64)
    );
    for (errors, part) in [
        (build(here, &["--map", "rigde"]), "rigde"),
        (build(here, &["--lambda", "much"]), "much"),
        (
            build(here, &["--captions", "absent.txt"]),
            "absent.txt: no such file",
        ),
        (build(Path::new("absent"), &[]), "towers absent"),
        (build(towers("name = ").path(), &[]), "not valid TOML"),
        (
            build(towers(&escape).path(), &[]),
            "expected a path inside the folder",
        ),
    ] {
        assert!(errors.contains(part), "{part:?} is not in: {errors}");
    }
    assert!(!bench.file("cache").exists() && !bench.file("pack").exists());
    let own = Captiond::new(&["pack", "build"])
        .arg(here)
        .path("--out", here)
        .path("--pairs", &pairs)
        .fail();
    assert!(own.contains("the towers' own folder"), "{own}");
}

#[test]
fn files_that_are_not_listed_get_an_entry_with_the_licence_that_is_given() {
    let bench = Bench::new();
    let path = bench.towers.path().join("pack.toml");
    let text = fs::read_to_string(&path).unwrap();
    // A manifest by hand: nobody likes to reckon hashes.
    fs::write(&path, text.split("[files.").next().unwrap()).unwrap();
    let errors = bench.with_pairs(&[]).fail();
    assert!(
        errors.contains("no entry for image.onnx") && errors.contains("--licence"),
        "{errors}"
    );
    bench.with_pairs(&["--licence", "MIT"]).succeed();
    let pack = Pack::open(&bench.file("pack")).unwrap();
    assert_eq!(pack.manifest.files["tokenizer.json"].licence, "MIT");
    assert_eq!(
        pack.manifest.files["datastore.safetensors"].licence,
        "Apache-2.0"
    );
}

#[test]
fn captions_without_pairs_make_a_pack_that_says_what_it_lacks() {
    let bench = Bench::new();
    fs::write(bench.file("captions.txt"), "a cup\na hat\n").unwrap();
    bench
        .build(&[])
        .path("--captions", bench.file("captions.txt"))
        .succeed();
    let pack = bench.file("pack");
    let said = Captiond::new(&["pack", "verify"]).arg(&pack).succeed();
    assert!(said.contains("realignment: none"), "{said}");
    let said = Captiond::new(&["pack", "info"]).arg(&pack).succeed();
    assert!(said.contains("2 captions x 16"), "{said}");
    assert!(said.contains("make one with `captiond fit`"), "{said}");
    assert!(
        bench.build(&[]).output().status.code() == Some(2),
        "neither is given"
    );
}

#[test]
fn info_says_what_is_in_a_pack_and_what_is_unusable() {
    let work = tempfile::tempdir().unwrap();
    let pack = whole_pack(work.path());
    let info = |words: &[&str]| {
        Captiond::new(&["pack", "info"])
            .arg(pack.path())
            .args(words)
            .succeed()
    };
    let found = json(&info(&["--json"]));
    assert_eq!(found["image_tower"]["dimension"], 16);
    assert_eq!(found["realignment"]["kind"], "ridge");
    assert_eq!(found["realignment"]["pairs"], 144);
    assert_eq!(found["datastore"]["rows"], 48);
    assert_eq!(found["decoder"], Value::Null);
    assert_eq!(found["calibration"], Value::Null);
    let size = fs::metadata(pack.path().join("text.onnx")).unwrap().len();
    assert_eq!(found["files"]["text.onnx"]["bytes"], size);
    let text = info(&[]);
    for part in [
        "tiny-convnet 1.0.0",
        "ridge, fitted on 144 pairs",
        "48 captions",
        "Apache-2.0",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    // Another text tower's datastore: the rest is still told.
    edit(
        pack.path(),
        "prefix = \"a photo of \"",
        "prefix = \"a drawing of \"",
    );
    let text = info(&[]);
    assert!(text.contains("datastore    UNUSABLE"), "{text}");
    assert!(text.contains("image tower  image.onnx"), "{text}");
}

#[test]
fn verify_finds_each_kind_of_damage_and_names_file_field_and_way_out() {
    let work = tempfile::tempdir().unwrap();
    let whole = whole_pack(work.path());
    let verify = |pack: &Path| {
        let output = Captiond::new(&["pack", "verify", "--json"])
            .arg(pack)
            .output();
        let report = json(&String::from_utf8(output.stdout).unwrap());
        let code = output.status.code().unwrap();
        assert_eq!(code, i32::from(report["ok"] != true), "{report}");
        report
    };
    let good = verify(whole.path());
    assert_eq!(good["ok"], true);
    assert_eq!(good["files"], 5);
    assert!(good["caption"].as_str().unwrap().split(' ').count() > 1);

    let damage = |harm: &dyn Fn(&Path)| {
        let pack = copy(whole.path());
        harm(pack.path());
        verify(pack.path())
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let link = |pack: &Path, to: &Path| {
        let path = pack.join("tokenizer.json");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(to, &path).unwrap();
    };
    let again = |pack: &Path, name: &str, of: &str| {
        let hash = digest::of_file(&pack.join(of)).unwrap();
        let entry = format!(
            "\n[files.{name:?}]\nsha256 = \"{hash}\"\nlicence = \"MIT\"\nprovenance = \"x\"\n"
        );
        let path = pack.join("pack.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text + &entry).unwrap();
    };
    let outside = folder("convnet").join("tokenizer.json");
    type Harm<'a> = &'a dyn Fn(&Path);
    let cases: [(Harm<'_>, &str, &str, &str); 9] = [
        (
            &|p| flip(&p.join("image.onnx")),
            "image.onnx",
            "sha256",
            "found",
        ),
        (
            &|p| fs::remove_file(p.join("text.onnx")).unwrap(),
            "text.onnx",
            "file",
            "No such file",
        ),
        (
            &|p| fs::write(p.join("realignment.safetensors"), "x").unwrap(),
            "realignment.safetensors",
            "size",
            "found 1 bytes",
        ),
        (
            &|p| link(p, &outside),
            "tokenizer.json",
            "file",
            "outside of the pack",
        ),
        (
            &|p| {
                let to = p.join("again.json");
                std::os::unix::fs::symlink(p.join("tokenizer.json"), to).unwrap();
                again(p, "again.json", "tokenizer.json");
            },
            "tokenizer.json",
            "file",
            "the same file as again.json",
        ),
        (
            &|p| again(p, "../loot", "text.onnx"),
            "pack.toml",
            "files",
            "../loot",
        ),
        (
            &|p| put(p, "image.onnx", b"no network"),
            "image.onnx",
            "network",
            "not a network",
        ),
        (
            &|p| edit(p, "dimension = 16\nsize", "dimension = 17\nsize"),
            "image.onnx",
            "output",
            "17",
        ),
        (
            &|p| fs::write(p.join("pack.toml"), "x = ").unwrap(),
            "pack.toml",
            "content",
            "pack.toml:1",
        ),
    ];
    for (number, (harm, file, field, found)) in cases.into_iter().enumerate() {
        let report = damage(harm);
        assert_eq!(report["ok"], false, "case {number}: {report}");
        let findings = report["findings"].as_array().unwrap();
        let hit = findings.iter().any(|f| {
            f["weight"] == "problem"
                && f["file"] == file
                && f["field"].as_str().unwrap().contains(field)
                && f["found"].as_str().unwrap().contains(found)
        });
        assert!(hit, "case {number}, {file} {field} {found}: {report}");
    }
    // Notes are no problem.
    let report = damage(&|pack| fs::write(pack.join("README"), "x").unwrap());
    assert_eq!(report["ok"], true);
    assert!(
        report["findings"].to_string().contains("not listed"),
        "{report}"
    );
    let text = Captiond::new(&["pack", "verify"])
        .arg(whole.path())
        .succeed();
    assert!(text.contains("ok       self-test"), "{text}");
    let absent = Captiond::new(&["pack", "verify", "absent"]).output();
    assert_eq!(absent.status.code(), Some(1));
}

#[test]
fn diff_tells_fields_files_and_what_becomes_of_photographs() {
    let work = tempfile::tempdir().unwrap();
    let a = whole_pack(work.path());
    let b = copy(a.path());
    fs::write(
        work.path().join("captions.txt"),
        "a red field\na blue field\na cup\n",
    )
    .unwrap();
    let diff = |b: &Path, words: &[&str]| {
        Captiond::new(&["pack", "diff"])
            .arg(a.path())
            .arg(b)
            .path("--images", work.path())
            .path("--captions", work.path().join("captions.txt"))
            .args(words)
            .succeed()
    };
    // The same pack.
    let found = json(&diff(b.path(), &["--json"]));
    assert_eq!(found["fields"].as_array().unwrap().len(), 0);
    assert_eq!(found["images"]["photographs"].as_array().unwrap().len(), 72);
    assert!(found["images"]["embeddings"]["least"].as_f64().unwrap() > 0.999_999);
    assert!(found["captions"]["cka"].as_f64().unwrap() > 0.999_999);
    assert_eq!(found["images"]["same_caption"], 1.0);
    assert!(found["images"]["caption_ms"]["b"].as_f64().unwrap() > 0.0);
    // Other preprocessing: another embedding, the same captions' embeddings.
    edit(
        b.path(),
        "mean = [0.498, 0.5, 0.25]",
        "mean = [0.4, 0.5, 0.4]",
    );
    edit(
        b.path(),
        "\n[realignment]\nfile = \"realignment.safetensors\"\n",
        "",
    );
    let found = json(&diff(b.path(), &["--json", "--most", "10"]));
    let fields: Vec<&str> = found["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["image_tower.mean", "realignment.file"]);
    let images = &found["images"];
    assert!(images["photographs"].as_array().unwrap().len() <= 10);
    assert!(
        images["embeddings"]["least"].as_f64().unwrap() < 0.999_9,
        "{images}"
    );
    assert!(found["captions"]["least"].as_f64().unwrap() > 0.999_999);
    // It has no realignment, so it can't caption.
    assert_eq!(images["caption_ms"]["b"], Value::Null);
    assert_eq!(images["same_caption"], Value::Null);
    // A pack with embeddings of another length.
    let found = json(&diff(&folder("siglip"), &["--json"]));
    assert_eq!(found["images"]["embeddings"]["mean"], Value::Null);
    assert!(found["images"]["embeddings"]["cka"].is_number());
    let text = diff(b.path(), &[]);
    for part in [
        "image_tower.mean: [0.498",
        "DIFFERENT",
        "linear CKA",
        "median ms",
    ] {
        let same_files = part == "DIFFERENT";
        assert_eq!(text.contains(part), !same_files, "{part:?}: {text}");
    }
    fs::create_dir(work.path().join("none")).unwrap();
    let errors = Captiond::new(&["pack", "diff"])
        .arg(a.path())
        .arg(b.path())
        .path("--images", work.path().join("none"))
        .fail();
    assert!(errors.contains("no .jpg, .jpeg or .png"), "{errors}");
}
