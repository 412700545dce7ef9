//! What BBR knows of the path, and how an acknowledgement changes it.

use std::time::Duration;

use super::{BETA, Bbr, LOSS_THRESHOLD, State};
use crate::tcp::congestion::{Acked, Sample, initial_window};

/// So many segments lost say nothing of the share of them: one of 30 would be 3 %.
const LOSS_SEGMENTS: u32 = 3;
/// A round trip that is so much longer than the shortest one waits in a queue; less says nothing.
const QUEUE_GAIN: f64 = 1.25;
const QUEUE_LEAST: Duration = Duration::from_millis(2);
/// Left free for others while cruising.
const HEADROOM: f64 = 0.15;
/// Segments that keep acknowledgements coming.
const LEAST_SEGMENTS: u32 = 4;
/// Growth of a round below which the pipe is full, and for how many rounds.
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u32 = 3;
/// Time of sending that may leave at once: acknowledgements and timers come in lumps.
const QUANTUM: f64 = 0.000_25;
const QUANTUM_MAX: f64 = 65_536.0;
/// Rounds for which a lump of acknowledgements is remembered, halved.
const AGGREGATION_ROUNDS: u32 = 5;
/// Gaps of a round in startup that mean a full pipe, if they are too many for their round.
const STARTUP_GAPS: u32 = 6;

impl Bbr {
    pub(super) fn most_bandwidth(&self) -> f64 {
        self.max_bandwidth[0].max(self.max_bandwidth[1])
    }

    pub(super) fn bandwidth(&self) -> f64 {
        let most = self.most_bandwidth();
        self.low_bandwidth.map_or(most, |low| most.min(low))
    }

    /// Bandwidth-delay product times `gain`, bytes.
    pub(super) fn product(&self, bandwidth: f64, gain: f64) -> f64 {
        match self.min_rtt {
            Some(rtt) => gain * bandwidth * rtt.as_secs_f64(),
            None => f64::from(initial_window(self.mss)),
        }
    }

    pub(super) fn least(&self) -> u32 {
        LEAST_SEGMENTS * self.mss
    }

    pub(super) fn quantum(&self) -> f64 {
        (self.pacing * QUANTUM).min(QUANTUM_MAX).max(f64::from(2 * self.mss))
    }

    /// What the path holds at `gain`, with room for senders and receivers that work in lumps.
    pub(super) fn inflight(&self, bandwidth: f64, gain: f64) -> u32 {
        let lumps = 3.0 * self.quantum();
        let bytes = self.product(bandwidth, gain).max(lumps).max(f64::from(self.least()));
        let more = if self.state == State::Up { 2 * self.mss } else { 0 };
        (bytes as u32).saturating_add(more)
    }

    pub(super) fn with_headroom(&self) -> u32 {
        match self.high_flight {
            None => u32::MAX,
            Some(high) => {
                let headroom = (f64::from(high) * HEADROOM).max(f64::from(self.mss));
                high.saturating_sub(headroom as u32).max(self.least())
            }
        }
    }

    pub(super) fn target(&self) -> u32 {
        (self.product(self.bandwidth(), 1.0) as u32).min(self.window)
    }

    pub(super) fn start_round(&mut self, delivered: u64) {
        self.round_end = delivered;
    }

    pub(super) fn update_rounds(&mut self, acked: &Acked, sample: &Sample) {
        self.round = sample.prior >= self.round_end;
        if self.round {
            self.start_round(acked.delivered);
            self.rounds_since_probe += 1;
        }
        self.loss_round = sample.prior >= self.loss_round_end;
        if self.loss_round {
            self.loss_round_end = acked.delivered;
        }
    }

    pub(super) fn update_bandwidth(&mut self, sample: &Sample) {
        self.latest_bandwidth = self.latest_bandwidth.max(sample.rate);
        self.latest_flight = self.latest_flight.max(sample.bytes);
        if sample.rate >= self.most_bandwidth() || !sample.app_limited {
            self.max_bandwidth[0] = self.max_bandwidth[0].max(sample.rate);
        }
    }

    /// Losses outside of a probe, many or from a queue that stands: others want a share.
    pub(super) fn adapt_lower_bounds(&mut self, acked: &Acked) {
        let arrived = acked.delivered.saturating_sub(self.loss_round_begin);
        let passed = u32::try_from(arrived).unwrap_or(u32::MAX).saturating_add(self.lost_in_round);
        let many = self.marked_in_round || self.too_many(self.lost_in_round, passed);
        let overflowed = self.lost_in_round > 0 && self.queue_stands();
        if !self.state.presses() && (many || overflowed) {
            let low = self.low_bandwidth.unwrap_or_else(|| self.most_bandwidth());
            self.low_bandwidth = Some((low * BETA).max(self.latest_bandwidth));
            let low = f64::from(self.low_flight.unwrap_or(self.window));
            self.low_flight = Some(((low * BETA) as u32).max(self.latest_flight));
        }
    }

    /// Not even the quickest segment of the round met an empty queue: what is lost now was lost there, and
    /// not on a lossy line.
    fn queue_stands(&self) -> bool {
        let (Some(recent), Some(min)) = (self.rtt_in_round, self.min_rtt) else { return false };
        recent > min.mul_f64(QUEUE_GAIN).max(min + QUEUE_LEAST)
    }

    /// Acknowledgements that come faster than the path carries have waited for each other.
    pub(super) fn update_lumps(&mut self, acked: &Acked) {
        let expected = self.bandwidth() * acked.now.since(self.lump_since).as_secs_f64();
        let mut beyond = self.lump - expected;
        if beyond <= 0.0 {
            (self.lump, self.lump_since, beyond) = (0.0, acked.now, 0.0);
        }
        self.lump += f64::from(acked.bytes);
        beyond += f64::from(acked.bytes);
        if self.round {
            self.lump_rounds += 1;
            if self.lump_rounds >= if self.full { AGGREGATION_ROUNDS } else { 1 } {
                (self.lumps, self.lump_rounds) = ([0, self.lumps[0]], 0);
            }
        }
        self.lumps[0] = self.lumps[0].max((beyond as u32).min(self.window));
    }

    pub(super) fn reset_full(&mut self, bandwidth: f64) {
        (self.full_bandwidth, self.full_rounds, self.full_now) = (bandwidth, 0, false);
    }

    pub(super) fn check_full(&mut self, sample: &Sample) {
        if self.full_now || sample.app_limited {
            return;
        }
        if sample.rate >= self.full_bandwidth * FULL_GROWTH {
            return self.reset_full(sample.rate);
        }
        if self.round {
            self.full_rounds += 1;
            self.full_now = self.full_rounds >= FULL_ROUNDS;
            self.full |= self.full_now;
        }
    }

    pub(super) fn check_startup_losses(&mut self, sample: &Sample) {
        let many = self.loss_round && self.gaps_in_round >= STARTUP_GAPS;
        if !self.full && many && self.too_many(sample.lost, sample.flight) {
            self.fill(self.latest_flight);
        }
    }

    /// Startup is over: more than `flight`, or what the model says, is too much.
    pub(super) fn fill(&mut self, flight: u32) {
        self.full = true;
        let held = self.product(self.most_bandwidth(), 1.0) as u32;
        self.high_flight = Some(held.max(flight));
    }

    pub(super) fn too_many(&self, lost: u32, flight: u32) -> bool {
        f64::from(lost) > f64::from(flight) * LOSS_THRESHOLD && lost > LOSS_SEGMENTS * self.mss
    }
}
