//! `captiond eval metrics`.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;

use super::Common;
use crate::{
    engine::tract::TractEngine,
    eval::{
        agreement::{self, Judged},
        kendall::kendall,
    },
    fit::{embed::Embedder, pairs::CaptionedImage},
    realignment::Realignment,
};

/// Arguments of `eval metrics`.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Captions by id: Flickr8k.token.txt.
    #[arg(long, value_name = "FILE")]
    captions: PathBuf,
    /// ExpertAnnotations.txt.
    #[arg(long, value_name = "FILE")]
    expert: Option<PathBuf>,
    /// CrowdFlowerAnnotations.txt.
    #[arg(long, value_name = "FILE")]
    crowdflower: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &MetricsArgs) -> Result<ExitCode> {
    if args.expert.is_none() && args.crowdflower.is_none() {
        bail!("nothing to measure against: give --expert or --crowdflower");
    }
    let folder = args
        .common
        .images
        .as_deref()
        .context("--images is missing: the folder of the judged images")?;
    let (pack, map) = args.common.open()?;
    let texts = agreement::read_captions(&args.captions)?;
    let expert = args
        .expert
        .as_deref()
        .map(agreement::read_expert)
        .transpose()?;
    let crowd = args
        .crowdflower
        .as_deref()
        .map(agreement::read_crowdflower)
        .transpose()?;
    let all: Vec<&Judged> = expert.iter().chain(&crowd).flatten().collect();
    let scores = Scores::new(&args.common.embedder(&pack)?, &map, folder, &texts, &all)?;
    let mut result = serde_json::Map::new();
    // Kendall's tau does not depend on the weight and the cut-off at nought loses order, so the
    // cosine itself is ranked, as METHOD's aCLIP-S up to a monotone map.
    if let Some(judged) = &expert {
        let tau = scores.tau(judged)?.c;
        result.insert("expert_tau_c".into(), json!(100.0 * tau));
    }
    if let Some(judged) = &crowd {
        let tau = scores.tau(judged)?.b;
        result.insert("crowdflower_tau_b".into(), json!(100.0 * tau));
    }
    if args.common.json {
        println!("{}", json!({ "aCLIP-S": result }));
    } else {
        for (name, value) in &result {
            println!("aCLIP-S {name}: {:.2}", value.as_f64().unwrap_or_default());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Realigned images and centred captions of the judged pairs.
struct Scores {
    images: HashMap<String, Vec<f32>>,
    captions: HashMap<String, Vec<f32>>,
}

impl Scores {
    fn new(
        embedder: &Embedder<'_>,
        map: &Realignment,
        folder: &Path,
        texts: &HashMap<String, String>,
        judged: &[&Judged],
    ) -> Result<Self> {
        let ids: BTreeSet<&str> = judged.iter().map(|j| j.caption.as_str()).collect();
        let captions: Vec<String> = ids
            .iter()
            .map(|id| {
                texts
                    .get(*id)
                    .cloned()
                    .with_context(|| format!("caption {id} is judged but not in --captions"))
            })
            .collect::<Result<_>>()?;
        let embedded = embedder.captions(&TractEngine, &captions)?;
        let captions = ids
            .iter()
            .map(|id| (*id).to_owned())
            .zip(embedded.iter().map(|e| map.centre_text(e)))
            .collect();
        let names: BTreeSet<&str> = judged.iter().map(|j| j.image.as_str()).collect();
        let pairs: Vec<CaptionedImage> = names
            .iter()
            .map(|n| CaptionedImage {
                image: (*n).to_owned(),
                captions: Vec::new(),
            })
            .collect();
        let mut images = HashMap::new();
        embedder.run(&TractEngine, folder, &pairs, |index, image, _| {
            images.insert(pairs[index].image.clone(), map.realign(&image));
            Ok(())
        })?;
        Ok(Self { images, captions })
    }

    /// Each rating of a pair counts as a pair of its own (METHOD: Flickr8k-Expert).
    fn tau(&self, judged: &[Judged]) -> Result<crate::eval::kendall::Tau> {
        let (mut scores, mut ratings) = (Vec::new(), Vec::new());
        for pair in judged {
            let (Some(image), Some(caption)) = (
                self.images.get(&pair.image),
                self.captions.get(&pair.caption),
            ) else {
                bail!("{} or {} has no embedding", pair.image, pair.caption);
            };
            let score: f64 = image
                .iter()
                .zip(caption)
                .map(|(a, b)| f64::from(a * b))
                .sum();
            for rating in &pair.ratings {
                scores.push(score);
                ratings.push(*rating);
            }
        }
        kendall(&scores, &ratings).context("the judgements or the scores do not vary")
    }
}
