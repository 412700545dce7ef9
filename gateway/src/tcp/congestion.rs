//! Congestion control: how many bytes may be on their way.

use std::time::Duration;

use super::cubic::Cubic;
use crate::time::Instant;

/// Segments of the initial window (RFC 6928).
const INITIAL_SEGMENTS: u32 = 10;
const INITIAL_BYTES: u32 = 14_600;

/// What an acknowledgement, selective or not, brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acked {
    pub now: Instant,
    /// Bytes that are known to have arrived now and were not before.
    pub bytes: u32,
    /// Of the segment among them that was sent last, if it was sent once.
    pub rtt: Option<Duration>,
    pub smooth_rtt: Duration,
    /// The window, and not the application or the receiver, held the sender back.
    pub limited: bool,
    /// Begins a new round: something sent after the last round's begin has been acknowledged.
    pub round: bool,
}

/// A congestion controller. Recovery is the connection's own: it asks for the window before and
/// after, and sends by proportional rate reduction between.
pub(super) trait Controller {
    /// Bytes that may be on their way.
    fn window(&self) -> u32;
    /// What is below this grows by slow start; also where a recovery ends.
    fn threshold(&self) -> u32;
    /// Not called in recovery.
    fn acked(&mut self, acked: &Acked);
    /// Segments were lost: once for all of one window.
    fn lost(&mut self, now: Instant, flight: u32);
    /// Nothing came back: everything is lost.
    fn timed_out(&mut self, now: Instant, flight: u32);
    /// Begins with a single segment, since SYNs got lost (RFC 6928, section 2).
    fn restart(&mut self);
    /// Nothing was sent for longer than a time-out: what the path carries is not known any more.
    fn idled(&mut self);
    /// The last `lost` or `timed_out` was none.
    fn undo(&mut self);
    /// The recovery that `lost` began is over.
    fn recovered(&mut self);
    /// The largest segment changed.
    fn set_mss(&mut self, mss: u32);
}

pub(super) fn initial_window(mss: u32) -> u32 {
    (INITIAL_SEGMENTS * mss).min(INITIAL_BYTES.max(2 * mss))
}

/// The controller of a connection.
#[derive(Clone, Debug)]
pub(super) enum Control {
    Cubic(Cubic),
}

impl Control {
    pub fn cubic(mss: u32) -> Self {
        Self::Cubic(Cubic::new(mss))
    }

    pub fn get(&self) -> &dyn Controller {
        match self {
            Self::Cubic(cubic) => cubic,
        }
    }

    pub fn get_mut(&mut self) -> &mut dyn Controller {
        match self {
            Self::Cubic(cubic) => cubic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_window_is_rfc_6928s() {
        assert_eq!(initial_window(1_448), 14_480);
        assert_eq!(initial_window(536), 5_360);
        assert_eq!(initial_window(8_948), 17_896);
        assert_eq!(initial_window(60_000), 120_000);
    }
}
