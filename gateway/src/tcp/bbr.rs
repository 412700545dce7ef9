//! BBR (draft-ietf-ccwg-bbr): a model of the path, its bandwidth and its round-trip time, instead of
//! a reaction to each loss. Losses count where they are more than a path has by itself.

use std::time::Duration;

use super::congestion::{Acked, Controller, initial_window};
use crate::time::Instant;

/// Gains: of the startup, which doubles the rate each round; of its drain; and around the estimate.
const STARTUP_GAIN: f64 = 2.77;
const DRAIN_GAIN: f64 = 0.5;
const UP_GAIN: f64 = 1.25;
const DOWN_GAIN: f64 = 0.9;
const WINDOW_GAIN: f64 = 2.0;
const UP_WINDOW_GAIN: f64 = 2.25;
const PROBE_RTT_GAIN: f64 = 0.5;
/// Below the estimate, so that a queue empties in the long run.
const MARGIN: f64 = 0.99;
/// Losses of a round above which the path is thought to be full.
const LOSS_THRESHOLD: f64 = 0.02;
const BETA: f64 = 0.7;
/// What is left free for others while cruising.
const HEADROOM: f64 = 0.85;
/// The pipe is full if the bandwidth has not grown by a quarter in three rounds.
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u32 = 3;
/// Lossy rounds that end the startup.
const STARTUP_LOSSES: u32 = 6;
/// The smallest round-trip time counts for so long, and is looked for each
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
const LEAST_SEGMENTS: u32 = 4;
/// Time between probes for bandwidth.
const PROBE_WAIT: Duration = Duration::from_secs(2);
const PROBE_WAIT_SPREAD: u64 = 1_000;
/// Rounds between probes at the most: what a Reno flow of the same window would need.
const PROBE_ROUNDS: u32 = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

#[derive(Clone, Debug)]
pub(super) struct Bbr {
    mss: u32,
    phase: Phase,
    window: u32,
    /// Bytes per second: the largest of this cycle and of the last.
    bandwidth: [f64; 2],
    /// What the last losses allow.
    bandwidth_low: f64,
    inflight_low: f64,
    /// Beyond this there were too many losses.
    inflight_high: f64,
    min_rtt: Duration,
    min_rtt_at: Instant,
    probe_rtt_min: Duration,
    probe_rtt_at: Instant,
    probe_rtt_done: Option<Instant>,
    full: bool,
    full_bandwidth: f64,
    full_count: u32,
    /// Of this round.
    round_lost: u32,
    round_delivered: u32,
    lossy_rounds: u32,
    /// Largest rate of this round.
    latest: f64,
    latest_delivered: f64,
    cycle_at: Instant,
    wait: Duration,
    rounds: u32,
    /// How much the upper bound grows for what is acknowledged above it.
    up_rounds: u32,
    up_acked: u32,
    prior_window: u32,
    recovering: bool,
    seed: u64,
}

impl Bbr {
    pub fn new(mss: u32, seed: u64) -> Self {
        Self {
            mss,
            phase: Phase::Startup,
            window: initial_window(mss),
            bandwidth: [0.0; 2],
            bandwidth_low: f64::INFINITY,
            inflight_low: f64::INFINITY,
            inflight_high: f64::INFINITY,
            min_rtt: Duration::MAX,
            min_rtt_at: Instant::ZERO,
            probe_rtt_min: Duration::MAX,
            probe_rtt_at: Instant::ZERO,
            probe_rtt_done: None,
            full: false,
            full_bandwidth: 0.0,
            full_count: 0,
            round_lost: 0,
            round_delivered: 0,
            lossy_rounds: 0,
            latest: 0.0,
            latest_delivered: 0.0,
            cycle_at: Instant::ZERO,
            wait: PROBE_WAIT,
            rounds: 0,
            up_rounds: 0,
            up_acked: 0,
            prior_window: 0,
            recovering: false,
            seed,
        }
    }

    fn max_bandwidth(&self) -> f64 {
        self.bandwidth[0].max(self.bandwidth[1])
    }

    fn bandwidth(&self) -> f64 {
        self.max_bandwidth().min(self.bandwidth_low)
    }

    /// Bandwidth-delay product, bytes.
    fn product(&self, bandwidth: f64) -> f64 {
        if self.min_rtt == Duration::MAX {
            return f64::from(initial_window(self.mss));
        }
        bandwidth * self.min_rtt.as_secs_f64()
    }

    fn least(&self) -> f64 {
        f64::from(LEAST_SEGMENTS * self.mss)
    }

    fn inflight(&self, gain: f64) -> f64 {
        // A few segments more, for acknowledgements that come in bunches.
        (self.product(self.bandwidth()) * gain).max(self.least()) + f64::from(3 * self.mss)
    }

