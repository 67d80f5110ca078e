//! The installer's page over real sockets: who gets what, and what a hostile or slow client can do.
#![cfg(feature = "web")]

mod support;
#[path = "support/tiny.rs"]
mod tiny;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use captiond::caption::wording::{Reason, Verdict};
use captiond::captioner::{Neighbour, StageTimes};
use captiond::daemon::Counters;
use captiond::daemon::clock::{Clock, FakeClock};
use captiond::daemon::config::{Secret, WebConfig};
use captiond::daemon::controls::Controls;
use captiond::daemon::shutdown::Shutdown;
use captiond::daemon::trigger::demand::DemandFlag;
use captiond::frame::FrameQuality;
use captiond::publish::message::CaptionMessage;
use captiond::publish::{CameraState, Described, Publisher};
use captiond::source::{Frame, FrameSource, Pixels, SourceError};
use captiond::web::{Surroundings, Web};
use serde_json::Value;
use support::broker::free_port;
use support::process::{Daemon, be_the_daemon};
use support::{PATIENCE, drop_in, jpeg, until};
use tiny::whole_pack;

const TOKEN: &str = "q7Jx2mV0sLzT4bWn";

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

/// A page with everything around it, but no daemon.
struct Page {
    web: Web,
    address: SocketAddr,
    demand: DemandFlag,
    presses: Arc<AtomicUsize>,
    clock: Arc<FakeClock>,
}

impl Page {
    fn start() -> Self {
        let clock = Arc::new(FakeClock::new(SystemTime::UNIX_EPOCH));
        let shared = Arc::clone(&clock) as Arc<dyn Clock>;
        let controls = Controls::default();
        let demand = DemandFlag::new(&controls, Arc::clone(&shared));
        let presses = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&presses);
        demand.on_press(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let config = WebConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            token: Secret::new(TOKEN),
            hosts: vec!["porch.local".into()],
        };
        let around = Surroundings {
            device: "porch".into(),
            controls,
            counters: Arc::new(Counters::default()),
            demand: demand.clone(),
            clock: shared,
            shutdown: Shutdown::new(),
            limits: captiond::frame::Limits::default(),
            connected: Box::new(|| Some(false)),
        };
        let web = Web::start(config, around).unwrap();
        let address = web.address(PATIENCE).unwrap();
        Self {
            web,
            address,
            demand,
            presses,
            clock,
        }
    }

    fn get(&self, path: &str) -> Answer {
        ask(self.address, &with_token("GET", path))
    }

    fn state(&self) -> Value {
        self.get("/api/state").json()
    }

    /// A caption and its picture, as the pipeline publishes them.
    fn caption(&self, sequence: u64, verdict: Verdict, width: u32) {
        self.caption_of(sequence, verdict, jpeg(width));
    }

    fn caption_of(&self, sequence: u64, verdict: Verdict, picture: Vec<u8>) {
        let frame = frame(picture);
        let (ms, quality) = (times(), FrameQuality::default());
        let message = message(sequence, verdict, &ms, &quality);
        self.web.publish(&message).unwrap();
        self.web.publish_picture(&frame).unwrap();
    }
}

fn frame(bytes: Vec<u8>) -> Frame {
    Frame {
        pixels: Pixels::Encoded(bytes),
        origin: "porch.jpg".into(),
        taken: Duration::ZERO,
    }
}

/// A JPEG of more than a megabyte.
fn noise() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let picture = image::RgbImage::from_fn(1200, 1000, |_, _| {
        image::Rgb([(); 3].map(|()| random.u8(..)))
    });
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut bytes)
        .encode_image(&picture)
        .unwrap();
    assert!(bytes.len() > 1 << 20);
    bytes
}

fn times() -> StageTimes {
    StageTimes {
        embed: 41.5,
        total: 44.0,
        ..StageTimes::default()
    }
}

fn message<'a>(
    sequence: u64,
    verdict: Verdict,
    ms: &'a StageTimes,
    quality: &'a FrameQuality,
) -> CaptionMessage<'a> {
    CaptionMessage {
        schema: 2,
        caption: verdict.reason().is_none().then_some("a <b>red</b> door"),
        verdict,
        spoken: "perhaps a <b>red</b> door",
        confidence: 0.5,
        confidence_calibrated: true,
        alternatives: &[],
        quality,
        neighbours: &[] as &[Neighbour],
        ms,
        device: "porch",
        pack: "fake 1.0.0",
        origin: "porch.jpg",
        time: "1970-01-01T00:00:00.000Z".into(),
        time_synchronised: false,
        sequence,
    }
}

