//! Which addresses are this port's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use ipnet::IpNet;

use super::{Ip, MacAddr};

pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Addresses, VIPs and the link-local address; built once.
#[derive(Debug)]
pub(super) struct LocalAddresses {
    /// Nobody from outside puts anything in: a hash that is the same in every process costs nothing
    /// and keeps counts of instructions the same.
    all: HashSet<Ip, FixedState>,
    /// What is announced and chosen from, in the order of the configuration.
    addresses: Vec<IpNet>,
    vips: Vec<IpAddr>,
    link_local: Ipv6Addr,
    /// Low 24 bits of every IPv6 address: the solicited-node groups we are in.
    solicited: HashSet<[u8; 3], FixedState>,
    /// Directed broadcast addresses of the IPv4 prefixes; a handful.
    broadcasts: Vec<Ipv4Addr>,
}

impl LocalAddresses {
    pub(super) fn new(mac: MacAddr, addresses: &[IpNet], vips: &[IpAddr]) -> Self {
        let mut link_local = [0; 16];
        link_local[..2].copy_from_slice(&[0xfe, 0x80]);
        link_local[8..].copy_from_slice(&mac.eui64());
        let link_local = Ipv6Addr::from(link_local);

        let own = addresses.iter().map(IpNet::addr).chain(vips.iter().map(IpAddr::to_canonical));
        let all: HashSet<Ip, FixedState> = own.chain([link_local.into()]).map(Ip::from).collect();
        let solicited = all.iter().filter(|ip| !ip.is_v4()).map(|ip| low24(ip.octets())).collect();
        let mut broadcasts: Vec<Ipv4Addr> = addresses
            .iter()
            .filter_map(|net| match net {
                // /31 and /32 have none (RFC 3021).
                IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast()),
                _ => None,
            })
            .collect();
        broadcasts.sort();
        broadcasts.dedup();
        let vips = vips.iter().map(IpAddr::to_canonical).collect();
        Self { all, addresses: addresses.to_vec(), vips, link_local, solicited, broadcasts }
    }

    #[inline]
    pub(super) fn contains(&self, ip: Ip) -> bool {
        self.all.contains(&ip)
    }

    pub(super) fn link_local(&self) -> Ipv6Addr {
        self.link_local
    }

    /// The `index`th address to announce.
    pub(super) fn announced(&self, index: usize) -> Option<IpAddr> {
        self.addresses
            .iter()
            .map(IpNet::addr)
            .chain(self.vips.iter().copied())
            .chain([self.link_local.into()])
            .nth(index)
    }

    /// The address with which to speak to `hop`: the one of the hop's own prefix, else the first
    /// of its family. Never a VIP: other gateways may serve the same one.
    pub(super) fn source_towards(&self, hop: IpAddr) -> Option<IpAddr> {
        if is_link_local(hop) {
            return Some(self.link_local.into());
        }
        let on_link = self.addresses.iter().filter(|net| net.contains(&hop));
        let best = on_link.max_by_key(|net| net.prefix_len()).map(IpNet::addr);
        best.or_else(|| self.first_of_family(hop))
    }

    /// The address from which to connect to `dst` through `hop`.
    pub(super) fn source_for(&self, dst: IpAddr, hop: IpAddr) -> Option<IpAddr> {
        // IPv6 routers are named by link-local addresses, which nobody behind them can answer.
        match is_link_local(hop) && !is_link_local(dst) {
            true => self.first_of_family(dst),
            false => self.source_towards(hop),
        }
    }

    fn first_of_family(&self, ip: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().map(IpNet::addr).find(|own| own.is_ipv4() == ip.is_ipv4())
    }

    /// Whether an Ethernet group address is that of all nodes or of one of our solicited-node
    /// groups (RFC 2464, section 7).
    pub(super) fn in_group(&self, mac: MacAddr) -> bool {
        match mac.0 {
            [0x33, 0x33, 0, 0, 0, 1] => true,
            [0x33, 0x33, 0xff, a, b, c] => self.solicited.contains(&[a, b, c]),
            _ => false,
        }
    }

    /// The same for an IPv6 group address.
    pub(super) fn in_ipv6_group(&self, ip: Ipv6Addr) -> bool {
        ip == ALL_NODES || (is_solicited_node(ip) && self.solicited.contains(&low24(ip.octets())))
    }

    /// Sources no host can have (RFC 1122, section 3.2.1.3). Our own address is another matter.
    #[inline]
    pub(super) fn is_martian_v4(&self, src: Ipv4Addr) -> bool {
        let [first, ..] = src.octets();
        // 0/8, loopback, and from 224 on multicast, reserved and broadcast.
        first == 0 || first == 127 || first >= 224 || self.broadcasts.contains(&src)
    }

    pub(super) fn is_broadcast(&self, ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(ip) if ip.is_broadcast() || self.broadcasts.contains(&ip))
    }
}

/// Mapped addresses never appear on the wire (RFC 4038, section 4.2), and ours would take them
/// for IPv4. The unspecified address is left to the caller: NDP uses it.
#[inline]
pub(super) fn is_martian_v6(src: Ipv6Addr) -> bool {
    src.is_multicast() || src.is_loopback() || src.to_ipv4_mapped().is_some()
}

pub(super) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn low24(octets: [u8; 16]) -> [u8; 3] {
    [octets[13], octets[14], octets[15]]
}

/// The group in which `ip` is asked for (RFC 4291, section 2.7.1).
pub(super) fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [a, b, c] = low24(ip.octets());
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

pub(super) fn is_solicited_node(ip: Ipv6Addr) -> bool {
    ip == solicited_node(ip)
}

/// The Ethernet address of an IPv6 group (RFC 2464, section 7).
pub(super) fn group_mac(ip: Ipv6Addr) -> MacAddr {
    let o = ip.octets();
    MacAddr([0x33, 0x33, o[12], o[13], o[14], o[15]])
}
