//! A real mosquitto on a free port, and a subscriber.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rumqttc::{Client, Event, MqttOptions, Packet, PublishOptions, QoS};
use rustix::process::{Pid, Signal, kill_process};

use super::until;

/// Killed when dropped.
pub struct Broker {
    child: Child,
    pub port: u16,
    folder: tempfile::TempDir,
}

/// The one user that a broker with a password knows.
pub const USER: &str = "installer";
pub const PASSWORD: &str = "correct horse";

pub fn program(name: &str) -> PathBuf {
    // Debian keeps the broker in /usr/sbin, which is not on every user's path.
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            panic!(
                "{name} is missing: these tests need a real broker; install it \
                 (Debian: apt-get install mosquitto openssl)"
            )
        })
}

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl Broker {
    /// Lets everybody in.
    pub fn open() -> Self {
        Self::open_on(free_port())
    }

    pub fn open_on(port: u16) -> Self {
        Self::start(port, "allow_anonymous true\n")
    }

    /// Lets in [`USER`] with [`PASSWORD`] only.
    pub fn with_password() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passwords");
        let made = Command::new(program("mosquitto_passwd"))
            .arg("-b")
            .arg("-c")
            .args([&file])
            .args([USER, PASSWORD])
            .status()
            .unwrap();
        assert!(made.success());
        let file = file.display();
        let config = format!("allow_anonymous false\npassword_file {file}\n");
        let broker = Self::start(free_port(), &config);
        drop(folder); // Read at its start.
        broker
    }

    /// Keeps its messages in this folder, and finds them there at its next start. What it has in memory it
    /// writes after each change.
    pub fn keeping(folder: &Path) -> Self {
        let place = folder.display();
        Self::start(
            free_port(),
            &format!(
                "allow_anonymous true\npersistence true\npersistence_location {place}/\n\
                 autosave_on_changes true\nautosave_interval 1\n"
            ),
        )
    }

    /// With these lines in its configuration too.
    pub fn start(port: u16, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mosquitto.conf");
        let log = folder.path().join("log");
        fs::write(
            &file,
            format!(
                // Started by root it would become another user, who can't read these files.
                // It forwards a message before it acknowledges it, as long as no window is full.
                "user root\nlistener {port} 127.0.0.1\n\
                 max_inflight_messages 0\nlog_dest file {}\nlog_type all\n{config}",
                log.display()
            ),
        )
        .unwrap();
        let mut child = Command::new(program("mosquitto"))
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("mosquitto listens", || {
            if let Some(status) = child.try_wait().unwrap() {
                let log = fs::read_to_string(&log).unwrap_or_default();
                panic!("mosquitto has ended ({status}): {log}");
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            child,
            port,
            folder,
        }
    }

    pub fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }

    /// SIGSTOP: it holds its connections and answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGKILL.
    pub fn kill(self) {}

    /// SIGTERM: it writes what it keeps.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        until("mosquitto ends", || self.child.try_wait().unwrap());
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn subscribe(&self) -> Subscriber {
        Subscriber::new(self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub topic: String,
    /// As text; a picture isn't.
    pub payload: String,
    pub bytes: Vec<u8>,
    /// It's what the broker had kept, not news.
    pub retained: bool,
}

impl Message {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.payload).unwrap()
    }
}

/// Subscribed to everything, keeps all that comes.
pub struct Subscriber {
    client: Client,
    messages: Arc<Mutex<Vec<Message>>>,
}

impl Subscriber {
    fn new(port: u16) -> Self {
        let id = format!("subscriber-{:x}", fastrand::u64(..));
        let mut options = MqttOptions::new(id, rumqttc::Broker::tcp("127.0.0.1", port));
        options.set_max_packet_size(8 << 20, 8 << 20);
        let (client, mut connection) = Client::builder(options).capacity(16).build();
        let messages = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&messages);
        client.subscribe("#", QoS::AtLeastOnce).unwrap();
        let (granted, subscribed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        kept.lock().unwrap().push(Message {
                            topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                            payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                            bytes: publish.payload.to_vec(),
                            retained: publish.retain,
                        });
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => granted.send(()).unwrap(),
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        // rumqttc sends a publish that is asked for later before the subscription.
        subscribed.recv_timeout(super::PATIENCE).unwrap();
        let subscriber = Self { client, messages };
        // Whatever the broker keeps has come before the answer to a message of our own.
        subscriber.settle();
        subscriber
    }

    /// Returns once everything that the broker had before is here.
    pub fn settle(&self) {
        let marker = format!("marker/{:x}", fastrand::u64(..));
        let options = PublishOptions::new(QoS::AtLeastOnce);
        self.client.publish(marker.as_str(), "", options).unwrap();
        self.wait_for(&marker, |message| message.topic == marker);
    }

    /// Publishes at least once.
    pub fn send(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        let options = PublishOptions::new(QoS::AtLeastOnce);
        self.client.publish(topic, payload.into(), options).unwrap();
    }

    /// Publishes for the broker to keep.
    pub fn send_retained(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(true);
        self.client.publish(topic, payload.into(), options).unwrap();
    }

    /// The newest health message for which this holds.
    pub fn wait_for_health(
        &self,
        what: &str,
        holds: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        until(what, || {
            let health = self.on("/health").pop()?.json();
            holds(&health).then_some(health)
        })
    }

    pub fn all(&self) -> Vec<Message> {
        let all = self.messages.lock().unwrap().clone();
        all.into_iter()
            .filter(|message| !message.topic.starts_with("marker/"))
            .collect()
    }

    /// All on topics that end so.
    pub fn on(&self, topic: &str) -> Vec<Message> {
        let all = self.all().into_iter();
        all.filter(|message| message.topic.ends_with(topic))
            .collect()
    }

    pub fn wait_for(&self, what: &str, matches: impl Fn(&Message) -> bool) -> Message {
        until(what, || {
            let messages = self.messages.lock().unwrap();
            messages.iter().find(|message| matches(message)).cloned()
        })
    }

    pub fn wait_for_status(&self, status: &str) -> Message {
        self.wait_for(status, |message| {
            message.topic.ends_with("/status") && message.payload == status
        })
    }

    /// The caption message whose caption says this width.
    pub fn wait_for_caption(&self, width: u32) -> Message {
        let text = format!("a picture {width} wide");
        self.wait_for(&text, |message| {
            message.topic.ends_with("/caption") && message.json()["caption"] == text
        })
    }
}
