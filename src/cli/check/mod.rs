//! `captiond check`: what an installer wants to know before leaving. Each part of the device is
//! tried as the daemon would use it, and what is wrong comes with what to do.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use crate::captioner::Describe;
use crate::daemon::clock::{Clock, SystemClock};
use crate::daemon::config::Config;

mod broker;
mod chain;
mod source;
mod speech;
mod system;
mod web;

/// Where packages put the configuration.
const INSTALLED: &str = "/etc/captiond/captiond.toml";

/// Try everything that the daemon needs, and say what to do about what is wrong
///
/// Tries the configuration, pack, camera, broker, speech, page, permissions, clock and disk. Run it as the
/// daemon's user while the daemon is stopped: `sudo -u captiond captiond check`. The exit code is 1
/// if there is a problem; warnings alone leave it at 0.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// The configuration. Default: /etc/captiond/captiond.toml. Without FILE: that one, with --config-only
    #[arg(long, value_name = "FILE")]
    pub config: Option<Option<PathBuf>>,

    /// Check the configuration file alone: nothing is opened, connected or loaded
    #[arg(long)]
    pub config_only: bool,

    /// Model pack to try instead of the configured one
    #[arg(long, value_name = "DIR")]
    pub pack: Option<PathBuf>,

    /// One JSON object: ok, and checks with name, state, found, todo
    #[arg(long)]
    pub json: bool,
}

/// How it stands with one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// The daemon runs, but something may surprise.
    Warning,
    /// The daemon, or this part of it, will not work.
    Problem,
}

/// One part's outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// configuration, pack, source, broker, speech, page, permissions, clock, disk.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty if nothing.
    pub todo: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, State::Ok, found, "")
    }

    fn warning(name: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self::new(name, State::Warning, found, todo)
    }

    fn problem(name: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self::new(name, State::Problem, found, todo)
    }

    fn new(
        name: &'static str,
        state: State,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            name,
            state,
            found: found.into(),
            todo: todo.into(),
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    checks: &'a [Check],
}

/// Runs the checks. `load` makes the chain from a pack's folder, as for `captiond run`.
///
/// # Errors
/// When standard output is closed. What is wrong with the device is no error: it's in the report,
/// and in the exit code.
pub fn run(
    args: &CheckArgs,
    load: impl FnOnce(Option<&Path>) -> anyhow::Result<Box<dyn Describe>>,
) -> anyhow::Result<ExitCode> {
    let (file, file_alone) = match &args.config {
        Some(Some(file)) => (file.as_path(), args.config_only),
        Some(None) => (Path::new(INSTALLED), true),
        None => (Path::new(INSTALLED), args.config_only),
    };
    let mut out = Lines::new(args.json);
    // Captions may go to stdout: a configuration without a broker is one for --stdout.
    match Config::load(file, true) {
        Err(error) => out.add(Check::problem(
            "configuration",
            error.to_string(),
            "correct that; docs/captiond.toml (installed: /usr/share/doc/captiond/captiond.toml) has \
             every key",
        ))?,
        Ok(config) => {
            out.add(configuration(file, &config))?;
            if !file_alone {
                everything(args, file, &config, load, &mut out)?;
            }
        }
    }
    out.finish()
}

fn configuration(file: &Path, config: &Config) -> Check {
    let found = format!("{} is right", file.display());
    if config.mqtt.is_none() && config.speech.is_none() && config.web.is_none() {
        return Check::warning(
            "configuration",
            format!("{found}, but captions go nowhere"),
            "add [mqtt] or [speech], or run the daemon with --stdout",
        );
    }
    Check::ok("configuration", found)
}

fn everything(
    args: &CheckArgs,
    file: &Path,
    config: &Config,
    load: impl FnOnce(Option<&Path>) -> anyhow::Result<Box<dyn Describe>>,
    out: &mut Lines,
) -> io::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let pack = args.pack.as_deref().or(config.pack.as_deref());
    out.add(chain::check(|| load(pack)))?;
    out.add(source::check(&config.source, &clock))?;
    if let Some(mqtt) = &config.mqtt {
        out.add(broker::check(mqtt))?;
    }
    if let Some(speech) = &config.speech {
        out.add(speech::check(speech))?;
    }
    if let Some(web) = &config.web {
        out.add(web::check(web))?;
    }
    out.add(system::permissions(file, config))?;
    out.add(system::clock(&*clock))?;
    out.add(system::disk())
}

/// The report: each line as soon as it's known, since the parts take their time; JSON at the end.
struct Lines {
    json: bool,
    checks: Vec<Check>,
}

impl Lines {
    fn new(json: bool) -> Self {
        Self {
            json,
            checks: Vec::new(),
        }
    }

    fn add(&mut self, check: Check) -> io::Result<()> {
        if !self.json {
            let mut out = io::stdout().lock();
            write!(out, "{}", Shown(&check))?;
            out.flush()?;
        }
        self.checks.push(check);
        Ok(())
    }

    fn finish(self) -> anyhow::Result<ExitCode> {
        let problems = self
            .checks
            .iter()
            .filter(|check| check.state == State::Problem)
            .count();
        let mut out = io::stdout().lock();
        if self.json {
            let report = Report {
                ok: problems == 0,
                checks: &self.checks,
            };
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        } else {
            match problems {
                0 => writeln!(out, "No problems.")?,
                1 => writeln!(out, "1 problem.")?,
                many => writeln!(out, "{many} problems.")?,
            }
        }
        Ok(ExitCode::from(u8::from(problems > 0)))
    }
}

/// Words before colours and columns: the report may be read by a screen reader.
struct Shown<'a>(&'a Check);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Check {
            name,
            state,
            found,
            todo,
        } = self.0;
        let word = match state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Problem => "PROBLEM",
        };
        writeln!(f, "{word:<8} {name}: {found}")?;
        if !todo.is_empty() {
            writeln!(f, "         to do: {todo}")?;
        }
        Ok(())
    }
}

/// Where a program is, as the daemon would find it.
fn find_program(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &PathBuf| {
        std::fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(runs);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(runs)
}
