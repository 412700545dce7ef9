//! The run-to-completion loop of one lcore: frames in, frames out, nothing shared.
//!
//! [`Worker::poll`] is one turn. It reads no clock, makes no system call, takes no lock, and
//! allocates only when it grows (a pool, a table) or on the rare paths (handshakes, refusals).
//! The same code runs on DPDK ports and on the simulated wire.

mod client;
mod conn;
mod connections;
mod handshake;
mod inbox;
mod ingress;
mod listen;
mod loads;
mod look_ahead;
mod pool;
mod pools;
mod ports;
mod service;
mod snapshot;
mod tunnels;

use std::collections::VecDeque;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use inbox::{Inboxes, Message};
pub use snapshot::{GatewayEntry, GatewayId, ImportSlot, Listener, Snapshot, SourceSlot};

use self::conn::{Choice, Conn, Leg};
use self::loads::SourceLoads;
use self::pool::Pool;
use self::ports::Port;
use crate::config::{BufferSizes, Controllers};
use crate::flow::{
    EphemeralPorts, FlowHasher, FlowId, FlowTable, HalfOpen, Slab, TimeWait, TimerWheel,
};
use crate::limits::{
    COUNTER_PUBLISH, MAX_FLOWS, MAX_HALF_OPEN, MAX_HALF_OPEN_PER_SOURCE, MAX_TLS_PENDING,
    MAX_TLS_PENDING_PER_SOURCE, POOL_TICK, RX_BURST, TIMERS_AT_ONCE,
};
use crate::net::{NeighbourEvent, NeighbourId, PortStack, Steering};
use crate::port::{FrameIo, Side};
use crate::tcp::{BufferSide, IsnSecret, Profile, TcpEngine, TcpEvent, TcpSettings, TcpState};
use crate::telemetry::{CloseReason, Counters, DropReason, EventQueue, Published};
use crate::time::{Duration, Instant};
use crate::tls::HandshakeExecutor;
use crate::tunnel::Scratch;

/// Fixed properties of a worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// 0 to `workers - 1`.
    pub id: u16,
    pub workers: u16,
    /// Bytes that a service leg, a peer leg and all connections together may hold.
    pub buffers: BufferSizes,
    pub congestion: Controllers,
    /// Tunnels kept ready to each wanted gateway.
    pub warm_tunnels: usize,
    /// Idle tunnels kept to one gateway at the most.
    pub max_idle_tunnels: usize,
    /// Seeds every random choice of this worker.
    pub seed: [u8; 32],
}

impl WorkerConfig {
    fn tcp(&self, side: BufferSide) -> TcpSettings {
        let (bytes, congestion) = match side {
            BufferSide::Service => (self.buffers.service, self.congestion.service),
            BufferSide::Peer => (self.buffers.peer, self.congestion.peer),
        };
        TcpSettings { receive: bytes, send: bytes, side, congestion }
    }
}

/// What a worker shares with the control thread and with its siblings.
#[derive(Debug)]
pub struct Shared<F> {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub counters: Arc<Published>,
    pub events: EventQueue,
    pub inboxes: Inboxes<F>,
}

/// One port queue pair of this worker, with the addresses of the port.
#[derive(Debug)]
pub struct WorkerPort<P> {
    pub io: P,
    pub stack: PortStack,
    pub side: Side,
}

/// What one turn of the loop did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Something was received, sent or decided.
    pub busy: bool,
    /// When the worker wants its next turn even if nothing arrives.
    pub next: Option<Instant>,
    /// Another thread is at work for this worker: what comes of it is seen by a turn alone.
    pub awaits: bool,
}

pub struct Worker<P: FrameIo, H> {
    config: WorkerConfig,
    now: Instant,
    ports: Vec<Port<P>>,
    handshakes: H,
    snapshot_cache: arc_swap::cache::Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    snapshot: Arc<Snapshot>,
    counters: Counters,
    published: Arc<Published>,
    publish_at: Instant,
    events: EventQueue,
    inboxes: Inboxes<P::Frame>,
    steering: Steering,

    conns: Slab<Conn>,
    flows: FlowTable,
    time_wait: TimeWait,
    half_open: HalfOpen,
    tls_pending: HalfOpen,
    ephemeral: EphemeralPorts,
    wheel: TimerWheel<FlowId>,
    engine: TcpEngine,
    rng: StdRng,

    /// Connections with something to do, each at most once.
    ready: VecDeque<FlowId>,
    /// Connections to be given to the engine for output at the end of the turn, each at most once.
    touched: Vec<FlowId>,
    /// Connections that had more to send than their port took.
    blocked: Vec<FlowId>,
    /// Connections that wait for the address of their next hop.
    unresolved: Vec<(u8, NeighbourId, FlowId)>,
    neighbour_events: Vec<NeighbourEvent>,
    due: Vec<FlowId>,

