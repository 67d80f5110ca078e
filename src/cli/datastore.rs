//! `captiond datastore build`: captions in, datastore out.

use std::{
    collections::HashSet,
    fs,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

use super::{
    caption::open_pack,
    fit::{cache_folder, thread_count},
};
use crate::{
    datastore::Datastore, engine::tract::TractEngine, fit::embed::Embedder, pack::FileRecord,
};

/// Where a datastore stands in a pack.
const FILE: &str = "datastore.safetensors";

/// Makes datastores.
#[derive(Debug, Subcommand)]
pub enum DatastoreCommand {
    /// Embeds the captions of a text file (one a line) and puts them into the pack.
    Build(BuildArgs),
}

/// What a datastore is built from.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Captions, UTF-8, one a line. Empty lines and repeated captions are left out.
    #[arg(value_name = "FILE")]
    captions: PathBuf,
    /// The pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// Where the captions come from, for the pack's provenance.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "captions of the pack's owner"
    )]
    provenance: String,
    /// SPDX licence of the captions.
    #[arg(long, value_name = "SPDX", default_value = "Apache-2.0")]
    licence: String,
    /// Folder of cached embeddings. Default: $XDG_CACHE_HOME/captiond, else ~/.cache/captiond.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Threads. Default: all cores.
    #[arg(long, value_name = "NUMBER")]
    threads: Option<usize>,
}

/// Runs a datastore command.
///
/// # Errors
/// Names the file that is wrong.
pub fn run(command: &DatastoreCommand) -> Result<ExitCode> {
    let DatastoreCommand::Build(args) = command;
    let text =
        fs::read_to_string(&args.captions).with_context(|| args.captions.display().to_string())?;
    let mut seen = HashSet::new();
    let captions: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|c| !c.is_empty() && seen.insert(*c))
        .map(str::to_owned)
        .collect();
    if captions.is_empty() {
        bail!(
            "{}: no caption in it, expected one a line",
            args.captions.display()
        );
    }
    let pack = open_pack(args.pack.as_deref())?;
    let embedder = Embedder {
        pack: &pack,
        cache: cache_folder(args.cache.as_deref())?,
        threads: thread_count(args.threads),
        skip_bad: false,
        progress: io::stderr().is_terminal(),
    };
    let embeddings = embedder.captions(&TractEngine, &captions)?;
    let rows = captions
        .iter()
        .map(String::as_str)
        .zip(embeddings.iter().map(Vec::as_slice));
    let store = Datastore::build(
        rows,
        pack.manifest.text_tower.dimension,
        &pack.text_embedding_identity(),
    )?;
    let record = FileRecord {
        section: "datastore",
        name: FILE,
        bytes: &store.to_bytes()?,
        licence: &args.licence,
        provenance: &args.provenance,
    };
    record.write(&pack.folder)?;
    eprintln!(
        "{}: {} captions",
        pack.folder.join(FILE).display(),
        store.len()
    );
    Ok(ExitCode::SUCCESS)
}
