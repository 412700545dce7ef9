//! Loading: what is accepted, and every error at its place.

mod support;

use clgw_policy::limits::{
    DEFAULT_SOURCE_WEIGHT, MAX_LABELS_PER_OBJECT, MAX_SOURCE_WEIGHT, MAX_SOURCES_PER_IMPORT,
};
use clgw_policy::{
    Diagnostic, Failover, Gateway, Host, LbScheme, ObjectName, PolicyName, Severity, SourceFile,
    load,
};
use proptest::prelude::*;
use support::{fabric, findings, object, object_with, objects, render};

/// Line, column, field and message of everything found.
fn places(text: &str) -> Vec<(u64, u64, String, String)> {
    findings(text).into_iter().map(|d| (d.line, d.column, d.field, d.message)).collect()
}

fn errors(text: &str) -> Vec<Diagnostic> {
    findings(text).into_iter().filter(|d| d.severity == Severity::Error).collect()
}

/// The one error of a text: its field and message.
#[track_caller]
fn only_error(text: &str) -> (String, String) {
    let mut found = errors(text);
    assert_eq!(found.len(), 1, "{}", render(&found));
    let found = found.remove(0);
    (found.field, found.message)
}

#[test]
fn every_kind_and_field_loads() {
    let fabric = fabric(
        "
apiVersion: clusterlink.net/v1alpha1
kind: Peer
metadata: {name: site-b, namespace: clusterlink-system}
spec: {gateways: [{host: 192.0.2.10, port: 443}, {host: GW.example.org., port: 4443}, {host: 'fd00::1', port: 443}]}
---
apiVersion: clusterlink.net/v1alpha1
kind: Export
metadata: {name: db, namespace: shop, labels: {env: prod}}
spec: {host: 10.0.0.5, port: 5432}
---
apiVersion: clusterlink.net/v1alpha1
kind: Import
metadata: {name: db, namespace: shop, labels: {env: prod}}
spec:
  port: 5432
  targetPort: 30000
  lbScheme: static
  failover: connection
  sources:
  - {peer: site-b, exportName: db, exportNamespace: shop}
---
apiVersion: clusterlink.net/v1alpha1
kind: PrivilegedAccessPolicy
metadata: {name: no-test-to-prod}
spec:
  action: deny
  from: [{workloadSelector: {matchLabels: {peer.clusterlink.net/labels.env: test}}}]
  to: [{workloadSelector: {matchExpressions: [{key: export.clusterlink.net/labels.env, operator: In, values: [prod]}]}}]
---
apiVersion: clusterlink.net/v1alpha1
kind: AccessPolicy
metadata: {name: allow, namespace: shop}
spec: {action: allow, dryRun: true, from: [{workloadSelector: {}}], to: [{workloadSelector: {}, workloadSets: []}]}
---
apiVersion: clusterlink.net/v1alpha1
kind: Workload
metadata: {name: till, namespace: shop, labels: {app: till}}
spec: {serviceAccount: cashier, addresses: [10.2.0.1, 10.3.0.0/16, 'fd01::/64', '::ffff:10.2.0.2']}
",
    );
    let peer = fabric.peers().next().expect("the peer");
    assert_eq!(
        peer.gateways,
        [
            Gateway { host: Host::Ip("192.0.2.10".parse().expect("ip")), port: 443 },
            Gateway { host: Host::Dns("gw.example.org".into()), port: 4443 },
            Gateway { host: Host::Ip("fd00::1".parse().expect("ip")), port: 443 },
        ]
    );
    let export = fabric.exports().next().expect("the export");
    assert_eq!((export.name.clone(), export.port), (ObjectName::new("shop", "db"), 5432));
    assert_eq!(export.labels.get("env").map(|v| &**v), Some("prod"));
    let import = fabric.imports().next().expect("the import");
    assert_eq!((import.port, import.target_port), (5432, Some(30000)));
    assert_eq!((import.lb_scheme, import.failover), (LbScheme::Static, Failover::Connection));
    assert_eq!((&*import.sources[0].peer, import.sources[0].weight), ("site-b", 1));
    let policies: Vec<_> = fabric.policies().map(|p| (p.name.clone(), p.dry_run)).collect();
    assert_eq!(
        policies,
        [
            (PolicyName::privileged("no-test-to-prod"), false),
            (PolicyName::namespaced("shop", "allow"), true)
        ]
    );
    let workload = fabric.workloads().next().expect("the workload");
    assert_eq!(&*workload.service_account, "cashier");
    let addresses: Vec<String> = workload.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.2.0.1/32", "10.3.0.0/16", "fd01::/64", "10.2.0.2/32"]);
}

