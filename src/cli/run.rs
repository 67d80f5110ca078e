//! `captiond run`: the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use crate::captioner::Describe;
use crate::daemon::clock::{Clock, SystemClock};
use crate::daemon::config::{Config, SourceConfig, SourceKind};
use crate::daemon::reload::Hangups;
use crate::daemon::shutdown::Shutdown;
use crate::daemon::trigger::Trigger;
use crate::daemon::trigger::button::listen;
use crate::daemon::trigger::demand::DemandFlag;
use crate::daemon::{self, Settings};
use crate::publish::Publisher;
use crate::publish::mqtt::MqttPublisher;
use crate::publish::stdout::JsonLines;
use crate::source::FrameSource;
use crate::source::command::CommandSource;
use crate::source::folder::{Existing, FolderSource};
use crate::source::http::{SnapshotSource, StreamSource};
use crate::source::state::StateCell;
use crate::source::supervised::Supervised;

/// Caption the frames of a source until stopped (SIGTERM, Ctrl-C); SIGHUP loads the pack again,
/// SIGUSR2 captions the next frame whatever the trigger says
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

/// Runs the daemon. `load` makes the chain from a pack's folder (`None`: the default pack); it's
/// called after the configuration was checked, since a model takes longer to load than a typing
/// error to find, and again on every SIGHUP.
///
/// The caller has set up logging, to stderr.
///
/// # Errors
/// When the configuration is wrong, the pack can't be loaded or a thread can't be started.
pub fn run(
    args: &RunArgs,
    load: impl Fn(Option<&Path>) -> anyhow::Result<Box<dyn Describe>> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config, args.stdout)?;
    // Before the model loads, so that a SIGTERM meanwhile ends the daemon in good order too.
    let shutdown = Shutdown::new();
    shutdown
        .on_signals()
        .context("can't set up the signal handlers")?;
    let hangups = Hangups::catch().context("can't set up the handler of SIGHUP")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let demand = DemandFlag::new(Arc::clone(&clock));
    demand
        .on_signal()
        .context("can't set up the handler of SIGUSR2")?;

    let pack = args.pack.clone().or(config.pack);
    let describe = load(pack.as_deref())?;
    if shutdown.requested() {
        return Ok(ExitCode::SUCCESS);
    }
    let describe = hangups
        .reload_with(describe, move || load(pack.as_deref()))
        .context("can't start the reload thread")?;

    let mut publishers: Vec<Arc<dyn Publisher>> = Vec::new();
    if args.stdout {
        publishers.push(Arc::new(JsonLines::stdout()));
    }
    if let Some(mqtt) = config.mqtt {
        let publisher =
            MqttPublisher::start(mqtt, &config.device, Arc::clone(&clock), shutdown.clone())
                .context("can't start the MQTT thread")?;
        publishers.push(Arc::new(publisher));
    }
    let state = StateCell::new();
    let source = Supervised::new(
        open(&config.source, &clock),
        state,
        config.source.live.frozen_after,
        Arc::clone(&clock),
    );
    for button in config.trigger.buttons() {
        listen(button, demand.clone(), Arc::clone(&clock), shutdown.clone())
            .context("can't start a button's thread")?;
    }
    // A frame that waited for longer is what a camera saw before it stalled.
    let max_age = (!source.every_frame_counts()).then_some(config.source.live.stall_after);
    let trigger = Trigger::new(config.trigger, Arc::clone(&clock)).with_max_age(max_age);
    tracing::info!(
        device = config.device,
        pack = describe.pack(),
        source = source.origin(),
        "captioning"
    );
    let settings = Settings {
        device: config.device,
        interval: config.interval,
        trigger,
        demand: Some(demand),
    };
    let tally = daemon::run(
        settings,
        Box::new(source),
        Box::new(describe),
        publishers,
        clock,
        &shutdown,
    )?;
    tracing::info!(
        captioned = tally.captioned,
        overtaken = tally.overtaken,
        bad = tally.bad,
        "stopped"
    );
    Ok(ExitCode::SUCCESS)
}

/// The source that the configuration describes. Nothing is opened before its first frame is
/// asked for, so a camera that is missing now is waited for like one that is lost later.
fn open(config: &SourceConfig, clock: &Arc<dyn Clock>) -> Box<dyn FrameSource> {
    let clock = Arc::clone(clock);
    let stall_after = config.live.stall_after;
    match &config.kind {
        SourceKind::Folder(folder) => {
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
        SourceKind::Command(command) => Box::new(CommandSource::new(
            command.argv.clone(),
            command.max_frame_bytes,
            stall_after,
            clock,
        )),
        SourceKind::HttpSnapshot(snapshot) => Box::new(SnapshotSource::new(
            snapshot.http.clone(),
            snapshot.poll,
            clock,
        )),
        SourceKind::HttpMjpeg(stream) => Box::new(StreamSource::new(stream.http.clone(), clock)),
        #[cfg(feature = "camera")]
        SourceKind::Video(video) => {
            use crate::source::video::{VideoSource, Wanted};
            let wanted = Wanted {
                width: video.width,
                height: video.height,
                fps: video.fps,
            };
            Box::new(VideoSource::new(&video.device, wanted, stall_after, clock))
        }
    }
}
