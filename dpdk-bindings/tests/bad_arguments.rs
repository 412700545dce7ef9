//! Bad arguments become errors that say what to do; none ends the process.

use dpdk_bindings::testing::{RingPairConfig, config, ring_pair};
use dpdk_bindings::{
    Device, Eal, EalConfig, LcoreMap, MbufPool, PoolConfig, Port, PortConfig, RssConfig,
    RxOffloads, TxOffloads, Unconfigured,
};

mod common;
use common::POOL;

#[track_caller]
fn says<T>(result: Result<T, dpdk_bindings::DpdkError>, text: &str) {
    let error = result.err().expect("is refused").to_string();
    assert!(error.contains(text), "`{text}` is not in: {error}");
}

#[test]
fn bad_arguments_are_errors() {
    // Options: checked before EAL sees them, so the start below still works.
    let bad = |change: fn(&mut EalConfig)| {
        let mut config = config();
        change(&mut config);
        Eal::init(&config)
    };
    says(bad(|c| c.extra = vec!["--help".into()]), "Only these");
    says(bad(|c| c.extra = vec!["--no-such-option".into()]), "Only these");
    says(bad(|c| c.lcores = LcoreMap::Map(vec![(0, 1000)])), "CPU 1000");
    says(bad(|c| c.devices = vec![Device::Pci("eth0".into())]), "lspci");
    says(bad(|c| c.devices = vec![Device::Vdev("".into())]), "A vdev is");
    says(bad(|c| c.program.clear()), "program name");
    says(bad(|c| c.memory_mib = u32::MAX), "MiB");

    let devices = vec![Device::Vdev("net_null0".into())];
    let eal = Eal::init(&EalConfig { devices, ..config() }).unwrap();
    assert!(Eal::version().starts_with("DPDK "));
    assert_eq!(eal.port_names(), ["net_null0"]);

    // Pools.
    let pool = |name: &str, config| MbufPool::new(&eal, name, config);
    let first = pool("one", POOL).unwrap();
    says(pool("one", POOL), "choose another");
    says(pool("", POOL), "1 to 25 bytes");
    says(pool("a-name-that-is-too-long-for-dpdk", POOL), "1 to 25 bytes");
    says(pool("x", PoolConfig { count: 0, ..POOL }), "above 0");
    says(pool("x", PoolConfig { cache: 4096, count: 8191, ..POOL }), "at most 512");
    says(pool("x", PoolConfig { cache: 100, count: 120, ..POOL }), "two thirds");
    says(pool("x", PoolConfig { count: u32::MAX, ..POOL }), "below 2^30");
    says(pool("x", PoolConfig { count: (1 << 30) - 1, ..POOL }), "raise memory_mib");
    says(pool("x", PoolConfig { data_room: u16::MAX, ..POOL }), "65407 bytes");
    says(pool("x", PoolConfig { count: 1 << 20, data_room: 9000, ..POOL }), "raise memory_mib");

    // Ports.
    says(eal.port_by_name("net_null1"), "there are: net_null0");
    says(eal.port_by_name("net\0null"), "zero byte");
    let null = eal.port_by_name("net_null0").unwrap();
    says(eal.port_by_name("net_null0"), "in use");
    drop(null);
    drop(eal.port_by_name("net_null0").expect("an unconfigured port can be found again"));
    says(ring_pair(&eal, "", RingPairConfig::default()), "1 to 20 bytes");
    says(ring_pair(&eal, "x", RingPairConfig { queues: 17, slots: 8 }), "1 to 16 queues");

    let pools = [first.clone()];
    let mut index = 0;
    let mut with = |change: fn(&mut PortConfig)| -> Result<_, dpdk_bindings::DpdkError> {
        index += 1;
        let (port, _): (Port<Unconfigured>, _) =
            ring_pair(&eal, &format!("bad{index}"), RingPairConfig { queues: 2, slots: 8 })?;
        let mut config = PortConfig::default();
        change(&mut config);
        port.configure(config, &pools)
    };
    says(with(|c| c.rx_queues = 0), "at least 1");
    says(with(|c| c.rx_queues = 2), "the same number");
    says(with(|c| (c.rx_queues, c.tx_queues) = (3, 3)), "3 queues are wanted and net_ring has 2");
    says(with(|c| c.rx_desc = 0), "above 0");
    says(with(|c| c.rx_offloads = RxOffloads::LRO), "receive offloads lro");
    says(
        with(|c| c.tx_offloads = TxOffloads::TCP_TSO | TxOffloads::MULTI_SEGS),
        "send offloads tcp-tso; it has: multi-segs",
    );
    says(with(|c| c.rss = Some(RssConfig::default())), "hashes none of");
    says(with(|c| c.mtu = Some(9000)), "data room of 9018 bytes and pool `one` has 2048");
    assert!(with(|_| ()).is_ok());

    // One pool for all queues or one each, nothing else.
    let (port, _b) = ring_pair(&eal, "pools", RingPairConfig { queues: 2, slots: 8 }).unwrap();
    let config = PortConfig { rx_queues: 2, tx_queues: 2, ..PortConfig::default() };
    says(port.configure(config, &[]), "0 pools were given for 2 queues");
    says(dpdk_bindings::pin_current_thread(1000), "Cpus_allowed_list");
}
