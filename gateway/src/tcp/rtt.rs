//! Round-trip times and the retransmission time-out (RFC 6298).

use std::time::Duration;

use crate::time::Instant;

/// Before the first measurement (RFC 6298, section 2.1).
const RTO_INITIAL: Duration = Duration::from_secs(1);
/// RFC 6298 wants a second at the least, for clocks of another time. As Linux: more than its
/// receivers delay an acknowledgement (40 ms, at times 200 ms).
const RTO_MIN: Duration = Duration::from_millis(200);
const RTO_MAX: Duration = Duration::from_secs(60);
/// How long the smallest round-trip time counts (RFC 8985, section 6.2: it may be windowed).
const MIN_WINDOW: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
pub(super) struct Rtt {
    /// Nanoseconds; 0 before the first measurement.
    smooth: u64,
    variation: u64,
    min: u64,
    min_at: Instant,
    /// Doublings since the last acknowledgement of something new.
    backoff: u8,
}

impl Default for Rtt {
    fn default() -> Self {
        Self { smooth: 0, variation: 0, min: u64::MAX, min_at: Instant::ZERO, backoff: 0 }
    }
}

impl Rtt {
    pub fn sample(&mut self, now: Instant, rtt: Duration) {
        let rtt = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX / 8).clamp(1, u64::MAX / 8);
        if rtt <= self.min || now.since(self.min_at) > MIN_WINDOW {
            (self.min, self.min_at) = (rtt, now);
        }
        if self.smooth == 0 {
            (self.smooth, self.variation) = (rtt, rtt / 2);
        } else {
            self.variation = (self.variation * 3 + self.smooth.abs_diff(rtt)) / 4;
            self.smooth = (self.smooth * 7 + rtt) / 8;
        }
    }

    pub fn smooth(&self) -> Option<Duration> {
        (self.smooth > 0).then(|| Duration::from_nanos(self.smooth))
    }

    pub fn min(&self) -> Option<Duration> {
        (self.smooth > 0).then(|| Duration::from_nanos(self.min))
    }

    pub fn rto(&self) -> Duration {
        let base = match self.smooth() {
            None => RTO_INITIAL,
            Some(smooth) => smooth + Duration::from_nanos(4 * self.variation).max(RTO_MIN),
        };
        base.min(RTO_MAX).saturating_mul(1 << self.backoff).min(RTO_MAX)
    }

    pub fn back_off(&mut self) {
        // Longer than RTO_MAX it does not become.
        self.backoff = (self.backoff + 1).min(10);
    }

    /// Time-outs since something new was measured.
    pub fn backed_off(&self) -> u32 {
        u32::from(self.backoff)
    }

    pub fn progress(&mut self) {
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn follows_rfc_6298() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.rto(), RTO_INITIAL);
        rtt.back_off();
        assert_eq!(rtt.rto(), 2 * RTO_INITIAL);
        rtt.progress();
        rtt.sample(Instant::ZERO, 400 * MS);
        assert_eq!((rtt.smooth(), rtt.rto()), (Some(400 * MS), 1_200 * MS));
        // SRTT = 7/8 * 400 + 1/8 * 800, RTTVAR = 3/4 * 200 + 1/4 * 400
        rtt.sample(Instant::ZERO, 800 * MS);
        assert_eq!((rtt.smooth(), rtt.rto()), (Some(450 * MS), 1_450 * MS));
        for _ in 0..200 {
            rtt.sample(Instant::ZERO, 10 * MS);
        }
        assert!(rtt.rto() < 215 * MS && rtt.rto() >= 210 * MS, "{:?}", rtt.rto());
        (0..40).for_each(|_| rtt.back_off());
        assert_eq!(rtt.rto(), RTO_MAX);
    }

    #[test]
    fn the_minimum_is_of_the_last_seconds() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.min(), None);
        rtt.sample(Instant::ZERO, 3 * MS);
        rtt.sample(Instant::ZERO + MIN_WINDOW, 5 * MS);
        assert_eq!(rtt.min(), Some(3 * MS));
        rtt.sample(Instant::ZERO + MIN_WINDOW + MS, 5 * MS);
        assert_eq!(rtt.min(), Some(5 * MS));
    }
}
