//! Rate limits by the loop's clock.

use crate::time::Instant;

/// A token bucket: `per_second` on average, at most one second's worth at once.
///
/// Kept as the time at which the bucket would be full again (the "virtual scheduling" form of
/// the leaky bucket, ITU-T I.371), so that it needs one number and no division per use.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    interval: u64,
    full_at: u64,
}

impl TokenBucket {
    const BURST_NANOS: u64 = 1_000_000_000;

    /// A full bucket. A rate of 0 never allows anything.
    pub fn per_second(rate: u32) -> Self {
        let interval = Self::BURST_NANOS.checked_div(u64::from(rate)).unwrap_or(u64::MAX);
        Self { interval, full_at: 0 }
    }

    /// Takes one token; `false` = none is left.
    #[inline]
    pub fn take(&mut self, now: Instant) -> bool {
        let start = self.full_at.max(now.as_nanos());
        let Some(next) = start.checked_add(self.interval) else { return false };
        if next - now.as_nanos() > Self::BURST_NANOS {
            return false;
        }
        self.full_at = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn burst_of_one_second_then_the_rate() {
        let mut bucket = TokenBucket::per_second(100);
        let t0 = Instant::from_millis(5_000);
        assert_eq!((0..1000).filter(|_| bucket.take(t0)).count(), 100);
        let t1 = t0 + Duration::from_millis(250);
        assert_eq!((0..1000).filter(|_| bucket.take(t1)).count(), 25);
        let t2 = t1 + Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| bucket.take(t2)).count(), 100);
    }

    #[test]
    fn zero_rate_and_extreme_clock() {
        let mut never = TokenBucket::per_second(0);
        assert!(!never.take(Instant::from_nanos(0)) && !never.take(Instant::from_nanos(u64::MAX)));
        let mut bucket = TokenBucket::per_second(1);
        assert!(!bucket.take(Instant::from_nanos(u64::MAX)), "no time left to express the debt");
        assert!(bucket.take(Instant::from_nanos(0)));
        assert!(!bucket.take(Instant::from_nanos(1)));
    }
}
