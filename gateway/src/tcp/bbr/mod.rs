//! BBR (draft-ietf-ccwg-bbr, version 3): a model of the path, from the rate at which segments
//! arrive and the shortest round trip, says how much may be on its way and how fast it leaves.
//! Losses bound the model only where a queue stands, or there are more of them than a lossy line has.

mod model;
mod probes;

use std::time::Duration;

use super::congestion::{Acked, Controller, Lost, initial_window};
use crate::time::Instant;

/// More than this share lost of what was on its way: too much was.
const LOSS_THRESHOLD: f64 = 0.02;
/// Multiplicative decrease.
const BETA: f64 = 0.7;
/// Below the estimate, so that a queue does not stand.
const MARGIN: f64 = 0.99;
/// Four times ln 2: doubles the rate each round.
const STARTUP_GAIN: f64 = 2.77;
const PROBE_RTT_GAIN: f64 = 0.5;
/// Between two probes for bandwidth, at the least.
const PROBE_WAIT_MIN: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Startup,
    Drain,
    /// The four phases of probing for bandwidth.
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

impl State {
    /// Of pacing and of the window.
    fn gains(self) -> (f64, f64) {
        match self {
            Self::Startup => (STARTUP_GAIN, 2.0),
            Self::Drain => (0.5, 2.0),
            Self::Down => (0.9, 2.0),
            Self::Cruise | Self::Refill => (1.0, 2.0),
            Self::Up => (1.25, 2.25),
            Self::ProbeRtt => (1.0, PROBE_RTT_GAIN),
        }
    }

    fn probes_bandwidth(self) -> bool {
        matches!(self, Self::Down | Self::Cruise | Self::Refill | Self::Up)
    }

    /// More is sent than is known to fit: losses are expected.
    fn presses(self) -> bool {
        matches!(self, Self::Startup | Self::Refill | Self::Up)
    }
}

/// What the acknowledgements that come now say of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feedback {
    None,
    Refilling,
    Starting,
    Probing,
    Stopping,
}

#[derive(Clone, Debug)]
pub(super) struct Bbr {
    mss: u32,
    window: u32,
    pacing: f64,
    paced: bool,
    state: State,
    random: u32,
    // --- rounds, by bytes delivered
    round_end: u64,
    round: bool,
    rounds_since_probe: u32,
    // --- bandwidth, bytes per second
    /// Of this cycle of probing and the one before.
    max_bandwidth: [f64; 2],
    /// What losses have left of it.
    low_bandwidth: Option<f64>,
    latest_bandwidth: f64,
    // --- on their way, bytes
    /// Above it too many were lost.
    high_flight: Option<u32>,
    low_flight: Option<u32>,
    latest_flight: u32,
    // --- losses
    loss_round_end: u64,
    loss_round: bool,
    /// Delivered when this round began.
    loss_round_begin: u64,
    /// Bytes, and marks that stand for more than any number of them.
    lost_in_round: u32,
    marked_in_round: bool,
    gaps_in_round: u32,
    /// The shortest of this round.
    rtt_in_round: Option<Duration>,
    // --- startup
    full_bandwidth: f64,
    full_rounds: u32,
    full_now: bool,
    full: bool,
    // --- probes
    feedback: Feedback,
    /// Losses of this probe have not been judged.
    probing: bool,
    /// It lost too much.
    overshot: bool,
    phase_since: Instant,
    wait: Duration,
    up_rounds: u32,
    // --- round trips
    min_rtt: Option<Duration>,
    min_rtt_at: Instant,
    recent_rtt: Option<Duration>,
    recent_rtt_at: Instant,
    probe_rtt_until: Option<Instant>,
    probe_rtt_round: bool,
    idle: bool,
    // --- lumps of acknowledgements
    lump_since: Instant,
    lump: f64,
    lumps: [u32; 2],
    lump_rounds: u32,
    // --- before the last loss
    before: Option<Before>,
    /// Window to come back to.
    prior: u32,
}

#[derive(Clone, Copy, Debug)]
struct Before {
    low_bandwidth: Option<f64>,
    low_flight: Option<u32>,
    high_flight: Option<u32>,
}

impl Bbr {
    pub fn new(mss: u32, seed: u32) -> Self {
        Self {
            mss,
            window: initial_window(mss),
            pacing: 0.0,
            paced: false,
            state: State::Startup,
            random: seed | 1,
            round_end: 0,
            round: false,
            rounds_since_probe: 0,
            max_bandwidth: [0.0; 2],
            low_bandwidth: None,
            latest_bandwidth: 0.0,
            high_flight: None,
            low_flight: None,
            latest_flight: 0,
            loss_round_end: 0,
            loss_round: false,
            loss_round_begin: 0,
            lost_in_round: 0,
            marked_in_round: false,
            gaps_in_round: 0,
            rtt_in_round: None,
            full_bandwidth: 0.0,
            full_rounds: 0,
            full_now: false,
            full: false,
            feedback: Feedback::None,
            probing: false,
            overshot: false,
            phase_since: Instant::ZERO,
            wait: PROBE_WAIT_MIN,
            up_rounds: 0,
            min_rtt: None,
            min_rtt_at: Instant::ZERO,
            recent_rtt: None,
            recent_rtt_at: Instant::ZERO,
            probe_rtt_until: None,
            probe_rtt_round: false,
            idle: false,
            lump_since: Instant::ZERO,
            lump: 0.0,
            lumps: [0; 2],
            lump_rounds: 0,
            before: None,
            prior: 0,
        }
    }

