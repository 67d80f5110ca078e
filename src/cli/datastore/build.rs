//! `captiond datastore build` and `add`: captions in, datastore out.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, bail};
use clap::Args;

use super::{embeddings, file_name, text_mean, write};
use crate::{
    cli::caption::open_pack,
    cli::embedder::EmbedderArgs,
    datastore::{
        Builder, Datastore, corpus,
        filter::{self, Dropped, TextFilter},
    },
    engine::tract::TractEngine,
    pack::Pack,
};

/// Captions and what keeps some of them out.
#[derive(Debug, Args)]
struct CaptionArgs {
    /// Captions, UTF-8. A tab in the first line that is not empty makes it TSV: the last column is
    /// the caption. Else one caption a line. COCO caption JSON and Karpathy JSON fit too. Empty
    /// captions and those that differ only in case, punctuation or white space are left out.
    #[arg(value_name = "FILE")]
    captions: PathBuf,
    /// The pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// Leave out captions that stand in this file, up to case, punctuation and white space: data
    /// that the pack is measured on. Text, TSV, COCO caption JSON or Flickr8k.token.txt. Repeatable.
    #[arg(long, value_name = "FILE")]
    not_in: Vec<PathBuf>,
    /// Leave out captions whose centred embedding has a higher cosine than this to an earlier one.
    #[arg(long, value_name = "COSINE")]
    near_duplicate: Option<f32>,
    #[command(flatten)]
    embed: EmbedderArgs,
}

/// What a datastore is built from.
#[derive(Debug, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    captions: CaptionArgs,
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
}

/// What is appended to a datastore.
#[derive(Debug, Args)]
pub struct AddArgs {
    #[command(flatten)]
    captions: CaptionArgs,
    /// Where the captions come from; joined with what the pack says already.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "captions of the pack's owner"
    )]
    provenance: String,
    /// SPDX licence of the captions; joined with what the pack says already.
    #[arg(long, value_name = "SPDX", default_value = "Apache-2.0")]
    licence: String,
}

/// Captions that passed all filters, with their embeddings.
struct Chosen {
    captions: Vec<String>,
    embeddings: Vec<Vec<f32>>,
    dropped: Dropped,
}

