//! Why a pack is not fetched.

use std::path::PathBuf;

use crate::pack::PackError;

/// Why a pack is not fetched. Nothing was installed, and what was there stays.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL can't be used.
    #[error("{0}")]
    Address(String),
    /// Plain HTTP to another machine.
    #[error(
        "{host} is to be asked over plain http, where anybody on the way can read and change what comes; \
         use https, or --insecure-http in a network of your own (with --sha256)"
    )]
    Plain {
        /// Host and port.
        host: String,
    },
    /// The variables for proxies are unusable.
    #[error("{variable}: {found:?} is no proxy; expected http://host:port, or unset it")]
    ProxyVariable {
        /// Its name.
        variable: &'static str,
        /// What stands in it, without a password.
        found: String,
    },
    /// The system has no list of authorities.
    #[error(
        "this system trusts no certificate authority, so no https server can be believed; \
         install the list (Debian: apt-get install ca-certificates)"
    )]
    NoAuthorities,
    /// The server, or what is on the way to it, said no, or nothing; `attempts` is how often it was asked.
    #[error("{url}: {why}{}", after(*.attempts))]
    Failed {
        /// Without its query.
        url: String,
        /// What happened, and the way out.
        why: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A file has another size than the manifest says.
    #[error(
        "{file}: size: found {found} bytes, expected {expected} (pack.toml); \
         the server's pack is not whole or not that of its pack.toml: tell whoever publishes it"
    )]
    Size {
        /// Path within the pack.
        file: String,
        /// What the server has.
        found: u64,
        /// What the manifest says.
        expected: u64,
    },
    /// A file has another hash than the manifest says.
    #[error(
        "{file}: sha256: found {found}, expected {expected}; \
         the server sends another file than its pack.toml says: tell whoever publishes it"
    )]
    Hash {
        /// Path within the pack.
        file: String,
        /// Of what came.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// The manifest is not the one that was asked for.
    #[error(
        "pack.toml: sha256: found {found}, expected {expected} (--sha256); \
         the pack was changed since you got that number: ask whoever gave it to you"
    )]
    OtherManifest {
        /// Of what came.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// The manifest, or the fetched pack as a whole, is refused.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The destination can't be used.
    #[error("{}: {why}", path.display())]
    Destination {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and the way out.
        why: String,
    },
    /// The disk.
    #[error("{}: {cause}; what was fetched so far is kept, go on with the same command", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
}

fn after(count: u32) -> String {
    match count {
        0 | 1 => String::new(),
        many => format!(
            " (tried {many} times; what was fetched so far is kept, go on with the same command)"
        ),
    }
}
