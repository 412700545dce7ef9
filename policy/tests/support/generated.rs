//! Generated fabrics, changes of them and questions about them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clgw_policy::attributes::Attributes;
use clgw_policy::{
    AccessPolicy, Action, Export, Fabric, Failover, Gateway, Host, Import, ImportSource, Labels,
    LbScheme, LocalPeer, ObjectName, Operator, Peer, PeerLabels, PolicyName, Requirement, Selector,
    Workload,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

pub const NAMESPACES: [&str; 2] = ["red", "blue"];
pub const PEERS: [&str; 3] = ["a", "b", "c"];
pub const NAMES: [&str; 3] = ["x", "y", "z"];
pub const VALUES: [&str; 3] = ["1", "2", "3"];
/// Few enough that selectors hit often; one key that no object ever has.
pub const KEYS: [&str; 10] = [
    "peer.clusterlink.net/name",
    "peer.clusterlink.net/labels.k",
    "client.clusterlink.net/namespace",
    "client.clusterlink.net/service-account",
    "client.clusterlink.net/labels.k",
    "client.clusterlink.net/labels.dom.ain/k",
    "export.clusterlink.net/name",
    "export.clusterlink.net/namespace",
    "export.clusterlink.net/labels.k",
    "never",
];

/// A change of a fabric.
#[derive(Debug, Clone)]
pub enum Change {
    Policy(AccessPolicy),
    DeletePolicy(PolicyName),
    Workload(Workload),
    DeleteWorkload(ObjectName),
    Import(Import),
    DeleteImport(ObjectName),
    Export(Export),
    DeleteExport(ObjectName),
    Peer(Peer),
    DeletePeer(&'static str),
}

pub fn object_name() -> impl Strategy<Value = ObjectName> {
    (select(&NAMESPACES[..]), select(&NAMES[..])).prop_map(|(ns, name)| ObjectName::new(ns, name))
}

pub fn policy_name() -> impl Strategy<Value = PolicyName> {
    prop_oneof![
        select(&NAMES[..]).prop_map(PolicyName::privileged),
        (select(&NAMESPACES[..]), select(&NAMES[..]))
            .prop_map(|(ns, name)| PolicyName::namespaced(ns, name)),
    ]
}

pub fn labels() -> impl Strategy<Value = Labels> {
    btree_map(
        select(&["k", "dom.ain/k"][..]).prop_map(Into::into),
        select(&VALUES[..]).prop_map(Into::into),
        0..=2,
    )
}

/// All values that any key can have.
pub fn value() -> impl Strategy<Value = &'static str> {
    let all: Vec<_> = [&VALUES[..], &PEERS, &NAMES, &NAMESPACES].concat();
    select(all)
}

pub fn requirement() -> impl Strategy<Value = Requirement> {
    (select(&KEYS[..]), select(&Operator::ALL[..]), vec(value(), 1..6)).prop_map(
        |(key, operator, values)| {
            let values = if operator.takes_values() { values } else { Vec::new() };
            Requirement::new(key, operator, values).expect("valid")
        },
    )
}

pub fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        2 => Just(Selector::everything()),
        5 => vec(requirement(), 1..=3).prop_map(Selector::new),
    ]
}

pub fn policy() -> impl Strategy<Value = AccessPolicy> {
    (
        policy_name(),
        select(&[Action::Allow, Action::Deny][..]),
        vec(selector(), 1..=3),
        vec(selector(), 1..=3),
        prop::bool::weighted(0.25),
    )
        .prop_map(|(name, action, from, to, dry_run)| AccessPolicy {
            name,
            action,
            from,
            to,
            dry_run,
        })
}

pub fn ip() -> impl Strategy<Value = IpAddr> {
    // A dense corner of both families, so that prefixes overlap.
    prop_oneof![
        (0u8..2, 0u8..8).prop_map(|(c, d)| Ipv4Addr::new(10, 0, c, d).into()),
        (0u16..2, 0u16..8).prop_map(|(g, h)| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, g, h).into()),
        (0u8..2, 0u8..8).prop_map(|(c, d)| Ipv4Addr::new(10, 0, c, d).to_ipv6_mapped().into()),
    ]
}

