//! The command line.

pub mod caption;
pub mod check;
pub mod datastore;
pub mod embed;
pub mod eval;
pub mod fit;
pub mod generation;
pub mod logging;
pub mod run;
