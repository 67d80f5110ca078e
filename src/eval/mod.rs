//! Measures a pack: retrieval, the agreement of its scores with people, and its captions.

pub mod agreement;
pub mod captions;
pub mod kendall;
