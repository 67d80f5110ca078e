//! Measures a pack: retrieval, the agreement of its scores with people, and its captions.

pub mod agreement;
pub mod bootstrap;
pub mod captions;
pub mod clip_score;
pub mod embedded;
pub mod kendall;
pub mod pearson;
pub mod reliability;
pub mod samples;
