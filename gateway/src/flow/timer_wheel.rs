//! Timers of the worker's connections: a hashed wheel (Varghese and Lauck, scheme 6).

use crate::limits::{TIMER_SLOTS, TIMER_TICK};
use crate::time::{Duration, Instant};

const TICK_NANOS: u64 = TIMER_TICK.as_nanos() as u64;
const MASK: u64 = TIMER_SLOTS as u64 - 1;
const WORDS: usize = TIMER_SLOTS / 64;
const NONE: u32 = u32::MAX;

const _: () = {
    assert!(TIMER_SLOTS.is_multiple_of(64));
    assert!(TICK_NANOS > 0);
};

#[derive(Clone, Copy, Debug)]
struct Node<T> {
    tick: u64,
    item: T,
    next: u32,
}

/// Items with a deadline; there is no cancelling. An item that fires says "look again": its owner
/// compares with the deadline it has by then and inserts anew if that has moved.
///
/// Timers are nodes of one pool, linked per slot, so that memory follows the number of timers and
/// not the fullest hour of each slot; nothing is allocated once the pool has grown.
#[derive(Debug)]
pub struct TimerWheel<T> {
    heads: Vec<u32>,
    /// One bit per slot: whether it holds anything.
    occupied: [u64; WORDS],
    nodes: Vec<Node<T>>,
    free: u32,
    /// Every timer of this tick and before has fired.
    current: u64,
    len: usize,
}

impl<T: Copy> TimerWheel<T> {
    pub fn new(now: Instant) -> Self {
        Self {
            heads: vec![NONE; TIMER_SLOTS],
            occupied: [0; WORDS],
            nodes: Vec::new(),
            free: NONE,
            current: now.as_nanos() / TICK_NANOS,
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `item` fires in the first [`TimerWheel::advance`] at or after `deadline`, or up to one
    /// [`TIMER_TICK`] later.
    pub fn insert(&mut self, deadline: Instant, item: T) {
        let tick = deadline.as_nanos().div_ceil(TICK_NANOS).max(self.current + 1);
        let index = match self.free {
            NONE => {
                self.nodes.push(Node { tick, item, next: NONE });
                self.nodes.len() as u32 - 1
            }
            index => {
                self.free = self.nodes[index as usize].next;
                self.nodes[index as usize] = Node { tick, item, next: NONE };
                index
            }
        };
        self.len += 1;
        self.link(index);
    }

    /// Gives everything that is due to `fire`, in no particular order. A clock that stands still
    /// or goes back fires nothing; however far it jumps, each timer is looked at once.
    pub fn advance(&mut self, now: Instant, fire: &mut impl FnMut(T)) {
        let target = now.as_nanos() / TICK_NANOS;
        if target <= self.current {
            return;
        }
        let first = self.current + 1;
        // One round visits every slot.
        let last = target.min(self.current + TIMER_SLOTS as u64);
        self.current = target;
        if self.len == 0 {
            return;
        }
        for tick in first..=last {
            self.visit((tick & MASK) as usize, fire);
        }
    }

    /// No timer fires before this; `None` without timers. A bound, not the exact time: a slot
    /// may hold only timers of a later round.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        let start = self.current + 1;
        let distance = self.distance_to_occupied((start & MASK) as usize);
        let nanos = (start + distance).saturating_mul(TICK_NANOS);
        // Never in the past: the caller is going to sleep until then.
        Some(Instant::from_nanos(nanos).max(now))
    }

    /// The same as a time to wait.
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        self.next_deadline(now).map(|deadline| deadline.since(now))
    }

    fn visit(&mut self, slot: usize, fire: &mut impl FnMut(T)) {
        let mut index = std::mem::replace(&mut self.heads[slot], NONE);
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        while index != NONE {
            let Node { tick, item, next } = self.nodes[index as usize];
            if tick <= self.current {
                self.nodes[index as usize].next = self.free;
                self.free = index;
                self.len -= 1;
                fire(item);
            } else {
                self.link(index);
            }
            index = next;
        }
    }

