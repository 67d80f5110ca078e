//! What speaks: speech-dispatcher, espeak-ng, any command. Never a shell.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::dispatcher::Dispatcher;
use crate::daemon::config::{SpeechConfig, Via};
use rustix::process::{Pid, Signal, kill_process_group};

/// Longer texts are cut: nobody listens to them, and this much fits into any pipe at once.
const MOST_CHARACTERS: usize = 1000;

/// With "auto", so long espeak-ng speaks alone after speech-dispatcher has failed.
const DISPATCHER_PAUSE: Duration = Duration::from_secs(30);

/// What a pipe holds: of a program's words, what can be read after its end.
const STDERR_BYTES: u64 = 64 << 10;

/// Why nothing is heard.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    /// A program can't be started.
    #[error("{program} can't be started: {source}; {todo}")]
    Program {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
        /// What to do.
        todo: &'static str,
    },
    /// A program has failed.
    #[error("{program} has failed ({status}); {stderr}")]
    Failed {
        /// Its name.
        program: String,
        /// How.
        status: ExitStatus,
        /// Its last words.
        stderr: String,
    },
    /// speech-dispatcher doesn't answer, or not as it should.
    #[error("speech-dispatcher at {}: {problem}; is it running for this user? See speech.socket", socket.display())]
    Dispatcher {
        /// Where it was looked for.
        socket: PathBuf,
        /// What happened.
        problem: String,
    },
    /// It neither ended nor failed.
    #[error("{program} was still busy after {seconds} s and was ended")]
    Stuck {
        /// Its name.
        program: String,
        /// How long it was waited for.
        seconds: u64,
    },
}

/// Says texts, one at a time.
pub struct Voice {
    config: SpeechConfig,
    dispatcher: Option<Dispatcher>,
    dispatcher_failed: Option<Duration>,
}

impl Voice {
    /// A voice as configured; nothing is connected or started before the first text.
    #[must_use]
    pub fn new(config: SpeechConfig) -> Self {
        Self {
            config,
            dispatcher: None,
            dispatcher_failed: None,
        }
    }

    /// Starts saying `text` (monotonic `now`). The program that speaks, if it's one of ours; a
    /// server speaks on its own, and an older text of ours that it's still saying is cancelled.
    ///
    /// # Errors
    /// When nothing will be heard; the next text may be.
    pub fn say(&mut self, text: &str, now: Duration) -> Result<Option<Job>, SpeechError> {
        let text = one_line(text);
        let argv = match self.config.via {
            Via::SpeechDispatcher => return self.dispatch(&text).map(|()| None),
            Via::Auto => {
                let paused = self
                    .dispatcher_failed
                    .is_some_and(|failed| now.saturating_sub(failed) < DISPATCHER_PAUSE);
                if !paused && socket(&self.config).exists() {
                    match self.dispatch(&text) {
                        Ok(()) => return Ok(None),
                        Err(error) => {
                            self.dispatcher_failed = Some(now);
                            tracing::warn!("{error}; espeak-ng speaks instead");
                        }
                    }
                }
                espeak(&self.config)
            }
            Via::EspeakNg => espeak(&self.config),
            Via::Command => self.config.command.clone(),
        };
        let todo = if self.config.via == Via::Command {
            "correct speech.command"
        } else {
            "install espeak-ng, or choose another speech.via"
        };
        Job::start(&argv, text.as_bytes(), todo).map(Some)
    }

    /// Ends what speech-dispatcher is saying for us.
    pub fn cancel(&mut self) {
        if let Some(server) = &mut self.dispatcher
            && server.cancel().is_err()
        {
            self.dispatcher = None;
        }
    }

    fn dispatch(&mut self, text: &str) -> Result<(), SpeechError> {
        // A server that has restarted since is connected to again.
        if let Some(mut server) = self.dispatcher.take()
            && server.cancel().and_then(|()| server.speak(text)).is_ok()
        {
            self.dispatcher = Some(server);
            return Ok(());
        }
        let socket = socket(&self.config);
        let spoken = Dispatcher::connect(&self.config, &socket).and_then(|mut server| {
            server.speak(text)?;
            Ok(server)
        });
        match spoken {
            Ok(server) => {
                self.dispatcher = Some(server);
                Ok(())
            }
            Err(error) => Err(SpeechError::Dispatcher {
                socket,
                problem: error.to_string(),
            }),
        }
    }
}

/// Where speech-dispatcher should listen.
#[must_use]
pub fn socket(config: &SpeechConfig) -> PathBuf {
    if let Some(socket) = &config.socket {
        return socket.clone();
    }
    const BELOW: &str = "speech-dispatcher/speechd.sock";
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(|folder| Path::new(&folder).join(BELOW))
        .filter(|socket| socket.exists())
        .unwrap_or_else(|| Path::new("/run").join(BELOW))
}

