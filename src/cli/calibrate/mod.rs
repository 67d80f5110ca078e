//! `captiond calibrate`: people's votes and a pack in, a confidence that is a probability out.

mod own;
mod votes;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use self::{
    own::{ACCEPTABLE, OwnCaption, RuleAgreement},
    votes::VotedFeatures,
};
use super::{caption::open_pack, embedder::EmbedderArgs};
use crate::{
    caption::confidence::{Calibration, Feature, Features, own_value, sigmoid},
    eval::reliability::{
        Reliability,
        diagram::{Series, draw},
    },
    fit::{
        logistic::{self, Row},
        pairs,
    },
    pack::{CalibrationFile, FileRecord, Pack, replace},
};

/// Where a calibration stands in a pack.
const FILE: &str = "calibration.toml";

/// Captions must come whole, however slow the workstation is just now.
const DEADLINE_MS: u64 = 60_000;

/// Fits the confidence of a pack: the probability that a person accepts a caption.
///
/// What is reported is cross-validated over images; what is written is fitted on all of them.
#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// The pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// Folder of the images.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// People's votes: TSV of image, caption, and yes, no or the share of yes.
    #[arg(long, value_name = "FILE", required_unless_present = "crowdflower")]
    votes: Option<PathBuf>,
    /// People's votes in Flickr8k's form: CrowdFlowerAnnotations.txt.
    #[arg(
        long,
        value_name = "FILE",
        requires = "captions",
        conflicts_with = "votes"
    )]
    crowdflower: Option<PathBuf>,
    /// Captions by id, for --crowdflower and --expert: Flickr8k.token.txt.
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,
    /// Images with references, which the pack captions itself: what it says differs from what people
    /// vote on, and without this the confidence is off. The decoder must not have been
    /// trained on them. TSV, Flickr8k token file, COCO or Karpathy JSON. Copies of a picture, say blurred
    /// ones, go by the same file name in another folder: they are kept together in the cross-validation,
    /// and each folder is reported.
    #[arg(long, value_name = "FILE")]
    own: Option<PathBuf>,
    /// Split of a Karpathy JSON in --own. Default: train.
    #[arg(long, value_name = "NAME", requires = "own")]
    split: Option<String>,
    /// Folder of the images of --own. Default: --images.
    #[arg(long, value_name = "DIR", requires = "own")]
    own_images: Option<PathBuf>,
    /// A caption with at least this centred cosine with a reference counts as accepted.
    #[arg(long, value_name = "COSINE", default_value_t = ACCEPTABLE)]
    acceptable: f32,
    /// ExpertAnnotations.txt: says how well that rule agrees with experts.
    #[arg(long, value_name = "FILE", requires = "captions")]
    expert: Option<PathBuf>,
    /// Folds of the cross-validation.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    folds: usize,
    /// Seed of the folds.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Measure the pack's calibration as it is; fit and write nothing.
    #[arg(long, conflicts_with = "out")]
    measure: bool,
    /// Write the calibration here instead of into the pack.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the reliability diagram and the risk-coverage curve here (SVG).
    #[arg(long, value_name = "FILE")]
    diagram: Option<PathBuf>,
    /// Write the features of the pack's own captions, with what the rule makes of them, here (TSV).
    #[arg(long, value_name = "FILE", requires = "own")]
    features: Option<PathBuf>,
    #[command(flatten)]
    embedder: EmbedderArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What is reported.
#[derive(Debug, Serialize)]
struct Report {
    /// Confidence of captions by people and others, against people's votes.
    votes: Reliability,
    /// Confidence of the pack's own captions, against the rule.
    own: Option<Reliability>,
    /// The same for each folder of images, where there are several.
    own_by_folder: BTreeMap<String, Reliability>,
    /// What the regression on votes alone would promise of them.
    own_by_votes_alone: Option<Reliability>,
    /// How well the rule agrees with experts.
    rule: Option<RuleAgreement>,
}

