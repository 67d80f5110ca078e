//! Frames from a command that writes MJPEG to its standard output: `rpicam-vid` for Raspberry Pi
//! camera modules (through V4L2 they give raw Bayer only), ffmpeg, GStreamer, anything else.

use std::ffi::OsStr;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use super::child::Running;
use super::mjpeg::{Skipped, Splitter};
use super::stall::StallDetector;
use super::{Frame, FrameSource, Pixels, SourceError};
use crate::daemon::clock::Clock;
use crate::daemon::shutdown::Shutdown;

/// Runs a command and cuts its output into JPEG files. The command is started at the first frame
/// and again after it has ended; the caller's back-off paces that. One that writes no whole frame
/// for too long is ended, with everything that it started, and counts as ended.
#[derive(Debug)]
pub struct CommandSource {
    argv: Vec<String>,
    origin: String,
    clock: Arc<dyn Clock>,
    splitter: Splitter,
    stall: StallDetector,
    running: Option<Running>,
    /// Read buffer, the size of a Linux pipe.
    piece: Vec<u8>,
}

impl CommandSource {
    /// `argv` is the program and its arguments; no shell sees them. Frames of more than
    /// `max_frame` bytes are refused. Without a whole frame for `stall_after` the command is ended.
    pub fn new(
        argv: Vec<String>,
        max_frame: usize,
        stall_after: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        // The program alone: arguments may hold an address with a password, and the origin is
        // published.
        let origin = argv.first().cloned().unwrap_or_default();
        Self {
            argv,
            origin,
            stall: StallDetector::new(stall_after, Arc::clone(&clock)),
            clock,
            splitter: Splitter::new(max_frame),
            running: None,
            piece: vec![0; 64 << 10],
        }
    }

    fn lost(&self, reason: String) -> SourceError {
        SourceError::Lost {
            origin: self.origin.clone(),
            reason,
        }
    }

    fn start(&mut self) -> Result<Running, SourceError> {
        let Some((program, arguments)) = self.argv.split_first() else {
            return Err(self.lost("source.argv is empty; name the program to run".into()));
        };
        let running =
            Running::start(OsStr::new(program), arguments, Stdio::null()).map_err(|error| {
                self.lost(match error.kind() {
                    io::ErrorKind::NotFound => {
                        "no such program; install it or correct source.argv".into()
                    }
                    io::ErrorKind::PermissionDenied => {
                        "may not be run; make it executable for the daemon's user".into()
                    }
                    _ => format!("can't be started: {error}"),
                })
            })?;
        // Without its arguments: an rtsp address has the password in it.
        tracing::info!(program, "source command started");
        self.stall.fresh();
        Ok(running)
    }

    /// The command has closed its output: say how it went.
    fn ended(&mut self) -> SourceError {
        let cut_off = self.splitter.finish();
        let Some(running) = self.running.take() else {
            return self.lost("not running".into());
        };
        let how = running.ended();
        let place = if cut_off {
            " (in the middle of a frame)"
        } else {
            ""
        };
        self.lost(format!("the command {how}{place}"))
    }

    fn check_stall(&mut self) -> Result<(), SourceError> {
        let stalled = self
            .stall
            .check(&self.origin, "the command is ended and started again");
        if stalled.is_err() {
            self.restart();
        }
        stalled
    }

    fn bad_frame(&self, skipped: Skipped) -> SourceError {
        SourceError::BadFrame {
            origin: self.origin.clone(),
            reason: match skipped {
                Skipped::TooLarge(limit) => {
                    format!("a JPEG of more than {limit} bytes (source.max_frame_bytes)")
                }
                other => other.to_string(),
            },
        }
    }
}

impl FrameSource for CommandSource {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn next_frame(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        let mut pushed = false;
        loop {
            if shutdown.requested() {
                // The command ends here rather than in `drop`: the thread that owns this source
                // may not live to drop it.
                self.restart();
                return Ok(None);
            }
            match self.splitter.next_frame() {
                Some(Ok(bytes)) => {
                    self.stall.fresh();
                    return Ok(Some(Frame {
                        pixels: Pixels::Encoded(bytes),
                        origin: self.origin.clone(),
                        taken: self.clock.monotonic(),
                    }));
                }
                Some(Err(skipped)) => {
                    self.check_stall()?;
                    return Err(self.bad_frame(skipped));
                }
                // Only now: what has just been read may have ended a frame.
                None if pushed => self.check_stall()?,
                None => {}
            }
            let mut running = match self.running.take() {
                Some(running) => running,
                None => self.start()?,
            };
            let outcome = running.read(&mut self.piece);
            self.running = Some(running);
            match outcome {
                Ok(Some(0)) => return Err(self.ended()),
                Ok(Some(bytes)) => {
                    self.splitter.push(&self.piece[..bytes]);
                    pushed = true;
                }
                Ok(None) => self.check_stall()?,
                Err(error) => {
                    tracing::debug!(%error, "reading from the command failed");
                    return Err(self.ended());
                }
            }
        }
    }

