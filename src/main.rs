//! The command line: `captiond caption`, `captiond run`, and the workstation's tools.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use captiond::cli;
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
    /// Fit a pack's realignment on image-caption pairs.
    Fit(cli::fit::FitArgs),
    /// Make a pack's datastore.
    #[command(subcommand)]
    Datastore(cli::datastore::DatastoreCommand),
    /// Measure a pack.
    #[command(subcommand)]
    Eval(cli::eval::EvalCommand),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Caption(args) => cli::caption::run(&args),
        Command::Fit(args) => cli::fit::run(&args),
        Command::Datastore(command) => cli::datastore::run(&command),
        Command::Eval(command) => cli::eval::run(&command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("captiond: {error:#}");
        ExitCode::from(2)
    })
}
