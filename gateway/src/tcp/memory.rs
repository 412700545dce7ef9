//! Memory of a worker's connections: lent while there are bytes to hold, kept for the next one.

use std::collections::VecDeque;

use super::MAX_RING;
use super::assembler::Block;
use super::bbr::Bbr;
use super::congestion::Control;
use super::sent::Sent;
use crate::config::Congestion;
use crate::limits::{TCP_LEAST_MEMORY, TCP_SPARE_CONTROLLERS, TCP_SPARE_LISTS, TLS_MAX_RECORD};

/// The bytes of a ring: as many as a class has, or none.
pub(super) type Chunk = Box<[u8]>;

/// A size of chunks. Powers of two: a ring that outgrows its chunk copies each byte twice at the
/// most, and no chunk is less than half full for its class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class(u8);

/// A page: smaller chunks would save nothing while a segment is in them.
const SMALLEST: usize = 4 * 1024;
const CLASSES: usize = (MAX_RING / SMALLEST).trailing_zeros() as usize + 1;

impl Class {
    /// The smallest one that holds `bytes`, which are [`MAX_RING`] at the most.
    pub fn of(bytes: usize) -> Self {
        let size = bytes.max(SMALLEST).next_power_of_two();
        Self((size / SMALLEST).trailing_zeros().min(CLASSES as u32 - 1) as u8)
    }

    pub fn bytes(self) -> usize {
        SMALLEST << self.0
    }

    pub fn smaller(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// What a chunk is for, in the order in which memory runs out. Bytes go down this list, from here or
/// from another gateway to a service, and each can only go on if there is memory for the next: so
/// the next may take a little more than those before it. Otherwise two gateways could wait for each
/// other for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Use {
    #[default]
    ServiceReceive,
    PeerSend,
    PeerReceive,
    /// Services and clients take bytes whatever the gateways do.
    ServiceSend,
}

impl Use {
    /// Of [`SHARES`] of the bound, how many may be lent with this one.
    fn most(self) -> usize {
        TIGHT + 1 + self as usize
    }
}

/// Of [`SHARES`] of the bound, from which on connections make do with little.
const TIGHT: usize = 12;
const _: () = assert!(TIGHT + 1 + Use::ServiceSend as usize == SHARES);
/// Each holds a TLS record.
const SHARES: usize = 16;
const _: () = assert!(TCP_LEAST_MEMORY / SHARES >= TLS_MAX_RECORD.next_power_of_two());

/// Lists without content; the last one given back goes first.
#[derive(Debug)]
struct Spare<T> {
    lists: Vec<VecDeque<T>>,
    bytes: usize,
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self { lists: Vec::new(), bytes: 0 }
    }
}

impl<T> Spare<T> {
    fn take(&mut self) -> VecDeque<T> {
        let Some(list) = self.lists.pop() else { return VecDeque::with_capacity(SHORT_LIST) };
        self.bytes -= list.capacity() * size_of::<T>();
        list
    }

    fn put(&mut self, mut list: VecDeque<T>) {
        let bytes = list.capacity() * size_of::<T>();
        if self.bytes + bytes <= TCP_SPARE_LISTS {
            list.clear();
            self.bytes += bytes;
            self.lists.push(list);
        }
    }
}

/// Entries of a list that is made.
const SHORT_LIST: usize = 16;

/// Chunks and lists of one worker. The bound is on chunks; lists are short beside them.
#[derive(Debug)]
pub struct Memory {
    bound: usize,
    free: [Vec<Chunk>; CLASSES],
    in_use: usize,
    kept: usize,
    refused: u64,
    segments_dropped: u64,
    boards: Spare<Sent>,
    gaps: Spare<Block>,
    #[expect(clippy::vec_box, reason = "connections hold the boxes")]
    controllers: Vec<Box<Bbr>>,
}

