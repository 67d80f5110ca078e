//! Answers, and the headers that all of them carry.

use std::fmt::Write as _;
use std::sync::Arc;

/// For everything but the page: nothing may be loaded or run, should a browser show it.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// What is sent back.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    status: &'static str,
    content_type: &'static str,
    policy: Arc<str>,
    /// More headers, each with its line end.
    more: &'static str,
    body: Arc<[u8]>,
}

impl Answer {
    fn new(status: &'static str, content_type: &'static str, body: Arc<[u8]>) -> Self {
        Self {
            status,
            content_type,
            policy: NOTHING.into(),
            more: "",
            body,
        }
    }

    /// The page, with its own policy.
    pub(super) fn page(html: &'static str, policy: Arc<str>) -> Self {
        Self {
            policy,
            ..Self::new("200 OK", "text/html; charset=utf-8", html.as_bytes().into())
        }
    }

    pub(super) fn json(body: Vec<u8>) -> Self {
        Self::new("200 OK", "application/json", body.into())
    }

    pub(super) fn jpeg(body: Arc<[u8]>) -> Self {
        Self::new("200 OK", "image/jpeg", body)
    }

    pub(super) fn accepted() -> Self {
        Self::text(
            "202 Accepted",
            "A caption of the next picture was asked for.",
        )
    }

    /// A status with a sentence for a person.
    pub(super) fn text(status: &'static str, sentence: &str) -> Self {
        let line = format!("{sentence}\n");
        Self::new(
            status,
            "text/plain; charset=utf-8",
            line.into_bytes().into(),
        )
    }

    /// With more headers; each ends with CR LF.
    pub(super) fn with(self, more: &'static str) -> Self {
        Self { more, ..self }
    }

    /// As it goes over the wire. Without its body for HEAD.
    pub(super) fn bytes(&self, with_body: bool) -> Vec<u8> {
        let mut head = String::with_capacity(512);
        // Writing to a String can't fail.
        let _ = write!(
            head,
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nContent-Security-Policy: {}\r\nX-Content-Type-Options: nosniff\r\n\
             X-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\n{}\r\n",
            self.status,
            self.content_type,
            self.body.len(),
            self.policy,
            self.more,
        );
        let mut bytes = head.into_bytes();
        if with_body {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}
