//! Receive side scaling: which queue a flow's packets land on.
//!
//! The hash is Toeplitz as Microsoft specified it ("RSS hashing functions", with the verification
//! suite the tests repeat): over source address, destination address, source port, destination port,
//! in network byte order. The low bits of the hash index the redirection table (RETA).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::{DpdkError, errno};
use crate::offload::bit_set;
use crate::port::{Port, Started};

bit_set! {
    /// Header fields the device hashes. Packets of other kinds get the hash 0 or queue 0.
    RssTypes: u32 {
        /// Addresses of IPv4 packets, fragments included.
        IPV4 = dpdk_sys::CLGW_RSS_IPV4, "ipv4";
        /// Addresses and ports of TCP over IPv4.
        IPV4_TCP = dpdk_sys::CLGW_RSS_IPV4_TCP, "ipv4-tcp";
        IPV6 = dpdk_sys::CLGW_RSS_IPV6, "ipv6";
        IPV6_TCP = dpdk_sys::CLGW_RSS_IPV6_TCP, "ipv6-tcp";
    }
}

impl RssTypes {
    /// Addresses and ports of TCP, addresses of everything else.
    pub const TCP: Self = Self::from_bits(
        Self::IPV4.bits() | Self::IPV4_TCP.bits() | Self::IPV6.bits() | Self::IPV6_TCP.bits(),
    );
}

/// Bytes of input an IPv6 TCP flow has; the key needs 4 more.
const INPUT_MAX: usize = 36;
/// Bytes of key that an IPv6 TCP flow uses, and what most devices have.
pub const KEY_LEN: usize = INPUT_MAX + 4;

/// A Toeplitz key, as long as the device wants it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RssKey {
    bytes: [u8; dpdk_sys::CLGW_RSS_KEY_MAX],
    len: u8,
}

impl RssKey {
    /// The key of Microsoft's verification suite.
    pub const MICROSOFT: Self = Self::padded([
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ]);

    /// 0x6d5a repeated: both directions of a flow hash alike (Woo and Park, "Scalable TCP session
    /// monitoring with symmetric receive-side scaling", 2012). Spreads a little worse.
    pub const SYMMETRIC: Self = {
        let mut bytes = [0u8; KEY_LEN];
        let mut at = 0;
        while at < KEY_LEN {
            bytes[at] = if at % 2 == 0 { 0x6d } else { 0x5a };
            at += 1;
        }
        Self::padded(bytes)
    };

    const fn padded(key: [u8; KEY_LEN]) -> Self {
        let mut bytes = [0u8; dpdk_sys::CLGW_RSS_KEY_MAX];
        let mut at = 0;
        while at < KEY_LEN {
            bytes[at] = key[at];
            at += 1;
        }
        Self { bytes, len: KEY_LEN as u8 }
    }

    /// # Errors
    /// Shorter than [`KEY_LEN`] or longer than any device's key.
    pub fn new(key: &[u8]) -> Result<Self, DpdkError> {
        let max = dpdk_sys::CLGW_RSS_KEY_MAX;
        if !(KEY_LEN..=max).contains(&key.len()) {
            return Err(DpdkError::refused(
                "read RSS key of",
                format!("{} bytes", key.len()),
                errno::EINVAL,
                format!("A key has {KEY_LEN} to {max} bytes"),
            ));
        }
        let mut bytes = [0u8; dpdk_sys::CLGW_RSS_KEY_MAX];
        bytes[..key.len()].copy_from_slice(key);
        Ok(Self { bytes, len: key.len() as u8 })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The key with exactly `len` bytes. Bytes after the first [`KEY_LEN`] play no part in the hash
    /// of a TCP flow, so longer device keys are filled by repetition.
    ///
    /// # Errors
    /// The device's key is too short for an IPv6 TCP flow, or longer than any known.
    pub fn resized(&self, len: usize) -> Result<Self, DpdkError> {
        let own = self.as_bytes();
        let bytes: Vec<u8> = own.iter().copied().cycle().take(len).collect();
        Self::new(&bytes)
    }
}

impl std::fmt::Debug for RssKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whoever knows the key can aim all flows at one queue.
        write!(f, "RssKey({} bytes)", self.len)
    }
}