    fn pacing_gain(&self) -> f64 {
        match self.phase {
            Phase::Startup => STARTUP_GAIN,
            Phase::Drain => DRAIN_GAIN,
            Phase::Down => DOWN_GAIN,
            Phase::Up => UP_GAIN,
            Phase::Cruise | Phase::Refill | Phase::ProbeRtt => 1.0,
        }
    }

    fn window_gain(&self) -> f64 {
        match self.phase {
            Phase::Startup | Phase::Drain => WINDOW_GAIN,
            Phase::Up => UP_WINDOW_GAIN,
            Phase::ProbeRtt => PROBE_RTT_GAIN,
            Phase::Down | Phase::Cruise | Phase::Refill => WINDOW_GAIN,
        }
    }

    fn random(&mut self) -> u64 {
        // Enough to keep flows apart; nothing depends on its quality.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.seed >> 33
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        match phase {
            Phase::Down => {
                self.cycle_at = now;
                self.rounds = 0;
                let spread = self.random() % PROBE_WAIT_SPREAD;
                self.wait = PROBE_WAIT + Duration::from_millis(spread);
                self.bandwidth = [self.bandwidth[1], 0.0];
            }
            Phase::Refill => {
                (self.bandwidth_low, self.inflight_low) = (f64::INFINITY, f64::INFINITY);
                self.rounds = 0;
                (self.up_rounds, self.up_acked) = (0, 0);
            }
            Phase::Up => {
                self.cycle_at = now;
                self.rounds = 0;
                (self.full_bandwidth, self.full_count) = (self.max_bandwidth(), 0);
            }
            _ => {}
        }
    }

    fn too_lossy(&self) -> bool {
        let all = self.round_lost + self.round_delivered;
        self.round_lost > 0 && f64::from(self.round_lost) > LOSS_THRESHOLD * f64::from(all)
    }

    /// At the end of a round.
    fn round(&mut self, limited: bool) {
        let lossy = self.too_lossy();
        if lossy {
            self.lossy_rounds += 1;
        }
        if !self.full && limited {
            if self.max_bandwidth() >= self.full_bandwidth * FULL_GROWTH {
                (self.full_bandwidth, self.full_count) = (self.max_bandwidth(), 0);
            } else {
                self.full_count += 1;
            }
            let drowned = lossy && self.lossy_rounds >= STARTUP_LOSSES;
            self.full = self.full_count >= FULL_ROUNDS || drowned;
            if drowned {
                self.inflight_high = self.product(self.max_bandwidth()).max(self.latest_delivered);
            }
        }
        // RFC-less: the draft's adaptation of the lower bounds, once a round with losses.
        if lossy && !matches!(self.phase, Phase::Startup | Phase::Refill | Phase::Up) {
            if self.bandwidth_low == f64::INFINITY {
                self.bandwidth_low = self.max_bandwidth();
            }
            if self.inflight_low == f64::INFINITY {
                self.inflight_low = f64::from(self.window);
            }
            self.bandwidth_low = self.latest.max(BETA * self.bandwidth_low);
            self.inflight_low = self.latest_delivered.max(BETA * self.inflight_low);
        }
        self.rounds += 1;
        (self.round_lost, self.round_delivered) = (0, 0);
        (self.latest, self.latest_delivered) = (0.0, 0.0);
    }

