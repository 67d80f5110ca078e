//! Events on disk, for those that must survive a power cut: one file for each event that the broker
//! hasn't acknowledged.
//!
//! One file each, so that damage to one loses no other. A file is written whole under another name,
//! synced, renamed and the folder synced, so a power cut leaves it whole or not there at all; its
//! first line holds the SHA-256 of the rest, for whatever a worn-out SD card does later. That a file
//! is gone isn't synced: after a power cut an event may come again, which the subscriber sees by its
//! `sequence` and `time`.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::pack::digest;

const FORMAT: &str = "captiond-event 1";
const EXTENSION: &str = "event";
const DAMAGED: &str = "damaged";
const TEMPORARY: &str = ".writing-";

/// Damaged files that are kept for whoever wants to know what happened.
const KEPT_DAMAGED: usize = 16;

/// The folder. While it lives, no other process opens it.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    _lock: File,
}

/// What was found in the folder at the start.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By id, oldest first.
    pub(super) events: Vec<Stored>,
    /// Files that were set aside.
    pub(super) damaged: u64,
    /// All ids from here on are free.
    pub(super) next_id: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) id: u64,
    pub(super) made: SystemTime,
    pub(super) payload: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    /// Milliseconds since 1970, by the clock of that moment.
    made: u64,
    payload: String,
}

impl Spool {
    /// Makes the folder if it isn't there, and reads what it holds. Files that aren't what was
    /// written are renamed to `*.damaged` with a line in the log.
    ///
    /// # Errors
    /// When the folder can't be made, read or locked.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Found)> {
        make_private_folder(folder)?;
        let lock = File::create(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another captiond uses this folder"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut found = Found::default();
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.push(entry?.file_name());
        }
        for name in names {
            let path = folder.join(&name);
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(TEMPORARY) {
                // A power cut while it was written: the event never was in here.
                let _ = fs::remove_file(&path);
                continue;
            }
            let Some(id) = id_of(name) else { continue };
            found.next_id = found.next_id.max(id + 1);
            match read(&path) {
                Ok((made, payload)) => found.events.push(Stored { id, made, payload }),
                Err(problem) => {
                    found.damaged += 1;
                    set_aside(&path, &problem);
                }
            }
        }
        found.events.sort_by_key(|event| event.id);
        forget_old_damage(folder);
        let folder = folder.to_owned();
        Ok((
            Self {
                folder,
                _lock: lock,
            },
            found,
        ))
    }

    /// Keeps an event. Returns once it's safe.
    ///
    /// # Errors
    /// When it can't be written (a full disk); then nothing is left of it.
    pub(super) fn keep(&self, id: u64, made: SystemTime, payload: &[u8]) -> io::Result<()> {
        let since = made.duration_since(SystemTime::UNIX_EPOCH);
        let body = serde_json::to_vec(&Body {
            made: u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
            payload: String::from_utf8_lossy(payload).into_owned(),
        })?;
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&self.folder)?;
        writeln!(file, "{FORMAT} {}", digest::of_bytes(&body))?;
        file.write_all(&body)?;
        file.as_file().sync_all()?;
        file.persist(self.path(id)).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()
    }

    /// The broker has it, or it's dropped.
    pub(super) fn erase(&self, id: u64) {
        // If it can't be removed it's sent once more after a restart, unless it's too old by then.
        let _ = fs::remove_file(self.path(id));
    }

    fn path(&self, id: u64) -> PathBuf {
        // 20 digits hold every u64, so that names sort like numbers.
        self.folder.join(format!("{id:020}.{EXTENSION}"))
    }
}

/// Captions say what somebody's camera sees: for our user only.
fn make_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

fn id_of(name: &str) -> Option<u64> {
    let (id, extension) = name.split_once('.')?;
    // `u64::MAX` would leave no id for the next one.
    let id = id.parse().ok().filter(|id| *id < u64::MAX)?;
    (extension == EXTENSION).then_some(id)
}

