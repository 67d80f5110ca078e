//! Several views of a frame in one embedding: `image_tower.views` in a pack and `--views` of `fit` and
//! `eval`, on tiny packs and pictures that we draw.

#[path = "support/tiny.rs"]
mod tiny;

use std::{fs, path::PathBuf};

use captiond::{
    embedding::ImageTower,
    engine::{Engine, EngineError, Network, NetworkSpec, tract::TractEngine},
    fit::{embed::Embedder, pairs},
    pack::{Pack, Views},
    realignment::Realignment,
};
use image::{Rgb, RgbImage, imageops};
use tempfile::TempDir;
use tiny::{Captiond, copy, edit, folder};

/// A picture that is another one in the mirror, and in each corner.
fn slope(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 5) as u8, (y * 7) as u8, (x * y / 3) as u8])
    })
}

fn pack(name: &str, views: Views) -> Pack {
    let mut pack = Pack::open(&folder(name)).unwrap();
    pack.manifest.image_tower.views = views;
    pack
}

fn tower(name: &str, views: Views) -> ImageTower {
    pack(name, views).image_tower(&TractEngine).unwrap()
}

/// The mean of embeddings, scaled to length one.
fn mean(embeddings: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0f32; embeddings[0].len()];
    for embedding in embeddings {
        sum.iter_mut().zip(embedding).for_each(|(s, v)| *s += v);
    }
    let length = sum.iter().map(|v| v * v).sum::<f32>().sqrt();
    sum.iter().map(|v| v / length).collect()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(x, y)| (x - y).abs());
    differences.fold(0.0, f32::max)
}

/// Of every tiny pack: an embedding is the mean of those of its views, each a picture of its own.
#[test]
fn an_embedding_of_several_views_is_the_mean_of_theirs() {
    let picture = slope(54, 36);
    let corner = |x, y| imageops::crop_imm(&picture, x, y, 41, 27).to_image();
    let crops = [
        picture.clone(),
        corner(0, 0),
        corner(13, 0),
        corner(0, 9),
        corner(13, 9),
    ];
    let mirrored = [picture.clone(), imageops::flip_horizontal(&picture)];
    for name in ["clip", "cls", "convnet", "siglip"] {
        let mut one = tower(name, Views::One);
        let alone = one.embed(&picture).unwrap();
        // Mirroring before the resize or after it may differ by a step of 255.
        for (views, pictures, most) in [
            (Views::Mirrored, &mirrored[..], 5e-3),
            (Views::Crops, &crops[..], 1e-6),
        ] {
            let each: Vec<Vec<f32>> = pictures.iter().map(|p| one.embed(p).unwrap()).collect();
            let mut several = tower(name, views);
            let found = several.embed(&picture).unwrap();
            let off = apart(&found, &mean(&each));
            assert!(off < most, "{name}, {views:?}: {off:e}");
            // It isn't the frame alone.
            assert!(apart(&found, &alone) > 4.0 * off, "{name}, {views:?}");
            // A fork embeds alike, and the next frame has nothing of the last.
            assert_eq!(several.fork().unwrap().embed(&picture).unwrap(), found);
            several.embed(&crops[4]).unwrap();
            assert_eq!(several.embed(&picture).unwrap(), found);
            // The frame's own part may come from elsewhere.
            let (own, same) = several.embed_beside(&picture, None).unwrap();
            assert_eq!((&own, &same), (&alone, &found));
            let known = several.embed_beside(&picture, Some(own)).unwrap();
            assert_eq!(known, (alone.clone(), found));
        }
    }
}

#[test]
fn a_mirrored_picture_has_the_same_embedding_when_both_views_are_taken() {
    let picture = slope(54, 36);
    let other = imageops::flip_horizontal(&picture);
    let mut both = tower("convnet", Views::Mirrored);
    let mut one = tower("convnet", Views::One);
    let off = |tower: &mut ImageTower| {
        let embedding = tower.embed(&picture).unwrap();
        apart(&embedding, &tower.embed(&other).unwrap())
    };
    let (together, alone) = (off(&mut both), off(&mut one));
    assert!(
        together < 5e-3 && alone > 4.0 * together,
        "{together:e} {alone:e}"
    );
}

#[test]
fn cells_are_those_of_the_frame_itself() {
    let picture = slope(54, 36);
    let cells = |views| {
        let mut tower = tower("convnet", views);
        tower.preprocess(&picture).unwrap();
        tower.features_preprocessed(Some([2, 2])).unwrap().cells
    };
    let one = cells(Views::One);
    assert!(!one.is_empty());
    assert_eq!(cells(Views::Mirrored), one);
    assert_eq!(cells(Views::Crops), one);
}

