//! The loads `connections` and `requests`: requests with their responses, each on a connection of
//! its own or many on one.
//!
//! At a given rate (open loop) request `n` has a time at which it is due, whatever became of those
//! before it, and its latency counts from then: a server that stalls for a second is seen by all
//! the requests of that second, not by the one that happened to be open. Without a rate (closed
//! loop) a request is due when the one before it has been answered.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use clgw::host::Host;
use clgw::port::FrameIo;
use clgw::sim::{App, SocketIo};
use clgw::time::Instant;
use hdrhistogram::Histogram;

use super::load::{CONNECTING, Opener, Target};
use super::protocol::{HEADER, Order, fill, matches};
use super::schedule::{Pace, Phase, Schedule, Timing};
use super::tally::Tally;

/// Longest latency that is told from longer ones: an hour.
const LONGEST_NANOS: u64 = 3_600_000_000_000;

#[derive(Clone, Copy, Debug)]
pub struct ExchangesPlan {
    /// A new connection for each request.
    pub churn: bool,
    /// Connections at a time; at a rate, at the most.
    pub connections: u64,
    /// Requests due per second; `None` for a closed loop.
    pub rate: Option<f64>,
    /// Bytes.
    pub request: u32,
    pub response: u32,
    pub timing: Timing,
}

/// What was found out about the requests that were due in the window.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// Nanoseconds from when a request was due to the last byte of its response. Unanswered
    /// requests are in it with the time that they had waited until the end.
    pub histogram: Histogram<u64>,
    /// Requests that were due and had no answer when the load was over.
    pub unanswered: u64,
}

#[derive(Debug)]
struct Shared {
    plan: ExchangesPlan,
    tally: Rc<Tally>,
    header: [u8; HEADER],
    /// Requests that are due, and those that a connection has taken.
    due: Cell<u64>,
    taken: Cell<u64>,
    pace: Cell<Option<Pace>>,
    window: Cell<Option<(Instant, Instant)>>,
    latencies: RefCell<Latencies>,
    idle: RefCell<Vec<Rc<Slot>>>,
    /// Idle connections end.
    end: Cell<bool>,
    /// All connections end now.
    abort: Cell<bool>,
}

/// A connection in the list of idle ones.
#[derive(Debug, Default)]
struct Slot {
    number: Cell<usize>,
    listed: Cell<bool>,
}

impl Shared {
    /// Takes the next request that is due; returns since when.
    fn take(&self, now: Instant) -> Option<Instant> {
        let n = self.taken.get();
        if n >= self.due.get() {
            return None;
        }
        self.taken.set(n + 1);
        Some(self.pace.get().map_or(now, |pace| pace.at(n)))
    }

    fn record(&self, due: Instant, now: Instant, answered: bool) {
        let Some((from, to)) = self.window.get() else { return };
        if due < from || due >= to {
            return;
        }
        let mut latencies = self.latencies.borrow_mut();
        let nanos = now.since(due).as_nanos() as u64;
        latencies.histogram.saturating_record(nanos.max(1));
        latencies.unanswered += u64::from(!answered);
    }
}

#[derive(Debug)]
pub struct Exchanges {
    shared: Rc<Shared>,
    opener: Opener,
    pub schedule: Schedule,
}

impl Exchanges {
    pub fn new(plan: ExchangesPlan, target: Target, tally: Rc<Tally>) -> Self {
        let histogram = match Histogram::new_with_bounds(1, LONGEST_NANOS, 3) {
            Ok(histogram) => histogram,
            Err(error) => panic!("bounds and precision are constants: {error:?}"),
        };
        let order = Order::Exchanges { request: plan.request, response: plan.response };
        let shared = Shared {
            plan,
            tally,
            header: order.encode(),
            due: Cell::new(0),
            taken: Cell::new(0),
            pace: Cell::new(None),
            window: Cell::new(None),
            latencies: RefCell::new(Latencies { histogram, unanswered: 0 }),
            idle: RefCell::default(),
            end: Cell::new(false),
            abort: Cell::new(false),
        };
        Self {
            shared: Rc::new(shared),
            opener: Opener::new(target),
            schedule: Schedule::new(plan.timing),
        }
    }

