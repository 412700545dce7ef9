//! A client or server in a simulation. Its TCP is smoltcp, used directly and not through
//! [`crate::tcp`]: the gateway is tested against a stack that is not its own.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration as SmolDuration, Instant as SmolInstant};
use smoltcp::wire::{HardwareAddress, IpEndpoint};

use super::SIM_RING;
use crate::flow::TimerWheel;
use crate::limits::{ETHERNET_HEADER, RX_BURST};
use crate::net::{
    FlowKey, Ingress, MacAddr, NeighbourEvent, NeighbourId, PortStack, PortStackConfig, Resolve,
    Route, TxSink,
};
use crate::port::sim::{SimFrame, SimPool};
use crate::port::{Frame, RxChecksum, RxMeta, TxMeta};
use crate::telemetry::Counters;
use crate::time::Instant;

/// What a host is made from.
#[derive(Clone, Debug)]
pub struct HostSetup {
    pub mac: MacAddr,
    pub mtu: usize,
    pub addresses: Vec<IpNet>,
    /// Through which router everything else is reached.
    pub routes: Vec<Route>,
    /// Bytes of each receive and send buffer.
    pub buffer: usize,
    /// Frames of the pool.
    pub frames: usize,
    pub checksum_offload: bool,
}

/// What a connection of a host does. Called whenever something may have changed.
pub trait App {
    fn poll(&mut self, io: &mut SocketIo<'_>);
}

/// A connection as its [`App`] sees it.
#[derive(Debug)]
pub struct SocketIo<'a> {
    pub now: Instant,
    socket: &'a mut tcp::Socket<'static>,
}

impl SocketIo<'_> {
    pub fn is_established(&self) -> bool {
        self.socket.may_send() || self.socket.may_recv()
    }

    /// Nothing more will come and nothing can be sent: reset, refused or finished.
    pub fn is_closed(&self) -> bool {
        !self.socket.is_open()
    }

    pub fn may_send(&self) -> bool {
        self.socket.may_send()
    }

    /// The other side has ended its direction and everything was read.
    pub fn recv_finished(&self) -> bool {
        !self.socket.can_recv()
            && matches!(
                self.socket.state(),
                tcp::State::CloseWait
                    | tcp::State::LastAck
                    | tcp::State::Closing
                    | tcp::State::TimeWait
            )
    }

    /// Lends received bytes; `f` says how many it takes.
    pub fn recv(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> usize {
        self.socket
            .recv(|bytes| {
                let n = f(bytes);
                (n, n)
            })
            .unwrap_or(0)
    }

    /// Lends room to send; `f` says how many bytes it wrote.
    pub fn send(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> usize {
        self.socket
            .send(|room| {
                let n = f(room);
                (n, n)
            })
            .unwrap_or(0)
    }

    /// Bytes that can be sent now, however many runs of [`SocketIo::send`] it takes.
    pub fn send_room(&self) -> usize {
        if !self.socket.may_send() {
            return 0;
        }
        self.socket.send_capacity() - self.socket.send_queue()
    }

    /// Ends this side's direction.
    pub fn close(&mut self) {
        self.socket.close();
    }

    /// Resets the connection.
    pub fn abort(&mut self) {
        self.socket.abort();
    }
}

struct Conn {
    set: SocketSet<'static>,
    handle: SocketHandle,
    key: FlowKey,
    neighbour: NeighbourId,
    app: Box<dyn App>,
    queued: bool,
}

type Accept = Box<dyn FnMut(SocketAddr) -> Box<dyn App>>;

pub struct Host {
    setup: HostSetup,
    stack: PortStack,
    iface: Interface,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    flows: HashMap<FlowKey, usize>,
    listeners: HashMap<u16, Accept>,
    next_port: u16,
    rx: VecDeque<SimFrame>,
    out: Out,
    ready: VecDeque<usize>,
    wheel: TimerWheel<usize>,
    counters: Counters,
    events: Vec<NeighbourEvent>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("setup", &self.setup).finish_non_exhaustive()
    }
}

/// Frames on their way out.
struct Out {
    pool: SimPool,
    queue: VecDeque<SimFrame>,
}

impl TxSink for Out {
    fn send(&mut self, len: usize, _: TxMeta, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        let Some(mut frame) = self.pool.alloc() else { return false };
        frame.set_len(len);
        fill(frame.data_mut());
        self.queue.push_back(frame);
        true
    }
}