fn with_token(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.head);
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends these bytes and reads to the end.
fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    read(stream)
}

fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        body: bytes[end + 4..].to_vec(),
        head,
    }
}

#[test]
fn pictures_and_captions_are_for_those_with_the_token_alone() {
    let page = Page::start();
    page.caption(1, Verdict::Hedged, 100);
    let wrong = format!("{}x", &TOKEN[..15]);
    let longer = format!("{TOKEN}x");
    let paths = [
        ("GET", "/api/state"),
        ("GET", "/api/live.jpg"),
        ("GET", "/api/captioned.jpg"),
        ("POST", "/api/describe"),
    ];
    for (method, path) in paths {
        let ask = |more: &str| {
            let text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
            ask(page.address, &text)
        };
        let answers = [
            ask(""),
            ask(&format!("Authorization: Bearer {wrong}\r\n")),
            ask(&format!("Authorization: Bearer {longer}\r\n")),
            ask("Authorization: Bearer \r\n"),
            ask(&format!("Authorization: Basic {TOKEN}\r\n")),
            ask(&format!("Cookie: token={TOKEN}\r\n")),
        ];
        for answer in answers {
            assert_eq!(answer.status, 401, "{path}");
            assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"));
            assert!(!answer.text().contains("door") && !answer.text().contains(TOKEN));
        }
        // In the address it would end up in histories and logs, so it doesn't count there.
        let text = format!("{method} {path}?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(ask_status(page.address, &text), 401);
    }
    assert_eq!(page.presses.load(Ordering::Relaxed), 0);
    assert_eq!(page.get("/api/captioned.jpg").body, jpeg(100));
    assert_eq!(
        page.state()["caption"]["spoken"],
        "perhaps a <b>red</b> door"
    );
}

fn ask_status(address: SocketAddr, request: &str) -> u16 {
    ask(address, request).status
}

#[test]
fn every_answer_forbids_storing_sniffing_framing_and_other_origins() {
    let page = Page::start();
    page.caption(1, Verdict::Sure, 64);
    let host = "Host: localhost\r\n\r\n";
    let answers = [
        ask(page.address, &format!("GET / HTTP/1.1\r\n{host}")),
        page.get("/api/state"),
        page.get("/api/captioned.jpg"),
        page.get("/nothing"),
        ask(page.address, &format!("GET /api/state HTTP/1.1\r\n{host}")),
        ask(page.address, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        ask(page.address, "nonsense\r\n\r\n"),
        ask(page.address, &with_token("POST", "/api/describe")),
        // What a browser asks before another page may send a token.
        ask(
            page.address,
            &format!("OPTIONS /api/state HTTP/1.1\r\nOrigin: http://evil.example\r\n{host}"),
        ),
    ];
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 404, 401, 421, 400, 202, 405]);
    for answer in &answers {
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(answer.header("Referrer-Policy"), Some("no-referrer"));
        assert_eq!(answer.header("X-Frame-Options"), Some("DENY"));
        let policy = answer.header("Content-Security-Policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
        let head = answer.head.to_ascii_lowercase();
        assert!(!head.contains("access-control-") && !head.contains("set-cookie"));
        let length: usize = answer.header("Content-Length").unwrap().parse().unwrap();
        assert_eq!(length, answer.body.len());
    }
    let policy = answers[0].header("Content-Security-Policy").unwrap();
    assert!(policy.contains("script-src 'sha256-") && policy.contains("connect-src 'self'"));
    assert!(answers[0].text().contains("<html lang=\"en\">"));
    // Nothing in it that only those with the token may know.
    assert!(!answers[0].text().contains("porch"));
}

#[test]
fn a_name_that_was_made_to_point_here_is_refused() {
    let page = Page::start();
    for (host, status) in [
        ("localhost:8470", 200),
        ("127.0.0.1", 200),
        ("porch.local", 200),
        ("evil.example", 421),
        ("porch.local.evil.example:8470", 421),
    ] {
        for path in ["/", "/api/state"] {
            let request = with_token("GET", path).replace("localhost", host);
            assert_eq!(ask_status(page.address, &request), status, "{host}");
        }
    }
    assert_eq!(
        ask_status(page.address, "GET / HTTP/1.1\r\n\r\n"),
        400,
        "no name at all"
    );
}

#[test]
fn another_sites_page_can_neither_press_nor_read() {
    let page = Page::start();
    for lines in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        for (method, path) in [("POST", "/api/describe"), ("GET", "/api/state")] {
            // Even if it had the token.
            let request = with_token(method, path).replace("Host:", &format!("{lines}Host:"));
            assert_eq!(ask_status(page.address, &request), 403, "{lines}");
        }
    }
    assert!(!page.demand.pressed());
    let own = "Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\nHost:";
    let request = with_token("POST", "/api/describe").replace("Host:", own);
    assert_eq!(ask_status(page.address, &request), 202);
    assert!(page.demand.pressed());
}

