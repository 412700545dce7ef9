//! How many connections may be in a handshake.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::FlowHasher;
use crate::net::Ip;
use crate::telemetry::DropReason;

/// Counts passive connections that have not finished a handshake, in total and per source. A source
/// is an IPv4 address or an IPv6 /64: one host has a whole /64 to send from. Memory is bounded by
/// the total.
#[derive(Debug)]
pub struct HalfOpen {
    total: usize,
    per_source: HashMap<Ip, u32, FlowHasher>,
    max_total: usize,
    max_per_source: u32,
}

impl HalfOpen {
    pub fn new(hasher: FlowHasher, max_total: usize, max_per_source: usize) -> Self {
        Self {
            total: 0,
            per_source: HashMap::with_capacity_and_hasher(max_total, hasher),
            max_total,
            max_per_source: u32::try_from(max_per_source).unwrap_or(u32::MAX),
        }
    }

    pub fn total(&self) -> usize {
        self.total
    }

    /// Counts one more from `source`; pair it with one [`HalfOpen::close`].
    ///
    /// # Errors
    /// `SourceLimit` or `HalfOpenLimit`; nothing is counted then.
    pub fn open(&mut self, source: Ip) -> Result<(), DropReason> {
        if self.total >= self.max_total {
            return Err(DropReason::HalfOpenLimit);
        }
        let source = group(source);
        let count = self.per_source.get(&source).copied().unwrap_or(0);
        if count >= self.max_per_source {
            return Err(DropReason::SourceLimit);
        }
        self.per_source.insert(source, count + 1);
        self.total += 1;
        Ok(())
    }

    /// The handshake is done, or the connection gone.
    pub fn close(&mut self, source: Ip) {
        if let Entry::Occupied(mut entry) = self.per_source.entry(group(source)) {
            self.total -= 1;
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

fn group(source: Ip) -> Ip {
    if source.is_v4() {
        return source;
    }
    let mut octets = source.octets();
    octets[8..].fill(0);
    Ip::from_octets(octets)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn ip(text: &str) -> Ip {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn both_limits_hold_and_closing_makes_room() {
        let mut half_open = HalfOpen::new(FlowHasher::new([3; 16]), 4, 2);
        let (a, b, c) = (ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3"));
        assert_eq!([half_open.open(a), half_open.open(a)], [Ok(()); 2]);
        assert_eq!(half_open.open(a), Err(DropReason::SourceLimit));
        assert_eq!([half_open.open(b), half_open.open(b)], [Ok(()); 2]);
        assert_eq!(half_open.open(c), Err(DropReason::HalfOpenLimit));
        half_open.close(a);
        assert_eq!(half_open.open(c), Ok(()));
        for source in [a, b, b, c] {
            half_open.close(source);
        }
        assert_eq!((half_open.total(), half_open.per_source.len()), (0, 0));
        half_open.close(a);
        assert_eq!(half_open.total(), 0, "a close too many changes nothing");
    }

    #[test]
    fn an_ipv6_source_is_its_64_prefix() {
        let mut half_open = HalfOpen::new(FlowHasher::new([3; 16]), 9, 1);
        assert_eq!(half_open.open(ip("fd00::1")), Ok(()));
        assert_eq!(half_open.open(ip("fd00::ffff:1")), Err(DropReason::SourceLimit));
        assert_eq!(half_open.open(ip("fd00:0:0:1::1")), Ok(()));
    }
}
