//! What the publisher knows, under its one lock.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use rumqttc::Client;
use serde_json::Value;

use super::super::commands::{Gate, Rejections, SETTINGS};
use super::super::message::ONLINE;
use super::super::outbox::{Bounds, Outbox, Queued, Slot};
use super::super::spool::Spool;
use super::super::topics::Topics;
use super::super::{CameraState, home_assistant};
use super::{LOG_PERIOD, Surroundings, chores};
use crate::daemon::config::MqttConfig;
use crate::daemon::controls::Values;
use crate::daemon::log_limit::LogLimit;

pub(super) struct State {
    pub(super) outbox: Outbox,
    pub(super) slots: Slots,
    pub(super) next_id: u64,
    /// While connected.
    pub(super) client: Option<Client>,
    /// Nothing is taken any more.
    pub(super) closing: bool,
    /// Nothing is sent any more.
    pub(super) goodbye_said: bool,
    /// The connection thread has ended.
    pub(super) finished: bool,
    /// Name and version of the pack that made the newest caption.
    pub(super) pack: Option<String>,
    pub(super) camera: Option<CameraState>,
    /// [`Shared::clock_start`](super::Shared::clock_start) when the camera's state was told.
    pub(super) camera_clock: SystemTime,
    pub(super) gate: Gate,
    pub(super) rejections: Rejections,
    pub(super) log: LogLimit,
    /// Requests for a caption, with the time by which they are answered.
    pub(super) asking: VecDeque<(Value, Duration)>,
    pub(super) too_large: u64,
    pub(super) disk_errors: u64,
    pub(super) connections: u64,
    pub(super) chores: chores::Due,
    /// A packet was too large to receive: no commands until then, lest it come again.
    pub(super) deaf_until: Option<Duration>,
}

/// The latest-value topics.
pub(super) struct Slots {
    pub(super) status: Slot,
    pub(super) discovery: Option<Slot>,
    pub(super) settings: [Slot; SETTINGS.len()],
    pub(super) camera: Slot,
    pub(super) health: Slot,
    pub(super) caption: Slot,
    pub(super) text: Slot,
    pub(super) image: Slot,
}

impl State {
    /// Nothing has happened yet; the settings and the announcement wait for the first connection.
    pub(super) fn new(
        config: &MqttConfig,
        around: &Surroundings,
        topics: &Topics,
        now: Duration,
    ) -> Self {
        let bounds = Bounds {
            entries: config.outbox.max_entries,
            bytes: config.outbox.max_bytes,
        };
        let mut outbox = Outbox::new(bounds);
        // In the order in which a new subscriber would like to have them.
        let slots = Slots {
            status: outbox.latest(&topics.status, true),
            discovery: around.home_assistant.as_ref().map(|hub| {
                let prefix = &hub.discovery_prefix;
                outbox.latest(
                    &home_assistant::discovery_topic(prefix, &around.device),
                    true,
                )
            }),
            settings: SETTINGS.map(|name| outbox.latest(&topics.state(name), true)),
            camera: outbox.latest(&topics.camera_status, true),
            health: outbox.latest(&topics.health, true),
            caption: outbox.latest(&topics.caption, false),
            text: outbox.latest(&topics.caption_text, false),
            image: outbox.latest(&topics.image, false),
        };
        let mut state = State {
            outbox,
            slots,
            next_id: 1,
            client: None,
            closing: false,
            goodbye_said: false,
            finished: false,
            pack: None,
            camera: None,
            camera_clock: SystemTime::UNIX_EPOCH,
            gate: Gate::new(now),
            rejections: Rejections::default(),
            log: LogLimit::new(LOG_PERIOD),
            asking: VecDeque::new(),
            too_large: 0,
            disk_errors: 0,
            connections: 0,
            chores: chores::Due::new(now),
            deaf_until: None,
        };
        state.outbox.set(state.slots.status, ONLINE.into());
        state.set_settings(&around.controls.values());
        if let Some(slot) = state.slots.discovery {
            let device = home_assistant::discovery(topics, &around.device, config.publish_image);
            state.outbox.set(slot, device.to_string().into_bytes());
        }
        state
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn set_settings(&mut self, values: &Values) {
        let texts = [
            if values.enabled { "ON" } else { "OFF" }.to_owned(),
            values.interval.as_secs_f64().to_string(),
            values.min_confidence.to_string(),
            values.detail.name().to_owned(),
        ];
        for (slot, text) in self.slots.settings.into_iter().zip(texts) {
            if self.outbox.value(slot) != text.as_bytes() {
                self.outbox.set(slot, text.into_bytes());
            }
        }
    }

    /// Opens the outbox's folder and queues what it holds.
    pub(super) fn restore(
        &mut self,
        config: &MqttConfig,
        topics: &Topics,
        now: Duration,
    ) -> (Option<Spool>, u64) {
        let Some(folder) = &config.outbox.folder else {
            return (None, 0);
        };
        let (spool, found) = match Spool::open(folder) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(
                    "mqtt.outbox_dir {}: {error}; events are kept in memory only",
                    folder.display()
                );
                self.disk_errors += 1;
                return (None, 0);
            }
        };
        self.next_id = found.next_id.max(1);
        if !found.events.is_empty() {
            tracing::info!(events = found.events.len(), "found in the outbox");
        }
        let lives = config.outbox.max_age;
        for event in found.events {
            self.outbox.push(Queued {
                id: event.id,
                topic: topics.event.clone(),
                payload: event.payload,
                expires: now.saturating_add(lives),
                made: Some((event.made, lives)),
                on_disk: true,
                always_acknowledged: false,
                sent: false,
                acknowledged_before: false,
            });
        }
        (Some(spool), found.damaged)
    }
}
