//! The broker: connected to with a client id of its own and without a last will, so that a running
//! daemon isn't thrown out and no subscriber sees anything.

use std::time::Duration;

use rumqttc::{Client, ConnectReturnCode, ConnectionError, Event, MqttOptions, Packet};

use super::Check;
use crate::daemon::config::MqttConfig;

const NAME: &str = "broker";
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn check(config: &MqttConfig) -> Check {
    let address = format!("{}:{}", config.host, config.port);
    match connect(config) {
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
        Err(Refused::Unreachable(reason)) => Check::problem(
            NAME,
            format!("{address}: {reason}"),
            "start the broker, or correct mqtt.host and mqtt.port; until then captions are spoken or \
             kept, not published",
        ),
    }
}

enum Refused {
    Code(ConnectReturnCode),
    Unreachable(String),
}

fn connect(config: &MqttConfig) -> Result<(), Refused> {
    let host = if config.host.contains(':') && !config.host.starts_with('[') {
        format!("[{}]", config.host)
    } else {
        config.host.clone()
    };
    let mut options = MqttOptions::new(
        format!("{}-check", config.client_id),
        rumqttc::Broker::tcp(host, config.port),
    );
    match (&config.username, &config.password) {
        (Some(user), Some(password)) => {
            options.set_credentials(user.clone(), password.expose().to_owned());
        }
        (Some(user), None) => {
            options.set_username(user.clone());
        }
        (None, _) => {}
    }
    let unreachable = |error: &dyn std::fmt::Display| Refused::Unreachable(error.to_string());
    let (client, mut connection) = Client::builder(options)
        .capacity(1)
        .try_build()
        .map_err(|error| unreachable(&error))?;
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
            Ok(Err(error)) => return Err(unreachable(&error)),
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                return Err(unreachable(&format!("no answer within {seconds} s")));
            }
        }
    }
}