    /// Opens connections and hands out the requests that are due at `now`.
    pub fn drive<P: FrameIo>(&mut self, now: Instant, host: &mut Host<P>) {
        let shared = Rc::clone(&self.shared);
        let plan = &shared.plan;
        let counts = shared.tally.counts();
        let ready = plan.churn || self.schedule.keep(now, plan.connections, counts);
        // Connections that are kept and have all ended take nothing any more.
        let nothing_left = !plan.churn || shared.taken.get() >= shared.due.get();
        let changed = self.schedule.advance(now, ready, counts.open() == 0 && nothing_left);
        if changed && shared.pace.get().is_none() && self.schedule.phase() > Phase::Connecting {
            shared.pace.set(plan.rate.map(|rate| Pace::new(now, rate)));
        }
        shared.window.set(self.schedule.window());
        match self.schedule.phase() {
            Phase::Connecting => return self.connect(now, host),
            Phase::WarmUp | Phase::Measuring => {
                shared.due.set(shared.pace.get().map_or(u64::MAX, |pace| pace.due(now)));
            }
            Phase::Finishing => self.finish(host),
            Phase::Over => return self.give_up(now, host),
        }
        if plan.churn {
            self.churn(now, host);
        }
        let waiting = shared.due.get() - shared.taken.get();
        for _ in 0..waiting.min(plan.connections) {
            let Some(slot) = shared.idle.borrow_mut().pop() else { break };
            slot.listed.set(false);
            host.nudge(slot.number.get());
        }
    }

    /// The connections that all requests use.
    fn connect<P: FrameIo>(&mut self, now: Instant, host: &mut Host<P>) {
        loop {
            let counts = self.shared.tally.counts();
            let pending = counts.opened - counts.established - counts.failed;
            if counts.opened >= self.shared.plan.connections || pending >= CONNECTING {
                return;
            }
            if !self.open(now, host, None) {
                return;
            }
        }
    }

    /// A connection for each request that is due.
    fn churn<P: FrameIo>(&mut self, now: Instant, host: &mut Host<P>) {
        while self.shared.tally.counts().open() < self.shared.plan.connections {
            let Some(due) = self.shared.take(now) else { return };
            if !self.open(now, host, Some(due)) {
                // No source port: it stays due.
                return self.shared.taken.set(self.shared.taken.get() - 1);
            }
        }
    }

    fn open<P: FrameIo>(&mut self, now: Instant, host: &mut Host<P>, due: Option<Instant>) -> bool {
        let app = Exchange::new(Rc::clone(&self.shared), due);
        let slot = Rc::clone(&app.slot);
        let number = self.opener.open(now, host, Box::new(app), &self.shared.tally);
        slot.number.set(number.unwrap_or_default());
        number.is_some()
    }

    /// At a rate, what was due before the end still has its turn.
    fn finish<P: FrameIo>(&mut self, host: &mut Host<P>) {
        let shared = &self.shared;
        let due = match (shared.pace.get(), self.schedule.window()) {
            // `due` counts what is due at the end, too.
            (Some(pace), Some((_, to))) => pace.due(to).saturating_sub(1),
            _ => 0,
        };
        shared.due.set(due.max(shared.taken.get()));
        let all_taken = shared.taken.get() == shared.due.get();
        if all_taken && !shared.end.replace(all_taken) {
            host.nudge_all();
        }
    }

    fn give_up<P: FrameIo>(&mut self, now: Instant, host: &mut Host<P>) {
        if self.shared.abort.replace(true) {
            return;
        }
        while let Some(due) = self.shared.take(now) {
            self.shared.record(due, now, false);
        }
        host.nudge_all();
    }

    pub fn into_latencies(self) -> Latencies {
        self.shared.latencies.borrow().clone()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Idle,
    Busy,
    /// This direction has ended.
    Closing,
    Over,
}

/// A connection.
#[derive(Debug)]
struct Exchange {
    shared: Rc<Shared>,
    slot: Rc<Slot>,
    state: State,
    /// When the request in work was due.
    due: Option<Instant>,
    header: usize,
    /// Payload of the connection so far.
    sent: u64,
    received: u64,
    /// Of the request in work.
    request_left: u32,
    response_left: u32,
}

impl Exchange {
    fn new(shared: Rc<Shared>, due: Option<Instant>) -> Self {
        let (request_left, response_left) = (shared.plan.request, shared.plan.response);
        Self {
            shared,
            slot: Rc::default(),
            state: State::Connecting,
            due,
            header: 0,
            sent: 0,
            received: 0,
            request_left,
            response_left,
        }
    }

