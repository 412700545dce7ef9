//! What a side of the generator has done so far: counted by its connections, read by other threads.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one side since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections begun; at a server, accepted.
    pub opened: u64,
    pub established: u64,
    /// Connections that ended in order.
    pub ended: u64,
    /// Connections that were refused, reset, or carried what they should not.
    pub failed: u64,
    /// Requests answered in full.
    pub exchanges: u64,
    /// Payload bytes received.
    pub received: u64,
    /// Payload bytes sent; of a client's streams, what was acknowledged.
    pub sent: u64,
}

const FIELDS: usize = 7;

impl Counts {
    fn to_array(self) -> [u64; FIELDS] {
        let Self { opened, established, ended, failed, exchanges, received, sent } = self;
        [opened, established, ended, failed, exchanges, received, sent]
    }

    fn from_array(values: [u64; FIELDS]) -> Self {
        let [opened, established, ended, failed, exchanges, received, sent] = values;
        Self { opened, established, ended, failed, exchanges, received, sent }
    }

    /// What came since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        let (mut now, then) = (self.to_array(), earlier.to_array());
        for (now, then) in now.iter_mut().zip(then) {
            *now = now.saturating_sub(then);
        }
        Self::from_array(now)
    }

    pub fn plus(self, other: Self) -> Self {
        let (mut sum, other) = (self.to_array(), other.to_array());
        for (sum, other) in sum.iter_mut().zip(other) {
            *sum += other;
        }
        Self::from_array(sum)
    }

    /// Connections that are open or on their way to it.
    pub fn open(self) -> u64 {
        self.opened.saturating_sub(self.ended + self.failed)
    }
}

/// Shared by the connections of one side, in one thread.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Cell<Counts>,
    first_failure: RefCell<Option<String>>,
}

impl Tally {
    pub fn counts(&self) -> Counts {
        self.counts.get()
    }

    pub fn add(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// Counts a connection as failed; the first reason is kept.
    pub fn fail(&self, why: &str) {
        self.add(|c| c.failed += 1);
        self.first_failure.borrow_mut().get_or_insert_with(|| why.to_owned());
    }

    pub fn first_failure(&self) -> Option<String> {
        self.first_failure.borrow().clone()
    }
}

/// The copy of a side's counts that other threads read; some counts may be a turn older.
#[derive(Debug, Default)]
pub struct Published([AtomicU64; FIELDS]);

impl Published {
    pub fn store(&self, counts: Counts) {
        for (slot, value) in self.0.iter().zip(counts.to_array()) {
            slot.store(value, Ordering::Relaxed);
        }
    }

    pub fn load(&self) -> Counts {
        Counts::from_array(std::array::from_fn(|n| self.0[n].load(Ordering::Relaxed)))
    }
}
