//! `captiond datastore`: makes, changes and looks into a pack's datastore.

mod augment;
mod build;
mod info;
mod prune;
mod search;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

pub use build::BuildArgs;

use crate::{
    datastore::{Datastore, filter},
    pack::{FileRecord, Pack},
};

/// Where a datastore stands in a pack that names none yet.
const FILE: &str = "datastore.safetensors";

/// Makes, changes and looks into datastores.
#[derive(Debug, Subcommand)]
pub enum DatastoreCommand {
    /// Embed the captions of a file and put them into the pack in place of its datastore.
    Build(build::BuildArgs),
    /// Embed the captions of a file and append those that the pack's datastore has not yet.
    Add(build::AddArgs),
    /// Let the pack caption training pictures and append what is good and new, as long as dev gains.
    Augment(augment::AugmentArgs),
    /// Shrink the pack's datastore to the rows that are used, or that cover it best.
    Prune(prune::PruneArgs),
    /// Say what is in the pack's datastore.
    Info(info::InfoArgs),
    /// Find the captions that are nearest to a text.
    Search(search::SearchArgs),
}

/// Runs a datastore command.
///
/// # Errors
/// Names the file and the field that is wrong, and the way out; the pack is then as it was.
pub fn run(command: &DatastoreCommand) -> Result<ExitCode> {
    match command {
        DatastoreCommand::Build(args) => build::build(args),
        DatastoreCommand::Add(args) => build::add(args),
        DatastoreCommand::Augment(args) => augment::run(args),
        DatastoreCommand::Prune(args) => prune::run(args),
        DatastoreCommand::Info(args) => info::run(args),
        DatastoreCommand::Search(args) => search::run(args),
    }
}

/// The file that holds the pack's datastore, or will.
fn file_name(pack: &Pack) -> &str {
    let part = pack.manifest.datastore.as_ref();
    part.map_or(FILE, |part| &part.file)
}

/// The mean that captions are centred on: that of the realignment, as when captioning; a pack that
/// was not fitted yet has only its captions' own.
fn text_mean<E: AsRef<[f32]>>(
    pack: &Pack,
    embeddings: impl FnOnce() -> Vec<E>,
) -> Result<Vec<f32>> {
    if pack.manifest.realignment.is_some() {
        return Ok(pack.realignment()?.mean_text().to_vec());
    }
    let dimension = pack.manifest.text_tower.dimension;
    Ok(filter::mean(&embeddings(), dimension))
}

/// The embeddings of all rows, not centred.
fn embeddings(store: &Datastore) -> Vec<Vec<f32>> {
    (0..store.len()).map(|row| store.embedding(row)).collect()
}

/// Puts a datastore into the pack, with its entry.
fn write(pack: &Pack, store: &Datastore, licence: &str, provenance: &str) -> Result<()> {
    let record = FileRecord {
        section: "datastore",
        name: file_name(pack),
        bytes: store.bytes(),
        licence,
        provenance,
    };
    record.write(&pack.folder)
}