#[test]
fn defaults() {
    let loaded = fabric(&objects(&[
        object("Import", "i", "{port: 80, targetPort: 0, sources: []}"),
        object("Export", "e", "{port: 80}"),
        object("Workload", "w", "{addresses: [10.0.0.1]}"),
    ]));
    let import = loaded.imports().next().expect("the import");
    assert_eq!(import.name, ObjectName::new("default", "i"));
    assert_eq!((import.lb_scheme, import.target_port), (LbScheme::RoundRobin, None));
    assert_eq!(import.failover, Failover::Authorization);
    let export = loaded.exports().next().expect("the export");
    assert_eq!(export.host, Host::Dns("e.default.svc.cluster.local".into()));
    let workload = loaded.workloads().next().expect("the workload");
    assert_eq!(&*workload.service_account, "default");
}

#[test]
fn kubectl_output_loads() {
    let fabric = fabric(
        "
apiVersion: v1
kind: List
metadata: {resourceVersion: ''}
items:
- apiVersion: clusterlink.net/v1alpha1
  kind: Import
  metadata:
    annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}
    creationTimestamp: '2025-01-01T00:00:00Z'
    generateName: web-
    finalizers: [clusterlink.net/x]
    generation: 2
    managedFields: [{apiVersion: v1, fieldsV1: {'f:spec': {}}}]
    name: web
    namespace: default
    ownerReferences: []
    resourceVersion: '12'
    uid: 0d5c
  spec: {port: 80, sources: []}
  status: {conditions: [{type: ImportTargetPortValid, status: 'True'}]}
- apiVersion: clusterlink.net/v1alpha1
  kind: Peer
  metadata: {name: b, creationTimestamp: null}
  spec: {gateways: []}
  status: {labels: {a: b}}
",
    );
    assert_eq!((fabric.imports().len(), fabric.peers().len()), (1, 1));
}

#[test]
fn all_errors_of_all_files_at_once() {
    let first = "\
apiVersion: clusterlink.net/v1alpha1
kind: Peer
metadata:
  name: Site_B
  lables: {a: b}
spec:
  gateways:
  - host: 1.2.3.400
    prt: 443
  - host: 10
    port: 70000
---
apiVersion: clusterlink.net/v1alpha1
kind: AccessPolicy
metadata: {name: p}
spec:
  action: alow
  from:
  - workloadSelector:
      matchLabels: {env: true}
  to:
  - workloadSets: [all]
";
    let second = "\
apiVersion: clusterlink.net/v1
kind: Peer
---
apiVersion: clusterlink.net/v1alpha1
kind: Exprot
---
[]
";
    let files = [SourceFile::new("one.yaml", first), SourceFile::new("two.yaml", second)];
    let found = load(&files).expect_err("errors");
    let found: Vec<_> =
        found.iter().map(|d| (&*d.file, d.line, d.column, &*d.field, &*d.message)).collect();
    assert_eq!(
        found,
        [
            (
                "one.yaml",
                4,
                9,
                "metadata.name",
                "the name `Site_B` contains 'S'; allowed are a-z, 0-9 and '-'"
            ),
            ("one.yaml", 5, 3, "metadata.lables", "unknown field `lables`"),
            ("one.yaml", 8, 5, "spec.gateways[0].port", "the port is missing"),
            (
                "one.yaml",
                8,
                11,
                "spec.gateways[0].host",
                "the host `1.2.3.400` is not a valid IP address, and a DNS name cannot end in a \
                 number"
            ),
            ("one.yaml", 9, 5, "spec.gateways[0].prt", "unknown field `prt`"),
            ("one.yaml", 10, 11, "spec.gateways[1].host", "found integer `10`, expected a string"),
            ("one.yaml", 11, 11, "spec.gateways[1].port", "70000 is no port"),
            ("one.yaml", 17, 11, "spec.action", "unknown action `alow`"),
            (
                "one.yaml",
                20,
                26,
                "spec.from[0].workloadSelector.matchLabels.env",
                "found boolean `true`, expected a string"
            ),
            (
                "one.yaml",
                22,
                19,
                "spec.to[0].workloadSets",
                "workload sets are reserved and cannot be used yet"
            ),
            ("two.yaml", 1, 13, "apiVersion", "unknown apiVersion `clusterlink.net/v1`"),
            ("two.yaml", 5, 7, "kind", "unknown kind `Exprot`"),
            ("two.yaml", 7, 1, "", "this document is not an object"),
        ]
    );
}

