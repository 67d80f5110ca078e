//! `captiond fit`: pairs and a pack in, realignment out.

use std::{
    env, fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use super::caption::open_pack;
use crate::{
    engine::tract::TractEngine,
    fit::{
        self, CaptionRows, Lambda, Recipe, Report, ReportRow,
        embed::{EmbeddedPairs, Embedder},
        gram::GramSums,
        landmarks, negatives, pairs,
        shard::Shard,
    },
    pack::{FileRecord, Pack, Views, digest, replace},
    realignment::{MapKind, Realignment},
};

/// Images that the landmarks of a kernel map are chosen among; more only cost time and memory.
const MOST_FOR_LANDMARKS: usize = 20_000;
/// Landmarks when no number is given, and there are as many images.
const LANDMARKS: usize = 1024;
/// A kernel's penalty when none is given: chosen on dev and Flickr8k-CF (docs/benchmarks.md).
const KERNEL_LAMBDA: f64 = 1.7e-4;

/// The map to be written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Map {
    /// Ordinary least squares.
    Ols,
    /// Ridge regression.
    Ridge,
    /// Orthogonal Procrustes.
    Procrustes,
    /// A mix of Procrustes and ridge.
    Blend,
    /// Kernel ridge over landmarks.
    Kernel,
}

impl From<Map> for MapKind {
    fn from(map: Map) -> Self {
        match map {
            Map::Ols => Self::Ols,
            Map::Ridge => Self::Ridge,
            Map::Procrustes => Self::Procrustes,
            Map::Blend => Self::Blend,
            Map::Kernel => Self::Kernel,
        }
    }
}

/// Fits the realignment of a pack in closed form.
#[derive(Debug, Args)]
pub struct FitArgs {
    /// Image-caption pairs: TSV (image, tab, caption), Flickr8k token file, COCO or Karpathy JSON.
    #[arg(long, value_name = "FILE", required_unless_present = "merge")]
    pairs: Option<PathBuf>,
    /// Folder of the images. Default: "images" beside the pairs, else the pairs' folder.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// The pack to fit. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// The map to write into the pack; the report shows all.
    #[arg(long, value_enum, default_value = "blend")]
    map: Map,
    /// Share of ridge in a blend, 0 to 1: more agrees better with people, less retrieves better.
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    ridge_share: f64,
    /// How far the images' directions are evened out before Procrustes, 0 to 1: more retrieves better.
    #[arg(long, value_name = "POWER", default_value_t = 0.0)]
    whitening: f64,
    /// Leave the training means in.
    #[arg(long)]
    no_centring: bool,
    /// Which rows an image and its captions become.
    #[arg(long, value_enum, default_value = "all", value_name = "ROWS")]
    rows: CaptionRows,
    /// A second stage: this share of the mean of an image's 300 hardest negatives is taken off its
    /// captions, 0 to 1. Keeps all embeddings in memory.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, conflicts_with_all = ["merge", "partial"])]
    hard_negatives: f64,
    /// What of a picture is embedded; written into pack.toml with the map. Default: the pack's
    /// image_tower.views.
    #[arg(long, value_enum, value_name = "VIEWS")]
    views: Option<Views>,
    /// Landmarks of a kernel map: centres of the training images' embeddings. Default: 1024, or as many as there
    /// are images.
    #[arg(long, value_name = "NUMBER")]
    landmarks: Option<usize>,
    /// Width of the kernel: exp(-this |x - c|^2 / the median squared distance of two images).
    #[arg(long, value_name = "NUMBER", default_value_t = 2.0)]
    kernel_width: f64,
    /// Write the map as the pack's judge: it scores captions (aCLIP-S and what stands on it), and the
    /// realignment goes on retrieving.
    #[arg(long)]
    judge: bool,
    /// Ridge penalty. Default: chosen on the held-out share by image-to-text R@10; 0.00017 for a kernel.
    #[arg(long, value_name = "NUMBER")]
    lambda: Option<f64>,
    /// Share of the images that the report is measured on; the map that is written is then fitted
    /// on all.
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    held_out: f64,
    /// Pairs to measure the report on instead of a held-out share (a dev split).
    #[arg(long, value_name = "FILE")]
    evaluate: Option<PathBuf>,
    /// Split of a Karpathy JSON. Default: train.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Write the realignment here instead of into the pack.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write only the sums of these pairs, for --merge.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["merge", "evaluate", "out"])]
    partial: Option<PathBuf>,
    /// Of the images only each COUNT-th from the NUMBER-th on: one of COUNT shares of --partial.
    #[arg(long, value_name = "NUMBER/COUNT", requires = "partial")]
    shard: Option<Shard>,
    /// Join partial sums and fit on them.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "pairs")]
    merge: Vec<PathBuf>,
    /// Folder of cached embeddings. Default: $XDG_CACHE_HOME/captiond, else ~/.cache/captiond.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Threads. Default: all cores.
    #[arg(long, value_name = "NUMBER")]
    threads: Option<usize>,
    /// Leave out images that are missing or damaged.
    #[arg(long)]
    skip_bad: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Fits.
///
/// # Errors
/// Names the file and the field that is wrong.
pub fn run(args: &FitArgs) -> Result<ExitCode> {
    if !(0.0..1.0).contains(&args.held_out) {
        bail!(
            "--held-out: found {}, expected a share from 0 up to but not including 1",
            args.held_out
        );
    }
    if let Some(lambda) = args.lambda
        && !(lambda.is_finite() && lambda >= 0.0)
    {
        bail!("--lambda: found {lambda}, expected a finite number of at least 0");
    }
    for (option, share) in [
        ("--ridge-share", args.ridge_share),
        ("--whitening", args.whitening),
        ("--hard-negatives", args.hard_negatives),
    ] {
        if !(0.0..=1.0).contains(&share) {
            bail!("{option}: found {share}, expected 0 to 1");
        }
    }
    if !(args.kernel_width.is_finite() && args.kernel_width > 0.0) {
        bail!(
            "--kernel-width: found {}, expected a positive number",
            args.kernel_width
        );
    }
    let kernel = matches!(args.map, Map::Kernel);
    if kernel && (args.partial.is_some() || !args.merge.is_empty()) {
        bail!(
            "--map kernel with --partial or --merge: landmarks are chosen among all images; fit in one go"
        );
    }
    if kernel && (args.whitening > 0.0 || args.hard_negatives > 0.0 || args.no_centring) {
        bail!(
            "--map kernel with --whitening, --hard-negatives or --no-centring: a kernel map has none of them"
        );
    }
    let mut pack = open_pack(args.pack.as_deref())?;
    if let Some(views) = args.views {
        pack.manifest.image_tower.views = views;
    }
    if kernel {
        fit_kernel(args, &pack)
    } else if args.merge.is_empty() {
        fit_pairs(args, &pack)
    } else {
        merge(args, &pack)
    }
}

/// The folder of cached embeddings.
///
/// # Errors
/// When none is given and there is no home folder.
pub fn cache_folder(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(folder) = given {
        return Ok(folder.to_owned());
    }
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|folder| folder.join("captiond"))
        .context("no folder for cached embeddings: set HOME or give --cache")
}

