//! `captiond datastore search`: the captions that are nearest to a text.

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use super::{embeddings, text_mean};
use crate::{
    captioner::Neighbour,
    cli::caption::open_pack,
    datastore::{CentredRows, filter},
    engine::tract::TractEngine,
};

/// What to look for.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// The text.
    #[arg(value_name = "TEXT")]
    text: String,
    /// How many captions.
    #[arg(short = 'k', long, value_name = "NUMBER", default_value = "13")]
    count: NonZeroUsize,
    /// The pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// One JSON object: text, neighbours (caption, score).
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found<'a> {
    text: &'a str,
    neighbours: Vec<Neighbour>,
}

pub(super) fn run(args: &SearchArgs) -> Result<ExitCode> {
    if args.text.trim().is_empty() {
        bail!("TEXT: found nothing, expected words to look for");
    }
    let pack = open_pack(args.pack.as_deref())?;
    let store = pack.datastore()?;
    let mean = text_mean(&pack, || embeddings(&store))?;
    let embedding = pack
        .text_tower(&TractEngine)?
        .embed(&args.text)
        .with_context(|| format!("text {:?}", args.text))?;
    let query = filter::centred(&[embedding], &mean)
        .into_raw_vec_and_offset()
        .0;
    let rows = CentredRows::new(store, &mean);
    let neighbours: Vec<Neighbour> = rows
        .nearest(&query, args.count.get())
        .iter()
        .map(|hit| Neighbour {
            caption: rows.store().caption(hit.row).to_owned(),
            score: hit.score,
        })
        .collect();
    if args.json {
        let found = Found {
            text: &args.text,
            neighbours,
        };
        println!("{}", serde_json::to_string(&found)?);
    } else {
        for neighbour in &neighbours {
            println!("{:.3}\t{}", neighbour.score, neighbour.caption);
        }
    }
    Ok(ExitCode::SUCCESS)
}