#[test]
fn diagnostics_read_like_a_compilers() {
    let found = findings(&object("Peer", "b", "{gatways: []}"));
    assert_eq!(
        found[0].to_string(),
        "f.yaml:4:7: error: spec.gateways: is missing\n  \
         = help: list the peer's gateways as {host, port}"
    );
    assert_eq!(
        found[1].to_string(),
        "f.yaml:4:8: error: spec.gatways: unknown field `gatways`\n  \
         = help: did you mean `gateways`?"
    );
}

/// A typo in one element leaves the paths of the elements behind it alone.
#[test]
fn paths_count_from_the_file() {
    let text = object("Peer", "b", "{gateways: [7, {host: h, port: 0}]}");
    let fields: Vec<_> = findings(&text).into_iter().map(|d| d.field).collect();
    assert_eq!(fields, ["spec.gateways[0]", "spec.gateways[1].port"]);
}

#[test]
fn errors_inside_a_list_have_their_item() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: clusterlink.net/v1alpha1, kind: Peer, metadata: {name: b}}\n- 7\nextra: 1\n";
    assert_eq!(
        places(text).into_iter().map(|(line, _, field, _)| (line, field)).collect::<Vec<_>>(),
        [(4, "items[0].spec".to_owned()), (5, "items[1]".to_owned()), (6, "extra".to_owned())]
    );
}

#[test]
fn duplicate_keys_are_refused() {
    let text = object("Peer", "b", "\n  gateways: []\n  gateways: []");
    let found = errors(&text);
    assert_eq!(found.len(), 1, "{}", render(&found));
    assert_eq!((found[0].line, found[0].column), (6, 3));
    assert_eq!(found[0].message, "the key is already set in line 5");
}

#[test]
fn a_name_is_used_once() {
    let named = |kind: &str, namespace: &str, spec: &str| {
        object_with(kind, &format!("name: e, namespace: {namespace}"), spec)
    };
    let export = |namespace: &str| named("Export", namespace, "{host: h, port: 1}");
    assert!(findings(&objects(&[export("a"), export("b")])).is_empty());
    let files = [SourceFile::new("1.yaml", export("a")), SourceFile::new("2.yaml", export("a"))];
    let found = load(&files).expect_err("a duplicate");
    assert_eq!(
        found[0].to_string(),
        "2.yaml:3:18: error: metadata.name: Export `a/e` is already defined at 1.yaml:3\n  \
         = help: rename or remove one of the two"
    );
    // Peers are known by name alone.
    let peer = |namespace: &str| named("Peer", namespace, "{gateways: [{host: h, port: 1}]}");
    assert_eq!(only_error(&objects(&[peer("a"), peer("b")])).0, "metadata.name");
    // One policy name may be used in both tiers.
    let any = "{action: deny, from: [{workloadSelector: {}}], to: [{workloadSelector: {}}]}";
    let both = [object("AccessPolicy", "p", any), object("PrivilegedAccessPolicy", "p", any)];
    assert!(findings(&objects(&both)).is_empty());
}

