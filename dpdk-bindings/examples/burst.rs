//! What a packet costs in this layer, without a NIC: `cargo run --release -p dpdk-bindings --example
//! burst [-- huge]`. Prints nanoseconds per packet, the best of several rounds. `huge` takes packet
//! memory from huge pages.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use arrayvec::ArrayVec;
use dpdk_bindings::testing::{RingPairConfig, config, ring_pair};
use dpdk_bindings::{
    BURST_MAX, Device, DpdkError, Eal, EalConfig, HugePages, Mbuf, MbufPool, PoolConfig, PortConfig,
};

const ROUNDS: usize = 10;
const BURSTS: usize = 20_000;

/// Runs `burst`, which handles up to one burst of packets and returns how many, and prints the best
/// round.
fn measure(what: &str, mut burst: impl FnMut() -> usize) {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let packets: usize = (0..BURSTS).map(|_| burst()).sum();
        best = best.min(start.elapsed().as_nanos() as f64 / packets.max(1) as f64);
    }
    println!("{what:<58} {best:6.2} ns/packet {:7.1} Mpps", 1000.0 / best);
}

fn main() -> Result<(), DpdkError> {
    let devices = vec![Device::Vdev("net_null0".into())];
    let huge = if std::env::args().any(|arg| arg == "huge") {
        HugePages::Use { in_memory: true }
    } else {
        HugePages::None
    };
    let eal = Eal::init(&EalConfig { devices, huge, ..config() })?;
    let _lcore = eal.register_thread()?;
    let pool = MbufPool::new(&eal, "burst", PoolConfig::default())?;
    let pools = [pool.clone()];
    println!("{}, bursts of {BURST_MAX}, {huge:?}", Eal::version());

    let mut burst = ArrayVec::<Mbuf, BURST_MAX>::new();
    measure("pool: alloc_bulk, free", || {
        let n = pool.alloc_bulk(&mut burst);
        dpdk_bindings::mbuf::free_bulk(burst.drain(..));
        n
    });
    measure("pool: alloc one, drop", || {
        black_box(pool.alloc());
        1
    });

    let (_null, mut queues) =
        eal.port_by_name("net_null0")?.configure(PortConfig::default(), &pools)?.start()?;
    let (rx, tx) = &mut queues[0];
    let mut queue = VecDeque::with_capacity(2 * BURST_MAX);
    measure("net_null: receive, touch, send (the driver allocates, frees)", || {
        let n = rx.burst(&mut burst);
        for mut mbuf in burst.drain(..) {
            mbuf.data_mut()[0] = 1;
            queue.push_back(mbuf);
        }
        tx.burst(&mut queue);
        n
    });

    let (a, b) = ring_pair(&eal, "burst", RingPairConfig::default())?;
    let (_a, mut a) = a.configure(PortConfig::default(), &pools)?.start()?;
    let (_b, mut b) = b.configure(PortConfig::default(), &pools)?.start()?;
    pool.alloc_bulk(&mut burst);
    for mut mbuf in burst.drain(..) {
        let _ = mbuf.set_len(64);
        queue.push_back(mbuf);
    }
    measure("net_ring: send, receive on the other end", || {
        let n = a[0].1.burst(&mut queue);
        b[0].0.burst(&mut burst);
        queue.extend(burst.drain(..));
        n
    });
    queue.clear();
    measure("net_ring: alloc, write 64 bytes, send, receive, free", || {
        pool.alloc_bulk(&mut burst);
        for mut mbuf in burst.drain(..) {
            if let Ok(data) = mbuf.append(64) {
                data.fill(7);
            }
            queue.push_back(mbuf);
        }
        let n = a[0].1.burst(&mut queue);
        b[0].0.burst(&mut burst);
        dpdk_bindings::mbuf::free_bulk(burst.drain(..));
        n
    });
    measure("net_ring: empty poll (per poll)", || {
        b[0].0.burst(&mut burst);
        1
    });
    Ok(())
}
