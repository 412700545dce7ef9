//! Addresses and 4-tuples in the compact form the tables use.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IPv4 or IPv6 address in 16 bytes, IPv4 as `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2).
///
/// The two families share one number space here. Ingress therefore refuses IPv6 packets that
/// carry mapped addresses: they would alias IPv4 flows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ip([u8; 16]);

/// What stands in front of an IPv4 address.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Ip {
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    pub const fn octets(self) -> [u8; 16] {
        self.0
    }

    #[inline]
    pub fn is_v4(self) -> bool {
        self.v4_octets().is_some()
    }

    /// The four bytes of an IPv4 address, `None` for IPv6.
    #[inline]
    pub fn v4_octets(self) -> Option<[u8; 4]> {
        match self.0.split_first_chunk() {
            Some((&MAPPED, rest)) => rest.try_into().ok(),
            _ => None,
        }
    }
}

impl From<[u8; 4]> for Ip {
    #[inline]
    fn from([a, b, c, d]: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }
}

impl From<Ipv4Addr> for Ip {
    fn from(ip: Ipv4Addr) -> Self {
        ip.octets().into()
    }
}

impl From<Ipv6Addr> for Ip {
    fn from(ip: Ipv6Addr) -> Self {
        Self(ip.octets())
    }
}

impl From<IpAddr> for Ip {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => ip.into(),
        }
    }
}

impl From<Ip> for IpAddr {
    fn from(ip: Ip) -> Self {
        match ip.v4_octets() {
            Some(v4) => Self::V4(v4.into()),
            None => Self::V6(ip.0.into()),
        }
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One TCP connection as this host sees it: `local` is the gateway's end, in either direction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    pub local: Ip,
    pub remote: Ip,
    pub local_port: u16,
    pub remote_port: u16,
}

impl FlowKey {
    /// Both addresses must be of one family.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            local: local.ip().into(),
            remote: remote.ip().into(),
            local_port: local.port(),
            remote_port: remote.port(),
        }
    }

    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.local.into(), self.local_port)
    }

    pub fn remote_addr(&self) -> SocketAddr {
        SocketAddr::new(self.remote.into(), self.remote_port)
    }

    #[inline]
    pub fn is_v4(&self) -> bool {
        self.local.is_v4()
    }
}

impl Hash for FlowKey {
    // One write: a keyed hasher pays per call, and the derived form makes six of them.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0; 36];
        bytes[..16].copy_from_slice(&self.local.0);
        bytes[16..32].copy_from_slice(&self.remote.0);
        bytes[32..34].copy_from_slice(&self.local_port.to_ne_bytes());
        bytes[34..].copy_from_slice(&self.remote_port.to_ne_bytes());
        state.write(&bytes);
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <-> {}", self.local_addr(), self.remote_addr())
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_convert_both_ways() {
        for text in ["10.1.2.3", "0.0.0.0", "fd00:1::2", "::", "::1", "::fffe:10.0.0.1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Ip::from(ip)), ip, "{text}");
            assert_eq!(Ip::from(ip).is_v4(), ip.is_ipv4(), "{text}");
            assert_eq!(Ip::from(ip).to_string(), ip.to_string());
        }
    }

    #[test]
    fn keys_are_compact_and_convert_to_socket_addresses() {
        assert_eq!(size_of::<FlowKey>(), 36);
        let local: SocketAddr = "[fd00::1]:80".parse().unwrap();
        let remote: SocketAddr = "[fd00::2]:40000".parse().unwrap();
        let key = FlowKey::new(local, remote);
        assert_eq!((key.local_addr(), key.remote_addr()), (local, remote));
        assert_eq!(key.to_string(), "[fd00::1]:80 <-> [fd00::2]:40000");
    }
}
