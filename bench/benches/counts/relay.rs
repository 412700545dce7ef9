//! A whole gateway: turns of the worker of gateway A in the simulated chain, and nothing of what is
//! around it.

use clgw::sim::Spread;
use clgw::time::Instant;
use clgw::worker::Turn;
use clgw_bench::chain::{Chain, Setup, SimWorker};
use clgw_bench::churn;
use clgw_bench::flows::{Flows, SEGMENT};
use gungraun::prelude::*;
use gungraun::{Callgrind, EntryPoint};

/// Frames of payload that are relayed.
pub const FRAMES: u64 = 1_000;
/// Connections that workers share, and frames that each carries.
pub const FLOWS: usize = 32;
pub const FRAMES_EACH: u64 = 100;
/// Connections that are opened, one behind the other.
pub const OPENED: usize = 20;

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

/// Connections that have already moved so many frames each.
fn warm(setup: &Setup, connections: usize, upload: bool, frames: u64) -> Flows {
    let mut flows = Flows::open(setup, connections, upload).expect("a chain");
    flows.relay(frames * SEGMENT).expect("all of it");
    flows
}

fn one_flow(upload: bool) -> Flows {
    warm(&churn::SETUP, 1, upload, FRAMES)
}

#[library_benchmark(setup = one_flow, config = config())]
#[bench::upload(args = (true))]
#[bench::download(args = (false))]
fn step(mut flows: Flows) -> Flows {
    flows.chain.poll_a_by(counted_turn);
    flows.relay(FRAMES * SEGMENT).expect("all of it");
    flows
}

fn many_flows(workers: usize, spread: Spread) -> Flows {
    let setup = Setup { workers, spread, frames: 8_192, ..churn::SETUP };
    warm(&setup, FLOWS, true, FRAMES_EACH)
}

// The same work for one worker and for several.
#[library_benchmark(setup = many_flows, config = config())]
#[bench::one(args = (1, Spread::Rss))]
#[bench::two(args = (2, Spread::Rss))]
#[bench::four(args = (4, Spread::Rss))]
#[bench::four_own_hash(args = (4, Spread::OwnHash))]
#[bench::four_random(args = (4, Spread::Random))]
fn workers(mut flows: Flows) -> Flows {
    flows.chain.poll_a_by(counted_turn);
    flows.relay(FRAMES_EACH * SEGMENT).expect("all of it");
    flows.chain.ensure_no_loss().expect("no loss");
    flows
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

library_benchmark_group!(name = relay; benchmarks = step, workers, tunnel_open);
