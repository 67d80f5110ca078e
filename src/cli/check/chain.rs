//! The model pack: loaded, and one picture captioned.

use std::time::{Duration, Instant};

use super::Check;
use crate::captioner::Describe;
use crate::source::{Frame, Pixels};

/// A board that takes longer for one caption is too slow for the pack.
const SLOW: Duration = Duration::from_secs(10);

pub(super) fn check(load: impl FnOnce() -> anyhow::Result<Box<dyn Describe>>) -> Check {
    const NAME: &str = "pack";
    let start = Instant::now();
    let mut describe = match load() {
        Ok(describe) => describe,
        // {:#}: with the chain of causes.
        Err(error) => {
            return Check::problem(
                NAME,
                format!("{error:#}"),
                "name a whole pack with `pack`, or install the package captiond-pack-default",
            );
        }
    };
    let loaded = start.elapsed();
    let picture = image::RgbImage::from_fn(640, 480, |x, y| {
        image::Rgb([(x % 256) as u8, (y % 256) as u8, 90])
    });
    let frame = Frame {
        pixels: Pixels::Rgb(picture),
        origin: "a test picture".into(),
        taken: Duration::ZERO,
    };
    let start = Instant::now();
    if let Err(error) = describe.describe(&frame) {
        return Check::problem(
            NAME,
            format!("{} can't caption: {error:#}", describe.pack()),
            "copy the pack again; if that doesn't help, this is a defect: report it",
        );
    }
    let took = start.elapsed();
    let found = format!(
        "{}, loaded in {:.1} s, a caption takes {} ms",
        describe.pack(),
        loaded.as_secs_f32(),
        took.as_millis()
    );
    if took > SLOW {
        return Check::warning(NAME, found, "use a smaller pack, or a longer `interval`");
    }
    Check::ok(NAME, found)
}
