//! Established tunnels: moving streams over them, acting on their frames, taking them down.

use super::client::Opening;
use super::conn::{ClientState, Leg, Phase};
use super::service::{OpenDecision, decide_open};
use super::snapshot::Snapshot;
use super::{Conn, Worker};
use crate::flow::FlowId;
use crate::limits::{HANDSHAKE_QUEUE, OPEN_TIMEOUT, RELAY_BUDGET, TCP_CLOSING_TIMEOUT};
use crate::port::FrameIo;
use crate::relay::{self, Permit};
use crate::tcp::{Memory, TcpConn, TcpEvent};
use crate::telemetry::{CloseReason, Counters, Event};
use crate::tls::{HandshakeExecutor, Job, Work};
use crate::tunnel::{Incoming, Next, RefuseReason, Role, Stopped, TunnelError, Upcalls};

/// What came out of a tunnel in one turn, for after the borrow of its buffers ends.
#[derive(Debug, Default)]
struct Seen {
    opened: bool,
    fin: bool,
    reset: bool,
    pong: bool,
    refused: Option<(RefuseReason, Box<str>)>,
    open: Option<OpenDecision>,
}

/// Takes a tunnel's frames: DATA goes straight to the service leg.
struct StreamUp<'a> {
    service: Option<(&'a Permit, &'a mut TcpConn)>,
    memory: &'a mut Memory,
    /// The service has not accepted yet.
    hold: bool,
    counters: &'a mut Counters,
    snapshot: &'a Snapshot,
    peer: &'a [String],
    seen: Seen,
}

impl Upcalls for StreamUp<'_> {
    fn takes(&mut self, n: usize) -> bool {
        match &mut self.service {
            _ if self.hold => false,
            Some((_, service)) => relay::service_takes(service, self.memory, n),
            None => true,
        }
    }

    fn frame(&mut self, incoming: Incoming<'_>) -> Next {
        match incoming {
            Incoming::Data(data) => {
                if let Some((permit, service)) = &mut self.service {
                    relay::tunnel_to_service(permit, service, data, self.counters);
                }
                return Next::Continue;
            }
            Incoming::Open(open) => {
                self.seen.open = Some(decide_open(self.snapshot, self.peer, &open));
            }
            Incoming::Opened => self.seen.opened = true,
            Incoming::Refused { reason, policy } => {
                self.seen.refused = Some((reason, policy.into()));
            }
            Incoming::Fin => self.seen.fin = true,
            Incoming::Reset => self.seen.reset = true,
            Incoming::Pong(_) => {
                self.seen.pong = true;
                return Next::Continue;
            }
            Incoming::GoAway | Incoming::Nothing | Incoming::Ping(_) => return Next::Continue,
        }
        Next::Pause
    }
}

impl<P: FrameIo, H: HandshakeExecutor> Worker<P, H> {
    pub(super) fn run_tunnel(&mut self, id: FlowId, event: TcpEvent, expired: bool) {
        let failed = match event {
            TcpEvent::None | TcpEvent::Finished => None,
            TcpEvent::Established => {
                self.tcp_up(id);
                None
            }
            TcpEvent::Reset => Some(CloseReason::PeerReset),
            TcpEvent::TimedOut => Some(CloseReason::TcpTimeout),
        };
        let Some(leg) = self.conns.get(id).and_then(|c| c.tunnel()) else { return };
        if let Some(reason) = failed {
            let reason = match leg.phase {
                Phase::Connecting => CloseReason::PeerUnreachable,
                _ => reason,
            };
            return self.lose_tunnel(id, reason, None);
        }
        match &leg.phase {
            Phase::Connecting if expired => {
                self.lose_tunnel(id, CloseReason::PeerUnreachable, None);
            }
            Phase::Handshake { .. } if expired => {
                self.lose_tunnel(id, CloseReason::HandshakeTimeout, None);
            }
            Phase::Handshake { .. } => self.step_handshake(id),
            Phase::Up(up) if expired && leg.partner.is_none() && !up.session().is_idle() => {
                self.lose_tunnel(id, CloseReason::TunnelLost, None);
            }
            Phase::Up(_) => self.drive(id),
            Phase::Connecting | Phase::Closing => {}
        }
    }

