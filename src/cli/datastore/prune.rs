//! `captiond datastore prune`: fewer rows, those that matter.

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use super::{embeddings, file_name, text_mean, write};
use crate::{
    cli::caption::open_pack,
    cli::embedder::EmbedderArgs,
    datastore::{Builder, CentredRows, coverage},
    engine::tract::TractEngine,
    fit::pairs::{self, CaptionedImage},
    pack::Pack,
};

/// A row is used by an image when it is among so many nearest.
const NEIGHBOURS: usize = 13;

/// Images that are looked up together.
const TOGETHER: usize = 64;

/// What is left of a datastore.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Rows to keep.
    #[arg(long, value_name = "ROWS")]
    keep: NonZeroUsize,
    /// Keep the rows that are most often among the 13 nearest of these images; image-caption pairs
    /// as for `captiond fit` (training data, never what the pack is measured on). Rows of equal use,
    /// and all rows without --pairs, are chosen so that they lie as far apart as possible.
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Folder of the images. Default: "images" beside the pairs, else the pairs' folder.
    #[arg(long, value_name = "DIR", requires = "pairs")]
    images: Option<PathBuf>,
    /// Split of a Karpathy JSON. Default: train.
    #[arg(long, value_name = "NAME", requires = "pairs")]
    split: Option<String>,
    /// Leave out images that are missing or damaged.
    #[arg(long)]
    skip_bad: bool,
    /// The pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    #[command(flatten)]
    embed: EmbedderArgs,
}

pub(super) fn run(args: &PruneArgs) -> Result<ExitCode> {
    let pack = open_pack(args.pack.as_deref())?;
    let store = pack.datastore()?;
    let path = pack.folder.join(file_name(&pack));
    let (before, before_bytes) = (store.len(), store.bytes().len());
    if args.keep.get() >= before {
        eprintln!(
            "{}: {before} rows, no more than {}; nothing to prune",
            path.display(),
            args.keep
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mean = text_mean(&pack, || embeddings(&store))?;
    let rows = CentredRows::new(store, &mean);
    let used = match &args.pairs {
        Some(_) => count_use(args, &pack, &rows)?,
        None => vec![0; before],
    };
    let kept = coverage::choose(rows.centred_matrix().view(), &used, args.keep.get());
    let store = rows.store();
    let mut builder = Builder::new(store.dimension(), store.text_embedding());
    for &row in &kept {
        builder.copy(store, row)?;
    }
    let pruned = builder.finish()?;
    let (licence, provenance) = match pack.manifest.files.get(file_name(&pack)) {
        Some(entry) => (entry.licence.as_str(), entry.provenance.as_str()),
        None => ("NOASSERTION", "unknown"),
    };
    let criterion = match args.pairs {
        Some(_) => "use",
        None => "coverage",
    };
    let provenance = format!("{provenance}; pruned from {before} rows by {criterion}");
    write(&pack, &pruned, licence, &provenance)?;
    if args.pairs.is_some() {
        let all: u64 = used.iter().copied().map(u64::from).sum();
        let left: u64 = kept.iter().map(|&row| u64::from(used[row])).sum();
        eprintln!(
            "{} of {before} rows are used; the kept ones have {:.1} % of the use",
            used.iter().filter(|&&count| count > 0).count(),
            100.0 * left as f64 / all.max(1) as f64
        );
    }
    eprintln!(
        "{}: {before} rows before, {} after; {:.2} MB before, {:.2} MB after",
        path.display(),
        pruned.len(),
        before_bytes as f64 / 1e6,
        pruned.bytes().len() as f64 / 1e6
    );
    Ok(ExitCode::SUCCESS)
}

/// For each row, how many images have it among their nearest.
fn count_use(args: &PruneArgs, pack: &Pack, rows: &CentredRows) -> Result<Vec<u32>> {
    let mut used = vec![0u32; rows.store().len()];
    let Some(path) = args.pairs.as_deref() else {
        return Ok(used);
    };
    let realignment = pack.realignment()?;
    // Only the images are needed; without captions the text tower stays on disk.
    let images: Vec<CaptionedImage> = pairs::read(path, args.split.as_deref())?
        .into_iter()
        .map(|pair| CaptionedImage {
            captions: Vec::new(),
            ..pair
        })
        .collect();
    let folder = pairs::image_folder(args.images.as_deref(), path);
    let embedder = args.embed.embedder(pack, args.skip_bad)?;
    let mut queries = Vec::with_capacity(images.len());
    let skipped = embedder.run(&TractEngine, &folder, &images, |_, image, _| {
        queries.push(realignment.realign(&image));
        Ok(())
    })?;
    for reason in &skipped {
        eprintln!("captiond: left out: {reason}");
    }
    for queries in queries.chunks(TOGETHER) {
        for hit in rows.nearest_many(queries, NEIGHBOURS).iter().flatten() {
            used[hit.row] += 1;
        }
    }
    Ok(used)
}