impl Memory {
    /// Lends at most `bound` bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            free: [const { Vec::new() }; CLASSES],
            in_use: 0,
            kept: 0,
            refused: 0,
            segments_dropped: 0,
            boards: Spare::default(),
            gaps: Spare::default(),
            controllers: Vec::new(),
        }
    }

    /// Bytes that are lent.
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// Bytes that wait to be lent again.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// How often a chunk was asked for and not lent.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Received segments that found no memory since the last call.
    pub fn take_segments_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.segments_dropped)
    }

    /// Three quarters are lent: windows shrink, and no connection should be added.
    pub fn is_tight(&self) -> bool {
        self.in_use > self.bound / SHARES * TIGHT
    }

    /// Whether a chunk of this class leaves enough for others.
    pub(super) fn is_ample_for(&self, class: Class) -> bool {
        self.in_use + class.bytes() <= self.bound / SHARES * TIGHT
    }

    pub(super) fn segment_dropped(&mut self) {
        self.segments_dropped += 1;
    }

    /// A chunk of arbitrary content.
    pub(super) fn take(&mut self, class: Class, what: Use) -> Option<Chunk> {
        let bytes = class.bytes();
        if self.in_use + bytes > self.bound / SHARES * what.most() {
            self.refused += 1;
            return None;
        }
        let chunk = match self.free[usize::from(class.0)].pop() {
            Some(chunk) => {
                self.kept -= bytes;
                chunk
            }
            None => {
                self.make_room(bytes);
                vec![0; bytes].into_boxed_slice()
            }
        };
        self.in_use += bytes;
        Some(chunk)
    }

    /// Frees chunks of other classes until `bytes` more are within the bound.
    fn make_room(&mut self, bytes: usize) {
        for free in self.free.iter_mut().rev() {
            while self.in_use + self.kept + bytes > self.bound {
                let Some(chunk) = free.pop() else { break };
                self.kept -= chunk.len();
            }
        }
    }

    pub(super) fn put(&mut self, chunk: Chunk) {
        let bytes = chunk.len();
        if bytes == 0 {
            return;
        }
        self.in_use -= bytes;
        self.kept += bytes;
        self.free[usize::from(Class::of(bytes).0)].push(chunk);
    }

    pub(super) fn take_control(&mut self, congestion: Congestion) -> Control {
        Control::new(congestion, || self.controllers.pop())
    }

    pub(super) fn put_control(&mut self, control: Control) {
        if let Control::Bbr(bbr) = control
            && self.controllers.len() < TCP_SPARE_CONTROLLERS
        {
            self.controllers.push(bbr);
        }
    }

    pub(super) fn take_board(&mut self) -> VecDeque<Sent> {
        self.boards.take()
    }

    pub(super) fn put_board(&mut self, board: VecDeque<Sent>) {
        self.boards.put(board);
    }

    pub(super) fn take_gaps(&mut self) -> VecDeque<Block> {
        self.gaps.take()
    }

    pub(super) fn put_gaps(&mut self, gaps: VecDeque<Block>) {
        self.gaps.put(gaps);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: usize = 1024;
    const ALL: [Use; 4] = [Use::ServiceReceive, Use::PeerSend, Use::PeerReceive, Use::ServiceSend];

    #[test]
    fn classes_are_powers_of_two() {
        let sizes =
            |bytes: &[usize]| bytes.iter().map(|n| Class::of(*n).bytes()).collect::<Vec<_>>();
        assert_eq!(sizes(&[0, 1, 4096, 4097, 65_536]), [4096, 4096, 4096, 8192, 65_536]);
        assert_eq!(Class::of(MAX_RING).bytes(), MAX_RING);
        assert_eq!(Class::of(crate::limits::TLS_MAX_RECORD).bytes(), 32 * KIB);
        assert_eq!((Class::of(8192).smaller(), Class::of(1).smaller()), (Class(0), Class(0)));
    }

    #[test]
    fn the_last_chunk_given_back_is_the_next_one_lent() {
        let mut memory = Memory::new(64 * KIB);
        let (a, b) = (Class::of(4 * KIB), Class::of(8 * KIB));
        let mut first = memory.take(a, Use::ServiceSend).unwrap();
        let second = memory.take(a, Use::ServiceSend).unwrap();
        first[0] = 1;
        memory.put(second);
        memory.put(first);
        assert_eq!((memory.in_use(), memory.kept()), (0, 8 * KIB));
        assert_eq!(memory.take(b, Use::ServiceSend).map(|chunk| chunk.len()), Some(8 * KIB));
        assert_eq!(memory.take(a, Use::ServiceSend).map(|chunk| chunk[0]), Some(1));
        assert_eq!((memory.in_use(), memory.kept()), (12 * KIB, 4 * KIB));
    }

    #[test]
    fn what_is_kept_makes_room_for_other_classes() {
        let mut memory = Memory::new(64 * KIB);
        let small: Vec<_> =
            (0..16).map(|_| memory.take(Class(0), Use::ServiceSend).unwrap()).collect();
        assert_eq!(memory.take(Class(0), Use::ServiceSend), None);
        small.into_iter().for_each(|chunk| memory.put(chunk));
        assert_eq!(
            memory.take(Class::of(32 * KIB), Use::ServiceSend).map(|c| c.len()),
            Some(32 * KIB)
        );
        assert_eq!((memory.in_use(), memory.kept(), memory.refused()), (32 * KIB, 32 * KIB, 1));
    }

    /// Or what was received could never leave.
    #[test]
    fn each_step_on_the_way_leaves_memory_for_the_next() {
        let mut memory = Memory::new(64 * KIB);
        let mut lent = Vec::new();
        for _ in 0..12 {
            lent.push(memory.take(Class(0), ALL[0]).unwrap());
        }
        assert!(!memory.is_tight());
        for (n, what) in ALL.into_iter().enumerate() {
            lent.push(memory.take(Class(0), what).unwrap());
            for before in &ALL[..=n] {
                assert_eq!(memory.take(Class(0), *before), None);
            }
        }
        assert_eq!((memory.in_use(), memory.is_tight()), (64 * KIB, true));
    }

    #[test]
    fn spare_lists_are_bounded() {
        let mut memory = Memory::new(0);
        let mut board = memory.take_board();
        board.reserve(TCP_SPARE_LISTS / size_of::<Sent>() / 4);
        memory.put_board(board);
        assert!(memory.take_board().capacity() > 1_000, "it is used again");
        for _ in 0..8 {
            memory.put_board(VecDeque::with_capacity(TCP_SPARE_LISTS / size_of::<Sent>() / 4));
        }
        assert!(memory.boards.bytes <= TCP_SPARE_LISTS && memory.boards.lists.len() >= 3);
    }

    proptest! {
        /// Against a list of what is lent.
        #[test]
        fn sums_stay_right_and_within_the_bound(
            steps in proptest::collection::vec((any::<bool>(), 0usize..4, 0usize..200_000), 1..200),
        ) {
            let bound = 512 * KIB;
            let mut memory = Memory::new(bound);
            let mut lent: Vec<Chunk> = Vec::new();
            let mut refused = 0;
            for (take, what, n) in steps {
                if take {
                    let class = Class::of(n);
                    let most = bound / 16 * (13 + what);
                    let before = memory.in_use();
                    match memory.take(class, ALL[what]) {
                        Some(chunk) => {
                            prop_assert_eq!(chunk.len(), class.bytes());
                            prop_assert!(chunk.len() >= n && memory.in_use() <= most);
                            lent.push(chunk);
                        }
                        None => {
                            refused += 1;
                            prop_assert!(before + class.bytes() > most);
                        }
                    }
                } else if !lent.is_empty() {
                    memory.put(lent.swap_remove(n % lent.len()));
                }
                prop_assert_eq!(memory.in_use(), lent.iter().map(|c| c.len()).sum::<usize>());
                let kept: usize = memory.free.iter().flatten().map(|c| c.len()).sum();
                prop_assert_eq!((memory.kept(), memory.refused()), (kept, refused));
                prop_assert!(memory.in_use() + memory.kept() <= bound);
            }
        }
    }
}
