//! A port on a wire made of vectors. Frames are put together here from the layouts in the RFCs,
//! not by the code under test.

mod arp;
mod config;
mod icmp;
mod ip;
mod ndp;
mod next_hop;
mod robustness;
mod tcp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Ingress, MacAddr, NeighbourEvent, PortStack, PortStackConfig, Resolve, Route, TxSink};
use crate::port::{RxMeta, TxMeta};
use crate::telemetry::{Counters, DropReason};
use crate::time::Instant;

const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const THEIRS: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x42]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x43]);
/// The solicited-node group of fd00::1 and fd00:9::1.
const GROUP_1: MacAddr = MacAddr([0x33, 0x33, 0xff, 0, 0, 1]);
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
const T0: Instant = Instant::from_millis(10_000);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn config() -> PortStackConfig {
    PortStackConfig {
        mac: OURS,
        mtu: 1500,
        rx_checksum: true,
        addresses: vec!["10.0.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap()],
        vips: vec![ip("10.0.9.9"), ip("fd00:9::9")],
        routes: vec![
            Route { to: "0.0.0.0/0".parse().unwrap(), via: ip("10.0.0.254") },
            Route { to: "::/0".parse().unwrap(), via: ip("fe80::fe") },
            Route { to: "10.7.0.0/16".parse().unwrap(), via: ip("10.0.0.7") },
        ],
    }
}

#[derive(Debug, Default)]
struct Wire {
    frames: Vec<Vec<u8>>,
    /// Refuse what comes.
    full: bool,
}

impl TxSink for Wire {
    fn send(&mut self, len: usize, _: TxMeta, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        if !self.full {
            // Whatever a buffer held before must not show.
            let mut frame = vec![0xa5; len];
            fill(&mut frame);
            self.frames.push(frame);
        }
        !self.full
    }
}

/// One port, its wire, its counters.
struct Host {
    stack: PortStack,
    wire: Wire,
    counters: Counters,
    events: Vec<NeighbourEvent>,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        Self {
            stack: PortStack::new(config()).unwrap(),
            wire: Wire::default(),
            counters: Counters::default(),
            events: Vec::new(),
            now: T0,
        }
    }

    fn receive<'f>(&mut self, frame: &'f [u8]) -> Ingress<'f> {
        self.receive_with(frame, RxMeta::default())
    }

    fn receive_with<'f>(&mut self, frame: &'f [u8], meta: RxMeta) -> Ingress<'f> {
        self.stack.ingress(self.now, frame, meta, &mut self.wire, &mut self.counters)
    }

    /// The one reason for which `frame` was dropped.
    #[track_caller]
    fn dropped(&mut self, frame: &[u8]) -> DropReason {
        let before = self.counters.clone();
        let ingress = self.receive(frame);
        assert!(matches!(ingress, Ingress::Consumed), "{ingress:?}");
        assert!(self.wire.frames.is_empty(), "answered: {:02x?}", self.wire.frames);
        let reasons: Vec<_> = DropReason::ALL
            .iter()
            .filter(|r| self.counters.drops(**r) != before.drops(**r))
            .copied()
            .collect();
        let [reason] = reasons[..] else { panic!("{reasons:?}") };
        assert_eq!(self.counters.drops(reason), before.drops(reason) + 1);
        reason
    }

    /// The one frame with which `frame` was answered.
    #[track_caller]
    fn answer(&mut self, frame: &[u8]) -> Vec<u8> {
        let ingress = self.receive(frame);
        assert!(matches!(ingress, Ingress::Consumed | Ingress::Neighbour { .. }), "{ingress:?}");
        self.sent()
    }

    /// The one frame on the wire.
    #[track_caller]
    fn sent(&mut self) -> Vec<u8> {
        let drops: Vec<_> = self.counters.all_drops().collect();
        assert_eq!(self.wire.frames.len(), 1, "frames; drops {drops:?}");
        self.wire.frames.remove(0)
    }

    fn resolve(&mut self, dst: &str) -> Resolve {
        self.stack.resolve(self.now, ip(dst), &mut self.wire, &mut self.counters)
    }

    /// Lets time pass in steps of 100 ms; returns what was sent meanwhile.
    fn wait(&mut self, millis: u64) -> Vec<Vec<u8>> {
        let end = self.now + crate::time::Duration::from_millis(millis);
        while self.now < end {
            self.now += crate::time::Duration::from_millis(100);
            if self.stack.next_deadline().is_some_and(|d| d <= self.now) {
                self.stack.poll(self.now, &mut self.wire, &mut self.events);
            }
        }
        std::mem::take(&mut self.wire.frames)
    }
}

