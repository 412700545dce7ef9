//! A device whose driver is not installed: an error with the package to look for, not an exit.

use dpdk_bindings::testing::config;
use dpdk_bindings::{Device, Eal, EalConfig};

#[test]
fn an_unknown_driver_is_an_error() {
    let devices = vec![Device::Vdev("net_nosuchdriver0".into())];
    let error = Eal::init(&EalConfig { devices, ..config() }).unwrap_err();
    assert!(error.hint.contains("librte-net"), "{error}");
    assert!(error.to_string().contains("net_nosuchdriver0"), "{error}");
    // EAL's state after a failure is not to be trusted: no second try in this process.
    let again = Eal::init(&config()).unwrap_err();
    assert!(again.hint.contains("restart"), "{again}");
}
