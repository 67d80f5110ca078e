//! The daemon's log, to standard error: for people, or for journald.

use std::fmt;
use std::io::IsTerminal as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Sets up the log: from INFO up, or as `CAPTIOND_LOG` says (`debug`, `captiond::publish=trace`).
///
/// Where standard error goes to journald, lines are without a time, which journald has, and begin
/// with their priority (`<4>`, sd-daemon(3)), so that `journalctl -p warning` works.
pub fn init() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("CAPTIOND_LOG")
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if to_journald() {
        log.with_ansi(false).event_format(ForJournald).init();
    } else {
        log.with_ansi(std::io::stderr().is_terminal()).init();
    }
}

/// Whether standard error is the stream that systemd has connected to journald. A unit that sends
/// it to a file, or a shell in between, has the variable too.
fn to_journald() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// `<priority>target: message key=value`, on one line.
struct ForJournald;

impl<S, N> FormatEvent<S, N> for ForJournald
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        // journald would take each line for a message of its own, and all but the first for INFO.
        let text = text.trim_end().replace('\n', " | ");
        write!(writer, "<{}>", priority(*meta.level()))?;
        if *meta.level() > Level::INFO {
            write!(writer, "{}: ", meta.target())?;
        }
        writeln!(writer, "{text}")
    }
}

/// syslog(3) priorities.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_carry_their_priority_and_are_one_line_each() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(ForJournald)
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::error!("reload refused: {}", "first\nsecond");
            tracing::warn!(repeats = 3, "no frames");
            tracing::info!("ready");
            tracing::debug!(target: "captiond::test", "detail");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "<3>reload refused: first | second\n<4>no frames repeats=3\n<6>ready\n\
             <7>captiond::test: detail\n"
        );
    }
}
