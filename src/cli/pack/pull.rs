//! `captiond pack pull`: a pack from the net into its place.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{sizes, verify::print};
use crate::{
    engine::tract::TractEngine,
    pack::{
        fetch::{Address, Event, Fetch, FetchError},
        install::Destination,
        verify::{Weight, verify},
    },
};

/// From where to where.
///
/// A download that was stopped goes on with the same command. Proxies: HTTPS_PROXY, ALL_PROXY, NO_PROXY.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// URL of a pack.toml, or of its folder; the files are fetched from beside it.
    #[arg(value_name = "URL")]
    url: String,
    /// The pack's folder. A pack that is there is replaced when the new one is whole, and kept as DIR.old.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// SHA-256 that the pack.toml must have. It names the hashes of all files, so this pins the whole pack.
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Allow plain http to other machines than this one.
    #[arg(long)]
    insecure_http: bool,
    /// Don't load the pack before it is installed: for a machine that is too small for it.
    #[arg(long)]
    no_self_test: bool,
}

pub(super) fn run(args: &PullArgs) -> Result<ExitCode> {
    if let Some(hash) = &args.sha256
        && !(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        bail!("--sha256: found {hash:?}, expected 64 hexadecimal digits");
    }
    let address = Address::parse(&args.url).map_err(FetchError::Address)?;
    let destination = Destination::new(&args.to).map_err(|why| FetchError::Destination {
        path: args.to.clone(),
        why,
    })?;
    let fetch = Fetch {
        address: &address,
        destination: &destination,
        insecure_http: args.insecure_http,
        manifest_sha256: args.sha256.as_deref(),
    };
    let mut shown = Shown::default();
    let fetched = fetch.run(&mut |event| shown.tell(&event))?;
    if !args.no_self_test {
        eprintln!("{}: trying it", fetched.pack.label());
        let report = verify(&fetched.pack.folder, &TractEngine);
        if !report.is_good() {
            print(&report);
            bail!(
                "{} is not installed: it came whole, but doesn't work here (--no-self-test installs it all \
                 the same); tell whoever publishes it, or use a captiond that fits it",
                fetched.pack.label()
            );
        }
        for note in report.findings.iter().filter(|f| f.weight == Weight::Note) {
            eprintln!(
                "captiond: note: {}: {}: {}",
                note.file, note.field, note.found
            );
        }
    }
    let label = fetched.pack.label();
    let old = fetched.install(&destination)?;
    eprintln!("{}: {label} is installed", destination.folder().display());
    if let Some(old) = old {
        eprintln!("the pack that was there is {} now", old.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What is happening: a bar on a terminal, else a line a file.
#[derive(Default)]
struct Shown {
    bar: Option<ProgressBar>,
}

impl Shown {
    fn tell(&mut self, event: &Event<'_>) {
        match event {
            Event::Manifest { label, files, size } => match size {
                Some(size) => eprintln!("{label}: {files} files, {}", sizes::bytes(*size)),
                None => eprintln!("{label}: {files} files"),
            },
            Event::Kept { file } => eprintln!("{file}: here already"),
            Event::Begin { file, size, have } => {
                let from = match have {
                    0 => String::new(),
                    have => format!(", going on after {}", sizes::bytes(*have)),
                };
                let of = size.map_or_else(|| "size not known".to_owned(), sizes::bytes);
                if io::stderr().is_terminal() {
                    self.bar = Some(bar(file, *size, *have));
                } else {
                    eprintln!("{file}: {of}{from}");
                }
            }
            Event::Bytes(count) => {
                if let Some(bar) = &self.bar {
                    bar.inc(*count);
                }
            }
            Event::Restart => {
                if let Some(bar) = &self.bar {
                    bar.set_position(0);
                }
                self.say("from the beginning");
            }
            Event::Again { why, wait } => {
                self.say(&format!("{why}; again in {:.1} s", wait.as_secs_f32()));
            }
            Event::Done => {
                if let Some(bar) = self.bar.take() {
                    bar.finish();
                }
            }
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

fn bar(file: &str, size: Option<u64>, have: u64) -> ProgressBar {
    let (bar, form) = match size {
        Some(size) => (
            ProgressBar::new(size),
            "{msg:>24} {bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta} left",
        ),
        None => (
            ProgressBar::no_length(),
            "{msg:>24} {spinner} {decimal_bytes} {decimal_bytes_per_sec}",
        ),
    };
    let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_message(file.to_owned())
        .with_style(style)
        .with_position(have)
}