/// espeak-ng and its arguments; the text goes to its standard input.
#[must_use]
pub fn espeak(config: &SpeechConfig) -> Vec<String> {
    // Words a minute: 80 to 450, 175 is espeak-ng's own default.
    let rate = i32::from(config.rate);
    let words = 175 + if rate < 0 { rate * 95 } else { rate * 275 } / 100;
    let voice = config.voice.as_ref().unwrap_or(&config.language);
    let words = words.to_string();
    ["espeak-ng", "--stdin", "-v", voice, "-s", &words]
        .map(str::to_owned)
        .to_vec()
}

/// One line without control characters, not too long.
fn one_line(text: &str) -> String {
    let words = text
        .split(|character: char| character.is_whitespace() || character.is_control())
        .filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().take(MOST_CHARACTERS).collect()
}

/// A program that speaks or plays, in a process group of its own. Killed when dropped.
#[derive(Debug)]
pub struct Job {
    program: String,
    child: Child,
}

impl Job {
    /// Starts `argv` with `input` on its standard input. `todo`: what to do if that fails.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(argv: &[String], input: &[u8], todo: &'static str) -> Result<Self, SpeechError> {
        let program = argv.first().cloned().unwrap_or_default();
        let failed = |source| SpeechError::Program {
            program: program.clone(),
            source,
            todo,
        };
        let child = Command::new(&program)
            .args(argv.iter().skip(1))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // What a wrapper script starts is ended with it.
            .process_group(0)
            // The daemon's own channel to systemd.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .spawn()
            .map_err(failed)?;
        let mut job = Self {
            program: program.clone(),
            child,
        };
        if let Some(mut stdin) = job.child.stdin.take()
            && let Err(error) = stdin.write_all(input)
        {
            // It has closed its input or ended; its exit status tells more.
            tracing::debug!(%error, program, "didn't read all of its input");
        }
        Ok(job)
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// When it has ended with a failure.
    pub fn ended(&mut self) -> Result<bool, SpeechError> {
        match self.child.try_wait() {
            Ok(None) => Ok(false),
            Ok(Some(status)) => {
                let words = self.last_words();
                // Without a sound card espeak-ng 1.51 complains and ends with 0.
                let silent = self.program.ends_with("espeak-ng") && words.starts_with("error");
                if status.success() && !silent {
                    return Ok(true);
                }
                Err(SpeechError::Failed {
                    program: self.program.clone(),
                    status,
                    stderr: if words.is_empty() {
                        "it wrote nothing to stderr".into()
                    } else {
                        format!("its last line: {words}")
                    },
                })
            }
            // Nothing to wait for.
            Err(_) => Ok(true),
        }
    }

    /// Ends it because it took longer than `limit`.
    #[must_use]
    pub fn stuck(self, limit: Duration) -> SpeechError {
        SpeechError::Stuck {
            program: self.program.clone(),
            seconds: limit.as_secs(),
        }
    }

    /// The last line of what it wrote to stderr; may be empty.
    fn last_words(&mut self) -> String {
        let Some(stderr) = self.child.stderr.take() else {
            return String::new();
        };
        let mut words = Vec::new();
        // A child of it may hold the pipe open without writing: never wait for that.
        if rustix::io::ioctl_fionbio(&stderr, true).is_ok() {
            // What is there is kept even where the end is "would block".
            let _ = stderr.take(STDERR_BYTES).read_to_end(&mut words);
        }
        let text = String::from_utf8_lossy(&words);
        text.trim().lines().last().map(one_line).unwrap_or_default()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Not after it was waited for: its number may be another's by then.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rate: i8) -> SpeechConfig {
        SpeechConfig {
            via: Via::EspeakNg,
            command: Vec::new(),
            rate,
            voice: None,
            language: "de".into(),
            socket: None,
            hold: Duration::ZERO,
            sounds: Vec::new(),
        }
    }

    #[test]
    fn the_rate_covers_what_espeak_can_do() {
        for (rate, words) in [(-100, "80"), (0, "175"), (100, "450"), (50, "312")] {
            assert_eq!(
                espeak(&config(rate)),
                ["espeak-ng", "--stdin", "-v", "de", "-s", words]
            );
        }
    }

    #[test]
    fn a_text_is_one_line_of_bounded_length() {
        assert_eq!(one_line(" a\r\n.\r\nSPEAK \u{7} "), "a . SPEAK");
        assert_eq!(one_line(&"ä".repeat(5000)).chars().count(), MOST_CHARACTERS);
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let argv = ["sh", "-c", "cat >/dev/null; echo no sound card >&2; exit 3"];
        let mut job = Job::start(&argv.map(String::from), b"text", "").unwrap();
        let error = loop {
            match job.ended() {
                Ok(ended) => assert!(!ended),
                Err(error) => break error.to_string(),
            }
        };
        for part in ["sh has failed", "3", "no sound card"] {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
        let missing = Job::start(&["no-such-program".into()], b"", "correct it").unwrap_err();
        assert!(
            missing
                .to_string()
                .contains("no-such-program can't be started")
        );
        assert!(missing.to_string().ends_with("correct it"));
    }
}
