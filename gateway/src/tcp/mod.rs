//! TCP (RFC 9293), sans I/O: segments and time go in, segments and deadlines come out.
//!
//! One [`TcpEngine`] per worker holds what all connections share, their memory included. A
//! [`TcpConn`] is one connection: its sequence state, and rings that borrow memory while bytes stand
//! in them. A segment costs the same however many connections are
//! open, because the engine is only ever shown the one connection that the flow table found.
//!
//! | what | where | of |
//! |---|---|---|
//! | states, acceptance, RST and SYN that may be forged | `input` | RFC 9293, 5961, 7323 (PAWS) |
//! | headers read and written | `header` | RFC 9293, 7323, 791, 8200 |
//! | what is sent, timers, the receive window | `output` | RFC 9293, 6298, 8985 (probes), 1122 |
//! | losses by time and selective acknowledgements | `scoreboard`, `sent` | RFC 8985 (RACK), 2018, 6675, 2883 |
//! | acknowledgements, and sending while losses are repaired | `acks` | RFC 6937; RFC 3522 for losses that were none |
//! | time-outs that were none, without timestamps | `frto` | RFC 5682 |
//! | congestion control | `congestion`, `cubic` | RFC 9438, 9406, 6928 |
//! | the same by a model of the path, paced | `bbr` | draft-ietf-ccwg-bbr |
//! | marks instead of losses | `ecn` | RFC 3168 |
//! | gaps, and what is said of them | `assembler` | RFC 2018, 2883 |
//! | initial sequence numbers | `isn` | RFC 6528 |
//! | buffers of all connections | `memory`, `ring` | |
//! | how large a receive window is shown | `tuning` | |
//! | handshakes without memory | `cookie` | RFC 4987 |
//! | paths that swallow long packets | `black_hole` | RFC 4821, 8899 |
//!
//! TIME-WAIT needs no connection: the worker takes it down once the last acknowledgement is out and
//! keeps its tuple in `flow::TimeWait`.

mod acks;
mod assembler;
mod bbr;
mod black_hole;
mod congestion;
mod conn;
mod cookie;
mod cubic;
mod ecn;
mod engine;
mod frto;
mod header;
mod input;
mod isn;
mod memory;
mod output;
mod ring;
mod rtt;
mod scoreboard;
mod sent;
mod seq;
mod tuning;

pub use conn::{BufferSide, TcpConn, TcpSettings, TcpState};
pub use cookie::Cookie;
pub use engine::{Profile, ProfileId, TcpEngine, TcpEvent};
pub use isn::IsnSecret;
pub use memory::Memory;

/// Where the engine writes segments. One segment is one IP packet without link header.
pub trait SegmentSink {
    /// Segments that can be taken now.
    fn room(&self) -> usize;

    /// Takes a segment of `len` bytes, written by `fill`. Without room the segment is written to
    /// scratch memory, lost and counted: to TCP it is a packet the network dropped.
    fn segment<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R;

    /// Bytes of the longest packet that can be taken now for the device to cut into segments (TSO); 0: none.
    fn cuts(&mut self) -> usize {
        0
    }

    /// Takes a packet of at most [`SegmentSink::cuts`] bytes, which was asked for just before. The device
    /// cuts it into segments with `segment` bytes of payload.
    fn cut(&mut self, len: usize, segment: u16, fill: impl FnOnce(&mut [u8])) {
        let _ = (len, segment, fill);
    }
}

/// How long an acknowledgement waits for something to carry it along.
const ACK_DELAY: std::time::Duration = std::time::Duration::from_millis(10);
/// Between two answers to segments that may be forged (RFC 5961, section 7).
const CHALLENGE_INTERVAL: std::time::Duration = std::time::Duration::from_millis(500);

/// Bytes that a ring holds for at least `bytes` of window.
pub const fn ring_size(bytes: usize) -> usize {
    let bytes = if bytes < MIN_RING { MIN_RING } else { bytes };
    if bytes > MAX_RING { MAX_RING } else { bytes }
}

/// One whole TLS record must fit with room to spare, or it could never be opened.
const MIN_RING: usize = 32 * 1024;
/// RFC 7323, section 2.3 bounds the window below 1 GiB.
const MAX_RING: usize = 512 * 1024 * 1024;
/// What a connection may hold in each direction while the worker's memory is tight.
const SQUEEZED: usize = MIN_RING;

const _: () = assert!(ring_size(MIN_RING) > crate::limits::TLS_MAX_RECORD);

#[cfg(test)]
pub(crate) mod tests;
