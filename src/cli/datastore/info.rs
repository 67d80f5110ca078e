//! `captiond datastore info`: what is in a pack's datastore.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

use super::{embeddings, file_name, text_mean};
use crate::{
    cli::caption::open_pack,
    datastore::{CentredRows, Datastore, FileBytes},
    pack::{Pack, PackError},
};

/// Rows whose nearest neighbour is looked up.
const SAMPLE: usize = 1000;

/// Percentiles that are reported.
const PERCENTILES: [u8; 6] = [5, 25, 50, 75, 95, 99];

/// What to say of a datastore.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Info<'a> {
    file: String,
    rows: usize,
    dimension: usize,
    bytes: usize,
    mean_caption_words: f64,
    mean_caption_characters: f64,
    /// Centred cosine to the nearest other row, of a sample; `null` when it can't be computed.
    nearest_cosine: Option<NearestCosine>,
    text_embedding: &'a str,
    pack_text_embedding: String,
    fits_pack: bool,
    licence: &'a str,
    provenance: &'a str,
}

#[derive(Serialize)]
struct NearestCosine {
    sample: usize,
    percentiles: Vec<Percentile>,
}

#[derive(Serialize)]
struct Percentile {
    percent: u8,
    cosine: f32,
}

pub(super) fn run(args: &InfoArgs) -> Result<ExitCode> {
    let pack = open_pack(args.pack.as_deref())?;
    if pack.manifest.datastore.is_none() {
        // The same words as every other command has for it.
        pack.datastore()?;
    }
    let path = pack.folder.join(file_name(&pack));
    let name = path.display().to_string();
    // Not through the pack: a datastore of another text tower is refused there, and looked at here.
    let file = FileBytes::map(&path).with_context(|| name.clone())?;
    let store = Datastore::from_file(file).with_context(|| {
        format!("{name}: build it again with `captiond datastore build`, or copy the pack again")
    })?;
    let count = store.len().max(1) as f64;
    let words: usize = store.captions().map(|c| c.split_whitespace().count()).sum();
    let characters: usize = store.captions().map(|c| c.chars().count()).sum();
    let (rows, dimension, bytes) = (store.len(), store.dimension(), store.bytes().len());
    let text_embedding = store.text_embedding().to_owned();
    let pack_text_embedding = pack.text_embedding_identity();
    let fits_pack =
        text_embedding == pack_text_embedding && dimension == pack.manifest.text_tower.dimension;
    let nearest_cosine = match fits_pack {
        true => nearest_cosine(&pack, store)?,
        false => None,
    };
    let entry = pack.manifest.files.get(file_name(&pack));
    let info = Info {
        file: name,
        rows,
        dimension,
        bytes,
        mean_caption_words: words as f64 / count,
        mean_caption_characters: characters as f64 / count,
        nearest_cosine,
        text_embedding: &text_embedding,
        fits_pack,
        pack_text_embedding,
        licence: entry.map_or("", |entry| &entry.licence),
        provenance: entry.map_or("", |entry| &entry.provenance),
    };
    if args.json {
        println!("{}", serde_json::to_string(&info)?);
    } else {
        print(&info);
    }
    Ok(ExitCode::SUCCESS)
}

fn nearest_cosine(pack: &Pack, store: Datastore) -> Result<Option<NearestCosine>, anyhow::Error> {
    let mean = match text_mean(pack, || embeddings(&store)) {
        Ok(mean) => mean,
        // A realignment that does not fit has its own command; the rest is still worth saying.
        Err(error) if error.is::<PackError>() => {
            eprintln!("captiond: no neighbours: {error:#}");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let rows = CentredRows::new(store, &mean);
    let count = rows.store().len();
    if count < 2 {
        return Ok(None);
    }
    let sample: Vec<usize> = (0..count).step_by(count.div_ceil(SAMPLE)).collect();
    let queries: Vec<Vec<f32>> = sample.iter().map(|&row| rows.centred(row)).collect();
    let hits = rows.nearest_many(&queries, 2);
    let mut cosines: Vec<f32> = hits
        .iter()
        .zip(&sample)
        .filter_map(|(hits, &row)| hits.iter().find(|hit| hit.row != row))
        .map(|hit| hit.score)
        .collect();
    cosines.sort_by(f32::total_cmp);
    let at = |percent: u8| usize::from(percent) * cosines.len().saturating_sub(1) / 100;
    let percentiles = PERCENTILES
        .iter()
        .filter_map(|&percent| {
            let cosine = *cosines.get(at(percent))?;
            Some(Percentile { percent, cosine })
        })
        .collect();
    Ok(Some(NearestCosine {
        sample: sample.len(),
        percentiles,
    }))
}

fn print(info: &Info) {
    println!("file            {}", info.file);
    println!("rows            {} x {}", info.rows, info.dimension);
    println!("size            {:.2} MB", info.bytes as f64 / 1e6);
    println!(
        "mean caption    {:.1} words, {:.1} characters",
        info.mean_caption_words, info.mean_caption_characters
    );
    if let Some(nearest) = &info.nearest_cosine {
        let texts: Vec<String> = nearest
            .percentiles
            .iter()
            .map(|p| format!("{} %: {:.3}", p.percent, p.cosine))
            .collect();
        println!(
            "nearest cosine  {} ({} rows)",
            texts.join(", "),
            nearest.sample
        );
    }
    let fits = match info.fits_pack {
        true => "that of the pack".to_owned(),
        false => format!(
            "NOT that of the pack ({}): build it again with `captiond datastore build`",
            info.pack_text_embedding
        ),
    };
    println!("text embedding  {}, {fits}", info.text_embedding);
    println!("licence         {}", info.licence);
    println!("provenance      {}", info.provenance);
}
