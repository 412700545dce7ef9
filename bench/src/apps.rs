//! What the endpoints of the simulated chain do.

use std::cell::Cell;
use std::rc::Rc;

use clgw::sim::{App, SocketIo};

pub const MIB: u64 = 1 << 20;
/// Bytes of a stream whose content is checked at their arrival: its first ones.
pub const CHECKED: u64 = 4 * MIB;
/// Payload of one message: one frame at MTU 1500.
pub const MESSAGE: usize = 1_400;

/// What a [`Sink`] got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    pub bytes: u64,
    /// A checked byte was not what [`Source`] sends.
    pub wrong: bool,
}

/// Byte `at` of what is sent at first.
fn pattern(at: u64) -> u8 {
    (at / 7).wrapping_mul(0x9e37_79b9).to_le_bytes()[1]
}

/// Sends as much as it may. Behind the checked bytes it sends what the ring contains: to write it
/// costs cache, and no cipher minds what it seals.
#[derive(Debug)]
pub struct Source {
    sent: u64,
    limit: Rc<Cell<u64>>,
}

impl Source {
    pub fn endless() -> Self {
        Self::up_to(Rc::new(Cell::new(u64::MAX)))
    }

    /// Sends until `limit` bytes are sent in all. Whoever raises it nudges the connection.
    pub fn up_to(limit: Rc<Cell<u64>>) -> Self {
        Self { sent: 0, limit }
    }
}

impl App for Source {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        loop {
            let at = self.sent;
            let left = usize::try_from(self.limit.get() - at).unwrap_or(usize::MAX);
            if left == 0 {
                return;
            }
            let n = io.send(|room| {
                let len = room.len().min(left);
                if at < CHECKED {
                    for (i, byte) in room[..len].iter_mut().enumerate() {
                        *byte = pattern(at + i as u64);
                    }
                }
                len
            });
            if n == 0 {
                return;
            }
            self.sent += n as u64;
        }
    }
}

/// Counts what arrives, and checks its beginning.
#[derive(Debug)]
pub struct Sink(pub Rc<Cell<Received>>);

impl App for Sink {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        loop {
            let mut received = self.0.get();
            let n = io.recv(|bytes| {
                let left = CHECKED.saturating_sub(received.bytes);
                let checked = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                received.wrong |= bytes[..checked]
                    .iter()
                    .enumerate()
                    .any(|(i, byte)| *byte != pattern(received.bytes + i as u64));
                bytes.len()
            });
            if n == 0 {
                return;
            }
            received.bytes += n as u64;
            self.0.set(received);
        }
    }
}

/// What a [`Caller`] is told and tells.
#[derive(Debug, Default)]
pub struct Orders {
    /// Messages still to be sent.
    pub owed: Cell<u64>,
    /// Bytes received.
    pub answered: Cell<u64>,
    /// Ends the connection.
    pub close: Cell<bool>,
}

/// Sends messages when told to, and counts what comes back.
#[derive(Debug)]
pub struct Caller(pub Rc<Orders>);

impl App for Caller {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        loop {
            let n = io.recv(|bytes| bytes.len());
            if n == 0 {
                break;
            }
            self.0.answered.set(self.0.answered.get() + n as u64);
        }
        while self.0.owed.get() > 0 && io.send_room() >= MESSAGE {
            let mut left = MESSAGE;
            while left > 0 {
                left -= io.send(|room| room.len().min(left));
            }
            self.0.owed.set(self.0.owed.get() - 1);
        }
        if self.0.close.get() {
            io.close();
        }
    }
}

/// Sends back what it receives; ends when the other side has.
#[derive(Debug, Default)]
pub struct Echo {
    owed: usize,
}

impl App for Echo {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        loop {
            let read = io.recv(|bytes| bytes.len());
            self.owed += read;
            let owed = self.owed;
            let sent = if owed > 0 { io.send(|room| room.len().min(owed)) } else { 0 };
            self.owed -= sent;
            if read == 0 && sent == 0 {
                break;
            }
        }
        if self.owed == 0 && io.recv_finished() {
            io.close();
        }
    }
}
