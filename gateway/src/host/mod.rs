//! A client or server: many TCP connections on one queue pair of any port. Its TCP is smoltcp,
//! used directly and not through [`crate::tcp`]: the gateway is tested against, and loaded by, a
//! stack that is not its own.
//!
//! Serves the simulation and the load generator.

mod app;
mod wire;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;
use ipnet::IpNet;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration as SmolDuration, Instant as SmolInstant};
use smoltcp::wire::{HardwareAddress, IpEndpoint};

pub use app::{App, SocketIo};

use self::wire::{Out, Wire};
use crate::flow::TimerWheel;
use crate::limits::OUTPUT_BURST;
use crate::net::{
    FlowKey, Ingress, NeighbourEvent, NeighbourId, PortStack, PortStackConfig, Resolve, Route,
    StackError,
};
use crate::port::{Frame, FrameIo, RxBurst};
use crate::telemetry::Counters;
use crate::time::Instant;

/// First source port. The last is 65535.
const FIRST_PORT: u16 = 10_000;
/// Of the seed, how far the source ports start behind the first.
const PORT_OFFSETS: u64 = 20_000;
/// Unacknowledged data for this long ends a connection.
const TIMEOUT: SmolDuration = SmolDuration::from_secs(300);

/// What a host is made from, besides its port.
#[derive(Clone, Debug)]
pub struct HostConfig {
    pub addresses: Vec<IpNet>,
    /// Through which router everything else is reached.
    pub routes: Vec<Route>,
    /// Bytes of each connection's receive buffer, and of its send buffer.
    pub buffer: usize,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error("no address or no route towards {0}")]
    NoRoute(SocketAddr),
    #[error("every source port towards {0} is in use; add addresses")]
    NoPort(SocketAddr),
}

/// A socket with its two buffers: used again, so that a connection does not pay for clearing them.
struct Socket {
    set: SocketSet<'static>,
    handle: SocketHandle,
}

impl Socket {
    fn new(buffer: usize) -> Self {
        // Not a power of two: see crate::tcp.
        let ring = || tcp::SocketBuffer::new(vec![0; buffer.next_power_of_two() - 1]);
        let mut socket = tcp::Socket::new(ring(), ring());
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(TIMEOUT));
        let mut set = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = set.add(socket);
        Self { set, handle }
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }
}

struct Conn {
    socket: Socket,
    key: FlowKey,
    neighbour: NeighbourId,
    app: Box<dyn App>,
    queued: bool,
    /// The timer in the wheel that counts; others of this connection are stale.
    timer: Option<Instant>,
}

/// Gives each accepted connection its app, by the address it comes from.
pub type Accept = Box<dyn FnMut(SocketAddr) -> Box<dyn App>>;

pub struct Host<P: FrameIo> {
    buffer: usize,
    stack: PortStack,
    iface: Interface,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    spare: Vec<Socket>,
    flows: HashMap<FlowKey, usize>,
    listeners: HashMap<u16, Accept>,
    next_port: u16,
    rx: RxBurst<P::Frame>,
    out: Out<P>,
    ready: VecDeque<usize>,
    wheel: TimerWheel<usize>,
    counters: Counters,
    events: Vec<NeighbourEvent>,
}

impl<P: FrameIo> std::fmt::Debug for Host<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("mac", &self.stack.mac())
            .field("connections", &self.flows.len())
            .finish_non_exhaustive()
    }
}

impl<P: FrameIo> Host<P> {
    /// A host on `io`. Equal seeds choose equal sequence numbers and source ports.
    ///
    /// # Errors
    /// Addresses and routes contradict each other.
    pub fn on_port(io: P, config: HostConfig, seed: u64) -> Result<Self, StackError> {
        let caps = io.caps();
        let stack = PortStack::new(PortStackConfig {
            mac: caps.mac,
            mtu: caps.mtu,
            rx_checksum: caps.rx_checksum,
            addresses: config.addresses,
            vips: Vec::new(),
            routes: config.routes,
        })?;
        let mut device = DeviceCapabilities::default();
        device.medium = Medium::Ip;
        device.max_transmission_unit = caps.mtu;
        // Received ones were verified by the port or by the stack in front.
        device.checksum = ChecksumCapabilities::ignored();
        if !caps.tx_checksum {
            device.checksum.ipv4 = Checksum::Tx;
            device.checksum.tcp = Checksum::Tx;
        }
        let mut config_of_iface = Config::new(HardwareAddress::Ip);
        config_of_iface.random_seed = seed;
        let mut out = Out::new(io);
        let mut wire = Wire { rx: None, out: &mut out, l2: None, caps: Some(device) };
        let mut iface = Interface::new(config_of_iface, &mut wire, SmolInstant::ZERO);
        iface.set_any_ip(true);
        Ok(Self {
            buffer: config.buffer,
            stack,
            iface,
            conns: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            flows: HashMap::new(),
            listeners: HashMap::new(),
            next_port: FIRST_PORT + (seed % PORT_OFFSETS) as u16,
            rx: RxBurst::new(),
            out,
            ready: VecDeque::new(),
            wheel: TimerWheel::new(Instant::ZERO),
            counters: Counters::default(),
            events: Vec::new(),
        })
    }

