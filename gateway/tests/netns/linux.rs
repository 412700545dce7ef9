//! The engine against the kernel's TCP: many connections at once over bad wires, both directions,
//! with applications of habits on either side. The engine runs in a process of its own on an
//! af_packet port; the wires between are in that process, one a connection and direction.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant as Clock;

use arrayvec::ArrayVec;
use clgw::config::Congestion;
use clgw::tcp::{
    BufferSide, IsnSecret, Profile, SegmentSink, TcpConn, TcpEngine, TcpEvent, TcpSettings,
    TcpState,
};
use clgw::time::{Duration, Instant};
use dpdk_bindings::{
    BURST_MAX, Device, Eal, EalConfig, HugePages, LogLevel, Mbuf, MbufPool, PoolConfig, PortConfig,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::lab::{Lab, Place};
use crate::pattern::{CHUNK, Pattern};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ENGINE: [&str; 2] = ["10.1.0.9", "fd00:1::9"];
const KERNEL: [&str; 2] = ["10.1.0.2", "fd00:1::2"];
/// Where the kernel listens, and the engine's port of connection 0.
const LISTENS: u16 = 9_000;
const FIRST_PORT: u16 = 20_000;
/// Connections at once.
const CONNECTIONS: u16 = 24;
const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);

// --- The plan -----------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Both,
    /// The kernel's side goes away with bytes unread.
    KernelDrops,
    EngineAborts,
}

/// What becomes of a connection; both processes make the same.
#[derive(Clone, Debug)]
struct Plan {
    engine: SocketAddr,
    kernel: SocketAddr,
    /// The engine calls; else the kernel does.
    active: bool,
    /// Bytes from the engine, and to it.
    up: u64,
    down: u64,
    end: End,
    /// The engine closes its direction only when it has everything.
    closes_late: bool,
    ring: usize,
    congestion: Congestion,
    /// Probabilities, and how long frames are under way.
    loss: f64,
    duplicate: f64,
    corrupt: f64,
    late: f64,
    delay: Duration,
    late_by: Duration,
    /// The engine's path becomes narrower on the way.
    narrows: bool,
    /// How often an application takes a rest.
    lazy: f64,
    seed: u64,
}

impl Plan {
    /// The engine's end, not opened.
    fn conn(&self) -> TcpConn {
        TcpConn::new(TcpSettings {
            receive: self.ring,
            send: self.ring,
            side: BufferSide::Service,
            congestion: self.congestion,
        })
    }

    fn of(seed: u64, n: u16, most: u64) -> Self {
        let seed = seed.wrapping_mul(1_000_003) + u64::from(n);
        let mut random = StdRng::seed_from_u64(seed);
        let family = usize::from(n % 3 == 2);
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let (engine, kernel) = (address(ENGINE[family]), address(KERNEL[family]));
        let mut bytes = || match random.random_range(0..8) {
            0 => 0,
            1 => random.random_range(1..2_000),
            _ => random.random_range(0..=most),
        };
        let (up, down) = (bytes(), bytes());
        let bad = random.random_range(0.0..0.02);
        let end = match n % 12 {
            5 => End::KernelDrops,
            10 => End::EngineAborts,
            _ => End::Both,
        };
        Self {
            engine: SocketAddr::new(engine, FIRST_PORT + n),
            kernel: SocketAddr::new(kernel, LISTENS),
            active: n.is_multiple_of(2),
            up,
            down,
            end,
            closes_late: random.random_bool(0.3),
            ring: [32_768, 65_536, 262_144, 1 << 20][random.random_range(0..4)],
            congestion: match random.random_bool(0.5) {
                true => Congestion::Bbr,
                false => Congestion::Cubic,
            },
            loss: random.random_range(0.0..=bad),
            duplicate: random.random_range(0.0..=bad),
            corrupt: random.random_range(0.0..=bad),
            late: random.random_range(0.0..0.05),
            delay: Duration::from_micros(random.random_range(0..3_000)),
            late_by: Duration::from_micros(random.random_range(0..6_000)),
            narrows: random.random_bool(0.2),
            lazy: random.random_range(0.0..0.02),
            seed,
        }
    }

