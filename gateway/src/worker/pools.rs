//! Keeping tunnels warm: how many there are to each gateway, and who may have one.

use std::sync::Arc;

use super::conn::{ClientState, Conn, Leg, Phase};
use super::pool::Pool;
use super::snapshot::GatewayId;
use super::{Instant, Worker};
use crate::flow::FlowId;
use crate::limits::{
    TUNNEL_IDLE_TIMEOUT, TUNNEL_MAX_CONNECTING, TUNNEL_PING_INTERVAL, TUNNEL_PING_TIMEOUT,
};
use crate::port::FrameIo;
use crate::telemetry::CloseReason;
use crate::tls::HandshakeExecutor;
use crate::tunnel::Role;

impl<P: FrameIo, H: HandshakeExecutor> Worker<P, H> {
    pub(super) fn pool_mut(&mut self, gateway: GatewayId) -> Option<&mut Pool> {
        self.pools.get_mut(gateway.0 as usize)?.as_mut()
    }

    /// Takes the gateways of a new generation.
    pub(super) fn adopt_snapshot(&mut self) {
        let snapshot = Arc::clone(&self.snapshot);
        for pool in self.pools.iter_mut().flatten() {
            pool.wanted = false;
        }
        for entry in snapshot.gateways.iter().flatten() {
            let index = entry.id.0 as usize;
            if self.pools.len() <= index {
                self.pools.resize_with(index + 1, || None);
            }
            self.pools[index].get_or_insert_with(|| Pool::new(entry.clone()));
        }
        for entry in &snapshot.wanted {
            if let Some(pool) = self.pool_mut(entry.id) {
                pool.wanted = true;
            }
        }
        self.pool_tick = Instant::ZERO;
    }

    /// A tunnel to `gateway` did not come up. Clients that wait for it go on to their next source,
    /// unless another tunnel is still on its way.
    pub(super) fn gateway_failed(&mut self, gateway: GatewayId, _: CloseReason) {
        let now = self.now;
        let Some(pool) = self.pool_mut(gateway) else { return };
        pool.connecting = pool.connecting.saturating_sub(1);
        pool.failed(now);
        if pool.connecting > 0 {
            return;
        }
        while let Some(id) = self.pool_mut(gateway).and_then(|p| p.waiting.pop_front()) {
            let waits = self
                .conns
                .get(id)
                .and_then(|c| c.client())
                .is_some_and(|c| c.state == ClientState::Waiting(gateway));
            if waits {
                self.source_failed(id, CloseReason::PeerUnreachable.into());
            }
        }
    }

    /// Brings up as many tunnels as there are clients waiting.
    pub(super) fn fill_pool(&mut self, gateway: GatewayId) {
        self.grow_pool(gateway, 0);
    }

    /// Brings up tunnels until there is one for each waiting client and `spare` idle ones.
    pub(super) fn grow_pool(&mut self, gateway: GatewayId, spare: usize) {
        loop {
            let Some(pool) = self.pool_mut(gateway) else { return };
            let missing = pool.waiting.len() + spare.saturating_sub(pool.idle.len());
            if pool.connecting >= missing.min(TUNNEL_MAX_CONNECTING) {
                return;
            }
            pool.connecting += 1;
            let address = pool.entry.address;
            let leg = Leg::Tunnel(self.new_importer_tunnel(gateway));
            if let Err(reason) = self.connect(true, address, leg) {
                return self.gateway_failed(gateway, reason);
            }
        }
    }

    /// Keeps tunnels warm, pings idle ones, closes what is too many or too old.
    pub(super) fn tend_pools(&mut self) {
        for index in 0..self.pools.len() {
            let gateway = GatewayId(index as u32);
            let Some(pool) = self.pool_mut(gateway) else { continue };
            let mut idle = std::mem::take(&mut pool.idle);
            let wanted = pool.wanted;
            let warm = if wanted && !self.draining { self.config.warm_tunnels } else { 0 };
            let mut kept = 0;
            idle.retain(|id| {
                let keep = self.conns.get(*id).is_some_and(Conn::is_idle_tunnel)
                    && self.tend_idle(*id, kept >= warm);
                kept += usize::from(keep);
                keep
            });
            let now = self.now;
            let Some(pool) = self.pool_mut(gateway) else { continue };
            let waiting = !pool.waiting.is_empty();
            idle.append(&mut pool.idle);
            pool.idle = idle;
            if waiting {
                // Tunnels that had no room for an OPEN when they became idle.
                let idle = std::mem::take(&mut pool.idle);
                for id in idle {
                    self.tunnel_idle(id);
                }
            }
            let Some(pool) = self.pool_mut(gateway) else { continue };
            if pool.reachable(now) {
                self.grow_pool(gateway, warm);
            }
            self.flush_touched();
        }
    }

    /// Looks after one idle tunnel. `false` if it is no longer one.
    fn tend_idle(&mut self, id: FlowId, surplus: bool) -> bool {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let Leg::Tunnel(leg) = &mut conn.leg else { return false };
        let age = now.since(leg.idle_since);
        match leg.ping {
            Some(sent) if now.since(sent) >= TUNNEL_PING_TIMEOUT => {
                self.lose_tunnel(id, CloseReason::TunnelLost, None);
                return false;
            }
            Some(_) => {}
            None if surplus && age >= TUNNEL_IDLE_TIMEOUT => {
                self.retire(id);
                return false;
            }
            None if now.since(leg.idle_since.max(leg.heard)) >= TUNNEL_PING_INTERVAL => {
                if let Phase::Up(up) = &mut leg.phase {
                    leg.ping = Some(now);
                    up.ping(now.as_nanos());
                    let _ = up.flush(&mut conn.tcp, self.engine.memory(), &mut self.scratch);
                    self.touch(id);
                }
            }
            None => {}
        }
        true
    }

    /// Tells every peer that no further stream is taken here, and ends idle tunnels of our own.
    pub(super) fn drain_tunnels(&mut self) {
        let tunnels: Vec<FlowId> =
            self.conns.iter().filter(|(_, c)| c.tunnel().is_some()).map(|(id, _)| id).collect();
        for id in tunnels {
            let Some(conn) = self.conns.get_mut(id) else { continue };
            if conn.is_idle_tunnel() && conn.tunnel().is_some_and(|l| l.role == Role::Importer) {
                self.retire(id);
            } else if let Some((tcp, up)) = conn.up() {
                up.go_away();
                let _ = up.flush(tcp, self.engine.memory(), &mut self.scratch);
                self.touch(id);
            }
            self.flush_touched();
        }
    }
}
