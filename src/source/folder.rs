//! Each new image of a folder, once.
//!
//! The folder is polled: inotify sees nothing of what another machine writes to a network mount,
//! and would tell of a file while it's still being written.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

use super::state::{CameraState, StateCell};
use super::{Frame, FrameSource, Pixels, SourceError};
use crate::daemon::clock::Clock;
use crate::daemon::shutdown::Shutdown;

/// A larger file is no photograph of a camera and would only fill the memory of a small board.
const MAX_FILE: u64 = 64 << 20;

/// An empty file is one whose writer hasn't begun; after so many polls it's one that failed.
const POLLS_UNTIL_EMPTY_IS_BAD: u32 = 10;

/// What to do with the images that are there when the daemon starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Only images that come (or change) later are captioned.
    Skip,
    /// They are captioned first.
    Caption,
}

/// Watches a folder for `.jpg`, `.jpeg` and `.png` files (any case; hidden files are left alone).
///
/// An image is handed over once its size and date are the same in two polls: half-written files
/// are not read. A file that is overwritten later counts as a new image. Order: date, then name.
#[derive(Debug)]
pub struct FolderSource {
    folder: PathBuf,
    origin: String,
    poll: Duration,
    clock: Arc<dyn Clock>,
    /// Only of files that are still there, so it can't grow without end.
    seen: HashMap<OsString, Seen>,
    ready: VecDeque<OsString>,
    /// The next poll is the first one, and what it finds is to be passed over.
    skip_existing: bool,
    last_poll: Option<Duration>,
    state: Option<StateCell>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Version {
    bytes: u64,
    modified: SystemTime,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    version: Version,
    /// How many polls in a row have found this version.
    polls: u32,
    handed_over: bool,
}

impl FolderSource {
    /// Watches `folder`, looking every `poll`. The folder may appear later.
    pub fn new(folder: &Path, existing: Existing, poll: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            folder: folder.to_owned(),
            origin: folder.display().to_string(),
            poll,
            clock,
            seen: HashMap::new(),
            ready: VecDeque::new(),
            skip_existing: existing == Existing::Skip,
            last_poll: None,
            state: None,
        }
    }

    fn lost(&self, error: &io::Error) -> SourceError {
        let what = match error.kind() {
            io::ErrorKind::NotFound => {
                "the folder doesn't exist; create it, mount it or correct source.path".into()
            }
            io::ErrorKind::PermissionDenied => {
                "the folder may not be read; allow the daemon's user to read it".into()
            }
            io::ErrorKind::NotADirectory => "is no folder; correct source.path".into(),
            _ => format!("the folder can't be read: {error}"),
        };
        SourceError::Lost {
            origin: self.origin.clone(),
            reason: what,
        }
    }

