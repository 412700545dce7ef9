//! Bringing tunnels up: bytes to the helper threads and back.

use std::sync::Arc;

use super::Worker;
use super::conn::{Leg, Phase};
use crate::flow::FlowId;
use crate::limits::{TIMER_TICK, TLS_HANDSHAKE_TIMEOUT, TLS_MAX_HANDSHAKE};
use crate::port::FrameIo;
use crate::tcp::{Memory, TcpConn};
use crate::telemetry::{CloseReason, Event};
use crate::tls::{ALPN_NATIVE, Established, HandshakeExecutor, Job, Outcome, Work};
use crate::tunnel::{Role, Tunnel};

/// Queues a flight of a handshake, as a whole or not at all.
fn queue(tcp: &mut TcpConn, memory: &mut Memory, flight: &[u8]) -> bool {
    tcp.reserve(memory, flight.len()) && tcp.send_slice(flight) == flight.len()
}

impl<P: FrameIo, H: HandshakeExecutor> Worker<P, H> {
    pub(super) fn tcp_up(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.deadline = Some(self.now + TLS_HANDSHAKE_TIMEOUT);
        let Leg::Tunnel(leg) = &mut conn.leg else { return };
        leg.phase = Phase::Handshake { state: None, in_flight: false, input: 0 };
        if leg.role == Role::Importer {
            self.submit_handshake(id);
        }
    }

    pub(super) fn step_handshake(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let ended = conn.tcp.recv_finished();
        let received = conn.tcp.recv_len();
        let Some(Phase::Handshake { in_flight, .. }) = conn.tunnel().map(|l| &l.phase) else {
            return;
        };
        if *in_flight {
            return;
        }
        if received > 0 {
            self.submit_handshake(id);
        } else if ended {
            self.lose_tunnel(id, CloseReason::TlsHandshake, None);
        }
    }

    /// Gives the handshake and what was received for it to a helper. The bytes stay in the ring
    /// until the helper says how many of them were handshake.
    pub(super) fn submit_handshake(&mut self, id: FlowId) {
        let now = self.now;
        let identity = Arc::clone(&self.snapshot.identity);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Leg::Tunnel(leg) = &mut conn.leg else { return };
        let peer = leg
            .gateway
            .and_then(|g| Some(Arc::clone(&self.pools.get(g.0 as usize)?.as_ref()?.entry.peer)));
        let Phase::Handshake { state, in_flight, input } = &mut leg.phase else { return };
        let mut bytes = vec![0; conn.tcp.recv_len().min(TLS_MAX_HANDSHAKE)];
        let n = conn.tcp.peek(&mut bytes);
        bytes.truncate(n);
        let work = match state.take() {
            Some(handshake) => Work::Step { handshake, input: bytes },
            None => Work::Start { identity, client: peer, input: bytes },
        };
        match self.handshakes.submit(Job { token: id.to_bits(), work }) {
            Ok(()) => (*in_flight, *input) = (true, n),
            Err(Job { work: Work::Step { handshake, .. }, .. }) => {
                // A handshake that has begun is worth finishing: try again in a moment.
                *state = Some(handshake);
                Self::arm(&mut self.wheel, id, conn, now + TIMER_TICK);
            }
            Err(_) => self.lose_tunnel(id, CloseReason::Overload, None),
        }
    }

    /// Takes what the helper threads have finished.
    pub(super) fn take_handshakes(&mut self) -> bool {
        let mut any = false;
        while let Some(done) = self.handshakes.poll() {
            any = true;
            let id = FlowId::from_bits(done.token);
            // The connection may have ended meanwhile.
            if self.conns.get(id).is_some_and(|c| !c.over) {
                self.handshake_done(id, done.outcome);
                self.touch(id);
                self.flush_touched();
            }
        }
        any
    }

    fn handshake_done(&mut self, id: FlowId, outcome: Outcome) {
        let memory = self.engine.memory();
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Leg::Tunnel(leg) = &mut conn.leg else { return };
        match (outcome, &mut leg.phase) {
            (Outcome::Ticket(done), Phase::Up(up)) => {
                match up.return_ticket_job(&mut conn.tcp, &mut self.scratch, done) {
                    Ok(()) => Self::wake(&mut self.ready, id, conn),
                    Err(e) => self.lose_tunnel(id, e.reason(), Some(&e)),
                }
            }
            (Outcome::More { handshake, send }, Phase::Handshake { state, in_flight, input }) => {
                *state = Some(handshake);
                *in_flight = false;
                conn.tcp.skip(std::mem::take(input));
                if !queue(&mut conn.tcp, memory, &send) {
                    return self.lose_tunnel(id, CloseReason::Overload, None);
                }
                Self::wake(&mut self.ready, id, conn);
            }
            (Outcome::Established { established, send }, Phase::Handshake { input, .. }) => {
                // What came behind the handshake stays in the ring.
                conn.tcp.skip(input.saturating_sub(established.leftover.len()));
                if !queue(&mut conn.tcp, memory, &send) {
                    return self.lose_tunnel(id, CloseReason::Overload, None);
                }
                self.tunnel_up(id, *established);
            }
            (Outcome::Failed { error, send }, _) => {
                // The alert, if there is one.
                queue(&mut conn.tcp, memory, &send);
                self.counters.handshakes_failed += 1;
                self.lose_tunnel(id, error.reason(), Some(&error.into()));
            }
            (_, Phase::Connecting | Phase::Closing | Phase::Handshake { .. } | Phase::Up(_)) => {}
        }
    }

    pub(super) fn tunnel_up(&mut self, id: FlowId, established: Established) {
        let Established { records, peer, alpn, resumed, key_exchange, leftover: _ } = established;
        if alpn.as_deref() != Some(ALPN_NATIVE) {
            return self.lose_tunnel(id, CloseReason::TunnelVersion, None);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        let remote = conn.remote();
        let Leg::Tunnel(leg) = &mut conn.leg else { return };
        let name = peer.dns_names.first().map_or("", String::as_str).into();
        let up = Tunnel::new(leg.role, records, peer.dns_names);
        leg.phase = Phase::Up(Box::new(up));
        leg.idle_since = self.now;
        conn.deadline = None;
        let gateway = leg.gateway;
        *match resumed {
            true => &mut self.counters.handshakes_resumed,
            false => &mut self.counters.handshakes_full,
        } += 1;
        match gateway {
            Some(gateway) => {
                self.counters.tunnels_opened += 1;
                if let Some(pool) = self.pool_mut(gateway) {
                    pool.connecting = pool.connecting.saturating_sub(1);
                    pool.succeeded();
                }
            }
            None => self.counters.tunnels_accepted += 1,
        }
        self.report(Event::TunnelUp { peer: remote, name, resumed, key_exchange });
        if self.draining && gateway.is_none() {
            return self.retire(id);
        }
        self.tunnel_idle(id);
        self.drive(id);
    }
}
