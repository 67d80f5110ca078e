//! Times `CentredRows` on rows and queries from a file, as one line of JSON.
//!
//! Called by `benches/search`, which makes the file, measures others in the same run and prints a
//! table. Two processes, so that the second one's memory is that of the search alone:
//!
//! - `build FILE`: makes FILE.datastore of FILE's `rows` f32 [n, d];
//! - `time FILE DATASTORE`: searches it for FILE's `queries` f32 [q, d], centred on its `mean` f32 [d].
//!
//! Rows and queries have length one; all files are safetensors.

#[path = "support/processor.rs"]
mod processor;

use std::{env, fs, hint::black_box, path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use captiond::{
    datastore::{Builder, CentredRows, Datastore, FileBytes},
    pack,
    tensor_file::TensorFile,
};

use processor::busy;

/// Neighbours that are looked for.
const COUNT: usize = 13;

/// Queries that are looked up together.
const TOGETHER: usize = 32;

fn main() -> Result<()> {
    // `cargo bench` adds --bench.
    let words: Vec<String> = env::args().filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    match words[..] {
        ["build", file] => build(file),
        ["time", file, datastore] => time(file, Path::new(datastore)),
        _ => {
            println!("run benches/search, which calls this");
            Ok(())
        }
    }
}

fn build(file: &str) -> Result<()> {
    let (rows, dimension) = read(file, "rows")?;
    let mut builder = Builder::new(dimension, "bench");
    for (number, row) in rows.chunks_exact(dimension).enumerate() {
        builder.push(&format!("caption {number}"), row)?;
    }
    let path = format!("{file}.datastore");
    pack::replace(Path::new(&path), builder.finish()?.bytes())
}

fn time(file: &str, datastore: &Path) -> Result<()> {
    let (queries, dimension) = read(file, "queries")?;
    let (mean, _) = read(file, "mean")?;
    let queries: Vec<&[f32]> = queries.chunks_exact(dimension).collect();
    ensure!(queries.len() >= TOGETHER, "fewer than {TOGETHER} queries");

    let (private, mapped) = (resident("RssAnon:")?, resident("RssFile:")?);
    let start = Instant::now();
    let store = Datastore::from_file(FileBytes::map(datastore)?)?;
    let search = CentredRows::new(store, &mean);
    let open = start.elapsed().as_secs_f64() * 1e3;
    let private = resident("RssAnon:")? - private;
    let mapped = resident("RssFile:")? - mapped;

    let found = search.nearest_many(&queries, COUNT);
    let single = mean_cpu(queries.iter(), |query| {
        black_box(search.nearest(query, COUNT));
    })?;
    let blocked = mean_cpu(queries.chunks_exact(TOGETHER), |block| {
        black_box(search.nearest_many(block, COUNT));
    })? / TOGETHER as f64;
    let rows: Vec<Vec<usize>> = found
        .iter()
        .map(|hits| hits.iter().map(|hit| hit.row).collect())
        .collect();
    println!(
        "{}",
        serde_json::json!({
            "rows": search.store().len(), "open_ms": open, "single_ms": single, "blocked_ms": blocked,
            "private_kb": private, "mapped_kb": mapped, "found": rows,
        })
    );
    Ok(())
}

/// A tensor, and the length of its last axis.
fn read(file: &str, name: &'static str) -> Result<(Vec<f32>, usize)> {
    let bytes = fs::read(file).with_context(|| file.to_owned())?;
    let tensors = TensorFile::parse(&bytes)?;
    let rank = if name == "mean" { 1 } else { 2 };
    let (shape, values) = tensors.f32(name, rank)?;
    Ok((values, shape[rank - 1]))
}

/// Mean of the milliseconds that `work` keeps the processor busy.
fn mean_cpu<T>(items: impl Iterator<Item = T> + Clone, work: impl Fn(T)) -> Result<f64> {
    let (start, before) = (Instant::now(), busy());
    let mut count = 0;
    for item in items.cycle() {
        work(item);
        count += 1;
        if count >= 5 && start.elapsed().as_secs_f64() > 1.0 && busy() - before > 200.0 {
            break;
        }
    }
    Ok((busy() - before) / f64::from(count))
}

/// Kilobytes of this process's resident memory of one kind.
fn resident(kind: &str) -> Result<i64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(kind));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .context("no such line in /proc/self/status")?
        .parse()?)
}