    /// By [`GatewayId`].
    pools: Vec<Option<Pool>>,
    /// By [`ImportSlot`].
    round_robin: Vec<clgw_policy::RoundRobin>,
    source_loads: SourceLoads,
    /// Of clients that are forwarded or gone, for those to come.
    #[expect(clippy::vec_box, reason = "clients hold the boxes")]
    spare_choices: Vec<Box<Choice>>,
    pool_tick: Instant,
    scratch: Scratch,
    draining: bool,
}

impl<P: FrameIo, H> std::fmt::Debug for Worker<P, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.config.id)
            .field("now", &self.now)
            .field("ready", &self.ready.len())
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

impl<P: FrameIo, H: HandshakeExecutor> Worker<P, H> {
    /// `steering` must be the same for all workers of a gateway.
    pub fn new(
        config: WorkerConfig,
        shared: Shared<P::Frame>,
        ports: Vec<WorkerPort<P>>,
        handshakes: H,
        steering: Steering,
    ) -> Self {
        let mut rng = StdRng::from_seed(config.seed);
        let mut secret = [0; 16];
        rng.fill_bytes(&mut secret);
        let mut engine = TcpEngine::new(IsnSecret::new(secret), config.buffers.worker);
        let ports = ports
            .into_iter()
            .map(|p| {
                let caps = p.io.caps();
                let profile = engine.profile(Profile {
                    mtu: p.stack.mtu().min(caps.mtu),
                    checksum_offload: caps.tx_checksum,
                });
                Port::new(p.io, p.stack, p.side, profile)
            })
            .collect();
        let mut table_key = [0; 16];
        rng.fill_bytes(&mut table_key);
        let hasher = FlowHasher::new(table_key);
        let mut snapshot_cache = arc_swap::cache::Cache::new(shared.snapshot);
        let snapshot = Arc::clone(snapshot_cache.load());
        let mut worker = Self {
            ephemeral: EphemeralPorts { worker: config.id },
            config,
            now: Instant::ZERO,
            ports,
            handshakes,
            snapshot_cache,
            snapshot,
            counters: Counters::default(),
            published: shared.counters,
            publish_at: Instant::ZERO,
            events: shared.events,
            inboxes: shared.inboxes,
            steering,
            conns: Slab::with_capacity(MAX_FLOWS),
            flows: FlowTable::new(MAX_FLOWS, hasher.clone()),
            time_wait: TimeWait::new(hasher.clone()),
            half_open: HalfOpen::new(hasher.clone(), MAX_HALF_OPEN, MAX_HALF_OPEN_PER_SOURCE),
            tls_pending: HalfOpen::new(hasher, MAX_TLS_PENDING, MAX_TLS_PENDING_PER_SOURCE),
            wheel: TimerWheel::new(Instant::ZERO),
            engine,
            rng,
            ready: VecDeque::new(),
            touched: Vec::with_capacity(2 * RX_BURST),
            blocked: Vec::new(),
            unresolved: Vec::new(),
            neighbour_events: Vec::new(),
            due: Vec::with_capacity(TIMERS_AT_ONCE),
            pools: Vec::new(),
            round_robin: Vec::new(),
            source_loads: SourceLoads::default(),
            spare_choices: Vec::new(),
            pool_tick: Instant::ZERO,
            scratch: Scratch::default(),
            draining: false,
        };
        worker.adopt_snapshot();
        for port in &mut worker.ports {
            let (stack, mut tx) = port.split();
            stack.announce(&mut tx);
        }
        worker
    }

    /// One turn of the loop at `now`, which must not go backwards.
    pub fn poll(&mut self, now: Instant) -> Turn {
        self.now = now;
        if self.snapshot_cache.load().generation() != self.snapshot.generation() {
            self.snapshot = Arc::clone(self.snapshot_cache.load());
            self.adopt_snapshot();
        }
        let mut busy = self.receive();
        busy |= self.take_inbox();
        busy |= self.take_handshakes();
        busy |= self.expire_timers();
        self.watch_neighbours();
        if now >= self.pool_tick {
            self.pool_tick = now + POOL_TICK;
            self.tend_pools();
            self.time_wait.expire(now);
        }
        busy |= self.run_ready();
        busy |= self.transmit();
        self.counters.loops += 1;
        self.counters.busy_loops += u64::from(busy);
        if now >= self.publish_at {
            self.publish_at = now + COUNTER_PUBLISH;
            self.publish();
        }
        let next = if self.ready.is_empty() && self.blocked.is_empty() {
            let neighbours = self.ports.iter().filter_map(|p| p.stack.next_deadline()).min();
            let timers = self.wheel.next_deadline(now);
            [Some(self.pool_tick), timers, neighbours].into_iter().flatten().min()
        } else {
            Some(now)
        };
        Turn { busy, next, awaits: self.handshakes.in_flight() > 0 }
    }

    /// Time spent in turns that found work; the loop measures it, a turn reads no clock.
    pub fn add_busy(&mut self, time: Duration) {
        self.counters.busy_nanos += time.as_nanos() as u64;
    }

