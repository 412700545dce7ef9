//! 4-tuple to slot.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use thiserror::Error;

use super::{FlowHasher, FlowId};
use crate::net::FlowKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FlowTableError {
    #[error("the flow table holds its {0} connections; raise the limit or add workers")]
    Full(usize),
    #[error("{0} is an open connection already; choose another source port")]
    Taken(FlowKey),
}

#[derive(Debug)]
pub struct FlowTable {
    map: HashMap<FlowKey, FlowId, FlowHasher>,
    capacity: usize,
}

impl FlowTable {
    /// Takes the memory at once, touched only when used: growing later would stop the worker to
    /// hash every key again. So that removed entries never make it grow either, the table is
    /// not filled beyond half, and holds up to an eighth less than `capacity` if that saves
    /// doubling it; [`FlowTable::capacity`] says how many.
    pub fn new(capacity: usize, hasher: FlowHasher) -> Self {
        let mut map = HashMap::with_capacity_and_hasher(capacity, hasher);
        if map.capacity() / 2 < capacity / 8 * 7 || capacity < 8 {
            map.reserve(2 * capacity);
        }
        let capacity = capacity.min(map.capacity() / 2);
        Self { map, capacity }
    }

    /// The most connections the table holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// # Errors
    /// The table is full, or the key is present; nothing has changed then.
    pub fn insert(&mut self, key: FlowKey, id: FlowId) -> Result<(), FlowTableError> {
        let full = self.map.len() >= self.capacity;
        match self.map.entry(key) {
            Entry::Occupied(_) => Err(FlowTableError::Taken(key)),
            Entry::Vacant(_) if full => Err(FlowTableError::Full(self.capacity)),
            Entry::Vacant(entry) => {
                entry.insert(id);
                Ok(())
            }
        }
    }

    #[inline]
    pub fn get(&self, key: &FlowKey) -> Option<FlowId> {
        self.map.get(key).copied()
    }

    pub fn contains(&self, key: &FlowKey) -> bool {
        self.map.contains_key(key)
    }

    pub fn remove(&mut self, key: &FlowKey) -> Option<FlowId> {
        self.map.remove(key)
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.map.len() >= self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        let remote = std::net::SocketAddr::from(([10, 0, 0, 9], port));
        FlowKey::new("10.0.0.1:443".parse().unwrap(), remote)
    }

    #[test]
    fn bounded_and_without_overwriting() {
        let mut table = FlowTable::new(2, FlowHasher::new([7; 16]));
        let id = |index| FlowId { index, generation: 0 };
        assert_eq!(table.insert(key(1), id(1)), Ok(()));
        assert_eq!(table.insert(key(1), id(2)), Err(FlowTableError::Taken(key(1))));
        assert_eq!(table.insert(key(2), id(2)), Ok(()));
        assert_eq!(table.insert(key(3), id(3)), Err(FlowTableError::Full(2)));
        assert_eq!(table.insert(key(2), id(3)), Err(FlowTableError::Taken(key(2))));
        assert_eq!((table.get(&key(1)), table.get(&key(3))), (Some(id(1)), None));
        assert_eq!((table.remove(&key(1)), table.remove(&key(1))), (Some(id(1)), None));
        assert!(!table.is_full() && table.len() == 1 && table.contains(&key(2)));
    }

    /// hashbrown marks removed entries and, once the marks fill a table that is more than half
    /// full, doubles it.
    #[test]
    fn does_not_grow_by_churn() {
        for (capacity, least) in [(1, 1), (7, 7), (100, 88), (896, 896), (1_000, 875), (1_024, 896)]
        {
            let mut table = FlowTable::new(capacity, FlowHasher::new([7; 16]));
            assert!((least..=capacity).contains(&table.capacity()), "{capacity}");
            let size = table.map.allocation_size();
            let live = table.capacity() as u16;
            for port in 0..50 * live {
                let id = FlowId { index: u32::from(port), generation: 0 };
                if port >= live {
                    table.remove(&key(port - live)).unwrap();
                }
                table.insert(key(port), id).unwrap();
            }
            assert_eq!(table.map.allocation_size(), size, "{capacity}");
        }
    }
}
