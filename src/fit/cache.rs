//! Embeddings on disk, so that a second fit takes seconds.
//!
//! One file for each embedding identity, records appended one after another: the SHA-256 of what
//! was embedded (the picture's bytes, the caption's text), then `dimension` f32. The content is the
//! key, so a file that moves keeps its embedding and one that changes gets a new one.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// SHA-256 of what was embedded.
pub type Key = [u8; 32];

/// The key of some content.
pub fn key(content: &[u8]) -> Key {
    Sha256::digest(content).into()
}

/// One identity's embeddings.
pub struct EmbeddingCache {
    path: PathBuf,
    file: File,
    dimension: usize,
    /// Position of the first float.
    index: HashMap<Key, u64>,
}

impl EmbeddingCache {
    /// Opens or makes the cache of an embedding identity. A record that was cut off by a crash is
    /// dropped.
    ///
    /// # Errors
    /// When the folder is not writable.
    pub fn open(folder: &Path, identity: &str, dimension: usize) -> Result<Self> {
        let path = folder.join(format!("{identity}-{dimension}.f32"));
        let context = || format!("embedding cache {}", path.display());
        fs::create_dir_all(folder).with_context(context)?;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .with_context(context)?;
        let record = 32 + 4 * dimension as u64;
        file.lock().with_context(context)?;
        let whole = file.metadata().with_context(context)?.len() / record;
        file.set_len(whole * record).with_context(context)?;
        let mut index = HashMap::with_capacity(whole as usize);
        let mut reader = BufReader::with_capacity(1 << 16, &mut file);
        reader.seek(SeekFrom::Start(0)).with_context(context)?;
        for number in 0..whole {
            let mut key = [0; 32];
            reader.read_exact(&mut key).with_context(context)?;
            reader
                .seek_relative(4 * dimension as i64)
                .with_context(context)?;
            index.insert(key, number * record + 32);
        }
        drop(reader);
        file.unlock().with_context(context)?;
        Ok(Self {
            path,
            file,
            dimension,
            index,
        })
    }

    /// Whether there is an embedding.
    pub fn contains(&self, key: &Key) -> bool {
        self.index.contains_key(key)
    }

    /// The embedding of a key, if there is one.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn get(&mut self, key: &Key) -> Result<Option<Vec<f32>>> {
        let Some(&at) = self.index.get(key) else {
            return Ok(None);
        };
        let mut bytes = vec![0; 4 * self.dimension];
        self.file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .with_context(|| format!("embedding cache {}", self.path.display()))?;
        Ok(Some(
            bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        ))
    }

    /// Adds an embedding of `dimension` floats.
    ///
    /// # Errors
    /// When the disk is full or the file is gone.
    pub fn put(&mut self, key: Key, embedding: &[f32]) -> Result<()> {
        let mut record = key.to_vec();
        record.extend(embedding.iter().flat_map(|v| v.to_le_bytes()));
        let context = || format!("embedding cache {}", self.path.display());
        // Shards that are fitted at the same time share the cache: one whole record at a time.
        self.file.lock().with_context(context)?;
        let written = self.file.seek(SeekFrom::End(0)).and_then(|at| {
            self.file.write_all(&record)?;
            Ok(at)
        });
        self.file.unlock().with_context(context)?;
        self.index.insert(key, written.with_context(context)? + 32);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_embeddings_across_openings_and_drops_a_torn_record() {
        let folder = tempfile::tempdir().unwrap();
        let open = || EmbeddingCache::open(folder.path(), "id", 2).unwrap();
        let mut cache = open();
        cache.put(key(b"a"), &[1.0, 2.0]).unwrap();
        cache.put(key(b"b"), &[3.0, 4.0]).unwrap();
        assert_eq!(cache.get(&key(b"a")).unwrap(), Some(vec![1.0, 2.0]));
        let path = folder.path().join("id-2.f32");
        let length = fs::metadata(&path).unwrap().len();
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length - 3)
            .unwrap();
        let mut torn = open();
        assert_eq!(torn.get(&key(b"a")).unwrap(), Some(vec![1.0, 2.0]));
        assert_eq!(torn.get(&key(b"b")).unwrap(), None);
        torn.put(key(b"c"), &[5.0, 6.0]).unwrap();
        assert_eq!(open().get(&key(b"c")).unwrap(), Some(vec![5.0, 6.0]));
    }
}
