//! One HTTP/1.1 request and its answer, with a limit on everything.
//!
//! On the standard library's sockets and httparse, not on a client crate: a stream never ends, so
//! a time-out of the whole request is no use. What is needed is to look up every 100 ms, whatever
//! the server does (no answer, one byte a second, headers without end), for the stall detector and
//! the shutdown. ureq 3 has no time-out a read; async clients bring a runtime.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine as _;

use super::address::{Address, shown};
use super::body::{Body, Framing};
use crate::daemon::secret::Secret;

/// How often a quiet socket is left to see whether to go on.
const LOOK_UP: Duration = Duration::from_millis(100);

/// For one address of a host. The kernel's own limit is two minutes.
const CONNECT: Duration = Duration::from_secs(5);

/// A camera's answer has a few hundred bytes of headers.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

const MAX_REDIRECTS: usize = 3;

/// User and password for basic authentication (RFC 7617).
#[derive(Debug, Clone, PartialEq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// Why there is no (more) answer.
#[derive(Debug, PartialEq)]
pub enum Fault {
    /// The patience is at its end (a stall), or a shutdown was asked for: ask which.
    Impatient,
    /// The reason, with what to do.
    Failed(String),
}

/// Asked while waiting; false ends it.
pub type Patience<'a> = &'a dyn Fn() -> bool;

/// The head of an answer with status 200, and its body to read.
#[derive(Debug)]
pub struct Answer<S = TcpStream> {
    /// The media type in lower case, without parameters; empty if there is none.
    pub content_type: String,
    /// The body.
    pub body: Body<S>,
}

/// What a server has answered.
#[derive(Debug)]
pub enum Received<S> {
    /// The picture, or the stream of them.
    Answer(Answer<S>),
    /// It's elsewhere: the `Location` as it was sent.
    Redirect(String),
}

/// Asks for a resource and follows redirects. `accept` is what to ask for.
///
/// # Errors
/// [`Fault`]: no connection, a status other than 200, headers that are none or have no end, more
/// than three redirects, or the end of `patience`.
pub fn get(
    address: &Address,
    credentials: Option<&Credentials>,
    accept: &str,
    patience: Patience,
) -> Result<Answer, Fault> {
    let mut here = address.clone();
    for _ in 0..=MAX_REDIRECTS {
        // A redirect to another machine doesn't get the password of this one.
        let same = (&here.host, here.port) == (&address.host, address.port);
        let mut stream = connect(&here, patience)?;
        let request = request(&here, credentials.filter(|_| same), accept);
        stream
            .write_all(request.as_bytes())
            .map_err(|error| Fault::Failed(format!("the request can't be sent: {error}")))?;
        match receive(stream, credentials.is_some(), patience)? {
            Received::Answer(answer) => return Ok(answer),
            Received::Redirect(location) => {
                here = here.redirected(&location).map_err(|why| {
                    Fault::Failed(format!("redirected to {:?}: {why}", shown(&location)))
                })?;
            }
        }
    }
    Err(Fault::Failed(format!(
        "more than {MAX_REDIRECTS} redirects; correct source.url"
    )))
}

/// Reads an answer up to its body. `had_password`: one was sent, so a refusal means a wrong one.
///
/// # Errors
/// As [`get`], but for redirects.
pub fn receive<S: Read>(
    mut stream: S,
    had_password: bool,
    patience: Patience,
) -> Result<Received<S>, Fault> {
    let mut buffer = Vec::new();
    let head = loop {
        if let Some(head) = Head::parse(&mut buffer)? {
            break head;
        }
        if buffer.len() > MAX_HEAD {
            return Err(Fault::Failed(format!(
                "more than {MAX_HEAD} bytes of headers; that is no camera's answer"
            )));
        }
        if read_more(&mut stream, &mut buffer, patience)? == 0 {
            return Err(Fault::Failed(
                "the connection was closed before an answer came".into(),
            ));
        }
    };
    match head.status {
        200 => Ok(Received::Answer(Answer {
            content_type: head.content_type.clone(),
            body: Body::new(stream, buffer, head.framing()?),
        })),
        301 | 302 | 303 | 307 | 308 => Ok(Received::Redirect(head.location.unwrap_or_default())),
        status => Err(Fault::Failed(head.refusal(status, had_password))),
    }
}

fn request(address: &Address, credentials: Option<&Credentials>, accept: &str) -> String {
    let authorization = credentials.map_or_else(String::new, |credentials| {
        let pair = format!("{}:{}", credentials.username, credentials.password.expose());
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        format!("Authorization: Basic {encoded}\r\n")
    });
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: captiond/{}\r\nAccept: {accept}\r\n\
         Cache-Control: no-cache\r\nConnection: close\r\n{authorization}\r\n",
        address.target,
        address.authority(),
        env!("CARGO_PKG_VERSION"),
    )
}

