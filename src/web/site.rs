//! What is at which address, and for whom.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::aiming::Aiming;
use super::answer::Answer;
use super::page;
use super::pictures::{Looks, Pictures};
use super::request::{Method, Request};
use super::server::Handle;
use super::view::{Captioned, Seen, View};
use super::{Surroundings, memory};
use crate::daemon::config::{Secret, WebConfig};
use crate::daemon::log_limit::LogLimit;
use crate::frame::{FrameQuality, LEAST_SHARPNESS};
use crate::publish::{CameraState, time_stamp};

/// A page that knows everything waits so long for something new; shorter than what proxies and
/// browsers take for a dead connection.
const LONG_POLL: Duration = Duration::from_secs(10);

/// A wrong token is answered after so long.
const GUESS: Duration = Duration::from_millis(500);

/// Captions that are asked for by the page: one in so long.
const DESCRIBE: Duration = Duration::from_secs(1);

const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Answers requests.
pub(super) struct Site {
    view: Arc<View>,
    pictures: Pictures,
    policy: Arc<str>,
    token: Secret,
    hosts: Vec<String>,
    around: Surroundings,
    started: Duration,
    described: Mutex<Option<Duration>>,
    wrong: Mutex<LogLimit>,
}

impl Site {
    pub(super) fn new(view: Arc<View>, config: WebConfig, around: Surroundings) -> Self {
        Self {
            view,
            pictures: Pictures::new(around.limits),
            policy: page::policy(),
            token: config.token,
            hosts: config.hosts,
            started: around.clock.monotonic(),
            around,
            described: Mutex::new(None),
            wrong: Mutex::new(LogLimit::new(LOG_PERIOD)),
        }
    }

    /// The answer to one who hasn't the token; `None` to one who has.
    fn stop(&self, request: &Request, from: IpAddr) -> Option<Answer> {
        if !request.is_our_own() {
            return Some(Answer::text(
                "403 Forbidden",
                "Only the page itself may ask for that.",
            ));
        }
        let answer = |sentence| {
            Answer::text("401 Unauthorized", sentence).with("WWW-Authenticate: Bearer\r\n")
        };
        let Some(token) = &request.token else {
            return Some(answer("The token is missing."));
        };
        if self.is_the_token(token) {
            return None;
        }
        let text = format!("the page was asked for with a wrong token from {from}");
        let now = self.around.clock.monotonic();
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(repeats) = wrong.allow(&text, now) {
            tracing::warn!(repeats, "{text}");
        }
        drop(wrong);
        thread::sleep(GUESS);
        Some(answer("That isn't the token."))
    }

    /// In constant time. Digests are compared, so that not even the length can be measured.
    fn is_the_token(&self, given: &str) -> bool {
        let digest = |text: &str| <[u8; 32]>::from(Sha256::digest(text.as_bytes()));
        let (given, token) = (digest(given), digest(self.token.expose()));
        given[..].ct_eq(&token[..]).into()
    }

    fn state(&self, request: &Request) -> Answer {
        let seen = self.view.wait(request.number("after"), LONG_POLL);
        match serde_json::to_vec(&self.report(&seen)) {
            Ok(json) => Answer::json(json),
            Err(error) => Answer::text(
                "500 Internal Server Error",
                &format!("The state can't be written as JSON: {error}"),
            ),
        }
    }

    fn report<'a>(&'a self, seen: &'a Seen) -> Report<'a> {
        let Surroundings {
            device,
            controls,
            counters,
            clock,
            connected,
            ..
        } = &self.around;
        let (tally, values) = (counters.tally(), controls.values());
        Report {
            number: seen.number,
            device,
            version: env!("CARGO_PKG_VERSION"),
            time: time_stamp(clock.wall()),
            time_synchronised: clock.synchronised(),
            live: seen.live.as_ref().map(|frame| {
                let worked = |took| self.view.worked(frame.number, took);
                let measured = self.pictures.measure(frame, worked);
                Live {
                    number: frame.number,
                    age: self.view.age(frame.frame.taken).as_secs_f32(),
                    looks: measured.as_ref().ok().map(Looked::of),
                    problem: measured.err().map(|problem| problem.to_string()),
                }
            }),
            caption: seen.captioned.as_ref().map(|(captioned, at)| Newest {
                captioned,
                age: self.view.age(*at).as_secs_f32(),
                picture: seen.picture.as_ref().map(|picture| picture.number),
            }),
            refusal: seen.refusal.as_deref(),
            camera: seen.camera.as_ref().map(Camera::of),
            broker: connected(),
            health: Health {
                uptime: clock.monotonic().saturating_sub(self.started).as_secs(),
                captioned: tally.captioned,
                bad_frames: tally.bad,
                overtaken: tally.overtaken,
                withheld: tally.withheld,
                memory: memory(),
            },
            settings: Settings {
                enabled: values.enabled,
                interval: values.interval.as_secs_f64(),
                min_confidence: values.min_confidence,
            },
        }
    }

