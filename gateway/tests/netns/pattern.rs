//! Bytes that both ends can make for themselves, and a checksum over them.

/// Bytes made and compared at once.
pub const CHUNK: usize = 64 * 1024;

/// An endless stream of bytes, the same for the same seed (xorshift64*, Vigna 2016).
#[derive(Debug)]
pub struct Pattern(u64);

impl Pattern {
    pub fn new(seed: u64) -> Self {
        // Zero is the one state that the generator never leaves.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Fills `out`, whose length must be a multiple of 8 but for the last call.
    pub fn fill(&mut self, out: &mut [u8]) {
        for word in out.chunks_mut(8) {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let bytes = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
    }
}

/// Length and order-sensitive checksum of a byte stream, however it is cut into pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub bytes: u64,
    sum: u64,
    /// The last `bytes % 8` bytes, which do not make a word yet.
    tail: [u8; 8],
}

impl Digest {
    pub fn update(&mut self, mut data: &[u8]) {
        let held = (self.bytes % 8) as usize;
        self.bytes += data.len() as u64;
        if held > 0 {
            let take = data.len().min(8 - held);
            self.tail[held..held + take].copy_from_slice(&data[..take]);
            data = &data[take..];
            if held + take < 8 {
                return;
            }
            self.word(self.tail);
        }
        let mut words = data.chunks_exact(8);
        for word in &mut words {
            self.word(word.try_into().expect("eight bytes"));
        }
        let rest = words.remainder();
        self.tail[..rest.len()].copy_from_slice(rest);
    }

    fn word(&mut self, bytes: [u8; 8]) {
        let word = u64::from_le_bytes(bytes);
        self.sum = (self.sum.rotate_left(7) ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    }

    /// The checksum of the first `bytes` of a pattern.
    pub fn of(seed: u64, bytes: u64) -> Self {
        let (mut pattern, mut digest) = (Pattern::new(seed), Self::default());
        let mut buffer = vec![0; CHUNK];
        let mut left = bytes;
        while left > 0 {
            let n = left.min(CHUNK as u64) as usize;
            pattern.fill(&mut buffer[..n]);
            digest.update(&buffer[..n]);
            left -= n as u64;
        }
        digest
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rest = &self.tail[..(self.bytes % 8) as usize];
        let rest = rest.iter().fold(self.sum, |sum, byte| {
            (sum.rotate_left(7) ^ u64::from(*byte)).wrapping_mul(0xff51_afd7_ed55_8ccd)
        });
        write!(f, "{} bytes {rest:016x}", self.bytes)
    }
}

#[test]
fn the_checksum_sees_length_order_and_content_but_not_how_the_stream_was_cut() {
    let mut bytes = vec![0; 1_003];
    Pattern::new(7).fill(&mut bytes);
    let sum = |pieces: &[&[u8]]| {
        let mut digest = Digest::default();
        pieces.iter().for_each(|piece| digest.update(piece));
        digest.to_string()
    };
    let whole = sum(&[&bytes]);
    assert_eq!(whole, Digest::of(7, 1_003).to_string());
    assert_ne!(whole, Digest::of(8, 1_003).to_string());
    for cut in [1, 7, 8, 9, 500, 1_000] {
        assert_eq!(sum(&[&bytes[..cut], &bytes[cut..]]), whole);
        assert_ne!(sum(&[&bytes[cut..], &bytes[..cut]]), whole);
    }
    assert_ne!(sum(&[&bytes[..1_002]]), whole);
    bytes[1_001] ^= 1;
    assert_ne!(sum(&[&bytes]), whole);
}
