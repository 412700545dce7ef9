//! The door itself: two engines joined by a list of segments.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::*;
use crate::config::Congestion;

mod black_hole;
mod buffers;
mod cookie;
mod line;
mod packet;
mod read;
mod robustness;
mod script;
use crate::time::{Duration, Instant};

/// Segments that one side has sent.
#[derive(Default)]
pub(crate) struct Line {
    pub segments: VecDeque<Vec<u8>>,
    full: bool,
}

impl SegmentSink for Line {
    fn room(&self) -> usize {
        if self.full { 0 } else { usize::MAX }
    }

    fn segment<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut segment = vec![0; len];
        let result = fill(&mut segment);
        if !self.full {
            self.segments.push_back(segment);
        }
        result
    }
}

pub(crate) struct Side {
    pub engine: TcpEngine,
    pub conn: TcpConn,
    pub line: Line,
    events: Vec<TcpEvent>,
}

/// Takes no payload before it is in the receive ring.
fn unread(_: &[u8], _: &mut Memory) -> usize {
    0
}

pub(crate) const SETTINGS: TcpSettings = TcpSettings {
    receive: 65_536,
    send: 65_536,
    side: BufferSide::Service,
    congestion: Congestion::Cubic,
};
/// Bytes that an engine may hold where that is not what a test is about.
pub(crate) const PLENTY: usize = 1 << 30;

impl Side {
    fn new(secret: u8) -> Self {
        Self::with(secret, SETTINGS, PLENTY)
    }

    pub fn with(secret: u8, settings: TcpSettings, memory: usize) -> Self {
        Self {
            engine: TcpEngine::new(IsnSecret::new([secret; 16]), memory),
            conn: TcpConn::new(settings),
            line: Line::default(),
            events: Vec::new(),
        }
    }

    /// Lends as much as there is room and memory for; `f` returns how many bytes it has written.
    fn send<R>(&mut self, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let mut room = self.conn.send_room();
        while !self.conn.reserve(self.engine.memory(), room) {
            room /= 2;
        }
        let run = self.conn.tx.free_run();
        let most = run.len().min(room);
        let (written, result) = f(&mut run[..most]);
        self.conn.tx.extend(written.min(most));
        result
    }

    fn send_slice(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.conn.send_room());
        self.conn.reserve(self.engine.memory(), n);
        self.conn.send_slice(data)
    }

    pub fn output(&mut self, now: Instant) {
        let (event, _) = self.engine.output(&mut self.conn, now, usize::MAX, &mut self.line);
        if event != TcpEvent::None {
            self.events.push(event);
        }
    }

    pub fn input(&mut self, now: Instant, segment: &[u8]) {
        self.input_to(now, segment, unread);
    }

    fn input_to(
        &mut self,
        now: Instant,
        segment: &[u8],
        read: impl FnOnce(&[u8], &mut Memory) -> usize,
    ) {
        let (marked, tcp) = (segment[1] & 3 == 3, &segment[20..]);
        let event = self.engine.input(&mut self.conn, now, tcp, marked, read);
        if event != TcpEvent::None {
            self.events.push(event);
        }
    }
}

fn addresses() -> (SocketAddr, SocketAddr) {
    ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:80".parse().unwrap())
}

const PROFILE: Profile = Profile { mtu: 1500, checksum_offload: false };

fn seq_of(ip: &[u8]) -> u32 {
    u32::from_be_bytes(ip[24..28].try_into().unwrap())
}

/// The client has called and the server has heard it; the SYN.
pub(crate) fn call(c: &mut Side, s: &mut Side, now: Instant) -> Vec<u8> {
    call_through(c, s, now, |_| ())
}

/// The same with what happens to the SYN on its way.
fn call_through(
    c: &mut Side,
    s: &mut Side,
    now: Instant,
    middlebox: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let (client, server) = addresses();
    let profile = c.engine.profile(PROFILE);
    assert!(c.engine.connect(&mut c.conn, now, client, server, profile));
    c.output(now);
    let mut syn = c.line.segments.pop_front().unwrap();
    middlebox(&mut syn);
    let profile = s.engine.profile(PROFILE);
    assert!(s.engine.accept(&mut s.conn, now, (server, client), profile, &syn[20..]));
    syn
}

