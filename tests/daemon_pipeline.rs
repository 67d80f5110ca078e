//! The daemon inside this process: what is captioned, what is skipped, what is refused.

mod support;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use captiond::caption::wording::Verdict;
use captiond::captioner::{Describe, Description, StageTimes};
use captiond::cli::run::{RunArgs, run};
use captiond::daemon::clock::{Clock, FakeClock, SystemClock};
use captiond::daemon::config::MqttConfig;
use captiond::daemon::controls::{Controls, Values};
use captiond::daemon::life::Life;
use captiond::daemon::shutdown::Shutdown;
use captiond::daemon::trigger::demand::DemandFlag;
use captiond::daemon::trigger::{Trigger, TriggerConfig};
use captiond::daemon::{self, Counters, Settings, Tally};
use captiond::frame::{FrameQuality, Limits};
use captiond::publish::message::CaptionMessage;
use captiond::publish::mqtt::{MqttPublisher, Surroundings};
use captiond::publish::{Described, PublishError, Publisher};
use captiond::source::folder::{Existing, FolderSource};
use captiond::source::{Frame, FrameSource, Pixels, SourceError};
use support::broker::Broker;
use support::{FakeModel, drop_in, jpeg, until};

/// Keeps the captions.
#[derive(Default)]
struct Kept(Mutex<Vec<(u64, String)>>);

impl Kept {
    fn captions(&self) -> Vec<String> {
        let kept = self.0.lock().unwrap();
        kept.iter().map(|(_, caption)| caption.clone()).collect()
    }
}

impl Publisher for Kept {
    fn name(&self) -> &str {
        "test"
    }

    fn publish(&self, message: &CaptionMessage<'_>) -> Result<(), PublishError> {
        let mut kept = self.0.lock().unwrap();
        kept.push((
            message.sequence,
            message.caption.unwrap_or_default().to_owned(),
        ));
        Ok(())
    }

    fn close(&self, _: Duration) {}
}

fn settings(interval: Duration, clock: &Arc<dyn Clock>) -> Settings {
    let controls = Controls::new(Values {
        interval,
        ..Values::default()
    });
    with_controls(&controls, clock)
}

fn with_controls(controls: &Controls, clock: &Arc<dyn Clock>) -> Settings {
    Settings {
        device: "porch".into(),
        controls: controls.clone(),
        counters: Arc::new(Counters::default()),
        life: Arc::new(Life::untold(Arc::clone(clock))),
        trigger: Trigger::new(TriggerConfig::default(), Arc::clone(clock)),
        demand: DemandFlag::new(controls, Arc::clone(clock)),
    }
}

fn system_clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn frame(text: &str, clock: &dyn Clock) -> Frame {
    Frame {
        pixels: Pixels::Encoded(text.as_bytes().to_vec()),
        origin: "test".into(),
        taken: clock.monotonic(),
    }
}

/// A live source whose items the test writes down beforehand.
struct Script {
    items: std::vec::IntoIter<Result<Frame, SourceError>>,
    /// Told when all but the end has been handed over.
    all_out: Sender<()>,
    every_frame_counts: bool,
}

impl FrameSource for Script {
    fn origin(&self) -> &str {
        "script"
    }

    fn every_frame_counts(&self) -> bool {
        self.every_frame_counts
    }

    fn next_frame(&mut self, _: &Shutdown) -> Result<Option<Frame>, SourceError> {
        match self.items.next() {
            Some(item) => item.map(Some),
            None => {
                self.all_out.send(()).unwrap();
                Err(SourceError::Ended {
                    origin: "script".into(),
                })
            }
        }
    }
}

/// Says what the frame's bytes are, once it's let through its gate.
struct Gated(Receiver<()>);

impl Describe for Gated {
    fn describe(&mut self, frame: &Frame) -> anyhow::Result<Description> {
        self.0.recv()?;
        let Pixels::Encoded(bytes) = &frame.pixels else {
            anyhow::bail!("not encoded");
        };
        Ok(Description {
            caption: String::from_utf8(bytes.clone())?,
            spoken: String::from_utf8(bytes.clone())?,
            confidence: 0.5,
            verdict: Verdict::Sure,
            ..Description::default()
        })
    }

    fn pack(&self) -> &str {
        "gated 1"
    }
}

