//! ClusterLink's own policy cases, unit and end to end, under the names they have there.

mod support;

use clgw_policy::{
    Action, Fabric, FabricError, Operator, PolicyName, Requirement, Selector, SelectorError, Tier,
    Verdict,
};
use support::{Site, findings, object, object_with, objects, peer_labels, policy, selector};

const CLIENT: &str = "10.0.0.1";
const STRANGER: &str = "10.9.9.9";

/// A workload at [`CLIENT`], an import of `echo` from peers b and c.
fn importer() -> String {
    let peer = |name: &str, host: &str| {
        object("Peer", name, &format!("{{gateways: [{{host: {host}, port: 443}}]}}"))
    };
    let labels = "labels: {app: client, tier: web}";
    objects(&[
        object_with("Workload", &format!("name: client, {labels}"), "{addresses: [10.0.0.1]}"),
        peer("b", "192.0.2.2"),
        peer("c", "192.0.2.3"),
        object_with(
            "Import",
            "name: echo, labels: {env: prod}",
            "
  port: 80
  sources:
  - {peer: b, exportName: echo, exportNamespace: default}
  - {peer: c, exportName: echo, exportNamespace: default}",
        ),
    ])
}

/// The export of `echo`.
fn exporter() -> String {
    object_with("Export", "name: echo, labels: {env: prod}", "{host: 10.1.0.5, port: 8080}")
}

fn rule(kind: &str, name: &str, action: &str, from: &str, to: &str) -> String {
    let side = |selector: &str| format!("[{{workloadSelector: {selector}}}]");
    let (from, to) = (side(from), side(to));
    object(kind, name, &format!("{{action: {action}, from: {from}, to: {to}}}"))
}

fn allow_all() -> String {
    rule("AccessPolicy", "allow-all", "allow", "{}", "{}")
}

fn regular(name: &str) -> PolicyName {
    PolicyName::namespaced("default", name)
}

fn sites() -> (Site, Site) {
    (Site::new("a", &[], &importer()), Site::new("b", &[], &exporter()))
}

fn allowed(outcome: &clgw_policy::reference::Outcome) -> bool {
    outcome.verdict == Verdict::Allow
}

#[test]
fn test_validation() {
    let text = |spec: &str| object("AccessPolicy", "p", spec);
    let any = "[{workloadSelector: {}}]";
    let fields = |spec: &str| -> Vec<String> {
        findings(&text(spec)).into_iter().map(|finding| finding.field).collect()
    };
    assert_eq!(fields(&format!("{{from: {any}, to: {any}}}")), ["spec.action"]);
    assert_eq!(fields(&format!("{{action: '', from: {any}, to: {any}}}")), ["spec.action"]);
    assert_eq!(
        fields(&format!("{{action: notAnAction, from: {any}, to: {any}}}")),
        ["spec.action"]
    );
    assert_eq!(fields(&format!("{{action: deny, to: {any}}}")), ["spec.from"]);
    assert_eq!(fields(&format!("{{action: deny, from: {any}}}")), ["spec.to"]);
    assert_eq!(fields(&format!("{{action: deny, from: {any}, to: []}}")), ["spec.to"]);
    assert_eq!(fields(&format!("{{action: deny, from: {any}, to: {any}}}")), [""; 0]);
}

#[test]
fn test_privileged_vs_regular() {
    let mut site = Site::new("a", &[], &importer());
    let outcome = site.egress(0, CLIENT);
    assert_eq!(
        (outcome.verdict, outcome.tier, &*outcome.policy),
        (Verdict::Deny, Tier::Default, "<default deny>")
    );
    site.apply(&rule("AccessPolicy", "reg", "allow", "{}", "{}"));
    let outcome = site.egress(0, CLIENT);
    assert_eq!(
        (outcome.verdict, outcome.tier, &*outcome.policy),
        (Verdict::Allow, Tier::Namespace, "default/reg")
    );
    site.apply(&rule("PrivilegedAccessPolicy", "priv", "deny", "{}", "{}"));
    let outcome = site.egress(0, CLIENT);
    assert_eq!(
        (outcome.verdict, outcome.tier, &*outcome.policy),
        (Verdict::Deny, Tier::Privileged, "priv")
    );
}

