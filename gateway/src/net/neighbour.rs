//! The neighbour cache of one port and worker, for ARP and NDP alike: the states of RFC 4861,
//! section 7.3, with the delay state folded into a periodic look at stale entries.

use std::cell::Cell;

use hashbrown::HashMap;

use super::{Ip, MacAddr};
use crate::limits::{
    NEIGHBOUR_EVICT_STEPS, NEIGHBOUR_IDLE, NEIGHBOUR_REACHABLE, NEIGHBOUR_RETRY,
    NEIGHBOUR_STALE_CHECK, NEIGHBOUR_TRIES,
};
use crate::time::Instant;

/// Names one cache entry. Once the entry is given up the id names nothing, even when the slot is
/// used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighbourId {
    index: u32,
    generation: u32,
}

/// What became of an entry somebody may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourEvent {
    Resolved(NeighbourId),
    /// It does not answer. While frames are still sent to the id it is asked for now and then,
    /// and `Resolved` follows when it is back; once nobody sends, the id becomes invalid.
    Failed(NeighbourId),
}

/// A solicitation to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub ip: Ip,
    /// Ask this host alone; `None` = ask the whole link.
    pub known: Option<MacAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Ready(NeighbourId),
    Pending(NeighbourId),
    Full,
}

/// How sure a report about a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It answered us: the path works both ways.
    Answer,
    /// It was merely heard of.
    Hint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Incomplete,
    Reachable,
    Stale,
    Probe,
    /// Did not answer; kept for the connections that name it.
    Failed,
}

impl State {
    /// Whether the address is unknown.
    fn waits(self) -> bool {
        matches!(self, Self::Incomplete | Self::Failed)
    }
}

#[derive(Debug)]
struct Entry {
    ip: Ip,
    mac: MacAddr,
    state: State,
    /// Solicitations sent in the states Incomplete and Probe.
    tries: u8,
    generation: u32,
    /// Whether a frame was sent to it since the last look. A cell, because asking for the
    /// address happens per frame through `&self`.
    used: Cell<bool>,
    /// Whether a connection may hold the id; entries merely heard of are evicted first.
    named: bool,
    last_used: Instant,
    deadline: Instant,
}

#[derive(Debug)]
pub(super) struct NeighbourTable {
    entries: Vec<Entry>,
    free: Vec<u32>,
    by_ip: HashMap<Ip, u32>,
    capacity: usize,
    /// Where the search for an entry to evict goes on.
    hand: usize,
    /// No entry is due before this.
    next: Option<Instant>,
    resolved: Vec<NeighbourId>,
}

