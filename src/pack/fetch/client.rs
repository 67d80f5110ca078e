//! HTTPS requests for a pack's files, each of which goes on where the last one broke off.
//!
//! With ureq, not with the client of the camera sources (`source::http::client`): here proxies and
//! TLS matter, and nobody waits 100 ms for a shutdown.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use rumqttc::tokio_rustls::rustls::crypto::ring;
use ureq::{
    Agent, Body, Proxy, ResponseExt as _,
    http::{Response, Uri, header},
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::{
    Event, FetchError,
    address::{Address, is_loopback, shown},
    explain::{explain, read_failure, status},
};
use crate::daemon::backoff::Backoff;

/// A pack.toml has some kilobytes.
pub const MAX_MANIFEST: u64 = 1 << 20;

/// Of one file whose size nobody gave: four times the largest model that such a board could run.
const MAX_UNSIZED: u64 = 8 << 30;

/// A server that sends nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(20);
const MAX_REDIRECTS: u32 = 5;

/// Attempts that bring nothing new before a file is given up. A file that gets further each time is not.
const FRUITLESS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// What went wrong in one attempt.
pub(super) enum Fault {
    /// Trying again may help.
    Passing(String),
    /// It won't.
    Lasting(FetchError),
}

/// Asks one server, perhaps through a proxy.
pub struct Client {
    agent: Agent,
    insecure_http: bool,
}

impl Client {
    /// A client for a pack's address. `insecure_http` allows plain HTTP to other machines.
    ///
    /// # Errors
    /// [`FetchError::Plain`], no usable proxy, or no authorities.
    pub fn new(address: &Address, insecure_http: bool) -> Result<Self, FetchError> {
        let plain = address.is_plain();
        if plain && !insecure_http && !address.is_loopback() {
            return Err(FetchError::Plain {
                host: address.host().to_owned(),
            });
        }
        let builder = Agent::config_builder()
            // From https there is no way back to http, not by a redirect either.
            .https_only(!plain)
            .http_status_as_error(false)
            .max_redirects(MAX_REDIRECTS)
            .save_redirect_history(true)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("captiond/", env!("CARGO_PKG_VERSION")))
            .proxy(proxy()?);
        // Plain HTTP may be redirected to https, but needs no list of authorities to begin with.
        let authorities: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect();
        if authorities.is_empty() && !plain {
            return Err(FetchError::NoAuthorities);
        }
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&authorities))
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        Ok(Self {
            agent: builder.tls_config(tls).build().new_agent(),
            insecure_http,
        })
    }

    /// A small text, such as a manifest.
    ///
    /// # Errors
    /// When the server doesn't give it, or more than `MAX_MANIFEST` bytes.
    pub fn text(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let failed = |why: String| FetchError::Failed {
            url: shown(url).to_owned(),
            why,
            attempts: 1,
        };
        let take = || -> Result<Vec<u8>, Fault> {
            let mut response = self.ask(url, 0)?;
            if response.status() != 200 {
                return Err(status(url, &response));
            }
            let mut bytes = Vec::new();
            let body = response.body_mut().as_reader();
            body.take(MAX_MANIFEST + 1)
                .read_to_end(&mut bytes)
                .map_err(|error| Fault::Passing(read_failure(&error)))?;
            Ok(bytes)
        };
        let bytes = match take() {
            Ok(bytes) => bytes,
            Err(Fault::Passing(why)) => return Err(failed(why)),
            Err(Fault::Lasting(error)) => return Err(error),
        };
        if bytes.len() as u64 > MAX_MANIFEST {
            let why = format!("more than {MAX_MANIFEST} bytes, that is no pack.toml");
            return Err(failed(format!("{why}; correct the URL")));
        }
        Ok(bytes)
    }

    /// Fetches a file to the end of `part`, from where that ends. Its hash is left to the caller.
    ///
    /// # Errors
    /// [`FetchError`]; what has come stands in `part`, unless it is known to be wrong.
    pub fn file(
        &self,
        wanted: &Wanted<'_>,
        part: &Path,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), FetchError> {
        let disk = |cause| FetchError::Disk {
            path: part.to_owned(),
            cause,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(part)
            .map_err(disk)?;
        let mut have = file.seek(SeekFrom::End(0)).map_err(disk)?;
        if wanted.size.is_some_and(|size| have > size) {
            file.set_len(0).map_err(disk)?;
            have = 0;
        }
        tell(Event::Begin {
            file: wanted.name,
            size: wanted.size,
            have,
        });
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        // Bytes that were there at most: a server that begins anew each time gets no further.
        let (mut furthest, mut fruitless) = (have, 0);
        loop {
            if wanted.size == Some(have) && have > 0 {
                return Ok(());
            }
            let why = match self.attempt(wanted, &mut file, part, &mut have, tell) {
                Ok(()) => return Ok(()),
                Err(Fault::Lasting(error)) => return Err(error),
                Err(Fault::Passing(why)) => why,
            };
            if have > furthest {
                (furthest, fruitless) = (have, 0);
                backoff.reset();
            }
            fruitless += 1;
            if fruitless >= FRUITLESS {
                return Err(FetchError::Failed {
                    url: shown(wanted.url).to_owned(),
                    why,
                    attempts: fruitless,
                });
            }
            let wait = backoff.next_delay();
            tell(Event::Again { why: &why, wait });
            thread::sleep(wait);
        }
    }

    /// One request and its answer. `have` is always what the file holds.
    fn attempt(
        &self,
        wanted: &Wanted<'_>,
        file: &mut File,
        part: &Path,
        have: &mut u64,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Fault> {
        let disk = |cause| {
            Fault::Lasting(FetchError::Disk {
                path: part.to_owned(),
                cause,
            })
        };
        let mut restart = |file: &mut File, have: &mut u64| {
            file.set_len(0).and_then(|()| file.rewind()).map_err(disk)?;
            *have = 0;
            tell(Event::Restart);
            Ok::<(), Fault>(())
        };
        let mut response = self.ask(wanted.url, *have)?;
        let announced = number(&response, header::CONTENT_LENGTH);
        // What the whole file has, by this answer.
        let total = match response.status().as_u16() {
            200 => {
                if *have > 0 {
                    restart(file, have)?;
                }
                announced
            }
            206 => {
                let range = content_range(&response);
                let Some((_, total)) = range.filter(|(start, _)| *start == *have) else {
                    restart(file, have)?;
                    return Err(Fault::Passing(
                        "the server continued at another place than was asked for".into(),
                    ));
                };
                total
            }
            // Nothing from there on: it's whole, if it's of that size; else the server's file is another.
            416 if *have > 0 => {
                let whole = range_total(&response) == Some(*have) && wanted.size.is_none();
                if whole {
                    return Ok(());
                }
                restart(file, have)?;
                return Err(Fault::Passing(
                    "the server's file ends before the part that is here already".into(),
                ));
            }
            _ => return Err(status(wanted.url, &response)),
        };
        let too_much = |found| {
            Fault::Lasting(FetchError::Size {
                file: wanted.name.to_owned(),
                found,
                expected: wanted.size.unwrap_or(MAX_UNSIZED),
            })
        };
        match (total, wanted.size) {
            (Some(found), Some(expected)) if found != expected => return Err(too_much(found)),
            (Some(found), None) if found > MAX_UNSIZED => return Err(too_much(found)),
            _ => {}
        }
        let most = wanted.size.or(total).unwrap_or(MAX_UNSIZED);
        let mut body = response.body_mut().as_reader();
        let mut block = vec![0; 64 << 10];
        loop {
            let count = match body.read(&mut block) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => return Err(Fault::Passing(read_failure(&error))),
            };
            if *have + count as u64 > most {
                let found = *have + count as u64;
                file.set_len(0).map_err(disk)?;
                *have = 0;
                return Err(too_much(found));
            }
            file.write_all(&block[..count]).map_err(disk)?;
            *have += count as u64;
            tell(Event::Bytes(count as u64));
        }
        match wanted.size.or(total) {
            Some(expected) if *have < expected => Err(Fault::Passing(format!(
                "the connection was closed after {have} of {expected} bytes"
            ))),
            _ => Ok(()),
        }
    }

    /// The answer to a GET, from byte `from` on.
    fn ask(&self, url: &str, from: u64) -> Result<Response<Body>, Fault> {
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(|error| explain(url, &error))?;
        // From http a redirect may lead to another machine, and only this side knows what is allowed.
        let plain = |uri: &&Uri| {
            uri.scheme_str() != Some("https") && !is_loopback(uri.host().unwrap_or_default())
        };
        let hops = response.get_redirect_history().unwrap_or_default();
        match hops.iter().find(plain) {
            Some(uri) if !self.insecure_http => Err(Fault::Lasting(FetchError::Plain {
                host: uri.host().unwrap_or_default().to_owned(),
            })),
            _ => Ok(response),
        }
    }
}