    /// What one of the sides sends.
    fn stream(&self, engine: bool) -> Stream {
        let bytes = if engine { self.up } else { self.down };
        Stream::new(self.seed * 2 + u64::from(engine), bytes)
    }
}

/// Bytes to be sent or expected.
struct Stream {
    pattern: Pattern,
    chunk: Vec<u8>,
    at: usize,
    left: u64,
}

impl Stream {
    fn new(seed: u64, left: u64) -> Self {
        Self { pattern: Pattern::new(seed), chunk: vec![0; CHUNK], at: CHUNK, left }
    }

    fn next(&mut self) -> &[u8] {
        if self.at == CHUNK {
            self.pattern.fill(&mut self.chunk);
            self.at = 0;
        }
        let n = (CHUNK - self.at).min(self.left as usize);
        &self.chunk[self.at..self.at + n]
    }

    fn used(&mut self, n: usize) {
        self.at += n;
        self.left -= n as u64;
    }

    /// Whether these are the next ones.
    fn expects(&mut self, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            let next = self.next();
            let n = next.len().min(data.len());
            if n == 0 || next[..n] != data[..n] {
                return false;
            }
            self.used(n);
            data = &data[n..];
        }
        true
    }
}

fn rest(random: &mut StdRng, lazy: f64) -> Duration {
    if random.random_bool(lazy) { MS * random.random_range(0..300) } else { Duration::ZERO }
}

// --- The kernel's side --------------------------------------------------------------------------

/// `linux SIDE SEED BYTES ...`, as a role of [`crate::endpoint`].
pub fn act(words: &[&str]) -> io::Result<()> {
    let number = |at: usize| -> u64 { words[at].parse().expect("a number") };
    let (seed, most) = (number(2), number(3));
    match words[1] {
        "kernel" => kernel(seed, most),
        _ => engine(seed, most, words[4]),
    }
}

fn kernel(seed: u64, most: u64) -> io::Result<()> {
    let listener = TcpListener::bind(("::", LISTENS))?;
    eprintln!("listening");
    let plans: Vec<Plan> = (0..CONNECTIONS).map(|n| Plan::of(seed, n, most)).collect();
    let mut threads = Vec::new();
    for plan in plans.iter().filter(|plan| !plan.active).cloned() {
        threads.push(thread::spawn(move || {
            let stream = TcpStream::connect_timeout(&plan.engine, PATIENCE)?;
            converse(&stream, &plan)
        }));
    }
    for _ in plans.iter().filter(|plan| plan.active) {
        let (stream, from) = listener.accept()?;
        let plan = plans[usize::from(from.port() - FIRST_PORT)].clone();
        threads.push(thread::spawn(move || converse(&stream, &plan)));
    }
    for thread in threads {
        thread.join().expect("no panic")?;
    }
    eprintln!("all whole");
    Ok(())
}

fn converse(stream: &TcpStream, plan: &Plan) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let outcome = thread::scope(|scope| {
        let writer = scope.spawn(|| write(stream, plan));
        let read = read(stream, plan);
        let wrote = writer.join().expect("no panic");
        read.and(wrote)
    });
    match outcome {
        Err(error) if plan.end == End::Both => Err(io::Error::other(format!("{plan:?}: {error}"))),
        // Nothing wrong has arrived, at least.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(error),
        _ => Ok(()),
    }
}

fn write(mut stream: &TcpStream, plan: &Plan) -> io::Result<()> {
    let mut random = StdRng::seed_from_u64(plan.seed ^ 1);
    let mut ours = plan.stream(false);
    while ours.left > 0 {
        let next = ours.next();
        let n = next.len().min(random.random_range(1..30_000));
        let n = stream.write(&next[..n])?;
        ours.used(n);
        thread::sleep(rest(&mut random, plan.lazy));
    }
    if plan.end == End::Both {
        stream.shutdown(Shutdown::Write)?;
    }
    Ok(())
}