#[test]
fn names() {
    let import = |name: &str| object("Import", name, "{port: 1, sources: []}");
    assert!(errors(&import(&"x".repeat(63))).is_empty());
    assert_eq!(only_error(&import(&"x".repeat(64))).0, "metadata.name");
    for bad in ["-a", "a-", "A", "a_b", "a.b", "a/b", "''", "~"] {
        assert_eq!(only_error(&import(bad)).0, "metadata.name", "{bad}");
    }
    assert!(errors(&object("Peer", "site.example.org", "{gateways: []}")).is_empty());
    assert_eq!(only_error(&object("Peer", "site..org", "{gateways: []}")).0, "metadata.name");
    let text = object_with("Import", "name: i, namespace: a.b", "{port: 1, sources: []}");
    assert_eq!(only_error(&text).0, "metadata.namespace");
}

#[test]
fn ports() {
    for (port, good) in
        [("0", false), ("1", true), ("65535", true), ("65536", false), ("-1", false)]
    {
        let text = object("Export", "e", &format!("{{host: h, port: {port}}}"));
        assert_eq!(errors(&text).is_empty(), good, "{port}");
    }
    for port in ["'80'", "8.5", "eighty", "null", "18446744073709551615"] {
        let text = object("Export", "e", &format!("{{host: h, port: {port}}}"));
        assert_eq!(only_error(&text).0, "spec.port", "{port}");
    }
}

#[test]
fn hosts() {
    for host in ["10.0.0.1", "'fd00::1'", "db", "db.shop.svc.cluster.local", "1password.com"] {
        let text = object("Export", "e", &format!("{{host: {host}, port: 1}}"));
        assert!(findings(&text).is_empty(), "{host}");
    }
    for host in ["10.0.0.256", "a b", "'h:80'", "-x", "a..b", "1.2.3", "'https://x'"] {
        let text = object("Export", "e", &format!("{{host: {host}, port: 1}}"));
        assert_eq!(only_error(&text).0, "spec.host", "{host}");
    }
}

#[test]
fn an_export_without_host_gets_the_clusters_name_and_a_warning() {
    let found = findings(&object("Export", "e", "{host: '', port: 1}"));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].severity, Severity::Warning);
    assert!(found[0].message.contains("e.default.svc.cluster.local"));
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(40)].join(".");
    assert_eq!(only_error(&object("Export", &long, "{port: 1}")).0, "spec.host");
}

#[test]
fn load_balancing_schemes_are_checked() {
    for scheme in LbScheme::ALL {
        let spec = format!("{{port: 1, sources: [], lbScheme: {}}}", scheme.as_str());
        let fabric = fabric(&object("Import", "i", &spec));
        assert_eq!(fabric.imports().next().map(|import| import.lb_scheme), Some(scheme));
    }
    let text = object("Import", "i", "{port: 1, sources: [], lbScheme: RoundRobin}");
    let found = errors(&text);
    assert_eq!(found[0].field, "spec.lbScheme");
    assert_eq!(found[0].hint, "one of round-robin, random, static, weighted, least-loaded");
}