#[test]
fn a_caption_can_be_asked_for_once_a_second() {
    let page = Page::start();
    let press = || ask_status(page.address, &with_token("POST", "/api/describe"));
    assert_eq!([press(), press(), press()], [202, 429, 429]);
    page.clock.advance(Duration::from_secs(1));
    assert_eq!(press(), 202);
    assert_eq!(page.presses.load(Ordering::Relaxed), 2);
    // A link or a picture on any page is a GET.
    assert_eq!(page.get("/api/describe").status, 405);
}

#[test]
fn odd_methods_and_addresses_get_their_status() {
    let page = Page::start();
    for (method, path, status) in [
        ("POST", "/", 405),
        ("PUT", "/api/state", 405),
        ("BREW", "/api/state", 405),
        ("GET", "/api", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/api/live.jpg", 404),
        ("GET", "//", 404),
    ] {
        let answer = ask(page.address, &with_token(method, path));
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(!answer.text().is_empty());
    }
    let answer = ask(page.address, &with_token("HEAD", "/"));
    let whole = ask(page.address, &with_token("GET", "/"));
    let length = answer
        .head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    assert_eq!(length, Some(whole.body.len().to_string().as_str()));
    assert!(answer.body.is_empty());
}

#[test]
fn large_requests_and_bodies_are_refused_and_the_client_sees_why() {
    let page = Page::start();
    let head = with_token("POST", "/api/describe");
    let with = |line: &str| head.replace("Host:", &format!("{line}\r\nHost:"));
    let long = format!("X: {}", "x".repeat(100_000));
    let many = "X: x\r\n".repeat(200);
    for (request, status) in [
        (with(&long), 431),
        (with(&many), 431),
        (format!("GET /{}", "x".repeat(1 << 20)), 431),
        (with("Content-Length: 5") + "12345", 413),
        (with("Content-Length: 99999999999999999999"), 413),
        (
            with("Transfer-Encoding: chunked") + "5\r\n12345\r\n0\r\n\r\n",
            413,
        ),
        ("\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".into(), 400),
    ] {
        let mut stream = connect(page.address);
        // The server may have answered and closed before all of a large one is sent.
        let _ = stream.write_all(request.as_bytes());
        assert_eq!(read_what_came(stream), Some(status), "{request:.40}");
    }
    assert_eq!(page.presses.load(Ordering::Relaxed), 0);
    assert_eq!(page.get("/api/state").status, 200);
}

/// The status, as far as an answer came before the connection was reset.
fn read_what_came(mut stream: TcpStream) -> Option<u16> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    text.split(' ').nth(1)?.parse().ok()
}

#[test]
fn a_client_that_is_silent_or_sends_byte_by_byte_is_sent_away() {
    let page = Page::start();
    let silent = connect(page.address);
    let slow = connect(page.address);
    let sender = std::thread::spawn({
        let mut slow = slow.try_clone().unwrap();
        move || {
            for byte in with_token("GET", "/api/state").bytes() {
                if slow.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(500));
            }
            panic!("the slow client was listened to");
        }
    });
    for mut stream in [silent, slow] {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }
    sender.join().unwrap();
    assert_eq!(page.get("/api/state").status, 200);
}

#[test]
fn one_address_gets_only_so_many_connections() {
    let page = Page::start();
    let mut silent: Vec<_> = (0..16).map(|_| connect(page.address)).collect();
    let answer = until("a refusal", || {
        let mut stream = connect(page.address);
        let _ = stream.write_all(with_token("GET", "/api/state").as_bytes());
        read_what_came(stream).filter(|status| *status == 503)
    });
    assert_eq!(answer, 503);
    silent.pop();
    until("room again", || {
        let mut stream = connect(page.address);
        let _ = stream.write_all(with_token("GET", "/api/state").as_bytes());
        read_what_came(stream).filter(|status| *status == 200)
    });
}

