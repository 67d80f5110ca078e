//! `captiond pack`: makes, fetches, tries and compares model packs.

mod build;
mod diff;
mod info;
mod likeness;
mod pull;
mod sizes;
mod towers;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// Makes, fetches, tries and compares model packs.
#[derive(Debug, Subcommand)]
pub enum PackCommand {
    /// Make a whole pack of towers, captions and image-caption pairs: fit, datastore, calibration.
    Build(Box<build::BuildArgs>),
    /// Say what is in a pack.
    Info(info::InfoArgs),
    /// Try all of a pack: every file, every part, and a picture through the chain.
    Verify(verify::VerifyArgs),
    /// Fetch a pack over HTTPS, check it, and put it into its place.
    Pull(pull::PullArgs),
    /// Compare two packs: embeddings, sizes, speed and manifest.
    Diff(diff::DiffArgs),
}

/// Runs a pack command.
///
/// # Errors
/// Names the file and the field that is wrong, and the way out.
pub fn run(command: &PackCommand) -> Result<ExitCode> {
    match command {
        PackCommand::Build(args) => build::run(args),
        PackCommand::Info(args) => info::run(args),
        PackCommand::Verify(args) => verify::run(args),
        PackCommand::Pull(args) => pull::run(args),
        PackCommand::Diff(args) => diff::run(args),
    }
}
