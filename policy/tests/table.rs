//! The table: ids, lookups, dry-run policies, and questions that make no sense.

mod support;

use std::net::IpAddr;

use clgw_policy::limits::{MAX_LABELS_PER_OBJECT, MAX_SOURCE_ATTRIBUTES};
use clgw_policy::{
    Action, ClientId, ExportId, Fabric, Failover, ImportId, LbScheme, ObjectName, PeerId,
    PeerLabels, PolicyId, PolicyName, PolicyTable, Requirement, Selector, Side, Tier, Verdict,
};
use support::{fabric, labels, local, object, object_with, objects, policy, selector};

/// One peer, two imports, one export, two workloads.
fn shop() -> Fabric {
    fabric(&objects(&[
        object("Peer", "c", "{gateways: [{host: 192.0.2.3, port: 443}]}"),
        object_with(
            "Import",
            "name: db, namespace: shop, labels: {env: prod}",
            "
  port: 5432
  targetPort: 30000
  lbScheme: weighted
  failover: connection
  sources:
  - {peer: c, exportName: db, exportNamespace: shop, weight: 5}
  - {peer: b, exportName: db2, exportNamespace: shop2}",
        ),
        object_with("Import", "name: aa, namespace: zoo", "{port: 1, sources: []}"),
        object_with(
            "Export",
            "name: web, namespace: shop, labels: {env: prod}",
            "{host: 10.0.0.5, port: 8080}",
        ),
        object("Workload", "net", "{addresses: [10.0.0.0/8, 'fd00::/16']}"),
        object_with(
            "Workload",
            "name: host, namespace: shop, labels: {app: till}",
            "{serviceAccount: cashier, addresses: [10.0.0.7, 'fd00::/64', 192.0.2.0/24]}",
        ),
    ]))
}

