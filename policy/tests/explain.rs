//! The trace says what the reference evaluator says, and why.

mod support;

use std::net::IpAddr;

use clgw_policy::attributes::Attributes;
use clgw_policy::explain::{Guard, SideMatch};
use clgw_policy::reference::Reference;
use clgw_policy::{
    Client, ExplainError, Explainer, Explanation, Fabric, LocalPeer, ObjectName, PeerLabels, Tier,
    Verdict,
};
use proptest::collection::vec;
use proptest::prelude::*;

use support::generated::{apply, change, claim, config, ip, local, reported_labels};
use support::{object, object_with, objects};

fn compare(
    fabric: &Fabric,
    local: &LocalPeer,
    peer_labels: &PeerLabels,
    ips: &[IpAddr],
    claims: &[Attributes],
) -> Result<(), TestCaseError> {
    let explainer = Explainer::new(fabric, local, peer_labels);
    let reference = Reference { fabric, local, peer_labels };
    for ip in ips {
        let client = reference.client(*ip).map(|workload| &workload.name);
        for import in fabric.imports() {
            for source in 0..import.sources.len() {
                let explanation = explainer.egress(&import.name, source, client).unwrap();
                let expected = reference.egress(&import.name, source, *ip).expect("it exists");
                prop_assert_eq!(&explanation.outcome, &expected);
                prop_assert!(is_consistent(&explanation), "{:?}", explanation);
            }
        }
    }
    for claim in claims {
        for export in fabric.exports() {
            let explanation = explainer.ingress(&export.name, claim).unwrap();
            let expected = reference.ingress(&export.name, claim).expect("it exists");
            prop_assert_eq!(&explanation.outcome, &expected);
            prop_assert!(is_consistent(&explanation), "{:?}", explanation);
        }
    }
    Ok(())
}

/// A side that does not match names a requirement of each of its elements, and the decision is in
/// the trace.
fn is_consistent(explanation: &Explanation) -> bool {
    let decided = explanation.matched().find(|policy| !policy.dry_run);
    let named = match explanation.outcome.tier {
        Tier::Guard => explanation.guard.holds() && decided.is_none(),
        Tier::Default => decided.is_none(),
        _ => decided.is_some_and(|policy| policy.name.to_string() == explanation.outcome.policy),
    };
    named
        && explanation.stages.iter().flat_map(|stage| &stage.policies).all(|policy| {
            [(&policy.from, &explanation.from), (&policy.to, &explanation.to)].iter().all(
                |(side, attributes)| match side {
                    SideMatch::Element(_) => true,
                    SideMatch::Nothing(unmet) => {
                        !unmet.is_empty()
                            && unmet.iter().all(|unmet| {
                                let value = attributes.get(unmet.requirement.key());
                                value == unmet.found.as_ref()
                                    && !unmet.requirement.holds(value.map(|v| &**v))
                            })
                    }
                },
            )
        })
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn the_trace_equals_the_reference(
        changes in vec(change(), 0..40),
        local in local(),
        peer_labels in reported_labels(),
        ips in vec(ip(), 1..5),
        claims in vec(claim(), 1..5),
    ) {
        let mut fabric = Fabric::new();
        for change in changes {
            apply(&mut fabric, change);
        }
        compare(&fabric, &local, &peer_labels, &ips, &claims)?;
    }
}

fn shop() -> Fabric {
    let from = |app: &str| {
        format!(
            "[{{workloadSelector: {{matchLabels: {{client.clusterlink.net/labels.app: {app}}}}}}}]"
        )
    };
    let all = "[{workloadSelector: {}}]";
    support::fabric(&objects(&[
        object("Peer", "site-b", "{gateways: [{host: 192.0.2.2, port: 443}]}"),
        object_with(
            "Import",
            "name: db, namespace: shop",
            "{port: 1, sources: [{peer: site-b, exportName: db, exportNamespace: shop}]}",
        ),
        object_with(
            "Workload",
            "name: till, namespace: shop, labels: {app: till}",
            "{addresses: [10.0.0.1]}",
        ),
        object_with(
            "AccessPolicy",
            "name: tills, namespace: shop",
            &format!("{{action: allow, from: {}, to: {all}}}", from("till")),
        ),
        object_with(
            "AccessPolicy",
            "name: tills, namespace: hr",
            &format!("{{action: allow, from: {}, to: {all}}}", from("till")),
        ),
        object_with(
            "PrivilegedAccessPolicy",
            "name: lockdown",
            &format!("{{action: deny, from: {}, to: {all}, dryRun: true}}", from("till")),
        ),
    ]))
}

