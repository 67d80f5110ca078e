//! `captiond eval metrics`: how well metrics agree with people.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{Common, DrawArgs};
use crate::{
    engine::tract::TractEngine,
    eval::{
        agreement::{
            Agreement, Coefficient, Judgements, MetricScores, OwnReference, agreement,
            read_captions, read_crowdflower, read_expert, read_thumb,
        },
        bootstrap::Draws,
        captions::references,
        clip_score,
        embedded::{Embedded, Spaces},
        samples,
    },
    fit::embed::Embedder,
};

/// Arguments of `eval metrics`.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Captions by id: Flickr8k.token.txt. Those of a judged image are its references.
    #[arg(long, value_name = "FILE", required_unless_present = "thumb")]
    captions: Option<PathBuf>,
    /// ExpertAnnotations.txt.
    #[arg(long, value_name = "FILE")]
    expert: Option<PathBuf>,
    /// CrowdFlowerAnnotations.txt.
    #[arg(long, value_name = "FILE")]
    crowdflower: Option<PathBuf>,
    /// mscoco_THumB-1.0.jsonl.
    #[arg(long, value_name = "FILE")]
    thumb: Option<PathBuf>,
    /// THumB's references: COCO or Karpathy JSON. Default: --captions.
    #[arg(long, value_name = "FILE", requires = "thumb")]
    thumb_refs: Option<PathBuf>,
    /// Split of a Karpathy JSON in --thumb-refs. Default: test.
    #[arg(long, value_name = "NAME", requires = "thumb_refs")]
    split: Option<String>,
    /// Folder of THumB's images. Default: --images.
    #[arg(long, value_name = "DIR", requires = "thumb")]
    thumb_images: Option<PathBuf>,
    /// w of CLIP-S and its kin. Default: the pack's caption.clip_s_weight.
    #[arg(long, value_name = "NUMBER", value_parser = super::weight)]
    clip_s_weight: Option<f64>,
    #[command(flatten)]
    drawn: DrawArgs,
    #[command(flatten)]
    common: Common,
}

/// Flickr8k-Expert without the rows whose caption is one of the image's references.
const KEPT: &str = "expert_kept";
/// Flickr8k-Expert, every row.
const ALL: &str = "expert_all";

/// The name under which a set is a metric's headline. With references the published evaluations leave
/// out captions that are references; without, a right caption is a row like any other.
fn headline(set: &'static str, metric: &str) -> Option<&'static str> {
    let wanted = if clip_score::REFERENCE_FREE.contains(&metric) {
        ALL
    } else {
        KEPT
    };
    (set == wanted).then_some("expert")
}

/// A set of judgements with the names that it has in the output.
struct Judged<'a> {
    /// Before each key.
    name: &'static str,
    judgements: Judgements,
    images: &'a Path,
    coefficients: &'a [Coefficient],
}

/// Measures agreement.
///
/// # Errors
/// Names the file that is wrong.
pub(super) fn run(args: &MetricsArgs) -> Result<ExitCode> {
    let sets = read(args)?;
    let (pack, map) = args.common.open_scoring()?;
    let spaces = Spaces::new(&pack, map.as_ref());
    for reason in spaces.undefined(&pack) {
        eprintln!("captiond: {reason}");
    }
    let weight = super::clip_s_weight(args.clip_s_weight, &pack);
    let embedder = args.common.embedding.embedder(&pack, false)?;
    let mut result: Map<String, Value> = Map::new();
    for set in &sets {
        let judgements = &set.judgements;
        let mut without = judgements.without_references();
        if let Some(first) = without.next() {
            eprintln!(
                "captiond: {}: metrics with references are undefined: image {} has none ({} of {} images)",
                set.name,
                first.name,
                1 + without.count(),
                judgements.images.len()
            );
        }
        let mut metrics = MetricScores::by_words(judgements);
        metrics.extend(embedded_scores(&embedder, spaces, set, weight)?);
        for found in agreement(judgements, &metrics, set.coefficients, args.drawn.draws()) {
            let metric = result.entry(found.metric).or_insert_with(|| json!({}));
            if let Value::Object(metric) = metric {
                let names = [Some(set.name), headline(set.name, found.metric)];
                for name in names.into_iter().flatten() {
                    put(metric, name, &set.judgements, &found, args.drawn.draws());
                }
            }
        }
    }
    if args.common.json {
        println!("{}", Value::Object(result));
    } else {
        print(&result, &sets);
    }
    Ok(ExitCode::SUCCESS)
}

