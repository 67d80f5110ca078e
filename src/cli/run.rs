//! `captiond run`: the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::Signals;

use crate::caption::wording::Thresholds;
use crate::captioner::Describe;
use crate::daemon::clock::{Clock, SystemClock};
use crate::daemon::config::{Config, SourceConfig, SourceKind};
use crate::daemon::controls::{Controls, Values};
use crate::daemon::life::Life;
use crate::daemon::reload::Hangups;
use crate::daemon::shutdown::Shutdown;
use crate::daemon::trigger::Trigger;
use crate::daemon::trigger::button::listen;
use crate::daemon::trigger::demand::DemandFlag;
use crate::daemon::{self, Counters, Settings};
use crate::publish::mqtt::{MqttPublisher, Surroundings};
use crate::publish::stdout::JsonLines;
use crate::publish::{CameraState, Publisher};
use crate::source::FrameSource;
use crate::source::command::CommandSource;
use crate::source::folder::{Existing, FolderSource};
use crate::source::http::{SnapshotSource, StreamSource};
use crate::source::state::{self, StateCell};
use crate::source::supervised::Supervised;
use crate::speech::Speech;

/// Caption the frames of a source until stopped (SIGTERM, Ctrl-C); SIGHUP reads the configuration and
/// the pack again, SIGUSR1 says the last caption again, SIGUSR2 captions the next frame whatever the
/// trigger says
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
/// configured thresholds; it's called after the configuration was checked, since a model takes longer
/// to load than a typing error to find, and again on every SIGHUP.
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
    let repeats = Repeats::catch().context("can't set up the handler of SIGUSR1")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let life = Arc::new(Life::from_environment(Arc::clone(&clock)));
    let controls = Controls::new(config.controls);
    let demand = DemandFlag::new(&controls, Arc::clone(&clock));
    let asked = Arc::clone(&life);
    demand.on_press(move || asked.asked());
    demand
        .on_signal()
        .context("can't set up the handler of SIGUSR2")?;

    let pack = args.pack.as_deref().or(config.pack.as_deref());
    let limits = config.source.limits();
    let mut describe = load(pack, config.confidence)?;
    describe.set_limits(limits);
    if shutdown.requested() {
        return Ok(ExitCode::SUCCESS);
    }
    let speech = match &config.speech {
        Some(speech) => Some(
            Speech::start(speech.clone(), controls.clone(), Arc::clone(&clock))
                .context("can't start the speech thread")?,
        ),
        None => None,
    };
    repeats
        .answer_with(speech.clone())
        .context("can't start the thread for SIGUSR1")?;
    let mut reload = Reload {
        args: args.clone(),
        running: config.clone(),
        controls: controls.clone(),
        speech: speech.clone(),
    };
    let describe = hangups
        .reload_with(describe, Arc::clone(&life), move || reload.with(&load))
        .context("can't start the reload thread")?;

    let mut publishers: Vec<Arc<dyn Publisher>> = Vec::new();
    if args.stdout {
        publishers.push(Arc::new(JsonLines::stdout()));
    }
    let counters = Arc::new(Counters::default());
    if let Some(mqtt) = config.mqtt {
        let around = Surroundings {
            device: config.device.clone(),
            home_assistant: config.home_assistant,
            controls: controls.clone(),
            counters: Arc::clone(&counters),
            clock: Arc::clone(&clock),
            shutdown: shutdown.clone(),
            limits,
        };
        let publisher =
            MqttPublisher::start(mqtt, around).context("can't start the MQTT threads")?;
        publishers.push(Arc::new(publisher));
    }
    if let Some(speech) = speech {
        let to = speech.clone();
        life.listen(move |event| to.play_event(event));
        publishers.push(Arc::new(speech));
    }
    #[cfg(feature = "web")]
    let web = match config.web {
        Some(web) => {
            let broker = publishers.clone();
            let around = crate::web::Surroundings {
                device: config.device.clone(),
                controls: controls.clone(),
                counters: Arc::clone(&counters),
                demand: demand.clone(),
                clock: Arc::clone(&clock),
                shutdown: shutdown.clone(),
                limits,
                connected: Box::new(move || broker.iter().find_map(|to| to.connected())),
            };
            let web =
                crate::web::Web::start(web, around).context("can't start the page's thread")?;
            Some(Arc::new(web))
        }
        None => None,
    };
    #[cfg(feature = "web")]
    publishers.extend(web.iter().map(|web| Arc::clone(web) as Arc<dyn Publisher>));
    let state = StateCell::new();
    tell(&state, &publishers, &life, &clock);
    let source = Supervised::new(
        open(&config.source, &clock),
        state,
        config.source.live.frozen_after,
        Arc::clone(&clock),
    );
    let source: Box<dyn FrameSource> = Box::new(source);
    #[cfg(feature = "web")]
    let source = match &web {
        Some(web) => web.watch(source),
        None => source,
    };
    for button in config.trigger.buttons() {
        listen(button, demand.clone(), Arc::clone(&clock), shutdown.clone())
            .context("can't start a button's thread")?;
    }
    // A frame that waited for longer is what a camera saw before it stalled.
    let max_age = (!source.every_frame_counts()).then_some(config.source.live.stall_after);
    let trigger = Trigger::new(config.trigger, Arc::clone(&clock))
        .with_max_age(max_age)
        .with_limits(limits);
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
        life,
        trigger,
        demand,
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