    /// Looks once; images that have settled go to `ready`.
    fn poll_once(&mut self) -> io::Result<()> {
        let mut present = HashMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if !is_image_name(Path::new(&name)) {
                continue;
            }
            // Follows symbolic links. A file that has gone since, or a dangling link, isn't there.
            let Ok(metadata) = fs::metadata(entry.path()) else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            let version = Version {
                bytes: metadata.len(),
                modified: metadata.modified()?,
            };
            present.insert(name, version);
        }
        let before = std::mem::take(&mut self.seen);
        let mut settled = Vec::new();
        for (name, version) in present {
            let mut seen = match before.get(&name) {
                Some(seen) if seen.version == version => Seen {
                    polls: seen.polls.saturating_add(1),
                    ..*seen
                },
                _ => Seen {
                    version,
                    polls: 1,
                    handed_over: self.skip_existing,
                },
            };
            let enough = if version.bytes == 0 {
                POLLS_UNTIL_EMPTY_IS_BAD
            } else {
                2
            };
            if !seen.handed_over && seen.polls >= enough {
                seen.handed_over = true;
                settled.push((version.modified, name.clone()));
            }
            self.seen.insert(name, seen);
        }
        self.skip_existing = false;
        settled.sort();
        self.ready.extend(settled.into_iter().map(|(_, name)| name));
        Ok(())
    }

    fn read(&self, name: &OsString) -> Result<Option<Frame>, SourceError> {
        let path = self.folder.join(name);
        let bad = |reason: String| SourceError::BadFrame {
            origin: path.display().to_string(),
            reason,
        };
        // A named pipe that was put in since the poll would block here until somebody writes to it.
        let opened = File::options()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(bad(format!("can't be opened: {error}"))),
        };
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(bad("it is no file any more".into()));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| bad(format!("can't be read: {error}")))?;
        if bytes.is_empty() {
            return Err(bad("the file is empty (0 bytes)".into()));
        }
        if bytes.len() as u64 > MAX_FILE {
            return Err(bad(format!(
                "the file is larger than the limit of {} MiB",
                MAX_FILE >> 20
            )));
        }
        Ok(Some(Frame {
            pixels: Pixels::Encoded(bytes),
            origin: name.to_string_lossy().into_owned(),
            taken: self.clock.monotonic(),
        }))
    }
}

impl FrameSource for FolderSource {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn every_frame_counts(&self) -> bool {
        true
    }

    fn next_frame(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        while !shutdown.requested() {
            while let Some(name) = self.ready.pop_front() {
                if let Some(frame) = self.read(&name)? {
                    return Ok(Some(frame));
                }
            }
            if let Some(last) = self.last_poll {
                let left = (last + self.poll).saturating_sub(self.clock.monotonic());
                if self.clock.wait(left, shutdown) {
                    return Ok(None);
                }
            }
            self.last_poll = Some(self.clock.monotonic());
            self.poll_once().map_err(|error| self.lost(&error))?;
            if let Some(state) = &self.state {
                // An idle folder is well, unlike a camera without pictures.
                state.set(CameraState::Ok, self.clock.monotonic(), &self.origin);
            }
        }
        Ok(None)
    }

    fn report_to(&mut self, state: &StateCell) {
        self.state = Some(state.clone());
    }
}

