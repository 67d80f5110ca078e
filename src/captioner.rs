//! The chain from one frame to a caption with its confidence.

use std::{borrow::Cow, time::Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    caption::{choose, confidence::confidence},
    datastore::CentredRows,
    embedding::ImageTower,
    engine::Engine,
    frame::{self, Limits},
    pack::{CaptionSpec, Pack, PackError},
    realignment::Realignment,
    source::{Frame, Pixels},
};

/// A datastore caption near the frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Neighbour {
    /// The caption's text.
    pub caption: String,
    /// Cosine of the realigned, centred frame and the centred caption, in [-1, 1].
    pub score: f32,
}

/// Milliseconds spent in each stage for one frame.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct StageTimes {
    /// JPEG/PNG bytes to pixels.
    pub decode: f32,
    /// Crop, resize, normalise.
    pub preprocess: f32,
    /// The image tower.
    pub embed: f32,
    /// Centring and W.
    pub realign: f32,
    /// Datastore scan.
    pub retrieve: f32,
    /// Choice of the caption and its confidence.
    pub caption: f32,
    /// All of the above and what is between.
    pub total: f32,
}

/// What the chain says of one frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// The chosen caption.
    pub caption: String,
    /// In [0, 1]; see [`mod@crate::caption::confidence`] for what it means and does not mean yet.
    pub confidence: f32,
    /// The nearest datastore captions, best first.
    pub neighbours: Vec<Neighbour>,
    /// Where the time went.
    pub ms: StageTimes,
}

/// Anything that describes frames: the real chain, or a fake in the daemon's tests.
pub trait Describe: Send {
    /// Captions one frame.
    ///
    /// # Errors
    /// When the frame can't be decoded (names the origin) or the engine fails.
    fn describe(&mut self, frame: &Frame) -> Result<Description>;

    /// Name and version of the model pack, for messages.
    fn pack(&self) -> &str;
}

/// The real chain, made from a pack.
pub struct Captioner {
    label: String,
    spec: CaptionSpec,
    limits: Limits,
    tower: ImageTower,
    realignment: Realignment,
    rows: CentredRows,
}

impl Captioner {
    /// Loads what captioning needs. The text tower stays on disk: the datastore has the captions'
    /// embeddings already.
    ///
    /// # Errors
    /// [`PackError`] when the pack has no realignment or datastore, or a part does not fit.
    pub fn load(pack: &Pack, engine: &dyn Engine) -> Result<Self, PackError> {
        let tower = pack.image_tower(engine)?;
        let realignment = pack.realignment()?;
        let rows = CentredRows::new(pack.datastore()?, realignment.mean_text());
        Ok(Self {
            label: pack.label(),
            spec: pack.manifest.caption.clone(),
            limits: Limits::default(),
            tower,
            realignment,
            rows,
        })
    }
}

/// Milliseconds since `from`, and now.
fn lap(from: Instant) -> (f32, Instant) {
    let now = Instant::now();
    ((now - from).as_secs_f32() * 1e3, now)
}

impl Describe for Captioner {
    fn describe(&mut self, frame: &Frame) -> Result<Description> {
        let start = Instant::now();
        let context = || frame.origin.clone();
        let picture = match &frame.pixels {
            Pixels::Encoded(bytes) => {
                Cow::Owned(frame::decode(bytes, self.limits).with_context(context)?)
            }
            Pixels::Rgb(picture) => Cow::Borrowed(picture),
        };
        let (decode, at) = lap(start);
        self.tower.preprocess(&picture).with_context(context)?;
        let (preprocess, at) = lap(at);
        let embedding = self.tower.embed_preprocessed().with_context(context)?;
        let (embed, at) = lap(at);
        let realigned = self.realignment.realign(&embedding);
        let (realign, at) = lap(at);
        let hits = self
            .rows
            .nearest(&realigned, self.spec.candidates.max(self.spec.neighbours));
        let (retrieve, at) = lap(at);
        let chosen =
            choose(&self.rows, &hits, &self.spec).context("the datastore has no captions")?;
        let text = |row| self.rows.store().caption(row).to_owned();
        let neighbours = hits
            .iter()
            .take(self.spec.neighbours)
            .map(|hit| Neighbour {
                caption: text(hit.row),
                score: hit.score,
            })
            .collect();
        let (caption, _) = lap(at);
        let (total, _) = lap(start);
        Ok(Description {
            caption: text(chosen.row),
            confidence: confidence(chosen.score, self.spec.clip_s_weight),
            neighbours,
            ms: StageTimes {
                decode,
                preprocess,
                embed,
                realign,
                retrieve,
                caption,
                total,
            },
        })
    }

    fn pack(&self) -> &str {
        &self.label
    }
}
