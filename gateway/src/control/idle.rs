//! What a worker does between two turns. It is told how the last turn went and what time it is, and
//! says what to do; it neither sleeps nor reads a clock.
//!
//! Short gaps are spun through. How long is learned, as the kernel's haltpoll governor does: spinning
//! pays where the next frame comes before a sleep would have ended. Behind that a worker sleeps for as
//! long as the silence lasts already, so that sleeps double, up to a bound that grows with it.

use std::time::Duration;

use crate::config::IdlePolicy;
use crate::time::Instant;
use crate::worker::Turn;

/// What a sleep costs: timer, and switch there and back. Spinning for as long before it costs at most
/// twice the time that would have been best.
const SPIN_MIN: Duration = Duration::from_micros(5);
/// Longest gap that is spun through, where gaps are of that length.
const SPIN_MAX: Duration = Duration::from_micros(50);
/// Pause hints between two looks, which double up to this: about a microsecond.
const PAUSES_MAX: u32 = 16;

const SLEEP_MIN: Duration = Duration::from_micros(10);
/// No frame waits for longer than this, or than this part of the silence that it ends.
const SLEEP_BOUND: Duration = Duration::from_micros(50);
const SILENCE_PART: u32 = 40;
/// In a virtual machine a wake-up takes some 40 us of its CPU: 2 %. 1,000,000 frames a second that come
/// meanwhile fill half of af_packet's ring of 4,096.
const SLEEP_MAX: Duration = Duration::from_millis(2);

/// The same for sleeps that a frame ends: they grow with a tenth of the silence. What other workers
/// hand over and what the control thread wants raises no interrupt, and waits until their end.
const ARMED_BOUND: Duration = Duration::from_millis(1);
const ARMED_PART: u32 = 10;
const ARMED_MAX: Duration = Duration::from_millis(10);
const _: () = assert!(ARMED_MAX.as_millis() < super::TICK.as_millis());

/// What to do before the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    /// So many pause hints.
    Pause(u32),
    /// Arm the interrupts of all ports. The next turn finds what came before.
    Arm,
    Disarm,
    /// Sleep for so long, or until an interrupt where they are armed.
    Sleep(Duration),
}

#[derive(Debug)]
pub(super) struct Idle {
    policy: IdlePolicy,
    /// End of the last turn that found work.
    since: Instant,
    /// When the next turn should begin.
    expected: Instant,
    /// Gaps are spun through for this long.
    spin: Duration,
    pauses: u32,
    armed: Armed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    No,
    Yes,
    /// One has fired; some devices raise no other one until they are armed again.
    Fired,
}

impl Idle {
    pub fn new(policy: IdlePolicy, now: Instant) -> Self {
        Self { policy, since: now, expected: now, spin: SPIN_MAX, pauses: 1, armed: Armed::No }
    }

    /// The last sleep was ended by an interrupt.
    pub fn interrupted(&mut self) {
        self.armed = Armed::Fired;
    }

    /// After a turn that took from `began` to `now`.
    pub fn rest(&mut self, turn: Turn, began: Instant, now: Instant) -> Rest {
        if turn.busy {
            // Not by how much a sleep was too long, which says nothing about the frame.
            self.learn(began.min(self.expected).since(self.since));
            (self.since, self.expected, self.pauses) = (now, now, 1);
            return match std::mem::replace(&mut self.armed, Armed::No) {
                Armed::No => Rest::Nothing,
                Armed::Yes | Armed::Fired => Rest::Disarm,
            };
        }
        let rest = self.after_nothing(turn, now);
        self.expected = if let Rest::Sleep(time) = rest { now + time } else { now };
        rest
    }

    fn after_nothing(&mut self, turn: Turn, now: Instant) -> Rest {
        let left = turn.next.map_or(Duration::MAX, |at| at.since(now));
        if left.is_zero() {
            return Rest::Nothing;
        }
        let silence = now.since(self.since);
        match self.policy {
            IdlePolicy::Poll => Rest::Pause(1),
            _ if silence < self.spin || left < SPIN_MIN => {
                let pauses = self.pauses;
                self.pauses = (pauses * 2).min(PAUSES_MAX);
                Rest::Pause(pauses)
            }
            IdlePolicy::Interrupt if self.armed != Armed::Yes => {
                self.armed = Armed::Yes;
                Rest::Arm
            }
            IdlePolicy::Interrupt if !turn.awaits => {
                Rest::Sleep((silence / ARMED_PART).clamp(ARMED_BOUND, ARMED_MAX).min(left))
            }
            IdlePolicy::Interrupt | IdlePolicy::Sleep => {
                let bound = (silence / SILENCE_PART).clamp(SLEEP_BOUND, SLEEP_MAX);
                Rest::Sleep(silence.clamp(SLEEP_MIN, bound).min(left))
            }
        }
    }

    /// A gap has ended: was it right to sleep in it?
    fn learn(&mut self, gap: Duration) {
        if gap > SPIN_MAX {
            self.spin = (self.spin / 2).max(SPIN_MIN);
        } else if gap > self.spin {
            self.spin = (self.spin * 2).min(SPIN_MAX);
        }
    }
}

#[cfg(test)]
mod tests;
