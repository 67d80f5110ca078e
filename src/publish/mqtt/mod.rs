//! Captions over MQTT 3.1.1.
//!
//! One thread owns the connection and polls it; the pipeline only ever hands packets over with
//! `try_publish`, so a broker that is slow, stuck or away can't hold it up. Each attempt to connect
//! gets a client of its own: nothing of an old session lingers in the library, and what has to
//! survive is in the outbox. A second thread does what has its time: health, expiry, the answer to
//! a request that nothing came of.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rumqttc::tokio_rustls::rustls::ClientConfig;
use rumqttc::{PublishOptions, QoS};
use serde_json::json;

use super::message::{CaptionMessage, OFFLINE, short_text};
use super::outbox::{Kind, Packet, Queued};
use super::spool::Spool;
use super::topics::Topics;
use super::{CameraState, Described, PublishError, Publisher, answer, picture};
use crate::daemon::clock::Clock;
use crate::daemon::config::{HomeAssistantConfig, MqttConfig};
use crate::daemon::controls::{Controls, Detail};
use crate::daemon::counters::Counters;
use crate::daemon::shutdown::Shutdown;
use crate::frame::Limits;
use crate::source::Frame;

mod chores;
mod connection;
mod explain;
mod options;
mod receive;
mod state;
mod tls;

pub(crate) use explain::explain;
pub(crate) use options::{address, unnoticed};
use state::State;

/// Outgoing. rumqttc's own limit is 10 KiB, and a packet over it kills the connection some time
/// after it was accepted; so ours is set, and checked before a packet is handed over.
const MAX_PACKET: usize = 256 << 10;

/// Fixed header, topic length and packet id.
const PACKET_OVERHEAD: usize = 5 + 2 + 2;

/// Packets between us and the connection: the outbox's window and room for the goodbye.
const HANDED_OVER: usize = 64;

/// An answer that is older is no use to whoever asked.
const ANSWER_LIVES: Duration = Duration::from_secs(30);

/// Requests for a caption that wait for one frame.
const MOST_ASKING: usize = 16;

const LOG_PERIOD: Duration = Duration::from_secs(300);

/// What the publisher needs besides the `[mqtt]` section.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The device's id.
    pub device: String,
    /// `[home_assistant]`, if the hub is to be told.
    pub home_assistant: Option<HomeAssistantConfig>,
    /// What commands change.
    pub controls: Controls,
    /// What `health` tells.
    pub counters: Arc<Counters>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ends the attempts to connect.
    pub shutdown: Shutdown,
    /// What decoding a picture for `image` may cost.
    pub limits: Limits,
}

/// Publishes to a broker and obeys commands.
pub struct MqttPublisher {
    shared: Arc<Shared>,
}

struct Shared {
    config: MqttConfig,
    around: Surroundings,
    topics: Topics,
    spool: Option<Spool>,
    /// Damaged files that were found at the start.
    damaged: u64,
    started: Duration,
    /// `[mqtt.tls]`, ready for use.
    tls: Option<Arc<ClientConfig>>,
    state: Mutex<State>,
    changed: Condvar,
}

impl MqttPublisher {
    /// Starts the connection's thread, which goes on trying until the shutdown; that there is no
    /// broker is no error. Events of an earlier run are read from the outbox's folder; if that
    /// can't be used the log says so, and events are kept in memory.
    ///
    /// # Errors
    /// When `[mqtt.tls]` has a certificate or a key that can't be used, or a thread can't be started.
    pub fn start(config: MqttConfig, around: Surroundings) -> io::Result<Self> {
        let tls = config.tls.as_ref().map(tls::client_config);
        let tls = tls.transpose().map_err(io::Error::other)?;
        if config.password_is_open() {
            tracing::warn!(
                broker = address(&config),
                "the broker's password goes over the network for all to read; add [mqtt.tls]"
            );
        }
        let shared = Arc::new(Shared::new(config, tls, around));
        let for_changes: Weak<Shared> = Arc::downgrade(&shared);
        shared.around.controls.on_change(move |values| {
            if let Some(shared) = for_changes.upgrade() {
                let mut state = shared.lock();
                state.set_settings(values);
                shared.pump(&mut state);
            }
        });
        let owned = Arc::clone(&shared);
        thread::Builder::new().name("mqtt".into()).spawn(move || {
            owned.keep_connected();
            owned.lock().finished = true;
            owned.changed.notify_all();
        })?;
        let owned = Arc::clone(&shared);
        thread::Builder::new()
            .name("mqtt-chores".into())
            .spawn(move || owned.do_chores())?;
        Ok(Self { shared })
    }
}

