//! The real program, told by SIGHUP that its pack has changed: no frame is lost, the new captions
//! are used, and a damaged pack changes nothing.

mod support;
#[path = "support/tiny.rs"]
mod tiny;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use captiond::pack;
use rustix::process::{Pid, Signal, kill_process};
use support::{drop_in, until};
use tempfile::TempDir;
use tiny::{Captiond, picture, whole_pack};

/// A pack with two captions, so that its neighbours are its whole datastore.
fn pack_of_two_captions(work: &Path) -> TempDir {
    let pack = whole_pack(work);
    datastore(
        pack.path(),
        work,
        "build",
        "a blue field\nthe square is green\n",
    );
    pack
}

fn datastore(pack: &Path, work: &Path, command: &str, captions: &str) {
    let file = work.join("some.txt");
    fs::write(&file, captions).unwrap();
    Captiond::new(&["datastore", command])
        .path("--pack", pack)
        .path("--cache", work.join("cache"))
        .arg(file)
        .succeed();
}

/// One that passes the frame quality gate, as the tiny packs' own smooth ones don't.
fn good_picture() -> Vec<u8> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    fs::read(samples.join("sailing_boat_thumbnail.png")).unwrap()
}

/// `captiond run --stdout` on a folder, with what it says. Killed when dropped.
struct Daemon {
    child: Child,
    lines: Arc<Mutex<Vec<serde_json::Value>>>,
    log: std::path::PathBuf,
}

impl Daemon {
    fn start(work: &Path, pack: &Path, incoming: &Path) -> Self {
        let (config, log) = (work.join("captiond.toml"), work.join("log"));
        let text = format!(
            "interval = \"20ms\"\n[device]\nid = \"porch\"\n[source]\nkind = \"folder\"\n\
             path = {incoming:?}\nexisting = \"caption\"\npoll = \"20ms\"\n"
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_captiond"))
            .args(["run", "--stdout", "--config"])
            .arg(config)
            .arg("--pack")
            .arg(pack)
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (kept, out) = (
            Arc::clone(&lines),
            BufReader::new(child.stdout.take().unwrap()),
        );
        std::thread::spawn(move || {
            for line in out.lines() {
                let line = serde_json::from_str(&line.unwrap()).unwrap();
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, lines, log }
    }

    fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    fn wait_for_log(&self, text: &str) -> String {
        until(format!("{text:?} in the log"), || {
            let log = fs::read_to_string(&self.log).unwrap();
            log.lines()
                .find(|line| line.contains(text))
                .map(str::to_owned)
        })
    }

    fn wait_for_captions(&self, count: usize) -> Vec<serde_json::Value> {
        until(format!("{count} captions"), || {
            let lines = self.lines.lock().unwrap();
            (lines.len() >= count).then(|| lines.clone())
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- the daemon's log:\n{log}---");
        }
    }
}

/// The captions that a message's neighbours have, which are all of the datastore's.
fn captions(message: &serde_json::Value) -> BTreeSet<String> {
    let neighbours = message["neighbours"].as_array().unwrap();
    neighbours
        .iter()
        .map(|neighbour| neighbour["caption"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_new_datastore_is_taken_over_without_a_lost_frame() {
    let work = tempfile::tempdir().unwrap();
    let pack = pack_of_two_captions(work.path());
    let incoming = work.path().join("incoming");
    fs::create_dir(&incoming).unwrap();
    let put = |number: usize| {
        drop_in(&incoming, &format!("{number:04}.png"), &good_picture());
    };
    (0..150).for_each(put);
    let daemon = Daemon::start(work.path(), pack.path(), &incoming);
    daemon.wait_for_captions(3);
    // While frames are being captioned; the file that the daemon has mapped is replaced.
    datastore(pack.path(), work.path(), "add", "the stripe is red\n");
    daemon.hang_up();
    daemon.wait_for_log("the model pack is loaded");
    (150..160).for_each(put);
    let messages = daemon.wait_for_captions(160);
    daemon.wait_for_log("captioning with the pack as reloaded");

    let origins: BTreeSet<&str> = messages
        .iter()
        .map(|m| m["origin"].as_str().unwrap())
        .collect();
    assert_eq!(
        (origins.len(), messages.len()),
        (160, 160),
        "a frame is lost or came twice"
    );
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message["sequence"], number + 1);
    }
    let old = BTreeSet::from(["a blue field", "the square is green"].map(String::from));
    let mut new = old.clone();
    new.insert("the stripe is red".into());
    let with_new = messages.iter().position(|m| captions(m) != old).unwrap();
    assert!(with_new >= 3, "{with_new}");
    assert!(messages[..with_new].iter().all(|m| captions(m) == old));
    assert!(messages[with_new..].iter().all(|m| captions(m) == new));
}

#[test]
fn a_damaged_pack_is_refused_and_the_old_one_stays() {
    let work = tempfile::tempdir().unwrap();
    let pack = pack_of_two_captions(work.path());
    let incoming = work.path().join("incoming");
    fs::create_dir(&incoming).unwrap();
    drop_in(&incoming, "1.png", &good_picture());
    let daemon = Daemon::start(work.path(), pack.path(), &incoming);
    let first = daemon.wait_for_captions(1);

    // Replaced as a copying tool does it, by something that is not what pack.toml promises.
    let file = pack.path().join("datastore.safetensors");
    let whole = fs::read(&file).unwrap();
    pack::replace(&file, &whole[..whole.len() / 2]).unwrap();
    daemon.hang_up();
    let line = daemon.wait_for_log("reload refused, the old configuration and pack stay");
    for part in [
        "ERROR",
        "datastore.safetensors",
        "sha256",
        "copy the pack again",
    ] {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    drop_in(&incoming, "2.png", &good_picture());
    let messages = daemon.wait_for_captions(2);
    assert_eq!(captions(&messages[1]), captions(&first[0]));

    // Once mended, it's taken.
    pack::replace(&file, &whole).unwrap();
    daemon.hang_up();
    daemon.wait_for_log("the model pack is loaded");
}

#[test]
fn a_frame_that_is_too_bad_is_told_and_not_captioned() {
    let work = tempfile::tempdir().unwrap();
    let pack = pack_of_two_captions(work.path());
    let incoming = work.path().join("incoming");
    fs::create_dir(&incoming).unwrap();
    let daemon = Daemon::start(work.path(), pack.path(), &incoming);
    // Smooth all over.
    drop_in(&incoming, "1.png", &picture("wide.png"));
    let bad = daemon.wait_for_captions(1).remove(0);
    drop_in(&incoming, "2.png", &good_picture());
    let good = daemon.wait_for_captions(2).remove(1);
    assert_eq!(
        (&bad["verdict"], &bad["reason"], &bad["caption"]),
        (
            &"unsure".into(),
            &"blurred".into(),
            &serde_json::Value::Null
        )
    );
    assert_eq!(bad["spoken"], "I am not sure: the picture is blurred");
    assert_eq!(
        (&bad["ms"]["embed"], captions(&bad).len()),
        (&0.0.into(), 0)
    );
    assert!(good["ms"]["embed"].as_f64().unwrap() > 0.0, "{good}");
    assert_eq!(
        (good["reason"] == "blurred", captions(&good).len()),
        (false, 2)
    );
}
