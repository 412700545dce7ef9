//! Client host - gateway A - gateway B - server host in one thread, with the gateways' turns
//! timed and nothing else: real workers, TLS, tunnels and policy on simulated ports. Several workers
//! of a gateway have their turns one behind the other.
//!
//! The wires are instantaneous: what one member of the chain has sent is in the next one's receive
//! ring when that one has its turn. All members use the same core and so the same caches: a
//! gateway finds its L2 partly filled with the endpoints' rings, where a real one would find
//! frames that a NIC has put into L3.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use clgw::config::Crypto;
use clgw::net::{MacAddr, Route};
use clgw::port::sim::{SimFrame, SimPort};
use clgw::sim::{App, GatewaySetup, Host, HostSetup, Offload, Pki, SimGateway, Spread};
use clgw::telemetry::{Counters, DropReason};
use clgw::time::Instant;
use clgw::tls::{Inline, Suite};
use clgw::worker::{Turn, Worker};

use crate::tsc::cycles;

/// The chain's clock goes on by this in each round, about what a round takes on a real core.
const ROUND: Duration = Duration::from_micros(20);
/// The service side and the peer side of a gateway.
const SERVICE: usize = 0;
const PEER: usize = 1;

/// Imports and the ports of their exports. Three of them, and three addresses of gateway B, since
/// a gateway has 49,152 source ports for each address and port it connects to.
pub const IMPORTS: [(&str, u16); 3] =
    [("10.1.0.80:80", 8080), ("10.1.0.81:80", 8081), ("10.1.0.82:80", 8082)];
/// The client changes to its next address after this many connections: a host of the simulation
/// has 55,536 source ports.
const CONNECTIONS_PER_CLIENT: usize = 50_000;
const CLIENTS: [&str; 3] = ["10.1.0.2", "10.1.0.3", "10.1.0.4"];
/// Segments behind a reset connection, and hosts announcing themselves, are no loss.
const HARMLESS: [DropReason; 4] =
    [DropReason::NoFlow, DropReason::NdpIgnored, DropReason::NotForUs, DropReason::ArpIgnored];
/// Connections that are surely possible at the same time. Not three times 49,152: a few tunnels
/// are idle, and the three are not chosen in turn.
pub const MAX_CONNECTIONS: usize = 120_000;

const CONFIG_A: &str = "
peer: { name: site-a }
tls: { ca: ca, cert: cert, key: key }
workers: { cpus: [WORKERS] }
ports:
  - { name: svc, device: net_ring0, side: service, addresses: [10.1.0.1/16] }
  - { name: wan, device: net_ring1, side: peer, addresses: [192.0.2.1/24] }
vips:
  - { import: shop/one, address: 10.1.0.80 }
  - { import: shop/two, address: 10.1.0.81 }
  - { import: shop/three, address: 10.1.0.82 }
buffers: { service_kib: SERVICE_KIB, peer_kib: PEER_KIB }
";

const CONFIG_B: &str = "
peer: { name: site-b }
tls: { ca: ca, cert: cert, key: key }
workers: { cpus: [WORKERS] }
ports:
  - { name: svc, device: net_ring0, side: service, addresses: [10.2.0.1/16] }
  - { name: wan, device: net_ring1, side: peer,
      addresses: [192.0.2.2/24, 192.0.2.3/24, 192.0.2.4/24] }
buffers: { service_kib: SERVICE_KIB, peer_kib: PEER_KIB }
";

const OBJECTS_A: &str = "
apiVersion: clusterlink.net/v1alpha1
kind: Peer
metadata: { name: site-b, namespace: clusterlink-system }
spec:
  gateways:
    - { host: 192.0.2.2, port: 4443 }
    - { host: 192.0.2.3, port: 4443 }
    - { host: 192.0.2.4, port: 4443 }
