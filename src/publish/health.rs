//! What the daemon counts, as it's published on `health`.

use std::fs;

use serde::Serialize;

use super::commands::Rejections;
use super::message::SCHEMA;
use super::outbox;
use crate::daemon::counters::Tally;

/// The payload of `health`. Numbers without a unit count since the daemon's start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Health {
    schema: u32,
    /// Seconds.
    uptime: u64,
    version: &'static str,
    captioned: u64,
    bad_frames: u64,
    overtaken: u64,
    withheld: u64,
    dropped: Dropped,
    rejected: Rejections,
    outbox: Waiting,
    reconnects: u64,
    /// Bytes of memory in use; `null` where the system doesn't tell.
    memory: Option<u64>,
}

/// Messages that nobody will get, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Dropped {
    pub(super) full: u64,
    pub(super) expired: u64,
    pub(super) too_large: u64,
    pub(super) damaged: u64,
    total: u64,
}

impl Dropped {
    pub(super) fn new(outbox: outbox::Dropped, too_large: u64, damaged: u64) -> Self {
        Self {
            full: outbox.full,
            expired: outbox.expired,
            too_large,
            damaged,
            total: outbox.full + outbox.expired + too_large + damaged,
        }
    }
}

/// What waits for the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Waiting {
    pub(super) entries: usize,
    pub(super) bytes: usize,
    /// Events that couldn't be written to disk; they were kept in memory.
    pub(super) disk_errors: u64,
}

/// Everything that goes in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) uptime: u64,
    pub(super) tally: Tally,
    pub(super) dropped: Dropped,
    pub(super) rejected: Rejections,
    pub(super) outbox: Waiting,
    pub(super) reconnects: u64,
}

impl From<Numbers> for Health {
    fn from(numbers: Numbers) -> Self {
        Self {
            schema: SCHEMA,
            uptime: numbers.uptime,
            version: env!("CARGO_PKG_VERSION"),
            captioned: numbers.tally.captioned,
            bad_frames: numbers.tally.bad,
            overtaken: numbers.tally.overtaken,
            withheld: numbers.tally.withheld,
            dropped: numbers.dropped,
            rejected: numbers.rejected,
            outbox: numbers.outbox,
            reconnects: numbers.reconnects,
            memory: memory(),
        }
    }
}

/// The resident set in bytes, from Linux.
pub(crate) fn memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_documented_json_comes_out() {
        let outbox_dropped = outbox::Dropped {
            full: 1,
            expired: 2,
        };
        let numbers = Numbers {
            uptime: 60,
            tally: Tally {
                captioned: 5,
                bad: 1,
                overtaken: 9,
                withheld: 2,
            },
            dropped: Dropped::new(outbox_dropped, 3, 4),
            rejected: Rejections::default(),
            outbox: Waiting {
                entries: 1,
                bytes: 200,
                disk_errors: 0,
            },
            reconnects: 1,
        };
        let mut health = serde_json::to_value(Health::from(numbers)).unwrap();
        let memory = health["memory"].take().as_u64().unwrap();
        assert!((1 << 20..1 << 40).contains(&memory), "{memory}");
        assert_eq!(
            health,
            json!({
                "schema": SCHEMA,
                "uptime": 60,
                "version": env!("CARGO_PKG_VERSION"),
                "captioned": 5,
                "bad_frames": 1,
                "overtaken": 9,
                "withheld": 2,
                "dropped": {"full": 1, "expired": 2, "too_large": 3, "damaged": 4, "total": 10},
                "rejected": {"oversized": 0, "malformed": 0, "retained": 0, "stale": 0, "flooding": 0},
                "outbox": {"entries": 1, "bytes": 200, "disk_errors": 0},
                "reconnects": 1,
                "memory": null,
            })
        );
    }
}
