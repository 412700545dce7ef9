//! A [`Host`] on a simulated port.

use ipnet::IpNet;

use super::SIM_RING;
use crate::host::{self, HostConfig};
use crate::net::{MacAddr, Route};
use crate::port::sim::{SimFrame, SimPool, SimPort};
use crate::port::{PortCaps, RxChecksum, RxMeta};

pub type Host = host::Host<SimPort>;

/// What a simulated host is made from.
#[derive(Clone, Debug)]
pub struct HostSetup {
    pub mac: MacAddr,
    pub mtu: usize,
    pub addresses: Vec<IpNet>,
    /// Through which router everything else is reached.
    pub routes: Vec<Route>,
    /// Bytes of each receive and send buffer.
    pub buffer: usize,
    /// Frames of the pool.
    pub frames: usize,
    pub checksum_offload: bool,
}

impl Host {
    /// # Panics
    /// If the setup contradicts itself: it is written by hand.
    pub fn new(setup: HostSetup, seed: u64) -> Self {
        let HostSetup { mac, mtu, addresses, routes, buffer, frames, checksum_offload } = setup;
        let caps = PortCaps {
            mac,
            mtu,
            tx_checksum: checksum_offload,
            rx_checksum: checksum_offload,
            tso: false,
            rss: None,
        };
        let io = SimPort::new(caps, SimPool::new(frames, mtu), SIM_RING, frames);
        match Self::on_port(io, HostConfig { addresses, routes, buffer }, seed) {
            Ok(host) => host,
            Err(error) => panic!("host: {error}"),
        }
    }

    /// Puts a frame that arrived into the receive ring; it is lost if that is full.
    pub fn deliver(&mut self, mut frame: SimFrame) {
        use crate::port::FrameIo as _;
        let io = self.io_mut();
        if io.caps().rx_checksum {
            let good = RxChecksum::Good;
            frame.set_rx_meta(RxMeta { ip: good, l4: good, rss_hash: None });
        }
        io.deliver(frame);
    }

    /// Takes the oldest sent frame off the wire.
    pub fn collect(&mut self) -> Option<SimFrame> {
        self.io_mut().collect()
    }

    pub fn pool(&self) -> &SimPool {
        self.io().pool()
    }
}
