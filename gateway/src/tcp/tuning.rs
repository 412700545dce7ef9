//! How large a receive window is shown: by what the application takes in a round trip, so that a
//! connection that moves little cannot fill much memory ("dynamic right-sizing").

use super::SQUEEZED;
use super::conn::TcpConn;
use super::seq::Seq;
use crate::time::Instant;

/// What may come before a round trip is over.
const FIRST_WINDOW: usize = 64 * 1024;
const _: () = assert!(FIRST_WINDOW > u16::MAX as usize, "a SYN's window is shown whole");
/// Beyond that windows are this many times what was taken in a round trip: a sender in slow start
/// has doubled twice before it sees the window that a round leads to.
const HEADROOM: u32 = 4;

#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    window: u32,
    /// First byte that was not taken when the round began.
    taken: Seq,
    /// A round is over with a segment that answers what was sent since it began, and echoes this
    /// clock or a later one; it lasts a tick at least, as clocks are no finer. Without timestamps,
    /// once the window shown then is full: this is its edge.
    mark: u32,
}

impl Tuning {
    pub fn new(limit: usize) -> Self {
        Self { window: limit.min(FIRST_WINDOW) as u32, taken: Seq(0), mark: 0 }
    }

    #[cfg(test)]
    pub fn window(&self) -> u32 {
        self.window
    }
}

impl TcpConn {
    /// The first byte of the other side that was not taken.
    fn untaken(&self) -> Seq {
        self.rcv_nxt - self.rx.len() as u32
    }

    fn mark(&self, now: Instant) -> u32 {
        if self.timestamps.is_some() { self.clock(now) } else { self.edge.0 }
    }

    /// The other side's numbers are known.
    pub(super) fn begin_tuning(&mut self, now: Instant) {
        (self.tuning.taken, self.tuning.mark) = (self.untaken(), self.mark(now));
    }

    /// A segment with payload has come, which echoes this clock.
    pub(super) fn tune_window(&mut self, now: Instant, echo: Option<u32>) {
        let mark = Seq(self.tuning.mark);
        let over = match self.timestamps {
            Some(_) => echo.is_some_and(|echo| Seq(echo).ge(mark)) && Seq(self.clock(now)).gt(mark),
            None => self.rcv_nxt.gt(mark),
        };
        if !over {
            return;
        }
        let taken = self.untaken().since(self.tuning.taken);
        let wanted = taken.saturating_mul(HEADROOM).saturating_add(FIRST_WINDOW as u32);
        let wanted = wanted.min(self.rx.limit() as u32);
        self.tuning.window = self.tuning.window.max(wanted);
        self.begin_tuning(now);
    }

    /// The window while nothing waits to be taken.
    pub(super) fn window_bound(&self) -> u32 {
        let most = if self.squeezed { SQUEEZED as u32 } else { u32::MAX };
        self.tuning.window.min(most)
    }

    /// Bytes that the other side may be told to send now.
    pub(super) fn window_room(&self) -> u32 {
        self.window_bound().saturating_sub(self.rx.len() as u32)
    }
}