    /// Moves what can be moved over an established tunnel, both ways, and acts on its frames.
    pub(super) fn drive(&mut self, id: FlowId) {
        let Some(partner) = self.conns.get(id).and_then(|c| c.tunnel()).map(|l| l.partner) else {
            return;
        };
        let hold = self.awaits_service(partner);
        let mut seen = Seen::default();
        let result = self.move_bytes(id, partner, hold, &mut seen);
        self.touch(id);
        if let Some(partner) = partner {
            self.touch(partner);
        }
        match result {
            Err(e) => return self.lose_tunnel(id, e.reason(), Some(&e)),
            Ok(None) => {}
            Ok(Some(Stopped::Closed)) => return self.tunnel_ended(id),
            Ok(Some(Stopped::Budget | Stopped::Paused)) => self.wake_id(id),
            Ok(Some(Stopped::Drained | Stopped::NoRoom)) => {}
        }
        self.act_on(id, partner, seen);
        self.store_tickets(id);
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.over {
            return;
        }
        if conn.tcp.recv_finished() {
            return self.tunnel_ended(id);
        }
        if conn.is_idle_tunnel()
            && let Some(leg) = conn.tunnel_mut()
            && leg.backlogged
        {
            leg.idle_since = self.now;
            return self.tunnel_idle(id);
        }
        let left_alone = conn.up().is_some_and(|(_, up)| {
            up.session().role() == Role::Importer
                && up.session().going_away()
                && up.session().is_idle()
        });
        if left_alone {
            self.retire(id);
        }
    }

    /// Gives session tickets to a helper: storing one takes a lock. While the helpers are busy
    /// they wait; the tunnel needs none of them.
    fn store_tickets(&mut self, id: FlowId) {
        let Some((_, up)) = self.conns.get_mut(id).and_then(Conn::up) else { return };
        if !up.ticket_job_ready() || self.handshakes.in_flight() >= HANDSHAKE_QUEUE / 2 {
            return;
        }
        let Some(job) = up.take_ticket_job() else { return };
        if self.handshakes.submit(Job { token: id.to_bits(), work: Work::Ticket(job) }).is_err() {
            // Without what the job took along, the tunnel could not follow a key update.
            self.lose_tunnel(id, CloseReason::Overload, None);
        }
    }

    /// Both directions of one turn. `None` where the tunnel is not up.
    fn move_bytes(
        &mut self,
        id: FlowId,
        partner: Option<FlowId>,
        hold: bool,
        seen: &mut Seen,
    ) -> Result<Option<Stopped>, TunnelError> {
        let (tunnel_conn, mut service_conn) = match partner {
            Some(partner) => match self.conns.get2_mut(id, partner) {
                Some((tunnel, service)) => (Some(tunnel), Some(service)),
                None => (None, None),
            },
            None => (self.conns.get_mut(id), None),
        };
        let Some((tcp, up)) = tunnel_conn.and_then(Conn::up) else { return Ok(None) };
        let memory = self.engine.memory();
        up.flush(tcp, memory, &mut self.scratch)?;
        let mut more = false;
        let mut service = None;
        if let Some(conn) = &mut service_conn {
            let Conn { tcp: service_tcp, leg, .. } = &mut **conn;
            if let Some((permit, into)) = leg.permit() {
                if into == Some(id) {
                    if service_tcp.recv_len() > 0 {
                        up.resume(self.now);
                    }
                    more = relay::service_to_tunnel(
                        permit,
                        service_tcp,
                        up,
                        tcp,
                        memory,
                        &mut self.scratch,
                        &mut self.counters,
                    )?;
                }
                service = Some((permit, service_tcp));
            }
            if up.session().is_idle() {
                // Both ends are said now. The next stream must not meet this one's leg.
                return Ok(Some(Stopped::Paused));
            }
        }
        let peer = std::mem::take(&mut up.peer);
        let mut upcalls = StreamUp {
            service,
            memory,
            hold,
            counters: &mut self.counters,
            snapshot: &self.snapshot,
            peer: &peer,
            seen: Seen::default(),
        };
        let result = up.open_records(tcp, &mut self.scratch, self.now, RELAY_BUDGET, &mut upcalls);
        *seen = upcalls.seen;
        up.peer = peer;
        let (stopped, _) = result?;
        // PONGs and key updates that the records asked for.
        up.flush(tcp, self.engine.memory(), &mut self.scratch)?;
        Ok(Some(if more && matches!(stopped, Stopped::Drained | Stopped::NoRoom) {
            Stopped::Budget
        } else {
            stopped
        }))
    }

