//! ARP for IPv4 over Ethernet (RFC 826; checks of RFC 5227).

use std::net::Ipv4Addr;

use super::{MacAddr, ethernet};
use crate::limits::ETHERNET_HEADER;
use crate::telemetry::DropReason;

/// Fixed part and the four addresses, bytes.
const LEN: usize = 28;
pub(super) const FRAME_LEN: usize = ETHERNET_HEADER + LEN;
/// Ethernet, IPv4, 6-byte and 4-byte addresses.
const PREFIX: [u8; 6] = [0, 1, 8, 0, 6, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Request,
    Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arp {
    pub operation: Operation,
    pub sender_mac: MacAddr,
    pub sender: Ipv4Addr,
    pub target_mac: MacAddr,
    pub target: Ipv4Addr,
}

impl Arp {
    /// # Errors
    /// `ArpMalformed` for what is not ARP for IPv4 over Ethernet, or whose sender could not be
    /// a host: learning such an entry would send unicast traffic to a group.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, DropReason> {
        let packet = payload.first_chunk::<LEN>().ok_or(DropReason::ArpMalformed)?;
        let operation = match (packet.starts_with(&PREFIX), packet[6], packet[7]) {
            (true, 0, 1) => Operation::Request,
            (true, 0, 2) => Operation::Reply,
            _ => return Err(DropReason::ArpMalformed),
        };
        let ip =
            |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        let arp = Self {
            operation,
            sender_mac: MacAddr::read(&packet[8..]).ok_or(DropReason::ArpMalformed)?,
            sender: ip(14),
            target_mac: MacAddr::read(&packet[18..]).ok_or(DropReason::ArpMalformed)?,
            target: ip(24),
        };
        let sender_ok = !arp.sender.is_multicast()
            && !arp.sender.is_broadcast()
            && !arp.sender.is_loopback()
            // 0.0.0.0 is how a request probes for duplicates (RFC 5227, section 2.1.1).
            && (!arp.sender.is_unspecified() || operation == Operation::Request);
        match arp.sender_mac.is_unicast() && sender_ok {
            true => Ok(arp),
            false => Err(DropReason::ArpMalformed),
        }
    }

    /// `buf` has [`FRAME_LEN`] bytes.
    pub(super) fn write(&self, buf: &mut [u8], dst: MacAddr) {
        buf[..ETHERNET_HEADER].copy_from_slice(&ethernet::header(
            dst,
            self.sender_mac,
            ethernet::ARP,
        ));
        let packet = &mut buf[ETHERNET_HEADER..];
        packet[..6].copy_from_slice(&PREFIX);
        packet[6] = 0;
        packet[7] = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        packet[8..14].copy_from_slice(&self.sender_mac.0);
        packet[14..18].copy_from_slice(&self.sender.octets());
        packet[18..24].copy_from_slice(&self.target_mac.0);
        packet[24..28].copy_from_slice(&self.target.octets());
    }
}
