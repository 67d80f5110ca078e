//! Small language models that say what a frame shows, behind one interface.
//!
//! A [`Decoder`] is begun on a [`Condition`] (the frame and what was retrieved for it) and then gives
//! the next token's logits for several rows (beams, samples) at once. Whether it is a decoder with
//! the condition before its words ([`PrefixDecoder`]), one that reads a text before them
//! ([`CausalDecoder`]) or one with an encoder for that text ([`EncoderDecoder`]) is its own affair; how tokens are chosen from logits is [`crate::caption::generate`]'s.

mod cache;
mod causal;
mod encoder_decoder;
mod prefix;
mod prompt;
mod words;

pub use causal::CausalDecoder;
pub use encoder_decoder::EncoderDecoder;
pub use prefix::PrefixDecoder;
pub use words::Words;

use crate::{
    engine::{Engine, EngineError, Network, NetworkSpec},
    pack::{DecoderSpec, Pack, PackError},
};

/// Added to the attention's logits of what must not be seen. Finite: a row that sees nothing at all
/// (every part hidden) has to stay a number.
const HIDDEN: f32 = -1e9;

/// What a caption is conditioned on.
#[derive(Debug, Clone, Copy)]
pub struct Condition<'a> {
    /// The image tower's map averaged over a grid, `[cells, d_image]` row-major
    /// ([`crate::embedding::ImageFeatures::cells`]); empty hides it from the decoder.
    pub cells: &'a [f32],
    /// The realigned embedding, of length one; empty hides it.
    pub realigned: &'a [f32],
    /// The nearest captions, best first; none hides them.
    pub retrieved: &'a [Retrieved],
}

/// A retrieved caption as the decoder sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrieved {
    /// Its text, for decoders that read a prompt.
    pub caption: String,
    /// Its centred embedding, of length one.
    pub embedding: Vec<f32>,
    /// Cosine with the realigned frame.
    pub score: f32,
}

/// One row's next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The row of the call before whose words this one continues.
    pub parent: usize,
    /// The token that is put behind them.
    pub token: u32,
}

/// Logits of the next token, row-major `[rows, vocabulary]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    values: Vec<f32>,
    vocabulary: usize,
}

impl Logits {
    /// From row-major values; what does not fill a row is dropped.
    pub fn new(mut values: Vec<f32>, vocabulary: usize) -> Self {
        let vocabulary = vocabulary.max(1);
        values.truncate(values.len() / vocabulary * vocabulary);
        Self { values, vocabulary }
    }

    /// Row after row.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocabulary)
    }
}

/// Why a decoder can't go on.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The network failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A part of the condition has not the length that the network takes.
    #[error("{part}: found {found} numbers, expected {expected}")]
    Condition {
        /// Which part.
        part: &'static str,
        /// Its length.
        found: usize,
        /// The length of the pack.
        expected: usize,
    },
    /// A step names a row that does not exist, or comes before a beginning.
    #[error("a step continues row {parent} of {rows}")]
    Parent {
        /// The row that was named.
        parent: usize,
        /// Rows that there are.
        rows: usize,
    },
    /// The caption is as long as the network can see.
    #[error("no more than {0} tokens fit")]
    Full(usize),
    /// The tokenizer failed.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
}

/// A language model that is in the middle of a caption, or of several for the same frame.
pub trait Decoder: Send {
    /// Forgets what was said and takes in a new condition. Returns the logits of the first word, one
    /// row.
    ///
    /// # Errors
    /// [`DecoderError`] when the condition does not fit or the network fails.
    fn begin(&mut self, condition: &Condition<'_>) -> Result<Logits, DecoderError>;

    /// Says one token more in each row. Rows may be dropped, repeated and reordered from call to
    /// call: each names its parent. Returns as many rows of logits as there are steps.
    ///
    /// # Errors
    /// [`DecoderError`] when a parent does not exist, the caption is full, or the network fails.
    fn step(&mut self, steps: &[Step]) -> Result<Logits, DecoderError>;

    /// What its tokens mean.
    fn words(&self) -> &Words;

    /// The most tokens that fit into a caption, its end included.
    fn most_tokens(&self) -> usize;

    /// What it wants to know of a frame.
    fn wants(&self) -> Wants;
}

/// What a decoder wants to know of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// Rows and columns of the grid of image features; none when it does not look at them.
    pub grid: Option<[usize; 2]>,
    /// How many of the nearest captions.
    pub retrieved: usize,
}

fn load_network(
    pack: &Pack,
    file: &str,
    network: &NetworkSpec,
    engine: &dyn Engine,
) -> Result<Box<dyn Network>, PackError> {
    engine
        .load(&mut pack.reader(file)?, network)
        .map_err(|source| pack.network_error(file, source))
}

/// Refuses logits for more or fewer ids than the tokenizer has: a token without a word could never be
/// spoken.
fn check_vocabulary(
    pack: &Pack,
    spec: &DecoderSpec,
    network: &dyn Network,
    words: &Words,
) -> Result<(), PackError> {
    let (found, size) = (network.output_shape(0), words.size());
    if let Some(Some(logits)) = found.last()
        && *logits != size
    {
        return Err(pack.mismatch(
            &spec.tokenizer,
            "vocabulary",
            format!("{size} tokens"),
            format!("{logits}, as {} gives", spec.file),
            "export decoder and tokenizer together (models/README.md)",
        ));
    }
    Ok(())
}