/// Client and server after the handshake.
fn established(now: Instant) -> (Side, Side) {
    let (mut c, mut s) = (Side::new(1), Side::new(2));
    call(&mut c, &mut s, now);
    exchange(&mut c, &mut s, now);
    assert_eq!(c.events, [TcpEvent::Established]);
    assert_eq!(s.events, [TcpEvent::Established]);
    (c, s)
}

pub(crate) fn exchange(c: &mut Side, s: &mut Side, now: Instant) {
    for _ in 0..100 {
        c.output(now);
        s.output(now);
        if c.line.segments.is_empty() && s.line.segments.is_empty() {
            return;
        }
        while let Some(segment) = c.line.segments.pop_front() {
            s.input(now, &segment);
        }
        while let Some(segment) = s.line.segments.pop_front() {
            c.input(now, &segment);
        }
    }
    panic!("the two sides do not come to rest");
}

#[test]
fn initial_sequence_numbers_are_those_of_rfc_6528() {
    let now = Instant::from_millis(7);
    let (mut c, mut s) = (Side::new(1), Side::new(2));
    let (client, server) = addresses();
    let syn = call(&mut c, &mut s, now);
    assert_eq!(seq_of(&syn), IsnSecret::new([1; 16]).isn(now, client, server));
    s.output(now);
    let syn_ack = s.line.segments.pop_front().unwrap();
    assert_eq!(seq_of(&syn_ack), IsnSecret::new([2; 16]).isn(now, server, client));
}

#[test]
fn bytes_ends_and_events() {
    let now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    assert_eq!(c.send_slice(b"hello"), 5);
    c.conn.close();
    exchange(&mut c, &mut s, now);
    let mut seen = [0; 8];
    assert_eq!(s.conn.peek(&mut seen), 5);
    assert_eq!(s.conn.peek_at(1, &mut seen), 4);
    assert!(!s.conn.recv_finished(), "bytes are left");
    s.conn.skip(5);
    assert!(s.conn.recv_finished());
    assert_eq!(s.conn.state(), TcpState::Open, "half-closed");
    assert_eq!(c.conn.send_room(), 0);
    s.conn.close();
    let later = now + ACK_DELAY;
    exchange(&mut c, &mut s, later);
    assert_eq!(c.events.last(), Some(&TcpEvent::Finished));
    assert_eq!(s.events.last(), Some(&TcpEvent::Finished));
    assert!(c.conn.is_over() && s.conn.is_over());
}

#[test]
fn an_abort_is_one_reset() {
    let now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    c.conn.abort();
    assert!(!c.conn.is_over());
    exchange(&mut c, &mut s, now);
    assert!(c.conn.is_over());
    assert_eq!(s.events.last(), Some(&TcpEvent::Reset));
}

#[test]
fn silence_is_a_timeout() {
    let now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    c.send_slice(b"anyone?");
    let mut at = now;
    while c.events.last() != Some(&TcpEvent::TimedOut) {
        c.output(at);
        c.line.segments.clear();
        let Some(next) = c.engine.deadline(&c.conn, at) else { continue };
        at = next.max(at + Duration::from_millis(1));
        assert!(at.since(now) < crate::limits::TCP_USER_TIMEOUT * 2);
    }
    s.line.segments.clear();
}

#[test]
fn a_full_sink_keeps_the_segments() {
    let now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    c.send_slice(b"later");
    c.line.full = true;
    let (_, more) = c.engine.output(&mut c.conn, now, 64, &mut c.line);
    assert!(more && c.line.segments.is_empty());
    c.line.full = false;
    exchange(&mut c, &mut s, now);
    assert_eq!(s.conn.recv_len(), 5);
}

#[test]
fn a_connection_that_is_released_leaves_nothing() {
    let now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    c.send_slice(b"old bytes");
    exchange(&mut c, &mut s, now);
    c.send_slice(b"unsent");
    c.engine.release(std::mem::replace(&mut c.conn, TcpConn::new(SETTINGS)));
    assert_eq!(c.engine.memory().in_use(), 0);
    assert_eq!(c.conn.state(), TcpState::Closed);
    let (client, server) = addresses();
    let profile = c.engine.profile(PROFILE);
    assert!(c.engine.connect(&mut c.conn, now, client, server, profile));
    assert_eq!((c.conn.recv_len(), c.conn.send_queue()), (0, 0));
    assert!(!c.conn.is_over());
}

