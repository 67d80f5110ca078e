//! The command line: `captiond caption`, `captiond run`, and the workstation's tools.
#![forbid(unsafe_code)]

use std::{path::Path, process::ExitCode};

use captiond::{
    captioner::{Captioner, Describe},
    cli,
    engine::tract::TractEngine,
};
use clap::{Parser, Subcommand};

/// Captions what a camera sees, on the device, and says how sure it is.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Caption picture files.
    Caption(cli::caption::CaptionArgs),
    /// Caption the frames of a camera and publish them, until told to stop.
    Run(cli::run::RunArgs),
    /// Try everything that the daemon needs, and say what to do about what is wrong.
    Check(cli::check::CheckArgs),
    /// Fit a pack's realignment on image-caption pairs.
    Fit(cli::fit::FitArgs),
    /// Fit a pack's confidence on people's votes.
    Calibrate(cli::calibrate::CalibrateArgs),
    /// Make a pack's datastore.
    #[command(subcommand)]
    Datastore(cli::datastore::DatastoreCommand),
    /// Make, fetch, try and compare model packs.
    #[command(subcommand)]
    Pack(cli::pack::PackCommand),
    /// Write the towers' embeddings of pictures and captions to a file.
    Embed(cli::embed::EmbedArgs),
    #[cfg(feature = "camera")]
    #[command(hide = true)]
    CameraHelper(captiond::source::video::helper::HelperArgs),
    /// Measure a pack.
    #[command(subcommand)]
    Eval(cli::eval::EvalCommand),
}

/// The daemon with the real chain; its log goes to standard error, where journald picks it up.
fn run_daemon(args: &cli::run::RunArgs) -> anyhow::Result<ExitCode> {
    cli::logging::init();
    cli::run::run(args, |folder, thresholds| {
        let mut captioner = load(folder)?;
        captioner.set_thresholds(thresholds);
        captioner.gate(true);
        if let Some(warning) = captioner.warning() {
            tracing::warn!("{warning}");
        }
        Ok(Box::new(captioner) as Box<dyn Describe>)
    })
}

/// The real chain.
fn load(folder: Option<&Path>) -> anyhow::Result<Captioner> {
    let pack = cli::caption::open_pack(folder)?;
    Ok(Captioner::load(&pack, &TractEngine)?)
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Caption(args) => cli::caption::run(&args),
        Command::Run(args) => run_daemon(&args),
        Command::Check(args) => {
            // Without the gate: the test picture is to go through the whole chain.
            cli::check::run(&args, |folder| {
                Ok(Box::new(load(folder)?) as Box<dyn Describe>)
            })
        }
        Command::Fit(args) => cli::fit::run(&args),
        Command::Calibrate(args) => cli::calibrate::run(&args),
        Command::Datastore(command) => cli::datastore::run(&command),
        Command::Pack(command) => cli::pack::run(&command),
        Command::Embed(args) => cli::embed::run(&args),
        #[cfg(feature = "camera")]
        Command::CameraHelper(args) => {
            captiond::source::video::helper::run(&args).map_err(anyhow::Error::from)
        }
        Command::Eval(command) => cli::eval::run(&command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("captiond: {error:#}");
        ExitCode::from(2)
    })
}
