//! What can be changed while the daemon runs: shared between whoever changes it (MQTT commands, a
//! key, a GPIO line) and the pipeline, which reads it before each frame.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bell::Bell;

/// How much is said of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// The caption.
    #[default]
    Short,
    /// The caption and what else could be said.
    Long,
}

impl Detail {
    /// As in messages and commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
        }
    }
}

/// The settings themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Values {
    /// Whether frames are captioned by themselves. Default: true.
    pub enabled: bool,
    /// Least time from the start of one caption to the start of the next. Default: zero.
    pub interval: Duration,
    /// Captions with less confidence are kept back; in [0, 1]. Default: 0 (none is).
    pub min_confidence: f32,
    /// Default: short.
    pub detail: Detail,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::ZERO,
            min_confidence: 0.0,
            detail: Detail::Short,
        }
    }
}

/// Called after each change of a value, from the thread that made it.
type Listener = Box<dyn Fn(&Values) + Send + Sync>;

/// Called when a caption is asked for, from the thread that asks.
type Asked = Box<dyn Fn() + Send + Sync>;

/// The settings, shared. Clones are handles to the same ones.
#[derive(Clone, Default)]
pub struct Controls {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    values: Mutex<Values>,
    listeners: Mutex<Vec<Listener>>,
    asked: Mutex<Vec<Asked>>,
    bell: Arc<Bell>,
}

impl Controls {
    /// With what the configuration says.
    #[must_use]
    pub fn new(values: Values) -> Self {
        let controls = Self::default();
        *controls.lock() = values;
        controls
    }

    /// The settings now.
    #[must_use]
    pub fn values(&self) -> Values {
        *self.lock()
    }

    /// Changes settings, wakes the pipeline and tells the listeners, if anything is different
    /// afterwards.
    pub fn update(&self, change: impl FnOnce(&mut Values)) {
        {
            let mut values = self.lock();
            let before = *values;
            change(&mut values);
            if before == *values {
                return;
            }
        }
        self.shared.bell.ring();
        let listeners = self.shared.listeners.lock();
        let listeners = listeners.unwrap_or_else(PoisonError::into_inner);
        // Read under this lock: of two changes at once, the listeners hear the last one last.
        let values = self.values();
        for listener in listeners.iter() {
            listener(&values);
        }
    }

    /// From now on `listener` is called after each change. It must not register another one.
    pub fn on_change(&self, listener: impl Fn(&Values) + Send + Sync + 'static) {
        let listeners = self.shared.listeners.lock();
        listeners
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(listener));
    }

    /// Asks for a caption of the next frame: at once, whatever `interval` and `enabled` say.
    /// Asking again before it's there changes nothing. Whoever keeps the wish listens
    /// ([`Controls::on_describe`]): the pipeline's
    /// [`DemandFlag`](super::trigger::demand::DemandFlag).
    pub fn describe(&self) {
        let asked = self.shared.asked.lock();
        for listener in asked.unwrap_or_else(PoisonError::into_inner).iter() {
            listener();
        }
    }

    /// From now on `listener` is called each time that [`Controls::describe`] is. It must not
    /// block, nor register another one.
    pub fn on_describe(&self, listener: impl Fn() + Send + Sync + 'static) {
        let asked = self.shared.asked.lock();
        asked
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(listener));
    }

    /// Rung at each change and each wish for a caption. [`Controls::wake`] rings it too.
    #[must_use]
    pub fn bell(&self) -> &Arc<Bell> {
        &self.shared.bell
    }

    /// Lets the pipeline look again, for instance at a shutdown.
    pub fn wake(&self) {
        self.shared.bell.ring();
    }

    fn lock(&self) -> MutexGuard<'_, Values> {
        // Each value is valid by itself, whatever a panicking `change` has left.
        self.shared
            .values
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controls")
            .field("values", &*self.lock())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn listeners_hear_of_changes_only_and_clones_share() {
        let controls = Controls::new(Values::default());
        let heard = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&heard);
        controls.on_change(move |values| {
            assert!(!values.enabled);
            count.fetch_add(1, Ordering::Relaxed);
        });
        let rung = controls.bell().rung();
        controls.clone().update(|values| values.enabled = true);
        assert_eq!(
            (controls.bell().rung(), heard.load(Ordering::Relaxed)),
            (rung, 0)
        );
        controls.clone().update(|values| values.enabled = false);
        assert!(!controls.values().enabled);
        assert_eq!(
            (controls.bell().rung(), heard.load(Ordering::Relaxed)),
            (rung + 1, 1)
        );
    }
}
