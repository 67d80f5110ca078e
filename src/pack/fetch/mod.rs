//! Fetches a pack over HTTPS: its `pack.toml`, then the files that stand there, from beside it.
//!
//! No archive: each file has a hash and a size in the manifest, so each can be continued, checked and,
//! when the pack that is being replaced has it already, left out of the download. The pack is put
//! together beside its destination and renamed into it when all of it is right.
//!
//! ```text
//! .NAME.pull/lock       one download at a time
//!            parts/     SHA256.part while it is coming, SHA256 when it is whole and right
//!            pack/      put together, checked, renamed to NAME
//! ```

mod address;
mod client;
mod error;
mod explain;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

pub use address::Address;
pub use client::{Client, Wanted};
pub use error::FetchError;

use super::{
    Pack, digest,
    install::{Destination, Workplace},
};

/// What happens while fetching.
#[derive(Debug)]
pub enum Event<'a> {
    /// The manifest is here and right.
    Manifest {
        /// "name version".
        label: &'a str,
        /// Files of the pack.
        files: usize,
        /// Bytes of all of them, where the manifest says.
        size: Option<u64>,
    },
    /// A file is here already: from an earlier attempt, or from the pack that is replaced.
    Kept {
        /// Path within the pack.
        file: &'a str,
    },
    /// A file begins.
    Begin {
        /// Path within the pack.
        file: &'a str,
        /// Bytes, where the manifest says.
        size: Option<u64>,
        /// Bytes that are here already.
        have: u64,
    },
    /// So many more bytes are here.
    Bytes(u64),
    /// The file begins anew: the server doesn't continue, or what is here is wrong.
    Restart,
    /// It broke off, and is tried again after a while.
    Again {
        /// What happened.
        why: &'a str,
        /// How long until then.
        wait: Duration,
    },
    /// A file is whole and right.
    Done,
}

/// A download.
#[derive(Debug)]
pub struct Fetch<'a> {
    /// Where from.
    pub address: &'a Address,
    /// Where to.
    pub destination: &'a Destination,
    /// Whether plain HTTP to another machine is allowed.
    pub insecure_http: bool,
    /// What the manifest's SHA-256 has to be; its files' hashes stand in it.
    pub manifest_sha256: Option<&'a str>,
}

/// A pack that is whole and right, but not in its place yet.
#[derive(Debug)]
pub struct Fetched {
    /// Opened, every hash checked.
    pub pack: Pack,
    staging: Staging,
}

impl Fetch<'_> {
    /// Fetches all files to beside the destination, going on from where an earlier attempt stopped.
    ///
    /// # Errors
    /// [`FetchError`]. What has come and may be right is kept for the next attempt.
    pub fn run(&self, tell: &mut dyn FnMut(Event<'_>)) -> Result<Fetched, FetchError> {
        let client = Client::new(self.address, self.insecure_http)?;
        let staging = Staging::open(self.destination)?;
        let text = client.text(&self.address.manifest())?;
        if let Some(expected) = self.manifest_sha256 {
            let found = digest::of_bytes(&text);
            if !found.eq_ignore_ascii_case(expected) {
                return Err(FetchError::OtherManifest {
                    found,
                    expected: expected.to_owned(),
                });
            }
        }
        let folder = staging.begin(&text)?;
        // Names that lead out of the folder end here.
        let pack = Pack::read_manifest(&folder)?;
        let files = &pack.manifest.files;
        let size = files.values().map(|entry| entry.size).sum();
        tell(Event::Manifest {
            label: &pack.label(),
            files: files.len(),
            size,
        });
        let old = Pack::read_manifest(self.destination.folder()).ok();
        for (name, entry) in files {
            let hash = &entry.sha256;
            if staging.has(hash) {
                tell(Event::Kept { file: name });
                continue;
            }
            let before = old
                .as_ref()
                .and_then(|old| Some((old, old.manifest.files.get(name)?)));
            if let Some((old, _)) = before.filter(|(_, before)| before.sha256 == *hash)
                && staging.take(&old.folder.join(name), hash)
            {
                tell(Event::Kept { file: name });
                continue;
            }
            let wanted = Wanted {
                name,
                url: &self.address.file(name),
                size: entry.size,
            };
            self.one(&client, &staging, &wanted, hash, tell)?;
        }
        let hashes = files
            .iter()
            .map(|(name, entry)| (name.as_str(), entry.sha256.as_str()))
            .collect();
        staging.assemble(&folder, &hashes)?;
        // Read once more from the disk: what is checked is what will be installed.
        match Pack::open(&folder) {
            Ok(pack) => Ok(Fetched { pack, staging }),
            Err(error) => {
                // The disk has changed what was right before: keeping it would fail for ever.
                let _ = fs::remove_dir_all(staging.parts());
                Err(error.into())
            }
        }
    }

    /// Fetches one file until its hash is right. What was continued from an earlier attempt may be of
    /// another file: then once more from the beginning.
    fn one(
        &self,
        client: &Client,
        staging: &Staging,
        wanted: &Wanted<'_>,
        hash: &str,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), FetchError> {
        let part = staging.part(hash);
        let disk = |cause| FetchError::Disk {
            path: part.clone(),
            cause,
        };
        let mut continued = fs::metadata(&part).is_ok_and(|meta| meta.len() > 0);
        loop {
            client.file(wanted, &part, tell)?;
            let found = digest::of_file(&part).map_err(disk)?;
            if found == hash {
                tell(Event::Done);
                return staging.keep(hash).map_err(disk);
            }
            fs::remove_file(&part).map_err(disk)?;
            if !continued {
                return Err(FetchError::Hash {
                    file: wanted.name.to_owned(),
                    found,
                    expected: hash.to_owned(),
                });
            }
            continued = false;
            tell(Event::Restart);
        }
    }
}

