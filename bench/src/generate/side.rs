//! A side of the generator: a host with its load or its server, and the loop that runs it.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clgw::host::{Host, HostConfig};
use clgw::net::StackError;
use clgw::port::FrameIo;
use clgw::time::{Clock, Instant};

use super::exchanges::Latencies;
use super::load::{Load, Plan, Target};
use super::schedule::{Broken, Phase};
use super::server::Responder;
use super::tally::{Counts, Published, Tally};

/// Of the samples of a measurement.
const SAMPLE: Duration = Duration::from_secs(1);
/// Empty turns before a thread that shares its CPU sleeps, and how long it then does.
const SPINS: u32 = 200;
const SLEEP: Duration = Duration::from_micros(20);

/// What a thread does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Idle {
    /// Looks again at once: for a CPU of its own.
    Poll,
    /// Lets others have the CPU first.
    Yield,
    /// Sleeps for some microseconds after a number of empty looks.
    Sleep,
}

/// Counts of both sides in a part of the window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub seconds: f64,
    pub client: Counts,
    /// `None` where the server is not in this process.
    pub server: Option<Counts>,
}

#[derive(Debug)]
enum Role {
    Client(Client),
    Server,
}

#[derive(Debug)]
struct Client {
    load: Load,
    server: Option<Arc<Published>>,
    /// When the next sample ends, and what there was when it began.
    sample: Option<(Instant, Sample)>,
    samples: Vec<Sample>,
    /// The last sample was taken.
    complete: bool,
}

#[derive(Debug)]
pub struct Side<P: FrameIo> {
    host: Host<P>,
    role: Role,
    tally: Rc<Tally>,
    published: Arc<Published>,
}

/// What a client has measured.
#[derive(Debug)]
pub struct ClientResult {
    pub samples: Vec<Sample>,
    pub latencies: Option<Latencies>,
    pub first_failure: Option<String>,
    pub broken: Option<Broken>,
}

impl<P: FrameIo> Side<P> {
    /// # Errors
    /// Addresses and routes contradict each other.
    pub fn client(
        io: P,
        config: HostConfig,
        seed: u64,
        (plan, target): (Plan, Target),
        published: Arc<Published>,
        server: Option<Arc<Published>>,
    ) -> Result<Self, StackError> {
        let tally = Rc::new(Tally::default());
        let load = Load::new(plan, target, Rc::clone(&tally));
        let role = Role::Client(Client {
            load,
            server,
            sample: None,
            samples: Vec::new(),
            complete: false,
        });
        Ok(Self { host: Host::on_port(io, config, seed)?, role, tally, published })
    }

    /// # Errors
    /// Addresses and routes contradict each other.
    pub fn server(
        io: P,
        config: HostConfig,
        seed: u64,
        ports: &[u16],
        verify: bool,
        published: Arc<Published>,
    ) -> Result<Self, StackError> {
        let tally = Rc::new(Tally::default());
        let mut host = Host::on_port(io, config, seed)?;
        for port in ports {
            let tally = Rc::clone(&tally);
            let accept = move |_| -> Box<dyn clgw::host::App> {
                Box::new(Responder::new(Rc::clone(&tally), verify))
            };
            host.listen(*port, Box::new(accept));
        }
        Ok(Self { host, role: Role::Server, tally, published })
    }

    /// One turn; returns when the next one is due.
    pub fn turn(&mut self, now: Instant) -> Option<Instant> {
        if let Role::Client(client) = &mut self.role {
            client.load.drive(now, &mut self.host);
        }
        let next = self.host.poll(now);
        let counts = self.tally.counts();
        self.published.store(counts);
        if let Role::Client(client) = &mut self.role {
            client.take_sample(now, counts);
        }
        next
    }

    /// Frames moved so far: a turn that moves none was idle.
    fn moved(&self) -> u64 {
        self.host.counters().rx_frames + self.host.counters().tx_frames
    }

    pub fn is_over(&self) -> bool {
        matches!(&self.role, Role::Client(client) if client.load.is_over())
    }

    fn is_measuring(&self) -> bool {
        matches!(&self.role, Role::Client(c) if c.load.schedule().phase() == Phase::Measuring)
    }