/// Calibrates.
///
/// # Errors
/// Names the file and the field that is wrong.
pub fn run(args: &CalibrateArgs) -> Result<ExitCode> {
    if !(-1.0..=1.0).contains(&args.acceptable) {
        bail!(
            "--acceptable: found {}, expected a cosine from -1 to 1",
            args.acceptable
        );
    }
    let mut pack = open_pack(args.pack.as_deref())?;
    pack.manifest.generation.deadline_ms = DEADLINE_MS;
    let embedder = args.embedder.embedder(&pack, false)?;
    let cast = match (&args.votes, &args.crowdflower, &args.captions) {
        (Some(table), ..) => votes::read_table(table)?,
        (None, Some(judged), Some(captions)) => votes::read_crowd(captions, judged)?,
        _ => bail!("no votes: give --votes, or --crowdflower with --captions"),
    };
    let voted = votes::features(&cast, &pack, &embedder, &args.images)?;
    let own = match &args.own {
        Some(path) => {
            let pairs = pairs::read(path, args.split.as_deref())?;
            let folder = args.own_images.as_deref().unwrap_or(&args.images);
            Some(own::captions(&pairs, &pack, &embedder, folder)?)
        }
        None => None,
    };
    let rule = match (&args.expert, &args.captions) {
        (Some(judged), Some(captions)) => {
            let rule = args.acceptable;
            Some(own::check_rule(captions, judged, rule, &pack, &embedder)?)
        }
        _ => None,
    };
    let (mut report, calibration) = if args.measure {
        let known = pack.calibration()?;
        let (calibration, standing) = known.with_context(|| {
            format!(
                "pack {}: pack.toml has no [calibration]; make one with `captiond calibrate`",
                pack.folder.display()
            )
        })?;
        if let Some(warning) = standing.warning() {
            eprintln!("captiond: pack {}: {warning}", pack.folder.display());
        }
        (measured(args, &calibration, &voted, own.as_deref())?, None)
    } else {
        let (report, calibration) = fitted(args, &voted, own.as_deref())?;
        (report, Some(calibration))
    };
    report.rule = rule;
    if let (Some(path), Some(own)) = (&args.features, &own) {
        let table = table(own, args.acceptable);
        std::fs::write(path, table).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &args.diagram {
        let svg = diagram(&report);
        std::fs::write(path, svg).with_context(|| path.display().to_string())?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    if let Some(calibration) = calibration {
        write(
            args,
            &pack,
            calibration,
            cast.len(),
            own.map(|own| own.len()),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Rows of the regression on votes.
fn vote_rows(voted: &[VotedFeatures]) -> Vec<Row> {
    let row = |vote: &VotedFeatures| Row {
        values: values(&Feature::OF_VOTES, |feature| vote.features.value(feature)),
        accepted: vote.accepted,
        image: vote.image,
    };
    voted.iter().map(row).collect()
}

fn values(features: &[Feature], value: impl Fn(Feature) -> Option<f64>) -> Vec<Option<f64>> {
    features.iter().map(|feature| value(*feature)).collect()
}

/// Fits on everything, and reports what cross-validation says.
fn fitted(
    args: &CalibrateArgs,
    voted: &[VotedFeatures],
    own: Option<&[OwnCaption]>,
) -> Result<(Report, Calibration)> {
    let rows = vote_rows(voted);
    let votes = logistic::fit(&Feature::OF_VOTES, rows.iter()).context("the votes")?;
    let probabilities = logistic::cross_validated(&Feature::OF_VOTES, &rows, args.folds, args.seed)
        .context("the votes")?;
    let mut calibration = Calibration { votes, own: None };
    let accepted = rows.iter().map(|row| row.accepted);
    let mut report = Report {
        votes: reliability(probabilities.into_iter().zip(accepted))?,
        own: None,
        own_by_folder: BTreeMap::new(),
        own_by_votes_alone: None,
        rule: None,
    };
    let Some(own) = own else {
        return Ok((report, calibration));
    };
    let mut places: HashMap<&str, usize> = HashMap::new();
    let rows: Vec<Row> = own
        .iter()
        .map(|caption| {
            let next = places.len();
            let votes = calibration.vote_log_odds(&caption.features);
            let value = |feature| own_value(&caption.features, votes, feature);
            Row {
                values: values(&Feature::OF_OWN, value),
                accepted: caption.likeness >= args.acceptable,
                image: *places.entry(caption.picture()).or_insert(next),
            }
        })
        .collect();
    let context = "the pack's own captions";
    let probabilities = logistic::cross_validated(&Feature::OF_OWN, &rows, args.folds, args.seed)
        .context(context)?;
    report.put_own(args, own, &probabilities)?;
    report.own_by_votes_alone = Some(by_votes_alone(args, &calibration, own)?);
    calibration.own = Some(logistic::fit(&Feature::OF_OWN, rows.iter()).context(context)?);
    Ok((report, calibration))
}

/// Measures a calibration that is there already.
fn measured(
    args: &CalibrateArgs,
    calibration: &Calibration,
    voted: &[VotedFeatures],
    own: Option<&[OwnCaption]>,
) -> Result<Report> {
    let by_votes = |features: &Features| sigmoid(calibration.vote_log_odds(features));
    let votes = voted
        .iter()
        .map(|vote| (by_votes(&vote.features), vote.accepted));
    let mut report = Report {
        votes: reliability(votes)?,
        own: None,
        own_by_folder: BTreeMap::new(),
        own_by_votes_alone: None,
        rule: None,
    };
    if let Some(own) = own {
        let probability = |caption: &OwnCaption| calibration.probability(&caption.features);
        let probabilities: Vec<f64> = own.iter().map(probability).collect();
        report.put_own(args, own, &probabilities)?;
        report.own_by_votes_alone = Some(by_votes_alone(args, calibration, own)?);
    }
    Ok(report)
}

impl Report {
    /// Puts in what the pack's own captions are worth, together and by folder.
    fn put_own(
        &mut self,
        args: &CalibrateArgs,
        own: &[OwnCaption],
        probabilities: &[f64],
    ) -> Result<()> {
        let mut folders: BTreeMap<&str, Vec<(f64, bool)>> = BTreeMap::new();
        for (caption, probability) in own.iter().zip(probabilities) {
            let accepted = caption.likeness >= args.acceptable;
            let folder = folders.entry(caption.folder()).or_default();
            folder.push((*probability, accepted));
        }
        self.own = Some(reliability(folders.values().flatten().copied())?);
        if folders.len() > 1 {
            for (folder, rows) in folders {
                let name = format!("own captions, {folder}");
                self.own_by_folder
                    .insert(name, reliability(rows.into_iter())?);
            }
        }
        Ok(())
    }
}

fn by_votes_alone(
    args: &CalibrateArgs,
    calibration: &Calibration,
    own: &[OwnCaption],
) -> Result<Reliability> {
    reliability(own.iter().map(|caption| {
        let accepted = caption.likeness >= args.acceptable;
        let log_odds = calibration.vote_log_odds(&caption.features);
        (sigmoid(log_odds), accepted)
    }))
}

fn reliability(rows: impl Iterator<Item = (f64, bool)>) -> Result<Reliability> {
    Reliability::new(&rows.collect::<Vec<_>>()).context("a confidence is no number")
}

/// The pack's own captions with what it knows of them, for whoever looks for better features.
fn table(own: &[OwnCaption], acceptable: f32) -> String {
    let mut text = String::from(
        "image\tcaption\taccepted\tlikeness\tscore\tmargin\tagreement\tsupport\tlog_probability\tsharpness\tcontrast\n",
    );
    for row in own {
        let f = &row.features;
        let optional = |value: Option<f32>| value.map_or(String::new(), |v| v.to_string());
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            row.image,
            row.caption,
            u8::from(row.likeness >= acceptable),
            row.likeness,
            f.score,
            f.margin,
            f.agreement,
            f.support,
            optional(f.log_probability),
            optional(f.sharpness),
            optional(f.contrast),
        );
    }
    text
}

fn diagram(report: &Report) -> String {
    let named = [
        ("people's votes", Some(&report.votes)),
        ("own captions", report.own.as_ref()),
        (
            "own captions, by votes alone",
            report.own_by_votes_alone.as_ref(),
        ),
    ];
    let series: Vec<Series<'_>> = named
        .into_iter()
        .filter_map(|(name, reliability)| {
            Some(Series {
                name,
                reliability: reliability?,
            })
        })
        .collect();
    draw(&series)
}

fn print(report: &Report) {
    println!(
        "{:<30} {:>7} {:>9} {:>10} {:>6} {:>8} {:>6} {:>6} {:>9}",
        "", "rows", "accepted", "confidence", "ECE", "ECE(w)", "Brier", "AUROC", "best half"
    );
    line("people's votes", &report.votes);
    if let Some(own) = &report.own {
        line("own captions", own);
    }
    for (name, own) in &report.own_by_folder {
        line(name, own);
    }
    if let Some(own) = &report.own_by_votes_alone {
        line("own captions, by votes alone", own);
    }
    if let Some(own) = &report.own {
        println!("\nconfidence from   share of the captions   accepted of them");
        for point in own.coverage.iter().rev() {
            println!(
                "{:>15.3}   {:>21.2}   {:>16.3}",
                point.confidence, point.coverage, point.accepted
            );
        }
    }
    if let Some(rule) = &report.rule {
        println!(
            "\nthe rule against two of three experts: kappa {:.3}, precision {:.3}, recall {:.3} ({} captions, {:.3} accepted)",
            rule.kappa, rule.precision, rule.recall, rule.rows, rule.accepted
        );
    }
}

fn line(name: &str, r: &Reliability) {
    println!(
        "{name:<30} {:>7} {:>9.3} {:>10.3} {:>6.3} {:>8.3} {:>6.3} {:>6.3} {:>9.3}",
        r.rows,
        r.accepted,
        r.confidence,
        r.ece,
        r.ece_equal_width,
        r.brier,
        r.auroc.unwrap_or(f64::NAN),
        r.accepted_at(0.5).unwrap_or(f64::NAN)
    );
}

fn write(
    args: &CalibrateArgs,
    pack: &Pack,
    calibration: Calibration,
    votes: usize,
    own: Option<usize>,
) -> Result<()> {
    let text = toml::to_string(&CalibrationFile::new(calibration, pack))?;
    let fitted_on = match own {
        Some(own) => format!("{votes} votes and {own} captions of its own"),
        None => format!("{votes} votes"),
    };
    let place: &Path = match &args.out {
        Some(out) => {
            replace(out, text.as_bytes())?;
            out
        }
        None => {
            let named = pack.manifest.calibration.as_ref();
            let record = FileRecord {
                section: "calibration",
                name: named.map_or(FILE, |part| &part.file),
                bytes: text.as_bytes(),
                licence: "Apache-2.0",
                provenance: &format!("captiond calibrate, {fitted_on}"),
            };
            record.write(&pack.folder)?;
            &pack.folder
        }
    };
    eprintln!("{}: calibrated on {fitted_on}", place.display());
    Ok(())
}
