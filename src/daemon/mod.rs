//! The daemon: a source's thread and the pipeline's thread around a slot that holds the newest
//! frame, and what they need (time, shutdown, back-off, config, what can be set while it runs).
//!
//! ```text
//! source thread --> newest slot --> pipeline thread --> publishers
//!    back-off                          describe           (mqtt has a thread of its own)
//! ```

pub mod backoff;
pub mod bell;
pub mod clock;
pub mod config;
pub mod controls;
pub mod counters;
pub mod life;
pub mod log_limit;
pub mod newest;
pub mod reload;
pub mod run;
pub mod secret;
pub mod shutdown;
pub mod trigger;

pub use counters::{Counters, Tally};
pub use run::{RunError, Settings, run};
