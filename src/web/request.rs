//! A request's head, and what in it decides whether it's answered.

use std::net::IpAddr;

/// More than browsers send.
pub(super) const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 48;

/// What is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Other,
}

/// A request without a body; none of ours has one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    /// After the `?`.
    pub(super) query: String,
    /// `Host`, in lower case.
    pub(super) host: String,
    pub(super) origin: Option<String>,
    pub(super) fetch_site: Option<String>,
    /// From `Authorization: Bearer`.
    pub(super) token: Option<String>,
}

/// Why a request is refused before anybody looks at what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// No HTTP/1.x as a browser sends it.
    NoRequest,
    /// Over [`MAX_HEAD`] or with too many headers.
    TooLarge,
    /// There is a body.
    Body,
}

impl Request {
    /// From the bytes that have come so far; `None` until the head is whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => {
                return Err(Malformed::TooLarge);
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
            Err(_) => return Err(Malformed::NoRequest),
        }
        // Twice the same header, and two programs on the way may believe different ones.
        let once = |name: &str| {
            let mut found = request
                .headers
                .iter()
                .filter(|header| header.name.eq_ignore_ascii_case(name));
            match (found.next(), found.next()) {
                (None, _) => Ok(None),
                (Some(header), None) => std::str::from_utf8(header.value)
                    .map(|value| Some(value.trim().to_owned()))
                    .map_err(|_| Malformed::NoRequest),
                _ => Err(Malformed::NoRequest),
            }
        };
        if once("transfer-encoding")?.is_some()
            || once("content-length")?.is_some_and(|length| length != "0")
        {
            return Err(Malformed::Body);
        }
        let target = request.path.unwrap_or_default();
        // Also refused: `GET http://elsewhere/`, which is for proxies.
        if !target.starts_with('/') {
            return Err(Malformed::NoRequest);
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let token = once("authorization")?.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| token.trim().to_owned())
        });
        Ok(Some(Self {
            method: match request.method {
                Some("GET") => Method::Get,
                Some("HEAD") => Method::Head,
                Some("POST") => Method::Post,
                _ => Method::Other,
            },
            path: path.to_owned(),
            query: query.to_owned(),
            host: once("host")?
                .ok_or(Malformed::NoRequest)?
                .to_ascii_lowercase(),
            origin: once("origin")?.map(|origin| origin.to_ascii_lowercase()),
            fetch_site: once("sec-fetch-site")?,
            token,
        }))
    }

    /// Whether the browser believes to talk to us. A page elsewhere whose own name was made to point
    /// here (DNS rebinding) sends that name. An address in numbers can't be made to point
    /// anywhere.
    pub(super) fn is_for(&self, hosts: &[String]) -> bool {
        let name = without_port(&self.host);
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name);
        let name = name.trim_end_matches('.');
        bare.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || hosts.iter().any(|host| host == name)
    }

    /// Whether a browser sends this for our own page, or it isn't from a browser. (`https`: behind
    /// a proxy.)
    pub(super) fn is_our_own(&self) -> bool {
        let site = match self.fetch_site.as_deref() {
            None | Some("same-origin" | "none") => true,
            Some(_) => false,
        };
        let origin = self.origin.as_ref().is_none_or(|origin| {
            ["http://", "https://"]
                .iter()
                .any(|scheme| origin.strip_prefix(scheme) == Some(self.host.as_str()))
        });
        site && origin
    }

    /// The value of a parameter that is a number; the last one counts.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let pairs = self.query.split('&').rev();
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value.parse().ok())
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The last colon of "[::1]" is inside.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Request>, Malformed> {
        Request::parse(text.as_bytes())
    }

    fn with(lines: &str) -> Request {
        parse(&format!("GET / HTTP/1.1\r\n{lines}\r\n"))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn a_browsers_request_is_understood() {
        let text = "GET /api/state?x=1&after=7 HTTP/1.1\r\nHost: LocalHost:8470\r\n\
                    Authorization: bearer  secret\r\nOrigin: http://localhost:8470\r\n\r\n";
        for length in 0..text.len() {
            assert_eq!(parse(&text[..length]), Ok(None), "{length}");
        }
        let request = parse(text).unwrap().unwrap();
        assert_eq!(request.method, Method::Get);
        assert_eq!(request.path, "/api/state");
        assert_eq!(request.number("after"), Some(7));
        assert_eq!(request.number("x2"), None);
        assert_eq!(request.host, "localhost:8470");
        assert_eq!(request.token.as_deref(), Some("secret"));
        assert!(request.is_our_own());
    }

    #[test]
    fn odd_requests_are_refused() {
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_HEAD));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
        for (text, why) in [
            ("\x16\x03\x01\x02\x00\x01", Malformed::NoRequest),
            ("GET / HTTP/1.1\r\n\r\n", Malformed::NoRequest),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                Malformed::NoRequest,
            ),
            (
                "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
                Malformed::NoRequest,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
                Malformed::Body,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                Malformed::Body,
            ),
            (long.as_str(), Malformed::TooLarge),
            (many.as_str(), Malformed::TooLarge),
        ] {
            assert_eq!(parse(text), Err(why), "{text:.60}");
        }
    }

    #[test]
    fn a_name_that_could_be_anybodys_is_refused() {
        let hosts = ["porch.local".to_owned()];
        for (host, ours) in [
            ("localhost", true),
            ("localhost:1", true),
            ("127.0.0.1:8470", true),
            ("192.168.1.7", true),
            ("[::1]:8470", true),
            ("[fe80::1]", true),
            ("Porch.local.:80", true),
            ("porch.local.evil.example", false),
            ("evil.example:8470", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("[::1].evil.example", false),
            ("porch.local:80:90", false),
            ("porch.local@evil.example", false),
            ("", false),
        ] {
            let request = with(&format!("Host: {host}\r\n"));
            assert_eq!(request.is_for(&hosts), ours, "{host:?}");
        }
    }

    #[test]
    fn what_another_page_sends_is_not_our_own() {
        for (lines, own) in [
            ("", true),
            ("Origin: http://porch:80\r\n", true),
            ("Origin: https://porch:80\r\n", true),
            ("Origin: http://porch\r\n", false),
            ("Origin: http://evil.example\r\n", false),
            ("Origin: null\r\n", false),
            ("Sec-Fetch-Site: same-origin\r\n", true),
            ("Sec-Fetch-Site: none\r\n", true),
            ("Sec-Fetch-Site: same-site\r\n", false),
            ("Sec-Fetch-Site: cross-site\r\n", false),
            (
                "Origin: http://porch:80\r\nSec-Fetch-Site: cross-site\r\n",
                false,
            ),
        ] {
            let request = with(&format!("Host: porch:80\r\n{lines}"));
            assert_eq!(request.is_our_own(), own, "{lines:?}");
        }
    }
}
