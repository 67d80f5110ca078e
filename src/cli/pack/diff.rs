//! `captiond pack diff`: what is different between two packs, and what it does to photographs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use super::{
    likeness::{Likeness, likeness},
    sizes,
};
use crate::{
    captioner::{Captioner, StageTimes},
    cli::progress,
    datastore::corpus,
    embedding::ImageTower,
    engine::tract::TractEngine,
    frame::{self, Limits},
    pack::{
        Pack,
        fields::{self, Difference},
    },
    source::{Frame, Pixels},
};

/// Which two packs, and on what.
///
/// The exit code is 0 whether they differ or not.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// One pack.
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The other.
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Photographs of yours: a folder of JPEG and PNG files. Compares embeddings, captions and speed.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Captions, one a line, TSV, COCO or Karpathy JSON. Compares their embeddings.
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,
    /// At most so many photographs, and so many captions, spread evenly.
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    most: usize,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Of one pack and the other.
#[derive(Debug, Serialize)]
struct Two<T> {
    a: T,
    b: T,
}

#[derive(Serialize)]
struct Report {
    packs: Two<String>,
    bytes: Two<u64>,
    /// By file; null where the pack has none of the name.
    files: BTreeMap<String, FileDifference>,
    fields: Vec<Difference>,
    images: Option<Images>,
    captions: Option<Likeness>,
}

#[derive(Serialize)]
struct FileDifference {
    bytes: Two<Option<u64>>,
    same: bool,
}

#[derive(Serialize)]
struct Images {
    embeddings: Likeness,
    /// Median milliseconds a photograph, from its bytes to the embedding.
    embed_ms: Two<f32>,
    /// Median milliseconds a photograph, from its bytes to the caption; null for a pack that can't caption.
    caption_ms: Two<Option<f32>>,
    /// Share of the photographs of which both say the same; null when one can't caption.
    same_caption: Option<f32>,
    photographs: Vec<Photograph>,
}

#[derive(Serialize)]
struct Photograph {
    file: String,
    /// Of the embeddings; null when the packs' have different lengths.
    cosine: Option<f32>,
    caption: Two<Option<String>>,
}

