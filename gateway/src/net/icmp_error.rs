//! ICMP errors: what a received one says about a connection of ours (RFC 792, RFC 4443), and the
//! ones we send.
//!
//! Received errors are easily forged: all they prove is that the sender knows a 4-tuple. A
//! consumer must not end an *established* connection on `hard` alone (RFC 5927, section 5.2).

use std::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::wire::checksum;

use super::ip::{Addresses, ICMPV4, ICMPV6, IpPacket, TCP};
use super::local::LocalAddresses;
use super::{FlowKey, Ip, MacAddr};
use crate::limits::{ETHERNET_HEADER, ICMPV4_ERROR_LEN, MIN_MTU, MIN_PATH_MTU_V4};
use crate::telemetry::DropReason;

/// Type, code, checksum and the 4 bytes whose meaning depends on the type.
pub(super) const HEADER: usize = 8;

pub(super) const V4_UNREACHABLE: u8 = 3;
pub(super) const V4_TIME_EXCEEDED: u8 = 11;
pub(super) const V4_PARAMETER_PROBLEM: u8 = 12;
pub(super) const V6_UNREACHABLE: u8 = 1;
pub(super) const V6_TOO_BIG: u8 = 2;
pub(super) const V6_TIME_EXCEEDED: u8 = 3;
pub(super) const V6_PARAMETER_PROBLEM: u8 = 4;

/// Usual link MTUs, for routers that do not say theirs (RFC 1191, section 7.1).
const PLATEAUS: [usize; 8] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 552];

/// What an error means for the connection it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    PathMtu { key: FlowKey, seq: u32, mtu: usize },
    Unreachable { key: FlowKey, hard: bool },
}

/// Reads an ICMPv4 error of type 3, 11 or 12. `message` starts at its type and is verified.
///
/// # Errors
/// `IcmpMalformed` if the quotation is too short to name a connection; `IcmpIgnored` if it does
/// not quote a TCP segment from one of our addresses.
pub(super) fn parse_v4(message: &[u8], local: &LocalAddresses) -> Result<Report, DropReason> {
    let (header, quote) = message.split_first_chunk::<HEADER>().ok_or(DropReason::IcmpMalformed)?;
    let inner = quote.first_chunk::<20>().ok_or(DropReason::IcmpMalformed)?;
    let header_len = usize::from(inner[0] & 0x0f) * 4;
    if inner[0] >> 4 != 4 || header_len < inner.len() {
        return Err(DropReason::IcmpMalformed);
    }
    let later_fragment = u16::from_be_bytes([inner[6], inner[7]]) & 0x1fff != 0;
    if inner[9] != TCP || later_fragment {
        return Err(DropReason::IcmpIgnored);
    }
    let src = Ipv4Addr::new(inner[12], inner[13], inner[14], inner[15]);
    let dst = Ipv4Addr::new(inner[16], inner[17], inner[18], inner[19]);
    let (key, seq) = quoted(src.into(), dst.into(), quote.get(header_len..), local)?;
    match (header[0], header[1]) {
        (V4_UNREACHABLE, 4) => {
            let told = usize::from(u16::from_be_bytes([header[6], header[7]]));
            let sent = usize::from(u16::from_be_bytes([inner[2], inner[3]]));
            let guess = || PLATEAUS.into_iter().find(|p| *p < sent).unwrap_or(MIN_PATH_MTU_V4);
            let mtu = if told == 0 { guess() } else { told };
            Ok(Report::PathMtu { key, seq, mtu: mtu.max(MIN_PATH_MTU_V4) })
        }
        // Protocol and port unreachable come from the host itself; the rest may pass by
        // (RFC 1122, section 4.2.3.9).
        (V4_UNREACHABLE, code) => Ok(Report::Unreachable { key, hard: matches!(code, 2 | 3) }),
        _ => Ok(Report::Unreachable { key, hard: false }),
    }
}

