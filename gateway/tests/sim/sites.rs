//! Two sites, a client and a server: `client - gateway A - gateway B - server`.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clgw::config::Crypto;
use clgw::net::MacAddr;
use clgw::sim::{
    App, End, GatewaySetup, HostSetup, LinkConfig, Offload, Pki, SimGateway, SocketIo, Spread,
    World,
};
use clgw::telemetry::{CloseReason, Event};
use clgw::tls::{Identity, Suite};
use clgw_policy::PolicyId;

pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;
pub const A: usize = 0;
pub const B: usize = 1;
/// Number of the wire between the gateways.
pub const WAN: usize = 1;

pub const WEB: &str = "10.1.0.80:80";
pub const WEB6: &str = "[fd00:1::80]:80";

const CONFIG_A: &str = "
peer: { name: site-a }
tls: { ca: ca, cert: cert, key: key }
workers: { cpus: [WORKERS] }
ports:
  - { name: svc, device: net_ring0, side: service, mtu: MTU, addresses: [10.1.0.1/24, 'fd00:1::1/64'] }
  - { name: wan, device: net_ring1, side: peer, mtu: MTU, addresses: [192.0.2.1/24, 'fd00:9::1/64'] }
vips:
  - { import: shop/web, address: 10.1.0.80 }
  - { import: shop/web, address: 'fd00:1::80' }
tunnel: { warm: 2 }
";

const CONFIG_B: &str = "
peer: { name: site-b }
tls: { ca: ca, cert: cert, key: key }
workers: { cpus: [WORKERS] }
ports:
  - { name: svc, device: net_ring0, side: service, mtu: MTU, addresses: [10.2.0.1/24, 'fd00:2::1/64'] }
  - { name: wan, device: net_ring1, side: peer, mtu: MTU, addresses: [192.0.2.2/24, 'fd00:9::2/64'] }
";

pub const OBJECTS_A: &str = "
apiVersion: clusterlink.net/v1alpha1
kind: Peer
metadata: { name: site-b, namespace: clusterlink-system }
spec: { gateways: [{ host: GATEWAY_B, port: 4443 }] }
---
apiVersion: clusterlink.net/v1alpha1
kind: Import
metadata: { name: web, namespace: shop }
spec: { port: 80, sources: [{ peer: site-b, exportName: web, exportNamespace: shop }] }
---
apiVersion: clusterlink.net/v1alpha1
kind: Workload
metadata: { name: front, namespace: shop, labels: { app: front } }
spec: { addresses: [10.1.0.2, 'fd00:1::2'] }
---
apiVersion: clusterlink.net/v1alpha1
kind: Workload
metadata: { name: stranger, namespace: shop, labels: { app: stranger } }
spec: { addresses: [10.1.0.3] }
---
apiVersion: clusterlink.net/v1alpha1
kind: AccessPolicy
metadata: { name: allow-front, namespace: shop }
spec:
  action: allow
  from: [{ workloadSelector: { matchLabels: { client.clusterlink.net/labels.app: front } } }]
  to: [{ workloadSelector: {} }]
";

pub const OBJECTS_B: &str = "
apiVersion: clusterlink.net/v1alpha1
kind: Export
metadata: { name: web, namespace: shop }
spec: { host: SERVICE, port: 8080 }
---
apiVersion: clusterlink.net/v1alpha1
kind: AccessPolicy
metadata: { name: allow-a, namespace: shop }
spec:
  action: allow
  from: [{ workloadSelector: { matchLabels: { peer.clusterlink.net/name: site-a } } }]
  to: [{ workloadSelector: {} }]
";

/// Variations of the two sites.
pub struct Sites {
    pub seed: u64,
    pub mtu: usize,
    pub workers: usize,
    pub spread: Spread,
    pub offload: Offload,
    pub wan: LinkConfig,
    pub lan: LinkConfig,
    pub objects_a: String,
    pub objects_b: String,
    /// Sections that both configurations have beside their own.
    pub more: &'static str,
    /// The tunnel and the service leg run over IPv6.
    pub v6: bool,
}

