//! A key of an input device (keypad, remote control, headset), through evdev.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use evdev::{Device, EventSummary, KeyCode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::button::Button;

/// Which device and which key.
#[derive(Debug, Clone, PartialEq)]
pub struct InputConfig {
    /// Best a name below `/dev/input/by-id`, which follows the device to another plug.
    pub device: PathBuf,
    /// The key by its name in Linux, such as `KEY_ENTER`.
    pub key: KeyCode,
}

/// Reads a key's name.
///
/// # Errors
/// What was expected.
pub fn key(name: &str) -> Result<KeyCode, String> {
    KeyCode::from_str(name).map_err(|_| {
        format!("{name:?} is no key, expected a name such as \"KEY_ENTER\" (evtest shows them)")
    })
}

/// The device, open while it's there.
#[derive(Debug)]
pub struct KeyButton {
    config: InputConfig,
    device: Option<Device>,
}

impl KeyButton {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(config: InputConfig) -> Self {
        Self {
            config,
            device: None,
        }
    }

    fn open(&self) -> Result<Device, String> {
        let name = self.config.device.display();
        let device = Device::open(&self.config.device).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("{name} is not there; correct trigger.input.device"),
            ErrorKind::PermissionDenied => {
                format!("{name} may not be read; add the daemon's user to the group `input`")
            }
            _ => format!("{name} can't be opened: {error}"),
        })?;
        // Other programs go on seeing its keys: it isn't grabbed.
        device
            .set_nonblocking(true)
            .map_err(|error| format!("{name}: {error}"))?;
        if !device
            .supported_keys()
            .is_some_and(|keys| keys.contains(self.config.key))
        {
            return Err(format!(
                "{name} has no {:?}; correct trigger.input (evtest shows a device's keys)",
                self.config.key
            ));
        }
        Ok(device)
    }

    fn read(device: &mut Device, key: KeyCode, limit: Duration) -> io::Result<bool> {
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(device, PollFlags::IN)], Some(&limit)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match device.fetch_events() {
            // 1 is pressed, 0 let go, 2 held.
            Ok(mut events) => Ok(events.any(
                |event| matches!(event.destructure(), EventSummary::Key(_, code, 1) if code == key),
            )),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Button for KeyButton {
    fn name(&self) -> &'static str {
        "key"
    }

    fn wait_for_press(&mut self, limit: Duration) -> Result<bool, String> {
        let mut device = match self.device.take() {
            Some(device) => device,
            None => self.open()?,
        };
        let pressed = Self::read(&mut device, self.config.key, limit)
            .map_err(|error| format!("{} has gone: {error}", self.config.device.display()))?;
        self.device = Some(device);
        Ok(pressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_linux_names() {
        assert_eq!(key("KEY_ENTER"), Ok(KeyCode::KEY_ENTER));
        assert!(key("Return").unwrap_err().contains("KEY_ENTER"));
    }

    #[test]
    fn a_missing_device_says_what_to_do() {
        let mut button = KeyButton::new(InputConfig {
            device: "/dev/input/by-id/no-such-device".into(),
            key: KeyCode::KEY_ENTER,
        });
        let error = button.wait_for_press(Duration::ZERO).unwrap_err();
        assert!(error.contains("trigger.input.device"), "{error}");
        let mut button = KeyButton::new(InputConfig {
            device: "/dev/null".into(),
            key: KeyCode::KEY_ENTER,
        });
        let error = button.wait_for_press(Duration::ZERO).unwrap_err();
        assert!(error.contains("/dev/null"), "{error}");
    }
}
