//! Frames cross a cable unchanged and in order, every mbuf comes back, nothing is allocated.

use std::collections::VecDeque;

use dpdk_bindings::testing::{CountingAllocator, RingPairConfig, allocations, eal};
use dpdk_bindings::{BURST_MAX, MbufPool};

mod common;
use common::{Burst, POOL, cable, expected, frame};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn frames_cross_unchanged_in_order_and_come_back() {
    let eal = eal().unwrap();
    let pool = MbufPool::new(&eal, "loopback", POOL).unwrap();
    let (mut a, mut b) = cable(&eal, "loop", RingPairConfig { queues: 2, slots: 256 }, &pool);
    assert_eq!(pool.in_use(), 0);

    // Lengths from the shortest frame to a full mbuf, over more than one burst.
    let lengths = [14usize, 60, 64, 65, 1000, 1514, 2048];
    let mut queue: VecDeque<_> =
        (0..200).map(|n| frame(&pool, n, lengths[n as usize % lengths.len()])).collect();
    assert_eq!(pool.in_use(), 200);
    assert_eq!(a.tx().burst(&mut queue), 200);
    assert!(queue.is_empty());

    let mut next = 0;
    let mut got = Burst::new();
    while b.rx().burst(&mut got) > 0 {
        assert!(got.len() <= BURST_MAX);
        for mbuf in got.drain(..) {
            let len = lengths[next as usize % lengths.len()];
            assert_eq!(mbuf.len(), len);
            assert_eq!(mbuf.segment_count(), 1);
            assert_eq!(mbuf.data(), expected(next, len), "frame {next}");
            next += 1;
        }
    }
    assert_eq!(next, 200);
    assert_eq!(pool.in_use(), 0, "every mbuf is back");

    // Queue 1 and the other direction are separate cables.
    let mut queue = VecDeque::from([frame(&pool, 7, 100)]);
    assert_eq!(b.queues[1].1.burst(&mut queue), 1);
    assert_eq!(a.rx().burst(&mut got), 0);
    assert_eq!(b.queues[1].0.burst(&mut got), 0);
    assert_eq!(a.queues[1].0.burst(&mut got), 1);
    assert_eq!(got[0].data(), expected(7, 100));
    got.clear();

    // A burst appends and stops at the ArrayVec's end.
    let mut queue: VecDeque<_> = (0..10).map(|n| frame(&pool, n, 64)).collect();
    a.tx().burst(&mut queue);
    let mut small = arrayvec::ArrayVec::<_, 4>::new();
    small.push(frame(&pool, 99, 64));
    assert_eq!(b.rx().burst(&mut small), 3);
    assert_eq!(small[0].data(), expected(99, 64));
    assert_eq!(small[3].data(), expected(2, 64));
    assert_eq!(b.rx().burst(&mut small), 0);
    assert_eq!(b.rx().burst(&mut got), 7);
    drop((small, got));
    assert_eq!(pool.in_use(), 0);

    // The steady state: allocate, edit, send, receive, free, without one heap allocation.
    let mut burst = Burst::new();
    let mut queue = VecDeque::with_capacity(2 * BURST_MAX);
    let before = allocations();
    let mut moved = 0;
    for _ in 0..1000 {
        assert_eq!(pool.alloc_bulk(&mut burst), BURST_MAX);
        for mut mbuf in burst.drain(..) {
            mbuf.append(200).unwrap()[0] = 1;
            queue.push_back(mbuf);
        }
        a.tx().burst(&mut queue);
        moved += b.rx().burst(&mut burst);
        burst.clear();
    }
    assert_eq!(allocations() - before, 0, "allocations in the steady state");
    assert_eq!(moved, 1000 * BURST_MAX);
    assert_eq!(pool.in_use(), 0);

    // Stopping: not under a queue, and again startable.
    let refused = b.port.stop().unwrap_err();
    assert!(refused.to_string().contains("4 of its queue handles"), "{refused}");
    b.port = refused.port;
    drop(b.queues);
    let stopped = b.port.stop().unwrap();
    let (_port, queues) = stopped.start().unwrap();
    assert_eq!(queues.len(), 2);
    assert_eq!(eal.leaked(), 0);
}