#[test]
fn clients_that_do_not_read_hold_nothing_up() {
    let page = Page::start();
    page.caption_of(1, Verdict::Sure, noise());
    // Each has asked for a picture that its socket can't hold, and doesn't read.
    let stuck: Vec<_> = (0..10)
        .map(|_| {
            let mut stream = connect(page.address);
            let request = with_token("GET", "/api/captioned.jpg");
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    for sequence in 2..=500 {
        page.caption(sequence, Verdict::Sure, 200);
    }
    let state = page.state();
    assert_eq!(state["caption"]["sequence"], 500);
    assert_eq!(state["caption"]["picture"], 500);
    assert_eq!(page.get("/api/captioned.jpg").body, jpeg(200));
    drop(stuck);
}

#[test]
fn whoever_waits_is_told_of_news_at_once() {
    let page = Page::start();
    page.caption(1, Verdict::Hedged, 64);
    let known = page.state()["number"].as_u64().unwrap();
    let mut waiting = connect(page.address);
    let path = format!("/api/state?after={known}");
    waiting
        .write_all(with_token("GET", &path).as_bytes())
        .unwrap();
    page.caption(2, Verdict::Unsure(Reason::Blurred), 64);
    let state = read(waiting).json();
    assert_eq!(state["caption"]["sequence"], 2);
    assert_eq!(state["caption"]["verdict"], "unsure");
    assert_eq!(state["caption"]["reason"], "blurred");
    assert_eq!(state["caption"]["caption"], Value::Null);
    assert_ne!(state["number"], known);
}

/// Gives the frames that it's made of, then ends.
struct Frames(Vec<Frame>);

impl FrameSource for Frames {
    fn origin(&self) -> &str {
        "frames"
    }

    fn next_frame(&mut self, _: &Shutdown) -> Result<Option<Frame>, SourceError> {
        match self.0.is_empty() {
            true => Err(SourceError::Ended {
                origin: "frames".into(),
            }),
            false => Ok(Some(self.0.remove(0))),
        }
    }
}

#[test]
fn the_state_has_all_that_an_installer_asks_for() {
    let page = Page::start();
    let state = page.state();
    for nothing_yet in ["live", "caption", "camera", "refusal"] {
        assert_eq!(state[nothing_yet], Value::Null, "{nothing_yet}");
    }
    page.clock.advance(Duration::from_secs(60));
    page.caption(7, Verdict::Hedged, 64);
    page.web
        .camera(&CameraState::lost(SystemTime::UNIX_EPOCH, "unplugged"));
    page.web
        .described(&Described::Withheld { confidence: 0.125 });
    let mut source = page.web.watch(Box::new(Frames(vec![frame(jpeg(320))])));
    let passed = source.next_frame(&Shutdown::new()).unwrap().unwrap();
    assert_eq!(passed, frame(jpeg(320)));
    assert!(source.next_frame(&Shutdown::new()).is_err());
    page.clock.advance(Duration::from_secs(5));

    let state = page.state();
    assert_eq!(state["device"], "porch");
    assert_eq!(state["camera"]["state"], "lost");
    assert_eq!(state["camera"]["reason"], "unplugged");
    assert_eq!(state["broker"], false);
    assert_eq!(
        state["refusal"].as_str().unwrap().split(':').next(),
        Some("Kept back")
    );
    let caption = &state["caption"];
    assert_eq!(caption["confidence"], 0.5);
    assert_eq!(caption["verdict"], "hedged");
    assert_eq!(caption["ms"]["embed"], 41.5);
    assert_eq!(caption["age"], 5.0);
    assert_eq!(caption["pack"], "fake 1.0.0");
    let live = &state["live"];
    assert_eq!((&live["width"], &live["height"]), (&320.into(), &24.into()));
    assert_eq!(live["problem"], Value::Null);
    // As `FrameQuality` measures it.
    let picture = captiond::frame::decode(&jpeg(320), Default::default()).unwrap();
    let quality = FrameQuality::measure(&picture).unwrap();
    let shown = serde_json::to_value(quality).unwrap();
    for (key, value) in shown.as_object().unwrap() {
        let (found, expected) = (live["quality"][key].as_f64(), value.as_f64());
        assert!((found.unwrap() - expected.unwrap()).abs() < 1e-6, "{key}");
    }
    for part in ["light", "sharpness"] {
        let word = live["aiming"][part]["word"].as_str().unwrap();
        assert!(!word.is_empty());
    }
    assert_eq!(page.get("/api/live.jpg").body, jpeg(320));
    assert!(state["health"]["memory"].as_u64().unwrap() > 1 << 20);
    assert_eq!(state["health"]["uptime"], 65);
}

#[test]
fn a_frame_that_is_no_picture_is_told() {
    let page = Page::start();
    let bad = frame(b"GIF89a, which is no picture here".to_vec());
    let mut source = page.web.watch(Box::new(Frames(vec![bad])));
    source.next_frame(&Shutdown::new()).unwrap();
    let state = page.state();
    assert!(state["live"]["problem"].as_str().is_some(), "{state}");
    assert_eq!(state["live"]["aiming"], Value::Null);
    assert_eq!(page.get("/api/live.jpg").status, 404);
}

#[test]
fn after_the_end_nobody_waits_and_the_port_is_free() {
    let page = Page::start();
    let known = page.state()["number"].as_u64().unwrap();
    let mut waiting = connect(page.address);
    let path = format!("/api/state?after={known}");
    waiting
        .write_all(with_token("GET", &path).as_bytes())
        .unwrap();
    // Until it is waited on: a connection that nobody has accepted yet is reset.
    std::thread::sleep(Duration::from_millis(500));
    page.web.close(Duration::from_millis(100));
    assert_eq!(read(waiting).status, 200);
    until("the port is free", || TcpListener::bind(page.address).ok());
}

// --- With the daemon around it ------------------------------------------------------------------

fn write_token(folder: &Path) {
    let file = folder.join("token");
    fs::write(&file, TOKEN).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A daemon that watches `<folder>/in`, and has nothing but the page.
fn config(folder: &Path, listen: &str) -> String {
    let _ = fs::create_dir(folder.join("in"));
    write_token(folder);
    format!(
        "[device]\nid = \"porch\"\n\
         [source]\nkind = \"folder\"\npath = \"in\"\nexisting = \"caption\"\npoll = \"20ms\"\n\
         [web]\nlisten = \"{listen}\"\ntoken_file = \"token\"\n"
    )
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn wait_for_caption(address: SocketAddr, sequence: u64) -> Value {
    let start = Instant::now();
    loop {
        let state = ask(address, &with_token("GET", "/api/state")).json();
        if state["caption"]["sequence"].as_u64() >= Some(sequence) {
            return state;
        }
        assert!(start.elapsed() < PATIENCE, "{state}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_daemons_captions_come_to_the_page_however_many_clients_are_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let address = local(free_port());
    let daemon = Daemon::start(folder.path(), &config(folder.path(), &address.to_string()));
    daemon.wait_for_log("the page is at");
    let incoming = folder.path().join("in");
    drop_in(&incoming, "1.jpg", &noise());
    let state = wait_for_caption(address, 1);
    assert_eq!(state["caption"]["spoken"], "perhaps a picture 1200 wide");
    assert_eq!(state["caption"]["verdict"], "hedged");
    assert_eq!(state["live"]["width"], 1200);
    assert_eq!(state["camera"]["state"], "ok");
    assert_eq!(state["broker"], Value::Null);
    let stuck: Vec<_> = (0..12)
        .map(|number| {
            let mut stream = connect(address);
            let path = ["/api/captioned.jpg", "/api/state?after=0", "/api/live.jpg"][number % 3];
            stream
                .write_all(with_token("GET", path).as_bytes())
                .unwrap();
            stream
        })
        .collect();
    for number in 2..=30 {
        drop_in(&incoming, &format!("{number}.jpg"), &jpeg(100 + number));
    }
    let state = wait_for_caption(address, 30);
    let picture = ask(address, &with_token("GET", "/api/captioned.jpg")).body;
    let width = image::load_from_memory(&picture).unwrap().width();
    let spoken = format!("perhaps a picture {width} wide");
    assert_eq!(state["caption"]["spoken"], spoken.as_str());
    drop(stuck);
    // The end doesn't wait for whoever has asked for news.
    let mut waiting = connect(address);
    let path = format!("/api/state?after={}", state["number"]);
    waiting
        .write_all(with_token("GET", &path).as_bytes())
        .unwrap();
    let (status, _) = daemon.terminate();
    assert!(status.success(), "{status}");
}

/// The real program, killed when dropped: its log has every level.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn neither_token_nor_request_is_in_the_log_but_a_guess_is() {
    let folder = tempfile::tempdir().unwrap();
    let pack = whole_pack(folder.path());
    let address = local(free_port());
    let (file, log) = (
        folder.path().join("captiond.toml"),
        folder.path().join("log"),
    );
    fs::write(&file, config(folder.path(), &address.to_string())).unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_captiond"))
        .args(["run", "--config"])
        .arg(&file)
        .arg("--pack")
        .arg(pack.path())
        .env("CAPTIOND_LOG", "trace")
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let program = Program(program);
    let read_log = || fs::read_to_string(&log).unwrap();
    until("the page", || {
        read_log().contains("the page is at").then_some(())
    });
    let guess = "an0ther-t0ken-of-16";
    let in_the_address = format!("/api/state?token={TOKEN}");
    assert_eq!(
        ask_status(address, &with_token("GET", &in_the_address)),
        200
    );
    for _ in 0..3 {
        let request = with_token("GET", "/api/state").replace(TOKEN, guess);
        assert_eq!(ask_status(address, &request), 401);
    }
    // A connection that ends in the middle is logged at this level.
    drop(connect(address));
    until("that line", || {
        read_log().contains("connection ended").then_some(())
    });
    drop(program);
    let log = read_log();
    assert_eq!(
        log.matches("wrong token from 127.0.0.1").count(),
        1,
        "{log}"
    );
    for secret in [TOKEN, guess, "api/state"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn a_port_that_is_taken_stops_no_captions_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let other = TcpListener::bind(local(0)).unwrap();
    let address = other.local_addr().unwrap();
    let text = config(folder.path(), &address.to_string());
    let daemon = Daemon::start(folder.path(), &text);
    let line = daemon.wait_for_log("no page");
    assert!(line.contains("web.listen"), "{line}");
    drop_in(&folder.path().join("in"), "1.jpg", &jpeg(100));
    daemon.wait_for_log("the model has a frame");
    drop(other);
    daemon.wait_for_log("the page is at");
    wait_for_caption(address, 1);
}

#[test]
fn a_page_for_the_network_says_that_it_is_not_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let text = config(folder.path(), &format!("0.0.0.0:{port}"));
    let daemon = Daemon::start(folder.path(), &text);
    daemon.wait_for_log("http isn't encrypted");
    let missing = "GET /api/state HTTP/1.1\r\nHost: 192.168.1.7\r\n\r\n";
    until("the page", || TcpStream::connect(local(port)).ok());
    assert_eq!(ask_status(local(port), missing), 401);
}

/// The ports that a process listens on, from the kernel.
fn listens_on(pid: u32) -> Vec<u16> {
    let mut inodes = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let link = fs::read_link(entry.path()).unwrap_or_default();
        let link = link.to_string_lossy().into_owned();
        if let Some(inode) = link.strip_prefix("socket:[") {
            inodes.push(inode.trim_end_matches(']').to_owned());
        }
    }
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            // Listening, or UDP, which needs no connection.
            let open = words[3] == "0A" || table.starts_with("udp");
            if open && inodes.iter().any(|inode| inode == words[9]) {
                let port = words[1].rsplit(':').next().unwrap();
                ports.push(u16::from_str_radix(port, 16).unwrap());
            }
        }
    }
    ports
}

#[test]
fn a_port_is_open_only_if_the_configuration_asks_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let with = config(folder.path(), &local(port).to_string());
    let without = with.split("[web]").next().unwrap().to_owned()
        + "[speech]\nvia = \"command\"\ncommand = [\"cat\"]\n";
    for (text, ports) in [(with, vec![port]), (without, vec![])] {
        let daemon = Daemon::start(folder.path(), &text);
        let picture = drop_in(&folder.path().join("in"), "1.jpg", &jpeg(100));
        daemon.wait_for_log("the model has a frame");
        until("it listens as it should", || {
            (listens_on(daemon.pid()) == ports).then_some(())
        });
        fs::remove_file(picture).unwrap();
    }
}

#[test]
fn a_changed_section_asks_for_a_restart() {
    use rustix::process::Signal;

    let folder = tempfile::tempdir().unwrap();
    let text = config(folder.path(), &local(free_port()).to_string());
    let daemon = Daemon::start(folder.path(), &text);
    daemon.wait_for_log("the page is at");
    let file = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|name| name == "toml"))
        .unwrap();
    fs::write(&file, text + "hosts = [\"porch.local\"]\n").unwrap();
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for_log("restart captiond");
    assert!(line.contains("old values: web;"), "{line}");
}
