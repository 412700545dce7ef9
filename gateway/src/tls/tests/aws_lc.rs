//! AWS-LC and ring: each opens what the other one seals, and both agree on keys.

use rustls::time_provider::DefaultTimeProvider;

use super::pki::Files;
use super::*;
use crate::config::Crypto;
use crate::tls::{Aead, AwsLcAead, NONCE_LEN, RingAead, Suite, TAG_LEN};

const SIZES: [usize; 9] =
    [0, 1, 15, 16, 17, 1_400, 4_095, TLS_MAX_PLAINTEXT, TLS_MAX_PLAINTEXT + 1];

fn one_seals_the_other_opens<A: Aead, B: Aead>() {
    for suite in Suite::ALL {
        let key: Vec<u8> = (0..suite.key_len() as u8).collect();
        let (a, b) = (A::new(suite, &key).unwrap(), B::new(suite, &key).unwrap());
        for size in SIZES {
            let (nonce, header) = ([size as u8; NONCE_LEN], [23, 3, 3, 1, 2]);
            let mut sealed = bytes(size);
            let mut tag = [0; TAG_LEN];
            a.seal(nonce, &header, &mut sealed, &mut tag).unwrap();
            assert!(size < 16 || sealed != bytes(size));
            sealed.extend(tag);
            let open = |nonce, header: &[u8], mut record: Vec<u8>| {
                b.open(nonce, header, &mut record).map(|plain| plain.to_vec())
            };
            assert_eq!(open(nonce, &header, sealed.clone()).unwrap(), bytes(size));
            let refused = |result| matches!(result, Err(TlsError::RecordAuthentication));
            for at in [0, size, size + TAG_LEN - 1] {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                assert!(refused(open(nonce, &header, damaged)), "{suite:?}, {size}: {at}");
            }
            assert!(refused(open([!(size as u8); NONCE_LEN], &header, sealed.clone())));
            assert!(refused(open(nonce, &header[1..], sealed.clone())));
            assert!(refused(open(nonce, &header, sealed[..TAG_LEN - 1].to_vec())));
        }
        for wrong in [0, suite.key_len() - 1, suite.key_len() + 1] {
            let error = A::new(suite, &vec![7; wrong]).map(|_| ()).unwrap_err();
            let need = suite.key_len();
            assert!(
                matches!(error, TlsError::KeyLength { have, need: n } if (have, n) == (wrong, need))
            );
        }
    }
}

#[test]
fn records_of_one_library_are_records_of_the_other() {
    one_seals_the_other_opens::<RingAead, AwsLcAead>();
    one_seals_the_other_opens::<AwsLcAead, RingAead>();
}

fn by(crypto: Crypto, files: &Files) -> Arc<Identity> {
    let time = Arc::new(DefaultTimeProvider);
    Arc::new(Identity::from_pem(&files.pem(), time, crypto).unwrap())
}

/// [`both_ours`] takes one flight each way: nobody has to ask for another share.
#[test]
fn the_key_exchange_is_post_quantum_where_both_ends_can() {
    let pki = Pki::new();
    let (west, east) = (pki.gateway("west"), pki.gateway("east"));
    for (client, server, group) in [
        (Crypto::AwsLc, Crypto::AwsLc, "X25519MLKEM768"),
        (Crypto::AwsLc, Crypto::Ring, "X25519"),
        (Crypto::Ring, Crypto::AwsLc, "X25519"),
        (Crypto::Ring, Crypto::Ring, "X25519"),
    ] {
        let (client, server) = (by(client, &west), by(server, &east));
        // A resumed handshake exchanges keys as well.
        for resumed in [false, true] {
            let (c, s) = both_ours(&client, &server);
            assert_eq!([c.key_exchange, s.key_exchange], [group; 2]);
            assert_eq!(c.resumed, resumed);
            let (mut c, mut s) = (Ours::new(c), Ours::new(s));
            c.feed(&[]).unwrap();
            // Each key is followed by another one of the same library.
            for ours in [&mut c.records, &mut s.records] {
                ours.set_key_update_after(2);
            }
            for size in [1, 1_400, 40_000, 100, 16_384] {
                c.send(&bytes(size));
                s.feed(&c.take_output()).unwrap();
                assert_eq!(s.take_received(), bytes(size));
                s.send(&bytes(size));
                c.feed(&s.take_output()).unwrap();
                assert_eq!(c.take_received(), bytes(size));
            }
        }
    }
}