#[test]
fn weights_are_checked() {
    let import = |scheme: &str, weights: &[&str]| {
        let sources: Vec<_> = weights
            .iter()
            .map(|w| format!("{{peer: b, exportName: e, exportNamespace: n, weight: {w}}}"))
            .collect();
        let spec = format!("{{port: 1, {scheme} sources: [{}]}}", sources.join(", "));
        let peer = object("Peer", "b", "{gateways: [{host: h, port: 1}]}");
        objects(&[object("Import", "i", &spec), peer])
    };
    for scheme in ["lbScheme: weighted,", "lbScheme: least-loaded,"] {
        let text = import(scheme, &["0", "1000000", "null"]);
        assert_eq!(findings(&text), []);
        let fabric = fabric(&text);
        let weights: Vec<_> = fabric.imports().flat_map(|i| &i.sources).map(|s| s.weight).collect();
        assert_eq!(weights, [0, MAX_SOURCE_WEIGHT, DEFAULT_SOURCE_WEIGHT]);
        for wrong in ["-1", "1000001", "4294967297"] {
            let text = import(scheme, &["1", wrong]);
            let expected = ("spec.sources[1].weight".to_owned(), format!("{wrong} is no weight"));
            assert_eq!(only_error(&text), expected);
            assert_eq!(errors(&text)[0].hint, "give a whole number from 0 to 1000000");
        }
        assert_eq!(only_error(&import(scheme, &["0.5"])).0, "spec.sources[0].weight");
        let found = findings(&import(scheme, &["0", "0"]));
        assert_eq!(found.len(), 1, "{}", render(&found));
        assert_eq!((found[0].severity, &*found[0].field), (Severity::Warning, "spec.sources"));
        assert_eq!(found[0].message, "every weight is 0, so every connection to the import fails");
    }
    for (scheme, name) in [("", "round-robin"), ("lbScheme: random,", "random")] {
        let text = import(scheme, &["2"]);
        let message = format!("the scheme `{name}` does not look at weights");
        assert_eq!(only_error(&text), ("spec.sources[0].weight".to_owned(), message));
        assert_eq!(
            errors(&text)[0].hint,
            "set lbScheme to weighted or least-loaded, or remove the weight"
        );
    }
    // An unknown scheme is one error, not two.
    assert_eq!(only_error(&import("lbScheme: heavy,", &["2"])).0, "spec.lbScheme");
}

#[test]
fn rules_of_failover_are_checked() {
    let import = |spec: &str| object("Import", "i", &format!("{{port: 1, sources: [], {spec}}}"));
    for failover in Failover::ALL {
        let fabric = fabric(&import(&format!("failover: {}", failover.as_str())));
        assert_eq!(fabric.imports().next().map(|import| import.failover), Some(failover));
    }
    let found = errors(&import("failover: always"));
    assert_eq!(found.len(), 1, "{}", render(&found));
    assert_eq!(found[0].field, "spec.failover");
    assert_eq!(found[0].message, "unknown rule of failover `always`");
    assert_eq!(found[0].hint, "one of authorization, connection");
}

#[test]
fn listening_ports_are_used_once() {
    let import = |name: &str, port: &str| {
        object("Import", name, &format!("{{port: 80, targetPort: {port}, sources: []}}"))
    };
    assert!(errors(&objects(&[import("a", "3000"), import("b", "3001")])).is_empty());
    assert!(errors(&objects(&[import("a", "0"), import("b", "0")])).is_empty());
    assert_eq!(
        only_error(&objects(&[import("a", "3000"), import("b", "3000")])),
        (
            "spec.targetPort".to_owned(),
            "listening port 3000 is already taken by import `default/a` at f.yaml:4".to_owned()
        )
    );
}

#[test]
fn an_unknown_peer_is_a_warning() {
    let import =
        object("Import", "i", "{port: 1, sources: [{peer: b, exportName: e, exportNamespace: n}]}");
    let peer = object("Peer", "b", "{gateways: [{host: h, port: 1}]}");
    let found = findings(&import);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].severity, &*found[0].field), (Severity::Warning, "spec.sources[0].peer"));
    // Neither the order nor the file of the peer matters.
    assert!(findings(&objects(&[import.clone(), peer.clone()])).is_empty());
    let files = [SourceFile::new("1", import), SourceFile::new("2", peer)];
    assert!(load(&files).expect("fine").warnings.is_empty());
}

#[test]
fn incomplete_sources() {
    let text = object("Import", "i", "{port: 1, sources: [{peer: b, exportNamespace: ''}]}");
    let fields: Vec<_> = errors(&text).into_iter().map(|d| d.field).collect();
    assert_eq!(fields, ["spec.sources[0].exportName", "spec.sources[0].exportNamespace"]);
    assert_eq!(only_error(&object("Import", "i", "{port: 1}")).0, "spec.sources");
}

