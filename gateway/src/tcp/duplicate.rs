//! Acknowledgements on old duplicates.
//!
//! After a retransmission time-out the engine rewinds its next sequence number, so that even its
//! pure ACKs carry numbers the other side has received already. RFC 9293, section 3.10.7.4 drops
//! such segments whole, acknowledgement included. When both directions lose a segment at the same
//! time and both ends run this engine, as two gateways do, neither accepts the other's ACK any
//! more and the connection hangs until its user time-out.
//!
//! So the acknowledgement of an old duplicate is taken by itself: the engine is first shown a
//! bare ACK that carries it at the expected sequence number, then the duplicate. Nothing is
//! weakened by that: the engine still checks the acknowledgement against what it has sent.

/// IPv6 header without extensions, plus TCP header without options; IPv4's is shorter.
const BARE_ACK_MAX: usize = 40 + 20;

/// The acknowledgement number of a packet the engine sends.
pub(super) fn sent_ack(ip: &[u8]) -> Option<u32> {
    let tcp = tcp_at(ip)?;
    if flags(ip, tcp)? & ACK == 0 {
        return None;
    }
    word(ip, tcp + 8)
}

/// If `ip` lies wholly before `expected` (the acknowledgement this side sent last) and carries an
/// acknowledgement, the bare ACK to be taken instead of it.
pub(super) fn bare_ack(ip: &[u8], expected: u32) -> Option<BareAck> {
    let tcp = tcp_at(ip)?;
    let flags = flags(ip, tcp)?;
    if flags & ACK == 0 || flags & (SYN | RST) != 0 {
        return None;
    }
    let header = usize::from(ip.get(tcp + 12)? >> 4) * 4;
    let payload = ip.len().checked_sub(tcp + header)? as u32;
    let end = word(ip, tcp + 4)?.wrapping_add(payload).wrapping_add(u32::from(flags & FIN != 0));
    if (expected.wrapping_sub(end) as i32) < 0 || word(ip, tcp + 4)? == expected {
        return None;
    }
    let ip_header = if ip[0] >> 4 == 4 { 20 } else { 40 };
    let mut packet = [0; BARE_ACK_MAX];
    let len = ip_header + 20;
    packet[..ip_header].copy_from_slice(&ip[..ip_header]);
    packet[ip_header..len].copy_from_slice(&ip[tcp..tcp + 20]);
    if ip_header == 20 {
        // Without options.
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    } else {
        packet[4..6].copy_from_slice(&20u16.to_be_bytes());
    }
    packet[ip_header + 4..ip_header + 8].copy_from_slice(&expected.to_be_bytes());
    packet[ip_header + 12] = 5 << 4;
    packet[ip_header + 13] = ACK;
    Some(BareAck { packet, len })
}

/// An IP packet with a TCP header and nothing else. Its checksums are not valid.
#[derive(Debug)]
pub(super) struct BareAck {
    packet: [u8; BARE_ACK_MAX],
    len: usize,
}

impl BareAck {
    pub fn ip(&self) -> &[u8] {
        &self.packet[..self.len]
    }
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const TCP: u8 = 6;

/// Where the TCP header begins. IPv6 packets with extension headers are left alone.
fn tcp_at(ip: &[u8]) -> Option<usize> {
    match ip.first()? >> 4 {
        4 => Some(usize::from(ip[0] & 0x0f) * 4).filter(|h| *h >= 20),
        6 => (*ip.get(6)? == TCP).then_some(40),
        _ => None,
    }
}

fn flags(ip: &[u8], tcp: usize) -> Option<u8> {
    ip.get(tcp + 13).copied()
}

fn word(ip: &[u8], at: usize) -> Option<u32> {
    ip.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}
