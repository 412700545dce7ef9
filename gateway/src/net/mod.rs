//! Layers 2 to 4 without TCP state: one [`PortStack`] per port and worker takes received frames,
//! answers ARP, NDP and ICMP, and hands TCP segments on; it also finds the next hop of what is
//! sent.
//!
//! What every frame has, Ethernet, IPv4 and TCP headers without their options, is read by hand: the
//! fields of an array whose length is known take a fraction of the instructions of `smoltcp::wire`,
//! which reads IPv6 and writes what is seldom sent. ARP and NDP are read here, too: their smoltcp types
//! need the feature `medium-ethernet`, which would bring Ethernet handling of its own.

mod arp;
mod config;
mod ethernet;
mod icmp;
mod icmp_error;
mod ip;
mod key;
mod local;
mod ndp;
mod neighbour;
mod next_hop;
mod rate;
mod route;
mod segment;
mod site;
mod stack;
mod steer;
#[cfg(test)]
mod tests;

pub use crate::port::MacAddr;
use crate::port::TxMeta;

pub use config::{PortStackConfig, StackError};
pub use key::{FlowKey, Ip};
pub use neighbour::{NeighbourEvent, NeighbourId};
pub use next_hop::Resolve;
pub use rate::TokenBucket;
pub use route::Route;
pub use segment::{TcpFlags, TcpPacket, likely_key, request_checksum};
pub use stack::{Ingress, PortStack};
pub use steer::Steering;

/// Where frames to send go.
pub trait TxSink {
    /// Writes one frame of `len` bytes, Ethernet header included. `fill` gets exactly those
    /// bytes; they are unspecified before. `false` = no room; the implementor has counted it.
    fn send(&mut self, len: usize, meta: TxMeta, fill: &mut dyn FnMut(&mut [u8])) -> bool;
}
