//! The connections of a worker: what each one is, and how far it has come.

use std::net::SocketAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use clgw_policy::{ClientId, ImportId, PolicyId, Selection};

use super::snapshot::{GatewayId, Snapshot, SourceSlot};
use crate::flow::FlowId;
use crate::limits::{MAX_GATEWAYS_TRIED, TUNNEL_BACKLOG};
use crate::net::NeighbourId;
use crate::relay::Permit;
use crate::tcp::{BufferSide, TcpConn, TcpEvent};
use crate::telemetry::CloseReason;
use crate::time::Instant;
use crate::tls::Handshake;
use crate::tunnel::{Role, Tunnel};

#[derive(Debug)]
pub(super) struct Conn {
    pub tcp: TcpConn,
    /// Index of the port it runs on.
    pub port: u8,
    pub neighbour: NeighbourId,
    pub leg: Leg,
    /// What TCP reported and the leg has not looked at.
    pub event: TcpEvent,
    /// The earliest wheel entry that counts; others that fire before it are stale.
    pub timer: Option<Instant>,
    /// A later wheel entry, which counts once `timer` has fired. Without it each early timer would
    /// leave a late one behind for ever.
    pub backstop: Option<Instant>,
    /// When the leg wants to be run even if nothing arrives.
    pub deadline: Option<Instant>,
    /// Stands in the ready list.
    pub ready: bool,
    /// Stands in the list of those that may have something to send.
    pub touched: bool,
    /// Stands in the list of those whose port was full.
    pub blocked: bool,
    /// Since when the address of its next hop is missing.
    pub unresolved_since: Option<Instant>,
    pub pending: Pending,
    /// The leg has no more business; the connection stays until TCP is done.
    pub over: bool,
    /// Sequence number behind the other side's FIN, once one was seen.
    pub fin_seq: u32,
}

/// The handshake of a passive connection that is not done and that it is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    No,
    Tcp,
    /// A tunnel's. Its source is known by then not to be forged.
    Tls,
}

/// The three kinds of connection a gateway has.
#[derive(Debug)]
pub(super) enum Leg {
    /// A client's connection to an import.
    Client(Client),
    /// Our connection to an exported service.
    Service(Service),
    /// A connection between gateways.
    Tunnel(TunnelLeg),
}

impl Leg {
    pub fn side(&self) -> BufferSide {
        match self {
            Self::Client(_) | Self::Service(_) => BufferSide::Service,
            Self::Tunnel(_) => BufferSide::Peer,
        }
    }