/// Four layers, each a part of the one below it; every layer decides for its own clients, and
/// deleting them from the top turns the decision each time.
#[test]
fn test_all_layers() {
    let layers = [
        rule(
            "PrivilegedAccessPolicy",
            "priv-deny",
            "deny",
            "{matchLabels: {client.clusterlink.net/labels.app: a, client.clusterlink.net/labels.env: test}}",
            "{}",
        ),
        rule(
            "PrivilegedAccessPolicy",
            "priv-allow",
            "allow",
            "{matchLabels: {client.clusterlink.net/labels.app: a}}",
            "{}",
        ),
        rule(
            "AccessPolicy",
            "reg-deny",
            "deny",
            "{matchExpressions: [{key: client.clusterlink.net/labels.app, operator: In, values: [a, b]}]}",
            "{}",
        ),
        rule(
            "AccessPolicy",
            "reg-allow",
            "allow",
            "{matchExpressions: [{key: client.clusterlink.net/labels.app, operator: Exists}]}",
            "{}",
        ),
    ];
    let workload = |name: &str, labels: &str, address: &str| {
        let metadata = format!("name: {name}, labels: {{{labels}}}");
        object_with("Workload", &metadata, &format!("{{addresses: [{address}]}}"))
    };
    let mut site = Site::new("a", &[], &importer());
    for layer in &layers {
        site.apply(layer);
    }
    site.apply(&workload("a-test", "app: a, env: test", "10.0.1.1"));
    site.apply(&workload("a-prod", "app: a, env: prod", "10.0.1.2"));
    site.apply(&workload("b", "app: b", "10.0.1.3"));
    site.apply(&workload("c", "app: c", "10.0.1.4"));
    site.apply(&workload("bare", "env: test", "10.0.1.5"));
    let decided = |ip: &str, site: &Site| site.egress(0, ip).policy;
    assert_eq!(decided("10.0.1.1", &site), "priv-deny");
    assert_eq!(decided("10.0.1.2", &site), "priv-allow");
    assert_eq!(decided("10.0.1.3", &site), "default/reg-deny");
    assert_eq!(decided("10.0.1.4", &site), "default/reg-allow");
    assert_eq!(decided("10.0.1.5", &site), "<default deny>");

    let mut verdicts = vec![site.egress(0, "10.0.1.1").verdict];
    for name in [
        PolicyName::privileged("priv-deny"),
        PolicyName::privileged("priv-allow"),
        regular("reg-deny"),
        regular("reg-allow"),
    ] {
        site.delete(name);
        verdicts.push(site.egress(0, "10.0.1.1").verdict);
    }
    use Verdict::{Allow, Deny};
    assert_eq!(verdicts, [Deny, Allow, Deny, Allow, Deny]);
    assert_eq!(decided("10.0.1.1", &site), "<default deny>");
}

#[test]
fn test_depends_on_client_attrs() {
    let mut site = Site::new("a", &[], &importer());
    assert!(!site.table().depends_on_client_attributes());
    site.apply(&allow_all());
    assert!(!site.table().depends_on_client_attributes());
    assert!(allowed(&site.egress(0, STRANGER)));
    let selective =
        "{matchExpressions: [{key: client.clusterlink.net/labels.app, operator: DoesNotExist}]}";
    for (kind, name) in [
        ("AccessPolicy", regular("sel")),
        ("PrivilegedAccessPolicy", PolicyName::privileged("sel")),
    ] {
        for action in ["allow", "deny"] {
            site.apply(&rule(kind, "sel", action, selective, "{}"));
            assert!(site.table().depends_on_client_attributes());
            let outcome = site.egress(0, STRANGER);
            assert_eq!((outcome.tier, &*outcome.policy), (Tier::Guard, "<unknown client>"));
        }
        site.delete(name);
        assert!(!site.table().depends_on_client_attributes());
        assert!(allowed(&site.egress(0, STRANGER)));
    }
}

/// The guard at the exporter: no attributes were sent, and one policy of another namespace looks at
/// sources.
#[test]
fn unknown_clients_fail_closed_at_the_exporter() {
    let (importer, mut exporter) = sites();
    exporter.apply(&allow_all());
    assert!(allowed(&exporter.ingress(&importer, STRANGER)));
    let elsewhere = policy(
        PolicyName::namespaced("elsewhere", "sel"),
        Action::Allow,
        selector(&[("client.clusterlink.net/namespace", "x")]),
        Selector::everything(),
    );
    exporter.fabric.put_policy(elsewhere).expect("valid");
    let outcome = exporter.ingress(&importer, STRANGER);
    assert_eq!((outcome.tier, &*outcome.policy), (Tier::Guard, "<unknown client>"));
    assert!(allowed(&exporter.ingress(&importer, CLIENT)));
}

#[test]
fn test_delete_nonexisting_policies() {
    let mut fabric = Fabric::new();
    for name in [regular("nobody"), PolicyName::privileged("nobody")] {
        assert_eq!(fabric.delete_policy(&name), Err(FabricError::NoSuchPolicy(name)));
    }
    let exists = policy(regular("p"), Action::Allow, Selector::default(), Selector::default());
    fabric.put_policy(exists).expect("valid");
    // The same name in the other tier is another policy.
    assert!(fabric.delete_policy(&PolicyName::privileged("p")).is_err());
    assert!(fabric.delete_policy(&regular("p")).is_ok());
}

