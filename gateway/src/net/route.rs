//! Next hops: connected prefixes first come from the addresses, the rest from the configuration.

use std::net::IpAddr;

use ipnet::IpNet;

use super::local::is_link_local;

/// Packets to `to` go through the gateway `via`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub to: IpNet,
    pub via: IpAddr,
}

#[derive(Debug)]
struct Entry {
    to: IpNet,
    /// `None`: on-link.
    via: Option<IpAddr>,
}

/// Longest prefix match over a list sorted by length: lookups happen once per connection, not
/// per packet, and a port has few routes.
#[derive(Debug)]
pub(super) struct RouteTable {
    entries: Vec<Entry>,
}

impl RouteTable {
    pub(super) fn new(addresses: &[IpNet], routes: &[Route]) -> Self {
        let connected = addresses.iter().map(|net| Entry { to: net.trunc(), via: None });
        let remote =
            routes.iter().map(|r| Entry { to: r.to.trunc(), via: Some(r.via.to_canonical()) });
        let mut entries: Vec<Entry> = connected.chain(remote).collect();
        // Stable, so that at one length connected prefixes win, then the configured order.
        entries.sort_by_key(|e| std::cmp::Reverse(e.to.prefix_len()));
        entries.dedup_by(|b, a| a.to == b.to && a.via == b.via);
        Self { entries }
    }

    /// The host whose MAC address a packet to `dst` needs.
    pub(super) fn next_hop(&self, dst: IpAddr) -> Option<IpAddr> {
        if is_link_local(dst) {
            return Some(dst);
        }
        let entry = self.entries.iter().find(|e| e.to.contains(&dst))?;
        Some(entry.via.unwrap_or(dst))
    }

    pub(super) fn is_on_link(&self, ip: IpAddr) -> bool {
        is_link_local(ip) || self.entries.iter().any(|e| e.via.is_none() && e.to.contains(&ip))
    }
}
