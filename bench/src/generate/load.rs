//! The client side's load: one of several kinds, on one clock.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use clgw::host::{App, Host};
use clgw::port::FrameIo;
use clgw::time::Instant;

use super::exchanges::{Exchanges, ExchangesPlan, Latencies};
use super::schedule::{Phase, Schedule};
use super::streams::{Streams, StreamsPlan};
use super::tally::Tally;

/// Connections being established at a time, where a load needs them all before it begins.
pub const CONNECTING: u64 = 256;

#[derive(Clone, Copy, Debug)]
pub enum Plan {
    Streams(StreamsPlan),
    Exchanges(ExchangesPlan),
}

impl Plan {
    /// The words for the report.
    pub fn words(self) -> String {
        match self {
            Self::Streams(plan) => match (plan.up, plan.down) {
                (true, true) => "streams, both".to_owned(),
                (_, true) => "streams, download".to_owned(),
                _ => "streams, upload".to_owned(),
            },
            Self::Exchanges(plan) => {
                let what = if plan.churn { "connections" } else { "requests" };
                match plan.rate {
                    Some(rate) => format!("{what}, {rate}/s due"),
                    None => format!("{what}, closed loop"),
                }
            }
        }
    }

    /// At a time.
    pub fn connections(self) -> u64 {
        match self {
            Self::Streams(plan) => plan.streams,
            Self::Exchanges(plan) => plan.connections,
        }
    }
}

#[derive(Debug)]
pub enum Load {
    Streams(Streams),
    Exchanges(Exchanges),
}

impl Load {
    pub fn new(plan: Plan, target: Target, tally: Rc<Tally>) -> Self {
        match plan {
            Plan::Streams(plan) => Self::Streams(Streams::new(plan, target, tally)),
            Plan::Exchanges(plan) => Self::Exchanges(Exchanges::new(plan, target, tally)),
        }
    }

    /// Does what is due at `now`, before each turn of the host.
    pub fn drive<P: FrameIo>(&mut self, now: Instant, host: &mut Host<P>) {
        match self {
            Self::Streams(load) => load.drive(now, host),
            Self::Exchanges(load) => load.drive(now, host),
        }
    }

    pub fn schedule(&self) -> &Schedule {
        match self {
            Self::Streams(load) => &load.schedule,
            Self::Exchanges(load) => &load.schedule,
        }
    }

    pub fn is_over(&self) -> bool {
        self.schedule().phase() == Phase::Over
    }

    /// Ends early, with what was measured so far.
    pub fn interrupt(&mut self, now: Instant) {
        match self {
            Self::Streams(load) => load.schedule.interrupt(now),
            Self::Exchanges(load) => load.schedule.interrupt(now),
        }
    }

    /// Times from when requests were due to the end of their responses.
    pub fn into_latencies(self) -> Option<Latencies> {
        match self {
            Self::Streams(_) => None,
            Self::Exchanges(load) => Some(load.into_latencies()),
        }
    }
}

/// Where connections go, and from which of the host's addresses they come in turn.
#[derive(Clone, Debug)]
pub struct Target {
    pub to: SocketAddr,
    /// One at least.
    pub from: Vec<IpAddr>,
}

/// Opens connections to the target.
#[derive(Debug)]
pub struct Opener {
    target: Target,
    turn: usize,
}

impl Opener {
    pub fn new(target: Target) -> Self {
        Self { target, turn: 0 }
    }

    /// Returns the connection's number. `None` when all source ports are in use: later.
    pub fn open<P: FrameIo>(
        &mut self,
        now: Instant,
        host: &mut Host<P>,
        app: Box<dyn App>,
        tally: &Tally,
    ) -> Option<usize> {
        self.turn = (self.turn + 1) % self.target.from.len();
        let number = host.connect(now, Some(self.target.from[self.turn]), self.target.to, app);
        tally.add(|c| c.opened += u64::from(number.is_ok()));
        number.ok()
    }
}
