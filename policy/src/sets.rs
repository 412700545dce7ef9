//! Sets of rules, numbered in the order in which they decide.
//!
//! The first rule that several sets have in common is found without walking over the rules: a set
//! keeps only words that are not zero, and for every [`WORDS_PER_BLOCK`] words one word that says
//! which of them those are. 10,000 rules are three blocks.

use std::hash::BuildHasher;

use hashbrown::HashTable;

const BITS: usize = u64::BITS as usize;
const WORDS_PER_BLOCK: usize = u64::BITS as usize;

/// A set under construction: a bit per rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Bits(Box<[u64]>);

impl Bits {
    pub fn empty(rules: usize) -> Self {
        Self(vec![0; rules.div_ceil(BITS)].into())
    }

    /// Bits outside the set's size are ignored.
    pub fn insert(&mut self, rule: u32) {
        if let Some(word) = self.0.get_mut(rule as usize / BITS) {
            *word |= 1 << (rule as usize % BITS);
        }
    }

    pub fn members(&self) -> impl Iterator<Item = usize> + '_ {
        self.0
            .iter()
            .enumerate()
            .flat_map(|(index, word)| members(*word).map(move |bit| index * BITS + bit as usize))
    }

    pub fn insert_word(&mut self, index: usize, word: u64) {
        if let Some(own) = self.0.get_mut(index) {
            *own |= word;
        }
    }
}

/// Names a set of a [`Sets`]: the position of its first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SetId(u32);

impl SetId {
    /// One for all, as most sets of a large table are empty.
    pub const EMPTY: Self = Self(0);
}

/// [`WORDS_PER_BLOCK`] words of one set.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// Which of the words are not zero.
    occupied: u64,
    /// Position of the first of those in [`Sets::words`].
    first: u32,
}

/// Sets over the same rules, each distinct one once, in two flat lists.
#[derive(Debug, Clone)]
pub(crate) struct Sets {
    blocks_per_set: usize,
    blocks: Vec<Block>,
    words: Vec<u64>,
}

impl Sets {
    /// Of every set.
    #[inline]
    pub fn blocks(&self) -> usize {
        self.blocks_per_set
    }

    /// Bit n: word n of this block is not zero.
    #[inline]
    pub fn occupied(&self, set: SetId, block: usize) -> u64 {
        self.blocks.get(set.0 as usize + block).map_or(0, |block| block.occupied)
    }

    /// A word by its number within a block.
    #[inline]
    pub fn word(&self, set: SetId, block: usize, index: u32) -> u64 {
        let Some(block) = self.blocks.get(set.0 as usize + block) else { return 0 };
        let bit = 1 << index;
        if block.occupied & bit == 0 {
            return 0;
        }
        let before = (block.occupied & (bit - 1)).count_ones();
        self.words.get((block.first + before) as usize).copied().unwrap_or(0)
    }

    /// The lowest rule of both.
    pub fn first_common(&self, a: SetId, b: SetId) -> Option<u32> {
        (0..self.blocks()).find_map(|block| {
            members(self.occupied(a, block) & self.occupied(b, block)).find_map(|index| {
                lowest_rule(block, index, self.word(a, block, index) & self.word(b, block, index))
            })
        })
    }

    fn is(&self, set: SetId, bits: &Bits) -> bool {
        bits.0.iter().enumerate().all(|(index, word)| {
            self.word(set, index / WORDS_PER_BLOCK, (index % WORDS_PER_BLOCK) as u32) == *word
        })
    }
}

/// Fills a [`Sets`].
#[derive(Debug)]
pub(crate) struct SetsBuilder {
    sets: Sets,
    /// Sets that [`SetsBuilder::intern`] made, by hash.
    interned: HashTable<(u64, SetId)>,
}

impl SetsBuilder {
    /// For sets of rules below `rules`.
    pub fn new(rules: usize) -> Self {
        let blocks_per_set = rules.div_ceil(BITS * WORDS_PER_BLOCK).max(1);
        Self {
            sets: Sets {
                blocks_per_set,
                // The empty set.
                blocks: vec![Block::default(); blocks_per_set],
                words: Vec::new(),
            },
            interned: HashTable::new(),
        }
    }

