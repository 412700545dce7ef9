//! Two engines over a line that swallows some packets.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::limits::{PATH_MTU_RAISE, TCP_USER_TIMEOUT};

const DELAY: Duration = Duration::from_millis(5);
const START: Instant = Instant::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

struct World {
    sides: [Side; 2],
    now: Instant,
    flights: VecDeque<(Instant, usize, Vec<u8>)>,
    /// The first side always has something to send.
    busy: bool,
    /// Payload that the second side has taken.
    received: usize,
}

impl World {
    fn new(v6: bool) -> Self {
        let (client, server) = match v6 {
            false => addresses(),
            true => ("[fd00::1]:4000".parse().unwrap(), "[fd00::2]:80".parse().unwrap()),
        };
        let (mut c, mut s) = (Side::new(1), Side::new(2));
        let profile = c.engine.profile(PROFILE);
        assert!(c.engine.connect(&mut c.conn, START, client, server, profile));
        c.output(START);
        let syn = c.line.segments.pop_front().unwrap();
        let profile = s.engine.profile(PROFILE);
        let tcp = tcp(&syn);
        assert!(s.engine.accept(&mut s.conn, START, (server, client), profile, tcp));
        Self { sides: [c, s], now: START, flights: VecDeque::new(), busy: true, received: 0 }
    }

    /// Goes on until `done`, over a line that carries what `passes`.
    fn run(
        &mut self,
        mut passes: impl FnMut(Instant, &[u8]) -> bool,
        mut done: impl FnMut(&Self) -> bool,
    ) {
        while !done(self) {
            let [c, s] = &mut self.sides;
            if self.busy {
                c.send(|free| (free.len(), ()));
            }
            self.received += s.conn.recv(|run| (run.len(), run.len()));
            let mut next = None;
            for (n, side) in self.sides.iter_mut().enumerate() {
                side.output(self.now);
                while let Some(segment) = side.line.segments.pop_front() {
                    if passes(self.now, &segment) {
                        self.flights.push_back((self.now + DELAY, 1 - n, segment));
                    }
                }
                let due = side.engine.deadline(&side.conn, self.now);
                next = [next, due].into_iter().flatten().min();
            }
            let arrival = self.flights.front().map(|(at, ..)| *at);
            let next = [next, arrival].into_iter().flatten().min().unwrap_or(self.now + SECOND);
            self.now = next.max(self.now + Duration::from_micros(10));
            while self.flights.front().is_some_and(|(at, ..)| *at <= self.now) {
                let Some((_, to, segment)) = self.flights.pop_front() else { break };
                let Side { engine, conn, events, .. } = &mut self.sides[to];
                let event = engine.input(conn, self.now, tcp(&segment), false, unread);
                if event != TcpEvent::None {
                    events.push(event);
                }
            }
        }
    }

    fn mtu(&self) -> usize {
        let Side { engine, conn, .. } = &self.sides[0];
        engine.mtu(conn.profile())
    }

    fn black_holes(&self) -> u64 {
        self.sides[0].engine.black_holes()
    }

    fn time(&self) -> Duration {
        self.now.since(START)
    }
}

fn tcp(packet: &[u8]) -> &[u8] {
    if packet[0] >> 4 == 6 { &packet[40..] } else { &packet[20..] }
}

#[test]
fn a_path_that_swallows_long_packets_gets_shorter_ones() {
    for (v6, longest, mtu) in [
        (false, 1_499, 1_280),
        (false, 1_280, 1_280),
        (false, 1_279, 576),
        (false, 576, 576),
        (true, 1_499, 1_280),
        (true, 1_280, 1_280),
    ] {
        let mut world = World::new(v6);
        let passes = |_, packet: &[u8]| packet.len() <= longest;
        world.run(passes, |w| w.received >= 50_000 || w.time() > 60 * SECOND);
        assert!(world.time() < 10 * SECOND, "{longest}: {:?}", world.time());
        assert_eq!((world.mtu(), world.black_holes()), (mtu, 1), "{longest}");
        // Longer ones are tried without a stall.
        let begin = world.received;
        let end = world.now + 5 * SECOND;
        world.run(passes, |w| w.now >= end);
        assert_eq!((world.mtu(), world.black_holes()), (mtu, 1), "{longest}");
        assert!(world.received > begin + 5_000_000, "{longest}: {}", world.received - begin);
    }
}

