//! Bad wires, dead ends, resets, reloads and the end of a gateway.

use std::sync::Arc;
use std::time::Duration;

use clgw::sim::LinkConfig;
use clgw::telemetry::{CloseReason, DropReason};

use crate::sites::*;

/// Several connections over bad wires, for each of `count` seeds, or of CLGW_SEEDS if that is set.
fn over_bad_wires(wan: LinkConfig, lan: LinkConfig, first: u64, count: u64) {
    let count = std::env::var("CLGW_SEEDS").map_or(count, |n| n.parse().unwrap());
    for seed in first..first + count {
        let mut world = Sites { seed, wan, lan, ..Sites::default() }.build();
        let (client, server) = (Script::new(30_000, 60_000), Script::new(60_000, 30_000));
        let served = serve(&mut world, server.clone());
        let watches: Vec<_> = (0..5).map(|_| connect(&mut world, WEB, client.clone())).collect();
        let done = world.run_until(Duration::from_secs(600), |_| {
            watches.iter().all(|w| w.borrow().complete(&client))
        });
        assert!(done, "seed {seed}: {watches:?} {}", describe(&world));
        let wrong = served.borrow().iter().any(|w| w.borrow().wrong);
        assert!(!wrong, "seed {seed}: the server received other bytes than were sent");
        run(&mut world, 600, |w| w.gateways[A].workers[0].unfinished() == 0);
        assert_no_loads(&world);
    }
}

#[test]
fn loss_and_reordering_on_the_wan() {
    let wan = LinkConfig {
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(2),
        loss: 0.01,
        duplicate: 0.01,
        corrupt: 0.0,
    };
    over_bad_wires(wan, LinkConfig::CLEAN, 0, 10);
}

#[test]
fn loss_and_corruption_on_every_wire() {
    let bad = LinkConfig { loss: 0.005, corrupt: 0.005, duplicate: 0.005, ..LinkConfig::CLEAN };
    over_bad_wires(bad, bad, 100_000, 6);
}

#[test]
fn corrupted_frames_are_counted_and_go_no_further() {
    let bad = LinkConfig { corrupt: 0.05, ..LinkConfig::CLEAN };
    let mut world = Sites { wan: bad, ..Sites::default() }.build();
    let n = 300_000;
    let _served = serve(&mut world, Script::new(n, n));
    let watch = connect(&mut world, WEB, Script::new(n, n));
    run(&mut world, 900, |_| watch.borrow().complete(&Script::new(n, n)));
    let b = world.gateways[B].counters();
    assert!(b.drops(DropReason::TcpChecksum) > 0, "{}", describe(&world));
    assert_eq!(b.closes(CloseReason::TlsRecord), 0, "no damaged record got past TCP");
}

#[test]
fn a_client_that_resets_ends_the_service_and_not_the_tunnel() {
    let mut world = Sites::default().build();
    let served = serve(&mut world, Script::new(10 << 20, 100));
    let script =
        Script { abort_at: Some(50_000), close_after_send: false, ..Script::new(100, 10 << 20) };
    let watch = connect(&mut world, WEB, script);
    run(&mut world, 10, |_| watch.borrow().closed);
    run(&mut world, 10, |w| w.hosts[SERVER].connections() == 0);
    assert!(served.borrow()[0].borrow().closed);
    let client = Script::new(100, 10 << 20);
    let watch = connect(&mut world, WEB, client.clone());
    run(&mut world, 60, |_| watch.borrow().complete(&client));
    run(&mut world, 20, |w| w.hosts[CLIENT].connections() == 0);
    assert_at_rest(&mut world);
}

#[test]
fn a_service_that_resets_resets_the_client() {
    let mut world = Sites::default().build();
    let server =
        Script { abort_at: Some(50_000), close_after_send: false, ..Script::new(1_000, 10 << 20) };
    let _served = serve(&mut world, server);
    let watch = connect(&mut world, WEB, Script::new(10 << 20, 1_000));
    run(&mut world, 10, |_| watch.borrow().closed);
    assert!(!watch.borrow().finished);
    run(&mut world, 20, |w| w.hosts[CLIENT].connections() == 0);
    world.run_for(Duration::from_secs(2));
    assert_at_rest(&mut world);
}

