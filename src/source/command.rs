//! Frames from a command that writes MJPEG to its standard output: `rpicam-vid` for Raspberry Pi
//! camera modules (through V4L2 they give raw Bayer only), ffmpeg, GStreamer, anything else.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::mjpeg::{Skipped, Splitter};
use super::{Frame, FrameSource, Pixels, SourceError};
use crate::daemon::clock::Clock;
use crate::daemon::shutdown::Shutdown;

/// How often a quiet pipe is left to see whether a shutdown was asked for.
const LOOK_UP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// So long a command has to end after SIGTERM (rpicam-vid closes its camera) before SIGKILL; short
/// enough that the daemon's own shutdown stays under a second.
const GRACE: Duration = Duration::from_millis(400);

const STDERR_LINES: usize = 8;
const STDERR_LINE_BYTES: u64 = 400;

/// Runs a command and cuts its output into JPEG files. The command is started at the first frame
/// and again after it has ended; the caller's back-off paces that.
#[derive(Debug)]
pub struct CommandSource {
    argv: Vec<String>,
    origin: String,
    clock: Arc<dyn Clock>,
    splitter: Splitter,
    running: Option<Running>,
    /// Read buffer, the size of a Linux pipe.
    piece: Vec<u8>,
}

impl CommandSource {
    /// `argv` is the program and its arguments; no shell sees them. Frames of more than
    /// `max_frame` bytes are refused.
    pub fn new(argv: Vec<String>, max_frame: usize, clock: Arc<dyn Clock>) -> Self {
        // The program alone: arguments may hold an address with a password, and the origin is
        // published.
        let origin = argv.first().cloned().unwrap_or_default();
        Self {
            argv,
            origin,
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
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group, so that what a wrapper script starts is ended with it, and so that
            // Ctrl-C in a terminal reaches the daemon alone.
            .process_group(0)
            .spawn()
            .map_err(|error| {
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
        let running = Running::new(child).map_err(|error| self.lost(error.to_string()))?;
        tracing::info!(command = ?self.argv, "source command started");
        Ok(running)
    }

    /// The command has closed its output: say how it went.
    fn ended(&mut self) -> SourceError {
        let cut_off = self.splitter.finish();
        let Some(mut running) = self.running.take() else {
            return self.lost("not running".into());
        };
        // What has closed its output is most often about to exit: its own status says more than
        // "killed by SIGTERM".
        running.wait_for_exit(GRACE);
        let status = running.end();
        let tail = running.stderr_tail();
        let mut reason = match status {
            Some(status) => format!("the command ended ({})", describe(status)),
            None => "the command closed its output and was ended".to_owned(),
        };
        if cut_off {
            reason.push_str(" in the middle of a frame");
        }
        if tail.is_empty() {
            reason.push_str("; it wrote nothing to stderr");
        } else {
            reason.push_str("; stderr ends with: ");
            reason.push_str(&tail.join(" | "));
        }
        self.lost(reason)
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
        loop {
            if shutdown.requested() {
                // The command ends here rather than in `drop`: the thread that owns this source
                // may not live to drop it.
                self.running = None;
                return Ok(None);
            }
            match self.splitter.next_frame() {
                Some(Ok(bytes)) => {
                    return Ok(Some(Frame {
                        pixels: Pixels::Encoded(bytes),
                        origin: self.origin.clone(),
                        taken: self.clock.monotonic(),
                    }));
                }
                Some(Err(skipped)) => return Err(self.bad_frame(skipped)),
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
                Ok(Some(bytes)) => self.splitter.push(&self.piece[..bytes]),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "reading from the command failed");
                    return Err(self.ended());
                }
            }
        }
    }
}

/// The child process while it runs.
#[derive(Debug)]
struct Running {
    child: Child,
    stdout: ChildStdout,
    stderr: Arc<Mutex<VecDeque<String>>>,
    stderr_reader: thread::JoinHandle<()>,
    ended: Option<ExitStatus>,
}

impl Running {
    fn new(mut child: Child) -> io::Result<Self> {
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("the command has no pipes"));
        };
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&lines);
        // Somebody has to read stderr: a full pipe would stop the command.
        let stderr_reader = thread::Builder::new()
            .name("command stderr".into())
            .spawn(move || keep_tail(stderr, &kept))?;
        Ok(Self {
            child,
            stdout,
            stderr: lines,
            stderr_reader,
            ended: None,
        })
    }

    /// Reads what is there: `None` if there is nothing yet, 0 at the end.
    fn read(&mut self, piece: &mut [u8]) -> io::Result<Option<usize>> {
        // poll, then read: a plain read would block for as long as the command says nothing, and
        // a shutdown with it.
        let mut waited_for = [PollFd::new(&self.stdout, PollFlags::IN)];
        match poll(&mut waited_for, Some(&LOOK_UP)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(None),
            Ok(_) => self.stdout.read(piece).map(Some),
            Err(error) => Err(error.into()),
        }
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }

    /// Waits until the process has exited, without reaping it: until then its id, and that of its
    /// group, can't be given to anybody else.
    fn wait_for_exit(&self, limit: Duration) -> bool {
        let Some(pid) = self.pid() else { return true };
        let start = Instant::now();
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        loop {
            match waitid(WaitId::Pid(pid), options) {
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                // Exited, or no longer ours to wait for.
                Ok(Some(_)) | Err(_) => return true,
            }
            if start.elapsed() >= limit {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the command and everything in its group, and reaps it. `None` if that needed force.
    fn end(&mut self) -> Option<ExitStatus> {
        if self.ended.is_some() {
            return self.ended;
        }
        let exited_by_itself = self.wait_for_exit(Duration::ZERO);
        if let Some(group) = self.pid() {
            // "No such process" is the aim here, so errors are none.
            let _ = kill_process_group(group, Signal::TERM);
            self.wait_for_exit(GRACE);
            // Whatever is left of the group, even if the leader has exited in good order.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = self.child.wait().ok();
        self.ended = status;
        status.filter(|_| exited_by_itself)
    }

    /// The last lines of stderr, once the command has ended.
    fn stderr_tail(&self) -> Vec<String> {
        let start = Instant::now();
        // The reader ends when the last holder of the pipe has gone. Bounded, because a process
        // that left the group may still hold it.
        while !self.stderr_reader.is_finished() && start.elapsed() < GRACE {
            thread::sleep(Duration::from_millis(5));
        }
        let lines = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // No zombie and no orphan. If the daemon itself is killed with SIGKILL, this doesn't run;
        // the command then ends by SIGPIPE at its next frame.
        self.end();
    }
}

fn keep_tail(stderr: ChildStderr, kept: &Mutex<VecDeque<String>>) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        // A progress bar without line ends must not fill the memory: long lines come in parts.
        match (&mut reader)
            .take(STDERR_LINE_BYTES)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if line.is_empty() {
            continue;
        }
        tracing::debug!(line, "source command's stderr");
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == STDERR_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::clock::SystemClock;
    use std::fs;
    use std::path::Path;

    const FRAME: &[u8] = &[
        0xFF, 0xD8, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x55, 0xFF, 0xD9,
    ];

    fn command(argv: &[&str]) -> CommandSource {
        let argv = argv.iter().map(ToString::to_string).collect();
        CommandSource::new(argv, 1 << 20, Arc::new(SystemClock::new()))
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
}
