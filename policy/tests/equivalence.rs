//! Compiled table == reference evaluator, over generated fabrics and over changes of them.

mod support;

use std::net::IpAddr;

use clgw_policy::attributes::Attributes;
use clgw_policy::reference::{Outcome, Reference};
use clgw_policy::{ClientId, ExportId, Fabric, ImportId, LocalPeer, PeerLabels, PolicyTable};
use proptest::collection::vec;
use proptest::prelude::*;

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
    #![proptest_config(config(3000))]

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
    #![proptest_config(config(200))]

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
