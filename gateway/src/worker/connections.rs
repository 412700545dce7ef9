//! The life of a connection: opened, run, given to the wire, taken down.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rand::Rng;

use super::Worker;
use super::conn::{Conn, Leg, Pending};
use crate::flow::{FlowId, TimerWheel};
use crate::limits::{
    CONNECT_TIMEOUT, NEIGHBOUR_RETRY, OUTPUT_BURST, TCP_CLOSING_TIMEOUT, TCP_MEMORY_RETRY,
    TCP_USER_TIMEOUT,
};
use crate::net::{FlowKey, Resolve};
use crate::port::FrameIo;
use crate::tcp::{SegmentSink, TcpConn, TcpEvent, TcpState};
use crate::telemetry::{CloseReason, Event};
use crate::time::Instant;
use crate::tls::HandshakeExecutor;

impl<P: FrameIo, H: HandshakeExecutor> Worker<P, H> {
    /// Opens a connection from this gateway.
    pub(super) fn connect(
        &mut self,
        peers: bool,
        remote: SocketAddr,
        leg: Leg,
    ) -> Result<FlowId, CloseReason> {
        for p in 0..self.ports.len() {
            let port = &mut self.ports[p];
            if !(if peers { port.side.is_peer() } else { port.side.is_service() }) {
                continue;
            }
            let (stack, mut tx) = port.split();
            let Some(source) = stack.source_for(remote.ip()) else { continue };
            let neighbour = match stack.resolve(self.now, remote.ip(), &mut tx, &mut self.counters)
            {
                Resolve::Ready(id) | Resolve::Pending(id) => id,
                Resolve::NoRoute | Resolve::TableFull => continue,
            };
            let profile = port.profile;
            let random = self.rng.next_u64();
            let Some(local_port) = self.ephemeral.pick(
                &self.steering,
                &self.flows,
                source.into(),
                (remote.ip().into(), remote.port()),
                random,
                |key| self.time_wait.is_fresh(key, self.now),
            ) else {
                return Err(CloseReason::NoSourcePort);
            };
            let local = SocketAddr::new(source, local_port);
            let mut tcp = TcpConn::new(self.config.tcp(leg.side()));
            if !self.engine.connect(&mut tcp, self.now, local, remote, profile) {
                return Err(CloseReason::NoRoute);
            }
            let mut conn = Conn::new(tcp, p as u8, neighbour, leg);
            conn.deadline = Some(self.now + CONNECT_TIMEOUT);
            let key = FlowKey::new(local, remote);
            let Some(id) = self.insert(key, conn) else { return Err(CloseReason::Overload) };
            self.touch(id);
            return Ok(id);
        }
        Err(CloseReason::NoRoute)
    }

    /// Whether some port on that side has an address and a route towards `remote`.
    pub(super) fn reaches(&self, peers: bool, remote: SocketAddr) -> bool {
        self.ports
            .iter()
            .filter(|p| if peers { p.side.is_peer() } else { p.side.is_service() })
            .any(|p| p.stack.source_for(remote.ip()).is_some())
    }

    /// The connection is opened already, or next: until then it does not know its `key`.
    pub(super) fn insert(&mut self, key: FlowKey, conn: Conn) -> Option<FlowId> {
        let id = match self.conns.insert(conn) {
            Ok(id) => id,
            Err(conn) => {
                self.engine.release(conn.tcp);
                return None;
            }
        };
        if self.flows.insert(key, id).is_ok() {
            self.time_wait.remove(&key);
            return Some(id);
        }
        if let Some(conn) = self.conns.remove(id) {
            self.engine.release(conn.tcp);
        }
        None
    }

    pub(super) fn wake(ready: &mut VecDeque<FlowId>, id: FlowId, conn: &mut Conn) {
        if !conn.ready {
            conn.ready = true;
            ready.push_back(id);
        }
    }

    pub(super) fn wake_id(&mut self, id: FlowId) {
        if let Some(conn) = self.conns.get_mut(id) {
            Self::wake(&mut self.ready, id, conn);
        }
    }

    /// Marks a connection for output, once however often it was touched: at the end of this turn, or where
    /// [`Self::flush_touched`] is called.
    pub(super) fn touch(&mut self, id: FlowId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !std::mem::replace(&mut conn.touched, true)
        {
            self.touched.push(id);
        }
    }

    pub(super) fn run_ready(&mut self) -> bool {
        // Those that became ready meanwhile have their turn in the next iteration.
        let turns = self.ready.len();
        for _ in 0..turns {
            self.look_ahead_ready();
            let Some(id) = self.ready.pop_front() else { break };
            self.run(id);
        }
        self.flush_touched();
        turns > 0
    }

