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

use super::{
    DrawArgs,
    make_captions::{self, Task},
    open_pack, pack_map,
};
use crate::{
    cli::generation::GenerationArgs,
    cli::{embedder::EmbedderArgs, fit::cache_folder},
    engine::tract::TractEngine,
    eval::{
        bootstrap,
        captions::{
            Scorer,
            matching::Matcher,
            predictions::{self, Prediction},
            references::{self, Referenced, References},
            system::SystemScores,
        },
        embedded::{Embedded, Spaces},
        samples::{self, Sample},
    },
    pack::Pack,
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
    #[arg(long, value_name = "FILE", conflicts_with = "save")]
    predictions: Option<PathBuf>,
    /// Folder of the images (of clips: a folder of frames for each), to caption, or with
    /// --predictions for CLIP-S and its kin.
    #[arg(long, value_name = "DIR", required_unless_present = "predictions")]
    images: Option<PathBuf>,
    /// The pack that captions and embeds. Default: $CAPTIOND_PACK, else the pack that comes with
    /// captiond.
    #[arg(long, value_name = "DIR", requires = "images")]
    pack: Option<PathBuf>,
    /// Frames that are taken of a clip, evenly spread.
    #[arg(long, value_name = "NUMBER", default_value_t = samples::FRAMES, value_parser = frames)]
    frames: usize,
    /// w of CLIP-S and its kin. Default: the pack's caption.clip_s_weight.
    #[arg(long, value_name = "NUMBER", value_parser = super::weight, requires = "images")]
    clip_s_weight: Option<f64>,
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
    #[command(flatten)]
    drawn: DrawArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    embedding: EmbedderArgs,
    #[command(flatten)]
    generation: GenerationArgs,
}

fn frames(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a whole number above 0".to_owned()),
    }
}

/// Scores captions.
///
/// # Errors
/// Names the file that is wrong, or the first image without a counterpart.
pub(super) fn run(args: &CaptionsArgs) -> Result<ExitCode> {
    if args.against.is_some() && args.drawn.draws == 0 {
        bail!("--against needs the bootstrap: give --draws a number above 0");
    }
    let references = references::read(&args.refs, args.split.as_deref())?;
    let mut pack = match &args.images {
        Some(_) => Some(open_pack(args.pack.as_deref())?),
        None => None,
    };
    let (found, made) = match (&args.predictions, &args.images, &mut pack) {
        (Some(path), ..) => (predictions::read(path)?, None),
        (None, Some(folder), Some(pack)) => {
            let samples = samples(args, folder, references.images.iter())?;
            let task = Task {
                samples: &samples,
                folder,
                frames: args.frames,
                save: args.save.as_deref(),
                cache: &cache_folder(args.embedding.cache.as_deref())?,
            };
            let made = make_captions::run(task, pack, &args.generation)?;
            (made.predictions(), Some(made))
        }
        _ => bail!("give --predictions, or --images for the pack to caption"),
    };
    let set = Set::new(&references, found, args)?;
    let embedded = match (&args.images, &pack) {
        (Some(folder), Some(pack)) => Some(embed(args, folder, pack, &set)?),
        _ => None,
    };
    let weight = pack
        .as_ref()
        .map_or(0.0, |pack| super::clip_s_weight(args.clip_s_weight, pack));
    let score = |captions: &Vec<String>| set.score(captions, embedded.as_ref(), weight);
    let first = score(&set.captions)?;
    let second = set.other.as_ref().map(score).transpose()?;
    if let Some(path) = &args.per_image {
        write_images(path, &set, &first).with_context(|| path.display().to_string())?;
    }
    let mut result = report(args, &first, second.as_ref());
    for (key, count) in [
        ("excluded_references", references.excluded),
        ("unscored_predictions", set.unscored),
    ] {
        if count > 0 {
            result.insert(key.into(), json!(count));
        }
    }
    if let Some(pack) = &pack {
        result.insert("pack".into(), json!(pack.label()));
        result.insert("clip_s_weight".into(), json!(weight));
    }
    if let Some(made) = &made {
        result.insert("median_ms".into(), json!(made.median_ms()));
    }
    if args.json {
        println!("{}", Value::Object(result));
    } else {
        print(&first.names(), &result);
    }
    Ok(ExitCode::SUCCESS)
}

fn samples<'a>(
    args: &CaptionsArgs,
    folder: &Path,
    images: impl Iterator<Item = &'a Referenced>,
) -> Result<Vec<Sample>> {
    images
        .map(|image| Ok(samples::find(folder, &image.name, args.frames)?))
        .collect()
}

