//! The door to the TCP engine. Behind it runs smoltcp; no smoltcp type passes through, so that
//! another engine can take its place.
//!
//! One [`TcpEngine`] per worker holds what all connections share (one packet interface per
//! [`Profile`]). A [`TcpConn`] is one connection: its sequence state and its two rings. A segment
//! costs the same however many connections are open, because the engine is only ever shown the
//! one connection that the flow table found.
//!
//! What the engine lacks, and what stands in for it:
//! - its initial sequence numbers follow from its seed, so each connection is opened on a
//!   throw-away interface seeded for the number [`isn`] wants (RFC 6528);
//! - a ring whose size is a power of two can be made to panic by a remote (the unscaled window of
//!   SYN|ACK is scaled too early), so [`ring_size`] gives 2^k-1;
//! - TIME-WAIT would keep both rings for 10 s, so the worker takes such a connection down at once
//!   and keeps its tuple in `flow::TimeWait`;
//! - two engines whose ACKs cross after losses in both directions ignore each other; see
//!   `duplicate`;
//! - a panic inside the engine ends that one connection ([`TcpEvent::Fault`]).

mod conn;
mod duplicate;
mod engine;
mod isn;

pub use conn::{ConnPool, TcpConn, TcpState};
pub use engine::{Profile, ProfileId, TcpEngine, TcpEvent};
pub use isn::IsnSecret;

/// Where the engine writes segments. One segment is one IP packet without link header.
pub trait SegmentSink {
    /// Whether at least one more segment can be taken.
    fn ready(&self) -> bool;

    /// Takes a segment of `len` bytes, written by `fill`. Without room the segment is written to
    /// scratch memory, lost and counted: to TCP it is a packet the network dropped.
    fn segment<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// How long the engine waits for something to carry an acknowledgement along.
pub const ACK_DELAY: std::time::Duration = std::time::Duration::from_millis(10);

/// Ring size for at least `bytes` of window: 2^k-1, see the module documentation.
pub const fn ring_size(bytes: usize) -> usize {
    let bytes = if bytes < MIN_RING { MIN_RING } else { bytes };
    let bytes = if bytes > MAX_RING { MAX_RING } else { bytes };
    // 64 KiB asks for 65535, not for 131071.
    bytes.next_power_of_two() - 1
}

/// One whole TLS record must fit with room to spare, or it could never be opened.
const MIN_RING: usize = 32 * 1024;
/// RFC 7323, section 2.3 bounds the window below 1 GiB.
const MAX_RING: usize = 512 * 1024 * 1024;

const _: () = assert!(ring_size(MIN_RING) > crate::limits::TLS_MAX_RECORD);

#[cfg(test)]
mod tests;