#[test]
fn test_bad_selector() {
    let make = |key: &str, value: &str| Requirement::new(key, Operator::In, [value]);
    assert!(matches!(make("this is not a key", "x"), Err(SelectorError::Key { .. })));
    assert!(matches!(make("key", "not a value!"), Err(SelectorError::Value { .. })));
    assert!(matches!(
        Requirement::new("key", Operator::NotIn, []),
        Err(SelectorError::ValuesMissing { .. })
    ));
    assert!(matches!(
        Requirement::new("key", Operator::Exists, ["x"]),
        Err(SelectorError::ValuesNotAllowed { .. })
    ));
    let found = findings(&rule("AccessPolicy", "p", "allow", "{matchLabels: {'a b': x}}", "{}"));
    assert_eq!(found[0].field, "spec.from[0].workloadSelector.matchLabels[\"a b\"]");
}

/// A policy that could never match is refused by the fabric itself, not only by the loader.
#[test]
fn empty_sides_are_refused() {
    let mut fabric = Fabric::new();
    let mut empty = policy(regular("p"), Action::Deny, Selector::default(), Selector::default());
    empty.from.clear();
    assert_eq!(fabric.put_policy(empty), Err(FabricError::EmptySide(regular("p"), "from")));
}

#[test]
fn test_malformed_policy_file() {
    let found = findings("kind: AccessPolicy\n  spec: {");
    assert_eq!(found.len(), 1, "{}", support::render(&found));
    assert!(found[0].message.starts_with("not readable as YAML"), "{}", found[0]);
    assert!(found[0].line > 0);
}

#[test]
fn test_policy_labels() {
    let (mut importer, mut exporter) = sites();
    let specific =
        |name: &str, action: &str, to: &str| rule("AccessPolicy", name, action, "{}", to);
    // Export name, peer and label at the importer; the importing peer at the exporter.
    importer.apply(&specific(
        "allow",
        "allow",
        "{matchLabels: {export.clusterlink.net/name: echo, peer.clusterlink.net/name: b, export.clusterlink.net/labels.env: prod}}",
    ));
    exporter.apply(&rule(
        "AccessPolicy",
        "from-a",
        "allow",
        "{matchLabels: {peer.clusterlink.net/name: a}}",
        "{}",
    ));
    assert!(allowed(&importer.egress(0, CLIENT)));
    assert!(!allowed(&importer.egress(1, CLIENT)));
    assert!(allowed(&exporter.ingress(&importer, CLIENT)));

    // Deny by name, lifted by deletion.
    importer.apply(&specific("deny", "deny", "{matchLabels: {export.clusterlink.net/name: echo}}"));
    assert!(!allowed(&importer.egress(0, CLIENT)));
    importer.delete(regular("deny"));
    assert!(allowed(&importer.egress(0, CLIENT)));

    // Deny by peer hits that peer only.
    importer.apply(&allow_all());
    importer.apply(&specific("deny", "deny", "{matchLabels: {peer.clusterlink.net/name: b}}"));
    assert!(!allowed(&importer.egress(0, CLIENT)));
    assert!(allowed(&importer.egress(1, CLIENT)));
    importer.delete(regular("deny"));

    // Deny at the exporter by the importing peer.
    exporter.apply(&rule(
        "AccessPolicy",
        "deny-a",
        "deny",
        "{matchLabels: {peer.clusterlink.net/name: a}}",
        "{matchLabels: {export.clusterlink.net/name: echo}}",
    ));
    assert_eq!(exporter.ingress(&importer, CLIENT).policy, "default/deny-a");
    exporter.delete(regular("deny-a"));
    assert!(allowed(&exporter.ingress(&importer, CLIENT)));

    // A wrong name or label is no match; the right label is.
    importer.delete(regular("allow-all"));
    for (to, matches) in [
        ("{matchLabels: {export.clusterlink.net/name: other}}", false),
        (
            "{matchLabels: {export.clusterlink.net/name: echo, export.clusterlink.net/labels.env: dev}}",
            false,
        ),
        ("{matchLabels: {export.clusterlink.net/labels.env: prod}}", true),
    ] {
        importer.apply(&specific("allow", "allow", to));
        assert_eq!(allowed(&importer.egress(0, CLIENT)), matches, "{to}");
    }
}