/// Runs `items` through a model that takes no frame but its first before all are out.
fn run_script(items: Vec<Result<Frame, SourceError>>, every: bool) -> (Tally, Vec<String>) {
    let kept = Arc::new(Kept::default());
    let (all_out, out) = channel();
    let (gate, gated) = channel();
    let many = items.len();
    let source = Script {
        items: items.into_iter(),
        all_out,
        every_frame_counts: every,
    };
    let opener = std::thread::spawn(move || {
        if !every {
            out.recv().unwrap();
        }
        for _ in 0..many {
            // Fails once the daemon has ended.
            let _ = gate.send(());
        }
        // Kept until the source has sent to it.
        out
    });
    let tally = daemon::run(
        settings(Duration::ZERO, &system_clock()),
        Box::new(source),
        Box::new(Gated(gated)),
        vec![Arc::clone(&kept) as Arc<dyn Publisher>],
        Arc::new(SystemClock::new()),
        &Shutdown::new(),
    )
    .unwrap();
    drop(opener.join().unwrap());
    (tally, kept.captions())
}

#[test]
fn with_a_slow_model_the_newest_frame_of_a_camera_wins() {
    let clock = SystemClock::new();
    let items = (0..500)
        .map(|n| Ok(frame(&n.to_string(), &clock)))
        .collect();
    let (tally, captions) = run_script(items, false);
    // At most one frame was taken before the others were there.
    assert!(captions.len() <= 2, "{captions:?}");
    assert_eq!(captions.last().unwrap(), "499");
    assert_eq!(tally.captioned + tally.overtaken, 500);
    assert_eq!(tally.bad, 0);
}

#[test]
fn of_a_folder_each_one_counts() {
    let clock = SystemClock::new();
    let items = (0..50).map(|n| Ok(frame(&n.to_string(), &clock))).collect();
    let (tally, captions) = run_script(items, true);
    let expected: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(captions, expected);
    assert_eq!(tally.overtaken, 0);
}

#[test]
fn bad_frames_and_losses_are_lived_through() {
    let clock = SystemClock::new();
    let origin = || "script".to_owned();
    let bad = || SourceError::BadFrame {
        origin: origin(),
        reason: "torn".into(),
    };
    let lost = || SourceError::Lost {
        origin: origin(),
        reason: "unplugged".into(),
    };
    let items = vec![
        Err(lost()),
        Err(bad()),
        Ok(frame("first", &clock)),
        Err(bad()),
        Err(lost()),
        Ok(frame("second", &clock)),
    ];
    let (tally, captions) = run_script(items, true);
    assert_eq!(captions, ["first", "second"]);
    assert_eq!((tally.captioned, tally.bad), (2, 2));
}

#[test]
fn bad_images_in_a_folder_are_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let good = jpeg(64);
    drop_in(folder.path(), "1-no-image.jpg", b"GIF89a? no");
    drop_in(folder.path(), "2-truncated.jpg", &good[..40]);
    drop_in(folder.path(), "3-empty.png", b"");
    drop_in(folder.path(), "4-good.JPG", &good);
    let mut png = Vec::new();
    image::GrayImage::new(80, 8)
        .write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png)
        .unwrap();
    drop_in(folder.path(), "5-grey.png", &png);

    let (kept, shutdown) = (Arc::new(Kept::default()), Shutdown::new());
    let stop = shutdown.clone();
    // The fake clock's polls are many: the empty file is given up after ten.
    let clock = FakeClock::with_hook(SystemTime::UNIX_EPOCH, move |wait| {
        if wait >= 30 {
            stop.request();
        }
    });
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let source = FolderSource::new(
        folder.path(),
        Existing::Caption,
        Duration::from_secs(1),
        Arc::clone(&clock),
    );
    // The shutdown may come while the last image is in the slot, so this looks at what each
    // thread has certainly done: the source has seen the empty file, the model the others.
    let model = FakeModel {
        takes: Duration::ZERO,
    };
    let watcher = {
        let kept = Arc::clone(&kept);
        std::thread::spawn(move || {
            until("both captions", || {
                (kept.captions().len() >= 2).then_some(())
            })
        })
    };
    let tally = daemon::run(
        settings(Duration::ZERO, &clock),
        Box::new(Patient {
            source,
            watcher: Some(watcher),
        }),
        Box::new(model),
        vec![Arc::clone(&kept) as Arc<dyn Publisher>],
        clock,
        &shutdown,
    )
    .unwrap();
    assert_eq!(kept.captions(), ["a picture 64 wide", "a picture 80 wide"]);
    assert_eq!((tally.captioned, tally.bad), (2, 3));
}

/// Lets the pipeline finish what it has before the source sees the shutdown's first sign.
struct Patient {
    source: FolderSource,
    watcher: Option<std::thread::JoinHandle<()>>,
}

impl FrameSource for Patient {
    fn origin(&self) -> &str {
        self.source.origin()
    }

    fn every_frame_counts(&self) -> bool {
        true
    }

    fn next_frame(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        let next = self.source.next_frame(&Shutdown::new());
        if let Err(SourceError::BadFrame { origin, .. }) = &next
            && origin.ends_with("3-empty.png")
            && let Some(watcher) = self.watcher.take()
        {
            watcher.join().unwrap();
            shutdown.request();
        }
        next
    }
}