fn read(mut stream: &TcpStream, plan: &Plan) -> io::Result<()> {
    let mut random = StdRng::seed_from_u64(plan.seed ^ 2);
    let mut theirs = plan.stream(true);
    let mut buffer = vec![0; 40_000];
    loop {
        let most = random.random_range(1..buffer.len());
        let n = stream.read(&mut buffer[..most])?;
        if n == 0 {
            break;
        }
        if !theirs.expects(&buffer[..n]) {
            let text = format!("wrong bytes {} from the end: {plan:?}", theirs.left);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if plan.end == End::KernelDrops && theirs.left < plan.up / 2 {
            // Closed with bytes unread it is reset; the writer notices.
            return stream.shutdown(Shutdown::Both);
        }
        thread::sleep(rest(&mut random, plan.lazy));
    }
    if theirs.left > 0 && plan.end == End::Both {
        return Err(io::Error::other(format!("{} bytes are missing", theirs.left)));
    }
    Ok(())
}

// --- The wire -----------------------------------------------------------------------------------

/// One direction of one connection.
struct Wire {
    random: StdRng,
    under_way: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    number: u64,
}

impl Wire {
    fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { random, under_way: BinaryHeap::new(), number: 0 }
    }

    /// Takes an IP packet whose TCP header begins at `tcp`.
    fn enter(&mut self, now: Instant, plan: &Plan, mut packet: Vec<u8>, tcp: usize) {
        // Nobody here answers what belongs to no connection, so resets arrive.
        let reset = packet[tcp + 13] & 4 != 0;
        if !reset && self.random.random_bool(plan.loss) {
            return;
        }
        if !reset && self.random.random_bool(plan.corrupt) {
            let at = self.random.random_range(tcp..packet.len());
            packet[at] ^= 1 << self.random.random_range(0..8);
        }
        let copies = 1 + usize::from(self.random.random_bool(plan.duplicate));
        for _ in 0..copies {
            let mut at = now + plan.delay;
            if self.random.random_bool(plan.late) {
                at += plan.late_by;
            }
            self.number += 1;
            self.under_way.push(Reverse((at, self.number, packet.clone())));
        }
    }

    fn leave(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.under_way.peek()?.0.0 > now {
            return None;
        }
        self.under_way.pop().map(|Reverse((_, _, packet))| packet)
    }
}

/// Where TCP begins in an IP packet, if there is TCP.
fn tcp_at(packet: &[u8]) -> Option<usize> {
    let (at, protocol) = match packet.first()? >> 4 {
        4 => (usize::from(packet[0] & 15) * 4, *packet.get(9)?),
        6 => (40, *packet.get(6)?),
        _ => return None,
    };
    (protocol == 6 && packet.len() >= at + 20).then_some(at)
}

/// Whether TCP's checksum is right.
fn verify(packet: &[u8], tcp: usize) -> bool {
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    let words = |bytes: &[u8]| -> u64 {
        let word = |w: &[u8]| u64::from(w[0]) << 8 | w.get(1).map_or(0, |b| u64::from(*b));
        bytes.chunks(2).map(word).sum()
    };
    let mut sum = words(addresses) + 6 + (packet.len() - tcp) as u64 + words(&packet[tcp..]);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum == 0xffff
}

// --- The engine's side --------------------------------------------------------------------------

#[derive(Default)]
struct Sink(Vec<Vec<u8>>);

impl SegmentSink for Sink {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn segment<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut packet = vec![0; len];
        let result = fill(&mut packet);
        self.0.push(packet);
        result
    }
}

struct Connection {
    plan: Plan,
    conn: TcpConn,
    random: StdRng,
    to_engine: Wire,
    to_kernel: Wire,
    ours: Stream,
    theirs: Stream,
    /// The application does nothing before.
    reads_at: Instant,
    writes_at: Instant,
    over: bool,
    error: Option<String>,
}

impl Connection {
    fn new(engine: &mut TcpEngine, plan: Plan, now: Instant) -> Self {
        let mut conn = plan.conn();
        if plan.active {
            let id = engine.profile(Profile { mtu: 1_500, checksum_offload: false });
            assert!(engine.connect(&mut conn, now, plan.engine, plan.kernel, id));
        }
        Self {
            conn,
            random: StdRng::seed_from_u64(plan.seed ^ 3),
            to_engine: Wire::new(plan.seed ^ 4),
            to_kernel: Wire::new(plan.seed ^ 5),
            ours: plan.stream(true),
            theirs: plan.stream(false),
            reads_at: now,
            writes_at: now,
            over: false,
            error: None,
            plan,
        }
    }