    fn act_on(&mut self, id: FlowId, partner: Option<FlowId>, seen: Seen) {
        if seen.pong
            && let Some(leg) = self.conns.get_mut(id).and_then(|c| c.tunnel_mut())
        {
            leg.ping = None;
            leg.heard = self.now;
        }
        if let Some(decision) = seen.open {
            self.opened_by_peer(id, decision);
        }
        if seen.opened
            && let Some(client) = partner
        {
            self.stream_opened(client);
            self.wake_id(client);
        }
        if let Some((reason, policy)) = seen.refused {
            self.break_stream(id, partner);
            if let Some(client) = partner {
                self.stream_refused(client, reason, policy);
            }
        }
        if seen.reset {
            self.break_stream(id, partner);
            if let Some(partner) = partner {
                self.partner_reset(partner);
            }
            if self.conns.get(id).is_some_and(Conn::has_backlog) {
                // Nobody is there any more who would read it.
                return self.lose_tunnel(id, CloseReason::PeerReset, None);
            }
        }
        if seen.fin
            && let Some(conn) = partner.and_then(|p| self.conns.get_mut(p))
        {
            match &mut conn.leg {
                // Closing a connection that is not up would give it up.
                Leg::Service(service) if !service.connected => service.ended = true,
                _ => conn.tcp.close(),
            }
        }
        self.settle(id);
    }

    /// The other side broke the stream off.
    fn partner_reset(&mut self, id: FlowId) {
        if let Some(conn) = self.conns.get_mut(id)
            && let Some(client) = conn.client_mut()
        {
            client.tunnel = None;
            let address = conn.remote();
            self.report(Event::ClientClosed { address, reason: CloseReason::PeerReset });
        }
        self.abort(id, CloseReason::PeerReset);
    }

    /// If the stream has ended both ways, the service leg is done and the tunnel is free.
    fn settle(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Leg::Tunnel(leg) = &mut conn.leg else { return };
        let Phase::Up(up) = &leg.phase else { return };
        if !up.session().is_idle() {
            return;
        }
        let Some(partner) = leg.partner.take() else {
            // A broken-off stream that has run out: the tunnel is free again.
            if conn.deadline.take().is_some() {
                leg.idle_since = self.now;
                self.tunnel_idle(id);
            }
            return;
        };
        leg.idle_since = self.now;
        if let Some(conn) = self.conns.get_mut(partner)
            && let Some(client) = conn.client_mut()
        {
            client.tunnel = None;
            let address = conn.remote();
            self.report(Event::ClientClosed { address, reason: CloseReason::Finished });
        }
        self.finish(partner, CloseReason::Finished, false);
        self.tunnel_idle(id);
    }

