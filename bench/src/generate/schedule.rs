//! When a load connects, warms up, measures and ends, and when an open loop's requests are due.

use std::fmt;
use std::time::Duration;

use clgw::time::Instant;

use super::tally::Counts;

/// Until the connections that a load needs must be there.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// After the end, for answers that are still on their way.
const END_PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Connecting,
    WarmUp,
    Measuring,
    /// Nothing new is begun, what is open ends.
    Finishing,
    Over,
}

/// How long a load runs.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub warm_up: Duration,
    pub measure: Duration,
}

/// Why what a load measured is not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Fewer connections than wanted were there when the window should have begun.
    Incomplete { wanted: u64, established: u64, failed: u64 },
    /// All connections failed in the window, so long after its begin.
    Lost { wanted: u64, after: Duration },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete { wanted, established, failed } => {
                let silent = wanted.saturating_sub(established + failed);
                write!(
                    f,
                    "{established} of {wanted} connections came up, {failed} failed before the measurement"
                )?;
                if silent > 0 {
                    let seconds = CONNECT_PATIENCE.as_secs();
                    write!(f, ", {silent} had no answer or no source port in {seconds} s")?;
                }
                Ok(())
            }
            Self::Lost { wanted, after } => write!(
                f,
                "all {wanted} connections failed, the last one {:.1} s after the begin of the \
                 measurement; what was due from there on had no answer",
                after.as_secs_f64()
            ),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    timing: Timing,
    phase: Phase,
    /// When the phase ends; in [`Phase::Connecting`] zero until the first look.
    until: Instant,
    /// Begin and end of the measurement.
    window: Option<(Instant, Instant)>,
    broken: Option<Broken>,
}

impl Schedule {
    pub fn new(timing: Timing) -> Self {
        Self { timing, phase: Phase::Connecting, until: Instant::ZERO, window: None, broken: None }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Begin and end of the measurement, `None` before it began.
    pub fn window(&self) -> Option<(Instant, Instant)> {
        self.window
    }

    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Looks after the connections that a load keeps for all of its time: without one of them
    /// the window does not begin, and a window in which all fail stays as long as planned, since
    /// what is due in it is due all the same. Returns whether all are there.
    pub fn keep(&mut self, now: Instant, wanted: u64, counts: Counts) -> bool {
        let Counts { established, failed, .. } = counts;
        let settled = established + failed >= wanted;
        match self.phase {
            Phase::Connecting | Phase::WarmUp => {
                let late = self.phase == Phase::Connecting
                    && self.until != Instant::ZERO
                    && now >= self.until;
                if (settled && failed > 0) || (late && !settled) {
                    self.broken = Some(Broken::Incomplete { wanted, established, failed });
                    self.interrupt(now);
                }
            }
            Phase::Measuring if failed >= wanted && self.broken.is_none() => {
                let after = self.window.map_or(Duration::ZERO, |(from, _)| now.since(from));
                self.broken = Some(Broken::Lost { wanted, after });
            }
            _ => {}
        }
        settled && failed == 0
    }

    /// Goes on to the phase that is due. `ready`: every connection it takes is there. `done`:
    /// nothing is open any more. Returns whether the phase is another one now.
    pub fn advance(&mut self, now: Instant, ready: bool, done: bool) -> bool {
        let before = self.phase;
        if self.phase == Phase::Connecting {
            if self.until == Instant::ZERO {
                self.until = now + CONNECT_PATIENCE;
            }
            if ready {
                (self.phase, self.until) = (Phase::WarmUp, now + self.timing.warm_up);
            }
        }
        if self.phase == Phase::WarmUp && now >= self.until {
            // Not `now`: a late look must not move the window.
            let (from, to) = (self.until, self.until + self.timing.measure);
            (self.phase, self.until, self.window) = (Phase::Measuring, to, Some((from, to)));
        }
        if self.phase == Phase::Measuring && now >= self.until {
            (self.phase, self.until) = (Phase::Finishing, now + END_PATIENCE);
        }
        if self.phase == Phase::Finishing && (done || now >= self.until) {
            self.phase = Phase::Over;
        }
        self.phase != before
    }

    /// Ends what is measured now.
    pub fn interrupt(&mut self, now: Instant) {
        if self.phase < Phase::Finishing {
            if let Some((_, to)) = &mut self.window {
                *to = now;
            }
            (self.phase, self.until) = (Phase::Finishing, now + END_PATIENCE);
        }
    }
}

/// An even rate: request `n` is due `n / rate` seconds after the start, whatever became of those
/// before it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    start: Instant,
    nanos_each: f64,
}

impl Pace {
    /// `rate` per second.
    pub fn new(start: Instant, rate: f64) -> Self {
        Self { start, nanos_each: 1e9 / rate }
    }

    /// When request `n` is due.
    pub fn at(&self, n: u64) -> Instant {
        self.start + Duration::from_nanos((n as f64 * self.nanos_each) as u64)
    }