#[test]
fn the_interval_is_kept_on_the_monotonic_clock() {
    let clock = Arc::new(FakeClock::new(SystemTime::UNIX_EPOCH));
    let kept = Arc::new(Kept::default());
    let (all_out, out) = channel();
    let (gate, gated) = channel();
    for _ in 0..3 {
        gate.send(()).unwrap();
    }
    let items: Vec<_> = ["a", "b", "c"].map(|text| Ok(frame(text, &*clock))).into();
    let source = Script {
        items: items.into_iter(),
        all_out,
        every_frame_counts: true,
    };
    daemon::run(
        settings(
            Duration::from_secs(7),
            &(Arc::clone(&clock) as Arc<dyn Clock>),
        ),
        Box::new(source),
        Box::new(Gated(gated)),
        vec![Arc::clone(&kept) as Arc<dyn Publisher>],
        Arc::clone(&clock) as Arc<dyn Clock>,
        &Shutdown::new(),
    )
    .unwrap();
    drop(out);
    assert_eq!(kept.captions(), ["a", "b", "c"]);
    assert_eq!(clock.waits(), [Duration::from_secs(7); 3]);
}

/// Runs four frames of a live source through controls that `on_wait` changes; gives the captions
/// and what was answered to whoever had asked.
fn run_controlled(
    controls: &Controls,
    on_wait: impl Fn(usize, &Controls) + Send + Sync + 'static,
) -> (Tally, Vec<String>, Vec<String>) {
    #[derive(Default)]
    struct Answers(Kept, Mutex<Vec<String>>);
    impl Publisher for Answers {
        fn name(&self) -> &str {
            "test"
        }
        fn publish(&self, message: &CaptionMessage<'_>) -> Result<(), PublishError> {
            self.0.publish(message)
        }
        fn described(&self, outcome: &Described<'_>) {
            self.1.lock().unwrap().push(match outcome {
                Described::Caption(message) => message.spoken.to_owned(),
                Described::Withheld { confidence } => format!("withheld {confidence}"),
                Described::Failed(reason) => format!("failed: {reason}"),
            });
        }
        fn close(&self, _: Duration) {}
    }
    let changed = controls.clone();
    let clock = FakeClock::with_hook(SystemTime::UNIX_EPOCH, move |wait| on_wait(wait, &changed));
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let answers = Arc::new(Answers::default());
    let (all_out, out) = channel();
    let (gate, gated) = channel();
    let items: Vec<_> = ["a", "b", "c", "d"]
        .map(|text| {
            gate.send(()).unwrap();
            Ok(frame(text, &*clock))
        })
        .into();
    let source = Script {
        items: items.into_iter(),
        all_out,
        every_frame_counts: true,
    };
    let tally = daemon::run(
        with_controls(controls, &clock),
        Box::new(source),
        Box::new(Gated(gated)),
        vec![Arc::clone(&answers) as Arc<dyn Publisher>],
        clock,
        &Shutdown::new(),
    )
    .unwrap();
    drop(out);
    let said = answers.1.lock().unwrap().clone();
    (tally, answers.0.captions(), said)
}

#[test]
fn while_it_is_off_only_what_is_asked_for_is_captioned() {
    let controls = Controls::new(Values {
        enabled: false,
        ..Values::default()
    });
    // Each wait is one of an hour: asked for once, and later turned on.
    let (tally, captions, said) = run_controlled(&controls, |wait, controls| match wait {
        1 => controls.describe(),
        2 => {}
        _ => controls.update(|values| values.enabled = true),
    });
    assert_eq!(captions, ["a", "b", "c", "d"]);
    assert_eq!(said, ["a"]);
    assert_eq!(tally.captioned, 4);
}

#[test]
fn unsure_captions_are_withheld_and_whoever_asked_is_told() {
    let controls = Controls::new(Values {
        interval: Duration::from_secs(60),
        min_confidence: 0.51,
        ..Values::default()
    });
    // The model's confidence is 0.5. The second one is asked for; then the bar is lowered to it.
    let (tally, captions, said) = run_controlled(&controls, |wait, controls| match wait {
        1 => controls.describe(),
        2 => controls.update(|values| values.min_confidence = 0.5),
        _ => {}
    });
    assert_eq!(captions, ["c", "d"]);
    assert_eq!(said, ["withheld 0.5"]);
    assert_eq!((tally.captioned, tally.withheld, tally.bad), (2, 2, 0));
}

