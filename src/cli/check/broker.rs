//! The broker: connected to with a client id of its own and without a last will, so that a running
//! daemon isn't thrown out and no subscriber sees anything.

use std::time::Duration;

use rumqttc::{Client, ConnectReturnCode, ConnectionError, Event, Packet};

use super::Check;
use crate::daemon::config::MqttConfig;
use crate::publish::mqtt::{address, explain, unnoticed};

const NAME: &str = "broker";
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn check(config: &MqttConfig) -> Check {
    let address = address(config);
    match connect(config) {
        Ok(()) if config.password_is_open() => Check::warning(
            NAME,
            format!("{address} lets us in; the password goes over the network for all to read"),
            "add [mqtt.tls]",
        ),
        Ok(()) => Check::ok(
            NAME,
            match &config.username {
                Some(user) => format!("{address} lets {user:?} in"),
                None => format!("{address} lets us in without a user"),
            },
        ),
        Err(Refused::Code(code)) => {
            let credentials = matches!(
                code,
                ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized
            );
            let todo = if credentials {
                "correct mqtt.username and mqtt.password_file, or the broker's list of users"
            } else {
                "look into the broker's log"
            };
            Check::problem(NAME, format!("{address} refuses us: {code:?}"), todo)
        }
        Err(Refused::Options(reason)) => Check::problem(NAME, reason, "correct [mqtt.tls]"),
        Err(Refused::Unreachable(reason)) => Check::problem(
            NAME,
            reason,
            format!(
                "start the broker, or correct mqtt.host{} and mqtt.port; until then captions are \
                 spoken or kept, not published",
                if config.tls.is_some() {
                    ", [mqtt.tls]"
                } else {
                    ""
                }
            ),
        ),
    }
}

enum Refused {
    /// By ourselves: what is wrong in the configuration.
    Options(String),
    Code(ConnectReturnCode),
    Unreachable(String),
}

fn connect(config: &MqttConfig) -> Result<(), Refused> {
    let options = unnoticed(config).map_err(Refused::Options)?;
    let (client, mut connection) = Client::builder(options)
        .capacity(1)
        .try_build()
        .map_err(|error| Refused::Unreachable(error.to_string()))?;
    loop {
        match connection.recv_timeout(PATIENCE) {
            Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                drop(client.try_disconnect_now());
                // Until it's written; that the broker then hangs up is no error.
                while let Ok(Ok(_)) = connection.recv_timeout(Duration::from_millis(200)) {}
                return Ok(());
            }
            Ok(Ok(_)) => {}
            Ok(Err(ConnectionError::ConnectionRefused(code))) => return Err(Refused::Code(code)),
            Ok(Err(error)) => {
                return Err(Refused::Unreachable(explain(config, &error, false, 0)));
            }
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                let reason = format!("no answer from {} within {seconds} s", address(config));
                return Err(Refused::Unreachable(reason));
            }
        }
    }
}