    /// What allows bytes of a client or service to be forwarded, and the tunnel that they go into now:
    /// none before OPENED, when a client's go out as early data only.
    pub fn permit(&self) -> Option<(&Permit, Option<FlowId>)> {
        match self {
            Self::Client(client) => {
                let tunnel = client.tunnel.filter(|_| client.state == ClientState::Open);
                Some((client.permit.as_ref()?, tunnel))
            }
            Self::Service(service) => {
                Some((&service.permit, service.connected.then_some(service.tunnel)))
            }
            Self::Tunnel(_) => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Client {
    pub import: ImportId,
    pub client: ClientId,
    pub state: ClientState,
    /// Ids above belong to this generation. Given up once the connection is forwarded. It is never
    /// the last reference: the control thread frees generations.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Until the connection is forwarded.
    pub choice: Option<Box<Choice>>,
    pub source: usize,
    /// Of `source`.
    pub permit: Option<Permit>,
    /// The source it is counted for; see [`super::loads::SourceLoads`].
    pub counted: Option<SourceSlot>,
    pub tunnel: Option<FlowId>,
    /// Bytes at the front of the receive ring that went out ahead of OPENED.
    pub early: usize,
}

/// How far a client has come in looking for a source.
#[derive(Debug)]
pub(super) struct Choice {
    pub selection: Selection,
    /// Gateways of the source that did not work out.
    pub tried: ArrayVec<GatewayId, MAX_GATEWAYS_TRIED>,
    /// Why the last source failed.
    pub failure: Option<Failure>,
}

impl Choice {
    pub fn new(selection: Selection) -> Self {
        Self { selection, tried: ArrayVec::new(), failure: None }
    }
}

impl Client {
    pub fn fail(&mut self, failure: Failure) {
        if let Some(choice) = &mut self.choice {
            choice.failure = Some(failure);
        }
    }
}

#[derive(Debug)]
pub(super) struct Failure {
    pub reason: CloseReason,
    pub policy: Option<PolicyId>,
    pub peer_policy: Option<Box<str>>,
}

impl From<CloseReason> for Failure {
    fn from(reason: CloseReason) -> Self {
        Self { reason, policy: None, peer_policy: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientState {
    /// TCP handshake.
    Accepting,
    /// In the queue of a gateway, for a tunnel.
    Waiting(GatewayId),
    /// The gateway it waited for cannot be had; the next source is due.
    SourceFailed,
    /// OPEN is out.
    Opening,
    /// Forwarded.
    Open,
}

#[derive(Debug)]
pub(super) struct Service {
    pub tunnel: FlowId,
    pub permit: Permit,
    pub connected: bool,
    /// The peer's direction ended before the service had accepted.
    pub ended: bool,
}

#[derive(Debug)]
pub(super) struct TunnelLeg {
    pub role: Role,
    /// Importer only.
    pub gateway: Option<GatewayId>,
    pub phase: Phase,
    /// The client or service leg that uses it now.
    pub partner: Option<FlowId>,
    /// Sealed bytes sent behind OPEN, ahead of OPENED.
    pub early_sealed: usize,
    /// Since when it is idle.
    pub idle_since: Instant,
    /// When the last PONG came.
    pub heard: Instant,
    /// PING sent at.
    pub ping: Option<Instant>,
    /// It will be idle once the bytes of its last stream are delivered.
    pub backlogged: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// TCP handshake.
    Connecting,
    /// TLS handshake. While `in_flight`, a helper has the state and looks at the first `input`
    /// bytes of the receive ring.
    Handshake {
        state: Option<Box<Handshake>>,
        in_flight: bool,
        input: usize,
    },
    Up(Box<Tunnel>),
    /// Nothing more is said; waits for TCP to end.
    Closing,
}

impl TunnelLeg {
    pub fn new(role: Role, gateway: Option<GatewayId>, now: Instant) -> Self {
        Self {
            role,
            gateway,
            phase: Phase::Connecting,
            partner: None,
            early_sealed: 0,
            idle_since: now,
            heard: now,
            ping: None,
            backlogged: false,
        }
    }
}

impl Conn {
    /// At its beginning, with nothing seen and nothing due.
    pub fn new(tcp: TcpConn, port: u8, neighbour: NeighbourId, leg: Leg) -> Self {
        Self {
            tcp,
            port,
            neighbour,
            leg,
            event: TcpEvent::None,
            timer: None,
            backstop: None,
            deadline: None,
            ready: false,
            touched: false,
            blocked: false,
            unresolved_since: None,
            pending: Pending::No,
            over: false,
            fin_seq: 0,
        }
    }

    /// The other end.
    pub fn remote(&self) -> SocketAddr {
        self.tcp.key().remote_addr()
    }

    pub fn tunnel(&self) -> Option<&TunnelLeg> {
        match &self.leg {
            Leg::Tunnel(leg) => Some(leg),
            _ => None,
        }
    }

    pub fn tunnel_mut(&mut self) -> Option<&mut TunnelLeg> {
        match &mut self.leg {
            Leg::Tunnel(leg) => Some(leg),
            _ => None,
        }
    }

    pub fn client(&self) -> Option<&Client> {
        match &self.leg {
            Leg::Client(leg) => Some(leg),
            _ => None,
        }
    }

    pub fn client_mut(&mut self) -> Option<&mut Client> {
        match &mut self.leg {
            Leg::Client(leg) => Some(leg),
            _ => None,
        }
    }

    /// The established tunnel of a tunnel leg, with the TCP connection it runs on.
    pub fn up(&mut self) -> Option<(&mut TcpConn, &mut Tunnel)> {
        match &mut self.leg {
            Leg::Tunnel(TunnelLeg { phase: Phase::Up(tunnel), .. }) => {
                Some((&mut self.tcp, tunnel))
            }
            _ => None,
        }
    }

    /// The same if `partner` uses the tunnel now.
    pub fn up_for(&mut self, partner: FlowId) -> Option<(&mut TcpConn, &mut Tunnel)> {
        let theirs = self.tunnel().is_some_and(|leg| leg.partner == Some(partner));
        self.up().filter(|_| theirs)
    }

    /// An established importer's tunnel that can take an OPEN now.
    pub fn is_idle_tunnel(&self) -> bool {
        match &self.leg {
            Leg::Tunnel(TunnelLeg { phase: Phase::Up(t), partner: None, .. }) => {
                !self.over
                    && t.session().is_idle()
                    && !t.session().going_away()
                    && self.tcp.may_send()
                    && !self.tcp.recv_finished()
                    && !self.has_backlog()
            }
            _ => false,
        }
    }

    /// Much of what was sent is not acknowledged.
    pub fn has_backlog(&self) -> bool {
        self.tcp.send_queue() > TUNNEL_BACKLOG
    }
}

impl Conn {
    /// Keeps what TCP reported; what ends the connection is not overwritten by what does not.
    pub(super) fn note(&mut self, event: TcpEvent) {
        match (self.event, event) {
            (_, TcpEvent::None) => {}
            (TcpEvent::Reset | TcpEvent::TimedOut, _) => {}
            _ => self.event = event,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that each open connection costs, whatever it carries.
    #[test]
    fn connections_stay_small() {
        for (what, bytes, most) in [
            ("TcpConn", size_of::<TcpConn>(), 808),
            ("Conn", size_of::<Conn>(), 960),
            ("Leg", size_of::<Leg>(), 96),
            ("Choice", size_of::<Choice>(), 160),
            ("Tunnel", size_of::<Tunnel>(), 320),
        ] {
            eprintln!("{what}: {bytes} bytes");
            assert!(bytes <= most, "{what}: {bytes} bytes");
        }
    }
}
