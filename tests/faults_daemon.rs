//! The fault suite for the daemon and what is around it: broker restarts in the middle of publishing, a broker
//! that forbids, an hour without one, a full disk, a clock that jumps by years, a decompression bomb. Pass
//! lines in `docs/faults.md`.

mod support;
#[path = "support/tiny.rs"]
mod tiny;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use captiond::caption::wording::Verdict;
use captiond::captioner::StageTimes;
use captiond::daemon::bell::Bell;
use captiond::daemon::clock::{Clock, FakeClock, SystemClock, Trust};
use captiond::daemon::config::MqttConfig;
use captiond::daemon::controls::{Controls, Values};
use captiond::daemon::life::Life;
use captiond::daemon::shutdown::Shutdown;
use captiond::daemon::trigger::Trigger;
use captiond::daemon::trigger::demand::DemandFlag;
use captiond::daemon::{self, Settings};
use captiond::frame::{FrameQuality, Limits};
use captiond::publish::Publisher;
use captiond::publish::message::CaptionMessage;
use captiond::publish::mqtt::{MqttPublisher, Surroundings};
use captiond::source::folder::{Existing, FolderSource};
use support::broker::{Broker, Subscriber, free_port};
use support::process::{Daemon, be_the_daemon};
use support::relay::Relay;
use support::{FakeModel, drop_in, folder_config, jpeg, long, passed, until};

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

/// The widths in the captions of the events that have come.
fn widths(subscriber: &Subscriber) -> BTreeSet<u32> {
    let events = subscriber.on("/event");
    let caption = |event: &support::broker::Message| event.json()["caption"].to_string();
    let width = |caption: String| caption.split(' ').nth(2)?.parse().ok();
    events.iter().map(caption).filter_map(width).collect()
}

/// Kills the broker again and again while events are published. `kept`: its folder, if it keeps what it has.
fn restart_again_and_again(kept: Option<&Path>, fault: &str) {
    let rounds: u32 = if long() { 100 } else { 5 };
    let begun = Instant::now();
    let (folder, relay) = (tempfile::tempdir().unwrap(), Relay::new());
    // No health by the clock: that the outbox is empty has to be told by itself.
    let keys = "reconnect_max = \"1s\"\noutbox_max_age = \"1day\"\nhealth_interval = \"1day\"";
    let config = folder_config(folder.path(), relay.port, keys);
    let daemon = Daemon::start(folder.path(), &config);
    let start = || kept.map_or_else(Broker::open, Broker::keeping);
    let incoming = folder.path().join("in");
    let (mut seen, mut next) = (BTreeSet::new(), 100);
    for round in 0..rounds {
        let broker = start();
        let subscriber = broker.subscribe();
        let before = widths(&subscriber).len();
        relay.to(broker.port);
        subscriber.wait_for_status("online");
        for width in next..next + 10 {
            drop_in(&incoming, &format!("{width}.jpg"), &jpeg(width));
        }
        next += 10;
        // Some have come; others are on their way, or not even captioned.
        until("events", || {
            (widths(&subscriber).len() > before).then_some(())
        });
        std::thread::sleep(Duration::from_millis(fastrand::u64(..30)));
        match round % 3 {
            0 => broker.kill(),
            1 => {
                // It takes what comes, and acknowledges nothing any more.
                broker.freeze();
                std::thread::sleep(Duration::from_millis(50));
                broker.kill();
            }
            _ => broker.stop(),
        }
        relay.cut();
        // What the broker had passed on may still be on its way to the subscriber's thread.
        std::thread::sleep(Duration::from_millis(200));
        seen.extend(widths(&subscriber));
    }
    let broker = start();
    let subscriber = broker.subscribe();
    relay.to(broker.port);
    let all: BTreeSet<u32> = (100..next).collect();
    let health = subscriber.wait_for_health("an empty outbox", |health| {
        health["outbox"]["entries"] == 0 && health["reconnects"] == rounds
    });
    assert_eq!(health["dropped"]["total"], 0, "{health}");
    assert_eq!(health["captioned"], next - 100, "{health}");
    // An empty outbox says that each event was acknowledged. What a broker that keeps nothing acknowledges as it is
    // killed dies with it, and is sent again.
    until("every event", || {
        seen.extend(widths(&subscriber));
        all.is_subset(&seen).then_some(())
    });
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    passed(
        "broker",
        &format!("{rounds} {fault}, {} events, none lost", all.len()),
        begun.elapsed(),
    );
}

