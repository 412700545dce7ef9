//! Two engines joined by a line with a rate, a queue, losses and late segments, on a virtual clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

pub(super) const MS: Duration = Duration::from_millis(1);

/// One direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub delay: Duration,
    /// Added to the delay, uniformly up to this.
    pub jitter: Duration,
    /// Bits per second; 0 = without bound.
    pub rate: u64,
    /// How long a segment may have to wait for its turn.
    pub queue: Duration,
    pub loss: f64,
    pub duplicate: f64,
    /// Segments that come 2 ms later than their neighbours.
    pub late: f64,
    /// TCP options that a middlebox takes away, by their kind.
    pub without: &'static [u8],
}

const SACK_PERMITTED: u8 = 4;
const TIMESTAMPS: u8 = 8;
/// What both sides may have agreed on.
const WITHOUT: [&[u8]; 4] = [&[], &[TIMESTAMPS], &[SACK_PERMITTED], &[TIMESTAMPS, SACK_PERMITTED]];

impl Default for Path {
    fn default() -> Self {
        Self {
            delay: MS,
            jitter: Duration::ZERO,
            rate: 0,
            queue: Duration::from_secs(1),
            loss: 0.0,
            duplicate: 0.0,
            late: 0.0,
            without: &[],
        }
    }
}

/// Arrival, number, connection and side, segment.
type Flight = Reverse<(Instant, u64, (usize, usize), Vec<u8>)>;

/// Connections that share a line.
pub(super) struct World {
    pub pairs: Vec<[Side; 2]>,
    line: Path,
    pub now: Instant,
    free_at: [Instant; 2],
    flights: BinaryHeap<Flight>,
    number: u64,
    random: StdRng,
    /// Payload and headers, of both directions.
    sent: u64,
    /// Where what each side has sent ends, and payload that was sent before.
    ends: Vec<[Option<u32>; 2]>,
    repeated: u64,
}

pub(super) fn settings(congestion: Congestion, ring: usize) -> TcpSettings {
    TcpSettings { receive: ring, send: ring, congestion, ..SETTINGS }
}

impl World {
    pub fn new(line: Path, settings: TcpSettings, seed: u64) -> Self {
        Self::shared(line, &[settings], seed, PLENTY)
    }

    /// Each side has an engine that may hold `memory` bytes.
    pub fn shared(line: Path, flows: &[TcpSettings], seed: u64, memory: usize) -> Self {
        let now = Instant::from_millis(10);
        let pair = |(n, settings): (usize, &TcpSettings)| {
            let side = |secret| Side::with(secret, *settings, memory);
            let (mut c, mut s) = (side(1 + n as u8), side(101 + n as u8));
            call_through(&mut c, &mut s, now, |syn| take_options(syn, line.without));
            [c, s]
        };
        let pairs = flows.iter().enumerate().map(pair).collect();
        let (flights, random) = (BinaryHeap::new(), StdRng::seed_from_u64(seed));
        let (number, sent, repeated) = (0, 0, 0);
        let (free_at, ends) = ([now; 2], vec![[None; 2]; flows.len()]);
        Self { pairs, line, now, free_at, flights, number, random, sent, ends, repeated }
    }

    fn count(&mut self, pair: usize, from: usize, segment: &[u8]) {
        self.sent += segment.len() as u64;
        let len = segment.len() - 20 - usize::from(segment[32] >> 4) * 4;
        let end = seq_of(segment).wrapping_add(len as u32);
        let before = self.ends[pair][from].get_or_insert(seq_of(segment));
        let new = (end.wrapping_sub(*before) as i32).max(0) as usize;
        *before = before.wrapping_add(new as u32);
        self.repeated += len.saturating_sub(new) as u64;
    }

