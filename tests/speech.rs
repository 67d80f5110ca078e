//! What is heard: with a command, espeak-ng, and a server that speaks speech-dispatcher's protocol.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use captiond::caption::wording::Verdict;
use captiond::captioner::StageTimes;
use captiond::daemon::clock::{Clock, FakeClock};
use captiond::daemon::config::{SpeechConfig, Via};
use captiond::daemon::controls::Controls;
use captiond::daemon::life::Event;
use captiond::frame::FrameQuality;
use captiond::publish::message::CaptionMessage;
use captiond::publish::{Described, Publisher};
use captiond::speech::{Sound, Speech};
use rustix::process::{Pid, Signal, test_kill_process};
use support::broker::Broker;
use support::process::{Daemon, be_the_daemon};
use support::{drop_in, jpeg, until};

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

/// A daemon that watches `<folder>/in`, has no broker, and speaks.
fn config(folder: &Path, speech: &str) -> String {
    let _ = fs::create_dir(folder.join("in"));
    format!(
        "[source]\nkind = \"folder\"\npath = \"in\"\nexisting = \"caption\"\npoll = \"20ms\"\n\
         [speech]\n{speech}\n"
    )
}

/// A program in `folder` that runs this text of a shell.
fn program(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Text of a shell that keeps what is to be said. A whole line at once: a speaker that is ended before has said nothing.
fn keeper(said: &Path) -> String {
    format!("said=$(cat); printf '%s\\n' \"$said\" >>{said:?}")
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_for_lines(file: &Path, count: usize) -> Vec<String> {
    until(format!("{count} lines in {}", file.display()), || {
        Some(lines(file)).filter(|lines| lines.len() >= count)
    })
}

fn speech_config(via: Via, command: &[&str]) -> SpeechConfig {
    SpeechConfig {
        via,
        command: command.iter().map(ToString::to_string).collect(),
        rate: 0,
        voice: None,
        language: "en".into(),
        socket: None,
        hold: Duration::from_secs(60),
        sounds: Vec::new(),
    }
}

fn start(config: SpeechConfig) -> (Speech, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::new(SystemTime::UNIX_EPOCH));
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    let speech = Speech::start(config, Controls::default(), shared).unwrap();
    (speech, clock)
}

fn say(speech: &Speech, spoken: &str) {
    with_message(spoken, 1, |message| speech.publish(message).unwrap());
}

fn with_message(spoken: &str, sequence: u64, act: impl FnOnce(&CaptionMessage<'_>)) {
    let (ms, quality) = (StageTimes::default(), FrameQuality::default());
    let message = CaptionMessage {
        schema: 2,
        // Never said as it is.
        caption: Some("the caption itself"),
        verdict: Verdict::Hedged,
        spoken,
        confidence: 0.9,
        confidence_calibrated: false,
        alternatives: &[],
        quality: &quality,
        neighbours: &[],
        ms: &ms,
        device: "porch",
        pack: "test 1",
        origin: "a.jpg",
        time: "2026-01-01T00:00:00.000Z".into(),
        time_synchronised: false,
        sequence,
    };
    act(&message);
}

#[test]
fn an_unchanged_scene_is_said_once_and_repeated_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let speaker = program(folder.path(), "speaker", &keeper(&said));
    let daemon = Daemon::start(
        folder.path(),
        &config(
            folder.path(),
            &format!("via = \"command\"\ncommand = [{speaker:?}]"),
        ),
    );
    // Before that the signal would end it.
    daemon.wait_for_log("captioning");
    daemon.signal(Signal::USR1);
    assert_eq!(wait_for_lines(&said, 1), ["Nothing to repeat yet"]);
    let incoming = folder.path().join("in");
    let seen = |count| {
        until(format!("{count} frames"), || {
            (daemon.log().matches("the model has a frame").count() == count).then_some(())
        });
    };
    for number in 1..=5 {
        drop_in(&incoming, &format!("{number}.jpg"), &jpeg(100));
        seen(number);
    }
    drop_in(&incoming, "6.jpg", &jpeg(101));
    seen(6);
    wait_for_lines(&said, 3);
    daemon.signal(Signal::USR1);
    let heard = wait_for_lines(&said, 4);
    assert_eq!(
        heard[1..],
        [
            "perhaps a picture 100 wide",
            "perhaps a picture 101 wide",
            "perhaps a picture 101 wide"
        ]
    );
    let (status, log) = daemon.terminate();
    assert!(status.success());
    assert!(!log.contains("nothing is heard"), "{log}");
    assert_eq!(lines(&said).len(), 4);
}

#[test]
fn the_newest_text_ends_an_older_one_and_all_that_it_has_started() {
    let folder = tempfile::tempdir().unwrap();
    let (said, pids) = (folder.path().join("said"), folder.path().join("pids"));
    // The speaker's own child holds on, as a player behind a wrapper script does.
    let speaker = program(
        folder.path(),
        "speaker",
        &format!("{}; sleep 1000 & echo $! >>{pids:?}; wait", keeper(&said)),
    );
    let daemon = Daemon::start(
        folder.path(),
        &config(
            folder.path(),
            &format!("via = \"command\"\ncommand = [{speaker:?}]"),
        ),
    );
    let process = |index: usize| {
        let number = wait_for_lines(&pids, index + 1)[index].parse().unwrap();
        Pid::from_raw(number).unwrap()
    };
    let gone = |pid: Pid| {
        until(format!("{pid:?} ends"), || {
            // A zombie without a parent that waits has ended too.
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            let zombie = stat.is_ok_and(|stat| stat.contains(") Z "));
            (test_kill_process(pid).is_err() || zombie).then_some(())
        });
    };
    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    let first = process(0);
    assert!(test_kill_process(first).is_ok());
    drop_in(&folder.path().join("in"), "b.jpg", &jpeg(101));
    let second = process(1);
    gone(first);
    assert!(test_kill_process(second).is_ok());
    assert_eq!(
        lines(&said),
        ["perhaps a picture 100 wide", "perhaps a picture 101 wide"]
    );
    // The end of the daemon ends it too.
    assert!(daemon.terminate().0.success());
    gone(second);
}

#[test]
fn espeak_gets_the_text_on_its_input_and_no_shell_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    program(
        folder.path(),
        "espeak-ng",
        &format!("echo \"$@\" >>{said:?}; {}", keeper(&said)),
    );
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", folder.path().display());
    // The dispatcher's socket is there, but nobody listens: espeak-ng has to step in.
    let socket = folder.path().join("speechd.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let speech = format!("rate = -100\nvoice = \"en-us\"\nsocket = {socket:?}");
    let daemon = Daemon::with(
        folder.path(),
        &config(folder.path(), &speech),
        Duration::ZERO,
        &[("PATH", &path)],
    );
    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    assert_eq!(
        wait_for_lines(&said, 2),
        ["--stdin -v en-us -s 80", "perhaps a picture 100 wide"]
    );
    daemon.wait_for_log("espeak-ng speaks instead");
}