impl Fetched {
    /// Puts the pack into its place, and returns where the one that it replaces is now.
    ///
    /// # Errors
    /// When the system refuses; the old pack is then where it was.
    pub fn install(self, destination: &Destination) -> Result<Option<PathBuf>, FetchError> {
        let folder = destination.folder();
        let old = destination
            .install(&self.pack.folder)
            .map_err(|cause| FetchError::Disk {
                path: folder.to_owned(),
                cause,
            })?;
        self.staging.place.remove();
        Ok(old)
    }
}

/// The folder beside the destination.
#[derive(Debug)]
struct Staging {
    place: Workplace,
}

impl Staging {
    fn open(destination: &Destination) -> Result<Self, FetchError> {
        let attempt = || -> io::Result<Workplace> {
            let place = Workplace::open(destination, "pull")?;
            fs::create_dir_all(place.folder().join("parts"))?;
            Ok(place)
        };
        match attempt() {
            Ok(place) => Ok(Self { place }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(FetchError::Destination {
                    path: destination.folder().to_owned(),
                    why: "another `captiond pack pull` is at it; wait for that one".into(),
                })
            }
            Err(cause) => Err(FetchError::Disk {
                path: destination.beside("pull", true),
                cause,
            }),
        }
    }

    fn parts(&self) -> PathBuf {
        self.place.folder().join("parts")
    }

    fn part(&self, hash: &str) -> PathBuf {
        self.parts().join(format!("{hash}.part"))
    }

    fn whole(&self, hash: &str) -> PathBuf {
        self.parts().join(hash)
    }

    fn has(&self, hash: &str) -> bool {
        self.whole(hash).is_file()
    }

    /// A part is whole and right.
    fn keep(&self, hash: &str) -> io::Result<()> {
        fs::rename(self.part(hash), self.whole(hash))
    }

    /// Copies a file that is said to have this hash, if it has.
    fn take(&self, file: &Path, hash: &str) -> bool {
        let copy = self.parts().join(format!("{hash}.copy"));
        let copied = fs::copy(file, &copy).is_ok()
            && digest::of_file(&copy).is_ok_and(|found| found == hash)
            && fs::rename(&copy, self.whole(hash)).is_ok();
        if !copied {
            let _ = fs::remove_file(&copy);
        }
        copied
    }

    /// An empty folder for the pack, with its manifest.
    fn begin(&self, manifest: &[u8]) -> Result<PathBuf, FetchError> {
        let attempt = || -> io::Result<PathBuf> {
            let folder = self.place.empty("pack")?;
            fs::write(folder.join("pack.toml"), manifest)?;
            Ok(folder)
        };
        attempt().map_err(|cause| FetchError::Disk {
            path: self.place.folder().join("pack"),
            cause,
        })
    }

    /// Puts the files under their names. Nothing is moved, so that an assembly that fails costs nothing.
    fn assemble(&self, folder: &Path, files: &BTreeMap<&str, &str>) -> Result<(), FetchError> {
        for (name, hash) in files {
            let (from, to) = (self.whole(hash), folder.join(name));
            let attempt = || -> io::Result<()> {
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent)?;
                }
                // File systems of memory cards know no links.
                fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(|_| ()))
            };
            attempt().map_err(|cause| FetchError::Disk {
                path: to.clone(),
                cause,
            })?;
        }
        Ok(())
    }
}