impl Default for Sites {
    fn default() -> Self {
        Self {
            seed: 1,
            mtu: 1500,
            workers: 1,
            spread: Spread::Rss,
            offload: Offload::Nothing,
            wan: LinkConfig::CLEAN,
            lan: LinkConfig::CLEAN,
            objects_a: OBJECTS_A.to_owned(),
            objects_b: OBJECTS_B.to_owned(),
            more: "",
            v6: false,
        }
    }
}

/// Certificates of both sites, for tests that publish new generations.
pub struct Identities {
    pub a: Arc<Identity>,
    pub b: Arc<Identity>,
}

impl Identities {
    /// By the last library that was built: ring's turn is in every build without another.
    pub fn new() -> Self {
        let crypto = Crypto::ALL[Crypto::ALL.len() - 1];
        Self::of(crypto, crypto)
    }

    pub fn of(a: Crypto, b: Crypto) -> Self {
        let pki = Pki::new("fabric").unwrap();
        let peer = |name, crypto| {
            let (cert, key) = pki.peer(name).unwrap();
            pki.identity_with(&cert, &key, crypto, &Suite::by_cost()).unwrap()
        };
        Self { a: peer("site-a", a), b: peer("site-b", b) }
    }
}

impl Sites {
    pub fn build(&self) -> World {
        self.build_with(&Identities::new())
    }

    pub fn build_with(&self, identities: &Identities) -> World {
        let mut world = World::new(self.seed);
        let host = |n: u8, addresses: &[&str], routes: [(&str, &str); 2]| HostSetup {
            mac: MacAddr([2, 0xaa, 0, 0, 0, n]),
            mtu: self.mtu,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            routes: routes
                .iter()
                .map(|(to, via)| clgw::net::Route {
                    to: to.parse().unwrap(),
                    via: via.parse().unwrap(),
                })
                .collect(),
            buffer: 65_536,
            frames: 16_384,
            checksum_offload: self.offload.checksums(),
        };
        world.add_host(host(
            1,
            &["10.1.0.2/24", "10.1.0.3/24", "fd00:1::2/64"],
            [("0.0.0.0/0", "10.1.0.1"), ("::/0", "fd00:1::1")],
        ));
        world.add_host(host(
            2,
            &["10.2.0.2/24", "fd00:2::2/64"],
            [("0.0.0.0/0", "10.2.0.1"), ("::/0", "fd00:2::1")],
        ));
        let cpus = (0..self.workers).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let fill = |text: &str| {
            text.replace("WORKERS", &cpus)
                .replace("MTU", &self.mtu.to_string())
                .replace("GATEWAY_B", if self.v6 { "'fd00:9::2'" } else { "192.0.2.2" })
                .replace("SERVICE", if self.v6 { "'fd00:2::2'" } else { "10.2.0.2" })
        };
        for (config, objects, identity) in
            [(CONFIG_A, &self.objects_a, &identities.a), (CONFIG_B, &self.objects_b, &identities.b)]
        {
            world.add_gateway(&GatewaySetup {
                config: &fill(&format!("{config}{}", self.more)),
                objects: &fill(objects),
                identity: Arc::clone(identity),
                mtu: None,
                offload: self.offload,
                frames: 16_384,
                spread: self.spread,
            });
        }
        world.link(End::Host(CLIENT), End::Gateway(A, 0), self.lan);
        world.link(End::Gateway(A, 1), End::Gateway(B, 1), self.wan);
        world.link(End::Gateway(B, 0), End::Host(SERVER), self.lan);
        world
    }
}

/// What a scripted end of a connection has to do, in this order: send, close or abort, read.
#[derive(Clone, Debug)]
pub struct Script {
    /// Bytes to send, as [`pattern`] of this seed.
    pub send: u64,
    pub seed: u64,
    /// What the other side sends.
    pub expect: u64,
    pub expect_seed: u64,
    /// End the own direction when everything is sent.
    pub close_after_send: bool,
    /// Do not send before the other side has ended its direction.
    pub send_last: bool,
    /// Read at most this much in all, then no more.
    pub read_limit: u64,
    /// Reset the connection once this much has been read.
    pub abort_at: Option<u64>,
}

