//! The chain from one frame to a caption with its confidence.

use std::{borrow::Cow, time::Instant};

use anyhow::{Context as _, Result};
use image::RgbImage;
use serde::Serialize;

use crate::{
    caption::{
        Candidate, Hidden, Proposal, Realigned, Speaker, alternatives, choose,
        confidence::{Calibration, Evidence, Features, Near, uncalibrated},
        wording::{self, Thresholds, Verdict},
    },
    datastore::{CentredRows, Datastore, dot},
    embedding::{ImageFeatures, ImageTower},
    engine::Engine,
    frame::{self, FrameQuality, Limits},
    pack::{CaptionSpec, Pack, PackError, Phrases, Standing},
    realignment::Realignment,
    source::{Frame, Pixels},
};

/// A caption with how well it fits the frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Neighbour {
    /// The caption's text.
    pub caption: String,
    /// Cosine of the frame and the centred caption, in [-1, 1]. Of the nearest captions it's the
    /// realignment's, which retrieved them; of a caption that could be said it's the judge's.
    pub score: f32,
}

/// Milliseconds spent in each stage for one frame.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct StageTimes {
    /// JPEG/PNG bytes to pixels.
    pub decode: f32,
    /// Brightness, sharpness and the like.
    pub quality: f32,
    /// Crop, resize, normalise.
    pub preprocess: f32,
    /// The image tower.
    pub embed: f32,
    /// Centring and W.
    pub realign: f32,
    /// Datastore scan.
    pub retrieve: f32,
    /// Choice among the nearest captions and the confidence.
    pub caption: f32,
    /// The decoder, from condition to finished sentences; 0 without one.
    pub generate: f32,
    /// Embedding and choosing among the decoder's sentences.
    pub rerank: f32,
    /// All of the above and what is between.
    pub total: f32,
}

/// What is known of a frame before anything is said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// From the image tower.
    pub features: ImageFeatures,
    /// Light, contrast, sharpness.
    pub quality: FrameQuality,
}

/// What the chain says of one frame. The default is a frame of which nothing is known, and nothing
/// said.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Description {
    /// The chosen caption as the chain made it, whatever the verdict: for evaluations. Empty when
    /// the gate ([`Captioner::gate`]) kept the frame from the chain.
    pub caption: String,
    /// In [0, 1]; see [`mod@crate::caption::confidence`]. 0 when the gate kept the frame from the
    /// chain.
    pub confidence: f32,
    /// Whether the confidence is the probability that a person accepts the caption.
    pub calibrated: bool,
    /// What the confidence was reckoned from; none when the gate kept the frame from the chain.
    pub features: Option<Features>,
    /// Light, contrast, sharpness of the frame.
    pub quality: FrameQuality,
    /// How the caption may be said.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What a person may hear: the caption, the caption as a guess, or why there is none.
    pub spoken: String,
    /// Up to three captions that say something else, best first; empty when all agree.
    pub alternatives: Vec<Neighbour>,
    /// The nearest datastore captions, best first.
    pub neighbours: Vec<Neighbour>,
    /// The datastore's own proposal.
    pub retrieved: Neighbour,
    /// The decoder's sentences, best first; empty when there is no decoder or it said nothing.
    pub candidates: Vec<Candidate>,
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

    /// The sentence for a caption that may not be said, in the pack's words. Default: English.
    fn unfamiliar(&self) -> String {
        Phrases::default().unfamiliar
    }

    /// What decoding a frame may cost from now on. Default: whoever has no such limit ignores it.
    fn set_limits(&mut self, _: Limits) {}
}

/// The real chain, made from a pack.
pub struct Captioner {
    label: String,
    spec: CaptionSpec,
    limits: Limits,
    tower: ImageTower,
    realignment: Realignment,
    /// Scores captions in place of the realignment.
    judge: Option<Realignment>,
    rows: CentredRows,
    speaker: Option<Speaker>,
    calibration: Option<Calibration>,
    /// Whether the calibration fits the pack in every part.
    calibrated: bool,
    warning: Option<String>,
    retrieval_margin: f32,
    phrases: Phrases,
    thresholds: Thresholds,
    gate: bool,
}

