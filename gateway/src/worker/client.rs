//! The importer's side of a connection: a client reached an import; choose a source that policy
//! allows, take a tunnel to its gateway, open a stream.

use std::net::IpAddr;
use std::sync::Arc;

use clgw_policy::{Failover, ImportEntry, ImportId, LbScheme, RoundRobin, Selection, Sources};

use super::Worker;
use super::conn::{Choice, Client, ClientState, Failure, Leg, Phase, TunnelLeg};
use super::loads::SourceLoads;
use super::pool::Pool;
use super::snapshot::{GatewayId, Snapshot};
use crate::flow::FlowId;
use crate::limits::{EARLY_DATA, MAX_WAITING_FOR_TUNNEL, OPEN_TIMEOUT, TUNNEL_WAIT_TIMEOUT};
use crate::port::FrameIo;
use crate::relay::Permit;
use crate::tcp::TcpEvent;
use crate::telemetry::{CloseReason, Event, Judged};
use crate::time::Instant;
use crate::tls::HandshakeExecutor;
use crate::tunnel::{OpenSent, RefuseReason, Role};

/// The sources of an import as this worker sees them now.
struct SourcesNow<'a> {
    import: &'a ImportEntry,
    id: ImportId,
    snapshot: &'a Snapshot,
    pools: &'a [Option<Pool>],
    loads: &'a SourceLoads,
    now: Instant,
}

impl Sources for SourcesNow<'_> {
    fn reachable(&self, source: usize) -> bool {
        let Some(source) = self.import.sources.get(source) else { return false };
        self.snapshot.gateways_of(source.peer).iter().any(|g| {
            let pool = self.pools.get(g.id.0 as usize).and_then(Option::as_ref);
            pool.is_none_or(|p| p.reachable(self.now))
        })
    }

    fn weight(&self, source: usize) -> u32 {
        self.import.sources.get(source).map_or(0, |s| s.weight)
    }

    fn load(&self, source: usize) -> u32 {
        self.snapshot.source_slot(self.id, source).map_or(0, |slot| self.loads.get(slot))
    }
}

/// What became of the attempt to open a stream on a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Sent,
    NotOnThisTunnel,
    /// No tunnel would do; the client has been told.
    ClientFailed,
}

impl<P: FrameIo, H: HandshakeExecutor> Worker<P, H> {
    pub(super) fn new_client(&mut self, import: ImportId, address: IpAddr) -> Client {
        let table = &self.snapshot.table;
        let (scheme, sources) =
            table.import(import).map_or((LbScheme::Static, 0), |i| (i.lb_scheme, i.sources.len()));
        let choice = Choice::new(Selection::new(scheme, sources));
        let choice = match self.spare_choices.pop() {
            Some(mut spare) => {
                *spare = choice;
                spare
            }
            None => Box::new(choice),
        };
        Client {
            import,
            client: table.client(address),
            state: ClientState::Accepting,
            snapshot: Some(Arc::clone(&self.snapshot)),
            choice: Some(choice),
            source: 0,
            permit: None,
            counted: None,
            tunnel: None,
            early: 0,
        }
    }