impl Script {
    pub fn new(send: u64, expect: u64) -> Self {
        Self {
            send,
            seed: 7,
            expect,
            expect_seed: 7,
            close_after_send: true,
            send_last: false,
            read_limit: u64::MAX,
            abort_at: None,
        }
    }
}

/// How far a scripted end has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub established: bool,
    pub sent: u64,
    pub received: u64,
    /// The other side ended its direction.
    pub finished: bool,
    /// The connection is gone.
    pub closed: bool,
    /// A byte was not what it had to be.
    pub wrong: bool,
    pub closed_own: bool,
    /// Nanoseconds of the simulation's clock.
    pub established_at: u64,
    pub first_byte_at: u64,
}

impl Progress {
    /// Everything arrived, both directions ended.
    pub fn complete(&self, script: &Script) -> bool {
        !self.wrong && self.finished && self.sent == script.send && self.received == script.expect
    }
}

pub type Watch = Rc<RefCell<Progress>>;

/// Byte `at` of a stream.
pub fn pattern(seed: u64, at: u64) -> u8 {
    let x = (at / 8).wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x >> (8 * (at % 8))) as u8
}

pub struct Scripted {
    pub script: Script,
    pub progress: Watch,
    /// Reads up to this many bytes in all; moved from outside.
    pub gate: Option<Rc<Cell<u64>>>,
    /// The same for what is sent.
    pub send_gate: Option<Rc<Cell<u64>>>,
}

impl Scripted {
    pub fn new(script: Script) -> (Self, Watch) {
        let progress = Watch::default();
        let app = Self { script, progress: Rc::clone(&progress), gate: None, send_gate: None };
        (app, progress)
    }

    pub fn boxed(script: Script) -> (Box<dyn App>, Watch) {
        let (app, progress) = Self::new(script);
        (Box::new(app), progress)
    }
}

impl App for Scripted {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        let mut p = self.progress.borrow_mut();
        let s = &self.script;
        if io.is_established() && !p.established {
            p.established = true;
            p.established_at = io.now.as_nanos();
        }
        loop {
            let limit = self.gate.as_ref().map_or(s.read_limit, |g| g.get());
            let (at, most) = (p.received, limit - p.received);
            let mut wrong = false;
            let n = io.recv(|bytes| {
                let n = (bytes.len() as u64).min(most) as usize;
                wrong = bytes[..n]
                    .iter()
                    .enumerate()
                    .any(|(i, b)| *b != pattern(s.expect_seed, at + i as u64));
                n
            });
            if n == 0 {
                break;
            }
            if p.received == 0 {
                p.first_byte_at = io.now.as_nanos();
            }
            p.wrong |= wrong;
            p.received += n as u64;
        }
        if s.abort_at.is_some_and(|at| p.received >= at) {
            io.abort();
        }
        p.finished |= io.recv_finished();
        if !s.send_last || p.finished {
            while p.sent < s.send {
                let limit = self.send_gate.as_ref().map_or(s.send, |g| g.get().min(s.send));
                let (at, left) = (p.sent, limit - p.sent);
                let n = io.send(|room| {
                    let n = (room.len() as u64).min(left) as usize;
                    for (i, b) in room[..n].iter_mut().enumerate() {
                        *b = pattern(s.seed, at + i as u64);
                    }
                    n
                });
                if n == 0 {
                    break;
                }
                p.sent += n as u64;
            }
        }
        if p.established
            && p.sent == s.send
            && s.close_after_send
            && !p.closed_own
            && (!s.send_last || p.finished)
        {
            p.closed_own = true;
            io.close();
        }
        p.closed |= p.established && io.is_closed();
    }
}

/// Makes the server run `script` for every connection; returns their progress in order.
pub fn serve(world: &mut World, script: Script) -> Rc<RefCell<Vec<Watch>>> {
    let all: Rc<RefCell<Vec<Watch>>> = Rc::default();
    let watches = Rc::clone(&all);
    world.hosts[SERVER].listen(
        8080,
        Box::new(move |_| {
            let (app, watch) = Scripted::boxed(script.clone());
            watches.borrow_mut().push(watch);
            app
        }),
    );
    all
}

