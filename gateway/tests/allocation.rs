//! A worker allocates nothing in steady state: not while it moves bytes, and not for connections
//! that come and go.

#[path = "sim/sites.rs"]
#[allow(dead_code)]
mod sites;

#[path = "sim/flood.rs"]
#[allow(dead_code)]
mod flood;

use std::time::Duration;

use clgw::sim::Spread;
use clgw::tls::{Handshake, KeyCache, Progress};
use dpdk_bindings::testing::{CountingAllocator, allocated_bytes, allocations};
use sites::*;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_worker_allocates_nothing_in_steady_state() {
    let (allocations, frames, _) = in_steady_state(&Sites::default());
    assert_eq!(allocations, [0, 0], "{frames} frames");
}

/// Frames that overtake each other make lists of gaps and segments grow to new lengths at times.
#[test]
fn nor_for_frames_that_belong_to_another_worker() {
    let sites = Sites { workers: 2, spread: Spread::Random, ..Sites::default() };
    let (allocations, frames, strays) = in_steady_state(&sites);
    assert!(strays > frames / 3, "{strays} of {frames} frames");
    assert!(allocations.iter().all(|n| *n < 5), "{allocations:?} for {strays} strays");
}

/// Allocations of both gateways while a connection moves bytes both ways; frames that the first one
/// received meanwhile, and how many of them it handed over.
fn in_steady_state(sites: &Sites) -> ([u64; 2], u64, u64) {
    let mut world = sites.build();
    let size = 40 << 20;
    let script = Script::new(size, size);
    let _served = serve(&mut world, script.clone());
    let watch = connect(&mut world, WEB, script.clone());
    // Pools, tables and queues reach their size.
    run(&mut world, 60, |_| watch.borrow().received > size / 4);
    for gateway in &mut world.gateways {
        gateway.meter = Some(allocations);
    }
    let before = world.gateways[A].counters();
    run(&mut world, 60, |_| watch.borrow().received > size / 4 * 3);
    let after = world.gateways[A].counters();
    let frames = after.rx_frames - before.rx_frames;
    assert!(frames > 10_000, "{frames} frames are too few to show anything");
    ([A, B].map(|g| world.gateways[g].metered), frames, after.strays - before.strays)
}

#[test]
fn nor_for_connections_on_warm_tunnels() {
    for congestion in ["congestion: { service: cubic }", "congestion: { service: bbr }"] {
        connections_on_warm_tunnels(congestion);
    }
}

fn connections_on_warm_tunnels(more: &'static str) {
    let mut world = Sites { more, ..Sites::default() }.build();
    let script = Script::new(2_000, 2_000);
    let _served = serve(&mut world, script.clone());
    let round = |world: &mut clgw::sim::World, connections| {
        for _ in 0..connections {
            let watch = connect(world, WEB, script.clone());
            run(world, 10, |_| watch.borrow().complete(&script));
            while world.gateways[A].event().or_else(|| world.gateways[B].event()).is_some() {}
        }
        // Timers of connections that are gone stay until they fire.
        world.run_for(clgw::limits::TCP_HANDSHAKE_TIMEOUT + Duration::from_secs(1));
    };
    round(&mut world, 100);
    for gateway in &mut world.gateways {
        gateway.meter = Some(allocations);
    }
    round(&mut world, 50);
    assert_eq!([world.gateways[A].metered, world.gateways[B].metered], [0, 0]);
}