    fn cycle(&mut self, acked: &Acked) {
        let now = acked.now;
        let flight = f64::from(acked.flight);
        match self.phase {
            Phase::Startup if self.full => self.enter(Phase::Drain, now),
            Phase::Startup => {}
            Phase::Drain if flight <= self.inflight(1.0) => self.enter(Phase::Down, now),
            Phase::Drain => {}
            Phase::Down | Phase::Cruise => {
                let reno = (f64::from(self.window) / f64::from(self.mss)) as u32;
                let waited = now.since(self.cycle_at) >= self.wait;
                if waited || self.rounds >= reno.min(PROBE_ROUNDS) {
                    return self.enter(Phase::Refill, now);
                }
                let room = self.inflight_high * HEADROOM;
                if self.phase == Phase::Down && flight <= room.min(self.inflight(1.0)) {
                    self.enter(Phase::Cruise, now);
                }
            }
            Phase::Refill if self.rounds >= 1 => self.enter(Phase::Up, now),
            Phase::Refill => {}
            Phase::Up => {
                if self.too_lossy() && self.round_delivered > 0 {
                    // The upper bound is where it hurt.
                    let tested = flight.max(self.latest_delivered);
                    self.inflight_high = tested.max(BETA * self.product(self.bandwidth()));
                    return self.enter(Phase::Down, now);
                }
                self.raise(acked);
                let full = flight > self.inflight(UP_GAIN);
                if now.since(self.cycle_at) > self.min_rtt && (full || self.rounds >= 3) {
                    self.enter(Phase::Down, now);
                }
            }
            Phase::ProbeRtt => {
                let least = (self.product(self.bandwidth()) * PROBE_RTT_GAIN).max(self.least());
                match self.probe_rtt_done {
                    None if flight <= least + f64::from(self.mss) => {
                        self.probe_rtt_done = Some(now + PROBE_RTT_TIME.max(self.min_rtt));
                    }
                    Some(done) if now >= done => {
                        self.probe_rtt_at = now;
                        self.probe_rtt_done = None;
                        self.window = self.window.max(self.prior_window);
                        (self.bandwidth_low, self.inflight_low) = (f64::INFINITY, f64::INFINITY);
                        let next = if self.full { Phase::Down } else { Phase::Startup };
                        self.enter(next, now);
                        if self.full {
                            self.phase = Phase::Cruise;
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// The upper bound grows ever faster while nothing is lost there.
    fn raise(&mut self, acked: &Acked) {
        if self.inflight_high == f64::INFINITY || !acked.limited {
            return;
        }
        self.up_acked = self.up_acked.saturating_add(acked.bytes);
        let growth = 2u32.saturating_pow(self.up_rounds.min(16));
        let per = (self.window / growth).max(self.mss);
        while self.up_acked >= per {
            self.up_acked -= per;
            self.inflight_high += f64::from(self.mss);
        }
        if acked.round {
            self.up_rounds += 1;
        }
    }

    fn update_rtt(&mut self, acked: &Acked) {
        let Some(rtt) = acked.rtt else { return };
        let now = acked.now;
        let due = now.since(self.probe_rtt_at) > PROBE_RTT_INTERVAL;
        if rtt <= self.probe_rtt_min || due {
            if due && rtt > self.probe_rtt_min && self.phase != Phase::ProbeRtt && self.full {
                self.prior_window = self.window;
                self.probe_rtt_done = None;
                self.enter(Phase::ProbeRtt, now);
            }
            (self.probe_rtt_min, self.probe_rtt_at) = (rtt, now);
        }
        if self.probe_rtt_min <= self.min_rtt || now.since(self.min_rtt_at) > MIN_RTT_WINDOW {
            (self.min_rtt, self.min_rtt_at) = (self.probe_rtt_min, self.probe_rtt_at);
        }
    }

    fn set_window(&mut self, acked: &Acked) {
        let target = self.inflight(self.window_gain());
        let mut window = f64::from(self.window);
        let grown = window + f64::from(acked.bytes);
        if self.full {
            window = grown.min(target);
        } else if window < target || self.max_bandwidth() == 0.0 {
            window = grown;
        }
        let bound = match self.phase {
            Phase::Startup | Phase::Drain | Phase::Refill | Phase::Up => self.inflight_high,
            Phase::Cruise | Phase::ProbeRtt => {
                (self.inflight_high * HEADROOM).min(self.inflight_low)
            }
            Phase::Down => self.inflight_high.min(self.inflight_low),
        };
        window = window.min(bound.max(self.least())).max(self.least());
        if self.phase == Phase::ProbeRtt {
            let least = (self.product(self.bandwidth()) * PROBE_RTT_GAIN).max(self.least());
            window = window.min(least);
        }
        self.window = window.min(f64::from(u32::MAX / 4)) as u32;
    }
}

impl Controller for Bbr {
    fn window(&self) -> u32 {
        self.window
    }

    fn threshold(&self) -> u32 {
        u32::MAX
    }

    fn acked(&mut self, acked: &Acked) {
        self.round_delivered = self.round_delivered.saturating_add(acked.bytes);
        self.round_lost = self.round_lost.saturating_add(acked.lost);
        if let Some(rate) = acked.rate {
            self.latest = self.latest.max(rate.bandwidth);
            self.latest_delivered = self.latest_delivered.max(f64::from(rate.delivered));
            if !rate.limited_by_application || rate.bandwidth > self.max_bandwidth() {
                self.bandwidth[1] = self.bandwidth[1].max(rate.bandwidth);
            }
        }
        self.update_rtt(acked);
        let limited = acked.rate.is_some_and(|rate| !rate.limited_by_application);
        self.cycle(acked);
        if acked.round {
            self.round(limited);
        }
        self.set_window(acked);
    }

    fn lost(&mut self, _: Instant, _: u32) {}

    fn timed_out(&mut self, _: Instant, flight: u32) {
        self.prior_window = self.prior_window.max(self.window);
        self.window = self.mss.max(flight.min(self.mss));
        self.recovering = true;
    }

    fn undo(&mut self) {
        self.window = self.window.max(self.prior_window);
        (self.bandwidth_low, self.inflight_low) = (f64::INFINITY, f64::INFINITY);
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.recovering) {
            self.window = self.window.max(self.prior_window);
        }
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
    }

    fn pacing(&self) -> Option<f64> {
        let bandwidth = self.bandwidth();
        if bandwidth > 0.0 {
            return Some(bandwidth * self.pacing_gain() * MARGIN);
        }
        None
    }
}
