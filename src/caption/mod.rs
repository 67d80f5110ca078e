//! From the nearest captions to one caption and a confidence.

mod central;
pub mod confidence;

pub use central::{Chosen, choose};
