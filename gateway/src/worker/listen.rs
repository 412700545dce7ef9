//! Connections that others open: limits first, memory last. Past the limits SYNs are answered with
//! cookies (RFC 4987, section 3.6), so that a flood of them keeps nobody out.

use rand::Rng;

use super::Worker;
use super::conn::{Conn, Leg, Pending, TunnelLeg};
use super::snapshot::Listener;
use crate::flow::FlowId;
use crate::limits::TCP_HANDSHAKE_TIMEOUT;
use crate::net::{Ip, Resolve, TcpPacket};
use crate::port::FrameIo;
use crate::tcp::{BufferSide, TcpConn, TcpEvent};
use crate::telemetry::{CloseReason, DropReason};
use crate::tls::HandshakeExecutor;
use crate::tunnel::Role;

impl<P: FrameIo, H: HandshakeExecutor> Worker<P, H> {
    /// A SYN without a connection.
    pub(super) fn syn(&mut self, p: usize, packet: &TcpPacket<'_>) {
        let Some(listener) = self.listener(p, packet) else {
            self.counters.drop_frame(DropReason::NoListener);
            return self.refuse(p, packet);
        };
        if self.draining {
            self.counters.drop_frame(DropReason::Draining);
            return self.refuse(p, packet);
        }
        // RFC 6191, section 2: a new connection may take the place of one in TIME-WAIT if its
        // sequence numbers lie behind the old ones.
        if !self.time_wait.may_reopen(&packet.key, packet.seq) {
            self.counters.drop_frame(DropReason::NoFlow);
            return;
        }
        if self.half_open.open(packet.key.remote).is_err() {
            return self.send_cookie(p, packet, listener);
        }
        let Some(id) = self.admit(p, packet, listener, Pending::Tcp) else { return };
        let Some(conn) = self.conns.get_mut(id) else { return };
        let ends = (packet.key.local_addr(), packet.key.remote_addr());
        let profile = self.ports[p].profile;
        if !self.engine.accept(&mut conn.tcp, self.now, ends, profile, packet.tcp) {
            self.counters.drop_frame(DropReason::TcpMalformed);
            return self.remove(id);
        }
        Self::wake(&mut self.ready, id, conn);
    }

    /// What takes connections at the address that `packet` was sent to, on the side of port `p`.
    fn listener(&self, p: usize, packet: &TcpPacket<'_>) -> Option<Listener> {
        let listener = *self.snapshot.listeners.get(&packet.key.local_addr())?;
        let faces = match listener {
            Listener::Import(_) => self.ports[p].side.is_service(),
            Listener::Tunnel => self.ports[p].side.is_peer(),
        };
        faces.then_some(listener)
    }

    /// Makes the connection that `packet` opens, with nothing of TCP in it. It was counted as
    /// `pending`, which is undone if there is no room.
    fn admit(
        &mut self,
        p: usize,
        packet: &TcpPacket<'_>,
        listener: Listener,
        pending: Pending,
    ) -> Option<FlowId> {
        if self.engine.memory().is_tight() {
            self.counters.drop_frame(DropReason::BufferLimit);
            self.uncount(pending, packet.key.remote);
            return None;
        }
        let remote = packet.key.remote_addr();
        let neighbour = {
            let (stack, mut tx) = self.ports[p].split();
            stack.observe(self.now, remote.ip(), packet.src_mac);
            match stack.resolve(self.now, remote.ip(), &mut tx, &mut self.counters) {
                Resolve::Ready(id) | Resolve::Pending(id) => id,
                Resolve::NoRoute | Resolve::TableFull => {
                    self.uncount(pending, packet.key.remote);
                    return None;
                }
            }
        };
        let leg = match listener {
            Listener::Import(import) => Leg::Client(self.new_client(import, remote.ip())),
            Listener::Tunnel => Leg::Tunnel(TunnelLeg::new(Role::Exporter, None, self.now)),
        };
        let tcp = TcpConn::new(self.config.tcp(leg.side()));
        let mut conn = Conn::new(tcp, p as u8, neighbour, leg);
        conn.deadline = Some(self.now + TCP_HANDSHAKE_TIMEOUT);
        conn.pending = pending;
        let id = self.insert(packet.key, conn);
        if id.is_none() {
            self.uncount(pending, packet.key.remote);
            self.counters.drop_frame(DropReason::FlowLimit);
        }
        id
    }

