//! (merged from the daemon branch)
pub mod shutdown;
