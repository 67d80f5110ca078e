//! Where the default pack is when nobody names one.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::PackError;

/// Where packages put the default pack.
const INSTALLED: &str = "/usr/share/captiond/models/default";

/// Finds the default pack: `$CAPTIOND_PACK`, then `models/default` in a folder above the program
/// (a build inside a checkout, or an unpacked archive), the installed place, and for a debug build the
/// checkout that it was built from: on another machine that path may be anybody's.
///
/// # Errors
/// [`PackError::NoDefault`] names every place that was looked at.
pub fn default_pack() -> Result<PathBuf, PackError> {
    // A pack that was named is used even when it is wrong: its own error says more than a default.
    if let Some(named) = env::var_os("CAPTIOND_PACK").filter(|value| !value.is_empty()) {
        return Ok(named.into());
    }
    let program = env::current_exe().unwrap_or_default();
    let above = program
        .ancestors()
        .skip(1)
        .take(5)
        .map(|folder| folder.join("models/default"));
    let checkout = cfg!(debug_assertions)
        .then(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default"));
    let places: Vec<PathBuf> = above
        .chain([PathBuf::from(INSTALLED)])
        .chain(checkout)
        .collect();
    match places
        .iter()
        .find(|place| place.join("pack.toml").is_file())
    {
        Some(found) => Ok(found.clone()),
        None => {
            let looked: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
            Err(PackError::NoDefault {
                looked: looked.join(", "),
            })
        }
    }
}