    pub(super) fn run_client(&mut self, id: FlowId, event: TcpEvent, expired: bool) {
        match event {
            TcpEvent::None | TcpEvent::Finished => {}
            TcpEvent::Established => {
                self.counters.clients_accepted += 1;
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.deadline = None;
                }
                return self.next_source(id);
            }
            TcpEvent::Reset => return self.lose_client(id, CloseReason::ClientReset),
            TcpEvent::TimedOut => return self.lose_client(id, CloseReason::TcpTimeout),
        }
        let Some(client) = self.conns.get(id).and_then(|c| c.client()) else { return };
        let tunnel = client.tunnel;
        match client.state {
            ClientState::Accepting => {
                if expired {
                    self.lose_client(id, CloseReason::HandshakeTimeout);
                }
            }
            ClientState::SourceFailed => self.next_source(id),
            ClientState::Waiting(_) => {
                if expired {
                    self.source_failed(id, CloseReason::PeerUnreachable.into());
                }
            }
            ClientState::Opening => {
                let Some(tunnel) = tunnel else { return };
                if expired {
                    // The other gateway does not answer: whatever else is on that tunnel is lost
                    // as well, and this client may try another source.
                    self.lose_tunnel(tunnel, CloseReason::PeerUnreachable, None);
                } else {
                    self.send_early(id, tunnel);
                }
            }
            ClientState::Open => {
                if let Some(tunnel) = tunnel {
                    self.drive(tunnel);
                }
            }
        }
    }

    /// Walks the gateways of the chosen source, then the sources of the import (ClusterLink's
    /// order, see [`Selection`]), to the first that policy allows and that a tunnel can be had to,
    /// or is being made to.
    pub(super) fn next_source(&mut self, id: FlowId) {
        loop {
            if self.try_gateways(id) {
                return;
            }
            let random = self.random();
            let now = self.now;
            let Some(conn) = self.conns.get_mut(id) else { return };
            let address = conn.remote();
            let Some(client) = conn.client_mut() else { return };
            client.permit = None;
            if let Some(slot) = client.counted.take() {
                self.source_loads.take(slot);
            }
            let (Some(snapshot), Some(choice)) = (client.snapshot.clone(), &mut client.choice)
            else {
                return;
            };
            choice.tried.clear();
            let Some(import) = snapshot.table.import(client.import) else {
                return self.refuse_client(id);
            };
            let slot = snapshot.import_slot(client.import).0 as usize;
            if self.round_robin.len() <= slot {
                // Each worker begins with another source; the first one as ClusterLink does.
                let worker = u64::from(self.config.id);
                self.round_robin.resize_with(slot + 1, || RoundRobin::starting_at(worker));
            }
            let sources = SourcesNow {
                import,
                id: client.import,
                snapshot: &snapshot,
                pools: &self.pools,
                loads: &self.source_loads,
                now,
            };
            let Some(source) = choice.selection.next(&mut self.round_robin[slot], random, sources)
            else {
                return self.refuse_client(id);
            };
            let decided = Permit::egress(&snapshot.table, client.import, source, client.client);
            let dry_run = match &decided {
                Ok(permit) => permit.dry_run(),
                Err(denial) => denial.dry_run,
            };
            let dry_run = dry_run.map(|policy| Event::DryRun {
                generation: snapshot.generation(),
                policy,
                allowed: decided.is_ok(),
                service: Judged::Import(client.import),
                address,
            });
            match decided {
                Err(denial) => {
                    client.fail(Failure {
                        reason: CloseReason::PolicyDenied,
                        policy: Some(denial.policy),
                        peer_policy: None,
                    });
                    self.counters.policy_denied += 1;
                }
                Ok(permit) => {
                    client.permit = Some(permit);
                    client.source = source;
                    client.counted = snapshot.source_slot(client.import, source);
                    if let Some(slot) = client.counted {
                        self.source_loads.add(slot);
                    }
                    self.counters.policy_allowed += 1;
                }
            }
            self.report_dry_run(dry_run);
        }
    }

    /// Takes a tunnel to a gateway of the client's source, or waits for one. `false` if there is
    /// no permitted source, or no gateway of it left to try.
    fn try_gateways(&mut self, id: FlowId) -> bool {
        let now = self.now;
        let Some(client) = self.conns.get(id).and_then(|c| c.client()) else { return true };
        let (Some(_), Some(snapshot), Some(choice)) =
            (&client.permit, client.snapshot.clone(), &client.choice)
        else {
            return false;
        };
        let Some(source) =
            snapshot.table.import(client.import).and_then(|i| i.sources.get(client.source))
        else {
            return false;
        };
        let tried = choice.tried.clone();
        let gateways =
            || snapshot.gateways_of(source.peer).iter().filter(|g| !tried.contains(&g.id));
        for gateway in gateways() {
            match self.open_on_idle(gateway.id, id) {
                Opening::NotOnThisTunnel => {}
                Opening::Sent => {
                    self.counters.tunnels_reused += 1;
                    return true;
                }
                Opening::ClientFailed => return true,
            }
        }
        // One that works before one that failed lately, and that before one that just failed;
        // among equals the shortest queue.
        let best = gateways()
            .filter_map(|g| {
                let pool = self.pools.get(g.id.0 as usize)?.as_ref()?;
                Some(((!pool.reachable(now), !pool.healthy(), pool.waiting.len()), g.id))
            })
            .min_by_key(|(rank, _)| *rank);
        match best {
            Some(((_, _, waiting), gateway)) if waiting < MAX_WAITING_FOR_TUNNEL => {
                self.wait_for_tunnel(id, gateway);
                true
            }
            _ => {
                let reason = match best {
                    Some(_) => CloseReason::Overload,
                    None => CloseReason::PeerUnreachable,
                };
                if let Some(client) = self.conns.get_mut(id).and_then(|c| c.client_mut())
                    && let Some(choice) = &mut client.choice
                {
                    choice.failure.get_or_insert_with(|| reason.into());
                }
                false
            }
        }
    }

    fn wait_for_tunnel(&mut self, id: FlowId, gateway: GatewayId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.deadline = Some(self.now + TUNNEL_WAIT_TIMEOUT);
            if let Some(client) = conn.client_mut() {
                client.state = ClientState::Waiting(gateway);
            }
        }
        if let Some(pool) = self.pool_mut(gateway) {
            pool.waiting.push_back(id);
        }
        self.touch(id);
        self.fill_pool(gateway);
    }

    /// It did not work out: with another gateway of the source if the gateway was the reason, else
    /// with the next source.
    pub(super) fn source_failed(&mut self, id: FlowId, failure: Failure) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(client) = conn.client() else { return };
        let gateway = match client.state {
            ClientState::Waiting(gateway) => Some(gateway),
            _ => client
                .tunnel
                .and_then(|t| self.conns.get(t))
                .and_then(|c| c.tunnel())
                .and_then(|l| l.gateway),
        };
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.deadline = None;
        let Some(client) = conn.client_mut() else { return };
        let gateways_fault = matches!(
            failure.reason,
            CloseReason::PeerUnreachable
                | CloseReason::PeerReset
                | CloseReason::TunnelLost
                | CloseReason::TcpTimeout
                | CloseReason::Draining
                | CloseReason::Overload
        );
        let Some(choice) = &mut client.choice else { return };
        let again = gateways_fault && gateway.is_some_and(|g| choice.tried.try_push(g).is_ok());
        choice.failure = Some(failure);
        if !again {
            client.permit = None;
        }
        client.tunnel = None;
        client.early = 0;
        client.state = ClientState::SourceFailed;
        self.wake_id(id);
    }

    /// No source is left, or none may be tried. The client's connection was accepted already, so it
    /// is reset, as ClusterLink's data planes do.
    fn refuse_client(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let address = conn.remote();
        let Some(client) = conn.client_mut() else { return };
        let failure = client.choice.as_mut().and_then(|choice| choice.failure.take());
        let failure = failure.unwrap_or_else(|| CloseReason::NoSource.into());
        let event = Event::ClientRefused {
            generation: client.snapshot.as_ref().map_or(0, |s| s.generation()),
            import: client.import,
            client: client.client,
            address,
            reason: failure.reason,
            policy: failure.policy,
            peer_policy: failure.peer_policy,
        };
        self.report(event);
        self.abort(id, failure.reason);
    }

    /// The client is gone, whatever state it was in.
    fn lose_client(&mut self, id: FlowId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let address = conn.remote();
        let Some(client) = conn.client_mut() else { return };
        let tunnel = client.tunnel.take();
        let forwarded = client.state == ClientState::Open;
        self.abort(id, reason);
        if forwarded {
            self.report(Event::ClientClosed { address, reason });
        }
        if let Some(tunnel) = tunnel {
            self.break_stream(tunnel, Some(id));
        }
    }

    // --- streams ------------------------------------------------------------------------------------

    /// Opens a stream for client `id` on an idle tunnel to `gateway`, if there is one.
    fn open_on_idle(&mut self, gateway: GatewayId, id: FlowId) -> Opening {
        while let Some(tunnel) = self.pool_mut(gateway).and_then(|p| p.idle.pop()) {
            if !self.conns.get(tunnel).is_some_and(|c| c.is_idle_tunnel()) {
                continue;
            }
            let opening = self.open_stream(tunnel, id);
            if opening != Opening::Sent
                && self.conns.get(tunnel).is_some_and(|c| c.is_idle_tunnel())
                && let Some(pool) = self.pool_mut(gateway)
            {
                pool.idle.push(tunnel);
                return opening;
            }
            if opening == Opening::Sent {
                return opening;
            }
        }
        Opening::NotOnThisTunnel
    }

    /// Sends OPEN for client `id` on `tunnel`.
    pub(super) fn open_stream(&mut self, tunnel: FlowId, id: FlowId) -> Opening {
        let Some((t, c)) = self.conns.get2_mut(tunnel, id) else {
            return Opening::NotOnThisTunnel;
        };
        let (Leg::Tunnel(leg), Leg::Client(client)) = (&mut t.leg, &mut c.leg) else {
            return Opening::NotOnThisTunnel;
        };
        let (Phase::Up(up), Some(snapshot), Some(_)) =
            (&mut leg.phase, &client.snapshot, &client.permit)
        else {
            return Opening::NotOnThisTunnel;
        };
        let table = &snapshot.table;
        let Some(source) = table.import(client.import).and_then(|i| i.sources.get(client.source))
        else {
            return Opening::NotOnThisTunnel;
        };
        let attributes = table.source_attributes(client.client).iter().map(|(k, v)| (&**k, &**v));
        let sent = up.send_open(
            &mut t.tcp,
            self.engine.memory(),
            &mut self.scratch,
            &source.export_namespace,
            &source.export_name,
            attributes,
        );
        match sent {
            Ok(OpenSent::Sent) => {}
            Ok(OpenSent::NoRoom) => return Opening::NotOnThisTunnel,
            Ok(OpenSent::TooLong) => {
                self.source_failed(id, CloseReason::AttributesTooLong.into());
                return Opening::ClientFailed;
            }
            Err(e) => {
                let reason = e.reason();
                self.lose_tunnel(tunnel, reason, Some(&e));
                return Opening::NotOnThisTunnel;
            }
        }
        leg.partner = Some(id);
        leg.early_sealed = 0;
        leg.ping = None;
        client.tunnel = Some(tunnel);
        client.state = ClientState::Opening;
        client.early = 0;
        c.deadline = Some(self.now + OPEN_TIMEOUT);
        self.touch(tunnel);
        self.touch(id);
        self.send_early(id, tunnel);
        Opening::Sent
    }

    /// Sends the client's first bytes right behind OPEN. They stay in its receive ring until
    /// OPENED, so that another source can have them if this one fails.
    fn send_early(&mut self, id: FlowId, tunnel: FlowId) {
        let Some((t, c)) = self.conns.get2_mut(tunnel, id) else { return };
        let (
            Leg::Tunnel(TunnelLeg { phase: Phase::Up(up), early_sealed, .. }),
            Leg::Client(client),
        ) = (&mut t.leg, &mut c.leg)
        else {
            return;
        };
        while client.early < EARLY_DATA && client.early < c.tcp.recv_len() {
            let before = t.tcp.send_queue();
            let (early, client_tcp) = (client.early, &mut c.tcp);
            let memory = self.engine.memory();
            let sent = up.send_early(&mut t.tcp, memory, &mut self.scratch, |buf| {
                let most = buf.len().min(EARLY_DATA - early);
                client_tcp.peek_at(early, &mut buf[..most])
            });
            match sent {
                Ok(0) => break,
                Ok(n) => {
                    client.early += n;
                    *early_sealed += t.tcp.send_queue() - before;
                }
                Err(e) => {
                    let reason = e.reason();
                    return self.lose_tunnel(tunnel, reason, Some(&e));
                }
            }
        }
        self.touch(tunnel);
    }

    /// The exporter accepted: the early bytes are its own now.
    pub(super) fn stream_opened(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.deadline = None;
        let Leg::Client(client) = &mut conn.leg else { return };
        client.state = ClientState::Open;
        client.snapshot = None;
        self.spare_choices.extend(client.choice.take());
        self.counters.bytes_to_peer += client.early as u64;
        conn.tcp.skip(std::mem::take(&mut client.early));
    }

    /// The exporter refused; another source may not. One that could not reach its service had
    /// authorised the connection: the import says whether that was the last word. The exporter
    /// reads nothing before its service accepts, so no byte was delivered.
    pub(super) fn stream_refused(&mut self, id: FlowId, reason: RefuseReason, policy: Box<str>) {
        let authorized =
            matches!(reason, RefuseReason::ServiceUnreachable | RefuseReason::ServiceTimeout);
        let reason = match reason {
            RefuseReason::Policy | RefuseReason::PeerName => CloseReason::PeerPolicyDenied,
            RefuseReason::NoSuchExport => CloseReason::ExportNotFound,
            RefuseReason::ServiceUnreachable => CloseReason::ServiceUnreachable,
            RefuseReason::ServiceTimeout => CloseReason::ServiceTimeout,
            RefuseReason::Overload => CloseReason::Overload,
            RefuseReason::Draining => CloseReason::Draining,
        };
        let peer_policy = (!policy.is_empty()).then_some(policy);
        let failure = Failure { reason, policy: None, peer_policy };
        let Some(client) = self.conns.get_mut(id).and_then(|c| c.client_mut()) else { return };
        let import = client.snapshot.as_ref().and_then(|s| s.table.import(client.import));
        if authorized && import.is_none_or(|i| i.failover == Failover::Authorization) {
            client.tunnel = None;
            client.fail(failure);
            return self.refuse_client(id);
        }
        self.source_failed(id, failure);
    }

    /// The tunnel under a client is gone. As long as the exporter cannot have passed a byte on
    /// (`untouched`: none was sent), another gateway or source is tried; after that the client has
    /// to know, because only it knows whether its request may be made twice.
    pub(super) fn client_lost_tunnel(&mut self, id: FlowId, reason: CloseReason, untouched: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let address = conn.remote();
        let Some(client) = conn.client_mut() else { return };
        match client.state {
            ClientState::Opening if untouched => self.source_failed(id, reason.into()),
            ClientState::Opening => {
                client.tunnel = None;
                client.fail(reason.into());
                self.refuse_client(id);
            }
            _ => {
                client.tunnel = None;
                self.abort(id, reason);
                self.report(Event::ClientClosed { address, reason });
            }
        }
    }

    pub(super) fn new_importer_tunnel(&self, gateway: GatewayId) -> TunnelLeg {
        TunnelLeg::new(Role::Importer, Some(gateway), self.now)
    }
}
