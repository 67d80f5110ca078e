//! The manifest that a build begins with: the towers' own, without what is made anew.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use toml_edit::{DocumentMut, Item, Table, Value, value};

use crate::pack::{digest, replace};

/// Towers to begin with.
pub(super) struct Towers {
    document: DocumentMut,
    /// Files to copy, by their paths within the folder.
    pub(super) files: Vec<PathBuf>,
    /// Bytes of all of them.
    pub(super) bytes: u64,
}

/// Reads the towers' pack.toml, drops what the build makes, and completes the entries of its files.
///
/// # Errors
/// Names what is missing or wrong.
pub(super) fn manifest(
    name: Option<&str>,
    licence: Option<&str>,
    towers: &Path,
    fitted: bool,
) -> Result<Towers> {
    let path = towers.join("pack.toml");
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "{}: a pack.toml with [image_tower] and [text_tower] is needed (docs/model-packs.md)",
            path.display()
        )
    })?;
    let mut document: DocumentMut = text
        .parse()
        .with_context(|| format!("{} is not valid TOML", path.display()))?;
    if let Some(name) = name {
        document["name"] = value(name);
    }
    let mut stale = vec!["datastore", "calibration"];
    if fitted {
        // A judge of other captions would be refused beside the new realignment.
        stale.extend(["realignment", "judge"]);
    }
    let mut dropped = BTreeSet::new();
    for section in stale {
        if let Some(item) = document.remove(section)
            && let Some(file) = item.get("file").and_then(Item::as_str)
        {
            dropped.insert(file.to_owned());
        }
    }
    let mut named = BTreeSet::new();
    for (key, item) in document.iter().filter(|(key, _)| *key != "files") {
        if !matches!(key, "name" | "version" | "description") {
            strings(item, &mut named);
        }
    }
    let entries = document.entry("files").or_insert(Item::Table(Table::new()));
    let Some(table) = entries.as_table_mut() else {
        bail!(
            "{}: files: expected [files.\"NAME\"] tables",
            path.display()
        );
    };
    table.set_implicit(true);
    for file in dropped.iter().filter(|file| !named.contains(*file)) {
        table.remove(file);
    }
    for file in &named {
        let plain = Path::new(file);
        if table.contains_key(file) || !is_inside(plain) || !towers.join(plain).is_file() {
            continue;
        }
        let Some(licence) = licence else {
            bail!(
                "{}: files: no entry for {file}; say its licence with --licence (SPDX), or list it",
                path.display()
            );
        };
        let mut entry = Table::new();
        entry["sha256"] =
            value(digest::of_file(&towers.join(plain)).with_context(|| file.clone())?);
        entry["licence"] = value(licence);
        entry["provenance"] = value("given to captiond pack build");
        table.insert(file, Item::Table(entry));
    }
    let mut files = Vec::new();
    let mut bytes = 0;
    for (file, entry) in table.iter_mut() {
        let name = PathBuf::from(file.get());
        if !is_inside(&name) {
            bail!(
                "{}: files: found {:?}, expected a path inside the folder",
                path.display(),
                file.get()
            );
        }
        let size = fs::metadata(towers.join(&name))
            .with_context(|| towers.join(&name).display().to_string())?
            .len();
        // What is there is kept: if it's wrong, somebody should hear of it.
        if entry.get("size").is_none() {
            entry["size"] = value(size as i64);
        }
        bytes += size;
        files.push(name);
    }
    Ok(Towers {
        document,
        files,
        bytes,
    })
}

fn is_inside(name: &Path) -> bool {
    let inside = |part| matches!(part, Component::Normal(_));
    !name.as_os_str().is_empty() && name.components().all(inside)
}

/// All strings below, which may be names of files.
fn strings(item: &Item, found: &mut BTreeSet<String>) {
    match item {
        Item::Value(Value::String(text)) => {
            found.insert(text.value().clone());
        }
        Item::Value(Value::Array(array)) => {
            found.extend(array.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        Item::Table(table) => table.iter().for_each(|(_, inner)| strings(inner, found)),
        _ => {}
    }
}

impl Towers {
    /// Copies the files and writes the manifest.
    ///
    /// # Errors
    /// Names the file that can't be copied.
    pub(super) fn copy(&self, towers: &Path, to: &Path) -> Result<()> {
        for file in &self.files {
            let (from, to) = (towers.join(file), to.join(file));
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
            }
            fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
        replace(&to.join("pack.toml"), self.document.to_string().as_bytes())
    }
}
