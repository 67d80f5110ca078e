//! The bytes of a datastore file, in memory or mapped into it.

use std::{fs::File, io, ops::Deref, path::Path};

use memmap2::Mmap;

/// Bytes that are owned or that stand in a mapped file.
#[derive(Debug)]
pub enum FileBytes {
    /// In memory of our own.
    Owned(Vec<u8>),
    /// Pages of a file: read when they are first used, shared with the page cache, and given back
    /// under memory pressure without swapping.
    Mapped(Mmap),
}

impl FileBytes {
    /// Maps a file for reading.
    ///
    /// # Errors
    /// When it can't be opened or is nothing that can be mapped (a folder, a pipe).
    pub fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // `Mmap::map` is unsafe because somebody may change the file while its pages are borrowed.
        // What protects us: captiond never writes a pack's file in place. It writes a temporary
        // file and renames it (`pack::replace`), so a map keeps the old file, whole, for as long as
        // it lives. Against a stranger who does write in place: nothing outside this module keeps
        // a `&str` or another checked view of the bytes, every read is bounds-checked again, so
        // changed bytes give wrong captions and no undefined behaviour of ours. A file cut short in
        // place ends the process with SIGBUS; docs/model-packs.md says to replace, not to edit.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }?;
        Ok(Self::Mapped(map))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::replace;

    #[test]
    fn a_map_outlives_the_replacement_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"the old content").unwrap();
        let old = FileBytes::map(&path).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(&*FileBytes::map(&path).unwrap(), b"new");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*old, b"the old content");
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error_and_an_empty_file_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert!(FileBytes::map(folder.path()).is_err());
        assert!(FileBytes::map(&folder.path().join("absent")).is_err());
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(FileBytes::map(&empty).unwrap().is_empty());
    }
}