/// The same for ICMPv6 errors of type 1 to 4.
pub(super) fn parse_v6(message: &[u8], local: &LocalAddresses) -> Result<Report, DropReason> {
    let (header, quote) = message.split_first_chunk::<HEADER>().ok_or(DropReason::IcmpMalformed)?;
    let (inner, transport) = quote.split_first_chunk::<40>().ok_or(DropReason::IcmpMalformed)?;
    if inner[0] >> 4 != 6 {
        return Err(DropReason::IcmpMalformed);
    }
    // Our own segments carry no extension headers.
    if inner[6] != TCP {
        return Err(DropReason::IcmpIgnored);
    }
    let address = |at: usize| {
        inner[at..].first_chunk::<16>().map(|a| Ipv6Addr::from(*a)).ok_or(DropReason::IcmpMalformed)
    };
    let (src, dst) = (address(8)?, address(24)?);
    if src.to_ipv4_mapped().is_some() || dst.to_ipv4_mapped().is_some() {
        return Err(DropReason::IcmpIgnored);
    }
    let (key, seq) = quoted(src.into(), dst.into(), Some(transport), local)?;
    match (header[0], header[1]) {
        (V6_TOO_BIG, _) => {
            let [.., a, b, c, d] = *header;
            let told = u32::from_be_bytes([a, b, c, d]) as usize;
            // Every IPv6 link carries this much (RFC 8201, section 4).
            Ok(Report::PathMtu { key, seq, mtu: told.max(MIN_MTU) })
        }
        // Forbidden by policy, no such port; and the host does not know TCP (parameter problem
        // at the next header).
        (V6_UNREACHABLE, 1 | 4) | (V6_PARAMETER_PROBLEM, 1) => {
            Ok(Report::Unreachable { key, hard: true })
        }
        _ => Ok(Report::Unreachable { key, hard: false }),
    }
}

/// Connection and sequence number. `transport` is the start of the TCP header we sent.
fn quoted(
    src: Ip,
    dst: Ip,
    transport: Option<&[u8]>,
    local: &LocalAddresses,
) -> Result<(FlowKey, u32), DropReason> {
    // Eight bytes: ports and sequence number (RFC 792).
    let [s0, s1, d0, d1, seq @ ..] =
        *transport.and_then(|t| t.first_chunk::<8>()).ok_or(DropReason::IcmpMalformed)?;
    if !local.contains(src) {
        return Err(DropReason::IcmpIgnored);
    }
    let key = FlowKey {
        local: src,
        remote: dst,
        local_port: u16::from_be_bytes([s0, s1]),
        remote_port: u16::from_be_bytes([d0, d1]),
    };
    Ok((key, u32::from_be_bytes(seq)))
}

/// An error to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Port,
    Protocol,
}

/// Length of the frame [`write_refusal`] writes about `packet`.
pub(super) fn refusal_frame_len(packet: &IpPacket<'_>) -> usize {
    let header = packet.addresses.header_len() + HEADER;
    let most = match packet.addresses {
        Addresses::V4 { .. } => ICMPV4_ERROR_LEN,
        // The least every link carries (RFC 4443, section 2.4 c).
        Addresses::V6 { .. } => MIN_MTU,
    };
    ETHERNET_HEADER + most.min(header + packet.bytes.len())
}

/// Tells the sender of `packet`, at `macs.0`, that nothing here takes it. The caller has made
/// sure that both its addresses are unicast and that it is no ICMP error itself
/// (RFC 1122, section 3.2.2; RFC 4443, section 2.4 e).
pub(super) fn write_refusal(
    buf: &mut [u8],
    macs: (MacAddr, MacAddr),
    packet: &IpPacket<'_>,
    refusal: Refusal,
) {
    let (protocol, kind, code, value) = match (packet.addresses, refusal) {
        (Addresses::V4 { .. }, Refusal::Port) => (ICMPV4, V4_UNREACHABLE, 3, 0),
        (Addresses::V4 { .. }, Refusal::Protocol) => (ICMPV4, V4_UNREACHABLE, 2, 0),
        (Addresses::V6 { .. }, Refusal::Port) => (ICMPV6, V6_UNREACHABLE, 4, 0),
        (Addresses::V6 { .. }, Refusal::Protocol) => {
            (ICMPV6, V6_PARAMETER_PROBLEM, 1, packet.protocol_at as u32)
        }
    };
    let addresses = packet.addresses.reversed();
    let at = ETHERNET_HEADER + addresses.header_len();
    addresses.write_headers(buf, macs, protocol, 64, buf.len() - at);
    let message = &mut buf[at..];
    message[..4].copy_from_slice(&[kind, code, 0, 0]);
    message[4..HEADER].copy_from_slice(&value.to_be_bytes());
    let quote = &mut message[HEADER..];
    quote.copy_from_slice(&packet.bytes[..quote.len()]);
    set_checksum(message, addresses, protocol);
}

/// Fills in the checksum of an ICMP message whose checksum field is zero.
pub(super) fn set_checksum(message: &mut [u8], addresses: Addresses, protocol: u8) {
    let sum = match addresses {
        Addresses::V4 { .. } => !checksum::data(message),
        Addresses::V6 { .. } => addresses.checksum(protocol, message),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}
