//! The exporter's side of a connection: a peer opened a stream for an export; decide, connect to
//! the service, answer.

use clgw_policy::{ExportId, PolicyId, attributes};

use super::Worker;
use super::conn::{Leg, Service};
use super::snapshot::Snapshot;
use crate::flow::FlowId;
use crate::port::FrameIo;
use crate::relay::Permit;
use crate::tcp::TcpEvent;
use crate::telemetry::{CloseReason, Event, Judged};
use crate::tls::HandshakeExecutor;
use crate::tunnel::{Open, RefuseReason};

/// What policy says to an OPEN.
#[derive(Debug)]
pub(super) enum OpenDecision {
    Allowed {
        export: ExportId,
        permit: Permit,
    },
    Refused {
        reason: RefuseReason,
        export: Option<ExportId>,
        policy: Option<PolicyId>,
        /// The dry-run policy that would have allowed it.
        dry_run: Option<PolicyId>,
    },
}

/// Judges an OPEN of a peer whose certificate carries the names `peer`.
pub(super) fn decide_open(snapshot: &Snapshot, peer: &[String], open: &Open<'_>) -> OpenDecision {
    let refused =
        |reason| OpenDecision::Refused { reason, export: None, policy: None, dry_run: None };
    // The sender's word on who it is counts only as far as its certificate agrees. Leaving the
    // name out would slip past policies that deny a peer; only an unknown client has no
    // attributes at all.
    let mut attributes = open.attributes();
    let mut named = attributes.clone().filter(|(key, _)| *key == attributes::PEER_NAME);
    let honest = match (named.next(), named.next()) {
        (Some((_, name)), None) => peer.iter().any(|p| p == name),
        (None, _) => attributes.next().is_none(),
        (Some(_), Some(_)) => false,
    };
    if !honest {
        return refused(RefuseReason::PeerName);
    }
    let table = &snapshot.table;
    let Some(export) = table.find_export(open.namespace, open.name) else {
        return refused(RefuseReason::NoSuchExport);
    };
    match Permit::ingress(table, export, open.attributes()) {
        Ok(permit) => OpenDecision::Allowed { export, permit },
        Err(denial) => OpenDecision::Refused {
            reason: RefuseReason::Policy,
            export: Some(export),
            policy: Some(denial.policy),
            dry_run: denial.dry_run,
        },
    }
}

impl<P: FrameIo, H: HandshakeExecutor> Worker<P, H> {
    /// Acts on an OPEN that came in on `tunnel`.
    pub(super) fn opened_by_peer(&mut self, tunnel: FlowId, decision: OpenDecision) {
        self.report_dry_run(self.dry_run_of(tunnel, &decision));
        let (export, permit) = match decision {
            OpenDecision::Refused { reason, export, policy, .. } => {
                self.counters.policy_denied += 1;
                return self.refuse_stream(tunnel, reason, export, policy);
            }
            OpenDecision::Allowed { export, .. } if self.draining => {
                return self.refuse_stream(tunnel, RefuseReason::Draining, Some(export), None);
            }
            OpenDecision::Allowed { export, permit } => (export, permit),
        };
        self.counters.policy_allowed += 1;
        if self.engine.memory().is_tight() {
            return self.refuse_stream(tunnel, RefuseReason::Overload, Some(export), None);
        }
        let addresses = self.snapshot.service_of(export);
        let Some(&address) = addresses.iter().find(|a| self.reaches(false, **a)) else {
            let reason = RefuseReason::ServiceUnreachable;
            return self.refuse_stream(tunnel, reason, Some(export), None);
        };
        let service = Service { tunnel, permit, connected: false, ended: false };
        match self.connect(false, address, Leg::Service(service)) {
            Ok(service) => {
                if let Some(leg) = self.conns.get_mut(tunnel).and_then(|c| c.tunnel_mut()) {
                    leg.partner = Some(service);
                }
            }
            Err(reason) => {
                let reason = match reason {
                    CloseReason::Overload | CloseReason::NoSourcePort => RefuseReason::Overload,
                    _ => RefuseReason::ServiceUnreachable,
                };
                self.refuse_stream(tunnel, reason, Some(export), None);
            }
        }
    }

