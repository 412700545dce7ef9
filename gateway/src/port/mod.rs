//! The door to the wire: bursts of Ethernet frames in and out. Two implementations: DPDK and the
//! simulated wire. Nothing above this module knows which one it runs on.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use crate::limits::RX_BURST;
#[cfg(doc)]
use crate::limits::TSO_PACKET;

pub mod dpdk;
mod mac;
pub mod sim;
mod start;

pub use mac::{MacAddr, ParseMacError};
pub use start::{PortRequest, PortStartError, StartedPort, start, table_entries};

/// What is reached through a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Clients and services of the local site.
    Service,
    /// Gateways of other sites.
    Peer,
    /// Both, on a host with one interface.
    Both,
}

impl Side {
    pub fn is_service(self) -> bool {
        matches!(self, Self::Service | Self::Both)
    }

    pub fn is_peer(self) -> bool {
        matches!(self, Self::Peer | Self::Both)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Peer => "peer",
            Self::Both => "both",
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the device found out about a received frame's checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RxChecksum {
    /// Not looked at: verify in software.
    #[default]
    Unknown,
    Good,
    Bad,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct RxMeta {
    pub ip: RxChecksum,
    pub l4: RxChecksum,
    /// The device's RSS hash, where it gives one.
    pub rss_hash: Option<u32>,
}

/// What the device has to do to a frame on its way out. Lengths in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxMeta {
    pub l2_len: u8,
    pub l3_len: u8,
    pub l4_len: u8,
    pub ipv6: bool,
    /// Ask the device for the IPv4 header checksum and the TCP checksum.
    pub checksum: bool,
    /// Payload bytes per segment when the device is to cut this frame (TSO); 0 = do not cut.
    pub tso_segment: u16,
}

/// One Ethernet frame in device memory. Dropping it gives the buffer back.
pub trait Frame: Send + 'static {
    fn data(&self) -> &[u8];
    fn data_mut(&mut self) -> &mut [u8];
    /// Bytes this frame can hold.
    fn capacity(&self) -> usize;
    /// Sets the length of the frame; cut to [`Frame::capacity`]. New bytes are unspecified.
    fn set_len(&mut self, len: usize);
    fn rx_meta(&self) -> RxMeta;
    fn set_tx_meta(&mut self, meta: TxMeta);
}

/// How a device spreads received packets over its queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    pub key: Vec<u8>,
    /// Queue per hash bucket; the length is a power of two.
    pub reta: Vec<u16>,
}

impl Rss {
    /// What a device with a table of `entries` has to have in it to spread as this does; `None` if
    /// nothing makes it.
    pub fn table(&self, entries: u16) -> Option<Vec<u16>> {
        let entries = usize::from(entries);
        let repeats = |(n, queue): (usize, &u16)| self.reta[n % entries] == *queue;
        let can = entries.is_power_of_two() && self.reta.iter().enumerate().all(repeats);
        can.then(|| self.reta.iter().copied().cycle().take(entries).collect())
    }
}

/// What one port can do; fixed once the port runs.
#[derive(Clone, Debug)]
pub struct PortCaps {
    pub mac: MacAddr,
    /// Largest IP packet, bytes.
    pub mtu: usize,
    /// The device computes IPv4 and TCP checksums of sent frames.
    pub tx_checksum: bool,
    /// The device verifies checksums of received frames (see [`RxMeta`]).
    pub rx_checksum: bool,
    /// The device cuts packets of up to [`TSO_PACKET`] bytes into segments, IPv4 and IPv6. Only with
    /// `tx_checksum`.
    pub tso: bool,
    /// What the device was told and says that it does; `None` where it cannot be told or does not
    /// say: then workers hand frames to each other in software.
    pub rss: Option<Rss>,
}

pub type RxBurst<F> = ArrayVec<F, RX_BURST>;

/// One receive queue and one transmit queue of a port, owned by one worker.
pub trait FrameIo {
    type Frame: Frame;

    fn caps(&self) -> &PortCaps;

    /// Appends received frames in the order of their arrival; returns how many.
    fn rx_burst(&mut self, out: &mut RxBurst<Self::Frame>) -> usize;

    /// An empty frame to fill and send, `None` when the pool is exhausted.
    fn alloc(&mut self) -> Option<Self::Frame>;

    /// The same for a packet of [`TSO_PACKET`] bytes, which the device cuts.
    fn alloc_large(&mut self) -> Option<Self::Frame>;

    /// Sends from the front of `queue` what the device takes; the rest stays, in order. Returns
    /// how many were taken.
    fn tx_burst(&mut self, queue: &mut VecDeque<Self::Frame>) -> usize;
}
