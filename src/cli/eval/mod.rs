//! `captiond eval`: how good a pack is.

mod captions;
mod make_captions;
mod metrics;
mod retrieval;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use super::{caption::open_pack, embedder::EmbedderArgs};
use crate::{
    eval::bootstrap::Draws,
    pack::{Pack, Views},
    realignment::Realignment,
};

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
    /// What of a picture is embedded. Default: what the realignment file was fitted with, else the pack's
    /// image_tower.views.
    #[arg(long, value_enum, value_name = "VIEWS")]
    views: Option<Views>,
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
    /// The pack, with the views that are measured, and the map that retrieves.
    fn open(&self) -> Result<(Pack, Realignment)> {
        let (pack, given) = self.open_given()?;
        let map = match given {
            Some(map) => map,
            None => pack.realignment()?,
        };
        Ok((pack, map))
    }

    /// The pack, with the views that are measured, and the realignment that is named, else the map with
    /// which the pack scores captions, if it has one.
    fn open_scoring(&self) -> Result<(Pack, Option<Realignment>)> {
        let (pack, given) = self.open_given()?;
        let map = match given {
            Some(map) => Some(map),
            None => pack_map(&pack)?,
        };
        Ok((pack, map))
    }

    /// The pack and the realignment that is named. A map means something only with the views that it was
    /// fitted on, so they are taken from its file.
    fn open_given(&self) -> Result<(Pack, Option<Realignment>)> {
        let mut pack = open_pack(self.pack.as_deref())?;
        let tower = &mut pack.manifest.image_tower;
        tower.views = self.views.unwrap_or(tower.views);
        let Some(path) = &self.realignment else {
            return Ok((pack, None));
        };
        let name = path.display().to_string();
        let bytes = std::fs::read(path).with_context(|| name.clone())?;
        let map = Realignment::from_bytes(&bytes).with_context(|| name.clone())?;
        let fitted = map.provenance.views;
        if let Some(views) = self.views
            && views != fitted
        {
            bail!(
                "--views {}: {name} was fitted with views {}; leave --views out, or fit with \
                 `captiond fit --views {}`",
                views.name(),
                fitted.name(),
                views.name()
            );
        }
        tower.views = fitted;
        pack.check_map(&name, &map)?;
        Ok((pack, Some(map)))
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
