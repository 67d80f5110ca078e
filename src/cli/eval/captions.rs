//! `captiond eval captions`: the metrics of a system's captions, or of a pack's.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::make_captions::{self, Made};
use crate::{
    cli::generation::GenerationArgs,
    eval::captions::{
        ImageScore, NAMES, Scorer, bootstrap, corpus,
        matching::Matcher,
        predictions::{self, Prediction},
        references::{self, Referenced},
    },
};

/// Arguments of `eval captions`.
#[derive(Debug, Args)]
pub struct CaptionsArgs {
    /// Reference captions: COCO, VizWiz-Captions, Karpathy or MSR-VTT JSON, a Flickr8k token file, or
    /// TSV (image, caption).
    #[arg(long, value_name = "FILE")]
    refs: PathBuf,
    /// Split of a Karpathy or MSR-VTT JSON. Default: test.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Captions to score: COCO results JSON, JSON lines (`captiond caption --json`), or TSV. Without
    /// it the pack captions the images.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "pack", "save"])]
    predictions: Option<PathBuf>,
    /// Folder of the images to caption.
    #[arg(long, value_name = "DIR", required_unless_present = "predictions")]
    images: Option<PathBuf>,
    /// The pack that captions. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// Where the pack's captions are kept (JSON lines). Images that are in it already are not
    /// captioned again.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Score only the images that have a caption, where some have none. CIDEr-D then counts document
    /// frequencies in their references alone.
    #[arg(long)]
    subset: bool,
    /// Another system's captions of the same images, to compare with.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Write the metrics of each image, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    per_image: Option<PathBuf>,
    /// Draws of the bootstrap; 0 leaves it out.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    draws: usize,
    /// Seed of the bootstrap.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    generation: GenerationArgs,
}

/// Scores captions.
///
/// # Errors
/// Names the file that is wrong, or the first image without a counterpart.
pub(super) fn run(args: &CaptionsArgs) -> Result<ExitCode> {
    if args.against.is_some() && args.draws == 0 {
        bail!("--against needs the bootstrap: give --draws a number above 0");
    }
    let references = references::read(&args.refs, args.split.as_deref())?;
    let (found, made) = match (&args.predictions, &args.images) {
        (Some(path), _) => (predictions::read(path)?, None),
        (None, Some(folder)) => {
            let images: Vec<&str> = references.images.iter().map(|i| i.name.as_str()).collect();
            let made = make_captions::run(
                &images,
                folder,
                args.pack.as_deref(),
                &args.generation,
                args.save.as_deref(),
            )?;
            (made.predictions(), Some(made))
        }
        (None, None) => bail!("give --predictions, or --images for the pack to caption"),
    };
    let set = Set::new(&references.images, found, args)?;
    let first = set.scorer.score(&set.captions);
    let second = set
        .other
        .as_ref()
        .map(|captions| set.scorer.score(captions));
    if let Some(path) = &args.per_image {
        write_images(path, &set, &first).with_context(|| path.display().to_string())?;
    }
    let result = report(
        args,
        &first,
        second.as_deref(),
        made.as_ref(),
        references.excluded,
    );
    if args.json {
        println!("{}", Value::Object(result));
    } else {
        print(&result);
    }
    Ok(ExitCode::SUCCESS)
}

/// What is scored: images that have references and a caption of each system.
struct Set<'a> {
    images: Vec<&'a Referenced>,
    scorer: Scorer,
    captions: Vec<String>,
    other: Option<Vec<String>>,
}

