//! Tiny packs whose hashes fit and whose content does not: each refusal names the pack, the file
//! and the field, and nothing panics. (tests/model_packs.rs has the default pack and its hashes.)

#[path = "support/tiny.rs"]
mod tiny;

use std::{fs, path::Path};

use captiond::{
    captioner::Captioner,
    datastore::Datastore,
    engine::tract::TractEngine,
    pack::Pack,
    realignment::Realignment,
    tensor_file::{NamedTensor, serialise},
};
use safetensors::Dtype;
use tiny::{Captiond, copy, edit, folder, put, whole_pack};

/// Loads everything that any command loads.
fn load(pack: &Path) -> anyhow::Result<()> {
    let pack = Pack::open(pack)?;
    pack.image_tower(&TractEngine)?;
    pack.text_tower(&TractEngine)?;
    Captioner::load(&pack, &TractEngine)?;
    Ok(())
}

/// The message of a refusal, which has to name the pack.
fn refusal(pack: &Path) -> String {
    let message = match load(pack) {
        Ok(()) => panic!(
            "accepted:\n{}",
            fs::read_to_string(pack.join("pack.toml")).unwrap()
        ),
        Err(error) => format!("{error:#}"),
    };
    assert!(
        message.contains(&pack.display().to_string()),
        "does not name the pack: {message}"
    );
    message
}

