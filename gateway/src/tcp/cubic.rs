//! CUBIC (RFC 9438), with slow start that ends when the round-trip time rises (RFC 9406,
//! HyStart++).

use std::time::Duration;

use super::congestion::{Acked, Controller, Lost, initial_window};
use crate::time::Instant;

/// Multiplicative decrease.
const BETA: f64 = 0.7;
/// Growth, segments per second cubed.
const C: f64 = 0.4;
/// Additive increase of the window that a Reno flow would have.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// HyStart++: samples of a round before its minimum counts, and how far a rise has to go.
const ROUND_SAMPLES: u32 = 8;
const RISE_MIN: Duration = Duration::from_millis(4);
const RISE_MAX: Duration = Duration::from_millis(16);
/// Rounds of slow start at a quarter of its pace, before it ends.
const CONSERVATIVE_ROUNDS: u32 = 5;
const CONSERVATIVE_DIVISOR: u32 = 4;

#[derive(Clone, Debug)]
pub(super) struct Cubic {
    mss: u32,
    window: u32,
    threshold: u32,
    /// Windows in segments, times in seconds, as in the RFC.
    w_max: f64,
    /// Before the last decrease; where Reno would be as fast again.
    w_prior: f64,
    k: f64,
    w_est: f64,
    epoch: Option<Instant>,
    /// Fractions of a byte that the window is due.
    credit: f64,
    slow_start: SlowStart,
    /// Window, threshold and w_max before the last decrease.
    before: Option<(u32, u32, f64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SlowStart {
    last_min: Option<Duration>,
    this_min: Option<Duration>,
    samples: u32,
    /// Minimum when it was left for the conservative rounds, and how many of them are left.
    conservative: Option<(Duration, u32)>,
}

impl Cubic {
    pub fn new(mss: u32) -> Self {
        Self {
            mss,
            window: initial_window(mss),
            threshold: u32::MAX,
            w_max: 0.0,
            w_prior: 0.0,
            k: 0.0,
            w_est: 0.0,
            epoch: None,
            credit: 0.0,
            slow_start: SlowStart::default(),
            before: None,
        }
    }

    fn segments(&self, bytes: u32) -> f64 {
        f64::from(bytes) / f64::from(self.mss)
    }

    /// RFC 9438, sections 4.6 and 4.7.
    fn decrease(&mut self, flight: u32) {
        self.before = Some((self.window, self.threshold, self.w_max));
        let now = self.segments(self.window);
        // Fast convergence: who had less than before leaves room for others.
        self.w_prior = now;
        self.w_max = if now < self.w_max { now * (1.0 + BETA) / 2.0 } else { now };
        // What the window allowed but nobody sent was not tested.
        let tested = self.window.min(flight.max(self.mss));
        self.threshold = ((f64::from(tested) * BETA) as u32).max(2 * self.mss);
        self.epoch = None;
        self.credit = 0.0;
        self.slow_start = SlowStart::default();
    }

    fn slow_start(&mut self, acked: &Acked) {
        let state = &mut self.slow_start;
        if acked.round {
            state.last_min = state.this_min.or(state.last_min);
            (state.this_min, state.samples) = (None, 0);
            if let Some((_, left)) = &mut state.conservative {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.threshold = self.window;
                    self.slow_start = SlowStart::default();
                    return;
                }
            }
        }
        if let Some(rtt) = acked.rtt {
            state.this_min = Some(state.this_min.map_or(rtt, |min| min.min(rtt)));
            state.samples += 1;
        }
        if let (Some(this), Some(last)) = (state.this_min, state.last_min)
            && state.samples >= ROUND_SAMPLES
        {
            let rise = (last / 8).clamp(RISE_MIN, RISE_MAX);
            match state.conservative {
                None if this >= last + rise => {
                    state.conservative = Some((this, CONSERVATIVE_ROUNDS));
                }
                // It had only looked like a queue.
                Some((then, _)) if this < then => state.conservative = None,
                _ => {}
            }
        }
        let divisor = if state.conservative.is_some() { CONSERVATIVE_DIVISOR } else { 1 };
        let grown = self.window.saturating_add(acked.bytes / divisor);
        self.window = if self.threshold == u32::MAX { grown } else { grown.min(self.threshold) };
    }

    /// RFC 9438, sections 4.2 to 4.5.
    fn avoid(&mut self, acked: &Acked) {
        let window = self.segments(self.window);
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => {
                self.epoch = Some(acked.now);
                self.w_est = window;
                if window < self.w_max {
                    self.k = ((self.w_max - window) / C).cbrt();
                } else {
                    (self.k, self.w_max) = (0.0, window);
                }
                acked.now
            }
        };
        let t = acked.now.since(epoch).as_secs_f64();
        let at = |t: f64| C * (t - self.k).powi(3) + self.w_max;
        let target = at(t + acked.smooth_rtt.as_secs_f64()).clamp(window, 1.5 * window);
        let alpha = if self.w_est >= self.w_prior { 1.0 } else { ALPHA };
        self.w_est += alpha * self.segments(acked.bytes) / window;
        if at(t) < self.w_est {
            self.window = self.window.max((self.w_est * f64::from(self.mss)) as u32);
            return;
        }
        self.credit += (target - window) / window * f64::from(acked.bytes);
        let whole = self.credit.trunc();
        self.credit -= whole;
        self.window = self.window.saturating_add(whole as u32);
    }
}