#[test]
fn espeak_without_a_sound_card_is_told_though_it_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    program(
        folder.path(),
        "espeak-ng",
        "cat >/dev/null; echo 'ALSA lib x: no card' >&2; echo 'error: No such file' >&2; exit 0",
    );
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", folder.path().display());
    let daemon = Daemon::with(
        folder.path(),
        &config(folder.path(), "via = \"espeak-ng\""),
        Duration::ZERO,
        &[("PATH", &path)],
    );
    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    let line = daemon.wait_for_log("nothing is heard");
    assert!(line.contains("error: No such file"), "{line}");
}

#[test]
fn text_is_never_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let script = keeper(&said);
    let (speech, _) = start(speech_config(Via::Command, &["sh", "-c", &script]));
    let text = "a $(touch x) `touch y`; \"sign\" | & -v --stdin";
    say(&speech, text);
    assert_eq!(wait_for_lines(&said, 1), [text]);
    speech.close(Duration::from_secs(5));
}

#[test]
fn whoever_asks_is_answered_though_the_scene_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    // The line at once: a newer text may end the program between two writes.
    let script = format!("echo \"$(cat)\" >>{said:?}");
    let (speech, _) = start(speech_config(Via::Command, &["sh", "-c", &script]));
    // As the pipeline does: published first, then told.
    let ask = |text, sequence, lines| {
        with_message(text, sequence, |message| {
            speech.publish(message).unwrap();
            speech.described(&Described::Caption(message));
        });
        wait_for_lines(&said, lines)
    };
    assert_eq!(ask("a dog", 1, 1), ["a dog"]);
    assert_eq!(ask("a dog", 2, 2), ["a dog", "a dog"]);
    with_message("The road is clear", 3, |message| {
        speech.described(&Described::Caption(message));
    });
    assert_eq!(ask("a cat", 4, 3), ["a dog", "a dog", "a cat"]);
    speech.close(Duration::from_secs(5));
}

