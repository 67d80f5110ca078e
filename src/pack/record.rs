//! Puts a file that we made into a pack: atomically, with its entry in `pack.toml`.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use toml_edit::{DocumentMut, Item, Table, Value, value};

use super::digest;

/// A file to be recorded.
#[derive(Debug, Clone)]
pub struct FileRecord<'a> {
    /// Manifest section that names the file: "realignment" or "datastore".
    pub section: &'a str,
    /// The file's name within the pack.
    pub name: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
    /// SPDX licence of the content.
    pub licence: &'a str,
    /// Where the content comes from.
    pub provenance: &'a str,
}

impl FileRecord<'_> {
    /// Writes the file and its entry. Comments and order of `pack.toml` stay as they are.
    ///
    /// Each of the two files is replaced atomically; if power fails between them, the hash check
    /// refuses the pack with a clear message rather than run a half-new one.
    ///
    /// # Errors
    /// When the pack is not writable or its `pack.toml` is no TOML.
    pub fn write(&self, pack: &Path) -> Result<()> {
        self.write_with(pack, &[])
    }

    /// As [`FileRecord::write`], with settings that go with the file, in the same write: (table, key,
    /// value).
    ///
    /// # Errors
    /// As [`FileRecord::write`].
    pub fn write_with(&self, pack: &Path, settings: &[(&str, &str, &str)]) -> Result<()> {
        let manifest = pack.join("pack.toml");
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("read {}", manifest.display()))?;
        let mut document: DocumentMut = text
            .parse()
            .with_context(|| format!("{} is not valid TOML", manifest.display()))?;
        let section = document
            .entry(self.section)
            .or_insert(Item::Table(Table::new()));
        section["file"] = value(self.name);
        for (table, key, setting) in settings {
            let table = document.entry(table).or_insert(Item::Table(Table::new()));
            let mut setting = Value::from(*setting);
            if let Some(old) = table.get(key).and_then(Item::as_value) {
                *setting.decor_mut() = old.decor().clone();
            }
            table[key] = Item::Value(setting);
        }
        let files = document.entry("files").or_insert(Item::Table(Table::new()));
        if let Some(table) = files.as_table_mut() {
            table.set_implicit(true);
        }
        let mut entry = Table::new();
        entry["sha256"] = value(digest::of_bytes(self.bytes));
        entry["size"] = value(self.bytes.len() as i64);
        entry["licence"] = value(self.licence);
        entry["provenance"] = value(self.provenance);
        files[self.name] = Item::Table(entry);
        replace(&pack.join(self.name), self.bytes)?;
        replace(&manifest, document.to_string().as_bytes())
    }
}

/// Replaces a file so that a reader sees the old or the new content, never a part, even across a
/// power cut: temporary file in the same folder, fsync, rename, fsync of the folder.
///
/// # Errors
/// When the folder is not writable or full; the old content is then untouched.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let attempt = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        // Temporary files are private; what they replace is read by the daemon's own user.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.as_file()
                .set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    };
    attempt().with_context(|| format!("write {}", path.display()))
}