impl<'a> Set<'a> {
    fn new(
        references: &'a [Referenced],
        found: Vec<Prediction>,
        args: &CaptionsArgs,
    ) -> Result<Self> {
        let matcher = Matcher::new(references);
        let captions = matcher
            .captions(references, &found, args.subset)
            .with_context(|| match &args.predictions {
                Some(path) => format!("predictions {}", path.display()),
                None => "the pack's captions".to_owned(),
            })?;
        let other = match &args.against {
            Some(path) => Some((path, predictions::read(path)?)),
            None => None,
        };
        let others = match &other {
            Some((path, found)) => Some(
                matcher
                    .captions(references, found, args.subset)
                    .with_context(|| format!("predictions {}", path.display()))?,
            ),
            None => None,
        };
        let mut set = Self {
            images: Vec::new(),
            scorer: Scorer::new::<&str>(&[]),
            captions: Vec::new(),
            other: others.as_ref().map(|_| Vec::new()),
        };
        for (at, image) in references.iter().enumerate() {
            let other = others.as_ref().map(|captions| captions[at]);
            if let (Some(caption), None | Some(Some(_))) = (captions[at], other) {
                set.images.push(image);
                set.captions.push(caption.to_owned());
                if let (Some(list), Some(Some(other))) = (&mut set.other, other) {
                    list.push(other.to_owned());
                }
            }
        }
        if set.images.is_empty() {
            bail!("no image has a caption of both systems");
        }
        let texts: Vec<Vec<&str>> = set
            .images
            .iter()
            .map(|image| image.captions.iter().map(String::as_str).collect())
            .collect();
        set.scorer = Scorer::new(&texts);
        Ok(set)
    }
}

fn write_images(path: &Path, set: &Set<'_>, scores: &[ImageScore]) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for ((image, caption), score) in set.images.iter().zip(&set.captions).zip(scores) {
        let mut line = Map::new();
        line.insert("image".into(), json!(image.name));
        if let Some(id) = image.id {
            line.insert("image_id".into(), json!(id));
        }
        line.insert("caption".into(), json!(caption));
        for (name, value) in NAMES.iter().zip(score.values().array()) {
            line.insert((*name).into(), json!(value));
        }
        writeln!(out, "{}", Value::Object(line))?;
    }
    Ok(out.flush()?)
}

fn report(
    args: &CaptionsArgs,
    first: &[ImageScore],
    second: Option<&[ImageScore]>,
    made: Option<&Made>,
    excluded: usize,
) -> Map<String, Value> {
    let named = |values: Vec<Value>| -> Value {
        NAMES
            .iter()
            .map(|name| (*name).to_owned())
            .zip(values)
            .collect::<Map<_, _>>()
            .into()
    };
    let mut result = Map::new();
    for (name, value) in NAMES.iter().zip(corpus(first).array()) {
        result.insert((*name).into(), json!(value));
    }
    result.insert("images".into(), json!(first.len()));
    if excluded > 0 {
        result.insert("excluded_references".into(), json!(excluded));
    }
    if let Some(made) = made {
        result.insert("pack".into(), json!(made.header.pack));
        result.insert("median_ms".into(), json!(made.median_ms()));
    }
    if args.draws > 0 {
        let intervals = bootstrap::intervals(first, args.draws, args.seed);
        let values = intervals.iter().map(|i| json!(i)).collect();
        result.insert("intervals".into(), named(values));
    }
    if let Some(second) = second {
        let compared = bootstrap::compare(first, second, args.draws, args.seed);
        let values = compared.iter().map(|d| json!(d)).collect();
        result.insert("against".into(), named(values));
    }
    result
}

fn print(result: &Map<String, Value>) {
    println!("{} images", result["images"]);
    if let Some(excluded) = result.get("excluded_references") {
        println!("{excluded} reference captions left out: rejected, canned, or nothing recognised");
    }
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    for name in NAMES {
        let mut line = format!("{name:<8} {:.4}", number(&result[name]));
        if let Some(intervals) = result.get("intervals") {
            let interval = &intervals[name];
            line += &format!(
                "  [{:.4}, {:.4}]",
                number(&interval[0]),
                number(&interval[1])
            );
        }
        if let Some(against) = result.get("against") {
            let found = &against[name];
            line += &format!(
                "  against the other {:+.4} [{:+.4}, {:+.4}], p {:.3}",
                number(&found["difference"]),
                number(&found["interval"][0]),
                number(&found["interval"][1]),
                number(&found["p"])
            );
        }
        println!("{line}");
    }
    if let Some(ms) = result.get("median_ms") {
        println!("median {:.1} ms a caption", number(ms));
    }
}
