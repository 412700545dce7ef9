//! What the fuzzer runs, and `tests/corpus.rs` over the inputs that were worth keeping.

use std::net::SocketAddr;

use clgw::config::Congestion;
use clgw::tcp::{BufferSide, IsnSecret, Profile, SegmentSink, TcpConn, TcpEngine, TcpSettings};
use clgw::time::{Duration, Instant};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Initial sequence number of the other side: its numbers wrap soon.
const THEIRS: u32 = u32::MAX - 40_000;
const RINGS: [usize; 2] = [32_768, 100_000];
/// Bytes for both rings of a connection, each of which may be copied to a larger one.
const MEMORY: usize = 1 << 20;
const MTUS: [usize; 3] = [1_500, 1_280, 9_000];
const START: Instant = Instant::from_millis(5_000);
/// No input makes more: a full ring of the smallest segments, twice.
const MOST_AT_ONCE: usize = 1_200;

/// A state, and segments, calls and time that meet it. Returns how many segments arrived.
pub fn segments(data: &[u8]) -> u64 {
    let mut input = Input(data);
    let kind = input.byte();
    let ring = RINGS[usize::from(kind & 1)];
    let settings = TcpSettings {
        receive: ring,
        send: ring,
        side: BufferSide::Service,
        congestion: Congestion::Cubic,
    };
    let mut run = Run::new(TcpConn::new(settings), kind, input.byte());
    run.reach(input.byte());
    // What a worker would do in a second or two.
    for _ in 0..500 {
        if input.0.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    run.end()
}

/// Zeros once it is used up.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        front
    }

    /// Small ones often, some of any size.
    fn distance(&mut self) -> u32 {
        let byte = self.byte();
        match byte >> 5 {
            0..=3 => u32::from(byte & 31),
            4 => 1_400 + u32::from(byte & 31) * 5,
            5 => u32::from(byte & 31) * 1_448,
            6 => u32::from(byte & 31) << 8 | u32::from(self.byte()),
            _ => u32::from_be_bytes([self.byte(), self.byte(), self.byte(), byte]),
        }
    }

    fn signed(&mut self) -> u32 {
        let back = self.byte() & 1 == 1;
        let n = self.distance();
        if back { n.wrapping_neg() } else { n }
    }
}

#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    full: bool,
}

impl SegmentSink for Sink {
    fn room(&self) -> usize {
        if self.full { 0 } else { usize::MAX }
    }

    fn segment<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let from = self.bytes.len();
        self.bytes.resize(from + len, 0);
        self.lengths.push(len);
        fill(&mut self.bytes[from..])
    }
}

