//! Which bytes beyond the next expected one are there already.

use std::collections::VecDeque;

use super::memory::Memory;
use super::seq::Seq;
use crate::limits::TCP_MAX_GAPS;

/// Of RFC 2018: with timestamps there is room for three blocks in a segment.
pub(super) const SACK_BLOCKS: usize = 3;

/// [start, end).
pub(super) type Block = (Seq, Seq);

#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// The one that holds the segment that came last is first (RFC 2018, section 4).
    blocks: VecDeque<Block>,
    /// Bytes that came again; reported once (RFC 2883).
    duplicate: Option<Block>,
}

impl Assembler {
    /// Gives its memory back while there are no gaps.
    pub fn settle(&mut self, memory: &mut Memory) {
        if self.blocks.is_empty() && self.blocks.capacity() > 0 {
            memory.put_gaps(std::mem::take(&mut self.blocks));
        }
    }

    /// Takes memory for gaps.
    pub fn prepare(&mut self, memory: &mut Memory) {
        if self.blocks.capacity() == 0 {
            self.blocks = memory.take_gaps();
        }
    }

    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>()
    }

    pub fn clear(&mut self) {
        self.blocks.clear();
        self.duplicate = None;
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Notes a segment that lies beyond the next expected byte. `false` if it must be dropped.
    pub fn insert(&mut self, (mut start, mut end): Block) -> bool {
        if self.blocks.iter().any(|(a, b)| a.le(start) && end.le(*b)) {
            self.duplicate = Some((start, end));
        }
        let touches = |(a, b): &Block| a.le(end) && start.le(*b);
        if self.blocks.len() >= TCP_MAX_GAPS && !self.blocks.iter().any(touches) {
            return false;
        }
        let mut i = 0;
        while i < self.blocks.len() {
            let (a, b) = self.blocks[i];
            if a.le(end) && start.le(b) {
                (start, end) = (start.min(a), end.max(b));
                self.blocks.remove(i);
                // What has grown may touch those before.
                i = 0;
            } else {
                i += 1;
            }
        }
        self.blocks.push_front((start, end));
        true
    }

    /// The next expected byte, now that everything before `next` is there.
    pub fn advance(&mut self, mut next: Seq) -> Seq {
        while let Some(i) = self.blocks.iter().position(|(a, _)| a.le(next)) {
            let Some((_, end)) = self.blocks.remove(i) else { break };
            next = next.max(end);
        }
        next
    }

    /// Notes bytes that came although they were there.
    pub fn came_again(&mut self, block: Block) {
        self.duplicate = Some(block);
    }

    /// How many blocks [`Assembler::report`] gives.
    pub fn reports(&self) -> usize {
        (self.blocks.len() + usize::from(self.duplicate.is_some())).min(SACK_BLOCKS)
    }

    /// What the next acknowledgement says: a duplicate first, and only once, then blocks.
    pub fn report(&mut self) -> [Option<Block>; SACK_BLOCKS] {
        let mut report = [None; SACK_BLOCKS];
        let all = self.duplicate.take().into_iter().chain(self.blocks.iter().copied());
        for (slot, block) in report.iter_mut().zip(all) {
            *slot = Some(block);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(start: u32, end: u32) -> Block {
        (Seq(start), Seq(end))
    }

    #[test]
    fn the_latest_block_is_first_and_a_duplicate_before_it_once() {
        let mut a = Assembler::default();
        assert!(a.insert(block(20, 30)) && a.insert(block(40, 50)) && a.insert(block(60, 70)));
        assert_eq!(a.report(), [60, 40, 20].map(|n| Some(block(n, n + 10))));
        assert!(a.insert(block(22, 28)));
        assert_eq!(a.report(), [(22, 28), (20, 30), (60, 70)].map(|(s, e)| Some(block(s, e))));
        assert_eq!(a.report(), [20, 60, 40].map(|n| Some(block(n, n + 10))));
        assert!(a.insert(block(30, 40)));
        assert_eq!(a.report(), [Some(block(20, 50)), Some(block(60, 70)), None]);
        assert_eq!(a.advance(Seq(20)), Seq(50));
        assert_eq!(a.advance(Seq(65)), Seq(70));
        assert!(a.is_empty());
    }

    #[test]
    fn too_many_gaps_are_refused_and_growing_ones_are_not() {
        let mut a = Assembler::default();
        for n in 0..TCP_MAX_GAPS as u32 {
            assert!(a.insert(block(100 + n * 10, 105 + n * 10)));
        }
        assert!(!a.insert(block(50_000, 50_010)));
        assert!(a.insert(block(105, 110)));
        assert!(a.insert(block(50_000, 50_010)));
    }

    proptest! {
        /// Against a set of bytes, around the wrap of sequence numbers.
        #[test]
        fn knows_what_is_there(segments in proptest::collection::vec((1u32..300, 1u32..40), 1..60)) {
            let zero = Seq(u32::MAX - 100);
            let mut there = vec![false; 400];
            let (mut a, mut next) = (Assembler::default(), 0u32);
            for (offset, len) in segments {
                if offset > next {
                    if a.insert((zero + offset, zero + (offset + len))) {
                        (offset..offset + len).for_each(|n| there[n as usize] = true);
                    }
                } else if offset + len > next {
                    (next..offset + len).for_each(|n| there[n as usize] = true);
                    let expected = (offset + len..).find(|n| !there[*n as usize]).unwrap();
                    let got = a.advance(zero + (offset + len));
                    prop_assert_eq!(got, zero + expected);
                    next = expected;
                }
                for (start, end) in a.report().into_iter().flatten() {
                    prop_assert!(start.ge(zero + next) && start.lt(end));
                }
            }
        }
    }
}
