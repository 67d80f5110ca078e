//! Cameras in the network over HTTP: a snapshot again and again, or a stream of JPEG files
//! (`multipart/x-mixed-replace`), as IP cameras, ESP32-CAM, mjpg-streamer, ustreamer and motion
//! have them.
//!
//! What a server sends is not trusted: everything has a size and a time after which it's over.

use std::sync::Arc;
use std::time::Duration;

use super::mjpeg::{Splitter, first_frame};
use super::stall::StallDetector;
use super::{Frame, FrameSource, Pixels, SourceError};
use crate::daemon::clock::Clock;
use crate::daemon::shutdown::Shutdown;
use address::Address;
use body::Body;
use client::{Answer, Credentials, Fault, get};

pub mod address;
mod body;
pub mod client;

/// What both kinds have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSettings {
    /// The picture's or the stream's address.
    pub address: Address,
    /// For basic authentication.
    pub credentials: Option<Credentials>,
    /// Larger pictures are refused, in bytes.
    pub max_frame: usize,
    /// A server that has sent no whole picture for so long is hung up on.
    pub stall_after: Duration,
}

#[derive(Debug)]
struct Common {
    settings: HttpSettings,
    origin: String,
    clock: Arc<dyn Clock>,
    /// Since the newest whole picture, or since the connection for it was begun.
    stall: StallDetector,
}

impl Common {
    fn new(settings: HttpSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            origin: settings.address.to_string(),
            stall: StallDetector::new(settings.stall_after, Arc::clone(&clock)),
            settings,
            clock,
        }
    }

    fn get(&self, accept: &str, shutdown: &Shutdown) -> Result<Answer, Fault> {
        let credentials = self.settings.credentials.as_ref();
        get(&self.settings.address, credentials, accept, &|| {
            self.patient(shutdown)
        })
    }

    fn patient(&self, shutdown: &Shutdown) -> bool {
        !shutdown.requested() && !self.stall.left().is_zero()
    }

    fn lost(&self, reason: String) -> SourceError {
        SourceError::Lost {
            origin: self.origin.clone(),
            reason,
        }
    }

    fn bad(&self, reason: impl ToString) -> SourceError {
        SourceError::BadFrame {
            origin: self.origin.clone(),
            reason: reason.to_string(),
        }
    }

    /// What a fault means to the caller: `Ok` at a shutdown.
    fn fault(&self, fault: Fault, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        match fault {
            Fault::Failed(reason) => Err(self.lost(reason)),
            Fault::Impatient if shutdown.requested() => Ok(None),
            Fault::Impatient => self
                .stall
                .check(&self.origin, "the connection is closed and made again")
                .map(|()| None),
        }
    }

    fn frame(&mut self, bytes: Vec<u8>) -> Frame {
        self.stall.fresh();
        Frame {
            pixels: Pixels::Encoded(bytes),
            origin: self.origin.clone(),
            taken: self.clock.monotonic(),
        }
    }
}

/// Fetches one picture after the other.
#[derive(Debug)]
pub struct SnapshotSource {
    common: Common,
    poll: Duration,
    last_poll: Option<Duration>,
    /// Since the newest whole picture, through requests that brought none.
    whole: StallDetector,
}

impl SnapshotSource {
    /// From the start of one request to the start of the next: `poll`.
    pub fn new(settings: HttpSettings, poll: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            whole: StallDetector::new(settings.stall_after, Arc::clone(&clock)),
            common: Common::new(settings, clock),
            poll,
            last_poll: None,
        }
    }

    fn fetch(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        let common = &mut self.common;
        // So long each request may take.
        common.stall.fresh();
        let answer = match common.get("image/jpeg, image/png;q=0.9", shutdown) {
            Ok(answer) => answer,
            Err(fault) => return common.fault(fault, shutdown),
        };
        let (content_type, mut body) = (answer.content_type, answer.body);
        // Some small cameras name no type or the general one: then the bytes decide.
        if !content_type.starts_with("image/")
            && !["", "application/octet-stream"].contains(&&*content_type)
        {
            let stream = if content_type.starts_with("multipart/") {
                "; for a stream use kind = \"http-mjpeg\""
            } else {
                ""
            };
            return Err(common.lost(format!(
                "the answer is {content_type:?}, expected image/jpeg or image/png; correct \
                 source.url (is it the camera's own page?){stream}"
            )));
        }
        let most = common.settings.max_frame;
        let too_large = || common.bad(format!("more than {most} bytes (source.max_frame_bytes)"));
        if body.promised().is_some_and(|bytes| bytes > most as u64) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        loop {
            match body.read(&mut bytes, &|| common.patient(shutdown)) {
                Ok(true) if bytes.len() > most => return Err(too_large()),
                Ok(true) => {}
                Ok(false) => break,
                // It has begun well, so it's this picture that is bad.
                Err(Fault::Failed(reason)) => return Err(common.bad(reason)),
                Err(fault) => return common.fault(fault, shutdown),
            }
        }
        let bytes = if bytes.starts_with(b"\x89PNG") {
            bytes
        } else {
            first_frame(&bytes, most).map_err(|why| common.bad(why))?
        };
        Ok(Some(common.frame(bytes)))
    }
}

