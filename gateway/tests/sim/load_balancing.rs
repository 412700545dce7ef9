//! ClusterLink's end-to-end cases of load balancing, under the names they have there, against the
//! real workers; then what is ours: weights, open connections, failover, several workers.
//!
//! The import has three sources, three exports of the peer. Their services say their own number.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use clgw::sim::{App, LinkConfig, SocketIo, World};
use clgw::telemetry::CloseReason;
use clgw_policy::LbScheme;

use crate::sites::*;

/// Port of the service behind source 0; the others follow.
const FIRST_PORT: u16 = 8080;

/// Says its number, and ends when the client does.
struct Numbered {
    number: u8,
    said: bool,
    ended: bool,
}

impl App for Numbered {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        if !self.said && io.may_send() {
            self.said = true;
            io.send(|room| {
                room[0] = self.number;
                1
            });
        }
        io.recv(|bytes| bytes.len());
        if !self.ended && io.recv_finished() {
            self.ended = true;
            io.close();
        }
    }
}

/// How a client's request stands.
#[derive(Clone, Debug, Default)]
struct Request {
    served_by: Rc<Cell<Option<usize>>>,
    over: Rc<Cell<bool>>,
    hold: Rc<Cell<bool>>,
    connection: usize,
}

impl Request {
    /// Lets go of a held connection.
    fn release(&self, world: &mut World) {
        self.hold.set(false);
        world.hosts[CLIENT].nudge(self.connection);
    }
}

struct Asks {
    request: Request,
    sent: bool,
    established: bool,
    closed: bool,
}

impl App for Asks {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        self.established |= io.is_established();
        if !self.sent && io.may_send() {
            self.sent = true;
            io.send(|room| {
                room[0] = b'?';
                1
            });
        }
        io.recv(|bytes| {
            if let Some(number) = bytes.first() {
                self.request.served_by.set(Some(usize::from(*number)));
            }
            bytes.len()
        });
        let served = self.request.served_by.get().is_some();
        if served && !self.request.hold.get() && !self.closed {
            self.closed = true;
            io.close();
        }
        let over = self.established && (io.is_closed() || (self.closed && io.recv_finished()));
        self.request.over.set(self.request.over.get() || over);
    }
}

/// Opens a connection; one to `hold` stays open after its answer.
fn open(world: &mut World, hold: bool) -> Request {
    let mut request = Request::default();
    request.hold.set(hold);
    let app = Asks { request: request.clone(), sent: false, established: false, closed: false };
    let (now, from) = (world.now, "10.1.0.2".parse().unwrap());
    let to = WEB.parse().unwrap();
    request.connection = world.hosts[CLIENT].connect(now, Some(from), to, Box::new(app)).unwrap();
    request
}

/// One request from begin to end: who served it.
#[track_caller]
fn ask(world: &mut World) -> Option<usize> {
    let request = open(world, false);
    run(world, 30, |_| request.over.get());
    request.served_by.get()
}

fn ask_often(world: &mut World, requests: usize) -> Vec<usize> {
    (0..requests).filter_map(|_| ask(world)).collect()
}

/// Opens a connection and keeps it: who serves it.
#[track_caller]
fn hold(world: &mut World) -> (usize, Request) {
    let request = open(world, true);
    run(world, 30, |_| request.over.get() || request.served_by.get().is_some());
    (request.served_by.get().expect("an answer"), request)
}

/// The importer's objects with this spec and these weights of the sources.
fn importer_weighted(spec: &str, weights: &[&str]) -> String {
    let sources: Vec<_> = weights
        .iter()
        .enumerate()
        .map(|(n, weight)| {
            let weight =
                if weight.is_empty() { String::new() } else { format!(", weight: {weight}") };
            format!("{{ peer: site-b, exportName: web{n}, exportNamespace: shop{weight} }}")
        })
        .collect();
    let text = OBJECTS_A.replace("GATEWAY_B", "192.0.2.2").replace(
        "spec: { port: 80, sources: [{ peer: site-b, exportName: web, exportNamespace: shop }] }",
        &format!("spec: {{ port: 80, {spec}, sources: [{}] }}", sources.join(", ")),
    );
    assert!(text.contains("web0"), "{text}");
    text
}

