//! RSS as far as net_null takes part, statistics, link, idle helpers.

use std::time::Duration;

use dpdk_bindings::idle::{cycles, cycles_hz, set_timer_slack};
use dpdk_bindings::rss::even_reta;
use dpdk_bindings::testing::{RingPairConfig, config};
use dpdk_bindings::{
    Device, Eal, EalConfig, MbufPool, PortConfig, RssConfig, RssKey, RssTypes, RxInterrupts,
};

mod common;
use common::{Burst, POOL, cable, frame, queue_of};

#[test]
fn rss_statistics_and_idling() {
    let devices = vec![Device::Vdev("net_null0,size=100,copy=1".into())];
    let eal = Eal::init(&EalConfig { devices, ..config() }).unwrap();
    let pool = MbufPool::new(&eal, "rss", POOL).unwrap();
    let pools = [pool.clone()];

    let null = eal.port_by_name("net_null0").unwrap();
    let info = null.info().unwrap();
    assert_eq!(info.driver, "net_null");
    assert_eq!((info.reta_size, info.rss_key_len), (128, 0), "the driver does not state its key");
    assert!(info.rss_types.contains(RssTypes::TCP), "{:?}", info.rss_types);
    assert!(info.min_mtu <= 1500 && info.max_mtu >= 1500);
    let reta: Vec<u16> = even_reta(info.reta_size, 2).into_iter().rev().collect();
    let rss = RssConfig { key: None, reta: Some(reta.clone()), ..RssConfig::default() };
    let port = PortConfig { rx_queues: 2, tx_queues: 2, rss: Some(rss), ..PortConfig::default() };
    let (null, mut queues) = null.configure(port, &pools).unwrap().start().unwrap();
    assert_eq!(null.reta().unwrap(), reta, "what start wrote");
    null.set_reta(&even_reta(128, 2)).unwrap();
    assert_eq!(null.reta().unwrap(), even_reta(128, 2));
    assert!(null.set_reta(&[0; 64]).unwrap_err().hint.contains("64 entries"));
    assert!(null.set_reta(&[2; 128]).unwrap_err().hint.contains("Queue 2"));
    null.set_rss(&RssKey::SYMMETRIC, RssTypes::IPV4_TCP).unwrap();
    let (key, types) = null.rss().unwrap();
    assert_eq!(key, RssKey::SYMMETRIC);
    assert!(types.contains(RssTypes::IPV4_TCP), "{types:?}");

    let mut got = Burst::new();
    assert_eq!(queues[0].0.burst(&mut got), 64);
    assert_eq!(got[0].len(), 100);
    assert_eq!(queues[0].1.burst(&mut got.drain(..).collect()), 64);
    let stats = null.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (64, 64));
    assert_eq!((stats.rx_errors, stats.rx_missed, stats.rx_no_mbuf), (0, 0, 0));
    assert_eq!(pool.in_use(), 0);

    // A cable has no RSS to set, and says so.
    let (mut a, b) = cable(&eal, "stats", RingPairConfig::default(), &pool);
    assert!(a.port.reta().unwrap_err().hint.contains("software"));
    assert!(a.port.set_rss(&RssKey::MICROSOFT, RssTypes::TCP).is_err());
    assert!(a.port.link().unwrap().up);
    assert!(a.port.mac().is_ok());
    assert_eq!(a.port.mtu().unwrap(), 1500);
    a.tx().burst(&mut queue_of((0..5).map(|n| frame(&pool, n, 60))));
    assert_eq!(a.port.stats().unwrap().tx_packets, 5);
    let xstats = a.port.xstats().unwrap();
    let sent = xstats.iter().find(|x| x.name == "tx_good_packets").expect("a generic counter");
    assert_eq!(sent.value, 5);
    assert_eq!(b.port.stats().unwrap().rx_packets, 0);

    // Idling: what the driver cannot do is an error with another way, and the clock runs.
    let error = RxInterrupts::new().unwrap().watch(a.rx()).unwrap_err();
    assert!(error.hint.contains("idle policy"), "{error}");
    let error = a.tx().reclaim(0).unwrap_err();
    assert!(error.hint.contains("size the pool"), "{error}");
    set_timer_slack(Duration::from_micros(1)).unwrap();
    let (start, hz) = (cycles(), cycles_hz());
    std::thread::sleep(Duration::from_millis(20));
    assert!(hz > 1_000_000 && cycles() - start >= hz / 100, "20 ms are more than a hundredth");
}
