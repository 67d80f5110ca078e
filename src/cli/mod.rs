//! The command line.

pub mod calibrate;
pub mod caption;
mod chain;
pub mod datastore;
pub mod embed;
pub mod embedder;
pub mod eval;
pub mod fit;
pub mod generation;
mod progress;
pub mod run;