    /// Answers a SYN and forgets it. No rate limit: every SYN to a listener gets one answer that is
    /// no longer than itself but for the MSS option, so whoever forges the source gains nothing, and
    /// a limit would keep out those whom the cookies are for.
    fn send_cookie(&mut self, p: usize, packet: &TcpPacket<'_>, listener: Listener) {
        let settings = self.config.tcp(match listener {
            Listener::Import(_) => BufferSide::Service,
            Listener::Tunnel => BufferSide::Peer,
        });
        let ends = (packet.key.local_addr(), packet.key.remote_addr());
        let profile = self.ports[p].profile;
        let rng = &mut self.rng;
        let secret = || {
            let mut secret = [0; 16];
            rng.fill_bytes(&mut secret);
            secret
        };
        let answer = self.engine.syn_cookie(self.now, ends, profile, settings, packet.tcp, secret);
        let Some(answer) = answer else {
            return self.counters.drop_frame(DropReason::TcpMalformed);
        };
        let (stack, mut tx) = self.ports[p].split();
        self.counters.syn_cookies_sent += u64::from(stack.answer(packet, &answer, &mut tx));
    }

    /// A segment without a connection, where it may acknowledge a cookie. Opens the connection if it
    /// does, and feeds the segment to it. `false`: the segment is a stranger's.
    pub(super) fn cookie(&mut self, p: usize, packet: &TcpPacket<'_>) -> bool {
        if !self.engine.expects_cookies(self.now) || packet.flags.rst || !packet.flags.ack {
            return false;
        }
        let Some(listener) = self.listener(p, packet) else { return false };
        let ends = (packet.key.local_addr(), packet.key.remote_addr());
        let cookie = self.engine.check_cookie(self.now, ends, packet.tcp);
        // One from before the tuple's TIME-WAIT is a late copy.
        let cookie = cookie.filter(|c| self.time_wait.may_reopen(&packet.key, c.syn_seq()));
        let Some(cookie) = cookie else {
            if self.time_wait.contains(&packet.key) {
                return false;
            }
            self.counters.syn_cookies_bad += 1;
            // It may have overtaken the segment with the cookie: a reset would end what is about to
            // open. A bare acknowledgement has nothing to overtake with.
            let overtakes = packet.payload_len > 0 || packet.flags.fin;
            if overtakes {
                self.counters.drop_frame(DropReason::NoFlow);
            }
            return overtakes;
        };
        if self.draining {
            self.counters.drop_frame(DropReason::Draining);
            self.refuse(p, packet);
            return true;
        }
        let pending = match listener {
            Listener::Import(_) => Pending::No,
            Listener::Tunnel => match self.tls_pending.open(packet.key.remote) {
                Ok(()) => Pending::Tls,
                Err(reason) => {
                    // The other side sends again.
                    self.counters.drop_frame(reason);
                    return true;
                }
            },
        };
        let Some(id) = self.admit(p, packet, listener, pending) else { return true };
        let Some(conn) = self.conns.get_mut(id) else { return true };
        let profile = self.ports[p].profile;
        self.engine.accept_cookie(&mut conn.tcp, self.now, ends, profile, &cookie);
        conn.note(TcpEvent::Established);
        self.counters.syn_cookies_accepted += 1;
        self.segment(p, packet, None, false);
        true
    }

    /// Goes on to the next handshake that the connection is counted for, or to none.
    pub(super) fn count_handshake(&mut self, id: FlowId, event: TcpEvent) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let tunnel = conn.tunnel().is_some();
        let done = match conn.pending {
            Pending::No => return,
            Pending::Tcp => event != TcpEvent::None,
            Pending::Tls => conn.up().is_some(),
        };
        if !done && !conn.over {
            return;
        }
        let source = conn.tcp.key().remote;
        let was = std::mem::replace(&mut conn.pending, Pending::No);
        if was == Pending::Tcp && tunnel && event == TcpEvent::Established && !conn.over {
            match self.tls_pending.open(source) {
                Ok(()) => conn.pending = Pending::Tls,
                Err(reason) => {
                    self.counters.drop_frame(reason);
                    self.lose_tunnel(id, CloseReason::Overload, None);
                }
            }
        }
        self.uncount(was, source);
    }

    pub(super) fn uncount(&mut self, pending: Pending, source: Ip) {
        match pending {
            Pending::No => {}
            Pending::Tcp => self.half_open.close(source),
            Pending::Tls => self.tls_pending.close(source),
        }
    }
}
