//! Older private key formats in PKCS#8 clothes (RFC 5958, section 2), the only ones rcgen takes.

use zeroize::Zeroizing;

/// `rsaEncryption` with its NULL parameters (RFC 8017, appendix A.1).
const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// `id-ecPublicKey` with the curve `prime256v1` (RFC 5480, section 2.1.1).
const EC_P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];
/// `id-ecPublicKey` with the curve `secp384r1`.
const EC_P384: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x22,
];

const INTEGER_ZERO: &[u8] = &[0x02, 0x01, 0x00];
const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;

/// A PKCS#1 `RSAPrivateKey`, as ClusterLink writes it.
pub(super) fn from_pkcs1(key: &[u8]) -> Zeroizing<Vec<u8>> {
    wrap(RSA, key)
}

/// A SEC 1 `ECPrivateKey` (RFC 5915) for each curve it may be of: the wrong one does not load.
pub(super) fn from_sec1(key: &[u8]) -> [Zeroizing<Vec<u8>>; 2] {
    [wrap(EC_P256, key), wrap(EC_P384, key)]
}

fn wrap(algorithm: &[u8], key: &[u8]) -> Zeroizing<Vec<u8>> {
    let inner = INTEGER_ZERO.len() + algorithm.len() + header_len(key.len()) + key.len();
    // The exact size, so that no reallocation leaves a copy of the key behind.
    let mut out = Zeroizing::new(Vec::with_capacity(header_len(inner) + inner));
    header(&mut out, SEQUENCE, inner);
    out.extend_from_slice(INTEGER_ZERO);
    out.extend_from_slice(algorithm);
    header(&mut out, OCTET_STRING, key.len());
    out.extend_from_slice(key);
    out
}

fn length_bytes(len: usize) -> usize {
    (usize::BITS - len.leading_zeros()).div_ceil(8) as usize
}

fn header_len(len: usize) -> usize {
    if len < 0x80 { 2 } else { 2 + length_bytes(len) }
}

/// Tag and length (X.690, sections 8.1.3.4 and 8.1.3.5).
fn header(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag);
    if len < 0x80 {
        out.push(len as u8);
        return;
    }
    let bytes = length_bytes(len);
    out.push(0x80 | bytes as u8);
    out.extend_from_slice(&len.to_be_bytes()[size_of::<usize>() - bytes..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_in_their_shortest_form() {
        for (len, wanted) in [
            (0, vec![0x30, 0x00]),
            (0x7f, vec![0x30, 0x7f]),
            (0x80, vec![0x30, 0x81, 0x80]),
            (0xff, vec![0x30, 0x81, 0xff]),
            (0x100, vec![0x30, 0x82, 0x01, 0x00]),
            (2_349, vec![0x30, 0x82, 0x09, 0x2d]),
        ] {
            let mut out = Vec::new();
            header(&mut out, SEQUENCE, len);
            assert_eq!(out, wanted);
            assert_eq!(header_len(len), wanted.len());
        }
    }

    #[test]
    fn a_wrapped_key_is_not_reallocated() {
        let out = from_pkcs1(&[7; 2_349]);
        assert_eq!(out.len(), out.capacity());
    }
}
