//! What a connection of a host does, and how it sees the connection.

use smoltcp::socket::tcp;

use crate::time::Instant;

/// What a connection of a host does. Called whenever something may have changed.
pub trait App {
    fn poll(&mut self, io: &mut SocketIo<'_>);
}

/// A connection as its [`App`] sees it.
#[derive(Debug)]
pub struct SocketIo<'a> {
    pub now: Instant,
    pub(super) socket: &'a mut tcp::Socket<'static>,
}

impl SocketIo<'_> {
    pub fn is_established(&self) -> bool {
        self.socket.may_send() || self.socket.may_recv()
    }

    /// Nothing more will come and nothing can be sent: reset, refused or finished.
    pub fn is_closed(&self) -> bool {
        !self.socket.is_open()
    }

    pub fn may_send(&self) -> bool {
        self.socket.may_send()
    }

    /// The other side has ended its direction and everything was read.
    pub fn recv_finished(&self) -> bool {
        !self.socket.can_recv()
            && matches!(
                self.socket.state(),
                tcp::State::CloseWait
                    | tcp::State::LastAck
                    | tcp::State::Closing
                    | tcp::State::TimeWait
            )
    }

    /// Lends received bytes; `f` says how many it takes.
    pub fn recv(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> usize {
        self.socket
            .recv(|bytes| {
                let n = f(bytes);
                (n, n)
            })
            .unwrap_or(0)
    }

    /// Lends room to send; `f` says how many bytes it wrote.
    pub fn send(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> usize {
        self.socket
            .send(|room| {
                let n = f(room);
                (n, n)
            })
            .unwrap_or(0)
    }

    /// Bytes that can be sent now, however many runs of [`SocketIo::send`] it takes.
    pub fn send_room(&self) -> usize {
        if !self.socket.may_send() {
            return 0;
        }
        self.socket.send_capacity() - self.socket.send_queue()
    }

    /// Bytes that were sent and are not acknowledged, or wait to be sent.
    pub fn send_queue(&self) -> usize {
        self.socket.send_queue()
    }

    /// Ends this side's direction.
    pub fn close(&mut self) {
        self.socket.close();
    }

    /// Resets the connection.
    pub fn abort(&mut self) {
        self.socket.abort();
    }
}