    fn input(&mut self, engine: &mut TcpEngine, now: Instant) -> bool {
        let mut busy = false;
        while let Some(packet) = self.to_engine.leave(now) {
            busy = true;
            let Some(at) = tcp_at(&packet).filter(|at| verify(&packet, *at)) else { continue };
            let tcp = &packet[at..];
            if self.over && self.conn.state() == TcpState::Closed {
                self.refuse(engine, now, tcp);
                continue;
            }
            let event = if self.conn.state() == TcpState::Closed {
                if tcp[13] & 0x16 != 2 {
                    continue;
                }
                let mut remote = self.plan.kernel;
                remote.set_port(u16::from_be_bytes([tcp[0], tcp[1]]));
                let id = engine.profile(Profile { mtu: 1_500, checksum_offload: false });
                let ends = (self.plan.engine, remote);
                assert!(engine.accept(&mut self.conn, now, ends, id, tcp));
                TcpEvent::None
            } else {
                engine.input(&mut self.conn, now, tcp, false, |_, _| 0)
            };
            self.happened(event);
        }
        busy
    }

    /// As the gateway does with what belongs to no connection: a call that is answered with a number
    /// it did not send resets it. A call of its own: what the connection received may not be read yet.
    fn refuse(&mut self, engine: &mut TcpEngine, now: Instant, tcp: &[u8]) {
        if tcp[13] & 0x14 != 0x10 {
            return;
        }
        let mut remote = self.plan.kernel;
        remote.set_port(u16::from_be_bytes([tcp[0], tcp[1]]));
        let id = engine.profile(Profile { mtu: 1_500, checksum_offload: false });
        let (mut conn, mut sink) = (self.plan.conn(), Sink::default());
        assert!(engine.connect(&mut conn, now, self.plan.engine, remote, id));
        engine.input(&mut conn, now, tcp, false, |_, _| 0);
        engine.output(&mut conn, now, 1, &mut sink);
        engine.release(conn);
        for packet in sink.0 {
            let at = tcp_at(&packet).expect("TCP");
            self.to_kernel.enter(now, &self.plan, packet, at);
        }
    }

    fn happened(&mut self, event: TcpEvent) {
        match event {
            TcpEvent::None | TcpEvent::Established => {}
            TcpEvent::Finished => self.over = true,
            TcpEvent::Reset | TcpEvent::TimedOut => {
                self.over = true;
                if self.plan.end == End::Both {
                    self.error = Some(format!("{event:?}"));
                }
            }
        }
    }

    fn application(&mut self, engine: &mut TcpEngine, now: Instant) {
        if now >= self.reads_at && self.conn.recv_len() > 0 {
            let most = self.random.random_range(1..40_000);
            let theirs = &mut self.theirs;
            let right = self.conn.recv(|run| {
                let n = run.len().min(most);
                (n, theirs.expects(&run[..n]))
            });
            if !right {
                self.error = Some(format!("wrong bytes, {} from the end", self.theirs.left));
            }
            self.reads_at = now + rest(&mut self.random, self.plan.lazy);
        }
        if now >= self.writes_at && self.conn.may_send() && self.ours.left > 0 {
            let next = self.ours.next();
            let most = next.len().min(self.random.random_range(1..30_000));
            let most = most.min(self.conn.send_room());
            assert!(self.conn.reserve(engine.memory(), most), "{most} bytes");
            let n = self.conn.send_slice(&next[..most]);
            self.ours.used(n);
            self.writes_at = now + rest(&mut self.random, self.plan.lazy);
        }
        if self.plan.narrows && self.ours.left < self.plan.up / 2 {
            let id = engine.profile(Profile { mtu: 1_280, checksum_offload: false });
            engine.set_profile(&mut self.conn, id);
            self.plan.narrows = false;
        }
        let done = self.ours.left == 0 && (!self.plan.closes_late || self.conn.recv_finished());
        if self.plan.end == End::EngineAborts && self.conn.may_send() {
            if self.theirs.left <= self.plan.down / 2 {
                self.conn.abort();
                self.over = true;
            }
        } else if self.conn.may_send()
            && match self.plan.end {
                End::Both => done,
                // It had read all: then there is no reset.
                End::KernelDrops => self.conn.recv_finished(),
                End::EngineAborts => false,
            }
        {
            self.conn.close();
        }
    }