#[test]
fn restarts_of_a_broker_that_keeps_nothing_lose_no_event() {
    restart_again_and_again(None, "restarts while events are published, nothing kept");
}

#[test]
fn restarts_of_a_broker_with_persistence_lose_no_event() {
    let kept = tempfile::tempdir().unwrap();
    restart_again_and_again(
        Some(kept.path()),
        "restarts while events are published, with persistence",
    );
}

#[test]
fn a_broker_that_forbids_commands_costs_the_commands_only() {
    let begun = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("acl");
    // Everything may be read and written but the commands and the pictures' events.
    fs::write(
        &list,
        "topic readwrite #\ntopic deny captiond/porch/+/set\ntopic deny captiond/porch/event\n",
    )
    .unwrap();
    let config = format!("allow_anonymous true\nacl_file {}\n", list.display());
    let broker = Broker::start(free_port(), &config);
    let subscriber = broker.subscribe();
    let daemon = Daemon::start(
        folder.path(),
        &folder_config(folder.path(), broker.port, ""),
    );
    subscriber.wait_for_status("online");
    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    subscriber.wait_for_caption(100);
    // The connection stays, and what is refused doesn't hold up the rest.
    let health = subscriber.wait_for_health("an empty outbox", |health| {
        health["captioned"] == 1 && health["outbox"]["entries"] == 0
    });
    assert_eq!(health["reconnects"], 0, "{health}");
    subscriber.send("captiond/porch/enabled/set", "OFF");
    subscriber.settle();
    drop_in(&folder.path().join("in"), "b.jpg", &jpeg(110));
    subscriber.wait_for_caption(110);
    assert_eq!(subscriber.on("/event"), []);
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    passed(
        "broker",
        "its access list forbids events and commands",
        begun.elapsed(),
    );
}

/// A message with this caption.
fn with_message(caption: &str, sequence: u64, act: impl FnOnce(&CaptionMessage<'_>)) {
    let (ms, quality) = (StageTimes::default(), FrameQuality::default());
    act(&CaptionMessage {
        schema: 2,
        caption: Some(caption),
        verdict: Verdict::Sure,
        spoken: caption,
        confidence: 0.9,
        confidence_calibrated: false,
        alternatives: &[],
        quality: &quality,
        neighbours: &[],
        ms: &ms,
        device: "porch",
        pack: "fake 1.0.0",
        origin: "test",
        time: "2026-03-01T06:30:12.345Z".into(),
        time_synchronised: false,
        sequence,
    });
}

#[test]
fn an_hour_without_a_broker_is_waited_out_without_hurry() {
    const HOUR: Duration = Duration::from_secs(3600);
    let begun = Instant::now();
    let (relay, broker, shutdown) = (Arc::new(Relay::new()), Broker::open(), Shutdown::new());
    let subscriber = broker.subscribe();
    let publisher = Arc::new(OnceLock::<MqttPublisher>::new());
    let clock = Arc::new_cyclic(|clock: &std::sync::Weak<FakeClock>| {
        let (clock, to, relay) = (clock.clone(), Arc::clone(&publisher), Arc::clone(&relay));
        let (last_minute, port) = (std::sync::Mutex::new(0), broker.port);
        FakeClock::with_hook(SystemTime::UNIX_EPOCH, move |_| {
            let (Some(clock), Some(to)) = (clock.upgrade(), to.get()) else {
                return;
            };
            let now = clock.monotonic();
            // A picture a minute; after the hour the broker is there.
            let mut last = last_minute.lock().unwrap();
            while *last < now.as_secs() / 60 {
                *last += 1;
                let caption = format!("minute {last}");
                with_message(&caption, *last, |message| to.publish(message).unwrap());
            }
            if now >= HOUR {
                relay.to(port);
            }
        })
    });
    let around = Surroundings {
        device: "porch".into(),
        home_assistant: None,
        controls: Controls::default(),
        counters: Arc::default(),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        shutdown: shutdown.clone(),
        limits: Limits::default(),
    };
    let config = MqttConfig {
        port: relay.port,
        ..MqttConfig::new("127.0.0.1", "porch")
    };
    let started = MqttPublisher::start(config, around).unwrap();
    assert!(publisher.set(started).is_ok());
    subscriber.wait_for_status("online");
    let waits = clock.waits();
    let waited: Duration = waits.iter().sum();
    assert!(
        waited >= HOUR && waited < HOUR + Duration::from_secs(120),
        "{waited:?}"
    );
    // Half a minute at least between two attempts, once the waits have grown.
    assert!((60..140).contains(&waits.len()), "{} attempts", waits.len());
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(60)));
    assert!(
        waits[10..]
            .iter()
            .all(|wait| *wait >= Duration::from_secs(30))
    );
    // The newest caption and the events of the last ten minutes come; the rest is accounted for.
    let minutes = waited.as_secs() / 60;
    let newest = format!("minute {minutes}");
    subscriber.wait_for("the newest caption", |message| {
        message.topic.ends_with("/caption") && message.json()["caption"] == newest
    });
    // Fake time stands still once nobody waits for the broker: minutes more, each with a picture, until health is told.
    let health = until("health that says what expired", || {
        clock.wait(Duration::from_secs(60), &shutdown);
        std::thread::sleep(Duration::from_millis(300));
        let health = subscriber.on("/health").pop()?.json();
        (health["outbox"]["entries"] == 0 && health["dropped"]["expired"] != 0).then_some(health)
    });
    let expired = health["dropped"]["expired"].as_u64().unwrap();
    assert_eq!(health["dropped"]["total"], expired, "{health}");
    let published = clock.monotonic().as_secs() / 60;
    let came = until("every event that hasn't expired", || {
        let came = subscriber.on("/event").len() as u64;
        (came + expired == published).then_some(came)
    });
    // Of the time without a broker.
    let late = came - (published - minutes);
    assert!((9..=11).contains(&late), "{late} events");
    shutdown.request();
    publisher.get().unwrap().close(Duration::from_secs(30));
    let fault = format!("away for an hour of fake time ({} attempts)", waits.len());
    passed("broker", &fault, begun.elapsed());
}

