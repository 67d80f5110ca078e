//! The towers of a pack with captiond's own kernels, with activations in f32 and in int8, and with tract's, in
//! alternating runs, as a markdown table. `benches/kernels` runs onnxruntime beside it.
//!
//! `cargo bench --all-features --bench kernels [-- PACK]`, the default pack without a name (or with `--profile dev`:
//! the loops in f32 are optimised there too, the others nearly). Times are milliseconds that this thread was on a
//! processor: least, and median.

#[path = "support/processor.rs"]
mod processor;

use std::path::PathBuf;

use anyhow::Result;
use captiond::{
    embedding::{ImageTower, TextTower},
    engine::{
        Activations, Engine,
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

const KINDS: [&str; 3] = ["f32", "int8", "tract"];

fn main() -> Result<()> {
    // `cargo bench` passes --bench.
    let named = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/models/default");
    let folder = named.map_or_else(|| default.into(), PathBuf::from);
    let mut pack = Pack::open(&folder)?;
    let mut load = |engine: &dyn Engine, activations| -> Result<(ImageTower, TextTower)> {
        pack.manifest.image_tower.activations = activations;
        pack.manifest.text_tower.activations = activations;
        let mut image = pack.image_tower(engine)?;
        image.preprocess(&RgbImage::from_fn(320, 240, |x, y| {
            image::Rgb([x as u8, y as u8, (x * y) as u8])
        }))?;
        Ok((image, pack.text_tower(engine)?))
    };
    let mut towers = [
        load(&TractEngine, Activations::F32)?,
        load(&TractEngine, Activations::Int8)?,
        load(&PlainEngine, Activations::F32)?,
    ];
    let mut times: [[Vec<f64>; KINDS.len()]; 2] = Default::default();
    for round in 0..WARM_UP + ROUNDS {
        for (kind, (image, text)) in towers.iter_mut().enumerate() {
            let begin = busy();
            image.embed_preprocessed()?;
            let middle = busy();
            text.embed(SENTENCE)?;
            let end = busy();
            if round >= WARM_UP {
                times[0][kind].push(middle - begin);
                times[1][kind].push(end - middle);
            }
        }
    }
    println!("| network | activations | least, ms | median, ms | tract's median / this |");
    println!("|---|---|---|---|---|");
    for (name, mut times) in ["image tower", "text tower, one caption"].iter().zip(times) {
        times
            .iter_mut()
            .for_each(|times| times.sort_unstable_by(f64::total_cmp));
        let median = |kind: usize| times[kind][ROUNDS / 2];
        for (kind, label) in KINDS.iter().enumerate() {
            println!(
                "| {name} | {label} | {:.1} | {:.1} | {:.2} |",
                times[kind][0],
                median(kind),
                median(KINDS.len() - 1) / median(kind)
            );
        }
    }
    Ok(())
}
