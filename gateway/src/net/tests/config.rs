//! Configurations that cannot work.

use super::*;
use crate::net::StackError;

#[test]
fn impossible_configurations_are_refused() {
    let with = |change: &dyn Fn(&mut PortStackConfig)| {
        let mut config = config();
        change(&mut config);
        PortStack::new(config).unwrap_err()
    };
    assert_eq!(with(&|c| c.mac = GROUP_1), StackError::Mac(GROUP_1));
    assert_eq!(with(&|c| c.mtu = 1279), StackError::Mtu(1279));
    assert_eq!(with(&|c| c.mtu = 65_536), StackError::Mtu(65_536));
    assert_eq!(with(&|c| c.vips = vec![ip("10.1.1.1"); 1023]), StackError::TooManyAddresses(1025));
    for bad in
        ["224.0.0.1", "0.0.0.0", "127.0.0.1", "255.255.255.255", "::ffff:10.0.0.1", "ff02::1"]
    {
        assert_eq!(with(&|c| c.vips.push(ip(bad))), StackError::NotUnicast(ip(bad)));
    }
    let far = Route { to: "10.9.0.0/16".parse().unwrap(), via: ip("192.0.2.1") };
    assert_eq!(
        with(&|c| c.routes.push(far)),
        StackError::GatewayOffLink { to: far.to, via: far.via }
    );
    let many = with(&|c| c.routes = vec![c.routes[0]; 257]);
    assert_eq!(many, StackError::TooManyRoutes(257));
    assert!(many.to_string().contains("257"), "{many}");
}

#[test]
fn what_is_local() {
    let stack = Host::new().stack;
    for ours in
        ["10.0.0.1", "10.0.9.9", "fd00::1", "fd00:9::9", "fe80::ff:fe00:1", "::ffff:10.0.0.1"]
    {
        assert!(stack.is_local(ip(ours)), "{ours}");
    }
    for other in ["10.0.0.2", "10.0.0.254", "fd00::2", "fe80::1", "::1", "127.0.0.1"] {
        assert!(!stack.is_local(ip(other)), "{other}");
    }
    assert_eq!((stack.mac(), stack.mtu()), (OURS, 1500));
}