impl Publisher for MqttPublisher {
    fn name(&self) -> &str {
        "mqtt"
    }

    fn publish(&self, message: &CaptionMessage<'_>) -> Result<(), PublishError> {
        let shared = &*self.shared;
        let caption = serde_json::to_vec(message)?;
        shared.check_size(&shared.topics.caption, &caption)?;
        shared.publish_event(message, |state| {
            let (slots_caption, slots_text) = (state.slots.caption, state.slots.text);
            state.outbox.set(slots_caption, caption);
            let text = short_text(message.spoken).into_bytes();
            state.outbox.set(slots_text, text);
        })
    }

    fn unsure(&self, message: &CaptionMessage<'_>) -> Result<(), PublishError> {
        // The event alone: `caption` stays what was said last, as with no picture at all.
        self.shared.publish_event(message, |_| ())
    }

    fn publish_picture(&self, frame: &Frame) -> Result<(), PublishError> {
        let shared = &*self.shared;
        if !shared.config.publish_image {
            return Ok(());
        }
        let limit = MAX_PACKET - PACKET_OVERHEAD - shared.topics.image.len();
        let jpeg = picture::jpeg(frame, limit, shared.around.limits)?;
        let mut state = shared.lock();
        let slot = state.slots.image;
        state.outbox.set(slot, jpeg);
        shared.pump(&mut state);
        Ok(())
    }

    fn camera(&self, camera: &CameraState) {
        let shared = &*self.shared;
        let mut state = shared.lock();
        let slot = state.slots.camera;
        state.outbox.set(slot, camera.payload());
        state.camera = Some(camera.clone());
        state.camera_clock = shared.clock_start();
        shared.health_has_changed(&mut state);
        shared.pump(&mut state);
    }

    fn described(&self, outcome: &Described<'_>) {
        let shared = &*self.shared;
        let mut state = shared.lock();
        for (id, _) in std::mem::take(&mut state.asking) {
            let payload = match outcome {
                Described::Caption(message) => {
                    answer::ok(&id, &answer::value(&message.event(shared.detail())))
                }
                Described::Withheld { confidence } => {
                    let confidence = answer::value(confidence);
                    answer::ok(&id, &json!({"withheld": true, "confidence": confidence}))
                }
                Described::Failed(reason) => {
                    answer::error(&id, &format!("the frame can't be captioned: {reason}"))
                }
            };
            shared.answer(&mut state, "describe", payload);
        }
        shared.pump(&mut state);
    }

    fn connected(&self) -> Option<bool> {
        Some(self.shared.lock().client.is_some())
    }

    fn close(&self, limit: Duration) {
        let start = Instant::now();
        let shared = &*self.shared;
        let mut state = shared.lock();
        state.closing = true;
        shared.changed.notify_all();
        // Half of the time for what is still waiting, the other half for the goodbye.
        state = shared.wait_until(state, start, limit / 2, |state| {
            state.client.is_none() || state.finished || state.outbox.waiting().0 == 0
        });
        shared.say_goodbye(state, start, limit);
        let (waiting, _) = shared.lock().outbox.waiting();
        if waiting > 0 {
            let on_disk = shared.spool.is_some();
            tracing::warn!(
                waiting,
                on_disk,
                "stopping before the broker has acknowledged all events"
            );
        }
    }
}

