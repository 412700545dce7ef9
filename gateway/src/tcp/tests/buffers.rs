//! Memory of connections: lent while there are bytes to hold, shared out where it is scarce.

use proptest::prelude::*;

use super::super::memory::{Chunk, Class, Use};
use super::line::{MS, Path, World, exchange_within, long, settings};
use super::*;
use crate::limits::TCP_LEAST_MEMORY;

const KIB: usize = 1024;

/// With all acknowledgements that wait.
fn at_rest(c: &mut Side, s: &mut Side, now: &mut Instant) {
    exchange(c, s, *now);
    *now += ACK_DELAY;
    exchange(c, s, *now);
}

#[test]
fn connections_at_rest_hold_nothing() {
    let mut now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    at_rest(&mut c, &mut s, &mut now);
    for n in [1, 5_000, 60_000] {
        assert_eq!(c.send_slice(&vec![7; n]), n);
        assert!(c.engine.memory().in_use() >= n);
        at_rest(&mut c, &mut s, &mut now);
        assert_eq!(c.engine.memory().in_use(), 0, "{n} bytes are acknowledged");
        assert!(s.engine.memory().in_use() >= n);
        s.conn.skip(n);
        at_rest(&mut c, &mut s, &mut now);
        assert_eq!(s.engine.memory().in_use(), 0, "{n} bytes are taken");
    }
    for side in [&c, &s] {
        assert_eq!((side.conn.sent.memory(), side.conn.assembler.memory()), (0, 0));
    }
    // What was made sure of and not used.
    assert!(c.conn.reserve(c.engine.memory(), 10_000));
    at_rest(&mut c, &mut s, &mut now);
    assert_eq!(c.engine.memory().in_use(), 0);
}

#[test]
fn gaps_are_noted_in_lent_memory() {
    let mut now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    c.send_slice(&[7; 4_344]);
    c.output(now);
    let first = c.line.segments.pop_front().unwrap();
    while let Some(segment) = c.line.segments.pop_front() {
        s.input(now, &segment);
    }
    assert!(s.conn.assembler.memory() > 0);
    s.input(now, &first);
    at_rest(&mut c, &mut s, &mut now);
    assert_eq!((s.conn.recv_len(), s.conn.assembler.memory()), (4_344, 0));
}

/// Lends all there is to nobody.
fn exhaust(side: &mut Side, what: Use) -> Vec<Chunk> {
    std::iter::from_fn(|| side.engine.memory().take(Class::of(1), what)).collect()
}

fn give_back(side: &mut Side, chunks: Vec<Chunk>) {
    chunks.into_iter().for_each(|chunk| side.engine.memory().put(chunk));
}

fn with_little_memory(now: Instant) -> (Side, Side) {
    let (mut c, mut s) = (Side::new(1), Side::with(2, SETTINGS, 256 * KIB));
    call(&mut c, &mut s, now);
    exchange(&mut c, &mut s, now);
    (c, s)
}

#[test]
fn a_segment_that_finds_no_memory_is_dropped_and_comes_again() {
    let mut now = Instant::from_millis(1);
    let (mut c, mut s) = with_little_memory(now);
    let taken = exhaust(&mut s, Use::ServiceReceive);
    c.send_slice(b"hello");
    c.conn.close();
    exchange(&mut c, &mut s, now);
    assert_eq!((s.conn.recv_len(), s.engine.memory().take_segments_dropped()), (0, 1));
    assert_eq!(s.engine.memory().take_segments_dropped(), 0);
    give_back(&mut s, taken);
    now += Duration::from_secs(2);
    exchange(&mut c, &mut s, now);
    assert_eq!(s.conn.recv_len(), 5);
    s.conn.skip(5);
    assert!(s.conn.recv_finished());
}

#[test]
fn what_is_left_of_a_segment_and_finds_no_memory_comes_again() {
    let mut now = Instant::from_millis(1);
    let (mut c, mut s) = with_little_memory(now);
    let lent = exhaust(&mut s, Use::ServiceReceive);
    c.send_slice(b"hello");
    c.output(now);
    s.input_to(now, &c.line.segments.pop_front().unwrap(), |_, _| 2);
    assert_eq!((s.conn.recv_len(), s.engine.memory().take_segments_dropped()), (0, 1));
    give_back(&mut s, lent);
    now += Duration::from_secs(2);
    exchange(&mut c, &mut s, now);
    let mut rest = [0; 5];
    assert_eq!((s.conn.peek(&mut rest), &rest[..3]), (3, &b"llo"[..]));
}

/// Queues a draft whose first byte is written last.
fn finish(conn: &mut TcpConn, draft: &[u8]) {
    let whole: Result<(), ()> = conn.send_draft(draft.len(), &mut [0; 32], |there| {
        there[0] = draft[0];
        assert_eq!(there, draft);
        Ok(())
    });
    whole.unwrap();
}