#[test]
fn a_dead_tunnel_is_noticed_and_replaced() {
    let mut world = Sites::default().build();
    let (client, server) = (Script::new(1_000, 1_000), Script::new(1_000, 1_000));
    let _served = serve(&mut world, server);
    let watch = connect(&mut world, WEB, client.clone());
    run(&mut world, 5, |_| watch.borrow().complete(&client));
    world.cut(WAN, true);
    world.run_for(Duration::from_secs(20));
    assert!(world.gateways[A].counters().closes(CloseReason::TunnelLost) > 0);
    world.cut(WAN, false);
    world.run_for(Duration::from_secs(15));
    let watch = connect(&mut world, WEB, client.clone());
    run(&mut world, 5, |_| watch.borrow().complete(&client));
}

/// A tunnel that dies under an OPEN whose early bytes nobody acknowledged: the next source gets
/// the connection, and the client notices nothing but the time.
#[test]
fn an_unanswered_open_goes_to_the_next_source() {
    let objects_a = OBJECTS_A
        .replace(
            "gateways: [{ host: GATEWAY_B, port: 4443 }]",
            "gateways: [{ host: GATEWAY_B, port: 4443 }, { host: 192.0.2.2, port: 4443 }]",
        )
        .replace(
            "sources: [{ peer: site-b, exportName: web, exportNamespace: shop }]",
            "lbScheme: static, sources: [{ peer: site-b, exportName: gone, exportNamespace: shop }, \
             { peer: site-b, exportName: web, exportNamespace: shop }]",
        );
    let mut world = Sites { objects_a, ..Sites::default() }.build();
    let served = serve(&mut world, Script::new(1_000, 1_000));
    let client = Script::new(1_000, 1_000);
    let watch = connect(&mut world, WEB, client.clone());
    run(&mut world, 10, |_| watch.borrow().complete(&client));
    assert_eq!(served.borrow().len(), 1);
    run(&mut world, 10, |_| served.borrow()[0].borrow().complete(&Script::new(1_000, 1_000)));
}

#[test]
fn a_new_generation_decides_new_connections_and_keeps_open_ones() {
    let identities = Identities::new();
    let mut world = Sites::default().build_with(&identities);
    let (client, server) = (Script::new(1_000, 30 << 20), Script::new(30 << 20, 1_000));
    let _served = serve(&mut world, server);
    let open = connect(&mut world, WEB, client.clone());
    run(&mut world, 5, |_| open.borrow().received > 1_000_000);
    let objects =
        OBJECTS_A.replace("GATEWAY_B", "192.0.2.2").replace("action: allow", "action: deny");
    world.gateways[A].publish(&objects, &identities.a);
    world.run_for(Duration::from_millis(5));
    let refused = connect(&mut world, WEB, Script::new(1, 1));
    run(&mut world, 5, |_| refused.borrow().closed);
    assert_eq!(refusals(&world, A), [(CloseReason::PolicyDenied, "shop/allow-front".into())]);
    run(&mut world, 60, |_| open.borrow().complete(&client));
    // And back, with a new certificate of the same fabric.
    let objects = OBJECTS_A.replace("GATEWAY_B", "192.0.2.2");
    world.gateways[A].publish(&objects, &Arc::clone(&identities.a));
    world.run_for(Duration::from_millis(5));
    let client = Script::new(1_000, 30 << 20);
    let again = connect(&mut world, WEB, client.clone());
    run(&mut world, 60, |_| again.borrow().complete(&client));
}

#[test]
fn draining_finishes_what_is_open_and_takes_nothing_new() {
    let mut world = Sites::default().build();
    let (client, server) = (Script::new(1_000, 20 << 20), Script::new(20 << 20, 1_000));
    let _served = serve(&mut world, server);
    let open = connect(&mut world, WEB, client.clone());
    run(&mut world, 5, |_| open.borrow().received > 1_000_000);
    for gateway in [A, B] {
        world.gateways[gateway].workers[0].drain();
    }
    let late = connect(&mut world, WEB, client.clone());
    run(&mut world, 60, |_| open.borrow().complete(&client));
    assert_eq!(late.borrow().received, 0);
    run(&mut world, 60, |w| {
        w.gateways[A].workers[0].unfinished() == 0 && w.gateways[B].workers[0].unfinished() == 0
    });
    // Tunnels were said good-bye to: nothing was lost or reset.
    world.run_for(Duration::from_secs(1));
    let a = world.gateways[A].counters();
    assert_eq!(a.closes(CloseReason::TunnelLost) + a.closes(CloseReason::PeerReset), 0);
}

/// A gateway that drains says so, and its peers close the tunnels to it by themselves.
#[test]
fn a_draining_exporter_is_left_alone() {
    let mut world = Sites::default().build();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.gateways[B].workers[0].connections(), 2);
    world.gateways[B].workers[0].drain();
    run(&mut world, 5, |w| w.gateways[B].workers[0].connections() == 0);
    let a = world.gateways[A].counters();
    assert!(a.closes(CloseReason::TunnelIdle) >= 2, "{}", describe(&world));
    assert_eq!(a.closes(CloseReason::PeerReset) + a.closes(CloseReason::TunnelLost), 0);
}