/// A small file system in a folder of ours; unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// `None`, loudly, where it can't be had.
    fn mount(folder: &'a Path, size: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=0700"),
                "tmpfs",
            ])
            .arg(folder)
            .stderr(Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        eprintln!("##### SKIPPED: a full disk needs a tmpfs, and that root #####");
        None
    }

    /// Not while a file in it is open for writing: the kernel refuses that.
    fn forbid_writing(&self) {
        let done = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.0)
            .status();
        assert!(done.unwrap().success(), "remount ro");
    }

    /// Fills what is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        for size in [4096, 64, 1] {
            while file.write_all(&[0; 4096][..size]).is_ok() {}
        }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn events_in(outbox: &Path) -> usize {
    let files = fs::read_dir(outbox).unwrap();
    let is_event = |path: &Path| path.extension().is_some_and(|ext| ext == "event");
    files
        .filter(|file| is_event(&file.as_ref().unwrap().path()))
        .count()
}

/// A broker comes: the events of pictures of these widths arrive, none was dropped, and the disk refused so often.
fn all_events_come(daemon: Daemon, relay: &Relay, pictures: Range<u32>, disk_errors: u64) {
    let broker = Broker::open();
    let subscriber = broker.subscribe();
    relay.to(broker.port);
    until("all events", || {
        (widths(&subscriber) == pictures.clone().collect()).then_some(())
    });
    let health = subscriber.wait_for_health("an empty outbox and the disk's errors", |health| {
        health["outbox"]["disk_errors"] == disk_errors && health["outbox"]["entries"] == 0
    });
    assert_eq!(health["dropped"]["total"], 0, "{health}");
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_full_disk_costs_no_event() {
    let begun = Instant::now();
    let (folder, relay) = (tempfile::tempdir().unwrap(), Relay::new());
    let outbox = folder.path().join("outbox");
    let Some(disk) = SmallDisk::mount(&outbox, "64k") else {
        return;
    };
    let config = folder_config(folder.path(), relay.port, "outbox_dir = \"outbox\"");
    let daemon = Daemon::start(folder.path(), &config);
    let incoming = folder.path().join("in");
    let captioned = |count: usize| {
        until("captions", || {
            (daemon.log().matches("the model has a frame").count() == count).then_some(())
        });
    };
    let image = |width: u32| drop_in(&incoming, &format!("{width}.jpg"), &jpeg(width));
    image(100);
    until("a file", || {
        (outbox.join("lock").exists() && events_in(&outbox) == 1).then_some(())
    });
    disk.fill();
    image(101);
    image(102);
    captioned(3);
    daemon.wait_for_log("an event can't be kept on the disk, only in memory");
    // Nothing half-written stays either.
    assert_eq!(
        fs::read_dir(&outbox).unwrap().count(),
        3,
        "lock, event, filler"
    );
    fs::remove_file(outbox.join("filler")).unwrap();
    image(103);
    until("a second file", || (events_in(&outbox) == 2).then_some(()));
    all_events_come(daemon, &relay, 100..104, 2);
    passed("disk", "full, while events wait", begun.elapsed());
}

#[test]
fn a_read_only_state_folder_costs_no_event() {
    let begun = Instant::now();
    let (folder, relay) = (tempfile::tempdir().unwrap(), Relay::new());
    let outbox = folder.path().join("outbox");
    let Some(disk) = SmallDisk::mount(&outbox, "64k") else {
        return;
    };
    disk.forbid_writing();
    let config = folder_config(folder.path(), relay.port, "outbox_dir = \"outbox\"");
    let daemon = Daemon::start(folder.path(), &config);
    daemon.wait_for_log("events are kept in memory only");
    let incoming = folder.path().join("in");
    for width in 100..103 {
        drop_in(&incoming, &format!("{width}.jpg"), &jpeg(width));
    }
    until("captions", || {
        (daemon.log().matches("the model has a frame").count() == 3).then_some(())
    });
    all_events_come(daemon, &relay, 100..103, 1);
    passed("disk", "read-only from the start", begun.elapsed());
}

/// The system's clocks, with a date that a test moves.
#[derive(Debug, Default)]
struct JumpingClock {
    real: SystemClock,
    /// Seconds.
    ahead: AtomicI64,
}

impl Clock for JumpingClock {
    fn monotonic(&self) -> Duration {
        self.real.monotonic()
    }

    fn wall(&self) -> SystemTime {
        let (now, ahead) = (self.real.wall(), self.ahead.load(Ordering::SeqCst));
        let by = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 { now - by } else { now + by }
    }

    fn trust(&self) -> Trust {
        Trust::Unknown
    }

    fn wait(&self, duration: Duration, shutdown: &Shutdown) -> bool {
        self.real.wait(duration, shutdown)
    }

    fn wait_on(&self, duration: Duration, bell: &Bell, seen: u64) {
        self.real.wait_on(duration, bell, seen);
    }
}

/// All threads of the daemon on one clock, whose date goes 50 years ahead, before 1970, out of what RFC 3339
/// can say, and back.
#[test]
fn a_clock_that_jumps_by_years_stops_nothing_and_loses_nothing() {
    const YEAR: i64 = 365 * 24 * 3600;
    let begun = Instant::now();
    let (folder, broker, shutdown) = (
        tempfile::tempdir().unwrap(),
        Broker::open(),
        Shutdown::new(),
    );
    let subscriber = broker.subscribe();
    let jumping = Arc::new(JumpingClock::default());
    let clock = Arc::clone(&jumping) as Arc<dyn Clock>;
    let controls = Controls::new(Values::default());
    let counters = Arc::default();
    let mut config = MqttConfig {
        port: broker.port,
        health_interval: Duration::from_secs(1),
        ..MqttConfig::new("127.0.0.1", "porch")
    };
    config.outbox.folder = Some(folder.path().join("outbox"));
    let around = Surroundings {
        device: "porch".into(),
        home_assistant: None,
        controls: controls.clone(),
        counters: Arc::clone(&counters),
        clock: Arc::clone(&clock),
        shutdown: shutdown.clone(),
        limits: Limits::default(),
    };
    let publisher: Arc<dyn Publisher> = Arc::new(MqttPublisher::start(config, around).unwrap());
    let incoming = folder.path().join("in");
    fs::create_dir(&incoming).unwrap();
    let poll = Duration::from_millis(20);
    let source = FolderSource::new(&incoming, Existing::Caption, poll, Arc::clone(&clock));
    let settings = Settings {
        device: "porch".into(),
        demand: DemandFlag::new(&controls, Arc::clone(&clock)),
        controls,
        counters,
        life: Arc::new(Life::untold(Arc::clone(&clock))),
        trigger: Trigger::new(Default::default(), Arc::clone(&clock)),
    };
    let asked = shutdown.clone();
    let daemon = std::thread::spawn(move || {
        let model = Box::new(FakeModel {
            takes: Duration::ZERO,
        });
        daemon::run(
            settings,
            Box::new(source),
            model,
            vec![publisher],
            clock,
            &asked,
        )
    });
    let jumps = [0, 50, -57, 9_000, -1_000, 0, 1, -1];
    for (years, width) in jumps.into_iter().zip(100..) {
        jumping.ahead.store(years * YEAR, Ordering::SeqCst);
        drop_in(&incoming, &format!("{width}.jpg"), &jpeg(width));
        subscriber.wait_for_caption(width);
        until("its event", || {
            widths(&subscriber).contains(&width).then_some(())
        });
    }
    let health = subscriber.wait_for_health("all", |health| {
        health["captioned"] == jumps.len() && health["outbox"]["entries"] == 0
    });
    assert_eq!(health["dropped"]["total"], 0, "{health}");
    assert_eq!(health["reconnects"], 0, "{health}");
    // The run lasted for as long as it did, whatever the date said.
    let seconds = health["uptime"].as_u64().unwrap();
    assert!(seconds <= begun.elapsed().as_secs() + 1, "{health}");
    shutdown.request();
    let tally = daemon.join().unwrap().unwrap();
    assert_eq!((tally.captioned, tally.bad), (jumps.len() as u64, 0));
    passed(
        "clock",
        "jumps by 1 to 9,000 years, both ways",
        begun.elapsed(),
    );
}

/// Killed when dropped.
struct Real(Child);

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The most memory that a process ever had, in bytes.
fn peak(process: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

/// 16 bits a channel with alpha: 8 bytes a pixel to decode, and next to nothing as a file.
fn bomb(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let black = vec![0; side as usize * side as usize * 8];
    image::ImageEncoder::write_image(
        image::codecs::png::PngEncoder::new(&mut bytes),
        &black,
        side,
        side,
        image::ExtendedColorType::Rgba16,
    )
    .unwrap();
    bytes
}

#[test]
fn a_decompression_bomb_costs_one_frame_and_no_memory() {
    let begun = Instant::now();
    let work = tempfile::tempdir().unwrap();
    let pack = tiny::whole_pack(work.path());
    let incoming = work.path().join("incoming");
    fs::create_dir(&incoming).unwrap();
    let broker = Broker::open();
    let subscriber = broker.subscribe();
    let config = work.path().join("captiond.toml");
    let text = format!(
        "[device]\nid = \"porch\"\n[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n\
         [source]\nkind = \"folder\"\npath = \"incoming\"\nexisting = \"caption\"\npoll = \"20ms\"\n",
        broker.port
    );
    fs::write(&config, text).unwrap();
    let log = work.path().join("log");
    let daemon = Command::new(env!("CARGO_BIN_EXE_captiond"))
        .args(["run", "--pack"])
        .arg(pack.path())
        .arg("--config")
        .arg(&config)
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let daemon = Real(daemon);
    let captioned = |name: &str| {
        until(name.to_owned(), || {
            let captions = subscriber.on("/caption").into_iter();
            captions
                .map(|caption| caption.json())
                .find(|caption| caption["origin"] == name)
        });
    };
    subscriber.wait_for_status("online");
    drop_in(&incoming, "1.png", &tiny::picture("wide.png"));
    captioned("1.png");
    let before = peak(&daemon.0);
    // 49 million pixels are allowed, 539 MB for them aren't.
    let bomb = bomb(7000);
    assert!(bomb.len() < 4 << 20, "{} bytes", bomb.len());
    drop_in(&incoming, "2.png", &bomb);
    until("it is refused", || {
        let log = fs::read_to_string(&log).unwrap();
        log.lines()
            .any(|line| line.contains("2.png") && line.contains("source.max_decode_bytes"))
            .then_some(())
    });
    drop_in(&incoming, "3.png", &tiny::picture("wide.png"));
    captioned("3.png");
    let more = peak(&daemon.0) - before;
    assert!(more < 32 << 20, "{more} bytes more");
    let health = subscriber.wait_for_health("both", |health| health["captioned"] == 2);
    assert_eq!(health["bad_frames"], 1, "{health}");
    let fault = format!("a decompression bomb ({} kB for 539 MB)", bomb.len() / 1000);
    passed("pictures", &fault, begun.elapsed());
}
