//! What one port is and never changes, and the questions and announcements it sends.

use std::net::IpAddr;

use super::arp::{self, Arp, Operation};
use super::local::LocalAddresses;
use super::neighbour::Ask;
use super::route::RouteTable;
use super::{MacAddr, TxSink, ndp};
use crate::port::{RxChecksum, TxMeta};

/// Fixed properties of the port.
#[derive(Debug)]
pub(super) struct Site {
    pub mac: MacAddr,
    pub mtu: usize,
    pub rx_checksum: bool,
    pub local: LocalAddresses,
    pub routes: RouteTable,
}

impl Site {
    /// Whether the device's verdict spares us the sum. A bad verdict does not condemn the frame:
    /// some devices give it to what they merely do not understand.
    pub(super) fn trusts(&self, verdict: RxChecksum) -> bool {
        self.rx_checksum && verdict == RxChecksum::Good
    }

    /// `None` also for what cannot be sent to: groups, ourselves, broadcast.
    pub(super) fn next_hop(&self, dst: IpAddr) -> Option<IpAddr> {
        let host = !dst.is_multicast()
            && !dst.is_unspecified()
            && !dst.is_loopback()
            && !self.local.is_broadcast(dst)
            && !self.local.contains(dst.into());
        self.routes.next_hop(dst).filter(|_| host)
    }

    /// Sends an ARP request or a neighbour solicitation.
    pub(super) fn solicit(&self, ask: Ask, tx: &mut dyn TxSink) -> bool {
        let mac = self.mac;
        let hop = IpAddr::from(ask.ip);
        match (hop, self.local.source_towards(hop)) {
            (IpAddr::V4(target), Some(IpAddr::V4(sender))) => {
                let request = Arp {
                    operation: Operation::Request,
                    sender_mac: mac,
                    sender,
                    target_mac: ask.known.unwrap_or(MacAddr::ZERO),
                    target,
                };
                let dst = ask.known.unwrap_or(MacAddr::BROADCAST);
                tx.send(arp::FRAME_LEN, TxMeta::default(), &mut |buf| request.write(buf, dst))
            }
            (IpAddr::V6(target), source) => {
                let source = match source {
                    Some(IpAddr::V6(source)) => source,
                    _ => self.local.link_local(),
                };
                tx.send(ndp::FRAME_LEN, TxMeta::default(), &mut |buf| {
                    ndp::write_solicitation(buf, mac, source, target, ask.known);
                })
            }
            // On-link over IPv4 implies an IPv4 address of that prefix.
            (IpAddr::V4(_), _) => false,
        }
    }

    pub(super) fn announce(&self, ip: IpAddr, tx: &mut dyn TxSink) -> bool {
        let mac = self.mac;
        match ip {
            IpAddr::V4(ip) => {
                let request = Arp {
                    operation: Operation::Request,
                    sender_mac: mac,
                    sender: ip,
                    target_mac: MacAddr::ZERO,
                    target: ip,
                };
                tx.send(arp::FRAME_LEN, TxMeta::default(), &mut |buf| {
                    request.write(buf, MacAddr::BROADCAST);
                })
            }
            IpAddr::V6(ip) => tx.send(ndp::FRAME_LEN, TxMeta::default(), &mut |buf| {
                ndp::write_advertisement(buf, mac, ip, None);
            }),
        }
    }
}
