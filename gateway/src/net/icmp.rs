//! Received ICMP and ICMPv6 messages, by type.

use smoltcp::wire::checksum;

use super::ip::{Addresses, ICMPV4, ICMPV6, IpPacket};
use super::local::LocalAddresses;
use super::{MacAddr, icmp_error, ndp};
use crate::limits::ETHERNET_HEADER;
use crate::telemetry::DropReason;

const V4_ECHO_REPLY: u8 = 0;
const V4_ECHO: u8 = 8;
const V6_ECHO: u8 = 128;
const V6_ECHO_REPLY: u8 = 129;

/// What a message asks the stack to do.
pub(super) enum Icmp {
    Echo,
    Report(icmp_error::Report),
    Ndp(ndp::Ndp),
}

/// `to_group`: the packet was sent to a multicast address.
pub(super) fn parse(
    packet: &IpPacket<'_>,
    to_group: bool,
    local: &LocalAddresses,
) -> Result<Icmp, DropReason> {
    let message = packet.payload;
    let &[kind, code, _, _, _, _, _, _, ..] = message else {
        return Err(DropReason::IcmpMalformed);
    };
    let v4 = matches!(packet.addresses, Addresses::V4 { .. });
    let checksum_ok = match v4 {
        true => checksum::data(message) == !0,
        false => packet.addresses.checksum_ok(ICMPV6, message),
    };
    if !checksum_ok {
        return Err(DropReason::IcmpMalformed);
    }
    match (v4, kind) {
        (false, ndp::SOLICITATION | ndp::ADVERTISEMENT) => ndp::Ndp::parse(packet).map(Icmp::Ndp),
        (false, ndp::ROUTER_SOLICITATION..=ndp::REDIRECT) => Err(DropReason::NdpIgnored),
        // Nothing else is answered or believed when it was sent to a group: replies would
        // amplify (RFC 1122, section 3.2.2.6 allows the silence).
        _ if to_group => Err(DropReason::IcmpIgnored),
        (true, V4_ECHO) | (false, V6_ECHO) if code == 0 => Ok(Icmp::Echo),
        (
            true,
            icmp_error::V4_UNREACHABLE
            | icmp_error::V4_TIME_EXCEEDED
            | icmp_error::V4_PARAMETER_PROBLEM,
        ) => icmp_error::parse_v4(message, local).map(Icmp::Report),
        (
            false,
            icmp_error::V6_UNREACHABLE
            | icmp_error::V6_TOO_BIG
            | icmp_error::V6_TIME_EXCEEDED
            | icmp_error::V6_PARAMETER_PROBLEM,
        ) => icmp_error::parse_v6(message, local).map(Icmp::Report),
        _ => Err(DropReason::IcmpIgnored),
    }
}

/// Length of the frame [`write_echo_reply`] writes.
pub(super) fn echo_reply_frame_len(packet: &IpPacket<'_>) -> usize {
    ETHERNET_HEADER + packet.addresses.header_len() + packet.payload.len()
}

/// Sends the request's identifier, sequence number and data back.
pub(super) fn write_echo_reply(buf: &mut [u8], macs: (MacAddr, MacAddr), packet: &IpPacket<'_>) {
    let addresses = packet.addresses.reversed();
    let (protocol, kind) = match addresses {
        Addresses::V4 { .. } => (ICMPV4, V4_ECHO_REPLY),
        Addresses::V6 { .. } => (ICMPV6, V6_ECHO_REPLY),
    };
    addresses.write_headers(buf, macs, protocol, 64, packet.payload.len());
    let message = &mut buf[ETHERNET_HEADER + addresses.header_len()..];
    message.copy_from_slice(packet.payload);
    message[..4].copy_from_slice(&[kind, 0, 0, 0]);
    icmp_error::set_checksum(message, addresses, protocol);
}
