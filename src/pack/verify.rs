//! Tries all of a pack: its manifest, every file, every part, and a picture through the chain.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use image::RgbImage;
use serde::Serialize;

use super::{Pack, PackError, digest, fields};
use crate::{
    captioner::{Captioner, Describe as _},
    engine::Engine,
    source::{Frame, Pixels},
};

/// Whether something is to be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// The pack is not as it should be.
    Problem,
    /// It works, but somebody may wonder.
    Note,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// The file within the pack.
    pub file: String,
    /// The field, tensor, key or property of it.
    pub field: String,
    /// What was found and what was expected.
    pub found: String,
    /// The way out.
    pub remedy: String,
}

/// What verifying a pack found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// "name version"; empty when the manifest can't be read.
    pub pack: String,
    /// Files that were hashed.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What the chain says of the self-test picture; none when it can't say anything (see the findings).
    pub caption: Option<String>,
    /// Milliseconds for it.
    pub caption_ms: Option<f32>,
    /// Problems and notes.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether there is no problem.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|f| f.weight == Weight::Note)
    }

    fn problem(&mut self, file: &str, field: &str, found: impl Into<String>, remedy: &str) {
        self.find(Weight::Problem, file, field, found, remedy);
    }

    fn note(&mut self, file: &str, field: &str, found: impl Into<String>, remedy: &str) {
        self.find(Weight::Note, file, field, found, remedy);
    }

    fn find(
        &mut self,
        weight: Weight,
        file: &str,
        field: &str,
        found: impl Into<String>,
        remedy: &str,
    ) {
        self.findings.push(Finding {
            weight,
            file: file.to_owned(),
            field: field.to_owned(),
            found: found.into(),
            remedy: remedy.to_owned(),
        });
    }

    /// A part that is refused.
    fn refused(&mut self, error: &PackError) {
        let finding = match error {
            PackError::Mismatch(m) => Finding {
                weight: Weight::Problem,
                file: m.file.clone(),
                field: m.field.clone(),
                found: format!("found {}, expected {}", m.found, m.expected),
                remedy: m.remedy.clone(),
            },
            // The others say all of it in one sentence.
            other => {
                let (file, field) = match other {
                    PackError::Read { file, .. } => (file.as_str(), "content"),
                    PackError::Network { file, .. } => (file.as_str(), "network"),
                    PackError::NoPart { section, .. } => ("pack.toml", *section),
                    _ => ("pack.toml", "content"),
                };
                Finding {
                    weight: Weight::Problem,
                    file: file.to_owned(),
                    field: field.to_owned(),
                    found: other.to_string(),
                    remedy: String::new(),
                }
            }
        };
        // The chain loads again what was tried alone.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// Verifies a pack. What is wrong with it is no error, it stands in the report.
pub fn verify(folder: &Path, engine: &dyn Engine) -> Report {
    let mut report = Report::default();
    let pack = match Pack::read_manifest(folder) {
        Ok(pack) => pack,
        Err(error) => {
            report.refused(&error);
            return report;
        }
    };
    report.pack = pack.label();
    check_files(&pack, &mut report);
    if !report.is_good() {
        let found = "no part was loaded, since files are damaged";
        report.note("pack.toml", "self-test", found, "mend them first");
        return report;
    }
    check_parts(&pack, engine, &mut report);
    report
}

/// Every listed file: inside, once, whole. Every file of the folder: listed.
fn check_files(pack: &Pack, report: &mut Report) {
    let again = "the file was damaged or changed: copy the pack again (captiond pack pull)";
    let root = fs::canonicalize(&pack.folder).unwrap_or_else(|_| pack.folder.clone());
    let mut seen: BTreeMap<PathBuf, &str> = BTreeMap::new();
    let used = named(pack);
    for (name, entry) in &pack.manifest.files {
        let path = pack.folder.join(name);
        let real = match fs::canonicalize(&path) {
            Ok(real) => real,
            Err(error) => {
                report.problem(name, "file", error.to_string(), again);
                continue;
            }
        };
        // The manifest's paths stay inside; a symbolic link needn't.
        if !real.starts_with(&root) {
            let found = format!("a link to {}, outside of the pack", real.display());
            let remedy = "put the file itself there: a pack is copied without what is beside it";
            report.problem(name, "file", found, remedy);
            continue;
        }
        if let Some(other) = seen.insert(real.clone(), name) {
            let found = format!("the same file as {other}");
            report.problem(name, "file", found, "list it once");
        }
        let size = match fs::metadata(&real) {
            Ok(meta) if meta.is_file() => meta.len(),
            Ok(_) => {
                report.problem(name, "file", "no file, but a folder or a device", again);
                continue;
            }
            Err(error) => {
                report.problem(name, "file", error.to_string(), again);
                continue;
            }
        };
        if let Some(expected) = entry.size
            && expected != size
        {
            let found = format!("found {size} bytes, expected {expected}");
            report.problem(name, "size", found, again);
            continue;
        }
        match digest::of_file(&real) {
            Ok(found) if found == entry.sha256 => {
                report.files += 1;
                report.bytes += size;
            }
            Ok(found) => {
                let found = format!("found {found}, expected {}", entry.sha256);
                report.problem(name, "sha256", found, again);
            }
            Err(error) => report.problem(name, "content", error.to_string(), again),
        }
        if !used.contains(name.as_str()) {
            let found = "listed, but no section names it";
            report.note(name, "files", found, "remove it, or its entry");
        }
    }
    let mut there = Vec::new();
    list(&pack.folder, "", &mut there);
    for name in there {
        if name != "pack.toml" && !pack.manifest.files.contains_key(&name) {
            let found = "in the folder, but not listed: it isn't checked, and `captiond pack pull` won't \
                         fetch it";
            report.note(&name, "files", found, "list it, or remove it");
        }
    }
}

/// The files that some section uses: what stands anywhere in the manifest but in `[files]`.
fn named(pack: &Pack) -> BTreeSet<&str> {
    let fields = fields::read(&pack.folder).unwrap_or_default();
    let values: Vec<&String> = fields
        .iter()
        .filter(|(field, _)| !field.starts_with("files."))
        .map(|(_, value)| value)
        .collect();
    let listed = pack.manifest.files.keys().map(String::as_str);
    listed
        .filter(|name| {
            let quoted = toml::Value::from(*name).to_string();
            values.iter().any(|value| value.contains(&quoted))
        })
        .collect()
}

/// Paths of all files below, as they would stand in the manifest.
fn list(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list(&entry.path(), &format!("{name}/"), found),
            _ => found.push(name),
        }
    }
    found.sort();
}

