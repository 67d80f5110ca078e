//! Captions images with a pack, keeping what is done in a file so that a long run can be resumed.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    captioner::{Captioner, Seen, StageTimes},
    cli::{generation::GenerationArgs, progress},
    embedding::ImageFeatures,
    engine::tract::TractEngine,
    eval::{
        captions::predictions::{Header, ImageName, Prediction},
        samples::Sample,
    },
    fit::cache::{EmbeddingCache, key},
    pack::{Pack, digest},
    source::{Frame, Pixels},
};

/// A caption with the milliseconds that it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    file: String,
    caption: String,
    confidence: f32,
    ms: f32,
}

/// Captions of all images.
#[derive(Debug)]
pub(super) struct Made {
    lines: Vec<Line>,
}

impl Made {
    /// As predictions, in the order of the images.
    pub fn predictions(&self) -> Vec<Prediction> {
        let prediction = |line: &Line| Prediction {
            image: ImageName::Text(line.file.clone()),
            caption: line.caption.clone(),
        };
        self.lines.iter().map(prediction).collect()
    }

    /// Median of the milliseconds that a caption took, those of earlier runs among them.
    pub fn median_ms(&self) -> Option<f32> {
        let mut all: Vec<f32> = self.lines.iter().map(|line| line.ms).collect();
        all.sort_unstable_by(f32::total_cmp);
        all.get(all.len() / 2).copied()
    }
}

/// Where images are, and what is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task<'a> {
    /// Images and clips to caption.
    pub samples: &'a [Sample],
    /// Folder that they are in.
    pub folder: &'a Path,
    /// Frames that were taken of each clip.
    pub frames: usize,
    /// File of the captions.
    pub save: Option<&'a Path>,
    /// Folder of cached embeddings, which the image tower's go to.
    pub cache: &'a Path,
}

/// Captions images with a pack.
///
/// # Errors
/// When the pack or an image can't be used, or `save` belongs to another pack or other settings, or is
/// damaged.
pub(super) fn run(task: Task<'_>, pack: &mut Pack, generation: &GenerationArgs) -> Result<Made> {
    let header = identity(pack, generation, task)?;
    let (mut done, mut file) = match task.save {
        Some(path) => {
            let (done, file) = open(path, &header)?;
            (done, Some((path, file)))
        }
        None => (HashMap::new(), None),
    };
    let missing: Vec<&Sample> = task
        .samples
        .iter()
        .filter(|sample| !done.contains_key(&sample.name))
        .collect();
    if !missing.is_empty() {
        let dimension = pack.manifest.image_tower.dimension;
        let identity = pack.image_embedding_identity();
        let mut cache = EmbeddingCache::open(task.cache, &identity, dimension)?;
        let mut captioner = generation.load(pack, &TractEngine)?;
        let bar = progress::bar("captions", missing.len());
        for sample in missing {
            let line = caption(&mut captioner, task.folder, sample, &mut cache)?;
            if let Some((path, file)) = &mut file {
                let text = serde_json::to_string(&line)? + "\n";
                file.write_all(text.as_bytes())
                    .with_context(|| path.display().to_string())?;
            }
            done.insert(sample.name.clone(), line);
            bar.inc(1);
        }
        bar.finish_and_clear();
    }
    let lines = task.samples.iter();
    Ok(Made {
        lines: lines
            .filter_map(|sample| done.remove(&sample.name))
            .collect(),
    })
}

fn identity(pack: &Pack, generation: &GenerationArgs, task: Task<'_>) -> Result<Header> {
    let manifest = pack.folder.join("pack.toml");
    let clips = task.samples.iter().any(|sample| sample.clip);
    Ok(Header {
        pack: pack.label(),
        pack_sha256: digest::of_file(&manifest).with_context(|| manifest.display().to_string())?,
        generation: generation.differences(),
        frames: clips.then_some(task.frames),
    })
}

