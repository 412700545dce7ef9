//! Whole sites in one process, on a virtual clock: the real workers on simulated ports, hosts
//! with an independent TCP stack, wires that delay, lose, duplicate and reorder. A seed decides
//! everything, so a failure is found again by its seed.
//!
//! Serves the tests and the in-memory measurements.

mod gateway;
mod host;
pub mod line;
mod pki;
pub mod probe;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

pub use gateway::{GatewaySetup, Offload, SimGateway, Spread};
pub use host::{Host, HostSetup};
pub use pki::{Pki, SimTime};

pub use crate::host::{App, SocketIo};
use crate::limits::{ETHERNET_HEADER, RX_BURST};
use crate::net::likely_key;
use crate::port::Frame;
use crate::port::sim::SimFrame;
use crate::time::Instant;

/// What a wire does to frames. Probabilities are per frame, 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct LinkConfig {
    pub delay: Duration,
    /// Added to `delay`, uniformly up to this: more than the spacing of frames reorders them.
    pub jitter: Duration,
    pub loss: f64,
    pub duplicate: f64,
    /// One bit of an IP packet is changed, as by a bad router: Ethernet's own checksum keeps
    /// damage on the wire from arriving, so link headers, ARP and NDP are spared.
    pub corrupt: f64,
}

impl LinkConfig {
    /// A short, perfect wire.
    pub const CLEAN: Self = Self {
        delay: Duration::from_micros(5),
        jitter: Duration::ZERO,
        loss: 0.0,
        duplicate: 0.0,
        corrupt: 0.0,
    };
}

/// One end of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Host(usize),
    /// A gateway and the index of its port.
    Gateway(usize, usize),
}

#[derive(Debug)]
struct Link {
    ends: [End; 2],
    config: LinkConfig,
    /// Nothing passes.
    cut: bool,
}