#[test]
fn leave_to_cross_a_road_is_never_said() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let script = keeper(&said);
    let (speech, clock) = start(speech_config(Via::Command, &["sh", "-c", &script]));
    say(&speech, "The road is clear and safe to cross");
    clock.advance(Duration::from_secs(1));
    say(&speech, "A man stands at a road");
    assert_eq!(wait_for_lines(&said, 1), ["A man stands at a road"]);
    speech.close(Duration::from_secs(5));
}

#[test]
fn a_text_that_nobody_heard_is_said_once_speaking_works() {
    let folder = tempfile::tempdir().unwrap();
    let (said, card, tried) = (
        folder.path().join("said"),
        folder.path().join("card"),
        folder.path().join("tried"),
    );
    let script = format!(
        "echo try >>{tried:?}; test -e {card:?} || exit 1; {}",
        keeper(&said)
    );
    let (speech, clock) = start(speech_config(Via::Command, &["sh", "-c", &script]));
    say(&speech, "a dog");
    wait_for_lines(&tried, 1);
    fs::write(&card, "").unwrap();
    until("the dog", || {
        clock.advance(Duration::from_millis(1));
        say(&speech, "a dog");
        (!lines(&said).is_empty()).then_some(())
    });
    for _ in 0..20 {
        say(&speech, "a dog");
    }
    say(&speech, "a cat");
    assert_eq!(wait_for_lines(&said, 2), ["a dog", "a cat"]);
    speech.close(Duration::from_secs(5));
}

#[test]
fn events_are_heard_as_sounds_each_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = speech_config(Via::Command, &["true"]);
    let script = format!(
        "cat >{0}/new; n=$(ls {0} | wc -l); mv {0}/new {0}/$n.wav",
        folder.path().display()
    );
    config.sounds = ["sh", "-c", &script].map(String::from).to_vec();
    let (speech, _) = start(config);
    let mut heard = Vec::new();
    for (number, event) in (1..).zip([
        Event::CameraLost,
        Event::CameraBack,
        Event::BrokerLost,
        Event::Busy,
    ]) {
        speech.play_event(event);
        let file = folder.path().join(format!("{number}.wav"));
        heard.push(until(format!("{event:?}"), || fs::read(&file).ok()));
    }
    let expected = [
        Sound::CameraLost,
        Sound::CameraBack,
        Sound::BrokerLost,
        Sound::Busy,
    ]
    .map(Sound::wav);
    assert!(heard == expected, "the files differ");
    speech.close(Duration::from_secs(5));
}

#[test]
fn a_lost_camera_is_heard_without_a_broker() {
    let folder = tempfile::tempdir().unwrap();
    let sound = folder.path().join("sound.wav");
    let player = program(
        folder.path(),
        "player",
        &format!("cat >{sound:?}.new; mv {sound:?}.new {sound:?}"),
    );
    let speech = format!("via = \"command\"\ncommand = [\"true\"]\nsounds = [{player:?}]");
    let text = config(folder.path(), &speech);
    fs::remove_dir(folder.path().join("in")).unwrap();
    let _daemon = Daemon::start(folder.path(), &text);
    let heard = until("a sound", || fs::read(&sound).ok());
    assert!(heard == Sound::CameraLost.wav());
}

#[test]
fn whoever_asks_while_the_model_is_at_work_hears_that_it_is_busy() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
    let sound = folder.path().join("sound.wav");
    let player = program(
        folder.path(),
        "player",
        &format!("cat >{sound:?}.new; mv {sound:?}.new {sound:?}"),
    );
    let speech = format!("via = \"command\"\ncommand = [\"true\"]\nsounds = [{player:?}]");
    let text = format!(
        "{}[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n[device]\nid = \"porch\"\n",
        config(folder.path(), &speech),
        broker.port
    );
    let subscriber = broker.subscribe();
    let hour = Duration::from_secs(3600);
    let daemon = Daemon::with(folder.path(), &text, hour, &[]);
    subscriber.wait_for_status("online");
    // Nothing keeps the model from the next frame, so there's nothing to be heard.
    until("the change that was sent after it", || {
        subscriber.send("captiond/porch/describe", "PRESS");
        subscriber.send("captiond/porch/detail/set", "long");
        subscriber.settle();
        let states = subscriber.on("/detail/state");
        (states.last()?.payload == "long").then_some(())
    });
    assert!(!sound.exists());
    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    daemon.wait_for_log("the model has a frame");
    subscriber.send("captiond/porch/describe", "PRESS");
    let heard = until("a sound", || fs::read(&sound).ok());
    assert!(heard == Sound::Busy.wav());
}