/// Threads to use.
pub fn thread_count(given: Option<usize>) -> usize {
    given
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
        .max(1)
}

impl FitArgs {
    fn embedder<'a>(&self, pack: &'a Pack) -> Result<Embedder<'a>> {
        Ok(Embedder {
            pack,
            cache: cache_folder(self.cache.as_deref())?,
            threads: thread_count(self.threads),
            skip_bad: self.skip_bad,
            progress: io::stderr().is_terminal(),
        })
    }

    fn recipe(&self, pack: &Pack) -> Recipe {
        Recipe {
            ridge_share: self.ridge_share,
            whitening: self.whitening,
            centred: !self.no_centring,
            rows: self.rows,
            hard_negatives: self.hard_negatives,
            views: pack.manifest.image_tower.views,
        }
    }

    /// Adds the pairs of `--evaluate`, where it is given.
    fn add_evaluated(&self, embedder: &Embedder<'_>, held_out: &mut EmbeddedPairs) -> Result<()> {
        let Some(path) = &self.evaluate else {
            return Ok(());
        };
        let pairs = pairs::read(path, self.split.as_deref())?;
        let folder = pairs::image_folder(self.images.as_deref(), path);
        embedder.run(&TractEngine, &folder, &pairs, |_, image, captions| {
            held_out.push(image, captions);
            Ok(())
        })?;
        Ok(())
    }
}

