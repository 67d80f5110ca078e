//! Measures a pack: retrieval, and the agreement of its scores with people.

pub mod agreement;
pub mod kendall;
