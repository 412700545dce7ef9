//! Congestion control: how many bytes may be on their way, and how fast they leave.

use std::time::Duration;

use super::bbr::Bbr;
use super::cubic::Cubic;
use crate::config::Congestion;
use crate::time::Instant;

/// Segments of the initial window (RFC 6928).
const INITIAL_SEGMENTS: u32 = 10;
const INITIAL_BYTES: u32 = 14_600;
/// Of a path that is not known.
const SOME_MSS: u32 = 536;

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
    /// Losses of an earlier window are still being repaired.
    pub recovering: bool,
    /// On their way now.
    pub flight: u32,
    /// All bytes that have ever arrived.
    pub delivered: u64,
    pub sample: Option<Sample>,
}

/// How fast a flight of segments arrived (draft-cheng-iccrg-delivery-rate-estimation).
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes per second; 0 if the time was too short to tell.
    pub rate: f64,
    /// The application had nothing to send meanwhile: the path may carry more.
    pub app_limited: bool,
    /// Bytes that arrived between the newest segment's departure and its acknowledgement.
    pub bytes: u32,
    /// [`Acked::delivered`] when it was sent.
    pub prior: u64,
    /// On their way when it was sent, itself included.
    pub flight: u32,
    /// Bytes lost since then.
    pub lost: u32,
}

/// A segment that was found to be lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub bytes: u32,
    /// On their way when it was sent, itself included.
    pub flight: u32,
    /// Bytes lost since then, itself included.
    pub lost: u32,
    pub app_limited: bool,
    /// Nothing else was lost right before it.
    pub apart: bool,
}

/// A congestion controller.
pub(super) trait Controller {
    /// Bytes that may be on their way.
    fn window(&self) -> u32;
    /// What is below this grows by slow start; also where a recovery ends.
    fn threshold(&self) -> u32;
    /// Bytes per second at which segments leave; `None` = as acknowledgements come.
    fn pacing(&self) -> Option<f64>;
    /// Whether what is sent in a recovery goes by proportional rate reduction (RFC 6937) towards the
    /// threshold; the window says it otherwise.
    fn reduces(&self) -> bool;
    fn acked(&mut self, acked: &Acked);
    /// Called for each segment, before `acked`.
    fn lost(&mut self, lost: &Lost);
    /// Segments were lost: once for all of one window.
    fn congested(&mut self, now: Instant, flight: u32);
    /// Segments were marked on the way (RFC 3168), and none was lost: once for all of one window.
    fn marked(&mut self, now: Instant, flight: u32);
    /// Nothing came back: everything is lost.
    fn timed_out(&mut self, now: Instant, flight: u32);
    /// Begins with a single segment, since SYNs got lost (RFC 6928, section 2).
    fn restart(&mut self);
    /// Nothing was sent for longer than a time-out: what the path carries is not known any more.
    fn idled(&mut self, now: Instant);
    /// The last `congested` or `timed_out` was none.
    fn undo(&mut self);
    /// The recovery that `congested` began is over.
    fn recovered(&mut self);
    /// Payload of a full segment.
    fn mss(&self) -> u32;
    fn set_mss(&mut self, mss: u32);
}

pub(super) fn initial_window(mss: u32) -> u32 {
    (INITIAL_SEGMENTS * mss).min(INITIAL_BYTES.max(2 * mss))
}

/// The controller of a connection.
#[derive(Clone, Debug)]
pub(super) enum Control {
    Cubic(Cubic),
    /// Apart, since it is four times as large.
    Bbr(Box<Bbr>),
}

impl Default for Control {
    fn default() -> Self {
        Self::Cubic(Cubic::new(SOME_MSS))
    }
}

impl Control {
    /// Before the path is known. In the memory of a controller that is not needed any more, if there
    /// is a `spare` one.
    pub fn new(congestion: Congestion, spare: impl FnOnce() -> Option<Box<Bbr>>) -> Self {
        match congestion {
            Congestion::Cubic => Self::default(),
            Congestion::Bbr => {
                let bbr = Bbr::new(SOME_MSS, 0);
                Self::Bbr(match spare() {
                    Some(mut memory) => {
                        *memory = bbr;
                        memory
                    }
                    None => Box::new(bbr),
                })
            }
        }
    }

    /// Begins anew, in the memory it has. `seed` spreads what connections do at the same time.
    pub fn reset(&mut self, mss: u32, seed: u32) {
        match self {
            Self::Cubic(cubic) => *cubic = Cubic::new(mss),
            Self::Bbr(bbr) => **bbr = Bbr::new(mss, seed),
        }
    }

    pub fn get(&self) -> &dyn Controller {
        match self {
            Self::Cubic(cubic) => cubic,
            Self::Bbr(bbr) => &**bbr,
        }
    }

    pub fn get_mut(&mut self) -> &mut dyn Controller {
        match self {
            Self::Cubic(cubic) => cubic,
            Self::Bbr(bbr) => &mut **bbr,
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
