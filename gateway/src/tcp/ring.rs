//! A ring of bytes: what was received and not taken, or sent and not acknowledged. It has memory
//! only while something stands in it.

use super::memory::{Chunk, Class, Memory, Use};

/// Bytes are addressed by their distance from the oldest one.
#[derive(Default)]
pub(super) struct Ring {
    chunk: Chunk,
    start: u32,
    len: u32,
    /// How far bytes have been written, content or not: those behind stay where they are.
    extent: u32,
    /// Largest extent since the chunk was taken.
    peak: u32,
    limit: u32,
    /// A first chunk is not smaller.
    least: Class,
    /// What was needed lately, so that a bulk flow does not grow to it by copying each time.
    hint: Class,
    /// Chunks in a row that were larger than needed.
    idle: u8,
    what: Use,
}

/// The hint goes down by one class after so many chunks that were larger than needed.
const HINT_LASTS: u8 = 8;

impl Ring {
    /// Holds up to `limit` bytes. The first chunk has room for `first` at once.
    pub fn new(limit: usize, first: usize, what: Use) -> Self {
        let least = Class::of(first.min(limit));
        Self { limit: limit as u32, least, hint: least, what, ..Self::default() }
    }

    /// Bytes it may hold.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn clear(&mut self) {
        (self.start, self.len, self.extent) = (0, 0, 0);
    }

    /// Makes sure that bytes can be written up to the distance `end`. `false` if that is beyond the
    /// limit or no memory is there.
    #[inline]
    pub fn reserve(&mut self, memory: &mut Memory, end: usize) -> bool {
        end <= self.chunk.len().min(self.limit()) || self.grow(memory, end)
    }

    fn grow(&mut self, memory: &mut Memory, end: usize) -> bool {
        if end > self.limit() {
            return false;
        }
        let need = Class::of(end).max(self.least);
        let fits = need.max(self.hint);
        let class = if self.chunk.is_empty() && memory.is_ample_for(fits) { fits } else { need };
        let Some(mut chunk) = memory.take(class, self.what) else { return false };
        self.copy(0, &mut chunk[..self.extent as usize]);
        self.start = 0;
        memory.put(std::mem::replace(&mut self.chunk, chunk));
        true
    }

    /// Gives the memory back if nothing stands in it.
    #[inline]
    pub fn settle(&mut self, memory: &mut Memory) {
        if self.extent > 0 || self.chunk.is_empty() {
            return;
        }
        let needed = Class::of(self.peak as usize).max(self.least);
        if needed >= self.hint {
            (self.hint, self.idle) = (needed, 0);
        } else if self.peak > 0 {
            self.idle += 1;
            if self.idle >= HINT_LASTS {
                (self.hint, self.idle) = (self.hint.smaller(), 0);
            }
        }
        self.peak = 0;
        memory.put(std::mem::take(&mut self.chunk));
    }

    fn at(&self, offset: usize) -> usize {
        let at = self.start as usize + offset;
        if at >= self.chunk.len() { at - self.chunk.len() } else { at }
    }

    /// The longest run of bytes from the oldest one on.
    pub fn run(&mut self) -> &mut [u8] {
        let start = self.start as usize;
        let end = (start + self.len()).min(self.chunk.len());
        &mut self.chunk[start..end]
    }

    /// Forgets the oldest `n` bytes.
    pub fn consume(&mut self, n: usize) {
        let n = n.min(self.len());
        self.start = self.at(n) as u32;
        self.len -= n as u32;
        self.extent -= n as u32;
        if self.extent == 0 {
            // Anew, with the longest run and the lines that are in the cache.
            self.start = 0;
        }
    }

    /// The longest free run behind the newest byte, in the memory that is there.
    pub fn free_run(&mut self) -> &mut [u8] {
        let room = self.chunk.len().min(self.limit()) - self.len();
        let from = self.at(self.len());
        let to = (from + room).min(self.chunk.len());
        &mut self.chunk[from..to]
    }

    /// Makes `n` bytes that stand behind the newest one part of the content.
    pub fn extend(&mut self, n: usize) {
        let room = self.chunk.len().min(self.limit()) - self.len();
        self.len += n.min(room) as u32;
        self.reach(self.len);
    }

    fn reach(&mut self, extent: u32) {
        self.extent = self.extent.max(extent);
        self.peak = self.peak.max(self.extent);
    }

    /// Copies as much of `data` as there is memory for behind the newest byte.
    pub fn push(&mut self, data: &[u8]) -> usize {
        let n = self.write_at(self.len(), data);
        self.extend(n);
        n
    }

    /// Writes at a distance from the oldest byte, content or not; returns how much there was memory
    /// for.
    pub fn write_at(&mut self, offset: usize, data: &[u8]) -> usize {
        let n = data.len().min(self.chunk.len().min(self.limit()).saturating_sub(offset));
        if n == 0 {
            return 0;
        }
        let from = self.at(offset);
        let first = n.min(self.chunk.len() - from);
        self.chunk[from..from + first].copy_from_slice(&data[..first]);
        self.chunk[..n - first].copy_from_slice(&data[first..n]);
        self.reach((offset + n) as u32);
        n
    }

    /// Lends the `n` bytes behind the newest one in one piece: by way of `spare` if they wrap around
    /// the end. There must be memory for them.
    pub fn lend_ahead<R>(
        &mut self,
        n: usize,
        spare: &mut [u8],
        f: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let from = self.at(self.len());
        if let Some(run) = self.chunk.get_mut(from..from + n) {
            return f(run);
        }
        let piece = &mut spare[..n];
        self.copy(self.len(), piece);
        let result = f(piece);
        self.write_at(self.len(), piece);
        result
    }

    /// Copies from a distance from the oldest byte; returns how much there was.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> usize {
        let n = out.len().min(self.len().saturating_sub(offset));
        self.copy(offset, &mut out[..n]);
        n
    }

    fn copy(&self, offset: usize, out: &mut [u8]) {
        if out.is_empty() {
            return;
        }
        let from = self.at(offset);
        let first = out.len().min(self.chunk.len() - from);
        let (head, tail) = out.split_at_mut(first);
        head.copy_from_slice(&self.chunk[from..from + first]);
        tail.copy_from_slice(&self.chunk[..tail.len()]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn what_stands_behind_a_gap_stays_there() {
        let mut memory = Memory::new(1 << 20);
        let mut ring = Ring::new(8 * KIB, 0, Use::ServiceSend);
        assert!(ring.reserve(&mut memory, 8));
        ring.push(b"abcdef");
        ring.write_at(7, b"h");
        ring.consume(6);
        assert_eq!(ring.len(), 0);
        ring.settle(&mut memory);
        assert_eq!(memory.in_use(), 4 * KIB, "something stands in it");
        // Growing takes it along.
        assert!(ring.reserve(&mut memory, 5 * KIB));
        ring.write_at(0, b"g");
        ring.extend(2);
        let mut out = [0; 4];
        assert_eq!((ring.read_at(0, &mut out), &out[..2]), (2, &b"gh"[..]));
        ring.consume(2);
        assert_eq!(ring.free_run().len(), 8 * KIB);
        ring.settle(&mut memory);
        assert_eq!(memory.in_use(), 0);
        assert_eq!(ring.free_run().len(), 0);
    }

    fn use_once(ring: &mut Ring, memory: &mut Memory, bytes: usize) -> usize {
        assert!(ring.reserve(memory, 1));
        let first = memory.in_use();
        assert!(ring.reserve(memory, bytes));
        ring.extend(bytes);
        ring.consume(bytes);
        ring.settle(memory);
        assert_eq!(memory.in_use(), 0);
        first
    }

    #[test]
    fn what_was_needed_lately_is_taken_at_once_and_forgotten_in_time() {
        let mut memory = Memory::new(1 << 20);
        let mut ring = Ring::new(256 * KIB, 0, Use::ServiceSend);
        assert_eq!(use_once(&mut ring, &mut memory, 100 * KIB), 4 * KIB);
        assert_eq!(use_once(&mut ring, &mut memory, 1), 128 * KIB);
        let mut uses = 1;
        while use_once(&mut ring, &mut memory, 1) > 4 * KIB {
            uses += 1;
        }
        assert_eq!(uses, 5 * usize::from(HINT_LASTS));
    }

    #[test]
    fn where_memory_is_scarce_no_more_is_taken_than_needed() {
        let mut memory = Memory::new(256 * KIB);
        let mut ring = Ring::new(256 * KIB, 0, Use::ServiceSend);
        use_once(&mut ring, &mut memory, 100 * KIB);
        let other = memory.take(Class::of(128 * KIB), Use::ServiceSend).unwrap();
        assert!(ring.reserve(&mut memory, 1));
        assert_eq!(memory.in_use(), 132 * KIB);
        assert!(!ring.reserve(&mut memory, 256 * KIB));
        assert_eq!((ring.push(b"x"), memory.refused()), (1, 1));
        memory.put(other);
    }

    #[test]
    fn a_first_chunk_takes_what_was_promised() {
        let mut memory = Memory::new(1 << 20);
        let mut ring = Ring::new(64 * KIB, 20_000, Use::ServiceSend);
        assert!(ring.reserve(&mut memory, 1));
        assert_eq!(memory.in_use(), 32 * KIB);
        assert!(!ring.reserve(&mut memory, 64 * KIB + 1));
    }

    const LIMIT: usize = 20_000;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

        #[test]
        fn behaves_like_a_queue(steps in proptest::collection::vec((0u8..8, 0usize..9_000), 1..80)) {
            let mut memory = Memory::new(64 * KIB);
            let mut ring = Ring::new(LIMIT, 0, Use::ServiceSend);
            let mut queue: VecDeque<u8> = VecDeque::new();
            let mut next = 0u8;
            for (what, n) in steps {
                let data: Vec<u8> = (0..n).map(|i| next.wrapping_add(i as u8)).collect();
                let fits = n <= LIMIT - queue.len();
                match what {
                    0 => {
                        let end = queue.len() + n;
                        prop_assert_eq!(ring.reserve(&mut memory, end), fits);
                        if fits {
                            prop_assert_eq!(ring.push(&data), n);
                            queue.extend(&data);
                        }
                    }
                    1 => {
                        ring.consume(n);
                        queue.drain(..n.min(queue.len()));
                    }
                    2 => {
                        if fits {
                            ring.reserve(&mut memory, queue.len() + n);
                        }
                        let free = ring.free_run();
                        let n = n.min(free.len());
                        free[..n].copy_from_slice(&data[..n]);
                        ring.extend(n);
                        queue.extend(&data[..n]);
                    }
                    3 => {
                        let mut out = vec![0; LIMIT];
                        let got = ring.read_at(n, &mut out);
                        let want: Vec<u8> = queue.iter().skip(n).copied().collect();
                        prop_assert_eq!(&out[..got], &want[..]);
                    }
                    4 => {
                        // Behind a gap, which is filled after the ring may have grown.
                        let gap = n.min(LIMIT - queue.len()).saturating_sub(3);
                        let at = queue.len() + gap;
                        if ring.reserve(&mut memory, at + 3) {
                            prop_assert_eq!(ring.write_at(at, &[0xaa; 3]), 3);
                            ring.settle(&mut memory);
                            ring.reserve(&mut memory, LIMIT);
                            ring.write_at(queue.len(), &vec![0xbb; gap]);
                            ring.extend(gap + 3);
                            queue.extend(std::iter::repeat_n(0xbb, gap));
                            queue.extend([0xaa; 3]);
                        }
                    }
                    5 => {
                        // Ahead of the newest byte, while all before is forgotten and the ring grows.
                        if ring.reserve(&mut memory, queue.len() + n) {
                            prop_assert_eq!(ring.write_at(queue.len(), &data), n);
                            ring.consume(n);
                            queue.drain(..n.min(queue.len()));
                            ring.settle(&mut memory);
                            if n % 2 == 0 {
                                ring.reserve(&mut memory, LIMIT);
                            }
                            let right = ring.lend_ahead(n, &mut [0; LIMIT], |ahead| {
                                let right = *ahead == data[..];
                                ahead.reverse();
                                right
                            });
                            prop_assert!(right);
                            ring.extend(n);
                            queue.extend(data.iter().rev());
                        }
                    }
                    6 => {
                        ring.clear();
                        queue.clear();
                    }
                    _ => {
                        ring.settle(&mut memory);
                        prop_assert_eq!(memory.in_use() == 0, queue.is_empty());
                    }
                }
                next = next.wrapping_add(data.len() as u8);
                prop_assert_eq!(ring.len(), queue.len());
                let run = ring.run();
                prop_assert_eq!(&*run, &queue.make_contiguous()[..run.len()]);
            }
            ring.clear();
            ring.settle(&mut memory);
            prop_assert_eq!(memory.in_use(), 0);
        }
    }
}
