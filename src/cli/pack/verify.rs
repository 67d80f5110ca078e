//! `captiond pack verify`: whether a pack is whole, right and able to caption.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::sizes;
use crate::{
    engine::tract::TractEngine,
    pack::{
        default_pack,
        verify::{Report, Weight, verify},
    },
};

/// Which pack to try.
///
/// The exit code is 1 if there is a problem; notes alone leave it at 0.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(value_name = "DIR")]
    pack: Option<PathBuf>,
    /// One JSON object: ok, pack, files, bytes, caption, caption_ms, and findings with weight, file,
    /// field, found, remedy.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    ok: bool,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let folder = match &args.pack {
        Some(folder) => folder.clone(),
        None => default_pack()?,
    };
    let report = verify(&folder, &TractEngine);
    let ok = report.is_good();
    if args.json {
        let line = Line {
            ok,
            report: &report,
        };
        println!("{}", serde_json::to_string(&line)?);
    } else {
        print(&report);
        match ok {
            true => println!("The pack is right."),
            false => println!("The pack is not right."),
        }
    }
    Ok(match ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The report, without a last word. Words before columns: it may be read by a screen reader.
pub(super) fn print(report: &Report) {
    if !report.pack.is_empty() {
        let size = sizes::bytes(report.bytes);
        println!("ok       {}: {} files, {size}", report.pack, report.files);
    }
    if let (Some(caption), Some(ms)) = (&report.caption, report.caption_ms) {
        println!("ok       self-test: the test picture gives {caption:?} in {ms:.0} ms");
    }
    for finding in &report.findings {
        let word = match finding.weight {
            Weight::Problem => "PROBLEM",
            Weight::Note => "note",
        };
        println!(
            "{word:<8} {}: {}: {}",
            finding.file, finding.field, finding.found
        );
        if !finding.remedy.is_empty() {
            println!("         to do: {}", finding.remedy);
        }
    }
}
