//! AWS-LC behind the record layer.

use aws_lc_rs::aead::{self, LessSafeKey, UnboundKey};

use super::{Aead, NONCE_LEN, Suite, TAG_LEN, TlsError};

/// [`Aead`] by AWS-LC.
///
/// Not by its keys for TLS records. Those refuse a nonce that does not go up, and take the first
/// one they see for that of record 0; but we go on where rustls stopped, as a server behind its
/// tickets. There are none for ChaCha20-Poly1305 either. Nonces go up because the record layer
/// makes them of a count.
#[derive(Debug)]
pub struct AwsLcAead(LessSafeKey);

impl Aead for AwsLcAead {
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
        self.0
            .seal_in_place_scatter(nonce, aead::Aad::from(aad), in_place, &[], tag)
            .map_err(|_| TlsError::Seal)
    }

    #[inline]
    fn open<'a>(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        in_place: &'a mut [u8],
    ) -> Result<&'a mut [u8], TlsError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        // Its `open_in_place` copies the plaintext over itself in the end.
        let (sealed, tag) =
            in_place.split_last_chunk_mut::<TAG_LEN>().ok_or(TlsError::RecordAuthentication)?;
        self.0
            .open_in_place_separate_tag(nonce, aead::Aad::from(aad), tag, sealed)
            .map_err(|_| TlsError::RecordAuthentication)
    }
}