/// What to configure on the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RssConfig {
    /// `None` leaves the driver's key.
    pub key: Option<RssKey>,
    /// Kinds the device does not know are left out; at least one must remain.
    pub types: RssTypes,
    /// Queue of each RETA entry, as many as [`PortInfo::reta_size`](crate::PortInfo); `None` spreads
    /// evenly, as drivers do.
    pub reta: Option<Vec<u16>>,
}

impl Default for RssConfig {
    fn default() -> Self {
        Self { key: Some(RssKey::MICROSOFT), types: RssTypes::TCP, reta: None }
    }
}

/// The Toeplitz hash with one key, as tables: 36 KiB, one look-up per input byte.
///
/// The hash is linear over XOR, so `hash(a ^ b) == hash(a) ^ hash(b)`: to look for a source port,
/// hash the flow with port 0 once and XOR [`port_part`](Self::port_part) of each candidate.
#[derive(Clone)]
pub struct Toeplitz {
    tables: Box<[[u32; 256]; INPUT_MAX]>,
}

impl Toeplitz {
    pub fn new(key: &RssKey) -> Self {
        let key = key.as_bytes();
        let mut tables = Box::new([[0u32; 256]; INPUT_MAX]);
        for (at, table) in tables.iter_mut().enumerate() {
            // The 32-bit windows of the key that start at each bit of this byte.
            let window = key[at..at + 5].iter().fold(0u64, |w, &b| w << 8 | u64::from(b));
            for (byte, entry) in table.iter_mut().enumerate() {
                for bit in 0..8 {
                    if byte & (0x80 >> bit) != 0 {
                        *entry ^= (window >> (8 - bit)) as u32;
                    }
                }
            }
        }
        Self { tables }
    }

    /// Hash of raw input; bytes beyond 36, more than any TCP flow has, are ignored.
    pub fn hash(&self, input: &[u8]) -> u32 {
        self.part(0, input)
    }

    fn part(&self, at: usize, input: &[u8]) -> u32 {
        self.tables.iter().skip(at).zip(input).fold(0, |h, (t, &b)| h ^ t[usize::from(b)])
    }

    /// Hash of a TCP flow over IPv4, as the receiver of the packet computes it.
    pub fn tcp_v4(&self, src: Ipv4Addr, dst: Ipv4Addr, src_port: u16, dst_port: u16) -> u32 {
        self.part(0, &src.octets())
            ^ self.part(4, &dst.octets())
            ^ self.part(8, &src_port.to_be_bytes())
            ^ self.part(10, &dst_port.to_be_bytes())
    }

    /// Hash of a TCP flow over IPv6, as the receiver of the packet computes it.
    pub fn tcp_v6(&self, src: Ipv6Addr, dst: Ipv6Addr, src_port: u16, dst_port: u16) -> u32 {
        self.part(0, &src.octets())
            ^ self.part(16, &dst.octets())
            ^ self.part(32, &src_port.to_be_bytes())
            ^ self.part(34, &dst_port.to_be_bytes())
    }

    /// What a destination port adds to a flow's hash with destination port 0. The local port of an
    /// outbound connection is the destination port of the packets that come back.
    pub fn port_part(&self, ip: crate::mbuf::IpVersion, dst_port: u16) -> u32 {
        let at = match ip {
            crate::mbuf::IpVersion::V4 => 10,
            crate::mbuf::IpVersion::V6 => 34,
        };
        self.part(at, &dst_port.to_be_bytes())
    }
}

impl std::fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Toeplitz")
    }
}

/// The queue that `hash` lands on. RETA sizes are powers of two; other sizes and an empty table
/// give `None`.
pub fn queue_of(reta: &[u16], hash: u32) -> Option<u16> {
    if !reta.len().is_power_of_two() {
        return None;
    }
    reta.get(hash as usize & (reta.len() - 1)).copied()
}

/// Spreads `queues` (at least 1) evenly over a table of `size` entries.
pub fn even_reta(size: u16, queues: u16) -> Vec<u16> {
    (0..size).map(|entry| entry % queues.max(1)).collect()
}