#[test]
fn the_manifest_has_one_view_at_first_and_names_what_there_is() {
    let copied = copy(&folder("convnet"));
    let plain = Pack::open(copied.path()).unwrap();
    assert_eq!(plain.manifest.image_tower.views, Views::One);
    let mut identities = vec![plain.image_embedding_identity()];
    // Said or not, one view is one view: maps and caches of before stay good.
    edit(
        copied.path(),
        "[text_tower]",
        "views = \"one\"\n\n[text_tower]",
    );
    // (The key before the next table belongs to [image_tower].)
    let said = Pack::open(copied.path()).unwrap();
    assert_eq!(said.image_embedding_identity(), identities[0]);
    for (from, to, views) in [
        ("\"one\"", "\"mirrored\"", Views::Mirrored),
        ("\"mirrored\"", "\"crops\"", Views::Crops),
    ] {
        edit(
            copied.path(),
            &format!("views = {from}"),
            &format!("views = {to}"),
        );
        let pack = Pack::open(copied.path()).unwrap();
        assert_eq!(pack.manifest.image_tower.views, views);
        identities.push(pack.image_embedding_identity());
        assert_eq!(
            said.image_embedding_identity_with(views),
            identities[identities.len() - 1]
        );
        assert_eq!(
            pack.text_embedding_identity(),
            said.text_embedding_identity()
        );
    }
    identities.sort();
    identities.dedup();
    assert_eq!(identities.len(), 3);
    edit(copied.path(), "views = \"crops\"", "views = \"ten\"");
    let message = Pack::open(copied.path()).unwrap_err().to_string();
    for part in ["image_tower.views", "ten", "mirrored"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
}

/// A whole pack with pictures, their pairs and a cache.
struct Bench {
    work: TempDir,
    pack: TempDir,
}

impl Bench {
    fn new() -> Self {
        let work = tempfile::tempdir().unwrap();
        let pack = tiny::whole_pack(work.path());
        Self { work, pack }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn run(&self, words: &[&str]) -> Captiond {
        Captiond::new(words)
            .path("--pack", self.pack.path())
            .path("--cache", self.file("cache"))
            .path("--pairs", self.file("pairs.tsv"))
    }

    /// The map that a fit writes to a file.
    fn map(&self, name: &str, words: &[&str]) -> Realignment {
        self.run(&["fit", "--map", "ridge", "--lambda", "0.1"])
            .args(words)
            .path("--out", self.file(name))
            .succeed();
        Realignment::from_bytes(&fs::read(self.file(name)).unwrap()).unwrap()
    }

    fn caption(&self) -> Captiond {
        Captiond::new(&["caption", "--json"])
            .path("--pack", self.pack.path())
            .arg(self.file("red_0.png"))
    }

    /// What the chain finds near a picture, and how near.
    fn scores(&self) -> serde_json::Value {
        let line: serde_json::Value = serde_json::from_str(&self.caption().succeed()).unwrap();
        let near = line["neighbours"].clone();
        assert!(near[0]["score"].is_number(), "{line}");
        near
    }

    fn manifest(&self) -> String {
        fs::read_to_string(self.pack.path().join("pack.toml")).unwrap()
    }

    /// The embeddings that the cache has of the pictures, without a tower to make any.
    fn cached(&self, views: Views) -> anyhow::Result<Vec<Vec<f32>>> {
        let mut pack = Pack::open(self.pack.path()).unwrap();
        pack.manifest.image_tower.views = views;
        let embedder = Embedder {
            pack: &pack,
            cache: self.file("cache"),
            threads: 1,
            skip_bad: false,
            progress: false,
        };
        let pairs = pairs::read(&self.file("pairs.tsv"), None).unwrap();
        let mut found = Vec::new();
        embedder.run(&NoEngine, self.work.path(), &pairs, |_, image, _| {
            found.push(image);
            Ok(())
        })?;
        Ok(found)
    }
}

/// An engine that has no network.
struct NoEngine;

impl Engine for NoEngine {
    fn load(
        &self,
        _: &mut dyn std::io::Read,
        _: &NetworkSpec,
    ) -> Result<Box<dyn Network>, EngineError> {
        Err(EngineError::Unreadable("asked for a tower".into()))
    }
}

#[test]
fn each_choice_has_a_cache_of_its_own_and_shares_the_frames_own_embedding() {
    let bench = Bench::new();
    fs::remove_dir_all(bench.file("cache")).unwrap();
    let mirrored = bench.map("mirrored", &["--views", "mirrored"]);
    // One view was embedded on the way, crops were not.
    let (one, both) = (
        bench.cached(Views::One).unwrap(),
        bench.cached(Views::Mirrored).unwrap(),
    );
    assert_eq!((one.len(), both.len()), (72, 72));
    // Some of the pictures are their own mirror image.
    let differ = one.iter().zip(&both).filter(|(a, b)| apart(a, b) > 1e-5);
    assert!(differ.count() > 40);
    let error = format!("{:#}", bench.cached(Views::Crops).unwrap_err());
    assert!(error.contains("asked for a tower"), "{error}");

    let plain = bench.map("plain", &[]);
    let crops = bench.map("crops", &["--views", "crops"]);
    let cropped = bench.cached(Views::Crops).unwrap();
    assert!(plain.w() != mirrored.w() && plain.w() != crops.w() && mirrored.w() != crops.w());
    // What went through the cache is what the tower says in one go.
    let pack = Pack::open(bench.pack.path()).unwrap();
    for (views, found) in [(Views::Mirrored, &both), (Views::Crops, &cropped)] {
        let mut pack = pack.clone();
        pack.manifest.image_tower.views = views;
        let mut tower = pack.image_tower(&TractEngine).unwrap();
        let picture = image::open(bench.file("red_0.png")).unwrap().to_rgb8();
        assert_eq!(tower.embed(&picture).unwrap(), found[0], "{views:?}");
    }
    for (map, recipe, views) in [
        (&plain, "", Views::One),
        (&mirrored, "views mirrored", Views::Mirrored),
        (&crops, "views crops", Views::Crops),
    ] {
        assert_eq!(map.provenance.recipe, recipe);
        assert_eq!(map.provenance.views, views);
    }
}

#[test]
fn a_fit_into_the_pack_writes_the_views_beside_the_map() {
    let bench = Bench::new();
    edit(bench.pack.path(), "std = ", "# measured\nstd = ");
    let before = bench.manifest();
    let was = bench.scores();
    bench.map("aside", &["--views", "mirrored"]);
    assert_eq!(bench.manifest(), before, "--out leaves the pack alone");

    bench
        .run(&[
            "fit", "--map", "ridge", "--lambda", "0.1", "--views", "mirrored",
        ])
        .succeed();
    let after = bench.manifest();
    for line in before.lines().filter(|line| !line.contains("provenance")) {
        let changed = line.starts_with("sha256") || line.starts_with("size = 1");
        assert!(
            changed || after.lines().any(|l| l == line),
            "{line:?} is lost:\n{after}"
        );
    }
    let pack = Pack::open(bench.pack.path()).unwrap();
    assert_eq!(pack.manifest.image_tower.views, Views::Mirrored);
    assert_eq!(
        pack.realignment().unwrap().provenance.views,
        Views::Mirrored
    );
    assert!(
        after.contains("ridge on 144 pairs, views mirrored"),
        "{after}"
    );
    // The whole chain goes by it; so does `embed`.
    assert_ne!(bench.scores(), was);
    let out = bench.file("embedded.safetensors");
    Captiond::new(&["embed"])
        .path("--pack", bench.pack.path())
        .path("--out", &out)
        .arg(bench.file("red_0.png"))
        .succeed();
    let written = fs::read(&out).unwrap();
    let expected: Vec<u8> = bench.cached(Views::Mirrored).unwrap()[0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    assert!(written.ends_with(&expected));

    // Without the switch a fit keeps to the pack's views; with it they change again, comments stay.
    bench.run(&["fit", "--map", "ols"]).succeed();
    let pack = Pack::open(bench.pack.path()).unwrap();
    assert_eq!(
        pack.realignment().unwrap().provenance.views,
        Views::Mirrored
    );
    edit(
        bench.pack.path(),
        "views = \"mirrored\"",
        "views = \"mirrored\" # ours",
    );
    bench
        .run(&["fit", "--map", "ols", "--views", "one"])
        .succeed();
    assert!(bench.manifest().contains("views = \"one\" # ours"));
    bench.caption().succeed();
}

#[test]
fn a_judge_of_other_views_is_named_and_refused_until_it_is_fitted_too() {
    let bench = Bench::new();
    let fit = |words: &[&str]| {
        let output = bench
            .run(&["fit", "--map", "ridge", "--lambda", "0.1"])
            .args(words)
            .output();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        errors
    };
    assert!(!fit(&["--judge"]).contains("fit it too"));
    bench.caption().succeed();
    let warning = fit(&["--views", "crops"]);
    for part in [
        "judge.safetensors",
        "views one",
        "crops",
        "captiond fit --judge",
    ] {
        assert!(warning.contains(part), "{part} is not in {warning}");
    }
    let refusal = bench.caption().fail();
    for part in ["judge.safetensors", "views: found one, expected crops"] {
        assert!(refusal.contains(part), "{part} is not in {refusal}");
    }
    assert!(!fit(&["--judge"]).contains("fit it too"));
    bench.caption().succeed();
}

#[test]
fn eval_measures_a_map_with_the_views_it_was_fitted_on() {
    let bench = Bench::new();
    let eval = |words: &[&str], map: Option<&str>| {
        let captiond = bench.run(&["eval", "retrieval", "--json"]).args(words);
        match map {
            Some(name) => captiond.path("--realignment", bench.file(name)),
            None => captiond,
        }
    };
    bench.map("mirrored", &["--views", "mirrored"]);
    bench.map("plain", &[]);
    let found = eval(&[], Some("mirrored")).succeed();
    assert_eq!(
        eval(&["--views", "mirrored"], Some("mirrored")).succeed(),
        found
    );
    // As a pack of those views does.
    let pack = copy(bench.pack.path());
    edit(pack.path(), "std = ", "views = \"mirrored\"\nstd = ");
    let in_pack = |name: &str| {
        Captiond::new(&["eval", "retrieval", "--json"])
            .path("--pack", pack.path())
            .path("--cache", bench.file("cache"))
            .path("--pairs", bench.file("pairs.tsv"))
            .path("--realignment", bench.file(name))
            .succeed()
    };
    assert_eq!(in_pack("mirrored"), found);
    // And a file of one view is measured with one, whatever the pack has.
    assert_eq!(in_pack("plain"), eval(&[], Some("plain")).succeed());
    for (views, name, fitted) in [("one", "mirrored", "mirrored"), ("crops", "plain", "one")] {
        let error = eval(&["--views", views], Some(name)).fail();
        for part in [
            format!("--views {views}"),
            format!("fitted with views {fitted}"),
            bench.file(name).display().to_string(),
        ] {
            assert!(error.contains(&part), "{part} is not in {error}");
        }
    }
    // The pack's own map is of one view.
    let error = eval(&["--views", "mirrored"], None).fail();
    assert!(
        error.contains("views: found one, expected mirrored"),
        "{error}"
    );
    // Embeddings of another tower.
    let other = copy(&folder("cls"));
    let error = Captiond::new(&["eval", "retrieval"])
        .path("--pack", other.path())
        .path("--cache", bench.file("cache"))
        .path("--pairs", bench.file("pairs.tsv"))
        .path("--realignment", bench.file("plain"))
        .fail();
    assert!(
        error.contains("plain") && error.contains("image dimension"),
        "{error}"
    );
}

#[test]
fn sums_of_other_views_are_refused() {
    let bench = Bench::new();
    let sums = |name: &str, views: &str| {
        bench
            .run(&["fit", "--views", views])
            .path("--partial", bench.file(name))
            .succeed();
        bench.file(name)
    };
    let both = [sums("a", "mirrored"), sums("b", "mirrored")];
    let merge = |files: &[PathBuf], words: &[&str]| {
        Captiond::new(&["fit", "--map", "ols"])
            .args(words)
            .path("--pack", bench.pack.path())
            .path("--out", bench.file("joined"))
            .arg("--merge")
            .args(files)
    };
    merge(&both, &["--views", "mirrored"]).succeed();
    let joined = Realignment::from_bytes(&fs::read(bench.file("joined")).unwrap()).unwrap();
    assert_eq!(joined.provenance.views, Views::Mirrored);
    let error = merge(&both, &[]).fail();
    assert!(
        error.contains("other embeddings") && error.contains("--views"),
        "{error}"
    );
    let mixed = [both[0].clone(), sums("c", "one")];
    let error = merge(&mixed, &["--views", "mirrored"]).fail();
    let third = mixed[1].display().to_string();
    assert!(error.contains(&third), "{error}");
}
