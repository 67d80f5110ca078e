//! The daemon: what its threads need (time, shutdown, back-off, the slot between them).

pub mod backoff;
pub mod clock;
pub mod log_limit;
pub mod newest;
pub mod shutdown;
