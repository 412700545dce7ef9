//! Every order of dropping is sound, what is still in use is left in place and counted, and the last
//! handle cleans EAL up.

use std::collections::VecDeque;

use dpdk_bindings::testing::{RingPairConfig, config};
use dpdk_bindings::{Eal, MbufPool};

mod common;
use common::{Burst, POOL, cable, expected, frame};

#[test]
fn every_drop_order_is_sound() {
    let eal = Eal::init(&config()).unwrap();
    let shape = RingPairConfig::default();

    // Tidy: pool name and memory are free again.
    for _ in 0..3 {
        drop(MbufPool::new(&eal, "again", POOL).unwrap());
    }
    assert_eq!(eal.leaked(), 0);

    // The pool's handle goes first; ports keep the pool, frames still on the cable keep nothing but
    // are freed before it.
    let pool = MbufPool::new(&eal, "first", POOL).unwrap();
    let (mut a, b) = cable(&eal, "first", shape, &pool);
    let mut queue: VecDeque<_> = (0..20).map(|n| frame(&pool, n, 64)).collect();
    a.tx().burst(&mut queue);
    drop(pool);
    drop((a.port, b.port));
    assert_eq!(eal.port_names().len(), 2, "queues keep their ports");
    drop((a.queues, b.queues));
    assert!(eal.port_names().is_empty(), "closed with the last queue");
    drop(MbufPool::new(&eal, "first", POOL).expect("the name is free, so the pool is gone"));
    assert_eq!(eal.leaked(), 0);

    // Queues first, then ports, received mbufs last of all but the pool's handle.
    let pool = MbufPool::new(&eal, "second", POOL).unwrap();
    let (mut a, mut b) = cable(&eal, "second", shape, &pool);
    let mut queue: VecDeque<_> = (0..20).map(|n| frame(&pool, n, 64)).collect();
    a.tx().burst(&mut queue);
    let mut got = Burst::new();
    b.rx().burst(&mut got);
    drop((a.queues, b.queues));
    drop((a.port, b.port));
    assert_eq!(pool.in_use(), 20);
    drop(got);
    assert_eq!(pool.in_use(), 0);
    drop(pool);
    assert_eq!(eal.leaked(), 0);

    // A port that never was configured, and one that never was started.
    let (a, b) = dpdk_bindings::testing::ring_pair(&eal, "idle", shape).unwrap();
    let pool = MbufPool::new(&eal, "idle", POOL).unwrap();
    let a = a.configure(dpdk_bindings::PortConfig::default(), std::slice::from_ref(&pool)).unwrap();
    drop((pool, b, a));
    assert!(eal.port_names().is_empty());
    assert_eq!(eal.leaked(), 0);

    // EAL runs once, and a second start says so without harm.
    let second = Eal::init(&config()).unwrap_err();
    assert!(second.to_string().contains("once per process"), "{second}");

    // An mbuf that outlives its pool stays valid: the memory is left in place, and EAL with it.
    let pool = MbufPool::new(&eal, "outlived", POOL).unwrap();
    let mut mbuf = frame(&pool, 5, 1000);
    drop(pool);
    assert_eq!(eal.leaked(), 1);
    drop(eal);
    assert_eq!(mbuf.data(), expected(5, 1000));
    mbuf.data_mut().fill(1);
    drop(mbuf);
}
