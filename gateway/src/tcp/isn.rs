//! Initial sequence numbers (RFC 6528): ISN = M + F(4-tuple, secret), with M a clock of 4 us.
//!
//! The engine draws its ISN from a 64-bit generator that is given a seed. The generator is a
//! bijection, so the seed that makes it produce a wanted ISN can be computed.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

use crate::time::Instant;

/// The secret of one worker.
#[derive(Clone)]
pub struct IsnSecret([u8; 16]);

impl std::fmt::Debug for IsnSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IsnSecret(..)")
    }
}

impl IsnSecret {
    pub fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }

    pub(super) fn isn(&self, now: Instant, local: SocketAddr, remote: SocketAddr) -> u32 {
        let mut h = SipHasher13::new_with_key(&self.0);
        for end in [local, remote] {
            match end.ip() {
                IpAddr::V4(ip) => h.write(&ip.octets()),
                IpAddr::V6(ip) => h.write(&ip.octets()),
            }
            h.write_u16(end.port());
        }
        let clock = (now.as_micros() / 4) as u32;
        clock.wrapping_add(h.finish() as u32)
    }
}

// The engine's generator: s' = s * M + A, output = s' >> (29 - s' >> 61).
const M: u64 = 0xbb2e_fcec_3c39_611d;
const A: u64 = 0x7590_ef39;
const M_INVERSE: u64 = inverse(M);

/// Multiplicative inverse modulo 2^64 by Newton's iteration; every odd number has one.
const fn inverse(m: u64) -> u64 {
    let mut x = m;
    let mut i = 0;
    while i < 6 {
        x = x.wrapping_mul(2u64.wrapping_sub(m.wrapping_mul(x)));
        i += 1;
    }
    x
}

/// The seed after which the engine's second draw is `isn` (the first is spent on the IPv4
/// identification when the interface is made).
pub(super) fn seed_for(isn: u32) -> u64 {
    // Top three bits set: the output is bits 22..54 of the state. The free low bits only have to
    // keep the first draw from being zero, for which the engine would draw again.
    let mut filler = 1u64;
    loop {
        let second = (7u64 << 61) | (u64::from(isn) << 22) | filler;
        let first = second.wrapping_sub(A).wrapping_mul(M_INVERSE);
        if first_draw(first) != 0 {
            return first.wrapping_sub(A).wrapping_mul(M_INVERSE);
        }
        filler += 1;
    }
}

fn first_draw(state: u64) -> u16 {
    let n = (state >> (29 - (state >> 61))) as u32;
    (n ^ (n >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_of_the_multiplier() {
        assert_eq!(M.wrapping_mul(M_INVERSE), 1);
    }

    #[test]
    fn isn_depends_on_secret_tuple_and_time() {
        let (a, b) = (IsnSecret::new([1; 16]), IsnSecret::new([2; 16]));
        let l: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let r: SocketAddr = "10.0.0.2:4000".parse().unwrap();
        let r2: SocketAddr = "10.0.0.2:4001".parse().unwrap();
        let t = Instant::from_millis(5);
        assert_ne!(a.isn(t, l, r), b.isn(t, l, r));
        assert_ne!(a.isn(t, l, r), a.isn(t, l, r2));
        // 4 us later the same tuple moves on by one (RFC 6528, section 3).
        let later = Instant::from_nanos(t.as_nanos() + 4_000);
        assert_eq!(a.isn(later, l, r), a.isn(t, l, r).wrapping_add(1));
    }
}