impl NeighbourTable {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            by_ip: HashMap::new(),
            capacity,
            hand: 0,
            next: None,
            resolved: Vec::new(),
        }
    }

    /// The entry of `hop`, made if there is none, and the solicitation that is called for.
    pub(super) fn resolve(&mut self, now: Instant, hop: Ip) -> (Lookup, Option<Ask>) {
        if let Some(&index) = self.by_ip.get(&hop) {
            let id = self.id(index);
            let entry = &mut self.entries[index as usize];
            entry.used.set(true);
            entry.named = true;
            return match entry.state {
                State::Failed => {
                    entry.state = State::Incomplete;
                    entry.tries = 1;
                    self.set_deadline(index, now + NEIGHBOUR_RETRY);
                    (Lookup::Pending(id), Some(Ask { ip: hop, known: None }))
                }
                State::Incomplete => (Lookup::Pending(id), None),
                // New use of an old address: check it now, and use it meanwhile.
                State::Stale => (Lookup::Ready(id), Some(self.start_probe(now, index))),
                State::Reachable | State::Probe | State::Free => (Lookup::Ready(id), None),
            };
        }
        let Some(index) = self.claim(now, hop) else { return (Lookup::Full, None) };
        let entry = &mut self.entries[index as usize];
        entry.state = State::Incomplete;
        entry.tries = 1;
        entry.named = true;
        self.set_deadline(index, now + NEIGHBOUR_RETRY);
        (Lookup::Pending(self.id(index)), Some(Ask { ip: hop, known: None }))
    }

    /// The address to send to, while the entry is valid and resolved. Counts as use.
    #[inline]
    pub(super) fn mac_of(&self, id: NeighbourId) -> Option<MacAddr> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation != id.generation || entry.state == State::Free {
            return None;
        }
        entry.used.set(true);
        (!entry.state.waits()).then_some(entry.mac)
    }

    /// Takes a report that `ip` is at `mac`. Without `create`, only an existing entry changes.
    /// Returns whether an entry holds the report now.
    pub(super) fn learn(
        &mut self,
        now: Instant,
        ip: Ip,
        mac: MacAddr,
        evidence: Evidence,
        create: bool,
    ) -> bool {
        let index = match self.by_ip.get(&ip) {
            Some(&index) => index,
            None if create => match self.claim(now, ip) {
                Some(index) => index,
                None => return false,
            },
            None => return false,
        };
        let entry = &self.entries[index as usize];
        let news = entry.mac != mac || entry.state.waits() || entry.state == State::Free;
        match evidence {
            Evidence::Answer => self.settle(now, index, mac, State::Reachable),
            Evidence::Hint if news => self.settle(now, index, mac, State::Stale),
            Evidence::Hint => {}
        }
        true
    }

    /// Whether it is being checked that `ip` is still at `mac`.
    pub(super) fn is_probed_at(&self, ip: Ip, mac: MacAddr) -> bool {
        self.by_ip.get(&ip).is_some_and(|index| {
            let entry = &self.entries[*index as usize];
            entry.state == State::Probe && entry.mac == mac
        })
    }

    /// The same, but only for an entry that is missing or waits for its address.
    pub(super) fn learn_if_unknown(&mut self, now: Instant, ip: Ip, mac: MacAddr) {
        let unknown = match self.by_ip.get(&ip) {
            Some(&index) => self.entries[index as usize].state.waits(),
            None => true,
        };
        if unknown {
            self.learn(now, ip, mac, Evidence::Hint, true);
        }
    }

    /// A neighbour advertisement (RFC 4861, section 7.2.5). Returns the address the entry has
    /// afterwards if the advertisement said anything about it.
    pub(super) fn advertised(
        &mut self,
        now: Instant,
        ip: Ip,
        mac: Option<MacAddr>,
        solicited: bool,
        overrides: bool,
    ) -> Option<MacAddr> {
        let after = if solicited { State::Reachable } else { State::Stale };
        let Some(&index) = self.by_ip.get(&ip) else {
            // The RFC discards this one. Here another worker may have asked and the answer came
            // to us by RSS, so an answer to a question is kept.
            let mac = mac.filter(|_| solicited)?;
            return self.learn(now, ip, mac, Evidence::Answer, true).then_some(mac);
        };
        let entry = &self.entries[index as usize];
        if entry.state.waits() {
            let mac = mac?;
            self.settle(now, index, mac, after);
            return Some(mac);
        }
        let old = entry.mac;
        let new = mac.unwrap_or(old);
        if new != old && !overrides {
            if entry.state == State::Reachable {
                self.settle(now, index, old, State::Stale);
            }
            return None;
        }
        if solicited || new != old {
            self.settle(now, index, new, after);
            return Some(new);
        }
        None
    }

    /// Does what is due: retries, probes, expiry. `ask` sends.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        events: &mut Vec<NeighbourEvent>,
        ask: &mut dyn FnMut(Ask),
    ) {
        self.drain_resolved(events);
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        self.next = None;
        for index in 0..self.entries.len() as u32 {
            let entry = &self.entries[index as usize];
            if entry.state == State::Free {
                continue;
            }
            if entry.deadline > now {
                self.next = Some(self.next.map_or(entry.deadline, |n| n.min(entry.deadline)));
                continue;
            }
            if let Some(question) = self.due(now, index, events) {
                ask(question);
            }
        }
    }

    pub(super) fn drain_resolved(&mut self, events: &mut Vec<NeighbourEvent>) {
        events.extend(self.resolved.drain(..).map(NeighbourEvent::Resolved));
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.resolved.is_empty() { self.next } else { Some(Instant::ZERO) }
    }

    fn due(&mut self, now: Instant, index: u32, events: &mut Vec<NeighbourEvent>) -> Option<Ask> {
        let id = self.id(index);
        let entry = &mut self.entries[index as usize];
        match entry.state {
            State::Free => None,
            State::Incomplete | State::Probe if entry.tries >= NEIGHBOUR_TRIES => {
                entry.state = State::Failed;
                entry.used.set(false);
                events.push(NeighbourEvent::Failed(id));
                self.set_deadline(index, now + NEIGHBOUR_STALE_CHECK);
                None
            }
            State::Failed if entry.used.replace(false) => {
                let question = Ask { ip: entry.ip, known: None };
                self.set_deadline(index, now + NEIGHBOUR_STALE_CHECK);
                Some(question)
            }
            State::Failed => {
                self.release(index);
                None
            }
            State::Incomplete | State::Probe => {
                entry.tries += 1;
                // The last probe asks the whole link: the address may have moved to another MAC
                // without the announcement reaching us.
                let alone = entry.state == State::Probe && entry.tries < NEIGHBOUR_TRIES;
                let question = Ask { ip: entry.ip, known: alone.then_some(entry.mac) };
                self.set_deadline(index, now + NEIGHBOUR_RETRY);
                Some(question)
            }
            State::Reachable | State::Stale if entry.used.replace(false) => {
                entry.last_used = now;
                Some(self.start_probe(now, index))
            }
            State::Reachable | State::Stale => {
                if now.since(entry.last_used) >= NEIGHBOUR_IDLE {
                    self.release(index);
                } else {
                    entry.state = State::Stale;
                    self.set_deadline(index, now + NEIGHBOUR_STALE_CHECK);
                }
                None
            }
        }
    }

    fn start_probe(&mut self, now: Instant, index: u32) -> Ask {
        self.set_deadline(index, now + NEIGHBOUR_RETRY);
        let entry = &mut self.entries[index as usize];
        entry.state = State::Probe;
        entry.tries = 1;
        Ask { ip: entry.ip, known: Some(entry.mac) }
    }

    /// Gives the entry an address and a state (Reachable or Stale).
    fn settle(&mut self, now: Instant, index: u32, mac: MacAddr, state: State) {
        let id = self.id(index);
        let entry = &mut self.entries[index as usize];
        if entry.state.waits() {
            self.resolved.push(id);
        }
        if state == State::Reachable && entry.used.replace(false) {
            entry.last_used = now;
        }
        entry.mac = mac;
        entry.state = state;
        let check = match state {
            State::Reachable => NEIGHBOUR_REACHABLE,
            _ => NEIGHBOUR_STALE_CHECK,
        };
        self.set_deadline(index, now + check);
    }

    fn set_deadline(&mut self, index: u32, deadline: Instant) {
        self.entries[index as usize].deadline = deadline;
        self.next = Some(self.next.map_or(deadline, |next| next.min(deadline)));
    }

    /// A slot for `ip`, in state Free; the caller gives it its state and deadline at once.
    fn claim(&mut self, now: Instant, ip: Ip) -> Option<u32> {
        if self.free.is_empty() {
            if self.entries.len() < self.capacity {
                self.free.push(self.entries.len() as u32);
                self.entries.push(Entry {
                    ip,
                    mac: MacAddr::ZERO,
                    state: State::Free,
                    tries: 0,
                    generation: 0,
                    used: Cell::new(false),
                    named: false,
                    last_used: now,
                    deadline: now,
                });
            } else {
                self.evict();
            }
        }
        let index = self.free.pop()?;
        let entry = &mut self.entries[index as usize];
        entry.ip = ip;
        entry.mac = MacAddr::ZERO;
        entry.used.set(false);
        entry.named = false;
        entry.last_used = now;
        self.by_ip.insert(ip, index);
        Some(index)
    }

    /// Frees an entry, if a few steps find one: one that was merely heard of, else one nobody
    /// has used lately (second chance). Entries somebody waits for stay.
    fn evict(&mut self) {
        let mut unused = None;
        for _ in 0..NEIGHBOUR_EVICT_STEPS.min(self.entries.len()) {
            let index = self.hand;
            self.hand = (self.hand + 1) % self.entries.len();
            let entry = &self.entries[index];
            if entry.state == State::Incomplete {
                continue;
            }
            if !entry.named {
                return self.release(index as u32);
            }
            if !entry.used.replace(false) {
                unused = unused.or(Some(index));
            }
        }
        if let Some(index) = unused {
            self.release(index as u32);
        }
    }

    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.state = State::Free;
        entry.generation = entry.generation.wrapping_add(1);
        self.by_ip.remove(&entry.ip);
        self.free.push(index);
    }

    fn id(&self, index: u32) -> NeighbourId {
        NeighbourId { index, generation: self.entries[index as usize].generation }
    }
}