#[test]
fn a_draft_is_not_sent_and_stays_when_all_before_it_is_gone() {
    let mut now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    c.send_slice(&[7; 3_000]);
    assert!(c.conn.reserve(c.engine.memory(), 7));
    assert_eq!(c.conn.draft(1, b"raf"), 3);
    assert_eq!((c.conn.send_queue(), c.conn.unsent()), (3_000, 3_000));
    at_rest(&mut c, &mut s, &mut now);
    assert_eq!((c.conn.send_queue(), s.conn.recv_len()), (0, 3_000));
    s.conn.skip(3_000);
    // The ring takes it along when it grows.
    assert!(c.conn.reserve(c.engine.memory(), 60_000));
    assert_eq!(c.conn.draft(4, b"ted"), 3);
    finish(&mut c.conn, b"drafted");
    at_rest(&mut c, &mut s, &mut now);
    let mut seen = [0; 8];
    assert_eq!((s.conn.peek(&mut seen), &seen[..7]), (7, &b"drafted"[..]));
    assert_eq!(c.engine.memory().in_use(), 0);
}

#[test]
fn a_draft_keeps_its_room_when_there_is_less() {
    let mut now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    c.send_slice(&[7; 40_000]);
    assert!(c.conn.reserve(c.engine.memory(), 5));
    c.conn.draft(1, b"raft");
    c.conn.squeezed = true;
    assert_eq!(c.conn.send_room(), 0);
    finish(&mut c.conn, b"draft");
    at_rest(&mut c, &mut s, &mut now);
    assert_eq!(s.conn.recv_len(), 40_005);
}

#[test]
fn a_draft_is_nothing_if_it_fails_or_the_direction_ends() {
    let mut now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    assert!(c.conn.reserve(c.engine.memory(), 5));
    c.conn.draft(1, b"raft");
    assert_eq!(c.conn.send_draft(5, &mut [0; 5], |_| Err("no")), Err("no"));
    assert_eq!(c.conn.send_queue(), 0);
    c.conn.close();
    assert_eq!(c.conn.draft(1, b"raft"), 0);
    let ended: Result<(), ()> = c.conn.send_draft(5, &mut [0; 5], |_| panic!("it has ended"));
    assert_eq!(ended, Ok(()));
    at_rest(&mut c, &mut s, &mut now);
    assert!(s.conn.recv_finished());
}

#[test]
fn who_finds_no_memory_to_send_is_told_and_may_try_again() {
    let now = Instant::from_millis(1);
    let (_, mut s) = with_little_memory(now);
    let taken = exhaust(&mut s, Use::ServiceSend);
    assert!(s.conn.send_room() > 0);
    assert!(!s.conn.reserve(s.engine.memory(), 1));
    assert_eq!((s.send_slice(b"x"), s.conn.send_run()), (0, 0));
    assert!(s.conn.take_starved() && !s.conn.take_starved());
    give_back(&mut s, taken);
    assert_eq!((s.send_slice(b"x"), s.conn.take_starved()), (1, false));
    assert!(!s.conn.reserve(s.engine.memory(), 1 << 20), "that is more than it may hold");
    assert!(!s.conn.take_starved());
}

#[test]
fn windows_shrink_while_memory_is_tight() {
    let mut now = Instant::from_millis(1);
    let (mut c, mut s) = with_little_memory(now);
    let mut taken = exhaust(&mut s, Use::ServiceReceive);
    let last = taken.pop().unwrap();
    give_back(&mut s, vec![last]);
    let mut edge = c.conn.una + c.conn.window;
    for _ in 0..60 {
        c.send_slice(&[1; 1_400]);
        exchange(&mut c, &mut s, now);
        s.conn.skip(usize::MAX);
        now += ACK_DELAY;
        exchange(&mut c, &mut s, now);
        // The window field has no finer unit; what was shown once is taken (RFC 7323, section 2.4).
        let shown = c.conn.una + c.conn.window + ((1 << s.conn.recv_shift) - 1);
        assert!(shown.ge(edge) && s.conn.edge.ge(edge), "a right edge never goes back");
        edge = edge.max(c.conn.una + c.conn.window);
    }
    let least = SQUEEZED as u32 - c.conn.mss(PROFILE);
    assert!((least..=SQUEEZED as u32).contains(&c.conn.window), "{:?}", c.conn);
    give_back(&mut s, taken);
    exchange(&mut c, &mut s, now);
    assert_eq!(c.conn.window, 65_536, "it is told that there is more");
}

/// Bytes of a side's window that are shown and not used.
fn usable(side: &Side) -> u32 {
    (side.conn.una + side.conn.window).since(side.conn.nxt)
}

