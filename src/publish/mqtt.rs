//! Captions over MQTT 3.1.1.
//!
//! One thread owns the connection and polls it; the pipeline only ever hands packets over with
//! `try_publish`, so a broker that is slow, stuck or away can't hold it up. Each attempt to connect
//! gets a client of its own: nothing of an old session lingers in the library, and what has to
//! survive is in the outbox.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::{
    Client, ConnectReturnCode, Connection, ConnectionError, Event, LastWill, MqttOptions, Outgoing,
    Packet, PublishOptions, QoS, StateError,
};

use super::message::{CaptionMessage, OFFLINE, ONLINE, Topics};
use super::outbox::{Kind, Outbox};
use super::{PublishError, Publisher};
use crate::daemon::backoff::Backoff;
use crate::daemon::clock::Clock;
use crate::daemon::config::MqttConfig;
use crate::daemon::log_limit::LogLimit;
use crate::daemon::shutdown::Shutdown;

/// Both ways. rumqttc's own limit is 10 KiB, and a packet over it kills the connection some time
/// after it was accepted; so ours is set, and checked before a packet is handed over.
const MAX_PACKET: usize = 256 << 10;

/// Fixed header, topic length and packet id.
const PACKET_OVERHEAD: usize = 5 + 2 + 2;

/// Packets between the pipeline and the connection: enough for a burst, few enough that what is
/// sent is still news.
const HANDED_OVER: usize = 32;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A connection that lived so long was a good one: the next loss starts with a short wait again.
/// Not at the CONNACK: two clients with one id throw each other out right after it, and would do
/// so many times a second.
const GOOD_CONNECTION: Duration = Duration::from_secs(60);

const LOG_PERIOD: Duration = Duration::from_secs(300);

/// Publishes to a broker.
pub struct MqttPublisher {
    shared: Arc<Shared>,
}

struct Shared {
    config: MqttConfig,
    topics: Topics,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    outbox: Outbox,
    /// While connected.
    client: Option<Client>,
    /// Nothing is taken any more.
    closing: bool,
    /// The connection thread has ended.
    finished: bool,
}

/// Why a connection, or the attempt at one, is over.
enum End {
    /// We have said goodbye.
    Goodbye,
    Lost(ConnectionError),
}

