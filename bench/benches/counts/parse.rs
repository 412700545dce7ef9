//! Ethernet frame to TCP segment.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clgw::limits::ETHERNET_HEADER;
use clgw::net::{Ingress, MacAddr, PortStack, PortStackConfig, TxSink};
use clgw::port::{RxChecksum, RxMeta, TxMeta};
use clgw::telemetry::Counters;
use clgw::time::Instant;
use gungraun::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber,
};

pub const FRAMES: usize = 100;
const PAYLOAD: usize = 1_400;
const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const THEIR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 1)];
const V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 2), Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 1)];

#[derive(Clone, Copy, PartialEq)]
enum Checksum {
    Device,
    Software,
}

/// Nothing is to be sent because of a TCP segment.
struct Nowhere;

impl TxSink for Nowhere {
    fn send(&mut self, _: usize, _: TxMeta, _: &mut dyn FnMut(&mut [u8])) -> bool {
        false
    }
}

struct Setup {
    stack: PortStack,
    frame: Vec<u8>,
    meta: RxMeta,
    counters: Counters,
}

fn frame(v6: bool) -> Vec<u8> {
    let payload: Vec<u8> = (0..PAYLOAD).map(|n| (n * 7) as u8).collect();
    let tcp = TcpRepr {
        src_port: 40_000,
        dst_port: 443,
        control: TcpControl::Psh,
        seq_number: TcpSeqNumber(1_000),
        ack_number: Some(TcpSeqNumber(2_000)),
        window_len: 60_000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &payload,
    };
    let payload_len = tcp.buffer_len();
    let (ether_type, [src, dst], ip): (u16, [IpAddress; 2], IpRepr) = if v6 {
        let [src_addr, dst_addr] = V6;
        let next_header = IpProtocol::Tcp;
        let repr = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: 64 };
        (0x86dd, V6.map(IpAddress::from), repr.into())
    } else {
        let [src_addr, dst_addr] = V4;
        let next_header = IpProtocol::Tcp;
        let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: 64 };
        (0x0800, V4.map(IpAddress::from), repr.into())
    };
    let mut frame = Vec::new();
    frame.extend(OUR_MAC.0);
    frame.extend(THEIR_MAC.0);
    frame.extend(ether_type.to_be_bytes());
    frame.resize(ETHERNET_HEADER + ip.buffer_len(), 0);
    let checksums = ChecksumCapabilities::default();
    let packet = &mut frame[ETHERNET_HEADER..];
    match ip {
        IpRepr::Ipv4(ip) => ip.emit(&mut Ipv4Packet::new_unchecked(&mut *packet), &checksums),
        IpRepr::Ipv6(ip) => ip.emit(&mut Ipv6Packet::new_unchecked(&mut *packet)),
    }
    let segment = &mut packet[ip.header_len()..];
    tcp.emit(&mut TcpPacket::new_unchecked(segment), &src, &dst, &checksums);
    frame
}

fn setup(v6: bool, checksum: Checksum) -> Setup {
    let config = PortStackConfig {
        mac: OUR_MAC,
        mtu: 1500,
        rx_checksum: checksum == Checksum::Device,
        addresses: [(IpAddr::V4(V4[1]), 16), (IpAddr::V6(V6[1]), 64)]
            .map(|(ip, length)| ipnet::IpNet::new(ip, length).expect("a valid prefix"))
            .to_vec(),
        vips: Vec::new(),
        routes: Vec::new(),
    };
    let verdict = match checksum {
        Checksum::Device => RxChecksum::Good,
        Checksum::Software => RxChecksum::Unknown,
    };
    Setup {
        stack: PortStack::new(config).expect("a valid port"),
        frame: frame(v6),
        meta: RxMeta { ip: verdict, l4: verdict, rss_hash: None },
        counters: Counters::default(),
    }
}

#[library_benchmark(setup = setup)]
#[bench::ipv4(args = (false, Checksum::Device))]
#[bench::ipv6(args = (true, Checksum::Device))]
#[bench::ipv4_checksum(args = (false, Checksum::Software))]
#[bench::ipv6_checksum(args = (true, Checksum::Software))]
fn ingress(mut setup: Setup) -> Setup {
    let Setup { stack, frame, meta, counters } = &mut setup;
    for _ in 0..FRAMES {
        let frame = black_box(frame.as_slice());
        let ingress = stack.ingress(Instant::from_millis(1), frame, *meta, &mut Nowhere, counters);
        assert!(matches!(black_box(&ingress), Ingress::Tcp(p) if p.payload_len == PAYLOAD));
    }
    setup
}

library_benchmark_group!(name = parse; benchmarks = ingress);
