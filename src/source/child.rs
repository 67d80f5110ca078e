//! A child process that writes frames to a pipe: started in a group of its own, read without
//! blocking, ended for certain.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How often a quiet pipe is left to see whether a shutdown was asked for.
const LOOK_UP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// So long a command has to end after SIGTERM (rpicam-vid closes its camera) before SIGKILL; short
/// enough that the daemon's own shutdown stays under a second.
const GRACE: Duration = Duration::from_millis(400);

/// So long after SIGKILL. A process that is still there hangs in the kernel (a broken USB driver)
/// and can't be waited for by anybody who has something else to do.
const AFTER_KILL: Duration = Duration::from_millis(200);

const STDERR_LINES: usize = 8;
const STDERR_LINE_BYTES: u64 = 400;

/// The child process while it runs.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    /// Held open: a child that watches it notices when this process has gone.
    _stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: Arc<Mutex<VecDeque<String>>>,
    stderr_reader: thread::JoinHandle<()>,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts `program`; no shell is involved. `stdin` is empty, or a pipe that stays open for as
    /// long as this process lives.
    pub(super) fn start(
        program: &OsStr,
        arguments: &[impl AsRef<OsStr>],
        stdin: Stdio,
    ) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group, so that what a wrapper script starts is ended with it, and so that
            // Ctrl-C in a terminal reaches the daemon alone.
            .process_group(0)
            .spawn()?;
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
            _stdin: child.stdin.take(),
            child,
            stdout,
            stderr: lines,
            stderr_reader,
            ended: None,
        })
    }

    /// Reads what is there: `None` if there is nothing yet, 0 at the end.
    pub(super) fn read(&mut self, piece: &mut [u8]) -> io::Result<Option<usize>> {
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

    /// The child has closed its output: how it went, in words.
    pub(super) fn ended(mut self) -> String {
        // What has closed its output is most often about to exit: its own status says more than
        // "killed by SIGTERM".
        self.wait_for_exit(GRACE);
        let status = self.end();
        let tail = self.stderr_tail();
        let how = match status {
            Some(status) => format!("ended ({})", describe(status)),
            None => "closed its output and was ended".to_owned(),
        };
        if tail.is_empty() {
            format!("{how}; it wrote nothing to stderr")
        } else {
            format!("{how}; stderr ends with: {}", tail.join(" | "))
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
            if !self.wait_for_exit(AFTER_KILL) {
                tracing::warn!(
                    process = self.child.id(),
                    "a source's process hangs in the kernel and can't be ended; its device stays busy"
                );
                return None;
            }
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
        // No zombie and no orphan (unless it hangs in the kernel). If the daemon itself is killed with SIGKILL, this doesn't run;
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
        let line = without_passwords(String::from_utf8_lossy(&line).trim());
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

/// A line without what may be a password in an address of it: a user before the host, and a query. ffmpeg
/// repeats the address that it was given, and these lines are logged and published.
fn without_passwords(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        shown += before;
        let end = address
            .find(|c: char| c.is_whitespace() || "\"'`<>|".contains(c))
            .unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        let plain = address.split('?').next().unwrap_or_default();
        shown += plain.rsplit_once('@').map_or(plain, |(_, host)| host);
        rest = after;
    }
    shown + rest
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

    #[test]
    fn no_password_of_an_address_is_kept() {
        for (line, shown) in [
            ("rtsp://me:secret@cam/x: 401", "rtsp://cam/x: 401"),
            (
                "open 'rtsp://me:se@cret@cam:554/x?y=secret'!",
                "open 'rtsp://cam:554/x'!",
            ),
            (
                "http://cam/?pwd=secret http://a:secret@b",
                "http://cam/ http://b",
            ),
            ("no address: me@home, a://", "no address: me@home, a://"),
            ("", ""),
        ] {
            assert_eq!(without_passwords(line), shown);
        }
    }
}
