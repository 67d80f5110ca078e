//! From the nearest captions to one caption and a confidence: one of them, or a new sentence; what else
//! could have been said, and what may be said of it to a person.

pub mod alternatives;
mod central;
pub mod confidence;
mod corrections;
pub mod generate;
mod recent;
mod rerank;
mod speak;
pub mod wording;

pub use alternatives::{Proposal, alternatives};
pub use central::{Chosen, choose};
pub use corrections::{CorrectionError, Corrections};
pub use rerank::{Candidate, Weights, repeats, rerank};
pub use speak::{Hidden, Realigned, SpeakError, Speaker};