fn importer(spec: &str) -> String {
    importer_weighted(spec, &["", "", ""])
}

/// The exporter's objects: these exports.
fn exporter(exports: &[usize]) -> String {
    exporter_at(&exports.iter().map(|n| (*n, "10.2.0.2")).collect::<Vec<_>>())
}

/// The same with the address of each service.
fn exporter_at(exports: &[(usize, &str)]) -> String {
    let policies = OBJECTS_B.split_once("---\n").unwrap().1;
    let exports = exports.iter().map(|(n, host)| {
        let port = usize::from(FIRST_PORT) + n;
        format!(
            "apiVersion: clusterlink.net/v1alpha1\nkind: Export\nmetadata: {{ name: web{n}, \
             namespace: shop }}\nspec: {{ host: {host}, port: {port} }}\n---\n"
        )
    });
    exports.chain([policies.to_owned()]).collect()
}

/// A running service for each of `services`.
fn serve_numbered(world: &mut World, services: &[u8]) {
    for &number in services {
        world.hosts[SERVER].listen(
            FIRST_PORT + u16::from(number),
            Box::new(move |_| Box::new(Numbered { number, said: false, ended: false })),
        );
    }
}

/// Both sites with all three services, and the identities for new generations.
fn build(sites: Sites) -> (World, Identities) {
    let identities = Identities::new();
    let mut world = sites.build_with(&identities);
    serve_numbered(&mut world, &[0, 1, 2]);
    (world, identities)
}

fn sites(spec: &str) -> Sites {
    Sites { objects_a: importer(spec), objects_b: exporter(&[0, 1, 2]), ..Sites::default() }
}

/// Only these exports are left at the exporter.
fn keep_exports(world: &mut World, identities: &Identities, exports: &[usize]) {
    world.gateways[B].publish(&exporter(exports), &identities.b);
    world.run_for(Duration::from_millis(5));
}

// --- ClusterLink's -------------------------------------------------------------------------------

#[test]
fn test_load_balancing_round_robin() {
    // The default, too.
    for spec in ["lbScheme: round-robin", "lbScheme: ''"] {
        let (mut world, identities) = build(sites(spec));
        let expected: Vec<usize> = [1, 2, 0].into_iter().cycle().take(30).collect();
        assert_eq!(ask_often(&mut world, 30), expected);
        keep_exports(&mut world, &identities, &[1, 2]);
        let expected: Vec<usize> = [1, 2].into_iter().cycle().take(30).collect();
        assert_eq!(ask_often(&mut world, 30), expected);
        keep_exports(&mut world, &identities, &[2]);
        assert_eq!(ask_often(&mut world, 30), [2; 30]);
        keep_exports(&mut world, &identities, &[]);
        assert_eq!(ask(&mut world), None);
        assert_at_rest(&mut world);
    }
}

#[test]
fn test_load_balancing_static() {
    let (mut world, identities) = build(sites("lbScheme: static"));
    assert_eq!(ask_often(&mut world, 30), [0; 30]);
    keep_exports(&mut world, &identities, &[1, 2]);
    assert_eq!(ask_often(&mut world, 30), [1; 30]);
    keep_exports(&mut world, &identities, &[2]);
    assert_eq!(ask_often(&mut world, 30), [2; 30]);
    assert_at_rest(&mut world);
}

#[test]
fn test_load_balancing_random() {
    let (mut world, identities) = build(sites("lbScheme: random"));
    let seen = |world: &mut World, requests: usize| -> BTreeSet<usize> {
        let served = ask_often(world, requests);
        assert_eq!(served.len(), requests, "every request is served");
        served.into_iter().collect()
    };
    assert_eq!(seen(&mut world, 100), BTreeSet::from([0, 1, 2]));
    keep_exports(&mut world, &identities, &[1, 2]);
    assert_eq!(seen(&mut world, 30), BTreeSet::from([1, 2]));
    keep_exports(&mut world, &identities, &[2]);
    assert_eq!(seen(&mut world, 30), BTreeSet::from([2]));
    assert_at_rest(&mut world);
}

