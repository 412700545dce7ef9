//! One connection: its state and its bytes.

use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{self, CongestionControl};
use smoltcp::time::Duration as SmolDuration;

use super::engine::ProfileId;
use super::{ACK_DELAY, ring_size};
use crate::limits::{TCP_KEEPALIVE, TCP_USER_TIMEOUT};

/// What a caller needs to know of RFC 9293's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    /// No connection, or one that is gone.
    Closed,
    /// The three-way handshake runs.
    Opening,
    /// At least one direction can still carry data.
    Open,
    /// Both directions have been closed; FINs or their acknowledgements are outstanding.
    Closing,
    /// TIME-WAIT: everything is acknowledged on both sides.
    Finished,
}

/// A connection with its two rings. Made by [`ConnPool::take`], given back by [`ConnPool::put`].
pub struct TcpConn {
    pub(super) set: SocketSet<'static>,
    handle: SocketHandle,
    pub(super) profile: ProfileId,
    /// Acknowledgement number of the last segment sent: what the other side should send next.
    pub(super) acknowledged: Option<u32>,
    /// Both directions ended in order. The engine forgets it together with its state.
    pub(super) finished: bool,
    /// In TIME-WAIT the last acknowledgement has gone out.
    pub(super) last_ack_sent: bool,
}

impl std::fmt::Debug for TcpConn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = self.socket();
        f.debug_struct("TcpConn")
            .field("local", &s.local_endpoint())
            .field("remote", &s.remote_endpoint())
            .field("state", &s.state())
            .field("recv", &s.recv_queue())
            .field("send", &s.send_queue())
            .finish_non_exhaustive()
    }
}

