//! The chain from one decoded frame to a caption with its confidence.

use serde::Serialize;

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
    /// In [0, 1]; see [`crate::caption::confidence`] for what it means and does not mean yet.
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
    fn describe(&mut self, frame: &crate::source::Frame) -> anyhow::Result<Description>;

    /// Name and version of the model pack, for messages.
    fn pack(&self) -> &str;
}
