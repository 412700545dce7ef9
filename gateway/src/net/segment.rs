//! TCP headers (RFC 9293, section 3.1), as far as finding and refusing a connection needs them.

use smoltcp::wire::{TCP_HEADER_LEN, TcpControl, TcpPacket as WireTcp, TcpRepr, TcpSeqNumber};

use super::ip::{Addresses, IpPacket, TCP};
use super::{FlowKey, Ip, MacAddr};
use crate::limits::ETHERNET_HEADER;
use crate::port::TxMeta;
use crate::telemetry::DropReason;

/// "Congestion experienced" in the ECN field of the IP header (RFC 3168, section 5).
const CE: u8 = 0b11;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
    pub psh: bool,
}

/// A TCP segment to one of our addresses, lengths and checksums verified.
#[derive(Clone, Copy, Debug)]
pub struct TcpPacket<'f> {
    pub key: FlowKey,
    /// From the IP header to the end of the IP packet; Ethernet padding is cut off. May hold
    /// IPv4 options or IPv6 hop-by-hop and destination options.
    pub ip: &'f [u8],
    /// The TCP header and what is behind it.
    pub tcp: &'f [u8],
    /// Who put the frame on the link: the client itself, or the router in front of it.
    pub src_mac: MacAddr,
    pub flags: TcpFlags,
    pub seq: u32,
    /// Meaningful only with `flags.ack`.
    pub ack: u32,
    /// Bytes behind the TCP header.
    pub payload_len: usize,
    /// A router has marked the packet (RFC 3168, CE).
    pub congested: bool,
}

impl TcpPacket<'_> {
    /// Whether the segment opens a connection.
    pub fn is_syn(&self) -> bool {
        self.flags.syn && !self.flags.ack
    }
}

/// `checksum_known_good`: the device has verified the TCP checksum.
// Always: the result is large, and would be copied from one function to the next.
#[inline(always)]
pub(super) fn parse<'f>(
    packet: &IpPacket<'f>,
    src_mac: MacAddr,
    checksum_known_good: bool,
) -> Result<TcpPacket<'f>, DropReason> {
    let tcp = packet.payload;
    let fixed = tcp.first_chunk::<TCP_HEADER_LEN>().ok_or(DropReason::TcpMalformed)?;
    let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, bits, ..] = *fixed;
    let header_len = usize::from(offset >> 4) * 4;
    if header_len < TCP_HEADER_LEN || header_len > tcp.len() {
        return Err(DropReason::TcpMalformed);
    }
    if !checksum_known_good && !packet.addresses.checksum_ok(TCP, tcp) {
        return Err(DropReason::TcpChecksum);
    }
    let flags = TcpFlags {
        fin: bits & 0x01 != 0,
        syn: bits & 0x02 != 0,
        rst: bits & 0x04 != 0,
        psh: bits & 0x08 != 0,
        ack: bits & 0x10 != 0,
    };
    let key = FlowKey {
        local: packet.dst,
        remote: packet.src,
        local_port: u16::from_be_bytes([d0, d1]),
        remote_port: u16::from_be_bytes([s0, s1]),
    };
    // No correct host sends these; scanners do, to see how a stack reacts.
    let contradiction = flags.syn && (flags.fin || flags.rst);
    if contradiction || key.local_port == 0 || key.remote_port == 0 {
        return Err(DropReason::TcpMalformed);
    }
    // The last bits of the IPv4 TOS field, and of the IPv6 traffic class.
    let ecn = match (packet.addresses, packet.bytes.get(1)) {
        (Addresses::V4 { .. }, Some(byte)) => byte & 0b11,
        (Addresses::V6 { .. }, Some(byte)) => (byte >> 4) & 0b11,
        (_, None) => 0,
    };
    Ok(TcpPacket {
        key,
        ip: packet.bytes,
        tcp,
        src_mac,
        flags,
        seq: u32::from_be_bytes([q0, q1, q2, q3]),
        ack: u32::from_be_bytes([a0, a1, a2, a3]),
        payload_len: tcp.len() - header_len,
        congested: ecn == CE,
    })
}

