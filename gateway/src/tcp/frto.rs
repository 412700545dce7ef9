//! Time-outs that were none, where no timestamps tell of them (F-RTO, RFC 5682).
//!
//! Only the oldest segment is sent again at first. Once it has arrived, new ones are sent instead of
//! the next old ones: if what was on its way at the time-out is acknowledged then, it was late and
//! not lost, since nobody has sent it again.

use smoltcp::wire::TcpRepr;

use super::conn::{Repair, TcpConn};
use super::output::Next;
use super::seq::Seq;
use crate::time::Instant;

/// New segments, whose acknowledgements tell what has arrived (section 2.1, step 2).
const NEW_SEGMENTS: u8 = 2;

/// A time-out in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frto {
    No,
    /// Step 1: what lies before this is sent again, the oldest segment at the least.
    Again(Seq),
    /// Step 2: so many new segments may leave; those before `recover` were sent before the time-out.
    New {
        left: u8,
        recover: Seq,
    },
}

impl Frto {
    /// What ends here was sent again.
    pub fn sent_again(&mut self, end: Seq) {
        if let Self::Again(to) = self {
            *to = to.max(end);
        }
    }
}

impl TcpConn {
    /// Step 1: the time-out has expired. Not while losses are repaired: what was sent again for them
    /// would be taken for what was late. The next time-out of the same segment says nothing new.
    pub(super) fn doubt_time_out(&mut self) {
        let first = self.repair == Repair::No || matches!(self.frto, Frto::Again(_));
        let doubtful = first && self.timestamps.is_none();
        self.frto = if doubtful { Frto::Again(self.una) } else { Frto::No };
    }

    /// What leaves while a time-out is in doubt; `None` = what would without.
    pub(super) fn next_in_doubt(&mut self, now: Instant, mss: u32) -> Option<Option<Next>> {
        match self.frto {
            Frto::No => None,
            Frto::Again(end) => {
                let (_, (start, _)) = self.sent.first_lost()?;
                let due = start == self.una || start.lt(end);
                if due { None } else { Some(None) }
            }
            Frto::New { left: 0, .. } => Some(None),
            Frto::New { left, recover } => {
                let next = self.fresh(now, mss, false, 1);
                if next.is_some() {
                    self.frto = Frto::New { left: left - 1, recover };
                } else if left == NEW_SEGMENTS && !self.paced {
                    // Nothing new to send, or no window for it.
                    self.frto = Frto::No;
                    return None;
                }
                Some(next)
            }
        }
    }

    /// Steps 2 and 3: a segment has acknowledged everything before `una`. `repeats`: it is a
    /// duplicate of the one before; `brought`: it tells of something that was not known to have
    /// arrived, `advances`: in order.
    pub(super) fn judge_time_out(
        &mut self,
        segment: &TcpRepr<'_>,
        (repeats, brought, advances): (bool, bool, bool),
    ) {
        match (self.frto, self.repair) {
            (Frto::Again(end), Repair::Slow(recover)) if advances => {
                // Not all of what was sent again, or all there is.
                let over = self.una.lt(end) || self.una.ge(recover);
                let new = Frto::New { left: NEW_SEGMENTS, recover };
                self.frto = if over { Frto::No } else { new };
            }
            // Without selective acknowledgements it is of what lies behind a loss.
            (Frto::Again(_), _) if repeats && !self.sack => self.frto = Frto::No,
            (Frto::New { recover, .. }, _) => {
                let new_arrived = self.sack && self.highest_told(segment).gt(recover);
                if brought && !new_arrived {
                    self.sent.repeated_for_nothing();
                    self.nothing_was_lost();
                } else if brought || repeats {
                    self.loss_was_real();
                }
            }
            _ => {}
        }
    }

    /// Step 3a.
    fn loss_was_real(&mut self) {
        self.frto = Frto::No;
        if !self.sack {
            // Nothing tells that the new segments have arrived, so they would keep the window from
            // those that are lost.
            self.sent.lose_all();
        }
    }

    /// The highest number that a segment says to have arrived.
    fn highest_told(&self, segment: &TcpRepr<'_>) -> Seq {
        let ends = segment.sack_ranges.iter().flatten().map(|(_, end)| Seq(*end));
        ends.fold(self.una, Seq::max)
    }
}
