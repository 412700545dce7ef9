//! Source ports of outbound connections.

use super::FlowTable;
use crate::limits::{EPHEMERAL_PORT_FIRST, EPHEMERAL_PORT_LAST, EPHEMERAL_PORT_TRIES};
use crate::net::{FlowKey, Ip, Steering};

const RANGE: u64 = EPHEMERAL_PORT_LAST as u64 - EPHEMERAL_PORT_FIRST as u64 + 1;

/// Chooses source ports so that the answers reach the worker that connects: what RSS does to
/// the answer's 4-tuple is computed beforehand. One port can serve many destinations at once.
#[derive(Clone, Copy, Debug)]
pub struct EphemeralPorts {
    /// The worker that connects.
    pub worker: u16,
}

impl EphemeralPorts {
    /// A port for a connection from `local` to `remote`, free in `table` and not `shunned`; shunned
    /// ones are better than none.
    ///
    /// `random` decides where the search starts and how it strides (RFC 6056: ports must not be
    /// predictable). `None` if no port brings the answer here, or after
    /// [`EPHEMERAL_PORT_TRIES`] that do but are taken.
    pub fn pick(
        &self,
        steering: &Steering,
        table: &FlowTable,
        local: Ip,
        (remote, remote_port): (Ip, u16),
        random: u64,
        shunned: impl Fn(&FlowKey) -> bool,
    ) -> Option<u16> {
        let start = random % RANGE;
        let stride = stride(random >> 32);
        let key = FlowKey { local, remote, local_port: 0, remote_port };
        let owner = steering.owner_by_local_port(&key);
        // All ports, and not a few hundred: as the hash is linear, ports at regular distances may
        // all miss a worker. Their owners are cheap to tell.
        let mut second_best = None;
        let port = (0..RANGE)
            // RANGE is what lies between two u16.
            .map(|n| EPHEMERAL_PORT_FIRST + ((start + n * stride) % RANGE) as u16)
            .filter(|port| owner(*port) == self.worker)
            .take(EPHEMERAL_PORT_TRIES)
            .map(|local_port| FlowKey { local_port, ..key })
            .filter(|key| !table.contains(key))
            .find(|key| {
                let shun = shunned(key);
                if shun {
                    second_best.get_or_insert(key.local_port);
                }
                !shun
            });
        port.map(|key| key.local_port).or(second_best)
    }
}

/// A stride that meets every port once before it comes back. Striding, and not the next port:
/// used ports come in runs.
fn stride(random: u64) -> u64 {
    let mut stride = random % RANGE;
    while gcd(stride, RANGE) != 1 {
        stride += 1;
    }
    stride
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::flow::{FlowHasher, FlowId};

    fn ip(text: &str) -> Ip {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn table() -> FlowTable {
        FlowTable::new(60_000, FlowHasher::new([1; 16]))
    }

    proptest! {
        #[test]
        fn answers_come_home(random: u64, workers in 1u16..=64, v6: bool, remote_port in 1u16..) {
            let steering = Steering::software(workers);
            let (local, remote) = match v6 {
                true => (ip("fd00::1"), ip("fd00::2")),
                false => (ip("10.0.0.1"), ip("10.9.0.2")),
            };
            for worker in 0..workers {
                let port = EphemeralPorts { worker }
                    .pick(&steering, &table(), local, (remote, remote_port), random, |_| false)
                    .expect("a port for every worker");
                prop_assert!((EPHEMERAL_PORT_FIRST..=EPHEMERAL_PORT_LAST).contains(&port));
                let answer = FlowKey { local, remote, local_port: port, remote_port };
                prop_assert_eq!(steering.owner(&answer), worker);
            }
        }

        #[test]
        fn every_stride_meets_every_port(random: u64) {
            prop_assert_eq!(gcd(stride(random), RANGE), 1);
        }
    }

    /// None of the first 512 ports of this search belongs to worker 18.
    #[test]
    fn a_stride_that_misses_a_worker_for_long() {
        let (steering, random) = (Steering::software(64), 5_241_815_115_701_522_205);
        for worker in 0..64 {
            let port = EphemeralPorts { worker }.pick(
                &steering,
                &table(),
                ip("fd00::1"),
                (ip("fd00::2"), 1),
                random,
                |_| false,
            );
            assert!(port.is_some(), "worker {worker}");
        }
    }

    #[test]
    fn taken_ports_are_passed_over_and_running_out_is_said() {
        let (steering, mut table) = (Steering::software(1), table());
        let (local, remote) = (ip("10.0.0.1"), (ip("10.9.0.2"), 80));
        let ports = EphemeralPorts { worker: 0 };
        let mut random = 1u64;
        let mut picked = 0;
        loop {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let port = ports.pick(&steering, &table, local, remote, random, |_| false);
            let Some(local_port) = port else { break };
            let key = FlowKey { local, remote: remote.0, local_port, remote_port: remote.1 };
            table.insert(key, FlowId { index: 0, generation: 0 }).expect("was free");
            picked += 1;
        }
        // Bounded tries may give up early, but not long before the range is used up.
        assert!(picked > 48_000, "{picked} of {RANGE}");
        let other = (ip("10.9.0.3"), 80);
        assert!(ports.pick(&steering, &table, local, other, random, |_| false).is_some());
    }

    #[test]
    fn shunned_ports_are_taken_when_there_are_no_others() {
        let (steering, table) = (Steering::software(1), table());
        let (local, remote) = (ip("10.0.0.1"), (ip("10.9.0.2"), 80));
        let pick = |random, shunned: &dyn Fn(&FlowKey) -> bool| {
            EphemeralPorts { worker: 0 }.pick(&steering, &table, local, remote, random, shunned)
        };
        for random in 0..200 {
            let first = pick(random, &|_| false).expect("a port");
            let other = pick(random, &|key| key.local_port == first).expect("another port");
            assert_ne!(first, other);
            assert_eq!(pick(random, &|_| true), Some(first));
        }
    }
}