    fn link(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        let slot = (node.tick & MASK) as usize;
        node.next = std::mem::replace(&mut self.heads[slot], index);
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Slots from `start` to the next occupied one, going round. Some slot must be occupied.
    fn distance_to_occupied(&self, start: usize) -> u64 {
        let (word, bit) = (start / 64, start % 64);
        let ahead = self.occupied[word] >> bit;
        if ahead != 0 {
            return u64::from(ahead.trailing_zeros());
        }
        // The last step looks at the low bits of the first word.
        for step in 1..=WORDS {
            let bits = self.occupied[(word + step) % WORDS];
            if bits != 0 {
                return (step * 64 - bit) as u64 + u64::from(bits.trailing_zeros());
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn fired(wheel: &mut TimerWheel<u32>, now: Instant) -> Vec<u32> {
        let mut out = Vec::new();
        wheel.advance(now, &mut |item| out.push(item));
        out.sort();
        out
    }

    fn us(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1_000)
    }

    #[test]
    fn never_early_and_at_most_one_tick_late() {
        let mut wheel = TimerWheel::new(us(0));
        wheel.insert(us(5_000), 1);
        wheel.insert(us(5_001), 2);
        assert!(fired(&mut wheel, us(4_999)).is_empty());
        assert_eq!(fired(&mut wheel, us(5_000)), [1]);
        assert!(fired(&mut wheel, us(5_999)).is_empty());
        assert_eq!(fired(&mut wheel, us(6_000)), [2]);
        assert!(wheel.is_empty() && wheel.next_deadline(us(6_000)).is_none());
    }

    #[test]
    fn a_deadline_in_the_past_fires_next_and_a_far_one_goes_round() {
        let mut wheel = TimerWheel::new(us(10_000));
        wheel.insert(us(1), 1);
        let far = TIMER_TICK.as_micros() as u64 * TIMER_SLOTS as u64 * 3;
        wheel.insert(us(10_000 + far), 2);
        assert!(fired(&mut wheel, us(10_500)).is_empty());
        assert_eq!(fired(&mut wheel, us(11_000)), [1]);
        for ms in 11..10 + far / 1_000 {
            assert!(fired(&mut wheel, us(ms * 1_000)).is_empty(), "{ms}");
        }
        assert_eq!(fired(&mut wheel, us(10_000 + far)), [2]);
    }

    #[test]
    fn clock_jumps() {
        let mut wheel = TimerWheel::new(us(0));
        for n in 0..10_000 {
            wheel.insert(Instant::from_millis(u64::from(n)), n);
        }
        wheel.insert(Instant::from_nanos(u64::MAX), 77_777);
        let all = fired(&mut wheel, Instant::from_millis(1_000_000_000));
        assert_eq!(all, (0..10_000).collect::<Vec<_>>());
        assert!(fired(&mut wheel, us(0)).is_empty(), "a clock that goes back fires nothing");
        assert!(fired(&mut wheel, Instant::from_nanos(u64::MAX - TICK_NANOS)).is_empty());
        // The very last instant is no whole tick: the wheel never fires early, so never.
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn memory_follows_the_number_of_timers() {
        let mut wheel = TimerWheel::new(us(0));
        for round in 0..50 {
            let now = Instant::from_millis(round * 75_001);
            fired(&mut wheel, now);
            for n in 0..1_000 {
                wheel.insert(now + Duration::from_secs(75), n);
            }
        }
        assert_eq!((wheel.len(), wheel.nodes.len()), (1_000, 1_000));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert { after: u64 },
        Advance { by: u64 },
    }

    fn op() -> impl Strategy<Value = Op> {
        let span = prop_oneof![0..3_000u64, 0..100_000u64, 0..20_000_000u64];
        prop_oneof![
            3 => span.clone().prop_map(|after| Op::Insert { after }),
            2 => span.prop_map(|by| Op::Advance { by }),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(start in 0..10_000_000u64, ops in prop::collection::vec(op(), 1..120)) {
            let mut now = start;
            let mut wheel = TimerWheel::new(us(now));
            let mut model: BTreeMap<(u64, u32), u64> = BTreeMap::new();
            for (n, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Insert { after } => {
                        wheel.insert(us(now + after), n as u32);
                        model.insert((now + after, n as u32), now);
                    }
                    Op::Advance { by } => {
                        if let Some(bound) = wheel.next_deadline(us(now)) {
                            // Up to the bound nothing may fire.
                            let quiet = bound.as_nanos().saturating_sub(1).min((now + by) * 1_000);
                            prop_assert!(fired(&mut wheel, Instant::from_nanos(quiet)).is_empty());
                        }
                        now += by;
                        for item in fired(&mut wheel, us(now)) {
                            let key = *model.keys().find(|(_, i)| *i == item).expect("fired twice");
                            prop_assert!(key.0 <= now, "early");
                            model.remove(&key);
                        }
                        // What is left is due later, or less than a tick ago, or was inserted
                        // (already due) within the running tick.
                        for ((deadline, _), inserted) in &model {
                            let due = (*deadline).max(*inserted);
                            prop_assert!(due + 1_000 > now, "late: {deadline} at {now}");
                        }
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                prop_assert_eq!(wheel.next_deadline(us(now)).is_some(), !model.is_empty());
            }
        }
    }
}
