//! `[trigger]`.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::check::duration;
use super::{ConfigError, Place, SourceConfig, SourceKind};
use crate::daemon::trigger::TriggerConfig;
use crate::daemon::trigger::quiet::Hours;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTrigger {
    every: Option<Spanned<String>>,
    scene_change: Option<Spanned<f32>>,
    #[serde(default, deserialize_with = "duration")]
    look: Option<Spanned<Duration>>,
    max_duty: Option<Spanned<f32>>,
    max_temperature: Option<Spanned<f32>>,
    quiet: Option<Vec<Spanned<String>>>,
    gpio: Option<Spanned<RawGpio>>,
    input: Option<Spanned<RawInput>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "gpio"), expect(dead_code, reason = "only refused"))]
struct RawGpio {
    chip: Option<std::path::PathBuf>,
    line: u32,
    active_low: Option<bool>,
    #[serde(default, deserialize_with = "duration")]
    debounce: Option<Spanned<Duration>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "input"), expect(dead_code, reason = "only refused"))]
struct RawInput {
    device: std::path::PathBuf,
    key: Spanned<String>,
}

pub(super) fn check(
    trigger: Option<Spanned<RawTrigger>>,
    source: &SourceConfig,
    place: &Place,
) -> Result<TriggerConfig, ConfigError> {
    let defaults = TriggerConfig::default();
    let Some(trigger) = trigger else {
        return Ok(defaults);
    };
    let raw = trigger.into_inner();
    if let Some(share) = &raw.scene_change
        && matches!(source.kind, SourceKind::Folder(_))
    {
        return Err(place.invalid(
            "trigger.scene_change",
            share.span(),
            "of a folder each image is captioned; remove it",
        ));
    }
    let share = |key: &str, value: &Option<Spanned<f32>>| match value {
        // Written so that NaN is refused too.
        Some(share) if !(*share.as_ref() >= 0.001 && *share.as_ref() <= 1.0) => {
            let problem = format!("{}, expected 0.001 to 1", share.as_ref());
            Err(place.invalid(&format!("trigger.{key}"), share.span(), problem))
        }
        share => Ok(share.as_ref().map(|share| *share.as_ref())),
    };
    let scene_change = share("scene_change", &raw.scene_change)?;
    // Who wants captions for a reason doesn't want them all the time as well.
    let other = scene_change.is_some() || raw.gpio.is_some() || raw.input.is_some();
    let every = match &raw.every {
        None => defaults.every.filter(|_| !other),
        Some(text) if text.as_ref() == "off" => None,
        Some(text) => Some(humantime::parse_duration(text.as_ref()).map_err(|_| {
            let problem = format!(
                "{:?}, expected a duration such as \"10s\", or \"off\"",
                text.as_ref()
            );
            place.invalid("trigger.every", text.span(), problem)
        })?),
    };
    let look = match &raw.look {
        Some(look) if *look.as_ref() < Duration::from_millis(20) => {
            let problem = "would keep a core busy, expected \"20ms\" or more";
            return Err(place.invalid("trigger.look", look.span(), problem));
        }
        look => look.as_ref().map_or(defaults.look, |look| *look.as_ref()),
    };
    let max_temperature = match &raw.max_temperature {
        Some(limit) if !(*limit.as_ref() >= 40.0 && *limit.as_ref() <= 110.0) => {
            let problem = format!("{}, expected 40 to 110 (degrees Celsius)", limit.as_ref());
            return Err(place.invalid("trigger.max_temperature", limit.span(), problem));
        }
        limit => limit
            .as_ref()
            .map_or(defaults.max_temperature, |limit| *limit.as_ref()),
    };
    let quiet = raw.quiet.unwrap_or_default();
    let quiet = quiet.iter().map(|text| {
        Hours::parse(text.as_ref())
            .map_err(|problem| place.invalid("trigger.quiet", text.span(), problem))
    });
    #[cfg(not(feature = "gpio"))]
    refuse(place, "gpio", raw.gpio.as_ref().map(Spanned::span))?;
    #[cfg(not(feature = "input"))]
    refuse(place, "input", raw.input.as_ref().map(Spanned::span))?;
    Ok(TriggerConfig {
        every,
        scene_change,
        look,
        max_duty: share("max_duty", &raw.max_duty)?.unwrap_or(defaults.max_duty),
        max_temperature,
        quiet: quiet.collect::<Result<_, _>>()?,
        #[cfg(feature = "gpio")]
        gpio: raw.gpio.map(|gpio| gpio_config(gpio.into_inner())),
        #[cfg(feature = "input")]
        input: raw
            .input
            .map(|input| input_config(input.into_inner(), place))
            .transpose()?,
    })
}

#[cfg(any(not(feature = "gpio"), not(feature = "input")))]
fn refuse(
    place: &Place,
    feature: &str,
    given: Option<std::ops::Range<usize>>,
) -> Result<(), ConfigError> {
    given.map_or(Ok(()), |span| {
        let problem =
            format!("this program was built without it; build it with --features {feature}");
        Err(place.invalid(&format!("trigger.{feature}"), span, problem))
    })
}

#[cfg(feature = "gpio")]
fn gpio_config(raw: RawGpio) -> crate::daemon::trigger::gpio::GpioConfig {
    crate::daemon::trigger::gpio::GpioConfig {
        chip: raw.chip.unwrap_or_else(|| "/dev/gpiochip0".into()),
        line: raw.line,
        active_low: raw.active_low.unwrap_or(true),
        debounce: raw
            .debounce
            .map_or(Duration::from_millis(20), Spanned::into_inner),
    }
}

#[cfg(feature = "input")]
fn input_config(
    raw: RawInput,
    place: &Place,
) -> Result<crate::daemon::trigger::input::InputConfig, ConfigError> {
    use crate::daemon::trigger::input;
    Ok(input::InputConfig {
        key: input::key(raw.key.as_ref())
            .map_err(|problem| place.invalid("trigger.input.key", raw.key.span(), problem))?,
        device: place.path(&raw.device),
    })
}
