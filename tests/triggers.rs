//! When the daemon captions: on a changed scene, when somebody asks, and not otherwise.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use support::broker::{Broker, Subscriber};
use support::process::{Daemon, be_the_daemon};
use support::{jpeg, until};

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

/// A daemon whose camera shows the file `picture`, twenty times a second.
struct Setup {
    daemon: Daemon,
    subscriber: Subscriber,
    _broker: Broker,
    // Last: the daemon's log is in it.
    folder: tempfile::TempDir,
}

impl Setup {
    fn start(trigger: &str) -> Self {
        let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
        let subscriber = broker.subscribe();
        show(folder.path(), &jpeg(320));
        let config = format!(
            "[device]\nid = \"door\"\n[source]\nkind = \"command\"\n\
             argv = [\"sh\", \"-c\", \"while cat {0}/picture; do sleep 0.05; done\"]\n\
             [trigger]\n{trigger}\n[mqtt]\nhost = \"127.0.0.1\"\nport = {1}\n",
            folder.path().display(),
            broker.port
        );
        let daemon = Daemon::start(folder.path(), &config);
        subscriber.wait_for_status("online");
        daemon.wait_for_log("camera state: ok");
        Self {
            folder,
            daemon,
            subscriber,
            _broker: broker,
        }
    }

    /// No caption for long enough that twenty frames have passed.
    fn nothing_more(&self, captions: usize) {
        std::thread::sleep(Duration::from_secs(1));
        self.subscriber.settle();
        assert_eq!(self.subscriber.on("/caption").len(), captions);
    }
}

fn show(folder: &Path, jpeg: &[u8]) {
    fs::write(folder.join("picture.new"), jpeg).unwrap();
    fs::rename(folder.join("picture.new"), folder.join("picture")).unwrap();
}

/// Dark on the left, or on the right.
fn half_dark(width: u32, left: bool) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, 24, |x, _| {
        let dark = (x < width / 2) == left;
        image::Rgb([if dark { 20 } else { 220 }; 3])
    });
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut bytes)
        .encode_image(&picture)
        .unwrap();
    bytes
}

#[test]
fn on_demand_alone_one_caption_comes_for_each_sigusr2() {
    let setup = Setup::start("every = \"off\"");
    setup.nothing_more(0);
    setup.daemon.signal(Signal::USR2);
    setup.subscriber.wait_for_caption(320);
    setup.nothing_more(1);
    // Of what is seen now, not of what was there when it was asked the last time.
    show(setup.folder.path(), &jpeg(400));
    std::thread::sleep(Duration::from_millis(300));
    setup.daemon.signal(Signal::USR2);
    setup.subscriber.wait_for_caption(400);
    setup.nothing_more(2);
    // A command does the same, once commands are listened to.
    until("an answer", || {
        setup.subscriber.send("captiond/door/request/status", "{}");
        setup.subscriber.settle();
        (!setup.subscriber.on("/response/status").is_empty()).then_some(())
    });
    show(setup.folder.path(), &jpeg(416));
    std::thread::sleep(Duration::from_millis(300));
    setup.subscriber.send("captiond/door/describe", "PRESS");
    setup.subscriber.wait_for_caption(416);
    setup.nothing_more(3);
    setup.daemon.terminate();
}

#[test]
fn a_changed_scene_is_captioned_and_a_still_one_is_not() {
    let setup = Setup::start("scene_change = 0.2\nlook = \"50ms\"");
    setup.subscriber.wait_for_caption(320);
    setup.nothing_more(1);
    show(setup.folder.path(), &half_dark(400, true));
    setup.subscriber.wait_for_caption(400);
    setup.nothing_more(2);
    show(setup.folder.path(), &half_dark(416, false));
    setup.subscriber.wait_for_caption(416);
    setup.nothing_more(3);
    // In spite of the trigger, somebody may ask.
    setup.daemon.signal(Signal::USR2);
    setup.subscriber.wait_for("a caption on demand", |message| {
        message.topic.ends_with("/caption") && message.json()["sequence"] == 4
    });
    setup.daemon.terminate();
}
