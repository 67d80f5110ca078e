//! On made-up pictures; tests/frame_quality.rs has real ones.

use image::{Rgb, imageops};

use super::*;

/// Numbers in [0, 1) that are the same in every run.
fn random() -> impl FnMut() -> f32 {
    let mut state = 7u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    }
}

fn grey(value: f32) -> Rgb<u8> {
    Rgb([(value * 255.0).round().clamp(0.0, 255.0) as u8; 3])
}

/// Leaves of all sizes over each other: sharp edges as in a photograph, the same at every size.
fn scene(width: u32, height: u32) -> RgbImage {
    let mut next = random();
    let mut picture = RgbImage::from_pixel(width, height, grey(0.5));
    let (w, h) = (width as f32, height as f32);
    for leaf in 0..150 {
        let size = 0.4 / (1.0 + leaf as f32 / 8.0);
        let (x, y, value) = (next(), next(), 0.1 + 0.8 * next());
        let to = |at: f32, side: f32| (at.clamp(0.0, 1.0) * side).round() as u32;
        for py in to(y - size / 2.0, h)..to(y + size / 2.0, h) {
            for px in to(x - size / 2.0, w)..to(x + size / 2.0, w) {
                picture.put_pixel(px, py, grey(value));
            }
        }
    }
    picture
}

fn each(picture: &RgbImage, mut change: impl FnMut(f32) -> f32) -> RgbImage {
    let mut changed = picture.clone();
    for pixel in changed.pixels_mut() {
        *pixel = grey(change(f32::from(pixel[0]) / 255.0));
    }
    changed
}

fn measure(picture: &RgbImage) -> FrameQuality {
    let quality = FrameQuality::measure(picture).unwrap();
    assert!(quality.is_finite(), "{quality:?}");
    quality
}

fn flaw(picture: &RgbImage) -> Option<Flaw> {
    measure(picture).flaw()
}

#[test]
fn each_flaw_is_told_from_the_others() {
    let good = scene(480, 360);
    assert_eq!(flaw(&good), None, "{:?}", measure(&good));
    assert_eq!(flaw(&each(&good, |v| v * 0.1)), Some(Flaw::Dark));
    assert_eq!(flaw(&each(&good, |v| v * 4.0)), Some(Flaw::BlownOut));
    let blurred = imageops::blur(&good, 10.0);
    assert_eq!(flaw(&blurred), Some(Flaw::Blurred));
    // Less light, less contrast and a slight blur are none.
    assert_eq!(flaw(&each(&good, |v| v * 0.4)), None);
    assert_eq!(flaw(&each(&good, |v| 0.4 + v * 0.2)), None);
    assert_eq!(flaw(&imageops::blur(&good, 1.5)), None);
}

#[test]
fn a_lens_without_light_is_dark_and_a_plain_one_covered() {
    let mut next = random();
    let mut noise = move |sigma: f32| (next() + next() + next() - 1.5) * 2.0 * sigma / 255.0;
    let mut field = |value: f32, sigma: f32| {
        RgbImage::from_fn(640, 480, |x, y| {
            let light = 1.0 - 0.4 * ((x as f32 / 640.0).powi(2) + (y as f32 / 480.0).powi(2)) / 2.0;
            grey(value * light + noise(sigma))
        })
    };
    assert_eq!(flaw(&field(0.0, 0.0)), Some(Flaw::Dark));
    assert_eq!(flaw(&field(0.02, 4.0)), Some(Flaw::Dark));
    for value in [0.15, 0.3, 0.6] {
        for sigma in [0.0, 4.0, 12.0] {
            let picture = field(value, sigma);
            assert_eq!(
                flaw(&picture),
                Some(Flaw::Covered),
                "{:?}",
                measure(&picture)
            );
        }
    }
    let white = RgbImage::from_pixel(64, 64, grey(1.0));
    assert_eq!(flaw(&white), Some(Flaw::BlownOut));
}

