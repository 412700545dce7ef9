//! Warm tunnels to one gateway of a peer, and the clients that wait for one.

use std::collections::VecDeque;

use super::snapshot::GatewayEntry;
use crate::flow::FlowId;
use crate::limits::{GATEWAY_BACKOFF_MAX, GATEWAY_BACKOFF_MIN};
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Pool {
    pub entry: GatewayEntry,
    /// Last in, first out: the warmest congestion window is used first. May hold tunnels that
    /// died meanwhile; who takes one looks.
    pub idle: Vec<FlowId>,
    /// Tunnels on their way up.
    pub connecting: usize,
    /// May hold clients that gave up meanwhile.
    pub waiting: VecDeque<FlowId>,
    /// The current generation names this gateway in some import.
    pub wanted: bool,
    failures: u32,
    retry_at: Instant,
}

impl Pool {
    pub fn new(entry: GatewayEntry) -> Self {
        Self {
            entry,
            idle: Vec::new(),
            connecting: 0,
            waiting: VecDeque::new(),
            wanted: false,
            failures: 0,
            retry_at: Instant::ZERO,
        }
    }

    /// The gateway has not just failed.
    pub fn reachable(&self, now: Instant) -> bool {
        self.failures == 0 || self.retry_at <= now
    }

    /// The last attempt to bring a tunnel up did not fail.
    pub fn healthy(&self) -> bool {
        self.failures == 0
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub fn failed(&mut self, now: Instant) {
        let wait = GATEWAY_BACKOFF_MIN * 2u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now + wait.min(GATEWAY_BACKOFF_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::snapshot::GatewayId;

    #[test]
    fn a_failed_gateway_is_left_alone_ever_longer() {
        let mut pool = Pool::new(GatewayEntry {
            id: GatewayId(0),
            peer: "b".into(),
            address: "192.0.2.2:4443".parse().unwrap(),
        });
        let mut now = Instant::from_millis(1_000);
        assert!(pool.reachable(now));
        let mut last = 0;
        for _ in 0..12 {
            pool.failed(now);
            assert!(!pool.reachable(now));
            let start = now;
            while !pool.reachable(now) {
                now += crate::limits::TIMER_TICK;
            }
            let wait = now.since(start).as_millis();
            assert!(wait >= last);
            last = wait;
        }
        assert_eq!(last, GATEWAY_BACKOFF_MAX.as_millis());
        pool.failed(now);
        pool.succeeded();
        assert!(pool.reachable(now));
    }
}