    /// The service leg `from` of this side is gone: tell the other gateway, by RESET if that is
    /// still possible, else by ending the tunnel.
    pub(super) fn break_stream(&mut self, id: FlowId, from: Option<FlowId>) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Leg::Tunnel(leg) = &mut conn.leg else { return };
        if leg.partner != from {
            return;
        }
        leg.partner = None;
        leg.idle_since = now;
        let Phase::Up(up) = &mut leg.phase else { return };
        if up.session().is_idle() {
            return;
        }
        if up.session().may_send() {
            up.reset();
            let idle = up.session().is_idle();
            if let Err(e) = up.flush(&mut conn.tcp, self.engine.memory(), &mut self.scratch) {
                return self.lose_tunnel(id, e.reason(), Some(&e));
            }
            if !idle {
                // The other side's end stands behind what it sent before, which may stay unread.
                conn.deadline = Some(now + OPEN_TIMEOUT);
            }
            Self::wake(&mut self.ready, id, conn);
            if idle {
                self.tunnel_idle(id);
            }
        } else if up.session().may_receive() {
            // Our direction ended with FIN, so RESET cannot follow; the other side goes on
            // sending to nobody.
            self.abort(id, CloseReason::PeerReset);
        }
    }

    /// An established tunnel has no stream: a waiting client takes it, or the pool.
    pub(super) fn tunnel_idle(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (idle, backlog) = (conn.is_idle_tunnel(), conn.has_backlog());
        let Some(leg) = conn.tunnel_mut() else { return };
        if leg.role == Role::Exporter {
            return;
        }
        let Some(gateway) = leg.gateway else { return };
        leg.backlogged = backlog;
        if !idle {
            return;
        }
        while let Some(client) = self.pool_mut(gateway).and_then(|p| p.waiting.pop_front()) {
            let waits = self.conns.get(client).is_some_and(|c| {
                !c.over && c.client().is_some_and(|c| c.state == ClientState::Waiting(gateway))
            });
            if !waits {
                continue;
            }
            match self.open_stream(id, client) {
                Opening::Sent => return,
                Opening::ClientFailed => {}
                Opening::NotOnThisTunnel => {
                    if let Some(pool) = self.pool_mut(gateway) {
                        pool.waiting.push_front(client);
                    }
                    break;
                }
            }
        }
        if !self.conns.get(id).is_some_and(Conn::is_idle_tunnel) {
            return;
        }
        if self.draining {
            return self.retire(id);
        }
        let max_idle = self.config.max_idle_tunnels;
        let Some(pool) = self.pool_mut(gateway) else { return };
        if pool.idle.contains(&id) {
            return;
        }
        if pool.idle.len() < max_idle {
            return pool.idle.push(id);
        }
        self.retire(id);
    }

    /// Ends a tunnel that carries nothing: close_notify, then FIN.
    pub(super) fn retire(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Some((tcp, up)) = conn.up() {
            up.close();
            // Nothing depends on the alert being sent.
            let _ = up.flush(tcp, self.engine.memory(), &mut self.scratch);
        }
        self.close_tunnel(id, CloseReason::TunnelIdle);
    }

    fn close_tunnel(&mut self, id: FlowId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.tcp.close();
        let remote = conn.remote();
        if let Leg::Tunnel(leg) = &mut conn.leg {
            leg.phase = Phase::Closing;
        }
        self.finish(id, reason, true);
        self.report(Event::TunnelDown { peer: remote, reason, detail: None });
    }

    /// The other side said it sends nothing more (close_notify or FIN).
    fn tunnel_ended(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let idle = match conn.up() {
            Some((_, up)) => up.session().is_idle(),
            None => false,
        };
        if idle {
            self.retire(id);
        } else {
            self.lose_tunnel(id, CloseReason::TunnelLost, None);
        }
    }

    /// The tunnel failed; whoever depends on it is told.
    pub(super) fn lose_tunnel(
        &mut self,
        id: FlowId,
        reason: CloseReason,
        error: Option<&TunnelError>,
    ) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.over {
            return;
        }
        let remote = conn.remote();
        let Leg::Tunnel(leg) = &mut conn.leg else { return };
        let partner = leg.partner.take();
        let was_up = matches!(leg.phase, Phase::Up(_));
        let gateway = leg.gateway;
        let untouched = leg.early_sealed == 0;
        let keep_alert = match &mut leg.phase {
            Phase::Up(up) => {
                // A fatal alert says why, if the record layer has one.
                up.flush(&mut conn.tcp, self.engine.memory(), &mut self.scratch).is_ok()
                    && error.is_some()
            }
            Phase::Handshake { .. } => error.is_some(),
            Phase::Connecting | Phase::Closing => false,
        };
        leg.phase = Phase::Closing;
        if keep_alert {
            // FIN lets the alert arrive; RST could overtake it.
            conn.tcp.close();
            conn.deadline = Some(now + TCP_CLOSING_TIMEOUT);
            self.finish(id, reason, true);
        } else {
            self.abort(id, reason);
        }
        self.report(Event::TunnelDown {
            peer: remote,
            reason,
            detail: error.map(|e| e.to_string().into()),
        });
        if let Some(gateway) = gateway
            && !was_up
        {
            self.gateway_failed(gateway, reason);
        }
        let Some(partner) = partner else { return };
        match self.conns.get(partner).map(|c| &c.leg) {
            Some(Leg::Client(_)) => self.client_lost_tunnel(partner, reason, untouched),
            Some(Leg::Service(_)) => self.service_lost_tunnel(partner, CloseReason::TunnelLost),
            Some(Leg::Tunnel(_)) | None => {}
        }
    }
}
