//! What is still to be sent to the broker, and what is known to have arrived.
//!
//! rumqttc forgets what it was sending whenever a new session starts (measured: 5 of 10 messages
//! lost over one broker restart, without an error), so the daemon keeps its own books. An entry
//! leaves when the broker has acknowledged it, not when it was handed to the client.
//!
//! Two kinds go through here: the caption, of which only the newest is worth anything, and events,
//! which are dropped and counted while there is no connection. A queue for events (bounded in
//! entries, bytes and age) belongs here when it comes.

use std::collections::{HashMap, VecDeque};

/// What a packet was, to know what its acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Status `online`.
    Online,
    /// Status `offline`, the last thing that is said.
    Goodbye,
    /// The caption with this sequence number.
    Caption(u64),
    Event,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The newest caption and its payload. Kept after its acknowledgement: a broker that comes
    /// back without its retained messages gets it again.
    newest: Option<(u64, Vec<u8>)>,
    /// The caption that is on its way. One at a time, so that a slow broker is sent the newest
    /// next and never a queue of old ones.
    on_its_way: Option<u64>,
    acknowledged: Option<u64>,
    /// Handed to the client, not written to the network yet; in order.
    handed_over: VecDeque<Kind>,
    /// Written, by packet id.
    written: HashMap<u16, Kind>,
    pub(super) events_dropped: u64,
}

impl Outbox {
    /// A new caption replaces the last one.
    pub(super) fn set_caption(&mut self, sequence: u64, payload: Vec<u8>) {
        self.newest = Some((sequence, payload));
    }

    /// The caption to send now, if there is one that the broker doesn't have and none is on its
    /// way.
    pub(super) fn caption_to_send(&self) -> Option<(u64, &[u8])> {
        let (sequence, payload) = self.newest.as_ref()?;
        let wanted = self.on_its_way.is_none() && self.acknowledged != Some(*sequence);
        wanted.then_some((*sequence, payload))
    }

    /// The client has taken a packet.
    pub(super) fn handed_over(&mut self, kind: Kind) {
        if let Kind::Caption(sequence) = kind {
            self.on_its_way = Some(sequence);
        }
        self.handed_over.push_back(kind);
    }

    /// The client has written the next packet under this id (0: without acknowledgement). Returns
    /// what is thereby done.
    pub(super) fn written(&mut self, id: u16) -> Option<Kind> {
        let kind = self.handed_over.pop_front()?;
        if id == 0 {
            self.done(kind);
            return Some(kind);
        }
        self.written.insert(id, kind);
        None
    }

    /// The broker has acknowledged this id. Returns what is thereby done.
    pub(super) fn acknowledged(&mut self, id: u16) -> Option<Kind> {
        let kind = self.written.remove(&id)?;
        self.done(kind);
        Some(kind)
    }

    fn done(&mut self, kind: Kind) {
        if let Kind::Caption(sequence) = kind {
            self.acknowledged = Some(sequence);
            self.on_its_way = None;
        }
    }

    /// A connection begins: nothing is on its way, and what the broker has is unknown.
    pub(super) fn connected(&mut self) {
        self.handed_over.clear();
        self.written.clear();
        self.on_its_way = None;
        self.acknowledged = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_caption_waits_for_the_one_on_its_way() {
        let mut outbox = Outbox::default();
        outbox.connected();
        outbox.set_caption(1, b"one".to_vec());
        assert_eq!(outbox.caption_to_send(), Some((1, &b"one"[..])));
        outbox.handed_over(Kind::Caption(1));
        outbox.set_caption(2, b"two".to_vec());
        outbox.set_caption(3, b"three".to_vec());
        assert_eq!(outbox.caption_to_send(), None);
        assert_eq!(outbox.written(9), None);
        assert_eq!(outbox.acknowledged(8), None);
        assert_eq!(outbox.acknowledged(9), Some(Kind::Caption(1)));
        assert_eq!(outbox.caption_to_send(), Some((3, &b"three"[..])));
    }

    #[test]
    fn acknowledgements_find_their_packets_across_kinds() {
        let mut outbox = Outbox::default();
        outbox.connected();
        outbox.set_caption(1, b"one".to_vec());
        for kind in [Kind::Online, Kind::Caption(1), Kind::Event] {
            outbox.handed_over(kind);
        }
        for id in [1, 2, 3] {
            assert_eq!(outbox.written(id), None);
        }
        assert_eq!(outbox.acknowledged(3), Some(Kind::Event));
        assert_eq!(outbox.acknowledged(1), Some(Kind::Online));
        assert_eq!(outbox.acknowledged(2), Some(Kind::Caption(1)));
        assert_eq!(outbox.caption_to_send(), None);
    }

    #[test]
    fn without_acknowledgements_written_is_done() {
        let mut outbox = Outbox::default();
        outbox.connected();
        outbox.set_caption(1, b"one".to_vec());
        outbox.handed_over(Kind::Caption(1));
        assert_eq!(outbox.written(0), Some(Kind::Caption(1)));
        assert_eq!(outbox.caption_to_send(), None);
    }

    #[test]
    fn a_new_connection_gets_the_newest_caption_again() {
        let mut outbox = Outbox::default();
        outbox.connected();
        outbox.set_caption(1, b"one".to_vec());
        outbox.handed_over(Kind::Caption(1));
        outbox.written(1);
        outbox.acknowledged(1);
        // A late acknowledgement of the old connection finds nothing.
        outbox.handed_over(Kind::Event);
        outbox.written(2);
        outbox.connected();
        assert_eq!(outbox.acknowledged(2), None);
        assert_eq!(outbox.caption_to_send(), Some((1, &b"one"[..])));
    }
}
