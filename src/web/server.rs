//! A small HTTP/1.1 server with a limit on everything: one request a connection, no bodies.
//!
//! On the standard library's sockets and httparse, as the client of the cameras is. tiny_http has no
//! time-outs and starts threads without bound. hyper (and axum on it) has both, but asks for features of
//! `smallvec`, and cargo would then build tract with them: whether the page is in the program must
//! not change the model's code. What is needed of HTTP for five addresses without bodies is little.
//! A connection for each request costs a round trip on a local link, and leaves no second request to
//! be smuggled behind a first.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::answer::Answer;
use super::request::{MAX_HEAD, Malformed, Method, Request};

/// Connections at once. A browser opens up to six for one page.
const CONNECTIONS: usize = 32;
/// Of these for one address, so that one machine can't keep all others out.
const PER_ADDRESS: usize = 16;

/// For the whole head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// For the whole answer; a picture over a slow link.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// For what a refused client is still sending, so that it sees the refusal and no broken connection.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);
const DRAIN_BYTES: usize = 64 << 10;

/// A thread needs little more than a JPEG decoder's stack.
const STACK: usize = 512 << 10;

/// After an accept that failed (no file descriptors left).
const PAUSE: Duration = Duration::from_secs(1);

/// What answers requests.
pub(super) trait Handle: Send + Sync + 'static {
    /// The answer, for a client at `from`. May wait.
    fn answer(&self, request: &Request, from: IpAddr) -> Answer;
}

/// Accepts connections until the other end of `stop` is closed. Those that are open then are left to
/// their limits.
pub(super) fn serve(listener: &TcpListener, stop: &OwnedFd, site: &Arc<impl Handle>) {
    // A connection that has gone again between poll and accept must not block.
    if let Err(error) = listener.set_nonblocking(true) {
        tracing::warn!(%error, "the page can't be served");
        return;
    }
    let guests = Arc::new(Guests::default());
    loop {
        let mut ready = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) if !ready[1].revents().is_empty() => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(%error, "the page is no longer served");
                return;
            }
        }
        match listener.accept() {
            Ok((stream, from)) => admit(stream, from, &guests, site),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                tracing::debug!(%error, "a page's connection can't be accepted");
                thread::sleep(PAUSE);
            }
        }
    }
}

fn admit(mut stream: TcpStream, from: SocketAddr, guests: &Arc<Guests>, site: &Arc<impl Handle>) {
    // Accepted sockets don't inherit it on Linux; elsewhere they may.
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    let from = from.ip().to_canonical();
    let Some(guest) = Guests::enter(guests, from) else {
        // Fits into the socket's buffer, so it doesn't wait.
        let busy = Answer::text("503 Service Unavailable", "Too many connections at once.");
        let _ = stream.write_all(&busy.with("Retry-After: 1\r\n").bytes(true));
        return;
    };
    let site = Arc::clone(site);
    let started = thread::Builder::new()
        .name("page".into())
        .stack_size(STACK)
        .spawn(move || {
            let _guest = guest;
            if let Err(error) = converse(&mut stream, from, &*site) {
                // Clients go when they like.
                tracing::debug!(%error, "a page's connection ended");
            }
        });
    if let Err(error) = started {
        tracing::debug!(%error, "no thread for a page's connection");
    }
}

fn converse(stream: &mut TcpStream, from: IpAddr, site: &impl Handle) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (answer, with_body, refused) = match read_head(stream)? {
        Ok(request) => (
            site.answer(&request, from),
            request.method != Method::Head,
            false,
        ),
        Err(malformed) => (refusal(malformed), true, true),
    };
    write_all(stream, &answer.bytes(with_body))?;
    stream.shutdown(Shutdown::Write)?;
    if refused {
        drain(stream);
    }
    Ok(())
}

fn refusal(malformed: Malformed) -> Answer {
    match malformed {
        Malformed::NoRequest => Answer::text(
            "400 Bad Request",
            "That is no request of a browser. (The page speaks http, not https.)",
        ),
        Malformed::TooLarge => Answer::text(
            "431 Request Header Fields Too Large",
            "The request is too large.",
        ),
        Malformed::Body => Answer::text(
            "413 Content Too Large",
            "Nothing here takes a request with a body.",
        ),
    }
}

/// Reads a request's head; an error when the client goes, or takes too long.
fn read_head(stream: &mut TcpStream) -> io::Result<Result<Request, Malformed>> {
    let start = Instant::now();
    let (mut bytes, mut piece) = (Vec::with_capacity(1024), [0; 1024]);
    loop {
        match Request::parse(&bytes) {
            Ok(Some(request)) => return Ok(Ok(request)),
            Ok(None) => {}
            Err(malformed) => return Ok(Err(malformed)),
        }
        // The whole head has one limit: a byte a second is no sign of good will.
        stream.set_read_timeout(Some(left(HEAD_LIMIT, start)?))?;
        let room = piece.len().min(MAX_HEAD - bytes.len());
        match stream.read(&mut piece[..room]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn write_all(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let start = Instant::now();
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(ANSWER_LIMIT, start)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is left of a limit; never zero, which would mean none.
fn left(limit: Duration, start: Instant) -> io::Result<Duration> {
    limit
        .checked_sub(start.elapsed())
        .filter(|left| !left.is_zero())
        .ok_or_else(|| ErrorKind::TimedOut.into())
}

/// Takes what a client is still sending: closing with unread bytes would reset the connection, and the
/// answer be lost.
fn drain(stream: &mut TcpStream) {
    let start = Instant::now();
    let (mut piece, mut count) = ([0; 4096], 0);
    while count < DRAIN_BYTES {
        let Ok(left) = left(DRAIN_LIMIT, start) else {
            return;
        };
        if stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(more) => count += more,
        }
    }
}

/// Who is connected.
#[derive(Debug, Default)]
struct Guests(Mutex<HashMap<IpAddr, usize>>);

/// Leaves when dropped.
struct Guest {
    guests: Arc<Guests>,
    from: IpAddr,
}

impl Guests {
    fn enter(guests: &Arc<Self>, from: IpAddr) -> Option<Guest> {
        let mut counts = guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = counts.get(&from).copied().unwrap_or_default();
        if here >= PER_ADDRESS || counts.values().sum::<usize>() >= CONNECTIONS {
            return None;
        }
        counts.insert(from, here + 1);
        Some(Guest {
            guests: Arc::clone(guests),
            from,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_one_address_nor_all_together_get_more_than_their_share() {
        let guests = Arc::new(Guests::default());
        let address = |number: u8| IpAddr::from([192, 168, 1, number]);
        let enter = |number| Guests::enter(&guests, address(number));
        let mut first: Vec<_> = (0..PER_ADDRESS).map(|_| enter(1).unwrap()).collect();
        assert!(enter(1).is_none());
        let others: Vec<_> = (0..CONNECTIONS - PER_ADDRESS)
            .map(|number| enter(number as u8 + 2).unwrap())
            .collect();
        assert!(enter(200).is_none());
        first.pop();
        let again = enter(1).unwrap();
        assert!(enter(1).is_none());
        drop((first, others, again));
        assert!(guests.0.lock().unwrap().is_empty());
    }
}