/// The connection of a frame that looks like one with a TCP segment and the usual IP header. Nothing of it has
/// been checked: good for looking ahead, and for what a device hashes.
#[inline]
pub fn likely_key(frame: &[u8]) -> Option<FlowKey> {
    let ip = frame.get(ETHERNET_HEADER..)?;
    let (local, remote, ports): (Ip, Ip, &[u8]) = match frame.get(12..14)? {
        [0x08, 0x00] if ip.first() == Some(&0x45) && ip.get(9) == Some(&TCP) => {
            let (src, dst) = (ip.get(12..)?.first_chunk::<4>()?, ip.get(16..)?.first_chunk::<4>()?);
            ((*dst).into(), (*src).into(), ip.get(20..)?)
        }
        [0x86, 0xdd] if ip.get(6) == Some(&TCP) => {
            let (src, dst) = (ip.get(8..)?.first_chunk()?, ip.get(24..)?.first_chunk()?);
            (Ip::from_octets(*dst), Ip::from_octets(*src), ip.get(40..)?)
        }
        _ => return None,
    };
    let [s0, s1, d0, d1] = *ports.first_chunk()?;
    let (remote_port, local_port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    Some(FlowKey { local, remote, local_port, remote_port })
}

/// The RST that answers `packet` (RFC 9293, section 3.10.7.1).
pub(super) fn reset_of(packet: &TcpPacket<'_>) -> TcpRepr<'static> {
    let (seq_number, ack_number) = match packet.flags.ack {
        true => (TcpSeqNumber(packet.ack as i32), None),
        false => (TcpSeqNumber(0), Some(behind(packet))),
    };
    bare(packet, TcpControl::Rst, seq_number, ack_number)
}

/// The ACK of everything in `packet`. All it says is in the segment itself.
pub(super) fn ack_of(packet: &TcpPacket<'_>) -> TcpRepr<'static> {
    let seq = TcpSeqNumber(packet.ack as i32);
    bare(packet, TcpControl::None, seq, Some(behind(packet)))
}

/// The sequence number behind the segment.
fn behind(packet: &TcpPacket<'_>) -> TcpSeqNumber {
    let flags = packet.flags;
    let len = packet.payload_len as u32 + u32::from(flags.syn) + u32::from(flags.fin);
    TcpSeqNumber(packet.seq.wrapping_add(len) as i32)
}

fn bare(
    packet: &TcpPacket<'_>,
    control: TcpControl,
    seq_number: TcpSeqNumber,
    ack_number: Option<TcpSeqNumber>,
) -> TcpRepr<'static> {
    TcpRepr {
        src_port: packet.key.local_port,
        dst_port: packet.key.remote_port,
        control,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

/// Bytes of the frame that [`write_answer`] writes.
pub(super) fn answer_len(addresses: Addresses, answer: &TcpRepr<'_>) -> usize {
    ETHERNET_HEADER + addresses.header_len() + answer.buffer_len()
}

/// A frame with `answer`, from `addresses.src` to where `packet` came from.
pub(super) fn write_answer(
    buf: &mut [u8],
    packet: &TcpPacket<'_>,
    addresses: Addresses,
    mac: MacAddr,
    answer: &TcpRepr<'_>,
) {
    addresses.write_headers(buf, (packet.src_mac, mac), TCP, 64, answer.buffer_len());
    let (src, dst) = match addresses {
        Addresses::V4 { src, dst } => (src.into(), dst.into()),
        Addresses::V6 { src, dst } => (src.into(), dst.into()),
    };
    let segment = &mut buf[ETHERNET_HEADER + addresses.header_len()..];
    let checksums = smoltcp::phy::ChecksumCapabilities::default();
    answer.emit(&mut WireTcp::new_unchecked(segment), &src, &dst, &checksums);
}

/// Prepares an IP packet with a TCP segment for a device that computes the checksums: the TCP
/// checksum field gets the sum over the pseudo-header, the IPv4 one zero (what DPDK asks for
/// with its checksum flags). `segment`: the device is also to cut it into segments with so many bytes of
/// payload; the pseudo-header is without a length then. 0: it is not.
pub fn request_checksum(ip: &mut [u8], segment: u16) -> TxMeta {
    let ipv6 = ip.first().is_some_and(|b| b >> 4 == 6);
    let (l3_len, sum) = match ipv6 {
        true => (40, ip.get(8..40).map(sum_of)),
        false => {
            let words = usize::from(ip.first().map_or(0, |b| b & 0x0f));
            (words * 4, ip.get(12..20).map(sum_of))
        }
    };
    let (Some(sum), Some(&offset)) = (sum, ip.get(l3_len + 12)) else {
        return TxMeta::default();
    };
    let l4_len = (offset >> 4) * 4;
    let mut sum = sum + u32::from(TCP);
    if segment == 0 {
        sum += (ip.len() - l3_len) as u32;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if !ipv6 {
        ip[10..12].fill(0);
    }
    let Some(field) = ip.get_mut(l3_len + 16..l3_len + 18) else { return TxMeta::default() };
    field.copy_from_slice(&(sum as u16).to_be_bytes());
    TxMeta {
        l2_len: ETHERNET_HEADER as u8,
        l3_len: l3_len as u8,
        l4_len,
        ipv6,
        checksum: true,
        tso_segment: segment,
    }
}

fn sum_of(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum()
}