    fn dry_run_of(&self, tunnel: FlowId, decision: &OpenDecision) -> Option<Event> {
        let (export, policy, allowed) = match decision {
            OpenDecision::Allowed { export, permit } => (*export, permit.dry_run()?, true),
            OpenDecision::Refused { export, dry_run, .. } => ((*export)?, (*dry_run)?, false),
        };
        Some(Event::DryRun {
            generation: self.snapshot.generation(),
            policy,
            allowed,
            service: Judged::Export(export),
            address: self.conns.get(tunnel)?.remote(),
        })
    }

    fn refuse_stream(
        &mut self,
        tunnel: FlowId,
        reason: RefuseReason,
        export: Option<ExportId>,
        policy: Option<PolicyId>,
    ) {
        let name = policy
            .and_then(|id| id.fixed_text().or_else(|| Some(self.snapshot.table.policy(id)?.text())))
            .unwrap_or_default();
        let generation = self.snapshot.generation();
        let Some(conn) = self.conns.get_mut(tunnel) else { return };
        let peer = conn.remote();
        let Some((_, up)) = conn.up() else { return };
        up.refuse(reason, name);
        let event = Event::OpenRefused {
            generation,
            peer,
            export,
            reason: match reason {
                RefuseReason::Policy => CloseReason::PolicyDenied,
                RefuseReason::PeerName => CloseReason::PeerName,
                RefuseReason::NoSuchExport => CloseReason::ExportNotFound,
                RefuseReason::ServiceUnreachable => CloseReason::ServiceUnreachable,
                RefuseReason::ServiceTimeout => CloseReason::ServiceTimeout,
                RefuseReason::Overload => CloseReason::Overload,
                RefuseReason::Draining => CloseReason::Draining,
            },
            policy,
        };
        self.report(event);
        // The stream goes on without a partner: what still comes is thrown away.
        self.wake_id(tunnel);
    }

    pub(super) fn run_service(&mut self, id: FlowId, event: TcpEvent, expired: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Leg::Service(service) = &mut conn.leg else { return };
        let tunnel = service.tunnel;
        let (reset, refusal) = match event {
            TcpEvent::Established => {
                service.connected = true;
                conn.deadline = None;
                if service.ended {
                    conn.tcp.close();
                }
                self.counters.services_connected += 1;
                if let Some((_, up)) = self.conns.get_mut(tunnel).and_then(|c| c.up()) {
                    up.accept();
                }
                return self.drive(tunnel);
            }
            TcpEvent::None | TcpEvent::Finished if !expired => {
                if service.connected {
                    self.drive(tunnel);
                }
                return;
            }
            TcpEvent::Reset if service.connected => (CloseReason::ServiceReset, None),
            TcpEvent::Reset => {
                (CloseReason::ServiceUnreachable, Some(RefuseReason::ServiceUnreachable))
            }
            TcpEvent::TimedOut if service.connected => (CloseReason::TcpTimeout, None),
            TcpEvent::TimedOut | TcpEvent::None | TcpEvent::Finished => {
                (CloseReason::ServiceTimeout, Some(RefuseReason::ServiceTimeout))
            }
        };
        let connected = service.connected;
        self.abort(id, reset);
        match refusal {
            Some(refusal) if !connected => {
                if let Some(conn) = self.conns.get_mut(tunnel) {
                    if let Some(leg) = conn.tunnel_mut() {
                        leg.partner = None;
                    }
                    self.refuse_stream(tunnel, refusal, None, None);
                }
            }
            _ => self.break_stream(tunnel, Some(id)),
        }
    }

    /// The tunnel under a service connection is gone.
    pub(super) fn service_lost_tunnel(&mut self, id: FlowId, reason: CloseReason) {
        self.abort(id, reason);
    }

    /// Whether `tunnel` waits for its service to accept: nothing may be read from it meanwhile.
    pub(super) fn awaits_service(&self, partner: Option<FlowId>) -> bool {
        partner.and_then(|id| self.conns.get(id)).is_some_and(|c| match &c.leg {
            Leg::Service(s) => !s.connected,
            Leg::Client(_) | Leg::Tunnel(_) => false,
        })
    }
}
