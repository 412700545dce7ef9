//! IPv4 (RFC 791, RFC 1122) and IPv6 (RFC 8200) headers: checked, and cut to the packet.

use std::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
    checksum,
};

use super::{Ip, MacAddr, ethernet};
use crate::limits::{ETHERNET_HEADER, MAX_IPV6_EXTENSIONS};
use crate::telemetry::DropReason;

pub(super) const ICMPV4: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;

/// Options that ask for nothing and may be passed over: Pad1, PadN (RFC 8200, section 4.2).
const KNOWN_OPTIONS: [u8; 2] = [0, 1];
/// The action bits of an option type; other than 00, an unknown option forbids processing.
const OPTION_ACTION: u8 = 0xc0;

/// Both addresses in their family's own type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    V4 { src: Ipv4Addr, dst: Ipv4Addr },
    V6 { src: Ipv6Addr, dst: Ipv6Addr },
}

impl Addresses {
    pub(super) fn reversed(self) -> Self {
        match self {
            Self::V4 { src, dst } => Self::V4 { src: dst, dst: src },
            Self::V6 { src, dst } => Self::V6 { src: dst, dst: src },
        }
    }

    pub(super) fn ether_type(self) -> u16 {
        match self {
            Self::V4 { .. } => ethernet::IPV4,
            Self::V6 { .. } => ethernet::IPV6,
        }
    }

    pub(super) fn header_len(self) -> usize {
        match self {
            Self::V4 { .. } => IPV4_HEADER_LEN,
            Self::V6 { .. } => IPV6_HEADER_LEN,
        }
    }

    /// Sum over the pseudo header, for a payload of `len` bytes.
    fn pseudo_header(self, protocol: u8, len: usize) -> u16 {
        let protocol = IpProtocol::from(protocol);
        // An IP payload is shorter than 64 KiB.
        let len = len as u32;
        match self {
            Self::V4 { src, dst } => checksum::pseudo_header_v4(&src, &dst, protocol, len),
            Self::V6 { src, dst } => checksum::pseudo_header_v6(&src, &dst, protocol, len),
        }
    }

    /// Whether `payload`, checksum field included, sums up right (TCP, UDP, ICMPv6).
    pub(super) fn checksum_ok(self, protocol: u8, payload: &[u8]) -> bool {
        let pseudo = self.pseudo_header(protocol, payload.len());
        checksum::combine(&[pseudo, checksum::data(payload)]) == !0
    }

    /// The value for the checksum field, which must be zero in `payload`.
    pub(super) fn checksum(self, protocol: u8, payload: &[u8]) -> u16 {
        let pseudo = self.pseudo_header(protocol, payload.len());
        !checksum::combine(&[pseudo, checksum::data(payload)])
    }

    /// Writes the Ethernet and IP headers of a packet with `payload` bytes behind them.
    pub(super) fn write_headers(
        self,
        buf: &mut [u8],
        (dst_mac, src_mac): (MacAddr, MacAddr),
        protocol: u8,
        hop_limit: u8,
        payload: usize,
    ) {
        let (ethernet, ip) = buf.split_at_mut(ETHERNET_HEADER);
        ethernet.copy_from_slice(&ethernet::header(dst_mac, src_mac, self.ether_type()));
        let next_header = IpProtocol::from(protocol);
        match self {
            Self::V4 { src, dst } => Ipv4Repr {
                src_addr: src,
                dst_addr: dst,
                next_header,
                payload_len: payload,
                hop_limit,
            }
            .emit(&mut Ipv4Packet::new_unchecked(ip), &ChecksumCapabilities::default()),
            Self::V6 { src, dst } => Ipv6Repr {
                src_addr: src,
                dst_addr: dst,
                next_header,
                payload_len: payload,
                hop_limit,
            }
            .emit(&mut Ipv6Packet::new_unchecked(ip)),
        }
    }
}

/// A packet whose header holds what it says.
#[derive(Clone, Copy)]
pub(super) struct IpPacket<'f> {
    pub addresses: Addresses,
    pub src: Ip,
    pub dst: Ip,
    pub hop_limit: u8,
    /// The transport protocol, behind any extension headers.
    pub protocol: u8,
    /// Where in `bytes` the field stands that names the protocol.
    pub protocol_at: usize,
    /// From the IP header to the end of the packet; Ethernet padding is cut off.
    pub bytes: &'f [u8],
    /// The transport header and what follows.
    pub payload: &'f [u8],
}

