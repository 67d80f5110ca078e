//! The units of systemd/: understood by systemd, and as closed as promised.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The bound of issue 5; 0 is closed, 10 open.
const MOST_EXPOSED: f64 = 1.3;

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("systemd")
        .join(name)
}

/// `None`, loudly, where there is no systemd-analyze.
fn analyze(words: &[&str], file: &Path) -> Option<Output> {
    match Command::new("systemd-analyze")
        .args(words)
        .arg(file)
        .output()
    {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("##### SKIPPED: no systemd-analyze ({error}); Debian: systemd #####");
            None
        }
    }
}

fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// "→ Overall exposure level for captiond.service: 1.3 OK"
fn exposure(output: &Output) -> f64 {
    let text = text(output);
    let line = text
        .lines()
        .find(|line| line.contains("Overall exposure level"))
        .unwrap_or_else(|| panic!("no level in {text}"));
    let words = line.split(": ").nth(1).unwrap();
    words.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn systemd_understands_every_unit() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["captiond.service", "captiond-clock.service"] {
        // The program needn't be installed for this.
        let unit = fs::read_to_string(unit(name)).unwrap();
        let unit = unit.replace("/usr/bin/captiond", env!("CARGO_BIN_EXE_captiond"));
        let file = folder.path().join(name);
        fs::write(&file, &unit).unwrap();
        let Some(output) = analyze(&["verify", "--man=no"], &file) else {
            return;
        };
        assert!(output.status.success(), "{name}: {}", text(&output));
        // Unknown keys are warnings only.
        assert!(!text(&output).contains(name), "{name}: {}", text(&output));

        // The check itself sees a fault.
        fs::write(&file, format!("{unit}\n[Service]\nProtectEverything=yes\n")).unwrap();
        let output = analyze(&["verify", "--man=no"], &file).unwrap();
        assert!(text(&output).contains("ProtectEverything"));
    }
}

#[test]
fn the_daemon_is_as_closed_as_promised() {
    let security = ["security", "--offline=true", "--no-pager"];
    let Some(output) = analyze(&security, &unit("captiond.service")) else {
        return;
    };
    let level = exposure(&output);
    assert!(level <= MOST_EXPOSED, "{level}: {}", text(&output));
    assert!(level > 0.0);

    // With the additions for camera modules and buttons it stays in sight of that.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("captiond.service");
    for addition in ["camera-module.conf", "buttons.conf"] {
        let both = ["captiond.service", addition]
            .map(|name| fs::read_to_string(unit(name)).unwrap())
            .join("\n");
        fs::write(&file, both).unwrap();
        let with_it = exposure(&analyze(&security, &file).unwrap());
        assert!((level..=1.5).contains(&with_it), "{addition}: {with_it}");
    }
}

/// The camera's process is the daemon's own program once more, and is told to end by a signal.
#[test]
fn the_daemon_may_start_its_own_program() {
    let unit = fs::read_to_string(unit("captiond.service")).unwrap();
    let value = |key: &str| {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key));
        lines.collect::<Vec<_>>().join(" ")
    };
    for forbidden in ["NoExecPaths=", "InaccessiblePaths=", "MemoryDenyExec="] {
        assert_eq!(value(forbidden), "", "{forbidden}");
    }
    // Where /proc has no other's files, it still has one's own.
    assert_eq!(value("ProtectProc="), "invisible");
    // Allowed is what is in the first group and not in those with `~`.
    let filter = value("SystemCallFilter=");
    assert_eq!(filter, "@system-service ~@privileged @resources");
    let Some(allowed) = system_calls("@system-service") else {
        return;
    };
    let taken_away = ["@privileged", "@resources"].map(|group| system_calls(group).unwrap());
    // The second line is what the page needs.
    for call in [
        "execve", "clone3", "kill", "waitid", "pipe2", "setpgid", //
        "socket", "bind", "listen", "accept4", "poll", "shutdown",
    ] {
        assert!(allowed.contains(call), "{call} is not allowed");
        for group in &taken_away {
            assert!(!group.contains(call), "{call} is taken away");
        }
    }
}

/// All system calls of a group, and of the groups in it; `None` without systemd-analyze.
fn system_calls(group: &str) -> Option<BTreeSet<String>> {
    let (mut known, mut groups) = (BTreeSet::new(), vec![group.to_owned()]);
    while let Some(group) = groups.pop() {
        let listed = text(&analyze(&["syscall-filter"], Path::new(&group))?);
        for word in listed.lines().map(str::trim) {
            if known.insert(word.to_owned()) && word.starts_with('@') && word != group {
                groups.push(word.to_owned());
            }
        }
    }
    Some(known)
}

#[test]
fn the_watchdog_is_fed_by_the_main_process_and_reload_is_hangup() {
    let unit = fs::read_to_string(unit("captiond.service")).unwrap();
    for line in [
        "Type=notify",
        "NotifyAccess=main",
        "WatchdogSec=60",
        "Restart=always",
        "ExecReload=/bin/kill -HUP $MAINPID",
        // tract chooses its ARM kernels by /proc/cpuinfo.
        "ProcSubset=all",
        // The daemon ends its helpers itself.
        "KillMode=mixed",
        // A picture or a pack that is too much ends the daemon alone.
        "MemoryMax=80%",
        // The page listens on one of these.
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "LoadCredential=captiond.web-token",
    ] {
        assert!(
            unit.lines().any(|found| found == line),
            "{line:?} is missing"
        );
    }
}
