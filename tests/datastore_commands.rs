//! `captiond datastore` on tiny packs: build, add, prune, info, search, and their refusals.

#[path = "support/tiny.rs"]
mod tiny;

use std::{collections::HashMap, fs, path::PathBuf};

use captiond::{datastore::Datastore, pack::Pack};
use tempfile::TempDir;
use tiny::{COLOURS, Captiond, copy, folder, pack_with_datastore, whole_pack};

struct Bench {
    work: TempDir,
    pack: TempDir,
}

impl Bench {
    /// With a datastore of 48 captions and a realignment.
    fn whole() -> Self {
        let work = tempfile::tempdir().unwrap();
        let pack = whole_pack(work.path());
        Self { work, pack }
    }

    /// Towers alone.
    fn bare() -> Self {
        let work = tempfile::tempdir().unwrap();
        let pack = copy(&folder("convnet"));
        Self { work, pack }
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, words: &[&str]) -> Captiond {
        let words = [&["datastore"], words].concat();
        let command = Captiond::new(&words).path("--pack", self.pack.path());
        match words[1] {
            "info" | "search" => command,
            _ => command.path("--cache", self.work.path().join("cache")),
        }
    }

    /// Standard error of a command that has to succeed.
    fn report(&self, command: Captiond) -> String {
        let output = command.output();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        errors
    }

    fn open(&self) -> (Pack, Datastore) {
        let pack = Pack::open(self.pack.path()).unwrap();
        let store = pack.datastore().unwrap();
        (pack, store)
    }

    fn captions(&self) -> Vec<String> {
        self.open().1.captions().map(str::to_owned).collect()
    }

    /// Everything in the pack's folder, to see that a refusal has changed nothing.
    fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(self.pack.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }
}

#[test]
fn builds_from_text_tsv_and_json_and_drops_repetitions() {
    let bench = Bench::bare();
    for (name, text) in [
        (
            "a.txt",
            "a red field\n\nA  red field .\n the blue square\n...\n",
        ),
        (
            "a.tsv",
            "\n1.png\ta red field\n1.png\tA red field!\n2.png\tthe blue square\n3.png\t.\n",
        ),
        (
            "a.json",
            r#"{"images": [], "annotations": [{"caption": "a red field"}, {"caption": "a red, field"},
                {"caption": "the blue square"}, {"caption": "!"}]}"#,
        ),
    ] {
        let file = bench.file(name, text);
        let report = bench.report(bench.command(&["build"]).arg(file));
        assert_eq!(
            bench.captions(),
            ["a red field", "the blue square"],
            "{name}"
        );
        assert!(report.contains("2 captions, 2 of them new"), "{report}");
        assert!(
            report.contains("dropped 1 empty, 1 repeated, 0 of"),
            "{report}"
        );
    }
}

#[test]
fn captions_of_measured_data_stay_out() {
    let bench = Bench::bare();
    let captions = bench.file(
        "c.txt",
        "a red field\na blue field\na green field\na white field\n",
    );
    let token = bench.file("token.txt", "1.jpg#0\tA red field .\n1.jpg#1\ta cat\n");
    let json = bench.file(
        "dev.json",
        r#"{"annotations": [{"caption": "A Green Field"}]}"#,
    );
    let build = bench
        .command(&["build"])
        .path("--not-in", token)
        .path("--not-in", json)
        .arg(captions);
    let report = bench.report(build);
    assert_eq!(bench.captions(), ["a blue field", "a white field"]);
    assert!(report.contains("2 of --not-in"), "{report}");
}

#[test]
fn add_appends_what_is_new_and_joins_licence_and_provenance() {
    let bench = Bench::whole();
    let before = bench.open().1;
    let file = bench.file(
        "more.tsv",
        "x\tA RED field.\ny\tthe red square\nz\tthe red stripe\n",
    );
    let add = || {
        bench
            .command(&["add", "--licence", "CC-BY-4.0", "--provenance", "a walk"])
            .arg(&file)
    };
    let report = bench.report(add());
    assert!(
        report.contains("50 captions, 2 of them new; dropped 0 empty, 1 repeated"),
        "{report}"
    );
    let (pack, after) = bench.open();
    for row in 0..before.len() {
        assert_eq!(after.caption(row), before.caption(row));
        assert_eq!(after.embedding(row), before.embedding(row));
    }
    assert_eq!(
        (after.caption(48), after.caption(49)),
        ("the red square", "the red stripe")
    );
    let entry = &pack.manifest.files["datastore.safetensors"];
    assert_eq!(entry.licence, "Apache-2.0 AND CC-BY-4.0");
    assert_eq!(entry.provenance, "captions of the pack's owner; a walk");
    // A second time there is nothing to add, and nothing is written.
    let content = bench.content();
    assert!(bench.report(add()).contains("0 of them new"));
    assert_eq!(bench.content(), content);
}

