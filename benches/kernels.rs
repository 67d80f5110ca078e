//! The networks of the default pack with captiond's own kernels and with tract's, in alternating runs, as a
//! markdown table. `benches/kernels` runs onnxruntime beside it.
//!
//! `cargo bench --all-features --bench kernels` (or with `--profile dev`: the loops are optimised there too). Times are
//! milliseconds that this thread was on a processor: least, and median.

#[path = "support/processor.rs"]
mod processor;

use std::path::Path;

use anyhow::Result;
use captiond::{
    embedding::{ImageTower, TextTower},
    engine::{
        Engine,
        tract::{PlainEngine, TractEngine},
    },
    pack::Pack,
};
use image::RgbImage;
use processor::busy;

const ROUNDS: usize = 40;
const WARM_UP: usize = 3;

/// Twelve tokens with begin and end: the length of a caption.
const SENTENCE: &str = "A brown dog is playing with a ball in the grass";

fn main() -> Result<()> {
    let pack = Pack::open(Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/models/default"
    )))?;
    let load = |engine: &dyn Engine| -> Result<(ImageTower, TextTower)> {
        let mut image = pack.image_tower(engine)?;
        image.preprocess(&RgbImage::from_fn(320, 240, |x, y| {
            image::Rgb([x as u8, y as u8, (x * y) as u8])
        }))?;
        Ok((image, pack.text_tower(engine)?))
    };
    let (mut ours, mut tracts) = (load(&TractEngine)?, load(&PlainEngine)?);
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 0..WARM_UP + ROUNDS {
        let mut run = |row: usize, work: &mut dyn FnMut() -> Result<()>| -> Result<()> {
            let at = busy();
            work()?;
            if round >= WARM_UP {
                times[row].push(busy() - at);
            }
            Ok(())
        };
        run(0, &mut || {
            ours.0.embed_preprocessed()?;
            Ok(())
        })?;
        run(1, &mut || {
            tracts.0.embed_preprocessed()?;
            Ok(())
        })?;
        run(2, &mut || {
            ours.1.embed(SENTENCE)?;
            Ok(())
        })?;
        run(3, &mut || {
            tracts.1.embed(SENTENCE)?;
            Ok(())
        })?;
    }
    println!("| network | ours, ms | tract, ms | ratio of medians |\n|---|---|---|---|");
    for (name, pair) in ["image tower", "text tower, one caption"]
        .iter()
        .zip(times.chunks_mut(2))
    {
        let [ours, tracts] = pair else { continue };
        ours.sort_unstable_by(f64::total_cmp);
        tracts.sort_unstable_by(f64::total_cmp);
        let middle = ROUNDS / 2;
        println!(
            "| {name} | {:.1}, {:.1} | {:.1}, {:.1} | {:.2} |",
            ours[0],
            ours[middle],
            tracts[0],
            tracts[middle],
            tracts[middle] / ours[middle]
        );
    }
    Ok(())
}
