//! A gateway in a simulation: real workers, made from a real gateway.yaml and real objects.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clgw_policy::SourceFile;
use dpdk_bindings::RssKey;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::SIM_RING;
use crate::config::{self, GatewayConfig, Host as ConfigHost};
use crate::control::{Generations, Material, Resolver, stack_config};
use crate::net::{MacAddr, PortStack, Steering, likely_key};
use crate::port::sim::{SimFrame, SimPool, SimPort};
use crate::port::{Frame, FrameIo, PortCaps, RxChecksum, RxMeta};
use crate::telemetry::{Counters, Event, EventQueue};
use crate::time::Instant;
use crate::tls::{Identity, Inline};
use crate::worker::{Inboxes, Shared, Snapshot, Worker, WorkerConfig, WorkerPort};

/// On which queue of a simulated port a frame arrives, where there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The one that RSS names: a device that was told.
    Rss,
    /// One for each connection, but by a hash that the gateway does not know: af_packet's fanout.
    OwnHash,
    /// Any one, frame by frame.
    Random,
}

/// What simulated ports do by themselves, for free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    Nothing,
    /// Compute and verify checksums, as a good NIC does.
    Checksums,
    /// Cut packets into segments (TSO), too.
    Segments,
}

impl Offload {
    pub fn checksums(self) -> bool {
        self != Self::Nothing
    }
}

/// What a simulated gateway is made from.
#[derive(Debug)]
pub struct GatewaySetup<'a> {
    /// Text of gateway.yaml. The number of `workers.cpus` is the number of workers.
    pub config: &'a str,
    /// Text of the objects.
    pub objects: &'a str,
    pub identity: Arc<Identity>,
    /// IP packet size of all ports instead of that in `config`, bytes. Up to 65,535: what a port
    /// carries whose device cuts and merges segments (TSO, LRO).
    pub mtu: Option<usize>,
    pub offload: Offload,
    /// Frames of the pool.
    pub frames: usize,
    pub spread: Spread,
}

struct NoResolver;

impl Resolver for NoResolver {
    fn addresses(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(Vec::new())
    }
}

#[derive(Debug)]
pub struct SimGateway {
    pub workers: Vec<Worker<SimPort, Inline>>,
    config: GatewayConfig,
    generations: Generations,
    snapshot: Arc<ArcSwap<Snapshot>>,
    retired: Vec<Arc<Snapshot>>,
    events: EventQueue,
    pool: SimPool,
    offload: Offload,
    spread: Spread,
    /// What the device computes where `spread` depends on the connection.
    device: Steering,
    rng: StdRng,
    /// Read before and after the workers' turns, and nothing else: cycles, allocations.
    pub meter: Option<fn() -> u64>,
    /// Sum of what `meter` advanced by, modulo 2^64: it may go down.
    pub metered: u64,
}

impl SimGateway {
    /// # Panics
    /// If the texts of `setup` are not valid: a simulation is written by hand.
    pub fn new(setup: &GatewaySetup<'_>, mut seed: [u8; 32]) -> Self {
        let rng = StdRng::from_seed(seed);
        let host = ConfigHost { cpus: (0..64).collect() };
        let loaded = config::parse(Path::new("gateway.yaml"), setup.config, &host);
        let Some(mut config) = loaded.config else {
            panic!("gateway.yaml: {:#?}", loaded.diagnostics);
        };
        if let Some(mtu) = setup.mtu {
            config.ports.iter_mut().for_each(|p| p.mtu = mtu);
        }
        let mut generations = Generations::default();
        let material = material(setup.objects, &setup.identity);
        let (snapshot, warnings) = generations.next(&config, material, &NoResolver);
        assert!(warnings.is_empty(), "{warnings:?}");
        let snapshot = Arc::new(snapshot);
        let shared = Arc::new(ArcSwap::new(Arc::clone(&snapshot)));
        let workers = config.workers.count() as u16;
        let steering = Steering::software(workers);
        let device = match setup.spread {
            Spread::OwnHash => Steering::with_key(&RssKey::MICROSOFT, steering.rss().reta.clone()),
            Spread::Rss | Spread::Random => steering.clone(),
        };
        let inboxes = Inboxes::new(workers);
        let events = EventQueue::default();
        let mtu = config.ports.iter().map(|p| p.mtu).max().unwrap_or(1500);
        let pool = SimPool::new(setup.frames, mtu);
        let workers = (0..workers)
            .map(|id| {
                seed[31] = seed[31].wrapping_add(1);
                let ports = (0..config.ports.len())
                    .map(|n| port(&config, n, &pool, setup.offload))
                    .collect();
                let worker_config = WorkerConfig {
                    id,
                    workers,
                    buffers: config.buffers.clone(),
                    congestion: config.congestion,
                    warm_tunnels: config.tunnel.warm,
                    max_idle_tunnels: config.tunnel.max_idle,
                    seed,
                };
                let shared = Shared {
                    snapshot: Arc::clone(&shared),
                    counters: Arc::default(),
                    events: events.clone(),
                    inboxes: inboxes.clone(),
                };
                Worker::new(worker_config, shared, ports, Inline::default(), steering.clone())
            })
            .collect();
        Self {
            workers,
            config,
            generations,
            snapshot: shared,
            retired: vec![snapshot],
            events,
            pool,
            offload: setup.offload,
            spread: setup.spread,
            device,
            rng,
            meter: None,
            metered: 0,
        }
    }

