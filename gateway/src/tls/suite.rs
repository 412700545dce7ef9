//! Cipher suites, and which of them is the best one here.

use rustls::CipherSuite;

/// TLS 1.3 cipher suites of the record layer (RFC 8446, appendix B.4); the hash is rustls' matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Suite {
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// By cost per byte on this machine, the cheapest first. VAES makes AES cheaper still and
    /// changes nothing in the order.
    pub fn by_cost() -> [Self; 3] {
        Self::order(has_aes())
    }

    /// Without instructions for it AES-GCM costs several times what ChaCha20-Poly1305 does, which
    /// needs none.
    pub(super) const fn order(aes: bool) -> [Self; 3] {
        match aes {
            true => [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305],
            false => [Self::ChaCha20Poly1305, Self::Aes128Gcm, Self::Aes256Gcm],
        }
    }

    /// Length of the key, bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Records that may be sealed under one key. AES-GCM: 2^24.5 full records (RFC 8446, section
    /// 5.5), rounded down. ChaCha20-Poly1305 has no bound before the sequence number ends; 2^48
    /// is below that and never reached in practice.
    pub const fn records_per_key(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 1 << 24,
            Self::ChaCha20Poly1305 => 1 << 48,
        }
    }

    /// On the wire.
    pub(super) const fn id(self) -> CipherSuite {
        match self {
            Self::Aes128Gcm => CipherSuite::TLS13_AES_128_GCM_SHA256,
            Self::Aes256Gcm => CipherSuite::TLS13_AES_256_GCM_SHA384,
            Self::ChaCha20Poly1305 => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        }
    }
}

/// What both libraries ask for before they take their AES-GCM of instructions: AES and carry-less
/// multiplication.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}
