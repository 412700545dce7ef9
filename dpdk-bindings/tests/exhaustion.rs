//! An empty pool, a full cable, and packets the port cannot send.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use dpdk_bindings::testing::{RingPairConfig, eal, ring_pair};
use dpdk_bindings::{IpVersion, MbufPool, PoolConfig, PortConfig, TxOffload};

mod common;
use common::{Burst, expected, frame};

#[test]
fn nothing_is_lost_when_there_is_no_room() {
    let eal = eal().unwrap();
    let small = PoolConfig { count: 100, cache: 0, data_room: 512, numa: None };
    let pool = MbufPool::new(&eal, "small", small).unwrap();

    // The pool: bulk takes what there is, and one by one ends with None.
    let mut held = arrayvec::ArrayVec::<_, 128>::new();
    assert_eq!(pool.alloc_bulk(&mut held), 100);
    assert_eq!(pool.in_use(), 100);
    assert!(pool.alloc().is_none());
    assert_eq!(pool.alloc_bulk(&mut held), 0);
    drop(held.pop());
    assert!(pool.alloc().is_some());
    drop(held);
    assert_eq!(pool.in_use(), 0);

    // The cable: what does not fit stays with the sender, in order.
    let (a, b) = ring_pair(&eal, "full", RingPairConfig { queues: 1, slots: 10 }).unwrap();
    let pools = [pool.clone()];
    let (_a, mut a_queues) = a.configure(PortConfig::default(), &pools).unwrap().start().unwrap();
    let (_b, mut b_queues) = b.configure(PortConfig::default(), &pools).unwrap().start().unwrap();
    let (tx, rx) = (&mut a_queues[0].1, &mut b_queues[0].0);
    let mut queue: VecDeque<_> = (0..90).map(|n| frame(&pool, n, 60)).collect();
    assert_eq!(tx.burst(&mut queue), 10);
    assert_eq!(queue.len(), 80);
    assert_eq!(queue[0].data(), expected(10, 60), "the first refused one is in front");
    assert_eq!(tx.burst(&mut queue), 0);
    assert_eq!(queue.len(), 80);
    let mut seen = 0;
    let mut got = Burst::new();
    while seen < 90 {
        rx.burst(&mut got);
        for mbuf in got.drain(..) {
            assert_eq!(mbuf.data(), expected(seen, 60));
            seen += 1;
        }
        tx.burst(&mut queue);
    }
    assert_eq!(pool.in_use(), 0);
    assert_eq!(tx.rejected(), 0);

    // What this port can never send is dropped and counted; its neighbours pass.
    let short = frame(&pool, 1, 13);
    let mut chained = frame(&pool, 2, 100);
    chained.chain(frame(&pool, 3, 100)).unwrap();
    let mut segmented = frame(&pool, 4, 400);
    let offload = TxOffload {
        ip: IpVersion::V4,
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        ip_cksum: true,
        tcp_cksum: true,
        tso_segsz: NonZeroU16::new(100),
    };
    segmented.set_tx_offload(offload).unwrap();
    let mut queue = VecDeque::from([
        frame(&pool, 10, 60),
        short,
        chained,
        frame(&pool, 11, 60),
        segmented,
        frame(&pool, 12, 60),
    ]);
    assert_eq!(tx.burst(&mut queue), 3);
    assert!(queue.is_empty());
    assert_eq!(tx.rejected(), 3);
    assert_eq!(rx.burst(&mut got), 3);
    for (mbuf, number) in got.iter().zip([10, 11, 12]) {
        assert_eq!(mbuf.data(), expected(number, 60));
    }
    got.clear();
    assert_eq!(pool.in_use(), 0, "rejected mbufs are freed with all their segments");
    let mut only_bad = VecDeque::from([frame(&pool, 1, 5)]);
    assert_eq!(tx.burst(&mut only_bad), 0);
    assert_eq!((tx.rejected(), pool.in_use()), (4, 0));
}
