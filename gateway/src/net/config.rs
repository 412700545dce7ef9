//! What a port is told at the start, and what cannot work.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::{MacAddr, Route};
use crate::limits::{MAX_IP_PACKET, MAX_LOCAL_ADDRESSES, MAX_ROUTES, MIN_MTU};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortStackConfig {
    pub mac: MacAddr,
    /// Largest IP packet, bytes. No device takes more than [`crate::limits::MAX_MTU`] as it is;
    /// what is beyond stands for segments that a device cuts and merges.
    pub mtu: usize,
    /// Believe the device when it says that a checksum is good.
    pub rx_checksum: bool,
    /// Own addresses with the prefix that is on-link.
    pub addresses: Vec<IpNet>,
    /// Further own addresses, without a prefix; never a source of what we begin.
    pub vips: Vec<IpAddr>,
    pub routes: Vec<Route>,
}

/// Why a port cannot work with its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StackError {
    #[error("{0} is no MAC address of one host; give the port a unicast address")]
    Mac(MacAddr),
    #[error(
        "MTU {0} is outside {MIN_MTU}..={MAX_IP_PACKET}; choose one every host on the link has"
    )]
    Mtu(usize),
    #[error("{0} addresses and VIPs on one port are more than {MAX_LOCAL_ADDRESSES}; remove some")]
    TooManyAddresses(usize),
    #[error("{0} routes on one port are more than {MAX_ROUTES}; aggregate them")]
    TooManyRoutes(usize),
    #[error("{0} cannot be the address of a host; use a unicast address")]
    NotUnicast(IpAddr),
    #[error(
        "the route to {to} goes via {via}, which is in no prefix of the port's addresses; \
         use a gateway on the link"
    )]
    GatewayOffLink { to: IpNet, via: IpAddr },
}

impl PortStackConfig {
    pub(super) fn check(&self) -> Result<(), StackError> {
        let Self { mac, mtu, addresses, vips, routes, .. } = self;
        if !mac.is_unicast() {
            return Err(StackError::Mac(*mac));
        }
        if !(MIN_MTU..=MAX_IP_PACKET).contains(mtu) {
            return Err(StackError::Mtu(*mtu));
        }
        let count = addresses.len() + vips.len();
        if count > MAX_LOCAL_ADDRESSES {
            return Err(StackError::TooManyAddresses(count));
        }
        if routes.len() > MAX_ROUTES {
            return Err(StackError::TooManyRoutes(routes.len()));
        }
        let own = addresses.iter().map(IpNet::addr).chain(vips.iter().copied());
        let bad = |ip: &IpAddr| {
            let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
            // An IPv4 address written in IPv6 would be on-link for nobody.
            let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
            ip.is_multicast() || ip.is_unspecified() || ip.is_loopback() || broadcast || mapped
        };
        match own.chain(routes.iter().map(|r| r.via)).find(bad) {
            Some(ip) => Err(StackError::NotUnicast(ip)),
            None => Ok(()),
        }
    }
}
