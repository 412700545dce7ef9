//! A whole gateway: turns of the worker of gateway A in the simulated chain, and nothing of what is
//! around it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use clgw::sim::App;
use clgw::time::Instant;
use clgw::worker::Turn;
use clgw_bench::apps::{Received, Sink, Source};
use clgw_bench::chain::{Chain, IMPORTS, SimWorker};
use clgw_bench::churn;
use gungraun::prelude::*;
use gungraun::{Callgrind, EntryPoint};

/// Frames of payload that are relayed.
pub const FRAMES: u64 = 1_000;
/// Payload of a full segment at MTU 1500, with the time stamp option.
const SEGMENT: u64 = 1_448;
/// Connections that are opened, one behind the other.
pub const OPENED: usize = 20;
/// Of the chain's own clock.
const PATIENCE: Duration = Duration::from_secs(10);

/// What callgrind counts. It must stay a function.
#[inline(never)]
fn counted_turn(worker: &mut SimWorker, now: Instant) -> Turn {
    worker.poll(now)
}

fn config() -> LibraryBenchmarkConfig {
    let counted = EntryPoint::Custom("*::counted_turn".to_owned());
    let callgrind = Callgrind::with_args(["cache-sim=no"]).entry_point(counted).clone();
    LibraryBenchmarkConfig::default().tool(callgrind).clone()
}

struct Flow {
    chain: Chain,
    limit: Rc<Cell<u64>>,
    received: Rc<Cell<Received>>,
    upload: bool,
}

impl Flow {
    /// Relays this many bytes more.
    fn relay(&mut self, bytes: u64) {
        let target = self.received.get().bytes + bytes;
        self.limit.set(target);
        // Each end has one connection, the first.
        if self.upload {
            self.chain.client.nudge(0)
        } else {
            self.chain.server.nudge(0)
        };
        let received = &self.received;
        let all = |_: &Chain| received.get().bytes >= target;
        self.chain.run_until("payload", PATIENCE, all).expect("all of it");
        assert!(!received.get().wrong);
    }
}

/// A connection that has already moved 1,000 frames.
fn flow(upload: bool) -> Flow {
    let mut chain = Chain::new(&churn::SETUP).expect("a chain");
    let (limit, received) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(Received::default())));
    let (end, most) = (Rc::clone(&received), Rc::clone(&limit));
    let app = move |sends: bool| -> Box<dyn App> {
        match sends {
            true => Box::new(Source::up_to(Rc::clone(&most))),
            false => Box::new(Sink(Rc::clone(&end))),
        }
    };
    let (_, port) = IMPORTS[0];
    let client = app(upload);
    chain.server.listen(port, Box::new(move |_| app(!upload)));
    warm(&mut chain);
    chain.connect(0, client).expect("a connection");
    let mut flow = Flow { chain, limit, received, upload };
    flow.relay(FRAMES * SEGMENT);
    flow
}

fn warm(chain: &mut Chain) {
    chain
        .run_until("warm tunnels", PATIENCE, |c| c.counters().0.tunnels_opened > 0)
        .expect("a tunnel");
}

#[library_benchmark(setup = flow, config = config())]
#[bench::upload(args = (true))]
#[bench::download(args = (false))]
fn step(mut flow: Flow) -> Flow {
    flow.chain.poll_a_by(counted_turn);
    flow.relay(FRAMES * SEGMENT);
    flow
}

fn warm_chain() -> Chain {
    churn::warm_chain().expect("a warm chain")
}

#[library_benchmark(setup = warm_chain, config = config())]
fn tunnel_open(mut chain: Chain) -> Chain {
    let tunnels = chain.counters().0.tunnels_opened;
    for _ in 0..OPENED {
        churn::visit(&mut chain, 1, Some(counted_turn)).expect("an answer");
    }
    assert_eq!(chain.counters().0.tunnels_opened, tunnels, "a tunnel was brought up meanwhile");
    chain
}

library_benchmark_group!(name = relay; benchmarks = step, tunnel_open);