    fn restart(&mut self) {
        self.splitter.finish();
        self.running = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::clock::SystemClock;
    use std::fs;
    use std::path::Path;
    use std::thread;
    use std::time::Instant;

    const FRAME: &[u8] = &[
        0xFF, 0xD8, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x55, 0xFF, 0xD9,
    ];

    fn command(argv: &[&str]) -> CommandSource {
        let argv = argv.iter().map(ToString::to_string).collect();
        let clock = Arc::new(SystemClock::new());
        CommandSource::new(argv, 1 << 20, Duration::from_secs(30), clock)
    }

    /// A script that runs as a program of its own.
    fn script(folder: &Path, text: &str) -> String {
        let path = folder.join("source.sh");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn alive(pid: &str) -> bool {
        // A zombie still has its /proc entry, so it counts as alive: it's one that we left.
        Path::new("/proc").join(pid.trim()).exists()
    }

    fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn frames_come_through_and_the_end_is_told_with_status_and_stderr() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("frames"), FRAME.repeat(3)).unwrap();
        let frames = folder.path().join("frames");
        let script = script(
            folder.path(),
            &format!("cat {}; echo 'no camera' >&2; exit 3", frames.display()),
        );
        let mut source = command(&["sh", &script]);
        let shutdown = Shutdown::new();
        // Twice: after its end it's started again.
        for _ in 0..2 {
            for _ in 0..3 {
                let frame = source.next_frame(&shutdown).unwrap().unwrap();
                assert_eq!(frame.pixels, Pixels::Encoded(FRAME.to_vec()));
            }
            let error = source.next_frame(&shutdown).unwrap_err();
            assert!(matches!(error, SourceError::Lost { .. }));
            let text = error.to_string();
            assert!(text.contains("exit code 3"), "{text}");
            assert!(text.contains("no camera"), "{text}");
        }
    }

    #[test]
    fn a_shutdown_ends_a_silent_command_and_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        // The grandchild ignores SIGTERM and would outlive the script.
        let script = script(
            folder.path(),
            &format!(
                "(trap '' TERM; sleep 1000) & echo $! $$ > {0}.new; mv {0}.new {0}; sleep 1000",
                pids.display()
            ),
        );
        let mut source = command(&["sh", &script]);
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let reader = thread::spawn(move || source.next_frame(&stop).map(|frame| frame.is_none()));
        until("the command runs", || pids.exists());
        shutdown.request();
        assert!(reader.join().unwrap().unwrap());
        let pids = fs::read_to_string(&pids).unwrap();
        let (grandchild, child) = pids.split_once(' ').unwrap();
        assert!(!alive(child), "the command is still there");
        // Not our child, so init reaps it in its own time.
        let ended = || {
            fs::read_to_string(format!("/proc/{grandchild}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        };
        until("the grandchild has ended", ended);
    }

    #[test]
    fn a_command_that_only_closes_its_output_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let script = script(folder.path(), "exec >&-; sleep 1000");
        let mut source = command(&["sh", &script]);
        let error = source.next_frame(&Shutdown::new()).unwrap_err();
        assert!(error.to_string().contains("closed its output"), "{error}");
        assert!(source.running.is_none());
    }

    #[test]
    fn a_missing_program_and_output_that_is_no_mjpeg_say_what_to_do() {
        let error = command(&["no-such-program-here"])
            .next_frame(&Shutdown::new())
            .unwrap_err();
        assert!(matches!(error, SourceError::Lost { .. }));
        assert!(error.to_string().contains("source.argv"), "{error}");

        let error = command(&["yes"]).next_frame(&Shutdown::new()).unwrap_err();
        assert!(matches!(error, SourceError::BadFrame { .. }));
        assert!(error.to_string().contains("MJPEG"), "{error}");
    }

    #[test]
    fn a_flood_on_stderr_neither_blocks_nor_fills_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let script = script(
            folder.path(),
            "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo 'the end' >&2; exit 1",
        );
        let mut source = command(&["sh", &script]);
        let text = source.next_frame(&Shutdown::new()).unwrap_err().to_string();
        assert!(text.contains("the end"), "{text}");
        assert!(text.len() < 8 * 500, "{} bytes", text.len());
    }

    /// It prints one frame and goes quiet, its child ignores SIGTERM: both have to go, and the
    /// next frame comes from a new one.
    #[test]
    fn a_stalled_command_is_ended_and_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let (frame, pids) = (folder.path().join("frame"), folder.path().join("pids"));
        fs::write(&frame, FRAME).unwrap();
        let script = script(
            folder.path(),
            &format!(
                "cat {}; (trap '' TERM; sleep 1000) & echo $! $$ >> {}; sleep 1000",
                frame.display(),
                pids.display()
            ),
        );
        let argv = vec!["sh".to_owned(), script];
        let limit = Duration::from_millis(500);
        let mut source = CommandSource::new(argv, 1 << 20, limit, Arc::new(SystemClock::new()));
        let shutdown = Shutdown::new();
        for _ in 0..2 {
            assert!(source.next_frame(&shutdown).unwrap().is_some());
            let error = source.next_frame(&shutdown).unwrap_err();
            assert!(matches!(error, SourceError::Stalled { .. }), "{error}");
            assert!(error.to_string().contains("source.stall_after"), "{error}");
        }
        let pids = fs::read_to_string(&pids).unwrap();
        assert_eq!(pids.lines().count(), 2);
        for line in pids.lines() {
            let (grandchild, child) = line.split_once(' ').unwrap();
            assert!(!alive(child), "the command is still there");
            until("the grandchild has ended", || {
                fs::read_to_string(format!("/proc/{grandchild}/stat"))
                    .map_or(true, |stat| stat.contains(") Z "))
            });
        }
    }

    /// Garbage without end is no life sign.
    #[test]
    fn a_command_that_writes_only_garbage_is_stalled_in_the_end() {
        let argv = vec!["yes".to_owned()];
        let limit = Duration::from_millis(300);
        let mut source = CommandSource::new(argv, 1 << 20, limit, Arc::new(SystemClock::new()));
        until("a stall", || {
            matches!(
                source.next_frame(&Shutdown::new()),
                Err(SourceError::Stalled { .. })
            )
        });
        assert!(source.running.is_none());
    }
}