fn read(args: &MetricsArgs) -> Result<Vec<Judged<'_>>> {
    if args.expert.is_none() && args.crowdflower.is_none() && args.thumb.is_none() {
        bail!("nothing to measure against: give --expert, --crowdflower or --thumb");
    }
    let images = args.common.images.as_deref();
    let missing = "--images is missing: the folder of the judged images";
    let mut sets = Vec::new();
    if args.expert.is_some() || args.crowdflower.is_some() {
        let path = args.captions.as_deref();
        let path = path.context("--captions is missing: the captions that are judged, by id")?;
        let captions = read_captions(path)?;
        let images = images.context(missing)?;
        let mut add = |name, path: &Path, judged: &[_], own, coefficients| -> Result<()> {
            sets.push(Judged {
                name,
                judgements: Judgements::flickr8k(name, judged, &captions, own)
                    .with_context(|| path.display().to_string())?,
                images,
                coefficients,
            });
            Ok(())
        };
        if let Some(path) = &args.expert {
            let judged = read_expert(path)?;
            let coefficients = &[Coefficient::TauC];
            // Rows whose caption is a reference are easy ones: with them every tau is higher, so
            // whoever compares has to know which rows a number is of. Both stand in the output.
            add(KEPT, path, &judged, OwnReference::Dropped, coefficients)?;
            add(ALL, path, &judged, OwnReference::Taken, coefficients)?;
        }
        if let Some(path) = &args.crowdflower {
            let judged = read_crowdflower(path)?;
            let coefficients = &[Coefficient::TauB];
            add(
                "crowdflower",
                path,
                &judged,
                OwnReference::Taken,
                coefficients,
            )?;
        }
    }
    if let Some(path) = &args.thumb {
        let references = match args.thumb_refs.as_ref().or(args.captions.as_ref()) {
            Some(path) => references::read(path, args.split.as_deref())?.images,
            None => Vec::new(),
        };
        sets.push(Judged {
            name: "thumb",
            judgements: Judgements::thumb(&read_thumb(path)?, &references),
            images: args.thumb_images.as_deref().or(images).context(missing)?,
            coefficients: &[Coefficient::TauB, Coefficient::Pearson],
        });
    }
    Ok(sets)
}

fn embedded_scores(
    embedder: &Embedder<'_>,
    spaces: Spaces<'_>,
    set: &Judged<'_>,
    weight: f64,
) -> Result<Vec<MetricScores>> {
    let judgements = &set.judgements;
    let samples = judgements
        .images
        .iter()
        .map(|image| Ok(samples::find(set.images, &image.name, samples::FRAMES)?))
        .collect::<Result<Vec<_>>>()?;
    let references = judgements.images.iter().flat_map(|image| &image.references);
    let captions = judgements.rows.iter().map(|row| &row.caption);
    let embedded = Embedded::new(
        embedder,
        &TractEngine,
        spaces,
        set.images,
        &samples,
        references.chain(captions).map(String::as_str),
    )?;
    MetricScores::by_embeddings(judgements, |image, caption| {
        embedded.scores(&image.name, caption, &image.references, weight)
    })
}

/// Adds what was found of a metric, times 100, with the set's name before each key. Of THumB the whole score stands beside the other sets'
/// values, and its parts in an object of their own.
fn put(
    metric: &mut Map<String, Value>,
    set: &str,
    judgements: &Judgements,
    found: &Agreement,
    draws: Draws,
) {
    let coefficient = match found.coefficient {
        Coefficient::TauB => "tau_b",
        Coefficient::TauC => "tau_c",
        Coefficient::Pearson => "pearson",
    };
    metric.insert(format!("{set}_rows"), json!(judgements.rows.len()));
    metric.insert(format!("{set}_dropped"), json!(judgements.dropped));
    let whole = judgements.scales.first().map(|scale| scale.name);
    let (place, key) = if whole == Some(found.scale) {
        (metric, format!("{set}_{coefficient}"))
    } else {
        let parts = metric
            .entry(format!("{set}_aspects"))
            .or_insert_with(|| json!({}));
        let Value::Object(parts) = parts else { return };
        let part = parts.entry(found.scale).or_insert_with(|| json!({}));
        let Value::Object(part) = part else { return };
        (part, coefficient.to_owned())
    };
    let hundredfold = |value: f64| 100.0 * value;
    if draws.count > 0 {
        let interval = found.interval.map(|ends| ends.map(hundredfold));
        place.insert(format!("{key}_interval"), json!(interval));
    }
    place.insert(key, json!(found.value.map(hundredfold)));
}

fn print(result: &Map<String, Value>, sets: &[Judged<'_>]) {
    for set in sets {
        println!(
            "{}: {} captions of {} images, {} left out because they are references",
            set.name,
            set.judgements.rows.len(),
            set.judgements.images.len(),
            set.judgements.dropped
        );
    }
    let names = crate::eval::captions::NAMES
        .iter()
        .chain(&clip_score::NAMES);
    for name in names {
        let Some(Value::Object(metric)) = result.get(*name) else {
            continue;
        };
        line(name, metric);
        let aspects = metric.get("thumb_aspects").and_then(Value::as_object);
        for (aspect, found) in aspects.into_iter().flatten() {
            if let Value::Object(found) = found {
                line(&format!("  {aspect}"), found);
            }
        }
    }
}

/// A line of values with their intervals.
fn line(name: &str, values: &Map<String, Value>) {
    let mut text = format!("{name:<10}");
    for key in [
        "expert_kept_tau_c",
        "expert_all_tau_c",
        "crowdflower_tau_b",
        "thumb_tau_b",
        "thumb_pearson",
        "tau_b",
        "pearson",
    ] {
        let Some(value) = values.get(key) else {
            continue;
        };
        match value.as_f64() {
            Some(value) => text += &format!("  {key} {value:.2}"),
            None => text += &format!("  {key} undefined"),
        }
        let ends = |at: usize| values.get(&format!("{key}_interval"))?.get(at)?.as_f64();
        if let (Some(low), Some(high)) = (ends(0), ends(1)) {
            text += &format!(" [{low:.2}, {high:.2}]");
        }
    }
    println!("{text}");
}
