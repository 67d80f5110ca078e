//! `captiond datastore augment`: the datastore augmentation loop of ReCap (arXiv 2307.05591).
//!
//! Each round captions the training pictures with the system itself, keeps the sentences whose
//! realigned score passes a threshold, and adds those that are new. The threshold is the one that
//! serves the dev split best, and the rounds end when dev gains no more. A picture never retrieves
//! what was made from itself: in the field there is no such caption.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::ProgressBar;

use super::{build::join_licences, build::join_provenance, embeddings, file_name, write};
use crate::{
    captioner::{Captioner, Description, Seen},
    cli::chain,
    cli::{
        caption::open_pack,
        fit::{cache_folder, thread_count},
        generation::{GenerationArgs, unhurried},
    },
    datastore::{
        Builder, Datastore, corpus,
        filter::{self, Dropped, TextFilter},
    },
    engine::tract::TractEngine,
    eval::captions::cider::CiderD,
    fit::{embed::Embedder, pairs},
    pack::Pack,
};

/// A gain below this is none: dev's CIDEr-D moves as much when a few captions change.
const LEAST_GAIN: f64 = 0.001;

/// What a datastore is augmented with and measured on.
#[derive(Debug, Args)]
pub struct AugmentArgs {
    /// Training pictures: pairs as for `fit`; their captions are only kept out.
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Dev pictures with their captions, to choose the threshold and to know when to stop.
    #[arg(long, value_name = "FILE")]
    evaluate: PathBuf,
    /// Folder of the pictures. Default: "images" beside the pairs, else the pairs' folder.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// The pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// Keep out captions that stand in this file, beside those of --pairs and --evaluate. Repeatable.
    #[arg(long, value_name = "FILE")]
    not_in: Vec<PathBuf>,
    /// Keep out captions whose centred embedding has a higher cosine than this to an earlier one.
    #[arg(long, value_name = "COSINE", default_value_t = 0.95)]
    near_duplicate: f32,
    /// Least cosines of realigned picture and caption that are tried.
    #[arg(long, value_name = "COSINES", value_delimiter = ',', default_values_t = [0.35, 0.45, 0.55])]
    thresholds: Vec<f32>,
    /// The most captions that one picture adds in a round, best scores first.
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    each: usize,
    /// The most rounds.
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    rounds: usize,
    /// SPDX licence of the new captions.
    #[arg(long, value_name = "SPDX", default_value = "Apache-2.0")]
    licence: String,
    /// Folder of cached embeddings. Default: $XDG_CACHE_HOME/captiond, else ~/.cache/captiond.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Threads. Default: all cores.
    #[arg(long, value_name = "NUMBER")]
    threads: Option<usize>,
    /// How the training pictures are captioned; dev is always captioned as the pack says.
    #[command(flatten)]
    generation: GenerationArgs,
}

/// The state between rounds.
struct Loop<'a> {
    args: &'a AugmentArgs,
    pack: &'a Pack,
    /// Captions the training pictures, as the arguments say.
    makers: Vec<Captioner>,
    /// Captions dev, as the pack says.
    judges: Vec<Captioner>,
    bar: ProgressBar,
    train: Vec<Seen>,
    dev: Vec<Seen>,
    cider: CiderD,
    /// Of the pack's data: nothing of it may come in.
    filter: TextFilter,
    store: Datastore,
    /// The training picture that each row was made from.
    owner: Vec<Option<usize>>,
}

/// A datastore that was tried.
struct Trial {
    threshold: f32,
    store: Datastore,
    owner: Vec<Option<usize>>,
    dropped: Dropped,
    cider: f64,
}

