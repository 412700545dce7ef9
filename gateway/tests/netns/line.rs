//! A line with delay and loss between the sites. Not every kernel has netem, so this is a process
//! of its own on DPDK, with one port to either side.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use dpdk_bindings::{
    BURST_MAX, Device, DpdkError, Eal, Mbuf, MbufPool, PoolConfig, PortConfig, RxQueue, TxQueue,
    testing,
};

/// Shorter than any delay that a test asks for.
const NAP: Duration = Duration::from_micros(50);
/// What the line says it lost, this often.
const REPORT: Duration = Duration::from_secs(1);

/// One direction.
struct Direction {
    rx: RxQueue,
    tx: TxQueue,
    /// Frames under way, and when each arrives.
    under_way: VecDeque<(Instant, Mbuf)>,
    arrived: VecDeque<Mbuf>,
}

/// Forwards between the interfaces `left` and `right` until killed. Every frame takes `delay`;
/// `loss` of 10,000 frames get lost.
pub fn run(delay: Duration, loss: u64, seed: u64) -> Result<(), DpdkError> {
    let device = |n: u32, interface: &str| {
        let ring = "blocksz=131072,framesz=2048,framecnt=4096";
        Device::Vdev(format!("net_af_packet{n},iface={interface},{ring}"))
    };
    let devices = vec![device(0, "left"), device(1, "right")];
    let eal = Eal::init(&dpdk_bindings::EalConfig { devices, ..testing::config() })?;
    let _lcore = eal.register_thread()?;
    let pool = MbufPool::new(&eal, "line", PoolConfig { count: 8_191, ..PoolConfig::default() })?;
    let start = |name: &str| {
        let config = PortConfig { promiscuous: true, ..PortConfig::default() };
        let port = eal.port_by_name(name)?.configure(config, std::slice::from_ref(&pool))?;
        let (port, mut queues) = port.start()?;
        let (rx, tx) = queues.pop().expect("one pair of queues");
        Ok::<_, DpdkError>((port, rx, tx))
    };
    let (_left, left_rx, left_tx) = start("net_af_packet0")?;
    let (_right, right_rx, right_tx) = start("net_af_packet1")?;
    let direction =
        |rx, tx| Direction { rx, tx, under_way: VecDeque::new(), arrived: VecDeque::new() };
    let mut directions = [direction(left_rx, right_tx), direction(right_rx, left_tx)];
    eprintln!("listening");

    let mut random = seed | 1;
    let (mut lost, mut forwarded) = (0_u64, 0_u64);
    let mut report = Instant::now() + REPORT;
    let mut burst = ArrayVec::<Mbuf, BURST_MAX>::new();
    loop {
        let now = Instant::now();
        let mut busy = false;
        for direction in &mut directions {
            direction.rx.burst(&mut burst);
            busy |= !burst.is_empty();
            for mbuf in burst.drain(..) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if (random >> 11) % 10_000 < loss {
                    lost += 1;
                } else {
                    forwarded += 1;
                    direction.under_way.push_back((now + delay, mbuf));
                }
            }
            while direction.under_way.front().is_some_and(|(at, _)| *at <= now) {
                direction.arrived.extend(direction.under_way.pop_front().map(|(_, mbuf)| mbuf));
            }
            direction.tx.burst(&mut direction.arrived);
        }
        if now > report {
            report = now + REPORT;
            eprintln!("lost {lost} of {} frames", lost + forwarded);
        }
        if !busy {
            thread::sleep(NAP);
        }
    }
}
