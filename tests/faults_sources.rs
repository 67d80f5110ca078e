//! The fault suite's part for sources: cameras in the network that hang, lie and close, and a USB
//! camera that is unplugged, stalls, freezes and sends damaged frames. `make faults` runs it and
//! shows one line for each fault that is survived; docs/faults.md has the table.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use captiond::daemon::clock::SystemClock;
use captiond::daemon::shutdown::Shutdown;
use captiond::source::http::address::Address;
use captiond::source::http::{HttpSettings, SnapshotSource, StreamSource};
use captiond::source::state::StateCell;
use captiond::source::supervised::Supervised;
use captiond::source::{FrameSource, Pixels, SourceError};
use support::http::{STREAM, Server, answer, hang, part, say};
use support::process::be_the_daemon;
use support::{jpeg, passed, until};

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

const STALL: Duration = Duration::from_millis(600);
const MAX_FRAME: usize = 100_000;

fn settings(url: &str) -> HttpSettings {
    HttpSettings {
        address: Address::parse(url).unwrap(),
        credentials: None,
        max_frame: MAX_FRAME,
        stall_after: STALL,
    }
}

/// A source with its state, and what it says.
struct Watched {
    source: Supervised,
    state: StateCell,
    shutdown: Shutdown,
}

impl Watched {
    fn new(source: Box<dyn FrameSource>) -> Self {
        let state = StateCell::new();
        let clock = Arc::new(SystemClock::new());
        let source = Supervised::new(source, state.clone(), None, clock);
        Self {
            source,
            state,
            shutdown: Shutdown::new(),
        }
    }

    fn snapshot(server: &Server) -> Self {
        let poll = Duration::from_millis(10);
        Self::new(Box::new(SnapshotSource::new(
            settings(&server.url("/snapshot.jpg")),
            poll,
            Arc::new(SystemClock::new()),
        )))
    }

    fn stream(server: &Server) -> Self {
        Self::new(Box::new(StreamSource::new(
            settings(&server.url("/stream")),
            Arc::new(SystemClock::new()),
        )))
    }

    fn next(&mut self) -> Result<Vec<u8>, SourceError> {
        let frame = self.source.next_frame(&self.shutdown)?;
        match frame.expect("no shutdown was asked for").pixels {
            Pixels::Encoded(bytes) => Ok(bytes),
            Pixels::Rgb(_) => panic!("HTTP frames stay encoded"),
        }
    }

    /// The next result is an error of this kind with this text; the state says so too.
    fn fails(&mut self, kind: &str, text: &str) {
        let error = self.next().expect_err(text);
        let found = match error {
            SourceError::Lost { .. } => "lost",
            SourceError::Stalled { .. } => "stalled",
            SourceError::BadFrame { .. } => "bad",
            SourceError::Ended { .. } => "ended",
        };
        assert_eq!(found, kind, "{error}");
        assert!(
            error.to_string().contains(text),
            "{text:?} is not in: {error}"
        );
        if kind != "bad" {
            assert_eq!(self.state.current().state.word(), kind);
        }
    }

    /// Frames come, and the state is ok.
    fn works(&mut self, expected: &[u8]) {
        assert_eq!(self.next().unwrap(), expected);
        assert_eq!(self.state.current().state.word(), "ok");
    }
}

/// Misbehaves on the first connection and serves a snapshot on the others.
fn once_then_snapshot(
    misbehave: impl Fn(&mut std::net::TcpStream) + Send + Sync + 'static,
) -> Server {
    Server::start(move |number, stream| {
        if number == 0 {
            misbehave(stream);
        } else {
            answer(stream, "image/jpeg", &jpeg(320));
        }
    })
}

