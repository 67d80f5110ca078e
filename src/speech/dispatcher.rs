//! A client of speech-dispatcher (its protocol is SSIP; "Speech Dispatcher: SSIP" of the Free(b)soft
//! project is the reference): the seven commands that we need.
//!
//! Not the crate ssip-client 0.10: it sets the compile-time log level of every other crate (features
//! of `log`), adds six crates to the tree for these commands (itself, dirs, dirs-sys, option-ext,
//! strum, strum_macros), and cuts answers at byte places, which panics on a bad one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::daemon::config::SpeechConfig;

/// So long the server may take for an answer, or for reading a command.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longer answers are none of this protocol.
const LONGEST_ANSWER: u64 = 4096;

/// A connection. Dropping it says QUIT.
#[derive(Debug)]
pub struct Dispatcher {
    answers: BufReader<UnixStream>,
}

impl Dispatcher {
    /// Connects and sets rate, language and voice.
    ///
    /// # Errors
    /// When nobody is there, or refuses (its words are in the error).
    pub fn connect(config: &SpeechConfig, socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut server = Self {
            answers: BufReader::new(stream),
        };
        server.command("SET self CLIENT_NAME captiond:captiond:main")?;
        // A screen reader's words aren't cut off by ours, nor ours by its next ones.
        server.command("SET self PRIORITY message")?;
        server.command(&format!("SET self LANGUAGE {}", config.language))?;
        server.command(&format!("SET self RATE {}", config.rate))?;
        if let Some(voice) = &config.voice {
            server.command(&format!("SET self SYNTHESIS_VOICE {voice}"))?;
        }
        Ok(server)
    }

    /// Ends what is being said for us, and what waits.
    ///
    /// # Errors
    /// When the connection is lost or the server refuses.
    pub fn cancel(&mut self) -> io::Result<()> {
        self.command("CANCEL self")
    }

    /// Lets it say one line of text.
    ///
    /// # Errors
    /// As for [`Dispatcher::cancel`].
    pub fn speak(&mut self, line: &str) -> io::Result<()> {
        self.command("SPEAK")?;
        // A line of one dot ends the text; a dot in front of another is taken away by the server.
        let dot = if line.starts_with('.') { "." } else { "" };
        self.command(&format!("{dot}{line}\r\n."))
    }

    /// Sends a command and waits until the server has done it.
    fn command(&mut self, command: &str) -> io::Result<()> {
        self.send(command)?;
        loop {
            let mut line = Vec::new();
            let mut answer = (&mut self.answers).take(LONGEST_ANSWER);
            answer.read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            // "225-21" is part of an answer, "225 OK MESSAGE QUEUED" its end; 2xx is well.
            let bytes = text.as_bytes();
            match (bytes.first(), bytes.get(3)) {
                (Some(b'1'..=b'7'), Some(b'-')) => {}
                // An event that nobody has asked for.
                (Some(b'7'), Some(b' ')) => {}
                (Some(b'2'), Some(b' ')) => return Ok(()),
                _ => {
                    let command = command.lines().next().unwrap_or_default();
                    return Err(io::Error::other(format!(
                        "{command:?} is answered {text:?}"
                    )));
                }
            }
        }
    }

    fn send(&mut self, command: &str) -> io::Result<()> {
        self.answers
            .get_mut()
            .write_all(format!("{command}\r\n").as_bytes())
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        // If that fails, the closed connection says it.
        let _ = self.send("QUIT");
    }
}