#[test]
fn the_mss_follows_the_profile() {
    let now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    c.send_slice(&[7; 4_344]);
    c.output(now);
    assert!(c.line.segments.iter().any(|s| s.len() == 1_500));
    // Too long for a link on the way, which says so.
    c.line.segments.clear();
    let small = c.engine.profile(Profile { mtu: 1_280, checksum_offload: false });
    c.engine.set_profile(&mut c.conn, small);
    c.output(now);
    assert!(!c.line.segments.is_empty());
    assert!(c.line.segments.iter().all(|s| s.len() <= 1_280));
    exchange(&mut c, &mut s, now);
    assert_eq!(s.conn.recv_len(), 4_344);
}

/// The window of a SYN is not scaled, and must not be taken for more than the ring holds: an
/// out-of-order segment behind its end, right after the handshake.
#[test]
fn a_segment_beyond_the_ring_is_harmless() {
    for ring in [32_768, 65_536, 131_072, 262_144] {
        let now = Instant::from_millis(1);
        let (mut c, mut s) = (Side::new(1), Side::new(2));
        // The client may send more than the server's ring takes.
        c.conn = TcpConn::new(TcpSettings { send: 1 << 20, ..SETTINGS });
        s.conn = TcpConn::new(TcpSettings { receive: ring, ..SETTINGS });
        call(&mut c, &mut s, now);
        exchange(&mut c, &mut s, now);
        for _ in 0..40 {
            c.send_slice(&[1; 20_000]);
            c.output(now);
            // Out of order, and the reader does not read.
            while let Some(segment) = c.line.segments.pop_back() {
                s.input(now, &segment);
            }
            s.output(now);
            while let Some(segment) = s.line.segments.pop_front() {
                c.input(now, &segment);
            }
        }
        assert_eq!(s.events, [TcpEvent::Established], "ring for {ring}");
        assert!(s.conn.recv_len() > 0);
    }
}

/// Both sides lose a segment in flight, and from then on every ACK each of them sends lies before
/// what the other expects.
#[test]
fn losses_in_both_directions_at_once_do_not_hang() {
    let mut now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    // Everything of the first flight but its head arrives; all ACKs are lost.
    c.send_slice(&[1; 4_000]);
    s.send_slice(&[2; 4_000]);
    c.output(now);
    s.output(now);
    let (to_s, to_c) = (std::mem::take(&mut c.line.segments), std::mem::take(&mut s.line.segments));
    to_s.iter().for_each(|segment| s.input(now, segment));
    to_c.iter().for_each(|segment| c.input(now, segment));
    now += ACK_DELAY;
    c.output(now);
    s.output(now);
    c.line.segments.clear();
    s.line.segments.clear();
    // Both time out and send again what the other has.
    for _ in 0..8 {
        now += Duration::from_secs(2);
        exchange(&mut c, &mut s, now);
    }
    assert_eq!((c.conn.send_queue(), s.conn.send_queue()), (0, 0), "everything is acknowledged");
    assert_eq!((c.conn.recv_len(), s.conn.recv_len()), (4_000, 4_000));
}

/// Sequence numbers wrap, and what is further back than half of them looks like the future.
#[test]
fn gigabytes_through_one_connection() {
    let mut now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    let total = (9u64 << 29) / 61 * 61;
    let (mut sent, mut received) = (0u64, 0u64);
    let mark = |at: u64| (at >> 4) as u8 ^ (at >> 29) as u8;
    while received < total {
        c.send(|free| {
            let n = free.len().min((total - sent) as usize);
            for at in (0..n).step_by(61) {
                free[at] = mark(sent + at as u64);
            }
            sent += n as u64;
            // The reader looks at the same places.
            (n - n % 61, ())
        });
        sent = received + c.conn.send_queue() as u64;
        exchange(&mut c, &mut s, now);
        while s.conn.recv_len() > 0 {
            received += s.conn.recv(|run| {
                let first = (61 - received % 61) % 61;
                for at in (first as usize..run.len()).step_by(61) {
                    assert_eq!(
                        run[at],
                        mark(received + at as u64),
                        "byte {}",
                        received + at as u64
                    );
                }
                (run.len(), run.len() as u64)
            });
        }
        now += Duration::from_micros(50);
    }
    c.conn.close();
    exchange(&mut c, &mut s, now);
    assert!(s.conn.recv_finished());
}
