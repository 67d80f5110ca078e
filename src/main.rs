//! The command line: `captiond caption`, `captiond run`, and the workstation's tools.
#![forbid(unsafe_code)]

use std::{io::IsTerminal as _, process::ExitCode};

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
    /// Fit a pack's realignment on image-caption pairs.
    Fit(cli::fit::FitArgs),
    /// Fit a pack's confidence on people's votes.
    Calibrate(cli::calibrate::CalibrateArgs),
    /// Make a pack's datastore.
    #[command(subcommand)]
    Datastore(cli::datastore::DatastoreCommand),
    /// Write the towers' embeddings of pictures and captions to a file.
    Embed(cli::embed::EmbedArgs),
    /// Measure a pack.
    #[command(subcommand)]
    Eval(cli::eval::EvalCommand),
}

/// The daemon with the real chain; its log goes to standard error, where journald picks it up.
fn run_daemon(args: &cli::run::RunArgs) -> anyhow::Result<ExitCode> {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .with_env_var("CAPTIOND_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    cli::run::run(args, |folder, thresholds| {
        let pack = cli::caption::open_pack(folder)?;
        let mut captioner = Captioner::load(&pack, &TractEngine)?;
        captioner.set_thresholds(thresholds);
        captioner.gate(true);
        if let Some(warning) = captioner.warning() {
            tracing::warn!("{warning}");
        }
        Ok(Box::new(captioner) as Box<dyn Describe>)
    })
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Caption(args) => cli::caption::run(&args),
        Command::Run(args) => run_daemon(&args),
        Command::Fit(args) => cli::fit::run(&args),
        Command::Calibrate(args) => cli::calibrate::run(&args),
        Command::Datastore(command) => cli::datastore::run(&command),
        Command::Embed(args) => cli::embed::run(&args),
        Command::Eval(command) => cli::eval::run(&command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("captiond: {error:#}");
        ExitCode::from(2)
    })
}
