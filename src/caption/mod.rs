//! From the nearest captions to one caption and a confidence: one of them, or a new sentence.

mod central;
pub mod confidence;
pub mod generate;
mod rerank;
mod speak;

pub use central::{Chosen, choose};
pub use rerank::{Candidate, Weights, repeats, rerank};
pub use speak::{Hidden, SpeakError, Speaker};
