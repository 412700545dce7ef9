//! Tables of expected decisions: what is wrong with them, and what they find out.

mod support;

use std::collections::BTreeMap;

use clgw_policy::connection::Site;
use clgw_policy::expect::{self, Answer};
use clgw_policy::{Client, Diagnostic, SourceFile, Verdict};
use proptest::prelude::*;

use support::generated::config;
use support::{object, object_with, objects, render};

const SITES: &str =
    "sites:\n  site-a: {objects: a, labels: {region: eu}}\n  site-b: {objects: b}\n";

fn table(tests: &str) -> SourceFile {
    SourceFile::new("t.yaml", format!("{SITES}tests:\n{tests}"))
}

fn sites() -> BTreeMap<Box<str>, Site> {
    let all = "[{workloadSelector: {}}]";
    let labelled = |key: &str, value: &str| {
        format!("[{{workloadSelector: {{matchLabels: {{{key}: {value}}}}}}}]")
    };
    let till = labelled("client.clusterlink.net/labels.app", "till");
    let europe = labelled("peer.clusterlink.net/labels.region", "eu");
    let a = objects(&[
        object("Peer", "site-b", "{gateways: [{host: 192.0.2.2, port: 443}]}"),
        object("Peer", "site-c", "{gateways: [{host: 192.0.2.3, port: 443}]}"),
        object_with(
            "Import",
            "name: db, namespace: shop",
            "{port: 1, lbScheme: static, sources: [\
             {peer: site-c, exportName: db, exportNamespace: shop}, \
             {peer: site-b, exportName: db, exportNamespace: shop}, \
             {peer: site-b, exportName: none, exportNamespace: shop}]}",
        ),
        object_with(
            "Workload",
            "name: till, namespace: shop, labels: {app: till}",
            "{addresses: [10.0.0.1]}",
        ),
        object_with(
            "AccessPolicy",
            "name: tills, namespace: shop",
            &format!("{{action: allow, from: {till}, to: {all}}}"),
        ),
        object(
            "PrivilegedAccessPolicy",
            "not-c",
            &format!(
                "{{action: deny, from: {all}, to: {}}}",
                labelled("peer.clusterlink.net/name", "site-c")
            ),
        ),
    ]);
    let b = objects(&[
        object_with("Export", "name: db, namespace: shop", "{host: 10.0.0.9, port: 1}"),
        object_with(
            "AccessPolicy",
            "name: europe, namespace: shop",
            &format!("{{action: allow, from: {europe}, to: {all}}}"),
        ),
    ]);
    let site = |name, labels: &[_], text: &str| {
        let site = Site { local: support::local(name, labels), fabric: support::fabric(text) };
        (name.into(), site)
    };
    BTreeMap::from([site("site-a", &[("region", "eu")], &a), site("site-b", &[], &b)])
}

fn answers(tests: &str) -> Result<Vec<Answer>, Vec<Diagnostic>> {
    expect::evaluate(&expect::parse(&table(tests))?, "t.yaml", &mut sites())
}

#[test]
fn whole_connections_and_single_exporters_are_answered() {
    let tests = "\
- {name: t, site: site-a, import: shop/db, client: 10.0.0.1, expect: allow, by: shop/europe}
- {site: site-a, import: shop/db, client: 10.0.0.1, peer: site-c, expect: deny, by: not-c}
- {site: site-a, import: shop/db, client: unknown, expect: deny, by: <unknown client>}
- {site: site-a, import: shop/db, client: {namespace: shop, labels: {app: till}}, expect: allow}
- {site: site-a, import: shop/db, client: {labels: {app: web}}, expect: deny, by: <default deny>}
- {site: site-b, export: shop/db, client: {peer: site-d, peerLabels: {region: eu}}, expect: allow}
- {site: site-b, export: shop/db, client: {peer: site-d}, expect: deny}
- {site: site-b, export: shop/db, client: {peer: site-a}, expect: allow, by: shop/europe}
- {site: site-b, export: shop/db, client: {peer: site-a, peerLabels: {region: us}}, expect: deny}
";
    let answers = answers(tests).unwrap_or_else(|errors| panic!("{}", render(&errors)));
    for (number, answer) in answers.iter().enumerate() {
        assert!(answer.passed && answer.legs.is_empty(), "{number}: {answer:?}");
    }
    assert_eq!(answers.len(), 9);
}