fn read(path: &Path) -> Result<(SystemTime, Vec<u8>), String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, body) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => return Err(format!("{} bytes without a first line", bytes.len())),
    };
    let hash = digest::of_bytes(body);
    if line != format!("{FORMAT} {hash}").as_bytes() {
        return Err(format!(
            "its first line isn't `{FORMAT}` and the SHA-256 of the rest"
        ));
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let made = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(body.made));
    let made = made.ok_or("its date is out of range")?;
    Ok((made, body.payload.into_bytes()))
}

fn set_aside(path: &Path, problem: &str) {
    let aside = path.with_extension(DAMAGED);
    let shown = path.display();
    match fs::rename(path, &aside) {
        Ok(()) => tracing::error!(
            "{shown}: an event in the outbox is damaged and is not sent ({problem}); kept as {}",
            aside.display()
        ),
        Err(error) => tracing::error!(
            "{shown}: an event in the outbox is damaged and is not sent ({problem}); it can't be \
             set aside: {error}"
        ),
    }
}

/// A disk that damages files for years must not be filled with them.
fn forget_old_damage(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut damaged: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == DAMAGED)
        })
        .collect();
    damaged.sort();
    let old = damaged.len().saturating_sub(KEPT_DAMAGED);
    for path in &damaged[..old] {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn made(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// A folder with these events in it.
    fn filled(ids: &[u64]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (spool, found) = Spool::open(&folder.path().join("outbox")).unwrap();
        assert!(found.events.is_empty());
        for id in ids {
            let payload = format!("{{\"caption\":\"door {id}\"}}");
            spool.keep(*id, made(*id), payload.as_bytes()).unwrap();
        }
        folder
    }

    #[test]
    fn what_is_kept_is_found_in_order_until_it_is_erased() {
        let folder = filled(&[9, 10, 100]);
        let outbox = folder.path().join("outbox");
        let mode = fs::metadata(&outbox).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let (spool, found) = Spool::open(&outbox).unwrap();
        let ids: Vec<_> = found.events.iter().map(|event| event.id).collect();
        assert_eq!((ids, found.next_id), (vec![9, 10, 100], 101));
        assert_eq!(
            found.events[1],
            Stored {
                id: 10,
                made: made(10),
                payload: b"{\"caption\":\"door 10\"}".to_vec()
            }
        );
        spool.erase(10);
        drop(spool);
        let (_, found) = Spool::open(&outbox).unwrap();
        assert_eq!(found.events.len(), 2);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_the_others_are_read() {
        let folder = filled(&[1, 2, 3, 4]);
        let outbox = folder.path().join("outbox");
        let file = |id: u64| outbox.join(format!("{id:020}.event"));
        let whole = fs::read(file(2)).unwrap();
        // Cut off at every length, one bit flipped everywhere.
        for length in 0..whole.len() {
            fs::write(file(2), &whole[..length]).unwrap();
            assert!(read(&file(2)).is_err(), "{length} bytes");
        }
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 4;
            fs::write(file(2), bytes).unwrap();
            assert!(read(&file(2)).is_err(), "byte {index}");
        }
        fs::write(outbox.join(".writing-x"), b"half").unwrap();
        fs::write(outbox.join("notes.txt"), b"somebody's").unwrap();
        let (_spool, found) = Spool::open(&outbox).unwrap();
        let ids: Vec<_> = found.events.iter().map(|event| event.id).collect();
        assert_eq!((ids, found.damaged), (vec![1, 3, 4], 1));
        assert!(file(2).with_extension("damaged").exists());
        assert!(!file(2).exists() && !outbox.join(".writing-x").exists());
        assert!(outbox.join("notes.txt").exists());
    }

    #[test]
    fn damaged_files_do_not_fill_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        for id in 0..100_u64 {
            fs::write(folder.path().join(format!("{id:020}.event")), b"?").unwrap();
        }
        let (_spool, found) = Spool::open(folder.path()).unwrap();
        assert_eq!((found.damaged, found.events.len()), (100, 0));
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, KEPT_DAMAGED + 1); // And the lock.
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Spool::open(folder.path()).unwrap();
        let error = Spool::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("another captiond"), "{error}");
        drop(first);
        Spool::open(folder.path()).unwrap();
    }
}