---
apiVersion: clusterlink.net/v1alpha1
kind: Import
metadata: { name: one, namespace: shop }
spec: { port: 80, sources: [{ peer: site-b, exportName: one, exportNamespace: shop }] }
---
apiVersion: clusterlink.net/v1alpha1
kind: Import
metadata: { name: two, namespace: shop }
spec: { port: 80, sources: [{ peer: site-b, exportName: two, exportNamespace: shop }] }
---
apiVersion: clusterlink.net/v1alpha1
kind: Import
metadata: { name: three, namespace: shop }
spec: { port: 80, sources: [{ peer: site-b, exportName: three, exportNamespace: shop }] }
---
apiVersion: clusterlink.net/v1alpha1
kind: Workload
metadata: { name: front, namespace: shop, labels: { app: front } }
spec: { addresses: [10.1.0.2, 10.1.0.3, 10.1.0.4] }
---
apiVersion: clusterlink.net/v1alpha1
kind: AccessPolicy
metadata: { name: allow-front, namespace: shop }
spec:
  action: allow
  from: [{ workloadSelector: { matchLabels: { client.clusterlink.net/labels.app: front } } }]
  to: [{ workloadSelector: {} }]
";

const OBJECTS_B: &str = "
apiVersion: clusterlink.net/v1alpha1
kind: Export
metadata: { name: one, namespace: shop }
spec: { host: 10.2.0.2, port: 8080 }
---
apiVersion: clusterlink.net/v1alpha1
kind: Export
metadata: { name: two, namespace: shop }
spec: { host: 10.2.0.2, port: 8081 }
---
apiVersion: clusterlink.net/v1alpha1
kind: Export
metadata: { name: three, namespace: shop }
spec: { host: 10.2.0.2, port: 8082 }
---
apiVersion: clusterlink.net/v1alpha1
kind: AccessPolicy
metadata: { name: allow-a, namespace: shop }
spec:
  action: allow
  from: [{ workloadSelector: { matchLabels: { peer.clusterlink.net/name: site-a } } }]
  to: [{ workloadSelector: {} }]
";

#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Of all links, bytes; 65,535 for segments that devices cut and merge.
    pub mtu: usize,
    /// Of both gateways.
    pub crypto: Crypto,
    /// The only one both gateways know.
    pub suite: Suite,
    /// Of the gateways' ports; the endpoints' compute checksums if these do.
    pub offload: Offload,
    pub service_kib: usize,
    pub peer_kib: usize,
    /// Bytes of each of the endpoints' buffers.
    pub host_buffer: usize,
    /// Frames of each pool. Pools hand out the buffer that has been free for longest, so a large
    /// one drives everything else out of the cache.
    pub frames: usize,
    /// Of each gateway.
    pub workers: usize,
    pub spread: Spread,
}

/// What one gateway did, and how long it took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    /// TSC cycles of the turns that found work.
    pub cycles: u64,
    /// Turns that found work.
    pub turns: u64,
    pub rx_frames: u64,
    /// Frames that one worker handed to another.
    pub strays: u64,
}

impl Meter {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            cycles: self.cycles + other.cycles,
            turns: self.turns + other.turns,
            rx_frames: self.rx_frames + other.rx_frames,
            strays: self.strays + other.strays,
        }
    }

    /// What happened since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            cycles: self.cycles - before.cycles,
            turns: self.turns - before.turns,
            rx_frames: self.rx_frames - before.rx_frames,
            strays: self.strays - before.strays,
        }
    }
}

pub type SimWorker = Worker<SimPort, Inline>;

#[derive(Debug)]
struct Station {
    gateway: SimGateway,
    poll: fn(&mut SimWorker, Instant) -> Turn,
    /// By worker.
    meters: Vec<Meter>,
}

impl Station {
    /// One timed turn of each worker; returns whether one found work, and when the first wants the
    /// next.
    fn turn(&mut self, now: Instant) -> (bool, Option<Instant>) {
        let (mut busy, mut next) = (false, None);
        for (worker, meter) in self.gateway.workers.iter_mut().zip(&mut self.meters) {
            let from = cycles();
            let turn = (self.poll)(worker, now);
            let spent = cycles() - from;
            if turn.busy {
                meter.cycles += spent;
                meter.turns += 1;
            }
            busy |= turn.busy;
            next = [next, turn.next].into_iter().flatten().min();
        }
        (busy, next)
    }

