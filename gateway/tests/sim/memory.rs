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
    let held = world.gateways[A].counters().buffer_bytes;
    assert!((12 << 20..=16 << 20).contains(&held), "{held} bytes");
    gate.set(u64::MAX);
    run(&mut world, 300, |_| watches.iter().all(|watch| watch.borrow().complete(&script)));
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