/// A frame on its way.
#[derive(Debug)]
struct Flight {
    at: Instant,
    /// Keeps the order of frames that arrive at the same time.
    number: u64,
    to: End,
    frame: SimFrame,
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Flight {}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What passed over all wires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireStats {
    pub frames: u64,
    pub bytes: u64,
    pub lost: u64,
    /// Order-dependent sum over all frames and times: two runs with equal sums were the same.
    pub digest: u64,
}

/// All sites of one simulation.
pub struct World {
    pub now: Instant,
    pub hosts: Vec<Host>,
    pub gateways: Vec<SimGateway>,
    pub stats: WireStats,
    links: Vec<Link>,
    flights: BinaryHeap<Reverse<Flight>>,
    next_number: u64,
    rng: StdRng,
    tap: Option<Tap>,
}

/// Sees every frame that is put on a wire.
pub type Tap = Box<dyn FnMut(Instant, End, &[u8])>;

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("hosts", &self.hosts.len())
            .field("gateways", &self.gateways.len())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            // Not zero: a deadline of zero must lie in the past.
            now: Instant::from_millis(1),
            hosts: Vec::new(),
            gateways: Vec::new(),
            stats: WireStats::default(),
            links: Vec::new(),
            flights: BinaryHeap::new(),
            next_number: 0,
            rng: StdRng::seed_from_u64(seed),
            tap: None,
        }
    }

    pub fn add_host(&mut self, setup: HostSetup) -> usize {
        self.hosts.push(Host::new(setup, self.rng.next_u64()));
        self.hosts.len() - 1
    }

    pub fn add_gateway(&mut self, setup: &GatewaySetup<'_>) -> usize {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        self.gateways.push(SimGateway::new(setup, seed));
        self.gateways.len() - 1
    }

    /// Joins two ends; returns the number of the wire.
    pub fn link(&mut self, a: End, b: End, config: LinkConfig) -> usize {
        self.links.push(Link { ends: [a, b], config, cut: false });
        self.links.len() - 1
    }

    pub fn set_link(&mut self, link: usize, config: LinkConfig) {
        self.links[link].config = config;
    }

    /// Cuts or mends a wire. Frames on their way still arrive.
    pub fn cut(&mut self, link: usize, cut: bool) {
        self.links[link].cut = cut;
    }

    /// Shows every frame to `tap` as it is sent.
    pub fn set_tap(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Frames that have not arrived yet.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Everything that happens now; then the clock goes on to when something happens next, but
    /// not beyond `limit`. `false` once the clock stands there.
    pub fn step(&mut self, limit: Instant) -> bool {
        while self.flights.peek().is_some_and(|Reverse(f)| f.at <= self.now) {
            if let Some(Reverse(flight)) = self.flights.pop() {
                match flight.to {
                    End::Host(h) => self.hosts[h].deliver(flight.frame),
                    End::Gateway(g, p) => self.gateways[g].deliver(p, flight.frame),
                }
            }
        }
        let mut next = self.flights.peek().map(|Reverse(f)| f.at);
        let mut soonest = |at: Option<Instant>| {
            next = [next, at].into_iter().flatten().min();
        };
        for host in &mut self.hosts {
            soonest(host.poll(self.now));
        }
        for gateway in &mut self.gateways {
            soonest(gateway.poll(self.now));
        }
        for l in 0..self.links.len() {
            for side in 0..2 {
                let (from, to) = (self.links[l].ends[side], self.links[l].ends[1 - side]);
                while let Some(frame) = self.collect(from) {
                    let at = self.send(l, from, to, frame);
                    soonest(at);
                }
            }
        }
        // At least a microsecond: a turn that wants another at once gets it a moment later, as
        // on a real core.
        let step = self.now + Duration::from_micros(1);
        self.now = next.unwrap_or(limit).max(step).min(limit);
        self.now < limit
    }

    /// Runs until `done` or for `most`; returns whether `done` was reached.
    pub fn run_until(&mut self, most: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let limit = self.now + most;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(limit) {
                return done(self);
            }
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    fn collect(&mut self, from: End) -> Option<SimFrame> {
        match from {
            End::Host(h) => self.hosts[h].collect(),
            End::Gateway(g, p) => self.gateways[g].collect(p),
        }
    }

    /// Puts a frame on a wire; returns when it arrives.
    fn send(&mut self, link: usize, from: End, to: End, mut frame: SimFrame) -> Option<Instant> {
        let LinkConfig { delay, jitter, loss, duplicate, corrupt } = self.links[link].config;
        self.stats.frames += 1;
        self.stats.bytes += frame.data().len() as u64;
        for part in [self.now.as_nanos(), frame.data().len() as u64] {
            self.stats.digest = self.stats.digest.rotate_left(5) ^ part.wrapping_mul(0x9e37_79b9);
        }
        if let Some(tap) = &mut self.tap {
            tap(self.now, from, frame.data());
        }
        if self.links[link].cut || (loss > 0.0 && self.rng.random_bool(loss)) {
            self.stats.lost += 1;
            return None;
        }
        if corrupt > 0.0 && self.rng.random_bool(corrupt) && likely_key(frame.data()).is_some() {
            let data = frame.data_mut();
            let at = self.rng.random_range(ETHERNET_HEADER..data.len());
            data[at] ^= 1 << self.rng.random_range(0..8);
        }
        let mut first = None;
        if duplicate > 0.0 && self.rng.random_bool(duplicate) {
            let copy = match to {
                End::Host(h) => self.hosts[h].pool().copy(frame.data()),
                End::Gateway(g, _) => self.gateways[g].pool().copy(frame.data()),
            };
            if let Some(copy) = copy {
                first = Some(self.fly(to, delay, jitter, copy));
            }
        }
        let at = self.fly(to, delay, jitter, frame);
        Some(first.map_or(at, |f| f.min(at)))
    }

    fn fly(&mut self, to: End, delay: Duration, jitter: Duration, frame: SimFrame) -> Instant {
        let extra = match jitter.as_nanos() as u64 {
            0 => 0,
            most => self.rng.random_range(0..=most),
        };
        let at = self.now + delay + Duration::from_nanos(extra);
        self.next_number += 1;
        self.flights.push(Reverse(Flight { at, number: self.next_number, to, frame }));
        at
    }
}

/// Frames a simulated receive ring holds.
pub(crate) const SIM_RING: usize = 64 * RX_BURST;
