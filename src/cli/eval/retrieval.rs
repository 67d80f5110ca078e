//! `captiond eval retrieval`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use super::Common;
use crate::{
    engine::tract::TractEngine,
    fit::{pairs, recall},
};

/// Arguments of `eval retrieval`.
#[derive(Debug, Args)]
pub struct RetrievalArgs {
    /// Image-caption pairs, as for `fit`.
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Split of a Karpathy JSON. Default: train.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &RetrievalArgs) -> Result<ExitCode> {
    let (pack, map) = args.common.open()?;
    let pairs = pairs::read(&args.pairs, args.split.as_deref())?;
    let folder = pairs::image_folder(args.common.images.as_deref(), &args.pairs);
    let (mut images, mut captions, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    args.common.embedding.embedder(&pack, false)?.run(
        &TractEngine,
        &folder,
        &pairs,
        |index, image, texts| {
            owners.extend(texts.iter().map(|_| index));
            images.push(map.realign(&image));
            captions.extend(texts.iter().map(|text| map.centre_text(text)));
            Ok(())
        },
    )?;
    let found = recall::recall(&images, &captions, &owners);
    if args.common.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        println!("{} images, {} captions", images.len(), captions.len());
        println!(
            "image -> text R@1/5/10: {:.3} {:.3} {:.3}",
            found.image_to_text[0], found.image_to_text[1], found.image_to_text[2]
        );
        println!(
            "text -> image R@1/5/10: {:.3} {:.3} {:.3}",
            found.text_to_image[0], found.text_to_image[1], found.text_to_image[2]
        );
    }
    Ok(ExitCode::SUCCESS)
}