    /// Puts what a side has sent on the line.
    fn carry(&mut self, pair: usize, from: usize) {
        let Path { delay, jitter, rate, queue, loss, duplicate, late, without } = self.line;
        while let Some(mut segment) = self.pairs[pair][from].line.segments.pop_front() {
            take_options(&mut segment, without);
            self.count(pair, from, &segment);
            let begins = self.free_at[from].max(self.now);
            if rate > 0 && begins - self.now > queue {
                continue;
            }
            let bits = (segment.len() as u64 + 38) * 8;
            let nanos = (bits * 1_000_000_000).checked_div(rate).unwrap_or(0);
            self.free_at[from] = begins + Duration::from_nanos(nanos);
            if self.random.random_bool(loss) {
                continue;
            }
            let copies = if self.random.random_bool(duplicate) { 2 } else { 1 };
            for _ in 0..copies {
                let mut extra = self.random.random_range(0..=jitter.as_nanos() as u64);
                if self.random.random_bool(late) {
                    extra += 2_000_000;
                }
                let at = self.free_at[from] + delay + Duration::from_nanos(extra);
                self.number += 1;
                self.flights.push(Reverse((at, self.number, (pair, 1 - from), segment.clone())));
            }
        }
    }

    /// Lets all sides act, and goes on to when something happens next.
    pub fn step(&mut self) {
        while self.flights.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, (pair, to), segment))) = self.flights.pop() else { break };
            self.pairs[pair][to].input(self.now, &segment);
        }
        let mut next = None;
        for (pair, n) in (0..self.pairs.len()).flat_map(|pair| [(pair, 0), (pair, 1)]) {
            self.pairs[pair][n].output(self.now);
            self.carry(pair, n);
            let side = &self.pairs[pair][n];
            next = [next, side.engine.deadline(&side.conn, self.now)].into_iter().flatten().min();
        }
        let arrival = self.flights.peek().map(|Reverse((at, ..))| *at);
        let next = [next, arrival].into_iter().flatten().min().unwrap_or(self.now + 100 * MS);
        self.now = next.max(self.now + Duration::from_micros(1));
    }
}

/// Takes options of these kinds off a SYN.
fn take_options(segment: &mut [u8], kinds: &[u8]) {
    let (syn, end) = (segment[33] & 2 != 0, 20 + usize::from(segment[32] >> 4) * 4);
    let mut at = 40;
    while syn && at < end {
        let len = if segment[at] <= 1 { 1 } else { usize::from(segment[at + 1]) };
        if kinds.contains(&segment[at]) {
            segment[at..at + len].fill(1);
        }
        at += len;
    }
}

/// Byte `at` of what side `n` sends.
pub(super) fn byte(n: usize, at: u64) -> u8 {
    ((at / 7).wrapping_mul(0x9e37_79b9) >> 11) as u8 ^ (n as u8) ^ at as u8
}

/// Payload that arrived within `seconds`, Mb/s.
fn goodput(line: Path, congestion: Congestion, ring: usize, seconds: u64, seed: u64) -> f64 {
    goodputs(line, &[congestion], ring, seconds, seed)[0]
}

/// The same of flows that share the line.
fn goodputs(line: Path, flows: &[Congestion], ring: usize, seconds: u64, seed: u64) -> Vec<f64> {
    let flows: Vec<_> = flows.iter().map(|congestion| settings(*congestion, ring)).collect();
    let mut world = World::shared(line, &flows, seed, PLENTY);
    let end = world.now + Duration::from_secs(seconds);
    let mut received = vec![0u64; flows.len()];
    while world.now < end {
        world.step();
        for (pair, received) in world.pairs.iter_mut().zip(&mut received) {
            *received += pump(pair);
        }
    }
    received.iter().map(|bytes| *bytes as f64 * 8.0 / 1e6 / seconds as f64).collect()
}

/// One side sends all it can, the other one takes all there is; how many bytes.
fn pump([from, to]: &mut [Side; 2]) -> u64 {
    from.send(|free| (free.len(), ()));
    let mut received = 0;
    loop {
        let n = to.conn.recv(|run| (run.len(), run.len()));
        if n == 0 {
            return received;
        }
        received += n as u64;
    }
}

pub(super) fn long(rtt: u64, loss: f64) -> Path {
    let delay = Duration::from_millis(rtt) / 2;
    Path { delay, rate: 400_000_000, queue: 50 * MS, loss, ..Path::default() }
}

#[test]
fn a_clean_line_is_filled() {
    for congestion in [Congestion::Cubic, Congestion::Bbr] {
        for (rtt, least) in [(1, 330.0), (5, 320.0), (50, 300.0), (150, 200.0)] {
            let rate = goodput(long(rtt, 0.0), congestion, 16 << 20, 8, 1);
            eprintln!("{congestion:?}, RTT {rtt} ms: {rate:.1} Mb/s");
            assert!(rate >= least, "{congestion:?}, RTT {rtt} ms: {rate:.1} Mb/s");
        }
    }
}