impl FrameSource for SnapshotSource {
    fn origin(&self) -> &str {
        &self.common.origin
    }

    fn next_frame(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        let clock = Arc::clone(&self.common.clock);
        if let Some(last) = self.last_poll {
            let left = (last + self.poll).saturating_sub(clock.monotonic());
            if clock.wait(left, shutdown) {
                return Ok(None);
            }
        }
        self.last_poll = Some(clock.monotonic());
        let mut fetched = self.fetch(shutdown);
        if let Err(SourceError::BadFrame { reason, .. }) = &fetched {
            let done = format!("asked again and again, the last one was bad: {reason}");
            if let Err(stalled) = self.whole.check(&self.common.origin, &done) {
                fetched = Err(stalled);
            }
        }
        if !matches!(fetched, Err(SourceError::BadFrame { .. })) {
            self.whole.fresh();
        }
        fetched
    }
}

/// Reads a stream of pictures.
#[derive(Debug)]
pub struct StreamSource {
    common: Common,
    splitter: Splitter,
    body: Option<Body>,
    piece: Vec<u8>,
}

impl StreamSource {
    /// Connects at the first frame, and again when the server closes.
    pub fn new(settings: HttpSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            splitter: Splitter::new(settings.max_frame),
            common: Common::new(settings, clock),
            body: None,
            piece: Vec::new(),
        }
    }

    fn open(&mut self, shutdown: &Shutdown) -> Result<Body, Fault> {
        self.common.stall.fresh();
        let answer = self
            .common
            .get("multipart/x-mixed-replace, image/jpeg", shutdown)?;
        let content_type = answer.content_type;
        if !content_type.starts_with("multipart/") {
            let snapshot = if content_type.starts_with("image/") {
                "; for single pictures use kind = \"http-snapshot\""
            } else {
                ""
            };
            return Err(Fault::Failed(format!(
                "the answer is {content_type:?}, expected multipart/x-mixed-replace; correct \
                 source.url (is it the camera's own page?){snapshot}"
            )));
        }
        tracing::info!(origin = self.common.origin, "stream opened");
        Ok(answer.body)
    }
}

impl FrameSource for StreamSource {
    fn origin(&self) -> &str {
        &self.common.origin
    }

    fn next_frame(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        loop {
            // The parts' own headers are passed over: the splitter finds the pictures by their
            // markers, so neither a wrong Content-Length of a part nor a boundary that isn't the
            // announced one (both are common) can do harm.
            match self.splitter.next_frame() {
                Some(Ok(bytes)) => return Ok(Some(self.common.frame(bytes))),
                Some(Err(why)) => {
                    if !self.common.patient(shutdown) {
                        self.restart();
                        return self.common.fault(Fault::Impatient, shutdown);
                    }
                    return Err(self.common.bad(why));
                }
                None => {}
            }
            let body = match self.body.take() {
                Some(body) => Ok(body),
                None => self.open(shutdown),
            };
            let read = body.and_then(|mut body| {
                self.piece.clear();
                let more = body.read(&mut self.piece, &|| self.common.patient(shutdown))?;
                Ok(more.then_some(body))
            });
            match read {
                Ok(Some(body)) => {
                    self.splitter.push(&self.piece);
                    self.body = Some(body);
                }
                Ok(None) => {
                    self.restart();
                    return Err(self.common.lost("the server ended the stream".into()));
                }
                Err(fault) => {
                    self.restart();
                    return self.common.fault(fault, shutdown);
                }
            }
        }
    }

    fn restart(&mut self) {
        self.body = None;
        self.splitter.finish();
    }
}
