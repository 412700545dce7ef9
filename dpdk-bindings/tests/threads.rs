//! Affinity, registration of threads, and mbufs that cross threads.

use std::sync::mpsc::sync_channel;

use dpdk_bindings::testing::{RingPairConfig, config};
use dpdk_bindings::{Eal, EalConfig, LcoreMap, Mbuf, MbufPool, pin_current_thread};

mod common;
use common::{Burst, POOL, cable, expected, frame, queue_of};

fn allowed_cpus() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap().to_owned()
}

/// The first CPU of a list like `Cpus_allowed_list:\t0-3,6`.
fn first_cpu(list: &str) -> u16 {
    let list = list.trim_start_matches(|c: char| !c.is_ascii_digit());
    list.split(['-', ',']).next().and_then(|cpu| cpu.parse().ok()).unwrap()
}

#[test]
fn threads_and_mbufs() {
    let before = allowed_cpus();
    // One lcore on one CPU: EAL pins the caller to it, which the binding must undo.
    let lcores = LcoreMap::Map(vec![(0, first_cpu(&before))]);
    let eal = Eal::init(&EalConfig { lcores, ..config() }).unwrap();
    assert_eq!(allowed_cpus(), before, "EAL must not leave the caller pinned");
    // Threads started later inherit what the caller has.
    assert_eq!(std::thread::spawn(allowed_cpus).join().unwrap(), before);

    // This thread is the main lcore already; its guard changes nothing when it goes.
    let main = eal.register_thread().unwrap();
    assert_eq!(main.lcore(), 0);
    drop(main);
    assert_eq!(eal.register_thread().unwrap().lcore(), 0);

    // Ids are given, nested guards are one registration, and ids come back.
    let pool = MbufPool::new(&eal, "threads", POOL).unwrap();
    for _ in 0..200 {
        let eal = eal.clone();
        let id = std::thread::spawn(move || {
            let guard = eal.register_thread().unwrap();
            let nested = eal.register_thread().unwrap();
            assert_eq!(guard.lcore(), nested.lcore());
            drop(nested);
            guard.lcore()
        });
        assert_eq!(id.join().unwrap(), 1, "the id of the ended thread is free again");
    }

    // All ids in use: an error, and room again afterwards.
    let (held, release) = (std::sync::Barrier::new(128), std::sync::Barrier::new(128));
    std::thread::scope(|scope| {
        for _ in 0..127 {
            scope.spawn(|| {
                let guard = eal.register_thread().unwrap();
                held.wait();
                release.wait();
                drop(guard);
            });
        }
        held.wait();
        let error = scope.spawn(|| eal.register_thread().map(|g| g.lcore())).join().unwrap();
        assert!(error.unwrap_err().hint.contains("fewer worker threads"));
        release.wait();
    });

    // Mbufs made here are received and freed there; the worker's cache is empty when it has gone, so
    // that the pool can be freed.
    let (mut a, b) = cable(&eal, "threads", RingPairConfig::default(), &pool);
    let (done, wait) = sync_channel::<(Mbuf, common::End)>(1);
    let worker = {
        let eal = eal.clone();
        let mut b = b;
        std::thread::spawn(move || {
            let first = first_cpu(&allowed_cpus());
            pin_current_thread(first).unwrap();
            assert!(allowed_cpus().ends_with(&format!("\t{first}")));
            let _lcore = eal.register_thread().unwrap();
            let mut got = Burst::new();
            let mut next = 0;
            let mut last = None;
            while next < 500 {
                b.rx().burst(&mut got);
                for mbuf in got.drain(..) {
                    assert_eq!(mbuf.data(), expected(next, 60));
                    next += 1;
                    last = Some(mbuf);
                }
            }
            done.send((last.unwrap(), b)).unwrap();
        })
    };
    let mut queue = queue_of((0..500).map(|n| frame(&pool, n, 60)));
    while !queue.is_empty() {
        a.tx().burst(&mut queue);
    }
    let (last, b) = wait.recv().unwrap();
    worker.join().unwrap();
    assert_eq!(pool.in_use(), 1);
    assert_eq!(last.data(), expected(499, 60));
    drop((last, a, b));
    assert_eq!(pool.in_use(), 0);
    drop(pool);
    assert_eq!(eal.leaked(), 0, "the ended worker's cache was flushed");

    // A living lcore's cache still holds mbufs: then the pool is left in place, never freed under it.
    let pool = MbufPool::new(&eal, "cached", POOL).unwrap();
    let mut mbufs = Burst::new();
    pool.alloc_bulk(&mut mbufs);
    let (freed, wait) = sync_channel::<()>(0);
    let (end, may_end) = sync_channel::<()>(0);
    std::thread::scope(|scope| {
        let eal = &eal;
        scope.spawn(move || {
            let _lcore = eal.register_thread().unwrap();
            drop(mbufs);
            freed.send(()).unwrap();
            may_end.recv().unwrap();
        });
        wait.recv().unwrap();
        assert_eq!(pool.in_use(), 0);
        drop(pool);
        assert_eq!(eal.leaked(), 1);
        end.send(()).unwrap();
    });
}