#[test]
fn near_duplicates_are_measured_as_search_measures() {
    let bench = Bench::whole();
    let words = "the red green field";
    let text = bench
        .command(&["search", words, "-k", "1", "--json"])
        .succeed();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cosine = found["neighbours"][0]["score"].as_f64().unwrap();
    assert!((0.1..0.98).contains(&cosine), "{text}");
    let file = bench.file("near.txt", words);
    let add = |limit: f64| {
        let limit = limit.to_string();
        bench.report(
            bench
                .command(&["add", "--near-duplicate", &limit])
                .arg(&file),
        )
    };
    let report = add(cosine - 0.01);
    assert!(report.contains("48 captions, 0 of them new"), "{report}");
    assert!(report.contains("1 near duplicates"), "{report}");
    let report = add(cosine + 0.01);
    assert!(report.contains("49 captions, 1 of them new"), "{report}");
}

#[test]
fn prune_keeps_what_the_images_use() {
    let bench = Bench::whole();
    let names: Vec<String> = (0..12).map(|shade| format!("red_{shade}.png")).collect();
    let red = names.iter().map(|name| format!("{name}\tx\n"));
    let pairs = bench.file("red.tsv", red.collect::<String>());
    let lines = Captiond::new(&["caption", "--json"])
        .path("--pack", bench.pack.path())
        .args(
            &names
                .iter()
                .map(|n| bench.work.path().join(n))
                .collect::<Vec<_>>(),
        )
        .succeed();
    let mut used: HashMap<String, usize> = HashMap::new();
    for line in lines.lines() {
        let found: serde_json::Value = serde_json::from_str(line).unwrap();
        for neighbour in found["neighbours"].as_array().unwrap() {
            let caption = neighbour["caption"].as_str().unwrap().to_owned();
            *used.entry(caption).or_default() += 1;
        }
    }
    let prune = bench
        .command(&["prune", "--keep", "8"])
        .path("--pairs", pairs)
        .path("--images", bench.work.path());
    let report = bench.report(prune);
    assert!(report.contains("48 rows before, 8 after"), "{report}");
    assert!(
        report.contains("MB before") && report.contains("% of the use"),
        "{report}"
    );
    let captions = bench.captions();
    assert_eq!(captions.len(), 8);
    let of_kept = captions.iter().map(|caption| used[caption]).min().unwrap();
    let of_dropped = used
        .iter()
        .filter(|(caption, _)| !captions.contains(caption));
    for (caption, count) in of_dropped {
        assert!(
            *count <= of_kept,
            "{caption:?} is used {count} times: {captions:?}"
        );
    }
    assert!(of_kept > 0);
    let (pack, _) = bench.open();
    let provenance = &pack.manifest.files["datastore.safetensors"].provenance;
    assert!(
        provenance.ends_with("; pruned from 48 rows by use"),
        "{provenance}"
    );
}

#[test]
fn prune_without_images_keeps_every_region() {
    let bench = Bench::whole();
    let before = bench.captions();
    bench.report(bench.command(&["prune", "--keep", "24"]));
    let after = bench.captions();
    assert_eq!(after.len(), 24);
    let mut rest = before.iter();
    assert!(
        after.iter().all(|c| rest.any(|b| b == c)),
        "the order changed"
    );
    for (colour, _) in COLOURS {
        assert!(
            after.iter().any(|c| c.contains(colour)),
            "{colour}: {after:?}"
        );
    }
    let content = bench.content();
    let report = bench.report(bench.command(&["prune", "--keep", "24"]));
    assert!(report.contains("nothing to prune"), "{report}");
    assert_eq!(bench.content(), content);
}

