//! `captiond pack info`: what is in a pack.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::sizes;
use crate::{
    pack::{Pack, PackError, Standing, default_pack, fields},
    realignment::Realignment,
};

/// Of which pack.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The pack. Default: $CAPTIOND_PACK, else the pack that comes with captiond.
    #[arg(value_name = "DIR")]
    pack: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Info {
    folder: PathBuf,
    name: String,
    version: String,
    description: String,
    bytes: u64,
    image_tower: ImageTower,
    text_tower: TextTower,
    common_space: bool,
    realignment: Option<Part<Map>>,
    judge: Option<Part<Map>>,
    datastore: Option<Part<Store>>,
    /// Keys of `[decoder]` as they stand in the manifest.
    decoder: Option<BTreeMap<String, String>>,
    calibration: Option<Part<&'static str>>,
    files: BTreeMap<String, File>,
}

#[derive(Serialize)]
struct ImageTower {
    file: String,
    dimension: usize,
    /// Height and width in pixels.
    size: [usize; 2],
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct TextTower {
    file: String,
    tokenizer: String,
    dimension: usize,
    max_length: usize,
    bytes: Option<u64>,
}

/// A part that may be unusable.
#[derive(Serialize)]
#[serde(untagged)]
enum Part<T> {
    Good(T),
    Bad { error: String },
}

impl<T> From<Result<T, PackError>> for Part<T> {
    fn from(result: Result<T, PackError>) -> Self {
        match result {
            Ok(part) => Self::Good(part),
            Err(error) => Self::Bad {
                error: error.to_string(),
            },
        }
    }
}

#[derive(Serialize)]
struct Map {
    kind: &'static str,
    pairs: u64,
    lambda: f64,
}

#[derive(Serialize)]
struct Store {
    rows: usize,
    dimension: usize,
}

#[derive(Serialize)]
struct File {
    bytes: Option<u64>,
    licence: String,
    provenance: String,
}

pub(super) fn run(args: &InfoArgs) -> Result<ExitCode> {
    let folder = match &args.pack {
        Some(folder) => folder.clone(),
        None => default_pack()?,
    };
    // Without the hashes: that is `verify`, and here a pack may be shown that is not right.
    let info = gather(&Pack::read_manifest(&folder)?)?;
    if args.json {
        println!("{}", serde_json::to_string(&info)?);
    } else {
        print(&info);
    }
    Ok(ExitCode::SUCCESS)
}

fn map(map: Realignment) -> Map {
    Map {
        kind: map.provenance.kind.name(),
        pairs: map.provenance.pairs,
        lambda: map.provenance.lambda,
    }
}

fn gather(pack: &Pack) -> Result<Info, PackError> {
    let m = &pack.manifest;
    let files: BTreeMap<String, File> = m
        .files
        .iter()
        .map(|(name, entry)| {
            let file = File {
                bytes: sizes::of(pack, name),
                licence: entry.licence.clone(),
                provenance: entry.provenance.clone(),
            };
            (name.clone(), file)
        })
        .collect();
    let decoder: BTreeMap<String, String> = fields::read(&pack.folder)?
        .into_iter()
        .filter_map(|(field, value)| {
            let key = field.strip_prefix("decoder.")?.to_owned();
            Some((key, value.trim_matches('"').to_owned()))
        })
        .collect();
    Ok(Info {
        folder: pack.folder.clone(),
        name: m.name.clone(),
        version: m.version.clone(),
        description: m.description.clone(),
        bytes: files.values().filter_map(|file| file.bytes).sum(),
        image_tower: ImageTower {
            file: m.image_tower.file.clone(),
            dimension: m.image_tower.dimension,
            size: m.image_tower.size,
            bytes: sizes::of(pack, &m.image_tower.file),
        },
        text_tower: TextTower {
            file: m.text_tower.file.clone(),
            tokenizer: m.text_tower.tokenizer.clone(),
            dimension: m.text_tower.dimension,
            max_length: m.text_tower.max_length,
            bytes: sizes::of(pack, &m.text_tower.file),
        },
        common_space: m.has_common_space(),
        realignment: m
            .realignment
            .as_ref()
            .map(|_| pack.realignment().map(map).into()),
        judge: m.judge.as_ref().map(|_| pack.judge().map(map).into()),
        datastore: m.datastore.as_ref().map(|_| {
            let store = pack.datastore().map(|store| Store {
                rows: store.len(),
                dimension: store.dimension(),
            });
            store.into()
        }),
        decoder: Some(decoder).filter(|keys| !keys.is_empty()),
        calibration: match pack.calibration() {
            Ok(None) => None,
            Ok(Some((_, standing))) => Some(Part::Good(standing_name(standing))),
            Err(error) => Some(Part::Bad {
                error: error.to_string(),
            }),
        },
        files,
    })
}

fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::Current => "current",
        Standing::OtherCaptions => "of other captions",
        Standing::OtherScores => "of other scores",
    }
}