    /// Publishes new objects and certificates.
    ///
    /// # Panics
    /// If they are not valid.
    pub fn publish(&mut self, objects: &str, identity: &Arc<Identity>) {
        let material = material(objects, identity);
        let (snapshot, _) = self.generations.next(&self.config, material, &NoResolver);
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(Arc::clone(&snapshot));
        // As the control thread does: a worker never has the last reference.
        self.retired.push(snapshot);
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Buffers of this gateway's frames.
    pub fn pool(&self) -> &SimPool {
        &self.pool
    }

    /// Every frame for what devices cut is in its pool.
    pub fn large_frames_are_back(&mut self) -> bool {
        self.workers.iter_mut().all(|w| w.ports_mut().all(|port| port.large_frames_are_back()))
    }

    /// All workers' counters.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for worker in &self.workers {
            sum.add(worker.counters());
        }
        sum
    }

    /// The oldest event that nobody has taken.
    pub fn event(&self) -> Option<Event> {
        self.events.pop()
    }

    /// Puts a frame that arrived into a receive ring; it is lost if that is full.
    pub fn deliver(&mut self, port: usize, mut frame: SimFrame) {
        if self.offload.checksums() {
            let good = RxChecksum::Good;
            frame.set_rx_meta(RxMeta { ip: good, l4: good, rss_hash: None });
        }
        let queue = match (self.workers.len(), self.spread) {
            (1, _) => 0,
            (n, Spread::Random) => self.rng.random_range(0..n),
            // What is not TCP goes to the first.
            (_, Spread::Rss | Spread::OwnHash) => {
                likely_key(frame.data()).map_or(0, |key| self.device.owner(&key).into())
            }
        };
        if let Some(io) = self.workers[queue].ports_mut().nth(port) {
            io.deliver(frame);
        }
    }

    /// Takes the oldest sent frame of some worker off the wire.
    pub fn collect(&mut self, port: usize) -> Option<SimFrame> {
        self.workers.iter_mut().find_map(|w| w.ports_mut().nth(port)?.collect())
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<Instant> {
        let mut next = None;
        for worker in &mut self.workers {
            let before = self.meter.map_or(0, |meter| meter());
            let turn = worker.poll(now);
            let after = self.meter.map_or(0, |meter| meter());
            self.metered = self.metered.wrapping_add(after.wrapping_sub(before));
            let wants = if turn.busy || worker.ports_mut().any(|p| p.has_received()) {
                Some(now)
            } else {
                turn.next
            };
            next = [next, wants].into_iter().flatten().min();
        }
        next
    }
}

fn material(objects: &str, identity: &Arc<Identity>) -> Material {
    let file = SourceFile { path: "objects.yaml".into(), text: objects.to_owned() };
    match clgw_policy::load(&[file]) {
        Ok(loaded) => Material {
            fabric: loaded.fabric,
            identity: Arc::clone(identity),
            warnings: loaded.warnings,
        },
        Err(errors) => panic!("objects: {errors:#?}"),
    }
}

fn port(config: &GatewayConfig, n: usize, pool: &SimPool, offload: Offload) -> WorkerPort<SimPort> {
    let port = &config.ports[n];
    // The same on all workers: they share the port.
    let name = config.peer.name.bytes().fold(0u8, |a, b| a.wrapping_mul(31).wrapping_add(b));
    let mac = MacAddr([2, 0xc1, name, 0, 0, n as u8]);
    let caps = PortCaps {
        mac,
        mtu: port.mtu,
        tx_checksum: offload.checksums(),
        rx_checksum: offload.checksums(),
        tso: offload == Offload::Segments,
        rss: None,
    };
    let io = SimPort::new(caps, pool.clone(), SIM_RING, SIM_RING);
    let mtu = io.caps().mtu;
    let stack = PortStack::new(stack_config(config, n, port, mac, offload.checksums()));
    match stack {
        Ok(stack) => WorkerPort { io, stack, side: port.side },
        Err(e) => panic!("port {} with MTU {mtu}: {e}", port.name),
    }
}

impl Drop for SimGateway {
    fn drop(&mut self) {
        // Frees generations here, after the workers have let go of them.
        self.workers.clear();
        self.retired.clear();
    }
}
