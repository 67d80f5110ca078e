//! Captions over MQTT 3.1.1.
//!
//! One thread owns the connection and polls it; the pipeline only ever hands packets over with
//! `try_publish`, so a broker that is slow, stuck or away can't hold it up. Each attempt to connect
//! gets a client of its own: nothing of an old session lingers in the library, and what has to
//! survive is in the outbox. A second thread does what has its time: health, expiry, the answer to
//! a request that nothing came of.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::tokio_rustls::rustls::ClientConfig;
use rumqttc::{Client, PublishOptions, QoS};
use serde_json::{Value, json};

use super::commands::{Gate, Rejections, SETTINGS};
use super::message::{CaptionMessage, OFFLINE, ONLINE, Topics, short_text};
use super::outbox::{Bounds, Kind, Outbox, Packet, Queued, Slot};
use super::spool::Spool;
use super::{CameraState, Described, PublishError, Publisher, answer, home_assistant, picture};
use crate::daemon::clock::Clock;
use crate::daemon::config::{HomeAssistantConfig, MqttConfig};
use crate::daemon::controls::{Controls, Values};
use crate::daemon::counters::Counters;
use crate::daemon::log_limit::LogLimit;
use crate::daemon::shutdown::Shutdown;
use crate::source::Frame;

mod chores;
mod connection;
mod explain;
mod receive;
mod tls;

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

struct State {
    outbox: Outbox,
    slots: Slots,
    next_id: u64,
    /// While connected.
    client: Option<Client>,
    /// Nothing is taken any more.
    closing: bool,
    /// The connection thread has ended.
    finished: bool,
    /// Name and version of the pack that made the newest caption.
    pack: Option<String>,
    camera: Option<CameraState>,
    gate: Gate,
    rejections: Rejections,
    log: LogLimit,
    /// Requests for a caption, with the time by which they are answered.
    asking: VecDeque<(Value, Duration)>,
    too_large: u64,
    disk_errors: u64,
    connections: u64,
    chores: chores::Due,
    /// A packet was too large to receive: no commands until then, lest it come again.
    deaf_until: Option<Duration>,
}

/// The latest-value topics.
struct Slots {
    status: Slot,
    discovery: Option<Slot>,
    settings: [Slot; SETTINGS.len()],
    camera: Slot,
    health: Slot,
    caption: Slot,
    text: Slot,
    image: Slot,
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
        let event = serde_json::to_vec(&message.event())?;
        shared.check_size(&shared.topics.caption, &caption)?;
        shared.check_size(&shared.topics.event, &event)?;
        let id = {
            let mut state = shared.lock();
            if state.closing {
                return Ok(());
            }
            state.pack = Some(message.pack.to_owned());
            state.new_id()
        };
        // Before it can be sent, and without the lock: a disk may take its time.
        let on_disk = shared.keep(id, &event);
        let mut state = shared.lock();
        if state.closing {
            return Ok(());
        }
        let (slots_caption, slots_text) = (state.slots.caption, state.slots.text);
        state.outbox.set(slots_caption, caption);
        state
            .outbox
            .set(slots_text, short_text(message.caption).into_bytes());
        let expires = shared.now().saturating_add(shared.config.outbox.max_age);
        state.outbox.push(Queued {
            id,
            topic: shared.topics.event.clone(),
            payload: event,
            expires,
            made: None,
            on_disk,
            always_acknowledged: false,
            sent: false,
        });
        shared.pump(&mut state);
        Ok(())
    }

    fn publish_picture(&self, frame: &Frame) -> Result<(), PublishError> {
        let shared = &*self.shared;
        if !shared.config.publish_image {
            return Ok(());
        }
        let limit = MAX_PACKET - PACKET_OVERHEAD - shared.topics.image.len();
        let jpeg = picture::jpeg(frame, limit)?;
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
        shared.health_has_changed(&mut state);
        shared.pump(&mut state);
    }

    fn described(&self, outcome: &Described<'_>) {
        let shared = &*self.shared;
        let mut state = shared.lock();
        for (id, _) in std::mem::take(&mut state.asking) {
            let payload = match outcome {
                Described::Caption(message) => answer::ok(&id, &answer::value(&message.event())),
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

    fn close(&self, limit: Duration) {
        let start = Instant::now();
        let shared = &*self.shared;
        let mut state = shared.lock();
        state.closing = true;
        shared.changed.notify_all();
        let (waiting, _) = state.outbox.waiting();
        if waiting > 0 {
            let kept = shared.spool.is_some();
            tracing::info!(
                waiting,
                kept,
                "stopping before the broker has acknowledged all events"
            );
        }
        if state.finished || state.client.is_none() {
            return;
        }
        let goodbye = Packet {
            kind: Kind::Goodbye,
            topic: shared.topics.status.clone(),
            payload: OFFLINE.into(),
            retain: true,
            always_acknowledged: true,
        };
        if !shared.hand_over(&mut state, goodbye) {
            // The last will says it instead, once the broker sees that we are gone.
            tracing::warn!("no room to say goodbye to the broker");
            return;
        }
        // The connection thread disconnects once the broker has acknowledged the goodbye.
        while !state.finished {
            let Some(left) = limit
                .checked_sub(start.elapsed())
                .filter(|left| !left.is_zero())
            else {
                tracing::warn!("the broker hasn't acknowledged our goodbye; its last will stands");
                return;
            };
            (state, _) = shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn new(config: MqttConfig, tls: Option<Arc<ClientConfig>>, around: Surroundings) -> Self {
        let topics = Topics::new(&config.prefix, &around.device);
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
        let now = around.clock.monotonic();
        let mut state = State {
            outbox,
            slots,
            next_id: 1,
            client: None,
            closing: false,
            finished: false,
            pack: None,
            camera: None,
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
            let device = home_assistant::discovery(&topics, &around.device, config.publish_image);
            state.outbox.set(slot, device.to_string().into_bytes());
        }
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
        });
    }

    /// Hands over what there is to hand over, as long as there's room; the next acknowledgement
    /// goes on.
    fn pump(&self, state: &mut State) {
        let (now, wall) = (self.now(), self.around.clock.wall());
        while state.client.is_some() && !state.closing {
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
        if state.chores.dropped != state.outbox.dropped() {
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

impl State {
    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn set_settings(&mut self, values: &Values) {
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
    fn restore(
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
            });
        }
        (Some(spool), found.damaged)
    }
}