fn connect(address: &Address, patience: Patience) -> Result<TcpStream, Fault> {
    let failed = |error: &io::Error| {
        let authority = address.authority();
        let kind = error.kind();
        Fault::Failed(match kind {
            ErrorKind::ConnectionRefused => {
                format!("nobody listens at {authority}; is the camera's web server on?")
            }
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                format!("{authority} can't be reached; is the camera on, and in this network?")
            }
            _ => format!("no connection to {authority}: {error}"),
        })
    };
    // Blocks for as long as the system's resolver does; the thread is left behind at a shutdown.
    let found = (&*address.host, address.port)
        .to_socket_addrs()
        .map_err(|error| {
            Fault::Failed(format!(
                "the name {} can't be resolved ({error}); correct source.url or use the number",
                address.host
            ))
        })?;
    let mut last = io::Error::from(ErrorKind::HostUnreachable);
    for socket in found {
        if !patience() {
            return Err(Fault::Impatient);
        }
        match TcpStream::connect_timeout(&socket, CONNECT) {
            Ok(stream) => {
                let timed = stream
                    .set_read_timeout(Some(LOOK_UP))
                    .and_then(|()| stream.set_write_timeout(Some(CONNECT)));
                return timed.map(|()| stream).map_err(|error| failed(&error));
            }
            Err(error) => last = error,
        }
    }
    Err(failed(&last))
}

/// Appends what comes next to `buffer`; 0 at the end of the connection.
pub(super) fn read_more(
    stream: &mut impl Read,
    buffer: &mut Vec<u8>,
    patience: Patience,
) -> Result<usize, Fault> {
    let mut piece = [0; 16 << 10];
    loop {
        // Also before a read that succeeds: one byte a second is no sign of life.
        if !patience() {
            return Err(Fault::Impatient);
        }
        match stream.read(&mut piece) {
            Ok(bytes) => {
                buffer.extend_from_slice(&piece[..bytes]);
                return Ok(bytes);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(Fault::Failed(format!("the connection broke: {error}"))),
        }
    }
}

/// What is needed of an answer's headers.
#[derive(Debug)]
struct Head {
    status: u16,
    reason: String,
    content_type: String,
    location: Option<String>,
    authenticate: String,
    length: Option<String>,
    chunked: bool,
}

impl Head {
    /// Reads the head off the front of `buffer`, once it's whole.
    fn parse(buffer: &mut Vec<u8>) -> Result<Option<Self>, Fault> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let end = match response.parse(buffer) {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => {
                return Err(Fault::Failed(format!(
                    "the answer is no HTTP ({error}); correct source.url"
                )));
            }
        };
        // The last one counts, if there are several. Bytes that are no text become marks.
        let find = |name: &str| {
            let mut found = response.headers.iter().rev();
            found
                .find(|header| header.name.eq_ignore_ascii_case(name))
                .map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
        };
        let content_type = find("content-type").unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default();
        let authenticate = response
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("www-authenticate"))
            .map(|header| String::from_utf8_lossy(header.value).to_ascii_lowercase())
            .collect::<Vec<_>>()
            .join(", ");
        let head = Self {
            status: response.code.unwrap_or_default(),
            reason: response.reason.unwrap_or_default().to_owned(),
            content_type: media_type.trim().to_ascii_lowercase(),
            location: find("location"),
            authenticate,
            length: find("content-length"),
            chunked: find("transfer-encoding")
                .is_some_and(|coding| coding.to_ascii_lowercase().ends_with("chunked")),
        };
        buffer.drain(..end);
        Ok(Some(head))
    }

    /// How long the body is (RFC 9112, section 6.3).
    fn framing(&self) -> Result<Framing, Fault> {
        if self.chunked {
            return Ok(Framing::chunked());
        }
        match &self.length {
            None => Ok(Framing::UntilClosed),
            Some(text) => match text.parse() {
                Ok(length) => Ok(Framing::Length { length, read: 0 }),
                Err(_) => Err(Fault::Failed(format!(
                    "Content-Length is {text:?}, expected a number"
                ))),
            },
        }
    }

    fn refusal(&self, status: u16, had_password: bool) -> String {
        let digest = self.authenticate.contains("digest") && !self.authenticate.contains("basic");
        let advice = match status {
            401 if digest => {
                "the camera wants digest authentication; allow basic in its settings, or use \
                 kind = \"command\" with ffmpeg, which speaks it"
            }
            401 | 403 if had_password => "correct source.username and source.password_file",
            401 | 403 => "set source.username and source.password_file",
            404 => "correct the path in source.url",
            _ => "see the camera's manual for source.url",
        };
        format!("HTTP status {status} {}; {advice}", self.reason)
    }
}
