//! `[speech]`: saying captions aloud.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::check::duration;
use super::{ConfigError, Place};

/// `[speech]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechConfig {
    /// What speaks. Default: "auto".
    pub via: Via,
    /// Program and arguments for `via = "command"`, one string each; it gets the text on its
    /// standard input. No shell is involved. Default: none.
    pub command: Vec<String>,
    /// -100 (slowest) to 100 (fastest). Default: 0.
    pub rate: i8,
    /// A voice of speech-dispatcher or espeak-ng, by its name there. Default: their own.
    pub voice: Option<String>,
    /// Language of the captions, such as "en" or "de-AT". Default: "en".
    pub language: String,
    /// Socket of speech-dispatcher. Default: `speech-dispatcher/speechd.sock` below
    /// `$XDG_RUNTIME_DIR`, else below `/run`.
    pub socket: Option<PathBuf>,
    /// A text is said again only after it hasn't been true for so long. Default: "1m".
    pub hold: Duration,
    /// Program and arguments that play a WAV file from standard input: short sounds for a lost
    /// camera or broker and for "busy". Default: none, so no sounds.
    pub sounds: Vec<String>,
}

/// What speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// speech-dispatcher where it runs, else espeak-ng.
    Auto,
    /// speech-dispatcher through its socket.
    SpeechDispatcher,
    /// The program espeak-ng.
    EspeakNg,
    /// `speech.command`.
    Command,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpeech {
    via: Option<Spanned<Via>>,
    command: Option<Spanned<Vec<String>>>,
    rate: Option<Spanned<i8>>,
    voice: Option<Spanned<String>>,
    language: Option<Spanned<String>>,
    socket: Option<Spanned<PathBuf>>,
    #[serde(default, deserialize_with = "duration")]
    hold: Option<Spanned<Duration>>,
    sounds: Option<Spanned<Vec<String>>>,
}

impl RawSpeech {
    pub(super) fn check(self, place: &Place) -> Result<SpeechConfig, ConfigError> {
        let via = self.via.as_ref().map_or(Via::Auto, |via| *via.as_ref());
        match (&self.command, &self.via) {
            (None, Some(given)) if via == Via::Command => {
                return Err(place.invalid(
                    "speech.via",
                    given.span(),
                    "\"command\" needs speech.command, the program and its arguments",
                ));
            }
            (Some(command), _) if via != Via::Command => {
                return Err(place.invalid(
                    "speech.command",
                    command.span(),
                    "belongs to via = \"command\"; add that, or remove the command",
                ));
            }
            _ => {}
        }
        for (key, argv, example) in [
            ("command", &self.command, "[\"espeak-ng\", \"--stdin\"]"),
            ("sounds", &self.sounds, "[\"aplay\", \"-q\", \"-\"]"),
        ] {
            if let Some(argv) = argv
                && argv.as_ref().first().is_none_or(String::is_empty)
            {
                return Err(place.invalid(
                    &format!("speech.{key}"),
                    argv.span(),
                    format!("names no program, expected for instance {example}"),
                ));
            }
        }
        if let Some(rate) = &self.rate
            && !(-100..=100).contains(rate.as_ref())
        {
            return Err(place.invalid(
                "speech.rate",
                rate.span(),
                format!("{}, expected -100 to 100", rate.as_ref()),
            ));
        }
        // They become a word of a protocol line, or an argument of a program.
        for (key, name) in [("voice", &self.voice), ("language", &self.language)] {
            if let Some(name) = name
                && !is_name(name.as_ref())
            {
                return Err(place.invalid(
                    &format!("speech.{key}"),
                    name.span(),
                    format!(
                        "{:?}, expected up to 64 letters, digits, spaces and any of - _ + . ( )",
                        name.as_ref()
                    ),
                ));
            }
        }
        Ok(SpeechConfig {
            via,
            command: self.command.map(Spanned::into_inner).unwrap_or_default(),
            rate: self.rate.map_or(0, Spanned::into_inner),
            voice: self.voice.map(Spanned::into_inner),
            language: self.language.map_or("en".into(), Spanned::into_inner),
            socket: self.socket.map(|socket| place.path(socket.as_ref())),
            hold: self
                .hold
                .map_or(Duration::from_secs(60), Spanned::into_inner),
            sounds: self.sounds.map(Spanned::into_inner).unwrap_or_default(),
        })
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('-')
        && name
            .chars()
            .all(|character| character.is_alphanumeric() || " -_+.()".contains(character))
}