fn compile(fabric: &Fabric) -> PolicyTable {
    PolicyTable::compile(fabric, &local("a", &[("zone", "1")]), 7, &PeerLabels::new())
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn put(fabric: &mut Fabric, name: PolicyName, action: Action, from: Selector, dry_run: bool) {
    let mut policy = policy(name, action, from, Selector::everything());
    policy.dry_run = dry_run;
    fabric.put_policy(policy).expect("valid");
}

#[test]
fn objects_are_found_by_id_and_name() {
    let table = compile(&shop());
    assert_eq!(table.generation(), 7);
    let id = table.find_import("shop", "db").expect("the import");
    let import = table.import(id).expect("the import");
    assert_eq!((import.port, import.target_port), (5432, Some(30000)));
    assert_eq!(import.labels, labels(&[("env", "prod")]));
    assert_eq!(&table.imports()[id.index()], import);
    assert!(table.find_import("zoo", "aa").is_some());
    assert_eq!(table.find_import("shop", "aa"), None);
    let export = table.find_export("shop", "web").and_then(|id| table.export(id));
    assert_eq!(export.map(|export| export.port), Some(8080));
    assert_eq!(table.find_export("shop", "db"), None);
    let source = &import.sources[1];
    assert_eq!((&*source.export_namespace, &*source.export_name), ("shop2", "db2"));
    assert_eq!((import.lb_scheme, import.failover), (LbScheme::Weighted, Failover::Connection));
    assert_eq!(import.sources.iter().map(|s| s.weight).collect::<Vec<_>>(), [5, 1]);
}

/// A source's peer always has an entry; without a Peer object it has no gateways.
#[test]
fn peers_that_only_sources_mention_have_no_gateways() {
    let table = compile(&shop());
    let peers: Vec<_> =
        table.peers().iter().map(|p| (&*p.name, p.gateways.len(), p.declared)).collect();
    assert_eq!(peers, [("b", 0, false), ("c", 1, true)]);
    assert_eq!(table.find_peer("c"), Some(PeerId(1)));
    let import = &table.imports()[0];
    for source in &import.sources {
        assert_eq!(table.peer(source.peer).map(|p| &p.name), Some(&source.peer_name));
    }
}

#[test]
fn the_longest_prefix_owns_an_address() {
    let table = compile(&shop());
    let owner = |text: &str| table.client_name(table.client(ip(text))).map(ToString::to_string);
    for (address, expected) in [
        ("10.0.0.7", Some("shop/host")),
        ("10.0.0.8", Some("default/net")),
        ("::ffff:10.0.0.7", Some("shop/host")),
        ("192.0.2.255", Some("shop/host")),
        ("192.0.3.0", None),
        ("fd00::1", Some("shop/host")),
        ("fd00:0:0:1::1", Some("default/net")),
        ("fd01::1", None),
        ("0.0.0.0", None),
    ] {
        assert_eq!(owner(address).as_deref(), expected, "{address}");
    }
    assert_eq!(table.client(ip("192.0.3.0")), ClientId::UNKNOWN);
}

#[test]
fn clients_have_the_attributes_sent_to_exporters() {
    let table = compile(&shop());
    let attributes = table.source_attributes(table.client(ip("10.0.0.7")));
    let attributes: Vec<_> = attributes.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(
        attributes,
        [
            ("client.clusterlink.net/labels.app", "till"),
            ("client.clusterlink.net/namespace", "shop"),
            ("client.clusterlink.net/service-account", "cashier"),
            ("peer.clusterlink.net/labels.zone", "1"),
            ("peer.clusterlink.net/name", "a"),
        ]
    );
    assert!(table.source_attributes(ClientId::UNKNOWN).is_empty());
}

#[test]
fn a_decision_names_what_decided() {
    let mut fabric = shop();
    let name = PolicyName::namespaced("shop", "allow");
    put(&mut fabric, name.clone(), Action::Allow, Selector::everything(), false);
    let table = compile(&fabric);
    let client = table.client(ip("10.0.0.7"));
    let decision = table.decide_egress(ImportId(0), 0, client);
    assert!(decision.is_allowed());
    assert_eq!((decision.side, decision.tier), (Side::Egress, Tier::Namespace));
    assert_eq!((decision.policy, decision.generation), ("shop/allow", 7));
    assert_eq!(table.policy(decision.id).map(|entry| &entry.name), Some(&name));
    let decision = table.decide_ingress(ExportId(0), [("x", "y")].into_iter());
    assert_eq!((decision.side, decision.policy), (Side::Ingress, "shop/allow"));
}

#[test]
fn questions_about_nothing_are_denied() {
    let mut fabric = shop();
    put(&mut fabric, PolicyName::privileged("all"), Action::Allow, Selector::everything(), false);
    let table = compile(&fabric);
    let client = table.client(ip("10.0.0.7"));
    assert!(table.decide_egress(ImportId(0), 1, client).is_allowed());
    for decision in [
        table.decide_egress(ImportId(9), 0, client),
        table.decide_egress(ImportId(0), 2, client),
        table.decide_egress(ImportId(0), usize::MAX, client),
        table.decide_egress(ImportId(u32::MAX), 0, ClientId::UNKNOWN),
        table.decide_egress(ImportId(0), 0, ClientId(77)),
        table.decide_ingress(ExportId(9), [("x", "y")].into_iter()),
    ] {
        assert_eq!(decision.verdict, Verdict::Deny);
        assert_eq!(
            (decision.id, decision.policy),
            (PolicyId::STALE_REFERENCE, "<stale reference>")
        );
        assert_eq!(decision.tier, Tier::Guard);
    }
    assert!(table.import(ImportId(9)).is_none() && table.client_name(ClientId(77)).is_none());
    assert!(table.policy(PolicyId::DEFAULT_DENY).is_none());
}

#[test]
fn dry_run_policies_are_reported_and_never_enforced() {
    let everything = Selector::everything;
    let till = || selector(&[("client.clusterlink.net/labels.app", "till")]);
    let allow = PolicyName::namespaced("shop", "allow");
    let trial = PolicyName::privileged("trial");
    let ask = |fabric: &Fabric, address: &str| {
        let table = compile(fabric);
        let decision = table.decide_egress(ImportId(0), 0, table.client(ip(address)));
        let dry = decision.dry_run_match.and_then(|id| table.policy(id));
        (decision.verdict, dry.map(|entry| entry.text().to_owned()))
    };
    let mut fabric = shop();
    // Would allow what nothing else allows.
    put(&mut fabric, trial.clone(), Action::Allow, everything(), true);
    assert_eq!(ask(&fabric, "10.0.0.7"), (Verdict::Deny, Some("trial".to_owned())));
    // Says the same as the enforced policy: nothing would change.
    put(&mut fabric, allow.clone(), Action::Allow, everything(), false);
    assert_eq!(ask(&fabric, "10.0.0.7"), (Verdict::Allow, None));
    // Would deny.
    put(&mut fabric, trial.clone(), Action::Deny, everything(), true);
    assert_eq!(ask(&fabric, "10.0.0.7"), (Verdict::Allow, Some("trial".to_owned())));
    // Would be overruled.
    put(&mut fabric, PolicyName::privileged("sure"), Action::Allow, everything(), false);
    put(&mut fabric, PolicyName::namespaced("shop", "late"), Action::Deny, everything(), true);
    fabric.delete_policy(&trial).expect("it exists");
    assert_eq!(ask(&fabric, "10.0.0.7"), (Verdict::Allow, None));
    // A dry-run policy that looks at sources does not raise the guard, but would.
    put(&mut fabric, trial, Action::Allow, till(), true);
    assert_eq!(ask(&fabric, "172.16.0.1"), (Verdict::Allow, Some("trial".to_owned())));
    assert_eq!(ask(&fabric, "10.0.0.7"), (Verdict::Allow, None));
}

/// Of a repeated attribute the last value counts, as a JSON object would have it.
#[test]
fn repeated_attributes_count_once() {
    let mut fabric = shop();
    let from = selector(&[("client.clusterlink.net/labels.app", "till")]);
    put(&mut fabric, PolicyName::namespaced("shop", "p"), Action::Allow, from, false);
    let table = compile(&fabric);
    let key = "client.clusterlink.net/labels.app";
    let ask = |pairs: &[(&str, &str)]| {
        table.decide_ingress(ExportId(0), pairs.iter().copied()).is_allowed()
    };
    assert!(ask(&[(key, "till")]));
    assert!(ask(&[(key, "other"), (key, "till")]));
    assert!(!ask(&[(key, "till"), (key, "other")]));
    assert!(!ask(&[(key, "till"), (key, "unheard of")]));
}

/// Counted are all that a peer sends: a limit on those that policies mention would let a dry-run
/// policy turn a verdict.
#[test]
fn the_number_of_attributes_is_bounded() {
    let mut fabric = shop();
    let keys: Vec<String> = (0..=MAX_SOURCE_ATTRIBUTES)
        .map(|n| format!("client.clusterlink.net/labels.k{n}"))
        .collect();
    let requirements = keys
        .iter()
        .map(|key| Requirement::new(key, clgw_policy::Operator::NotIn, ["bad"]).expect("valid"));
    let from = Selector::new(requirements);
    put(&mut fabric, PolicyName::namespaced("shop", "p"), Action::Allow, from, false);
    let table = compile(&fabric);
    let ask = |mentioned: usize, noise: usize| {
        let pairs = keys[..mentioned].iter().map(|key| (&**key, "v"));
        let noise = (0..noise).map(|_| ("noise", "v"));
        table.decide_ingress(ExportId(0), noise.chain(pairs)).id
    };
    assert_eq!(ask(MAX_SOURCE_ATTRIBUTES, 0), PolicyId(0));
    assert_eq!(ask(MAX_SOURCE_ATTRIBUTES + 1, 0), PolicyId::TOO_MANY_ATTRIBUTES);
    assert_eq!(ask(1, MAX_SOURCE_ATTRIBUTES - 1), PolicyId(0));
    assert_eq!(ask(1, MAX_SOURCE_ATTRIBUTES), PolicyId::TOO_MANY_ATTRIBUTES);
}

/// A client with as many labels as an object may have passes its exporter.
#[test]
fn the_largest_client_fits() {
    let mut fabric = shop();
    let many: clgw_policy::Labels =
        (0..MAX_LABELS_PER_OBJECT).map(|n| (format!("k{n}").into(), "v".into())).collect();
    let mut workload = fabric.workloads().next().expect("a workload").clone();
    workload.name = ObjectName::new("shop", "large");
    workload.labels.clone_from(&many);
    workload.addresses = vec!["172.16.0.1/32".parse().expect("a prefix")];
    fabric.put_workload(workload);
    let from = Selector::new(many.keys().flat_map(|key| {
        ["peer", "client"].map(|owner| {
            let key = format!("{owner}.clusterlink.net/labels.{key}");
            Requirement::new(&key, clgw_policy::Operator::Exists, []).expect("valid")
        })
    }));
    put(&mut fabric, PolicyName::privileged("p"), Action::Allow, from, false);
    let me = clgw_policy::LocalPeer { name: "a".into(), labels: many };
    let table = PolicyTable::compile(&fabric, &me, 1, &PeerLabels::new());
    let attributes = table.source_attributes(table.client(ip("172.16.0.1")));
    let pairs = attributes.iter().map(|(key, value)| (&**key, &**value));
    assert!(table.decide_ingress(ExportId(0), pairs).is_allowed());
}

#[test]
fn fingerprints_outlive_generations() {
    let mut fabric = shop();
    let name = PolicyName::namespaced("shop", "p");
    put(&mut fabric, name.clone(), Action::Allow, Selector::everything(), false);
    put(&mut fabric, PolicyName::privileged("p"), Action::Deny, Selector::everything(), false);
    let before = compile(&fabric);
    put(&mut fabric, name.clone(), Action::Deny, Selector::everything(), true);
    put(&mut fabric, PolicyName::privileged("a"), Action::Deny, Selector::everything(), false);
    let after = compile(&fabric);
    let of = |table: &PolicyTable, name: &PolicyName| {
        table.policies().iter().find(|entry| entry.name == *name).map(|entry| entry.fingerprint)
    };
    assert_eq!(of(&before, &name), of(&after, &name));
    let other = PolicyName::privileged("p");
    assert_eq!(of(&before, &other), of(&after, &other));
    assert_ne!(of(&before, &name), of(&before, &other));
}

/// The same fabric always gives the same ids, whatever the order in which it was built.
#[test]
fn ids_do_not_depend_on_history() {
    let names = ["c", "a", "b"].map(PolicyName::privileged);
    let build = |order: &[usize]| {
        let mut fabric = Fabric::new();
        for index in order {
            put(&mut fabric, names[*index].clone(), Action::Deny, Selector::everything(), false);
        }
        compile(&fabric).policies().to_vec()
    };
    assert_eq!(build(&[0, 1, 2]), build(&[2, 1, 0]));
}
