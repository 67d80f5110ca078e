//! The daemon under a service manager: this test listens on the socket that systemd would.

mod support;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use support::broker::free_port;
use support::process::{Daemon, be_the_daemon};
use support::{drop_in, jpeg, until};

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

/// What the daemon has told, line by line.
struct Manager {
    socket: String,
    told: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn listen(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&told);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(bytes) = socket.recv(&mut buffer) {
                let text = String::from_utf8(buffer[..bytes].to_vec()).unwrap();
                let mut told = kept.lock().unwrap();
                told.extend(text.lines().map(str::to_owned));
            }
        });
        Self {
            socket: path.to_str().unwrap().to_owned(),
            told,
        }
    }

    fn lines(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// How often this line has come.
    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|told| *told == line).count()
    }

    fn wait_for(&self, what: &str, matches: impl Fn(&[String]) -> bool) -> Vec<String> {
        until(what, || Some(self.lines()).filter(|lines| matches(lines)))
    }

    fn pings(&self) -> usize {
        self.count("WATCHDOG=1")
    }

    fn variables<'a>(&'a self, watchdog: &'a str) -> [(&'a str, &'a str); 2] {
        [("NOTIFY_SOCKET", &self.socket), ("WATCHDOG_USEC", watchdog)]
    }
}

/// A daemon that watches `<folder>/in` and has a broker that doesn't exist.
fn config(folder: &Path) -> String {
    let _ = fs::create_dir(folder.join("in"));
    format!(
        "[device]\nid = \"porch\"\n\
         [source]\nkind = \"folder\"\npath = \"in\"\nexisting = \"caption\"\npoll = \"20ms\"\n\
         [mqtt]\nhost = \"127.0.0.1\"\nport = {}\n",
        free_port()
    )
}

fn has(lines: &[String], line: &str) -> bool {
    lines.iter().any(|told| told == line)
}

#[test]
fn ready_status_pings_and_stopping_without_a_camera_or_broker() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::listen(folder.path());
    let config = config(folder.path());
    // The camera is away from the start, and so is the broker.
    fs::remove_dir(folder.path().join("in")).unwrap();
    let daemon = Daemon::with(
        folder.path(),
        &config,
        Duration::ZERO,
        &manager.variables("400000"),
    );
    manager.wait_for("ready", |lines| has(lines, "READY=1"));
    let before = manager.pings();
    manager.wait_for("ten more pings", |_| manager.pings() >= before + 10);
    manager.wait_for("the lost camera in the status", |lines| {
        lines.iter().any(|line| {
            line.starts_with("STATUS=waiting for the first frame; no frames:")
                && line.contains("broker: not connected")
        })
    });

    fs::create_dir(folder.path().join("in")).unwrap();
    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    manager.wait_for("a status with a caption", |lines| {
        lines
            .iter()
            .any(|line| line.starts_with("STATUS=1 caption; broker"))
    });
    let (status, _) = daemon.terminate();
    assert!(status.success());
    let lines = manager.wait_for("stopping", |lines| has(lines, "STOPPING=1"));
    assert_eq!(manager.count("READY=1"), 1);
    let place = |line: &str| lines.iter().position(|told| told == line).unwrap();
    assert!(place("READY=1") < place("STOPPING=1"));
    assert!(!lines[place("STOPPING=1")..].contains(&"WATCHDOG=1".to_owned()));
}

#[test]
fn a_model_that_hangs_ends_the_pings() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::listen(folder.path());
    let daemon = Daemon::with(
        folder.path(),
        &config(folder.path()),
        Duration::from_secs(3600),
        &manager.variables("400000"),
    );
    manager.wait_for("three pings", |_| manager.pings() >= 3);
    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    daemon.wait_for_log("the model has a frame");
    // The thread that pings has written that line, so all of its pings are before this mark.
    let mark = UnixDatagram::unbound().unwrap();
    mark.send_to(b"MARK", &manager.socket).unwrap();
    // Five times the watchdog's limit: systemd would have ended it.
    std::thread::sleep(Duration::from_secs(2));
    let lines = manager.wait_for("the mark", |lines| has(lines, "MARK"));
    let place = lines.iter().position(|line| line == "MARK").unwrap();
    assert!(
        !has(&lines[place..], "WATCHDOG=1"),
        "the model hangs, and yet: {lines:?}"
    );
}

#[test]
fn a_long_interval_is_no_hang() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::listen(folder.path());
    let config = format!("interval = \"1h\"\n{}", config(folder.path()));
    for name in ["a.jpg", "b.jpg"] {
        drop_in(&folder.path().join("in"), name, &jpeg(100));
    }
    let daemon = Daemon::with(
        folder.path(),
        &config,
        Duration::ZERO,
        &manager.variables("400000"),
    );
    daemon.wait_for_log("the model has a frame");
    let before = manager.pings();
    manager.wait_for("ten more pings", |_| manager.pings() >= before + 10);
}

#[test]
fn a_reload_is_told_applies_what_it_can_and_names_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::listen(folder.path());
    let text = format!("interval = \"1h\"\n{}", config(folder.path()));
    for (name, width) in [("a.jpg", 100), ("b.jpg", 101), ("c.jpg", 102)] {
        drop_in(&folder.path().join("in"), name, &jpeg(width));
    }
    let daemon = Daemon::with(
        folder.path(),
        &text,
        Duration::ZERO,
        &manager.variables("4000000"),
    );
    daemon.wait_for_log("the model has a frame");
    let file = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "toml"))
        .unwrap();

    // A bad one changes nothing, and says where it's bad.
    fs::write(&file, text.replace("1h", "1 parsec")).unwrap();
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for_log("reload refused, the old configuration and pack stay");
    assert!(line.contains(":1:12:") && line.contains("parsec"), "{line}");
    let lines = manager.wait_for("ready again", |_| manager.count("READY=1") == 2);
    let reloading = lines.iter().position(|line| line == "RELOADING=1").unwrap();
    let time = lines[reloading + 1]
        .strip_prefix("MONOTONIC_USEC=")
        .unwrap();
    assert!(time.parse::<u64>().unwrap() > 0);

    // A good one: the interval counts at once, the rest is named.
    let text = text.replace("1h", "10ms").replace("porch", "garden");
    let text = format!("detail = \"long\"\n{text}[confidence]\nhedge_below = 0.9\n");
    fs::write(&file, text).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("changed as configured: confidence, interval, detail");
    let line = daemon.wait_for_log("restart captiond to apply");
    assert!(line.contains("old values: device, mqtt;"), "{line}");
    until("the other two pictures", || {
        (daemon.log().matches("the model has a frame").count() == 3).then_some(())
    });
    manager.wait_for("ready again", |_| manager.count("READY=1") == 3);
}

#[test]
fn without_a_service_manager_nothing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let daemon = Daemon::start(folder.path(), &config(folder.path()));
    daemon.wait_for_log("captioning");
    assert!(daemon.terminate().0.success());
    let error = socket.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}
