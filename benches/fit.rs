//! Times a fit from cached embeddings, as one line of JSON. Called by `benches/fit`, which makes the caches,
//! measures numpy in the same run and prints a table.
//!
//! `fit FOLDER PAIRS DIMENSION`: reads pair after pair from the caches "image" and "text" of FOLDER, as
//! `captiond fit` does, adds them up, solves for ridge with lambda 0.1 and writes FOLDER/w.f64.

use std::{
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use captiond::{
    fit::{
        cache::{EmbeddingCache, Key},
        gram::GramSums,
        solve::{MapChoice, solve},
    },
    realignment::MapKind,
};
use rustix::time::{ClockId, clock_gettime};

fn main() -> Result<()> {
    // `cargo bench` adds --bench.
    let words: Vec<String> = env::args().filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    match words[..] {
        [folder, pairs, dimension] => fit(Path::new(folder), pairs.parse()?, dimension.parse()?),
        _ => {
            println!("run benches/fit, which calls this");
            Ok(())
        }
    }
}

fn fit(folder: &Path, pairs: u64, dimension: usize) -> Result<()> {
    let mut laps = Laps::start();
    let mut images = EmbeddingCache::open(folder, "image", dimension)?;
    let mut texts = EmbeddingCache::open(folder, "text", dimension)?;
    let open = laps.lap();
    let resident = memory("VmRSS:")?;
    let mut sums = GramSums::new(dimension, dimension, "image", "text");
    for number in 0..pairs {
        let key = key(number);
        let image = images.get(&key)?.context("an image is missing")?;
        let text = texts.get(&key)?.context("a text is missing")?;
        sums.add(&image, &[&text])?;
    }
    let add = laps.lap();
    let w = solve(&sums, MapChoice::new(MapKind::Ridge, 0.1, 0.0))?;
    let solve = laps.lap();
    let bytes: Vec<u8> = w.iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(folder.join("w.f64"), bytes)?;
    println!(
        "{}",
        serde_json::json!({
            "pairs": pairs, "open": open, "add": add, "solve": solve,
            "resident_after_open_kb": resident, "peak_kb": memory("VmHWM:")?,
        })
    );
    Ok(())
}

/// The caches' keys are numbers here.
fn key(number: u64) -> Key {
    let mut key = [0; 32];
    // Not zero at the end: numpy would drop that.
    key[..8].copy_from_slice(&number.to_le_bytes());
    key[31] = 1;
    key
}

/// Seconds on the clock, and on processors by all threads, since the last lap.
struct Laps {
    clock: Instant,
    busy: Duration,
}

impl Laps {
    fn start() -> Self {
        Self {
            clock: Instant::now(),
            busy: busy(),
        }
    }

    fn lap(&mut self) -> serde_json::Value {
        let (clock, busy) = (Instant::now(), busy());
        let lap = serde_json::json!({
            "clock": (clock - self.clock).as_secs_f64(), "busy": (busy - self.busy).as_secs_f64(),
        });
        *self = Self { clock, busy };
        lap
    }
}

fn busy() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Kilobytes of this process's memory of one kind.
fn memory(kind: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(kind));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .context("no such line in /proc/self/status")?
        .parse()?)
}
