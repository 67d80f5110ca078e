//! What arrives: commands, and the hub's word that it has started.

use std::time::Duration;

use rumqttc::{Publish, QoS, SubscribeFilterInput, SubscribeReasonCode};
use serde_json::{Value, json};

use super::super::commands::{self, Change, Command, Reason, Rejected, Request, Wish};
use super::super::message::{ONLINE, SCHEMA};
use super::super::{answer, home_assistant};
use super::options::address;
use super::state::State;
use super::{MOST_ASKING, Shared};
use crate::daemon::trigger::demand::EXPIRES;

/// By then a request for a caption is answered, with or without one.
const DESCRIBE_WITHIN: Duration = EXPIRES;

impl Shared {
    /// Asks the broker for all that we listen to. Sessions are clean, so after each connect.
    pub(super) fn subscribe(&self, state: &State) {
        let Some(client) = &state.client else { return };
        let filters = self.filters();
        let filters = filters
            .into_iter()
            .map(|filter| SubscribeFilterInput::new(filter, QoS::AtLeastOnce));
        if let Err(error) = client.try_subscribe_many(filters) {
            tracing::error!(%error, "can't subscribe to the command topics");
        }
    }

    /// In the order of the answers to the subscription.
    fn filters(&self) -> Vec<String> {
        let mut filters = commands::filters(&self.topics);
        if let Some(hub) = &self.around.home_assistant {
            filters.push(home_assistant::birth_topic(&hub.discovery_prefix));
        }
        filters
    }

    /// The broker's answer to [`Shared::subscribe`].
    pub(super) fn subscribed(&self, codes: &[SubscribeReasonCode]) {
        for (filter, code) in self.filters().iter().zip(codes) {
            if matches!(code, SubscribeReasonCode::Failure) {
                let text = format!(
                    "the broker at {} doesn't let us subscribe to {filter}, so its commands don't \
                     arrive; see its access list",
                    address(&self.config)
                );
                self.warn(&mut self.lock(), &text);
            }
        }
    }

    /// A message on one of our topics.
    pub(super) fn received(&self, publish: &Publish) {
        // A topic that is no UTF-8 is none of ours.
        let Ok(topic) = std::str::from_utf8(&publish.topic) else {
            return;
        };
        if let Some(hub) = &self.around.home_assistant
            && topic == home_assistant::birth_topic(&hub.discovery_prefix)
        {
            // A retained one is old news: the announcement has just been made.
            if !publish.retain && publish.payload == ONLINE {
                self.announce_again(&mut self.lock());
            }
            return;
        }
        let now = (self.now(), self.around.clock.wall());
        let mut state = self.lock();
        let command = commands::parse(
            &self.topics,
            topic,
            &publish.payload,
            publish.retain,
            &mut state.gate,
            now,
        );
        let command = match command {
            Ok(command) => command,
            Err(rejected) => {
                self.reject(&mut state, topic, rejected);
                return;
            }
        };
        match command {
            Command::Describe => {
                drop(state);
                self.around.controls.describe();
            }
            Command::Set(change) => {
                drop(state);
                self.change(change);
            }
            Command::Request(request) => {
                drop(state);
                self.request(&request);
            }
        }
    }

    /// Not under our lock: the settings' listeners take it.
    fn change(&self, change: Change) {
        tracing::info!(?change, "settings changed over MQTT");
        self.around.controls.update(|values| change.apply(values));
    }

    fn request(&self, request: &Request) {
        let data = match &request.what {
            Wish::Describe => {
                let mut state = self.lock();
                if state.asking.len() < MOST_ASKING {
                    let by = self.now().saturating_add(DESCRIBE_WITHIN);
                    state.asking.push_back((request.id.clone(), by));
                    // The time by which it's answered is one more date for the chores.
                    self.changed.notify_all();
                    drop(state);
                    self.around.controls.describe();
                } else {
                    let busy = format!("{MOST_ASKING} requests wait for a frame already");
                    self.answer(&mut state, &request.name, answer::error(&request.id, &busy));
                    self.pump(&mut state);
                }
                return;
            }
            Wish::Set(change) => {
                self.change(*change);
                self.settings()
            }
            Wish::Status => self.status(),
            Wish::Version => json!({
                "version": env!("CARGO_PKG_VERSION"),
                "schema": SCHEMA,
                "pack": self.lock().pack,
            }),
            Wish::Config => self.configuration(),
        };
        let mut state = self.lock();
        self.answer(&mut state, &request.name, answer::ok(&request.id, &data));
        self.pump(&mut state);
    }

    fn settings(&self) -> Value {
        let values = self.around.controls.values();
        json!({
            "enabled": values.enabled,
            "interval": values.interval.as_secs_f64(),
            "min_confidence": answer::value(&values.min_confidence),
            "detail": values.detail,
        })
    }

    fn status(&self) -> Value {
        let settings = self.settings();
        let state = self.lock();
        json!({
            "settings": settings,
            "camera": state.camera.as_ref().map(|camera| camera.condition.name()),
            "health": self.health(&state, self.now()),
        })
    }

    /// What the daemon runs with; never a name or a secret that opens something.
    fn configuration(&self) -> Value {
        let config = &self.config;
        json!({
            "settings": self.settings(),
            "device": self.around.device,
            "prefix": config.prefix,
            "qos": config.qos,
            "keep_alive": config.keep_alive.as_secs(),
            "tls": config.tls.is_some(),
            "publish_image": config.publish_image,
            "health_interval": config.health_interval.as_secs(),
            "outbox": {
                "max_entries": config.outbox.max_entries,
                "max_bytes": config.outbox.max_bytes,
                "max_age": config.outbox.max_age.as_secs(),
                "on_disk": self.spool.is_some(),
            },
            "home_assistant": self.around.home_assistant.is_some(),
        })
    }

    fn reject(&self, state: &mut State, topic: &str, rejected: Rejected) {
        state.rejections.count(rejected.reason);
        self.health_has_changed(state);
        // Somebody else has written topic and text: shown as such, and no longer than they need be.
        let shown: String = topic.chars().take(200).collect();
        let text = match rejected.reason {
            Reason::Flooding => format!("commands rejected: {}", rejected.problem),
            _ => format!("command on {shown:?} rejected: {}", rejected.problem),
        };
        self.warn(state, &text);
        if let Some((name, id)) = rejected.reply {
            self.answer(state, &name, answer::error(&id, &rejected.problem));
            self.pump(state);
        }
    }
}
