//! What the default pack's decoder costs: the condition, then each token of a caption, for one row
//! (greedy) and for five (the pack's beam), as a markdown table.
//!
//! `cargo bench --all-features --bench decoder` (or with `--profile dev`: tract is optimised there too).
//! Cost does not depend on values, so the condition comes from a formula. Times are milliseconds that
//! this thread was on a processor, medians over captions: the clock would measure the machine's other
//! users.

#[path = "support/processor.rs"]
mod processor;

use std::path::Path;

use anyhow::{Context as _, Result};
use captiond::{
    decoder::{Condition, Decoder, Retrieved, Step},
    engine::tract::TractEngine,
    pack::Pack,
};
use processor::busy;

/// Captions that are timed, after some that warm up.
const CAPTIONS: usize = 60;
const WARM_UP: usize = 5;

/// Tokens of the caption that the totals are about, its end included.
const LENGTH: usize = 10;

fn main() -> Result<()> {
    let pack = Pack::open(Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/models/default"
    )))?;
    let mut decoder = pack
        .decoder(&TractEngine)?
        .context("the default pack has no decoder")?;
    let image = pack.manifest.image_tower.dimension;
    let text = pack.manifest.text_tower.dimension;
    let wants = decoder.wants();
    let cells = wants.grid.map_or(0, |[rows, columns]| rows * columns);
    let cells: Vec<f32> = (0..cells)
        .flat_map(|i| wave(image, 0.3 + i as f32 * 0.1))
        .collect();
    let realigned = wave(text, 0.7);
    let retrieved: Vec<Retrieved> = (0..wants.retrieved)
        .map(|i| Retrieved {
            caption: "a caption".into(),
            embedding: wave(text, 0.11 + i as f32 * 0.07),
            score: 0.5,
        })
        .collect();
    let condition = Condition {
        cells: &cells,
        realigned: &realigned,
        retrieved: &retrieved,
    };

    println!(
        "| rows | condition, ms | each token, ms | tokens 2 to 5 | tokens 15 to 20 | caption of {LENGTH} tokens, ms |"
    );
    println!("|---|---|---|---|---|---|");
    for rows in [1, 5] {
        let length = decoder.most_tokens().min(21);
        let mut begins = Vec::new();
        let mut steps: Vec<Vec<f64>> = vec![Vec::new(); length - 1];
        let mut totals = Vec::new();
        for caption in 0..WARM_UP + CAPTIONS {
            let times = one_caption(decoder.as_mut(), &condition, rows, length)?;
            if caption < WARM_UP {
                continue;
            }
            totals.push(times[..LENGTH].iter().sum());
            begins.push(times[0]);
            for (all, time) in steps.iter_mut().zip(&times[1..]) {
                all.push(*time);
            }
        }
        let medians: Vec<f64> = steps.into_iter().map(median).collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
        println!(
            "| {rows} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} |",
            median(begins),
            mean(&medians),
            mean(&medians[..4.min(medians.len())]),
            mean(&medians[13.min(medians.len() - 1)..]),
            median(totals),
        );
    }
    Ok(())
}

/// Milliseconds of the condition (with the first token's logits) and of each step after it.
fn one_caption(
    decoder: &mut dyn Decoder,
    condition: &Condition<'_>,
    rows: usize,
    length: usize,
) -> Result<Vec<f64>> {
    let mut at = busy();
    let mut lap = || {
        let now = busy();
        now - std::mem::replace(&mut at, now)
    };
    decoder.begin(condition)?;
    let mut times = vec![lap()];
    for token in 1..length {
        let steps: Vec<Step> = (0..rows)
            .map(|row| Step {
                parent: if token == 1 { 0 } else { row },
                token: 100 + (token * rows + row) as u32,
            })
            .collect();
        decoder.step(&steps)?;
        times.push(lap());
    }
    Ok(times)
}

/// A vector of length one.
fn wave(length: usize, pace: f32) -> Vec<f32> {
    let values: Vec<f32> = (0..length).map(|i| (i as f32 * pace).sin()).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter().map(|v| v / norm).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
