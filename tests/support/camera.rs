//! The daemon with the emulated V4L2 camera of `tests/emulated_v4l2`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::broker::{Broker, Subscriber};
use super::process::Daemon;
use super::{jpeg, until};

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

pub const BY_ID: &str = "/dev/v4l/by-id/usb-Emulated_Camera_0001-video-index0";

/// A daemon whose camera is the emulated one, and what a subscriber sees of it.
pub struct Setup {
    pub daemon: Daemon,
    pub subscriber: Subscriber,
    _broker: Broker,
    // Last: the daemon's log is in it.
    pub folder: tempfile::TempDir,
}

impl Setup {
    pub fn start(format: &str, control: &str) -> Self {
        Self::with(format, control, &[320, 400], "")
    }

    /// With frames of these widths, and more lines in `[source]`.
    pub fn with(format: &str, control: &str, widths: &[u32], source: &str) -> Self {
        let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
        let subscriber = broker.subscribe();
        let frames = folder.path().join("frames");
        fs::create_dir(&frames).unwrap();
        for &width in widths {
            fs::write(frames.join(format!("{width}.jpg")), jpeg(width)).unwrap();
        }
        steer(folder.path(), control);
        let config = format!(
            "[device]\nid = \"door\"\n[source]\nkind = \"video\"\ndevice = \"{BY_ID}\"\nfps = 50\n\
             {source}\n[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n",
            broker.port
        );
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let variables = [
            (
                "CAPTIOND_CAMERA_HELPER",
                env!("CARGO_BIN_EXE_captiond").into(),
            ),
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

    pub fn steer(&self, word: &str) {
        steer(self.folder.path(), word);
    }

    /// How many captions have come.
    pub fn captions(&self) -> usize {
        self.subscriber.on("/caption").len()
    }

    pub fn wait_for_more_captions(&self) {
        let before = self.captions();
        until("more captions", || {
            (self.captions() > before + 3).then_some(())
        });
    }

    pub fn end(self) -> String {
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
