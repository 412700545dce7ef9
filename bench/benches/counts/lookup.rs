//! Finding the connection of a segment.

use std::hint::black_box;
use std::net::SocketAddr;

use clgw::flow::{FlowHasher, FlowId, FlowTable};
use clgw::net::FlowKey;
use gungraun::prelude::*;

pub const LOOKUPS: usize = 100;
/// Of every table, so that only its filling differs.
const CAPACITY: usize = 16_384;

fn key(n: usize) -> FlowKey {
    let client = SocketAddr::from(([10, 1, (n >> 14) as u8, 2], 10_000 + (n & 0x3fff) as u16));
    FlowKey::new(SocketAddr::from(([10, 1, 0, 80], 80)), client)
}

fn setup(flows: usize) -> (FlowTable, Vec<FlowKey>) {
    let mut table = FlowTable::new(CAPACITY, FlowHasher::new([7; 16]));
    for n in 0..flows {
        table.insert(key(n), FlowId { index: n as u32, generation: 0 }).expect("room for it");
    }
    // Each is there; 97 is prime to both numbers of flows.
    (table, (0..LOOKUPS).map(|n| key(n * 97 % flows)).collect())
}

#[library_benchmark(setup = setup)]
#[bench::flows_1(args = (1))]
#[bench::flows_10000(args = (10_000))]
fn get((table, keys): (FlowTable, Vec<FlowKey>)) -> (usize, FlowTable, Vec<FlowKey>) {
    let found = keys.iter().filter(|key| table.get(black_box(key)).is_some()).count();
    assert_eq!(found, LOOKUPS);
    (found, table, keys)
}

library_benchmark_group!(name = lookup; benchmarks = get);
