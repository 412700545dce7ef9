//! Headers of segments, read and written. What nearly all of them look like, no option but
//! timestamps, is done by hand here: `smoltcp::wire` takes several times the instructions, and reads
//! and writes all others.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpAddress, Ipv4Address, Ipv4Packet, TCP_HEADER_LEN,
    TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr,
};

use super::ecn::Marks;
use super::engine::Profile;
use crate::net::{FlowKey, Ip};

/// With padding (RFC 7323, appendix A).
pub(super) const TIMESTAMP_OPTION: usize = 12;
/// What the timestamp option begins with: NOP, NOP, kind, length.
const TIMESTAMP_START: [u8; 4] = [1, 1, 8, 10];
const HOP_LIMIT: u8 = 64;
const PROTOCOL_TCP: u8 = 6;
const DONT_FRAGMENT: u8 = 0x40;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

pub(super) fn ip_header(v4: bool) -> usize {
    if v4 { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN }
}

/// A segment, and what it says of congestion. Its checksum is known to be right.
#[inline]
pub(super) fn parse(tcp: &[u8]) -> Option<(TcpRepr<'_>, Marks)> {
    parse_usual(tcp).or_else(|| parse_any(tcp))
}

fn number(bytes: &[u8; 4]) -> u32 {
    u32::from_be_bytes(*bytes)
}

