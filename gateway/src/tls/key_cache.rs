//! Expanded keys, apart from their connections: ring's take half a KiB each, most connections are
//! idle, and to expand a key again costs less than a short record does.

use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::{Aead, RingAead, Suite, TlsError};

const LONGEST_KEY: usize = 32;

/// A key as the handshake gave it, for ring.
pub(super) struct Key {
    bytes: Zeroizing<[u8; LONGEST_KEY]>,
    /// No other key of this process has it, whatever cache holds either.
    id: u64,
    /// Where it was expanded last.
    slot: u32,
}

impl Key {
    pub(super) fn new(suite: Suite, key: &[u8]) -> Result<Self, TlsError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut bytes = Zeroizing::new([0; LONGEST_KEY]);
        if key.len() != suite.key_len() {
            return Err(TlsError::KeyLength { have: key.len(), need: suite.key_len() });
        }
        bytes[..key.len()].copy_from_slice(key);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { bytes, id, slot: 0 })
    }
}

#[derive(Debug)]
struct Slot {
    /// Of the key.
    id: u64,
    aead: RingAead,
}

/// The expanded keys of a worker.
///
/// The one that was expanded first goes first. Its hits are not noted: a busy connection pays by
/// one expansion for as many of others as there are slots, and where all are equally busy no choice
/// would be better.
#[derive(Debug)]
pub struct KeyCache {
    slots: Vec<Slot>,
    most: usize,
    /// The slot that is filled next.
    next: usize,
}

impl KeyCache {
    /// For so many keys, one at the least. Takes the memory at once, touched only when used.
    pub fn new(keys: usize) -> Self {
        let most = keys.max(1);
        Self { slots: Vec::with_capacity(most), most, next: 0 }
    }

    /// The cipher of a key that was made for `suite`.
    #[inline]
    pub(super) fn expanded(&mut self, suite: Suite, key: &mut Key) -> Result<&RingAead, TlsError> {
        let there = self.slots.get(key.slot as usize).is_some_and(|slot| slot.id == key.id);
        if !there {
            self.expand(suite, key)?;
        }
        Ok(&self.slots[key.slot as usize].aead)
    }

    #[cold]
    fn expand(&mut self, suite: Suite, key: &mut Key) -> Result<(), TlsError> {
        let aead = RingAead::new(suite, &key.bytes[..suite.key_len()])?;
        let slot = Slot { id: key.id, aead };
        match self.slots.get_mut(self.next) {
            Some(other) => *other = slot,
            None => self.slots.push(slot),
        }
        key.slot = self.next as u32;
        self.next = (self.next + 1) % self.most;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{NONCE_LEN, TAG_LEN};

    const SUITE: Suite = Suite::Aes128Gcm;

    fn raw(n: u8) -> Vec<u8> {
        vec![n; SUITE.key_len()]
    }

    fn key(n: u8) -> Key {
        Key::new(SUITE, &raw(n)).unwrap()
    }

    /// What tells one key from another.
    fn tag(aead: &RingAead) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        aead.seal([7; NONCE_LEN], b"aad", &mut [], &mut tag).unwrap();
        tag
    }

    /// By way of the cache.
    fn tag_of(keys: &mut KeyCache, key: &mut Key) -> [u8; TAG_LEN] {
        tag(keys.expanded(SUITE, key).unwrap())
    }

    fn expected(n: u8) -> [u8; TAG_LEN] {
        tag(&RingAead::new(SUITE, &raw(n)).unwrap())
    }

    #[test]
    fn keys_that_fit_are_expanded_once() {
        let mut keys = KeyCache::new(4);
        let mut all: Vec<Key> = (0..4).map(key).collect();
        for round in 0..3 {
            for n in [2, 0, 3, 1] {
                assert_eq!(tag_of(&mut keys, &mut all[n]), expected(n as u8));
            }
            let slots: Vec<u32> = all.iter().map(|key| key.slot).collect();
            assert_eq!(slots, [1, 3, 0, 2], "round {round}");
        }
    }

    #[test]
    fn a_slot_that_another_key_has_taken_is_not_used() {
        let mut keys = KeyCache::new(3);
        let mut all: Vec<Key> = (0..7).map(key).collect();
        for step in 0..200 {
            let n = step * step % 7;
            assert_eq!(tag_of(&mut keys, &mut all[n]), expected(n as u8), "step {step}");
            assert!(keys.slots.len() <= 3);
        }
    }

    /// The same numbers may mean something else there.
    #[test]
    fn nor_a_slot_of_another_cache() {
        let (mut one, mut other) = (KeyCache::new(1), KeyCache::new(1));
        let (mut a, mut b) = (key(1), key(2));
        for _ in 0..3 {
            assert_eq!(tag_of(&mut one, &mut a), expected(1));
            assert_eq!(tag_of(&mut other, &mut b), expected(2));
            assert_eq!(tag_of(&mut other, &mut a), expected(1));
            assert_eq!(tag_of(&mut one, &mut b), expected(2));
        }
    }

    #[test]
    fn a_key_in_the_place_of_another_one_is_another_key() {
        let mut keys = KeyCache::new(2);
        let mut current = key(1);
        assert_eq!(tag_of(&mut keys, &mut current), expected(1));
        // As after a key update, and with the slot that it had.
        current = Key { slot: current.slot, ..key(2) };
        assert_eq!(tag_of(&mut keys, &mut current), expected(2));
    }

    #[test]
    fn a_busy_key_is_expanded_once_a_round_of_the_others() {
        let mut keys = KeyCache::new(8);
        let (mut busy, mut expansions) = (key(0), 0);
        for n in 0..80 {
            let before = keys.next;
            assert_eq!(tag_of(&mut keys, &mut busy), expected(0));
            expansions += usize::from(keys.next != before);
            tag_of(&mut keys, &mut key(n));
        }
        assert!(expansions <= 1 + 80 / 7, "{expansions} expansions");
    }

    #[test]
    fn keys_of_a_wrong_length_are_refused() {
        for suite in Suite::ALL {
            for have in [0, suite.key_len() - 1, suite.key_len() + 1] {
                let need = suite.key_len();
                let error = Key::new(suite, &vec![7; have]).map(|_| ()).unwrap_err();
                assert!(
                    matches!(error, TlsError::KeyLength { have: h, need: n } if (h, n) == (have, need))
                );
            }
        }
    }
}
