//! Segments on their way, and how fast segments arrived when they left.

use super::assembler::Block;
use super::seq::Seq;
use crate::time::Instant;

/// A segment, as it was last sent, or a run of them that left together and that nothing is known of
/// that would tell them apart. SYN and FIN take a number each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub start: Seq,
    pub end: Seq,
    /// Numbers of each segment but the last, which may be shorter. It is where a run may be cut.
    pub unit: u32,
    pub at: Instant,
    /// Sent more than once.
    pub again: bool,
    pub sacked: bool,
    /// Thought to be lost, and not sent again since.
    pub lost: bool,
    pub mark: Mark,
}

/// How [`Rate`] stood when a segment was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Nothing limited the sender but the application.
    pub app_limited: bool,
    /// On their way, the segment included.
    pub flight: u32,
    pub lost: u32,
    pub delivered: u64,
    pub delivered_at: Instant,
    pub first_at: Instant,
}

impl Sent {
    pub fn len(&self) -> u32 {
        self.end.since(self.start)
    }

    pub fn segments(&self) -> u32 {
        if self.len() <= self.unit { self.len().min(1) } else { self.len().div_ceil(self.unit) }
    }

    /// Its first segment.
    pub fn first(&self) -> Block {
        (self.start, self.end.min(self.start + self.unit))
    }

    /// Where its last segment begins.
    pub fn last(&self) -> Seq {
        self.start + (self.len() - 1) / self.unit * self.unit
    }

    /// Of a block that has arrived, the segments that are whole in it.
    pub fn within(&self, (start, end): Block) -> Block {
        let from = self.start + start.since(self.start).next_multiple_of(self.unit);
        let to = self.start + end.since(self.start) / self.unit * self.unit;
        (from, if end.ge(self.end) { self.end } else { to })
    }

    pub fn order(&self) -> (Instant, Seq) {
        (self.at, self.end)
    }
}

/// In the order of sending (RFC 8985, section 6.2): by time, and then by number.
pub(super) fn is_before((at, end): (Instant, Seq), (other_at, other_end): (Instant, Seq)) -> bool {
    at < other_at || (at == other_at && end.lt(other_end))
}

/// How fast segments arrive (draft-cheng-iccrg-delivery-rate-estimation).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    /// Bytes that have ever arrived, and when the last of them did.
    pub delivered: u64,
    pub delivered_at: Instant,
    /// Bytes that were ever lost; wraps.
    pub lost: u32,
    /// When the flight that is being measured began to be sent.
    pub first_at: Instant,
    /// Until so many bytes have arrived, what is seen is the application's pace; 0 = it is not.
    pub app_limited: u64,
}

impl Rate {
    pub fn mark(&self, flight: u32) -> Mark {
        let Self { delivered, delivered_at, lost, first_at, app_limited } = *self;
        Mark { app_limited: app_limited > 0, flight, lost, delivered, delivered_at, first_at }
    }

    pub fn lost_since(&self, mark: &Mark) -> u32 {
        self.lost.wrapping_sub(mark.lost)
    }
}