/// `None` for what [`parse_any`] has to look at.
#[inline]
fn parse_usual(tcp: &[u8]) -> Option<(TcpRepr<'_>, Marks)> {
    let (fixed, rest) = tcp.split_first_chunk::<TCP_HEADER_LEN>()?;
    let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = *fixed;
    let control = match flags & (FIN | SYN | RST | PSH) {
        0 => TcpControl::None,
        PSH => TcpControl::Psh,
        _ => return None,
    };
    let (timestamp, payload) = match offset >> 4 {
        5 => (None, rest),
        8 => {
            let (options, payload) = rest.split_first_chunk::<TIMESTAMP_OPTION>()?;
            let [o0, o1, o2, o3, v0, v1, v2, v3, e0, e1, e2, e3] = *options;
            if [o0, o1, o2, o3] != TIMESTAMP_START {
                return None;
            }
            let (tsval, tsecr) = (number(&[v0, v1, v2, v3]), number(&[e0, e1, e2, e3]));
            (Some(TcpTimestampRepr::new(tsval, tsecr)), payload)
        }
        _ => return None,
    };
    let (src_port, dst_port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    if src_port == 0 || dst_port == 0 {
        return None;
    }
    let segment = TcpRepr {
        src_port,
        dst_port,
        control,
        seq_number: TcpSeqNumber(number(&[q0, q1, q2, q3]) as i32),
        ack_number: (flags & ACK != 0).then_some(TcpSeqNumber(number(&[a0, a1, a2, a3]) as i32)),
        window_len: u16::from_be_bytes([w0, w1]),
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp,
        payload,
    };
    Some((segment, Marks { congested: false, ece: flags & ECE != 0, cwr: flags & CWR != 0 }))
}

fn parse_any(tcp: &[u8]) -> Option<(TcpRepr<'_>, Marks)> {
    let packet = TcpPacket::new_checked(tcp).ok()?;
    // Addresses are for the checksum.
    let nobody = IpAddress::Ipv4(Ipv4Address::UNSPECIFIED);
    let segment =
        TcpRepr::parse(&packet, &nobody, &nobody, &ChecksumCapabilities::ignored()).ok()?;
    Some((segment, Marks { congested: false, ece: packet.ece(), cwr: packet.cwr() }))
}

/// Writes an IP packet with the headers of `segment`, whose payload stands in it already, at its end.
/// `ecn`: of the IP header.
#[inline]
pub(super) fn write(
    packet: &mut [u8],
    key: &FlowKey,
    segment: &TcpRepr<'_>,
    marks: Marks,
    ecn: u8,
    profile: Profile,
) {
    let (ip, tcp) = packet.split_at_mut(ip_header(key.is_v4()));
    write_ip(ip, key, tcp.len(), ecn, profile);
    if !write_usual(tcp, segment, marks) {
        write_any(tcp, segment, marks);
    }
    if !profile.checksum_offload {
        let (local, remote) = (address(key.local), address(key.remote));
        TcpPacket::new_unchecked(tcp).fill_checksum(&local, &remote);
    }
}

fn address(ip: Ip) -> IpAddress {
    std::net::IpAddr::from(ip).into()
}

#[inline]
fn write_ip(header: &mut [u8], key: &FlowKey, payload_len: usize, ecn: u8, profile: Profile) {
    // A packet is shorter than 64 KiB.
    if let (Some(local), Some(remote)) = (key.local.v4_octets(), key.remote.v4_octets())
        && let Some(fields) = header.first_chunk_mut::<IPV4_HEADER_LEN>()
    {
        let [high, low] = ((payload_len + IPV4_HEADER_LEN) as u16).to_be_bytes();
        fields[..12].copy_from_slice(&[
            0x45,
            ecn,
            high,
            low,
            0,
            0,
            DONT_FRAGMENT,
            0,
            HOP_LIMIT,
            PROTOCOL_TCP,
            0,
            0,
        ]);
        fields[12..16].copy_from_slice(&local);
        fields[16..].copy_from_slice(&remote);
        if !profile.checksum_offload {
            Ipv4Packet::new_unchecked(header).fill_checksum();
        }
    } else if let Some(fields) = header.first_chunk_mut::<IPV6_HEADER_LEN>() {
        let [high, low] = (payload_len as u16).to_be_bytes();
        let start = [0x60, ecn << 4, 0, 0, high, low, PROTOCOL_TCP, HOP_LIMIT];
        fields[..8].copy_from_slice(&start);
        fields[8..24].copy_from_slice(&key.local.octets());
        fields[24..].copy_from_slice(&key.remote.octets());
    }
}

/// `false` for what [`write_any`] has to write.
#[inline]
fn write_usual(tcp: &mut [u8], segment: &TcpRepr<'_>, marks: Marks) -> bool {
    let control = match segment.control {
        TcpControl::None => 0,
        TcpControl::Psh => PSH,
        TcpControl::Fin => FIN,
        TcpControl::Rst => RST,
        TcpControl::Syn => return false,
    };
    if segment.sack_ranges[0].is_some() {
        return false;
    }
    let Some((fields, rest)) = tcp.split_first_chunk_mut::<TCP_HEADER_LEN>() else { return false };
    let mut words = 5;
    if let Some(timestamp) = &segment.timestamp {
        let Some(option) = rest.first_chunk_mut::<TIMESTAMP_OPTION>() else { return false };
        option[..4].copy_from_slice(&TIMESTAMP_START);
        option[4..8].copy_from_slice(&timestamp.tsval.to_be_bytes());
        option[8..].copy_from_slice(&timestamp.tsecr.to_be_bytes());
        words = 8;
    }
    let (ack, acks) = segment.ack_number.map_or((0, 0), |ack| (ack.0, ACK));
    let marked = if marks.ece { ECE } else { 0 } | if marks.cwr { CWR } else { 0 };
    fields[..2].copy_from_slice(&segment.src_port.to_be_bytes());
    fields[2..4].copy_from_slice(&segment.dst_port.to_be_bytes());
    fields[4..8].copy_from_slice(&segment.seq_number.0.to_be_bytes());
    fields[8..12].copy_from_slice(&ack.to_be_bytes());
    fields[12] = words << 4;
    fields[13] = control | acks | marked;
    fields[14..16].copy_from_slice(&segment.window_len.to_be_bytes());
    fields[16..].fill(0);
    true
}

fn write_any(tcp: &mut [u8], segment: &TcpRepr<'_>, marks: Marks) {
    // Addresses are for the checksum.
    let nobody = IpAddress::Ipv4(Ipv4Address::UNSPECIFIED);
    let mut packet = TcpPacket::new_unchecked(tcp);
    segment.emit(&mut packet, &nobody, &nobody, &ChecksumCapabilities::ignored());
    packet.set_ece(marks.ece);
    packet.set_cwr(marks.cwr);
}
