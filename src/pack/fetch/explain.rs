//! What a failed request means for whoever started it, and whether trying again may help.

use std::io;

use rumqttc::tokio_rustls::rustls;
use ureq::{Body, Error, Timeout, http::Response};

use super::{
    FetchError,
    address::shown,
    client::{Fault, proxy_variable},
};

/// An answer other than the wanted ones.
pub(super) fn status(url: &str, response: &Response<Body>) -> Fault {
    let code = response.status();
    let said = format!("HTTP status {code}");
    let advice = match code.as_u16() {
        // A server that is overloaded or being restarted.
        408 | 429 | 500 | 502 | 503 | 504 => return Fault::Passing(said),
        401 | 403 => "the server gives it only to whom it knows; use a URL that needs no login",
        404 | 410 => "correct the URL, or tell whoever publishes the pack that a file is missing",
        407 => {
            "the proxy wants a user and password: http://user:password@host:port in the variable"
        }
        _ => "look at the URL with a browser or curl",
    };
    lasting(url, format!("{said}; {advice}"))
}

/// A request that got no answer.
pub(super) fn explain(url: &str, error: &Error) -> Fault {
    let host = url.split('/').nth(2).unwrap_or_default();
    let via = match proxy_variable() {
        Some(variable) => format!("the proxy in {variable} was used: is that right?"),
        None => "if there's a proxy, set HTTPS_PROXY=http://host:port".to_owned(),
    };
    match error {
        Error::HostNotFound => lasting(
            url,
            format!(
                "the name of {host}, or of where it redirects to, can't be resolved: is this machine online? {via}"
            ),
        ),
        Error::Io(cause) => match cause.kind() {
            io::ErrorKind::ConnectionRefused => {
                Fault::Passing(format!("nobody accepts connections at {host}; {via}"))
            }
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Fault::Passing(
                format!("there's no way to {host}: is this machine online? {via}"),
            ),
            // rustls' errors come as data that is no TLS.
            _ => match find_tls(cause) {
                Some(tls) => tls_fault(url, tls),
                None if unresolved(cause) => lasting(
                    url,
                    format!(
                        "the name of {host}, or of where it redirects to, can't be resolved: is this machine online? {via}"
                    ),
                ),
                None => Fault::Passing(format!("the connection broke: {cause}")),
            },
        },
        Error::Rustls(tls) => tls_fault(url, tls),
        Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
            Fault::Passing(format!("{host} can't be reached; {via}"))
        }
        Error::Timeout(_) => Fault::Passing("the server is silent".into()),
        Error::ConnectProxyFailed(why) => lasting(
            url,
            format!(
                "the proxy in {} refused: {why}",
                proxy_variable().unwrap_or("the environment")
            ),
        ),
        Error::TooManyRedirects => lasting(url, "too many redirects; correct the URL".into()),
        Error::RequireHttpsOnly(to) => lasting(
            url,
            format!(
                "the server redirects to {}, which is plain http; tell whoever publishes the pack",
                shown(to)
            ),
        ),
        other => Fault::Passing(other.to_string()),
    }
}

/// A body that broke off.
pub(super) fn read_failure(error: &io::Error) -> String {
    // An error of ureq is wrapped; its own words say more.
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Error::Timeout(_)) => "the server fell silent".into(),
        Some(Error::Io(cause)) => format!("the connection broke: {cause}"),
        Some(other) => format!("the connection broke: {other}"),
        None => format!("the connection broke: {error}"),
    }
}

fn lasting(url: &str, why: String) -> Fault {
    Fault::Lasting(FetchError::Failed {
        url: shown(url).to_owned(),
        why,
        attempts: 1,
    })
}

fn tls_fault(url: &str, error: &rustls::Error) -> Fault {
    let advice = match error {
        rustls::Error::InvalidCertificate(_) => {
            "the server's certificate is not believed: is this machine's clock right? A proxy that \
             opens TLS needs its authority in the system's list (update-ca-certificates, or SSL_CERT_FILE)"
        }
        _ => "is that an https server?",
    };
    lasting(url, format!("{error}; {advice}"))
}

fn find_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The standard library has no kind for a name that isn't found.
fn unresolved(error: &io::Error) -> bool {
    error.to_string().contains("failed to lookup address")
}
