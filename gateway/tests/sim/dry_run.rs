//! Policies on trial: nothing changes for anybody, and every decision that would have turned is
//! counted and reported with the policy's name.

use clgw::sim::World;
use clgw::telemetry::{Event, Judged};
use clgw_policy::{ExportId, ImportId};

use crate::sites::*;

fn trial(action: &str, kind: &str) -> String {
    format!(
        "---
apiVersion: clusterlink.net/v1alpha1
kind: {kind}
metadata: {{ name: trial{} }}
spec:
  action: {action}
  dryRun: true
  from: [{{ workloadSelector: {{}} }}]
  to: [{{ workloadSelector: {{}} }}]
",
        if kind == "AccessPolicy" { ", namespace: shop" } else { "" }
    )
}

/// Name, what was decided, and about what.
fn reported(world: &World, g: usize) -> Vec<(String, bool, Judged)> {
    let table = &world.gateways[g].snapshot().table;
    let mut all = Vec::new();
    while let Some(event) = world.gateways[g].event() {
        if let Event::DryRun { policy, allowed, service, generation, .. } = event {
            assert_eq!(generation, table.generation());
            all.push((table.policy(policy).unwrap().text().to_owned(), allowed, service));
        }
    }
    all
}

#[test]
fn a_denial_on_trial_lets_everybody_pass_and_is_reported_at_both_ends() {
    let mut world = Sites {
        objects_a: OBJECTS_A.to_owned() + &trial("deny", "PrivilegedAccessPolicy"),
        objects_b: OBJECTS_B.to_owned() + &trial("deny", "AccessPolicy"),
        ..Sites::default()
    }
    .build();
    let script = Script::new(100, 100);
    let _served = serve(&mut world, script.clone());
    for _ in 0..3 {
        let watch = connect(&mut world, WEB, script.clone());
        run(&mut world, 10, |_| watch.borrow().complete(&script));
    }
    let import = ("trial".to_owned(), true, Judged::Import(ImportId(0)));
    assert_eq!(reported(&world, A), vec![import; 3]);
    let export = ("shop/trial".to_owned(), true, Judged::Export(ExportId(0)));
    assert_eq!(reported(&world, B), vec![export; 3]);
    for gateway in &world.gateways {
        assert_eq!((gateway.counters().policy_dry_run, gateway.counters().policy_denied), (3, 0));
    }
}

#[test]
fn an_allowance_on_trial_lets_nobody_pass() {
    let objects_a = OBJECTS_A.to_owned() + &trial("allow", "PrivilegedAccessPolicy");
    let mut world = Sites { objects_a, ..Sites::default() }.build();
    let script = Script::new(100, 100);
    let served = serve(&mut world, script.clone());
    let watch = connect_from(&mut world, "10.1.0.3", WEB, script.clone());
    run(&mut world, 10, |_| watch.borrow().closed);
    assert!(served.borrow().is_empty());
    // Where it agrees with what was decided there is nothing to report.
    let watch = connect(&mut world, WEB, script.clone());
    run(&mut world, 10, |_| watch.borrow().complete(&script));
    let import = ("trial".to_owned(), false, Judged::Import(ImportId(0)));
    assert_eq!(reported(&world, A), [import]);
    assert_eq!(world.gateways[A].counters().policy_dry_run, 1);
}

#[test]
fn an_allowance_on_trial_at_the_exporter_is_reported_there() {
    let objects_b = OBJECTS_B.replace("allow-a", "deny-a").replace("action: allow", "action: deny")
        + &trial("allow", "PrivilegedAccessPolicy");
    let mut world = Sites { objects_b, ..Sites::default() }.build();
    let script = Script::new(100, 100);
    let served = serve(&mut world, script.clone());
    let watch = connect(&mut world, WEB, script);
    run(&mut world, 10, |_| watch.borrow().closed);
    assert!(served.borrow().is_empty());
    let export = ("trial".to_owned(), false, Judged::Export(ExportId(0)));
    assert_eq!(reported(&world, B), [export]);
}