fn fit_pairs(args: &FitArgs, pack: &Pack) -> Result<ExitCode> {
    let path = args.pairs.as_deref().context("--pairs is missing")?;
    let mut pairs = pairs::read(path, args.split.as_deref())?;
    if let Some(shard) = args.shard {
        pairs = shard.of(pairs);
    }
    let folder = pairs::image_folder(args.images.as_deref(), path);
    let embedder = args.embedder(pack)?;
    let m = &pack.manifest;
    let empty = || {
        let (image, text) = (
            pack.image_embedding_identity(),
            pack.text_embedding_identity(),
        );
        GramSums::new(
            m.image_tower.dimension,
            m.text_tower.dimension,
            &image,
            &text,
        )
    };
    let (mut fitted, mut set_aside) = (empty(), empty());
    let mut held_out = EmbeddedPairs::default();
    let share = if args.partial.is_some() || args.evaluate.is_some() {
        0.0
    } else {
        args.held_out
    };
    // The second stage goes over the pairs again.
    let second = args.hard_negatives > 0.0;
    let mut kept = EmbeddedPairs::default();
    let skipped = embedder.run(&TractEngine, &folder, &pairs, |index, image, captions| {
        let held = is_held_out(&pairs[index].image, share);
        let rows = args.rows.of(captions.clone())?;
        let views: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        if held {
            set_aside.add(&image, &views)?;
            held_out.push(image, captions);
        } else {
            fitted.add(&image, &views)?;
            if second {
                kept.push(image, rows);
            }
        }
        Ok(())
    })?;
    for reason in &skipped {
        eprintln!("captiond: left out: {reason}");
    }
    if let Some(out) = &args.partial {
        replace(out, &fitted.to_bytes()?)?;
        eprintln!("{}: sums of {} pairs", out.display(), fitted.pairs);
        return Ok(ExitCode::SUCCESS);
    }
    args.add_evaluated(&embedder, &mut held_out)?;
    let lambda = args.lambda.map_or(Lambda::Chosen, Lambda::Given);
    let mut report = fit::report(
        &fitted,
        &held_out,
        lambda,
        &args.recipe(pack),
        pack.manifest.has_common_space(),
    )?;
    let lambda = report.lambda;
    if second {
        let map = second_stage(args, pack, &fitted, &kept, lambda)?;
        report.rows.push(ReportRow {
            map: format!("{}, hard neg.", map.provenance.kind.name()),
            recall: Some(held_out.recall(&map)),
        });
    }
    report_out(args, &report)?;
    // What was held out for the report is fitted on too: more pairs never hurt the map.
    fitted.merge(set_aside)?;
    if !second {
        return fit(args, pack, &fitted, lambda);
    }
    if args.evaluate.is_none() {
        let mut captions = held_out.captions.into_iter();
        for (image, count) in held_out.images {
            let own = captions.by_ref().take(count).collect();
            kept.push(image, args.rows.of(own)?);
        }
    }
    let map = second_stage(args, pack, &fitted, &kept, lambda)?;
    write(args, pack, &map)
}

/// The map of the chosen kind, fitted on pairs with their hardest negatives taken off.
fn second_stage(
    args: &FitArgs,
    pack: &Pack,
    fitted: &GramSums,
    pairs: &EmbeddedPairs,
    lambda: f64,
) -> Result<Realignment> {
    let recipe = args.recipe(pack);
    let choice = recipe.choice(MapKind::from(args.map), lambda);
    let first = fit::realignment(fitted, choice, &recipe)?;
    let threads = thread_count(args.threads);
    let targets = negatives::sums(pairs, &first, args.hard_negatives, threads)?;
    fit::second_stage(fitted, &targets, choice, &recipe)
}

/// A kernel map: landmarks among all images first, then sums of the similarities to them. Both passes
/// read the same cached embeddings.
fn fit_kernel(args: &FitArgs, pack: &Pack) -> Result<ExitCode> {
    let path = args.pairs.as_deref().context("--pairs is missing")?;
    let pairs = pairs::read(path, args.split.as_deref())?;
    let folder = pairs::image_folder(args.images.as_deref(), path);
    let embedder = args.embedder(pack)?;
    let step = pairs.len().div_ceil(MOST_FOR_LANDMARKS).max(1);
    let mut images = Vec::new();
    let skipped = embedder.run(&TractEngine, &folder, &pairs, |index, image, _| {
        if index % step == 0 {
            images.push(image);
        }
        Ok(())
    })?;
    for reason in &skipped {
        eprintln!("captiond: left out: {reason}");
    }
    let wanted = args.landmarks.unwrap_or(LANDMARKS.min(images.len()));
    let landmarks = landmarks::choose(&images, wanted, args.kernel_width)?;
    drop(images);
    let share = if args.evaluate.is_some() {
        0.0
    } else {
        args.held_out
    };
    let empty = || {
        GramSums::new(
            landmarks.len(),
            pack.manifest.text_tower.dimension,
            &pack.image_embedding_identity(),
            &pack.text_embedding_identity(),
        )
    };
    let (mut fitted, mut set_aside) = (empty(), empty());
    let mut held_out = EmbeddedPairs::default();
    embedder.run(&TractEngine, &folder, &pairs, |index, image, captions| {
        let similarities = landmarks.similarities(&image);
        let rows = args.rows.of(captions.clone())?;
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        if is_held_out(&pairs[index].image, share) {
            set_aside.add(&similarities, &rows)?;
            held_out.push(image, captions);
        } else {
            fitted.add(&similarities, &rows)?;
        }
        Ok(())
    })?;
    args.add_evaluated(&embedder, &mut held_out)?;
    let lambda = args.lambda.unwrap_or(KERNEL_LAMBDA);
    if !held_out.images.is_empty() {
        let map = fit::kernel_realignment(&fitted, &landmarks, lambda, &args.recipe(pack))?;
        let report = Report {
            fitted_pairs: fitted.pairs,
            images: held_out.images.len(),
            captions: held_out.captions.len(),
            rows: vec![ReportRow {
                map: format!("kernel, {} landmarks", landmarks.len()),
                recall: Some(held_out.recall(&map)),
            }],
            lambda,
        };
        report_out(args, &report)?;
    }
    fitted.merge(set_aside)?;
    let map = fit::kernel_realignment(&fitted, &landmarks, lambda, &args.recipe(pack))?;
    write(args, pack, &map)
}