/// `checksum_known_good`: the device has verified the header checksum.
#[inline(always)]
pub(super) fn parse_v4(data: &[u8], checksum_known_good: bool) -> Result<IpPacket<'_>, DropReason> {
    let fixed = match data.first_chunk::<IPV4_HEADER_LEN>() {
        Some(fixed) if fixed[0] >> 4 == 4 => fixed,
        _ if data.first().is_some_and(|first| first >> 4 != 4) => {
            return Err(DropReason::IpVersion);
        }
        _ => return Err(DropReason::IpMalformed),
    };
    let [first, _, l0, l1, _, _, f0, f1, hop_limit, protocol, _, _, ..] = *fixed;
    let header_len = usize::from(first & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([l0, l1]));
    if header_len < IPV4_HEADER_LEN || total_len < header_len {
        return Err(DropReason::IpMalformed);
    }
    let bytes = data.get(..total_len).ok_or(DropReason::IpMalformed)?;
    if !checksum_known_good && checksum::data(&bytes[..header_len]) != !0 {
        return Err(DropReason::IpChecksum);
    }
    // More fragments, or not the first one.
    if u16::from_be_bytes([f0, f1]) & 0x3fff != 0 {
        return Err(DropReason::IpFragment);
    }
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *fixed;
    let (src, dst) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
    Ok(IpPacket {
        addresses: Addresses::V4 { src: src.into(), dst: dst.into() },
        src: src.into(),
        dst: dst.into(),
        hop_limit,
        protocol,
        protocol_at: 9,
        bytes,
        payload: &bytes[header_len..],
    })
}

#[inline]
pub(super) fn parse_v6(data: &[u8]) -> Result<IpPacket<'_>, DropReason> {
    match data.first() {
        None => return Err(DropReason::IpMalformed),
        Some(first) if first >> 4 != 6 => return Err(DropReason::IpVersion),
        Some(_) => {}
    }
    let packet = Ipv6Packet::new_checked(data).map_err(|_| DropReason::IpMalformed)?;
    let bytes = &data[..packet.total_len()];
    let (src, dst) = (packet.src_addr(), packet.dst_addr());
    let mut parsed = IpPacket {
        addresses: Addresses::V6 { src, dst },
        src: src.into(),
        dst: dst.into(),
        hop_limit: packet.hop_limit(),
        protocol: packet.next_header().into(),
        protocol_at: 6,
        bytes,
        payload: &bytes[IPV6_HEADER_LEN..],
    };
    if parsed.protocol != TCP {
        skip_extensions(&mut parsed)?;
    }
    Ok(parsed)
}

fn skip_extensions(packet: &mut IpPacket<'_>) -> Result<(), DropReason> {
    for skipped in 0..=MAX_IPV6_EXTENSIONS {
        match packet.protocol {
            FRAGMENT => return Err(DropReason::IpFragment),
            ROUTING => return Err(DropReason::IpExtension),
            NO_NEXT_HEADER => return Err(DropReason::IpProtocol),
            // Hop-by-hop options stand directly behind the IPv6 header (RFC 8200, section 4.1).
            HOP_BY_HOP if skipped > 0 => return Err(DropReason::IpExtension),
            HOP_BY_HOP | DESTINATION_OPTIONS if skipped < MAX_IPV6_EXTENSIONS => {}
            HOP_BY_HOP | DESTINATION_OPTIONS => return Err(DropReason::IpExtension),
            _ => return Ok(()),
        }
        let header = packet.payload;
        let &[next, units, ..] = header else { return Err(DropReason::IpMalformed) };
        let len = 8 + 8 * usize::from(units);
        let (header, rest) = header.split_at_checked(len).ok_or(DropReason::IpMalformed)?;
        check_options(&header[2..])?;
        packet.protocol_at = packet.bytes.len() - packet.payload.len();
        packet.protocol = next;
        packet.payload = rest;
    }
    Err(DropReason::IpExtension)
}

fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    while let Some((&kind, rest)) = options.split_first() {
        if kind == 0 {
            options = rest;
            continue;
        }
        if !KNOWN_OPTIONS.contains(&kind) && kind & OPTION_ACTION != 0 {
            return Err(DropReason::IpExtension);
        }
        let (&len, rest) = rest.split_first().ok_or(DropReason::IpMalformed)?;
        options = rest.get(usize::from(len)..).ok_or(DropReason::IpMalformed)?;
    }
    Ok(())
}
