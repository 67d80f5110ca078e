//! Where a pack lies: the URL of its `pack.toml`, and of the files beside it.

use ureq::http::Uri;

/// The URL of a `pack.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    scheme: String,
    authority: String,
    /// Path of the folder, with a slash at its end.
    folder: String,
    /// Name of the manifest there.
    manifest: String,
    /// With its question mark; empty without one. Sent with every file (a token of a whole container).
    query: String,
}

impl Address {
    /// Reads a URL: of a `pack.toml` (any name that ends in `.toml`), or of the folder that it is in.
    ///
    /// # Errors
    /// In words, when it is none, or holds a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{url:?} {why}, expected https://host/path/pack.toml");
        // A fragment is the browser's business.
        let plain = url.split('#').next().unwrap_or_default();
        let uri: Uri = plain.parse().map_err(|_| wrong("is no URL"))?;
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        if scheme != "https" && scheme != "http" {
            return Err(wrong("begins with neither https:// nor http://"));
        }
        let authority = match uri.authority() {
            Some(authority) if !authority.host().is_empty() => authority.as_str().to_owned(),
            _ => return Err(wrong("names no host")),
        };
        if authority.contains('@') {
            // Not quoted: the password would stand in a log.
            return Err(
                "the URL has a user and password in it, which every user of this machine could read in \
                 the list of processes; use one without, or fetch the files by other means and try them \
                 with `captiond pack verify`"
                    .into(),
            );
        }
        let path = uri.path();
        let (folder, manifest) = match path.rsplit_once('/') {
            Some((folder, name)) if name.ends_with(".toml") => (format!("{folder}/"), name),
            _ if path.ends_with('/') => (path.to_owned(), "pack.toml"),
            _ => (format!("{path}/"), "pack.toml"),
        };
        Ok(Self {
            scheme,
            authority,
            folder,
            manifest: manifest.to_owned(),
            query: uri.query().map_or_else(String::new, |q| format!("?{q}")),
        })
    }

    /// The URL of the manifest.
    pub fn manifest(&self) -> String {
        self.beside(&self.manifest)
    }

    /// The URL of a file of the pack, by its path within it.
    pub fn file(&self, name: &str) -> String {
        self.beside(&encode(name))
    }

    fn beside(&self, encoded: &str) -> String {
        let Self {
            scheme,
            authority,
            folder,
            query,
            ..
        } = self;
        format!("{scheme}://{authority}{folder}{encoded}{query}")
    }

    /// Whether what is sent and fetched can be read and changed on the way.
    pub fn is_plain(&self) -> bool {
        self.scheme == "http"
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        // An authority without a user: host, and perhaps a port.
        let host = match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => &self.authority,
        };
        is_loopback(host)
    }

    /// Host and port, for messages.
    pub fn host(&self) -> &str {
        &self.authority
    }
}

/// Whether a host's name or number is this machine's own.
pub(super) fn is_loopback(host: &str) -> bool {
    let number = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || number
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// A URL without its query, which may be a password, for messages.
pub(super) fn shown(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// Percent-encodes all but what RFC 3986 leaves as it is in a path (unreserved, and `/`).
fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_beside_the_manifest() {
        let parsed = |url| Address::parse(url).unwrap();
        let address = parsed("https://models.example/a/pack.toml");
        assert_eq!(address.manifest(), "https://models.example/a/pack.toml");
        assert_eq!(
            address.file("sub/an image.onnx"),
            "https://models.example/a/sub/an%20image.onnx"
        );
        assert_eq!(parsed("https://models.example/a"), address);
        assert_eq!(parsed("https://models.example/a/#top"), address);
        let root = parsed("HTTPS://models.example:8443");
        assert_eq!(root.manifest(), "https://models.example:8443/pack.toml");
        let other = parsed("http://models.example/small.toml?key=1");
        assert_eq!(other.manifest(), "http://models.example/small.toml?key=1");
        assert_eq!(other.file("ü"), "http://models.example/%C3%BC?key=1");
    }

    #[test]
    fn this_machine_is_known_by_every_name() {
        for (url, plain, here) in [
            ("http://127.0.0.1:80/x.toml", true, true),
            ("http://[::1]:8080/", true, true),
            ("http://localhost/", true, true),
            ("https://localhost.example/", false, false),
            ("http://127.0.0.1.example/", true, false),
            ("http://[2001:db8::1]/", true, false),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!((address.is_plain(), address.is_loopback()), (plain, here));
        }
    }

    #[test]
    fn what_is_no_url_is_refused_and_a_password_is_not_quoted() {
        for url in ["", "pack.toml", "ftp://a/pack.toml", "https:///pack.toml"] {
            let error = Address::parse(url).unwrap_err();
            assert!(error.contains("expected https://"), "{error}");
        }
        let error = Address::parse("https://me:secret@a.example/").unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
}