// --- Several workers -----------------------------------------------------------------------------

/// Every worker keeps the exact order for its own connections, each from another source on; in all
/// no source is further from an even share than there are workers.
#[test]
fn workers_take_turns_each_for_itself() {
    const WORKERS: usize = 3;
    let (mut world, _) = build(Sites { workers: WORKERS, ..sites("lbScheme: round-robin") });
    let accepted = |world: &World| -> Vec<u64> {
        world.gateways[A].workers.iter().map(|w| w.counters().clients_accepted).collect()
    };
    let mut orders = vec![Vec::new(); WORKERS];
    let requests = 90;
    for _ in 0..requests {
        let before = accepted(&world);
        let served = ask(&mut world).expect("an answer");
        let worker = accepted(&world).iter().zip(before).position(|(now, then)| *now > then);
        orders[worker.expect("a worker that took it")].push(served);
    }
    for (worker, order) in orders.iter().enumerate() {
        assert!(order.len() > 10, "worker {worker} has few connections: {order:?}");
        let expected: Vec<_> = (0..order.len()).map(|n| (1 + worker + n) % 3).collect();
        assert_eq!(*order, expected, "worker {worker}");
    }
    let mut served = [0usize; 3];
    orders.iter().flatten().for_each(|source| served[*source] += 1);
    let even = requests / 3;
    assert!(served.iter().all(|n| n.abs_diff(even) <= WORKERS), "{served:?}");
}

// --- Weights -------------------------------------------------------------------------------------

#[test]
fn weighted_shares_out_in_proportion() {
    let objects_a = importer_weighted("lbScheme: weighted", &["1", "0", "3"]);
    let (mut world, identities) = build(Sites { objects_a, ..sites("lbScheme: weighted") });
    let mut served = BTreeMap::new();
    for source in ask_often(&mut world, 400) {
        *served.entry(source).or_insert(0usize) += 1;
    }
    // 300 of 400 with a standard deviation of 8.7.
    let (light, heavy) = (served[&0], served[&2]);
    assert_eq!(light + heavy, 400, "{served:?}");
    assert!((265..=335).contains(&heavy), "{served:?}");
    // The heavy one is gone: the light one has it all, the one without weight still nothing.
    keep_exports(&mut world, &identities, &[0, 1]);
    assert_eq!(ask_often(&mut world, 20), [0; 20]);
    keep_exports(&mut world, &identities, &[1]);
    assert_eq!(ask(&mut world), None);
    assert_at_rest(&mut world);
}

// --- Open connections ----------------------------------------------------------------------------

fn open_connections(world: &World) -> Vec<u32> {
    world.gateways[A].workers[0].source_loads().to_vec()
}

#[test]
fn least_loaded_goes_where_fewest_are_open() {
    let (mut world, _) = build(sites("lbScheme: least-loaded"));
    // Nothing stays open: they take turns.
    assert_eq!(ask_often(&mut world, 6), [1, 2, 0, 1, 2, 0]);
    let mut held: Vec<_> = (0..9).map(|_| hold(&mut world)).collect();
    assert_eq!(open_connections(&world), [3, 3, 3]);
    // All of one source end: the next ones are its.
    held.retain(|(source, request)| {
        if *source == 1 {
            request.release(&mut world);
        }
        *source != 1
    });
    run(&mut world, 5, |w| open_connections(w) == [3, 0, 3]);
    for _ in 0..3 {
        let (source, request) = hold(&mut world);
        assert_eq!(source, 1);
        held.push((source, request));
    }
    assert_eq!(open_connections(&world), [3, 3, 3]);
    for (_, request) in &held {
        request.release(&mut world);
    }
    run(&mut world, 5, |_| held.iter().all(|(_, request)| request.over.get()));
    assert_at_rest(&mut world);
    assert_eq!(open_connections(&world), [0, 0, 0]);
}

#[test]
fn least_loaded_fills_by_weight() {
    let objects_a = importer_weighted("lbScheme: least-loaded", &["1", "2", "3"]);
    let (mut world, _) = build(Sites { objects_a, ..sites("lbScheme: least-loaded") });
    let held: Vec<_> = (0..24).map(|_| hold(&mut world)).collect();
    assert_eq!(open_connections(&world), [4, 8, 12]);
    drop(held);
}

