//! `captiond eval`: how good a pack is.

mod captions;
mod make_captions;
mod metrics;
mod retrieval;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::{caption::open_pack, embedder::EmbedderArgs};
use crate::{eval::bootstrap::Draws, pack::Pack, realignment::Realignment};

pub use captions::CaptionsArgs;
pub use metrics::MetricsArgs;
pub use retrieval::RetrievalArgs;

/// Measures a pack.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Recall of captions from images and of images from captions.
    Retrieval(RetrievalArgs),
    /// Agreement of caption metrics with human judgements (Flickr8k-Expert, Flickr8k-CF, THumB).
    Metrics(MetricsArgs),
    /// BLEU, ROUGE-L, CIDEr-D, and with images CLIP-S and its kin, of captions against references.
    Captions(CaptionsArgs),
}

/// What every measurement needs.
#[derive(Debug, Args)]
struct Common {
    /// The pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// A realignment file to measure instead of the pack's.
    #[arg(long, value_name = "FILE")]
    realignment: Option<PathBuf>,
    /// Folder of the images.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    #[command(flatten)]
    embedding: EmbedderArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Common {
    fn open(&self) -> Result<(Pack, Realignment)> {
        let pack = open_pack(self.pack.as_deref())?;
        let map = match self.given_map()? {
            Some(map) => map,
            None => pack.realignment()?,
        };
        Ok((pack, map))
    }

    /// The realignment that is named, else the map with which the pack scores captions, if it has one.
    fn map(&self, pack: &Pack) -> Result<Option<Realignment>> {
        match self.given_map()? {
            Some(map) => Ok(Some(map)),
            None => pack_map(pack),
        }
    }

    fn given_map(&self) -> Result<Option<Realignment>> {
        let Some(path) = &self.realignment else {
            return Ok(None);
        };
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let map = Realignment::from_bytes(&bytes).with_context(|| path.display().to_string())?;
        Ok(Some(map))
    }
}

/// The map with which a pack scores captions (its judge, else its realignment), if it has one.
fn pack_map(pack: &Pack) -> Result<Option<Realignment>> {
    let named = pack.manifest.judge.is_some() || pack.manifest.realignment.is_some();
    Ok(named.then(|| pack.judge()).transpose()?)
}

/// The bootstrap of images that intervals come from.
#[derive(Debug, Args)]
struct DrawArgs {
    /// Draws of the bootstrap; 0 leaves it out.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    draws: usize,
    /// Seed of the bootstrap.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

impl DrawArgs {
    fn draws(&self) -> Draws {
        Draws {
            count: self.draws,
            seed: self.seed,
        }
    }
}

/// w of CLIP-S: what was given, else the pack's.
fn clip_s_weight(given: Option<f64>, pack: &Pack) -> f64 {
    given.unwrap_or(f64::from(pack.manifest.caption.clip_s_weight))
}

/// A weight on the command line.
fn weight(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(weight) if weight.is_finite() && weight > 0.0 => Ok(weight),
        _ => Err("expected a number above 0".to_owned()),
    }
}

/// Runs a measurement.
///
/// # Errors
/// Names the file that is wrong.
pub fn run(command: &EvalCommand) -> Result<ExitCode> {
    match command {
        EvalCommand::Retrieval(args) => retrieval::run(args),
        EvalCommand::Metrics(args) => metrics::run(args),
        EvalCommand::Captions(args) => captions::run(args),
    }
}
