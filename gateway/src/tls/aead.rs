//! The AEAD behind the record layer. One small trait, so that another library can take ring's
//! place without a change to the record layer.

use ring::aead::{self, LessSafeKey, UnboundKey};
use rustls::ConnectionTrafficSecrets;

use super::TlsError;

/// Nonce of all TLS 1.3 suites (RFC 8446, section 5.3).
pub const NONCE_LEN: usize = 12;
/// Tag of all TLS 1.3 suites offered here.
pub const TAG_LEN: usize = 16;

/// An authenticated cipher with its key.
pub trait Aead: Sized {
    /// # Errors
    /// [`TlsError::KeyLength`] if `key` is not [`Suite::key_len`] bytes long.
    fn new(suite: Suite, key: &[u8]) -> Result<Self, TlsError>;

    /// Encrypts `in_place` and writes the tag to `tag`.
    ///
    /// The nonce must never be used twice with one key.
    ///
    /// # Errors
    /// [`TlsError::Seal`] if the library refuses (input beyond the cipher's bounds).
    fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        in_place: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), TlsError>;

    /// Verifies and decrypts `in_place`, ciphertext followed by its tag, and returns the
    /// plaintext. After an error the content of `in_place` is meaningless.
    ///
    /// # Errors
    /// [`TlsError::RecordAuthentication`] if the tag does not fit.
    fn open<'a>(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        in_place: &'a mut [u8],
    ) -> Result<&'a mut [u8], TlsError>;
}

/// TLS 1.3 cipher suites of the record layer (RFC 8446, appendix B.4); the hash is rustls' matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Suite {
    /// By cost per byte on machines with AES instructions, the cheapest first.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

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

    fn ring(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

/// [`Aead`] by ring.
#[derive(Debug)]
pub struct RingAead(LessSafeKey);

impl Aead for RingAead {
    fn new(suite: Suite, key: &[u8]) -> Result<Self, TlsError> {
        let unbound = UnboundKey::new(suite.ring(), key)
            .map_err(|_| TlsError::KeyLength { have: key.len(), need: suite.key_len() })?;
        Ok(Self(LessSafeKey::new(unbound)))
    }

    #[inline]
    fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        in_place: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), TlsError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce, aead::Aad::from(aad), in_place)
            .map_err(|_| TlsError::Seal)?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(())
    }

    #[inline]
    fn open<'a>(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        in_place: &'a mut [u8],
    ) -> Result<&'a mut [u8], TlsError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        self.0
            .open_in_place(nonce, aead::Aad::from(aad), in_place)
            .map_err(|_| TlsError::RecordAuthentication)
    }
}

/// One direction of a connection: key, IV and the sequence number of the next record.
pub(super) struct Half<A> {
    aead: A,
    iv: [u8; NONCE_LEN],
    suite: Suite,
    seq: u64,
}

impl<A: Aead> Half<A> {
    pub(super) fn new(seq: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, TlsError> {
        let (suite, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (Suite::ChaCha20Poly1305, key, iv)
            }
            _ => return Err(TlsError::SuiteUnknown),
        };
        let iv = iv.as_ref().try_into().map_err(|_| TlsError::SuiteUnknown)?;
        Ok(Self { aead: A::new(suite, key.as_ref())?, iv, suite, seq })
    }

    pub(super) fn suite(&self) -> Suite {
        self.suite
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// The nonce of the next record: IV xor sequence number (RFC 8446, section 5.3).
    #[inline]
    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, s) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.seq.to_be_bytes()) {
            *byte ^= s;
        }
        nonce
    }

    #[inline]
    pub(super) fn seal(
        &mut self,
        aad: &[u8],
        in_place: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), TlsError> {
        self.aead.seal(self.nonce(), aad, in_place, tag)?;
        // `records_per_key` ends the key long before this could wrap.
        self.seq = self.seq.wrapping_add(1);
        Ok(())
    }

    #[inline]
    pub(super) fn open<'a>(
        &mut self,
        aad: &[u8],
        in_place: &'a mut [u8],
    ) -> Result<&'a mut [u8], TlsError> {
        let plain = self.aead.open(self.nonce(), aad, in_place)?;
        // A peer cannot send 2^64 records.
        self.seq = self.seq.wrapping_add(1);
        Ok(plain)
    }
}