/// Of more connections than there is room for.
#[test]
fn nor_for_keys_that_are_expanded_again() {
    let pki = clgw::sim::Pki::new("fabric").unwrap();
    let [client, server] = ["client", "server"].map(|name| {
        let (cert, key) = pki.peer(name).unwrap();
        pki.identity(&cert, &key).unwrap()
    });
    let connected = || {
        let (mut hello, mut answer) = (Vec::new(), Vec::new());
        let mut ours = Handshake::client(&client, server.peer_name()).unwrap();
        ours.step(&[], &mut hello).unwrap();
        Handshake::server(&server).unwrap().step(&hello, &mut answer).unwrap();
        let Progress::Done(done) = ours.step(&answer, &mut Vec::new()).unwrap() else { panic!() };
        done.records
    };
    let mut connections: [_; 4] = std::array::from_fn(|_| connected());
    let mut keys = KeyCache::new(3);
    let mut buffer = [0; 1_000];
    let before = allocations();
    for _ in 0..10 {
        for records in &mut connections {
            records.seal(&mut keys, &mut buffer, 900).unwrap();
        }
    }
    assert_eq!(allocations() - before, 0);
}

/// Of a gateway, with the tunnel under it; buffers go back while nothing moves.
#[test]
fn an_idle_connection_takes_four_and_a_quarter_kibibytes_at_the_most() {
    const MANY: usize = 64;
    let mut world = Sites::default().build();
    let script = Script { close_after_send: false, ..Script::new(20_000, 20_000) };
    let _served = serve(&mut world, script.clone());
    let open = |world: &mut clgw::sim::World| {
        let all: Vec<_> = (0..MANY).map(|_| connect(world, WEB, script.clone())).collect();
        run(world, 60, |_| all.iter().all(|watch| watch.borrow().received == 20_000));
        while world.gateways[A].event().or_else(|| world.gateways[B].event()).is_some() {}
        world.run_for(clgw::limits::TCP_HANDSHAKE_TIMEOUT + Duration::from_secs(1));
    };
    // Tables double when they are full: twice as many connections show what one takes.
    open(&mut world);
    for gateway in &mut world.gateways {
        gateway.meter = Some(|| allocated_bytes() as u64);
    }
    let kept = |world: &clgw::sim::World| {
        [A, B].map(|g| world.gateways[g].counters().buffer_bytes_kept as i64)
    };
    let before = kept(&world);
    open(&mut world);
    let after = kept(&world);
    for (g, name) in [(A, "A"), (B, "B")] {
        // Buffers that wait for others are not this connection's.
        let bytes = world.gateways[g].metered as i64 - (after[g] - before[g]);
        let each = bytes / MANY as i64;
        eprintln!("gateway {name}: {each} bytes for each connection, {} kept", after[g]);
        assert!(each <= 4_352, "gateway {name}: {each} bytes for each connection");
    }
}

#[test]
fn nor_for_syns_that_cookies_answer() {
    let mut world = Sites::default().build();
    world.run_for(Duration::from_millis(100));
    let mark = clgw::limits::MAX_HALF_OPEN as u32;
    flood::IMPORT.flood(&mut world, 0..mark + 1_000);
    let before = world.gateways[A].counters().syn_cookies_sent;
    world.gateways[A].meter = Some(allocations);
    flood::IMPORT.flood(&mut world, mark + 1_000..3 * mark);
    assert_eq!(world.gateways[A].metered, 0);
    let sent = world.gateways[A].counters().syn_cookies_sent - before;
    assert_eq!(sent, u64::from(2 * mark - 1_000));
}

/// Whatever a peer claims about its client.
#[test]
fn nor_for_decisions() {
    let file = clgw_policy::SourceFile::new("objects.yaml", OBJECTS_B);
    let fabric = clgw_policy::load(&[file]).unwrap().fabric;
    let local = clgw_policy::LocalPeer { name: "site-b".into(), ..Default::default() };
    let table = clgw_policy::PolicyTable::compile(&fabric, &local, 1, &Default::default());
    let export = table.find_export("shop", "web").unwrap();
    let noise: Vec<String> = (0..255).map(|n| format!("noise-{n}")).collect();
    let claim = noise.iter().map(|key| (key.as_str(), "x"));
    let claim = claim.chain([("peer.clusterlink.net/name", "site-a")]);
    let before = allocations();
    let decision = table.decide_ingress(export, claim);
    assert_eq!(allocations() - before, 0);
    assert_eq!(decision.policy, "shop/allow-a");
}
