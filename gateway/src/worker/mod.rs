//! The run-to-completion loop of one lcore: frames in, frames out, nothing shared.
//!
//! [`Worker::poll`] is one turn. It reads no clock, makes no system call, takes no lock, and
//! allocates only when it grows (a pool, a table) or on the rare paths (handshakes, refusals).
//! The same code runs on DPDK ports and on the simulated wire.

mod client;
mod conn;
mod inbox;
mod pool;
mod ports;
mod service;
mod snapshot;
mod tunnels;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arrayvec::ArrayVec;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use inbox::{Inboxes, Message};
pub use snapshot::{GatewayEntry, GatewayId, ImportSlot, Listener, Snapshot};

use self::conn::{Conn, Leg, Phase, TunnelLeg};
use self::pool::Pool;
use self::ports::Port;
use crate::flow::{
    EphemeralPorts, FlowHasher, FlowId, FlowTable, HalfOpen, Slab, TimeWait, TimerWheel,
};
use crate::limits::{
    CONN_POOL, COUNTER_PUBLISH, MAX_FLOWS, OUTPUT_BURST, POOL_TICK, RX_BURST, TCP_CLOSING_TIMEOUT,
    TCP_HANDSHAKE_TIMEOUT,
};
use crate::net::{
    FlowKey, Ingress, NeighbourEvent, NeighbourId, PortStack, Resolve, Steering, TcpPacket,
};
use crate::port::{Frame, FrameIo, RxBurst, Side};
use crate::tcp::{ConnPool, IsnSecret, Profile, TcpEngine, TcpEvent};
use crate::telemetry::{CloseReason, Counters, DropReason, Event, EventQueue, Published};
use crate::time::Instant;
use crate::tls::HandshakeExecutor;
use crate::tunnel::{Role, Scratch};

