//! `captiond pack build`: towers, captions and pairs in, a whole pack out.
//!
//! It runs the commands that one would type, in this process and with their own defaults, on a copy
//! beside the destination; the copy takes the destination's place when all of it is right.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser};

use super::{sizes, towers, verify::print};
use crate::{
    cli::{
        calibrate::{self, CalibrateArgs},
        datastore::{self, BuildArgs as DatastoreArgs, DatastoreCommand},
        fit::{self, FitArgs},
    },
    engine::tract::TractEngine,
    fit::pairs,
    pack::{
        Pack,
        install::{Destination, Workplace},
        verify::verify,
    },
};

/// What a pack is made of.
///
/// Embeddings are cached: a build that was stopped goes on from them with the same command. The pack
/// appears at --out when it is whole.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Folder of the towers, and of a decoder if there is one: their files, and a pack.toml that
    /// describes them, as models/export.py writes it. It stays as it is.
    #[arg(value_name = "TOWERS")]
    towers: PathBuf,
    /// The new pack. A pack that is there is replaced, and kept as DIR.old.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The new pack's name. Default: that of the towers.
    #[arg(long)]
    name: Option<String>,
    /// SPDX licence of those of the towers' files that their pack.toml does not list.
    #[arg(long, value_name = "SPDX")]
    licence: Option<String>,

    /// Image-caption pairs for the realignment: TSV, Flickr8k token file, COCO or Karpathy JSON. Without
    /// them the pack gets none, and can't caption before `captiond fit`.
    #[arg(long, value_name = "FILE", required_unless_present = "captions")]
    pairs: Option<PathBuf>,
    /// Folder of the images. Default: "images" beside the pairs, else the pairs' folder.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Split of a Karpathy JSON. Default: train.
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Pairs to measure the map on (a dev split). Default: a tenth of the images.
    #[arg(long, value_name = "FILE", requires = "pairs")]
    evaluate: Option<PathBuf>,
    /// The map: ols, ridge, procrustes, blend or kernel. Default: that of `captiond fit`.
    #[arg(long, value_name = "KIND", requires = "pairs")]
    map: Option<String>,
    /// Its ridge penalty. Default: that of `captiond fit`.
    #[arg(long, value_name = "NUMBER", requires = "pairs")]
    lambda: Option<String>,
    /// Also fit a kernel map that scores the captions (`captiond fit --judge`).
    #[arg(long, requires = "pairs")]
    judge: bool,
    /// Leave out images that are missing or damaged.
    #[arg(long)]
    skip_bad: bool,

    /// Captions for the datastore, one a line, TSV, COCO or Karpathy JSON. Default: those of the pairs.
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,
    /// SPDX licence of the captions.
    #[arg(long, value_name = "SPDX")]
    captions_licence: Option<String>,
    /// Where the captions come from.
    #[arg(long, value_name = "TEXT")]
    captions_provenance: Option<String>,
    /// Leave out captions that stand in this file: data that the pack is measured on. Repeatable.
    #[arg(long, value_name = "FILE")]
    not_in: Vec<PathBuf>,
    /// Leave out captions whose centred embedding has a higher cosine than this to an earlier one.
    #[arg(long, value_name = "COSINE")]
    near_duplicate: Option<String>,

    /// People's votes: TSV of image, caption, and yes, no or the share of yes. Without votes the
    /// confidences are not calibrated.
    #[arg(long, value_name = "FILE", requires = "pairs")]
    votes: Option<PathBuf>,
    /// People's votes in Flickr8k's form: CrowdFlowerAnnotations.txt.
    #[arg(
        long,
        value_name = "FILE",
        requires = "pairs",
        requires = "crowdflower_captions",
        conflicts_with = "votes"
    )]
    crowdflower: Option<PathBuf>,
    /// Captions by id, for --crowdflower: Flickr8k.token.txt.
    #[arg(long, value_name = "FILE", requires = "crowdflower")]
    crowdflower_captions: Option<PathBuf>,
    /// Folder of the images that were voted on. Default: that of the pairs.
    #[arg(long, value_name = "DIR")]
    votes_images: Option<PathBuf>,
    /// Images with references, which the pack captions itself (`captiond calibrate --own`).
    #[arg(long, value_name = "FILE")]
    own: Option<PathBuf>,
    /// Folder of the images of --own. Default: that of the votes.
    #[arg(long, value_name = "DIR", requires = "own")]
    own_images: Option<PathBuf>,

    /// Folder of cached embeddings. Default: $XDG_CACHE_HOME/captiond, else ~/.cache/captiond.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Threads. Default: all cores.
    #[arg(long, value_name = "NUMBER")]
    threads: Option<usize>,
    /// Print the plan and do nothing.
    #[arg(long)]
    plan: bool,
}

/// One command of the plan.
#[derive(Debug)]
struct Step {
    does: Does,
    /// What follows the command's name.
    words: Vec<OsString>,
}