#[test]
fn bounds_of_objects() {
    let source = "{peer: b, exportName: e, exportNamespace: n}";
    let import = |count: usize| {
        let sources = vec![source; count].join(", ");
        object("Import", "i", &format!("{{port: 1, sources: [{sources}]}}"))
    };
    assert!(errors(&import(MAX_SOURCES_PER_IMPORT)).is_empty());
    assert_eq!(only_error(&import(MAX_SOURCES_PER_IMPORT + 1)).0, "spec.sources");
    let labelled = |count: usize| {
        let labels: Vec<_> = (0..count).map(|n| format!("k{n}: v")).collect();
        let metadata = format!("name: e, labels: {{{}}}", labels.join(", "));
        object_with("Export", &metadata, "{host: h, port: 1}")
    };
    assert!(errors(&labelled(MAX_LABELS_PER_OBJECT)).is_empty());
    assert_eq!(only_error(&labelled(MAX_LABELS_PER_OBJECT + 1)).0, "metadata.labels");
}

#[test]
fn selectors() {
    let with = |selector: &str| {
        let side = "[{workloadSelector: {}}]";
        object(
            "AccessPolicy",
            "p",
            &format!("{{action: deny, from: [{{{selector}}}], to: {side}}}"),
        )
    };
    let expression =
        |text: &str| with(&format!("workloadSelector: {{matchExpressions: [{{{text}}}]}}"));
    let key = "key: peer.clusterlink.net/name";
    assert!(findings(&expression(&format!("{key}, operator: Exists"))).is_empty());
    assert!(findings(&expression(&format!("{key}, operator: Exists, values: []"))).is_empty());
    assert!(findings(&expression(&format!("{key}, operator: NotIn, values: [a, '']"))).is_empty());
    let expressions = "spec.from[0].workloadSelector.matchExpressions[0]";
    for (text, field) in [
        ("operator: Exists".to_owned(), "key"),
        (key.to_owned(), "operator"),
        (format!("{key}, operator: in, values: [a]"), "operator"),
        (format!("{key}, operator: In"), "values"),
        (format!("{key}, operator: NotIn, values: []"), "values"),
        (format!("{key}, operator: DoesNotExist, values: [a]"), "values"),
        (format!("{key}, operator: In, values: [a, 'b c']"), "values[1]"),
        (format!("{key}, operator: In, values: [1]"), "values[0]"),
        ("key: a/b/c, operator: Exists".to_owned(), "key"),
        ("key: client.clusterlink.net/labels.a/b/c, operator: Exists".to_owned(), "key"),
    ] {
        assert_eq!(only_error(&expression(&text)).0, format!("{expressions}.{field}"), "{text}");
    }
    // An empty `env:` must never turn into a selector that matches everything.
    assert_eq!(
        only_error(&with("workloadSelector: {matchLabels: {peer.clusterlink.net/name: }}")).1,
        "found nothing, expected a string"
    );
    assert_eq!(only_error(&with("workloadSelector: null")).0, "spec.from[0]");
    assert_eq!(only_error(&with("")).0, "spec.from[0]");
    let both = with("workloadSelector: {}, workloadSets: [a]");
    assert_eq!(errors(&both).len(), 2);
}

/// Kubernetes bounds a name as a whole, DNS each of its labels: what is no host may be longer.
#[test]
fn only_names_of_hosts_and_peers_have_short_labels() {
    let everything = "[{workloadSelector: {}}]";
    let allow = format!("{{action: allow, from: {everything}, to: {everything}}}");
    let long = "a".repeat(64);
    let host = "{host: h, port: 1}";
    let gateways = format!("{{gateways: [{host}]}}");
    for text in [
        object("AccessPolicy", &"a".repeat(253), &allow),
        object("PrivilegedAccessPolicy", &long, &allow),
        object("Export", &long, host),
        object_with("Export", &format!("name: e, labels: {{{long}.io/x: y}}"), host),
        object("Workload", "w", &format!("{{serviceAccount: {long}, addresses: [10.0.0.1]}}")),
    ] {
        assert!(findings(&text).is_empty(), "{}", render(&findings(&text)));
    }
    for (text, field) in [
        (object("AccessPolicy", &"a".repeat(254), &allow), "metadata.name"),
        (object("Peer", &long, &gateways), "metadata.name"),
        (object("Export", "e", &format!("{{host: {long}, port: 1}}")), "spec.host"),
        // <name>.<namespace>.svc.cluster.local
        (object("Export", &long, "{port: 1}"), "spec.host"),
    ] {
        assert_eq!(only_error(&text).0, field, "{text}");
    }
}

