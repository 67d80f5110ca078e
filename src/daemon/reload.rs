//! A new configuration and model pack for a running daemon: loaded on a thread of their own while
//! frames go on being captioned, then swapped in between two frames.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;

use super::life::Life;
use crate::captioner::{Describe, Description};
use crate::frame::Limits;
use crate::source::Frame;

/// The next chain, once it's loaded. Clones share it.
#[derive(Clone, Default)]
struct Next(Arc<Mutex<Option<Box<dyn Describe>>>>);

impl Next {
    fn put(&self, describe: Box<dyn Describe>) {
        // The older one, if no frame came since, ends here.
        let _ = self.exchange(Some(describe));
    }

    fn exchange(&self, new: Option<Box<dyn Describe>>) -> Option<Box<dyn Describe>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, new)
    }
}

/// A chain that is replaced by the newest one that was loaded, between two frames.
pub struct Reloading {
    current: Box<dyn Describe>,
    next: Next,
}

impl Describe for Reloading {
    fn describe(&mut self, frame: &Frame) -> anyhow::Result<Description> {
        if let Some(next) = self.next.exchange(None) {
            self.current = next;
            tracing::info!(
                pack = self.current.pack(),
                "captioning with the pack as reloaded"
            );
        }
        self.current.describe(frame)
    }

    fn pack(&self) -> &str {
        self.current.pack()
    }

    fn unfamiliar(&self) -> String {
        self.current.unfamiliar()
    }

    fn set_limits(&mut self, limits: Limits) {
        self.current.set_limits(limits);
    }
}

/// SIGHUP as the request to load again.
///
/// It's caught from [`Hangups::catch`] on, since the signal's default ends the process; what
/// arrives before [`Hangups::reload_with`] is answered then.
pub struct Hangups(Signals);

impl Hangups {
    /// Sets up the handler.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn catch() -> io::Result<Self> {
        Signals::new([SIGHUP]).map(Self)
    }

    /// `first`, and from now on whatever `load` gives after a SIGHUP. Signals that arrive while a
    /// pack is loading are answered by one more load, so the last state of the files always counts.
    /// `load` reads the configuration again and applies what it can of it once the pack is loaded.
    /// When it fails, it has changed nothing: the old chain stays and the log says why.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn reload_with(
        self,
        first: Box<dyn Describe>,
        life: Arc<Life>,
        mut load: impl FnMut() -> anyhow::Result<Box<dyn Describe>> + Send + 'static,
    ) -> io::Result<Reloading> {
        let next = Next::default();
        let loaded = next.clone();
        let mut signals = self.0;
        thread::Builder::new()
            .name("reload".into())
            .spawn(move || {
                for _ in signals.forever() {
                    tracing::info!("SIGHUP: reading the configuration and the model pack again");
                    life.reloading();
                    match load() {
                        Ok(describe) => {
                            tracing::info!(pack = describe.pack(), "the model pack is loaded");
                            loaded.put(describe);
                        }
                        // {:#}: with the chain of causes.
                        Err(error) => {
                            tracing::error!(
                                "reload refused, the old configuration and pack stay: {error:#}"
                            );
                        }
                    }
                    life.reloaded();
                }
            })?;
        Ok(Reloading {
            current: first,
            next,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Pixels;

    struct Says(&'static str);

    impl Describe for Says {
        fn describe(&mut self, _: &Frame) -> anyhow::Result<Description> {
            Ok(Description {
                caption: self.0.into(),
                confidence: 1.0,
                ..Description::default()
            })
        }

        fn pack(&self) -> &str {
            self.0
        }
    }

    #[test]
    fn the_newest_chain_takes_over_at_the_next_frame() {
        let next = Next::default();
        let mut reloading = Reloading {
            current: Box::new(Says("old")),
            next: next.clone(),
        };
        let frame = Frame {
            pixels: Pixels::Encoded(Vec::new()),
            origin: "test".into(),
            taken: Default::default(),
        };
        let mut caption = || reloading.describe(&frame).unwrap().caption;
        assert_eq!(caption(), "old");
        next.put(Box::new(Says("passed over")));
        next.put(Box::new(Says("new")));
        assert_eq!((caption(), caption()), ("new".into(), "new".into()));
        // The message that goes with a caption names the pack that made it.
        next.put(Box::new(Says("newest")));
        assert_eq!(reloading.pack(), "new");
        assert_eq!(
            reloading.describe(&frame).unwrap().caption,
            reloading.pack()
        );
    }
}
