//! Speech: whether there is something that speaks. Nothing is said.

use std::path::Path;

use super::{Check, find_program};
use crate::daemon::config::{SpeechConfig, Via};
use crate::speech::dispatcher::Dispatcher;
use crate::speech::voice;

const NAME: &str = "speech";

pub(super) fn check(config: &SpeechConfig) -> Check {
    if let Some(missing) = config
        .sounds
        .first()
        .filter(|program| find_program(program).is_none())
    {
        return Check::problem(
            NAME,
            format!("{missing}, which plays sounds, is no program that this user may run"),
            "install it (aplay: Debian package alsa-utils) or correct speech.sounds",
        );
    }
    let speaks = match config.via {
        Via::SpeechDispatcher => dispatcher(config).map_err(|reason| {
            Check::problem(
                NAME,
                reason,
                "start speech-dispatcher for the daemon's user, or set speech.socket or another \
                 speech.via",
            )
        }),
        Via::EspeakNg => espeak(),
        Via::Auto => dispatcher(config).or_else(|_| espeak()),
        Via::Command => {
            let program = config.command.first().map_or("", String::as_str);
            program_at(program).ok_or_else(|| {
                Check::problem(
                    NAME,
                    format!("{program}: no such program, or this user may not run it"),
                    "install it or correct speech.command",
                )
            })
        }
    };
    match speaks {
        Ok(found) => no_sound_card(&found).unwrap_or_else(|| Check::ok(NAME, found)),
        Err(check) => check,
    }
}

fn dispatcher(config: &SpeechConfig) -> Result<String, String> {
    let socket = voice::socket(config);
    let shown = socket.display().to_string();
    Dispatcher::connect(config, &socket)
        .map(|_| format!("speech-dispatcher at {shown} takes rate, language and voice"))
        .map_err(|error| format!("speech-dispatcher at {shown}: {error}"))
}

fn espeak() -> Result<String, Check> {
    program_at("espeak-ng").ok_or_else(|| {
        Check::problem(
            NAME,
            "neither speech-dispatcher nor espeak-ng is there for this user",
            "install espeak-ng, or set speech.via",
        )
    })
}

fn program_at(name: &str) -> Option<String> {
    find_program(name).map(|path| format!("{} speaks", path.display()))
}

/// A board without a sound card, or a user outside of its group, stays silent.
fn no_sound_card(found: &str) -> Option<Check> {
    if found.starts_with("speech-dispatcher") || Path::new("/dev/snd").exists() {
        return None;
    }
    Some(Check::warning(
        NAME,
        format!("{found}, but this machine has no sound card (/dev/snd)"),
        "plug one in, or enable the board's (dtparam=audio=on on a Raspberry Pi)",
    ))
}
