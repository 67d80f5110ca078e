//! The frame quality gate on our sample pictures and on real photographs, as they are and made worse.
//! models/frame_quality.py measures more of it (docs/benchmarks.md).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use captiond::frame::{Flaw, FrameQuality, Limits, decode};
use image::{Rgb, RgbImage, imageops};

fn open(path: &Path) -> RgbImage {
    decode(&fs::read(path).unwrap(), Limits::default()).unwrap()
}

fn flaw(picture: &RgbImage) -> Option<Flaw> {
    FrameQuality::measure(picture).unwrap().flaw()
}

/// The samples that are made to be captioned, and those that are made to be refused.
fn samples() -> (Vec<PathBuf>, Vec<PathBuf>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut all: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "jpg" || e == "png"))
        .collect();
    all.sort();
    assert!(all.len() >= 10);
    all.into_iter().partition(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !name.starts_with("too_dark") && !name.starts_with("blurred")
    })
}

/// Every fifth photograph of Flickr8k's dev split; none where the data is absent.
fn photographs() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/flickr8k");
    if !data.is_dir() {
        eprintln!("SKIPPED: ../shared/data/flickr8k is absent, no photograph was measured");
        return Vec::new();
    }
    let names = fs::read_to_string(data.join("dev.tsv")).unwrap();
    let names: BTreeSet<&str> = names
        .lines()
        .map(|line| line.split('\t').next().unwrap())
        .collect();
    let images = data.join("images");
    names
        .into_iter()
        .step_by(5)
        .map(|n| images.join(n))
        .collect()
}

fn noise(picture: &mut RgbImage, sigma: f32, random: &mut fastrand::Rng) {
    for value in picture.iter_mut() {
        // Near enough to a Gaussian: the sum of twelve has a deviation of one.
        let sum: f32 = (0..12).map(|_| random.f32()).sum::<f32>() - 6.0;
        *value = (f32::from(*value) + sigma * sum).round().clamp(0.0, 255.0) as u8;
    }
}

fn light(picture: &RgbImage, factor: f32) -> RgbImage {
    let mut changed = picture.clone();
    for value in changed.iter_mut() {
        *value = (f32::from(*value) * factor).round().clamp(0.0, 255.0) as u8;
    }
    changed
}

/// Out of focus: a Gaussian whose radius is a share of the long side.
fn defocus(picture: &RgbImage, share: f32) -> RgbImage {
    let long = picture.width().max(picture.height()) as f32;
    imageops::blur(picture, share * long)
}

/// A finger on the lens: reddish, unevenly lit, with the sensor's noise.
fn finger(picture: &RgbImage, random: &mut fastrand::Rng) -> RgbImage {
    let (width, height) = picture.dimensions();
    let (cx, cy) = (random.f32(), random.f32());
    let mut covered = RgbImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (x as f32 / width as f32 - cx, y as f32 / height as f32 - cy);
        let light = 1.15 - 0.45 * (dx * dx + dy * dy).sqrt();
        Rgb([130.0, 58.0, 42.0].map(|value: f32| (value * light) as u8))
    });
    noise(&mut covered, 6.0, random);
    covered
}

/// Share of pictures of which the gate says one of `expected`.
fn share(
    pictures: &[RgbImage],
    expected: &[Flaw],
    worse: impl FnMut(&RgbImage) -> RgbImage,
) -> f32 {
    let found = pictures.iter().map(worse).map(|picture| flaw(&picture));
    found
        .flatten()
        .filter(|flaw| expected.contains(flaw))
        .count() as f32
        / pictures.len() as f32
}

/// Pictures that are made worse by much are flagged, with the right reason.
fn degraded(pictures: &[RgbImage], least: f32) {
    let random = &mut fastrand::Rng::with_seed(1);
    let rates = [
        (
            "a tenth of the light",
            share(pictures, &[Flaw::Dark], |p| light(p, 0.1)),
        ),
        (
            "a twentieth of the light, with noise",
            share(pictures, &[Flaw::Dark], |p| {
                let mut dark = light(p, 0.05);
                noise(&mut dark, 4.0, random);
                dark
            }),
        ),
        (
            "a black lens",
            share(pictures, &[Flaw::Dark], |p| light(p, 0.0)),
        ),
        (
            "12 times the light",
            share(pictures, &[Flaw::BlownOut], |p| light(p, 12.0)),
        ),
        (
            "out of focus by 2 %",
            share(pictures, &[Flaw::Blurred], |p| defocus(p, 0.02)),
        ),
        (
            // Of a scene without strong outlines nothing is left by then but a plain surface.
            "out of focus by 4 %",
            share(pictures, &[Flaw::Blurred, Flaw::Covered], |p| {
                defocus(p, 0.04)
            }),
        ),
        (
            "a finger on the lens",
            share(pictures, &[Flaw::Covered], |p| finger(p, random)),
        ),
    ];
    for (how, rate) in rates {
        eprintln!("{how}: {rate:.3} of {} flagged", pictures.len());
        assert!(rate >= least, "{how}: only {rate} of {}", pictures.len());
    }
}

#[test]
fn of_our_samples_the_two_bad_ones_are_flagged() {
    let (good, bad) = samples();
    for path in &good {
        assert_eq!(flaw(&open(path)), None, "{}", path.display());
    }
    let found: Vec<Option<Flaw>> = bad.iter().map(|path| flaw(&open(path))).collect();
    assert_eq!(found, [Some(Flaw::Blurred), Some(Flaw::Dark)], "{bad:?}");
}

#[test]
fn samples_that_are_made_worse_are_flagged() {
    let (good, _) = samples();
    // The colour patches are a test of decoding: flat fields, most of them bright or dark by design.
    let scenes = good
        .iter()
        .filter(|path| !path.to_str().unwrap().contains("cmyk"));
    let pictures: Vec<RgbImage> = scenes.map(|path| open(path)).collect();
    degraded(&pictures, 1.0);
}

#[test]
fn photographs_are_flagged_when_they_are_made_worse_and_seldom_before() {
    let pictures: Vec<RgbImage> = photographs().iter().map(|path| open(path)).collect();
    if pictures.is_empty() {
        return;
    }
    let wrongly = pictures.iter().filter(|p| flaw(p).is_some()).count();
    eprintln!("as they are: {wrongly} of {} flagged", pictures.len());
    // Under one in a hundred.
    assert!(100 * wrongly < pictures.len(), "{wrongly}");
    degraded(&pictures, 0.9);
    // What a caption survives is let through: half the light, a slight blur.
    let flagged = |worse: &dyn Fn(&RgbImage) -> RgbImage| {
        pictures
            .iter()
            .filter(|p| flaw(&worse(p)).is_some())
            .count()
    };
    for mild in [flagged(&|p| light(p, 0.5)), flagged(&|p| defocus(p, 0.004))] {
        assert!(50 * mild < pictures.len(), "{mild}");
    }
}
