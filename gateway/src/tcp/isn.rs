//! Initial sequence numbers (RFC 6528): ISN = M + F(4-tuple, secret), with M a clock of 4 us.

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
        let clock = (now.as_micros() / 4) as u32;
        clock.wrapping_add(self.hash(b'i', local, remote))
    }

    /// Our clock for timestamps to `remote`, ms.
    pub(super) fn clock(&self, now: Instant, local: SocketAddr, remote: SocketAddr) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.clock_offset(local, remote))
    }

    /// What is added to the clock of timestamps (RFC 7323, section 5.4): the same for the same
    /// tuple, so that a connection that takes the place of another one is younger.
    pub(super) fn clock_offset(&self, local: SocketAddr, remote: SocketAddr) -> u32 {
        self.hash(b't', local, remote)
    }

    fn hash(&self, what: u8, local: SocketAddr, remote: SocketAddr) -> u32 {
        let mut h = SipHasher13::new_with_key(&self.0);
        h.write_u8(what);
        hash_ends(&mut h, local, remote);
        h.finish() as u32
    }
}

pub(super) fn hash_ends(h: &mut impl Hasher, local: SocketAddr, remote: SocketAddr) {
    for end in [local, remote] {
        match end.ip() {
            IpAddr::V4(ip) => h.write(&ip.octets()),
            IpAddr::V6(ip) => h.write(&ip.octets()),
        }
        h.write_u16(end.port());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(a.clock_offset(l, r), a.clock_offset(l, r));
        assert_ne!(a.clock_offset(l, r), a.clock_offset(l, r2));
    }
}
