//! `pack.toml` as a flat list of fields, to show and to compare without knowing each key.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;
use toml::{Table, Value};

use super::PackError;

/// A field that differs between two manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `section.key`, as messages write it.
    pub field: String,
    /// Its value in the first; none where it isn't.
    pub a: Option<String>,
    /// Its value in the second.
    pub b: Option<String>,
}

/// The fields of a pack's manifest by their path. Values are as TOML writes them.
///
/// # Errors
/// When there is no manifest, or it is no TOML.
pub fn read(folder: &Path) -> Result<BTreeMap<String, String>, PackError> {
    let text =
        fs::read_to_string(folder.join("pack.toml")).map_err(|cause| PackError::Missing {
            pack: folder.to_owned(),
            cause,
        })?;
    let table: Table = toml::from_str(&text).map_err(|error| PackError::Manifest {
        pack: folder.to_owned(),
        line: error
            .span()
            .map(|span| text[..span.start].matches('\n').count() + 1),
        message: error.message().to_owned(),
    })?;
    let mut fields = BTreeMap::new();
    flatten("", &table, &mut fields);
    Ok(fields)
}

fn flatten(prefix: &str, table: &Table, fields: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let name = match key.contains('.') {
            true => format!("{prefix}{key:?}"),
            false => format!("{prefix}{key}"),
        };
        match value {
            Value::Table(inner) => flatten(&format!("{name}."), inner, fields),
            other => {
                fields.insert(name, other.to_string());
            }
        }
    }
}

/// The fields in which two manifests differ, in alphabetical order.
pub fn differences(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<Difference> {
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| Difference {
            field: name.clone(),
            a: a.get(name).cloned(),
            b: b.get(name).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_fields_have_paths_and_only_differing_ones_are_listed() {
        let read_text = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("pack.toml"), text).unwrap();
            read(folder.path()).unwrap()
        };
        let a = read_text("name = \"x\"\n[tower]\nsize = [2, 3]\n[files.\"a.b\"]\nsize = 1\n");
        let b = read_text("name = \"x\"\n[tower]\nsize = [2, 4]\ncrop = true\n");
        assert_eq!(a["tower.size"], "[2, 3]");
        let found = differences(&a, &b);
        let names: Vec<_> = found.iter().map(|d| d.field.as_str()).collect();
        assert_eq!(names, ["files.\"a.b\".size", "tower.crop", "tower.size"]);
        assert_eq!(found[1].a, None);
        assert_eq!(found[1].b.as_deref(), Some("true"));
        assert!(differences(&a, &a).is_empty());
    }
}