/// An allow of which only half was asked is not to be taken for a whole one.
#[test]
fn an_exporter_that_is_no_site_of_the_table_is_named() {
    let tests = "\
- {site: site-a, import: shop/db, client: 10.0.0.1, expect: allow}
- {site: site-a, import: shop/db, client: unknown, expect: deny}
";
    let table =
        SourceFile::new("t.yaml", format!("sites: {{site-a: {{objects: a}}}}\ntests:\n{tests}"));
    let mut sites = sites();
    let whole = answers(tests).unwrap();
    sites.remove("site-b");
    let half = expect::evaluate(&expect::parse(&table).unwrap(), "t.yaml", &mut sites).unwrap();
    let unasked = |answers: &[Answer]| -> Vec<Option<String>> {
        answers.iter().map(|answer| answer.unasked.as_deref().map(str::to_owned)).collect()
    };
    assert!(half.iter().all(|answer| answer.passed));
    assert_eq!(unasked(&half), [Some("site-b".to_owned()), None]);
    assert_eq!(unasked(&whole), [None, None]);
}

#[test]
fn a_failed_test_says_who_was_asked_and_which_policy_was_near() {
    let tests = "\
- {site: site-a, import: shop/db, peer: site-b, client: {labels: {app: web}}, expect: allow}
- {site: site-a, import: shop/db, client: 10.0.0.1, expect: allow, by: shop/tills}
";
    let answers = answers(tests).unwrap();
    assert!(answers.iter().all(|answer| !answer.passed));
    assert_eq!((answers[0].verdict, &*answers[0].by), (Verdict::Deny, "<default deny>"));
    // Denied by the importer: the exporter is not asked, for neither source.
    assert_eq!(answers[0].legs.len(), 2);
    let explanation = answers[0].legs[0].explanation.as_ref().unwrap();
    let near: Vec<_> = explanation.stages.iter().flat_map(|s| &s.policies).collect();
    assert_eq!(near[0].name.to_string(), "shop/tills");
    assert_eq!((answers[1].verdict, &*answers[1].by), (Verdict::Allow, "shop/europe"));
    // site-c is refused by the importer; site-b is asked for a service it has and one it has not.
    let asked: Vec<_> = answers[1].legs.iter().map(|leg| &*leg.site).collect();
    assert_eq!(asked, ["site-a", "site-a", "site-b", "site-a", "site-b"]);
    assert!(answers[1].legs[4].explanation.is_none());
}

#[test]
fn all_errors_of_a_table_come_at_once_with_their_places() {
    let text = "\
sites:
  site-a: {objects: a, config: b}
  Site_B: {objects: b}
  site-c: {}
  site-d: {config: g.yaml, labels: {a: b}}
tests:
- {site: site-e, import: shop/db, client: 10.0.0.1, expect: allow}
- {site: site-a, import: shop, client: 10.0.0.1, expect: maybe}
- {site: site-a, export: shop/db, client: 10.0.0.1, expect: deny}
- {site: site-a, export: shop/db, client: {namespace: Shop}, peer: b, expect: deny}
- {site: site-a, import: shop/db, client: {peer: x}, expct: deny}
- {site: site-a, client: {lables: {a: b}}, expect: [deny]}
- {}
- {site: site-a, export: shop/db, client: {peer: Site B}, expect: deny}
";
    let found = expect::parse(&SourceFile::new("t.yaml", text)).unwrap_err();
    let found: Vec<String> = found
        .iter()
        .map(|d| format!("{}: {}: {} ({})", d.line, d.field, d.message, d.hint))
        .collect();
    let expected = [
        "2: sites.site-a.config: objects and config are both given",
        "3: sites.Site_B: the name `Site_B` contains 'S'",
        "4: sites.site-c: the site has no objects",
        "5: sites.site-d.labels: the labels come from the gateway.yaml",
        "7: tests[0].site: there is no site `site-e` in this file (did you mean",
        "8: tests[1].import: `shop` is no name of a service",
        "8: tests[1].expect: `maybe` is no decision",
        "9: tests[2].client: an exporter knows no addresses",
        "10: tests[3].client.namespace: `Shop` contains 'S'",
        "10: tests[3].client.peer: is missing: whose client is it?",
        "10: tests[3].peer: chooses among the sources",
        "11: tests[4].client.peer: the client of an import",
        "11: tests[4].expct: unknown field `expct` (did you mean `expect`?)",
        "12: tests[5].client.lables: unknown field `lables` (did you mean `labels`?)",
        "12: tests[5].expect: found a list",
        "13: tests[6].site: is missing",
        "14: tests[7].client.peer: `Site B` contains 'S'",
    ];
    for expected in expected {
        assert!(found.iter().any(|found| found.starts_with(expected)), "{expected}\n{found:#?}");
    }
    let lines: Vec<u64> =
        found.iter().map(|f| f.split(':').next().unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted(), "{found:#?}");
}

