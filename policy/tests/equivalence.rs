//! Compiled table == reference evaluator, over generated fabrics and over changes of them.

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;

use clgw_policy::attributes::Attributes;
use clgw_policy::reference::{Outcome, Reference};
use clgw_policy::{
    AccessPolicy, ClientId, Export, ExportId, Fabric, Host, ImportId, LocalPeer, ObjectName,
    Operator, PeerLabels, PolicyTable, Requirement, Selector,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use support::generated::*;

/// Asks both about every client, source, export and claim.
fn compare(
    fabric: &Fabric,
    local: &LocalPeer,
    peer_labels: &PeerLabels,
    ips: &[IpAddr],
    claims: &[Attributes],
) -> Result<(), TestCaseError> {
    let table = PolicyTable::compile(fabric, local, 9, peer_labels);
    let reference = Reference { fabric, local, peer_labels };
    for ip in ips {
        let client = table.client(*ip);
        let expected = reference.client(*ip);
        prop_assert_eq!(table.client_name(client), expected.map(|workload| &workload.name));
        prop_assert_eq!(client == ClientId::UNKNOWN, expected.is_none());
        for (import, id) in fabric.imports().zip(0u32..) {
            for source in 0..import.sources.len() {
                let decision = table.decide_egress(ImportId(id), source, client);
                prop_assert_eq!(decision.generation, 9);
                let expected = reference.egress(&import.name, source, *ip).expect("it exists");
                prop_assert_eq!(Outcome::of(&decision, &table), expected);
            }
        }
    }
    for claim in claims {
        for (export, id) in fabric.exports().zip(0u32..) {
            let pairs = claim.iter().map(|(key, value)| (&**key, &**value));
            let decision = table.decide_ingress(ExportId(id), pairs);
            let expected = reference.ingress(&export.name, claim).expect("it exists");
            prop_assert_eq!(Outcome::of(&decision, &table), expected);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(100_000))]

    #[test]
    fn compiled_equals_reference(
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

proptest! {
    #![proptest_config(config(2000))]

    /// After every single change, in any order: add, replace, flip, delete.
    #[test]
    fn compiled_equals_reference_after_each_change(
        changes in vec(change(), 1..30),
        local in local(),
        peer_labels in reported_labels(),
        ips in vec(ip(), 1..3),
        claims in vec(claim(), 1..3),
    ) {
        let mut fabric = Fabric::new();
        for change in changes {
            apply(&mut fabric, change);
            compare(&fabric, &local, &peer_labels, &ips, &claims)?;
        }
    }
}

/// One of many clients by a label.
fn tenant(tenants: usize) -> impl Strategy<Value = String> {
    (0..tenants).prop_map(|number| format!("t{number}"))
}

/// A policy about few tenants: of thousands, one matches, and it can stand anywhere.
fn rare_policy(tenants: usize) -> impl Strategy<Value = AccessPolicy> {
    let selector =
        (vec(tenant(tenants), 1..4), vec(requirement(), 0..=2)).prop_map(|(tenants, others)| {
            let tenants = tenants.iter().map(String::as_str);
            let key = "client.clusterlink.net/labels.k";
            let tenant = Requirement::new(key, Operator::In, tenants).expect("valid");
            Selector::new(others.into_iter().chain([tenant]))
        });
    (policy(), vec(selector, 1..=3), prop::bool::weighted(0.2)).prop_map(
        |(mut policy, from, everywhere)| {
            policy.from = from;
            if everywhere {
                policy.to = vec![Selector::everything()];
            }
            policy
        },
    )
}

/// The decisions about many tenants, each held against the reference, counted by what decided.
fn count_decisions(policies: Vec<AccessPolicy>, tenants: &[String]) -> BTreeMap<String, usize> {
    let mut fabric = Fabric::new();
    for (number, mut policy) in policies.into_iter().enumerate() {
        policy.name.name = format!("p{number}").into();
        fabric.put_policy(policy).expect("valid");
    }
    fabric.put_export(Export {
        name: ObjectName::new("red", "x"),
        labels: support::labels(&[("k", "1")]),
        host: Host::Dns("h".into()),
        port: 80,
    });
    let (local, none) = (support::local("a", &[]), PeerLabels::new());
    let table = PolicyTable::compile(&fabric, &local, 9, &none);
    let reference = Reference { fabric: &fabric, local: &local, peer_labels: &none };
    let export = ObjectName::new("red", "x");
    let mut counted = BTreeMap::new();
    for tenant in tenants {
        let client = [
            ("client.clusterlink.net/labels.k", &**tenant),
            ("client.clusterlink.net/namespace", "red"),
            ("peer.clusterlink.net/name", "b"),
        ];
        let decision = table.decide_ingress(ExportId(0), client.into_iter());
        let claim = client.map(|(key, value)| (key.into(), value.into())).into();
        let outcome = Outcome::of(&decision, &table);
        assert_eq!(Some(&outcome), reference.ingress(&export, &claim).as_ref(), "{tenant}");
        *counted.entry(format!("{:?} {:?}", outcome.tier, outcome.verdict)).or_default() += 1;
    }
    counted
}

/// Policies that match often decide among the first few; these decide anywhere, in every word and
/// block of the sets. That each end is reached is checked, or this would prove little.
#[test]
fn compiled_equals_reference_wherever_the_deciding_rule_stands() {
    let mut runner = TestRunner::deterministic();
    for policies in [100, 500, 5000] {
        let tenants = 5 * policies;
        let sample = (vec(rare_policy(tenants), policies), vec(tenant(tenants), 500));
        let (policies, tenants) = sample.new_tree(&mut runner).expect("a sample").current();
        let counted = count_decisions(policies, &tenants);
        assert_eq!(counted.len(), 5, "{counted:?}");
    }
}

proptest! {
    #![proptest_config(config(200))]

    /// More than 64 policies, so that sets span several words.
    #[test]
    fn compiled_equals_reference_with_many_policies(
        policies in vec(policy(), 65..200),
        import in import(),
        export in export(),
        workload in workload(),
        ips in vec(ip(), 1..3),
        claims in vec(claim(), 1..4),
    ) {
        let mut fabric = Fabric::new();
        for (number, mut policy) in policies.into_iter().enumerate() {
            policy.name.name = format!("p{number}").into();
            fabric.put_policy(policy).expect("valid");
        }
        fabric.put_import(import).expect("few sources");
        fabric.put_export(export);
        fabric.put_workload(workload);
        compare(&fabric, &support::local("a", &[]), &PeerLabels::new(), &ips, &claims)?;
    }
}
