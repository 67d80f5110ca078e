//! The installer's page (feature `web`, section `[web]`): the camera's picture, what is said of it
//! and how surely, how long that took, how the device is, and help with aiming the camera.
//!
//! ```text
//! source thread ----> |      |          accept thread
//!                     | View | <------- a thread for each connection (bounded)
//! pipeline thread --> |      |
//! ```
//!
//! The only part of captiond that listens on a port. Pictures leave the device through it to clients
//! that have the token, and to nobody else; docs/security.md says what that is worth.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::daemon::backoff::Backoff;
use crate::daemon::clock::Clock;
use crate::daemon::config::WebConfig;
use crate::daemon::controls::Controls;
use crate::daemon::counters::Counters;
use crate::daemon::log_limit::LogLimit;
use crate::daemon::shutdown::Shutdown;
use crate::daemon::trigger::demand::DemandFlag;
use crate::frame::Limits;
use crate::publish::message::CaptionMessage;
use crate::publish::{CameraState, Described, PublishError, Publisher, memory};
use crate::source::{Frame, FrameSource};

mod aiming;
mod answer;
mod page;
mod pictures;
mod request;
mod server;
mod site;
mod view;
mod watched;

use site::Site;
use view::View;
use watched::Watched;

/// Waits between attempts to listen: the network may come up long after the daemon.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const LOG_PERIOD: Duration = Duration::from_secs(300);

/// What the page shows besides captions, and what it may do.
pub struct Surroundings {
    /// The device's id.
    pub device: String,
    /// Shown, not changed.
    pub controls: Controls,
    /// What the daemon counts.
    pub counters: Arc<Counters>,
    /// Pressed by "Caption now".
    pub demand: DemandFlag,
    /// For ages.
    pub clock: Arc<dyn Clock>,
    /// Ends the attempts to listen.
    pub shutdown: Shutdown,
    /// What decoding a frame for the page may cost.
    pub limits: Limits,
    /// Whether there is a connection to the broker; `None` without one. Must not block.
    pub connected: Box<dyn Fn() -> Option<bool> + Send + Sync>,
}

/// The page's server.
pub struct Web {
    view: Arc<View>,
    listening: Arc<Listening>,
    /// Closing it ends the accept thread.
    running: Mutex<Option<OwnedFd>>,
}

/// Where it listens, once it does.
#[derive(Debug, Default)]
struct Listening {
    address: Mutex<Option<SocketAddr>>,
    changed: Condvar,
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web")
            .field("listening", &self.listening)
            .finish_non_exhaustive()
    }
}

impl Web {
    /// Starts the server. An address that can't be had (taken, or of a network that isn't up yet) is
    /// waited for: captions don't depend on the page.
    ///
    /// # Errors
    /// When the thread, or the pipe that ends it, can't be made.
    pub fn start(config: WebConfig, around: Surroundings) -> io::Result<Self> {
        let (stop, running) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let view = Arc::new(View::new(Arc::clone(&around.clock)));
        let listening = Arc::new(Listening::default());
        let address = config.listen;
        let (clock, shutdown) = (Arc::clone(&around.clock), around.shutdown.clone());
        let site = Arc::new(Site::new(Arc::clone(&view), config, around));
        let told = Arc::clone(&listening);
        thread::Builder::new()
            .name("page accept".into())
            .spawn(move || {
                if let Some(listener) = listen(address, &*clock, &shutdown) {
                    told.at(listener.local_addr().ok());
                    server::serve(&listener, &stop, &site);
                }
            })?;
        Ok(Self {
            view,
            listening,
            running: Mutex::new(Some(running)),
        })
    }

    /// Shows the frames of a source in passing.
    #[must_use]
    pub fn watch(&self, source: Box<dyn FrameSource>) -> Box<dyn FrameSource> {
        Box::new(Watched {
            inner: source,
            view: Arc::clone(&self.view),
        })
    }

    /// Where it listens; `None` if it doesn't within `limit`.
    #[must_use]
    pub fn address(&self, limit: Duration) -> Option<SocketAddr> {
        let address = self.listening.lock();
        let waited = self
            .listening
            .changed
            .wait_timeout_while(address, limit, |address| address.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Listening {
    fn at(&self, address: Option<SocketAddr>) {
        *self.lock() = address;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        // An address is set in one step.
        self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens, as soon as that can be done; `None` at a shutdown.
fn listen(address: SocketAddr, clock: &dyn Clock, shutdown: &Shutdown) -> Option<TcpListener> {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut limit = LogLimit::new(LOG_PERIOD);
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => {
                let shown = listener.local_addr().unwrap_or(address);
                tracing::info!("the page is at http://{shown}/ for those who have its token");
                if !address.ip().is_loopback() {
                    tracing::warn!(
                        "the page can be reached from the network, and http isn't encrypted: whoever \
                         reads along gets token and pictures (docs/installing.md has a safer way)"
                    );
                }
                return Some(listener);
            }
            Err(error) => {
                let text = format!("no page: {address} (web.listen): {error}; tried again");
                if let Some(repeats) = limit.allow(&text, clock.monotonic()) {
                    tracing::warn!(repeats, "{text}");
                }
                if backoff.wait(clock, shutdown) {
                    return None;
                }
            }
        }
    }
}

impl Publisher for Web {
    fn name(&self) -> &str {
        "page"
    }

    fn publish(&self, message: &CaptionMessage<'_>) -> Result<(), PublishError> {
        self.view.caption(message);
        Ok(())
    }

    fn publish_picture(&self, frame: &Frame) -> Result<(), PublishError> {
        self.view.picture(frame);
        Ok(())
    }

    fn camera(&self, state: &CameraState) {
        self.view.camera(state);
    }

    fn described(&self, outcome: &Described<'_>) {
        self.view.described(outcome);
    }

    fn close(&self, _limit: Duration) {
        self.view.close();
        // Dropped: the other end sees that.
        let running = self.running.lock();
        drop(running.unwrap_or_else(PoisonError::into_inner).take());
    }
}
