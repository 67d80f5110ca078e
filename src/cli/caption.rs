//! `captiond caption FILE...`: one line a picture.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

use super::generation::GenerationArgs;
use crate::{
    caption::{
        Candidate,
        confidence::Features,
        wording::{Thresholds, Verdict},
    },
    captioner::{Captioner, Describe, Description, Neighbour, StageTimes},
    engine::tract::TractEngine,
    frame::FrameQuality,
    pack::{self, Pack},
    source::{Frame, Pixels},
};

/// Captions JPEG and PNG files.
#[derive(Debug, Args)]
pub struct CaptionArgs {
    /// Pictures to caption.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Model pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// One JSON object a line: file, caption (as the chain made it, also where it would be
    /// withheld), spoken (what a person would hear), verdict, reason, confidence, features (what it
    /// was reckoned from), alternatives, quality, neighbours, retrieved, candidates, ms.
    #[arg(long)]
    json: bool,
    /// A caption with a lower confidence is worded as a guess. Default: 0.7.
    #[arg(long, value_name = "PROBABILITY")]
    hedge_below: Option<f32>,
    /// A caption with a lower confidence is withheld. Default: 0.4.
    #[arg(long, value_name = "PROBABILITY")]
    withhold_below: Option<f32>,
    #[command(flatten)]
    generation: GenerationArgs,
}

#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    caption: &'a str,
    #[serde(flatten)]
    verdict: Verdict,
    spoken: &'a str,
    confidence: f32,
    confidence_calibrated: bool,
    features: Option<Features>,
    alternatives: &'a [Neighbour],
    quality: &'a FrameQuality,
    neighbours: &'a [Neighbour],
    retrieved: &'a Neighbour,
    candidates: &'a [Candidate],
    ms: StageTimes,
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    file: &'a str,
    error: &'a str,
}

/// Opens the named pack, or the default one.
///
/// # Errors
/// When there is none or it is damaged.
pub fn open_pack(named: Option<&Path>) -> Result<Pack> {
    let folder = match named {
        Some(folder) => folder.to_owned(),
        None => pack::default_pack()?,
    };
    Ok(Pack::open(&folder)?)
}

/// Captions every file, those too that are too bad for it: the verdict says so. A bad file is reported on standard error (with `--json` as an object with
/// `file` and `error` as well) and does not stop the others; the exit code is then 1.
///
/// # Errors
/// When the pack can't be used or standard output is closed.
pub fn run(args: &CaptionArgs) -> Result<ExitCode> {
    let thresholds = Thresholds::new(args.hedge_below, args.withhold_below).map_err(|error| {
        let option = error.key().replace('_', "-");
        anyhow::anyhow!("--{option}: {error}")
    })?;
    let mut pack = open_pack(args.pack.as_deref())?;
    let mut captioner = args.generation.load(&mut pack, &TractEngine)?;
    captioner.set_thresholds(thresholds);
    if let Some(warning) = captioner.warning() {
        eprintln!("captiond: {warning}");
    }
    let mut out = io::stdout().lock();
    let mut failed = 0;
    for path in &args.files {
        let name = path.display().to_string();
        match caption(&mut captioner, path, &name) {
            Ok(found) if args.json => {
                let line = Line {
                    file: &name,
                    caption: &found.caption,
                    verdict: found.verdict,
                    spoken: &found.spoken,
                    confidence: found.confidence,
                    confidence_calibrated: found.calibrated,
                    features: found.features,
                    alternatives: &found.alternatives,
                    quality: &found.quality,
                    neighbours: &found.neighbours,
                    retrieved: &found.retrieved,
                    candidates: &found.candidates,
                    ms: found.ms,
                };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            }
            Ok(found) => {
                let said = match found.verdict.reason() {
                    Some(reason) => format!("unsure ({})", reason.name()),
                    None => found.spoken,
                };
                writeln!(out, "{name}\t{:.2}\t{said}", found.confidence)?;
            }
            Err(error) => {
                failed += 1;
                let error = format!("{error:#}");
                eprintln!("captiond: {error}");
                if args.json {
                    writeln!(
                        out,
                        "{}",
                        serde_json::to_string(&ErrorLine {
                            file: &name,
                            error: &error
                        })?
                    )?;
                }
            }
        }
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn caption(captioner: &mut Captioner, path: &Path, name: &str) -> Result<Description> {
    let bytes = fs::read(path).with_context(|| name.to_owned())?;
    captioner.describe(&Frame {
        pixels: Pixels::Encoded(bytes),
        origin: name.to_owned(),
        taken: Default::default(),
    })
}