#[test]
fn test_pod_attributes() {
    let (mut importer, mut exporter) = sites();
    importer.apply(&allow_all());
    exporter.apply(&allow_all());
    let account = "client.clusterlink.net/service-account";
    let deny = |operator: &str, key: &str, value: &str| {
        rule(
            "AccessPolicy",
            "deny",
            "deny",
            &format!(
                "{{matchExpressions: [{{key: {key}, operator: {operator}, values: [{value}]}}]}}"
            ),
            "{}",
        )
    };
    importer.apply(&deny("In", account, "non-default"));
    assert!(allowed(&importer.egress(0, CLIENT)));
    importer.apply(&deny("In", account, "default"));
    assert!(!allowed(&importer.egress(0, CLIENT)));
    importer.delete(regular("deny"));
    exporter.apply(&deny("In", account, "default"));
    assert!(!allowed(&exporter.ingress(&importer, CLIENT)));
    exporter.delete(regular("deny"));
    assert!(allowed(&exporter.ingress(&importer, CLIENT)));
    for (key, value, denied) in
        [("app", "client", false), ("app", "other", true), ("none", "x", true)]
    {
        let key = format!("client.clusterlink.net/labels.{key}");
        importer.apply(&deny("NotIn", &key, value));
        assert_eq!(!allowed(&importer.egress(0, CLIENT)), denied, "NotIn {key} {value}");
    }
}

#[test]
fn test_privileged_policies() {
    let (mut importer, _) = sites();
    let to = "{matchLabels: {export.clusterlink.net/name: echo}}";
    importer.apply(&rule("PrivilegedAccessPolicy", "priv-deny", "deny", "{}", to));
    importer.apply(&rule("PrivilegedAccessPolicy", "priv-allow", "allow", "{}", to));
    importer.apply(&rule("AccessPolicy", "reg-deny", "deny", "{}", to));
    importer.apply(&rule("AccessPolicy", "reg-allow", "allow", "{}", to));
    let mut seen = vec![importer.egress(0, CLIENT).policy];
    for name in [
        PolicyName::privileged("priv-deny"),
        PolicyName::privileged("priv-allow"),
        regular("reg-deny"),
        regular("reg-allow"),
    ] {
        importer.delete(name);
        seen.push(importer.egress(0, CLIENT).policy);
    }
    assert_eq!(
        seen,
        ["priv-deny", "priv-allow", "default/reg-deny", "default/reg-allow", "<default deny>"]
    );
}

#[test]
fn test_peer_labels() {
    let mut importer = Site::new("a", &[("key", "a"), ("region", "eu")], &importer());
    let mut exporter = Site::new("b", &[("key", "b")], &exporter());
    importer.apply(&allow_all());
    exporter.apply(&allow_all());
    assert!(allowed(&exporter.ingress(&importer, CLIENT)));
    // The importing peer's own labels at the exporter.
    exporter.apply(&rule(
        "AccessPolicy",
        "deny-key",
        "deny",
        "{matchLabels: {peer.clusterlink.net/labels.key: a}}",
        "{}",
    ));
    assert_eq!(exporter.ingress(&importer, CLIENT).policy, "default/deny-key");
    exporter.apply(&rule(
        "PrivilegedAccessPolicy",
        "allow-eu",
        "allow",
        "{matchLabels: {peer.clusterlink.net/labels.region: eu}}",
        "{matchLabels: {peer.clusterlink.net/labels.key: b}}",
    ));
    assert_eq!(exporter.ingress(&importer, CLIENT).policy, "allow-eu");
    // The remote peer's labels at the importer, as its heartbeat reported them.
    importer.apply(&rule(
        "AccessPolicy",
        "deny-remote",
        "deny",
        "{}",
        "{matchLabels: {peer.clusterlink.net/labels.key: b}}",
    ));
    assert!(allowed(&importer.egress(0, CLIENT)));
    importer.peer_labels = peer_labels(&[("b", &[("key", "b")]), ("c", &[("key", "c")])]);
    assert_eq!(importer.egress(0, CLIENT).policy, "default/deny-remote");
    assert!(allowed(&importer.egress(1, CLIENT)));
}

/// A policy of another namespace has no say, neither at the importer nor at the exporter.
#[test]
fn namespaces_are_kept_apart() {
    let (mut importer, mut exporter) = sites();
    for site in [&mut importer, &mut exporter] {
        let foreign = policy(
            PolicyName::namespaced("other", "allow-all"),
            Action::Allow,
            Selector::default(),
            Selector::default(),
        );
        site.fabric.put_policy(foreign).expect("valid");
    }
    assert_eq!(importer.egress(0, CLIENT).tier, Tier::Default);
    assert_eq!(exporter.ingress(&importer, CLIENT).tier, Tier::Default);
}

/// Upstream cannot refer to such a label: its selector keys have room for one slash only.
#[test]
fn label_keys_with_a_slash_can_be_selected() {
    let (mut importer, _) = sites();
    importer.apply(&object_with(
        "Workload",
        "name: client, labels: {app.kubernetes.io/name: shop}",
        "{addresses: [10.0.0.1]}",
    ));
    let from = "{matchLabels: {client.clusterlink.net/labels.app.kubernetes.io/name: shop}}";
    importer.apply(&rule("AccessPolicy", "shop", "allow", from, "{}"));
    assert_eq!(importer.egress(0, CLIENT).policy, "default/shop");
}