/// serde reads a list as a struct, field by field; ClusterLink does not.
#[test]
fn a_list_in_place_of_a_mapping_is_refused() {
    let everything = "[{workloadSelector: {}}]";
    let policy = |from: &str| {
        object("AccessPolicy", "p", &format!("{{action: allow, from: {from}, to: {everything}}}"))
    };
    for (text, field) in [
        (object("Export", "e", "[10.0.0.1, 80]"), "spec"),
        (object("Peer", "b", "{gateways: [[192.0.2.3, 443]]}"), "spec.gateways[0]"),
        (policy("[[null, {}]]"), "spec.from[0]"),
        (policy("[{workloadSelector: [null, null]}]"), "spec.from[0].workloadSelector"),
    ] {
        let expected = (field.to_owned(), "found a list, expected a mapping".to_owned());
        assert_eq!(only_error(&text), expected, "{text}");
    }
}

#[test]
fn wrong_shapes_are_told_in_the_words_of_yaml() {
    for (spec, message, hint) in [
        (
            "{host: h, port: '80'}",
            "found string \"80\", expected a whole number",
            "remove the quotes",
        ),
        ("{host: h, port: http}", "found string \"http\", expected a whole number", ""),
        ("{host: h, port: 1.5}", "found floating point `1.5`, expected a whole number", ""),
        ("{host: [h], port: 1}", "found a list, expected a string", ""),
        ("7", "found integer `7`, expected a mapping", ""),
    ] {
        let found = errors(&object("Export", "e", spec));
        assert_eq!(found.len(), 1, "{}", render(&found));
        assert_eq!((&*found[0].message, &*found[0].hint), (message, hint));
    }
}

#[test]
fn attributes_a_side_never_has_are_pointed_out() {
    let spec = "{action: deny, from: [{workloadSelector: {matchLabels: {export.clusterlink.net/name: a}}}], to: [{workloadSelector: {matchExpressions: [{key: client.clusterlink.net/namespace, operator: Exists}, {key: tier, operator: Exists}]}}]}";
    let found = findings(&object("AccessPolicy", "p", spec));
    assert_eq!(found.len(), 3, "{}", render(&found));
    assert!(found.iter().all(|d| d.severity == Severity::Warning));
    assert_eq!(found[0].message, "no source ever has the attribute `export.clusterlink.net/name`");
}

#[test]
fn workload_addresses() {
    let workload =
        |name: &str, list: &str| object("Workload", name, &format!("{{addresses: [{list}]}}"));
    for bad in
        ["10.0.0.1/24", "10.0.0", "'fd00::1/64'", "host", "10.0.0.0/33", "'::ffff:10.0.0.0/120'"]
    {
        assert_eq!(only_error(&workload("w", bad)).0, "spec.addresses[0]", "{bad}");
    }
    assert_eq!(only_error(&workload("w", "")).0, "spec.addresses");
    assert_eq!(only_error(&object("Workload", "w", "{}")).0, "spec.addresses");
    // What the hint proposes must be right: not to clear the bits of a mapped prefix.
    let mapped = "`::ffff:10.0.0.1/120` is an IPv4-mapped prefix";
    assert_eq!(only_error(&workload("w", "'::ffff:10.0.0.1/120'")).1, mapped);
    assert_eq!(
        only_error(&workload("w", "10.0.0.1, 10.0.0.1/32")).1,
        "10.0.0.1/32 is listed twice"
    );
    // Nested prefixes are fine, the same one twice is not.
    assert!(
        findings(&objects(&[workload("a", "10.0.0.0/8"), workload("b", "10.0.0.0/9")])).is_empty()
    );
    let twice = objects(&[workload("a", "10.0.0.0/8"), workload("b", "10.0.0.0/8")]);
    assert_eq!(
        only_error(&twice).1,
        "10.0.0.0/8 already belongs to workload `default/a` at f.yaml:4"
    );
}

