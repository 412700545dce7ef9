//! Segments of nobody's, put in front of a gateway's port.

use std::net::Ipv4Addr;

use clgw::port::FrameIo;
use clgw::sim::World;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

/// Where a flood goes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub gateway: usize,
    pub port: usize,
    pub address: (Ipv4Addr, u16),
    /// The sources' network, a /24.
    pub network: Ipv4Addr,
}

/// The import of site A, from the clients' side.
pub const IMPORT: Target = Target {
    gateway: 0,
    port: 0,
    address: (Ipv4Addr::new(10, 1, 0, 80), 80),
    network: Ipv4Addr::new(10, 1, 0, 0),
};
/// The tunnel port of site B, from the side of its peers.
pub const TUNNEL: Target = Target {
    gateway: 1,
    port: 1,
    address: (Ipv4Addr::new(192, 0, 2, 2), 4_443),
    network: Ipv4Addr::new(192, 0, 2, 0),
};

impl Target {
    /// One of 60 sources, which is no host of the simulation.
    pub fn source(&self, n: u32) -> (Ipv4Addr, u16) {
        let [a, b, c, _] = self.network.octets();
        (Ipv4Addr::new(a, b, c, 10 + (n % 60) as u8), 1_000 + (n / 60) as u16)
    }

    /// Delivers a segment to the gateway's first worker.
    pub fn send(&self, world: &mut World, from: (Ipv4Addr, u16), segment: &TcpRepr<'_>) {
        let mac = |world: &mut World, gateway: usize| {
            world.gateways[gateway].workers[0].ports_mut().nth(self.port).unwrap().caps().mac.0
        };
        // Answers to hosts that do not exist reach nobody.
        let router = if self.gateway == 0 { [2, 0xbb, 0, 0, 0, 1] } else { mac(world, 0) };
        let macs = (mac(world, self.gateway), router);
        let frame = frame(macs, from, self.address, segment);
        let gateway = &mut world.gateways[self.gateway];
        let frame = gateway.pool().copy(&frame).unwrap();
        gateway.workers[0].ports_mut().nth(self.port).unwrap().deliver(frame);
    }

    /// SYNs, each of another connection.
    pub fn flood(&self, world: &mut World, numbers: std::ops::Range<u32>) {
        for n in numbers {
            self.send(world, self.source(n), &syn(n));
            if n % 64 == 63 {
                world.run_for(std::time::Duration::from_micros(20));
            }
        }
        world.run_for(std::time::Duration::from_micros(20));
    }
}

pub fn syn(n: u32) -> TcpRepr<'static> {
    TcpRepr {
        src_port: 0,
        dst_port: 0,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(n as i32),
        ack_number: None,
        window_len: 1_000,
        window_scale: None,
        max_seg_size: Some(1_460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

/// The segment that follows [`syn`].
pub fn ack(n: u32, ack: u32, payload: &'static [u8]) -> TcpRepr<'static> {
    TcpRepr {
        control: TcpControl::None,
        seq_number: TcpSeqNumber(n.wrapping_add(1) as i32),
        ack_number: Some(TcpSeqNumber(ack as i32)),
        max_seg_size: None,
        payload,
        ..syn(n)
    }
}

fn frame(
    (mac, router): ([u8; 6], [u8; 6]),
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    segment: &TcpRepr<'_>,
) -> Vec<u8> {
    let tcp = TcpRepr { src_port: from.1, dst_port: to.1, ..*segment };
    let ip = Ipv4Repr {
        src_addr: from.0,
        dst_addr: to.0,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut frame = vec![0; 14 + ip.buffer_len() + tcp.buffer_len()];
    frame[..6].copy_from_slice(&mac);
    frame[6..12].copy_from_slice(&router);
    frame[12..14].copy_from_slice(&[8, 0]);
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &checksums);
    tcp.emit(
        &mut TcpPacket::new_unchecked(&mut frame[14 + ip.buffer_len()..]),
        &IpAddress::Ipv4(from.0),
        &IpAddress::Ipv4(to.0),
        &checksums,
    );
    frame
}