#[derive(Debug, Clone, Copy)]
enum Does {
    Fit,
    Datastore,
    Calibrate,
}

impl Does {
    fn name(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::Datastore => "datastore build",
            Self::Calibrate => "calibrate",
        }
    }
}

/// Words of a command line, put together.
#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn option(mut self, name: &str, value: Option<impl AsRef<OsStr>>) -> Self {
        if let Some(value) = value {
            // One word: a value may begin with a dash.
            let mut word = OsString::from(name);
            word.push("=");
            word.push(value.as_ref());
            self.0.push(word);
        }
        self
    }

    fn flag(mut self, name: &str, on: bool) -> Self {
        if on {
            self.0.push(name.into());
        }
        self
    }
}

pub(super) fn run(args: &BuildArgs) -> Result<ExitCode> {
    for file in inputs(args) {
        // Said now rather than after an hour of embedding.
        if !file.exists() {
            bail!(
                "{}: no such file or folder; correct the command",
                file.display()
            );
        }
    }
    let destination = Destination::new(&args.out)
        .map_err(|why| anyhow::anyhow!("{}: {why}", args.out.display()))?;
    let towers = fs::canonicalize(&args.towers)
        .with_context(|| format!("towers {}", args.towers.display()))?;
    if destination.folder() == towers {
        bail!(
            "{}: the towers' own folder; give another one with --out",
            args.out.display()
        );
    }
    let document = towers::manifest(
        args.name.as_deref(),
        args.licence.as_deref(),
        &towers,
        args.pairs.is_some(),
    )?;
    let plan = plan(
        args,
        &args.out,
        &args.captions.clone().unwrap_or("captions.txt".into()),
    );
    show(args, &document, &plan);
    // A misspelt value is found before the first hour, not after it.
    plan.iter().try_for_each(check)?;
    if args.plan {
        return Ok(ExitCode::SUCCESS);
    }
    let place = Workplace::open(&destination, "build").map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => anyhow::anyhow!(
            "{}: another `captiond pack build` is at it; wait for that one",
            args.out.display()
        ),
        _ => anyhow::Error::from(error).context(format!("{}", args.out.display())),
    })?;
    match make(args, &towers, &document, &place) {
        Ok(pack) => {
            let old = destination
                .install(&pack)
                .with_context(|| format!("{}", destination.folder().display()))?;
            place.remove();
            let label = Pack::read_manifest(destination.folder())?.label();
            eprintln!("{}: {label} is made", args.out.display());
            if let Some(old) = old {
                eprintln!("the pack that was there is {} now", old.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            place.remove();
            Err(error)
        }
    }
}

/// All paths that are read.
fn inputs(args: &BuildArgs) -> impl Iterator<Item = &Path> {
    [
        &args.pairs,
        &args.images,
        &args.evaluate,
        &args.captions,
        &args.votes,
        &args.crowdflower,
        &args.crowdflower_captions,
        &args.votes_images,
        &args.own,
        &args.own_images,
    ]
    .into_iter()
    .flatten()
    .chain(&args.not_in)
    .map(PathBuf::as_path)
}

/// The commands, for a pack that is in `folder` and captions that are in `captions`.
fn plan(args: &BuildArgs, folder: &Path, captions: &Path) -> Vec<Step> {
    let threads = args.threads.map(|count| count.to_string());
    let embedded = |words: Words| {
        words
            .option("--pack", Some(folder))
            .option("--cache", args.cache.as_ref())
            .option("--threads", threads.as_ref())
            .0
    };
    let mut steps = Vec::new();
    if let Some(pairs) = &args.pairs {
        let common = || {
            Words::default()
                .option("--pairs", Some(pairs))
                .option("--images", args.images.as_ref())
                .option("--split", args.split.as_ref())
                .option("--evaluate", args.evaluate.as_ref())
                .flag("--skip-bad", args.skip_bad)
        };
        let words = common()
            .option("--map", args.map.as_ref())
            .option("--lambda", args.lambda.as_ref());
        steps.push(Step {
            does: Does::Fit,
            words: embedded(words),
        });
        if args.judge {
            let words = common()
                .option("--map", Some("kernel"))
                .flag("--judge", true);
            steps.push(Step {
                does: Does::Fit,
                words: embedded(words),
            });
        }
    }
    // After the fit: near duplicates are found as the chain will see them, with its mean.
    let from_pairs = args
        .captions
        .is_none()
        .then_some(&args.pairs)
        .and_then(Option::as_ref);
    let provenance = match (&args.captions_provenance, from_pairs) {
        (Some(given), _) => Some(given.clone()),
        (None, Some(pairs)) => {
            let name = pairs.file_name().unwrap_or_default().to_string_lossy();
            Some(format!("captions of {name}"))
        }
        (None, None) => None,
    };
    let mut words = Words::default()
        .option("--licence", args.captions_licence.as_ref())
        .option("--provenance", provenance)
        .option("--near-duplicate", args.near_duplicate.as_ref());
    for file in &args.not_in {
        words = words.option("--not-in", Some(file));
    }
    let mut words = embedded(words);
    words.extend([OsString::from("--"), captions.as_os_str().to_owned()]);
    steps.push(Step {
        does: Does::Datastore,
        words,
    });
    // Last, since it depends on everything.
    if args.votes.is_some() || args.crowdflower.is_some() {
        let beside = args
            .pairs
            .as_ref()
            .map(|pairs| pairs::image_folder(args.images.as_deref(), pairs));
        let images = args.votes_images.as_ref().or(beside.as_ref());
        let words = Words::default()
            .option("--votes", args.votes.as_ref())
            .option("--crowdflower", args.crowdflower.as_ref())
            .option("--captions", args.crowdflower_captions.as_ref())
            .option("--images", images)
            .option("--own", args.own.as_ref())
            .option("--own-images", args.own_images.as_ref());
        steps.push(Step {
            does: Does::Calibrate,
            words: embedded(words),
        });
    }
    steps
}

fn show(args: &BuildArgs, document: &towers::Towers, plan: &[Step]) {
    let total = plan.len() + 2;
    eprintln!(
        "plan:\n  1/{total} copy {} files of {} ({})",
        document.files.len(),
        args.towers.display(),
        sizes::bytes(document.bytes)
    );
    for (number, step) in plan.iter().enumerate() {
        eprintln!("  {}/{total} {}", number + 2, line(step));
    }
    eprintln!(
        "  {total}/{total} captiond pack verify {}",
        args.out.display()
    );
    if args.pairs.is_none() {
        eprintln!(
            "without --pairs there is no realignment: the pack can't caption before `captiond fit`"
        );
    } else if args.votes.is_none() && args.crowdflower.is_none() {
        eprintln!("without --votes the confidences will not be calibrated (docs/confidence.md)");
    }
}

/// As one would type it.
fn line(step: &Step) -> String {
    let mut line = format!("captiond {}", step.does.name());
    for word in &step.words {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,".contains(c);
        match word.chars().all(plain) {
            true => line.push_str(&format!(" {word}")),
            false => line.push_str(&format!(" '{}'", word.replace('\'', r"'\''"))),
        }
    }
    line
}

/// A command's arguments from its words, with the defaults that it has on the command line.
#[derive(Parser)]
struct Command<A: Args> {
    #[command(flatten)]
    args: A,
}

fn parse<A: Args>(step: &Step) -> Result<A> {
    let words = [OsString::from(step.does.name())].into_iter();
    Command::<A>::try_parse_from(words.chain(step.words.iter().cloned()))
        .map(|command| command.args)
        .map_err(|error| {
            // Its usage text is of a command that nobody has typed.
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            anyhow::anyhow!("{}", first.trim_start_matches("error: "))
        })
}

fn check(step: &Step) -> Result<()> {
    match step.does {
        Does::Fit => parse::<FitArgs>(step).map(|_| ()),
        Does::Datastore => parse::<DatastoreArgs>(step).map(|_| ()),
        Does::Calibrate => parse::<CalibrateArgs>(step).map(|_| ()),
    }
}

fn perform(step: &Step) -> Result<ExitCode> {
    match step.does {
        Does::Fit => fit::run(&parse(step)?),
        Does::Datastore => datastore::run(&DatastoreCommand::Build(parse(step)?)),
        Does::Calibrate => calibrate::run(&parse(step)?),
    }
}

/// Makes the pack in the workplace and returns its folder there.
fn make(
    args: &BuildArgs,
    towers: &Path,
    document: &towers::Towers,
    place: &Workplace,
) -> Result<PathBuf> {
    let folder = place.empty("pack")?;
    let captions = match (&args.captions, &args.pairs) {
        (Some(captions), _) => captions.clone(),
        (None, Some(pairs)) => {
            let file = place.folder().join("captions.txt");
            let mut text = String::new();
            for image in pairs::read(pairs, args.split.as_deref())? {
                for caption in image.captions {
                    // One a line; white space is white space.
                    text.push_str(&caption.split_whitespace().collect::<Vec<_>>().join(" "));
                    text.push('\n');
                }
            }
            fs::write(&file, text)?;
            file
        }
        (None, None) => bail!("nothing for the datastore; give --captions or --pairs"),
    };
    let plan = plan(args, &folder, &captions);
    let total = plan.len() + 2;
    eprintln!("1/{total} the towers");
    document.copy(towers, &folder)?;
    // Also checks the towers' hashes.
    Pack::open(&folder).context("the towers")?;
    for (number, step) in plan.iter().enumerate() {
        eprintln!("{}/{total} captiond {}", number + 2, step.does.name());
        perform(step).with_context(|| format!("captiond {}", step.does.name()))?;
    }
    eprintln!("{total}/{total} captiond pack verify");
    let report = verify(&folder, &TractEngine);
    print(&report);
    if !report.is_good() {
        bail!(
            "the pack is not right and was not put to {}",
            args.out.display()
        );
    }
    Ok(folder)
}