fn eth(dst: MacAddr, src: MacAddr, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.0[..], &src.0, &ether_type.to_be_bytes(), payload].concat()
}

/// One's complement sum (RFC 1071), the slow way.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn ipv4_packet(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
    p.extend(v4(src).octets());
    p.extend(v4(dst).octets());
    p.extend(payload);
    let len = p.len() as u16;
    put(&mut p, 2, len);
    fix_ipv4(&mut p);
    p
}

/// Makes the header checksum right again.
fn fix_ipv4(p: &mut [u8]) {
    let header = usize::from(p[0] & 15) * 4;
    put(p, 10, 0);
    let check = !sum(&[&p[..header.min(p.len())]]);
    put(p, 10, check);
}

fn ipv6_packet(src: &str, dst: &str, next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x60, 0, 0, 0];
    p.extend((payload.len() as u16).to_be_bytes());
    p.extend([next, hop_limit]);
    p.extend(v6(src).octets());
    p.extend(v6(dst).octets());
    p.extend(payload);
    p
}

fn pseudo(src: &str, dst: &str, protocol: u8, len: usize) -> Vec<u8> {
    let octets = |text: &str| match ip(text) {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut p = [octets(src), octets(dst)].concat();
    p.extend((len as u32).to_be_bytes());
    p.extend([0, 0, 0, protocol]);
    p
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

struct Seg<'a> {
    src: &'a str,
    dst: &'a str,
    ports: (u16, u16),
    flags: u8,
    seq: u32,
    ack: u32,
    payload: &'a [u8],
}

impl Default for Seg<'_> {
    fn default() -> Self {
        Self {
            src: "10.0.0.5",
            dst: "10.0.0.1",
            ports: (40_000, 443),
            flags: SYN,
            seq: 0x0102_0304,
            ack: 0,
            payload: &[],
        }
    }
}

impl Seg<'_> {
    fn tcp(&self) -> Vec<u8> {
        let mut t = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
        t.extend(self.seq.to_be_bytes());
        t.extend(self.ack.to_be_bytes());
        t.extend([0x50, self.flags, 0x20, 0, 0, 0, 0, 0]);
        t.extend(self.payload);
        let check = !sum(&[&pseudo(self.src, self.dst, 6, t.len()), &t]);
        put(&mut t, 16, check);
        t
    }

    fn packet(&self) -> Vec<u8> {
        match ip(self.src) {
            IpAddr::V4(_) => ipv4_packet(self.src, self.dst, 6, &self.tcp()),
            IpAddr::V6(_) => ipv6_packet(self.src, self.dst, 6, 64, &self.tcp()),
        }
    }

    fn frame(&self) -> Vec<u8> {
        frame(&self.packet())
    }
}

/// An IP packet from THEIRS to OURS.
fn frame(packet: &[u8]) -> Vec<u8> {
    let ether_type = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    eth(OURS, THEIRS, ether_type, packet)
}

fn icmpv4(src: &str, dst: &str, head: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut m = [&head[..], body].concat();
    let check = !sum(&[&m]);
    put(&mut m, 2, check);
    ipv4_packet(src, dst, 1, &m)
}

fn icmpv6(src: &str, dst: &str, hop_limit: u8, head: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut m = [&head[..], body].concat();
    let check = !sum(&[&pseudo(src, dst, 58, m.len()), &m]);
    put(&mut m, 2, check);
    ipv6_packet(src, dst, 58, hop_limit, &m)
}

/// Checks everything that can be checked about an IP packet somebody sent: lengths, checksums.
#[track_caller]
fn assert_valid(packet: &[u8]) {
    let (src, dst, protocol, payload) = parts(packet);
    if packet[0] >> 4 == 4 {
        assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
        assert_eq!(sum(&[&packet[..20]]), 0xffff, "IPv4 checksum");
    }
    match protocol {
        1 => assert_eq!(sum(&[payload]), 0xffff, "ICMP checksum"),
        protocol => {
            let pseudo = pseudo(&src, &dst, protocol, payload.len());
            assert_eq!(sum(&[&pseudo, payload]), 0xffff, "checksum");
        }
    }
}

/// Source, destination, protocol, payload of a packet without options or extension headers.
fn parts(packet: &[u8]) -> (String, String, u8, &[u8]) {
    let v6_at = |at: usize| Ipv6Addr::from(*packet[at..].first_chunk::<16>().unwrap()).to_string();
    let v4_at = |at: usize| Ipv4Addr::from(*packet[at..].first_chunk::<4>().unwrap()).to_string();
    match packet[0] >> 4 {
        4 => (v4_at(12), v4_at(16), packet[9], &packet[20..]),
        _ => (v6_at(8), v6_at(24), packet[6], &packet[40..]),
    }
}