fn print(info: &Info) {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "MISSING".to_owned(), sizes::bytes);
    println!("pack         {} {}", info.name, info.version);
    if !info.description.is_empty() {
        println!("             {}", info.description);
    }
    println!("folder       {}", info.folder.display());
    println!(
        "size         {} in {} files",
        sizes::bytes(info.bytes),
        info.files.len()
    );
    let t = &info.image_tower;
    println!(
        "image tower  {}, {} numbers from {} x {} pixels, {}",
        t.file,
        t.dimension,
        t.size[1],
        t.size[0],
        size(t.bytes)
    );
    let t = &info.text_tower;
    println!(
        "text tower   {}, {} numbers from up to {} tokens, {}; tokenizer {}",
        t.file,
        t.dimension,
        t.max_length,
        size(t.bytes),
        t.tokenizer
    );
    if info.common_space {
        println!("             in one space with the image tower");
    }
    part(
        "realignment",
        info.realignment.as_ref(),
        "captiond fit",
        map_text,
    );
    if info.judge.is_some() {
        part("judge", info.judge.as_ref(), "", map_text);
    }
    part(
        "datastore",
        info.datastore.as_ref(),
        "captiond datastore build",
        |store: &Store| format!("{} captions x {}", store.rows, store.dimension),
    );
    match &info.decoder {
        None => println!("decoder      none: captions come from the datastore"),
        Some(keys) => {
            let kind = keys.get("kind").map_or("", String::as_str);
            let width = keys.get("width").map(|w| format!(", width {w}"));
            let layers = keys.get("layers").map(|n| format!(", {n} layers"));
            println!(
                "decoder      {kind}{}{}",
                layers.unwrap_or_default(),
                width.unwrap_or_default()
            );
        }
    }
    part(
        "calibration",
        info.calibration.as_ref(),
        "captiond calibrate",
        |standing| {
            let meaning = match *standing {
                "current" => "it fits the pack",
                "of other captions" => {
                    "the datastore, decoder or [generation] has changed since: a guess"
                }
                _ => "towers, maps or caption.neighbours have changed since: not used",
            };
            meaning.to_owned()
        },
    );
    println!("\nfile                        size  licence");
    for (name, file) in &info.files {
        println!("{name:<22} {:>9}  {}", size(file.bytes), file.licence);
        println!("{:<33} {}", "", file.provenance);
    }
}

fn map_text(map: &Map) -> String {
    format!("{}, fitted on {} pairs", map.kind, map.pairs)
}

fn part<T>(name: &str, part: Option<&Part<T>>, remedy: &str, text: impl Fn(&T) -> String) {
    match part {
        None => println!("{name:<12} none: make one with `{remedy}`"),
        Some(Part::Good(found)) => println!("{name:<12} {}", text(found)),
        Some(Part::Bad { error }) => println!("{name:<12} UNUSABLE: {error}"),
    }
}