impl Shared {
    fn new(config: MqttConfig, tls: Option<Arc<ClientConfig>>, around: Surroundings) -> Self {
        let topics = Topics::new(&config.prefix, &around.device);
        let now = around.clock.monotonic();
        let mut state = State::new(&config, &around, &topics, now);
        let (spool, damaged) = state.restore(&config, &topics, now);
        Self {
            config,
            around,
            topics,
            spool,
            damaged,
            started: now,
            tls,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change under this lock is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, until `done` or until `limit` after `start`.
    fn wait_until<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        start: Instant,
        limit: Duration,
        done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        while !done(&state) {
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            (state, _) = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn say_goodbye(&self, mut state: MutexGuard<'_, State>, start: Instant, limit: Duration) {
        state.goodbye_said = true;
        if state.finished || state.client.is_none() {
            return;
        }
        let goodbye = Packet {
            kind: Kind::Goodbye,
            topic: self.topics.status.clone(),
            payload: OFFLINE.into(),
            retain: true,
            always_acknowledged: true,
        };
        if !self.hand_over(&mut state, goodbye) {
            // The last will says it instead, once the broker sees that we are gone.
            tracing::warn!("no room to say goodbye to the broker");
            return;
        }
        // The connection thread disconnects once the broker has acknowledged the goodbye.
        let state = self.wait_until(state, start, limit, |state| state.finished);
        if !state.finished {
            tracing::warn!("the broker hasn't acknowledged our goodbye; its last will stands");
        }
    }

    /// The date at the monotonic clock's start, by the wall clock as it is now; it changes when that is set.
    fn clock_start(&self) -> SystemTime {
        let wall = self.around.clock.wall();
        wall.checked_sub(self.now()).unwrap_or(wall)
    }

    fn detail(&self) -> Detail {
        self.around.controls.values().detail
    }

    fn now(&self) -> Duration {
        self.around.clock.monotonic()
    }

    fn check_size(&self, topic: &str, payload: &[u8]) -> Result<(), PublishError> {
        let bytes = PACKET_OVERHEAD + topic.len() + payload.len();
        if bytes <= MAX_PACKET {
            return Ok(());
        }
        let mut state = self.lock();
        state.too_large += 1;
        self.health_has_changed(&mut state);
        Err(PublishError::TooLarge {
            bytes,
            limit: MAX_PACKET,
        })
    }

    /// Queues the event of `message`, with what goes beside it.
    fn publish_event(
        &self,
        message: &CaptionMessage<'_>,
        beside: impl FnOnce(&mut State),
    ) -> Result<(), PublishError> {
        let event = serde_json::to_vec(&message.event(self.detail()))?;
        self.check_size(&self.topics.event, &event)?;
        let id = {
            let mut state = self.lock();
            if state.closing {
                return Ok(());
            }
            state.pack = Some(message.pack.to_owned());
            state.new_id()
        };
        // Before it can be sent, and without the lock: a disk may take its time.
        let on_disk = self.keep(id, &event);
        let mut state = self.lock();
        if state.closing {
            return Ok(());
        }
        beside(&mut state);
        let expires = self.now().saturating_add(self.config.outbox.max_age);
        state.outbox.push(Queued {
            id,
            topic: self.topics.event.clone(),
            payload: event,
            expires,
            made: None,
            on_disk,
            always_acknowledged: false,
            sent: false,
            acknowledged_before: false,
        });
        self.pump(&mut state);
        Ok(())
    }

    /// Puts an event on the disk, if there is a folder for them; true if it's there.
    fn keep(&self, id: u64, event: &[u8]) -> bool {
        let Some(spool) = &self.spool else {
            return false;
        };
        let Err(error) = spool.keep(id, self.around.clock.wall(), event) else {
            return true;
        };
        let mut state = self.lock();
        state.disk_errors += 1;
        self.health_has_changed(&mut state);
        let text = format!("an event can't be kept on the disk, only in memory: {error}");
        self.warn(&mut state, &text);
        false
    }

    fn warn(&self, state: &mut State, text: &str) {
        if let Some(repeats) = state.log.allow(text, self.now()) {
            tracing::warn!(repeats, "{text}");
        }
    }

    /// Queues an answer to `request/<name>`.
    fn answer(&self, state: &mut State, name: &str, payload: Vec<u8>) {
        let id = state.new_id();
        state.outbox.push(Queued {
            id,
            topic: self.topics.response(name),
            payload,
            expires: self.now().saturating_add(ANSWER_LIVES),
            made: None,
            on_disk: false,
            always_acknowledged: true,
            sent: false,
            acknowledged_before: false,
        });
    }

    /// Hands over what there is to hand over, as long as there's room; the next acknowledgement
    /// goes on.
    fn pump(&self, state: &mut State) {
        let (now, wall) = (self.now(), self.around.clock.wall());
        while state.client.is_some() && !state.goodbye_said {
            let Some(packet) = state.outbox.next(now, wall) else {
                break;
            };
            if !self.hand_over(state, packet) {
                break;
            }
        }
        let left = state.outbox.take_erasable();
        if let Some(spool) = &self.spool {
            left.into_iter().for_each(|id| spool.erase(id));
        }
        // That all has gone is news as well: a hub would show a full outbox for another minute.
        let emptied = state.chores.events_waited && state.outbox.waiting().0 == 0;
        if emptied || state.chores.dropped != state.outbox.dropped() {
            self.health_has_changed(state);
        }
    }

    /// Gives a packet to the client; false if there is no connection or no room.
    fn hand_over(&self, state: &mut State, packet: Packet) -> bool {
        let Some(client) = &state.client else {
            return false;
        };
        let qos = if self.config.qos == 0 && !packet.always_acknowledged {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        };
        let options = PublishOptions::new(qos).retain(packet.retain);
        match client.try_publish(packet.topic, packet.payload, options) {
            Ok(()) => {
                state.outbox.handed_over(packet.kind);
                true
            }
            Err(_) => false,
        }
    }
}
