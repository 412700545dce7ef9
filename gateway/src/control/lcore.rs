//! The loop around a worker: clock, idle strategy, orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use crate::config::IdlePolicy;
use crate::port::FrameIo;
use crate::time::{Clock, Instant};
use crate::tls::HandshakeExecutor;
use crate::worker::Worker;

/// Empty turns before a sharing worker sleeps.
const SPINS: u32 = 200;
/// First and longest sleep. Longer sleeps let af_packet rings overflow.
const SLEEP_MIN: Duration = Duration::from_micros(10);
const SLEEP_MAX: Duration = Duration::from_micros(50);

/// How often a draining worker says how far it is.
const REPORT: Duration = Duration::from_millis(5);

/// What the control thread wants of all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Order {
    Run = 0,
    Drain = 1,
    /// End now; what is open is cut.
    Stop = 2,
}

/// Orders to the workers, and how far they are.
#[derive(Debug, Default)]
pub(super) struct Orders {
    order: AtomicU8,
    /// Connections that are not finished, over all draining workers.
    pub unfinished: AtomicUsize,
    /// Workers that have begun to drain.
    pub draining: AtomicUsize,
}

impl Orders {
    pub fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
    }

    fn get(&self) -> Order {
        match self.order.load(Ordering::Relaxed) {
            0 => Order::Run,
            1 => Order::Drain,
            _ => Order::Stop,
        }
    }
}

/// Runs the worker until [`Order::Stop`]. Returns how many connections were cut.
pub(super) fn run<P: FrameIo, H: HandshakeExecutor>(
    mut worker: Worker<P, H>,
    mut clock: impl Clock,
    idle: IdlePolicy,
    orders: &Arc<Orders>,
) -> usize {
    let mut spins = 0;
    let mut sleep = SLEEP_MIN;
    let mut draining = false;
    let mut reported = 0;
    let mut report_at = Instant::ZERO;
    let mut now = clock.now();
    loop {
        match orders.get() {
            Order::Run => {}
            Order::Drain if !draining => {
                draining = true;
                worker.drain();
                reported = report(&worker, orders, reported);
                orders.draining.fetch_add(1, Ordering::AcqRel);
            }
            Order::Drain => {
                if now >= report_at {
                    report_at = now + REPORT;
                    reported = report(&worker, orders, reported);
                }
            }
            Order::Stop => return worker.cut(),
        }
        let turn = worker.poll(now);
        let next = clock.now();
        if turn.busy {
            worker.add_busy(next.as_nanos() - now.as_nanos());
            (spins, sleep) = (0, SLEEP_MIN);
        } else if idle == IdlePolicy::Sleep {
            spins += 1;
            if spins > SPINS {
                wait(next, turn.next, sleep);
                sleep = (sleep * 2).min(SLEEP_MAX);
                now = clock.now();
                continue;
            }
        } else {
            std::hint::spin_loop();
        }
        now = next;
    }
}

/// Corrects the sum over all workers by what changed here; returns what this worker now adds to it.
fn report<P: FrameIo, H: HandshakeExecutor>(
    worker: &Worker<P, H>,
    orders: &Orders,
    before: usize,
) -> usize {
    let left = worker.unfinished();
    orders.unfinished.fetch_add(left.wrapping_sub(before), Ordering::AcqRel);
    left
}

fn wait(now: Instant, next: Option<Instant>, most: Duration) {
    let most = next.map_or(most, |at| most.min(at.since(now)));
    if !most.is_zero() {
        std::thread::sleep(most);
    }
}
