//! Agreement of caption metrics with people, as published evaluations measure it.

mod files;
mod judgements;
mod metrics;
mod thumb;

pub use files::{Judged, read_captions, read_crowdflower, read_expert};
pub use judgements::{Image, Judgements, OwnReference, Row, Scale};
pub use metrics::{Agreement, Coefficient, MetricScores, agreement};
pub use thumb::{ASPECTS, ThumbRow, read_thumb};
