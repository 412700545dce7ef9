//! A long line between network interfaces of the kernel: delay, rate, loss, late frames. Not
//! every kernel has netem, and this one loses the same frames for everybody who is measured on
//! it. A process of its own on DPDK, with an af_packet port to either side, or several that share the
//! line.
//!
//! Interfaces must hand on whole frames: segmentation, receive coalescing and checksum offload
//! off at the other ends.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use dpdk_bindings::{
    BURST_MAX, Device, DpdkError, Eal, EalConfig, HugePages, LogLevel, Mbuf, MbufPool, PoolConfig,
    PortConfig, RxQueue, TxQueue,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Shorter than any delay that matters.
const NAP: Duration = Duration::from_micros(50);
/// How often the line says what it lost.
const REPORT: Duration = Duration::from_secs(1);
/// Frames on the line and in the queues in front of it, at most.
const FRAMES: u32 = 32_767;
/// Without huge pages each frame takes a page, and there are rings.
const MEMORY_MIB: u32 = 192;

/// What happens to frames, the same in both directions. Probabilities are per frame, 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct LineConfig {
    /// From one end to the other.
    pub delay: Duration,
    /// Bits per second, Ethernet headers included; 0 = as fast as they come.
    pub rate: u64,
    /// A frame that would wait longer than this for its turn is lost: the queue's length at
    /// `rate`.
    pub queue: Duration,
    pub loss: f64,
    /// Frames that arrive `late_by` later than their neighbours, and so behind them.
    pub late: f64,
    pub late_by: Duration,
    pub seed: u64,
}

impl LineConfig {
    /// Nothing but delay.
    pub fn of_delay(delay: Duration) -> Self {
        Self {
            delay,
            rate: 0,
            queue: Duration::ZERO,
            loss: 0.0,
            late: 0.0,
            late_by: Duration::ZERO,
            seed: 1,
        }
    }
}

/// What the line did in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Passed {
    forwarded: u64,
    lost: u64,
    /// The queue in front of the line was full.
    overflowed: u64,
    late: u64,
}

/// One direction; generic over frames, so that it can be tested without ports.
struct Direction<F> {
    config: LineConfig,
    random: StdRng,
    /// When the line has taken all that is in its queue.
    free_at: Instant,
    /// Frames under way and when each arrives, in that order; those in time and the late ones.
    in_time: VecDeque<(Instant, F)>,
    late: VecDeque<(Instant, F)>,
    passed: Passed,
}

impl<F> Direction<F> {
    fn new(config: LineConfig, now: Instant, number: u64) -> Self {
        Self {
            config,
            random: StdRng::seed_from_u64(config.seed.wrapping_add(number)),
            free_at: now,
            in_time: VecDeque::new(),
            late: VecDeque::new(),
            passed: Passed::default(),
        }
    }

    fn enter(&mut self, now: Instant, frame: F, bytes: usize) {
        // Both are drawn for each frame, so that the sequence does not depend on the outcome.
        let (lost, late) =
            (self.random.random_bool(self.config.loss), self.random.random_bool(self.config.late));
        let begins = self.free_at.max(now);
        if self.config.rate > 0 && begins - now > self.config.queue {
            self.passed.overflowed += 1;
            return;
        }
        if let Some(nanos) = (bytes as u64 * 8 * 1_000_000_000).checked_div(self.config.rate) {
            self.free_at = begins + Duration::from_nanos(nanos);
        } else {
            self.free_at = now;
        }
        if lost {
            self.passed.lost += 1;
            return;
        }
        self.passed.forwarded += 1;
        let at = self.free_at + self.config.delay;
        if late {
            self.passed.late += 1;
            self.late.push_back((at + self.config.late_by, frame));
        } else {
            self.in_time.push_back((at, frame));
        }
    }

    fn leave(&mut self, now: Instant) -> Option<F> {
        let first = |queue: &VecDeque<(Instant, F)>| queue.front().map(|(at, _)| *at);
        let queue = match (first(&self.in_time), first(&self.late)) {
            (Some(a), Some(b)) if b < a => &mut self.late,
            (None, Some(_)) => &mut self.late,
            _ => &mut self.in_time,
        };
        if queue.front()?.0 > now {
            return None;
        }
        queue.pop_front().map(|(_, frame)| frame)
    }
}

