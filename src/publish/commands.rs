//! From a message on a command topic to a command, or to the reason why it's none.
//!
//! Whoever may publish to the broker may send anything here, so everything is bounded and checked
//! before it does something.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value};

use super::topics::{Topics, time_stamp};
use crate::daemon::controls::{Detail, Values};

/// Larger payloads aren't looked at.
pub(super) const MAX_PAYLOAD: usize = 4096;

/// A request with a `time` further from now than this is not for now.
const STALE: Duration = Duration::from_secs(60);

/// The longest time between two captions that can be set: a day.
const LONGEST_INTERVAL: f64 = 86_400.0;

/// Commands at once, and commands a second in the long run.
const BURST: f64 = 20.0;
const RATE: f64 = 2.0;

/// The settings that have `/set` and `/state`.
pub(super) const SETTINGS: [&str; 4] = ["enabled", "interval", "min_confidence", "detail"];

/// The payload of a press.
pub(super) const PRESS: &str = "PRESS";

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// A caption of the next frame, please.
    Describe,
    Set(Change),
    Request(Request),
}

/// Settings to change; what is `None` stays.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Change {
    pub(super) enabled: Option<bool>,
    pub(super) interval: Option<Duration>,
    pub(super) min_confidence: Option<f32>,
    pub(super) detail: Option<Detail>,
}

impl Change {
    pub(super) fn apply(self, values: &mut Values) {
        values.enabled = self.enabled.unwrap_or(values.enabled);
        values.interval = self.interval.unwrap_or(values.interval);
        values.min_confidence = self.min_confidence.unwrap_or(values.min_confidence);
        values.detail = self.detail.unwrap_or(values.detail);
    }
}

/// `request/<name>`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) name: String,
    /// What came with it, to be sent back.
    pub(super) id: Value,
    pub(super) what: Wish,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wish {
    Describe,
    Status,
    Version,
    Config,
    Set(Change),
}

/// Why a command isn't carried out; each reason has a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Over [`MAX_PAYLOAD`].
    Oversized,
    /// Not what the topic takes.
    Malformed,
    /// Kept by the broker: nobody knows when it was meant.
    Retained,
    /// Sent long ago.
    Stale,
    /// One of too many.
    Flooding,
}

/// How many commands were rejected, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Rejections {
    oversized: u64,
    malformed: u64,
    retained: u64,
    stale: u64,
    flooding: u64,
}

impl Rejections {
    pub(super) fn count(&mut self, reason: Reason) {
        *match reason {
            Reason::Oversized => &mut self.oversized,
            Reason::Malformed => &mut self.malformed,
            Reason::Retained => &mut self.retained,
            Reason::Stale => &mut self.stale,
            Reason::Flooding => &mut self.flooding,
        } += 1;
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rejected {
    pub(super) reason: Reason,
    /// What is wrong and what would be right.
    pub(super) problem: String,
    /// Who asked, if an answer is due: the request's name and id.
    pub(super) reply: Option<(String, Value)>,
}

/// Lets [`BURST`] commands through at once and [`RATE`] a second in the long run.
#[derive(Debug)]
pub(super) struct Gate {
    tokens: f64,
    filled: Duration,
}

impl Gate {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            tokens: BURST,
            filled: now,
        }
    }

    pub(super) fn admit(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(self.filled).as_secs_f64();
        self.tokens = (self.tokens + since * RATE).min(BURST);
        self.filled = now;
        let admitted = self.tokens >= 1.0;
        if admitted {
            self.tokens -= 1.0;
        }
        admitted
    }
}

/// The topics to subscribe to.
pub(super) fn filters(topics: &Topics) -> Vec<String> {
    let mut filters: Vec<_> = SETTINGS.iter().map(|name| topics.set(name)).collect();
    filters.push(topics.describe.clone());
    filters.push(format!("{}request/+", topics.base));
    filters
}

/// Reads one message on a topic of [`filters`]; `wall` is the date now.
pub(super) fn parse(
    topics: &Topics,
    topic: &str,
    payload: &[u8],
    retained: bool,
    gate: &mut Gate,
    (monotonic, wall): (Duration, SystemTime),
) -> Result<Command, Rejected> {
    let name = topic.strip_prefix(&topics.base).unwrap_or(topic);
    let reject = |reason, problem: String| Rejected {
        reason,
        problem,
        reply: None,
    };
    if retained {
        let problem = "it was retained, so nobody knows when it was meant; publish commands \
                       without the retain flag";
        return Err(reject(Reason::Retained, problem.into()));
    }
    if !gate.admit(monotonic) {
        let problem = format!("there are more than {RATE} commands a second");
        return Err(reject(Reason::Flooding, problem));
    }
    let request = name.strip_prefix("request/");
    if payload.len() > MAX_PAYLOAD {
        return Err(Rejected {
            reply: request
                .filter(|name| is_name(name))
                .map(|name| (name.into(), Value::Null)),
            ..reject(
                Reason::Oversized,
                format!("{} bytes, at most {MAX_PAYLOAD}", payload.len()),
            )
        });
    }
    if let Some(request) = request {
        return parse_request(request, payload, wall).map(Command::Request);
    }
    let malformed = |problem| reject(Reason::Malformed, problem);
    let text = std::str::from_utf8(payload).map_err(|_| malformed("it's no UTF-8".into()))?;
    // An empty payload is no press: it's how somebody clears a message that was retained.
    if name == "describe" {
        return if text == PRESS {
            Ok(Command::Describe)
        } else {
            Err(malformed(format!("{:?}, expected {PRESS}", clip(text))))
        };
    }
    let setting = name.strip_suffix("/set").unwrap_or_default();
    parse_setting(setting, text.trim())
        .map(Command::Set)
        .map_err(malformed)
}