/// Loads each part, then sends a picture through.
fn check_parts(pack: &Pack, engine: &dyn Engine, report: &mut Report) {
    let m = &pack.manifest;
    // The chain without a decoder leaves the text tower alone, so it's tried here.
    let text = pack.text_tower(engine).and_then(|mut tower| {
        let embedded = tower.embed("a test");
        embedded.map(|_| ()).map_err(|error| {
            let field = "self-test";
            pack.mismatch(
                &m.text_tower.file,
                field,
                error.to_string(),
                "an embedding".to_owned(),
                "export the text tower again",
            )
        })
    });
    if let Err(error) = text {
        report.refused(&error);
    }
    match pack.calibration() {
        Ok(Some((_, standing))) => {
            if let (Some(warning), Some(part)) = (standing.warning(), &m.calibration) {
                report.note(&part.file, "chain", warning, "captiond calibrate");
            }
        }
        Ok(None) => report.note(
            "pack.toml",
            "calibration",
            "none: confidences are not probabilities",
            "captiond calibrate",
        ),
        Err(error) => report.refused(&error),
    }
    let missing = [
        ("realignment", &m.realignment, "captiond fit"),
        ("datastore", &m.datastore, "captiond datastore build"),
    ];
    let mut towers_only = false;
    for (section, part, remedy) in missing {
        if part.is_none() {
            towers_only = true;
            report.note(
                "pack.toml",
                section,
                "none: the pack can't caption yet",
                remedy,
            );
        }
    }
    if towers_only {
        if let Err(error) = try_tower(pack, engine) {
            report.refused(&error);
        }
        if let Err(error) = pack.decoder(engine) {
            report.refused(&error);
        }
        return;
    }
    let mut captioner = match Captioner::load(pack, engine) {
        Ok(captioner) => captioner,
        Err(error) => return report.refused(&error),
    };
    let frame = Frame {
        pixels: Pixels::Rgb(test_picture()),
        origin: "the self-test picture".into(),
        taken: Duration::ZERO,
    };
    let start = Instant::now();
    match captioner.describe(&frame) {
        Ok(said) => {
            report.caption = Some(said.caption);
            report.caption_ms = Some(start.elapsed().as_secs_f32() * 1e3);
        }
        Err(error) => report.problem(
            "pack.toml",
            "self-test",
            format!("{error:#}"),
            "export or copy the pack again; if that doesn't help, this is a defect: report it",
        ),
    }
}

fn try_tower(pack: &Pack, engine: &dyn Engine) -> Result<(), PackError> {
    let embedded = pack.image_tower(engine)?.embed(&test_picture());
    embedded.map(|_| ()).map_err(|error| {
        pack.mismatch(
            &pack.manifest.image_tower.file,
            "self-test",
            error.to_string(),
            "an embedding".to_owned(),
            "export the image tower again",
        )
    })
}

/// Neither dark nor flat, of no meaning.
fn test_picture() -> RgbImage {
    RgbImage::from_fn(640, 480, |x, y| {
        let board = if (x / 40 + y / 40) % 2 == 0 { 60 } else { 0 };
        image::Rgb([(x % 196) as u8 + board, (y % 196) as u8 + board, 90 + board])
    })
}