pub fn prefix() -> impl Strategy<Value = IpNet> {
    (ip(), select(&[0u8, 8, 24, 29, 30, 31, 32][..]), any::<bool>()).prop_map(|(ip, len, host)| {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                IpNet::V4(Ipv4Net::new(ip, if host { 32 } else { len }).expect("a length")).trunc()
            }
            IpAddr::V6(ip) => {
                let len = if host { 128 } else { 96 + len };
                IpNet::V6(Ipv6Net::new(ip, len).expect("a length")).trunc()
            }
        }
    })
}

pub fn workload() -> impl Strategy<Value = Workload> {
    (object_name(), labels(), select(&["1", "default"][..]), vec(prefix(), 1..=3)).prop_map(
        |(name, labels, account, addresses)| Workload {
            name,
            labels,
            service_account: account.into(),
            addresses,
        },
    )
}

pub fn import() -> impl Strategy<Value = Import> {
    let source = (select(&PEERS[..]), object_name()).prop_map(|(peer, export)| ImportSource {
        peer: peer.into(),
        export,
        weight: 1,
    });
    (object_name(), labels(), vec(source, 0..=4)).prop_map(|(name, labels, sources)| Import {
        name,
        labels,
        port: 80,
        target_port: None,
        lb_scheme: LbScheme::RoundRobin,
        failover: Failover::Authorization,
        sources,
    })
}

pub fn export() -> impl Strategy<Value = Export> {
    (object_name(), labels()).prop_map(|(name, labels)| Export {
        name,
        labels,
        host: Host::Ip(Ipv4Addr::LOCALHOST.into()),
        port: 80,
    })
}

pub fn peer() -> impl Strategy<Value = Peer> {
    select(&PEERS[..]).prop_map(|name| Peer {
        name: name.into(),
        gateways: vec![Gateway { host: Host::Ip(Ipv4Addr::LOCALHOST.into()), port: 443 }],
    })
}

pub fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => policy().prop_map(Change::Policy),
        3 => policy_name().prop_map(Change::DeletePolicy),
        3 => workload().prop_map(Change::Workload),
        1 => object_name().prop_map(Change::DeleteWorkload),
        3 => import().prop_map(Change::Import),
        1 => object_name().prop_map(Change::DeleteImport),
        3 => export().prop_map(Change::Export),
        1 => object_name().prop_map(Change::DeleteExport),
        1 => peer().prop_map(Change::Peer),
        1 => select(&PEERS[..]).prop_map(Change::DeletePeer),
    ]
}

pub fn apply(fabric: &mut Fabric, change: Change) {
    match change {
        Change::Policy(policy) => {
            fabric.put_policy(policy).expect("both sides given");
        }
        Change::DeletePolicy(name) => {
            let existed = fabric.policies().any(|policy| policy.name == name);
            assert_eq!(fabric.delete_policy(&name).is_ok(), existed);
        }
        Change::Workload(workload) => {
            fabric.put_workload(workload);
        }
        Change::DeleteWorkload(name) => {
            fabric.delete_workload(&name);
        }
        Change::Import(import) => {
            fabric.put_import(import).expect("few sources");
        }
        Change::DeleteImport(name) => {
            fabric.delete_import(&name);
        }
        Change::Export(export) => {
            fabric.put_export(export);
        }
        Change::DeleteExport(name) => {
            fabric.delete_export(&name);
        }
        Change::Peer(peer) => {
            fabric.put_peer(peer);
        }
        Change::DeletePeer(name) => {
            fabric.delete_peer(name);
        }
    }
}

/// What a peer may claim about a client, honest or not.
pub fn claim() -> impl Strategy<Value = Attributes> {
    btree_map(
        select(&KEYS[..]).prop_map(Into::into),
        prop_oneof![value().prop_map(Into::into), Just("unheard-of".into())],
        0..=5,
    )
}

pub fn local() -> impl Strategy<Value = LocalPeer> {
    (select(&PEERS[..]), labels())
        .prop_map(|(name, labels)| LocalPeer { name: name.into(), labels })
}

pub fn reported_labels() -> impl Strategy<Value = PeerLabels> {
    btree_map(select(&PEERS[..]).prop_map(Into::into), labels(), 0..=3)
}

/// `PROPTEST_CASES` in the environment replaces `cases`, for long runs.
pub fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let cases = asked.unwrap_or(cases);
    ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}