#[test]
fn brightness_contrast_and_clipping_are_what_they_say() {
    // A quarter black, a quarter white, half in the middle.
    let picture = RgbImage::from_fn(100, 100, |x, _| match x {
        0..25 => grey(0.0),
        25..50 => grey(1.0),
        _ => grey(0.4),
    });
    let quality = measure(&picture);
    let near = |a: f32, b: f32| (a - b).abs() < 1e-3;
    assert!(near(quality.brightness, 0.45), "{quality:?}");
    let variance: f32 = 0.25 * 0.45 * 0.45 + 0.25 * 0.55 * 0.55 + 0.5 * 0.05 * 0.05;
    assert!(near(quality.contrast, variance.sqrt()), "{quality:?}");
    assert!(near(quality.clipped_dark, 0.25) && near(quality.clipped_bright, 0.25));
    assert!(near(quality.highlights, 1.0));
}

#[test]
fn sharpness_depends_on_blur_alone() {
    let of = |picture: &RgbImage| measure(picture).sharpness;
    let sharp = of(&scene(480, 360));
    assert!((1.0..2.0).contains(&sharp), "{sharp}");
    // Not on contrast or brightness.
    let pale = of(&each(&scene(480, 360), |v| 0.5 + 0.25 * v));
    assert!((pale / sharp - 1.0).abs() < 0.05, "{pale} {sharp}");
    // Not on the size, when the blur grows with it.
    let blurred: Vec<f32> = [1, 2, 4]
        .map(|times| {
            of(&imageops::blur(
                &scene(320 * times, 240 * times),
                6.0 * times as f32,
            ))
        })
        .to_vec();
    for one in &blurred {
        assert!((one / blurred[0] - 1.0).abs() < 0.1, "{blurred:?}");
    }
}

#[test]
fn a_blurred_edge_has_the_sharpness_of_the_formula() {
    // An edge under a Gaussian of s pixels has the slope of that Gaussian.
    for s in [3.0f32, 5.0] {
        let mut value = 0.2;
        let profile: Vec<f32> = (0..160)
            .map(|x| {
                let t = (x as f32 - 79.5) / s;
                value += 0.6 / (s * std::f32::consts::TAU.sqrt()) * (-t * t / 2.0).exp();
                value
            })
            .collect();
        let edge = Grey {
            width: 160,
            height: 120,
            values: profile.iter().copied().cycle().take(160 * 120).collect(),
        };
        let across = 1.0 / (s * 2f32.sqrt());
        for (dx, dy, expected) in [
            (1, 0, Some(across)),
            // Along the edge nothing changes; aslant it is wider by sqrt 2.
            (0, 1, None),
            (1, 1, Some(across / 2f32.sqrt())),
            (1, -1, Some(across / 2f32.sqrt())),
        ] {
            let found = edge.sharpness_along(dx, dy);
            let near = match (found, expected) {
                (Some(found), Some(expected)) => (found / expected - 1.0).abs() < 0.05,
                (found, expected) => found == expected,
            };
            assert!(near, "{dx} {dy}: {found:?} {expected:?}");
        }
    }
}

#[test]
fn motion_in_any_direction_is_a_blur() {
    let good = scene(480, 360);
    for (dx, dy) in [(1.0, 0.0), (0.0, 1.0), (0.7, 0.7), (0.7, -0.7)] {
        let moved = RgbImage::from_fn(480, 360, |x, y| {
            let line = (-24..=24).map(|step| {
                let at = |from: u32, d: f32, side: u32| {
                    (from as f32 + d * step as f32).clamp(0.0, side as f32 - 1.0) as u32
                };
                f32::from(good.get_pixel(at(x, dx, 480), at(y, dy, 360))[0])
            });
            grey(line.sum::<f32>() / 49.0 / 255.0)
        });
        let quality = measure(&moved);
        assert_eq!(quality.flaw(), Some(Flaw::Blurred), "{dx} {dy} {quality:?}");
    }
}

#[test]
fn every_size_can_be_measured() {
    for (width, height) in [
        (1, 1),
        (1, 500),
        (3, 2),
        (5000, 3),
        (7, 4000),
        (159, 161),
        (2, 2),
    ] {
        measure(&scene(width, height));
    }
    assert!(matches!(
        FrameQuality::measure(&RgbImage::new(0, 5)),
        Err(QualityError::Empty)
    ));
}
