//! `captiond eval`: how good a pack is.

mod captions;
mod make_captions;
mod metrics;
mod retrieval;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use super::{
    caption::open_pack,
    fit::{cache_folder, thread_count},
};
use crate::{fit::embed::Embedder, pack::Pack, realignment::Realignment};

pub use captions::CaptionsArgs;
pub use metrics::MetricsArgs;
pub use retrieval::RetrievalArgs;

/// Measures a pack.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Recall of captions from images and of images from captions.
    Retrieval(RetrievalArgs),
    /// Agreement of aCLIP-S with human judgements (Flickr8k-Expert, Flickr8k-CF).
    Metrics(MetricsArgs),
    /// BLEU, ROUGE-L and CIDEr-D of captions against references.
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
    /// Folder of cached embeddings. Default: $XDG_CACHE_HOME/captiond, else ~/.cache/captiond.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Threads. Default: all cores.
    #[arg(long, value_name = "NUMBER")]
    threads: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Common {
    fn open(&self) -> Result<(Pack, Realignment)> {
        let pack = open_pack(self.pack.as_deref())?;
        let map = match &self.realignment {
            Some(path) => {
                let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
                Realignment::from_bytes(&bytes).with_context(|| path.display().to_string())?
            }
            None => pack.realignment()?,
        };
        Ok((pack, map))
    }

    fn embedder<'a>(&self, pack: &'a Pack) -> Result<Embedder<'a>> {
        Ok(Embedder {
            pack,
            cache: cache_folder(self.cache.as_deref())?,
            threads: thread_count(self.threads),
            skip_bad: false,
            progress: io::stderr().is_terminal(),
        })
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