    fn deliver(&mut self, port: usize, frame: SimFrame) {
        self.gateway.deliver(port, frame);
    }

    fn collect(&mut self, port: usize) -> Option<SimFrame> {
        self.gateway.collect(port)
    }

    fn meters(&self) -> Vec<Meter> {
        let counted = |(worker, meter): (&SimWorker, &Meter)| {
            let c = worker.counters();
            Meter { rx_frames: c.rx_frames, strays: c.strays, ..*meter }
        };
        self.gateway.workers.iter().zip(&self.meters).map(counted).collect()
    }

    fn meter(&self) -> Meter {
        self.meters().into_iter().fold(Meter::default(), Meter::plus)
    }
}

#[derive(Debug)]
pub struct Chain {
    pub now: Instant,
    pub client: Host,
    pub server: Host,
    /// Connections that the client has begun.
    connected: usize,
    a: Station,
    b: Station,
}

impl Chain {
    /// # Errors
    /// The certificates cannot be made.
    pub fn new(setup: &Setup) -> anyhow::Result<Self> {
        let pki = Pki::new("fabric").context("CA of the simulated fabric")?;
        let cpus: Vec<String> = (0..setup.workers).map(|cpu| cpu.to_string()).collect();
        let fill = |text: &str| {
            text.replace("WORKERS", &cpus.join(", "))
                .replace("SERVICE_KIB", &setup.service_kib.to_string())
                .replace("PEER_KIB", &setup.peer_kib.to_string())
        };
        let station = |name: &str, config: &str, objects: &str, seed: u8| {
            let (cert, key) = pki.peer(name).context("certificate of a simulated peer")?;
            let gateway = GatewaySetup {
                config: &fill(config),
                objects,
                identity: pki.identity_with(&cert, &key, setup.crypto, &[setup.suite])?,
                mtu: Some(setup.mtu),
                offload: setup.offload,
                frames: setup.frames,
                spread: setup.spread,
            };
            anyhow::Ok(Station {
                gateway: SimGateway::new(&gateway, [seed; 32]),
                poll: Worker::poll,
                meters: vec![Meter::default(); setup.workers],
            })
        };
        Ok(Self {
            // Not zero: a deadline of zero must lie in the past.
            now: Instant::from_millis(1),
            client: host(setup, 1, &CLIENTS, "10.1.0.1")?,
            server: host(setup, 2, &["10.2.0.2"], "10.2.0.1")?,
            connected: 0,
            a: station("site-a", CONFIG_A, OBJECTS_A, 1)?,
            b: station("site-b", CONFIG_B, OBJECTS_B, 2)?,
        })
    }

    /// How the workers of gateway A have their turns from now on, instead of by [`Worker::poll`]
    /// directly: a function with a name of its own is what a profiler can be told to count.
    pub fn poll_a_by(&mut self, poll: fn(&mut SimWorker, Instant) -> Turn) {
        self.a.poll = poll;
    }

    /// Opens a connection of the client to one of [`IMPORTS`]; returns its number at the client.
    ///
    /// # Errors
    /// There is no such import.
    pub fn connect(&mut self, import: usize, app: Box<dyn App>) -> anyhow::Result<usize> {
        let (to, _) = IMPORTS.get(import).with_context(|| format!("import number {import}"))?;
        let to: SocketAddr = to.parse().with_context(|| format!("address {to:?}"))?;
        let from = CLIENTS[self.connected / CONNECTIONS_PER_CLIENT % CLIENTS.len()];
        self.connected += 1;
        Ok(self.client.connect(self.now, Some(from.parse()?), to, app)?)
    }