    pub(super) fn run(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.ready = false;
        let event = std::mem::replace(&mut conn.event, TcpEvent::None);
        let expired = conn.deadline.is_some_and(|d| d <= self.now);
        if expired {
            conn.deadline = None;
        }
        if conn.pending != Pending::No {
            self.count_handshake(id, event);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.over {
            if expired {
                conn.tcp.abort();
            }
        } else {
            match conn.leg {
                Leg::Client(_) => self.run_client(id, event, expired),
                Leg::Service(_) => self.run_service(id, event, expired),
                Leg::Tunnel(_) => self.run_tunnel(id, event, expired),
            }
        }
        self.touch(id);
    }

    pub(super) fn flush_touched(&mut self) {
        // In the order in which they were touched: a port that is full is so for the last ones.
        let mut n = 0;
        while let Some(&id) = self.touched.get(n) {
            self.output(id);
            n += 1;
        }
        self.touched.clear();
    }

    /// Sends what the connection has to send, sets its timer, and takes it down once it is over.
    pub(super) fn output(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.touched = false;
        let port = &mut self.ports[usize::from(conn.port)];
        let mut sink = port.flow_tx(conn.neighbour, conn.tcp.key().is_v4());
        if sink.l2.is_none() {
            return self.await_next_hop(id);
        }
        conn.unresolved_since = None;
        let (event, more) = self.engine.output(&mut conn.tcp, self.now, OUTPUT_BURST, &mut sink);
        let port_full = sink.room() == 0;
        if event != TcpEvent::None {
            conn.note(event);
            Self::wake(&mut self.ready, id, conn);
        }
        if more {
            if port_full {
                if !std::mem::replace(&mut conn.blocked, true) {
                    self.blocked.push(id);
                }
            } else {
                Self::wake(&mut self.ready, id, conn);
            }
        }
        if conn.tcp.take_starved() {
            Self::arm(&mut self.wheel, id, conn, self.now + TCP_MEMORY_RETRY);
        }
        if conn.over && conn.tcp.is_over() {
            return self.remove(id);
        }
        self.set_timer(id);
    }

    /// The next hop's address is not known, or not any more: entries that nothing was sent to for
    /// long are forgotten. TCP is not asked meanwhile, so its time-out is kept here.
    fn await_next_hop(&mut self, id: FlowId) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.over && conn.tcp.send_queue() == 0 {
            // Nobody can be told.
            return self.remove(id);
        }
        let first = conn.unresolved_since.is_none();
        let since = *conn.unresolved_since.get_or_insert(now);
        if now.since(since) >= TCP_USER_TIMEOUT {
            conn.unresolved_since = None;
            conn.tcp.abort();
            conn.note(TcpEvent::TimedOut);
            return Self::wake(&mut self.ready, id, conn);
        }
        let (stack, mut tx) = self.ports[usize::from(conn.port)].split();
        let remote = conn.tcp.key().remote.into();
        match stack.resolve(now, remote, &mut tx, &mut self.counters) {
            Resolve::Ready(neighbour) => {
                conn.neighbour = neighbour;
                return Self::wake(&mut self.ready, id, conn);
            }
            Resolve::Pending(neighbour) => {
                if first || conn.neighbour != neighbour {
                    self.unresolved.push((conn.port, neighbour, id));
                }
                conn.neighbour = neighbour;
            }
            Resolve::NoRoute | Resolve::TableFull => {}
        }
        let again = now + NEIGHBOUR_RETRY;
        let at = conn.deadline.map_or(again, |d| d.min(again));
        Self::arm(&mut self.wheel, id, conn, at);
    }

    fn set_timer(&mut self, id: FlowId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let tcp = self.engine.deadline(&conn.tcp, self.now);
        if let Some(at) = [tcp, conn.deadline].into_iter().flatten().min() {
            Self::arm(&mut self.wheel, id, conn, at);
        }
    }

    /// Sees to it that the connection is run at `at`. Lazy: an earlier entry fires first and finds
    /// the later deadline then.
    pub(super) fn arm(wheel: &mut TimerWheel<FlowId>, id: FlowId, conn: &mut Conn, at: Instant) {
        if conn.timer.is_none_or(|t| at < t) {
            if let Some(later) = conn.timer {
                conn.backstop.get_or_insert(later);
            }
            conn.timer = Some(at);
            wheel.insert(at, id);
        }
    }

    pub(super) fn transmit(&mut self) -> bool {
        let mut sent = 0;
        for port in &mut self.ports {
            sent += port.transmit(&mut self.counters);
        }
        if sent > 0 {
            while let Some(id) = self.blocked.pop() {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.blocked = false;
                    Self::wake(&mut self.ready, id, conn);
                }
            }
        }
        sent > 0
    }

    /// The leg is done; the connection stays until TCP has said everything. `linger` bounds that
    /// for a connection whose other side may never close.
    pub(super) fn finish(&mut self, id: FlowId, reason: CloseReason, linger: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.over {
            return;
        }
        conn.over = true;
        conn.deadline = linger.then(|| self.now + TCP_CLOSING_TIMEOUT);
        // Every connection comes through here once, before it leaves the slab.
        if let Some(slot) = conn.client_mut().and_then(|c| c.counted.take()) {
            self.source_loads.take(slot);
        }
        self.counters.close(reason);
        self.touch(id);
    }

    /// Ends a connection by RST.
    pub(super) fn abort(&mut self, id: FlowId, reason: CloseReason) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.tcp.abort();
        }
        self.finish(id, reason, false);
    }

    pub(super) fn remove(&mut self, id: FlowId) {
        let Some(mut conn) = self.conns.remove(id) else { return };
        self.spare_choices.extend(conn.client_mut().and_then(|client| client.choice.take()));
        let key = *conn.tcp.key();
        self.flows.remove(&key);
        self.uncount(conn.pending, key.remote);
        if conn.tcp.state() == TcpState::Finished {
            self.time_wait.insert(key, conn.fin_seq, self.now);
        }
        self.engine.release(conn.tcp);
    }

    pub(super) fn report(&mut self, event: Event) {
        if !self.events.push(event) {
            self.counters.events_lost += 1;
        }
    }

    /// Counts and reports a decision that a dry-run policy would have turned.
    pub(super) fn report_dry_run(&mut self, event: Option<Event>) {
        if let Some(event) = event {
            self.counters.policy_dry_run += 1;
            self.report(event);
        }
    }

    pub(super) fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }
}