/// Embeds what CLIP-S and its kin compare.
fn embed(args: &CaptionsArgs, folder: &Path, pack: &Pack, set: &Set<'_>) -> Result<Embedded> {
    let map = pack_map(pack)?;
    let spaces = Spaces::new(pack, map.as_ref());
    for reason in spaces.undefined(pack) {
        eprintln!("captiond: {reason}");
    }
    let samples = samples(args, folder, set.images.iter().copied())?;
    let references = set.images.iter().flat_map(|image| &image.captions);
    let captions = set.captions.iter().chain(set.other.iter().flatten());
    Embedded::new(
        &args.embedding.embedder(pack, false)?,
        &TractEngine,
        spaces,
        folder,
        &samples,
        references.chain(captions).map(String::as_str),
    )
}

/// What is scored: images that have references and a caption of each system.
struct Set<'a> {
    images: Vec<&'a Referenced>,
    scorer: Scorer,
    captions: Vec<String>,
    other: Option<Vec<String>>,
    /// Captions of images none of whose references may be used, which were set aside.
    unscored: usize,
}

impl<'a> Set<'a> {
    fn new(all: &'a References, mut found: Vec<Prediction>, args: &CaptionsArgs) -> Result<Self> {
        let references = all.images.as_slice();
        let matcher = Matcher::new(references);
        let aside = Matcher::new(&all.unscored);
        let scored = |prediction: &Prediction| {
            let image = &prediction.image;
            matcher.place(image).is_some() || aside.place(image).is_none()
        };
        let before = found.len();
        found.retain(scored);
        let unscored = before - found.len();
        let captions = matcher
            .captions(references, &found, args.subset)
            .with_context(|| match &args.predictions {
                Some(path) => format!("predictions {}", path.display()),
                None => "the pack's captions".to_owned(),
            })?;
        let other = match &args.against {
            Some(path) => {
                let mut found = predictions::read(path)?;
                found.retain(scored);
                Some((path, found))
            }
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
            unscored,
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

    fn score(
        &self,
        captions: &[String],
        embedded: Option<&Embedded>,
        weight: f64,
    ) -> Result<SystemScores> {
        let by_embeddings = |embedded: &Embedded| {
            let pairs = self.images.iter().zip(captions);
            pairs
                .map(|(image, caption)| {
                    embedded.scores(&image.name, caption, &image.captions, weight)
                })
                .collect::<Result<Vec<_>>>()
        };
        Ok(SystemScores {
            words: self.scorer.score(captions),
            embedded: embedded.map(by_embeddings).transpose()?.unwrap_or_default(),
        })
    }
}

fn write_images(path: &Path, set: &Set<'_>, scores: &SystemScores) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let names = scores.names();
    for (at, (image, caption)) in set.images.iter().zip(&set.captions).enumerate() {
        let mut line = Map::new();
        line.insert("image".into(), json!(image.name));
        if let Some(id) = image.id {
            line.insert("image_id".into(), json!(id));
        }
        line.insert("caption".into(), json!(caption));
        line.extend(named(&names, scores.image(at)));
        writeln!(out, "{}", Value::Object(line))?;
    }
    Ok(out.flush()?)
}

/// Values under the metrics' names; null for what is undefined.
fn named<T: serde::Serialize>(names: &[&str], values: Vec<T>) -> Map<String, Value> {
    let names = names.iter().map(|name| (*name).to_owned());
    names.zip(values.iter().map(|value| json!(value))).collect()
}

fn report(
    args: &CaptionsArgs,
    first: &SystemScores,
    second: Option<&SystemScores>,
) -> Map<String, Value> {
    let names = first.names();
    let mut result = named(&names, first.corpus());
    result.insert("images".into(), json!(first.len()));
    let draws = args.drawn.draws();
    if draws.count > 0 {
        let intervals = bootstrap::intervals(first.len(), draws, &|chosen| first.of(chosen));
        result.insert("intervals".into(), named(&names, intervals).into());
    }
    if let Some(second) = second {
        let compared =
            bootstrap::compare(first.len(), draws, &|chosen| first.of(chosen), &|chosen| {
                second.of(chosen)
            });
        result.insert("against".into(), named(&names, compared).into());
    }
    result
}

fn print(names: &[&str], result: &Map<String, Value>) {
    println!("{} images", result["images"]);
    if let Some(excluded) = result.get("excluded_references") {
        println!("{excluded} reference captions left out: rejected, canned, or nothing recognised");
    }
    if let Some(unscored) = result.get("unscored_predictions") {
        println!("{unscored} captions set aside: of images without any other reference");
    }
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    for name in names {
        let value = &result[*name];
        if value.is_null() {
            println!("{name:<10} undefined");
            continue;
        }
        let mut line = format!("{name:<10} {:.4}", number(value));
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
