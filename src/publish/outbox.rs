//! What is still to be sent to the broker, and what is known to have arrived.
//!
//! rumqttc forgets what it was sending whenever a new session starts (measured: 5 of 10 messages
//! lost over one broker restart, without an error), so the daemon keeps its own books. An entry
//! leaves when the broker has acknowledged it, not when it was handed to the client; after a new
//! connection everything that wasn't acknowledged is sent again, and of the queued messages those whose
//! acknowledgement was a moment old when the connection broke.
//!
//! Two kinds of message go through here. Of a latest-value topic (status, caption, settings) only
//! the newest value is worth anything: it replaces the one before it, and is kept after its
//! acknowledgement for a broker that comes back without its retained messages. Queued messages
//! (events, responses) each count: they wait in order, within bounds, and expire, since a late
//! "the way is clear" is dangerous.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

/// What may wait for the broker at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) entries: usize,
    /// Of topics and payloads.
    pub(super) bytes: usize,
}

/// So many packets may be handed to the client without having been acknowledged: enough to keep a
/// network with a long way to the broker busy, few enough that a goodbye needn't wait for long.
const WINDOW: usize = 32;

/// So young an acknowledgement isn't trusted when the connection breaks: a broker that keeps nothing and is killed has
/// acknowledged what its subscribers never see.
const SETTLES: Duration = Duration::from_secs(2);

/// What a packet was, to know what its acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The last thing that is said.
    Goodbye,
    /// This version of the latest value of this topic.
    Latest(Slot, u64),
    /// The queued message with this id.
    Queued(u64),
}

/// A latest-value topic: what [`Outbox::latest`] has given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(usize);

/// A packet to hand to the client now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// Latest values are, queued messages never: a hub that restarts would take an old one for
    /// something that happens now.
    pub(super) retain: bool,
    /// Sent with QoS 1, whatever the configuration says for captions and events.
    pub(super) always_acknowledged: bool,
}

#[derive(Debug)]
struct Latest {
    topic: String,
    payload: Vec<u8>,
    /// 0: there is no value yet.
    version: u64,
    /// One at a time, so that a slow broker is sent the newest next and never a queue of old ones.
    on_its_way: Option<u64>,
    acknowledged: Option<u64>,
    always_acknowledged: bool,
}

/// A message that waits for its acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queued {
    /// Rises; the order of sending.
    pub(super) id: u64,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// On the monotonic clock.
    pub(super) expires: Duration,
    /// For those that come from a run before this one, whose age only the wall clock can tell:
    /// when they were made, and how old they may get.
    pub(super) made: Option<(SystemTime, Duration)>,
    /// A copy is on the disk.
    pub(super) on_disk: bool,
    pub(super) always_acknowledged: bool,
    /// Handed to the client of this connection.
    pub(super) sent: bool,
    /// A broker has acknowledged it, shortly before it was lost: dropping it is no loss that has to be told.
    pub(super) acknowledged_before: bool,
}

/// Why queued messages were dropped, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Dropped {
    /// To make room.
    pub(super) full: u64,
    pub(super) expired: u64,
}

#[derive(Debug)]
pub(super) struct Outbox {
    bounds: Bounds,
    latest: Vec<Latest>,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// Acknowledged less than [`SETTLES`] ago, and when; at most [`WINDOW`].
    settling: VecDeque<(Duration, Queued)>,
    /// Handed to the client, not written to the network yet; in order.
    handed_over: VecDeque<Kind>,
    /// Written, by packet id.
    written: HashMap<u16, Kind>,
    dropped: Dropped,
    /// Ids of messages that have left and have a copy on the disk.
    to_erase: Vec<u64>,
}

fn size(entry: &Queued) -> usize {
    entry.topic.len() + entry.payload.len()
}

