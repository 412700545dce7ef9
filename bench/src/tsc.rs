//! The time stamp counter, and how fast it runs.

use std::time::{Duration, Instant};

pub use dpdk_bindings::idle::cycles;

/// Long enough for the clock's own resolution not to matter (below 1 in 100,000).
const CALIBRATION: Duration = Duration::from_millis(50);

/// Cycles per second, against the operating system's clock. The counter of an invariant TSC runs
/// at a constant rate whatever the core's frequency is: these are cycles of time, not of work.
pub fn calibrate() -> f64 {
    let (start, from) = (Instant::now(), cycles());
    while start.elapsed() < CALIBRATION {
        std::hint::spin_loop();
    }
    let (elapsed, to) = (start.elapsed(), cycles());
    (to - from) as f64 / elapsed.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_calibrations_agree() {
        let (a, b) = (calibrate(), calibrate());
        assert!(a > 1e8, "{a} Hz");
        assert!((a / b - 1.0).abs() < 0.05, "{a} Hz and {b} Hz");
    }
}