#[test]
fn tunnels_are_not_taken_on_the_service_side() {
    let mut world = Sites::default().build();
    world.run_for(Duration::from_secs(1));
    let before = world.gateways[B].workers[0].connections();
    let now = world.now;
    let (app, watch) = Scripted::boxed(Script::new(0, 0));
    world.hosts[SERVER].connect(now, None, "10.2.0.1:4443".parse().unwrap(), app).unwrap();
    run(&mut world, 5, |w| w.hosts[SERVER].connections() == 0);
    assert!(!watch.borrow().established);
    assert_eq!(world.gateways[B].workers[0].connections(), before);
    assert!(world.gateways[B].counters().drops(DropReason::NoListener) > 0);
}

#[test]
fn a_cut_ends_everything_by_reset() {
    let mut world = Sites::default().build();
    let _served = serve(&mut world, Script::new(50 << 20, 1_000));
    let open = connect(&mut world, WEB, Script::new(1_000, 50 << 20));
    run(&mut world, 5, |_| open.borrow().received > 1_000_000);
    world.gateways[A].workers[0].cut();
    run(&mut world, 5, |_| open.borrow().closed);
    let closes = world.gateways[A].counters().closes(CloseReason::DrainDeadline);
    assert_eq!(closes, 1);
    assert_no_loads(&world);
    run(&mut world, 5, |w| w.hosts[SERVER].connections() == 0);
}

/// The service has said everything and closes, its last bytes still wait in the gateway for a slow
/// wire, and only then the client ends its direction: the bytes arrive, and the end behind them.
#[test]
fn an_answer_outlives_its_service() {
    let wan = LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::CLEAN };
    for size in [300_000, 400_000, 500_000, 600_000] {
        let mut world = Sites { wan, ..Sites::default() }.build();
        let server = Script::new(size, 1);
        let served = serve(&mut world, server);
        let client = Script::new(1, size);
        let gate = std::rc::Rc::new(std::cell::Cell::new(0));
        let (mut app, watch) = Scripted::new(client.clone());
        app.send_gate = Some(gate.clone());
        let to = WEB.parse().unwrap();
        let (now, from) = (world.now, "10.1.0.2".parse().unwrap());
        let connection = world.hosts[CLIENT].connect(now, Some(from), to, Box::new(app)).unwrap();
        run(&mut world, 30, |_| served.borrow().first().is_some_and(|w| w.borrow().closed_own));
        gate.set(1);
        world.hosts[CLIENT].nudge(connection);
        run(&mut world, 30, |_| watch.borrow().closed || watch.borrow().complete(&client));
        assert!(watch.borrow().complete(&client), "{size}: {watch:?} {}", describe(&world));
        run(&mut world, 30, |w| w.hosts[CLIENT].connections() == 0);
        assert_at_rest(&mut world);
    }
}

/// A reader that pauses for longer than TIME-WAIT loses nothing either.
#[test]
fn a_pause_before_the_last_bytes_loses_none() {
    let mut world = Sites::default().build();
    let size = 600_000;
    let _served = serve(&mut world, Script::new(size, 0));
    let gate = std::rc::Rc::new(std::cell::Cell::new(10_000));
    let (mut app, watch) = Scripted::new(Script::new(0, size));
    app.gate = Some(gate.clone());
    let to = WEB.parse().unwrap();
    let (now, from) = (world.now, "10.1.0.2".parse().unwrap());
    let connection = world.hosts[CLIENT].connect(now, Some(from), to, Box::new(app)).unwrap();
    world.run_for(Duration::from_secs(40));
    assert_eq!(watch.borrow().received, 10_000);
    gate.set(u64::MAX);
    world.hosts[CLIENT].nudge(connection);
    run(&mut world, 30, |_| {
        watch.borrow().closed || watch.borrow().complete(&Script::new(0, size))
    });
    assert!(watch.borrow().complete(&Script::new(0, size)), "{watch:?} {}", describe(&world));
}