    fn fail(&mut self, io: &mut SocketIo<'_>, why: &str) {
        self.state = State::Over;
        self.shared.tally.fail(why);
        if let Some(due) = self.due.take() {
            self.shared.record(due, io.now, false);
        }
        io.abort();
    }

    fn begin(&mut self, due: Instant) {
        self.state = State::Busy;
        self.due = Some(due);
        (self.request_left, self.response_left) =
            (self.shared.plan.request, self.shared.plan.response);
    }

    fn send(&mut self, io: &mut SocketIo<'_>) {
        while self.header < HEADER {
            let (bytes, at) = (&self.shared.header, self.header);
            let n = io.send(|room| {
                let n = room.len().min(HEADER - at);
                room[..n].copy_from_slice(&bytes[at..at + n]);
                n
            });
            if n == 0 {
                return;
            }
            self.header += n;
        }
        while self.request_left > 0 {
            let (left, offset) = (self.request_left as usize, self.sent);
            let n = io.send(|room| {
                let n = room.len().min(left);
                fill(&mut room[..n], offset);
                n
            });
            if n == 0 {
                return;
            }
            self.sent += n as u64;
            self.request_left -= n as u32;
            self.shared.tally.add(|c| c.sent += n as u64);
        }
    }

    /// `false` if other bytes came than the server should send.
    fn receive(&mut self, io: &mut SocketIo<'_>) -> bool {
        let mut right = true;
        loop {
            let offset = self.received;
            let n = io.recv(|bytes| {
                right &= matches(bytes, offset);
                bytes.len()
            });
            if n == 0 {
                return right;
            }
            self.received += n as u64;
            self.shared.tally.add(|c| c.received += n as u64);
            match u32::try_from(n).ok().and_then(|n| self.response_left.checked_sub(n)) {
                Some(left) if self.request_left == 0 => self.response_left = left,
                // More than was asked for, or before it was.
                _ => return false,
            }
        }
    }

    fn closed(&mut self, io: &mut SocketIo<'_>) {
        if self.state == State::Closing && io.recv_finished() {
            self.state = State::Over;
            self.shared.tally.add(|c| c.ended += 1);
        } else if self.state == State::Connecting {
            self.fail(io, "a connection was refused");
        } else {
            self.fail(io, "a connection was reset");
        }
    }

    fn close(&mut self, io: &mut SocketIo<'_>) {
        self.state = State::Closing;
        io.close();
    }

    /// One step; `true` while there may be another one.
    fn step(&mut self, io: &mut SocketIo<'_>) -> bool {
        match self.state {
            State::Connecting => {
                if !io.may_send() {
                    return false;
                }
                self.shared.tally.add(|c| c.established += 1);
                self.state = if self.due.is_some() { State::Busy } else { State::Idle };
                true
            }
            State::Idle => {
                if let Some(due) = self.shared.take(io.now) {
                    self.begin(due);
                    return true;
                }
                if self.shared.end.get() {
                    // The server does not know yet what the connection was for.
                    self.request_left = 0;
                    self.send(io);
                    self.close(io);
                } else if !self.slot.listed.replace(true) {
                    self.shared.idle.borrow_mut().push(Rc::clone(&self.slot));
                }
                false
            }
            State::Busy => {
                self.send(io);
                if self.response_left > 0 {
                    return false;
                }
                if let Some(due) = self.due.take() {
                    self.shared.record(due, io.now, true);
                }
                self.shared.tally.add(|c| c.exchanges += 1);
                if self.shared.plan.churn {
                    self.close(io);
                    return false;
                }
                self.state = State::Idle;
                true
            }
            State::Closing | State::Over => false,
        }
    }
}

impl App for Exchange {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        if self.state == State::Over {
            return;
        }
        if self.state != State::Connecting && !self.receive(io) {
            return self.fail(io, "a response with other bytes than were asked for");
        }
        if io.is_closed() {
            return self.closed(io);
        }
        if self.shared.abort.get() {
            return self.fail(io, "a connection did not end in time");
        }
        while self.step(io) {}
        if matches!(self.state, State::Idle | State::Busy) && io.recv_finished() {
            self.fail(io, "the server ended a connection");
        }
    }
}
