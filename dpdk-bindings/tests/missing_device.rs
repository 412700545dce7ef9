//! A device that fails to open does not stop EAL; asking for its port explains what happened.

use dpdk_bindings::testing::config;
use dpdk_bindings::{Device, Eal, EalConfig};

#[test]
fn a_device_that_fails_to_open_is_explained() {
    let devices = vec![
        Device::Vdev("net_null0".into()),
        Device::Vdev("net_af_packet0,iface=clgw-absent0".into()),
    ];
    let eal = Eal::init(&EalConfig { devices, ..config() }).unwrap();
    assert_eq!(eal.port_names(), ["net_null0"]);
    let error = eal.port_by_name("net_af_packet0").unwrap_err();
    assert_eq!(error.op, "find port");
    assert_eq!(error.subject, "net_af_packet0");
    assert!(error.hint.contains("there are: net_null0"), "{error}");
    assert!(error.hint.contains("CAP_NET_RAW"), "{error}");
    assert!(error.log.contains("net_af_packet0"), "the driver's own words are kept: {error}");
    assert!(eal.port_by_name("net_null0").is_ok());
}
