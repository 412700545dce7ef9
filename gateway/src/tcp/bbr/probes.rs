//! When BBR looks for more bandwidth and for a shorter round trip.

use std::time::Duration;

use super::{BETA, Bbr, Feedback, PROBE_RTT_GAIN, PROBE_WAIT_MIN, State};
use crate::tcp::congestion::{Acked, Sample};
use crate::time::Instant;

const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
/// Rounds between two probes for bandwidth at the most: as many as a Reno flow would need to come
/// back.
const PROBE_ROUNDS_MAX: u32 = 63;
/// Added at random to [`PROBE_WAIT_MIN`].
const PROBE_WAIT_SPREAD_MS: u64 = 1_000;

impl Bbr {
    pub(super) fn begin_down(&mut self, acked: &Acked) {
        self.reset_congestion();
        self.rounds_since_probe = self.random() % 2;
        let spread = u64::from(self.random()) % PROBE_WAIT_SPREAD_MS;
        self.wait = PROBE_WAIT_MIN + Duration::from_millis(spread);
        self.phase_since = acked.now;
        self.feedback = Feedback::Stopping;
        self.start_round(acked.delivered);
        self.state = State::Down;
    }

    pub(super) fn begin_refill(&mut self, acked: &Acked) {
        (self.low_bandwidth, self.low_flight) = (None, None);
        self.up_rounds = 0;
        self.feedback = Feedback::Refilling;
        self.start_round(acked.delivered);
        self.state = State::Refill;
    }

    pub(super) fn begin_up(&mut self, acked: &Acked, sample: &Sample) {
        self.feedback = Feedback::Starting;
        (self.probing, self.overshot) = (true, false);
        self.start_round(acked.delivered);
        self.reset_full(sample.rate);
        self.phase_since = acked.now;
        self.state = State::Up;
    }

    pub(super) fn reset_congestion(&mut self) {
        (self.lost_in_round, self.marked_in_round) = (0, false);
        (self.latest_bandwidth, self.latest_flight) = (0.0, 0);
    }

    pub(super) fn time_to_probe(&self, now: Instant) -> bool {
        let reno = (self.target() / self.mss.max(1)).min(PROBE_ROUNDS_MAX);
        now.since(self.phase_since) > self.wait || self.rounds_since_probe >= reno.max(1)
    }

    pub(super) fn time_to_cruise(&self, flight: u32) -> bool {
        flight <= self.with_headroom() && flight <= self.inflight(self.most_bandwidth(), 1.0)
    }

    pub(super) fn time_to_go_down(&mut self, acked: &Acked, sample: &Sample) -> bool {
        if self.overshot {
            return true;
        }
        if acked.limited && self.high_flight.is_some_and(|high| self.window >= high) {
            // The bound, and not the path, keeps the rate from growing.
            self.reset_full(sample.rate);
            return false;
        }
        self.full_now
    }

    pub(super) fn update_phase(&mut self, acked: &Acked, sample: &Sample) {
        if !self.full {
            return;
        }
        self.adapt_upper_bounds(acked, sample);
        let down = self.state == State::Up && self.time_to_go_down(acked, sample);
        match self.state {
            State::Down | State::Cruise if self.time_to_probe(acked.now) => {
                self.begin_refill(acked);
            }
            State::Down if self.time_to_cruise(acked.flight) => self.state = State::Cruise,
            // The pipe is full of what was sent at its rate: what is lost now is of the probe.
            State::Refill if self.round => self.begin_up(acked, sample),
            State::Up if down => self.begin_down(acked),
            _ => {}
        }
    }

    pub(super) fn adapt_upper_bounds(&mut self, acked: &Acked, sample: &Sample) {
        if self.round {
            match self.feedback {
                Feedback::Starting => self.feedback = Feedback::Probing,
                Feedback::Stopping => {
                    (self.feedback, self.probing) = (Feedback::None, false);
                    if self.state.probes_bandwidth() && !sample.app_limited {
                        // A cycle is over, and what the one before the last found is forgotten.
                        self.max_bandwidth = [0.0, self.max_bandwidth[0]];
                    }
                }
                _ => {}
            }
        }
        if self.too_many(sample.lost, sample.flight) {
            if self.probing {
                self.too_much(sample.flight, sample.app_limited, acked);
            }
            return;
        }
        let Some(high) = self.high_flight else { return };
        let mut high = high.max(sample.flight);
        if self.state == State::Up && acked.limited && self.window >= high {
            // Slowly at first, then doubled each round.
            if self.round {
                self.up_rounds = (self.up_rounds + 1).min(30);
            }
            let growth = f64::from(self.mss) * f64::from(1u32 << self.up_rounds);
            let share = f64::from(acked.bytes) / f64::from(self.window.max(1));
            high = high.saturating_add((growth * share).min(f64::from(acked.bytes)) as u32);
        }
        self.high_flight = Some(high);
    }

    /// The probe went too far.
    pub(super) fn too_much(&mut self, flight: u32, app_limited: bool, acked: &Acked) {
        self.bound_flight(flight, app_limited);
        if self.state == State::Up {
            self.begin_down(acked);
        }
    }

    pub(super) fn bound_flight(&mut self, flight: u32, app_limited: bool) {
        self.probing = false;
        if !app_limited {
            self.high_flight = Some(flight.max((f64::from(self.target()) * BETA) as u32));
        }
    }

    pub(super) fn update_min_rtt(&mut self, acked: &Acked) {
        let expired =
            self.recent_rtt.is_some() && acked.now.since(self.recent_rtt_at) > PROBE_RTT_INTERVAL;
        if let Some(rtt) = acked.rtt
            && (expired || self.recent_rtt.is_none_or(|recent| rtt <= recent))
        {
            (self.recent_rtt, self.recent_rtt_at) = (Some(rtt), acked.now);
        }
        let old = acked.now.since(self.min_rtt_at) > MIN_RTT_WINDOW;
        if let Some(recent) = self.recent_rtt
            && (old || self.min_rtt.is_none_or(|min| recent < min))
        {
            (self.min_rtt, self.min_rtt_at) = (Some(recent), self.recent_rtt_at);
        }
        if expired && !self.idle && self.state != State::ProbeRtt && self.min_rtt.is_some() {
            self.save_window();
            self.state = State::ProbeRtt;
            self.probe_rtt_until = None;
            self.feedback = Feedback::Stopping;
            self.start_round(acked.delivered);
        }
        if self.state == State::ProbeRtt {
            self.probe_rtt(acked);
        }
        self.idle &= acked.bytes == 0;
    }

    pub(super) fn probe_rtt_window(&self) -> u32 {
        (self.product(self.bandwidth(), PROBE_RTT_GAIN) as u32).max(self.least())
    }

    pub(super) fn probe_rtt(&mut self, acked: &Acked) {
        match self.probe_rtt_until {
            None if acked.flight <= self.probe_rtt_window() => {
                self.probe_rtt_until = Some(acked.now + PROBE_RTT_TIME);
                self.probe_rtt_round = false;
                self.start_round(acked.delivered);
            }
            None => {}
            Some(until) => {
                self.probe_rtt_round |= self.round;
                if self.probe_rtt_round && acked.now >= until {
                    self.end_probe_rtt(acked);
                }
            }
        }
    }

    pub(super) fn end_probe_rtt(&mut self, acked: &Acked) {
        self.recent_rtt_at = acked.now;
        self.window = self.window.max(self.prior);
        if self.full {
            self.begin_down(acked);
            self.state = State::Cruise;
        } else {
            self.state = State::Startup;
        }
    }
}