/// The same for a stream.
fn once_then_stream(
    misbehave: impl Fn(&mut std::net::TcpStream) + Send + Sync + 'static,
) -> Server {
    Server::start(move |number, stream| {
        if number == 0 {
            misbehave(stream);
        } else {
            say(stream, STREAM);
            while part(stream, &jpeg(320)) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    })
}

#[test]
fn a_server_that_hangs_is_hung_up_on() {
    let whole = jpeg(320);
    for (how, head) in [
        ("before its answer", String::new()),
        ("within its headers", "HTTP/1.1 200 OK\r\nContent-".into()),
        (
            "within its body",
            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n\u{1}".into(),
        ),
    ] {
        let server = once_then_snapshot(move |stream| {
            say(stream, &head);
            hang(stream);
        });
        let mut camera = Watched::snapshot(&server);
        let start = Instant::now();
        camera.fails("stalled", "source.stall_after");
        assert!(start.elapsed() >= STALL);
        camera.works(&whole);
        passed(
            "HTTP snapshot",
            &format!("server hangs {how}"),
            start.elapsed(),
        );
    }
    let server = once_then_stream(|stream| {
        say(stream, STREAM);
        part(stream, &jpeg(400));
        say(stream, "--frame\r\nContent-Type: image/jpeg\r\n\r\n\u{7}");
        hang(stream);
    });
    let mut camera = Watched::stream(&server);
    camera.works(&jpeg(400));
    let start = Instant::now();
    camera.fails("stalled", "source.stall_after");
    camera.works(&whole);
    passed("HTTP stream", "server hangs after a frame", start.elapsed());
}

#[test]
fn a_hanging_server_does_not_hold_up_a_shutdown() {
    let server = Server::start(|_, stream| hang(stream));
    let mut settings = settings(&server.url("/"));
    settings.stall_after = Duration::from_secs(600);
    let clock = Arc::new(SystemClock::new());
    let mut source = StreamSource::new(settings, clock);
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let reader = std::thread::spawn(move || source.next_frame(&stop).map(|frame| frame.is_none()));
    until("a request", || {
        (!server.requests().is_empty()).then_some(())
    });
    let start = Instant::now();
    shutdown.request();
    assert!(reader.join().unwrap().unwrap());
    passed(
        "HTTP stream",
        "shutdown while the server hangs",
        start.elapsed(),
    );
}

#[test]
fn a_wrong_length_spoils_one_picture_only() {
    let whole = jpeg(320);
    for (how, length, text) in [
        ("too large, then closes", "9000", "closed after"),
        ("too small", "100", "cut off"),
        ("over the limit", "99999999999", "source.max_frame_bytes"),
    ] {
        let server = once_then_snapshot(move |stream| {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: ";
            say(stream, format!("{head}{length}\r\n\r\n"));
            say(stream, jpeg(400));
        });
        let mut camera = Watched::snapshot(&server);
        let start = Instant::now();
        camera.fails("bad", text);
        camera.works(&whole);
        passed(
            "HTTP snapshot",
            &format!("Content-Length {how}"),
            start.elapsed(),
        );
    }
    let server = once_then_snapshot(|stream| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n");
    });
    let mut camera = Watched::snapshot(&server);
    camera.fails("lost", "expected a number");
    camera.works(&whole);
}

#[test]
fn parts_that_lie_about_length_and_boundary_do_no_harm() {
    let server = Server::start(|_, stream| {
        say(stream, STREAM);
        for (round, length) in (0..).zip([0, 10, 999_999, usize::MAX].into_iter().cycle()) {
            let boundary = ["--frame", "frame", "----something else"][round % 3];
            let jpeg = jpeg([320, 400][round % 2]);
            let head = format!("\r\n{boundary}\r\nContent-Length: {length}\r\n\r\n");
            if !(say(stream, head) && say(stream, jpeg)) {
                return;
            }
        }
    });
    let mut camera = Watched::stream(&server);
    let start = Instant::now();
    for round in 0..200 {
        camera.works(&jpeg([320, 400][round % 2]));
    }
    passed(
        "HTTP stream",
        "parts lie about length and boundary",
        start.elapsed(),
    );
}