    /// Ends a client's load early.
    pub fn interrupt(&mut self, now: Instant) {
        if let Role::Client(client) = &mut self.role {
            client.load.interrupt(now);
        }
    }

    /// Frames the side's own stack has dropped, by reason.
    pub fn drops(&self) -> Vec<(String, u64)> {
        let drops = self.host.counters().all_drops();
        drops.map(|(reason, n)| (reason.to_string(), n)).collect()
    }

    /// The port, and what was measured if this is a client.
    pub fn finish(self) -> (P, Option<ClientResult>) {
        let first_failure = self.tally.first_failure();
        let result = match self.role {
            Role::Client(Client { load, samples, .. }) => {
                let broken = load.schedule().broken();
                let latencies = load.into_latencies();
                Some(ClientResult { samples, latencies, first_failure, broken })
            }
            Role::Server => None,
        };
        (self.host.into_io(), result)
    }
}

impl Client {
    fn take_sample(&mut self, now: Instant, client: Counts) {
        if self.complete {
            return;
        }
        let schedule = self.load.schedule();
        let Some((from, to)) = schedule.window() else { return };
        let server = self.server.as_ref().map(|s| s.load());
        let totals = |now: Instant| Sample { seconds: seconds(now), client, server };
        let Some((until, before)) = self.sample else {
            // Counted from this look at the clock, as what it counts is.
            if now < to {
                self.sample = Some((from + SAMPLE, totals(now)));
            }
            return;
        };
        let end = until.min(to);
        if now < end {
            return;
        }
        self.samples.push(Sample {
            seconds: seconds(now) - before.seconds,
            client: client.since(before.client),
            server: server.map(|now| now.since(before.server.unwrap_or_default())),
        });
        self.complete = end >= to;
        self.sample = Some((end + SAMPLE, totals(now)));
    }
}

fn seconds(at: Instant) -> f64 {
    at.as_nanos() as f64 / 1e9
}

#[cfg(test)]
impl<P: FrameIo> Side<P> {
    pub fn host_mut(&mut self) -> &mut Host<P> {
        &mut self.host
    }

    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }
}

/// What other threads want of a running one.
#[derive(Debug, Default)]
pub struct Orders {
    /// Clients end their load.
    pub interrupt: AtomicBool,
    /// Servers end.
    pub end: AtomicBool,
    /// Said by a client: it is in its window.
    pub measuring: AtomicBool,
}

/// Time of a thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// In turns that moved frames.
    pub busy: Duration,
    pub total: Duration,
}

/// Runs the sides until the client is over or, without one, until told to end.
pub fn run<P: FrameIo>(
    sides: &mut [Side<P>],
    clock: &mut impl Clock,
    idle: Idle,
    orders: &Orders,
) -> Usage {
    let begin = clock.now();
    let mut usage = Usage::default();
    let mut spins = 0;
    let mut now = begin;
    loop {
        if orders.interrupt.load(Ordering::Relaxed) {
            for side in &mut *sides {
                side.interrupt(now);
            }
        }
        let before: u64 = sides.iter().map(Side::moved).sum();
        let mut next: Option<Instant> = None;
        for side in &mut *sides {
            next = [next, side.turn(now)].into_iter().flatten().min();
        }
        let moved = sides.iter().map(Side::moved).sum::<u64>() > before;
        let after = clock.now();
        usage.total = after.since(begin);
        if let Some(client) = sides.iter().find(|side| matches!(side.role, Role::Client(_))) {
            orders.measuring.store(client.is_measuring(), Ordering::Relaxed);
        }
        if sides.iter().any(Side::is_over) || orders.end.load(Ordering::Relaxed) {
            return usage;
        }
        if moved {
            usage.busy += after.since(now);
            spins = 0;
        }
        spins += 1;
        now = after;
        match idle {
            _ if spins <= 1 => {}
            Idle::Poll => std::hint::spin_loop(),
            Idle::Yield => {
                std::thread::yield_now();
                now = clock.now();
            }
            Idle::Sleep if spins <= SPINS => {}
            Idle::Sleep => {
                let most = next.map_or(SLEEP, |at| SLEEP.min(at.since(now)));
                if !most.is_zero() {
                    std::thread::sleep(most);
                }
                now = clock.now();
            }
        }
    }
}
