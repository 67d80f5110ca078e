//! Any dual encoder fits: tiny packs (tests/tiny_packs/make.py) in the shapes of CLIP, of a
//! class-token ViT, of a convnet and of SigLIP, and CLIP's with int8 matrices, against what Pillow, the tokenizers library and
//! onnxruntime give for the same files; and a whole pack made from nothing but towers.

#[path = "support/tiny.rs"]
mod tiny;

use std::{collections::BTreeMap, fs};

use captiond::{
    engine::tract::TractEngine,
    frame::{Limits, decode},
    pack::{Pack, TextPooling},
};
use serde::Deserialize;
use tiny::{COLOURS, Captiond, colour_field, copy, edit, folder, pack_with_datastore, picture};

#[derive(Deserialize)]
struct Reference {
    images: BTreeMap<String, Vec<f32>>,
    captions: BTreeMap<String, Vec<f32>>,
}

/// The largest and the mean absolute difference.
fn apart(a: &[f32], b: &[f32]) -> (f32, f32) {
    assert_eq!(a.len(), b.len());
    let differences = || a.iter().zip(b).map(|(x, y)| (x - y).abs());
    let mean = differences().sum::<f32>() / a.len() as f32;
    (differences().fold(0.0, f32::max), mean)
}

/// `resized_by_us`: how far an embedding may be from the one of Pillow's resize.
fn check(name: &str, resized_by_us: f32) {
    let pack = Pack::open(&folder(name)).unwrap();
    let reference: Reference =
        serde_json::from_slice(&fs::read(folder(name).join("reference.json")).unwrap()).unwrap();

    let mut ears = pack.text_tower(&TractEngine).unwrap();
    assert!(reference.captions.len() >= 4);
    for (caption, expected) in &reference.captions {
        let (most, _) = apart(&ears.embed(caption).unwrap(), expected);
        assert!(most < 1e-5, "{name}: {caption:?} differs by {most:e}");
    }

    let mut eyes = pack.image_tower(&TractEngine).unwrap();
    let smallest_std = pack
        .manifest
        .image_tower
        .std
        .iter()
        .copied()
        .fold(1.0, f32::min);
    assert!(reference.images.len() >= 2);
    for (resized, expected) in &reference.images {
        // Pillow's own resize: what is left is crop, normalisation, channels, network, pooling.
        let pixels = decode(
            &fs::read(folder(name).join(resized)).unwrap(),
            Limits::default(),
        );
        let same = eyes.preprocess(&pixels.unwrap()).unwrap().to_vec();
        let (most, _) = apart(&eyes.embed_preprocessed().unwrap(), expected);
        assert!(most < 1e-5, "{name}: {resized} differs by {most:e}");
        // Our resize: within one step of 255 everywhere, and nearly always the same.
        let original = picture(resized.strip_prefix("resized_").unwrap());
        let pixels = decode(&original, Limits::default()).unwrap();
        let (most, mean) = apart(eyes.preprocess(&pixels).unwrap(), &same);
        let step = 1.0 / (255.0 * smallest_std);
        assert!(
            most < 1.01 * step && mean < 0.1 * step,
            "{name}: {resized} resized differs by {most} at most, {mean} in the mean"
        );
        let (most, _) = apart(&eyes.embed_preprocessed().unwrap(), expected);
        assert!(
            most < resized_by_us,
            "{name}: {resized} resized by us differs by {most:e}"
        );
    }
}

#[test]
fn clip_projection_and_end_of_text() {
    check("clip", 3e-3);
}

#[test]
fn class_token_blue_first_and_prefix() {
    check("cls", 3e-3);
}

#[test]
fn convnet_average_and_masked_mean_of_any_length() {
    check("convnet", 3e-3);
}

#[test]
fn siglip_token_average_and_fixed_length() {
    check("siglip", 3e-3);
}

#[test]
fn int8_matrices_quantised_dynamically() {
    // A pixel one step off moves the range of a whole activation tensor, and with it every step.
    check("int8", 1e-2);
}

#[test]
fn a_pack_of_towers_alone_becomes_a_captioner() {
    let work = tempfile::tempdir().unwrap();
    let pack = pack_with_datastore(work.path());
    let red = work.path().join("red_0.png");
    let caption = || {
        Captiond::new(&["caption", "--json"])
            .path("--pack", pack.path())
            .arg(&red)
    };
    // Towers and captions are there, but nothing joins them yet.
    let message = caption().fail();
    assert!(
        message.contains("[realignment]") && message.contains("captiond fit"),
        "{message}"
    );

    let report = Captiond::new(&["fit", "--json", "--held-out", "0.3", "--map", "ridge"])
        .path("--pack", pack.path())
        .path("--cache", work.path().join("cache"))
        .path("--pairs", work.path().join("pairs.tsv"))
        .succeed();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let maps: Vec<&str> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["map"].as_str().unwrap())
        .collect();
    assert_eq!(maps.len(), 5, "{maps:?}");
    for (map, start) in maps
        .iter()
        .zip(["before", "ols", "ridge", "procrustes", "blend"])
    {
        assert!(map.starts_with(start), "{maps:?}");
    }
    // Both towers have 16 numbers, so the row before realignment can be measured; random towers
    // know nothing of each other, and the realignment makes them.
    let recall = |row: usize| {
        report["rows"][row]["recall"]["image_to_text"][2]
            .as_f64()
            .unwrap()
    };
    assert!(recall(2) > recall(0) + 0.2, "{report}");

    let store = Pack::open(pack.path()).unwrap().datastore().unwrap();
    assert_eq!(store.len(), 6 * 4 * 2);

    // Shades that the fit has not seen.
    for (name, colour) in COLOURS {
        let file = work.path().join(format!("unseen_{name}.png"));
        colour_field(colour, 13).save(&file).unwrap();
        let line = Captiond::new(&["caption", "--json"])
            .path("--pack", pack.path())
            .arg(&file)
            .succeed();
        let found: serde_json::Value = serde_json::from_str(&line).unwrap();
        let caption = found["caption"].as_str().unwrap();
        assert!(
            caption.split(' ').any(|word| word == name),
            "{name}: {line}"
        );
        assert_eq!(found["neighbours"].as_array().unwrap().len(), 13);
        assert!(found["confidence"].as_f64().unwrap() > 0.5, "{line}");
    }
}

#[test]
fn a_pack_without_padding_gives_each_length_its_own_embedding() {
    // The same tower under another declared cut: the long caption changes, the short one does not.
    let pack = copy(&folder("convnet"));
    let long = "a small red square on the left and a large green circle on the right";
    let embed = |caption: &str| {
        let pack = Pack::open(pack.path()).unwrap();
        assert_eq!(pack.manifest.text_tower.pooling, TextPooling::Mean);
        pack.text_tower(&TractEngine)
            .unwrap()
            .embed(caption)
            .unwrap()
    };
    let before = (embed("a red square"), embed(long));
    edit(pack.path(), "max_length = 14", "max_length = 9");
    assert_eq!(embed("a red square"), before.0);
    assert_ne!(embed(long), before.1);
}