impl Captioner {
    /// Loads what captioning needs. Without a decoder the text tower stays on disk: the datastore
    /// has the captions' embeddings already.
    ///
    /// # Errors
    /// [`PackError`] when the pack has no realignment or datastore, or a part does not fit.
    pub fn load(pack: &Pack, engine: &dyn Engine) -> Result<Self, PackError> {
        let tower = pack.image_tower(engine)?;
        let realignment = pack.realignment()?;
        // Before judge and datastore: while a network is loaded its file is in memory beside it, and that of the text
        // tower, the largest, shall not come on top of all else. Behind the image tower, whose mistakes are told best.
        let speaker = Speaker::load(pack, engine, realignment.mean_text())?;
        let judge = pack.judge_beside(&realignment)?;
        let rows = CentredRows::new(pack.datastore()?, realignment.mean_text());
        let calibration = pack.calibration()?;
        let standing = calibration.as_ref().map(|(_, standing)| *standing);
        Ok(Self {
            label: pack.label(),
            spec: pack.manifest.caption.clone(),
            limits: Limits::default(),
            tower,
            realignment,
            judge,
            rows,
            speaker,
            calibration: calibration
                .filter(|(_, standing)| *standing != Standing::OtherScores)
                .map(|(calibration, _)| calibration),
            calibrated: standing == Some(Standing::Current),
            warning: standing
                .and_then(Standing::warning)
                .map(|warning| format!("pack {}: {warning}", pack.folder.display())),
            retrieval_margin: pack.manifest.generation.retrieval_margin,
            phrases: pack.manifest.phrases.clone(),
            thresholds: Thresholds::default(),
            gate: false,
        })
    }

    /// What the owner should know of the pack, for whoever has a log.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// From which confidence on a caption is said, and how.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// Whether a frame that is too bad to be captioned is kept from the chain, which saves its work:
    /// the caption would be withheld anyway. Off at first: evaluations score every caption.
    pub fn gate(&mut self, on: bool) {
        self.gate = on;
    }

    /// Puts another datastore in place of the pack's.
    pub fn set_datastore(&mut self, store: Datastore) {
        self.rows = CentredRows::new(store, self.realignment.mean_text());
    }

    /// Keeps parts of the condition from the decoder, to measure what each is worth.
    pub fn hide(&mut self, hidden: Hidden) {
        if let Some(speaker) = &mut self.speaker {
            speaker.hidden = hidden;
        }
    }
}

/// How many rows of one picture are reckoned with when some are left out.
const MOST_LEFT_OUT: usize = 32;

/// Milliseconds since `at`, which becomes now.
fn lap(at: &mut Instant) -> f32 {
    let now = Instant::now();
    (now - std::mem::replace(at, now)).as_secs_f32() * 1e3
}

impl Captioner {
    /// The first half of the chain: from a frame to its quality and what the image tower says of it.
    /// Fills in its part of `ms`.
    ///
    /// # Errors
    /// When the frame can't be decoded (names the origin) or the engine fails.
    pub fn look(&mut self, frame: &Frame, ms: &mut StageTimes) -> Result<Seen> {
        let (picture, quality) = self.open(frame, ms)?;
        let features = self
            .embed(&picture, ms)
            .with_context(|| frame.origin.clone())?;
        Ok(Seen { features, quality })
    }

