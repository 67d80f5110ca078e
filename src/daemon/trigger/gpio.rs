//! A button on a GPIO line, through the kernel's character device (Linux 5.10 and newer).

use std::path::PathBuf;
use std::time::Duration;

use gpiocdev::Request;
use gpiocdev::line::{Bias, EdgeDetection};

use super::button::Button;

/// Which line, and how the button is wired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpioConfig {
    /// `/dev/gpiochipN`. Default: "/dev/gpiochip0", the header's chip on every Raspberry Pi with
    /// a current kernel.
    pub chip: PathBuf,
    /// The line's number on the chip (on a Raspberry Pi: N of GPIO N).
    pub line: u32,
    /// Pressed pulls the line to ground (and the chip's pull-up holds it otherwise), or to the
    /// supply (pull-down). Default: to ground.
    pub active_low: bool,
    /// A contact bounces for so long. Default: "20ms".
    pub debounce: Duration,
}

/// The line, requested while it's in use.
#[derive(Debug)]
pub struct GpioButton {
    config: GpioConfig,
    request: Option<Request>,
}

impl GpioButton {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(config: GpioConfig) -> Self {
        Self {
            config,
            request: None,
        }
    }

    fn open(&self) -> gpiocdev::Result<Request> {
        let mut builder = Request::builder();
        builder
            .on_chip(&self.config.chip)
            .with_consumer("captiond")
            .with_line(self.config.line)
            .as_input()
            // Of the logical level: with an active-low line, pressing is rising too.
            .with_edge_detection(EdgeDetection::RisingEdge)
            .with_debounce_period(self.config.debounce);
        if self.config.active_low {
            builder.as_active_low().with_bias(Bias::PullUp);
        } else {
            builder.as_active_high().with_bias(Bias::PullDown);
        }
        builder.request()
    }
}

impl Button for GpioButton {
    fn name(&self) -> &'static str {
        "GPIO line"
    }

    fn wait_for_press(&mut self, limit: Duration) -> Result<bool, String> {
        let request = match self.request.take() {
            Some(request) => request,
            None => self.open().map_err(|error| {
                format!(
                    "line {} of {} can't be used: {error}; correct trigger.gpio, and let the \
                     daemon's user into the chip's group (Debian: `gpio`)",
                    self.config.line,
                    self.config.chip.display()
                )
            })?,
        };
        let pressed = match request.wait_edge_event(limit) {
            Ok(true) => request.read_edge_event().map(|_| true),
            outcome => outcome,
        }
        .map_err(|error| format!("{} has gone: {error}", self.config.chip.display()))?;
        self.request = Some(request);
        Ok(pressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_chip_says_what_to_do() {
        let mut button = GpioButton::new(GpioConfig {
            chip: "/dev/no-such-chip".into(),
            line: 17,
            active_low: true,
            debounce: Duration::from_millis(20),
        });
        let error = button.wait_for_press(Duration::ZERO).unwrap_err();
        for part in ["line 17", "/dev/no-such-chip", "trigger.gpio", "group"] {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }
}
