//! The client's options, from `[mqtt]` and `[mqtt.tls]`: for the daemon and for `captiond check`.

use std::sync::Arc;

use rumqttc::tokio_rustls::rustls::ClientConfig;
use rumqttc::{MqttOptions, TlsConfiguration, Transport};

use super::{MAX_PACKET, tls};
use crate::daemon::config::MqttConfig;

/// Incoming. A packet over it ends the connection, so it's far over what a command may have: those
/// are refused one by one, with an answer.
const MAX_INCOMING: usize = 2 << 20;

/// Host and port, for people.
pub(crate) fn address(config: &MqttConfig) -> String {
    format!("{}:{}", config.host, config.port)
}

/// All but the last will. `tls`: `[mqtt.tls]`, ready for use.
pub(super) fn options(config: &MqttConfig, tls: Option<&Arc<ClientConfig>>) -> MqttOptions {
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
        .set_max_packet_size(MAX_INCOMING, MAX_PACKET);
    if let Some(tls) = tls {
        let tls = TlsConfiguration::Rustls(Arc::clone(tls));
        options.set_transport(Transport::tls_with_config(tls));
    }
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

/// For a connection that nobody is to notice: with a client id of its own, so that a running daemon
/// isn't thrown out, and without a last will.
///
/// # Errors
/// What is wrong with which key of `[mqtt.tls]`.
pub(crate) fn unnoticed(config: &MqttConfig) -> Result<MqttOptions, String> {
    let tls = config.tls.as_ref().map(tls::client_config).transpose()?;
    let config = MqttConfig {
        client_id: format!("{}-check", config.client_id),
        ..config.clone()
    };
    Ok(options(&config, tls.as_ref()))
}