    /// From a frame to its pixels and their quality.
    fn open<'a>(
        &self,
        frame: &'a Frame,
        ms: &mut StageTimes,
    ) -> Result<(Cow<'a, RgbImage>, FrameQuality)> {
        let context = || frame.origin.clone();
        let mut at = Instant::now();
        let picture = match &frame.pixels {
            Pixels::Encoded(bytes) => {
                Cow::Owned(frame::decode(bytes, self.limits).with_context(context)?)
            }
            Pixels::Rgb(picture) => Cow::Borrowed(picture),
        };
        ms.decode = lap(&mut at);
        let quality = FrameQuality::measure(&picture).with_context(context)?;
        ms.quality = lap(&mut at);
        Ok((picture, quality))
    }

    fn embed(&mut self, picture: &RgbImage, ms: &mut StageTimes) -> Result<ImageFeatures> {
        let mut at = Instant::now();
        self.tower.preprocess(picture)?;
        ms.preprocess = lap(&mut at);
        let grid = self.speaker.as_ref().and_then(|s| s.wants().grid);
        let features = self.tower.features_preprocessed(grid)?;
        ms.embed = lap(&mut at);
        Ok(features)
    }

    /// The second half: from what was seen to a caption with its confidence. Fills in its part of
    /// the times.
    ///
    /// # Errors
    /// When the datastore has no captions or the engine fails.
    pub fn say(&mut self, seen: &Seen, ms: StageTimes) -> Result<Description> {
        self.say_without(seen, ms, &|_| false)
    }

    /// As [`Captioner::say`], with rows of the datastore that are not to be retrieved: those that
    /// were made from this very picture, when the datastore is being augmented.
    ///
    /// # Errors
    /// As [`Captioner::say`].
    pub fn say_without(
        &mut self,
        seen: &Seen,
        mut ms: StageTimes,
        left_out: &dyn Fn(usize) -> bool,
    ) -> Result<Description> {
        let Seen { features, quality } = seen;
        let mut at = Instant::now();
        let realigned = self.realignment.realign(&features.embedding);
        ms.realign = lap(&mut at);
        let wanted = self.speaker.as_ref().map_or(0, |s| s.wants().retrieved);
        let count = self.spec.candidates.max(self.spec.neighbours).max(wanted);
        let mut hits = self.rows.nearest(&realigned, count);
        if hits.iter().any(|hit| left_out(hit.row)) {
            hits = self.rows.nearest(&realigned, count + MOST_LEFT_OUT);
            hits.retain(|hit| !left_out(hit.row));
            hits.truncate(count);
        }
        ms.retrieve = lap(&mut at);
        let chosen =
            choose(&self.rows, &hits, &self.spec).context("the datastore has no captions")?;
        let near = &hits[..hits.len().min(self.spec.neighbours)];
        let judged = match &self.judge {
            Some(judge) => judge.realign(&features.embedding),
            None => realigned.clone(),
        };
        ms.caption = lap(&mut at);
        let frame = Realigned {
            retrieving: &realigned,
            judging: &judged,
        };
        let (candidates, choosing) = match &mut self.speaker {
            Some(speaker) => speaker.speak(features, frame, &self.rows, &hits)?,
            None => Default::default(),
        };
        ms.rerank = choosing.as_secs_f32() * 1e3;
        ms.generate = lap(&mut at) - ms.rerank;
        let embedding = self.rows.centred(chosen.row);
        let store = self.rows.store();
        let retrieved = Neighbour {
            caption: store.caption(chosen.row).to_owned(),
            score: dot(&judged, &embedding),
        };
        let said = match candidates.first() {
            Some(best) if retrieved.score <= best.score + self.retrieval_margin => best.proposal(),
            _ => Proposal {
                caption: &retrieved.caption,
                score: retrieved.score,
                embedding: &embedding,
                log_probability: None,
            },
        };
        let rows: Vec<Near<'_>> = near
            .iter()
            .map(|hit| Near {
                caption: store.caption(hit.row),
                embedding: self.rows.centred(hit.row),
            })
            .collect();
        let retrieved_too = rows.iter().map(|row| Proposal {
            caption: row.caption,
            score: dot(&judged, &row.embedding),
            embedding: &row.embedding,
            log_probability: None,
        });
        let proposals = candidates.iter().map(Candidate::proposal);
        let alternatives = alternatives(said, proposals.chain(retrieved_too).collect());
        let features = Evidence::new(&judged, &rows)
            .features(said.caption, said.embedding, said.log_probability)
            .with_quality(quality);
        let confidence = match &self.calibration {
            Some(calibration) => calibration.confidence(&features),
            None => uncalibrated(features.score, self.spec.clip_s_weight),
        };
        let verdict = self.thresholds.verdict(quality, confidence);
        let caption = said.caption.to_owned();
        ms.caption += lap(&mut at);
        let neighbours = near.iter().zip(rows).map(|(hit, row)| Neighbour {
            caption: row.caption.to_owned(),
            score: hit.score,
        });
        Ok(Description {
            spoken: self.spoken(verdict, &caption),
            caption,
            confidence,
            calibrated: self.calibrated,
            features: Some(features),
            quality: *quality,
            verdict,
            alternatives,
            neighbours: neighbours.collect(),
            retrieved,
            candidates,
            ms,
        })
    }

    fn spoken(&self, verdict: Verdict, caption: &str) -> String {
        let is_common = |word: &str| wording::is_written(self.rows.store(), word);
        wording::spoken(verdict, caption, &self.phrases, &is_common)
    }
}

impl Describe for Captioner {
    fn describe(&mut self, frame: &Frame) -> Result<Description> {
        let start = Instant::now();
        let mut ms = StageTimes::default();
        let (picture, quality) = self.open(frame, &mut ms)?;
        let mut description = match quality.flaw() {
            Some(flaw) if self.gate => {
                let verdict = Verdict::Unsure(flaw.into());
                Description {
                    spoken: self.spoken(verdict, ""),
                    quality,
                    verdict,
                    ms,
                    ..Description::default()
                }
            }
            _ => {
                let context = || frame.origin.clone();
                let features = self.embed(&picture, &mut ms).with_context(context)?;
                let seen = Seen { features, quality };
                self.say(&seen, ms).with_context(context)?
            }
        };
        description.ms.total = start.elapsed().as_secs_f32() * 1e3;
        Ok(description)
    }

    fn pack(&self) -> &str {
        &self.label
    }

    fn unfamiliar(&self) -> String {
        self.phrases.unfamiliar.clone()
    }

    fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }
}