#[test]
fn chunks_are_read_and_wrong_ones_refused() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; \
                           boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let server = Server::start(|number, stream| {
        say(stream, CHUNKED);
        if number == 0 {
            say(stream, "5\r\nabcdefgh");
            return hang(stream);
        }
        // As an ESP32-CAM does it, but in pieces that fall as badly as they can.
        let mut random = fastrand::Rng::with_seed(3);
        loop {
            let bytes = [
                b"\r\n--x\r\nContent-Type: image/jpeg\r\n\r\n",
                &jpeg(320)[..],
            ]
            .concat();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, left) = rest.split_at(random.usize(1..=rest.len().min(900)));
                let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                if !say(stream, chunk) {
                    return;
                }
                rest = left;
            }
        }
    });
    let mut camera = Watched::stream(&server);
    let start = Instant::now();
    camera.fails("lost", "counts wrongly");
    for _ in 0..50 {
        camera.works(&jpeg(320));
    }
    passed("HTTP stream", "chunks of a wrong size", start.elapsed());
}

#[test]
fn headers_without_end_end() {
    let whole = jpeg(320);
    // As fast as the wire allows: the size is the limit.
    let server = once_then_snapshot(|stream| {
        say(stream, "HTTP/1.1 200 OK\r\n");
        while say(stream, "X-Padding: 0123456789abcdef\r\n") {}
    });
    let mut camera = Watched::snapshot(&server);
    let start = Instant::now();
    camera.fails("lost", "");
    camera.works(&whole);
    passed("HTTP snapshot", "headers without end", start.elapsed());
    // Within one line, which no count of headers notices.
    let server = once_then_snapshot(|stream| {
        say(stream, "HTTP/1.1 200 OK\r\nX: ");
        while say(stream, [b'y'; 512]) {}
    });
    let mut camera = Watched::snapshot(&server);
    camera.fails("lost", "bytes of headers");
    camera.works(&whole);
    // One byte now and then, so that no read is idle: the time is the limit.
    let server = once_then_stream(|stream| {
        say(stream, "HTTP/1.1 200 OK\r\nX: ");
        while say(stream, "y") {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let mut camera = Watched::stream(&server);
    let start = Instant::now();
    camera.fails("stalled", "source.stall_after");
    camera.works(&whole);
    passed("HTTP stream", "headers byte by byte", start.elapsed());
}

#[test]
fn bodies_without_pictures_end() {
    let whole = jpeg(320);
    let server = once_then_stream(|stream| {
        say(stream, STREAM);
        while say(stream, [b'z'; 4096]) {}
    });
    let mut camera = Watched::stream(&server);
    let start = Instant::now();
    let mut bad = 0;
    loop {
        match camera.next() {
            Err(SourceError::BadFrame { .. }) => bad += 1,
            Err(SourceError::Stalled { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(bad > 0);
    camera.works(&whole);
    passed(
        "HTTP stream",
        "a body of garbage without end",
        start.elapsed(),
    );
    // A JPEG that goes on and on.
    let server = once_then_snapshot(|stream| {
        say(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n",
        );
        let jpeg = jpeg(320);
        say(stream, &jpeg[..jpeg.len() - 2]);
        while say(stream, [b'z'; 4096]) {}
    });
    let mut camera = Watched::snapshot(&server);
    let start = Instant::now();
    camera.fails("bad", "source.max_frame_bytes");
    camera.works(&whole);
    passed("HTTP snapshot", "a JPEG without end", start.elapsed());
}

#[test]
fn torn_and_damaged_pictures_are_skipped() {
    let whole = jpeg(320);
    let server = once_then_stream(|stream| {
        say(stream, STREAM);
        let jpeg = jpeg(400);
        part(stream, &jpeg[..jpeg.len() / 2]);
        part(stream, &jpeg);
    });
    let mut camera = Watched::stream(&server);
    let start = Instant::now();
    camera.fails("bad", "cut off");
    camera.works(&jpeg(400));
    camera.fails("lost", "ended the stream");
    camera.works(&whole);
    passed(
        "HTTP stream",
        "a truncated frame, then the server closes",
        start.elapsed(),
    );
    // Nothing but torn pictures for too long is a stall.
    let torn = Arc::new(AtomicUsize::new(1));
    let still_torn = Arc::clone(&torn);
    let server = Server::start(move |_, stream| {
        let jpeg = jpeg(320);
        let end = jpeg.len() / (1 + still_torn.load(Ordering::Relaxed));
        answer(stream, "image/jpeg", &jpeg[..end]);
    });
    let mut camera = Watched::snapshot(&server);
    let start = Instant::now();
    until("a stall", || match camera.next() {
        Err(SourceError::Stalled { .. }) => Some(()),
        Err(SourceError::BadFrame { .. }) => None,
        other => panic!("{other:?}"),
    });
    torn.store(0, Ordering::Relaxed);
    until("a picture", || camera.next().ok());
    assert_eq!(camera.state.current().state.word(), "ok");
    passed(
        "HTTP snapshot",
        "nothing but truncated pictures",
        start.elapsed(),
    );
}

#[test]
fn what_is_no_camera_is_told() {
    for (head, text) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>",
            "camera's own page",
        ),
        (
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "correct the path in source.url",
        ),
        (
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"x\"\r\n\r\n",
            "digest",
        ),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", "set source.username"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "no HTTP"),
        ("", "closed before an answer"),
        (STREAM, "http-mjpeg"),
        (
            "HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n",
            "redirects",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: https://x/\r\n\r\n",
            "https",
        ),
    ] {
        let server = Server::start(move |_, stream| {
            say(stream, head);
        });
        let mut camera = Watched::snapshot(&server);
        camera.fails("lost", text);
    }
    let server = Server::start(|_, stream| {
        answer(stream, "image/jpeg", &jpeg(320));
    });
    Watched::stream(&server).fails("lost", "http-snapshot");
    // A port that nobody listens at.
    let nowhere = format!("http://127.0.0.1:{}/", support::broker::free_port());
    let clock = Arc::new(SystemClock::new());
    let source = SnapshotSource::new(settings(&nowhere), Duration::from_millis(10), clock);
    let mut nobody = Watched::new(Box::new(source));
    let start = Instant::now();
    nobody.fails("lost", "nobody listens");
    passed(
        "HTTP",
        "what is no camera is told, with what to do",
        start.elapsed(),
    );
}

#[test]
fn the_password_goes_to_the_camera_alone() {
    use captiond::daemon::config::Secret;
    use captiond::source::http::client::Credentials;

    let other = Server::start(|_, stream| {
        answer(stream, "image/jpeg", &jpeg(400));
    });
    let elsewhere = other.url("/picture");
    let server = Server::start(move |number, stream| {
        let location = [String::from("/there"), elsewhere.clone()][number % 2].clone();
        say(
            stream,
            format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n"),
        );
    });
    let settings = HttpSettings {
        credentials: Some(Credentials {
            username: "Aladdin".into(),
            password: Secret::new("open sesame"),
        }),
        ..settings(&server.url("/here?token=x"))
    };
    let clock = Arc::new(SystemClock::new());
    let source = SnapshotSource::new(settings, Duration::from_millis(10), clock);
    let mut camera = Watched::new(Box::new(source));
    assert_eq!(camera.source.origin(), server.url("/here"));
    let start = Instant::now();
    camera.works(&jpeg(400));
    let requests = server.requests();
    for (request, path) in requests.iter().zip(["/here?token=x", "/there"]) {
        assert!(
            request.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
            "{request}"
        );
        // The example of RFC 7617.
        assert!(
            request.contains("Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"),
            "{request}"
        );
    }
    assert!(!other.requests()[0].contains("Authorization"));
    passed(
        "HTTP",
        "a redirect elsewhere gets no password",
        start.elapsed(),
    );
}

#[test]
fn reconnecting_leaks_nothing() {
    let server = Server::start(|number, stream| match number % 4 {
        0 => hang(stream),
        1 => {
            say(stream, "HTTP/1.1 200 OK\r\n");
        }
        2 => {
            say(stream, STREAM);
        }
        _ => {
            say(stream, STREAM);
            part(stream, &jpeg(320));
        }
    });
    let mut settings = settings(&server.url("/"));
    settings.stall_after = Duration::from_millis(50);
    let source = StreamSource::new(settings, Arc::new(SystemClock::new()));
    let mut camera = Watched::new(Box::new(source));
    let rounds = if support::long() { 2000 } else { 100 };
    let start = Instant::now();
    let mut frames = 0;
    for _ in 0..rounds {
        frames += usize::from(camera.next().is_ok());
    }
    assert!(frames >= rounds / 10, "{frames}");
    // Those of the server's side and of other tests are in the count, so only growth by each
    // connection would be seen; the client's own socket is one at most.
    let port = server.port;
    let ours = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let remote = format!(" 0100007F:{port:04X} 01 ");
        table.lines().filter(|line| line.contains(&remote)).count()
    };
    until("the sockets are closed", || (ours() <= 1).then_some(()));
    passed(
        "HTTP stream",
        &format!("{rounds} reconnections, no socket left"),
        start.elapsed(),
    );
}

#[cfg(feature = "camera")]
mod camera {
    use std::fs;
    use std::path::PathBuf;

    use rustix::process::{Pid, Signal, kill_process};
    use support::camera::Setup;

    use super::*;

    /// The helper processes of a daemon that are alive, and those that are zombies.
    fn helpers(parent: u32) -> (Vec<i32>, usize) {
        let (mut alive, mut zombies) = (Vec::new(), 0);
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // "pid (name) state parent ..."; the name may hold anything.
            let mut fields = stat
                .rsplit(')')
                .next()
                .unwrap_or_default()
                .split_whitespace();
            let (state, of) = (fields.next(), fields.next());
            if of != Some(&*parent.to_string()) {
                continue;
            }
            if state == Some("Z") {
                zombies += 1;
            } else {
                alive.push(pid);
            }
        }
        (alive, zombies)
    }

    fn helper(setup: &Setup) -> i32 {
        until("one helper", || {
            let (alive, _) = helpers(setup.daemon.pid());
            (alive.len() == 1).then(|| alive[0])
        })
    }

    fn files(pid: u32) -> usize {
        fs::read_dir(PathBuf::from(format!("/proc/{pid}/fd")))
            .unwrap()
            .count()
    }

    fn running() -> Setup {
        let setup = Setup::with("MJPG", "run", &[320, 400], "stall_after = \"1s\"");
        setup.subscriber.wait_for_caption(320);
        setup
    }

    /// Until the daemon's log has the text once more than before.
    fn again(setup: &Setup, text: &str, fault: impl FnOnce()) {
        let count = || setup.daemon.log().matches(text).count();
        let before = count();
        fault();
        until(text.to_owned(), || (count() > before).then_some(()));
    }

    #[test]
    fn unplugged_and_replugged_under_another_number() {
        let setup = running();
        let start = Instant::now();
        let files_before = files(setup.daemon.pid());
        let rounds = if support::long() { 20 } else { 3 };
        for round in 0..rounds {
            again(&setup, "camera state: lost", || {
                setup.steer(&format!("unplug {round}"));
            });
            again(&setup, "camera state: ok", || {
                setup.steer(&format!("replug /dev/video{}", 8 + round % 4));
            });
            setup.wait_for_more_captions();
        }
        let pid = setup.daemon.pid();
        helper(&setup);
        assert_eq!(helpers(pid).1, 0, "a zombie is left");
        let files_now = files(pid);
        assert!(
            files_now <= files_before + 1,
            "{files_before} files, then {files_now}"
        );
        passed(
            "USB camera",
            &format!("{rounds} x unplugged, replugged under another number"),
            start.elapsed(),
        );
        setup.end();
    }

    #[test]
    fn a_stall_is_told_and_recovered_from() {
        let setup = running();
        let first = helper(&setup);
        let start = Instant::now();
        let told = |state: &'static str| {
            setup.subscriber.wait_for(state, move |message| {
                message.topic.ends_with("/camera/status") && message.json()["state"] == state
            })
        };
        told("ok");
        again(&setup, "camera state: stalled", || setup.steer("stall"));
        let stalled = told("stalled").json();
        assert!(
            stalled["reason"]
                .as_str()
                .unwrap()
                .contains("no whole frame")
        );
        let log = setup.daemon.log();
        assert!(
            log.contains("no whole frame for 1s (source.stall_after)"),
            "{log}"
        );
        assert_eq!(helpers(setup.daemon.pid()).1, 0, "a zombie is left");
        setup.steer("run again");
        setup.wait_for_more_captions();
        assert_ne!(
            helper(&setup),
            first,
            "the device was closed and opened again"
        );
        passed(
            "USB camera",
            "a stall: noticed, device reopened, captions again",
            start.elapsed(),
        );
        setup.end();
    }

    #[test]
    fn nothing_but_truncated_frames_is_a_stall() {
        for word in ["truncate", "truncate-stale"] {
            let setup = running();
            let start = Instant::now();
            setup.steer(word);
            if word == "truncate" {
                // Each frame is refused; the other word may leave one that looks whole.
                setup.daemon.wait_for_log("camera state: stalled");
            } else {
                std::thread::sleep(Duration::from_millis(500));
            }
            setup.steer("run again");
            setup.wait_for_more_captions();
            passed(
                "USB camera",
                &format!("frames damaged ({word})"),
                start.elapsed(),
            );
            setup.end();
        }
    }

    #[test]
    fn corrupt_frames_crash_nothing() {
        let setup = running();
        let start = Instant::now();
        let pid = helper(&setup);
        setup.steer("corrupt");
        std::thread::sleep(Duration::from_secs(2));
        setup.steer("run again");
        setup.wait_for_more_captions();
        assert_eq!(helper(&setup), pid, "no need to open it again");
        passed(
            "USB camera",
            "corrupt JPEG for two seconds",
            start.elapsed(),
        );
        setup.end();
    }

    #[test]
    fn a_frozen_picture_is_not_captioned_for_ever() {
        let lines = "stall_after = \"1s\"\nfrozen_after = \"1s\"";
        let setup = Setup::with("MJPG", "run", &[320], lines);
        setup.subscriber.wait_for_caption(320);
        let start = Instant::now();
        setup.daemon.wait_for_log("the same picture, byte for byte");
        setup.daemon.wait_for_log("camera state: stalled");
        let frozen = setup.captions();
        std::thread::sleep(Duration::from_secs(2));
        let later = setup.captions();
        // One frame may have been in the pipeline.
        assert!(later <= frozen + 2, "{frozen} captions, then {later}");
        // The emulation reads its folder when the next helper opens it.
        fs::write(setup.folder.path().join("frames/400.jpg"), jpeg(400)).unwrap();
        setup.subscriber.wait_for_caption(400);
        passed(
            "USB camera",
            "a frozen picture: held back until it changes",
            start.elapsed(),
        );
        setup.end();
    }

    #[test]
    fn a_helper_that_dies_is_replaced() {
        let setup = running();
        let start = Instant::now();
        let pid = helper(&setup);
        again(&setup, "camera state: ok", || {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        });
        setup.wait_for_more_captions();
        assert_ne!(helper(&setup), pid);
        let log = setup.end();
        assert!(log.contains("killed by signal 9"), "{log}");
        passed(
            "USB camera",
            "its process dies (a driver that crashes)",
            start.elapsed(),
        );
    }

    /// The helper of a daemon that is gone would hold the camera, and the next daemon would find
    /// it busy. While the camera stalls, no broken pipe tells it.
    #[test]
    fn no_helper_outlives_a_killed_daemon() {
        let setup = Setup::with("MJPG", "run", &[320, 400], "stall_after = \"10m\"");
        setup.subscriber.wait_for_caption(320);
        let pid = helper(&setup);
        setup.steer("stall");
        std::thread::sleep(Duration::from_millis(500));
        let start = Instant::now();
        setup.daemon.signal(Signal::KILL);
        let stat = format!("/proc/{pid}/stat");
        until("the helper ends", || {
            // An orphan that nobody reaps here stays a zombie; it holds nothing any more.
            fs::read_to_string(&stat)
                .map_or(true, |stat| stat.contains(") Z "))
                .then_some(())
        });
        passed(
            "USB camera",
            "kill -9 of the daemon while it stalls frees the camera",
            start.elapsed(),
        );
    }
}
