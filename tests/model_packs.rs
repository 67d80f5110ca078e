//! Packs that are missing, damaged or do not fit together, from copies of the default pack.

use std::{
    fs,
    path::{Path, PathBuf},
};

use captiond::{
    captioner::{Captioner, Describe},
    engine::tract::TractEngine,
    pack::{Pack, digest},
    realignment::Realignment,
};

fn default_pack() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default")
}

/// A copy that a test may damage.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(default_pack()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// Replaces a part of pack.toml.
fn edit(pack: &Path, from: &str, to: &str) {
    let path = pack.join("pack.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from:?} is not in pack.toml");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Writes a file with a hash that fits, so that only its content can be refused.
fn put(pack: &Path, file: &str, bytes: &[u8]) {
    let old = digest::of_file(&pack.join(file)).unwrap();
    fs::write(pack.join(file), bytes).unwrap();
    edit(pack, &old, &digest::of_bytes(bytes));
}

fn refusal(pack: &Path) -> String {
    let load =
        || -> anyhow::Result<Captioner> { Ok(Captioner::load(&Pack::open(pack)?, &TractEngine)?) };
    match load() {
        Ok(captioner) => panic!("{} was accepted", captioner.pack()),
        Err(error) => {
            let message = format!("{error:#}");
            assert!(
                message.contains(&pack.display().to_string()),
                "does not name the pack: {message}"
            );
            message
        }
    }
}

/// Says other activations in a section of the manifest, where the default pack says int8; or none.
fn set_activations(pack: &Path, section: &str, activations: Option<&str>) {
    let manifest = fs::read_to_string(pack.join("pack.toml")).unwrap();
    let start = manifest.find(&format!("[{section}]\n")).unwrap();
    let (before, rest) = manifest.split_at(start);
    let line = activations.map_or_else(String::new, |a| format!("activations = \"{a}\"\n"));
    assert!(rest.contains("activations = \"int8\"\n"), "{section}");
    let rest = rest.replacen("activations = \"int8\"\n", &line, 1);
    fs::write(pack.join("pack.toml"), [before, &rest].concat()).unwrap();
}

#[test]
fn activations_are_f32_or_int8_and_are_a_part_of_what_an_embedding_is() {
    for section in ["image_tower", "text_tower", "decoder"] {
        let pack = copy();
        set_activations(pack.path(), section, Some("int4"));
        let message = refusal(pack.path());
        let field = format!("{section}.activations");
        for part in [field.as_str(), "int4", "`f32` or `int8`"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    let (plain, silent) = (copy(), copy());
    set_activations(plain.path(), "image_tower", Some("f32"));
    set_activations(silent.path(), "image_tower", None);
    assert!(refusal(plain.path()).contains("image_embedding"));
    let [plain, silent, default] =
        [plain.path(), silent.path(), &default_pack()].map(|path| Pack::open(path).unwrap());
    assert_ne!(
        plain.image_embedding_identity(),
        default.image_embedding_identity()
    );
    assert_eq!(
        plain.text_embedding_identity(),
        default.text_embedding_identity()
    );
    assert_eq!(
        plain.image_embedding_identity(),
        silent.image_embedding_identity()
    );
}

#[test]
fn the_default_pack_loads_runs_both_towers_and_stays_small() {
    let pack = Pack::open(&default_pack()).unwrap();
    assert_eq!(pack.image_tower(&TractEngine).unwrap().dimension(), 1280);
    let mut text = pack.text_tower(&TractEngine).unwrap();
    let (a, b, c) = (
        text.embed("a dog runs over the grass").unwrap(),
        text.embed("A puppy is running in a meadow").unwrap(),
        text.embed("a plate of pasta").unwrap(),
    );
    let cosine = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(p, q)| p * q).sum::<f32>();
    assert!((cosine(&a, &a) - 1.0).abs() < 1e-5);
    assert!(cosine(&a, &b) > cosine(&a, &c) + 0.2);
    let bytes: u64 = fs::read_dir(default_pack())
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 45_000_000, "{bytes} bytes");
    assert!(pack.datastore().unwrap().len() >= 20_000);
}

#[test]
fn a_missing_pack_names_its_folder_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let message = refusal(&folder.path().join("nothing here"));
    assert!(
        message.contains("no pack.toml") && message.contains("--pack"),
        "{message}"
    );
}