impl Host {
    /// # Panics
    /// If the setup contradicts itself: it is written by hand.
    pub fn new(setup: HostSetup, seed: u64) -> Self {
        let config = PortStackConfig {
            mac: setup.mac,
            mtu: setup.mtu,
            rx_checksum: setup.checksum_offload,
            addresses: setup.addresses.clone(),
            vips: Vec::new(),
            routes: setup.routes.clone(),
        };
        let stack = match PortStack::new(config) {
            Ok(stack) => stack,
            Err(e) => panic!("host: {e}"),
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = setup.mtu;
        caps.checksum = ChecksumCapabilities::ignored();
        if !setup.checksum_offload {
            caps.checksum.ipv4 = Checksum::Tx;
            caps.checksum.tcp = Checksum::Tx;
        }
        let pool = SimPool::new(setup.frames, setup.mtu);
        let mut out = Out { pool, queue: VecDeque::new() };
        let mut device = Wire { rx: None, out: &mut out, l2: None, caps: Some(caps) };
        let mut iface = Interface::new(config, &mut device, SmolInstant::ZERO);
        iface.set_any_ip(true);
        Self {
            next_port: 10_000 + (seed % 20_000) as u16,
            setup,
            stack,
            iface,
            conns: Vec::new(),
            free: Vec::new(),
            flows: HashMap::new(),
            listeners: HashMap::new(),
            rx: VecDeque::new(),
            out,
            ready: VecDeque::new(),
            wheel: TimerWheel::new(Instant::ZERO),
            counters: Counters::default(),
            events: Vec::new(),
        }
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
    /// # Panics
    /// If there is no route: a simulation is written by hand.
    pub fn connect(
        &mut self,
        now: Instant,
        from: Option<IpAddr>,
        to: SocketAddr,
        app: Box<dyn App>,
    ) -> usize {
        let from = from.or_else(|| self.stack.source_for(to.ip()));
        let Some(from) = from else { panic!("no address towards {to}") };
        self.next_port = self.next_port.checked_add(1).unwrap_or(10_000);
        let local = SocketAddr::new(from, self.next_port);
        let neighbour = match self.stack.resolve(now, to.ip(), &mut self.out, &mut self.counters) {
            Resolve::Ready(id) | Resolve::Pending(id) => id,
            Resolve::NoRoute | Resolve::TableFull => panic!("no route to {to}"),
        };
        let (mut set, handle) = self.socket();
        let socket = set.get_mut::<tcp::Socket<'static>>(handle);
        let connected = socket.connect(self.iface.context(), endpoint(to), endpoint(local));
        assert!(connected.is_ok(), "{connected:?}");
        self.insert(Conn {
            set,
            handle,
            key: FlowKey::new(local, to),
            neighbour,
            app,
            queued: false,
        })
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.flows.len()
    }

    pub fn pool(&self) -> &SimPool {
        &self.out.pool
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn socket(&self) -> (SocketSet<'static>, SocketHandle) {
        // Not a power of two: see crate::tcp.
        let buffer = || tcp::SocketBuffer::new(vec![0; self.setup.buffer.next_power_of_two() - 1]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        socket.set_timeout(Some(SmolDuration::from_secs(300)));
        let mut set = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = set.add(socket);
        (set, handle)
    }

    fn insert(&mut self, conn: Conn) -> usize {
        let key = conn.key;
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
        self.wake(n);
        n
    }

    fn wake(&mut self, n: usize) {
        if let Some(Some(conn)) = self.conns.get_mut(n)
            && !conn.queued
        {
            conn.queued = true;
            self.ready.push_back(n);
        }
    }

    /// Puts a frame that arrived into the receive ring; it is lost if that is full.
    pub fn deliver(&mut self, frame: SimFrame) {
        if self.rx.len() < SIM_RING {
            self.rx.push_back(frame);
        }
    }

    /// Takes the oldest sent frame off the wire.
    pub fn collect(&mut self) -> Option<SimFrame> {
        self.out.queue.pop_front()
    }

    /// Everything that is due at `now`; returns when something is due next.
    pub fn poll(&mut self, now: Instant) -> Option<Instant> {
        for _ in 0..RX_BURST {
            let Some(frame) = self.rx.pop_front() else { break };
            self.frame(now, &frame);
        }
        if self.stack.next_deadline().is_some_and(|d| d <= now) {
            self.stack.poll(now, &mut self.out, &mut self.events);
        }
        if !self.events.is_empty() {
            self.events.clear();
            // Few enough connections to look at all of them.
            for n in 0..self.conns.len() {
                self.wake(n);
            }
        }
        let (wheel, conns, ready) = (&mut self.wheel, &mut self.conns, &mut self.ready);
        wheel.advance(now, &mut |n| {
            if let Some(Some(conn)) = conns.get_mut(n)
                && !conn.queued
            {
                conn.queued = true;
                ready.push_back(n);
            }
        });
        for _ in 0..self.ready.len() {
            let Some(n) = self.ready.pop_front() else { break };
            self.run(now, n);
        }
        if self.rx.is_empty() && self.ready.is_empty() {
            [self.wheel.next_deadline(now), self.stack.next_deadline()].into_iter().flatten().min()
        } else {
            Some(now)
        }
    }

    fn frame(&mut self, now: Instant, frame: &SimFrame) {
        let meta = match self.setup.checksum_offload {
            true => RxMeta { ip: RxChecksum::Good, l4: RxChecksum::Good, rss_hash: None },
            false => RxMeta::default(),
        };
        let ingress =
            self.stack.ingress(now, frame.data(), meta, &mut self.out, &mut self.counters);
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
                    return self.stack.reset(now, &packet, &mut self.out, &mut self.counters);
                };
                let app = accept(packet.key.remote_addr());
                self.stack.observe(now, packet.key.remote.into(), packet.src_mac);
                let remote = packet.key.remote.into();
                let (Resolve::Ready(neighbour) | Resolve::Pending(neighbour)) =
                    self.stack.resolve(now, remote, &mut self.out, &mut self.counters)
                else {
                    return;
                };
                let (mut set, handle) = self.socket();
                let listening = set.get_mut::<tcp::Socket<'static>>(handle).listen(endpoint(local));
                assert!(listening.is_ok(), "{listening:?}");
                self.insert(Conn { set, handle, key: packet.key, neighbour, app, queued: false })
            }
        };
        let Some(Some(conn)) = self.conns.get_mut(n) else { return };
        let l2 = self.stack.l2_header(conn.neighbour, !conn.key.is_v4());
        let mut device = Wire { rx: Some(packet.ip), out: &mut self.out, l2, caps: None };
        self.iface.poll_ingress_single(time(now), &mut device, &mut conn.set);
        self.wake(n);
    }

    fn run(&mut self, now: Instant, n: usize) {
        let Some(Some(conn)) = self.conns.get_mut(n) else { return };
        conn.queued = false;
        let socket = conn.set.get_mut::<tcp::Socket<'static>>(conn.handle);
        conn.app.poll(&mut SocketIo { now, socket });
        let l2 = self.stack.l2_header(conn.neighbour, !conn.key.is_v4());
        if l2.is_none() {
            return;
        }
        let mut device = Wire { rx: None, out: &mut self.out, l2, caps: None };
        let mut more = true;
        for _ in 0..64 {
            if self.iface.poll_egress(time(now), &mut device, &mut conn.set) == PollResult::None {
                more = false;
                break;
            }
        }
        let socket = conn.set.get_mut::<tcp::Socket<'static>>(conn.handle);
        let over = match socket.state() {
            tcp::State::Closed => socket.remote_endpoint().is_none(),
            tcp::State::TimeWait => true,
            _ => false,
        };
        if over {
            // Once more, so that the app sees the end.
            conn.app.poll(&mut SocketIo { now, socket });
            self.flows.remove(&conn.key);
            self.conns[n] = None;
            self.free.push(n);
        } else if more {
            self.wake(n);
        } else if let Some(at) = self.iface.poll_at(time(now), &conn.set) {
            let at = Instant::from_nanos(at.total_micros().max(0) as u64 * 1_000);
            self.wheel.insert(at, n);
        }
    }

    /// Runs the app of a connection at the next [`Host::poll`]: for apps whose orders come from
    /// outside.
    pub fn nudge(&mut self, connection: usize) {
        self.wake(connection);
    }
}

fn endpoint(a: SocketAddr) -> IpEndpoint {
    IpEndpoint::new(a.ip().into(), a.port())
}

fn time(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(now.as_micros() as i64)
}

struct Wire<'a> {
    rx: Option<&'a [u8]>,
    out: &'a mut Out,
    l2: Option<[u8; ETHERNET_HEADER]>,
    caps: Option<DeviceCapabilities>,
}

struct Rx<'a>(&'a [u8]);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

struct Tx<'a> {
    out: &'a mut Out,
    l2: Option<[u8; ETHERNET_HEADER]>,
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame = self.l2.and_then(|l2| Some((self.out.pool.alloc()?, l2)));
        let Some((mut frame, l2)) = frame else {
            return f(&mut vec![0; len]);
        };
        frame.set_len(ETHERNET_HEADER + len);
        let data = frame.data_mut();
        data[..ETHERNET_HEADER].copy_from_slice(&l2);
        let result = f(&mut data[ETHERNET_HEADER..]);
        self.out.queue.push_back(frame);
        result
    }
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = Rx<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Tx<'t>
    where
        Self: 't;

    fn receive(&mut self, _: SmolInstant) -> Option<(Rx<'_>, Tx<'_>)> {
        let packet = self.rx.take()?;
        Some((Rx(packet), Tx { out: self.out, l2: self.l2 }))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Tx<'_>> {
        (self.out.pool.available() > 0).then_some(Tx { out: self.out, l2: self.l2 })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.caps.clone().unwrap_or_default()
    }
}