    /// Accepts connections on `port`; `accept` gives each one its app.
    pub fn listen(&mut self, port: u16, accept: Accept) {
        self.listeners.insert(port, accept);
    }

    pub fn stop_listening(&mut self, port: u16) {
        self.listeners.remove(&port);
    }

    /// Connects from the host's own address `from` (or the one that suits `to`). Returns the
    /// connection's number for [`Host::nudge`].
    ///
    /// # Errors
    /// Nothing leads to `to`, or all source ports are in use.
    pub fn connect(
        &mut self,
        now: Instant,
        from: Option<IpAddr>,
        to: SocketAddr,
        app: Box<dyn App>,
    ) -> Result<usize, ConnectError> {
        let no_route = ConnectError::NoRoute(to);
        let from = from.or_else(|| self.stack.source_for(to.ip())).ok_or(no_route)?;
        let local = self.source_port(from, to).ok_or(ConnectError::NoPort(to))?;
        let neighbour = match self.stack.resolve(now, to.ip(), &mut self.out, &mut self.counters) {
            Resolve::Ready(id) | Resolve::Pending(id) => id,
            Resolve::NoRoute | Resolve::TableFull => return Err(no_route),
        };
        let mut socket = self.socket();
        let connected = socket.tcp().connect(self.iface.context(), endpoint(to), endpoint(local));
        assert!(connected.is_ok(), "a closed socket and two full addresses: {connected:?}");
        Ok(self.insert(socket, FlowKey::new(local, to), neighbour, app))
    }

