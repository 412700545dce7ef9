//! Buffers of all connections together, and where they end.

use std::cell::Cell;
use std::rc::Rc;

use clgw::sim::{App, World};
use clgw::telemetry::DropReason;

use crate::sites::*;

const TIGHT: &str = "buffers: { service_kib: 1024, peer_kib: 1024, worker_mib: 16 }";

/// Reads what the gate lets through.
fn gated(gate: &Rc<Cell<u64>>, script: &Script) -> (Box<dyn App>, Watch) {
    let (mut app, watch) = Scripted::new(script.clone());
    app.gate = Some(Rc::clone(gate));
    (Box::new(app), watch)
}

/// More than the gateways have memory for stands still in both directions, and then goes on.
#[test]
fn what_memory_does_not_suffice_for_arrives_all_the_same() {
    let mut world = Sites { more: TIGHT, ..Sites::default() }.build();
    let script = Script::new(300_000, 300_000);
    let gate = Rc::new(Cell::new(0));
    let (held, served) = (Rc::clone(&gate), script.clone());
    world.hosts[SERVER].listen(8080, Box::new(move |_| gated(&held, &served).0));
    let open = |world: &mut World| {
        let (app, watch) = gated(&gate, &script);
        let (from, to) = ("10.1.0.2".parse().unwrap(), WEB.parse().unwrap());
        let now = world.now;
        world.hosts[CLIENT].connect(now, Some(from), to, app).unwrap();
        watch
    };
    let shed = |world: &World| world.gateways[A].counters().drops(DropReason::BufferLimit);
    let mut watches = Vec::new();
    // Nobody reads.
    while shed(&world) == 0 {
        assert!(watches.len() < 200, "{}", describe(&world));
        watches.push(open(&mut world));
        world.run_for(std::time::Duration::from_millis(200));
    }
    for gateway in &world.gateways {
        let held = gateway.counters().buffer_bytes;
        assert!((12 << 20..=16 << 20).contains(&held), "{held} bytes");
    }
    gate.set(u64::MAX);
    let complete = |watch: &Watch| watch.borrow().complete(&script);
    // The other gateway takes no more before this one does.
    let refused = |watch: &Watch| watch.borrow().closed && watch.borrow().received == 0;
    run(&mut world, 300, |_| watches.iter().all(|watch| complete(watch) || refused(watch)));
    let connected = world.gateways[B].counters().services_connected as usize;
    assert_eq!(watches.iter().filter(|watch| complete(watch)).count(), connected);
    assert_at_rest(&mut world);
}

#[test]
fn idle_connections_hold_no_buffers() {
    let mut world = Sites::default().build();
    let script = Script { close_after_send: false, ..Script::new(50_000, 50_000) };
    let _served = serve(&mut world, script.clone());
    let watches: Vec<_> = (0..20).map(|_| connect(&mut world, WEB, script.clone())).collect();
    run(&mut world, 30, |_| watches.iter().all(|watch| watch.borrow().received == 50_000));
    world.run_for(std::time::Duration::from_secs(2));
    for gateway in &world.gateways {
        let counters = gateway.counters();
        assert!(counters.connections >= 40 && counters.buffer_bytes_kept > 0, "{counters:?}");
        assert_eq!(counters.buffer_bytes, 0);
    }
}

/// Each gateway is full of what only the other one can take, and that one is full too. Clients and
/// services read all they get.
#[test]
fn gateways_that_are_full_of_bytes_for_each_other_do_not_wait_for_ever() {
    const MANY: usize = 300;
    let mut world = Sites { more: TIGHT, ..Sites::default() }.build();
    let script = Script::new(100_000, 100_000);
    let gate = Rc::new(Cell::new(0));
    let gated = |gate: &Rc<Cell<u64>>, script: &Script| -> (Box<dyn App>, Watch) {
        let (mut app, watch) = Scripted::new(script.clone());
        app.send_gate = Some(Rc::clone(gate));
        (Box::new(app), watch)
    };
    let (held, served) = (Rc::clone(&gate), script.clone());
    world.hosts[SERVER].listen(8080, Box::new(move |_| gated(&held, &served).0));
    let (from, to) = ("10.1.0.2".parse().unwrap(), WEB.parse().unwrap());
    let mut watches = Vec::new();
    for _ in 0..MANY {
        let (app, watch) = gated(&gate, &script);
        let now = world.now;
        world.hosts[CLIENT].connect(now, Some(from), to, app).unwrap();
        watches.push(watch);
        world.run_for(std::time::Duration::from_millis(2));
    }
    run(&mut world, 30, |_| watches.iter().all(|watch| watch.borrow().established));
    world.cut(WAN, true);
    gate.set(u64::MAX);
    world.run_for(std::time::Duration::from_secs(3));
    for gateway in &world.gateways {
        let held = gateway.counters().buffer_bytes;
        assert!((13 << 20..=14 << 20).contains(&held), "{held} bytes");
    }
    world.cut(WAN, false);
    run(&mut world, 300, |_| watches.iter().all(|watch| watch.borrow().complete(&script)));
    eprintln!("done at {:?}", world.now);
    assert_at_rest(&mut world);
}
