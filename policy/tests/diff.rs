//! The comparison of two states against asking the reference evaluator about each of them.

mod support;

use std::net::IpAddr;

use clgw_policy::attributes;
use clgw_policy::connection::NO_SUCH_EXPORT;
use clgw_policy::diff::{self, Change, Decisions, NO_SUCH_SOURCE, Say, Service, State};
use clgw_policy::reference::{Outcome, Reference};
use clgw_policy::{Fabric, LocalPeer, PeerLabels, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;

use support::generated::{apply, change, config, ip, local, reported_labels};
use support::{object, object_with, objects};

fn say(outcome: Option<Outcome>, nothing: &str) -> Say {
    outcome.map_or_else(
        || Say { allowed: false, policy: nothing.to_owned() },
        |outcome| Say { allowed: outcome.verdict == Verdict::Allow, policy: outcome.policy },
    )
}

/// What the comparison says about one client and service; None when nothing changed.
fn found(decisions: &Decisions, service: &Service, client: &str) -> Vec<(Say, Say)> {
    let id = decisions.clients.iter().position(|name| name == client).expect("a known client");
    decisions
        .groups
        .iter()
        .filter(|group| group.service == *service && group.clients.contains(&(id as u32)))
        .map(|group| (group.old.clone(), group.new.clone()))
        .collect()
}

fn label(old: &Reference<'_>, new: &Reference<'_>, ip: IpAddr) -> String {
    let known = |site: &Reference<'_>, name| site.fabric.workloads().any(|w| w.name == name);
    match (old.client(ip).map(|w| &w.name), new.client(ip).map(|w| &w.name)) {
        (None, None) => "unknown clients".to_owned(),
        (Some(old), Some(new)) if old == new => new.to_string(),
        (Some(old), Some(new)) => format!("{old} -> {new}"),
        (Some(name), None) if known(new, name.clone()) => format!("{name} -> unknown"),
        (Some(name), None) => format!("{name} (removed)"),
        (None, Some(name)) if known(old, name.clone()) => format!("unknown -> {name}"),
        (None, Some(name)) => format!("{name} (new)"),
    }
}

fn ask_source(site: &Reference<'_>, service: &Service, ip: IpAddr) -> Option<Outcome> {
    let Service::Import { import, peer, export } = service else { panic!("{service}") };
    let known = site.fabric.imports().find(|known| known.name == *import)?;
    let source =
        known.sources.iter().position(|source| source.peer == *peer && source.export == *export)?;
    site.egress(import, source, ip)
}

fn services(fabric: &Fabric) -> Vec<Service> {
    fabric
        .imports()
        .flat_map(|import| {
            import.sources.iter().map(|source| Service::Import {
                import: import.name.clone(),
                peer: source.peer.clone(),
                export: source.export.clone(),
            })
        })
        .collect()
}

fn compare(
    old: &Reference<'_>,
    new: &Reference<'_>,
    importer: &Reference<'_>,
    ips: &[IpAddr],
) -> Result<(), TestCaseError> {
    let importers = [State {
        fabric: importer.fabric,
        local: importer.local,
        peer_labels: importer.peer_labels,
    }];
    let (a, b) = (
        State { fabric: old.fabric, local: old.local, peer_labels: old.peer_labels },
        State { fabric: new.fabric, local: new.local, peer_labels: new.peer_labels },
    );
    let decisions = diff::decisions(a, b, &importers);
    let mut names = decisions.clients.clone();
    names.sort();
    names.dedup();
    // `unknown clients` stand in both lists.
    prop_assert_eq!(names.len() + 1, decisions.clients.len());
    for ip in ips {
        let client = label(old, new, *ip);
        for service in services(old.fabric).into_iter().chain(services(new.fabric)) {
            let was = say(ask_source(old, &service, *ip), NO_SUCH_SOURCE);
            let is = say(ask_source(new, &service, *ip), NO_SUCH_SOURCE);
            let expected = if was == is { vec![] } else { vec![(was, is)] };
            prop_assert_eq!(found(&decisions, &service, &client), expected);
        }
    }
    let exports = old.fabric.exports().chain(new.fabric.exports());
    for export in exports {
        let service = Service::Export(export.name.clone());
        for workload in importer.fabric.workloads() {
            let from = attributes::source(importer.local, workload);
            let was = say(old.ingress(&export.name, &from), NO_SUCH_EXPORT);
            let is = say(new.ingress(&export.name, &from), NO_SUCH_EXPORT);
            let expected = if was == is { vec![] } else { vec![(was, is)] };
            let client = format!("{}: {}", importer.local.name, workload.name);
            prop_assert_eq!(found(&decisions, &service, &client), expected);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn every_changed_decision_is_found_and_no_other(
        common in vec(change(), 0..30),
        further in vec(change(), 0..10),
        theirs in vec(change(), 0..10),
        locals in (local(), local()),
        peer_labels in (reported_labels(), reported_labels()),
        ips in vec(ip(), 1..5),
    ) {
        let mut old = Fabric::new();
        common.into_iter().for_each(|change| apply(&mut old, change));
        let mut new = old.clone();
        further.into_iter().for_each(|change| apply(&mut new, change));
        let mut importer = Fabric::new();
        theirs.into_iter().for_each(|change| apply(&mut importer, change));
        let elsewhere = LocalPeer { name: "c".into(), ..locals.0.clone() };
        let none = PeerLabels::new();
        compare(
            &Reference { fabric: &old, local: &locals.0, peer_labels: &peer_labels.0 },
            &Reference { fabric: &new, local: &locals.1, peer_labels: &peer_labels.1 },
            &Reference { fabric: &importer, local: &elsewhere, peer_labels: &none },
            &ips,
        )?;
    }
}

#[test]
fn changes_of_objects_are_told_in_words() {
    let policy = |action: &str, app: &str| {
        object_with(
            "AccessPolicy",
            "name: p, namespace: shop",
            &format!(
                "{{action: {action}, to: [{{workloadSelector: {{}}}}], from: [{{workloadSelector: \
                 {{matchLabels: {{client.clusterlink.net/labels.app: {app}}}}}}}]}}"
            ),
        )
    };
    let import = |scheme: &str, failover: &str, peer: &str, weight: u32| {
        object_with(
            "Import",
            "name: db, namespace: shop",
            &format!(
                "{{port: 1, lbScheme: {scheme}, failover: {failover}, sources: [{{peer: {peer}, \
                 exportName: db, exportNamespace: shop, weight: {weight}}}]}}"
            ),
        )
    };
    let old = support::fabric(&objects(&[
        policy("allow", "till"),
        import("least-loaded", "authorization", "a", 1),
        object("Export", "gone", "{host: 10.0.0.1, port: 1}"),
        object("Export", "same", "{host: 10.0.0.1, port: 1}"),
    ]));
    let new = support::fabric(&objects(&[
        policy("deny", "web"),
        import("weighted", "connection", "b", 2),
        object("Workload", "w", "{addresses: [10.0.0.1]}"),
        object("Export", "same", "{host: 10.0.0.1, port: 1}"),
    ]));
    let changes = diff::objects(&old, &new);
    let text = |change: &Change| match change {
        Change::Added => "added".to_owned(),
        Change::Removed => "removed".to_owned(),
        Change::Changed(words) => words.join("; "),
    };
    let told: Vec<_> =
        changes.iter().map(|c| format!("{} {}: {}", c.kind, c.name, text(&c.change))).collect();
    assert_eq!(
        told,
        [
            "Export default/gone: removed",
            "Import shop/db: lbScheme least-loaded -> weighted; failover authorization -> connection; \
             source removed: shop/db at a, weight 1; source added: shop/db at b, weight 2",
            "AccessPolicy shop/p: action allow -> deny; \
             from removed: client.clusterlink.net/labels.app In [till]; \
             from added: client.clusterlink.net/labels.app In [web]",
            "Workload default/w: added",
        ]
    );
    assert_eq!(diff::objects(&old, &old), []);
}

#[test]
fn addresses_that_change_hands_are_clients_of_their_own() {
    let site = |owner: &str| {
        support::fabric(&objects(&[
            object("Workload", owner, "{addresses: [10.0.0.1]}"),
            object("Peer", "b", "{gateways: [{host: 10.9.9.9, port: 1}]}"),
            object(
                "Import",
                "db",
                "{port: 1, sources: [{peer: b, exportName: db, exportNamespace: x}]}",
            ),
            object(
                "AccessPolicy",
                "p",
                "{action: allow, from: [{workloadSelector: {}}], to: [{workloadSelector: {}}]}",
            ),
        ]))
    };
    let (old, new) = (site("till"), site("desk"));
    let (local, labels) = (support::local("a", &[]), PeerLabels::new());
    let state = |fabric| State { fabric, local: &local, peer_labels: &labels };
    let decisions = diff::decisions(state(&old), state(&new), &[]);
    assert!(decisions.clients.contains(&"default/till -> default/desk".to_owned()));
    assert_eq!(decisions.groups, []);
    assert_eq!((decisions.compared, decisions.exports_without_clients), (2, 0));
}

/// Two halves in place of a prefix are the same addresses.
#[test]
fn a_prefix_without_addresses_of_its_own_is_no_client() {
    let site = |addresses: &str| {
        support::fabric(&object("Workload", "till", &format!("{{addresses: [{addresses}]}}")))
    };
    let (local, labels) = (support::local("a", &[]), PeerLabels::new());
    let clients = |old: &str, new: &str| {
        let (old, new) = (site(old), site(new));
        let state = |fabric| State { fabric, local: &local, peer_labels: &labels };
        let mut clients = diff::decisions(state(&old), state(&new), &[]).clients;
        clients.retain(|client| client != "unknown clients");
        clients
    };
    assert_eq!(clients("10.0.0.0/24", "10.0.0.0/25, 10.0.0.128/25"), ["default/till"]);
    assert_eq!(clients("0.0.0.0/0", "0.0.0.0/1, 128.0.0.0/2, 192.0.0.0/2"), ["default/till"]);
    assert_eq!(clients("'::/0'", "'::/1', '8000::/1'"), ["default/till"]);
    let unknown = "default/till -> unknown";
    assert_eq!(clients("10.0.0.0/24", "10.0.0.0/25, 10.0.0.128/26"), [unknown, "default/till"]);
    assert_eq!(clients("10.0.0.0/24", "10.0.0.128/25"), [unknown, "default/till"]);
    assert_eq!(clients("10.0.0.0/24", "10.0.0.0/25, 10.0.0.0/26"), [unknown, "default/till"]);
}
