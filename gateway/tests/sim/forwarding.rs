//! Bytes get through, both ways, and each end sees the other's end.

use std::time::Duration;

use clgw::sim::{LinkConfig, Offload};
use clgw::telemetry::Counters;

use crate::sites::*;

/// One connection that must carry `script` and its mirror image, and leave nothing behind.
fn exchange(
    mut world: clgw::sim::World,
    to: &str,
    client: Script,
    server: Script,
    seconds: u64,
) -> clgw::sim::World {
    let served = serve(&mut world, server.clone());
    let watch = connect(&mut world, to, client.clone());
    run(&mut world, seconds, |_| {
        watch.borrow().closed || (watch.borrow().complete(&client) && served.borrow().len() == 1)
    });
    assert!(watch.borrow().complete(&client), "{watch:?} {}", describe(&world));
    run(&mut world, seconds, |_| served.borrow()[0].borrow().complete(&server));
    run(&mut world, 20, |w| {
        w.hosts[CLIENT].connections() == 0 && w.hosts[SERVER].connections() == 0
    });
    assert_at_rest(&mut world);
    world
}

#[test]
fn request_and_answer() {
    exchange(Sites::default().build(), WEB, Script::new(100, 5_000), Script::new(5_000, 100), 5);
}

#[test]
fn over_ipv6() {
    let sites = Sites { v6: true, ..Sites::default() };
    exchange(sites.build(), WEB6, Script::new(100, 50_000), Script::new(50_000, 100), 5);
}

#[test]
fn megabytes_both_ways() {
    let n = 20 << 20;
    exchange(Sites::default().build(), WEB, Script::new(n, n), Script::new(n, n), 60);
}

#[test]
fn jumbo_frames() {
    let sites = Sites { mtu: 9_000, ..Sites::default() };
    let n = 20 << 20;
    exchange(sites.build(), WEB, Script::new(n, n), Script::new(n, n), 60);
}

/// Devices send many segments for a packet of ours, and some of those get lost.
#[test]
fn ports_that_cut_segments() {
    let n = 10 << 20;
    let lossy = LinkConfig { loss: 0.01, ..LinkConfig::CLEAN };
    for (v6, wan) in [(false, LinkConfig::CLEAN), (true, LinkConfig::CLEAN), (false, lossy)] {
        let sites = Sites { v6, wan, offload: Offload::Segments, ..Sites::default() };
        let to = if v6 { WEB6 } else { WEB };
        let world = exchange(sites.build(), to, Script::new(n, n), Script::new(n, n), 120);
        for gateway in &world.gateways {
            let Counters { tx_frames, tx_bytes, .. } = gateway.counters();
            // Acknowledgements are among them.
            assert!(tx_bytes > 2 * n && tx_bytes / tx_frames > 2_000, "{tx_bytes} {tx_frames}");
        }
    }
}

/// So many that the worker looks ahead for what belongs to the frames of a burst.
#[test]
fn hundreds_of_connections_at_once() {
    let mut world = Sites::default().build();
    let script = Script::new(20_000, 20_000);
    let served = serve(&mut world, script.clone());
    let all: Vec<_> = (0..500).map(|_| connect(&mut world, WEB, script.clone())).collect();
    // Two at each gateway, its tunnel's and the client's or the service's.
    let mut most = 0;
    run(&mut world, 60, |w| {
        most = most.max(w.gateways[A].workers[0].connections());
        all.iter().all(|watch| watch.borrow().complete(&script))
    });
    assert!(most > 600, "{most} connections at once");
    assert!(served.borrow().iter().all(|watch| watch.borrow().complete(&script)));
    assert_eq!(served.borrow().len(), 500);
    run(&mut world, 20, |w| w.hosts[CLIENT].connections() == 0);
    assert_at_rest(&mut world);
}

#[test]
fn empty_connection() {
    exchange(Sites::default().build(), WEB, Script::new(0, 0), Script::new(0, 0), 5);
}

#[test]
fn the_client_ends_first_and_still_receives() {
    let client = Script::new(1_000, 300_000);
    let server = Script { send_last: true, ..Script::new(300_000, 1_000) };
    exchange(Sites::default().build(), WEB, client, server, 20);
}

#[test]
fn the_server_ends_first_and_still_receives() {
    let client = Script { send_last: true, ..Script::new(300_000, 1_000) };
    let server = Script::new(1_000, 300_000);
    exchange(Sites::default().build(), WEB, client, server, 20);
}