    fn random(&mut self) -> u32 {
        // xorshift: it only keeps flows from probing together.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }

    fn set_pacing(&mut self, acked: &Acked) {
        let initial = initial_window(self.mss);
        if self.pacing == 0.0 {
            let rtt = acked.smooth_rtt.max(Duration::from_micros(100)).as_secs_f64();
            self.pacing = STARTUP_GAIN * f64::from(initial) / rtt;
        }
        // The initial window may leave at once (RFC 6928).
        self.paced |= acked.delivered > u64::from(initial);
        let (gain, _) = self.state.gains();
        let rate = gain * self.bandwidth() * MARGIN;
        if self.full || rate > self.pacing {
            self.pacing = rate;
        }
    }

    fn set_window(&mut self, acked: &Acked) {
        let (_, gain) = self.state.gains();
        let most = self.inflight(self.bandwidth(), gain);
        let most = most.saturating_add(self.lumps[0].max(self.lumps[1]));
        let grown = self.window.saturating_add(acked.bytes);
        let initial = initial_window(self.mss);
        if self.full {
            self.window = grown.min(most);
        } else if self.window < most || acked.delivered < u64::from(initial) {
            self.window = grown;
        }
        let bound = match self.state {
            State::ProbeRtt => self.probe_rtt_window(),
            State::Cruise => self.with_headroom(),
            state if state.probes_bandwidth() => self.high_flight.unwrap_or(u32::MAX),
            _ => u32::MAX,
        };
        let bound = bound.min(self.low_flight.unwrap_or(u32::MAX));
        self.window = self.window.min(bound).max(self.least());
    }

    fn save_window(&mut self) {
        let probes_rtt = self.state == State::ProbeRtt;
        self.prior = if probes_rtt { self.prior.max(self.window) } else { self.window };
    }
}

impl Controller for Bbr {
    fn window(&self) -> u32 {
        self.window
    }

    fn threshold(&self) -> u32 {
        self.window
    }

    fn pacing(&self) -> Option<f64> {
        self.paced.then_some(self.pacing)
    }

    fn reduces(&self) -> bool {
        false
    }

    fn acked(&mut self, acked: &Acked) {
        self.round = false;
        if let Some(sample) = acked.sample {
            self.update_rounds(acked, &sample);
            self.update_bandwidth(&sample);
            self.rtt_in_round = [self.rtt_in_round, acked.rtt].into_iter().flatten().min();
            if self.loss_round {
                self.adapt_lower_bounds(acked);
            }
            self.update_lumps(acked);
            self.check_full(&sample);
            self.check_startup_losses(&sample);
            if self.state == State::Startup && self.full {
                self.state = State::Drain;
            }
            if self.state == State::Drain
                && acked.flight <= self.inflight(self.most_bandwidth(), 1.0)
            {
                self.begin_down(acked);
            }
            self.update_phase(acked, &sample);
            self.update_min_rtt(acked);
            if self.loss_round {
                (self.lost_in_round, self.marked_in_round, self.gaps_in_round) = (0, false, 0);
                self.rtt_in_round = None;
                self.loss_round_begin = acked.delivered;
                (self.latest_bandwidth, self.latest_flight) = (sample.rate, sample.bytes);
            }
        }
        self.set_pacing(acked);
        self.set_window(acked);
    }

    fn lost(&mut self, lost: &Lost) {
        self.lost_in_round = self.lost_in_round.saturating_add(lost.bytes);
        self.gaps_in_round += u32::from(lost.apart);
        if self.probing && self.too_many(lost.lost, lost.flight) {
            // Of what was on its way, as much as would have lost just the bearable share.
            let flight = f64::from(lost.flight.saturating_sub(lost.bytes));
            let before = f64::from(lost.lost.saturating_sub(lost.bytes));
            let more = (LOSS_THRESHOLD * flight - before) / (1.0 - LOSS_THRESHOLD);
            self.bound_flight((flight + more.max(0.0)) as u32, lost.app_limited);
            // The next acknowledgement begins the way down.
            self.overshot = true;
        }
    }

    fn congested(&mut self, _: Instant, _: u32) {
        self.save_window();
        self.before = Some(Before {
            low_bandwidth: self.low_bandwidth,
            low_flight: self.low_flight,
            high_flight: self.high_flight,
        });
    }

    fn marked(&mut self, now: Instant, flight: u32) {
        self.congested(now, flight);
        self.marked_in_round = true;
        if self.probing {
            self.bound_flight(flight, false);
            self.overshot = true;
        }
        if !self.full {
            self.fill(flight);
        }
    }

    fn timed_out(&mut self, now: Instant, flight: u32) {
        self.congested(now, flight);
        self.window = self.mss;
    }

    fn restart(&mut self) {
        self.window = self.mss;
    }

    fn idled(&mut self, now: Instant) {
        // The path is taken to be as it was; a queue that others built is seen in the first round.
        self.idle = true;
        (self.lump_since, self.lump) = (now, 0.0);
        if self.state.probes_bandwidth() {
            self.pacing = self.bandwidth() * MARGIN;
        }
    }

    fn undo(&mut self) {
        self.lost_in_round = 0;
        self.reset_full(self.full_bandwidth);
        if let Some(before) = self.before.take() {
            self.window = self.window.max(self.prior);
            self.low_bandwidth = larger(self.low_bandwidth, before.low_bandwidth);
            self.low_flight = larger(self.low_flight, before.low_flight);
            self.high_flight = larger(self.high_flight, before.high_flight);
        }
    }

    fn recovered(&mut self) {
        if self.state != State::ProbeRtt {
            self.window = self.window.max(self.prior);
        }
    }

    fn mss(&self) -> u32 {
        self.mss
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
        self.window = self.window.max(self.least());
    }
}

/// Of two bounds, the one that binds less.
fn larger<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a < b { b } else { a }),
        _ => None,
    }
}