/// A burst before the first tunnel is up: who waits counts as well.
#[test]
fn least_loaded_spreads_a_burst_that_has_to_wait() {
    let wan = LinkConfig { delay: Duration::from_millis(50), ..LinkConfig::CLEAN };
    let objects_a = importer_weighted("lbScheme: least-loaded", &["1", "1", "4"]);
    let (mut world, _) = build(Sites { objects_a, wan, ..sites("lbScheme: least-loaded") });
    let burst: Vec<_> = (0..30).map(|_| open(&mut world, true)).collect();
    run(&mut world, 1, |w| w.gateways[A].counters().clients_accepted == 30);
    assert_eq!(world.gateways[A].counters().tunnels_opened, 0, "none is up yet");
    assert_eq!(open_connections(&world), [5, 5, 20]);
    run(&mut world, 30, |_| burst.iter().all(|r| r.served_by.get().is_some()));
    assert_eq!(open_connections(&world), [5, 5, 20]);
}

/// A connection that moves on is taken off the source that said no.
#[test]
fn a_source_that_refused_is_not_counted() {
    let (mut world, identities) = build(sites("lbScheme: least-loaded"));
    keep_exports(&mut world, &identities, &[0, 2]);
    let held: Vec<_> = (0..8).map(|_| hold(&mut world)).collect();
    // By slot, and slots are given in the order of the sources.
    assert_eq!(open_connections(&world), [4, 0, 4]);
    for (_, request) in &held {
        request.release(&mut world);
    }
    run(&mut world, 5, |_| held.iter().all(|(_, request)| request.over.get()));
    assert_at_rest(&mut world);
}

/// Connections of an earlier generation still count, for the same source wherever it stands now.
#[test]
fn open_connections_outlive_a_generation() {
    let (mut world, identities) = build(sites("lbScheme: least-loaded"));
    world.gateways[A].publish(&importer_weighted("lbScheme: least-loaded", &[""]), &identities.a);
    world.run_for(Duration::from_millis(5));
    let old: Vec<_> = (0..4).map(|_| hold(&mut world)).collect();
    assert!(old.iter().all(|(source, _)| *source == 0));
    let swapped = importer("lbScheme: least-loaded")
        .replace("web0", "x")
        .replace("web2", "web0")
        .replace("exportName: x,", "exportName: web2,");
    world.gateways[A].publish(&swapped, &identities.a);
    world.run_for(Duration::from_millis(5));
    let mut new: Vec<_> = (0..8).map(|_| hold(&mut world)).map(|(source, _)| source).collect();
    new.sort_unstable();
    assert_eq!(new, [1, 1, 1, 1, 2, 2, 2, 2]);
    for (_, request) in &old {
        request.release(&mut world);
    }
    run(&mut world, 5, |w| open_connections(w).iter().sum::<u32>() == 8);
    assert_eq!([0; 4].map(|_: u8| hold(&mut world).0), [0; 4]);
}