impl MqttPublisher {
    /// Starts the connection's thread, which goes on trying until `shutdown`; that there is no
    /// broker is no error.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn start(
        config: MqttConfig,
        device: &str,
        clock: Arc<dyn Clock>,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            topics: Topics::new(&config.prefix, device),
            config,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let owned = Arc::clone(&shared);
        thread::Builder::new().name("mqtt".into()).spawn(move || {
            owned.keep_connected(&*clock, &shutdown);
            owned.lock().finished = true;
            owned.changed.notify_all();
        })?;
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
        for (topic, payload) in [
            (&shared.topics.caption, &caption),
            (&shared.topics.event, &event),
        ] {
            let bytes = PACKET_OVERHEAD + topic.len() + payload.len();
            if bytes > MAX_PACKET {
                return Err(PublishError::TooLarge {
                    bytes,
                    limit: MAX_PACKET,
                });
            }
        }
        let mut state = shared.lock();
        if state.closing {
            return Ok(());
        }
        state.outbox.set_caption(message.sequence, caption);
        shared.send_caption(&mut state);
        shared.send_event(&mut state, event);
        Ok(())
    }

    fn connected(&self) -> Option<bool> {
        Some(self.shared.lock().client.is_some())
    }

    fn close(&self, limit: Duration) {
        let start = Instant::now();
        let shared = &*self.shared;
        let mut state = shared.lock();
        state.closing = true;
        if state.finished || state.client.is_none() {
            return;
        }
        if !shared.hand_over(&mut state, Kind::Goodbye, OFFLINE.into()) {
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
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change under this lock is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self) -> String {
        format!("{}:{}", self.config.host, self.config.port)
    }

    fn options(&self) -> MqttOptions {
        let config = &self.config;
        // rumqttc joins host and port with a colon, so an IPv6 address needs its brackets.
        let host = if config.host.contains(':') && !config.host.starts_with('[') {
            format!("[{}]", config.host)
        } else {
            config.host.clone()
        };
        let mut options = MqttOptions::new(
            config.client_id.clone(),
            rumqttc::Broker::tcp(host, config.port),
        );
        let seconds = u16::try_from(config.keep_alive.as_secs()).unwrap_or(u16::MAX);
        options
            .set_keep_alive(seconds)
            .set_max_packet_size(MAX_PACKET, MAX_PACKET)
            .set_last_will(LastWill::new(
                self.topics.status.clone(),
                OFFLINE,
                QoS::AtLeastOnce,
                true,
            ));
        match (&config.username, &config.password) {
            (Some(user), Some(password)) => {
                options.set_credentials(user.clone(), password.expose().to_owned());
            }
            (Some(user), None) => {
                options.set_username(user.clone());
            }
            (None, _) => {}
        }
        options
    }

    /// The connection thread.
    fn keep_connected(&self, clock: &dyn Clock, shutdown: &Shutdown) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut limit = LogLimit::new(LOG_PERIOD);
        // How often in a row the broker has closed a young connection without a word.
        let mut thrown_out = 0;
        while !shutdown.requested() {
            let (client, mut connection) = match Client::builder(self.options())
                .capacity(HANDED_OVER)
                .try_build()
            {
                Ok(pair) => pair,
                Err(error) => {
                    tracing::error!(%error, "no MQTT client");
                    if backoff.wait(clock, shutdown) {
                        return;
                    }
                    continue;
                }
            };
            let mut connected_at = None;
            let end = self.serve(&client, &mut connection, clock, &mut connected_at);
            self.lock().client = None;
            let error = match end {
                End::Goodbye => return,
                End::Lost(error) => error,
            };
            let lived = connected_at.map(|at: Duration| clock.monotonic().saturating_sub(at));
            match lived {
                Some(lived) if lived >= GOOD_CONNECTION => {
                    backoff.reset();
                    limit.reset();
                    thrown_out = 0;
                }
                Some(_) if closed_by_broker(&error) => thrown_out += 1,
                _ => thrown_out = 0,
            }
            let text = self.explain(&error, lived.is_some(), thrown_out);
            if let Some(repeats) = limit.allow(&text, clock.monotonic()) {
                tracing::warn!(repeats, "{text}");
            }
            if backoff.wait(clock, shutdown) {
                return;
            }
        }
    }

    /// Polls one connection until it's over.
    fn serve(
        &self,
        client: &Client,
        connection: &mut Connection,
        clock: &dyn Clock,
        connected_at: &mut Option<Duration>,
    ) -> End {
        loop {
            let event = match connection.recv() {
                Ok(Ok(event)) => event,
                Ok(Err(error)) => return End::Lost(error),
                Err(_) => return End::Goodbye,
            };
            let done = match event {
                Event::Incoming(Packet::ConnAck(_)) => {
                    *connected_at = Some(clock.monotonic());
                    self.connected(client);
                    None
                }
                Event::Outgoing(Outgoing::Publish(id)) => self.lock().outbox.written(id),
                Event::Incoming(Packet::PubAck(ack)) => self.lock().outbox.acknowledged(ack.pkid),
                Event::Outgoing(Outgoing::Disconnect) => return End::Goodbye,
                _ => None,
            };
            match done {
                Some(Kind::Caption(_)) => self.send_caption(&mut self.lock()),
                // Fails only if the connection is gone, which the next poll tells.
                Some(Kind::Goodbye) => drop(client.try_disconnect_now()),
                Some(Kind::Online | Kind::Event) | None => {}
            }
        }
    }

    /// After each CONNACK: the broker may have restarted without its retained messages, and it has
    /// published our last will.
    fn connected(&self, client: &Client) {
        tracing::info!(
            broker = self.address(),
            client_id = self.config.client_id,
            "connected to the broker"
        );
        let mut state = self.lock();
        if state.closing {
            drop(client.try_disconnect_now());
            return;
        }
        state.client = Some(client.clone());
        state.outbox.connected();
        let dropped = std::mem::take(&mut state.outbox.events_dropped);
        if dropped > 0 {
            tracing::info!(dropped, "events were dropped while there was no connection");
        }
        self.hand_over(&mut state, Kind::Online, ONLINE.into());
        self.send_caption(&mut state);
    }

    fn send_caption(&self, state: &mut State) {
        if let Some((sequence, payload)) = state.outbox.caption_to_send() {
            let payload = payload.to_vec();
            // If there is no room now, the next caption or acknowledgement tries again.
            self.hand_over(state, Kind::Caption(sequence), payload);
        }
    }

    fn send_event(&self, state: &mut State, payload: Vec<u8>) {
        if !self.hand_over(state, Kind::Event, payload) {
            state.outbox.events_dropped += 1;
        }
    }

    /// Gives a packet to the client; false if there is no connection or no room.
    fn hand_over(&self, state: &mut State, kind: Kind, payload: Vec<u8>) -> bool {
        let Some(client) = &state.client else {
            return false;
        };
        let qos = if self.config.qos == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        };
        let (topic, qos, retain) = match kind {
            // Always acknowledged: whoever relies on `offline` relies on this topic.
            Kind::Online | Kind::Goodbye => (&self.topics.status, QoS::AtLeastOnce, true),
            Kind::Caption(_) => (&self.topics.caption, qos, true),
            // Never retained: a hub that restarts would take it for something that happens now.
            Kind::Event => (&self.topics.event, qos, false),
        };
        let options = PublishOptions::new(qos).retain(retain);
        match client.try_publish(topic.as_str(), payload, options) {
            Ok(()) => {
                state.outbox.handed_over(kind);
                true
            }
            Err(_) => false,
        }
    }

    /// One line for the log: what happened, and which key of the config to look at.
    fn explain(&self, error: &ConnectionError, was_connected: bool, thrown_out: u32) -> String {
        let broker = self.address();
        let id = &self.config.client_id;
        match error {
            ConnectionError::ConnectionRefused(code) => match code {
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                    match &self.config.username {
                        Some(user) => format!(
                            "the broker at {broker} refuses user {user:?}: wrong user or password, \
                             or not allowed; see mqtt.username and mqtt.password_file"
                        ),
                        None => format!(
                            "the broker at {broker} refuses clients without a user; set \
                             mqtt.username and mqtt.password_file"
                        ),
                    }
                }
                ConnectReturnCode::BadClientId => format!(
                    "the broker at {broker} refuses the client id {id:?}; see mqtt.client_id"
                ),
                _ => format!("the broker at {broker} refuses the connection: {code:?}"),
            },
            ConnectionError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                format!(
                    "nobody listens at {broker}; is the broker running, are mqtt.host and \
                     mqtt.port right?"
                )
            }
            ConnectionError::NetworkTimeout => format!(
                "no answer from {broker}; is the network up, are mqtt.host and mqtt.port right?"
            ),
            ConnectionError::MqttState(StateError::AwaitPingResp) => {
                format!("the broker at {broker} has stopped answering")
            }
            error if was_connected && thrown_out >= 2 => format!(
                "the broker at {broker} has closed the connection {thrown_out} times soon after it \
                 was made ({error}); most likely another client has the same id {id:?}: give each \
                 its own mqtt.client_id"
            ),
            error if was_connected => format!("the connection to {broker} is lost: {error}"),
            error => format!("can't connect to {broker} (mqtt.host, mqtt.port): {error}"),
        }
    }
}

/// MQTT 3.1.1 brokers close the older connection without a word when a second client comes with
/// the same id; a reset or an end of stream is all there is to see.
fn closed_by_broker(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::MqttState(StateError::ConnectionAborted) => true,
        ConnectionError::MqttState(StateError::Io(error)) | ConnectionError::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
}