impl Port<Started> {
    /// The key and the hashed kinds in force.
    ///
    /// # Errors
    /// The driver does not tell: the queue of a flow is unknown then.
    pub fn rss(&self) -> Result<(RssKey, RssTypes), DpdkError> {
        let len = self.info()?.rss_key_len.clamp(KEY_LEN as u8, dpdk_sys::CLGW_RSS_KEY_MAX as u8);
        let mut key = [0u8; dpdk_sys::CLGW_RSS_KEY_MAX];
        let mut types = 0u32;
        // SAFETY: an open port; `len` bytes of room for the key.
        let code = self
            .control(|id| unsafe { dpdk_sys::clgw_rss_get(id, key.as_mut_ptr(), len, &mut types) });
        self.checked("read RSS key of port", code, NO_RSS)?;
        Ok((RssKey::new(&key[..usize::from(len)])?, RssTypes::from_bits(types)))
    }

    /// Replaces the key and the hashed kinds. Packets on the way keep their queue.
    ///
    /// # Errors
    /// The driver cannot, or the port was configured without RSS.
    pub fn set_rss(&self, key: &RssKey, types: RssTypes) -> Result<(), DpdkError> {
        let wanted = usize::from(self.info()?.rss_key_len).max(KEY_LEN);
        let mut key = key.resized(wanted)?;
        // SAFETY: an open port; the key has the device's length.
        let code = self.control(|id| unsafe {
            dpdk_sys::clgw_rss_set(id, key.bytes.as_mut_ptr(), key.len, types.bits())
        });
        self.checked("set RSS key of port", code, NO_RSS).map(drop)
    }

    /// The queue of each RETA entry.
    ///
    /// # Errors
    /// The driver has no table it can show.
    pub fn reta(&self) -> Result<Vec<u16>, DpdkError> {
        let size = self.reta_size()?;
        let mut queues = vec![0u16; usize::from(size)];
        // SAFETY: an open port; room for `size` entries.
        let code =
            self.control(|id| unsafe { dpdk_sys::clgw_reta_get(id, queues.as_mut_ptr(), size) });
        self.checked("read RETA of port", code, NO_RSS)?;
        Ok(queues)
    }

    /// Replaces the RETA.
    ///
    /// # Errors
    /// Not as many entries as the device has, a queue that does not exist, or no table.
    pub fn set_reta(&self, queues: &[u16]) -> Result<(), DpdkError> {
        let size = self.reta_size()?;
        let op = "set RETA of port";
        if queues.len() != usize::from(size) {
            let hint = format!("{} entries were given, the device has {size}", queues.len());
            return Err(DpdkError::refused(op, self.name(), errno::EINVAL, hint));
        }
        if let Some(bad) = queues.iter().find(|&&queue| queue >= self.queues()) {
            let hint = format!("Queue {bad} does not exist; the port has {}", self.queues());
            return Err(DpdkError::refused(op, self.name(), errno::EINVAL, hint));
        }
        // SAFETY: an open port; `size` entries.
        let code = self.control(|id| unsafe { dpdk_sys::clgw_reta_set(id, queues.as_ptr(), size) });
        self.checked(op, code, NO_RSS).map(drop)
    }

    fn reta_size(&self) -> Result<u16, DpdkError> {
        match self.info()?.reta_size {
            0 => Err(DpdkError::refused(
                "find RETA of port",
                self.name(),
                errno::ENOTSUP,
                "The driver has no redirection table (on some VFs the PF decides): hand packets \
                 over between workers in software",
            )),
            size => Ok(size),
        }
    }
}

