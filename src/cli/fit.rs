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
        self, Lambda,
        embed::{EmbeddedPairs, Embedder},
        gram::GramSums,
        pairs,
        solve::MapChoice,
    },
    pack::{FileRecord, Pack, digest, replace},
    realignment::MapKind,
};

/// Where a fit's result stands in a pack.
const FILE: &str = "realignment.safetensors";

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
}

impl From<Map> for MapKind {
    fn from(map: Map) -> Self {
        match map {
            Map::Ols => Self::Ols,
            Map::Ridge => Self::Ridge,
            Map::Procrustes => Self::Procrustes,
            Map::Blend => Self::Blend,
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
    /// Ridge penalty. Default: chosen on the held-out share by image-to-text R@10.
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
    if !(0.0..=1.0).contains(&args.ridge_share) {
        bail!("--ridge-share: found {}, expected 0 to 1", args.ridge_share);
    }
    let pack = open_pack(args.pack.as_deref())?;
    if args.merge.is_empty() {
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

fn fit_pairs(args: &FitArgs, pack: &Pack) -> Result<ExitCode> {
    let path = args.pairs.as_deref().context("--pairs is missing")?;
    let pairs = pairs::read(path, args.split.as_deref())?;
    let folder = pairs::image_folder(args.images.as_deref(), path);
    let embedder = Embedder {
        pack,
        cache: cache_folder(args.cache.as_deref())?,
        threads: thread_count(args.threads),
        skip_bad: args.skip_bad,
        progress: io::stderr().is_terminal(),
    };
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
    let skipped = embedder.run(&TractEngine, &folder, &pairs, |index, image, captions| {
        let rows: Vec<&[f32]> = captions.iter().map(Vec::as_slice).collect();
        if is_held_out(&pairs[index].image, share) {
            set_aside.add(&image, &rows)?;
            held_out.push(image, captions);
        } else {
            fitted.add(&image, &rows)?;
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
    if let Some(path) = &args.evaluate {
        let pairs = pairs::read(path, args.split.as_deref())?;
        let folder = pairs::image_folder(args.images.as_deref(), path);
        embedder.run(&TractEngine, &folder, &pairs, |_, image, captions| {
            held_out.push(image, captions);
            Ok(())
        })?;
    }
    let lambda = args.lambda.map_or(Lambda::Chosen, Lambda::Given);
    let report = fit::report(&fitted, &held_out, lambda, args.ridge_share)?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    // What was held out for the report is fitted on too: more pairs never hurt the map.
    fitted.merge(set_aside)?;
    write(args, pack, &fitted, report.lambda)
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
    write(args, pack, &joined, lambda)
}

fn write(args: &FitArgs, pack: &Pack, sums: &GramSums, lambda: f64) -> Result<ExitCode> {
    let kind = MapKind::from(args.map);
    let map = fit::realignment(sums, MapChoice::new(kind, lambda, args.ridge_share))?;
    let bytes = map.to_bytes()?;
    let place = match &args.out {
        Some(out) => {
            replace(out, &bytes)?;
            out.clone()
        }
        None => {
            let record = FileRecord {
                section: "realignment",
                name: FILE,
                bytes: &bytes,
                licence: "Apache-2.0",
                provenance: &format!("captiond fit, {} on {} pairs", kind.name(), sums.pairs),
            };
            record.write(&pack.folder)?;
            pack.folder.join(FILE)
        }
    };
    eprintln!(
        "{}: {} fitted on {} pairs",
        place.display(),
        kind.name(),
        sums.pairs
    );
    Ok(ExitCode::SUCCESS)
}

/// Whether an image belongs to the held-out share: by a hash of its name, so that it does not
/// change with the order or the number of pairs.
fn is_held_out(image: &str, share: f64) -> bool {
    let hash = digest::of_bytes(image.as_bytes());
    let number = u64::from_str_radix(&hash[..13], 16).unwrap_or_default();
    (number as f64) < share * (1u64 << 52) as f64
}