    fn output(&mut self, engine: &mut TcpEngine, now: Instant, sink: &mut Sink) {
        loop {
            let (event, more) = engine.output(&mut self.conn, now, 64, sink);
            self.happened(event);
            if !more {
                break;
            }
        }
        for packet in sink.0.drain(..) {
            let at = tcp_at(&packet).expect("TCP");
            self.to_kernel.enter(now, &self.plan, packet, at);
        }
    }

    /// Whether everything is said and was right.
    fn is_done(&self) -> bool {
        let whole = self.theirs.left == 0 && self.ours.left == 0;
        self.error.is_some()
            || self.over && (self.plan.end != End::Both || whole && self.conn.recv_len() == 0)
    }
}

fn engine(seed: u64, most: u64, mac: &str) -> io::Result<()> {
    let mac: Vec<u8> =
        mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a MAC")).collect();
    let ring = "blocksz=131072,framesz=2048,framecnt=4096";
    let eal = Eal::init(&EalConfig {
        program: "engine".into(),
        huge: HugePages::None,
        memory_mib: 256,
        log_level: LogLevel::Error,
        devices: vec![Device::Vdev(format!("net_af_packet0,iface=svc0,{ring}"))],
        ..EalConfig::default()
    })
    .map_err(io::Error::other)?;
    let _lcore = eal.register_thread().map_err(io::Error::other)?;
    let pool = PoolConfig { count: 16_383, ..PoolConfig::default() };
    let pool = MbufPool::new(&eal, "engine", pool).map_err(io::Error::other)?;
    let config = PortConfig { promiscuous: true, ..PortConfig::default() };
    let (_port, queues) = eal
        .port_by_name("net_af_packet0")
        .and_then(|port| port.configure(config, std::slice::from_ref(&pool)))
        .and_then(|port| port.start())
        .map_err(io::Error::other)?;
    let (mut rx, mut tx) = queues.into_iter().next().expect("a queue");

    let start = Clock::now();
    let time = || Instant::from_nanos(1_000_000_000 + start.elapsed().as_nanos() as u64);
    let mut engine = TcpEngine::new(IsnSecret::new([9; 16]), 1 << 30);
    let plans = (0..CONNECTIONS).map(|n| Plan::of(seed, n, most));
    let mut connections: Vec<Connection> =
        plans.map(|plan| Connection::new(&mut engine, plan, time())).collect();
    eprintln!("listening");
    let (mut burst, mut leaving) = (ArrayVec::<Mbuf, BURST_MAX>::new(), VecDeque::new());
    let mut sink = Sink::default();
    let mut done_at: Option<Instant> = None;
    // The other side may not have heard the last acknowledgement.
    while done_at.is_none_or(|at| time() < at + Duration::from_secs(1)) {
        let now = time();
        rx.burst(&mut burst);
        let mut busy = !burst.is_empty();
        for mbuf in burst.drain(..) {
            let packet = mbuf.data().get(14..).unwrap_or_default();
            let Some(at) = tcp_at(packet) else { continue };
            // A frame may be padded.
            let len = match packet[0] >> 4 {
                4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
                _ => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
            };
            let port = u16::from_be_bytes([packet[at + 2], packet[at + 3]]);
            let n = usize::from(port.wrapping_sub(FIRST_PORT));
            let (Some(packet), Some(connection)) = (packet.get(..len), connections.get_mut(n))
            else {
                continue;
            };
            connection.to_engine.enter(now, &connection.plan, packet.to_vec(), at);
        }
        for connection in &mut connections {
            busy |= connection.input(&mut engine, now);
            connection.application(&mut engine, now);
            connection.output(&mut engine, now, &mut sink);
            while let Some(packet) = connection.to_kernel.leave(now) {
                busy = true;
                let ethertype = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
                let Some(mut mbuf) = pool.alloc() else { continue };
                let frame = [&mac, &MAC[..], &ethertype, &packet].concat();
                mbuf.extend_from_slice(&frame).map_err(io::Error::other)?;
                leaving.push_back(mbuf);
            }
        }
        tx.burst(&mut leaving);
        if done_at.is_none() && connections.iter().all(Connection::is_done) {
            done_at = Some(now);
        }
        if done_at.is_none() && start.elapsed() > PATIENCE * (1 + (most >> 22) as u32) {
            let stuck = connections.iter().filter(|c| !c.is_done());
            stuck.for_each(|c| eprintln!("stuck: {:?}\n{:?}", c.plan, c.conn));
            return Err(io::Error::other("it does not come to an end"));
        }
        if !busy {
            thread::sleep(Duration::from_micros(20));
        }
    }
    for connection in &connections {
        if let Some(error) = &connection.error {
            return Err(io::Error::other(format!("{error}: {:?}", connection.plan)));
        }
    }
    let bytes = connections.iter().map(|c| c.plan.up + c.plan.down).sum::<u64>();
    eprintln!("all whole: {bytes} bytes in {:?}", start.elapsed());
    Ok(())
}

