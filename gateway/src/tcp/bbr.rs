//! BBR (draft-ietf-ccwg-bbr, version 3): a model of the path, from the rate at which segments
//! arrive and the shortest round trip, says how much may be on its way and how fast it leaves.
//! Losses bound the model only where there are more of them than a lossy line has.

use std::time::Duration;

use super::congestion::{Acked, Controller, Lost, Sample, initial_window};
use crate::time::Instant;

/// More than this share lost of what was on its way: too much was.
const LOSS_THRESHOLD: f64 = 0.02;
/// So many segments lost say nothing of the share of them: one of 30 would be 3 %.
const LOSS_SEGMENTS: u32 = 3;
/// Multiplicative decrease.
const BETA: f64 = 0.7;
/// Left free for others while cruising.
const HEADROOM: f64 = 0.15;
/// Below the estimate, so that a queue does not stand.
const MARGIN: f64 = 0.99;
/// Segments that keep acknowledgements coming.
const LEAST_SEGMENTS: u32 = 4;
/// Four times ln 2: doubles the rate each round.
const STARTUP_GAIN: f64 = 2.77;
/// Growth of a round below which the pipe is full, and for how many rounds.
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u32 = 3;
/// Gaps of a round in startup that mean a full pipe, if they are too many for their round.
const STARTUP_GAPS: u32 = 6;
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
const PROBE_RTT_GAIN: f64 = 0.5;
/// Between two probes for bandwidth: as many rounds as a Reno flow would need to come back, and two
/// to three seconds at the most.
const PROBE_ROUNDS_MAX: u32 = 63;
const PROBE_WAIT_MIN: Duration = Duration::from_secs(2);
const PROBE_WAIT_SPREAD_MS: u64 = 1_000;
/// Time of sending that may leave at once: acknowledgements and timers come in lumps.
const QUANTUM: f64 = 0.000_25;
const QUANTUM_MAX: f64 = 65_536.0;
/// Rounds for which a lump of acknowledgements is remembered, halved.
const AGGREGATION_ROUNDS: u32 = 5;

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

    // --- the model ------------------------------------------------------------------------------

    fn most_bandwidth(&self) -> f64 {
        self.max_bandwidth[0].max(self.max_bandwidth[1])
    }

    fn bandwidth(&self) -> f64 {
        let most = self.most_bandwidth();
        self.low_bandwidth.map_or(most, |low| most.min(low))
    }

    /// Bandwidth-delay product times `gain`, bytes.
    fn product(&self, bandwidth: f64, gain: f64) -> f64 {
        match self.min_rtt {
            Some(rtt) => gain * bandwidth * rtt.as_secs_f64(),
            None => f64::from(initial_window(self.mss)),
        }
    }

    fn least(&self) -> u32 {
        LEAST_SEGMENTS * self.mss
    }

    fn quantum(&self) -> f64 {
        (self.pacing * QUANTUM).min(QUANTUM_MAX).max(f64::from(2 * self.mss))
    }

    /// What the path holds at `gain`, with room for senders and receivers that work in lumps.
    fn inflight(&self, bandwidth: f64, gain: f64) -> u32 {
        let lumps = 3.0 * self.quantum();
        let bytes = self.product(bandwidth, gain).max(lumps).max(f64::from(self.least()));
        let more = if self.state == State::Up { 2 * self.mss } else { 0 };
        (bytes as u32).saturating_add(more)
    }

    fn with_headroom(&self) -> u32 {
        match self.high_flight {
            None => u32::MAX,
            Some(high) => {
                let headroom = (f64::from(high) * HEADROOM).max(f64::from(self.mss));
                high.saturating_sub(headroom as u32).max(self.least())
            }
        }
    }

    fn target(&self) -> u32 {
        (self.product(self.bandwidth(), 1.0) as u32).min(self.window)
    }

    fn start_round(&mut self, delivered: u64) {
        self.round_end = delivered;
    }

    fn update_rounds(&mut self, acked: &Acked, sample: &Sample) {
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

    fn update_bandwidth(&mut self, sample: &Sample) {
        self.latest_bandwidth = self.latest_bandwidth.max(sample.rate);
        self.latest_flight = self.latest_flight.max(sample.bytes);
        if sample.rate >= self.most_bandwidth() || !sample.app_limited {
            self.max_bandwidth[0] = self.max_bandwidth[0].max(sample.rate);
        }
    }

    /// Many losses outside of a probe: others want a share.
    fn adapt_lower_bounds(&mut self, acked: &Acked) {
        let arrived = acked.delivered.saturating_sub(self.loss_round_begin);
        let passed = u32::try_from(arrived).unwrap_or(u32::MAX).saturating_add(self.lost_in_round);
        let many = self.marked_in_round || self.too_many(self.lost_in_round, passed);
        if !self.state.presses() && many {
            let low = self.low_bandwidth.unwrap_or_else(|| self.most_bandwidth());
            self.low_bandwidth = Some((low * BETA).max(self.latest_bandwidth));
            let low = f64::from(self.low_flight.unwrap_or(self.window));
            self.low_flight = Some(((low * BETA) as u32).max(self.latest_flight));
        }
    }

    /// Acknowledgements that come faster than the path carries have waited for each other.
    fn update_lumps(&mut self, acked: &Acked) {
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

    fn reset_full(&mut self, bandwidth: f64) {
        (self.full_bandwidth, self.full_rounds, self.full_now) = (bandwidth, 0, false);
    }

    fn check_full(&mut self, sample: &Sample) {
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

    fn check_startup_losses(&mut self, sample: &Sample) {
        let many = self.loss_round && self.gaps_in_round >= STARTUP_GAPS;
        if !self.full && many && self.too_many(sample.lost, sample.flight) {
            self.fill(self.latest_flight);
        }
    }

    /// Startup is over: more than `flight`, or what the model says, is too much.
    fn fill(&mut self, flight: u32) {
        self.full = true;
        let held = self.product(self.most_bandwidth(), 1.0) as u32;
        self.high_flight = Some(held.max(flight));
    }

    fn too_many(&self, lost: u32, flight: u32) -> bool {
        f64::from(lost) > f64::from(flight) * LOSS_THRESHOLD && lost > LOSS_SEGMENTS * self.mss
    }

    // --- phases of probing for bandwidth ----------------------------------------------------------

    fn begin_down(&mut self, acked: &Acked) {
        self.reset_congestion();
        self.rounds_since_probe = self.random() % 2;
        let spread = u64::from(self.random()) % PROBE_WAIT_SPREAD_MS;
        self.wait = PROBE_WAIT_MIN + Duration::from_millis(spread);
        self.phase_since = acked.now;
        self.feedback = Feedback::Stopping;
        self.start_round(acked.delivered);
        self.state = State::Down;
    }

    fn begin_refill(&mut self, acked: &Acked) {
        (self.low_bandwidth, self.low_flight) = (None, None);
        self.up_rounds = 0;
        self.feedback = Feedback::Refilling;
        self.start_round(acked.delivered);
        self.state = State::Refill;
    }

    fn begin_up(&mut self, acked: &Acked, sample: &Sample) {
        self.feedback = Feedback::Starting;
        (self.probing, self.overshot) = (true, false);
        self.start_round(acked.delivered);
        self.reset_full(sample.rate);
        self.phase_since = acked.now;
        self.state = State::Up;
    }

    fn reset_congestion(&mut self) {
        (self.lost_in_round, self.marked_in_round) = (0, false);
        (self.latest_bandwidth, self.latest_flight) = (0.0, 0);
    }

    fn time_to_probe(&self, now: Instant) -> bool {
        let reno = (self.target() / self.mss.max(1)).min(PROBE_ROUNDS_MAX);
        now.since(self.phase_since) > self.wait || self.rounds_since_probe >= reno.max(1)
    }

    fn time_to_cruise(&self, flight: u32) -> bool {
        flight <= self.with_headroom() && flight <= self.inflight(self.most_bandwidth(), 1.0)
    }

    fn time_to_go_down(&mut self, acked: &Acked, sample: &Sample) -> bool {
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

    fn update_phase(&mut self, acked: &Acked, sample: &Sample) {
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

    fn adapt_upper_bounds(&mut self, acked: &Acked, sample: &Sample) {
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
    fn too_much(&mut self, flight: u32, app_limited: bool, acked: &Acked) {
        self.bound_flight(flight, app_limited);
        if self.state == State::Up {
            self.begin_down(acked);
        }
    }

    fn bound_flight(&mut self, flight: u32, app_limited: bool) {
        self.probing = false;
        if !app_limited {
            self.high_flight = Some(flight.max((f64::from(self.target()) * BETA) as u32));
        }
    }

    // --- round trips ------------------------------------------------------------------------------

    fn update_min_rtt(&mut self, acked: &Acked) {
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

    fn probe_rtt_window(&self) -> u32 {
        (self.product(self.bandwidth(), PROBE_RTT_GAIN) as u32).max(self.least())
    }

    fn probe_rtt(&mut self, acked: &Acked) {
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

    fn end_probe_rtt(&mut self, acked: &Acked) {
        self.recent_rtt_at = acked.now;
        self.window = self.window.max(self.prior);
        if self.full {
            self.begin_down(acked);
            self.state = State::Cruise;
        } else {
            self.state = State::Startup;
        }
    }

    // --- what comes of it -------------------------------------------------------------------------

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