/// Beside what CUBIC's response function (RFC 9438, section 5.1) says such a line carries.
#[test]
fn losses_cost_what_cubic_says() {
    for (rtt, loss, least) in
        [(1, 0.001, 150.0), (5, 0.001, 80.0), (5, 0.01, 15.0), (50, 0.001, 9.0), (50, 0.01, 2.0)]
    {
        let rate = goodput(long(rtt, loss), Congestion::Cubic, 16 << 20, 30, 2);
        eprintln!("RTT {rtt} ms, loss {loss}: {rate:.1} Mb/s");
        assert!(rate >= least, "RTT {rtt} ms, loss {loss}: {rate:.1} Mb/s");
    }
}

#[test]
fn losses_do_not_keep_bbr_from_filling_a_line() {
    for (rtt, loss) in [(1, 0.01), (10, 0.001), (10, 0.01), (40, 0.01), (150, 0.001)] {
        let rate = goodput(long(rtt, loss), Congestion::Bbr, 16 << 20, 20, 2);
        eprintln!("RTT {rtt} ms, loss {loss}: {rate:.1} Mb/s");
        assert!(rate >= 200.0, "RTT {rtt} ms, loss {loss}: {rate:.1} Mb/s");
    }
}

#[test]
fn reordering_is_no_loss() {
    for congestion in [Congestion::Cubic, Congestion::Bbr] {
        for rtt in [20, 50, 150] {
            let line = Path { late: 0.01, ..long(rtt, 0.0) };
            let rate = goodput(line, congestion, 16 << 20, 10, 3);
            eprintln!("{congestion:?}, RTT {rtt} ms, reordered: {rate:.1} Mb/s");
            assert!(rate > 150.0, "{congestion:?}, RTT {rtt} ms: {rate:.1} Mb/s");
        }
    }
}

/// Four flows beside four of CUBIC: each half gets a fair part, where the queue is about as long as
/// the path; BBR gets more of a short one and less of a long one.
#[test]
fn flows_share_a_line() {
    let (equal, unequal) = (0.35..=0.65, 0.2..=0.75);
    for (rtt, queue, fair) in [
        (10, 20, &equal),
        (40, 50, &equal),
        (40, 20, &unequal),
        (10, 100, &unequal),
        (40, 150, &unequal),
    ] {
        let delay = Duration::from_millis(rtt) / 2;
        let queue = Duration::from_millis(queue);
        let line = Path { delay, rate: 100_000_000, queue, ..Path::default() };
        let mut flows = [Congestion::Cubic; 8];
        flows[4..].fill(Congestion::Bbr);
        let rates = goodputs(line, &flows, 4 << 20, 40, 4);
        let (cubic, bbr) = (rates[..4].iter().sum::<f64>(), rates[4..].iter().sum::<f64>());
        let share = bbr / (cubic + bbr);
        eprintln!("RTT {rtt} ms, queue {queue:?}: BBR {bbr:.1}, CUBIC {cubic:.1} Mb/s");
        assert!(cubic + bbr > 85.0, "RTT {rtt} ms, queue {queue:?}: {rates:.1?}");
        assert!(fair.contains(&share), "RTT {rtt} ms, queue {queue:?}: {rates:.1?}");
    }
}

/// A line that stands still for longer than a time-out and then goes on: nothing is lost, so not
/// much is sent again.
#[test]
fn a_line_that_stands_still_is_no_loss() {
    for congestion in [Congestion::Cubic, Congestion::Bbr] {
        for without in WITHOUT {
            let (delay, queue) = (20 * MS, Duration::from_secs(2));
            let line = Path { delay, rate: 100_000_000, queue, without, ..Path::default() };
            let mut world = World::new(line, settings(congestion, 1 << 20), 5);
            let start = world.now;
            let mut stalls = [1_000, 3_000].into_iter().map(|ms| start + ms * MS).peekable();
            let mut received = 0;
            while world.now < start + Duration::from_secs(5) {
                world.step();
                received += pump(&mut world.pairs[0]);
                if stalls.next_if(|at| *at <= world.now).is_some() {
                    world.free_at = [world.now + 600 * MS; 2];
                }
            }
            let rate = received as f64 * 8.0 / 5e6;
            let label = format!("{congestion:?} without {without:?}");
            eprintln!("{label}: {rate:.1} Mb/s, {} bytes again", world.repeated);
            assert!(world.repeated < 2 * 4 * 1_460, "{label}: {} bytes again", world.repeated);
            assert!(rate > 60.0, "{label}: {rate:.1} Mb/s");
        }
    }
}

