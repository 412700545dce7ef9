//! Connections in TIME-WAIT (RFC 9293, section 3.6.1): a tuple and a sequence number each, instead
//! of a connection with its rings.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::FlowHasher;
use crate::limits::{MAX_TIME_WAIT, TIME_WAIT, TIME_WAIT_REUSE};
use crate::net::FlowKey;
use crate::time::Instant;

/// Bounded: the oldest entry makes room.
#[derive(Debug)]
pub struct TimeWait {
    /// Expiry, and the sequence number behind the other side's FIN.
    entries: HashMap<FlowKey, (Instant, u32), FlowHasher>,
    /// All wait equally long, so the order of arrival is the order of expiry. May name entries
    /// that were removed or came again since.
    order: VecDeque<(Instant, FlowKey)>,
}

impl TimeWait {
    pub fn new(hasher: FlowHasher) -> Self {
        // Full size from the start: it fills at the rate of connections, which must not allocate.
        Self {
            entries: HashMap::with_capacity_and_hasher(MAX_TIME_WAIT, hasher),
            order: VecDeque::with_capacity(MAX_TIME_WAIT),
        }
    }

    pub fn insert(&mut self, key: FlowKey, fin_seq: u32, now: Instant) {
        while self.order.len() >= MAX_TIME_WAIT {
            self.pop_oldest();
        }
        let until = now + TIME_WAIT;
        self.entries.insert(key, (until, fin_seq));
        self.order.push_back((until, key));
    }

    pub fn contains(&self, key: &FlowKey) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether the other end may still be about to end the old connection: a new one from here
    /// would meet it.
    pub fn is_fresh(&self, key: &FlowKey, now: Instant) -> bool {
        self.entries.get(key).is_some_and(|(until, _)| now + (TIME_WAIT - TIME_WAIT_REUSE) < *until)
    }

    pub fn remove(&mut self, key: &FlowKey) {
        self.entries.remove(key);
    }

    /// Whether a SYN with this sequence number may open the tuple again: always if it is not
    /// waiting, else only if the number lies behind the old connection's (RFC 6191, section 2).
    pub fn may_reopen(&self, key: &FlowKey, seq: u32) -> bool {
        match self.entries.get(key) {
            None => true,
            Some((_, fin_seq)) => (seq.wrapping_sub(*fin_seq) as i32) > 0,
        }
    }

    pub fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.pop_oldest();
        }
    }

    fn pop_oldest(&mut self) {
        if let Some((until, key)) = self.order.pop_front()
            && self.entries.get(&key).is_some_and(|(current, _)| *current == until)
        {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey::new("10.0.0.1:80".parse().unwrap(), ([10, 0, 0, 2], port).into())
    }

    #[test]
    fn a_tuple_waits_and_may_be_reopened_with_later_numbers_only() {
        let mut table = TimeWait::new(FlowHasher::new([0; 16]));
        let t0 = Instant::from_millis(1);
        assert!(table.may_reopen(&key(1), 0));
        table.insert(key(1), u32::MAX - 1, t0);
        assert!(table.contains(&key(1)));
        assert!(!table.may_reopen(&key(1), u32::MAX - 1));
        assert!(!table.may_reopen(&key(1), u32::MAX - 1_000));
        assert!(table.may_reopen(&key(1), 5), "sequence numbers wrap");
        table.expire(t0 + TIME_WAIT / 2);
        assert!(table.contains(&key(1)));
        table.expire(t0 + TIME_WAIT);
        assert!(!table.contains(&key(1)));
    }

    #[test]
    fn an_entry_that_came_again_waits_its_own_time() {
        let mut table = TimeWait::new(FlowHasher::new([0; 16]));
        let t0 = Instant::from_millis(1);
        table.insert(key(1), 1, t0);
        table.remove(&key(1));
        table.insert(key(1), 9, t0 + TIME_WAIT / 2);
        table.expire(t0 + TIME_WAIT);
        assert!(table.contains(&key(1)));
    }

    #[test]
    fn a_tuple_is_fresh_for_a_second() {
        let mut table = TimeWait::new(FlowHasher::new([0; 16]));
        let t0 = Instant::from_millis(1);
        assert!(!table.is_fresh(&key(1), t0));
        table.insert(key(1), 1, t0);
        assert!(table.is_fresh(&key(1), t0));
        assert!(table.is_fresh(&key(1), t0 + TIME_WAIT_REUSE / 2));
        assert!(!table.is_fresh(&key(1), t0 + TIME_WAIT_REUSE));
        assert!(!table.is_fresh(&key(2), t0));
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut table = TimeWait::new(FlowHasher::new([0; 16]));
        for n in 0..=MAX_TIME_WAIT {
            let at = Instant::from_nanos(n as u64);
            let key = FlowKey::new(
                "10.0.0.1:80".parse().unwrap(),
                ([10, 0, (n >> 16) as u8, 2], n as u16).into(),
            );
            table.insert(key, 0, at);
        }
        assert_eq!(table.entries.len(), MAX_TIME_WAIT);
    }
}
