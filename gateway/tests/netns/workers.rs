//! Two workers in each gateway, on ports with two queues.

use std::thread;
use std::time::Duration;

use clgw::limits::{COUNTER_PUBLISH, TUNNEL_PING_INTERVAL};

use crate::gateway::Gateway;
use crate::lab::{Lab, Place, eventually};
use crate::site::{Site, SiteOptions, VIP};
use crate::world::{World, services};

const MIB: u64 = 1 << 20;
const CPUS: [usize; 2] = [0, 1];
/// `tunnel.warm` by default.
const WARM: u64 = 2;

/// A load over many connections, and one over a single one.
fn put_load(lab: &Lab) {
    lab.client(&format!("echo {VIP}:7000 200 100000 61"), Duration::from_secs(60));
    lab.client(&format!("download {VIP}:7000 {} 62", 50 * MIB), Duration::from_secs(60));
}

/// A counter of each worker.
fn each(counters: &[serde_json::Value], name: &str) -> Vec<u64> {
    counters.iter().map(|c| c[name].as_u64().expect("a counter")).collect()
}

/// What the workers of both gateways have counted by now.
fn read(a: &mut Gateway, b: &mut Gateway) -> [Vec<serde_json::Value>; 2] {
    thread::sleep(2 * COUNTER_PUBLISH);
    [a.counters(CPUS.len()), b.counters(CPUS.len())]
}

#[test]
fn two_workers_on_two_queues() {
    let a = SiteOptions { cpus: CPUS.into(), ..SiteOptions::a() };
    let b = SiteOptions { cpus: CPUS.into(), ..SiteOptions::b() };
    let world = World::with(&a, &b);
    put_load(&world.lab);
    let (a, b) = world.stop();
    for log in [&a, &b] {
        assert!(log.contains("workers=2"), "{log}");
        // The kernel spreads frames by a hash of its own: some land at the other worker, are
        // handed over, and none may be lost on the way.
        assert!(!log.contains("inbox_full"), "{log}");
        let counters = log.lines().find(|l| l.contains("strays=")).expect("counters");
        assert!(!counters.contains("strays=0 "), "no frame was handed over: {counters}");
    }
    assert!(a.contains("201 client connections"), "{a}");
}

/// Between the gateways net_memif, whose sender chooses the queue: a worker's frames arrive at the
/// worker of the same number, and it is theirs, since the RSS key is symmetric.
#[test]
fn two_workers_on_two_queues_of_shared_memory() {
    let lab = Lab::new();
    let _services = services(&lab);
    let root = lab.dir.path();
    let socket = root.join("wan.sock").display().to_string();
    let wan = |role: &str| {
        let rest = "socket-abstract=no,rsize=10,bsize=2048";
        Some(format!("net_memif1,role={role},id=0,socket={socket},{rest}"))
    };
    let a = SiteOptions { cpus: CPUS.into(), wan: wan("client"), ..SiteOptions::a() };
    let b = SiteOptions { cpus: CPUS.into(), wan: wan("server"), ..SiteOptions::b() };
    // The end that makes the socket comes first.
    let site_b = Site::exporter(root, &b);
    let mut b = Gateway::start(&lab, "gateway-b", Place::SiteB, &site_b);
    let site_a = Site::importer(root, &a);
    let mut a = Gateway::start(&lab, "gateway-a", Place::SiteA, &site_a);
    let warm = eventually("warm tunnels", Duration::from_secs(20), || {
        let counters = read(&mut a, &mut b);
        let tunnels =
            [each(&counters[0], "tunnels_opened"), each(&counters[1], "tunnels_accepted")];
        (tunnels == [[WARM; CPUS.len()]; 2]).then_some(counters)
    });
    // Nothing but tunnels that are pinged. Not from the beginning on: while the two ends connect,
    // the driver may read one queue's frames from the other.
    thread::sleep(TUNNEL_PING_INTERVAL + Duration::from_secs(1));
    for (later, warm) in read(&mut a, &mut b).iter().zip(&warm) {
        let growth = |name| -> Vec<u64> {
            each(later, name)
                .iter()
                .zip(each(warm, name))
                .map(|(later, warm)| later - warm)
                .collect()
        };
        // Each tunnel's ping, or its answer.
        assert!(growth("rx_frames").iter().all(|n| *n >= WARM), "{warm:?} {later:?}");
        assert_eq!(growth("strays"), [0, 0], "a frame missed its worker: {warm:?} {later:?}");
    }

    put_load(&lab);
    for (counters, name) in
        read(&mut a, &mut b).iter().zip(["clients_accepted", "services_connected"])
    {
        let connections = each(counters, name);
        assert_eq!(connections.iter().sum::<u64>(), 201, "{counters:?}");
        assert!(connections.iter().all(|n| *n > 20), "{counters:?}");
        let bytes = each(counters, "bytes_from_peer");
        assert!(bytes.iter().all(|n| *n > MIB), "{counters:?}");
        // Those of the other port, which the kernel spreads.
        assert!(each(counters, "strays").iter().sum::<u64>() > 0, "{counters:?}");
    }
    // Not stopped but killed: net_memif of DPDK 22.11 may crash when its other end goes away.
}