#[test]
fn yaml_bombs_are_refused() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let previous = format!("*a{}", n - 1);
        laughs += &format!("a{n}: &a{n} [{}]\n", vec![previous; 10].join(", "));
    }
    // The same through many documents, each of them small.
    let document = format!("a: &a [{}]\nb: [*a, *a, *a, *a]\n---\n", vec!["x"; 300].join(","));
    for (name, text) in [
        ("aliases", laughs),
        ("documents", document.repeat(100)),
        ("brackets", "[".repeat(100_000)),
        ("dashes", "- ".repeat(100_000)),
        ("braces", "{a: ".repeat(10_000)),
        ("merge", "a: &a {b: c}\nd: {<<: *a}\n".to_owned()),
        ("tag", "a: !!python/object x\n".to_owned()),
    ] {
        let found = errors(&text);
        assert!(!found.is_empty(), "{name}");
        assert!(
            found.iter().any(|d| d.message.contains("YAML")),
            "{name}: {}",
            render(&found[..1])
        );
    }
}

/// A mapping as a key cannot be represented; the documents behind it are still checked.
#[test]
fn a_broken_document_does_not_hide_the_next() {
    let text = "? [a]\n: b\n---\nkind: Peer\n";
    let fields: Vec<_> = findings(text).into_iter().map(|d| (d.line, d.field)).collect();
    assert_eq!(fields, [(1, String::new()), (4, "apiVersion".to_owned())]);
}

#[test]
fn nothing_is_a_fabric_too() {
    for text in ["", "\n", "---\n---\n", "# a comment\n", "null\n", "\u{feff}"] {
        let loaded = load(&[SourceFile::new("f", text)]).expect("an empty fabric");
        assert_eq!(loaded.fabric, clgw_policy::Fabric::new(), "{text:?}");
    }
    assert!(load(&[]).expect("no files").warnings.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_makes_the_loader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for finding in findings(&text) {
            prop_assert!(!finding.message.is_empty());
        }
    }

    /// Texts of YAML's own characters get deeper into the parser than random ones.
    #[test]
    fn no_yaml_makes_the_loader_panic(
        text in "([a-z*&!%|>?@'\"#{}\\[\\],:\\- \n\t~<0-9]|: |- |---\n|kind|spec: |&a |\\*a |<<: ){0,60}",
    ) {
        for finding in findings(&text) {
            prop_assert!(!finding.message.is_empty());
        }
    }

    /// A correct file with one stretch replaced: most errors are found behind the parser here.
    #[test]
    fn no_damaged_fabric_makes_the_loader_panic(
        at in 0usize..600,
        length in 0usize..20,
        replacement in "[a-zA-Z0-9:{}\\[\\], \n'\"./-]{0,12}",
    ) {
        let text = objects(&[
            object("Peer", "b", "{gateways: [{host: h, port: 443}]}"),
            object("Export", "e", "{host: 10.0.0.1, port: 80}"),
            object("Import", "i", "{port: 1, lbScheme: static, sources: [{peer: b, exportName: e, exportNamespace: n}]}"),
            object("AccessPolicy", "p", "{action: deny, from: [{workloadSelector: {matchLabels: {a: b}}}], to: [{workloadSelector: {matchExpressions: [{key: a, operator: In, values: [a]}]}}]}"),
            object("Workload", "w", "{addresses: [10.0.0.0/8]}"),
        ]);
        let start = at.min(text.len());
        let end = (start + length).min(text.len());
        let damaged = [&text[..start], &replacement, &text[end..]].concat();
        for finding in findings(&damaged) {
            prop_assert!(!finding.message.is_empty());
            prop_assert!(finding.line > 0, "{finding}");
            prop_assert!(finding.line <= 1 + damaged.lines().count() as u64, "{finding}");
        }
    }
}
