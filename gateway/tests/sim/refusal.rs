//! Who is not allowed, or cannot be served, is told, and the reason is known.

use std::sync::Arc;
use std::time::Duration;

use clgw::sim::{Pki, World};
use clgw::telemetry::CloseReason;

use crate::sites::*;

fn is_refused(world: &mut World, from: &str) {
    let watch = connect_from(world, from, WEB, Script::new(100, 100));
    run(world, 10, |_| watch.borrow().closed);
    assert_eq!(watch.borrow().received, 0);
    assert!(!watch.borrow().finished, "reset, not an orderly end");
}

#[test]
fn by_the_importers_default() {
    let mut world = Sites::default().build();
    let served = serve(&mut world, Script::new(100, 100));
    is_refused(&mut world, "10.1.0.3");
    assert_eq!(refusals(&world, A), [(CloseReason::PolicyDenied, "<default deny>".into())]);
    assert!(served.borrow().is_empty());
    assert_eq!(world.gateways[B].counters().policy_denied, 0, "the exporter was not asked");
}

#[test]
fn by_a_policy_of_the_importer() {
    let objects_a = format!(
        "{OBJECTS_A}---
apiVersion: clusterlink.net/v1alpha1
kind: PrivilegedAccessPolicy
metadata: {{ name: no-front }}
spec:
  action: deny
  from: [{{ workloadSelector: {{ matchLabels: {{ client.clusterlink.net/labels.app: front }} }} }}]
  to: [{{ workloadSelector: {{}} }}]
"
    );
    let mut world = Sites { objects_a, ..Sites::default() }.build();
    is_refused(&mut world, "10.1.0.2");
    assert_eq!(refusals(&world, A), [(CloseReason::PolicyDenied, "no-front".into())]);
}

#[test]
fn by_a_policy_of_the_exporter() {
    let objects_b = format!(
        "{OBJECTS_B}---
apiVersion: clusterlink.net/v1alpha1
kind: AccessPolicy
metadata: {{ name: no-front, namespace: shop }}
spec:
  action: deny
  from: [{{ workloadSelector: {{ matchLabels: {{ client.clusterlink.net/labels.app: front }} }} }}]
  to: [{{ workloadSelector: {{}} }}]
"
    );
    let mut world = Sites { objects_b, ..Sites::default() }.build();
    let served = serve(&mut world, Script::new(100, 100));
    is_refused(&mut world, "10.1.0.2");
    let expected = (CloseReason::PeerPolicyDenied, "shop/no-front".to_owned());
    assert_eq!(refusals(&world, A), [expected]);
    assert_eq!(refusals(&world, B), [(CloseReason::PolicyDenied, "shop/no-front".into())]);
    assert!(served.borrow().is_empty());
    // The tunnel survived the refusal.
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.gateways[A].counters().tunnels_opened, 2);
}

#[test]
fn for_want_of_an_export() {
    let objects_b = OBJECTS_B.replace("name: web", "name: other");
    let mut world = Sites { objects_b, ..Sites::default() }.build();
    is_refused(&mut world, "10.1.0.2");
    assert_eq!(refusals(&world, A), [(CloseReason::ExportNotFound, String::new())]);
}

#[test]
fn for_want_of_a_service() {
    let mut world = Sites::default().build();
    is_refused(&mut world, "10.1.0.2");
    assert_eq!(refusals(&world, A), [(CloseReason::ServiceUnreachable, String::new())]);
    // It comes up.
    let _served = serve(&mut world, Script::new(100, 100));
    let client = Script::new(100, 100);
    let watch = connect(&mut world, WEB, client.clone());
    run(&mut world, 10, |_| watch.borrow().complete(&client));
}

#[test]
fn for_want_of_a_peer_and_served_once_it_is_back() {
    let mut world = Sites::default().build();
    let _served = serve(&mut world, Script::new(100, 100));
    world.cut(WAN, true);
    is_refused_slowly(&mut world);
    assert_eq!(refusals(&world, A), [(CloseReason::PeerUnreachable, String::new())]);
    world.cut(WAN, false);
    let client = Script::new(100, 100);
    // Within the longest back-off.
    world.run_for(clgw::limits::GATEWAY_BACKOFF_MAX + Duration::from_secs(5));
    let watch = connect(&mut world, WEB, client.clone());
    run(&mut world, 10, |_| watch.borrow().complete(&client));
}

fn is_refused_slowly(world: &mut World) {
    let watch = connect(world, WEB, Script::new(100, 100));
    run(world, 30, |_| watch.borrow().closed);
    assert_eq!(watch.borrow().received, 0);
}

/// Gateway B's certificate is exchanged for `other`.
fn with_other_identity(other: impl FnOnce(&Identities) -> Arc<clgw::tls::Identity>) -> World {
    let mut identities = Identities::new();
    identities.b = other(&identities);
    Sites::default().build_with(&identities)
}

#[test]
fn of_a_foreign_fabric() {
    let foreign = Pki::new("fabric").unwrap();
    let (cert, key) = foreign.peer("site-b").unwrap();
    let mut world = with_other_identity(|_| foreign.identity(&cert, &key).unwrap());
    is_refused_slowly(&mut world);
    let (a, b) = (world.gateways[A].counters(), world.gateways[B].counters());
    assert!(a.closes(CloseReason::TlsHandshake) + a.closes(CloseReason::TlsAlert) > 0);
    assert_eq!(b.tunnels_accepted, 0);
    assert_eq!(a.tunnels_opened, 0);
}

#[test]
fn of_another_name() {
    let mut world = with_other_identity(|i| Arc::clone(&i.a));
    is_refused_slowly(&mut world);
    let a = world.gateways[A].counters();
    assert!(a.closes(CloseReason::PeerName) > 0, "{}", describe(&world));
    assert_eq!(a.tunnels_opened, 0);
}

/// A gateway whose certificate says site-b must not pass for site-a in policies.
#[test]
fn of_a_peer_that_lies_about_its_name() {
    let pki = Pki::new("fabric").unwrap();
    let peer = |name: &str| {
        let (cert, key) = pki.peer(name).unwrap();
        pki.identity(&cert, &key).unwrap()
    };
    // Gateway A is configured as site-a and so says site-a, but its certificate is another's.
    let identities = Identities { a: peer("site-x"), b: peer("site-b") };
    let mut world = Sites::default().build_with(&identities);
    let served = serve(&mut world, Script::new(100, 100));
    is_refused(&mut world, "10.1.0.2");
    assert_eq!(refusals(&world, B), [(CloseReason::PeerName, String::new())]);
    assert!(served.borrow().is_empty());
}