// --- The tests ----------------------------------------------------------------------------------

/// One round for each seed, with the kernel as it is, with tiny windows and without options.
fn against_linux(seeds: std::ops::Range<u64>, most: u64) {
    let lab = Lab::new();
    // A checksum is to be looked at, also on a link that loses no bit.
    lab.run_in(Place::Client, &["ethtool", "-K", "eth0", "rx", "off"]);
    let mac = lab.run_in(Place::Client, &["cat", "/sys/class/net/eth0/address"]);
    let own = MAC.map(|byte| format!("{byte:02x}")).join(":");
    for address in ENGINE {
        let neighbour = ["neigh", "add", address, "lladdr", &own, "dev", "eth0"];
        lab.ip(Place::Client, &[&neighbour[..], &["nud", "permanent"]].concat());
    }
    let sysctl = |setting: &str| {
        lab.run_in(Place::Client, &["sysctl", "-q", "-w", setting]);
    };
    let within = PATIENCE * (2 + (most >> 22) as u32);
    for seed in seeds {
        match seed % 3 {
            0 => {}
            1 => sysctl("net.ipv4.tcp_rmem=4096 4096 8192"),
            _ => {
                sysctl("net.ipv4.tcp_rmem=4096 131072 6291456");
                for option in ["sack", "timestamps", "window_scaling"] {
                    sysctl(&format!("net.ipv4.tcp_{option}=0"));
                }
            }
        }
        let mac = mac.trim();
        // Tiny windows are slow.
        let most = if seed % 3 == 1 { most / 8 } else { most };
        let role = format!("linux kernel {seed} {most}");
        let mut kernel = lab.endpoint("kernel", Place::Client, &role);
        kernel.wait_for("listening", Duration::from_secs(20));
        let role = format!("linux engine {seed} {most} {mac}");
        let mut engine = lab.endpoint("engine", Place::SiteA, &role);
        let status = engine.wait(within);
        assert!(status.success(), "seed {seed}: {}", engine.text());
        let status = kernel.wait(within);
        assert!(status.success(), "seed {seed}: {}", kernel.text());
        println!("seed {seed}: {}", engine.text().lines().last().unwrap_or_default());
        for option in ["sack", "timestamps", "window_scaling"] {
            sysctl(&format!("net.ipv4.tcp_{option}=1"));
        }
    }
}

#[test]
fn the_engine_and_the_kernel_understand_each_other() {
    against_linux(0..3, 1_000_000);
}

/// CLGW_SEEDS rounds of much more.
#[test]
#[ignore = "a soak: make soak"]
fn the_engine_and_the_kernel_understand_each_other_for_long() {
    let rounds = std::env::var("CLGW_SEEDS").map_or(30, |n| n.parse().unwrap());
    against_linux(100..100 + rounds, 16 << 20);
}
