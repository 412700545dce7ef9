//! Huge pages where the host has them, and the way out where it has not.

use dpdk_bindings::testing::{RingPairConfig, config};
use dpdk_bindings::{Eal, EalConfig, HugePages, MbufPool};

mod common;
use common::{Burst, POOL, cable, expected, frame, queue_of};

#[test]
fn huge_pages_are_used_or_their_absence_is_explained() {
    // More than any host has: refused before EAL starts, with the way out.
    let greedy = EalConfig {
        huge: HugePages::Use { in_memory: true },
        memory_mib: 16 * 1024 * 1024,
        ..config()
    };
    let error = Eal::init(&greedy).unwrap_err().to_string();
    assert!(error.contains("vm.nr_hugepages="), "{error}");
    assert!(error.contains("hugepages: off"), "{error}");

    let modest = EalConfig { huge: HugePages::Use { in_memory: true }, memory_mib: 32, ..config() };
    match Eal::init(&modest) {
        Ok(eal) => {
            let pool = MbufPool::new(&eal, "huge", POOL).unwrap();
            let (mut a, mut b) = cable(&eal, "huge", RingPairConfig::default(), &pool);
            a.tx().burst(&mut queue_of([frame(&pool, 3, 900)]));
            let mut got = Burst::new();
            assert_eq!(b.rx().burst(&mut got), 1);
            assert_eq!(got[0].data(), expected(3, 900));
        }
        Err(error) => {
            assert!(error.hint.contains("vm.nr_hugepages="), "{error}");
            // The refusal came before EAL started: the way out works in the same process.
            Eal::init(&config()).unwrap();
        }
    }
}