    /// Requests that are due before or at `now`.
    pub fn due(&self, now: Instant) -> u64 {
        let mut n = (now.since(self.start).as_nanos() as f64 / self.nanos_each) as u64 + 1;
        // What rounding did, so that `at` and `due` never contradict each other.
        while n > 0 && self.at(n - 1) > now {
            n -= 1;
        }
        while self.at(n) <= now {
            n += 1;
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_keeps_its_times() {
        let start = Instant::from_millis(10);
        let pace = Pace::new(start, 3.0);
        assert_eq!(pace.at(0), start);
        assert_eq!(pace.at(3), start + Duration::from_secs(1));
        assert_eq!(pace.due(start), 1);
        assert_eq!(pace.due(start + Duration::from_millis(999)), 3);
        assert_eq!(pace.due(start + Duration::from_secs(1)), 4);
        let pace = Pace::new(start, 123_457.0);
        for n in [1, 1_000, 999_999] {
            assert_eq!((pace.due(pace.at(n)), n), (n + 1, n));
        }
    }

    #[test]
    fn the_window_is_as_long_as_planned_however_late_it_is_looked_at() {
        let second = Duration::from_secs(1);
        let mut schedule = Schedule::new(Timing { warm_up: second, measure: 2 * second });
        let at = |millis| Instant::from_millis(millis);
        assert!(!schedule.advance(at(1), false, false));
        assert!(schedule.advance(at(100), true, false));
        assert_eq!(schedule.phase(), Phase::WarmUp);
        assert!(schedule.advance(at(1_105), true, false));
        assert_eq!(schedule.window(), Some((at(1_100), at(3_100))));
        assert!(schedule.advance(at(3_200), true, false));
        assert_eq!(schedule.phase(), Phase::Finishing);
        assert!(schedule.advance(at(3_201), true, true));
        assert_eq!(schedule.phase(), Phase::Over);
    }

    #[test]
    fn an_interrupted_window_ends_there() {
        let mut schedule =
            Schedule::new(Timing { warm_up: Duration::ZERO, measure: Duration::from_secs(9) });
        schedule.advance(Instant::from_millis(5), true, false);
        schedule.interrupt(Instant::from_millis(1_005));
        let window = (Instant::from_millis(5), Instant::from_millis(1_005));
        assert_eq!((schedule.phase(), schedule.window()), (Phase::Finishing, Some(window)));
    }

    fn counts(established: u64, failed: u64) -> Counts {
        Counts { established, failed, ..Counts::default() }
    }

    #[test]
    fn a_window_does_not_begin_without_one_of_its_connections() {
        let timing = Timing { warm_up: Duration::from_secs(1), measure: Duration::from_secs(1) };
        let begin = Instant::from_millis(1);
        // One is never answered.
        let mut schedule = Schedule::new(timing);
        schedule.keep(begin, 3, counts(2, 0));
        schedule.advance(begin, false, false);
        assert!(!schedule.keep(begin + CONNECT_PATIENCE / 2, 3, counts(2, 0)));
        assert_eq!(schedule.phase(), Phase::Connecting);
        schedule.keep(begin + CONNECT_PATIENCE, 3, counts(2, 0));
        assert_eq!((schedule.phase(), schedule.window()), (Phase::Finishing, None));
        let text = schedule.broken().unwrap().to_string();
        assert!(
            text.starts_with("2 of 3 connections came up, 0 failed before the measurement, 1 had"),
            "{text}"
        );
        // One is refused.
        let mut schedule = Schedule::new(timing);
        schedule.advance(begin, false, false);
        assert!(!schedule.keep(begin, 3, counts(1, 1)));
        assert_eq!(schedule.phase(), Phase::Connecting, "the third may still be refused");
        schedule.keep(begin, 3, counts(2, 1));
        assert_eq!((schedule.phase(), schedule.window()), (Phase::Finishing, None));
        let text = schedule.broken().unwrap().to_string();
        assert_eq!(text, "2 of 3 connections came up, 1 failed before the measurement");
    }

    #[test]
    fn a_window_in_which_all_connections_fail_stays_as_long_as_planned() {
        let second = Duration::from_secs(1);
        let mut schedule = Schedule::new(Timing { warm_up: Duration::ZERO, measure: 3 * second });
        let begin = Instant::from_millis(1);
        let ready = schedule.keep(begin, 2, counts(2, 0));
        schedule.advance(begin, ready, false);
        schedule.keep(begin + second, 2, counts(2, 1));
        assert_eq!(schedule.broken(), None);
        for late in [second, 2 * second] {
            schedule.keep(begin + late, 2, counts(2, 2));
        }
        assert_eq!(schedule.broken(), Some(Broken::Lost { wanted: 2, after: second }));
        assert_eq!(schedule.phase(), Phase::Measuring);
        assert_eq!(schedule.window(), Some((begin, begin + 3 * second)));
    }
}
