//! Monotonic time as a value. Nothing below the run loop reads a clock: the loop reads it once
//! per iteration and passes the [`Instant`] down, so that the simulator can own time.

use std::num::NonZeroU64;
use std::ops::{Add, AddAssign, Sub};
pub use std::time::Duration;

/// Nanoseconds since an arbitrary origin (process start, or the start of a simulation), and one, so
/// that an `Option` takes no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64);

const _: () = assert!(size_of::<Option<Instant>>() == 8);

impl Default for Instant {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Instant {
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self::from_nanos(millis * 1_000_000)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    pub const fn as_micros(self) -> u64 {
        self.as_nanos() / 1_000
    }

    pub const fn as_millis(self) -> u64 {
        self.as_nanos() / 1_000_000
    }

    /// Time since `earlier`, zero if `earlier` is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// The clock of a run loop.
pub trait Clock {
    fn now(&mut self) -> Instant;
}

/// The operating system's monotonic clock.
#[derive(Debug)]
pub struct MonotonicClock {
    origin: std::time::Instant,
}

impl MonotonicClock {
    /// Workers of one process share the origin, so that their instants compare.
    pub fn starting_at(origin: std::time::Instant) -> Self {
        Self { origin }
    }
}

impl Clock for MonotonicClock {
    fn now(&mut self) -> Instant {
        // 584 years of nanoseconds fit.
        Instant::from_nanos(self.origin.elapsed().as_nanos() as u64)
    }
}
