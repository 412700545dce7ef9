//! Ethernet II frames (IEEE 802.3, clause 3).

use super::MacAddr;
use crate::limits::ETHERNET_HEADER;

pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad and the older double-tagging type.
pub(super) const VLAN_TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

pub(super) struct Ethernet<'f> {
    pub dst: MacAddr,
    pub src: MacAddr,
    pub ether_type: u16,
    pub payload: &'f [u8],
}

impl<'f> Ethernet<'f> {
    #[inline]
    pub(super) fn parse(frame: &'f [u8]) -> Option<Self> {
        let (header, payload) = frame.split_first_chunk::<ETHERNET_HEADER>()?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        Some(Self {
            dst: MacAddr([d0, d1, d2, d3, d4, d5]),
            src: MacAddr([s0, s1, s2, s3, s4, s5]),
            ether_type: u16::from_be_bytes([t0, t1]),
            payload,
        })
    }
}

pub(super) fn header(dst: MacAddr, src: MacAddr, ether_type: u16) -> [u8; ETHERNET_HEADER] {
    let mut header = [0; ETHERNET_HEADER];
    header[..6].copy_from_slice(&dst.0);
    header[6..12].copy_from_slice(&src.0);
    header[12..].copy_from_slice(&ether_type.to_be_bytes());
    header
}