    /// One turn of every member, in the order of the upload.
    pub fn round(&mut self) {
        let mut moved = 0;
        let mut next = [self.client.poll(self.now), None, None, None];
        while let Some(frame) = self.client.collect() {
            self.a.deliver(SERVICE, frame);
            moved += 1;
        }
        let (busy_a, next_a) = self.a.turn(self.now);
        next[1] = next_a;
        while let Some(frame) = self.a.collect(PEER) {
            self.b.deliver(PEER, frame);
            moved += 1;
        }
        while let Some(frame) = self.a.collect(SERVICE) {
            self.client.deliver(frame);
            moved += 1;
        }
        let (busy_b, next_b) = self.b.turn(self.now);
        next[2] = next_b;
        while let Some(frame) = self.b.collect(SERVICE) {
            self.server.deliver(frame);
            moved += 1;
        }
        while let Some(frame) = self.b.collect(PEER) {
            self.a.deliver(PEER, frame);
            moved += 1;
        }
        next[3] = self.server.poll(self.now);
        while let Some(frame) = self.server.collect() {
            self.b.deliver(SERVICE, frame);
            moved += 1;
        }
        let soon = self.now + ROUND;
        let idle = moved == 0 && !busy_a && !busy_b;
        self.now = match next.into_iter().flatten().min() {
            Some(at) if idle => at.max(soon),
            _ => soon,
        };
    }

    /// Rounds until `done`.
    ///
    /// # Errors
    /// It takes longer than `most` of the chain's own time.
    pub fn run_until(
        &mut self,
        what: &str,
        most: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let limit = self.now + most;
        while !done(self) {
            anyhow::ensure!(
                self.now < limit,
                "{what}: not within {most:?} of the simulation's time; dropped by A {:?}, by B {:?}",
                self.counters().0.all_drops().collect::<Vec<_>>(),
                self.counters().1.all_drops().collect::<Vec<_>>(),
            );
            self.round();
        }
        Ok(())
    }

    /// Of gateway A and gateway B.
    pub fn meters(&self) -> (Meter, Meter) {
        (self.a.meter(), self.b.meter())
    }

    /// Of each worker of gateway A.
    pub fn meters_of_a(&self) -> Vec<Meter> {
        self.a.meters()
    }

    /// Of gateway A and gateway B.
    pub fn counters(&self) -> (Counters, Counters) {
        (self.a.gateway.counters(), self.b.gateway.counters())
    }

    /// # Errors
    /// A gateway has dropped frames: what was measured then is retransmission.
    pub fn ensure_no_loss(&self) -> anyhow::Result<()> {
        let (a, b) = self.counters();
        for (name, counters) in [("A", a), ("B", b)] {
            let lost = losses(&counters);
            anyhow::ensure!(lost.is_empty(), "gateway {name} dropped frames: {lost:?}");
        }
        Ok(())
    }
}

/// Dropped frames whose drop changes what is measured.
fn losses(counters: &Counters) -> Vec<(DropReason, u64)> {
    counters.all_drops().filter(|(reason, _)| !HARMLESS.contains(reason)).collect()
}

fn host(setup: &Setup, number: u8, addresses: &[&str], via: &str) -> anyhow::Result<Host> {
    let route = Route { to: "0.0.0.0/0".parse()?, via: via.parse()? };
    let setup = HostSetup {
        mac: MacAddr([2, 0xaa, 0, 0, 0, number]),
        mtu: setup.mtu,
        addresses: addresses.iter().map(|a| format!("{a}/16").parse()).collect::<Result<_, _>>()?,
        routes: vec![route],
        buffer: setup.host_buffer,
        frames: setup.frames,
        // The endpoints' own cost is of no interest, but what they send must suit the gateways.
        checksum_offload: setup.offload.checksums(),
    };
    Ok(Host::new(setup, u64::from(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_from_harmless_drops() {
        let mut counters = Counters::default();
        HARMLESS.into_iter().for_each(|reason| counters.drop_frame(reason));
        assert_eq!(losses(&counters), []);
        counters.add_drops(DropReason::TxQueueFull, 2);
        assert_eq!(losses(&counters), [(DropReason::TxQueueFull, 2)]);
    }
}
