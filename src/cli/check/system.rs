//! Permissions, clock, disk.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

use super::Check;
use crate::daemon::clock::{Clock, Trust};
use crate::daemon::config::Config;

/// The folder that systemd makes for the daemon.
const STATE: &str = "/var/lib/captiond";

const MIB: u64 = 1 << 20;
const FULL: u64 = 20 * MIB;
const NEARLY_FULL: u64 = 200 * MIB;

pub(super) fn permissions(file: &Path, config: &Config) -> Check {
    const NAME: &str = "permissions";
    let root = rustix::process::geteuid().is_root();
    let mut problems = Vec::new();
    // Whoever may change it chooses the program that a source or a voice starts.
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    for path in [file, parent] {
        if let Ok(meta) = std::fs::metadata(path)
            && meta.mode() & 0o002 != 0
            && meta.mode() & 0o1000 == 0
        {
            problems.push((
                format!("every user may change {}", path.display()),
                format!("chmod o-w {}", path.display()),
            ));
        }
    }
    for path in devices(config) {
        if path.exists() && access(&path, Access::READ_OK | Access::WRITE_OK).is_err() {
            problems.push((
                format!("this user may not open {}", path.display()),
                "add it to the group of the device (video for cameras, audio for sound cards)"
                    .into(),
            ));
        }
    }
    if !problems.is_empty() {
        let (found, todo): (Vec<_>, Vec<_>) = problems.into_iter().unzip();
        return Check::problem(NAME, found.join("; "), todo.join("; "));
    }
    if root {
        return Check::warning(
            NAME,
            "root may do everything, so this says little about the daemon's user",
            "run it as the daemon's user: sudo -u captiond captiond check",
        );
    }
    Check::ok(NAME, "this user may open what the configuration names")
}

fn devices(config: &Config) -> Vec<PathBuf> {
    let mut devices = Vec::new();
    #[cfg(feature = "camera")]
    if let crate::daemon::config::SourceKind::Video(video) = &config.source.kind {
        devices.push(video.device.clone());
    }
    if config.speech.is_some()
        && let Ok(entries) = std::fs::read_dir("/dev/snd")
    {
        let control =
            |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("controlC");
        devices.extend(
            entries
                .filter_map(Result::ok)
                .filter(control)
                .map(|entry| entry.path()),
        );
    }
    devices
}

pub(super) fn clock(clock: &dyn Clock) -> Check {
    const NAME: &str = "clock";
    let now = clock.wall();
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    // A date that can't be shown is wrong anyway.
    let shown = match since {
        Ok(since) if since < Duration::from_secs(253_402_300_800) => {
            humantime::format_rfc3339_seconds(now).to_string()
        }
        _ => "a date out of range".into(),
    };
    let todo = "connect the device to a network with a time server (timedatectl); captions are right \
                without it, only their `time` isn't. For chrony or ntpd enable captiond-clock.service";
    match clock.trust() {
        Trust::Set => Check::ok(NAME, format!("{shown}, set by a time server")),
        Trust::Unknown => Check::warning(NAME, format!("{shown}, not known to be right"), todo),
        Trust::Wrong => Check::warning(
            NAME,
            format!("{shown}, which is wrong, or not set yet by systemd-timesyncd"),
            todo,
        ),
    }
}

pub(super) fn disk() -> Check {
    const NAME: &str = "disk";
    let folder = std::env::var_os("STATE_DIRECTORY")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(STATE)).filter(|folder| folder.is_dir()))
        .unwrap_or_else(|| PathBuf::from("/"));
    of_folder(NAME, &folder)
}

fn of_folder(name: &'static str, folder: &Path) -> Check {
    let shown = folder.display();
    match statvfs(folder) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let read_only = stat.f_flag.contains(StatVfsMountFlags::RDONLY);
            judge(name, &shown.to_string(), free, read_only)
        }
        Err(error) => Check::warning(
            name,
            format!("{shown} can't be looked at: {error}"),
            "make it, or let this user see it",
        ),
    }
}

fn judge(name: &'static str, shown: &str, free: u64, read_only: bool) -> Check {
    let found = format!("{} MiB free at {shown}", free / MIB);
    let todo = "free some space: old logs (journalctl --vacuum-size=50M), packages (apt-get clean)";
    if read_only {
        return Check::warning(
            name,
            format!("{shown} is read-only"),
            "fine for a read-only root if /var/lib/captiond and /run are writable \
             (docs/read-only-root.md); otherwise look for a damaged card (dmesg)",
        );
    }
    match free {
        ..FULL => Check::problem(name, found, todo),
        FULL..NEARLY_FULL => Check::warning(name, found, todo),
        _ => Check::ok(name, found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::daemon::clock::FakeClock;

    #[test]
    fn a_disk_is_judged_by_its_free_space() {
        for (free, read_only, state) in [
            (MIB, false, State::Problem),
            (100 * MIB, false, State::Warning),
            (1024 * MIB, false, State::Ok),
            (1024 * MIB, true, State::Warning),
        ] {
            let check = judge("disk", "/", free, read_only);
            assert_eq!(check.state, state, "{check:?}");
            assert_eq!(check.todo.is_empty(), state == State::Ok);
        }
        assert_ne!(disk().found, "");
    }

    #[test]
    fn a_clock_that_nobody_has_set_is_a_warning() {
        let early = FakeClock::new(SystemTime::UNIX_EPOCH);
        assert!(clock(&early).found.contains("which is wrong"));
        let late = FakeClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000));
        assert_eq!(clock(&late).state, State::Warning);
        assert!(clock(&late).found.contains("not known to be right"));
        late.set_wall(late.wall());
        assert_eq!(clock(&late).state, State::Ok);
    }
}