impl Controller for Cubic {
    fn window(&self) -> u32 {
        self.window
    }

    fn threshold(&self) -> u32 {
        self.threshold
    }

    fn pacing(&self) -> Option<f64> {
        None
    }

    fn reduces(&self) -> bool {
        true
    }

    fn acked(&mut self, acked: &Acked) {
        if acked.recovering {
            return;
        }
        // RFC 7661: a window that is not used says nothing about the path.
        if !acked.limited {
            // Time without growth must not count as growth.
            self.epoch = None;
            return;
        }
        if self.window < self.threshold { self.slow_start(acked) } else { self.avoid(acked) }
    }

    fn lost(&mut self, _: &Lost) {}

    fn congested(&mut self, _: Instant, flight: u32) {
        self.decrease(flight);
    }

    fn marked(&mut self, now: Instant, flight: u32) {
        self.congested(now, flight);
        self.recovered();
    }

    fn timed_out(&mut self, _: Instant, flight: u32) {
        self.decrease(flight);
        self.window = self.mss;
    }

    fn restart(&mut self) {
        self.window = self.mss;
    }

    fn idled(&mut self, _: Instant) {
        // Half of it, for the burst that will be sent: tunnels are kept for their windows.
        self.window = (self.window / 2).max(initial_window(self.mss).min(self.window));
        self.epoch = None;
    }

    fn undo(&mut self) {
        if let Some((window, threshold, w_max)) = self.before.take() {
            self.window = self.window.max(window);
            self.threshold = threshold;
            self.w_max = w_max;
            self.epoch = None;
        }
    }

    fn recovered(&mut self) {
        self.window = self.threshold;
    }

    fn mss(&self) -> u32 {
        self.mss
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
        self.window = self.window.max(2 * mss);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1_000;
    const MS: Duration = Duration::from_millis(1);

    fn acked(now: Instant, bytes: u32, rtt: Duration, round: bool) -> Acked {
        Acked {
            now,
            bytes,
            rtt: Some(rtt),
            smooth_rtt: rtt,
            limited: true,
            round,
            recovering: false,
            flight: 0,
            delivered: 0,
            sample: None,
        }
    }

    /// A round in which a whole window is acknowledged.
    fn round(cubic: &mut Cubic, now: &mut Instant, rtt: Duration) {
        *now += rtt;
        let segments = cubic.window() / MSS;
        for n in 0..segments {
            cubic.acked(&acked(*now, MSS, rtt, n == 0));
        }
    }

    #[test]
    fn slow_start_doubles_and_stops_when_the_queue_grows() {
        let (mut cubic, mut now) = (Cubic::new(MSS), Instant::from_millis(1));
        let first = cubic.window();
        round(&mut cubic, &mut now, 50 * MS);
        assert_eq!(cubic.window(), 2 * first);
        round(&mut cubic, &mut now, 50 * MS);
        assert_eq!(cubic.window(), 4 * first);
        for _ in 0..CONSERVATIVE_ROUNDS + 1 {
            round(&mut cubic, &mut now, 58 * MS);
        }
        assert!(cubic.threshold() < u32::MAX && cubic.window() < 20 * first, "{cubic:?}");
    }

    #[test]
    fn a_loss_takes_three_tenths_and_they_come_back_by_the_cubic_function() {
        let (mut cubic, mut now) = (Cubic::new(MSS), Instant::from_millis(1));
        cubic.window = 1_000 * MSS;
        cubic.congested(now, 1_000 * MSS);
        cubic.recovered();
        assert_eq!(cubic.window(), 700 * MSS);
        // K = cbrt(1000 * 0.3 / 0.4) = 9.09 s
        let mut at = Vec::new();
        for _ in 0..120 {
            round(&mut cubic, &mut now, 100 * MS);
            at.push(cubic.window() / MSS);
        }
        assert!(at[44].abs_diff(963) < 15 && at[90].abs_diff(1_000) < 5, "{at:?}");
        assert!(at[119] > 1_008, "{at:?}");
    }

    #[test]
    fn short_rounds_grow_as_reno_would() {
        let (mut cubic, mut now) = (Cubic::new(MSS), Instant::from_millis(1));
        cubic.window = 20 * MSS;
        cubic.congested(now, 20 * MSS);
        cubic.recovered();
        assert_eq!(cubic.window(), 14 * MSS);
        for _ in 0..12 {
            round(&mut cubic, &mut now, MS);
        }
        // More than half a segment a round.
        assert!(cubic.window() >= 19 * MSS, "{cubic:?}");
    }

    #[test]
    fn what_was_no_loss_is_undone() {
        let (mut cubic, now) = (Cubic::new(MSS), Instant::from_millis(1));
        let window = cubic.window();
        cubic.timed_out(now, window);
        assert_eq!(cubic.window(), MSS);
        cubic.undo();
        assert_eq!((cubic.window(), cubic.threshold()), (window, u32::MAX));
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut cubic = Cubic::new(MSS);
        let window = cubic.window();
        let mut idle = acked(Instant::from_millis(1), MSS, MS, true);
        idle.limited = false;
        (0..100).for_each(|_| cubic.acked(&idle));
        assert_eq!(cubic.window(), window);
    }
}