/// However a connection ends, its source has one less: by the client's reset while it waits for a
/// tunnel, while it waits for its source and while it is forwarded, by refusals, by the loss of its
/// tunnel, for want of one, by the end of this gateway.
#[test]
fn every_end_is_counted_off() {
    struct Leaves {
        at: Rc<Cell<bool>>,
    }
    impl App for Leaves {
        fn poll(&mut self, io: &mut SocketIo<'_>) {
            if self.at.get() {
                io.abort();
            }
        }
    }
    let leaver = |world: &mut World| {
        let at = Rc::new(Cell::new(false));
        let (now, from) = (world.now, "10.1.0.2".parse().unwrap());
        let app = Box::new(Leaves { at: Rc::clone(&at) });
        let n = world.hosts[CLIENT].connect(now, Some(from), WEB.parse().unwrap(), app).unwrap();
        move |world: &mut World| {
            at.set(true);
            world.hosts[CLIENT].nudge(n);
        }
    };
    let sum = |world: &World| open_connections(world).iter().sum::<u32>();
    let wan = LinkConfig { delay: Duration::from_millis(50), ..LinkConfig::CLEAN };
    let (mut world, identities) = build(Sites { wan, ..sites("lbScheme: least-loaded") });

    // It waits for the first tunnel.
    let leave = leaver(&mut world);
    run(&mut world, 1, |w| sum(w) == 1);
    leave(&mut world);
    run(&mut world, 1, |w| sum(w) == 0);
    assert_eq!(world.gateways[A].counters().tunnels_opened, 0);

    // OPEN is out, the answer is not here.
    world.run_for(Duration::from_secs(2));
    let leave = leaver(&mut world);
    world.run_for(Duration::from_millis(20));
    assert_eq!((sum(&world), world.gateways[A].counters().tunnels_reused), (1, 1));
    leave(&mut world);
    world.run_for(Duration::from_millis(20));
    assert_eq!(sum(&world), 0);
    assert_eq!(world.gateways[B].counters().services_connected, 0, "nobody has answered");

    // Forwarded.
    let leave = leaver(&mut world);
    world.run_for(Duration::from_secs(1));
    assert_eq!(sum(&world), 1);
    leave(&mut world);
    run(&mut world, 1, |w| sum(w) == 0);

    // Refused by all.
    keep_exports(&mut world, &identities, &[]);
    assert_eq!(ask(&mut world), None);
    assert_eq!(sum(&world), 0);
    keep_exports(&mut world, &identities, &[0, 1, 2]);

    // The other gateway ends, and with it their tunnels.
    let held: Vec<_> = (0..3).map(|_| hold(&mut world).1).collect();
    assert_eq!(sum(&world), 3);
    world.gateways[B].workers[0].cut();
    run(&mut world, 5, |_| held.iter().all(|request| request.over.get()));
    assert_eq!(sum(&world), 0);

    // Nobody is there any more; then this gateway ends.
    let held: Vec<_> = (0..3).map(|_| hold(&mut world).1).collect();
    assert_eq!(sum(&world), 3);
    world.cut(WAN, true);
    let waiting = open(&mut world, false);
    run(&mut world, 60, |_| waiting.over.get());
    assert_eq!(sum(&world), 3);
    world.gateways[A].workers[0].cut();
    assert_eq!(sum(&world), 0);
    run(&mut world, 60, |_| held.iter().all(|request| request.over.get()));
}

// --- Failover ------------------------------------------------------------------------------------

/// Source 0 is exported and its service is down, or its host is gone.
fn with_a_dead_service(spec: &str, host: &str) -> World {
    let objects_b = exporter_at(&[(0, host), (1, "10.2.0.2"), (2, "10.2.0.2")]);
    let (mut world, _) = build(Sites { objects_b, ..sites(spec) });
    world.hosts[SERVER].stop_listening(FIRST_PORT);
    world
}

const DEAD: [(&str, CloseReason); 2] =
    [("10.2.0.2", CloseReason::ServiceUnreachable), ("10.2.0.99", CloseReason::ServiceTimeout)];

/// ClusterLink's rule, and the default: once authorised, a connection stays with its source.
#[test]
fn failover_ends_with_the_authorization() {
    for (host, reason) in DEAD {
        for spec in ["lbScheme: static", "lbScheme: static, failover: authorization"] {
            let mut world = with_a_dead_service(spec, host);
            assert_eq!(ask(&mut world), None, "{spec}");
            assert_eq!(refusals(&world, A), [(reason, String::new())]);
            assert_at_rest(&mut world);
        }
        // The other sources go on having their turns.
        let mut world = with_a_dead_service("lbScheme: round-robin", host);
        let served: Vec<_> = (0..6).map(|_| ask(&mut world)).collect();
        assert_eq!(served, [Some(1), Some(2), None, Some(1), Some(2), None]);
    }
}

