//! What a turn says to the loop around it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use clgw::config::{BufferSizes, Congestion, Controllers};
use clgw::net::Steering;
use clgw::port::sim::SimPort;
use clgw::telemetry::EventQueue;
use clgw::time::Instant;
use clgw::tls::{Done, HandshakeExecutor, Job};
use clgw::worker::{Inboxes, Shared, Worker, WorkerConfig};

use crate::sites::{A, Sites};

/// Has so many jobs that are never done.
struct Slow(usize);

impl HandshakeExecutor for Slow {
    fn submit(&mut self, job: Job) -> Result<(), Job> {
        Err(job)
    }

    fn poll(&mut self) -> Option<Done> {
        None
    }

    fn in_flight(&self) -> usize {
        self.0
    }
}

#[test]
fn a_turn_says_that_handshakes_are_on_their_way() {
    let world = Sites::default().build();
    for (jobs, awaits) in [(0, false), (2, true)] {
        let config = WorkerConfig {
            id: 0,
            workers: 1,
            buffers: BufferSizes { service: 1 << 16, peer: 1 << 16, worker: 1 << 24 },
            congestion: Controllers { service: Congestion::Cubic, peer: Congestion::Cubic },
            warm_tunnels: 0,
            max_idle_tunnels: 0,
            seed: [7; 32],
        };
        let shared = Shared {
            snapshot: Arc::new(ArcSwap::new(world.gateways[A].snapshot())),
            counters: Arc::default(),
            events: EventQueue::default(),
            inboxes: Inboxes::new(1),
        };
        let ports = Vec::new();
        let mut worker =
            Worker::<SimPort, _>::new(config, shared, ports, Slow(jobs), Steering::software(1));
        let turn = worker.poll(Instant::from_millis(1));
        assert_eq!((turn.busy, turn.awaits), (false, awaits));
    }
}