/// Reads what is in a file of captions and opens it to add more. A last line that was cut off is
/// removed: its image is captioned again.
fn open(path: &Path, header: &Header) -> Result<(HashMap<String, Line>, File)> {
    let context = || format!("captions {}", path.display());
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(context)?;
    let text = fs::read_to_string(path).with_context(context)?;
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    if whole < text.len() {
        file.set_len(whole as u64).with_context(context)?;
    }
    let mut lines = text[..whole].lines().enumerate();
    let Some((_, first)) = lines.next() else {
        let text = serde_json::to_string(header)? + "\n";
        file.write_all(text.as_bytes()).with_context(context)?;
        return Ok((HashMap::new(), file));
    };
    let found: Header = serde_json::from_str(first).with_context(|| {
        format!(
            "{}: line 1: expected the pack that the captions are of; give --save a file of its own",
            context()
        )
    })?;
    if found != *header {
        bail!(
            "{}: its captions are of {}, not of {}; give --save another file",
            context(),
            whose(&found),
            whose(header)
        );
    }
    let mut done = HashMap::new();
    for (number, line) in lines {
        let line: Line = serde_json::from_str(line)
            .with_context(|| format!("{}: line {}", context(), number + 1))?;
        done.insert(line.file.clone(), line);
    }
    Ok((done, file))
}

fn whose(header: &Header) -> String {
    let sha256 = &header.pack_sha256;
    let short = sha256.get(..12).unwrap_or(sha256);
    let mut text = format!("pack {} ({short})", header.pack);
    if !header.generation.is_empty() {
        text += &format!(" with {}", header.generation);
    }
    if let Some(frames) = header.frames {
        text += &format!(" with --frames {frames}");
    }
    text
}

/// Captions an image, or a clip by the mean of what the image tower says of its frames.
fn caption(
    captioner: &mut Captioner,
    folder: &Path,
    sample: &Sample,
    cache: &mut EmbeddingCache,
) -> Result<Line> {
    let start = Instant::now();
    let mut features = Vec::with_capacity(sample.files.len());
    let mut quality = Default::default();
    for file in &sample.files {
        let path = folder.join(file);
        let origin = path.display().to_string();
        let bytes = fs::read(&path).with_context(|| origin.clone())?;
        let key = key(&bytes);
        let frame = Frame {
            pixels: Pixels::Encoded(bytes),
            origin,
            taken: Duration::ZERO,
        };
        let seen = captioner.look(&frame, &mut StageTimes::default())?;
        // What the metrics by embeddings need: it isn't computed again.
        if !cache.contains(&key) {
            cache.put(key, &seen.features.embedding)?;
        }
        features.push(seen.features);
        // Of a clip the last frame's: an evaluation scores the caption, whatever the verdict.
        quality = seen.quality;
    }
    let features = ImageFeatures::mean(&features).with_context(|| sample.name.clone())?;
    let found = captioner
        .say(&Seen { features, quality }, StageTimes::default())
        .with_context(|| sample.name.clone())?;
    Ok(Line {
        file: sample.name.clone(),
        caption: found.caption,
        confidence: found.confidence,
        ms: start.elapsed().as_secs_f32() * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sha256: &str) -> Header {
        Header {
            pack: "p 1".into(),
            pack_sha256: sha256.into(),
            generation: String::new(),
            frames: None,
        }
    }

    #[test]
    fn a_saved_file_is_resumed_and_belongs_to_one_pack() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.jsonl");
        let (done, mut file) = open(&path, &header("aa")).unwrap();
        assert!(done.is_empty());
        let line = Line {
            file: "a.jpg".into(),
            caption: "a cup".into(),
            confidence: 0.5,
            ms: 12.0,
        };
        let text = serde_json::to_string(&line).unwrap();
        // The second line was cut off.
        write!(file, "{text}\n{}", &text[..9]).unwrap();
        drop(file);
        let (done, mut file) = open(&path, &header("aa")).unwrap();
        assert_eq!(done.get("a.jpg"), Some(&line));
        writeln!(file, "{}", text.replace("a.jpg", "b.jpg")).unwrap();
        drop(file);
        assert_eq!(open(&path, &header("aa")).unwrap().0.len(), 2);
        let error = open(&path, &header("bb")).unwrap_err().to_string();
        assert!(
            error.contains("of pack p 1 (aa), not of pack p 1 (bb)"),
            "{error}"
        );
        let frames = Header {
            frames: Some(4),
            ..header("aa")
        };
        let error = open(&path, &frames).unwrap_err().to_string();
        assert!(error.contains("with --frames 4"), "{error}");
        fs::write(&path, "not JSON\n").unwrap();
        let error = open(&path, &header("aa")).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}
