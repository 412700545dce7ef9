//! With nothing left behind, the last handle cleans EAL up, whatever kind of handle it is.

use dpdk_bindings::testing::config;
use dpdk_bindings::{Device, Eal, EalConfig, MbufPool, PortConfig};

mod common;
use common::{Burst, POOL};

#[test]
fn the_last_handle_cleans_up() {
    let devices = vec![Device::Vdev("net_null0".into())];
    let eal = Eal::init(&EalConfig { devices, ..config() }).unwrap();
    let pool = MbufPool::new(&eal, "last", POOL).unwrap();
    let port = eal.port_by_name("net_null0").unwrap();
    let (port, mut queues) =
        port.configure(PortConfig::default(), &[pool]).unwrap().start().unwrap();
    drop((eal, port));
    let mut burst = Burst::new();
    let (rx, _tx) = &mut queues[0];
    assert_eq!(rx.burst(&mut burst), 64, "a queue alone keeps port, pool and EAL");
    drop(burst);
    drop(queues);
    // EAL's memory is unmapped now; a start after it is refused instead of crashing.
    let again = Eal::init(&config()).unwrap_err();
    assert!(again.hint.contains("restart"), "{again}");
}
