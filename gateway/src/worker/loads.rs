//! How many open connections of this worker each source serves: what least-loaded goes by.

use super::snapshot::SourceSlot;

/// A client counts from the moment a source is chosen for it, not only from OPEN on: those that
/// still wait for a tunnel will be that source's as well, and a burst that arrives before the first
/// tunnel is up would else all go to the same source. It counts until another source is due or the
/// connection has ended; that its last bytes are still on the way to the client is no burden on
/// the source.
#[derive(Debug, Default)]
pub(super) struct SourceLoads {
    by_slot: Vec<u32>,
}

impl SourceLoads {
    /// Connections of a source.
    pub fn get(&self, slot: SourceSlot) -> u32 {
        self.by_slot.get(slot.0 as usize).copied().unwrap_or(0)
    }

    /// One more. Grows with the first connection of a source, never after.
    pub fn add(&mut self, slot: SourceSlot) {
        let index = slot.0 as usize;
        if self.by_slot.len() <= index {
            self.by_slot.resize(index + 1, 0);
        }
        self.by_slot[index] += 1;
    }

    /// One less.
    pub fn take(&mut self, slot: SourceSlot) {
        if let Some(load) = self.by_slot.get_mut(slot.0 as usize) {
            debug_assert!(*load > 0, "a connection was taken off twice");
            *load = load.saturating_sub(1);
        }
    }

    pub fn as_slice(&self) -> &[u32] {
        &self.by_slot
    }
}