fn report_out(args: &FitArgs, report: &Report) -> Result<()> {
    if args.json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

fn merge(args: &FitArgs, pack: &Pack) -> Result<ExitCode> {
    let mut joined: Option<GramSums> = None;
    for path in &args.merge {
        let name = path.display().to_string();
        let bytes = fs::read(path).with_context(|| name.clone())?;
        let sums = GramSums::from_bytes(&bytes).with_context(|| name.clone())?;
        fit::check_identity(&sums, pack, &name)?;
        match &mut joined {
            Some(all) => all.merge(sums).with_context(|| name.clone())?,
            None => joined = Some(sums),
        }
    }
    let joined = joined.context("--merge: no file given")?;
    let lambda = match (args.map, args.lambda) {
        (Map::Ridge | Map::Blend, None) => {
            bail!("--merge: give --lambda too: partial sums hold no pairs to choose it on")
        }
        (_, lambda) => lambda.unwrap_or(0.0),
    };
    fit(args, pack, &joined, lambda)
}

fn fit(args: &FitArgs, pack: &Pack, sums: &GramSums, lambda: f64) -> Result<ExitCode> {
    let recipe = args.recipe(pack);
    let choice = recipe.choice(MapKind::from(args.map), lambda);
    write(args, pack, &fit::realignment(sums, choice, &recipe)?)
}

fn write(args: &FitArgs, pack: &Pack, map: &Realignment) -> Result<ExitCode> {
    let (kind, pairs) = (map.provenance.kind.name(), map.provenance.pairs);
    let section = if args.judge { "judge" } else { "realignment" };
    let name = format!("{section}.safetensors");
    let bytes = map.to_bytes()?;
    let mut provenance = format!("captiond fit, {kind} on {pairs} pairs");
    if !map.provenance.recipe.is_empty() {
        provenance += &format!(", {}", map.provenance.recipe);
    }
    let place = match &args.out {
        Some(out) => {
            replace(out, &bytes)?;
            out.clone()
        }
        None => {
            let record = FileRecord {
                section,
                name: &name,
                bytes: &bytes,
                licence: "Apache-2.0",
                provenance: &provenance,
            };
            match args.views {
                Some(views) => {
                    let setting = ("image_tower", "views", views.name());
                    record.write_with(&pack.folder, &[setting])?;
                }
                None => record.write(&pack.folder)?,
            }
            warn_of_others(pack, section);
            pack.folder.join(&name)
        }
    };
    eprintln!("{}: {kind} fitted on {pairs} pairs", place.display());
    Ok(ExitCode::SUCCESS)
}

/// Says which map of the pack was fitted on other views than the one that was just written: until that one
/// is fitted too, the pack is refused.
fn warn_of_others(pack: &Pack, written: &str) {
    let m = &pack.manifest;
    let others = [
        ("realignment", &m.realignment, ""),
        ("judge", &m.judge, " --judge"),
    ];
    for (section, part, option) in others {
        let Some(part) = part.as_ref().filter(|_| section != written) else {
            continue;
        };
        let Ok(bytes) = fs::read(pack.folder.join(&part.file)) else {
            continue;
        };
        let views = Realignment::from_bytes(&bytes).map(|map| map.provenance.views);
        if let Ok(found) = views
            && found != m.image_tower.views
        {
            eprintln!(
                "captiond: pack {}: {}: fitted with views {}, and the pack has {} now; fit it too \
                 (captiond fit{option}), before that captiond refuses the pack",
                pack.folder.display(),
                part.file,
                found.name(),
                m.image_tower.views.name()
            );
        }
    }
}

/// Whether an image belongs to the held-out share: by a hash of its name, so that it does not
/// change with the order or the number of pairs.
fn is_held_out(image: &str, share: f64) -> bool {
    let hash = digest::of_bytes(image.as_bytes());
    let number = u64::from_str_radix(&hash[..13], 16).unwrap_or_default();
    (number as f64) < share * (1u64 << 52) as f64
}
