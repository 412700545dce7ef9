//! Neighbour discovery for IPv6 (RFC 4861): solicitations and advertisements.

use std::net::Ipv6Addr;

use super::MacAddr;
use super::ip::{Addresses, ICMPV6, IpPacket};
use super::local::{ALL_NODES, group_mac, is_solicited_node, solicited_node};
use crate::limits::ETHERNET_HEADER;
use crate::telemetry::DropReason;

pub(super) const ROUTER_SOLICITATION: u8 = 133;
pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;
pub(super) const REDIRECT: u8 = 137;

const OPTION_SOURCE_MAC: u8 = 1;
const OPTION_TARGET_MAC: u8 = 2;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;
/// A router in between would have lowered it: the proof that the sender is on the link.
const HOP_LIMIT: u8 = 255;

/// Fixed part and one link-layer address option, bytes.
const LEN: usize = 24 + 8;
pub(super) const FRAME_LEN: usize = ETHERNET_HEADER + 40 + LEN;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ndp {
    /// `src` is unspecified when the sender checks for duplicates (RFC 4862, section 5.4).
    Solicitation { src: Ipv6Addr, target: Ipv6Addr, source_mac: Option<MacAddr> },
    Advertisement {
        target: Ipv6Addr,
        solicited: bool,
        overrides: bool,
        target_mac: Option<MacAddr>,
    },
}

impl Ndp {
    /// `packet` carries ICMPv6 of type [`SOLICITATION`] or [`ADVERTISEMENT`], its checksum
    /// already verified.
    ///
    /// # Errors
    /// `NdpMalformed` for whatever RFC 4861, sections 7.1.1 and 7.1.2 say to discard.
    pub(super) fn parse(packet: &IpPacket<'_>) -> Result<Self, DropReason> {
        Self::parse_checked(packet).ok_or(DropReason::NdpMalformed)
    }

    fn parse_checked(packet: &IpPacket<'_>) -> Option<Self> {
        let Addresses::V6 { src, dst } = packet.addresses else { return None };
        let (fixed, options) = packet.payload.split_first_chunk::<24>()?;
        let target = Ipv6Addr::from(*fixed[8..].first_chunk::<16>()?);
        if packet.hop_limit != HOP_LIMIT || fixed[1] != 0 || target.is_multicast() {
            return None;
        }
        if fixed[0] == SOLICITATION {
            let source_mac = find_mac(options, OPTION_SOURCE_MAC)?;
            let duplicate_check_ok =
                !src.is_unspecified() || (is_solicited_node(dst) && source_mac.is_none());
            return duplicate_check_ok.then_some(Self::Solicitation { src, target, source_mac });
        }
        let solicited = fixed[4] & FLAG_SOLICITED != 0;
        // A solicited answer goes to the one who asked, never to a group.
        let invalid = src.is_unspecified() || (solicited && dst.is_multicast());
        (!invalid).then_some(Self::Advertisement {
            target,
            solicited,
            overrides: fixed[4] & FLAG_OVERRIDE != 0,
            target_mac: find_mac(options, OPTION_TARGET_MAC)?,
        })
    }
}

/// Walks the options. Outer `None`: malformed; inner: the option is absent.
fn find_mac(mut options: &[u8], wanted: u8) -> Option<Option<MacAddr>> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        // A length of zero would never end.
        if units == 0 {
            return None;
        }
        let (option, rest) = options.split_at_checked(8 * usize::from(units))?;
        if kind == wanted && found.is_none() {
            found = Some(MacAddr::read(&option[2..]).filter(|mac| mac.is_unicast())?);
        }
        options = rest;
    }
    options.is_empty().then_some(found)
}

/// Asks who has `target`: the whole link, or `known` alone to see whether it is still there.
pub(super) fn write_solicitation(
    buf: &mut [u8],
    mac: MacAddr,
    src: Ipv6Addr,
    target: Ipv6Addr,
    known: Option<MacAddr>,
) {
    let dst = if known.is_some() { target } else { solicited_node(target) };
    let dst_mac = known.unwrap_or_else(|| group_mac(dst));
    write(buf, (dst_mac, mac), (src, dst), SOLICITATION, 0, target, OPTION_SOURCE_MAC);
}

/// Says that `target` is at `mac`: to `asker` who asked, or to all nodes.
pub(super) fn write_advertisement(
    buf: &mut [u8],
    mac: MacAddr,
    target: Ipv6Addr,
    asker: Option<(MacAddr, Ipv6Addr)>,
) {
    let (dst_mac, dst) = asker.unwrap_or((group_mac(ALL_NODES), ALL_NODES));
    let solicited = if asker.is_some() { FLAG_SOLICITED } else { 0 };
    let flags = solicited | FLAG_OVERRIDE;
    write(buf, (dst_mac, mac), (target, dst), ADVERTISEMENT, flags, target, OPTION_TARGET_MAC);
}

fn write(
    buf: &mut [u8],
    macs: (MacAddr, MacAddr),
    (src, dst): (Ipv6Addr, Ipv6Addr),
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: u8,
) {
    let addresses = Addresses::V6 { src, dst };
    addresses.write_headers(buf, macs, ICMPV6, HOP_LIMIT, LEN);
    let message = &mut buf[ETHERNET_HEADER + 40..];
    message[..8].copy_from_slice(&[kind, 0, 0, 0, flags, 0, 0, 0]);
    message[8..24].copy_from_slice(&target.octets());
    message[24..26].copy_from_slice(&[option, 1]);
    message[26..32].copy_from_slice(&macs.1.0);
    let sum = addresses.checksum(ICMPV6, message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}