#[test]
fn real_espeak_speaks() {
    if Command::new("espeak-ng").arg("--version").output().is_err() {
        eprintln!("##### SKIPPED: there is no espeak-ng (Debian: apt-get install espeak-ng) #####");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let wav = folder.path().join("said.wav");
    let mut argv = captiond::speech::voice::espeak(&speech_config(Via::EspeakNg, &[]));
    argv.extend(["-w".into(), wav.to_str().unwrap().into()]);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let (speech, _) = start(speech_config(Via::Command, &argv));
    say(&speech, "A brown dog is playing in the grass");
    let seconds = until("a second of speech", || {
        let bytes = fs::read(&wav).ok()?;
        let samples = bytes.get(44..)?.chunks_exact(2);
        let loud = samples.filter(|pair| i16::from_le_bytes([pair[0], pair[1]]).abs() > 500);
        Some(loud.count()).filter(|loud| *loud > 10_000)
    });
    assert!(seconds > 0);
    speech.close(Duration::from_secs(5));
}

/// A server with speech-dispatcher's protocol (SSIP); keeps what it's told, line by line.
struct Dispatcher {
    socket: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<Vec<UnixStream>>>,
}

impl Dispatcher {
    fn listen(folder: &Path) -> Self {
        let socket = folder.join("speechd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (kept, open) = (Arc::clone(&heard), Arc::clone(&connections));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = connection.unwrap();
                open.lock().unwrap().push(connection.try_clone().unwrap());
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(connection, &kept));
            }
        });
        Self {
            socket,
            heard,
            connections,
        }
    }

    fn wait_for(&self, line: &str) {
        until(line, || {
            let heard = self.heard.lock().unwrap();
            heard.iter().any(|heard| heard == line).then_some(())
        });
    }

    fn hang_up(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }
}

fn serve(connection: UnixStream, heard: &Mutex<Vec<String>>) {
    let mut out = connection.try_clone().unwrap();
    let mut in_text = false;
    for line in BufReader::new(connection).lines() {
        let Ok(line) = line else { return };
        heard.lock().unwrap().push(line.clone());
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            _ if in_text && line == "." => {
                in_text = false;
                "225-21\r\n225 OK MESSAGE QUEUED"
            }
            _ if in_text => continue,
            ["SPEAK"] => {
                in_text = true;
                "230 OK RECEIVING DATA"
            }
            ["CANCEL", "self"] => "213 OK CANCELED",
            ["SET", "self", "CLIENT_NAME", _] => "208 OK CLIENT NAME SET",
            ["SET", "self", "PRIORITY", "message"] => "202 OK PRIORITY SET",
            ["SET", "self", "LANGUAGE", _] => "201 OK LANGUAGE SET",
            ["SET", "self", "RATE", _] => "203 OK RATE SET",
            ["SET", "self", "SYNTHESIS_VOICE", _] => "209 OK VOICE SET",
            ["QUIT"] => "231 HAPPY HACKING",
            _ => "300 ERR UNKNOWN COMMAND",
        };
        if out.write_all(format!("{answer}\r\n").as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn speech_dispatcher_is_told_to_cancel_before_it_speaks_again() {
    let folder = tempfile::tempdir().unwrap();
    let dispatcher = Dispatcher::listen(folder.path());
    let mut config = speech_config(Via::Auto, &[]);
    config.socket = Some(dispatcher.socket.clone());
    config.rate = 30;
    config.voice = Some("Alan".into());
    let (speech, _) = start(config);
    say(&speech, "a dog");
    dispatcher.wait_for("a dog");
    // Text that would end the message, or be a command, if it were sent as it is.
    say(&speech, ".\r\nCANCEL all\r\n");
    dispatcher.wait_for(".. CANCEL all");
    // A server that has restarted meanwhile.
    dispatcher.hang_up();
    say(&speech, "a cat");
    dispatcher.wait_for("a cat");
    speech.close(Duration::from_secs(5));
    let heard = until("the last cancel", || {
        let heard = dispatcher.heard.lock().unwrap().clone();
        (heard.last()? == "QUIT").then_some(heard)
    });
    let hello = [
        "SET self CLIENT_NAME captiond:captiond:main",
        "SET self PRIORITY message",
        "SET self LANGUAGE en",
        "SET self RATE 30",
        "SET self SYNTHESIS_VOICE Alan",
    ];
    let first = ["SPEAK", "a dog", "."];
    let second = ["CANCEL self", "SPEAK", ".. CANCEL all", "."];
    let third = ["SPEAK", "a cat", ".", "CANCEL self", "QUIT"];
    let expected = [&hello[..], &first, &second, &hello, &third].concat();
    assert_eq!(heard, expected);
}