impl Outbox {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            latest: Vec::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            settling: VecDeque::new(),
            handed_over: VecDeque::new(),
            written: HashMap::new(),
            dropped: Dropped::default(),
            to_erase: Vec::new(),
        }
    }

    /// A latest-value topic. They are sent in the order in which they were made here.
    pub(super) fn latest(&mut self, topic: &str, always_acknowledged: bool) -> Slot {
        self.latest.push(Latest {
            topic: topic.to_owned(),
            payload: Vec::new(),
            version: 0,
            on_its_way: None,
            acknowledged: None,
            always_acknowledged,
        });
        Slot(self.latest.len() - 1)
    }

    /// A new value replaces the last one.
    pub(super) fn set(&mut self, slot: Slot, payload: Vec<u8>) {
        let latest = &mut self.latest[slot.0];
        latest.payload = payload;
        latest.version += 1;
    }

    /// The newest value; empty before the first.
    pub(super) fn value(&self, slot: Slot) -> &[u8] {
        &self.latest[slot.0].payload
    }

    /// The value is to be sent once more, though the broker has it.
    pub(super) fn repeat(&mut self, slot: Slot) {
        let latest = &mut self.latest[slot.0];
        if latest.version > 0 {
            latest.version += 1;
        }
    }

    /// A message at the end of the queue. The oldest go if there is no room; one that is larger
    /// than all the room goes itself.
    pub(super) fn push(&mut self, entry: Queued) {
        self.queued_bytes += size(&entry);
        self.queue.push_back(entry);
        while self.queue.len() > self.bounds.entries || self.queued_bytes > self.bounds.bytes {
            // Those on their way may have arrived; they are the last to go.
            let oldest = self.queue.iter().position(|entry| !entry.sent);
            let Some(entry) = self.remove(oldest.unwrap_or(0)) else {
                return;
            };
            self.dropped.full += u64::from(!entry.acknowledged_before);
        }
    }

    fn remove(&mut self, index: usize) -> Option<Queued> {
        let entry = self.queue.remove(index)?;
        self.queued_bytes -= size(&entry);
        if entry.on_disk {
            self.to_erase.push(entry.id);
        }
        Some(entry)
    }

    /// Drops what is too old to be said; `wall` is the date at monotonic time `now`. What is on its
    /// way already is left to its acknowledgement.
    pub(super) fn expire(&mut self, now: Duration, wall: SystemTime) {
        let mut index = 0;
        while let Some(entry) = self.queue.get(index) {
            let too_old = now >= entry.expires
                || entry.made.is_some_and(|(made, lives)| {
                    wall.duration_since(made).is_ok_and(|age| age >= lives)
                });
            if too_old && !entry.sent {
                self.dropped.expired += u64::from(!entry.acknowledged_before);
                self.remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// What to hand to the client next. Call [`Outbox::handed_over`] with its kind once it has.
    pub(super) fn next(&mut self, now: Duration, wall: SystemTime) -> Option<Packet> {
        if self.handed_over.len() + self.written.len() >= WINDOW {
            return None;
        }
        for (index, latest) in self.latest.iter().enumerate() {
            let wanted = latest.on_its_way.is_none()
                && latest.version > 0
                && latest.acknowledged != Some(latest.version);
            if wanted {
                return Some(Packet {
                    kind: Kind::Latest(Slot(index), latest.version),
                    topic: latest.topic.clone(),
                    payload: latest.payload.clone(),
                    retain: true,
                    always_acknowledged: latest.always_acknowledged,
                });
            }
        }
        self.expire(now, wall);
        // Of a message from before this run, and a clock that says it isn't even made yet, nobody
        // knows the age: it waits until the clock has been set.
        let ready =
            |entry: &&Queued| !entry.sent && entry.made.is_none_or(|(made, _)| wall >= made);
        let entry = self.queue.iter().find(ready)?;
        Some(Packet {
            kind: Kind::Queued(entry.id),
            topic: entry.topic.clone(),
            payload: entry.payload.clone(),
            retain: false,
            always_acknowledged: entry.always_acknowledged,
        })
    }

    /// The client has taken a packet.
    pub(super) fn handed_over(&mut self, kind: Kind) {
        match kind {
            Kind::Goodbye => {}
            Kind::Latest(slot, version) => self.latest[slot.0].on_its_way = Some(version),
            Kind::Queued(id) => {
                if let Some(entry) = self.queue.iter_mut().find(|entry| entry.id == id) {
                    entry.sent = true;
                }
            }
        }
        self.handed_over.push_back(kind);
    }

    /// The client has written the next packet under this id (0: without acknowledgement). Returns
    /// what is thereby done.
    pub(super) fn written(&mut self, id: u16) -> Option<Kind> {
        let kind = self.handed_over.pop_front()?;
        if id == 0 {
            // Whoever wants no acknowledgements wants nothing twice.
            let _left = self.done(kind);
            return Some(kind);
        }
        self.written.insert(id, kind);
        None
    }

    /// The broker has acknowledged this id. Returns what is thereby done.
    pub(super) fn acknowledged(&mut self, id: u16, now: Duration) -> Option<Kind> {
        let kind = self.written.remove(&id)?;
        if let Some(entry) = self.done(kind) {
            self.settling.push_back((now, entry));
            self.forget_settled(now);
        }
        Some(kind)
    }

    fn forget_settled(&mut self, now: Duration) {
        while let Some((since, _)) = self.settling.front() {
            let settled = now.saturating_sub(*since) >= SETTLES;
            if !settled && self.settling.len() <= WINDOW {
                return;
            }
            self.settling.pop_front();
        }
    }

    /// Returns the message that has thereby left the queue.
    fn done(&mut self, kind: Kind) -> Option<Queued> {
        match kind {
            Kind::Goodbye => None,
            Kind::Latest(slot, version) => {
                let latest = &mut self.latest[slot.0];
                latest.acknowledged = Some(version);
                latest.on_its_way = None;
                None
            }
            Kind::Queued(id) => {
                let index = self.queue.iter().position(|entry| entry.id == id)?;
                self.remove(index)
            }
        }
    }

    /// The connection was lost: besides what is still waiting, what was acknowledged just before will be sent again.
    pub(super) fn lost(&mut self, now: Duration) {
        self.reconnected();
        self.forget_settled(now);
        // In front, in their order: they are older than all that waits.
        while let Some((_, entry)) = self.settling.pop_back() {
            self.queued_bytes += size(&entry);
            self.queue.push_front(Queued {
                sent: false,
                on_disk: false,
                acknowledged_before: true,
                ..entry
            });
        }
    }

    /// A connection begins or is over: nothing is on its way, and what the broker has is unknown.
    pub(super) fn reconnected(&mut self) {
        self.handed_over.clear();
        self.written.clear();
        for latest in &mut self.latest {
            latest.on_its_way = None;
            latest.acknowledged = None;
        }
        for entry in &mut self.queue {
            entry.sent = false;
        }
    }

    /// Ids whose copies on the disk have to go, each told once.
    pub(super) fn take_erasable(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.to_erase)
    }

    /// How many queued messages wait, and their bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.queue.len(), self.queued_bytes)
    }

    pub(super) fn dropped(&self) -> Dropped {
        self.dropped
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