const NO_RSS: &str = "Configure the port with rss, on a driver that has it; otherwise hand packets \
                      over between workers in software";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mbuf::IpVersion;

    /// Source, destination (address and port), hash over addresses, hash with ports.
    type Vector<A> = (A, u16, A, u16, u32, u32);

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn v4_vectors() -> [Vector<Ipv4Addr>; 5] {
        [
            (v4("66.9.149.187"), 2794, v4("161.142.100.80"), 1766, 0x323e_8fc2, 0x51cc_c178),
            (v4("199.92.111.2"), 14230, v4("65.69.140.83"), 4739, 0xd718_262a, 0xc626_b0ea),
            (v4("24.19.198.95"), 12898, v4("12.22.207.184"), 38024, 0xd2d0_a5de, 0x5c2b_394a),
            (v4("38.27.205.30"), 48228, v4("209.142.163.6"), 2217, 0x8298_9176, 0xafc7_327f),
            (v4("153.39.163.191"), 44251, v4("202.188.127.2"), 1303, 0x5d18_09c5, 0x10e8_28a2),
        ]
    }

    fn v6_vectors() -> [Vector<Ipv6Addr>; 3] {
        let (a, b, c) = (
            v6("3ffe:2501:200:1fff::7"),
            v6("3ffe:501:8::260:97ff:fe40:efab"),
            v6("3ffe:1900:4545:3:200:f8ff:fe21:67cf"),
        );
        [
            (a, 2794, v6("3ffe:2501:200:3::1"), 1766, 0x2cc1_8cd5, 0x4020_7d3d),
            (b, 14230, v6("ff02::1"), 4739, 0x0f0c_461c, 0xdde5_1bbf),
            (c, 44251, v6("fe80::200:f8ff:fe21:67cf"), 38024, 0x4b61_e985, 0x02d1_feef),
        ]
    }

    #[test]
    fn the_published_ipv4_vectors_hold() {
        let toeplitz = Toeplitz::new(&RssKey::MICROSOFT);
        for (src, sport, dst, dport, addresses, ports) in v4_vectors() {
            let input = [src.octets(), dst.octets()].concat();
            assert_eq!(toeplitz.hash(&input), addresses, "{src} -> {dst}");
            assert_eq!(toeplitz.tcp_v4(src, dst, sport, dport), ports, "{src} -> {dst}");
        }
    }

    #[test]
    fn the_published_ipv6_vectors_hold() {
        let toeplitz = Toeplitz::new(&RssKey::MICROSOFT);
        for (src, sport, dst, dport, addresses, ports) in v6_vectors() {
            let input = [src.octets(), dst.octets()].concat();
            assert_eq!(toeplitz.hash(&input), addresses, "{src} -> {dst}");
            assert_eq!(toeplitz.tcp_v6(src, dst, sport, dport), ports, "{src} -> {dst}");
        }
    }

    #[test]
    fn the_symmetric_key_hashes_both_directions_alike() {
        let toeplitz = Toeplitz::new(&RssKey::SYMMETRIC);
        for (src, sport, dst, dport, ..) in v4_vectors() {
            let there = toeplitz.tcp_v4(src, dst, sport, dport);
            assert_eq!(there, toeplitz.tcp_v4(dst, src, dport, sport));
        }
        for (src, sport, dst, dport, ..) in v6_vectors() {
            let there = toeplitz.tcp_v6(src, dst, sport, dport);
            assert_eq!(there, toeplitz.tcp_v6(dst, src, dport, sport));
        }
    }

    #[test]
    fn a_port_can_be_searched_by_its_part_alone() {
        let toeplitz = Toeplitz::new(&RssKey::MICROSOFT);
        let (src, sport, dst, dport, _, ports) = v4_vectors()[0];
        let base = toeplitz.tcp_v4(src, dst, sport, 0);
        assert_eq!(base ^ toeplitz.port_part(IpVersion::V4, dport), ports);
        let (src, sport, dst, dport, _, ports) = v6_vectors()[0];
        let base = toeplitz.tcp_v6(src, dst, sport, 0);
        assert_eq!(base ^ toeplitz.port_part(IpVersion::V6, dport), ports);
    }

    #[test]
    fn longer_device_keys_give_the_same_hash() {
        let long = RssKey::MICROSOFT.resized(52).unwrap();
        assert_eq!(long.as_bytes().len(), 52);
        let (src, sport, dst, dport, _, ports) = v6_vectors()[1];
        assert_eq!(Toeplitz::new(&long).tcp_v6(src, dst, sport, dport), ports);
        assert!(RssKey::MICROSOFT.resized(16).is_err());
        assert!(RssKey::new(&[0; 65]).unwrap_err().hint.contains("40 to 64"));
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", RssKey::MICROSOFT), "RssKey(40 bytes)");
    }

    #[test]
    fn retas_map_hashes_to_queues() {
        let reta = even_reta(128, 3);
        assert_eq!(queue_of(&reta, 0x51cc_c178), Some((0x78 & 127) % 3));
        assert_eq!(queue_of(&[], 1), None);
        assert_eq!(queue_of(&[0, 1, 2], 1), None);
        assert_eq!(even_reta(4, 0), [0; 4]);
    }
}
