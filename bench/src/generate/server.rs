//! The server side: does on each connection what the client's first bytes say.

use std::rc::Rc;

use clgw::sim::{App, SocketIo};

use super::protocol::{HEADER, Order, fill, matches};
use super::tally::Tally;

/// One accepted connection.
#[derive(Debug)]
pub struct Responder {
    tally: Rc<Tally>,
    /// Compare what streams carry, too; requests always are.
    verify: bool,
    header: [u8; HEADER],
    /// Of the header.
    have: usize,
    order: Option<Order>,
    established: bool,
    /// Payload bytes of either direction.
    received: u64,
    sent: u64,
    /// Response bytes that may be sent.
    owed: u64,
    over: bool,
}

impl Responder {
    pub fn new(tally: Rc<Tally>, verify: bool) -> Self {
        tally.add(|c| c.opened += 1);
        Self {
            tally,
            verify,
            header: [0; HEADER],
            have: 0,
            order: None,
            established: false,
            received: 0,
            sent: 0,
            owed: 0,
            over: false,
        }
    }

    fn fail(&mut self, io: &mut SocketIo<'_>, why: &str) {
        self.tally.fail(why);
        self.over = true;
        io.abort();
    }

    /// The order, once all of it is there.
    fn order(&mut self, io: &mut SocketIo<'_>) -> Option<Order> {
        while self.order.is_none() {
            let (header, have) = (&mut self.header, self.have);
            let n = io.recv(|bytes| {
                let n = bytes.len().min(HEADER - have);
                header[have..have + n].copy_from_slice(&bytes[..n]);
                n
            });
            if n == 0 {
                return None;
            }
            self.have += n;
            if self.have == HEADER {
                self.order = Order::decode(self.header);
                if self.order.is_none() {
                    self.fail(io, "a client that is no generator");
                    return None;
                }
            }
        }
        self.order
    }

    /// Reads what is there; `false` if it is not what the client should send.
    fn receive(&mut self, io: &mut SocketIo<'_>, verify: bool) -> bool {
        let mut right = true;
        loop {
            let offset = self.received;
            let n = io.recv(|bytes| {
                right &= !verify || matches(bytes, offset);
                bytes.len()
            });
            if n == 0 {
                return right;
            }
            self.received += n as u64;
            self.tally.add(|c| c.received += n as u64);
        }
    }

    fn send(&mut self, io: &mut SocketIo<'_>, most: u64) {
        let mut left = most;
        while left > 0 {
            let offset = self.sent;
            let n = io.send(|room| {
                let n = left.min(room.len() as u64) as usize;
                fill(&mut room[..n], offset);
                n
            }) as u64;
            if n == 0 {
                break;
            }
            self.sent += n;
            left -= n;
            self.tally.add(|c| c.sent += n);
        }
    }
}

impl App for Responder {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        if self.over {
            return;
        }
        if io.is_closed() {
            self.over = true;
            return self.tally.fail("the client reset a connection");
        }
        if !self.established && io.is_established() {
            self.established = true;
            self.tally.add(|c| c.established += 1);
        }
        let order = self.order(io);
        match order {
            None => {}
            Some(Order::Stream { up, down }) => {
                let verify = self.verify && up;
                if !self.receive(io, verify) {
                    return self.fail(io, "a stream with other bytes than were sent");
                }
                if !up && self.received > 0 {
                    return self.fail(io, "payload in the wrong direction");
                }
                if down && !io.recv_finished() {
                    self.send(io, u64::MAX);
                }
            }
            Some(Order::Exchanges { request, response }) => {
                let before = self.received / u64::from(request);
                if !self.receive(io, true) {
                    return self.fail(io, "a request with other bytes than were sent");
                }
                let complete = self.received / u64::from(request) - before;
                self.tally.add(|c| c.exchanges += complete);
                self.owed += complete * u64::from(response);
                let before = self.sent;
                self.send(io, self.owed);
                self.owed -= self.sent - before;
                if io.recv_finished() && !self.received.is_multiple_of(u64::from(request)) {
                    return self.fail(io, "a request that ends in its middle");
                }
            }
        }
        if !self.over && io.recv_finished() && self.owed == 0 {
            io.close();
            self.over = true;
            match order {
                Some(_) => self.tally.add(|c| c.ended += 1),
                None => self.tally.fail("a connection that ends before it says what it is for"),
            }
        }
    }
}