    /// Equal sets get the same name.
    pub fn intern(&mut self, set: &Bits) -> SetId {
        let hash = foldhash::fast::FixedState::default().hash_one(set);
        let same = |(_, id): &(u64, SetId)| self.sets.is(*id, set);
        if let Some((_, id)) = self.interned.find(hash, same) {
            return *id;
        }
        let words = set.0.iter().copied().enumerate().filter(|(_, word)| *word != 0);
        let id = self.push(words);
        self.interned.insert_unique(hash, (hash, id), |(hash, _)| *hash);
        id
    }

    /// A set of these rules, which ascend.
    pub fn add(&mut self, rules: &[u32]) -> SetId {
        let words = rules.chunk_by(|a, b| *a as usize / BITS == *b as usize / BITS).map(|chunk| {
            let word = chunk.iter().fold(0, |word, rule| word | 1 << (*rule as usize % BITS));
            (chunk[0] as usize / BITS, word)
        });
        self.push(words)
    }

    fn push(&mut self, words: impl Iterator<Item = (usize, u64)>) -> SetId {
        let start = self.sets.blocks.len();
        for (index, word) in words {
            if self.sets.blocks.len() == start {
                let end = start + self.sets.blocks_per_set;
                self.sets.blocks.resize(end, Block::default());
            }
            let block = &mut self.sets.blocks[start + index / WORDS_PER_BLOCK];
            if block.occupied == 0 {
                block.first = self.sets.words.len() as u32;
            }
            block.occupied |= 1 << (index % WORDS_PER_BLOCK);
            self.sets.words.push(word);
        }
        if self.sets.blocks.len() == start {
            return SetId::EMPTY;
        }
        SetId(start as u32)
    }

    pub fn finish(mut self) -> Sets {
        self.sets.blocks.shrink_to_fit();
        self.sets.words.shrink_to_fit();
        self.sets
    }
}

/// The lowest rule in a word of a set.
pub(crate) fn lowest_rule(block: usize, index: u32, word: u64) -> Option<u32> {
    (word != 0).then(|| (word_number(block, index) * BITS) as u32 + word.trailing_zeros())
}

/// The first rule that a block can have.
pub(crate) fn first_rule(block: usize) -> u32 {
    (block * WORDS_PER_BLOCK * BITS) as u32
}

/// Number of a word in a [`Bits`].
pub(crate) fn word_number(block: usize, index: u32) -> usize {
    block * WORDS_PER_BLOCK + index as usize
}

/// The bits of a word that are set, from the lowest.
pub(crate) fn members(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros();
            word &= word - 1;
            bit
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Three blocks.
    const RULES: usize = 10_000;

    fn set() -> impl Strategy<Value = Vec<u32>> {
        let one = 0..RULES as u32;
        let some = |count| proptest::collection::btree_set(one.clone(), count);
        prop_oneof![
            some(0..4).prop_map(|rules| rules.into_iter().collect()),
            some(0..400).prop_map(|rules| rules.into_iter().collect()),
            (one.clone(), one).prop_map(|(a, b)| (a.min(b)..a.max(b)).collect()),
        ]
    }

    proptest! {
        #[test]
        fn the_first_common_rule_is_that_of_plain_sets(a in set(), b in set()) {
            let mut builder = SetsBuilder::new(RULES);
            let mut dense = Bits::empty(RULES);
            a.iter().for_each(|rule| dense.insert(*rule));
            let (x, y) = (builder.add(&a), builder.add(&b));
            let interned = builder.intern(&dense);
            prop_assert_eq!(builder.intern(&dense), interned);
            let sets = builder.finish();
            let expected = a.iter().find(|rule| b.contains(rule)).copied();
            prop_assert_eq!(sets.first_common(x, y), expected);
            prop_assert_eq!(sets.first_common(interned, y), expected);
            prop_assert!(sets.is(x, &dense));
            prop_assert_eq!(x == SetId::EMPTY, a.is_empty());
        }
    }

    #[test]
    fn a_table_without_rules_has_empty_sets() {
        let mut builder = SetsBuilder::new(0);
        let id = builder.intern(&Bits::empty(0));
        assert_eq!(id, SetId::EMPTY);
        let sets = builder.finish();
        assert_eq!(sets.first_common(id, id), None);
        assert_eq!(sets.first_common(SetId(77), SetId(78)), None);
    }
}
