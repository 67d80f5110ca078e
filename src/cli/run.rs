//! `captiond run`: the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use crate::caption::wording::Thresholds;
use crate::captioner::Describe;
use crate::daemon::clock::{Clock, SystemClock};
use crate::daemon::config::{Config, SourceConfig};
use crate::daemon::controls::Controls;
use crate::daemon::reload::Hangups;
use crate::daemon::shutdown::Shutdown;
use crate::daemon::{self, Counters, Settings};
use crate::publish::Publisher;
use crate::publish::mqtt::{MqttPublisher, Surroundings};
use crate::publish::stdout::JsonLines;
use crate::source::FrameSource;
use crate::source::command::CommandSource;
use crate::source::folder::{Existing, FolderSource};

/// Caption the frames of a source until stopped (SIGTERM, Ctrl-C); SIGHUP loads the pack again
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The configuration (TOML); docs/captiond.toml is an example with every key
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,

    /// Model pack to use instead of the configured one
    #[arg(long, value_name = "DIR")]
    pub pack: Option<PathBuf>,

    /// Print captions as JSON lines; then no broker is needed
    #[arg(long)]
    pub stdout: bool,
}

/// Runs the daemon. `load` makes the chain from a pack's folder (`None`: the default pack) and the
/// configured thresholds; it's called after the configuration was checked, since a model takes longer to load than a typing
/// error to find, and again on every SIGHUP.
///
/// The caller has set up logging, to stderr.
///
/// # Errors
/// When the configuration is wrong, the pack can't be loaded or a thread can't be started.
pub fn run(
    args: &RunArgs,
    load: impl Fn(Option<&Path>, Thresholds) -> anyhow::Result<Box<dyn Describe>> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config, args.stdout)?;
    // Before the model loads, so that a SIGTERM meanwhile ends the daemon in good order too.
    let shutdown = Shutdown::new();
    shutdown
        .on_signals()
        .context("can't set up the signal handlers")?;
    let hangups = Hangups::catch().context("can't set up the handler of SIGHUP")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());

    let pack = args.pack.clone().or(config.pack);
    let thresholds = config.confidence;
    let describe = load(pack.as_deref(), thresholds)?;
    if shutdown.requested() {
        return Ok(ExitCode::SUCCESS);
    }
    let describe = hangups
        .reload_with(describe, move || load(pack.as_deref(), thresholds))
        .context("can't start the reload thread")?;

    let mut publishers: Vec<Arc<dyn Publisher>> = Vec::new();
    if args.stdout {
        publishers.push(Arc::new(JsonLines::stdout()));
    }
    let controls = Controls::new(config.controls);
    let counters = Arc::new(Counters::default());
    if let Some(mqtt) = config.mqtt {
        let around = Surroundings {
            device: config.device.clone(),
            home_assistant: config.home_assistant,
            controls: controls.clone(),
            counters: Arc::clone(&counters),
            clock: Arc::clone(&clock),
            shutdown: shutdown.clone(),
        };
        let publisher =
            MqttPublisher::start(mqtt, around).context("can't start the MQTT threads")?;
        publishers.push(Arc::new(publisher));
    }
    let source = open(&config.source, &clock);
    tracing::info!(
        device = config.device,
        pack = describe.pack(),
        source = source.origin(),
        "captioning"
    );
    let settings = Settings {
        device: config.device,
        controls,
        counters,
    };
    let tally = daemon::run(
        settings,
        source,
        Box::new(describe),
        publishers,
        clock,
        &shutdown,
    )?;
    tracing::info!(
        captioned = tally.captioned,
        overtaken = tally.overtaken,
        bad = tally.bad,
        withheld = tally.withheld,
        "stopped"
    );
    Ok(ExitCode::SUCCESS)
}

/// The source that the configuration describes. Nothing is opened before its first frame is
/// asked for, so a camera that is missing now is waited for like one that is lost later.
fn open(config: &SourceConfig, clock: &Arc<dyn Clock>) -> Box<dyn FrameSource> {
    let clock = Arc::clone(clock);
    match config {
        SourceConfig::Folder(folder) => {
            let existing = if folder.caption_existing {
                Existing::Caption
            } else {
                Existing::Skip
            };
            Box::new(FolderSource::new(
                &folder.path,
                existing,
                folder.poll,
                clock,
            ))
        }
        SourceConfig::Command(command) => Box::new(CommandSource::new(
            command.argv.clone(),
            command.max_frame_bytes,
            clock,
        )),
        #[cfg(feature = "camera")]
        SourceConfig::Video(video) => {
            use crate::source::video::{VideoSource, Wanted};
            let wanted = Wanted {
                width: video.width,
                height: video.height,
                fps: video.fps,
            };
            Box::new(VideoSource::new(&video.device, wanted, clock))
        }
    }
}
