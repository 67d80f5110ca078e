//! Puts a whole pack in the place of another at one stroke, and keeps the old one beside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Where a pack is to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The folder, after symbolic links.
    folder: PathBuf,
}

impl Destination {
    /// Checks that a pack may be installed there: a new name in a folder that is there, an empty folder,
    /// or a pack.
    ///
    /// # Errors
    /// In words, with the way out.
    pub fn new(folder: &Path) -> Result<Self, String> {
        if folder.file_name().is_none() && !folder.exists() {
            return Err("is no name for a folder; give one".into());
        }
        let folder = match fs::canonicalize(folder) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = match folder.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                let parent = fs::canonicalize(parent).map_err(|cause| {
                    format!("{}: {cause}; make that folder first", parent.display())
                })?;
                parent.join(folder.file_name().unwrap_or_default())
            }
            Err(error) => return Err(error.to_string()),
        };
        let destination = Self { folder };
        if destination.folder.exists() {
            destination.check_replaceable()?;
        }
        if destination.folder.file_name().is_none() {
            return Err("is the root of the file system; give another folder".into());
        }
        Ok(destination)
    }

    fn check_replaceable(&self) -> Result<(), String> {
        let mut entries =
            fs::read_dir(&self.folder).map_err(|error| format!("{error}; give a folder"))?;
        let empty = entries.next().is_none();
        if !empty && !self.folder.join("pack.toml").is_file() {
            return Err(
                "holds files, but no pack.toml: it's no pack and is not replaced; give another folder"
                    .into(),
            );
        }
        Ok(())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A folder of the same file system, beside it: `.NAME.suffix`, or `NAME.suffix` when it is to be seen.
    pub fn beside(&self, suffix: &str, hidden: bool) -> PathBuf {
        let name = self.folder.file_name().unwrap_or_default();
        let mut other = std::ffi::OsString::from(if hidden { "." } else { "" });
        other.push(name);
        other.push(".");
        other.push(suffix);
        self.folder.with_file_name(other)
    }

    /// Renames `new` into place. What was there becomes `NAME.old`, in place of an older one; returns it.
    /// Whoever looks sees the old pack or the new one, whole, at any time, and after a power cut too.
    ///
    /// # Errors
    /// When the system refuses; the old pack is then where it was.
    pub fn install(&self, new: &Path) -> io::Result<Option<PathBuf>> {
        sync(new)?;
        let parent = self.folder.parent().unwrap_or(Path::new("/"));
        if !self.folder.exists() {
            fs::rename(new, &self.folder)?;
            fs::File::open(parent)?.sync_all()?;
            return Ok(None);
        }
        let old = self.beside("old", false);
        if old.exists() {
            // Only ever a pack: anything else was not put there by us.
            if !old.join("pack.toml").is_file() && fs::read_dir(&old)?.next().is_some() {
                return Err(io::Error::other(format!(
                    "{} is in the way and no pack; move it away",
                    old.display()
                )));
            }
            fs::remove_dir_all(&old)?;
        }
        match renameat_with(CWD, new, CWD, &self.folder, RenameFlags::EXCHANGE) {
            // The two have changed places.
            Ok(()) => fs::rename(new, &old)?,
            // File systems that can't exchange: for a moment there is none.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                fs::rename(&self.folder, &old)?;
                if let Err(error) = fs::rename(new, &self.folder) {
                    fs::rename(&old, &self.folder)?;
                    return Err(error);
                }
            }
            Err(error) => return Err(error.into()),
        }
        fs::File::open(parent)?.sync_all()?;
        Ok(Some(old))
    }
}

/// A hidden folder beside a destination, for one process at a time. What is in it outlives that process.
#[derive(Debug)]
pub struct Workplace {
    folder: PathBuf,
    /// Locked as long as it is open.
    _lock: fs::File,
}

impl Workplace {
    /// Opens or makes `.NAME.suffix` beside the destination.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process is at it; else what the system says.
    pub fn open(destination: &Destination, suffix: &str) -> io::Result<Self> {
        let folder = destination.beside(suffix, true);
        fs::create_dir_all(&folder)?;
        let lock = fs::File::create(folder.join("lock"))?;
        lock.try_lock()?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An empty folder within, in place of what was there under this name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn empty(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Removes it with all that is in it. What can't be removed is no failure of what was done there.
    pub fn remove(self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// All files and folders below, down to the disk.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(folder: &Path, word: &str) {
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(folder.join("pack.toml"), word).unwrap();
        fs::write(folder.join("sub/file"), word).unwrap();
    }

    fn word(folder: &Path) -> String {
        fs::read_to_string(folder.join("sub/file")).unwrap()
    }

    #[test]
    fn a_new_pack_takes_the_place_and_the_old_one_is_kept() {
        let work = tempfile::tempdir().unwrap();
        let place = work.path().join("pack");
        let install = |words: &str| {
            let destination = Destination::new(&place).unwrap();
            let new = destination.beside("new", true);
            pack(&new, words);
            let old = destination.install(&new).unwrap();
            assert!(!new.exists());
            old
        };
        assert_eq!(install("first"), None);
        assert_eq!(word(&place), "first");
        let old = install("second").unwrap();
        assert_eq!(
            (word(&place), word(&old)),
            ("second".into(), "first".into())
        );
        assert_eq!(install("third"), Some(old.clone()));
        assert_eq!(
            (word(&place), word(&old)),
            ("third".into(), "second".into())
        );
    }

    #[test]
    fn through_a_link_the_folder_behind_it_is_replaced() {
        let work = tempfile::tempdir().unwrap();
        let (real, link) = (work.path().join("v1"), work.path().join("current"));
        pack(&real, "old");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let destination = Destination::new(&link).unwrap();
        let new = destination.beside("new", true);
        pack(&new, "new");
        destination.install(&new).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!((word(&link), word(&real)), ("new".into(), "new".into()));
    }

    #[test]
    fn what_is_no_pack_is_not_replaced() {
        let work = tempfile::tempdir().unwrap();
        fs::write(work.path().join("diary"), "dear diary").unwrap();
        let error = Destination::new(work.path()).unwrap_err();
        assert!(error.contains("no pack.toml"), "{error}");
        let error = Destination::new(&work.path().join("a/b")).unwrap_err();
        assert!(error.contains("make that folder first"), "{error}");
        assert!(Destination::new(&work.path().join("diary")).is_err());
        assert!(Destination::new(Path::new("/")).is_err());
        // In the way of the old one.
        let place = work.path().join("pack");
        pack(&place, "old");
        fs::create_dir(work.path().join("pack.old")).unwrap();
        fs::write(work.path().join("pack.old/letter"), "x").unwrap();
        let destination = Destination::new(&place).unwrap();
        let new = destination.beside("new", true);
        pack(&new, "new");
        let error = destination.install(&new).unwrap_err().to_string();
        assert!(error.contains("is in the way"), "{error}");
        assert_eq!(word(&place), "old");
        assert!(work.path().join("pack.old/letter").exists());
    }
}
