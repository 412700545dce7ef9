//! Keyed hashing of what strangers choose.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// SipHash-1-3 under a secret key: a client cannot choose 4-tuples that collide.
#[derive(Clone)]
pub struct FlowHasher {
    key: [u8; 16],
}

impl FlowHasher {
    /// `key` must be random and stay secret.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key }
    }
}

impl BuildHasher for FlowHasher {
    type Hasher = SipHasher13;

    #[inline]
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.key)
    }
}

impl std::fmt::Debug for FlowHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FlowHasher { key: <secret> }")
    }
}