/// Fixed properties of a worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// 0 to `workers - 1`.
    pub id: u16,
    pub workers: u16,
    /// Ring sizes of service and peer legs, bytes (see [`crate::tcp::ring_size`]).
    pub service_buffer: usize,
    pub peer_buffer: usize,
    /// Tunnels kept ready to each wanted gateway.
    pub warm_tunnels: usize,
    /// Idle tunnels kept to one gateway at the most.
    pub max_idle_tunnels: usize,
    /// Seeds every random choice of this worker.
    pub seed: [u8; 32],
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
    ephemeral: EphemeralPorts,
    wheel: TimerWheel<FlowId>,
    engine: TcpEngine,
    service_conns: ConnPool,
    peer_conns: ConnPool,
    rng: StdRng,

    /// Connections with something to do, each at most once.
    ready: VecDeque<FlowId>,
    /// Connections to be given to the engine for output at the end of this step.
    touched: ArrayVec<FlowId, 8>,
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
    pool_tick: Instant,
    scratch: Scratch,
    draining: bool,
    /// Client and service legs that are not over.
    forwarded: usize,
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
        let mut engine = TcpEngine::new(IsnSecret::new(secret));
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
            service_conns: ConnPool::new(config.service_buffer, config.service_buffer, CONN_POOL),
            peer_conns: ConnPool::new(config.peer_buffer, config.peer_buffer, CONN_POOL),
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
            half_open: HalfOpen::new(hasher),
            wheel: TimerWheel::new(Instant::ZERO),
            engine,
            rng,
            ready: VecDeque::new(),
            touched: ArrayVec::new(),
            blocked: Vec::new(),
            unresolved: Vec::new(),
            neighbour_events: Vec::new(),
            due: Vec::new(),
            pools: Vec::new(),
            round_robin: Vec::new(),
            pool_tick: Instant::ZERO,
            scratch: Scratch::default(),
            draining: false,
            forwarded: 0,
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
            self.counters.connections = self.conns.len() as u64;
            self.published.store(&self.counters);
        }
        let next = if self.ready.is_empty() && self.blocked.is_empty() {
            let neighbours = self.ports.iter().filter_map(|p| p.stack.next_deadline()).min();
            let timers = self.wheel.next_deadline(now);
            [Some(self.pool_tick), timers, neighbours].into_iter().flatten().min()
        } else {
            Some(now)
        };
        Turn { busy, next }
    }

    /// Time spent in turns that found work; the loop measures it, a turn reads no clock.
    pub fn add_busy(&mut self, nanos: u64) {
        self.counters.busy_nanos += nanos;
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Publishes the counters now, whatever the interval.
    pub fn publish(&mut self) {
        self.counters.connections = self.conns.len() as u64;
        self.published.store(&self.counters);
    }

    pub fn connections(&self) -> usize {
        self.conns.len()
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

    /// After [`Worker::drain`]: forwarded connections that are still open.
    pub fn forwarded(&self) -> usize {
        self.forwarded
    }

    /// Ends everything: forwarded connections by RST, counted as `drain_deadline`.
    pub fn cut(&mut self) {
        let all: Vec<FlowId> = self.conns.iter().map(|(id, _)| id).collect();
        for id in all {
            let reason = match self.conns.get(id) {
                Some(c) if !c.over && c.tunnel().is_none() => CloseReason::DrainDeadline,
                _ => CloseReason::Draining,
            };
            self.abort(id, reason);
            self.flush_touched();
        }
        self.transmit();
        self.publish();
    }

    // --- frames in --------------------------------------------------------------------------------

    fn receive(&mut self) -> bool {
        let mut any = false;
        for p in 0..self.ports.len() {
            let mut burst: RxBurst<P::Frame> = ArrayVec::new();
            if self.ports[p].io.rx_burst(&mut burst) == 0 {
                continue;
            }
            any = true;
            self.counters.rx_frames += burst.len() as u64;
            for frame in burst {
                self.counters.rx_bytes += frame.data().len() as u64;
                self.frame(p, frame, true);
            }
        }
        any
    }

    fn take_inbox(&mut self) -> bool {
        let mut any = false;
        // Bounded: siblings may fill the inbox as fast as it empties.
        for _ in 0..RX_BURST {
            match self.inboxes.take(self.config.id) {
                None => break,
                Some(Message::Frame { port, frame }) => {
                    self.frame(usize::from(port), frame, false);
                }
                Some(Message::Neighbour { port, ip, mac }) => {
                    if let Some(port) = self.ports.get_mut(usize::from(port)) {
                        port.stack.learn(self.now, ip, mac, &mut self.neighbour_events);
                    }
                }
            }
            any = true;
        }
        any
    }

    /// `may_hand_off` is false for a frame that was handed to this worker: it stays.
    fn frame(&mut self, p: usize, frame: P::Frame, may_hand_off: bool) {
        let Some(port) = self.ports.get_mut(p) else { return };
        let ingress = {
            let (stack, mut tx) = port.split();
            stack.ingress(self.now, frame.data(), frame.rx_meta(), &mut tx, &mut self.counters)
        };
        let owner = match ingress {
            Ingress::Consumed => None,
            Ingress::Neighbour { ip, mac } => {
                // The answer may have been for a question of a sibling.
                port.stack.learn(self.now, ip, mac, &mut self.neighbour_events);
                let lost = self.inboxes.tell_others(self.config.id, p as u8, ip, mac);
                for _ in 0..lost {
                    self.counters.drop_frame(DropReason::InboxFull);
                }
                None
            }
            Ingress::Tcp(packet) => self.segment(p, &packet, may_hand_off),
            Ingress::PathMtu { key, mtu } => {
                self.path_mtu(&key, mtu);
                None
            }
            Ingress::Unreachable { key, hard } => {
                self.unreachable(&key, hard);
                None
            }
        };
        if let Some(owner) = owner {
            self.counters.strays += 1;
            let message = Message::Frame { port: p as u8, frame };
            if self.inboxes.give(owner, message).is_err() {
                self.counters.drop_frame(DropReason::InboxFull);
            }
        }
    }

    /// Takes a segment to its connection. Returns the worker it belongs to if that is another.
    fn segment(&mut self, p: usize, packet: &TcpPacket<'_>, may_hand_off: bool) -> Option<u16> {
        if let Some(id) = self.flows.get(&packet.key) {
            let conn = self.conns.get_mut(id)?;
            let mut sink =
                self.ports[usize::from(conn.port)].flow_tx(conn.neighbour, conn.key.is_v4());
            let event = self.engine.input(&mut conn.tcp, self.now, packet.ip, &mut sink);
            conn.note(event);
            if packet.flags.fin {
                conn.fin_seq = packet.seq.wrapping_add(packet.payload_len as u32).wrapping_add(1);
            }
            Self::wake(&mut self.ready, id, conn);
            return None;
        }
        if may_hand_off && self.config.workers > 1 {
            let owner = self.steering.owner(&packet.key);
            if owner != self.config.id {
                return Some(owner);
            }
        }
        if packet.is_syn() {
            self.syn(p, packet);
        } else if !self.answer_time_wait(p, packet) {
            self.counters.drop_frame(DropReason::NoFlow);
            self.refuse(p, packet);
        }
        None
    }

    fn refuse(&mut self, p: usize, packet: &TcpPacket<'_>) {
        let (stack, mut tx) = self.ports[p].split();
        stack.reset(self.now, packet, &mut tx, &mut self.counters);
    }

    /// A segment of a connection in TIME-WAIT: a repeated FIN is acknowledged again (RFC 9293,
    /// section 3.10.7.4). All that is needed for it stands in the segment.
    fn answer_time_wait(&mut self, p: usize, packet: &TcpPacket<'_>) -> bool {
        if !self.time_wait.contains(&packet.key) {
            return false;
        }
        if packet.flags.fin {
            let (stack, mut tx) = self.ports[p].split();
            stack.acknowledge(self.now, packet, &mut tx);
        }
        true
    }

    /// A SYN without a connection: limits first, memory last.
    fn syn(&mut self, p: usize, packet: &TcpPacket<'_>) {
        let local = packet.key.local_addr();
        let remote = packet.key.remote_addr();
        let Some(&listener) = self.snapshot.listeners.get(&local) else {
            self.counters.drop_frame(DropReason::NoListener);
            return self.refuse(p, packet);
        };
        let faces = match listener {
            Listener::Import(_) => self.ports[p].side.is_service(),
            Listener::Tunnel => self.ports[p].side.is_peer(),
        };
        if !faces {
            self.counters.drop_frame(DropReason::NoListener);
            return self.refuse(p, packet);
        }
        if self.draining {
            self.counters.drop_frame(DropReason::Draining);
            return self.refuse(p, packet);
        }
        // RFC 6191, section 2: a new connection may take the place of one in TIME-WAIT if its
        // sequence numbers lie behind the old ones.
        if !self.time_wait.may_reopen(&packet.key, packet.seq) {
            self.counters.drop_frame(DropReason::NoFlow);
            return;
        }
        if let Err(reason) = self.half_open.open(packet.key.remote) {
            self.counters.drop_frame(reason);
            return;
        }
        let neighbour = {
            let (stack, mut tx) = self.ports[p].split();
            stack.observe(self.now, remote.ip(), packet.src_mac);
            match stack.resolve(self.now, remote.ip(), &mut tx, &mut self.counters) {
                Resolve::Ready(id) | Resolve::Pending(id) => id,
                Resolve::NoRoute | Resolve::TableFull => {
                    self.half_open.close(packet.key.remote);
                    return;
                }
            }
        };
        let (leg, tcp) = match listener {
            Listener::Import(import) => {
                (Leg::Client(self.new_client(import, remote)), self.service_conns.take())
            }
            Listener::Tunnel => (
                Leg::Tunnel(TunnelLeg::new(Role::Exporter, None, self.now)),
                self.peer_conns.take(),
            ),
        };
        let is_client = matches!(leg, Leg::Client(_));
        let conn = Conn {
            tcp,
            key: packet.key,
            port: p as u8,
            neighbour,
            leg,
            event: TcpEvent::None,
            timer: None,
            deadline: Some(self.now + TCP_HANDSHAKE_TIMEOUT),
            ready: false,
            blocked: false,
            half_open: true,
            over: false,
            fin_seq: 0,
        };
        let Some(id) = self.insert(conn) else {
            self.half_open.close(packet.key.remote);
            self.counters.drop_frame(DropReason::FlowLimit);
            return;
        };
        self.forwarded += usize::from(is_client);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let port = &mut self.ports[p];
        let profile = port.profile;
        let mut sink = port.flow_tx(neighbour, packet.key.is_v4());
        let event = self.engine.accept(
            &mut conn.tcp,
            self.now,
            (local, remote),
            profile,
            packet.ip,
            &mut sink,
        );
        conn.note(event);
        Self::wake(&mut self.ready, id, conn);
    }

    /// Opens a connection from this gateway.
    fn connect(
        &mut self,
        peers: bool,
        remote: SocketAddr,
        leg: Leg,
    ) -> Result<FlowId, CloseReason> {
        for p in 0..self.ports.len() {
            let port = &mut self.ports[p];
            if !(if peers { port.side.is_peer() } else { port.side.is_service() }) {
                continue;
            }
            let (stack, mut tx) = port.split();
            let Some(source) = stack.source_for(remote.ip()) else { continue };
            let neighbour = match stack.resolve(self.now, remote.ip(), &mut tx, &mut self.counters)
            {
                Resolve::Ready(id) | Resolve::Pending(id) => id,
                Resolve::NoRoute | Resolve::TableFull => continue,
            };
            let profile = port.profile;
            let random = self.rng.next_u64();
            let Some(local_port) = self.ephemeral.pick(
                &self.steering,
                &self.flows,
                source.into(),
                (remote.ip().into(), remote.port()),
                random,
            ) else {
                return Err(CloseReason::NoSourcePort);
            };
            let local = SocketAddr::new(source, local_port);
            let is_tunnel = matches!(leg, Leg::Tunnel(_));
            let pool = if is_tunnel { &mut self.peer_conns } else { &mut self.service_conns };
            let mut tcp = pool.take();
            if !self.engine.connect(&mut tcp, self.now, local, remote, profile) {
                pool.put(tcp);
                return Err(CloseReason::NoRoute);
            }
            let conn = Conn {
                tcp,
                key: FlowKey::new(local, remote),
                port: p as u8,
                neighbour,
                leg,
                event: TcpEvent::None,
                timer: None,
                deadline: Some(self.now + crate::limits::CONNECT_TIMEOUT),
                ready: false,
                blocked: false,
                half_open: false,
                over: false,
                fin_seq: 0,
            };
            let Some(id) = self.insert(conn) else { return Err(CloseReason::Overload) };
            self.forwarded += usize::from(!is_tunnel);
            self.touch(id);
            return Ok(id);
        }
        Err(CloseReason::NoRoute)
    }

    fn insert(&mut self, conn: Conn) -> Option<FlowId> {
        let key = conn.key;
        let id = match self.conns.insert(conn) {
            Ok(id) => id,
            Err(conn) => {
                self.give_back(conn);
                return None;
            }
        };
        if self.flows.insert(key, id).is_ok() {
            self.time_wait.remove(&key);
            return Some(id);
        }
        if let Some(conn) = self.conns.remove(id) {
            self.give_back(conn);
        }
        None
    }

    fn give_back(&mut self, conn: Conn) {
        match conn.leg {
            Leg::Tunnel(_) => self.peer_conns.put(conn.tcp),
            Leg::Client(_) | Leg::Service(_) => self.service_conns.put(conn.tcp),
        }
    }

    fn path_mtu(&mut self, key: &FlowKey, mtu: usize) {
        let Some(conn) = self.flows.get(key).and_then(|id| self.conns.get_mut(id)) else { return };
        let old = conn.tcp.profile();
        if mtu < self.engine.mtu(old) {
            let checksum_offload = self.ports[usize::from(conn.port)].io.caps().tx_checksum;
            let profile = self.engine.profile(Profile { mtu, checksum_offload });
            conn.tcp.set_profile(profile);
        }
    }

    /// A hard error ends a connection that is not yet established; later it is ignored, as anyone
    /// could have sent it (RFC 5927, section 5.2).
    fn unreachable(&mut self, key: &FlowKey, hard: bool) {
        let Some(id) = self.flows.get(key) else { return };
        let Some(conn) = self.conns.get_mut(id) else { return };
        if hard && conn.tcp.state() == crate::tcp::TcpState::Opening && !conn.half_open {
            conn.tcp.abort();
            conn.note(TcpEvent::Reset);
            Self::wake(&mut self.ready, id, conn);
        }
    }

    // --- timers and neighbours --------------------------------------------------------------------

    fn expire_timers(&mut self) -> bool {
        let due = &mut self.due;
        self.wheel.advance(self.now, &mut |id| due.push(id));
        let any = !self.due.is_empty();
        while let Some(id) = self.due.pop() {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.timer = None;
                Self::wake(&mut self.ready, id, conn);
            }
        }
        any
    }

    fn watch_neighbours(&mut self) {
        for p in 0..self.ports.len() {
            let (stack, mut tx) = self.ports[p].split();
            if stack.next_deadline().is_some_and(|d| d <= self.now) {
                stack.poll(self.now, &mut tx, &mut self.neighbour_events);
            }
            while let Some(event) = self.neighbour_events.pop() {
                self.neighbour_event(p as u8, event);
            }
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
                if failed {
                    conn.tcp.abort();
                    conn.note(TcpEvent::TimedOut);
                }
                Self::wake(ready, *id, conn);
            }
            false
        });
    }

    // --- running connections ----------------------------------------------------------------------

    fn wake(ready: &mut VecDeque<FlowId>, id: FlowId, conn: &mut Conn) {
        if !conn.ready {
            conn.ready = true;
            ready.push_back(id);
        }
    }

    fn wake_id(&mut self, id: FlowId) {
        if let Some(conn) = self.conns.get_mut(id) {
            Self::wake(&mut self.ready, id, conn);
        }
    }

    /// Marks a connection for output at the end of this step.
    fn touch(&mut self, id: FlowId) {
        if !self.touched.contains(&id) && self.touched.try_push(id).is_err() {
            self.wake_id(id);
        }
    }

    fn run_ready(&mut self) -> bool {
        // Those that became ready meanwhile have their turn in the next iteration.
        let turns = self.ready.len();
        for _ in 0..turns {
            let Some(id) = self.ready.pop_front() else { break };
            self.run(id);
            self.flush_touched();
        }
        self.flush_touched();
        turns > 0
    }

    fn run(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.ready = false;
        let event = std::mem::replace(&mut conn.event, TcpEvent::None);
        let expired = conn.deadline.is_some_and(|d| d <= self.now);
        if expired {
            conn.deadline = None;
        }
        let handshake_done = match conn.leg {
            Leg::Tunnel(_) => matches!(conn.tunnel().map(|l| &l.phase), Some(Phase::Up(_))),
            Leg::Client(_) | Leg::Service(_) => event != TcpEvent::None,
        };
        if conn.half_open && (handshake_done || conn.over) {
            conn.half_open = false;
            self.half_open.close(conn.key.remote);
        }
        if conn.over {
            if expired {
                conn.tcp.abort();
            }
        } else {
            match conn.leg {
                Leg::Client(_) => self.run_client(id, event, expired),
                Leg::Service(_) => self.run_service(id, event, expired),
                Leg::Tunnel(_) => self.run_tunnel(id, event, expired),
            }
        }
        self.touch(id);
    }

    fn flush_touched(&mut self) {
        while let Some(id) = self.touched.pop() {
            self.output(id);
        }
    }

    /// Sends what the connection has to send, sets its timer, and takes it down once it is over.
    fn output(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let mut sink = self.ports[usize::from(conn.port)].flow_tx(conn.neighbour, conn.key.is_v4());
        if sink.l2.is_none() {
            if !self.resolve_again(id) {
                self.set_timer(id);
                return;
            }
            return self.wake_id(id);
        }
        // A connection that ends owes the last acknowledgement now, not after the delay.
        let at = if conn.over { self.now + crate::tcp::ACK_DELAY } else { self.now };
        let (event, more) = self.engine.output(&mut conn.tcp, at, OUTPUT_BURST, &mut sink);
        let port_full = !crate::tcp::SegmentSink::ready(&sink);
        if event != TcpEvent::None {
            conn.note(event);
            Self::wake(&mut self.ready, id, conn);
        }
        if more {
            if port_full {
                if !std::mem::replace(&mut conn.blocked, true) {
                    self.blocked.push(id);
                }
            } else {
                Self::wake(&mut self.ready, id, conn);
            }
        }
        if conn.over && conn.tcp.is_over() {
            return self.remove(id);
        }
        self.set_timer(id);
    }

    /// The next hop's address is not known, or not any more: entries that nothing was sent to for
    /// long are forgotten. `true` if it is known now; else the connection waits for it, or is gone.
    fn resolve_again(&mut self, id: FlowId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        if conn.over && !conn.tcp.may_send() {
            // Nobody can be told.
            self.remove(id);
            return false;
        }
        let (stack, mut tx) = self.ports[usize::from(conn.port)].split();
        let remote = conn.key.remote.into();
        match stack.resolve(self.now, remote, &mut tx, &mut self.counters) {
            Resolve::Ready(neighbour) => {
                conn.neighbour = neighbour;
                true
            }
            Resolve::Pending(neighbour) => {
                conn.neighbour = neighbour;
                let waiting = (conn.port, neighbour, id);
                if !self.unresolved.contains(&waiting) {
                    self.unresolved.push(waiting);
                }
                false
            }
            // TCP tries again until its own time is up.
            Resolve::NoRoute | Resolve::TableFull => false,
        }
    }

    fn set_timer(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let tcp = self.engine.deadline(&conn.tcp, self.now);
        let Some(at) = [tcp, conn.deadline].into_iter().flatten().min() else { return };
        // Lazy: an earlier entry fires first and finds the new deadline then.
        if conn.timer.is_none_or(|t| at < t) {
            conn.timer = Some(at);
            self.wheel.insert(at, id);
        }
    }

    fn transmit(&mut self) -> bool {
        let mut sent = 0;
        for port in &mut self.ports {
            sent += port.transmit(&mut self.counters);
        }
        if sent > 0 {
            while let Some(id) = self.blocked.pop() {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.blocked = false;
                    Self::wake(&mut self.ready, id, conn);
                }
            }
        }
        sent > 0
    }

    // --- ends of connections ----------------------------------------------------------------------

    /// The leg is done; the connection stays until TCP has said everything. `linger` bounds that
    /// for a connection whose other side may never close.
    fn finish(&mut self, id: FlowId, reason: CloseReason, linger: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.over {
            return;
        }
        conn.over = true;
        conn.deadline = linger.then(|| self.now + TCP_CLOSING_TIMEOUT);
        self.counters.close(reason);
        if !matches!(conn.leg, Leg::Tunnel(_)) {
            self.forwarded -= 1;
        }
        self.touch(id);
    }

    /// Ends a connection by RST.
    fn abort(&mut self, id: FlowId, reason: CloseReason) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.tcp.abort();
        }
        self.finish(id, reason, false);
    }

    fn remove(&mut self, id: FlowId) {
        let Some(conn) = self.conns.remove(id) else { return };
        self.flows.remove(&conn.key);
        if conn.half_open {
            self.half_open.close(conn.key.remote);
        }
        if conn.tcp.state() == crate::tcp::TcpState::Finished {
            self.time_wait.insert(conn.key, conn.fin_seq, self.now);
        }
        self.give_back(conn);
    }

    fn report(&mut self, event: Event) {
        if !self.events.push(event) {
            self.counters.events_lost += 1;
        }
    }

    fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }
}

impl Conn {
    /// Keeps what TCP reported; what ends the connection is not overwritten by what does not.
    fn note(&mut self, event: TcpEvent) {
        match (self.event, event) {
            (_, TcpEvent::None) => {}
            (TcpEvent::Reset | TcpEvent::TimedOut | TcpEvent::Fault, _) => {}
            _ => self.event = event,
        }
    }
}
