//! The load `streams`: long transfers.

use std::cell::Cell;
use std::rc::Rc;

use clgw::host::Host;
use clgw::port::FrameIo;
use clgw::sim::{App, SocketIo};
use clgw::time::Instant;

use super::load::{CONNECTING, Opener, Target};
use super::protocol::{HEADER, Order, fill, matches};
use super::schedule::{Phase, Schedule, Timing};
use super::tally::Tally;

#[derive(Clone, Copy, Debug)]
pub struct StreamsPlan {
    pub streams: u64,
    pub up: bool,
    pub down: bool,
    /// Compare every byte that is received.
    pub verify: bool,
    pub timing: Timing,
}

/// What the load wants of all its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    End,
    Abort,
}

#[derive(Debug)]
struct Shared {
    plan: StreamsPlan,
    tally: Rc<Tally>,
    wish: Cell<Wish>,
}

#[derive(Debug)]
pub struct Streams {
    shared: Rc<Shared>,
    opener: Opener,
    pub schedule: Schedule,
}

impl Streams {
    pub fn new(plan: StreamsPlan, target: Target, tally: Rc<Tally>) -> Self {
        Self {
            shared: Rc::new(Shared { plan, tally, wish: Cell::new(Wish::Run) }),
            opener: Opener::new(target),
            schedule: Schedule::new(plan.timing),
        }
    }

    /// Opens, ends and aborts streams as the time demands.
    pub fn drive<P: FrameIo>(&mut self, now: Instant, host: &mut Host<P>) {
        let Shared { plan, tally, wish } = &*self.shared;
        if self.schedule.phase() == Phase::Connecting {
            for _ in 0..CONNECTING {
                let counts = tally.counts();
                let pending = counts.opened - counts.established - counts.failed;
                if counts.opened == plan.streams || pending >= CONNECTING {
                    break;
                }
                let app = Stream::new(Rc::clone(&self.shared));
                if self.opener.open(now, host, Box::new(app), tally).is_none() {
                    break;
                }
            }
        }
        let counts = tally.counts();
        let ready = self.schedule.keep(now, plan.streams, counts);
        self.schedule.advance(now, ready, counts.open() == 0);
        let wanted = match self.schedule.phase() {
            Phase::Finishing => Wish::End,
            Phase::Over => Wish::Abort,
            _ => Wish::Run,
        };
        if wish.replace(wanted) != wanted {
            host.nudge_all();
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Open,
    /// This direction has ended.
    Closing,
    Over,
}

#[derive(Debug)]
struct Stream {
    shared: Rc<Shared>,
    state: State,
    header: usize,
    sent: u64,
    acknowledged: u64,
    received: u64,
}

impl Stream {
    fn new(shared: Rc<Shared>) -> Self {
        Self { shared, state: State::Connecting, header: 0, sent: 0, acknowledged: 0, received: 0 }
    }

    fn fail(&mut self, io: &mut SocketIo<'_>, why: &str) {
        self.state = State::Over;
        self.shared.tally.fail(why);
        io.abort();
    }

    fn send(&mut self, io: &mut SocketIo<'_>) {
        let Shared { plan, .. } = &*self.shared;
        if self.header < HEADER {
            let bytes = Order::Stream { up: plan.up, down: plan.down }.encode();
            let at = self.header;
            self.header += io.send(|room| {
                let n = room.len().min(HEADER - at);
                room[..n].copy_from_slice(&bytes[at..at + n]);
                n
            });
        }
        while plan.up && self.header == HEADER {
            let offset = self.sent;
            let n = io.send(|room| {
                fill(room, offset);
                room.len()
            });
            if n == 0 {
                break;
            }
            self.sent += n as u64;
        }
    }

    /// `false` if what came is not what was sent.
    fn receive(&mut self, io: &mut SocketIo<'_>) -> bool {
        let Shared { plan, tally, .. } = &*self.shared;
        let mut right = true;
        loop {
            let offset = self.received;
            let n = io.recv(|bytes| {
                right &=
                    bytes.is_empty() || (plan.down && (!plan.verify || matches(bytes, offset)));
                bytes.len()
            });
            if n == 0 {
                return right;
            }
            self.received += n as u64;
            tally.add(|c| c.received += n as u64);
        }
    }

    fn acknowledge(&mut self, io: &SocketIo<'_>) {
        let acknowledged = self.sent.saturating_sub(io.send_queue() as u64);
        let more = acknowledged.saturating_sub(self.acknowledged);
        self.acknowledged += more;
        self.shared.tally.add(|c| c.sent += more);
    }
}

impl App for Stream {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        if self.state == State::Over {
            return;
        }
        if !self.receive(io) {
            return self.fail(io, "a stream with other bytes than were sent");
        }
        if io.is_closed() {
            // The server ends its direction only after this one.
            let in_order = self.state == State::Closing && io.recv_finished();
            let established = self.state != State::Connecting;
            self.state = State::Over;
            return match (in_order, established) {
                (true, _) => self.shared.tally.add(|c| c.ended += 1),
                (_, true) => self.shared.tally.fail("a stream was reset"),
                (_, false) => self.shared.tally.fail("a connection was refused"),
            };
        }
        let wish = self.shared.wish.get();
        if wish == Wish::Abort {
            return self.fail(io, "a stream did not end in time");
        }
        if self.state == State::Connecting && io.may_send() {
            self.state = State::Open;
            self.shared.tally.add(|c| c.established += 1);
        }
        if self.state == State::Open {
            self.acknowledge(io);
            if wish == Wish::End && self.header == HEADER {
                self.state = State::Closing;
                io.close();
            } else if io.recv_finished() {
                self.fail(io, "the server ended a stream");
            } else {
                self.send(io);
            }
        }
    }
}
