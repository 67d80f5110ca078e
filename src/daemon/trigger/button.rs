//! Buttons that ask for a caption: a GPIO line, a key of an input device.
//!
//! A button may be absent or be unplugged (a keypad on USB); it's waited for like a camera, and
//! the rest of the daemon doesn't notice.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::demand::DemandFlag;
use crate::daemon::backoff::Backoff;
use crate::daemon::clock::Clock;
use crate::daemon::log_limit::LogLimit;
use crate::daemon::shutdown::Shutdown;

/// Waits between attempts to open a button.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often a button is left to see whether a shutdown was asked for.
const LOOK_UP: Duration = Duration::from_millis(500);

const LOG_PERIOD: Duration = Duration::from_secs(600);

/// Something that can be pressed.
pub trait Button: Send {
    /// For the log, and who pressed: "GPIO line", "key".
    fn name(&self) -> &'static str;

    /// Waits for a press up to `limit`, and opens the device first if need be. True for a press;
    /// holding the button or letting it go is none.
    ///
    /// # Errors
    /// When the device can't be opened or has gone; the next call opens it again. The text says
    /// what to do.
    fn wait_for_press(&mut self, limit: Duration) -> Result<bool, String>;
}

/// Listens to a button on a thread of its own, until a shutdown.
///
/// # Errors
/// When the thread can't be started.
pub fn listen(
    mut button: Box<dyn Button>,
    demand: DemandFlag,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("button".into()).spawn(move || {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut limit = LogLimit::new(LOG_PERIOD);
        while !shutdown.requested() {
            match button.wait_for_press(LOOK_UP) {
                Ok(pressed) => {
                    backoff.reset();
                    if pressed {
                        tracing::info!(by = button.name(), "describing the next picture");
                        demand.press(button.name());
                    }
                }
                Err(error) => {
                    let text = format!("{}: {error}", button.name());
                    if let Some(repeats) = limit.allow(&text, clock.monotonic()) {
                        tracing::warn!(repeats, "{text}");
                    }
                    if backoff.wait(&*clock, &shutdown) {
                        return;
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::clock::FakeClock;
    use crate::daemon::controls::Controls;
    use std::time::SystemTime;

    /// Absent twice, pressed once, then gone for good.
    struct Fake {
        answers: std::vec::IntoIter<Result<bool, String>>,
        demand: DemandFlag,
        seen: std::sync::mpsc::Sender<bool>,
        shutdown: Shutdown,
    }

    impl Button for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }

        fn wait_for_press(&mut self, limit: Duration) -> Result<bool, String> {
            assert!(limit <= Duration::from_secs(1), "a shutdown would be late");
            self.seen.send(self.demand.pressed()).unwrap();
            self.answers.next().unwrap_or_else(|| {
                self.shutdown.request();
                Ok(false)
            })
        }
    }

    #[test]
    fn a_button_is_waited_for_and_pressed_once() {
        let clock: Arc<dyn Clock> = Arc::new(FakeClock::new(SystemTime::UNIX_EPOCH));
        let (demand, shutdown) = (
            DemandFlag::new(&Controls::default(), Arc::clone(&clock)),
            Shutdown::new(),
        );
        let (seen, pressed_at) = std::sync::mpsc::channel();
        let absent = || Err("not there".to_owned());
        let fake = Fake {
            answers: vec![absent(), absent(), Ok(false), Ok(true), Ok(false)].into_iter(),
            demand: demand.clone(),
            seen,
            shutdown: shutdown.clone(),
        };
        listen(Box::new(fake), demand.clone(), Arc::clone(&clock), shutdown)
            .unwrap()
            .join()
            .unwrap();
        let pressed_at: Vec<_> = pressed_at.iter().collect();
        assert_eq!(pressed_at, [false, false, false, false, true, true]);
        assert_eq!(demand.take().unwrap().by, "fake");
        // Absent twice: backed off twice.
        assert!(clock.monotonic() >= Duration::from_millis(1500));
    }
}
