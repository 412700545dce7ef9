//! What the main thread does while the others run a load: it tells how far they are, and ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::side::Orders;
use super::tally::{Counts, Published};

/// How often the main thread looks whether a load is over or a signal came.
const LOOK: Duration = Duration::from_millis(20);
const PROGRESS: Duration = Duration::from_secs(1);

/// Once a second while a load runs.
#[derive(Debug)]
pub struct Tick {
    /// The start of the threads.
    pub since: Duration,
    /// The client measures. Without a client, always.
    pub measuring: bool,
    /// What was moved since the last one.
    pub line: String,
}

/// The threads of a load, and which sides are in them.
pub struct Watched<'a, T> {
    pub threads: &'a [(&'static str, JoinHandle<T>)],
    pub published: &'a [Arc<Published>; 2],
    pub with_client: bool,
    pub with_server: bool,
    pub orders: &'a Orders,
}

impl<T> Watched<'_, T> {
    /// Until the client is over, or without one interrupted; then ends the server.
    pub fn watch(&self, interrupt: &AtomicBool, tick: &mut dyn FnMut(&Tick)) {
        let Self { threads, published, with_client, with_server, orders } = *self;
        let side = |with: bool, counts: Counts| with.then_some(counts);
        let mut before = [Counts::default(); 2];
        let begin = std::time::Instant::now();
        let mut last = begin;
        // A thread that ends is the client's, or one that failed.
        while !threads.iter().any(|(_, thread)| thread.is_finished()) {
            std::thread::sleep(LOOK);
            if interrupt.load(Ordering::Relaxed) {
                orders.interrupt.store(true, Ordering::Relaxed);
                if !with_client {
                    break;
                }
            }
            let passed = last.elapsed();
            if passed >= PROGRESS {
                last += passed;
                let now = [published[0].load(), published[1].load()];
                let change = [now[0].since(before[0]), now[1].since(before[1])];
                let open = now[usize::from(!with_client)];
                tick(&Tick {
                    since: begin.elapsed(),
                    measuring: !with_client || orders.measuring.load(Ordering::Relaxed),
                    line: line(
                        begin.elapsed(),
                        passed,
                        side(with_client, change[0]),
                        side(with_server, change[1]),
                        open,
                    ),
                });
                before = now;
            }
        }
        orders.end.store(true, Ordering::Relaxed);
    }
}

/// `None` for a side that is not in this process.
fn line(
    since: Duration,
    passed: Duration,
    client: Option<Counts>,
    server: Option<Counts>,
    now: Counts,
) -> String {
    let rate =
        |bytes: Option<u64>| bytes.unwrap_or_default() as f64 * 8.0 / 1e9 / passed.as_secs_f64();
    // What the receiver has counts, where it is here.
    let to_server = server.map(|c| c.received).or(client.map(|c| c.sent));
    let to_client = client.map(|c| c.received).or(server.map(|c| c.sent));
    let exchanges = client.or(server).map_or(0, |c| c.exchanges) as f64 / passed.as_secs_f64();
    format!(
        "{:4.0} s: to server {:.2} Gb/s, to client {:.2} Gb/s, {exchanges:.0} requests/s, {} open, \
         {} failed",
        since.as_secs_f64(),
        rate(to_server),
        rate(to_client),
        now.open(),
        now.failed
    )
}