#[test]
fn info_says_what_is_in_it() {
    let bench = Bench::whole();
    let text = bench.command(&["info", "--json"]).succeed();
    let info: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (pack, store) = bench.open();
    assert_eq!(
        (&info["rows"], &info["dimension"]),
        (&48.into(), &16.into())
    );
    assert_eq!(info["bytes"], store.bytes().len());
    assert_eq!(info["fits_pack"], true);
    assert_eq!(info["text_embedding"], pack.text_embedding_identity());
    assert_eq!(info["licence"], "Apache-2.0");
    assert_eq!(info["provenance"], "captions of the pack's owner");
    let words = info["mean_caption_words"].as_f64().unwrap();
    assert!((3.0..=4.0).contains(&words), "{info}");
    let percentiles = info["nearest_cosine"]["percentiles"].as_array().unwrap();
    let cosines: Vec<f64> = percentiles
        .iter()
        .map(|p| p["cosine"].as_f64().unwrap())
        .collect();
    assert_eq!(percentiles.len(), 6);
    assert!(
        cosines.is_sorted() && cosines[0] > -1.0 && cosines[5] <= 1.001,
        "{info}"
    );
    let text = bench.command(&["info"]).succeed();
    assert!(
        text.contains("48 x 16") && text.contains("that of the pack"),
        "{text}"
    );

    // Of another tower: refused elsewhere, and said here.
    tiny::edit(bench.pack.path(), "max_length = 14", "max_length = 9");
    let text = bench.command(&["info"]).succeed();
    assert!(
        text.contains("NOT that of the pack") && text.contains("datastore build"),
        "{text}"
    );
}

#[test]
fn search_finds_the_caption_itself_first() {
    for bench in [Bench::whole(), {
        let work = tempfile::tempdir().unwrap();
        let pack = pack_with_datastore(work.path());
        Bench { work, pack }
    }] {
        let text = bench
            .command(&["search", "a green square", "--json"])
            .succeed();
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        let neighbours = found["neighbours"].as_array().unwrap();
        assert_eq!(
            (neighbours.len(), &found["text"]),
            (13, &"a green square".into())
        );
        assert_eq!(neighbours[0]["caption"], "a green square");
        assert!(neighbours[0]["score"].as_f64().unwrap() > 0.99, "{text}");
        let text = bench
            .command(&["search", "a green square", "-k", "2"])
            .succeed();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("\ta green square"), "{text}");
    }
}

#[test]
fn refusals_name_the_file_the_field_and_the_way_out_and_lose_nothing() {
    let bench = Bench::whole();
    let good = bench.file("good.txt", "a field of red\n");
    let known = bench.file("known.txt", "a red field\n");
    let cases: Vec<(Captiond, Vec<&str>)> = vec![
        (
            bench
                .command(&["build"])
                .arg(bench.file("empty.txt", "\n \n")),
            vec!["empty.txt", "no caption in it", "one a line"],
        ),
        (
            bench
                .command(&["add"])
                .arg(bench.file("latin.txt", b"caf\xe9")),
            vec!["latin.txt", "UTF-8"],
        ),
        (
            bench
                .command(&["add"])
                .arg(bench.work.path().join("absent.txt")),
            vec!["absent.txt", "No such file"],
        ),
        (
            bench
                .command(&["build"])
                .arg(bench.file("mixed.tsv", "a\tb\nc\n")),
            vec!["mixed.tsv", "line 2", "no tab", "TSV"],
        ),
        (
            bench
                .command(&["build"])
                .arg(bench.file("x.json", "{\"a\": 1}")),
            vec!["x.json", "neither annotations nor images", "COCO"],
        ),
        (
            bench
                .command(&["build"])
                .path("--not-in", &known)
                .arg(&known),
            vec!["known.txt", "no caption is left", "1 of --not-in", "loosen"],
        ),
        (
            bench
                .command(&["add", "--near-duplicate", "1.5"])
                .arg(&good),
            vec!["--near-duplicate", "found 1.5", "above 0"],
        ),
        (
            bench.command(&["prune", "--keep", "0"]),
            vec!["--keep", "0"],
        ),
        (
            bench
                .command(&["prune", "--keep", "3"])
                .path("--pairs", bench.file("gone.tsv", "gone.png\tx\n")),
            vec!["gone.png", "--skip-bad"],
        ),
        (
            bench.command(&["search", "  "]),
            vec!["TEXT", "expected words"],
        ),
    ];
    for (command, parts) in cases {
        let before = bench.content();
        let message = command.fail();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
        assert_eq!(bench.content(), before, "{message}");
    }

    let bare = Bench::bare();
    for command in [
        bare.command(&["add"]).arg(&good),
        bare.command(&["prune", "--keep", "3"]),
        bare.command(&["info"]),
        bare.command(&["search", "red"]),
    ] {
        let message = command.fail();
        assert!(
            message.contains("[datastore]") && message.contains("datastore build"),
            "{message}"
        );
    }
    // A datastore of another text tower can't grow.
    tiny::edit(bench.pack.path(), "max_length = 14", "max_length = 9");
    let message = bench.command(&["add"]).arg(&good).fail();
    assert!(
        message.contains("text_embedding") && message.contains("datastore build"),
        "{message}"
    );
}