/// Forwards between the interfaces of each pair until killed; what comes from different pairs waits in
/// one queue. Says `listening` on stderr once it does, and then each second what it did to frames so
/// far. Overflowed = the queue in front of the line was full; missed = this process was too slow.
///
/// # Errors
/// The interfaces cannot be opened.
pub fn run(pairs: &[[&str; 2]], config: LineConfig) -> Result<(), DpdkError> {
    let device = |(n, interface): (usize, &&str)| {
        let ring = "blocksz=131072,framesz=2048,framecnt=4096";
        Device::Vdev(format!("net_af_packet{n},iface={interface},{ring}"))
    };
    let eal = Eal::init(&EalConfig {
        program: "line".into(),
        huge: HugePages::None,
        memory_mib: MEMORY_MIB,
        log_level: LogLevel::Error,
        devices: pairs.as_flattened().iter().enumerate().map(device).collect(),
        ..EalConfig::default()
    })?;
    let _lcore = eal.register_thread()?;
    let pool = MbufPool::new(&eal, "line", PoolConfig { count: FRAMES, ..PoolConfig::default() })?;
    let start = |n: usize| {
        let config = PortConfig { promiscuous: true, ..PortConfig::default() };
        let name = format!("net_af_packet{n}");
        let port = eal.port_by_name(&name)?.configure(config, std::slice::from_ref(&pool))?;
        port.start()
    };
    let now = Instant::now();
    let way = |n| Way { lanes: Vec::new(), direction: Direction::new(config, now, n) };
    let (mut ways, mut ports) = ([way(0), way(1)], Vec::new());
    for n in 0..pairs.len() {
        let (left, left_queues) = start(2 * n)?;
        let (right, right_queues) = start(2 * n + 1)?;
        ports.extend([left, right]);
        for ((left_rx, left_tx), (right_rx, right_tx)) in left_queues.into_iter().zip(right_queues)
        {
            for (way, (rx, tx)) in ways.iter_mut().zip([(left_rx, right_tx), (right_rx, left_tx)]) {
                way.lanes.push(Lane { rx, tx, came: ArrayVec::new(), arrived: VecDeque::new() });
            }
        }
    }
    eprintln!("listening");

    let mut report = Instant::now() + REPORT;
    let mut random = StdRng::seed_from_u64(config.seed);
    loop {
        let now = Instant::now();
        let mut busy = false;
        for Way { lanes, direction } in &mut ways {
            for lane in lanes.iter_mut() {
                lane.rx.burst(&mut lane.came);
                // From the back, as it is taken.
                lane.came.reverse();
                busy |= !lane.came.is_empty();
            }
            while let Some(n) = whose_turn(lanes.iter().map(|lane| lane.came.len()), &mut random)
                && let Some(mbuf) = lanes[n].came.pop()
            {
                let bytes = mbuf.data().len();
                direction.enter(now, (n, mbuf), bytes);
            }
        }
        for way in &mut ways {
            while let Some((n, mbuf)) = way.direction.leave(now) {
                way.lanes[n].arrived.push_back(mbuf);
            }
            for lane in &mut way.lanes {
                lane.tx.burst(&mut lane.arrived);
            }
        }
        if now > report {
            report = now + REPORT;
            let sum = |of: fn(&Passed) -> u64| -> u64 {
                ways.iter().map(|way| of(&way.direction.passed)).sum()
            };
            let lost = sum(|p| p.lost);
            let all = lost + sum(|p| p.forwarded) + sum(|p| p.overflowed);
            let (late, overflowed) = (sum(|p| p.late), sum(|p| p.overflowed));
            let missed: u64 = ports
                .iter()
                .filter_map(|port| port.stats().ok())
                .map(|stats| stats.rx_missed + stats.rx_no_mbuf)
                .sum();
            eprintln!(
                "lost {lost} of {all} frames, {late} late, {overflowed} overflowed, {missed} missed"
            );
        }
        if !busy {
            thread::sleep(NAP);
        }
    }
}

/// A direction, and who shares it; frames know whose they are.
struct Way {
    lanes: Vec<Lane>,
    direction: Direction<(usize, Mbuf)>,
}

struct Lane {
    rx: RxQueue,
    tx: TxQueue,
    /// In one burst.
    came: ArrayVec<Mbuf, BURST_MAX>,
    /// At the other end.
    arrived: VecDeque<Mbuf>,
}

