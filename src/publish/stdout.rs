//! Caption messages as JSON lines on standard output, or on anything that can be written to.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::message::CaptionMessage;
use super::{PublishError, Publisher};

/// Writes one line for each caption.
///
/// Unlike the broker, a reader of a pipe that is slow slows the pipeline down: whoever reads the
/// lines wants them all.
pub struct JsonLines<W> {
    writer: Mutex<W>,
}

impl JsonLines<io::Stdout> {
    /// Lines on standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::new(io::stdout())
    }
}

impl<W: Write + Send> JsonLines<W> {
    /// Lines on `writer`.
    pub fn new(writer: W) -> Self {
        Self {
            writer: Mutex::new(writer),
        }
    }
}

impl<W: Write + Send> Publisher for JsonLines<W> {
    fn name(&self) -> &str {
        "stdout"
    }

    fn publish(&self, message: &CaptionMessage<'_>) -> Result<(), PublishError> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let written = writer.write_all(&line).and_then(|()| writer.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => PublishError::ReaderGone,
            _ => PublishError::Io(error),
        })
    }

    fn close(&self, _limit: Duration) {
        // Each line has been flushed. The lock isn't taken: a writer that hangs holds it.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caption::wording::Verdict;
    use crate::captioner::StageTimes;
    use crate::frame::FrameQuality;

    const QUALITY: FrameQuality = FrameQuality {
        brightness: 0.5,
        contrast: 0.2,
        highlights: 0.9,
        clipped_dark: 0.0,
        clipped_bright: 0.0,
        sharpness: 1.4,
        detail: 0.5,
    };

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn message(ms: &StageTimes) -> CaptionMessage<'_> {
        CaptionMessage {
            schema: 2,
            caption: Some("a door"),
            verdict: Verdict::Sure,
            spoken: "a door",
            confidence: 0.5,
            confidence_calibrated: false,
            alternatives: &[],
            quality: &QUALITY,
            neighbours: &[],
            ms,
            device: "porch",
            pack: "test 1",
            origin: "a.jpg",
            time: "2026-01-01T00:00:00.000Z".into(),
            time_synchronised: true,
            sequence: 1,
        }
    }

    #[test]
    fn one_line_each() {
        let (ms, lines) = (StageTimes::default(), JsonLines::new(Vec::new()));
        lines.publish(&message(&ms)).unwrap();
        lines.publish(&message(&ms)).unwrap();
        let written = lines.writer.into_inner().unwrap();
        let text = String::from_utf8(written).unwrap();
        assert_eq!(text.lines().count(), 2);
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["caption"], "a door");
        }
    }

    #[test]
    fn a_closed_pipe_is_told_apart() {
        let (ms, lines) = (StageTimes::default(), JsonLines::new(Closed));
        assert!(matches!(
            lines.publish(&message(&ms)),
            Err(PublishError::ReaderGone)
        ));
    }
}
