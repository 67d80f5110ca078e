//! The thread that owns the connection.

use std::time::Duration;

use rumqttc::{Client, Connection, ConnectionError, Event, LastWill, Outgoing, Packet, QoS};

use super::super::message::OFFLINE;
use super::super::outbox::Kind;
use super::explain::{closed_by_broker, explain, too_large_to_receive};
use super::options::{address, options};
use super::{HANDED_OVER, LOG_PERIOD, Shared};
use crate::daemon::backoff::Backoff;
use crate::daemon::log_limit::LogLimit;

/// So long no commands are taken after a packet that was too large to receive. MQTT 3.1.1 has no way
/// to refuse it, and a broker that retains it would send it again after each subscription.
const DEAF: Duration = Duration::from_secs(600);

const FIRST_WAIT: Duration = Duration::from_millis(500);

/// A connection that lived so long was a good one: the next loss starts with a short wait again.
/// Not at the CONNACK: two clients with one id throw each other out right after it, and would do
/// so many times a second.
const GOOD_CONNECTION: Duration = Duration::from_secs(60);

/// Why a connection, or the attempt at one, is over.
enum End {
    /// We have said goodbye.
    Goodbye,
    Lost(ConnectionError),
}

impl Shared {
    /// Connects again and again, until the shutdown.
    pub(super) fn keep_connected(&self) {
        let (clock, shutdown) = (&*self.around.clock, &self.around.shutdown);
        let mut backoff = Backoff::new(FIRST_WAIT, self.config.reconnect_max);
        let mut limit = LogLimit::new(LOG_PERIOD);
        // How often in a row the broker has closed a young connection without a word.
        let mut thrown_out = 0;
        while !shutdown.requested() {
            let mut options = options(&self.config, self.tls.as_ref());
            options.set_last_will(LastWill::new(
                self.topics.status.clone(),
                OFFLINE,
                QoS::AtLeastOnce,
                true,
            ));
            let (client, mut connection) =
                match Client::builder(options).capacity(HANDED_OVER).try_build() {
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
            let end = self.serve(&client, &mut connection, &mut connected_at);
            {
                let mut state = self.lock();
                state.client = None;
                self.changed.notify_all();
                if matches!(end, End::Lost(_)) {
                    // What was on its way is waiting again: it may expire, or make room.
                    state.outbox.lost(self.now());
                }
            }
            let error = match end {
                End::Goodbye => return,
                End::Lost(error) => error,
            };
            let lived = connected_at.map(|at: Duration| clock.monotonic().saturating_sub(at));
            if too_large_to_receive(&error) {
                self.be_deaf();
            }
            match lived {
                Some(lived) if lived >= GOOD_CONNECTION => {
                    backoff.reset();
                    limit.reset();
                    thrown_out = 0;
                }
                Some(_) if closed_by_broker(&error) => thrown_out += 1,
                _ => thrown_out = 0,
            }
            let text = explain(&self.config, &error, lived.is_some(), thrown_out);
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
                    *connected_at = Some(self.now());
                    self.connected(client);
                    None
                }
                Event::Outgoing(Outgoing::Publish(id)) => self.lock().outbox.written(id),
                Event::Incoming(Packet::PubAck(ack)) => {
                    let now = self.now();
                    self.lock().outbox.acknowledged(ack.pkid, now)
                }
                Event::Incoming(Packet::SubAck(ack)) => {
                    self.subscribed(&ack.return_codes);
                    None
                }
                Event::Incoming(Packet::Publish(publish)) => {
                    self.received(&publish);
                    None
                }
                Event::Outgoing(Outgoing::Disconnect) => return End::Goodbye,
                _ => None,
            };
            match done {
                // Fails only if the connection is gone, which the next poll tells.
                Some(Kind::Goodbye) => drop(client.try_disconnect_now()),
                Some(Kind::Latest(..) | Kind::Queued(_)) => {
                    let mut state = self.lock();
                    self.pump(&mut state);
                    if state.closing {
                        self.changed.notify_all();
                    }
                }
                None => {}
            }
        }
    }

    /// After each CONNACK: the broker may have restarted without its retained messages and our
    /// subscriptions, and it has published our last will.
    fn connected(&self, client: &Client) {
        tracing::info!(
            broker = address(&self.config),
            client_id = self.config.client_id,
            "connected to the broker"
        );
        let mut state = self.lock();
        if state.closing {
            drop(client.try_disconnect_now());
            return;
        }
        state.client = Some(client.clone());
        state.connections += 1;
        state.outbox.reconnected();
        if state.deaf_until.is_none() {
            self.subscribe(&state);
        }
        self.health_has_changed(&mut state);
        self.pump(&mut state);
    }

    fn be_deaf(&self) {
        let mut state = self.lock();
        state
            .rejections
            .count(super::super::commands::Reason::Oversized);
        state.deaf_until = Some(self.now().saturating_add(DEAF));
        self.health_has_changed(&mut state);
    }
}
