//! Ports of DPDK: what they are told about receive-side scaling, and what is known of it.

use clgw::net::Steering;
use clgw::port::{PortRequest, StartedPort, start, table_entries};
use dpdk_bindings::rss::{KEY_LEN, even_reta};
use dpdk_bindings::testing::config;
use dpdk_bindings::{Device, Eal, EalConfig, RssKey, RssTypes};

/// `net_null` keeps key and table, and says what they are.
#[test]
fn a_device_that_can_be_told_spreads_as_we_compute() {
    let devices = ["net_null0", "net_ring0"].map(|name| Device::Vdev(name.into())).into();
    let eal = Eal::init(&EalConfig { devices, ..config() }).unwrap();
    let tables = ["net_null0", "net_ring0"].map(|name| table_entries(&eal, name).unwrap());
    assert_eq!(tables, [128, 0]);
    let start = |device: &str, workers: u16, steering: &Steering| -> StartedPort {
        let request = PortRequest {
            device,
            pool: device,
            mbufs: 2_047,
            data_room: 2_048,
            large: 0,
            mtu: 1_500,
            queues: workers,
            rss: (workers > 1).then(|| steering.rss()),
            interrupts: false,
        };
        start(&eal, &request).unwrap()
    };

    let steering = Steering::new(3, tables);
    let null = start("net_null0", 3, &steering);
    assert_eq!(null.caps.rss.as_ref(), Some(steering.rss()));
    assert_eq!(null.port.reta().unwrap(), even_reta(128, 3));
    let (key, types) = null.port.rss().unwrap();
    assert_eq!(key.as_bytes()[..KEY_LEN], *RssKey::SYMMETRIC.as_bytes());
    assert!(types.contains(RssTypes::IPV4_TCP | RssTypes::IPV6_TCP), "{types:?}");

    // One that cannot runs all the same.
    let steering = Steering::new(1, tables);
    assert_eq!(start("net_ring0", 1, &steering).caps.rss, None);
}
