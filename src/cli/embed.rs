//! `captiond embed`: the towers' embeddings, for researchers and for the parity check.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::caption::open_pack;
use crate::{
    engine::tract::TractEngine,
    frame::{self, Limits},
    pack::replace,
    tensor_file::{NamedTensor, serialise},
};

/// Embeds pictures or captions with a pack's towers into a safetensors file.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// Pictures to embed: tensor "images", one row of length one for each, in this order.
    #[arg(value_name = "FILE", required_unless_present = "captions")]
    images: Vec<PathBuf>,
    /// Captions to embed, one a line: tensor "captions".
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,
    /// Also write the image tower's input: tensor "pixels" [pictures, 3, height, width].
    #[arg(long)]
    pixels: bool,
    /// Where to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Model pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
}

/// Embeds.
///
/// # Errors
/// Names the file that can't be used.
pub fn run(args: &EmbedArgs) -> Result<ExitCode> {
    let pack = open_pack(args.pack.as_deref())?;
    let mut tensors = Vec::new();
    if !args.images.is_empty() {
        let mut tower = pack.image_tower(&TractEngine)?;
        let (mut rows, mut pixels) = (Vec::new(), Vec::new());
        for path in &args.images {
            let name = || path.display().to_string();
            let bytes = fs::read(path).with_context(name)?;
            let picture = frame::decode(&bytes, Limits::default()).with_context(name)?;
            let tensor = tower.preprocess(&picture).with_context(name)?;
            if args.pixels {
                pixels.extend_from_slice(tensor);
            }
            rows.extend(tower.embed_preprocessed().with_context(name)?);
        }
        let count = args.images.len();
        tensors.push(NamedTensor::f32(
            "images",
            &[count, tower.dimension()],
            &rows,
        ));
        if args.pixels {
            let [height, width] = pack.manifest.image_tower.size;
            tensors.push(NamedTensor::f32(
                "pixels",
                &[count, 3, height, width],
                &pixels,
            ));
        }
    }
    if let Some(path) = &args.captions {
        let mut tower = pack.text_tower(&TractEngine)?;
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let captions: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        if captions.is_empty() {
            bail!("{}: no caption in it, expected one a line", path.display());
        }
        let mut rows = Vec::new();
        for caption in &captions {
            rows.extend(
                tower
                    .embed(caption)
                    .with_context(|| format!("caption {caption:?}"))?,
            );
        }
        tensors.push(NamedTensor::f32(
            "captions",
            &[captions.len(), tower.dimension()],
            &rows,
        ));
    }
    let metadata = [
        ("image_embedding", pack.image_embedding_identity()),
        ("text_embedding", pack.text_embedding_identity()),
    ];
    replace(&args.out, &serialise(&tensors, &metadata)?)?;
    Ok(ExitCode::SUCCESS)
}