/// Timers that are no longer needed do not pile up, however long a connection lives.
#[test]
fn timers_of_a_long_connection_do_not_pile_up() {
    let mut world = Sites::default().build();
    let _served = serve(&mut world, Script::new(0, 1_000_000));
    let gate = std::rc::Rc::new(std::cell::Cell::new(0));
    let (mut app, watch) = Scripted::new(Script::new(1_000_000, 0));
    app.send_gate = Some(gate.clone());
    let to = WEB.parse().unwrap();
    let (now, from) = (world.now, "10.1.0.2".parse().unwrap());
    let connection = world.hosts[CLIENT].connect(now, Some(from), to, Box::new(app)).unwrap();
    for n in 1..=2_000 {
        gate.set(n * 10);
        world.hosts[CLIENT].nudge(connection);
        world.run_for(Duration::from_millis(30));
    }
    assert_eq!(watch.borrow().sent, 20_000);
    for g in [A, B] {
        let timers = world.gateways[g].workers[0].timers();
        let connections = world.gateways[g].workers[0].connections();
        assert!(timers <= 6 * connections, "{timers} timers for {connections} connections");
    }
}

/// A drain is not over before the last bytes have been acknowledged.
#[test]
fn draining_waits_for_bytes_on_the_wire() {
    let wan = LinkConfig { delay: Duration::from_millis(100), ..LinkConfig::CLEAN };
    let mut world = Sites { wan, ..Sites::default() }.build();
    let served = serve(&mut world, Script::new(150_000, 0));
    let client = Script::new(0, 150_000);
    let watch = connect(&mut world, WEB, client.clone());
    run(&mut world, 10, |w| !served.borrow().is_empty() && w.hosts[SERVER].connections() == 0);
    assert!(!watch.borrow().finished, "the answer is still on its way");
    world.gateways[B].workers[0].drain();
    run(&mut world, 30, |w| w.gateways[B].workers[0].unfinished() == 0);
    assert_eq!(world.gateways[B].workers[0].cut(), 0);
    run(&mut world, 30, |_| watch.borrow().complete(&client));
}

/// One of the peer's gateways is dead: its clients go to the other one, and none is refused.
#[test]
fn a_dead_gateway_of_a_peer_refuses_nobody() {
    let objects_a = OBJECTS_A.replace(
        "gateways: [{ host: GATEWAY_B, port: 4443 }]",
        "gateways: [{ host: 192.0.2.99, port: 4443 }, { host: GATEWAY_B, port: 4443 }]",
    );
    let mut world = Sites { objects_a, ..Sites::default() }.build();
    let (client, server) = (Script::new(100, 100), Script::new(100, 100));
    let _served = serve(&mut world, server);
    for _ in 0..30 {
        let watches: Vec<_> = (0..5).map(|_| connect(&mut world, WEB, client.clone())).collect();
        run(&mut world, 30, |_| watches.iter().all(|w| w.borrow().complete(&client)));
        world.run_for(Duration::from_millis(700));
    }
    assert_eq!(refusals(&world, A), []);
}

/// A tunnel whose last stream left much unsent is no place for the next one, which would wait for
/// bytes that nobody wants any more.
#[test]
fn a_stream_does_not_wait_behind_a_broken_off_one() {
    let delay = Duration::from_millis(100);
    let mut world =
        Sites { wan: LinkConfig { delay, ..LinkConfig::CLEAN }, ..Sites::default() }.build();
    let server =
        Script { abort_at: Some(20_000), close_after_send: false, ..Script::new(10, 10 << 20) };
    let _served = serve(&mut world, server);
    let watch = connect(&mut world, WEB, Script::new(10 << 20, 10));
    run(&mut world, 10, |_| watch.borrow().closed);
    let _served = serve(&mut world, Script::new(10, 10));
    let client = Script::new(10, 10);
    let start = world.now;
    let watch = connect(&mut world, WEB, client.clone());
    run(&mut world, 10, |_| watch.borrow().complete(&client));
    let took = world.now.since(start);
    assert!(took < 3 * delay, "{took:?}: {}", describe(&world));
    assert_at_rest(&mut world);
}

/// Both ends have said all, but the last bytes take longer over the wire than an idle tunnel may
/// keep a PING waiting: they arrive.
#[test]
fn the_last_bytes_may_take_longer_than_a_ping() {
    let wan = LinkConfig { delay: Duration::from_secs(1), ..LinkConfig::CLEAN };
    let mut world = Sites { wan, ..Sites::default() }.build();
    let size = 200_000;
    let served = serve(&mut world, Script::new(0, size));
    let watch = connect(&mut world, WEB, Script::new(size, 0));
    run(&mut world, 60, |_| watch.borrow().finished && watch.borrow().closed_own);
    run(&mut world, 60, |w| w.hosts[SERVER].connections() == 0);
    let served = *served.borrow()[0].borrow();
    assert!(served.complete(&Script::new(0, size)), "{served:?} {}", describe(&world));
    assert_at_rest(&mut world);
}