#[test]
fn one_flipped_bit_in_any_file_is_refused_with_both_hashes() {
    let pack = copy();
    for entry in fs::read_dir(pack.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "pack.toml" {
            continue;
        }
        let whole = fs::read(&path).unwrap();
        let expected = digest::of_bytes(&whole);
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let message = refusal(pack.path());
        for part in [
            name.as_str(),
            "sha256",
            &expected,
            &digest::of_bytes(&damaged),
        ] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn truncated_files_whose_hash_fits_are_refused_without_a_panic() {
    for file in ["realignment.safetensors", "datastore.safetensors"] {
        let pack = copy();
        let whole = fs::read(pack.path().join(file)).unwrap();
        for keep in [0, 7, 200, whole.len() / 2, whole.len() - 1] {
            put(pack.path(), file, &whole[..keep]);
            assert!(refusal(pack.path()).contains(file), "{file} cut to {keep}");
        }
    }
    // A tower with another hash is another embedding, so the realignment is refused first; here
    // the towers themselves are asked.
    for file in ["image.onnx", "text.onnx", "tokenizer.json"] {
        let copied = copy();
        let whole = fs::read(copied.path().join(file)).unwrap();
        for keep in [0, 7, 200, whole.len() / 2, whole.len() - 20] {
            put(copied.path(), file, &whole[..keep]);
            let pack = Pack::open(copied.path()).unwrap();
            let error = match file {
                "image.onnx" => pack.image_tower(&TractEngine).err(),
                _ => pack.text_tower(&TractEngine).err(),
            };
            let message = error.unwrap_or_else(|| panic!("{file} cut to {keep}: accepted"));
            assert!(message.to_string().contains(file), "{message}");
        }
    }
}

#[test]
fn mistakes_in_the_manifest_name_the_line_or_the_field() {
    let cases = [
        ("pooling = \"average\"", "poling = \"average\"", "poling"),
        ("dimension = 1280", "dimension = \"many\"", "dimension"),
        ("dimension = 1280", "dimension = 640", "output \"features\""),
        ("format = 1", "format = 9", "format: found 9, expected 1"),
        ("size = [260, 260]", "size = [0, 260]", "image_tower.size"),
        (
            "pooling = \"mean\"",
            "pooling = \"end-of-text\"",
            "end_of_text_id",
        ),
        (
            "file = \"image.onnx\"",
            "file = \"../image.onnx\"",
            "image_tower.file",
        ),
        (
            "[files.\"image.onnx\"]",
            "[files.\"/etc/passwd\"]",
            "image.onnx",
        ),
        (
            "output = \"features\"",
            "output = \"logits\"",
            "no output \"logits\"",
        ),
        ("max_length = 128", "max_length = 64", "text_embedding"),
        (
            "interpolation = \"bicubic\"",
            "interpolation = \"bilinear\"",
            "image_embedding",
        ),
        (
            "clip_s_weight = 1.0",
            "clip_s_weight = -1.0",
            "caption.clip_s_weight",
        ),
    ];
    for (from, to, expected) in cases {
        let pack = copy();
        edit(pack.path(), from, to);
        let message = refusal(pack.path());
        assert!(message.contains(expected), "{to}: {message}");
    }
}

#[test]
fn a_pack_without_a_part_says_how_to_make_it() {
    for (part, command) in [
        ("realignment", "captiond fit"),
        ("datastore", "captiond datastore build"),
    ] {
        let pack = copy();
        edit(
            pack.path(),
            &format!("[{part}]\nfile = \"{part}.safetensors\"\n"),
            "",
        );
        let message = refusal(pack.path());
        assert!(message.contains(command), "{message}");
    }
}

#[test]
fn a_realignment_of_other_embeddings_is_refused() {
    let pack = copy();
    let map =
        Realignment::from_bytes(&fs::read(pack.path().join("realignment.safetensors")).unwrap())
            .unwrap();
    let mut other = map.provenance.clone();
    other.text_embedding = "another tower".into();
    let zeros = |n| vec![0.0; n];
    let changed = Realignment::new(
        map.w().to_vec(),
        zeros(1280),
        map.mean_text().to_vec(),
        other,
    )
    .unwrap();
    put(
        pack.path(),
        "realignment.safetensors",
        &changed.to_bytes().unwrap(),
    );
    let message = refusal(pack.path());
    assert!(
        message.contains("text_embedding: found another tower"),
        "{message}"
    );
}