    fn source_port(&mut self, from: IpAddr, to: SocketAddr) -> Option<SocketAddr> {
        (FIRST_PORT..=u16::MAX).find_map(|_| {
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
            let local = SocketAddr::new(from, self.next_port);
            (!self.flows.contains_key(&FlowKey::new(local, to))).then_some(local)
        })
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.flows.len()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn io(&self) -> &P {
        &self.out.io
    }

    pub fn io_mut(&mut self) -> &mut P {
        &mut self.out.io
    }

    /// Gives the port back; all connections are forgotten without a further segment.
    pub fn into_io(self) -> P {
        self.out.io
    }

    fn socket(&mut self) -> Socket {
        let mut socket = self.spare.pop().unwrap_or_else(|| Socket::new(self.buffer));
        // Anew for each connection: it remembers the path of the last one.
        socket.tcp().set_congestion_control(tcp::CongestionControl::Cubic);
        socket
    }

    fn insert(
        &mut self,
        socket: Socket,
        key: FlowKey,
        neighbour: NeighbourId,
        app: Box<dyn App>,
    ) -> usize {
        let conn = Conn { socket, key, neighbour, app, queued: false, timer: None };
        let n = match self.free.pop() {
            Some(n) => {
                self.conns[n] = Some(conn);
                n
            }
            None => {
                self.conns.push(Some(conn));
                self.conns.len() - 1
            }
        };
        self.flows.insert(key, n);
        self.nudge(n);
        n
    }

    /// Runs the app of a connection at the next [`Host::poll`]: for apps whose orders come from
    /// outside.
    pub fn nudge(&mut self, connection: usize) {
        if let Some(Some(conn)) = self.conns.get_mut(connection) {
            wake(&mut self.ready, connection, conn);
        }
    }

    /// [`Host::nudge`] for every connection.
    pub fn nudge_all(&mut self) {
        for n in 0..self.conns.len() {
            self.nudge(n);
        }
    }

    /// Everything that is due at `now`; returns when something is due next.
    pub fn poll(&mut self, now: Instant) -> Option<Instant> {
        let mut burst = std::mem::take(&mut self.rx);
        let received = self.out.io.rx_burst(&mut burst);
        let more = burst.is_full();
        self.counters.rx_frames += received as u64;
        for frame in burst.drain(..) {
            self.counters.rx_bytes += frame.data().len() as u64;
            self.frame(now, &frame);
        }
        self.rx = burst;
        if self.stack.next_deadline().is_some_and(|d| d <= now) {
            self.stack.poll(now, &mut self.out, &mut self.events);
        }
        if !self.events.is_empty() {
            // Rare: which connections wait for which neighbour is not worth remembering.
            self.events.clear();
            self.nudge_all();
        }
        let (wheel, conns, ready) = (&mut self.wheel, &mut self.conns, &mut self.ready);
        wheel.advance(now, &mut |n| {
            if let Some(Some(conn)) = conns.get_mut(n)
                && conn.timer.is_none_or(|at| at <= now)
            {
                conn.timer = None;
                wake(ready, n, conn);
            }
        });
        for _ in 0..self.ready.len() {
            if self.out.has_burst() {
                self.out.transmit(&mut self.counters);
                if self.out.is_full() {
                    break;
                }
            }
            let Some(n) = self.ready.pop_front() else { break };
            self.run(now, n);
        }
        self.out.transmit(&mut self.counters);
        if more || !self.ready.is_empty() || !self.out.is_empty() {
            return Some(now);
        }
        [self.wheel.next_deadline(now), self.stack.next_deadline()].into_iter().flatten().min()
    }

    fn frame(&mut self, now: Instant, frame: &P::Frame) {
        let (out, counters) = (&mut self.out, &mut self.counters);
        let ingress = self.stack.ingress(now, frame.data(), frame.rx_meta(), out, counters);
        let packet = match ingress {
            Ingress::Tcp(packet) => packet,
            Ingress::Neighbour { ip, mac } => {
                return self.stack.learn(now, ip, mac, &mut self.events);
            }
            _ => return,
        };
        let n = match self.flows.get(&packet.key) {
            Some(n) => *n,
            None => {
                let local = packet.key.local_addr();
                let Some(accept) =
                    self.listeners.get_mut(&local.port()).filter(|_| packet.is_syn())
                else {
                    return self.stack.reset(now, &packet, out, counters);
                };
                let app = accept(packet.key.remote_addr());
                self.stack.observe(now, packet.key.remote.into(), packet.src_mac);
                let remote = packet.key.remote.into();
                let (Resolve::Ready(neighbour) | Resolve::Pending(neighbour)) =
                    self.stack.resolve(now, remote, out, counters)
                else {
                    return;
                };
                let mut socket = self.socket();
                let listening = socket.tcp().listen(endpoint(local));
                assert!(listening.is_ok(), "a closed socket and a port: {listening:?}");
                self.insert(socket, packet.key, neighbour, app)
            }
        };
        let Some(Some(conn)) = self.conns.get_mut(n) else { return };
        let l2 = self.stack.l2_header(conn.neighbour, !conn.key.is_v4());
        let mut device = Wire { rx: Some(packet.ip), out: &mut self.out, l2, caps: None };
        self.iface.poll_ingress_single(time(now), &mut device, &mut conn.socket.set);
        wake(&mut self.ready, n, conn);
    }

    fn run(&mut self, now: Instant, n: usize) {
        let Some(Some(conn)) = self.conns.get_mut(n) else { return };
        conn.queued = false;
        conn.app.poll(&mut SocketIo { now, socket: conn.socket.tcp() });
        let l2 = self.stack.l2_header(conn.neighbour, !conn.key.is_v4());
        if l2.is_none() {
            return;
        }
        let mut device = Wire { rx: None, out: &mut self.out, l2, caps: None };
        let mut more = true;
        for _ in 0..OUTPUT_BURST {
            let set = &mut conn.socket.set;
            if self.iface.poll_egress(time(now), &mut device, set) == PollResult::None {
                more = false;
                break;
            }
        }
        let socket = conn.socket.tcp();
        let over = match socket.state() {
            tcp::State::Closed => socket.remote_endpoint().is_none(),
            tcp::State::TimeWait => true,
            _ => false,
        };
        if over {
            // Once more, so that the app sees the end.
            conn.app.poll(&mut SocketIo { now, socket });
            // Closed without a further segment: the next user connects or listens, not sends.
            socket.abort();
            self.flows.remove(&conn.key);
            if let Some(conn) = self.conns[n].take() {
                self.spare.push(conn.socket);
            }
            self.free.push(n);
        } else if more {
            wake(&mut self.ready, n, conn);
        } else if let Some(at) = self.iface.poll_at(time(now), &conn.socket.set) {
            let at = Instant::from_nanos(at.total_micros().max(0) as u64 * 1_000);
            // One timer each: a later deadline waits for the earlier one to fire.
            if conn.timer.is_none_or(|t| at < t) {
                conn.timer = Some(at);
                self.wheel.insert(at, n);
            }
        }
    }
}

fn wake(ready: &mut VecDeque<usize>, n: usize, conn: &mut Conn) {
    if !conn.queued {
        conn.queued = true;
        ready.push_back(n);
    }
}

fn endpoint(a: SocketAddr) -> IpEndpoint {
    IpEndpoint::new(a.ip().into(), a.port())
}

fn time(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(now.as_micros() as i64)
}