pub(super) fn run(args: &DiffArgs) -> Result<ExitCode> {
    if args.most == 0 {
        bail!("--most: found 0, expected at least 1");
    }
    let open = |folder: &Path| Pack::open(folder);
    let packs = Two {
        a: open(&args.a)?,
        b: open(&args.b)?,
    };
    let pictures = match &args.images {
        Some(folder) => Some(pictures(folder, args.most)?),
        None => None,
    };
    let texts = match &args.captions {
        Some(file) => {
            let texts = spread(corpus::read(file)?, args.most);
            if texts.is_empty() {
                bail!("{}: no caption in it, expected one a line", file.display());
            }
            Some(texts)
        }
        None => None,
    };
    let total = |pack: &Pack| {
        let sizes = pack
            .manifest
            .files
            .keys()
            .filter_map(|f| sizes::of(pack, f));
        sizes.sum()
    };
    let report = Report {
        bytes: Two {
            a: total(&packs.a),
            b: total(&packs.b),
        },
        files: files(&packs),
        fields: fields::differences(
            &fields::read(&packs.a.folder)?,
            &fields::read(&packs.b.folder)?,
        ),
        images: pictures.map(|files| images(&packs, &files)).transpose()?,
        captions: texts.map(|texts| captions(&packs, &texts)).transpose()?,
        packs: Two {
            a: packs.a.label(),
            b: packs.b.label(),
        },
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// Photographs of a folder, by name.
fn pictures(folder: &Path, most: usize) -> Result<Vec<PathBuf>> {
    let name = || folder.display().to_string();
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(name)? {
        let path = entry.with_context(name)?.path();
        let known = path.extension().is_some_and(|extension| {
            ["jpg", "jpeg", "png"]
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        });
        if known && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{}: no .jpg, .jpeg or .png file in it", folder.display());
    }
    files.sort();
    Ok(spread(files, most))
}

/// At most so many, evenly spread.
fn spread<T>(items: Vec<T>, most: usize) -> Vec<T> {
    let step = items.len().div_ceil(most).max(1);
    items.into_iter().step_by(step).collect()
}

fn files(packs: &Two<Pack>) -> BTreeMap<String, FileDifference> {
    let (a, b) = (&packs.a.manifest.files, &packs.b.manifest.files);
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let difference = |name: &String| {
        let hash = |files: &BTreeMap<_, crate::pack::FileEntry>| {
            files.get(name).map(|entry| entry.sha256.clone())
        };
        FileDifference {
            bytes: Two {
                a: a.get(name).and_then(|_| sizes::of(&packs.a, name)),
                b: b.get(name).and_then(|_| sizes::of(&packs.b, name)),
            },
            same: hash(a) == hash(b),
        }
    };
    names
        .into_iter()
        .map(|name| (name.clone(), difference(name)))
        .collect()
}

/// A pack at work: the whole chain where it has one, else its image tower.
enum Eye {
    Chain(Box<Captioner>),
    Tower(Box<ImageTower>),
}

/// What came of one photograph.
struct Sight {
    embedding: Vec<f32>,
    embed_ms: f32,
    caption: Option<(String, f32)>,
}

impl Eye {
    fn open(pack: &Pack) -> Result<Self> {
        let m = &pack.manifest;
        Ok(match m.realignment.is_some() && m.datastore.is_some() {
            true => Self::Chain(Box::new(Captioner::load(pack, &TractEngine)?)),
            false => Self::Tower(Box::new(pack.image_tower(&TractEngine)?)),
        })
    }

    fn see(&mut self, path: &Path) -> Result<Sight> {
        let name = || path.display().to_string();
        let bytes = fs::read(path).with_context(name)?;
        let ms = |since: Instant| since.elapsed().as_secs_f32() * 1e3;
        let start = Instant::now();
        match self {
            Self::Tower(tower) => {
                let picture = frame::decode(&bytes, Limits::default()).with_context(name)?;
                let embedding = tower.embed(&picture).with_context(name)?;
                Ok(Sight {
                    embedding,
                    embed_ms: ms(start),
                    caption: None,
                })
            }
            Self::Chain(captioner) => {
                let frame = Frame {
                    pixels: Pixels::Encoded(bytes),
                    origin: name(),
                    taken: Default::default(),
                };
                let mut times = StageTimes::default();
                let seen = captioner.look(&frame, &mut times)?;
                let embed_ms = ms(start);
                let said = captioner.say(&seen, times)?;
                Ok(Sight {
                    embedding: seen.features.embedding,
                    embed_ms,
                    caption: Some((said.caption, ms(start))),
                })
            }
        }
    }
}

fn images(packs: &Two<Pack>, files: &[PathBuf]) -> Result<Images> {
    let mut eyes = Two {
        a: Eye::open(&packs.a)?,
        b: Eye::open(&packs.b)?,
    };
    let bar = progress::bar("photos", files.len());
    // The first run pays for memory that later ones find ready.
    if let Some(first) = files.first() {
        eyes.a.see(first)?;
        eyes.b.see(first)?;
    }
    let mut seen = Two {
        a: Vec::new(),
        b: Vec::new(),
    };
    for (number, file) in files.iter().enumerate() {
        // In turns, so that neither has the quiet or the busy half of the time.
        if number % 2 == 0 {
            seen.a.push(eyes.a.see(file)?);
            seen.b.push(eyes.b.see(file)?);
        } else {
            seen.b.push(eyes.b.see(file)?);
            seen.a.push(eyes.a.see(file)?);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let rows = |sights: &[Sight]| -> Vec<Vec<f32>> {
        sights.iter().map(|sight| sight.embedding.clone()).collect()
    };
    let embeddings = likeness(&rows(&seen.a), &rows(&seen.b));
    let words = |sight: &Sight| sight.caption.as_ref().map(|(text, _)| text.clone());
    let photographs: Vec<Photograph> = files
        .iter()
        .zip(seen.a.iter().zip(&seen.b))
        .enumerate()
        .map(|(number, (file, (a, b)))| Photograph {
            file: file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            cosine: embeddings.cosines.get(number).copied(),
            caption: Two {
                a: words(a),
                b: words(b),
            },
        })
        .collect();
    let both = photographs
        .iter()
        .filter_map(|p| Some(p.caption.a.as_ref()? == p.caption.b.as_ref()?));
    let (count, same) = both.fold((0, 0), |(n, same), equal| {
        (n + 1, same + usize::from(equal))
    });
    let embed = |sights: &[Sight]| median(sights.iter().map(|s| s.embed_ms).collect());
    let caption = |sights: &[Sight]| {
        let times: Option<Vec<f32>> = sights
            .iter()
            .map(|s| s.caption.as_ref().map(|(_, ms)| *ms))
            .collect();
        times.map(median)
    };
    Ok(Images {
        embed_ms: Two {
            a: embed(&seen.a),
            b: embed(&seen.b),
        },
        caption_ms: Two {
            a: caption(&seen.a),
            b: caption(&seen.b),
        },
        same_caption: (count > 0).then(|| same as f32 / count as f32),
        embeddings,
        photographs,
    })
}

fn captions(packs: &Two<Pack>, texts: &[String]) -> Result<Likeness> {
    let embed = |pack: &Pack| -> Result<Vec<Vec<f32>>> {
        let mut tower = pack.text_tower(&TractEngine)?;
        let embed = |text: &String| {
            tower
                .embed(text)
                .with_context(|| format!("caption {text:?}"))
        };
        texts.iter().map(embed).collect()
    };
    Ok(likeness(&embed(&packs.a)?, &embed(&packs.b)?))
}

fn median(mut values: Vec<f32>) -> f32 {
    values.sort_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn print(report: &Report) {
    let Two { a, b } = &report.packs;
    println!("A {a}, {}", sizes::bytes(report.bytes.a));
    println!("B {b}, {}", sizes::bytes(report.bytes.b));
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), sizes::bytes);
    println!("\nfile                           A           B");
    for (name, file) in &report.files {
        let word = if file.same { "same" } else { "DIFFERENT" };
        let Two { a, b } = file.bytes;
        println!("{name:<22} {:>10} {:>11}  {word}", size(a), size(b));
    }
    // Hashes and sizes of files are told above.
    let told = |d: &&Difference| {
        !(d.field.starts_with("files.")
            && (d.field.ends_with(".sha256") || d.field.ends_with(".size")))
    };
    let fields: Vec<_> = report.fields.iter().filter(told).collect();
    if !fields.is_empty() {
        println!("\nfields of pack.toml that differ");
        for field in fields {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
            println!("{}: {} | {}", field.field, value(&field.a), value(&field.b));
        }
    }
    if let Some(images) = &report.images {
        println!("\n{} photographs", images.photographs.len());
        print_likeness("image embeddings", &images.embeddings);
        let Two { a, b } = images.embed_ms;
        println!("median ms to the embedding: {a:.1} | {b:.1}");
        if let Two {
            a: Some(a),
            b: Some(b),
        } = images.caption_ms
        {
            println!("median ms to the caption:   {a:.1} | {b:.1}");
        }
        if let Some(share) = images.same_caption {
            println!("same caption: {:.0} %", share * 100.0);
        }
        let worst = images
            .photographs
            .iter()
            .filter_map(|p| Some((p, p.cosine?)));
        if let Some((photograph, cosine)) = worst.min_by(|x, y| x.1.total_cmp(&y.1)) {
            println!("least alike: {} ({cosine:.5})", photograph.file);
        }
    }
    if let Some(captions) = &report.captions {
        println!();
        print_likeness("caption embeddings", captions);
    }
}

fn print_likeness(what: &str, likeness: &Likeness) {
    match (likeness.mean, likeness.median, likeness.least) {
        (Some(mean), Some(median), Some(least)) => {
            println!("{what}: cosine mean {mean:.5}, median {median:.5}, least {least:.5}");
        }
        _ => println!("{what}: of different lengths, so there is no cosine"),
    }
    if let Some(cka) = likeness.cka {
        println!("{what}: linear CKA {cka:.5} (1: the same up to rotation and scale)");
    }
}
