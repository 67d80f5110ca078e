//! What has its time: health, the announcement to a hub that has just started, requests that
//! nothing came of.

use std::sync::PoisonError;
use std::time::Duration;

use super::super::health::{Dropped, Health, Numbers, Waiting};
use super::super::{answer, outbox};
use super::Shared;
use super::state::State;

/// Health isn't told more often than this, however much happens.
const HEALTH_APART: Duration = Duration::from_secs(5);

/// A hub that has started is told of all its devices at once; each waits a random part of this.
const ANNOUNCE_WITHIN: Duration = Duration::from_secs(5);

/// A wall clock that is so far from where it would have been was set.
const CLOCK_WAS_SET: Duration = Duration::from_secs(2);

/// The longest sleep, for what has no date of its own.
const LONGEST: Duration = Duration::from_secs(10);

/// When what is due, on the monotonic clock.
#[derive(Debug)]
pub(super) struct Due {
    health: Duration,
    last_health: Option<Duration>,
    announcement: Option<Duration>,
    /// As in the last health.
    pub(super) dropped: outbox::Dropped,
    /// The last health told of events that wait.
    pub(super) events_waited: bool,
}

impl Due {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            health: now,
            last_health: None,
            announcement: None,
            dropped: outbox::Dropped::default(),
            events_waited: false,
        }
    }
}

impl Shared {
    /// The chores' thread, until the publisher is closed.
    pub(super) fn do_chores(&self) {
        let mut state = self.lock();
        while !state.closing && !state.finished {
            let now = self.now();
            state.outbox.expire(now, self.around.clock.wall());
            if now >= state.chores.health {
                self.set_health(&mut state, now);
            }
            if state.chores.announcement.is_some_and(|at| now >= at) {
                state.chores.announcement = None;
                if let Some(slot) = state.slots.discovery {
                    state.outbox.repeat(slot);
                }
            }
            self.follow_the_clock(&mut state);
            while let Some((id, by)) = state.asking.front()
                && now >= *by
            {
                let payload = answer::error(id, "no frame has come; see camera/status");
                state.asking.pop_front();
                self.answer(&mut state, "describe", payload);
            }
            if state.deaf_until.is_some_and(|until| now >= until) {
                state.deaf_until = None;
                self.subscribe(&state);
            }
            self.pump(&mut state);
            let next = [
                Some(state.chores.health),
                state.chores.announcement,
                state.asking.front().map(|(_, by)| *by),
                state.deaf_until,
            ];
            let next = next.into_iter().flatten().min().unwrap_or(now + LONGEST);
            let wait = next.saturating_sub(now).min(LONGEST);
            if wait.is_zero() {
                continue;
            }
            (state, _) = self
                .changed
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// When the wall clock was set since the camera's state was told, its `since` was by the old one: it's told
    /// again. Slewing (a time server's small corrections) is left alone.
    fn follow_the_clock(&self, state: &mut State) {
        let start = self.clock_start();
        let before = state.camera_clock;
        let (ahead, behind) = (start.duration_since(before), before.duration_since(start));
        let jump = ahead.as_ref().or(behind.as_ref()).copied();
        if jump.unwrap_or_default() < CLOCK_WAS_SET {
            return;
        }
        state.camera_clock = start;
        let Some(camera) = &mut state.camera else {
            return;
        };
        let since = match (ahead, behind) {
            (Ok(ahead), _) => camera.since.checked_add(ahead),
            (_, Ok(behind)) => camera.since.checked_sub(behind),
            _ => None,
        };
        camera.since = since.unwrap_or(camera.since);
        let (slot, payload) = (state.slots.camera, camera.payload());
        state.outbox.set(slot, payload);
    }

    /// Something that `health` tells is different: it's told soon.
    pub(super) fn health_has_changed(&self, state: &mut State) {
        let now = self.now();
        let soon = match state.chores.last_health {
            Some(last) => now.max(last.saturating_add(HEALTH_APART)),
            None => now,
        };
        if soon < state.chores.health {
            state.chores.health = soon;
            self.changed.notify_all();
        }
    }

    /// The hub has started and wants to know of its devices.
    pub(super) fn announce_again(&self, state: &mut State) {
        if state.chores.announcement.is_none() {
            let wait = ANNOUNCE_WITHIN.mul_f64(fastrand::f64());
            state.chores.announcement = Some(self.now() + wait);
            self.changed.notify_all();
        }
    }

    fn set_health(&self, state: &mut State, now: Duration) {
        state.chores.health = now.saturating_add(self.config.health_interval);
        state.chores.last_health = Some(now);
        state.chores.dropped = state.outbox.dropped();
        state.chores.events_waited = state.outbox.waiting().0 > 0;
        let health = self.health(state, now);
        match serde_json::to_vec(&health) {
            Ok(payload) => state.outbox.set(state.slots.health, payload),
            // A defect of ours: numbers and constant names have a JSON form.
            Err(error) => tracing::error!(%error, "health has no JSON form"),
        }
    }

    pub(super) fn health(&self, state: &State, now: Duration) -> Health {
        let (entries, bytes) = state.outbox.waiting();
        Health::from(Numbers {
            uptime: now.saturating_sub(self.started).as_secs(),
            tally: self.around.counters.tally(),
            dropped: Dropped::new(state.outbox.dropped(), state.too_large, self.damaged),
            rejected: state.rejections,
            outbox: Waiting {
                entries,
                bytes,
                disk_errors: state.disk_errors,
            },
            reconnects: state.connections.saturating_sub(1),
        })
    }
}