#[test]
fn the_server_speaks_first() {
    let client = Script { send_last: true, ..Script::new(10, 500) };
    let server = Script::new(500, 10);
    exchange(Sites::default().build(), WEB, client, server, 5);
}

#[test]
fn back_pressure_holds_the_sender_and_loses_nothing() {
    for (reader_is_client, name) in [(true, "download"), (false, "upload")] {
        let mut world = Sites::default().build();
        let size = 50 << 20;
        let slow = Script { read_limit: 100_000, ..Script::new(0, size) };
        let fast = Script::new(size, 0);
        let (client, server) = if reader_is_client { (slow, fast) } else { (fast, slow) };
        let served = serve(&mut world, server);
        let watch = connect(&mut world, WEB, client);
        world.run_for(Duration::from_secs(5));
        let server_watch = served.borrow()[0].clone();
        let (sender, reader) = if reader_is_client {
            (server_watch.borrow(), watch.borrow())
        } else {
            (watch.borrow(), server_watch.borrow())
        };
        assert_eq!(reader.received, 100_000, "{name}");
        // All that may be on the way: the rings of two hosts and two gateways.
        assert!(sender.sent < 100_000 + 1_500_000, "{name}: {} bytes were taken", sender.sent);
        assert!(!reader.wrong && !reader.closed, "{name}");
    }
}

#[test]
fn a_hundred_connections_at_once() {
    let mut world = Sites::default().build();
    let (client, server) = (Script::new(3_000, 40_000), Script::new(40_000, 3_000));
    let served = serve(&mut world, server);
    let watches: Vec<_> = (0..100).map(|_| connect(&mut world, WEB, client.clone())).collect();
    run(&mut world, 30, |_| watches.iter().all(|w| w.borrow().complete(&client)));
    assert_eq!(served.borrow().len(), 100);
    run(&mut world, 30, |w| w.hosts[CLIENT].connections() == 0);
    assert_at_rest(&mut world);
}

#[test]
fn a_warm_tunnel_is_used_again_and_costs_one_round_trip() {
    let delay = Duration::from_millis(25);
    let wan = clgw::sim::LinkConfig { delay, ..clgw::sim::LinkConfig::CLEAN };
    let mut world = Sites { wan, ..Sites::default() }.build();
    let server = Script { close_after_send: true, ..Script::new(10, 10) };
    let _served = serve(&mut world, server);
    // The pool warms up first.
    world.run_for(Duration::from_secs(1));
    let before = world.gateways[A].counters();
    assert_eq!(before.tunnels_opened, 2);
    for n in 1..=5 {
        let client = Script::new(10, 10);
        let watch = connect(&mut world, WEB, client.clone());
        run(&mut world, 5, |_| watch.borrow().complete(&client));
        let waited = watch.borrow().first_byte_at - watch.borrow().established_at;
        let round_trip = 2 * delay.as_nanos() as u64;
        assert!(
            waited < round_trip + round_trip / 10,
            "connection {n} waited {waited} ns for its first byte"
        );
        world.run_for(Duration::from_millis(200));
    }
    let after = world.gateways[A].counters();
    assert_eq!(after.tunnels_opened, 3, "one in use and two kept warm, whatever comes");
    assert_eq!(after.tunnels_reused, 5);
}

#[test]
fn resumption_is_used_for_later_tunnels() {
    let mut world = Sites::default().build();
    let (client, server) = (Script::new(10, 100_000), Script::new(100_000, 10));
    let _served = serve(&mut world, server);
    world.run_for(Duration::from_secs(1));
    let watches: Vec<_> = (0..10).map(|_| connect(&mut world, WEB, client.clone())).collect();
    run(&mut world, 30, |_| watches.iter().all(|w| w.borrow().complete(&client)));
    let c = world.gateways[A].counters();
    assert!(c.handshakes_resumed > 0, "{}", describe(&world));
    let b = world.gateways[B].counters();
    assert_eq!(b.handshakes_resumed, c.handshakes_resumed);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let digest = |seed| {
        let wan = clgw::sim::LinkConfig {
            loss: 0.01,
            jitter: Duration::from_micros(50),
            ..clgw::sim::LinkConfig::CLEAN
        };
        let mut world = Sites { seed, wan, ..Sites::default() }.build();
        let n = 200_000;
        let _served = serve(&mut world, Script::new(n, n));
        let watch = connect(&mut world, WEB, Script::new(n, n));
        run(&mut world, 120, |_| watch.borrow().complete(&Script::new(n, n)));
        world.stats
    };
    assert_eq!(digest(3), digest(3));
    assert_ne!(digest(3), digest(4));
}
