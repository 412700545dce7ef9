//! The loop around a worker: clock, sleep, orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use dpdk_bindings::{RxInterrupts, Wake};

use super::idle::{Idle, Rest};
use crate::config::IdlePolicy;
use crate::port::FrameIo;
use crate::port::dpdk::DpdkPort;
use crate::time::{Clock, Instant};
use crate::tls::HandshakeExecutor;
use crate::worker::Worker;

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

/// Runs the worker until [`Order::Stop`]. Returns how many connections were cut. `interrupts` watches
/// its ports where the policy wants that, else nothing.
pub(super) fn run<H: HandshakeExecutor>(
    mut worker: Worker<DpdkPort, H>,
    mut clock: impl Clock,
    policy: IdlePolicy,
    mut interrupts: RxInterrupts,
    orders: &Arc<Orders>,
) -> usize {
    let mut draining = false;
    let mut reported = 0;
    let mut report_at = Instant::ZERO;
    let mut now = clock.now();
    let mut idle = Idle::new(policy, now);
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
        let began = std::mem::replace(&mut now, clock.now());
        if turn.busy {
            worker.add_busy(now.since(began));
        }
        match idle.rest(turn, began, now) {
            Rest::Nothing => {}
            Rest::Pause(hints) => (0..hints).for_each(|_| std::hint::spin_loop()),
            Rest::Arm => {
                if let Err(error) = worker.ports_mut().try_for_each(DpdkPort::arm) {
                    tracing::warn!(%error, "no receive interrupts any more: sleeping instead");
                    idle = Idle::new(IdlePolicy::Sleep, now);
                }
            }
            Rest::Disarm => worker.ports_mut().for_each(DpdkPort::disarm),
            Rest::Sleep(time) => {
                let interrupted = interrupts.wait(time) == Wake::Interrupt;
                let since = std::mem::replace(&mut now, clock.now());
                worker.add_sleep(now.since(since), interrupted);
                if interrupted {
                    idle.interrupted();
                }
            }
        }
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