    /// Time slept between two turns, and whether a frame ended it.
    pub fn add_sleep(&mut self, time: Duration, interrupted: bool) {
        self.counters.sleeps += 1;
        self.counters.sleeps_interrupted += u64::from(interrupted);
        self.counters.asleep_nanos += time.as_nanos() as u64;
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Publishes the counters now, whatever the interval.
    pub fn publish(&mut self) {
        self.counters.up_nanos = self.now.as_nanos();
        self.counters.connections = self.conns.len() as u64;
        let memory = self.engine.memory();
        self.counters.buffer_bytes = memory.in_use() as u64;
        self.counters.buffer_bytes_kept = memory.kept() as u64;
        self.counters.buffers_refused = memory.refused();
        self.counters.add_drops(DropReason::NoBuffer, memory.take_segments_dropped());
        self.counters.pmtu_black_holes = self.engine.black_holes();
        self.published.store(&self.counters);
    }

    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Open client connections that each source serves, by [`SourceSlot`]. Sources that never had
    /// one may be missing at the end.
    pub fn source_loads(&self) -> &[u32] {
        self.source_loads.as_slice()
    }

    /// Timers that are set, stale ones included.
    pub fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// The ports, for the owner of a simulated wire.
    pub fn ports_mut(&mut self) -> impl Iterator<Item = &mut P> {
        self.ports.iter_mut().map(|p| &mut p.io)
    }

    /// Stops taking connections: new SYNs are refused, peers are told to open no further streams
    /// here, idle tunnels are closed. What is forwarded goes on.
    pub fn drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) {
            self.drain_tunnels();
        }
    }

    /// Connections that still have something to say: forwarded ones that are open or whose last
    /// bytes are not acknowledged, and tunnels with bytes on the way. Looks at all of them.
    pub fn unfinished(&self) -> usize {
        self.conns
            .iter()
            .filter(|(_, c)| match c.leg {
                Leg::Tunnel(_) => c.tcp.send_queue() > 0,
                Leg::Client(_) | Leg::Service(_) => !c.over || c.tcp.send_queue() > 0,
            })
            .count()
    }

    /// Ends everything: forwarded connections by RST, counted as `drain_deadline`. Returns how many
    /// of them were cut off.
    pub fn cut(&mut self) -> usize {
        let all: Vec<FlowId> = self.conns.iter().map(|(id, _)| id).collect();
        let mut cut = 0;
        for id in all {
            let Some(conn) = self.conns.get(id) else { continue };
            let reason = match conn.leg {
                Leg::Tunnel(_) => CloseReason::Draining,
                Leg::Client(_) | Leg::Service(_) => {
                    cut += usize::from(!conn.over || conn.tcp.send_queue() > 0);
                    CloseReason::DrainDeadline
                }
            };
            self.abort(id, reason);
            self.flush_touched();
        }
        self.transmit();
        self.publish();
        cut
    }

    // --- timers and neighbours --------------------------------------------------------------------

    fn expire_timers(&mut self) -> bool {
        let due = &mut self.due;
        self.wheel.advance(self.now, &mut |id| due.push(id));
        let any = !self.due.is_empty();
        while let Some(id) = self.due.pop() {
            let Some(conn) = self.conns.get_mut(id) else { continue };
            if conn.timer.is_some_and(|t| t > self.now) {
                continue;
            }
            conn.timer = conn.backstop.take().filter(|t| *t > self.now);
            Self::wake(&mut self.ready, id, conn);
        }
        any
    }

    fn watch_neighbours(&mut self) {
        for p in 0..self.ports.len() {
            let (stack, mut tx) = self.ports[p].split();
            if stack.next_deadline().is_some_and(|d| d <= self.now) {
                stack.poll(self.now, &mut tx, &mut self.neighbour_events);
            }
            self.take_neighbour_events(p);
        }
    }

    /// Acts on what the stack of port `p` has just found out.
    fn take_neighbour_events(&mut self, p: usize) {
        while let Some(event) = self.neighbour_events.pop() {
            self.neighbour_event(p as u8, event);
        }
    }

    fn neighbour_event(&mut self, p: u8, event: NeighbourEvent) {
        let (which, failed) = match event {
            NeighbourEvent::Resolved(id) => (id, false),
            NeighbourEvent::Failed(id) => (id, true),
        };
        let (conns, ready) = (&mut self.conns, &mut self.ready);
        self.unresolved.retain(|(port, neighbour, id)| {
            if (*port, *neighbour) != (p, which) {
                return true;
            }
            if let Some(conn) = conns.get_mut(*id) {
                conn.unresolved_since = None;
                // An established connection outlives a router that is silent for a moment.
                if failed && conn.tcp.state() == TcpState::Opening {
                    conn.tcp.abort();
                    conn.note(TcpEvent::TimedOut);
                }
                Self::wake(ready, *id, conn);
            }
            false
        });
    }
}
