//! Options of how images and captions are embedded, for every command that does.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use anyhow::Result;
use clap::Args;

use super::fit::{cache_folder, thread_count};
use crate::{fit::embed::Embedder, pack::Pack};

/// How images and captions are embedded.
#[derive(Debug, Args)]
pub struct EmbedderArgs {
    /// Folder of cached embeddings. Default: $XDG_CACHE_HOME/captiond, else ~/.cache/captiond.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Threads. Default: all cores.
    #[arg(long, value_name = "NUMBER")]
    pub threads: Option<usize>,
}

impl EmbedderArgs {
    /// An embedder for a pack. Images that are missing or damaged end the run, unless `skip_bad`.
    ///
    /// # Errors
    /// When there is no folder for the cache.
    pub fn embedder<'a>(&self, pack: &'a Pack, skip_bad: bool) -> Result<Embedder<'a>> {
        Ok(Embedder {
            pack,
            cache: cache_folder(self.cache.as_deref())?,
            threads: thread_count(self.threads),
            skip_bad,
            progress: io::stderr().is_terminal(),
        })
    }
}