/// Byte `at` of our stream, or of theirs.
fn byte(ours: bool, at: u32) -> u8 {
    (at.wrapping_mul(0x9e37_79b1) >> 13) as u8 ^ u8::from(ours)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Numbers are relative to either side's initial one.
struct Run {
    engine: TcpEngine,
    conn: TcpConn,
    sink: Sink,
    now: Instant,
    profile: Profile,
    local: SocketAddr,
    remote: SocketAddr,
    stamped: bool,
    scaled: bool,
    sacks: bool,
    ours: u32,
    theirs: u32,
    /// Our clock as it was last seen.
    echo: u32,
    /// Of our windows, and of theirs.
    our_shift: u8,
    their_shift: u8,
    /// Behind the highest number that we have sent.
    sent: u32,
    written: u32,
    read: u32,
    /// Highest acknowledgement and right edge that we have said.
    acked: u32,
    our_edge: u32,
    /// Right edge that the other side has given, as long as it has sent in order, and what it could
    /// have given at the most.
    edge: u64,
    in_order: bool,
    last: (u32, u32),
    most_acked: u32,
    most_window: u32,
    /// All that arrived was of the other side's stream.
    honest: bool,
    fed: u64,
}

impl Run {
    fn new(conn: TcpConn, kind: u8, options: u8) -> Self {
        let (local, remote) = match kind & 2 {
            0 => ("10.0.0.1:4000", "10.0.0.2:80"),
            _ => ("[fd00::1]:4000", "[fd00::2]:80"),
        };
        let mtu = MTUS[usize::from(kind >> 2) % MTUS.len()];
        let mut run = Self {
            engine: TcpEngine::new(IsnSecret::new([7; 16]), MEMORY),
            conn,
            sink: Sink::default(),
            now: START,
            profile: Profile { mtu, checksum_offload: false },
            local: local.parse().expect("an address"),
            remote: remote.parse().expect("an address"),
            stamped: options & 1 == 1,
            scaled: options & 2 == 2,
            sacks: options & 4 == 4,
            ours: 0,
            theirs: THEIRS,
            echo: 0,
            our_shift: 0,
            their_shift: if options & 2 == 2 { options >> 4 } else { 0 },
            sent: 0,
            written: 0,
            read: 0,
            acked: 0,
            our_edge: 0,
            edge: 0,
            in_order: true,
            last: (0, 0),
            most_acked: 0,
            most_window: 0,
            honest: true,
            fed: 0,
        };
        run.their_shift = run.their_shift.min(14);
        let id = run.engine.profile(run.profile);
        if options & 8 == 0 {
            assert!(run.engine.connect(&mut run.conn, run.now, run.local, run.remote, id));
        } else {
            let syn = run.build(SYN, (0, 0), 0, u16::MAX, None, &[]);
            let addresses = (run.local, run.remote);
            assert!(run.engine.accept(&mut run.conn, run.now, addresses, id, &syn));
            (run.most_window, run.edge) = (65_535, 65_536);
        }
        run.flush();
        run
    }

    /// One of the states, from the first on.
    fn reach(&mut self, state: u8) {
        let called = self.acked == 0;
        let window = u16::from(state & 0x80 == 0) * 65_535 + u16::from(state & 0x80 != 0) * 3_000;
        let state = state % 8;
        if state == 0 {
            return;
        }
        let flags = if called { SYN | ACK } else { ACK };
        let seq = u32::from(!called);
        self.arrive(flags, (seq, 1), 0, window, Some(0), &[]);
        self.flush();
        if state == 1 {
            return;
        }
        self.write(6_000);
        let closes = |run: &mut Self| {
            run.conn.close();
            run.flush();
        };
        match state {
            2 => {}
            3 => closes(self),
            4 => {
                closes(self);
                self.arrive(ACK, (1, self.sent), 0, window, Some(0), &[]);
            }
            5 => self.arrive(FIN | ACK, (1, 1), 100, window, Some(0), &[]),
            6 => {
                self.arrive(FIN | ACK, (1, 1), 100, window, Some(0), &[]);
                self.flush();
                closes(self);
            }
            _ => {
                closes(self);
                self.arrive(FIN | ACK, (1, 1), 100, window, Some(0), &[]);
            }
        }
        self.flush();
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        match what & 15 {
            0..=5 => self.anything(input),
            // The next bytes in order, and all is acknowledged.
            6 => {
                let len = input.distance() as usize % 1_449;
                self.arrive(ACK, (self.acked, self.sent), len, u16::MAX, Some(0), &[]);
            }
            7 => {
                let back = input.distance().min(self.sent);
                self.arrive(ACK, (self.acked, self.sent - back), 0, u16::MAX, Some(0), &[]);
            }
            // Behind a gap.
            8 => {
                let seq = self.acked.wrapping_add(input.distance() % 30_000);
                let len = input.distance() as usize % 1_449;
                self.arrive(ACK, (seq, self.sent), len, u16::MAX, Some(0), &[]);
            }
            // Selective acknowledgements of what is on its way.
            9 => {
                let back = input.distance().min(self.sent);
                let (from, len) = (input.distance(), input.distance());
                let start = (self.sent - back).wrapping_add(from);
                let blocks = [(start, start.wrapping_add(len)), (start, self.sent)];
                let blocks = &blocks[..1 + usize::from(what >> 7)];
                let ack = self.sent - back;
                self.arrive(ACK, (self.acked, ack), 0, u16::MAX, Some(0), blocks);
            }
            10 => self.write(input.distance() % 40_000),
            11 => self.read(input.distance() as usize % 40_000),
            12 => match what >> 4 {
                0..=3 => self.conn.close(),
                4 => self.conn.abort(),
                5 => self.narrower(),
                6 | 7 => self.sink.full = true,
                _ => self.sink.full = false,
            },
            13 => self.now += Duration::from_millis(u64::from(what >> 4) * 7),
            14 => {
                let due = self.engine.deadline(&self.conn, self.now);
                self.now = self.now.max(due.unwrap_or(self.now));
            }
            _ => {
                let len = usize::from(input.byte());
                self.honest = false;
                self.in_order = false;
                self.most_window = u32::MAX;
                self.feed(input.take(len));
            }
        }
        // A worker takes some in a burst before it sends.
        if what & 0x10 == 0 || what & 15 > 9 {
            self.flush();
        }
    }

    /// Around the numbers that are expected.
    fn anything(&mut self, input: &mut Input<'_>) {
        let (bits, more) = (input.byte(), input.byte());
        let flags = match bits & 15 {
            0 => RST,
            1 => RST | ACK,
            2 => SYN,
            3 => SYN | ACK,
            4 | 5 => FIN | ACK,
            6 => FIN,
            7 => 32 | ACK,
            8 => input.byte() & 63,
            _ => ACK,
        };
        let seq = self.acked.wrapping_add(input.signed());
        let ack = self.sent.wrapping_add(input.signed());
        let len = if bits & 16 == 0 { 0 } else { input.distance() as usize % 1_449 };
        let win = match more & 3 {
            0 => 0,
            1 => u16::from(input.byte()),
            2 => u16::from_be_bytes([input.byte(), input.byte()]),
            _ => u16::MAX,
        };
        let clock = (more & 0x30 != 0).then(|| if more & 0x40 == 0 { 0 } else { input.signed() });
        let mut blocks = [(0, 0); 4];
        let count = if bits & 32 == 0 { 0 } else { usize::from(bits >> 6) + 1 };
        for block in &mut blocks[..count] {
            let start = self.sent.wrapping_sub(input.distance());
            *block = (start, start.wrapping_add(input.signed()));
        }
        self.arrive(flags, (seq, ack), len, win, clock, &blocks[..count]);
    }

    // --- what arrives ---------------------------------------------------------------------------

    /// A segment; `clock` is how far its timestamp is from the time.
    fn build(
        &self,
        flags: u8,
        (seq, ack): (u32, u32),
        len: usize,
        win: u16,
        clock: Option<u32>,
        blocks: &[(u32, u32)],
    ) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(60 + len);
        bytes.extend([0, 80, 0x0f, 0xa0]);
        bytes.extend(seq.wrapping_add(self.theirs).to_be_bytes());
        let ack = if flags & ACK == 0 { 0 } else { ack.wrapping_add(self.ours) };
        bytes.extend(ack.to_be_bytes());
        bytes.extend([0, flags]);
        bytes.extend(win.to_be_bytes());
        bytes.extend([0; 4]);
        if flags & SYN != 0 {
            bytes.extend([2, 4, 5, 180]);
            if self.scaled {
                bytes.extend([3, 3, self.their_shift, 1]);
            }
            if self.sacks {
                bytes.extend([4, 2, 1, 1]);
            }
        }
        if self.stamped && (clock.is_some() || flags & SYN != 0) {
            let value = (self.now.as_millis() as u32).wrapping_add(clock.unwrap_or(0));
            bytes.extend([1, 1, 8, 10]);
            bytes.extend(value.to_be_bytes());
            // An older one at times, as of a segment that was sent before.
            let echo = self.echo.wrapping_sub(clock.unwrap_or(0) & 0xff);
            bytes.extend(echo.to_be_bytes());
        }
        let room = (60 - bytes.len()) / 8;
        let blocks = &blocks[..blocks.len().min(room)];
        if !blocks.is_empty() && bytes.len() + 4 + 8 * blocks.len() <= 60 {
            bytes.extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
            for (start, end) in blocks {
                bytes.extend(start.wrapping_add(self.ours).to_be_bytes());
                bytes.extend(end.wrapping_add(self.ours).to_be_bytes());
            }
        }
        bytes[12] = (bytes.len() as u8 / 4) << 4;
        bytes.extend((0..len as u32).map(|n| byte(false, seq.wrapping_add(n))));
        bytes
    }

    fn arrive(
        &mut self,
        flags: u8,
        (seq, ack): (u32, u32),
        len: usize,
        win: u16,
        clock: Option<u32>,
        blocks: &[(u32, u32)],
    ) {
        // Whoever answers begins at the beginning, or its stream would be another one.
        let seq = if self.acked == 0 && flags & SYN != 0 { 0 } else { seq };
        let bytes = self.build(flags, (seq, ack), len, win, clock, blocks);
        // Only what may count: RST gives no window, and more than was sent cannot be acknowledged.
        if flags & RST == 0 {
            let shift = if flags & SYN == 0 { self.their_shift } else { 0 };
            let window = u32::from(win) << shift;
            self.most_window = self.most_window.max(window);
            let ack = if flags & ACK == 0 { 0 } else { ack };
            if ack <= self.sent {
                self.most_acked = self.most_acked.max(ack);
                self.edge = self.edge.max(u64::from(ack) + u64::from(window));
                let backwards = (seq.wrapping_sub(self.last.0) as i32) < 0 || ack < self.last.1;
                self.in_order &= !backwards;
                self.last = (seq, ack);
            }
        }
        self.feed(&bytes);
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.fed += 1;
        self.engine.input(&mut self.conn, self.now, bytes, false, |_, _| 0);
    }

    // --- the application ------------------------------------------------------------------------

    fn write(&mut self, n: u32) {
        let from = 1 + self.written;
        let data: Vec<u8> = (0..n).map(|i| byte(true, from.wrapping_add(i))).collect();
        let room = self.conn.send_room();
        let n = room.min(data.len());
        assert!(self.conn.reserve(self.engine.memory(), n), "{n} bytes");
        let taken = self.conn.send_slice(&data[..n]);
        assert_eq!(taken, n);
        self.written += taken as u32;
        self.flush();
    }

    fn read(&mut self, n: usize) {
        let before = self.conn.recv_len();
        let (from, honest) = (1 + self.read, self.honest);
        let taken = self.conn.recv(|run| {
            let n = n.min(run.len());
            let wrong = (0..n).find(|i| run[*i] != byte(false, from.wrapping_add(*i as u32)));
            assert!(wrong.is_none() || !honest, "byte {} is wrong", from as usize + wrong.unwrap());
            (n, n)
        });
        assert_eq!(self.conn.recv_len(), before - taken);
        self.read += taken as u32;
    }

    fn narrower(&mut self) {
        self.profile.mtu = self.profile.mtu.min(1_400) - 100;
        if self.profile.mtu < 600 {
            self.profile.mtu = 600;
        }
        let id = self.engine.profile(self.profile);
        self.engine.set_profile(&mut self.conn, id);
    }

    // --- what leaves ----------------------------------------------------------------------------

    fn flush(&mut self) {
        loop {
            let before = self.sink.lengths.len();
            let (_, more) = self.engine.output(&mut self.conn, self.now, 64, &mut self.sink);
            if !more || self.sink.full {
                break;
            }
            assert!(self.sink.lengths.len() > before, "it wants to go on, and sends nothing");
            assert!(self.sink.lengths.len() < MOST_AT_ONCE, "it goes on forever");
        }
        if !self.sink.full {
            let due = self.engine.deadline(&self.conn, self.now);
            assert!(due.is_none_or(|at| at > self.now), "{due:?} has passed: {:?}", self.conn);
        }
        let bytes = std::mem::take(&mut self.sink.bytes);
        let mut from = 0;
        for len in std::mem::take(&mut self.sink.lengths) {
            self.check(&bytes[from..from + len]);
            from += len;
        }
    }

    fn check(&mut self, ip: &[u8]) {
        assert!(ip.len() <= self.profile.mtu, "{} bytes", ip.len());
        let (tcp, addresses) = if self.local.is_ipv4() {
            assert_eq!(usize::from(half(ip, 2)), ip.len());
            assert_eq!(sum(&ip[..20]), 0xffff);
            (&ip[20..], &ip[12..20])
        } else {
            assert_eq!(usize::from(half(ip, 4)) + 40, ip.len());
            (&ip[40..], &ip[8..40])
        };
        let pseudo = u64::from(sum(addresses)) + tcp.len() as u64 + 6;
        assert_eq!(fold(pseudo + u64::from(sum(tcp))), 0xffff, "checksum");
        let (flags, header) = (tcp[13], usize::from(tcp[12] >> 4) * 4);
        let payload = &tcp[header..];
        if let Some(at) = tcp[20..header].windows(2).position(|w| w == [8, 10]) {
            self.echo = word(tcp, 22 + at);
        }
        if flags & (SYN | ACK) == SYN || self.sent == 0 {
            self.ours = word(tcp, 4);
        }
        if flags & RST != 0 {
            assert!(payload.is_empty());
            return;
        }
        let seq = word(tcp, 4).wrapping_sub(self.ours);
        if flags & SYN != 0 {
            assert!(seq == 0 && payload.is_empty());
            self.sent = self.sent.max(1);
            let shift = tcp[20..header].windows(3).find(|w| w[..2] == [3, 3]).map(|w| w[2]);
            self.our_shift = shift.filter(|_| self.scaled).unwrap_or(0);
        }
        let end = seq.wrapping_add(payload.len() as u32);
        if !payload.is_empty() {
            assert!(seq >= 1 && end <= 1 + self.written, "{seq}:{end} of {}", self.written);
            let wrong = payload.iter().zip(seq..).find(|(seen, at)| **seen != byte(true, *at));
            assert!(wrong.is_none(), "{wrong:?} is wrong");
        }
        if end > self.sent && end < u32::MAX / 2 {
            let most = u64::from(self.most_acked) + u64::from(self.most_window);
            let edge = if self.in_order { self.edge } else { most };
            assert!(u64::from(end) <= edge, "{seq}:{end} beyond {edge}");
        }
        if end < u32::MAX / 2 {
            self.sent = self.sent.max(end + u32::from(flags & FIN != 0));
        }
        if flags & ACK != 0 {
            if self.acked == 0 && !self.honest {
                // Whoever answers our call says where its numbers begin.
                let theirs = word(tcp, 8).wrapping_sub(1);
                self.in_order &= theirs == self.theirs;
                self.theirs = theirs;
            }
            let ack = word(tcp, 8).wrapping_sub(self.theirs);
            assert!(ack >= self.acked, "acknowledges {ack} behind {}", self.acked);
            self.acked = ack;
            let shift = if flags & SYN == 0 { self.our_shift } else { 0 };
            let edge = ack.wrapping_add(u32::from(half(tcp, 14)) << shift);
            // Rounding takes off a little, and a SYN that is sent again has a window of its own.
            let unit = 2 << self.our_shift;
            let back = flags & SYN == 0 && edge + unit <= self.our_edge;
            assert!(!back || !self.honest, "takes back its window: {edge}, {}", self.our_edge);
            self.our_edge = self.our_edge.max(edge);
        }
    }

    fn end(mut self) -> u64 {
        self.sink.full = false;
        self.flush();
        while self.conn.recv_len() > 0 {
            self.read(usize::MAX);
        }
        self.engine.release(self.conn);
        assert_eq!(self.engine.memory().in_use(), 0);
        self.fed
    }
}

/// One's complement sum of 16-bit words.
fn sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|w| u64::from(w[0]) << 8 | w.get(1).map_or(0, |b| u64::from(*b)));
    fold(words.sum())
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