/// Connects the allowed client to the import.
pub fn connect(world: &mut World, to: &str, script: Script) -> Watch {
    let from = if to.starts_with('[') { "fd00:1::2" } else { "10.1.0.2" };
    connect_from(world, from, to, script)
}

/// Connects one of the client's addresses to the import.
pub fn connect_from(world: &mut World, from: &str, to: &str, script: Script) -> Watch {
    let (app, watch) = Scripted::boxed(script);
    let from: IpAddr = from.parse().unwrap();
    let to: SocketAddr = to.parse().unwrap();
    let now = world.now;
    world.hosts[CLIENT].connect(now, Some(from), to, app).unwrap();
    watch
}

/// Reason and policy of every refused client so far, at gateway `g`.
pub fn refusals(world: &World, g: usize) -> Vec<(CloseReason, String)> {
    let mut all = Vec::new();
    while let Some(event) = world.gateways[g].event() {
        let snapshot = world.gateways[g].snapshot();
        let name = |id: PolicyId| {
            id.fixed_text()
                .or_else(|| Some(snapshot.table.policy(id)?.text()))
                .unwrap_or("?")
                .to_owned()
        };
        match event {
            Event::ClientRefused { reason, policy, peer_policy, .. } => {
                let policy = policy.map(name).or(peer_policy.map(String::from));
                all.push((reason, policy.unwrap_or_default()));
            }
            Event::OpenRefused { reason, policy, .. } => {
                all.push((reason, policy.map(name).unwrap_or_default()));
            }
            _ => {}
        }
    }
    all
}

/// Runs until `done`; fails with the state of everything if that takes longer than `seconds`.
#[track_caller]
pub fn run(world: &mut World, seconds: u64, mut done: impl FnMut(&mut World) -> bool) {
    if !world.run_until(Duration::from_secs(seconds), &mut done) {
        panic!("not done after {seconds} s: {}", describe(world));
    }
}

/// The state of everything, for failures.
pub fn describe(world: &World) -> String {
    use std::fmt::Write;
    let mut text = format!("{world:?}\n");
    for (name, gateway) in ["A", "B"].iter().zip(&world.gateways) {
        let c = gateway.counters();
        let fields: Vec<_> = c.fields().into_iter().filter(|(_, n)| *n > 0).collect();
        let (drops, closes): (Vec<_>, Vec<_>) = (c.all_drops().collect(), c.all_closes().collect());
        let _ = writeln!(text, "{name}: {fields:?}\n   dropped {drops:?}\n   closed {closes:?}");
        while let Some(event) = gateway.event() {
            let _ = writeln!(text, "   {event:?}");
        }
    }
    text
}

/// No source is charged with a connection.
#[track_caller]
pub fn assert_no_loads(world: &World) {
    for gateway in &world.gateways {
        let loads: Vec<_> = gateway.workers.iter().map(|w| w.source_loads()).collect();
        assert!(loads.iter().all(|l| l.iter().all(|n| *n == 0)), "{loads:?} {}", describe(world));
    }
}

/// Nothing is forwarded any more, no frame is missing, no source is charged with a connection.
#[track_caller]
pub fn assert_at_rest(world: &mut World) {
    let rested = world.run_until(Duration::from_secs(30), |w| {
        w.gateways.iter().all(|g| g.workers.iter().all(|worker| worker.unfinished() == 0))
    });
    assert!(rested, "connections are left: {}", describe(world));
    assert_no_loads(world);
    // Idle tunnels ping now and then: wait for a moment without any frame.
    let quiet = world.run_until(Duration::from_secs(30), |w| {
        w.in_flight() == 0
            && w.gateways.iter().all(|g| g.pool().available() == 16_384)
            && w.gateways.iter_mut().all(SimGateway::large_frames_are_back)
            && w.gateways.iter().all(|g| g.counters().buffer_bytes == 0)
            && w.hosts.iter().all(|h| h.pool().available() == 16_384)
    });
    assert!(quiet, "frames or buffers were not given back: {}", describe(world));
}