#[test]
fn questions_about_what_a_site_lacks_are_errors_with_a_hint() {
    let tests = "\
- {site: site-a, import: shop/bd, client: unknown, expect: deny}
- {site: site-b, export: shop/dbs, client: unknown, expect: deny}
- {site: site-a, import: shop/db, client: unknown, peer: site-d, expect: deny}
- {site: site-a, import: shop/db, client: unknown, expect: deny, by: shop/til}
";
    let errors = answers(tests).unwrap_err();
    let text = render(&errors);
    assert_eq!(errors.len(), 4, "{text}");
    for (error, (line, hint)) in errors.iter().zip([
        (5, "did you mean `shop/db`?"),
        (6, "did you mean `shop/db`?"),
        (7, "did you mean `site-b`?"),
        (8, "did you mean `shop/tills`?"),
    ]) {
        assert_eq!((error.line, &*error.hint), (line, hint), "{text}");
    }
}

#[test]
fn nothing_to_ask_is_an_error_too() {
    for text in ["", "sites: {}\n", "sites: {a: {objects: x}}\ntests: []\n", "tests: 7\n"] {
        let found = expect::parse(&SourceFile::new("t.yaml", text)).unwrap_err();
        assert!(found.iter().any(|d| !d.hint.is_empty()), "{text}: {found:?}");
    }
}

const GOOD: &str = "\
sites: {site-a: {objects: a, labels: {k: v}}, site-b: {config: g.yaml}}
tests:
- {name: n, site: site-a, import: shop/db, client: 10.0.0.1, peer: b, expect: allow, by: x/y}
- {site: site-b, export: a/b, client: {peer: c, peerLabels: {k: v}, labels: {a: b}}, expect: deny}
- {site: site-a, import: a/b, client: {namespace: n, serviceAccount: s}, expect: deny}
";

#[test]
fn the_good_table_is_good() {
    let table = expect::parse(&SourceFile::new("t.yaml", GOOD)).unwrap();
    assert_eq!((table.sites.len(), table.cases.len()), (2, 3));
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn no_text_makes_the_table_panic(text in "[ a-z:{},\\[\\]\n'\"-]*") {
        let _ = expect::parse(&SourceFile::new("t.yaml", text));
    }

    /// A piece of a good table is replaced: what is refused has a place in the file.
    #[test]
    fn no_damaged_table_makes_it_panic(
        at in 0..GOOD.len(), length in 0usize..20, text in "[a-z0-9:{},\\[\\]\n /-]{0,6}",
    ) {
        let end = (at + length).min(GOOD.len());
        let damaged = format!("{}{text}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(found) = expect::parse(&SourceFile::new("t.yaml", damaged)) {
            prop_assert!(!found.is_empty());
            prop_assert!(found.iter().all(|d| d.file == "t.yaml" && !d.message.is_empty()));
        }
    }

    #[test]
    fn no_text_makes_a_client_panic(text in "[a-z0-9:=.,/-]*") {
        if let Ok(client) = Client::parse(&text) {
            // What it is printed as is the same client, but for the peer.
            prop_assert!(Client::parse(&client.to_string()).is_ok(), "{}", client);
        }
    }
}
