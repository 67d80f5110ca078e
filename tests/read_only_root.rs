//! The real program where nothing but `/run` and the like can be written (docs/read-only-root.md).

#[path = "support/tiny.rs"]
mod tiny;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use tiny::{picture, whole_pack};

/// Makes `/` read-only for what follows, and proves it.
const READ_ONLY: &str = "mount --make-rprivate / && mount -o remount,bind,ro / && \
                         ! touch \"$1/proof\" 2>/dev/null && shift && exec \"$@\"";

#[test]
fn captions_come_from_a_read_only_root() {
    let work = tempfile::tempdir().unwrap();
    let pack = whole_pack(work.path());
    let incoming = work.path().join("incoming");
    fs::create_dir(&incoming).unwrap();
    fs::write(incoming.join("1.png"), picture("wide.png")).unwrap();
    let config = work.path().join("captiond.toml");
    let text = "[source]\nkind = \"folder\"\npath = \"incoming\"\nexisting = \"caption\"\n";
    fs::write(&config, text).unwrap();

    let isolated = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", READ_ONLY, "sh"])
            .arg(work.path())
            .args(words);
        command
    };
    let possible = isolated(&["true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !possible {
        eprintln!("##### SKIPPED: a read-only root needs root and unshare(1) #####");
        return;
    }
    let mut daemon = isolated(&[env!("CARGO_BIN_EXE_captiond"), "run", "--stdout", "--pack"])
        .arg(pack.path())
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(daemon.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let _ = daemon.kill();
    let _ = daemon.wait();
    let message: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(message["origin"], "1.png");
    assert_ne!(message["caption"], "");
    assert!(!work.path().join("proof").exists());
}