#[test]
fn when_the_reader_of_the_lines_has_gone_the_daemon_ends() {
    struct Gone;
    impl Publisher for Gone {
        fn name(&self) -> &str {
            "stdout"
        }
        fn publish(&self, _: &CaptionMessage<'_>) -> Result<(), PublishError> {
            Err(PublishError::ReaderGone)
        }
        fn close(&self, _: Duration) {}
    }
    struct Endless;
    impl FrameSource for Endless {
        fn origin(&self) -> &str {
            "endless"
        }
        fn next_frame(&mut self, _: &Shutdown) -> Result<Option<Frame>, SourceError> {
            Ok(Some(frame("x", &SystemClock::new())))
        }
    }
    let (gate, gated) = channel();
    gate.send(()).unwrap();
    gate.send(()).unwrap();
    let tally = daemon::run(
        settings(Duration::ZERO, &system_clock()),
        Box::new(Endless),
        Box::new(Gated(gated)),
        vec![Arc::new(Gone)],
        Arc::new(SystemClock::new()),
        &Shutdown::new(),
    );
    assert!(tally.unwrap().captioned >= 1);
}

#[test]
fn a_panic_in_the_model_ends_the_daemon_with_an_error() {
    struct Broken;
    impl Describe for Broken {
        fn describe(&mut self, _: &Frame) -> anyhow::Result<Description> {
            panic!("a defect in the engine");
        }
        fn pack(&self) -> &str {
            "broken 1"
        }
    }
    let (all_out, _out) = channel();
    let source = Script {
        items: vec![Ok(frame("x", &SystemClock::new()))].into_iter(),
        all_out,
        every_frame_counts: true,
    };
    let error = daemon::run(
        settings(Duration::ZERO, &system_clock()),
        Box::new(source),
        Box::new(Broken),
        Vec::new(),
        Arc::new(SystemClock::new()),
        &Shutdown::new(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("pipeline"), "{error}");
}

#[test]
fn an_oversized_message_is_refused_before_it_can_break_the_connection() {
    let broker = Broker::open();
    let subscriber = broker.subscribe();
    let config = MqttConfig {
        port: broker.port,
        ..MqttConfig::new("127.0.0.1", "large")
    };
    let shutdown = Shutdown::new();
    let around = Surroundings {
        device: "large".into(),
        home_assistant: None,
        controls: Controls::default(),
        counters: Arc::default(),
        clock: Arc::new(SystemClock::new()),
        shutdown: shutdown.clone(),
        limits: Limits::default(),
    };
    let publisher = MqttPublisher::start(config, around).unwrap();
    subscriber.wait_for_status("online");
    let ms = StageTimes::default();
    let quality = FrameQuality::default();
    let message = |caption, sequence| CaptionMessage {
        schema: 2,
        caption: Some(caption),
        verdict: Verdict::Sure,
        spoken: "",
        confidence: 0.5,
        confidence_calibrated: false,
        alternatives: &[],
        quality: &quality,
        neighbours: &[],
        ms: &ms,
        device: "large",
        pack: "test 1",
        origin: "test",
        time: "2026-01-01T00:00:00.000Z".into(),
        time_synchronised: true,
        sequence,
    };
    let huge = "x".repeat(300_000);
    let error = publisher.publish(&message(&huge, 1)).unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { .. }), "{error}");
    // Well over rumqttc's own limit of 10 KiB.
    let large = "y".repeat(200_000);
    publisher.publish(&message(&large, 2)).unwrap();
    let caption = subscriber.wait_for("the large caption", |message| {
        message.topic.ends_with("/caption")
    });
    assert_eq!(caption.json()["sequence"], 2);
    shutdown.request();
    publisher.close(Duration::from_secs(30));
    subscriber.wait_for_status("offline");
    assert_eq!(broker.log().matches("as captiond-large").count(), 1);
    assert!(publisher.publish(&message("late", 3)).is_ok());
}

fn run_with(folder: &Path, config: &str) -> anyhow::Error {
    let file: PathBuf = folder.join("captiond.toml");
    fs::write(&file, config).unwrap();
    let arguments = RunArgs {
        config: file,
        pack: None,
        stdout: false,
    };
    run(&arguments, |_, _| {
        panic!("the model was loaded before the config was checked")
    })
    .unwrap_err()
}

#[test]
fn a_wrong_config_is_refused_before_the_model_loads() {
    let folder = tempfile::tempdir().unwrap();
    let good = "[source]\nkind = \"folder\"\npath = \"in\"\n[mqtt]\nhost = \"localhost\"\n";
    for (config, parts) in [
        (
            format!("{good}prot = 1883\n"),
            ["captiond.toml:6:1", "mqtt.prot", "unknown field"],
        ),
        (
            format!("{good}port = \"x\"\n"),
            ["captiond.toml:6:8", "mqtt.port", "expected u16"],
        ),
    ] {
        let error = format!("{:#}", run_with(folder.path(), &config));
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }
}
