//! The command line.

pub mod calibrate;
pub mod caption;
mod chain;
pub mod check;
pub mod datastore;
pub mod embed;
pub mod embedder;
pub mod eval;
pub mod fit;
pub mod generation;
pub mod logging;
pub mod pack;
mod progress;
pub mod run;
