//! What a turn will look at, brought into the cache ahead: with many connections each is cold when its frame
//! comes, and waiting for one after the other would be most of the work.

use arrayvec::ArrayVec;

use super::Worker;
use super::conn::{Conn, Leg, Phase};
use crate::flow::FlowId;
use crate::limits::RX_BURST;
use crate::net::likely_key;
use crate::port::{Frame, FrameIo};
use crate::tls::HandshakeExecutor;

/// With fewer connections all are in the cache anyway.
const LOOK_AHEAD_FROM: usize = 512;
/// So many frames or turns ahead: what they need has come by then, and has not been driven out again.
const NEAR: usize = 3;
/// Twice, for what can be named only once something else has come.
const FAR: usize = 2 * NEAR;

/// The connection of each frame in a burst, as far as its headers can be believed; empty where nothing was
/// looked up.
pub(super) type Expected = ArrayVec<Option<FlowId>, RX_BURST>;

impl<P: FrameIo, H: HandshakeExecutor> Worker<P, H> {
    fn looks_ahead(&self) -> bool {
        self.conns.len() >= LOOK_AHEAD_FROM
    }

    /// Finds the connections of a burst's frames. The lookups do not depend on each other, so their cache
    /// misses overlap.
    pub(super) fn expect(&self, burst: &[P::Frame]) -> Expected {
        if burst.len() < 2 || !self.looks_ahead() {
            return Expected::new();
        }
        let flow = |frame: &P::Frame| likely_key(frame.data()).and_then(|key| self.flows.get(&key));
        let expected: Expected = burst.iter().map(flow).collect();
        expected.iter().take(NEAR).flatten().for_each(|id| self.conns.prefetch(*id));
        expected
    }

    /// Before frame `n` of the burst is looked at.
    #[inline]
    pub(super) fn look_ahead(&self, expected: &Expected, n: usize) {
        if let Some(Some(id)) = expected.get(n + NEAR) {
            self.conns.prefetch(*id);
        }
    }

    /// Before the first of the ready list has its turn.
    #[inline]
    pub(super) fn look_ahead_ready(&self) {
        if !self.looks_ahead() {
            return;
        }
        let conn_at = |n| self.ready.get(n).and_then(|id| self.conns.get(*id));
        if let Some(partner) = conn_at(FAR).and_then(partner) {
            self.conns.prefetch(partner);
        }
        let Some(conn) = conn_at(NEAR) else { return };
        let tunnel = match &conn.leg {
            Leg::Tunnel(_) => Some(conn),
            _ => partner(conn).and_then(|id| self.conns.get(id)),
        };
        if let Some(Conn { leg: Leg::Tunnel(leg), .. }) = tunnel
            && let Phase::Up(up) = &leg.phase
        {
            dpdk_bindings::prefetch(&**up);
        }
    }
}

/// The connection that bytes of this one go to.
fn partner(conn: &Conn) -> Option<FlowId> {
    match &conn.leg {
        Leg::Client(client) => client.tunnel,
        Leg::Service(service) => Some(service.tunnel),
        Leg::Tunnel(tunnel) => tunnel.partner,
    }
}
