//! Times CIDEr-D and Kendall's tau on data from a file, as one line of JSON.
//!
//! Called by `benches/metrics`, which makes the files, measures the Python originals in the same run and
//! prints a table:
//!
//! - `cider FILE`: tokenizes and scores FILE's `captions` against its `references` (a list each);
//! - `tau FILE`: tau-b and tau-c of FILE's `x` and `y`.

#[path = "support/processor.rs"]
mod processor;

use std::{env, fs::File, hint::black_box, io::BufReader, time::Instant};

use anyhow::{Context as _, Result, ensure};
use captiond::eval::{
    captions::{cider::CiderD, tokenizer::tokenize_all},
    kendall::kendall,
};
use processor::busy;
use serde::{Deserialize, de::DeserializeOwned};

/// Runs after the first; the least is reported, and the first beside it.
const RUNS: usize = 7;

#[derive(Deserialize)]
struct Captions {
    references: Vec<Vec<String>>,
    captions: Vec<String>,
}

#[derive(Deserialize)]
struct Pairs {
    x: Vec<f64>,
    y: Vec<f64>,
}

fn main() -> Result<()> {
    // `cargo bench` adds --bench.
    let words: Vec<String> = env::args().filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    match words[..] {
        ["cider", file] => cider(&read(file)?),
        ["tau", file] => tau(&read(file)?),
        _ => {
            println!("run benches/metrics, which calls this");
            Ok(())
        }
    }
}

fn read<T: DeserializeOwned>(file: &str) -> Result<T> {
    let reader = BufReader::new(File::open(file).with_context(|| file.to_owned())?);
    Ok(serde_json::from_reader(reader)?)
}

fn cider(data: &Captions) -> Result<()> {
    ensure!(
        data.references.len() == data.captions.len(),
        "as many captions as images"
    );
    let (value, times) = times(|| {
        let scorer = CiderD::from_captions(&data.references);
        let scores = tokenize_all(&data.captions)
            .iter()
            .enumerate()
            .map(|(image, tokens)| scorer.score(image, tokens))
            .sum::<Option<f64>>();
        Ok(scores.context("an image without a reference")? / data.captions.len() as f64)
    })?;
    println!("{}", serde_json::json!({"value": value, "times": times}));
    Ok(())
}

fn tau(data: &Pairs) -> Result<()> {
    let (value, times) = times(|| {
        let tau = kendall(&data.x, &data.y).context("constant values")?;
        Ok([tau.b, tau.c])
    })?;
    println!("{}", serde_json::json!({"value": value, "times": times}));
    Ok(())
}

/// A result, and the milliseconds of the first run and of the quickest of the others: on the clock and
/// of processor time. The first one compiles the tokenizer's rules.
fn times<T>(work: impl Fn() -> Result<T>) -> Result<(T, serde_json::Value)> {
    let run = || -> Result<(T, f64, f64)> {
        let (start, before) = (Instant::now(), busy());
        let value = black_box(work()?);
        Ok((value, start.elapsed().as_secs_f64() * 1e3, busy() - before))
    };
    let (value, clock, processor) = run()?;
    let mut least = [f64::INFINITY; 2];
    for _ in 0..RUNS {
        let (_, clock, processor) = run()?;
        least = [least[0].min(clock), least[1].min(processor)];
    }
    let times = serde_json::json!({
        "first": {"clock": clock, "processor": processor},
        "least": {"clock": least[0], "processor": least[1]},
    });
    Ok((value, times))
}