impl TcpConn {
    fn new(recv_bytes: usize, send_bytes: usize) -> Self {
        let socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; ring_size(recv_bytes)]),
            tcp::SocketBuffer::new(vec![0; ring_size(send_bytes)]),
        );
        let mut set = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = set.add(socket);
        Self {
            set,
            handle,
            profile: ProfileId::default(),
            acknowledged: None,
            finished: false,
            last_ack_sent: false,
        }
    }

    /// Options that the engine forgets, or keeps from the last connection, when a socket is used
    /// again.
    pub(super) fn prepare(&mut self, profile: ProfileId) {
        self.profile = profile;
        self.acknowledged = None;
        self.finished = false;
        self.last_ack_sent = false;
        let s = self.socket_mut();
        s.set_nagle_enabled(false);
        s.set_ack_delay(Some(SmolDuration::from_micros(ACK_DELAY.as_micros() as u64)));
        s.set_congestion_control(CongestionControl::Cubic);
        s.set_timeout(Some(SmolDuration::from_micros(TCP_USER_TIMEOUT.as_micros() as u64)));
        s.set_keep_alive(Some(SmolDuration::from_micros(TCP_KEEPALIVE.as_micros() as u64)));
    }

    pub(super) fn socket(&self) -> &tcp::Socket<'static> {
        self.set.get(self.handle)
    }

    pub(super) fn socket_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }

    pub fn state(&self) -> TcpState {
        match self.socket().state() {
            tcp::State::Closed => TcpState::Closed,
            tcp::State::Listen | tcp::State::SynSent | tcp::State::SynReceived => TcpState::Opening,
            tcp::State::Established
            | tcp::State::CloseWait
            | tcp::State::FinWait1
            | tcp::State::FinWait2 => TcpState::Open,
            tcp::State::Closing | tcp::State::LastAck => TcpState::Closing,
            tcp::State::TimeWait => TcpState::Finished,
        }
    }

    /// The profile (path MTU) the connection runs on.
    pub fn profile(&self) -> ProfileId {
        self.profile
    }

    /// Moves the connection to a profile with another MTU; the next segment obeys it.
    pub fn set_profile(&mut self, profile: ProfileId) {
        self.profile = profile;
    }

    // --- receiving ------------------------------------------------------------------------------

    /// Bytes received in order and not yet taken.
    pub fn recv_len(&self) -> usize {
        self.socket().recv_queue()
    }

    /// The other side has ended its direction and every byte of it has been taken.
    pub fn recv_finished(&self) -> bool {
        let s = self.socket();
        !s.can_recv()
            && (self.finished
                || matches!(
                    s.state(),
                    tcp::State::CloseWait
                        | tcp::State::LastAck
                        | tcp::State::Closing
                        | tcp::State::TimeWait
                ))
    }

    /// TIME-WAIT with bytes that nobody has taken yet. The engine would throw them away at the end
    /// of its TIME-WAIT, so it is not asked any more once everything is said.
    pub(super) fn rests(&self) -> bool {
        self.last_ack_sent && self.state() == TcpState::Finished && self.recv_len() > 0
    }

    /// Lends the longest contiguous run of received bytes; `f` returns how many it has taken.
    /// After a wrap of the ring the run can be shorter than [`TcpConn::recv_len`].
    pub fn recv<R: Default>(&mut self, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        self.socket_mut().recv(f).unwrap_or_default()
    }

    /// Copies received bytes from the front without taking them; returns how many.
    pub fn peek(&mut self, out: &mut [u8]) -> usize {
        self.socket_mut().peek_slice(out).unwrap_or(0)
    }

    /// Takes `n` received bytes without looking at them.
    pub fn skip(&mut self, mut n: usize) {
        while n > 0 {
            let taken = self.recv(|run| (run.len().min(n), run.len().min(n)));
            if taken == 0 {
                return;
            }
            n -= taken;
        }
    }

    /// Copies received bytes from `offset` on without taking them; returns how many. Sees only
    /// the contiguous run, which is everything as long as nothing has been taken before.
    pub fn peek_at(&mut self, offset: usize, out: &mut [u8]) -> usize {
        let Ok(run) = self.socket_mut().peek(offset + out.len()) else { return 0 };
        let Some(run) = run.get(offset..) else { return 0 };
        let n = run.len().min(out.len());
        out[..n].copy_from_slice(&run[..n]);
        n
    }

    // --- sending --------------------------------------------------------------------------------

    /// Whether this side's direction is still open.
    pub fn may_send(&self) -> bool {
        self.socket().may_send()
    }

    /// Free bytes in the send ring; 0 once the direction is closed.
    pub fn send_room(&self) -> usize {
        let s = self.socket();
        if s.may_send() { s.send_capacity() - s.send_queue() } else { 0 }
    }

    /// Bytes not yet acknowledged by the other side.
    pub fn send_queue(&self) -> usize {
        self.socket().send_queue()
    }

    /// Lends the longest contiguous free run of the send ring; `f` returns how many bytes it has
    /// written.
    pub fn send<R: Default>(&mut self, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        self.socket_mut().send(f).unwrap_or_default()
    }

    /// Queues as much of `data` as there is room for; returns how much.
    pub fn send_slice(&mut self, data: &[u8]) -> usize {
        self.socket_mut().send_slice(data).unwrap_or(0)
    }

    /// Ends this side's direction with a FIN behind the queued bytes.
    pub fn close(&mut self) {
        self.socket_mut().close();
    }

    /// Drops the connection; the next output is one RST.
    pub fn abort(&mut self) {
        self.socket_mut().abort();
    }

    /// Whether a RST is still to be sent.
    pub fn reset_pending(&self) -> bool {
        let s = self.socket();
        s.state() == tcp::State::Closed && s.remote_endpoint().is_some()
    }
}

/// Connections at rest, so that opening one allocates nothing in steady state.
#[derive(Debug)]
pub struct ConnPool {
    recv_bytes: usize,
    send_bytes: usize,
    free: Vec<TcpConn>,
    keep: usize,
}

impl ConnPool {
    /// A pool of connections with rings for `recv_bytes` and `send_bytes` (see [`ring_size`]),
    /// which keeps at most `keep` at rest.
    pub fn new(recv_bytes: usize, send_bytes: usize, keep: usize) -> Self {
        Self { recv_bytes, send_bytes, free: Vec::new(), keep }
    }

    pub fn take(&mut self) -> TcpConn {
        self.free.pop().unwrap_or_else(|| TcpConn::new(self.recv_bytes, self.send_bytes))
    }

    /// Takes a connection back, whatever its state.
    pub fn put(&mut self, mut conn: TcpConn) {
        if self.free.len() < self.keep {
            conn.socket_mut().abort();
            self.free.push(conn);
        }
    }
}
