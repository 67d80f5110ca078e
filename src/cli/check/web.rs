//! The installer's page: whether its address can be had, and who can reach it.

use std::net::TcpListener;

use super::Check;
use crate::daemon::config::WebConfig;

const NAME: &str = "page";

pub(super) fn check(config: &WebConfig) -> Check {
    let address = config.listen;
    if let Err(error) = TcpListener::bind(address) {
        return Check::problem(
            NAME,
            format!("{address}: {error}"),
            "stop the daemon if it has the port, or correct web.listen",
        );
    }
    let found = format!("http://{address}/ is free");
    if address.ip().is_loopback() {
        Check::ok(NAME, format!("{found}, and only this device can reach it"))
    } else {
        Check::warning(
            NAME,
            format!(
                "{found}, and the network can reach it: without encryption, whoever reads along gets \
                 the token and the pictures"
            ),
            "leave web.listen out and use `ssh -L 8470:127.0.0.1:8470`, or be sure of that network",
        )
    }
}
