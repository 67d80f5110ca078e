//! `http://` addresses, as far as cameras need them.

use std::fmt;

/// Where a picture is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or number, an IPv6 number without its brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What is asked for: begins with `/`, with the query.
    pub target: String,
}

impl Address {
    /// Reads `http://host[:port][/path][?query]`.
    ///
    /// # Errors
    /// What is wrong and what to do, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = strip_scheme(text, "http") else {
            return Err(if strip_scheme(text, "https").is_some() {
                "https is not spoken here; use kind = \"command\" with ffmpeg for such a camera"
                    .into()
            } else if strip_scheme(text, "rtsp").is_some() {
                "rtsp is not spoken here; use kind = \"command\" with ffmpeg, see the example"
                    .into()
            } else {
                "expected http://host/path".into()
            });
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(
                "a user or password in the address would be logged; put them into \
                 source.username and source.password_file"
                    .into(),
            );
        }
        let path = path.split('#').next().unwrap_or_default();
        let target = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        // A space or a line end would end the request line, and start a header of somebody's.
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(format!(
                "{bad:?} may not stand in an address; write it as %{:02X}",
                u32::from(bad)
            ));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or("`]` is missing")?;
                (host, port.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err("the host is missing, expected http://host/path".into());
        }
        let port = match port {
            None => 80,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(format!("{port:?} is no port, expected 1 to 65535")),
                Ok(port) => port,
            },
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            target,
        })
    }

    /// Where a `Location` header of an answer from here leads.
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn redirected(&self, location: &str) -> Result<Self, String> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let target = if location.starts_with("//") {
            return Self::parse(&format!("http:{location}"));
        } else if location.starts_with('/') {
            location.to_owned()
        } else {
            let path = self.target.split('?').next().unwrap_or("/");
            let folder = &path[..=path.rfind('/').unwrap_or(0)];
            format!("{folder}{location}")
        };
        Self::parse(&format!("http://{}{target}", self.authority()))
    }

    /// `host` or `host:port`, as the `Host` header has it.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == 80 {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// Without the query, in which some cameras want a password: this is published and logged.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or("/");
        write!(f, "http://{}{path}", self.authority())
    }
}

/// A `Location` as it may be published and logged: without what may be a password (a user before the
/// host, a query), and no longer than an address needs to be.
#[must_use]
pub fn shown(location: &str) -> String {
    let plain = location.split(['?', '#']).next().unwrap_or_default();
    // Up to the last `@`, wherever it stands: what is refused here needs not be a proper address.
    let plain = match plain.rsplit_once('@') {
        Some((before, rest)) => {
            match before.split_once("://") {
                // Only a name: anything else before `://` may be of the password.
                Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                    format!("{scheme}://{rest}")
                }
                _ => rest.to_owned(),
            }
        }
        None => plain.to_owned(),
    };
    plain.chars().take(200).collect()
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = text.split_once("://")?;
    found.eq_ignore_ascii_case(scheme).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, host, port, target) in [
            ("http://cam", "cam", 80, "/"),
            ("HTTP://cam:8080/a/b.jpg?x=1#y", "cam", 8080, "/a/b.jpg?x=1"),
            (
                "http://10.0.0.2?action=stream",
                "10.0.0.2",
                80,
                "/?action=stream",
            ),
            ("http://[fe80::1]:81/s", "fe80::1", 81, "/s"),
        ] {
            let address = Address::parse(text).unwrap();
            let parts = (&*address.host, address.port, &*address.target);
            assert_eq!(parts, (host, port, target), "{text}");
        }
        let secret = Address::parse("http://cam/snap?pwd=hunter2").unwrap();
        assert_eq!(secret.to_string(), "http://cam/snap");
    }

    #[test]
    fn wrong_addresses_say_what_to_do() {
        for (text, part) in [
            ("https://cam/", "kind = \"command\""),
            ("rtsp://cam/", "ffmpeg"),
            ("cam/x.jpg", "http://host"),
            ("http:///x", "host is missing"),
            ("http://cam:0/", "port"),
            ("http://cam:http/", "port"),
            ("http://[::1/", "]"),
            ("http://me:secret@cam/", "source.password_file"),
            ("http://cam/a b", "%20"),
            ("http://cam/\r\nX: y", "%0D"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_shown_of_a_location_has_no_password() {
        for (location, there) in [
            ("https://me:secret@cam/x?token=secret", "https://cam/x"),
            ("//me:secret@cam/x", "cam/x"),
            ("me:secret@cam", "cam"),
            ("https://me:se@cret@cam/x#secret", "https://cam/x"),
            ("https://cam/x", "https://cam/x"),
            // Found by the fuzzer: `://` within the password.
            ("me:se@cr://et@cam/x", "cam/x"),
        ] {
            assert_eq!(shown(location), there);
        }
        assert_eq!(shown(&"x".repeat(5000)).len(), 200);
    }

    #[test]
    fn redirects_lead_where_a_browser_would_go() {
        let here = Address::parse("http://cam:81/a/b?c").unwrap();
        for (location, there) in [
            ("http://other/x", "http://other/x"),
            ("/x", "http://cam:81/x"),
            ("x", "http://cam:81/a/x"),
            ("//other/x", "http://other/x"),
        ] {
            assert_eq!(here.redirected(location).unwrap().to_string(), there);
        }
        assert!(here.redirected("https://cam/").is_err());
    }
}