fn parse_setting(setting: &str, text: &str) -> Result<Change, String> {
    let mut change = Change::default();
    let shown = clip(text);
    let number = || text.parse::<f64>().ok();
    match setting {
        "enabled" => {
            change.enabled = Some(match text {
                "ON" => true,
                "OFF" => false,
                _ => return Err(format!("{shown:?}, expected ON or OFF")),
            });
        }
        "interval" => change.interval = Some(interval(number(), &shown)?),
        "min_confidence" => change.min_confidence = Some(confidence(number(), &shown)?),
        "detail" => {
            change.detail = Some(match text {
                "short" => Detail::Short,
                "long" => Detail::Long,
                _ => return Err(format!("{shown:?}, expected short or long")),
            });
        }
        _ => return Err("no such setting".into()),
    }
    Ok(change)
}

fn interval(seconds: Option<f64>, shown: &str) -> Result<Duration, String> {
    match seconds {
        Some(seconds) if (0.0..=LONGEST_INTERVAL).contains(&seconds) => {
            // Milliseconds are enough, and come back out as they went in.
            Ok(Duration::from_millis((seconds * 1000.0).round() as u64))
        }
        _ => Err(format!(
            "{shown:?}, expected seconds from 0 to {LONGEST_INTERVAL}"
        )),
    }
}

fn confidence(value: Option<f64>, shown: &str) -> Result<f32, String> {
    match value {
        Some(value) if (0.0..=1.0).contains(&value) => Ok(value as f32),
        _ => Err(format!("{shown:?}, expected a number from 0 to 1")),
    }
}

fn parse_request(name: &str, payload: &[u8], wall: SystemTime) -> Result<Request, Rejected> {
    let answerable = is_name(name);
    let reject = |reason, id: Value, problem: String| Rejected {
        reason,
        problem,
        reply: answerable.then(|| (name.to_owned(), id)),
    };
    let mut keys: Map<String, Value> = serde_json::from_slice(payload).map_err(|error| {
        let problem = format!("expected a JSON object such as {{\"id\": 1}}: {error}");
        reject(Reason::Malformed, Value::Null, problem)
    })?;
    // Every request may have these two; the rest is its own.
    let id = match keys.remove("id").unwrap_or_default() {
        id @ (Value::Null | Value::Number(_)) => id,
        Value::String(id) if id.len() <= 64 => Value::String(id),
        _ => {
            let problem = "`id` is neither a number nor a string of at most 64 bytes".into();
            return Err(reject(Reason::Malformed, Value::Null, problem));
        }
    };
    if let Some(time) = keys.remove("time") {
        let Some(sent) = time
            .as_str()
            .and_then(|time| humantime::parse_rfc3339(time).ok())
        else {
            let problem = format!(
                "`time` is {}, expected RFC 3339 in UTC such as \"2026-03-01T06:30:12Z\"",
                clip(&time.to_string())
            );
            return Err(reject(Reason::Malformed, id, problem));
        };
        let apart = wall
            .duration_since(sent)
            .unwrap_or_else(|early| early.duration());
        if apart > STALE {
            let problem = format!(
                "`time` is {} s from the device's clock, which says {}; at most {} s",
                apart.as_secs(),
                time_stamp(wall),
                STALE.as_secs()
            );
            return Err(reject(Reason::Stale, id, problem));
        }
    }
    let what = match name {
        "describe" => Ok(Wish::Describe),
        "status" => Ok(Wish::Status),
        "version" => Ok(Wish::Version),
        "config" => Ok(Wish::Config),
        "set" => change(&keys).map(Wish::Set),
        _ => Err("no such request; there are describe, status, version, config and set".to_owned()),
    };
    let what = match what {
        Ok(what @ Wish::Set(_)) => what,
        Ok(what) => match keys.keys().next() {
            None => what,
            Some(key) => {
                let problem = format!("unknown key {:?}", clip(key));
                return Err(reject(Reason::Malformed, id, problem));
            }
        },
        Err(problem) => return Err(reject(Reason::Malformed, id, problem)),
    };
    Ok(Request {
        name: name.to_owned(),
        id,
        what,
    })
}

/// All of it is right, or nothing of it is done.
fn change(keys: &Map<String, Value>) -> Result<Change, String> {
    let mut change = Change::default();
    for (key, value) in keys {
        let shown = clip(&value.to_string());
        let outcome = match (key.as_str(), value) {
            ("enabled", Value::Bool(enabled)) => {
                change.enabled = Some(*enabled);
                Ok(())
            }
            ("enabled", _) => Err(format!("{shown}, expected true or false")),
            ("interval", value) => {
                interval(value.as_f64(), &shown).map(|value| change.interval = Some(value))
            }
            ("min_confidence", value) => {
                confidence(value.as_f64(), &shown).map(|value| change.min_confidence = Some(value))
            }
            ("detail", value) => serde_json::from_value(value.clone())
                .map(|value| change.detail = Some(value))
                .map_err(|_| format!("{shown}, expected \"short\" or \"long\"")),
            _ => Err("no such setting".into()),
        };
        outcome.map_err(|problem| format!("`{}`: {problem}", clip(key)))?;
    }
    Ok(change)
}

/// Names that may become part of the topic of an answer.
fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// So much of somebody's text is shown in an answer and in the log.
fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
#[path = "commands_tests.rs"]
mod tests;