#[test]
fn a_window_grows_with_what_is_taken_and_not_slower_than_slow_start() {
    let settings = TcpSettings { receive: 16 << 20, send: 16 << 20, ..SETTINGS };
    let line = Path { rate: 10_000_000_000, ..long(150, 0.0) };
    let mut world = World::new(line, settings, 1);
    let start = world.now;
    // Nobody reads.
    while world.now.since(start) < Duration::from_secs(5) {
        world.step();
        world.pairs[0][0].send(|free| (free.len(), ()));
        assert!(world.pairs[0][0].conn.window <= 64 * KIB as u32);
    }
    let received = world.pairs[0][1].conn.recv_len();
    assert!((60 * KIB..=64 * KIB).contains(&received), "{received}");
    world.pairs[0][1].conn.skip(usize::MAX);
    let mut windows = vec![];
    while world.pairs[0][0].conn.window < 15 << 20 {
        world.step();
        world.pairs[0][0].send(|free| (free.len(), ()));
        world.pairs[0][1].conn.skip(usize::MAX);
        windows.push(world.pairs[0][0].conn.window);
        assert!(world.now.since(start) < Duration::from_secs(9), "{:?}", windows.last());
    }

    // A fresh one is never held back by it.
    let mut world = World::new(line, settings, 1);
    let mut most = 0;
    while most < 6 << 20 {
        world.step();
        if world.pairs[0][0].conn.may_send() {
            assert!(usable(&world.pairs[0][0]) >= 1_448, "{:?}", world.pairs[0][0].conn);
        }
        most = most.max(world.pairs[0][0].conn.nxt.since(world.pairs[0][0].conn.una));
        world.pairs[0][0].send(|free| (free.len(), ()));
        world.pairs[0][1].conn.skip(usize::MAX);
    }
    assert!(world.now.since(start) < Duration::from_millis(150 * 12), "{:?}", world.now);
}

/// Whatever the limit: what a path holds is what it carries in a round trip, and its queue.
#[test]
fn a_long_line_is_filled_by_a_window_of_four_times_what_it_holds() {
    const HOLDS: u32 = 400_000_000 / 8 / 1_000 * (150 + 50);
    // What comes behind a loss waits for another round trip.
    for (congestion, loss, least, needed) in [
        (Congestion::Cubic, 0.0, 200.0, HOLDS),
        (Congestion::Bbr, 0.0, 200.0, HOLDS),
        (Congestion::Bbr, 0.001, 100.0, 2 * HOLDS),
    ] {
        let mut world = World::new(long(150, loss), settings(congestion, 256 << 20), 1);
        let start = world.now;
        let mut received = 0;
        while world.now.since(start) < Duration::from_secs(8) {
            world.step();
            let [from, to] = &mut world.pairs[0];
            from.send(|free| (free.len(), ()));
            received += to.conn.recv_len();
            to.conn.skip(usize::MAX);
        }
        let rate = received as f64 * 8.0 / 8e6;
        let window = world.pairs[0][1].conn.tuning.window();
        eprintln!("{congestion:?}, loss {loss}: {rate:.1} Mb/s, {window} bytes for {needed}");
        assert!(rate >= least, "{congestion:?}, loss {loss}: {rate:.1} Mb/s");
        assert!(window <= 4 * needed + 65_536, "{congestion:?}, loss {loss}: {window} bytes");
    }
}

/// Otherwise each bulk flow would fill all it may hold, whatever its path carries.
#[test]
fn not_much_more_is_queued_than_the_path_carries() {
    let settings = TcpSettings { receive: 16 << 20, send: 16 << 20, ..SETTINGS };
    let line = Path { delay: 10 * MS, rate: 20_000_000, queue: 20 * MS, ..Path::default() };
    let mut world = World::new(line, settings, 1);
    let start = world.now;
    let mut most = 0;
    while world.now.since(start) < Duration::from_secs(5) {
        world.step();
        world.pairs[0][0].send(|free| (free.len(), ()));
        world.pairs[0][1].conn.skip(usize::MAX);
        most = most.max(world.pairs[0][0].conn.send_queue());
    }
    // It carries 50 KiB, and queues as much.
    assert!(most < 1024 * KIB, "{most} bytes");
    let memory = world.pairs[0][1].engine.memory();
    assert!(memory.in_use() + memory.kept() < 1024 * KIB);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Two gateways with the least memory, of which others hold as much as clients and services can
    /// fill.
    #[test]
    fn what_arrives_is_right_however_little_memory_there_is(
        seed in any::<u64>(),
        loss in 0.0..0.03f64,
        jitter in 0u64..5,
        ring in 33_000usize..200_000,
        memory in TCP_LEAST_MEMORY..2 * TCP_LEAST_MEMORY,
        a in 0u64..200_000,
        b in 0u64..200_000,
    ) {
        let line = Path { loss, jitter: Duration::from_millis(jitter), ..Path::default() };
        let settings = TcpSettings { receive: ring, send: ring, side: BufferSide::Peer, ..SETTINGS };
        let mut world = World::shared(line, &[settings], seed, memory);
        let held = world.pairs[0].each_mut().map(|side| exhaust(side, Use::ServiceReceive));
        exchange_within(world, ring, seed, [a, b]);
        drop(held);
    }

    #[test]
    fn a_few_pages_suffice_for_one_direction(
        seed in any::<u64>(),
        loss in 0.0..0.03f64,
        memory in 6usize..40,
        a in 0u64..100_000,
    ) {
        let line = Path { loss, ..Path::default() };
        let settings = TcpSettings { receive: 40_000, send: 40_000, ..SETTINGS };
        let world = World::shared(line, &[settings], seed, memory * KIB);
        exchange_within(world, 40_000, seed, [a, 0]);
    }
}