#[test]
fn failover_until_the_service_accepts() {
    for (host, _) in DEAD {
        let spec = "lbScheme: static, failover: connection";
        let mut world = with_a_dead_service(spec, host);
        assert_eq!(ask_often(&mut world, 3), [1; 3]);
        assert_eq!(refusals(&world, A), []);
        assert_at_rest(&mut world);
        let spec = "lbScheme: round-robin, failover: connection";
        let mut world = with_a_dead_service(spec, host);
        assert_eq!(ask_often(&mut world, 6), [1, 2, 1, 2, 1, 2]);
    }
    // All are down: the client hears of it, and the log of the last reason.
    let (mut world, _) = build(sites("lbScheme: static, failover: connection"));
    (0..3).for_each(|n| world.hosts[SERVER].stop_listening(FIRST_PORT + n));
    assert_eq!(ask(&mut world), None);
    assert_eq!(refusals(&world, A), [(CloseReason::ServiceUnreachable, String::new())]);
    assert_at_rest(&mut world);
}

/// The importer's objects with source 0 at a peer whose gateway does not exist.
fn importer_with_a_dead_peer(spec: &str) -> String {
    let peer = "
apiVersion: clusterlink.net/v1alpha1
kind: Peer
metadata: { name: site-c, namespace: clusterlink-system }
spec: { gateways: [{ host: 192.0.2.99, port: 4443 }] }
---";
    let source = |peer: &str| format!("peer: {peer}, exportName: web0");
    format!("{peer}{}", importer(spec).replace(&source("site-b"), &source("site-c")))
}

/// The turn of a source that is known to be unreachable goes to the next one at once, and the
/// others share it out as evenly as that of a source that refuses.
#[test]
fn unreachable_sources_are_put_off() {
    for scheme in LbScheme::ALL {
        let spec = format!("lbScheme: {}", scheme.as_str());
        let objects_a = importer_with_a_dead_peer(&spec);
        let (mut world, identities) = build(Sites { objects_a, ..sites(&spec) });
        // Attempts to bring up warm tunnels have found it out, and the next one is far.
        world.run_for(Duration::from_secs(20));
        let begun = world.now;
        let served = ask_often(&mut world, 20);
        let took = world.now.since(begun);
        assert!(took < clgw::limits::CONNECT_TIMEOUT / 3, "{scheme:?}: {took:?}");
        match scheme {
            LbScheme::RoundRobin => assert_eq!(served, [1, 2].repeat(10)),
            LbScheme::Static => assert_eq!(served, [1; 20]),
            _ => assert!(served.contains(&1) && served.contains(&2), "{scheme:?}: {served:?}"),
        }
        assert_eq!(served.len(), 20, "{scheme:?}: {served:?}");
        // It is tried all the same, behind all others.
        keep_exports(&mut world, &identities, &[]);
        assert_eq!(ask(&mut world), None);
        assert_eq!(refusals(&world, A), [(CloseReason::PeerUnreachable, String::new())]);
        assert_at_rest(&mut world);
    }
}

/// What is no authorisation leads to the next source whatever the rule: a policy of either side, a
/// missing export, a gateway that is not there.
#[test]
fn failover_before_the_authorization() {
    let denial = "
---
apiVersion: clusterlink.net/v1alpha1
kind: AccessPolicy
metadata: { name: not-web0, namespace: shop }
spec:
  action: deny
  from: [{ workloadSelector: {} }]
  to: [{ workloadSelector: { matchLabels: { export.clusterlink.net/name: web0 } } }]
";
    for failover in ["authorization", "connection"] {
        let spec = format!("lbScheme: static, failover: {failover}");
        let denied = Sites { objects_b: exporter(&[0, 1, 2]) + denial, ..sites(&spec) };
        let missing = Sites { objects_b: exporter(&[1, 2]), ..sites(&spec) };
        let unreachable = Sites { objects_a: importer_with_a_dead_peer(&spec), ..sites(&spec) };
        let kept = Sites { objects_a: importer(&spec) + denial, ..sites(&spec) };
        for (what, sites) in
            [("denied", denied), ("kept", kept), ("missing", missing), ("unreachable", unreachable)]
        {
            let (mut world, _) = build(sites);
            assert_eq!(ask_often(&mut world, 3), [1; 3], "{failover}, {what}");
            assert_eq!(refusals(&world, A).len(), 0, "{failover}, {what}");
        }
    }
}
