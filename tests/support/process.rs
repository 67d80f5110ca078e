//! The daemon as a process of its own: this test program, started again.
//!
//! SIGTERM, `kill -9` and exit codes need a process, and the real program would need a model pack.
//! So the child is the test program with a variable that makes its test [`CHILD_TEST`] call
//! `captiond run`'s own code with the fake model.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use captiond::captioner::Describe;
use captiond::cli::run::{RunArgs, run};
use rustix::process::{Pid, Signal, kill_process};

use super::{FakeModel, until};

const CONFIG: &str = "CAPTIOND_TEST_CONFIG";
const MODEL_TAKES: &str = "CAPTIOND_TEST_MODEL_MILLISECONDS";

/// Each test program that starts children has a test of this name, which calls [`be_the_daemon`].
pub const CHILD_TEST: &str = "the_daemon_as_a_child";

/// In the child: runs the daemon and ends the process as `main` would. Elsewhere: returns.
pub fn be_the_daemon() {
    let Some(config) = std::env::var_os(CONFIG) else {
        return;
    };
    let takes = std::env::var(MODEL_TAKES).unwrap().parse().unwrap();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let arguments = RunArgs {
        config: config.into(),
        pack: None,
        stdout: false,
    };
    let load = move |_: Option<&Path>, _| -> anyhow::Result<Box<dyn Describe>> {
        Ok(Box::new(FakeModel {
            takes: Duration::from_millis(takes),
        }))
    };
    match run(&arguments, load) {
        Ok(_) => std::process::exit(0),
        Err(error) => {
            eprintln!("Error: {error:#}");
            std::process::exit(1);
        }
    }
}

/// Killed when dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon with this configuration; `folder` is for its files.
    pub fn start(folder: &Path, config: &str) -> Self {
        Self::with(folder, config, Duration::ZERO, &[])
    }

    /// With a model that takes its time, and variables.
    pub fn with(
        folder: &Path,
        config: &str,
        model_takes: Duration,
        variables: &[(&str, &str)],
    ) -> Self {
        let name = format!("daemon-{:x}", fastrand::u32(..));
        let file = folder.join(format!("{name}.toml"));
        let log = folder.join(format!("{name}.log"));
        fs::write(&file, config).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD_TEST, "--nocapture"])
            .env(CONFIG, file)
            .env(MODEL_TAKES, model_takes.as_millis().to_string())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits until the log says so, and returns the line.
    pub fn wait_for_log(&self, text: &str) -> String {
        until(format!("{text:?} in the daemon's log"), || {
            let log = self.log();
            log.lines()
                .find(|line| line.contains(text))
                .map(String::from)
        })
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        let status = until("the daemon ends", || self.child.try_wait().unwrap());
        (status, self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log:\n{}---", self.log());
        }
    }
}
