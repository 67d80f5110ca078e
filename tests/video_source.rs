//! The video source through the real nokhwa and V4L2 code, against an emulated device
//! (`tests/emulated_v4l2`): a camera that can be unplugged, stalled and damaged.
#![cfg(feature = "camera")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use support::broker::{Broker, Subscriber};
use support::process::{Daemon, be_the_daemon};
use support::{jpeg, until};

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

/// The emulation, compiled once for all tests of this program.
fn emulation() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulated_v4l2/emulated_v4l2.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libemulated_v4l2.so");
        // Under a name of its own first: another run of these tests may be using the library.
        let new = library.with_extension(format!("{:x}", fastrand::u64(..)));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&new, &source])
            .args(["-ldl", "-lpthread"])
            .status()
            .expect("cc is missing: install a C compiler (Debian: apt-get install gcc)");
        assert!(compiled.success());
        fs::rename(&new, &library).unwrap();
        library
    })
}

const BY_ID: &str = "/dev/v4l/by-id/usb-Emulated_Camera_0001-video-index0";

/// A daemon whose camera is the emulated one, and what a subscriber sees of it.
struct Setup {
    folder: tempfile::TempDir,
    daemon: Daemon,
    subscriber: Subscriber,
    _broker: Broker,
}

impl Setup {
    fn start(format: &str, control: &str) -> Self {
        let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
        let subscriber = broker.subscribe();
        let frames = folder.path().join("frames");
        fs::create_dir(&frames).unwrap();
        for width in [320, 400] {
            fs::write(frames.join(format!("{width}.jpg")), jpeg(width)).unwrap();
        }
        steer(folder.path(), control);
        let config = format!(
            "[device]\nid = \"door\"\n[source]\nkind = \"video\"\ndevice = \"{BY_ID}\"\nfps = 50\n\
             [mqtt]\nhost = \"127.0.0.1\"\nport = {}\n",
            broker.port
        );
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let variables = [
            ("CAPTIOND_CAMERA_HELPER", env!("CARGO_BIN_EXE_captiond").into()),
            ("LD_PRELOAD", text(emulation())),
            ("EMULATED_V4L2_DEVICE", "/dev/video7".into()),
            ("EMULATED_V4L2_FRAMES", text(&frames)),
            ("EMULATED_V4L2_FORMAT", format.into()),
            ("EMULATED_V4L2_FPS", "50".into()),
            (
                "EMULATED_V4L2_CONTROL",
                text(&folder.path().join("control")),
            ),
        ];
        let variables = variables
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let daemon = Daemon::with(folder.path(), &config, Duration::ZERO, &variables);
        Self {
            folder,
            daemon,
            subscriber,
            _broker: broker,
        }
    }

    fn steer(&self, word: &str) {
        steer(self.folder.path(), word);
    }

    /// How many captions have come.
    fn captions(&self) -> usize {
        self.subscriber.on("/caption").len()
    }

    fn wait_for_more_captions(&self) {
        let before = self.captions();
        until("more captions", || {
            (self.captions() > before + 3).then_some(())
        });
    }

    fn end(self) -> String {
        let start = Instant::now();
        let (status, log) = self.daemon.terminate();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
        self.subscriber.wait_for_status("offline");
        log
    }
}

fn steer(folder: &Path, word: &str) {
    let new = folder.join("control.new");
    fs::write(&new, word).unwrap();
    fs::rename(new, folder.join("control")).unwrap();
}

#[test]
fn frames_of_a_camera_arrive() {
    let setup = Setup::start("MJPG", "run");
    let caption = setup.subscriber.wait_for_caption(320);
    assert_eq!(caption.json()["origin"], BY_ID);
    setup.subscriber.wait_for_caption(400);
    let log = setup.end();
    assert!(!log.contains("frame skipped"), "{log}");
}

#[test]
fn a_camera_without_mjpeg_is_converted() {
    let setup = Setup::start("YUYV", "run");
    setup.subscriber.wait_for_caption(64);
    setup.end();
}

#[test]
fn of_both_formats_one_is_agreed_on() {
    let setup = Setup::start("BOTH", "run");
    // The wanted 640 is nearest to 400 x 24, which is on offer as MJPEG only.
    setup.subscriber.wait_for_caption(320);
    setup.end();
}

#[test]
fn after_a_replug_under_another_number_it_goes_on() {
    let setup = Setup::start("MJPG", "run");
    setup.subscriber.wait_for_caption(320);
    setup.steer("unplug");
    let line = setup.daemon.wait_for_log("no frames");
    assert!(line.contains(BY_ID), "{line}");
    // While it's away the name leads nowhere.
    setup.daemon.wait_for_log("is the camera plugged in?");
    setup.steer("replug /dev/video9");
    setup.wait_for_more_captions();
    setup.daemon.wait_for_log("state=\"lost\"");
    let log = setup.end();
    // Backed off, not a million attempts a second.
    assert!(log.lines().count() < 40, "{log}");
}

#[test]
fn a_camera_that_stalls_does_not_hold_up_the_end() {
    let setup = Setup::start("MJPG", "run");
    setup.subscriber.wait_for_caption(320);
    setup.steer("stall");
    // Until nothing comes any more.
    let mut last = setup.captions();
    until("no more captions", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = setup.captions();
        (std::mem::replace(&mut last, now) == now).then_some(())
    });
    setup.end();
}

#[test]
fn truncated_frames_are_skipped_until_whole_ones_come() {
    let setup = Setup::start("MJPG", "run");
    setup.subscriber.wait_for_caption(320);
    setup.steer("truncate");
    let line = setup.daemon.wait_for_log("frame skipped");
    assert!(line.contains("JPEG"), "{line}");
    setup.steer("run again");
    setup.wait_for_more_captions();
    setup.end();
}

#[test]
fn corrupt_frames_are_lived_through() {
    let setup = Setup::start("MJPG", "run");
    setup.subscriber.wait_for_caption(320);
    for word in ["corrupt", "truncate-stale"] {
        setup.steer(word);
        // Whether such a frame decodes is the decoder's affair; here it must do no harm.
        std::thread::sleep(Duration::from_millis(300));
    }
    setup.steer("run again");
    setup.wait_for_more_captions();
    setup.end();
}

#[test]
fn a_camera_in_use_is_told_and_taken_when_it_is_free() {
    let setup = Setup::start("MJPG", "busy");
    setup
        .daemon
        .wait_for_log("another program is using the camera");
    setup.steer("run");
    setup.subscriber.wait_for_caption(320);
    setup.end();
}