#[test]
fn a_path_that_changes_to_a_black_hole_is_noticed_and_one_that_changes_back_too() {
    let mut world = World::new(false);
    world.run(|_, _| true, |w| w.received >= 1_000_000);
    let (mtu, begin, at) = (world.mtu(), world.received, world.now);
    assert_eq!(mtu, 1_500);
    world.run(|_, packet| packet.len() <= 1_400, |w| w.received >= begin + 1_000_000);
    assert!(world.now.since(at) < 5 * SECOND, "{:?}", world.now.since(at));
    assert_eq!(world.mtu(), 1_280);
    let end = world.now + 5 * SECOND;
    world.run(|_, packet| packet.len() <= 1_400, |w| w.now >= end);
    world.busy = false;
    world.run(|_, packet| packet.len() <= 1_400, |w| w.sides[0].conn.send_queue() == 0);
    let end = world.now + PATH_MTU_RAISE;
    world.run(|_, _| true, |w| w.now >= end);
    world.busy = true;
    let end = world.now + SECOND;
    world.run(|_, _| true, |w| w.now >= end);
    assert_eq!((world.mtu(), world.black_holes()), (1_500, 1));
}

#[test]
fn a_dead_path_ends_by_the_user_time_out() {
    for v6 in [false, true] {
        let mut world = World::new(v6);
        world.run(|_, _| true, |w| w.received >= 100_000);
        let at = world.now;
        world.run(
            |_, _| false,
            |w| w.sides[0].events.len() > 1 || w.now.since(at) > 2 * TCP_USER_TIMEOUT,
        );
        let took = world.now.since(at);
        assert_eq!(world.sides[0].events.last(), Some(&TcpEvent::TimedOut));
        assert!(took >= TCP_USER_TIMEOUT && took < TCP_USER_TIMEOUT + 2 * SECOND, "{took:?}");
        assert_eq!((world.mtu(), world.black_holes()), (1_500, 0));
    }
}

#[test]
fn losses_leave_the_length_alone() {
    for seed in 0..10 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new(false);
        world.run(|_, _| random.random_bool(0.97), |w| w.time() > 60 * SECOND);
        world.run(|_, _| true, |w| w.time() > 65 * SECOND);
        assert_eq!(world.mtu(), 1_500, "seed {seed}");
    }
}

/// Shorter segments arrive, but so would long ones.
#[test]
fn an_outage_does_not_make_segments_short_for_long() {
    for outage in [500, 800, 1_500, 5_000, 20_000] {
        let mut world = World::new(false);
        world.run(|_, _| true, |w| w.received >= 100_000);
        let back = world.now + Duration::from_millis(outage);
        world.run(|now, _| now >= back, |w| w.now >= back + 40 * SECOND);
        assert_eq!(world.mtu(), 1_500, "{outage} ms");
        assert!(world.received > 1_000_000, "{outage} ms: {}", world.received);
    }
}

/// A report by ICMP is believed more than what time-outs suggest.
#[test]
fn a_reported_path_mtu_ends_the_suspicion() {
    let mut world = World::new(false);
    world.run(|_, packet| packet.len() <= 1_400, |w| w.received >= 10_000);
    assert_eq!(world.mtu(), 1_280);
    let Side { engine, conn, .. } = &mut world.sides[0];
    let told = engine.profile(Profile { mtu: 1_000, checksum_offload: false });
    engine.set_profile(conn, told);
    let end = world.now + 5 * SECOND;
    world.run(|_, packet| packet.len() <= 1_000, |w| w.now >= end);
    assert_eq!((world.mtu(), world.black_holes()), (1_000, 1));
}
