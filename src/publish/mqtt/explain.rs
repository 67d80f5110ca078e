//! Errors of the connection in words for the log: what happened, and which key to look at.

use std::io;

use rumqttc::{ConnectReturnCode, ConnectionError, StateError};

use super::options::address;
use super::tls;
use crate::daemon::config::MqttConfig;

/// One line for the log: what happened, and which key of the config to look at.
pub(crate) fn explain(
    config: &MqttConfig,
    error: &ConnectionError,
    was_connected: bool,
    thrown_out: u32,
) -> String {
    let broker = address(config);
    let id = &config.client_id;
    if let Some(hint) = tls::explain(error, &config.host) {
        return format!("no TLS with the broker at {broker}: {hint}");
    }
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                match &config.username {
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
            ConnectReturnCode::BadClientId => {
                format!("the broker at {broker} refuses the client id {id:?}; see mqtt.client_id")
            }
            _ => format!("the broker at {broker} refuses the connection: {code:?}"),
        },
        ConnectionError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            format!(
                "nobody listens at {broker}; is the broker running, are mqtt.host and \
                 mqtt.port right?"
            )
        }
        error if too_large_to_receive(error) => format!(
            "the broker at {broker} has sent a packet that is too large ({error}); no commands \
             are taken for ten minutes. Look for a large message on a command topic"
        ),
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

/// MQTT 3.1.1 brokers close the older connection without a word when a second client comes with
/// the same id; a reset or an end of stream is all there is to see.
pub(super) fn closed_by_broker(error: &ConnectionError) -> bool {
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

/// A packet over our limit for incoming ones.
pub(super) fn too_large_to_receive(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::MqttState(StateError::Deserialization(
            rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded { .. }
        ))
    )
}
