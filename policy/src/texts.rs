//! Texts that stand for numbers.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;

/// A map from texts that a fabric mentions to numbers, for lookups of texts that peers send.
///
/// Not keyed at random: what is stored comes from the operator's own files, and remote texts are
/// only looked up, so nobody can crowd a bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts {
    entries: HashTable<(Box<str>, u32)>,
    /// Bytes at the front that do not go into the hash.
    skipped: usize,
    /// Bit n: some text has n bytes, modulo 64. Most attributes of a client interest no policy, and
    /// many of those are told by their length alone.
    lengths: u64,
}

impl Texts {
    /// For texts that mostly begin with the same `bytes`.
    pub fn with_common_prefix(bytes: usize) -> Self {
        Self { skipped: bytes, ..Self::default() }
    }

    #[inline]
    fn hash(skipped: usize, text: &str) -> u64 {
        let bytes = text.as_bytes();
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        // One write: the texts are hashed alone, so their ends need no mark.
        hasher.write(bytes.get(skipped..).unwrap_or(bytes));
        hasher.finish()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    fn length(text: &str) -> u64 {
        1 << (text.len() % 64)
    }

    #[inline]
    pub fn get(&self, text: &str) -> Option<u32> {
        if self.lengths & Self::length(text) == 0 {
            return None;
        }
        let found = |(stored, _): &(Box<str>, u32)| **stored == *text;
        self.entries.find(Self::hash(self.skipped, text), found).map(|(_, number)| *number)
    }

    /// The number of a text, which is `next` if it had none.
    pub fn get_or_insert(&mut self, text: &str, next: u32) -> u32 {
        if let Some(number) = self.get(text) {
            return number;
        }
        let skipped = self.skipped;
        let hash = Self::hash(skipped, text);
        let rehash = |(stored, _): &(Box<str>, u32)| Self::hash(skipped, stored);
        self.lengths |= Self::length(text);
        self.entries.insert_unique(hash, (text.into(), next), rehash);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_numbers_whatever_their_length() {
        let mut texts = Texts::with_common_prefix(4);
        let long = "x".repeat(200);
        let words = ["", "a", "abcd", "abcde", "xbcde", "abcdef", "abcdeg", &long];
        for (word, number) in words.iter().zip(0..) {
            assert_eq!(texts.get(word), None);
            assert_eq!(texts.get_or_insert(word, number), number);
        }
        for (word, number) in words.iter().zip(0..) {
            assert_eq!(texts.get_or_insert(word, 99), number);
        }
        assert_eq!(texts.get("abcdeh"), None);
    }
}