/// From now on publishers and service manager hear how it stands with the source.
fn tell(
    state: &StateCell,
    publishers: &[Arc<dyn Publisher>],
    life: &Arc<Life>,
    clock: &Arc<dyn Clock>,
) {
    let (publishers, clock) = (publishers.to_vec(), Arc::clone(clock));
    let life = Arc::clone(life);
    state.on_change(move |report| {
        let camera = CameraState::of(report, &*clock);
        for publisher in &publishers {
            publisher.camera(&camera);
        }
        match &report.state {
            state::CameraState::Ok => life.source_delivers(),
            // A camera that has just been asked for the first time isn't lost yet.
            _ if report.number == 0 => {}
            state::CameraState::Lost { reason } | state::CameraState::Stalled { reason } => {
                life.source_lost(reason);
            }
        }
    });
}

/// What SIGHUP does.
struct Reload {
    args: RunArgs,
    /// What the daemon runs with.
    running: Config,
    controls: Controls,
    speech: Option<Speech>,
}

impl Reload {
    /// Reads the configuration and loads its pack; if both are good, applies what can be applied
    /// to a running daemon and names the rest.
    fn with(
        &mut self,
        load: &impl Fn(Option<&Path>, Thresholds) -> anyhow::Result<Box<dyn Describe>>,
    ) -> anyhow::Result<Box<dyn Describe>> {
        let new = Config::load(&self.args.config, self.args.stdout)?;
        let pack = self.args.pack.as_deref().or(new.pack.as_deref());
        let mut describe = load(pack, new.confidence)?;
        // Of the source that is running: a changed one is for the next start.
        describe.set_limits(self.running.source.limits());
        // Nothing fails from here on. Without `..`, so that no new section is forgotten here.
        let Config {
            pack,
            device,
            source,
            confidence,
            controls,
            trigger,
            mqtt,
            home_assistant,
            speech,
            web,
        } = new;
        let running = &mut self.running;
        let mut applied = Vec::new();
        let mut left = Vec::new();
        if running.pack != pack {
            applied.push("pack");
            running.pack = pack;
        }
        if running.confidence != confidence {
            applied.push("confidence");
            running.confidence = confidence;
        }
        // What was set by a command stays, unless the file says something new about it.
        let old = std::mem::replace(&mut running.controls, controls);
        self.controls.update(|now| {
            let mut take_over = |name, changed: bool, apply: &dyn Fn(&mut Values)| {
                if changed {
                    applied.push(name);
                    apply(now);
                }
            };
            take_over("interval", old.interval != controls.interval, &|now| {
                now.interval = controls.interval;
            });
            take_over("enabled", old.enabled != controls.enabled, &|now| {
                now.enabled = controls.enabled;
            });
            let least = controls.min_confidence;
            take_over("min_confidence", old.min_confidence != least, &|now| {
                now.min_confidence = least;
            });
            take_over("detail", old.detail != controls.detail, &|now| {
                now.detail = controls.detail;
            });
        });
        let speech_changed = running.speech != speech;
        match (&self.speech, speech) {
            (Some(speaks), Some(speech)) => {
                if speech_changed {
                    applied.push("speech");
                    running.speech = Some(speech.clone());
                    speaks.configure(speech);
                }
            }
            (None, None) => {}
            _ => left.push("speech"),
        }
        if running.device != device {
            left.push("device");
        }
        if running.source != source {
            left.push("source");
        }
        if running.trigger != trigger {
            left.push("trigger");
        }
        if running.mqtt != mqtt {
            left.push("mqtt");
        }
        if running.home_assistant != home_assistant {
            left.push("home_assistant");
        }
        if running.web != web {
            left.push("web");
        }
        if !applied.is_empty() {
            tracing::info!("changed as configured: {}", applied.join(", "));
        }
        if !left.is_empty() {
            tracing::warn!(
                "changed in {}, but still running with the old values: {}; restart captiond to apply \
                 them",
                self.args.config.display(),
                left.join(", ")
            );
        }
        Ok(describe)
    }
}

/// SIGUSR1 as the request to say the last caption again. Caught from the start on, since the
/// signal's default ends the process.
struct Repeats(Signals);

impl Repeats {
    fn catch() -> std::io::Result<Self> {
        Signals::new([SIGUSR1]).map(Self)
    }

    fn answer_with(mut self, speech: Option<Speech>) -> std::io::Result<()> {
        std::thread::Builder::new()
            .name("repeat".into())
            .spawn(move || {
                for _ in self.0.forever() {
                    match &speech {
                        Some(speech) => speech.repeat(),
                        None => tracing::warn!(
                            "SIGUSR1: nothing is repeated, since the configuration has no [speech]"
                        ),
                    }
                }
            })?;
        Ok(())
    }
}

/// The source that the configuration describes. Nothing is opened before its first frame is
/// asked for, so a camera that is missing now is waited for like one that is lost later.
pub(super) fn open(config: &SourceConfig, clock: &Arc<dyn Clock>) -> Box<dyn FrameSource> {
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