    fn picture(&self, path: &str) -> Answer {
        let seen = self.view.seen();
        let shown = match path {
            "/api/live.jpg" => seen.live.map(|frame| {
                let worked = |took| self.view.worked(frame.number, took);
                self.pictures.live(&frame, worked)
            }),
            _ => seen.picture.map(|frame| self.pictures.captioned(&frame)),
        };
        match shown {
            Some(Ok(jpeg)) => Answer::jpeg(jpeg),
            Some(Err(problem)) => Answer::text("404 Not Found", &problem),
            None => Answer::text("404 Not Found", "There is no picture yet."),
        }
    }

    fn describe(&self) -> Answer {
        let now = self.around.clock.monotonic();
        let mut described = self
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if described.is_some_and(|at| now.saturating_sub(at) < DESCRIBE) {
            return Answer::text("429 Too Many Requests", "Once a second is enough.")
                .with("Retry-After: 1\r\n");
        }
        *described = Some(now);
        drop(described);
        self.around.demand.press("the page");
        Answer::accepted()
    }
}

impl Handle for Site {
    fn answer(&self, request: &Request, from: IpAddr) -> Answer {
        if !request.is_for(&self.hosts) {
            return Answer::text(
                "421 Misdirected Request",
                "captiond: the page isn't reached by this name. Use the device's address in numbers, or add \
                 the name to `hosts` in the section [web] of the configuration.",
            );
        }
        let reads = matches!(request.method, Method::Get | Method::Head);
        let posts = request.method == Method::Post;
        let (allowed, allow) = match request.path.as_str() {
            "/" | "/api/state" | "/api/live.jpg" | "/api/captioned.jpg" => {
                (reads, "Allow: GET, HEAD\r\n")
            }
            "/api/describe" => (posts, "Allow: POST\r\n"),
            _ => return Answer::text("404 Not Found", "There is nothing at this address."),
        };
        if !allowed {
            let sentence = "That can't be done with this address.";
            return Answer::text("405 Method Not Allowed", sentence).with(allow);
        }
        if request.path == "/" {
            return Answer::page(page::HTML, Arc::clone(&self.policy));
        }
        if let Some(refusal) = self.stop(request, from) {
            return refusal;
        }
        match request.path.as_str() {
            "/api/state" => self.state(request),
            "/api/describe" => self.describe(),
            path => self.picture(path),
        }
    }
}

/// What `/api/state` says. Times are in seconds.
#[derive(Debug, Serialize)]
struct Report<'a> {
    number: u64,
    device: &'a str,
    version: &'static str,
    time: String,
    time_synchronised: bool,
    live: Option<Live>,
    caption: Option<Newest<'a>>,
    refusal: Option<&'a str>,
    camera: Option<Camera<'a>>,
    /// `null` without a broker in the configuration.
    broker: Option<bool>,
    health: Health,
    settings: Settings,
}

#[derive(Debug, Serialize)]
struct Live {
    number: u64,
    age: f32,
    #[serde(flatten)]
    looks: Option<Looked>,
    /// Why it can't be shown.
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Looked {
    width: u32,
    height: u32,
    quality: FrameQuality,
    aiming: Aiming,
    /// What `quality.sharpness` has to be at least.
    least_sharpness: f32,
}

impl Looked {
    fn of(looks: &Looks) -> Self {
        Self {
            width: looks.width,
            height: looks.height,
            quality: looks.quality,
            aiming: Aiming::of(&looks.quality),
            least_sharpness: LEAST_SHARPNESS,
        }
    }
}

#[derive(Debug, Serialize)]
struct Newest<'a> {
    #[serde(flatten)]
    captioned: &'a Captioned,
    age: f32,
    /// The `sequence` of the picture at `/api/captioned.jpg`.
    picture: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Camera<'a> {
    state: &'static str,
    reason: Option<&'a str>,
    since: String,
}

impl<'a> Camera<'a> {
    fn of(camera: &'a CameraState) -> Self {
        Self {
            state: camera.condition.name(),
            reason: camera.reason.as_deref(),
            since: time_stamp(camera.since),
        }
    }
}

#[derive(Debug, Serialize)]
struct Health {
    uptime: u64,
    captioned: u64,
    bad_frames: u64,
    overtaken: u64,
    withheld: u64,
    /// Bytes; `null` where the system doesn't tell.
    memory: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Settings {
    enabled: bool,
    interval: f64,
    min_confidence: f32,
}