/// Whose frame enters next, of lanes that have so many waiting; every order of all frames is as likely as
/// any other. What room a full queue has belongs to who comes first: it must not be the same one always.
fn whose_turn(waiting: impl Iterator<Item = usize> + Clone, random: &mut StdRng) -> Option<usize> {
    let all: usize = waiting.clone().sum();
    let mut ticket = if all > 0 { random.random_range(0..all) } else { return None };
    waiting.into_iter().position(|frames| match ticket.checked_sub(frames) {
        Some(rest) => {
            ticket = rest;
            false
        }
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_favours_nobody() {
        let now = Instant::now();
        // Room for one frame of the eight.
        let config = LineConfig { rate: 8_000_000, ..LineConfig::of_delay(MS) };
        let mut random = StdRng::seed_from_u64(1);
        let mut first = [0; 2];
        for _ in 0..1_000 {
            let mut direction = Direction::new(config, now, 0);
            let mut waiting = [4, 4];
            while let Some(n) = whose_turn(waiting.into_iter(), &mut random) {
                waiting[n] -= 1;
                direction.enter(now, n, 1_000);
            }
            assert_eq!((waiting, direction.passed.overflowed), ([0, 0], 7));
            first[direction.leave(now + 10 * MS).unwrap()] += 1;
        }
        assert!((450..550).contains(&first[0]), "{first:?}");
        assert_eq!(whose_turn([0, 3].into_iter(), &mut random), Some(1));
    }

    const MS: Duration = Duration::from_millis(1);

    /// Frames as they leave, with the millisecond at which they do.
    fn drain(direction: &mut Direction<u32>, start: Instant, millis: u32) -> Vec<(u32, u32)> {
        let mut left = Vec::new();
        for at in 0..=millis {
            while let Some(frame) = direction.leave(start + MS * at) {
                left.push((at, frame));
            }
        }
        left
    }

    #[test]
    fn the_rate_spaces_frames_and_the_queue_ends() {
        let start = Instant::now();
        // 1,000 bytes take a millisecond.
        let config = LineConfig { rate: 8_000_000, queue: 3 * MS, ..LineConfig::of_delay(10 * MS) };
        let mut direction = Direction::new(config, start, 0);
        for n in 0..6 {
            direction.enter(start, n, 1_000);
        }
        // The fifth would begin after 4 ms.
        assert_eq!(drain(&mut direction, start, 100), [(11, 0), (12, 1), (13, 2), (14, 3)]);
        assert_eq!(direction.passed, Passed { forwarded: 4, overflowed: 2, ..Passed::default() });
        // Once it has emptied there is room again.
        direction.enter(start + 50 * MS, 9, 1_000);
        assert_eq!(drain(&mut direction, start, 100), [(61, 9)]);
    }

    #[test]
    fn late_frames_arrive_behind_their_successors() {
        let start = Instant::now();
        let config = LineConfig { late: 1.0, late_by: 2 * MS, ..LineConfig::of_delay(MS) };
        let mut direction = Direction::new(config, start, 0);
        direction.enter(start, 0, 100);
        direction.config.late = 0.0;
        direction.enter(start, 1, 100);
        direction.enter(start + 3 * MS, 2, 100);
        assert_eq!(drain(&mut direction, start, 10), [(1, 1), (3, 0), (4, 2)]);
    }

    #[test]
    fn loss_is_as_asked_for_and_the_same_for_the_same_seed() {
        let start = Instant::now();
        let lost = |seed| {
            let config = LineConfig { loss: 0.01, seed, ..LineConfig::of_delay(MS) };
            let mut direction = Direction::new(config, start, 0);
            for n in 0..100_000_u32 {
                direction.enter(start, n, 100);
            }
            assert_eq!(direction.passed.lost + direction.passed.forwarded, 100_000);
            drain(&mut direction, start, 1).iter().map(|(_, n)| u64::from(*n)).sum::<u64>()
        };
        assert_eq!(lost(1), lost(1));
        assert_ne!(lost(1), lost(2));
        let config = LineConfig { loss: 0.01, ..LineConfig::of_delay(MS) };
        let mut direction = Direction::new(config, start, 0);
        (0..100_000_u32).for_each(|n| direction.enter(start, n, 100));
        assert!((800..1_200).contains(&direction.passed.lost), "{:?}", direction.passed);
    }
}
