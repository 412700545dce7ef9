//! DPDK's net_tap as the service port, with its other end as the client's interface. It computes and verifies
//! checksums, and says that it cuts segments; when it is given full ones it stands still.

use std::time::Duration;

use crate::gateway::Gateway;
use crate::lab::{Lab, Place};
use crate::site::{Site, SiteOptions, VIP, VIP6};
use crate::world::services;

const BYTES: u64 = 20 << 20;
const TAP: &str = "tap0";

#[test]
fn a_port_with_checksums_by_the_device() {
    let lab = Lab::new();
    let _services = services(&lab);
    let root = lab.dir.path();
    let device = format!("net_tap0,iface={TAP}");
    let a = SiteOptions { service: Some(device), ..SiteOptions::a() };
    let (site_a, site_b) = (Site::importer(root, &a), Site::exporter(root, &SiteOptions::b()));
    let b = Gateway::start(&lab, "gateway-b", Place::SiteB, &site_b);
    let mut a = Gateway::start(&lab, "gateway-a", Place::SiteA, &site_a);
    let started = a.wait_for_all(&["port started", "service0"], Duration::from_secs(1));
    for word in ["rx_checksum=true", "tx_checksum=true", "tso=false"] {
        assert!(started.contains(word), "{started}");
    }

    lab.ip(Place::Client, &["addr", "flush", "dev", "eth0"]);
    lab.ip(Place::SiteA, &["link", "set", TAP, "netns", &lab.namespace(Place::Client)]);
    // net_tap gives both ends of it the same MAC address.
    lab.ip(Place::Client, &["link", "set", TAP, "address", "02:00:00:00:00:02", "up"]);
    lab.ip(Place::Client, &["addr", "add", "10.1.0.2/24", "dev", TAP]);
    lab.ip(Place::Client, &["addr", "add", "fd00:1::2/64", "dev", TAP, "nodad"]);
    for (n, vip) in [VIP.to_owned(), format!("[{VIP6}]")].into_iter().enumerate() {
        let within = Duration::from_secs(60);
        lab.client(&format!("download {vip}:7000 {BYTES} {n}"), within);
        lab.client(&format!("upload {vip}:7000 {BYTES} {n}"), within);
    }
    for gateway in [a, b] {
        gateway.stop();
    }
}
