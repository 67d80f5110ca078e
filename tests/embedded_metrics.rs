//! `captiond eval captions` with images and `captiond eval metrics` through the real program, on tiny
//! packs, pictures that we draw, and small files in the data sets' own forms.

#[path = "support/tiny.rs"]
mod tiny;

use std::{
    fs,
    path::{Path, PathBuf},
};

use captiond::eval::{captions, clip_score, kendall::kendall};
use serde_json::{Value, json};
use tempfile::TempDir;
use tiny::{COLOURS, Captiond, colour_field, copy, folder, whole_pack};

/// A fitted pack whose towers have one dimension, with pictures of colours beside it.
struct Bench {
    work: TempDir,
    pack: TempDir,
}

impl Bench {
    fn new() -> Self {
        let work = tempfile::tempdir().unwrap();
        let pack = whole_pack(work.path());
        Self { work, pack }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// With the images, the pack and a cache of its own.
    fn eval(&self, words: &[&str]) -> Captiond {
        Captiond::new(&["eval"])
            .args(words)
            .path("--images", self.work.path())
            .path("--pack", self.pack.path())
            .path("--cache", self.work.path().join("cache"))
    }

    /// References of the first shade of each colour, two a picture, as TSV.
    fn refs(&self) -> PathBuf {
        let lines: String = COLOURS
            .iter()
            .map(|(name, _)| {
                format!("{name}_0.png\ta {name} field\n{name}_0.png\tthe field is {name}\n")
            })
            .collect();
        self.write("refs.tsv", lines)
    }

    /// Predictions as TSV: what `caption` says for each colour's number.
    fn said(&self, file: &str, caption: impl Fn(usize) -> String) -> PathBuf {
        let lines: String = (0..COLOURS.len())
            .map(|at| format!("{}_0.png\t{}\n", COLOURS[at].0, caption(at)))
            .collect();
        self.write(file, lines)
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    captions::NAMES.into_iter().chain(clip_score::NAMES)
}

fn parse(out: &str) -> Value {
    serde_json::from_str(out).unwrap()
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn captions_by_embeddings() {
    let bench = Bench::new();
    let refs = bench.refs();
    let right = bench.said("right.tsv", |at| format!("a {} square", COLOURS[at].0));
    let wrong = bench.said("wrong.tsv", |at| {
        format!("a {} square", COLOURS[(at + 1) % 6].0)
    });
    let per_image = bench.work.path().join("images.jsonl");
    let run = |words: &[&str]| {
        let out = bench
            .eval(&["captions", "--json"])
            .path("--refs", &refs)
            .path("--predictions", &right)
            .args(words)
            .succeed();
        parse(&out)
    };
    let found = run(&[
        "--against",
        wrong.to_str().unwrap(),
        "--per-image",
        per_image.to_str().unwrap(),
        "--draws",
        "100",
    ]);
    let lines: Vec<Value> = fs::read_to_string(&per_image)
        .unwrap()
        .lines()
        .map(parse)
        .collect();
    assert_eq!(lines.len(), 6);
    for name in names() {
        let value = number(&found[name]);
        let [low, high] = [0, 1].map(|end| number(&found["intervals"][name][end]));
        assert!(low <= value && value <= high, "{name}: {found}");
        assert!(number(&found["against"][name]["p"]) <= 1.0, "{found}");
        lines
            .iter()
            .for_each(|line| assert!(line[name].is_number(), "{line}"));
    }
    for name in clip_score::NAMES {
        let mean = lines.iter().map(|line| number(&line[name])).sum::<f64>() / 6.0;
        assert!((mean - number(&found[name])).abs() < 1e-9, "{name}");
    }
    // The map was fitted on these colours, so the right one fits better, with and without references.
    for name in ["aCLIP-S", "RefaCLIP-S"] {
        assert!(
            number(&found["against"][name]["difference"]) > 0.1,
            "{found}"
        );
    }
    // CLIP-S and aCLIP-S are proportional to w.
    let doubled = run(&["--draws", "0", "--clip-s-weight", "5"]);
    for name in ["CLIP-S", "aCLIP-S"] {
        let ratio = number(&doubled[name]) / number(&found[name]);
        assert!((ratio - 2.0).abs() < 1e-9, "{name}: {ratio}");
    }
    assert!(number(&doubled["RefaCLIP-S"]) > number(&found["RefaCLIP-S"]));
    assert_eq!(
        (&found["clip_s_weight"], found.get("images")),
        (&json!(2.5), Some(&json!(6)))
    );

    // A caption that is its image's reference: the harmonic mean of aCLIP-S and 1.
    let same = bench.said("same.tsv", |at| format!("a {} field", COLOURS[at].0));
    bench
        .eval(&["captions", "--json", "--draws", "0"])
        .path("--refs", &refs)
        .path("--predictions", &same)
        .path("--per-image", &per_image)
        .succeed();
    for line in fs::read_to_string(&per_image).unwrap().lines().map(parse) {
        let (a, with) = (number(&line["aCLIP-S"]), number(&line["RefaCLIP-S"]));
        assert!((with - 2.0 * a / (a + 1.0)).abs() < 1e-6, "{line}");
    }
}

#[test]
fn undefined_is_null_and_said_once() {
    let bench = Bench::new();
    let (refs, said) = (
        bench.refs(),
        bench.said("said.tsv", |_| "a red field".into()),
    );
    // 24 and 16 dimensions, and no realignment.
    let other = copy(&folder("cls"));
    let output = Captiond::new(&["eval", "captions", "--json", "--draws", "20"])
        .path("--refs", &refs)
        .path("--predictions", &said)
        .path("--images", bench.work.path())
        .path("--pack", other.path())
        .path("--cache", bench.work.path().join("cache"))
        .output();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let found = parse(&String::from_utf8(output.stdout).unwrap());
    for name in clip_score::NAMES {
        assert_eq!(found.get(name), Some(&Value::Null), "{found}");
        assert_eq!(found["intervals"].get(name), Some(&Value::Null), "{found}");
    }
    assert!(found["CIDEr-D"].is_number(), "{found}");
    assert_eq!(errors.lines().count(), 2, "{errors}");
    assert!(
        errors.contains("24") && errors.contains("16") && errors.contains("captiond fit"),
        "{errors}"
    );

    // Towers of one dimension that were trained apart: the pack says so.
    let apart = copy(bench.pack.path());
    tiny::edit(
        apart.path(),
        "format = 1",
        "format = 1\ncommon_space = false",
    );
    let found = Captiond::new(&["eval", "captions", "--json", "--draws", "0"])
        .path("--refs", &refs)
        .path("--predictions", &said)
        .path("--images", bench.work.path())
        .path("--pack", apart.path())
        .path("--cache", bench.work.path().join("cache"))
        .succeed();
    let found = parse(&found);
    assert_eq!(found["CLIP-S"], Value::Null, "{found}");
    assert!(found["aCLIP-S"].is_number(), "{found}");

    // Without images nothing is embedded, and a pack is no use.
    let words = Captiond::new(&["eval", "captions", "--json", "--draws", "0"])
        .path("--refs", &refs)
        .path("--predictions", &said)
        .succeed();
    assert!(parse(&words).get("aCLIP-S").is_none(), "{words}");
    let error = Captiond::new(&["eval", "captions"])
        .path("--refs", &refs)
        .path("--predictions", &said)
        .path("--pack", other.path())
        .fail();
    assert!(error.contains("--images"), "{error}");
}

/// COCO and VizWiz-Captions: the pack captions the images; of VizWiz those with references alone.
#[test]
fn coco_and_vizwiz() {
    let bench = Bench::new();
    let images = json!([
        {"id": 7, "file_name": "red_0.png", "height": 30, "width": 40},
        {"id": 9, "file_name": "val2014/blue_0.png"},
        {"id": 11, "file_name": "green_0.png"},
    ]);
    let annotation = |id: u64, image: u64, caption: &str| json!({"id": id, "image_id": image, "caption": caption});
    let coco = json!({"info": {}, "images": images, "annotations": [
        annotation(1, 7, "a red field"), annotation(2, 9, "a blue field"), annotation(3, 11, "a green field"),
    ]});
    let coco = bench.write("coco.json", coco.to_string());
    let out = bench
        .eval(&["captions", "--json", "--draws", "0"])
        .path("--refs", &coco)
        .succeed();
    let found = parse(&out);
    assert_eq!(found["images"], 3, "{found}");
    names().for_each(|name| assert!(found[name].is_number(), "{found}"));
    // The datastore has these very colours.
    assert!(number(&found["BLEU-1"]) > 0.3, "{found}");

    let quality = "Quality issues are too severe to recognize visual content.";
    let vizwiz = |id: u64, image: u64, caption: &str, rejected: bool, precanned: bool| {
        json!({"id": id, "image_id": image, "caption": caption, "is_rejected": rejected,
            "is_precanned": precanned, "text_detected": id.is_multiple_of(2)})
    };
    let vizwiz = json!({"info": {}, "images": [
        {"id": 0, "file_name": "red_1.png", "vizwiz_url": "x", "text_detected": true},
        {"id": 1, "file_name": "blue_1.png"},
        {"id": 2, "file_name": "absent.png"},
    ], "annotations": [
        vizwiz(0, 0, "a red square", false, false),
        vizwiz(1, 0, "spam", true, false),
        vizwiz(2, 1, "a blue square", false, false),
        vizwiz(3, 1, quality, false, true),
        vizwiz(4, 2, quality, false, true),
        vizwiz(5, 2, quality, false, true),
    ]});
    let vizwiz = bench.write("vizwiz.json", vizwiz.to_string());
    // The third image is not even there: it has nothing to be scored by.
    let out = bench
        .eval(&["captions", "--json", "--draws", "0"])
        .path("--refs", &vizwiz)
        .succeed();
    let found = parse(&out);
    assert_eq!(
        (&found["images"], &found["excluded_references"]),
        (&json!(2), &json!(4))
    );
    // A results file has captions of all three.
    let results = json!([
        {"image_id": 0, "caption": "a red square"},
        {"image_id": 1, "caption": "a blue square"},
        {"image_id": 2, "caption": "a thing"},
    ]);
    let results = bench.write("results.json", results.to_string());
    let out = bench
        .eval(&["captions", "--json", "--draws", "0"])
        .path("--refs", &vizwiz)
        .path("--predictions", &results)
        .succeed();
    let found = parse(&out);
    assert_eq!(
        (&found["images"], &found["unscored_predictions"]),
        (&json!(2), &json!(1))
    );
    assert!(number(&found["BLEU-1"]) > 0.999, "{found}");
}

/// MSR-VTT: clips are folders of frames; and Flickr's token files.
#[test]
fn clips_and_flickr() {
    let bench = Bench::new();
    let frame = |video: &str, number: u32, colour: [u8; 3]| {
        let path = bench.write(&format!("{video}/{number}.jpg"), "");
        colour_field(colour, 0).save(path).unwrap();
    };
    let [red, green, blue] = [0, 1, 2].map(|at| COLOURS[at].1);
    (1..=12).for_each(|number| frame("video7", number, red));
    // The first two thirds are green, then it's blue.
    (1..=12).for_each(|number| frame("video8", number, if number < 9 { green } else { blue }));
    let videos = |ids: &[&str]| {
        let list: Vec<Value> = ids
            .iter()
            .map(|id| json!({"video_id": id, "category": 9, "url": "x", "start time": 1.0, "end time": 2.0, "split": "test", "id": 7}))
            .collect();
        json!({"info": {}, "videos": list, "sentences": [
            {"caption": "a red field", "video_id": "video7", "sen_id": 0},
            {"caption": "a green field", "video_id": "video8", "sen_id": 1},
            {"caption": "a green square", "video_id": "video8", "sen_id": 2},
            {"caption": "of another split", "video_id": "video1", "sen_id": 3},
        ]})
        .to_string()
    };
    let refs = bench.write("msrvtt.json", videos(&["video7", "video8"]));
    let save = bench.work.path().join("said.jsonl");
    let per_image = bench.work.path().join("clips.jsonl");
    let clips = |frames: &str| {
        bench
            .eval(&["captions", "--json", "--draws", "0", "--frames", frames])
            .path("--refs", &refs)
            .path("--save", &save)
            .path("--per-image", &per_image)
    };
    let found = parse(&clips("3").succeed());
    assert_eq!(found["images"], 2, "{found}");
    names().for_each(|name| assert!(found[name].is_number(), "{found}"));
    let lines = fs::read_to_string(&per_image).unwrap();
    let clip = parse(lines.lines().next().unwrap());
    // Frames that are all the same are one image.
    bench.write(
        "still.png",
        fs::read(bench.work.path().join("video7/1.jpg")).unwrap(),
    );
    let still = bench.write("still.tsv", "still.png\ta red field\n");
    bench
        .eval(&["captions", "--json", "--draws", "0"])
        .path("--refs", &still)
        .path("--per-image", bench.work.path().join("still.jsonl"))
        .succeed();
    let image = parse(&fs::read_to_string(bench.work.path().join("still.jsonl")).unwrap());
    assert_eq!(clip["caption"], image["caption"]);
    assert!(
        (number(&clip["aCLIP-S"]) - number(&image["aCLIP-S"])).abs() < 1e-5,
        "{clip} {image}"
    );
    assert!(clip["caption"].as_str().unwrap().contains("red"), "{clip}");
    let changing = parse(lines.lines().nth(1).unwrap());
    assert!(
        changing["caption"].as_str().unwrap().contains("green"),
        "{changing}"
    );

    // The saved file is used again, and belongs to its number of frames.
    let before = fs::read(&save).unwrap();
    let again = parse(&clips("3").succeed());
    assert_eq!(again["CIDEr-D"], found["CIDEr-D"]);
    assert_eq!(fs::read(&save).unwrap(), before);
    let error = clips("2").fail();
    assert!(
        error.contains("--frames 3") && error.contains("--frames 2"),
        "{error}"
    );

    // One frame of three equal parts: the middle one's, which is green.
    fs::remove_file(&save).unwrap();
    assert!(clips("1").succeed().contains("CIDEr-D"));
    assert!(fs::read_to_string(&save).unwrap().contains("green"));

    let lost = bench.write("lost.json", videos(&["video7", "video8", "video1"]));
    let error = bench.eval(&["captions"]).path("--refs", &lost).fail();
    assert!(
        error.contains("video1") && error.contains("frames"),
        "{error}"
    );

    // Flickr30k's token file has Flickr8k's form.
    let token = bench.write(
        "results.token",
        "red_2.png#0\tA red picture .\nred_2.png#1\tThe picture is red .\nblue_2.png#0\tA blue picture .\n",
    );
    let found = parse(
        &bench
            .eval(&["captions", "--json", "--draws", "0"])
            .path("--refs", &token)
            .succeed(),
    );
    assert_eq!(found["images"], 2, "{found}");
}

#[test]
fn agreement_with_people() {
    let bench = Bench::new();
    // Each picture is judged with its own colour's caption (high), another's (low), and one of its
    // own references.
    let (mut token, mut expert, mut crowd, mut thumb) =
        (String::new(), String::new(), String::new(), String::new());
    for (at, (name, _)) in COLOURS.iter().enumerate() {
        let other = COLOURS[(at + 1) % 6].0;
        token +=
            &format!("{name}_0.png#0\tA {name} field .\n{name}_0.png#1\tThe field is {name} .\n");
        token +=
            &format!("{name}_1.png#0\tA {name} square .\n{name}_1.png#1\tThe square is {name} .\n");
        expert += &format!("{name}_0.png\t{name}_1.png#0\t4\t4\t3\n");
        expert += &format!("{name}_0.png\t{other}_1.png#0\t1\t2\t1\n");
        expert += &format!("{name}_0.png\t{name}_0.png#1\t4\t4\t4\n");
        crowd += &format!("{name}_0.png\t{name}_1.png#0\t1\t3\t0\n");
        crowd += &format!("{name}_0.png\t{other}_1.png#0\t0\t0\t3\n");
        crowd += &format!("{name}_0.png\t{name}_0.png#1\t1\t3\t0\n");
        for (system, hyp, p, fluency) in [
            ("Up-Down", format!("A {name} square."), 4.0, -0.1),
            ("VinVL-base", format!("A {other} square."), 1.0, -0.0),
            ("Human", format!("a {name} field"), 5.0, -0.0),
        ] {
            let line = json!({"SYS": system, "seg_id": "5", "set_id": at, "hyp": hyp,
                "image": format!("{name}_0.png"), "P": p, "R": p - 0.5, "Fl": fluency, "Inc": -0.0,
                "Con": -0.0, "human_score": p - 0.25 + fluency});
            thumb += &format!("{line}\n");
        }
    }
    let files = [
        ("--captions", bench.write("token.txt", token)),
        ("--expert", bench.write("expert.txt", expert)),
        ("--crowdflower", bench.write("crowd.txt", crowd)),
        ("--thumb", bench.write("thumb.jsonl", thumb)),
    ];
    let run = |words: &[&str], pack: &Path, files: &[(&str, PathBuf)]| {
        let command = Captiond::new(&["eval", "metrics", "--json"])
            .args(words)
            .path("--images", bench.work.path())
            .path("--pack", pack)
            .path("--cache", bench.work.path().join("cache"));
        let command = files.iter().fold(command, |command, (option, path)| {
            command.path(option, path)
        });
        let output = command.output();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        (parse(&String::from_utf8(output.stdout).unwrap()), errors)
    };
    let (found, errors) = run(&["--draws", "50"], bench.pack.path(), &files);
    assert_eq!(errors, "");
    let metrics = found.as_object().unwrap();
    assert_eq!(metrics.len(), 10, "{found}");
    for name in names() {
        let metric = &found[name];
        assert_eq!(
            (&metric["expert_kept_rows"], &metric["expert_kept_dropped"]),
            (&json!(12), &json!(6))
        );
        assert_eq!(
            (&metric["expert_all_rows"], &metric["crowdflower_rows"]),
            (&json!(18), &json!(18))
        );
        for key in [
            "expert_tau_c",
            "expert_kept_tau_c",
            "expert_all_tau_c",
            "crowdflower_tau_b",
            "thumb_tau_b",
            "thumb_pearson",
        ] {
            let value = number(&metric[key]);
            assert!((-100.0..=100.0).contains(&value), "{name} {key}: {metric}");
            assert_eq!(
                metric[&format!("{key}_interval")].as_array().unwrap().len(),
                2,
                "{metric}"
            );
        }
        let headline = if ["CLIP-S", "aCLIP-S"].contains(&name) {
            "expert_all_tau_c"
        } else {
            "expert_kept_tau_c"
        };
        assert_eq!(metric["expert_tau_c"], metric[headline], "{name}");
        let aspects = &metric["thumb_aspects"];
        for aspect in ["P", "R", "Flu"] {
            assert!(
                aspects[aspect]["tau_b"].is_number() && aspects[aspect]["pearson"].is_number(),
                "{aspects}"
            );
        }
        // Nobody was marked down for these: nothing varies.
        for aspect in ["Con", "Inc"] {
            assert_eq!(
                aspects[aspect].get("tau_b"),
                Some(&Value::Null),
                "{aspects}"
            );
        }
    }
    // Words in common tell right from wrong here, one group above the other: tau-c of two levels of
    // scores against three of ratings by hand. Right: 4 4 3, wrong: 1 2 1, each six times; all 18 x 18
    // pairs across are concordant, n = 36, m = 2: 2 x 324 / (36^2 / 2) = 1.
    assert!(
        (number(&found["ROUGE-L"]["expert_tau_c"]) - 100.0).abs() < 1e-9,
        "{}",
        found["ROUGE-L"]
    );
    // The same scores as `eval captions` gives these captions one by one.
    let refs = bench.refs();
    let per_image = bench.work.path().join("judged.jsonl");
    let (mut scores, mut votes) = (Vec::new(), Vec::new());
    let colour = |at: usize| COLOURS[at % 6].0;
    let judged: [(&dyn Fn(usize) -> String, f64); 3] = [
        (&|at| format!("A {} square .", colour(at)), 1.0),
        (&|at| format!("A {} square .", colour(at + 1)), 0.0),
        (&|at| format!("The field is {} .", colour(at)), 1.0),
    ];
    for (caption, vote) in judged {
        bench
            .eval(&["captions", "--json", "--draws", "0"])
            .path("--refs", &refs)
            .path("--predictions", bench.said("judged.tsv", caption))
            .path("--per-image", &per_image)
            .succeed();
        for line in fs::read_to_string(&per_image).unwrap().lines().map(parse) {
            scores.push(number(&line["aCLIP-S"]));
            votes.push(vote);
        }
    }
    let tau = 100.0 * kendall(&scores, &votes).unwrap().b;
    let measured = number(&found["aCLIP-S"]["crowdflower_tau_b"]);
    assert!((measured - tau).abs() < 1e-9, "{measured} {tau}");

    // Towers without a common space, no realignment, no references for THumB.
    let other = copy(&folder("cls"));
    let (found, errors) = run(&["--draws", "0"], other.path(), &files[3..]);
    assert!(
        errors.contains("thumb: metrics with references are undefined"),
        "{errors}"
    );
    for name in names() {
        assert_eq!(
            found[name].get("thumb_tau_b"),
            Some(&Value::Null),
            "{found}"
        );
        assert!(found[name].get("thumb_tau_b_interval").is_none(), "{found}");
    }
    let error = Captiond::new(&["eval", "metrics"])
        .path("--captions", &files[0].1)
        .fail();
    assert!(
        error.contains("--expert, --crowdflower or --thumb"),
        "{error}"
    );
}
