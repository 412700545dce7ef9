//! The demo's objects decide what the demo shows, at both sites.

use std::collections::BTreeMap;
use std::path::Path;

use clgw_policy::{ClientId, Fabric, LocalPeer, PeerLabels, PolicyTable};

fn fabric(site: &str) -> Fabric {
    let directory =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/demo").join(site).join("objects");
    let files = clgw::config::read_objects(&directory).unwrap();
    let loaded = clgw_policy::load(&files).unwrap();
    assert_eq!(loaded.warnings, []);
    loaded.fabric
}

fn table(site: &str) -> PolicyTable {
    let label = site.trim_start_matches("site-");
    let local =
        LocalPeer { name: site.into(), labels: BTreeMap::from([("site".into(), label.into())]) };
    PolicyTable::compile(&fabric(site), &local, 1, &PeerLabels::new())
}

#[test]
fn the_client_is_allowed_and_the_stranger_is_refused_by_name_at_both_sites() {
    let (a, b) = (table("site-a"), table("site-b"));
    for service in ["web", "iperf"] {
        let import = a.find_import("demo", service).unwrap();
        let export = b.find_export("demo", service).unwrap();
        let ingress = |client: ClientId| {
            let attributes = a.source_attributes(client);
            b.decide_ingress(export, attributes.iter().map(|(k, v)| (&**k, &**v)))
        };
        for address in ["10.1.0.2", "fd00:1::2"] {
            let client = a.client(address.parse().unwrap());
            assert!(a.decide_egress(import, 0, client).is_allowed(), "{service} {address}");
            assert!(ingress(client).is_allowed(), "{service} {address}");
        }
        let stranger = a.client("10.1.0.3".parse().unwrap());
        for decision in [a.decide_egress(import, 0, stranger), ingress(stranger)] {
            assert!(!decision.is_allowed());
            assert_eq!(decision.policy, "no-strangers");
        }
        let unknown = a.client("10.1.0.99".parse().unwrap());
        assert!(!a.decide_egress(import, 0, unknown).is_allowed());
        assert!(!ingress(unknown).is_allowed());
    }
}