fn is_image_name(name: &Path) -> bool {
    // Hidden files are what rsync and editors write before they rename.
    let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
    let known = name.extension().is_some_and(|extension| {
        ["jpg", "jpeg", "png"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    });
    known && !hidden
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::clock::FakeClock;

    const POLL: Duration = Duration::from_secs(1);

    fn bytes_of(frame: Option<Frame>) -> (String, Vec<u8>) {
        let frame = frame.expect("a frame");
        match frame.pixels {
            Pixels::Encoded(bytes) => (frame.origin, bytes),
            Pixels::Rgb(_) => panic!("a folder's files stay encoded"),
        }
    }

    fn age(path: &Path, seconds: u64) {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - seconds);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(then)
            .unwrap();
    }

    /// A source whose fake clock calls `change` in each wait (= between polls), and asks for a
    /// shutdown after ten of them.
    fn watch(
        folder: &Path,
        existing: Existing,
        change: impl Fn(usize, &Path) + Send + Sync + 'static,
    ) -> (FolderSource, Shutdown) {
        let shutdown = Shutdown::new();
        let (stop, path) = (shutdown.clone(), folder.to_owned());
        let clock = FakeClock::with_hook(SystemTime::UNIX_EPOCH, move |wait| {
            change(wait, &path);
            if wait >= 20 {
                stop.request();
            }
        });
        let source = FolderSource::new(folder, existing, POLL, Arc::new(clock));
        (source, shutdown)
    }

    #[test]
    fn existing_images_come_once_by_date_then_name() {
        let folder = tempfile::tempdir().unwrap();
        for (name, seconds) in [("b.JPG", 5), ("a.png", 5), ("z.jpeg", 9)] {
            let path = folder.path().join(name);
            fs::write(&path, name).unwrap();
            age(&path, seconds);
        }
        for other in ["notes.txt", ".hidden.jpg", "jpg"] {
            fs::write(folder.path().join(other), "x").unwrap();
        }
        fs::create_dir(folder.path().join("folder.jpg")).unwrap();
        let (mut source, shutdown) = watch(folder.path(), Existing::Caption, |_, _| ());
        for expected in ["z.jpeg", "a.png", "b.JPG"] {
            let (name, bytes) = bytes_of(source.next_frame(&shutdown).unwrap());
            assert_eq!(name, expected);
            assert_eq!(bytes, expected.as_bytes());
        }
        assert_eq!(source.next_frame(&shutdown).unwrap(), None);
    }

    #[test]
    fn existing_images_are_skipped_until_they_change() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("old.jpg"), "old").unwrap();
        fs::write(folder.path().join("latest.jpg"), "first").unwrap();
        let (mut source, shutdown) = watch(folder.path(), Existing::Skip, |wait, folder| {
            if wait == 3 {
                fs::write(folder.join("new.jpg"), "new").unwrap();
                age(&folder.join("new.jpg"), 2);
                fs::write(folder.join("latest.jpg"), "second").unwrap();
                age(&folder.join("latest.jpg"), 1);
            }
        });
        let new = bytes_of(source.next_frame(&shutdown).unwrap());
        assert_eq!(new, ("new.jpg".into(), b"new".to_vec()));
        let latest = bytes_of(source.next_frame(&shutdown).unwrap());
        assert_eq!(latest, ("latest.jpg".into(), b"second".to_vec()));
        assert_eq!(source.next_frame(&shutdown).unwrap(), None);
    }

    #[test]
    fn a_file_that_still_grows_is_left_until_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("slow.jpg"), "").unwrap();
        let (mut source, shutdown) = watch(folder.path(), Existing::Caption, |wait, folder| {
            if wait <= 5 {
                fs::write(folder.join("slow.jpg"), "x".repeat(wait)).unwrap();
            }
        });
        let (_, bytes) = bytes_of(source.next_frame(&shutdown).unwrap());
        assert_eq!(bytes.len(), 5);
    }

    #[test]
    fn an_empty_file_is_bad_in_the_end_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("empty.png"), "").unwrap();
        let (mut source, shutdown) = watch(folder.path(), Existing::Caption, |_, _| ());
        let error = source.next_frame(&shutdown).unwrap_err();
        assert!(matches!(error, SourceError::BadFrame { .. }), "{error}");
        assert!(error.to_string().contains("empty.png"), "{error}");
        assert!(error.to_string().contains("0 bytes"), "{error}");
        assert_eq!(source.next_frame(&shutdown).unwrap(), None);
    }

    #[test]
    fn a_pipe_that_was_put_in_after_the_poll_does_not_block() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let folder = tempfile::tempdir().unwrap();
        let (source, _) = watch(folder.path(), Existing::Caption, |_, _| ());
        let pipe = folder.path().join("pipe.jpg");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let error = source.read(&"pipe.jpg".into()).unwrap_err();
        assert!(error.to_string().contains("no file any more"), "{error}");
    }

    #[test]
    fn a_missing_folder_is_lost_and_may_come_back() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("mount");
        let (mut source, shutdown) = watch(&folder, Existing::Caption, |_, _| ());
        let state = StateCell::new();
        source.report_to(&state);
        let error = source.next_frame(&shutdown).unwrap_err();
        assert!(matches!(error, SourceError::Lost { .. }), "{error}");
        assert!(error.to_string().contains("source.path"), "{error}");
        assert_eq!(state.current().state.word(), "lost");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.jpg"), "a").unwrap();
        assert_eq!(bytes_of(source.next_frame(&shutdown).unwrap()).0, "a.jpg");
        assert_eq!(state.current().state, CameraState::Ok);
    }
}
