//! What is beyond the gateway fails: the service, the other gateway, its certificate.

use std::path::Path;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::lab::{Lab, Place, eventually};
use crate::site::{Site, SiteOptions, VIP};
use crate::world::{World, services};

const LOGGED: Duration = Duration::from_secs(5);

fn assert_cut_off(outcome: &(String, u64), within_ms: u64) {
    let (word, ms) = outcome;
    assert!(matches!(word.as_str(), "reset" | "refused"), "{word} after {ms} ms");
    assert!(*ms < within_ms, "{word} only after {ms} ms");
}

#[test]
fn a_service_that_is_down() {
    let mut world = World::new();
    // Nothing listens at port 7009 of the server: its kernel answers with RST.
    assert_cut_off(&world.lab.attempt(&format!("{VIP}:7009")), 2_000);
    let words = ["connection refused", "demo/dead", "service_unreachable"];
    world.a.wait_for_all(&words, LOGGED);
    assert_eq!(world.lab.attempt(&format!("{VIP}:7000")).0, "served");
    world.stop();
}

#[test]
fn a_server_that_is_gone() {
    let mut world = World::new();
    world.lab.ip(Place::Server, &["link", "set", "eth0", "down"]);
    // Nobody answers: CONNECT_TIMEOUT or the neighbour's time-out, 3 s each.
    assert_cut_off(&world.lab.attempt(&format!("{VIP}:7000")), 8_000);
    world.a.wait_for_all(&["connection refused", "demo/echo", "reason=service_"], LOGGED);
    world.stop();
}

#[test]
fn the_other_gateway_is_down_and_comes_back() {
    let lab = Lab::new();
    let (_echo, _greet) = services(&lab);
    let root: &Path = lab.dir.path();
    let site_a = Site::importer(root, &SiteOptions::a());
    let site_b = Site::exporter(root, &SiteOptions::b());
    let mut a = Gateway::start(&lab, "gateway-a", Place::SiteA, &site_a);
    let echo = format!("{VIP}:7000");
    // OPEN_TIMEOUT at the latest.
    assert_cut_off(&lab.attempt(&echo), 8_000);
    a.wait_for_all(&["connection refused", "demo/echo", "reason=peer_unreachable"], LOGGED);

    let served = |what: &str| {
        // GATEWAY_BACKOFF_MAX and the time of one more attempt.
        eventually(what, Duration::from_secs(25), || {
            (lab.attempt(&echo).0 == "served").then_some(())
        });
    };
    let b = Gateway::start(&lab, "gateway-b", Place::SiteB, &site_b);
    served("service after the gateway came up");
    b.stop();
    assert_cut_off(&lab.attempt(&echo), 8_000);
    let b = Gateway::start(&lab, "gateway-b2", Place::SiteB, &site_b);
    served("service after the gateway came back");
    b.stop();
    a.stop();
}

#[test]
fn a_certificate_of_another_ca() {
    let mut b = SiteOptions::b();
    b.fabric = "foreign".into();
    let mut world = World::with(&SiteOptions::a(), &b);
    assert_cut_off(&world.lab.attempt(&format!("{VIP}:7000")), 8_000);
    let line = world.a.wait_for_all(&["tunnel down", "reason=tls_"], LOGGED);
    assert!(line.contains("detail="), "{line}");
    let (a, b) = world.stop();
    assert!(!a.contains("tunnels_reused=1"), "{a}");
    assert!(b.contains("0 bytes to peers, 0 bytes from peers"), "{b}");
}

#[test]
fn a_good_certificate_of_the_wrong_peer() {
    // The gateway at site B's address belongs to the fabric, but is site C.
    let mut b = SiteOptions::b();
    b.peer = "site-c".into();
    let mut world = World::with(&SiteOptions::a(), &b);
    assert_cut_off(&world.lab.attempt(&format!("{VIP}:7000")), 8_000);
    let line = world.a.wait_for_all(&["tunnel down", "reason="], LOGGED);
    assert!(line.contains("peer_name") || line.contains("tls_handshake"), "{line}");
    let (_, b) = world.stop();
    assert!(b.contains("0 bytes to peers, 0 bytes from peers"), "{b}");
}