pub(super) fn run(args: &AugmentArgs) -> Result<ExitCode> {
    if args.thresholds.iter().any(|t| !t.is_finite()) || args.thresholds.is_empty() {
        bail!(
            "--thresholds: found {:?}, expected cosines such as 0.35,0.45",
            args.thresholds
        );
    }
    let pack = open_pack(args.pack.as_deref())?;
    let mut work = Loop::begin(args, &pack)?;
    let mut best = work.measure(None)?;
    println!(
        "round 0: {} captions, dev CIDEr-D {best:.4}",
        work.store.len()
    );
    let before = work.store.len();
    for round in 1..=args.rounds {
        let Some(trial) = work.round(round)? else {
            println!("round {round}: nothing new");
            break;
        };
        if trial.cider < best + LEAST_GAIN {
            println!(
                "round {round}: dev gains nothing any more; the datastore stays as round {} left it",
                round - 1
            );
            break;
        }
        println!(
            "round {round}: threshold {}, {} captions, dev CIDEr-D {:.4}",
            trial.threshold,
            trial.store.len(),
            trial.cider
        );
        best = trial.cider;
        work.owner = trial.owner;
        work.store = trial.store;
        // After every round: a long run that is cut short has its rounds.
        work.save(before)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl<'a> Loop<'a> {
    fn begin(args: &'a AugmentArgs, pack: &'a Pack) -> Result<Self> {
        let train = pairs::read(&args.pairs, None)?;
        let dev = pairs::read(&args.evaluate, None)?;
        let folder = pairs::image_folder(args.images.as_deref(), &args.pairs);
        let mut filter = TextFilter::new();
        for pair in train.iter().chain(&dev) {
            filter.keep_out(pair.captions.iter().map(String::as_str));
        }
        for file in &args.not_in {
            filter.keep_out(corpus::read(file)?.iter().map(String::as_str));
        }
        let threads = thread_count(args.threads);
        let mut makers = Vec::with_capacity(threads);
        let mut judges = Vec::with_capacity(threads);
        let unhurried = unhurried(pack);
        for _ in 0..threads {
            makers.push(args.generation.load(&mut unhurried.clone(), &TractEngine)?);
            judges.push(Captioner::load(&unhurried, &TractEngine)?);
        }
        let bar = match io::stderr().is_terminal() {
            true => ProgressBar::new(0),
            false => ProgressBar::hidden(),
        };
        let names = |pairs: &[pairs::CaptionedImage]| -> Vec<String> {
            pairs.iter().map(|pair| pair.image.clone()).collect()
        };
        let store = pack.datastore()?;
        let references: Vec<Vec<String>> = dev.iter().map(|pair| pair.captions.clone()).collect();
        Ok(Self {
            train: chain::features(&mut makers, &folder, &names(&train), &bar)?,
            dev: chain::features(&mut makers, &folder, &names(&dev), &bar)?,
            cider: CiderD::from_captions(&references),
            owner: vec![None; store.len()],
            args,
            pack,
            makers,
            judges,
            bar,
            filter,
            store,
        })
    }

    /// Captions the training pictures and tries every threshold; the best of them, or none when no
    /// caption is new at any.
    fn round(&mut self, round: usize) -> Result<Option<Trial>> {
        let said = chain::describe(
            &mut self.makers,
            &self.store,
            &self.owner,
            &self.train,
            &self.bar,
        )?;
        let mut best: Option<Trial> = None;
        for &threshold in &self.args.thresholds {
            let Some(mut trial) = self.trial(&said, threshold)? else {
                continue;
            };
            trial.cider = self.measure(Some(&trial.store))?;
            println!(
                "  round {round}, threshold {threshold}: {} captions ({}), dev CIDEr-D {:.4}",
                trial.store.len(),
                trial.dropped,
                trial.cider
            );
            if best.as_ref().is_none_or(|best| trial.cider > best.cider) {
                best = Some(trial);
            }
        }
        Ok(best)
    }

    /// The datastore with what passes a threshold and the filters.
    fn trial(&self, said: &[Description], threshold: f32) -> Result<Option<Trial>> {
        let (mut captions, mut owners) = (Vec::new(), Vec::new());
        for (picture, description) in said.iter().enumerate() {
            let mut passing: Vec<_> = description
                .candidates
                .iter()
                .filter(|c| c.score >= threshold)
                .collect();
            passing.sort_by(|a, b| b.score.total_cmp(&a.score));
            for candidate in passing.into_iter().take(self.args.each) {
                captions.push(candidate.caption.clone());
                owners.push(picture);
            }
        }
        let mut filter = self.filter.clone();
        filter.already_there(self.store.captions());
        let mut dropped = Dropped::default();
        let new = filter.pass(captions.clone(), &mut dropped);
        if new.is_empty() {
            return Ok(None);
        }
        let embedder = Embedder {
            pack: self.pack,
            cache: cache_folder(self.args.cache.as_deref())?,
            threads: thread_count(self.args.threads),
            skip_bad: false,
            progress: false,
        };
        let embedded = embedder.captions(&TractEngine, &new)?;
        let realignment = self.pack.realignment()?;
        let mean = realignment.mean_text();
        let keep = filter::distinct(
            filter::centred(&embeddings(&self.store), mean).view(),
            filter::centred(&embedded, mean).view(),
            self.args.near_duplicate,
        );
        dropped.near_duplicates = keep.iter().filter(|keep| !**keep).count();
        let mut builder = Builder::new(self.store.dimension(), self.store.text_embedding());
        for row in 0..self.store.len() {
            builder.copy(&self.store, row)?;
        }
        // The first picture that said it.
        let mut made_from: HashMap<&str, usize> = HashMap::new();
        for (caption, &picture) in captions.iter().zip(&owners) {
            made_from.entry(caption).or_insert(picture);
        }
        let mut owner = self.owner.clone();
        for ((caption, embedding), _) in new
            .iter()
            .zip(&embedded)
            .zip(&keep)
            .filter(|(_, keep)| **keep)
        {
            builder.push(caption, embedding)?;
            owner.push(made_from.get(caption.as_str()).copied());
        }
        Ok(Some(Trial {
            threshold,
            store: builder.finish()?,
            owner,
            dropped,
            cider: 0.0,
        }))
    }

    /// Mean CIDEr-D on dev of the whole system with a datastore, or with the present one.
    fn measure(&mut self, store: Option<&Datastore>) -> Result<f64> {
        let store = store.unwrap_or(&self.store);
        let said = chain::describe(&mut self.judges, store, &[], &self.dev, &self.bar)?;
        let scores = said
            .iter()
            .enumerate()
            .map(|(at, d)| self.cider.score_caption(at, &d.caption));
        let scores: Vec<f64> = scores.collect::<Option<_>>().with_context(|| {
            format!(
                "{}: a picture without captions",
                self.args.evaluate.display()
            )
        })?;
        Ok(scores.iter().sum::<f64>() / scores.len().max(1) as f64)
    }

    fn save(&self, before: usize) -> Result<()> {
        let (mut licence, mut provenance) = (
            self.args.licence.clone(),
            format!(
                "captiond datastore augment ({} captions by the pack itself)",
                self.store.len() - before
            ),
        );
        if let Some(entry) = self.pack.manifest.files.get(file_name(self.pack)) {
            licence = join_licences(&entry.licence, &licence);
            provenance = join_provenance(&entry.provenance, &provenance);
        }
        write(self.pack, &self.store, &licence, &provenance)
    }
}
