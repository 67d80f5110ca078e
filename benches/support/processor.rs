//! Processor time. Not the time on the clock: on a machine that others use too, that measures the others.

use std::fs;

use anyhow::{Context as _, Result};

/// Milliseconds that this thread was on a processor.
pub fn busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().next();
    let nanoseconds: f64 = nanoseconds.context("an empty schedstat")?.parse()?;
    Ok(nanoseconds / 1e6)
}