fn assert_parts(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

const REALIGNMENT: &str = "realignment.safetensors";
const DATASTORE: &str = "datastore.safetensors";
const FILES: [&str; 5] = [
    "image.onnx",
    "text.onnx",
    "tokenizer.json",
    REALIGNMENT,
    DATASTORE,
];

#[test]
fn a_file_cut_anywhere_is_refused_by_name() {
    let work = tempfile::tempdir().unwrap();
    let pack = whole_pack(work.path());
    load(pack.path()).unwrap();
    for file in FILES {
        let whole = fs::read(pack.path().join(file)).unwrap();
        let nearly = [1, 2, 3, 5, 9, 17, 33].map(|less| whole.len() - less);
        for keep in (0..whole.len()).step_by(1 + whole.len() / 50).chain(nearly) {
            put(pack.path(), file, &whole[..keep]);
            let message = refusal(pack.path());
            assert!(message.contains(file), "{file} cut to {keep}: {message}");
        }
        put(pack.path(), file, &whole);
    }
    load(pack.path()).unwrap();
}

#[test]
fn flipped_bits_under_a_fitting_hash_never_panic() {
    let work = tempfile::tempdir().unwrap();
    let pack = whole_pack(work.path());
    let mut refused = 0;
    for file in FILES {
        let whole = fs::read(pack.path().join(file)).unwrap();
        for number in 0..60 {
            let mut damaged = whole.clone();
            // Headers are at the start: three in four flips go there.
            let span = if number % 4 == 0 {
                whole.len()
            } else {
                whole.len().min(400)
            };
            let at = number * 7919 % span;
            damaged[at] ^= 1 << (number % 8);
            put(pack.path(), file, &damaged);
            refused += usize::from(load(pack.path()).is_err());
        }
        put(pack.path(), file, &whole);
    }
    // A flipped weight is still a network; a flipped header is not.
    assert!(refused > 100, "only {refused} of 300 were refused");
}

#[test]
fn the_manifest_is_checked_key_by_key() {
    let work = tempfile::tempdir().unwrap();
    let whole = whole_pack(work.path());
    let image_table = "[files.\"image.onnx\"]";
    let cases: [(&str, &str, &[&str]); 23] = [
        (
            "format = 1",
            "format = 2",
            &["pack.toml", "format", "found 2", "expected 1"],
        ),
        (
            "format = 1",
            "format = 2\nfrom_the_future = true",
            &["format", "found 2", "expected 1"],
        ),
        (
            "[text_tower]",
            "[[generation.corrections]]\nfind = \"(\"\nreplace = \"\"\n\n[text_tower]",
            &["generation.corrections[0].find", "unclosed group"],
        ),
        (
            "format = 1",
            "format = 1\nlicense = \"x\"",
            &["pack.toml:3", "license"],
        ),
        ("format = 1", "format = \"one\"", &["pack.toml:2", "format"]),
        ("version = \"1.0.0\"\n", "", &["pack.toml", "version"]),
        (
            "[text_tower]",
            "[text_towers]",
            &["pack.toml", "text_tower"],
        ),
        (
            "dimension = 16",
            "dimension = -16",
            &["pack.toml:", "dimension"],
        ),
        (
            "dimension = 16",
            "dimension = 0",
            &["image_tower.dimension", "found 0"],
        ),
        (
            "size = [20, 28]",
            "size = [20, 28, 3]",
            &["pack.toml:", "size"],
        ),
        (
            "size = [20, 28]",
            "size = [20, 99999]",
            &["image_tower.size", "99999"],
        ),
        (
            "size = [20, 28]",
            "size = [20, 28]\nshortest_edge = 3",
            &["shortest_edge", "found 3"],
        ),
        (
            "std = [0.502,",
            "std = [0.0,",
            &["image_tower.std", "positive"],
        ),
        (
            "mean = [0.498,",
            "mean = [nan,",
            &["image_tower.std", "NaN", "finite"],
        ),
        (
            "max_length = 14",
            "max_length = 2",
            &["text_tower.max_length", "found 2"],
        ),
        (
            "pooling = \"mean\"",
            "pooling = \"end-of-text\"",
            &["text_tower.end_of_text_id"],
        ),
        (
            "pooling = \"mean\"",
            "pooling = \"median\"",
            &["pack.toml:", "median", "mean"],
        ),
        (
            "candidates = 5",
            "candidates = 0",
            &["caption", "candidates 0", "at least 1"],
        ),
        (
            "candidates = 5",
            "score_weight = 1.5",
            &["caption.score_weight", "found 1.5"],
        ),
        (
            "[text_tower]",
            "[phrases]\nhedged = \"perhaps\"\n\n[text_tower]",
            &["phrases.hedged", "found \"perhaps\"", "{caption} once"],
        ),
        (
            "[text_tower]",
            "[phrases]\nmurky = \"it is murky\"\n\n[text_tower]",
            &["pack.toml:", "phrases", "murky", "blown_out"],
        ),
        (image_table, "[files.\"../image.onnx\"]", &["pack.toml"]),
        (image_table, "[files.\"/image.onnx\"]", &["pack.toml"]),
    ];
    for (from, to, parts) in cases {
        let pack = copy(whole.path());
        edit(pack.path(), from, to);
        let message = refusal(pack.path());
        eprintln!("{message}");
        assert_parts(&message, parts);
    }
    // That pack's towers have the same dimension; those of this one don't.
    let pack = copy(&folder("cls"));
    edit(pack.path(), "format = 1", "format = 1\ncommon_space = true");
    let message = refusal(pack.path());
    assert_parts(&message, &["common_space", "24 and 16", "or false"]);
}

#[test]
fn no_path_leaves_the_folder() {
    for outside in [
        "../image.onnx",
        "/tmp/image.onnx",
        "sub/../../image.onnx",
        "./image.onnx",
        "",
    ] {
        let pack = copy(&folder("convnet"));
        edit(
            pack.path(),
            "file = \"image.onnx\"",
            &format!("file = {outside:?}"),
        );
        edit(
            pack.path(),
            "[files.\"image.onnx\"]",
            &format!("[files.{outside:?}]"),
        );
        let message = refusal(pack.path());
        assert_parts(
            &message,
            &["pack.toml", "files", "inside the pack's folder"],
        );
    }
}

#[test]
fn hashes_have_their_form() {
    let tables = |pack: &Path| fs::read_to_string(pack.join("pack.toml")).unwrap();
    let upper = |text: &str| text.to_uppercase();
    let short = |text: &str| text[1..].to_owned();
    let none = |_: &str| String::new();
    for change in [&upper as &dyn Fn(&str) -> String, &short, &none] {
        let pack = copy(&folder("convnet"));
        let text = tables(pack.path());
        let hash = text.split("sha256 = \"").nth(1).unwrap()[..64].to_owned();
        edit(pack.path(), &hash, &change(&hash));
        assert_parts(
            &refusal(pack.path()),
            &["files.", "sha256", "64 lower-case"],
        );
    }
}

#[test]
fn a_manifest_that_is_no_manifest() {
    let pack = copy(&folder("convnet"));
    let manifest = pack.path().join("pack.toml");
    for text in ["", "format = ", "[[[", "\u{feff}{}", "files = 3"] {
        fs::write(&manifest, text).unwrap();
        assert_parts(&refusal(pack.path()), &["pack.toml"]);
    }
    fs::write(&manifest, [0xff, 0xfe, 0x00]).unwrap();
    assert_parts(&refusal(pack.path()), &["pack.toml", "UTF-8"]);
    fs::remove_file(&manifest).unwrap();
    fs::create_dir(&manifest).unwrap();
    assert_parts(&refusal(pack.path()), &["pack.toml", "directory"]);
}

#[test]
fn a_listed_file_that_is_absent_is_named() {
    let pack = copy(&folder("convnet"));
    fs::remove_file(pack.path().join("tokenizer.json")).unwrap();
    assert_parts(&refusal(pack.path()), &["tokenizer.json", "No such file"]);
}

/// What a pack says of its towers has to be what the networks say.
#[test]
fn towers_that_do_not_fit_the_manifest() {
    let cases: [(&str, &str, &str, &[&str]); 14] = [
        (
            "convnet",
            "output = \"features\"",
            "output = \"logits\"",
            &["image.onnx", "\"logits\"", "features"],
        ),
        (
            "convnet",
            "output = \"hidden\"",
            "output = \"tokens\"",
            &["text.onnx", "\"tokens\"", "hidden"],
        ),
        (
            "convnet",
            "file = \"image.onnx\"",
            "file = \"image.onnx\"\ninput = \"picture\"",
            &["image.onnx", "\"picture\"", "pixels"],
        ),
        (
            "convnet",
            "attention_mask = \"attention_mask\"\n",
            "",
            &["text.onnx", "attention_mask", "does not declare"],
        ),
        (
            "convnet",
            "attention_mask = \"attention_mask\"",
            "attention_mask = \"mask\"",
            &["text.onnx", "\"mask\"", "attention_mask"],
        ),
        (
            "convnet",
            "size = [20, 28]",
            "size = [28, 20]",
            &["image.onnx", "pixels", "[1, 3, 28, 20]", "20,28"],
        ),
        (
            "convnet",
            "dimension = 16",
            "dimension = 17",
            &["image.onnx", "features", "[1, 16, 5, 7]", "17"],
        ),
        (
            "convnet",
            "pooling = \"average\"",
            "pooling = \"none\"",
            &["image.onnx", "features", "[1, 16, 5, 7]", "[1, 16]"],
        ),
        (
            "convnet",
            "pooling = \"average\"",
            "pooling = \"cls\"",
            &["image.onnx", "features", "[1, 16, 5, 7]"],
        ),
        (
            "convnet",
            "pooling = \"mean\"",
            "pooling = \"none\"",
            &["text.onnx", "hidden", "[1, 16]"],
        ),
        (
            "clip",
            "max_length = 12",
            "max_length = 13",
            &["text.onnx", "input_ids", "12", "13"],
        ),
        (
            "clip",
            "pad_id = 0\n",
            "",
            &["text.onnx", "input_ids", "12"],
        ),
        (
            "siglip",
            "pooling = \"none\"\ndimension = 20",
            "pooling = \"mean\"\ndimension = 20",
            &["text.onnx", "text", "[1, 20]"],
        ),
        (
            "siglip",
            "dimension = 20",
            "dimension = 12",
            &["text.onnx", "text", "[1, 20]", "[1, 12]"],
        ),
    ];
    for (name, from, to, parts) in cases {
        let pack = copy(&folder(name));
        edit(pack.path(), from, to);
        let message = refusal(pack.path());
        eprintln!("{message}");
        assert_parts(&message, parts);
    }
}

#[test]
fn a_caption_longer_than_the_positions_is_an_error_not_a_panic() {
    let pack = copy(&folder("convnet"));
    edit(pack.path(), "max_length = 14", "max_length = 40");
    let mut tower = Pack::open(pack.path())
        .unwrap()
        .text_tower(&TractEngine)
        .unwrap();
    assert!(tower.embed(&"red ".repeat(9)).is_ok());
    assert!(tower.embed(&"red ".repeat(30)).is_err());
}

#[test]
fn a_caption_without_end_of_text_is_an_error() {
    let pack = copy(&folder("clip"));
    edit(pack.path(), "end_of_text_id = 3", "end_of_text_id = 9999");
    let mut tower = Pack::open(pack.path())
        .unwrap()
        .text_tower(&TractEngine)
        .unwrap();
    let message = tower.embed("a red square").unwrap_err().to_string();
    assert_parts(&message, &["end-of-text", "9999"]);
}

#[test]
fn a_realignment_that_does_not_fit() {
    let work = tempfile::tempdir().unwrap();
    let pack = whole_pack(work.path());
    let map = Realignment::from_bytes(&fs::read(pack.path().join(REALIGNMENT)).unwrap()).unwrap();
    let remake = |w: Vec<f32>, image: usize, text: usize| {
        let provenance = map.provenance.clone();
        Realignment::new(w, vec![0.0; image], vec![0.0; text], provenance).unwrap()
    };
    let mut nan = map.w().to_vec();
    nan[77] = f32::NAN;
    let (mut other_eyes, mut other_ears) = (map.clone(), map.clone());
    other_eyes.provenance.image_embedding = "other eyes".into();
    other_ears.provenance.text_embedding = "other ears".into();
    let cases: [(Realignment, &[&str]); 6] = [
        (remake(nan, 16, 16), &["w:", "not-a-number", "finite"]),
        (
            remake(vec![0.5; 15 * 16], 15, 16),
            &["image dimension", "found 15", "expected 16"],
        ),
        (
            remake(vec![0.5; 16 * 4], 16, 4),
            &["text dimension", "found 4", "expected 16"],
        ),
        (remake(Vec::new(), 0, 0), &["dimension", "found 0"]),
        (other_eyes, &["image_embedding", "other eyes"]),
        (other_ears, &["text_embedding", "other ears"]),
    ];
    for (changed, parts) in cases {
        put(pack.path(), REALIGNMENT, &changed.to_bytes().unwrap());
        let message = refusal(pack.path());
        assert_parts(&message, &[REALIGNMENT, "captiond fit"]);
        assert_parts(&message, parts);
    }

    let tensors = |w_shape: &[usize]| {
        [
            NamedTensor::f32("w", w_shape, &[0.5; 256]),
            NamedTensor::f32("mean_image", &[16], &[0.0; 16]),
            NamedTensor::f32("mean_text", &[16], &[0.0; 16]),
        ]
    };
    let words = |kind: &str, pairs: &str| {
        let pair = |key: &'static str, value: &str| (key, value.to_owned());
        vec![
            pair("kind", kind),
            pair("lambda", "0"),
            pair("ridge_share", "0"),
            pair("pairs", pairs),
            pair("image_embedding", &map.provenance.image_embedding),
            pair("text_embedding", &map.provenance.text_embedding),
        ]
    };
    let cases = [
        (
            serialise(&tensors(&[256, 1]), &words("ols", "9")),
            "w: found shape [256, 1]",
        ),
        (
            serialise(&tensors(&[256]), &words("ols", "9")),
            "w: found F32 [256]",
        ),
        (
            serialise(&tensors(&[16, 16]), &words("guess", "9")),
            "kind: found guess",
        ),
        (
            serialise(&tensors(&[16, 16]), &words("ols", "many")),
            "pairs: found \"many\"",
        ),
        (
            serialise(&tensors(&[16, 16])[..2], &words("ols", "9")),
            "mean_text: found only",
        ),
        (
            serialise(&tensors(&[16, 16]), &words("ols", "9")[1..]),
            "kind: found nothing",
        ),
    ];
    for (bytes, part) in cases {
        put(pack.path(), REALIGNMENT, &bytes.unwrap());
        assert_parts(&refusal(pack.path()), &[REALIGNMENT, part]);
    }
    put(
        pack.path(),
        REALIGNMENT,
        &serialise(&tensors(&[16, 16]), &words("ols", "9")).unwrap(),
    );
    load(pack.path()).unwrap();
}

#[test]
fn a_datastore_that_does_not_fit() {
    let work = tempfile::tempdir().unwrap();
    let pack = whole_pack(work.path());
    let identity = Pack::open(pack.path()).unwrap().text_embedding_identity();
    let row = [0.25f32; 16];
    let of_other_tower = Datastore::build([("a", row.as_slice())], 16, "other ears").unwrap();
    let of_other_size = Datastore::build([("a", &row[..9])], 9, &identity).unwrap();
    let empty = Datastore::build([], 16, &identity).unwrap();
    for (store, parts) in [
        (of_other_tower, ["text_embedding", "other ears"]),
        (of_other_size, ["dimension", "found 9"]),
    ] {
        put(pack.path(), DATASTORE, store.bytes());
        assert_parts(
            &refusal(pack.path()),
            &[DATASTORE, "captiond datastore build"],
        );
        assert_parts(&refusal(pack.path()), &parts);
    }
    put(pack.path(), DATASTORE, empty.bytes());
    let message = refusal(pack.path());
    assert_parts(&message, &[DATASTORE, "no caption"]);

    let file = |scales: &[f32], offsets: &[u32], text: &[u8], rows: usize| {
        let tensors = [
            NamedTensor::raw("embeddings", Dtype::I8, &[rows, 16], vec![7; rows * 16]),
            NamedTensor::f32("scales", &[scales.len()], scales),
            NamedTensor::u32("offsets", &[offsets.len()], offsets),
            NamedTensor::raw("captions", Dtype::U8, &[text.len()], text.to_vec()),
        ];
        serialise(&tensors, &[("text_embedding", identity.clone())]).unwrap()
    };
    let two = [0.01, 0.01];
    let accents = "é1é2".as_bytes();
    let cases = [
        (
            file(&two, &[0, 3, 9], accents, 2),
            "offsets: found positions",
        ),
        (
            file(&two, &[0, 6, 3], accents, 2),
            "offsets: found positions",
        ),
        (
            file(&two, &[0, 1, 6], accents, 2),
            "offsets: found positions",
        ),
        (
            file(&two, &[1, 3, 6], accents, 2),
            "offsets: found positions",
        ),
        (
            file(&two, &[0, 3, 5], accents, 2),
            "offsets: found positions",
        ),
        (
            file(&two, &[0, u32::MAX, 6], accents, 2),
            "offsets: found positions",
        ),
        (file(&two, &[0, 6], accents, 2), "offsets: found shape [2]"),
        (
            file(&two[..1], &[0, 3, 6], accents, 2),
            "scales: found shape [1]",
        ),
        (
            file(&[0.1, f32::NAN], &[0, 3, 6], accents, 2),
            "scales: found infinite",
        ),
        (file(&two, &[0, 3, 6], &accents[1..], 2), "captions: found"),
    ];
    for (bytes, part) in cases {
        put(pack.path(), DATASTORE, &bytes);
        assert_parts(&refusal(pack.path()), &[DATASTORE, part]);
    }
    put(pack.path(), DATASTORE, &file(&two, &[0, 3, 6], accents, 2));
    load(pack.path()).unwrap();
}

#[test]
fn the_program_names_a_missing_pack_and_ends_with_2() {
    let nowhere = tempfile::tempdir().unwrap();
    let missing = nowhere.path().join("no pack here");
    let named = missing.display().to_string();
    let caption = || Captiond::new(&["caption", "x.jpg"]);
    assert_parts(
        &caption().path("--pack", &missing).fail(),
        &[&named, "no pack.toml", "--pack"],
    );
    let message = caption().variable("CAPTIOND_PACK", &missing).fail();
    assert_parts(&message, &[&named, "no pack.toml", "--pack"]);
    // A file instead of a folder.
    let file = folder("convnet").join("pack.toml");
    assert_parts(
        &caption().path("--pack", file).fail(),
        &["pack.toml", "--pack"],
    );
}