pub(super) fn build(args: &BuildArgs) -> Result<ExitCode> {
    let file = &args.captions.captions;
    let captions = read(file)?;
    check(&args.captions)?;
    let pack = open_pack(args.captions.pack.as_deref())?;
    let chosen = choose(&args.captions, &pack, captions, None)?;
    if chosen.captions.is_empty() {
        bail!(
            "{}: no caption is left to build from ({}); loosen the filters or give other captions",
            file.display(),
            chosen.dropped
        );
    }
    let mut builder = Builder::new(
        pack.manifest.text_tower.dimension,
        &pack.text_embedding_identity(),
    );
    for (caption, embedding) in chosen.captions.iter().zip(&chosen.embeddings) {
        builder.push(caption, embedding)?;
    }
    let store = builder.finish()?;
    write(&pack, &store, &args.licence, &args.provenance)?;
    report(&pack, &store, store.len(), chosen.dropped);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn add(args: &AddArgs) -> Result<ExitCode> {
    let captions = read(&args.captions.captions)?;
    check(&args.captions)?;
    let pack = open_pack(args.captions.pack.as_deref())?;
    // Also checks that the same text tower made it.
    let old = pack.datastore()?;
    let chosen = choose(&args.captions, &pack, captions, Some(&old))?;
    if chosen.captions.is_empty() {
        report(&pack, &old, 0, chosen.dropped);
        return Ok(ExitCode::SUCCESS);
    }
    let mut builder = Builder::new(old.dimension(), old.text_embedding());
    for row in 0..old.len() {
        builder.copy(&old, row)?;
    }
    for (caption, embedding) in chosen.captions.iter().zip(&chosen.embeddings) {
        builder.push(caption, embedding)?;
    }
    let store = builder.finish()?;
    let (mut licence, mut provenance) = (args.licence.clone(), args.provenance.clone());
    if let Some(entry) = pack.manifest.files.get(file_name(&pack)) {
        licence = join_licences(&entry.licence, &licence);
        provenance = join_provenance(&entry.provenance, &provenance);
    }
    write(&pack, &store, &licence, &provenance)?;
    report(&pack, &store, store.len() - old.len(), chosen.dropped);
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Vec<String>> {
    let captions = corpus::read(file)?;
    if captions.is_empty() {
        bail!(
            "{}: no caption in it, expected one a line, or TSV with the caption in the last column",
            file.display()
        );
    }
    Ok(captions)
}

fn check(args: &CaptionArgs) -> Result<()> {
    match args.near_duplicate {
        Some(cosine) if !(cosine > 0.0 && cosine <= 1.0) => {
            bail!("--near-duplicate: found {cosine}, expected a cosine above 0 and at most 1")
        }
        _ => Ok(()),
    }
}

/// Filters by text, embeds what is left, filters by embedding.
fn choose(
    args: &CaptionArgs,
    pack: &Pack,
    captions: Vec<String>,
    old: Option<&Datastore>,
) -> Result<Chosen> {
    let mut dropped = Dropped::default();
    let mut filter = TextFilter::new();
    for file in &args.not_in {
        filter.keep_out(read(file)?.iter().map(String::as_str));
    }
    if let Some(old) = old {
        filter.already_there(old.captions());
    }
    let captions = filter.pass(captions, &mut dropped);
    if captions.is_empty() {
        return Ok(Chosen {
            captions,
            embeddings: Vec::new(),
            dropped,
        });
    }
    let embedder = args.embed.embedder(pack, false)?;
    let found = embedder.captions(&TractEngine, &captions)?;
    let Some(limit) = args.near_duplicate else {
        return Ok(Chosen {
            captions,
            embeddings: found,
            dropped,
        });
    };
    let old = old.map(embeddings).unwrap_or_default();
    let mean = text_mean(pack, || old.iter().chain(&found).collect())?;
    let keep = filter::distinct(
        filter::centred(&old, &mean).view(),
        filter::centred(&found, &mean).view(),
        limit,
    );
    dropped.near_duplicates = keep.iter().filter(|keep| !**keep).count();
    let (captions, embeddings) = captions
        .into_iter()
        .zip(found)
        .zip(keep)
        .filter_map(|(row, keep)| keep.then_some(row))
        .unzip();
    Ok(Chosen {
        captions,
        embeddings,
        dropped,
    })
}

fn report(pack: &Pack, store: &Datastore, added: usize, dropped: Dropped) {
    eprintln!(
        "{}: {} captions, {added} of them new; {dropped}",
        pack.folder.join(file_name(pack)).display(),
        store.len()
    );
}

/// SPDX: all of the datastore may be used under both together.
pub(super) fn join_licences(old: &str, new: &str) -> String {
    let grouped = |licence: &str| match licence.contains(" OR ") {
        true => format!("({licence})"),
        false => licence.to_owned(),
    };
    let known = old
        .split(" AND ")
        .any(|part| part == new || part == grouped(new));
    match known || old == new {
        true => old.to_owned(),
        false => format!("{} AND {}", grouped(old), grouped(new)),
    }
}

pub(super) fn join_provenance(old: &str, new: &str) -> String {
    match old.split("; ").any(|part| part == new) {
        true => old.to_owned(),
        false => format!("{old}; {new}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_and_provenance_are_joined_once() {
        let join = join_licences;
        assert_eq!(join("Apache-2.0", "Apache-2.0"), "Apache-2.0");
        let both = join("Apache-2.0", "CC-BY-4.0");
        assert_eq!(both, "Apache-2.0 AND CC-BY-4.0");
        assert_eq!(join(&both, "CC-BY-4.0"), both);
        let either = join("MIT OR Apache-2.0", "CC0-1.0");
        assert_eq!(either, "(MIT OR Apache-2.0) AND CC0-1.0");
        assert_eq!(join(&either, "MIT OR Apache-2.0"), either);
        assert_eq!(
            join_provenance("a grammar", "my words"),
            "a grammar; my words"
        );
        assert_eq!(
            join_provenance("a grammar; my words", "my words"),
            "a grammar; my words"
        );
    }
}