/// Two applications with habits, until both directions have ended.
fn exchange_all(line: Path, congestion: Congestion, ring: usize, seed: u64, totals: [u64; 2]) {
    let world = World::new(line, settings(congestion, ring), seed);
    let sent = exchange_within(world, ring, seed, totals);
    let payload = totals[0] + totals[1];
    let bound = 20_000 + payload * 3 + payload / 20 * (line.loss * 400.0) as u64;
    assert!(sent < bound * 4, "{sent} bytes sent for {payload}");
}

/// How many bytes were sent for it.
pub(super) fn exchange_within(mut world: World, ring: usize, seed: u64, totals: [u64; 2]) -> u64 {
    let (mut sent, mut received) = ([0u64; 2], [0u64; 2]);
    let mut over = [false; 2];
    let end = world.now + Duration::from_secs(3_000);
    while !over.iter().all(|o| *o) {
        assert!(
            world.now < end,
            "{totals:?} {sent:?} {received:?} {:?} {:?}",
            world.pairs[0][0].conn,
            world.pairs[0][1].conn
        );
        for n in 0..2 {
            let most = world.random.random_range(0..=ring);
            let mut count = 0;
            world.pairs[0][n].conn.recv(|run| {
                count = run.len().min(most);
                for (i, b) in run[..count].iter().enumerate() {
                    assert_eq!(*b, byte(1 - n, received[n] + i as u64), "seed {seed}");
                }
                (count, ())
            });
            received[n] += count as u64;
            let left = (totals[n] - sent[n]).min(most as u64) as usize;
            let mut count = 0;
            world.pairs[0][n].send(|free| {
                count = free.len().min(left);
                for (i, b) in free[..count].iter_mut().enumerate() {
                    *b = byte(n, sent[n] + i as u64);
                }
                (count, ())
            });
            sent[n] += count as u64;
            let conn = &mut world.pairs[0][n].conn;
            if sent[n] == totals[n] && conn.may_send() {
                conn.close();
            }
            over[n] |= conn.recv_finished() && received[n] == totals[1 - n] && conn.is_over();
        }
        world.step();
        for side in &world.pairs[0] {
            let ended = [TcpEvent::Reset, TcpEvent::TimedOut].map(|e| side.events.contains(&e));
            assert_eq!(
                ended, [false; 2],
                "{:?} {:?}",
                world.pairs[0][0].conn, world.pairs[0][1].conn
            );
        }
    }
    world.sent
}

#[test]
fn everything_arrives_over_a_bad_line() {
    let line = Path { loss: 0.02, duplicate: 0.02, jitter: 3 * MS, ..Path::default() };
    for seed in 0..20 {
        for congestion in [Congestion::Cubic, Congestion::Bbr] {
            exchange_all(line, congestion, 40_000, seed, [300_000, 200_000]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn everything_arrives(
        seed in any::<u64>(),
        bbr in any::<bool>(),
        without in prop::sample::select(&WITHOUT),
        loss in 0.0..0.1f64,
        duplicate in 0.0..0.1f64,
        delay in 0u64..80,
        jitter in 0u64..20,
        rate in prop_oneof![Just(0u64), 1_000_000u64..100_000_000],
        ring in 33_000usize..200_000,
        a in 0u64..200_000,
        b in 0u64..200_000,
    ) {
        let (delay, jitter) = (Duration::from_millis(delay), Duration::from_millis(jitter));
        let line = Path { delay, jitter, rate, loss, duplicate, without, ..Path::default() };
        let congestion = if bbr { Congestion::Bbr } else { Congestion::Cubic };
        exchange_all(line, congestion, ring, seed, [a, b]);
    }
}
