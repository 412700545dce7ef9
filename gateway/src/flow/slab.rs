//! Numbered slots whose names go stale when the slot is freed.

/// Names one occupancy of a slot. Timers and messages may hold one beyond the connection's life:
/// it then names nothing, even when the slot is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    pub index: u32,
    /// Wraps after 2^32 uses of one slot.
    pub generation: u32,
}

impl FlowId {
    /// As one number, for messages that carry no types of ours.
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    pub const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// At most `capacity` values, each under a [`FlowId`]. Freed slots are used again last in, first
/// out: their memory is the warmest.
#[derive(Debug)]
pub struct Slab<T> {
    /// Each of [`CHUNK`] slots but for the last: growing moves no value, which would stop a worker
    /// with many connections, and takes no more memory than they need.
    chunks: Vec<Vec<Slot<T>>>,
    /// Slots in all chunks.
    slots: usize,
    free: Vec<u32>,
    capacity: usize,
}

const CHUNK: usize = 64;

impl<T> Slab<T> {
    /// Memory grows with use. `capacity` is cut to what `u32` can number.
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.min(u32::MAX as usize);
        Self { chunks: Vec::new(), slots: 0, free: Vec::new(), capacity }
    }

    pub fn len(&self) -> usize {
        self.slots - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    #[inline]
    fn slot(&self, index: usize) -> Option<&Slot<T>> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    #[inline]
    fn slot_mut(&mut self, index: usize) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// # Errors
    /// The value comes back when every slot is taken.
    pub fn insert(&mut self, value: T) -> Result<FlowId, T> {
        if let Some(index) = self.free.pop() {
            let Some(slot) = self.slot_mut(index as usize) else { return Err(value) };
            slot.value = Some(value);
            return Ok(FlowId { index, generation: slot.generation });
        }
        if self.slots >= self.capacity {
            return Err(value);
        }
        let index = self.slots as u32;
        let slot = Slot { generation: 0, value: Some(value) };
        match self.chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => chunk.push(slot),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK.min(self.capacity - self.slots));
                chunk.push(slot);
                self.chunks.push(chunk);
            }
        }
        self.slots += 1;
        Ok(FlowId { index, generation: 0 })
    }

    /// Inserts a value that knows its own id. `None` when every slot is taken.
    pub fn insert_with(&mut self, make: impl FnOnce(FlowId) -> T) -> Option<FlowId> {
        if self.is_full() {
            return None;
        }
        let id = match self.free.last() {
            Some(&index) => FlowId { index, generation: self.slot(index as usize)?.generation },
            None => FlowId { index: self.slots as u32, generation: 0 },
        };
        self.insert(make(id)).ok()
    }

    #[inline]
    pub fn get(&self, id: FlowId) -> Option<&T> {
        let slot = self.slot(id.index as usize)?;
        slot.value.as_ref().filter(|_| slot.generation == id.generation)
    }

    #[inline]
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut T> {
        let slot = self.slot_mut(id.index as usize)?;
        slot.value.as_mut().filter(|_| slot.generation == id.generation)
    }

    /// Begins to bring what `id` names into the cache.
    #[inline]
    pub fn prefetch(&self, id: FlowId) {
        if let Some(slot) = self.slot(id.index as usize) {
            dpdk_bindings::prefetch(slot);
        }
    }

    /// Two different values at once; `None` if either id is stale or both are the same.
    #[inline]
    pub fn get2_mut(&mut self, a: FlowId, b: FlowId) -> Option<(&mut T, &mut T)> {
        let [a_index, b_index] = [a.index as usize, b.index as usize];
        let (a_chunk, b_chunk) = (a_index / CHUNK, b_index / CHUNK);
        let (a_at, b_at) = (a_index % CHUNK, b_index % CHUNK);
        let [slot_a, slot_b] = if a_chunk == b_chunk {
            self.chunks.get_mut(a_chunk)?.get_disjoint_mut([a_at, b_at]).ok()?
        } else {
            let [a_chunk, b_chunk] = self.chunks.get_disjoint_mut([a_chunk, b_chunk]).ok()?;
            [a_chunk.get_mut(a_at)?, b_chunk.get_mut(b_at)?]
        };
        if slot_a.generation != a.generation || slot_b.generation != b.generation {
            return None;
        }
        Some((slot_a.value.as_mut()?, slot_b.value.as_mut()?))
    }

    pub fn remove(&mut self, id: FlowId) -> Option<T> {
        let slot = self.slot_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(value)
    }

    /// All values, by slot number.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &T)> {
        self.chunks.iter().flatten().enumerate().filter_map(|(index, slot)| {
            let id = FlowId { index: index as u32, generation: slot.generation };
            slot.value.as_ref().map(|value| (id, value))
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (FlowId, &mut T)> {
        self.chunks.iter_mut().flatten().enumerate().filter_map(|(index, slot)| {
            let id = FlowId { index: index as u32, generation: slot.generation };
            slot.value.as_mut().map(|value| (id, value))
        })
    }

    /// The id of what is in slot `index` now; lets a bounded walk continue where it stopped.
    pub fn id_at(&self, index: usize) -> Option<FlowId> {
        let slot = self.slot(index)?;
        slot.value.as_ref()?;
        Some(FlowId { index: index as u32, generation: slot.generation })
    }

    /// Slots ever used: the end of a walk with [`Slab::id_at`].
    pub fn slots(&self) -> usize {
        self.slots
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stale_ids_name_nothing_and_the_last_freed_slot_is_taken_first() {
        let mut slab = Slab::with_capacity(3);
        let ids: Vec<_> = (0..3).map(|n| slab.insert(n).unwrap()).collect();
        assert_eq!(slab.insert(9), Err(9));
        assert_eq!(slab.insert_with(|_| 9), None);
        assert_eq!((slab.remove(ids[0]), slab.remove(ids[2])), (Some(0), Some(2)));
        assert_eq!((slab.remove(ids[2]), slab.get(ids[2])), (None, None));
        let again = slab.insert_with(|id| id.index as i32 * 10).unwrap();
        assert_eq!((again.index, again.generation), (2, 1));
        assert_eq!((slab.get(again), slab.get(ids[2])), (Some(&20), None));
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(ids[1], &1), (again, &20)]);
        assert_eq!((slab.id_at(0), slab.id_at(1), slab.id_at(3)), (None, Some(ids[1]), None));
    }

    #[test]
    fn two_at_once_must_differ_and_be_current() {
        let mut slab = Slab::with_capacity(4);
        let (a, b) = (slab.insert(1).unwrap(), slab.insert(2).unwrap());
        let (x, y) = slab.get2_mut(b, a).unwrap();
        std::mem::swap(x, y);
        assert_eq!((slab.get(a), slab.get(b)), (Some(&2), Some(&1)));
        assert!(slab.get2_mut(a, a).is_none());
        slab.remove(a);
        assert!(slab.get2_mut(a, b).is_none() && slab.get2_mut(b, a).is_none());
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(ops in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..200)) {
            let mut slab = Slab::with_capacity(16);
            let mut model = BTreeMap::new();
            let mut ids: Vec<FlowId> = Vec::new();
            for (n, (op, pick)) in ops.into_iter().enumerate() {
                if op < 2 || ids.is_empty() {
                    match slab.insert(n) {
                        Ok(id) => {
                            prop_assert!(!ids.contains(&id), "an id was given twice");
                            ids.push(id);
                            model.insert((id.index, id.generation), n);
                        }
                        Err(_) => prop_assert_eq!(model.len(), 16),
                    }
                } else {
                    let id = ids[pick.index(ids.len())];
                    let expected = model.remove(&(id.index, id.generation));
                    prop_assert_eq!(slab.remove(id), expected);
                }
                prop_assert_eq!(slab.len(), model.len());
                for id in &ids {
                    prop_assert_eq!(slab.get(*id), model.get(&(id.index, id.generation)));
                }
            }
        }
    }
}