/// A file to be fetched.
pub struct Wanted<'a> {
    /// Path within the pack.
    pub name: &'a str,
    /// Where it is.
    pub url: &'a str,
    /// Bytes, where the manifest says.
    pub size: Option<u64>,
}

/// The variables that name a proxy, in the order in which ureq looks at them.
const PROXY_VARIABLES: [&str; 6] = [
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
];

/// The variable that names a proxy, if one does, for messages.
pub(super) fn proxy_variable() -> Option<&'static str> {
    let set = |name: &&&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    PROXY_VARIABLES.iter().find(set).copied()
}

/// The proxy of the environment (and NO_PROXY). ureq passes over one that it can't read; going round
/// the proxy that somebody has set is no good surprise.
fn proxy() -> Result<Option<Proxy>, FetchError> {
    if let Some(variable) = proxy_variable() {
        let value = env::var(variable).unwrap_or_default();
        if Proxy::new(&value).is_err() {
            let found = match value.rsplit_once('@') {
                Some((_, host)) => format!("...@{host}"),
                None => value,
            };
            return Err(FetchError::ProxyVariable { variable, found });
        }
    }
    Ok(Proxy::try_from_env())
}

fn text(response: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

fn number(response: &Response<Body>, name: header::HeaderName) -> Option<u64> {
    text(response, name)?.trim().parse().ok()
}

/// `bytes start-end/total` (RFC 9110, section 14.4): start, and total where it is known.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let range = text(response, header::CONTENT_RANGE)?.trim();
    let (bounds, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let start = bounds.split_once('-')?.0.trim().parse().ok()?;
    Some((start, total.trim().parse().ok()))
}

/// `bytes */total`: what an answer 416 says of the file.
fn range_total(response: &Response<Body>) -> Option<u64> {
    let range = text(response, header::CONTENT_RANGE)?.trim();
    range.strip_prefix("bytes */")?.trim().parse().ok()
}
