//! The source: a frame is asked for, as the daemon does.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{Check, find_program};
use crate::cli::run::open;
use crate::daemon::clock::Clock;
use crate::daemon::config::{FolderConfig, SourceConfig, SourceKind};
use crate::daemon::shutdown::Shutdown;
use crate::frame;
use crate::source::{Pixels, SourceError};

const NAME: &str = "source";

/// So long a camera may take for its first good frame.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn check(config: &SourceConfig, clock: &Arc<dyn Clock>) -> Check {
    match &config.kind {
        SourceKind::Folder(folder) => of_folder(folder),
        SourceKind::Command(command) => {
            let program = command.argv.first().map_or("", String::as_str);
            if find_program(program).is_none() {
                return Check::problem(
                    NAME,
                    format!("{program}: no such program, or this user may not run it"),
                    "install it or correct source.argv",
                );
            }
            first_frame(config, clock)
        }
        SourceKind::HttpSnapshot(_) | SourceKind::HttpMjpeg(_) => first_frame(config, clock),
        #[cfg(feature = "camera")]
        SourceKind::Video(_) => first_frame(config, clock),
    }
}

/// A folder is looked at only: nothing may come for hours.
fn of_folder(config: &FolderConfig) -> Check {
    let shown = config.path.display();
    match fs::read_dir(&config.path) {
        Ok(entries) => {
            let images = entries
                .filter_map(Result::ok)
                .filter(|entry| {
                    let name = entry.file_name().to_string_lossy().to_lowercase();
                    [".jpg", ".jpeg", ".png"]
                        .iter()
                        .any(|end| name.ends_with(end))
                })
                .count();
            Check::ok(NAME, format!("folder {shown}, {images} images in it now"))
        }
        Err(error) => Check::problem(
            NAME,
            format!("folder {shown} can't be read: {error}"),
            format!(
                "make the folder and let the daemon's user read it, or correct source.path ({shown})"
            ),
        ),
    }
}

fn first_frame(config: &SourceConfig, clock: &Arc<dyn Clock>) -> Check {
    let mut source = open(config, clock);
    let origin = source.origin().to_owned();
    let limits = config.limits();
    let shutdown = Shutdown::new();
    let asked = shutdown.clone();
    let (sender, frames) = channel();
    // On a thread of its own: a stalled camera blocks for ever, and is left behind.
    let reader = thread::Builder::new().name("check".into()).spawn(move || {
        loop {
            let frame = source.next_frame(&asked);
            let again = matches!(frame, Err(SourceError::BadFrame { .. }));
            if sender.send(frame).is_err() || !again {
                return;
            }
        }
    });
    if let Err(error) = reader {
        return Check::problem(NAME, format!("no thread: {error}"), "free some memory");
    }
    let start = Instant::now();
    let mut last_bad = None;
    let check = loop {
        match frames.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
            Ok(Ok(Some(frame))) => {
                let decoded = match frame.pixels {
                    Pixels::Rgb(picture) => Ok(picture.dimensions()),
                    Pixels::Encoded(bytes) => {
                        frame::decode(&bytes, limits).map(|picture| picture.dimensions())
                    }
                };
                break match decoded {
                    Ok((width, height)) => Check::ok(
                        NAME,
                        format!(
                            "{origin}: a frame of {width} x {height} after {:.1} s",
                            start.elapsed().as_secs_f32()
                        ),
                    ),
                    Err(error) => Check::problem(
                        NAME,
                        format!("{origin}: its frame can't be decoded: {error}"),
                        "let it send baseline JPEG",
                    ),
                };
            }
            Ok(Err(error @ SourceError::BadFrame { .. })) => last_bad = Some(error.to_string()),
            Ok(Err(error)) => {
                break Check::problem(
                    NAME,
                    error.to_string(),
                    match config.kind {
                        SourceKind::HttpSnapshot(_) | SourceKind::HttpMjpeg(_) => {
                            "switch the camera on; correct source.url, username, password_file"
                        }
                        _ => {
                            "plug the camera in; stop the daemon if it has the camera; let this user \
                             open the device (group video)"
                        }
                    },
                );
            }
            Err(RecvTimeoutError::Timeout) => {
                let seconds = PATIENCE.as_secs();
                break Check::problem(
                    NAME,
                    match last_bad {
                        Some(bad) => format!("no good frame within {seconds} s; the last: {bad}"),
                        None => format!("{origin}: no frame within {seconds} s"),
                    },
                    "see whether the camera works with another program; replug it",
                );
            }
            Ok(Ok(None)) | Err(RecvTimeoutError::Disconnected) => {
                break Check::problem(
                    NAME,
                    format!("{origin}: gave up without a word"),
                    "this is a defect: report it",
                );
            }
        }
    };
    shutdown.request();
    check
}
