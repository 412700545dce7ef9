//! A ring of bytes: what was received and not taken, or sent and not acknowledged.

/// Bytes are addressed by their distance from the oldest one.
#[derive(Default)]
pub(super) struct Ring {
    bytes: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Ring {
    pub fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity].into_boxed_slice(), start: 0, len: 0 }
    }

    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn room(&self) -> usize {
        self.bytes.len() - self.len
    }

    pub fn clear(&mut self) {
        (self.start, self.len) = (0, 0);
    }

    fn at(&self, offset: usize) -> usize {
        let at = self.start + offset;
        if at >= self.bytes.len() { at - self.bytes.len() } else { at }
    }

    /// The longest run of bytes from the oldest one on.
    pub fn run(&mut self) -> &mut [u8] {
        let end = (self.start + self.len).min(self.bytes.len());
        &mut self.bytes[self.start..end]
    }

    /// Forgets the oldest `n` bytes.
    pub fn consume(&mut self, n: usize) {
        let n = n.min(self.len);
        self.start = self.at(n);
        self.len -= n;
    }

    /// Nothing was written behind the content: an empty ring can begin anew, with the longest run
    /// and the lines that are in the cache.
    pub fn rewind(&mut self) {
        if self.len == 0 {
            self.start = 0;
        }
    }

    /// The longest free run behind the newest byte.
    pub fn free_run(&mut self) -> &mut [u8] {
        let room = self.room();
        let from = self.at(self.len);
        let to = (from + room).min(self.bytes.len());
        &mut self.bytes[from..to]
    }

    /// Makes `n` bytes that stand behind the newest one part of the content.
    pub fn extend(&mut self, n: usize) {
        self.len += n.min(self.room());
    }

    /// Copies as much of `data` as there is room for behind the newest byte.
    pub fn push(&mut self, data: &[u8]) -> usize {
        let n = self.write_at(self.len, data);
        self.extend(n);
        n
    }

    /// Writes at a distance from the oldest byte, content or not; returns how much fitted.
    pub fn write_at(&mut self, offset: usize, data: &[u8]) -> usize {
        let n = data.len().min(self.bytes.len().saturating_sub(offset));
        let from = self.at(offset);
        let first = n.min(self.bytes.len() - from);
        self.bytes[from..from + first].copy_from_slice(&data[..first]);
        self.bytes[..n - first].copy_from_slice(&data[first..n]);
        n
    }

    /// Copies from a distance from the oldest byte; returns how much there was.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> usize {
        let n = out.len().min(self.len.saturating_sub(offset));
        if n == 0 {
            return 0;
        }
        let from = self.at(offset);
        let first = n.min(self.bytes.len() - from);
        out[..first].copy_from_slice(&self.bytes[from..from + first]);
        out[first..n].copy_from_slice(&self.bytes[..n - first]);
        n
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_stands_behind_a_gap_stays_there() {
        let mut ring = Ring::new(8);
        ring.push(b"abcdef");
        ring.write_at(7, b"h");
        ring.consume(6);
        assert_eq!((ring.len(), ring.room()), (0, 8));
        ring.write_at(0, b"g");
        ring.extend(2);
        let mut out = [0; 4];
        assert_eq!((ring.read_at(0, &mut out), &out[..2]), (2, &b"gh"[..]));
        ring.consume(2);
        ring.rewind();
        assert_eq!(ring.free_run().len(), 8);
    }

    proptest! {
        #[test]
        fn behaves_like_a_queue(steps in proptest::collection::vec((0u8..5, 0usize..40), 1..200)) {
            let mut ring = Ring::new(31);
            let mut queue: VecDeque<u8> = VecDeque::new();
            let mut next = 0u8;
            for (what, n) in steps {
                let data: Vec<u8> = (0..n as u8).map(|i| next.wrapping_add(i)).collect();
                match what {
                    0 => {
                        let taken = ring.push(&data);
                        prop_assert_eq!(taken, n.min(31 - queue.len()));
                        queue.extend(&data[..taken]);
                        next = next.wrapping_add(taken as u8);
                    }
                    1 => {
                        ring.consume(n);
                        ring.rewind();
                        queue.drain(..n.min(queue.len()));
                    }
                    2 => {
                        let free = ring.free_run();
                        let n = n.min(free.len());
                        free[..n].copy_from_slice(&data[..n]);
                        ring.extend(n);
                        queue.extend(&data[..n]);
                        next = next.wrapping_add(n as u8);
                    }
                    3 => {
                        let mut out = vec![0; 31];
                        let got = ring.read_at(n, &mut out);
                        let want: Vec<u8> = queue.iter().skip(n).copied().collect();
                        prop_assert_eq!(&out[..got], &want[..]);
                    }
                    _ => {
                        // Behind a gap, which is filled afterwards.
                        let gap = n.min(ring.room());
                        let wrote = ring.write_at(ring.len() + gap, &[0xaa; 3]);
                        prop_assert_eq!(wrote, 3.min(ring.room() - gap));
                        let fill = vec![0xbb; gap];
                        ring.write_at(ring.len(), &fill);
                        ring.extend(gap + wrote);
                        queue.extend(std::iter::repeat_n(0xbb, gap));
                        queue.extend(std::iter::repeat_n(0xaa, wrote));
                    }
                }
                prop_assert_eq!(ring.len(), queue.len());
                let run = ring.run().to_vec();
                prop_assert!(queue.iter().copied().take(run.len()).eq(run));
            }
        }
    }
}
