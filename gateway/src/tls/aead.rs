//! The AEADs behind the record layer: one small trait, and each library of cryptography behind it.

use ring::aead::{self, LessSafeKey, UnboundKey};
use rustls::ConnectionTrafficSecrets;

#[cfg(feature = "aws-lc")]
use super::AwsLcAead;
use super::key_cache::{Key, KeyCache};
use super::{Suite, TlsError};
use crate::config::Crypto;

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

/// [`Aead`] by ring.
#[derive(Debug)]
pub struct RingAead(LessSafeKey);

impl Aead for RingAead {
    fn new(suite: Suite, key: &[u8]) -> Result<Self, TlsError> {
        let algorithm = match suite {
            Suite::Aes128Gcm => &aead::AES_128_GCM,
            Suite::Aes256Gcm => &aead::AES_256_GCM,
            Suite::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        let unbound = UnboundKey::new(algorithm, key)
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

/// The AEAD of a direction, by the library that its identity chose.
enum Bulk {
    Ring(Key),
    /// Whole in its connection: AWS-LC allocates each expanded key, which a worker must not do for
    /// record after record.
    #[cfg(feature = "aws-lc")]
    AwsLc(AwsLcAead),
}

impl Bulk {
    fn new(crypto: Crypto, suite: Suite, key: &[u8]) -> Result<Self, TlsError> {
        Ok(match crypto {
            Crypto::Ring => Self::Ring(Key::new(suite, key)?),
            #[cfg(feature = "aws-lc")]
            Crypto::AwsLc => Self::AwsLc(AwsLcAead::new(suite, key)?),
        })
    }

    fn crypto(&self) -> Crypto {
        match self {
            Self::Ring(_) => Crypto::Ring,
            #[cfg(feature = "aws-lc")]
            Self::AwsLc(_) => Crypto::AwsLc,
        }
    }
}

/// One direction of a connection: key, IV and the sequence number of the next record.
pub(super) struct Half {
    aead: Bulk,
    iv: [u8; NONCE_LEN],
    suite: Suite,
    seq: u64,
}

impl Half {
    pub(super) fn new(
        crypto: Crypto,
        seq: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Result<Self, TlsError> {
        let (suite, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (Suite::ChaCha20Poly1305, key, iv)
            }
            _ => return Err(TlsError::SuiteUnknown),
        };
        let iv = iv.as_ref().try_into().map_err(|_| TlsError::SuiteUnknown)?;
        Ok(Self { aead: Bulk::new(crypto, suite, key.as_ref())?, iv, suite, seq })
    }

    /// The same direction under the next key.
    pub(super) fn next(
        &self,
        seq: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Result<Self, TlsError> {
        Self::new(self.aead.crypto(), seq, secrets)
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
        keys: &mut KeyCache,
        aad: &[u8],
        in_place: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), TlsError> {
        let nonce = self.nonce();
        match &mut self.aead {
            Bulk::Ring(key) => keys.expanded(self.suite, key)?.seal(nonce, aad, in_place, tag),
            #[cfg(feature = "aws-lc")]
            Bulk::AwsLc(aead) => aead.seal(nonce, aad, in_place, tag),
        }?;
        // `records_per_key` ends the key long before this could wrap.
        self.seq = self.seq.wrapping_add(1);
        Ok(())
    }

    #[inline]
    pub(super) fn open<'a>(
        &mut self,
        keys: &mut KeyCache,
        aad: &[u8],
        in_place: &'a mut [u8],
    ) -> Result<&'a mut [u8], TlsError> {
        let nonce = self.nonce();
        let plain = match &mut self.aead {
            Bulk::Ring(key) => keys.expanded(self.suite, key)?.open(nonce, aad, in_place),
            #[cfg(feature = "aws-lc")]
            Bulk::AwsLc(aead) => aead.open(nonce, aad, in_place),
        }?;
        // A peer cannot send 2^64 records.
        self.seq = self.seq.wrapping_add(1);
        Ok(plain)
    }
}