#[test]
fn the_trace_names_matches_misses_dry_runs_and_other_namespaces() {
    let mut fabric = shop();
    let import = ObjectName::new("shop", "db");
    let Ok(Client::Described(web)) = Client::parse("namespace=shop,labels.app=web") else {
        panic!("a description")
    };
    let web = web.enlist(&mut fabric);
    let (local, peer_labels) = (support::local("site-a", &[]), PeerLabels::new());
    let explainer = Explainer::new(&fabric, &local, &peer_labels);

    let till = explainer.egress(&import, 0, Some(&ObjectName::new("shop", "till"))).unwrap();
    assert_eq!(till.outcome.verdict, Verdict::Allow);
    let matched: Vec<_> = till.matched().map(|p| (p.name.to_string(), p.dry_run)).collect();
    assert_eq!(matched, [("lockdown".to_owned(), true), ("shop/tills".to_owned(), false)]);
    assert_eq!(till.outcome.dry_run_match.as_ref().unwrap().to_string(), "lockdown");
    assert_eq!(till.stages[3].elsewhere, 1);

    let web = explainer.egress(&import, 0, Some(&web)).unwrap();
    assert_eq!(web.outcome.tier, Tier::Default);
    let SideMatch::Nothing(unmet) = &web.stages[3].policies[0].from else { panic!("{web:?}") };
    assert_eq!(unmet[0].requirement.key(), "client.clusterlink.net/labels.app");
    assert_eq!(unmet[0].found.as_deref(), Some("web"));
    assert_eq!(web.stages[3].policies[0].to, SideMatch::Element(0));

    let unknown = explainer.egress(&import, 0, None).unwrap();
    let Guard::UnknownClient { because } = &unknown.guard else { panic!("{unknown:?}") };
    assert_eq!(because.to_string(), "hr/tills");
    assert!(unknown.stages.iter().all(|stage| !stage.asked && stage.policies.is_empty()));
}

#[test]
fn unknown_objects_are_errors_and_too_many_attributes_a_denial() {
    let mut text = String::new();
    for number in 0..=clgw_policy::limits::MAX_SOURCE_ATTRIBUTES {
        text += &object(
            "PrivilegedAccessPolicy",
            &format!("p{number}"),
            &format!(
                "{{action: allow, to: [{{workloadSelector: {{matchExpressions: [{{key: \
                 peer.clusterlink.net/name, operator: Exists}}]}}}}], from: [{{workloadSelector: \
                 {{matchLabels: {{client.clusterlink.net/labels.k{number}: a}}}}}}]}}"
            ),
        );
        text += "---\n";
    }
    text += &object("Export", "db", "{host: 10.0.0.1, port: 1}");
    let fabric = support::fabric(&text);
    let (local, peer_labels) = (support::local("site-b", &[]), PeerLabels::new());
    let explainer = Explainer::new(&fabric, &local, &peer_labels);
    let db = ObjectName::new("default", "db");
    let from: Attributes = (0..=clgw_policy::limits::MAX_SOURCE_ATTRIBUTES)
        .map(|number| (format!("client.clusterlink.net/labels.k{number}").into(), "a".into()))
        .collect();
    let refused = explainer.ingress(&db, &from).unwrap();
    assert_eq!(refused.guard, Guard::TooManyAttributes(from.len()));
    assert_eq!(refused.outcome.policy, "<too many attributes>");
    let mut fewer = from.clone();
    fewer.remove("client.clusterlink.net/labels.k0");
    assert!(explainer.ingress(&db, &fewer).unwrap().is_allowed());

    let other = ObjectName::new("default", "dv");
    let error = explainer.ingress(&other, &from).unwrap_err();
    assert_eq!(error, ExplainError::NoSuchExport(other.clone()));
    assert_eq!(
        explainer.attributes(Some(&other)),
        Err(ExplainError::NoSuchWorkload(other.clone()))
    );
    assert_eq!(explainer.egress(&other, 0, None), Err(ExplainError::NoSuchImport(other)));
}
