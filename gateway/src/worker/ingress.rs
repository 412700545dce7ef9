//! Frames in: to the stack, to their connection, or to the worker they belong to.

use arrayvec::ArrayVec;

use super::Worker;
use super::conn::{Conn, Pending};
use super::inbox::Message;
use crate::flow::FlowId;
use crate::limits::RX_BURST;
use crate::net::{FlowKey, Ingress, TcpPacket};
use crate::port::{Frame, FrameIo, RxBurst};
use crate::relay;
use crate::tcp::{Memory, Profile, TcpEvent, TcpState};
use crate::telemetry::DropReason;
use crate::tls::HandshakeExecutor;

impl<P: FrameIo, H: HandshakeExecutor> Worker<P, H> {
    pub(super) fn receive(&mut self) -> bool {
        let mut any = false;
        // What peers acknowledge makes room for what services send.
        for peers in [true, false] {
            for p in 0..self.ports.len() {
                if self.ports[p].side.is_peer() == peers {
                    any |= self.receive_burst(p);
                }
            }
        }
        any
    }

    fn receive_burst(&mut self, p: usize) -> bool {
        let mut burst: RxBurst<P::Frame> = ArrayVec::new();
        if self.ports[p].io.rx_burst(&mut burst) == 0 {
            return false;
        }
        self.counters.rx_frames += burst.len() as u64;
        let expected = self.expect(&burst);
        for (n, frame) in burst.into_iter().enumerate() {
            self.look_ahead(&expected, n);
            self.counters.rx_bytes += frame.data().len() as u64;
            self.frame(p, frame, expected.get(n).copied().flatten(), true);
        }
        true
    }

    pub(super) fn take_inbox(&mut self) -> bool {
        let mut any = false;
        // Bounded: siblings may fill the inbox as fast as it empties. By what the ports give in a
        // turn: with less, a sibling that gets all frames of a device would fill it for good.
        for _ in 0..RX_BURST * self.ports.len() {
            match self.inboxes.take(self.config.id) {
                None => break,
                Some(Message::Frame { port, frame }) => {
                    self.frame(usize::from(port), frame, None, false);
                }
                Some(Message::Neighbour { port, ip, mac }) => {
                    let p = usize::from(port);
                    if let Some(port) = self.ports.get_mut(p) {
                        port.stack.learn(self.now, ip, mac, &mut self.neighbour_events);
                        self.take_neighbour_events(p);
                    }
                }
            }
            any = true;
        }
        any
    }

    /// `expected`: whose it seems to be. `may_hand_off` is false for a frame that was handed to this worker: it
    /// stays.
    fn frame(&mut self, p: usize, frame: P::Frame, expected: Option<FlowId>, may_hand_off: bool) {
        let Some(port) = self.ports.get_mut(p) else { return };
        let ingress = {
            let (stack, mut tx) = port.split();
            stack.ingress(self.now, frame.data(), frame.rx_meta(), &mut tx, &mut self.counters)
        };
        let owner = match ingress {
            Ingress::Consumed => None,
            Ingress::Neighbour { ip, mac } => {
                // The answer may have been for a question of a sibling.
                port.stack.learn(self.now, ip, mac, &mut self.neighbour_events);
                self.take_neighbour_events(p);
                let lost = self.inboxes.tell_others(self.config.id, p as u8, ip, mac);
                for _ in 0..lost {
                    self.counters.drop_frame(DropReason::InboxFull);
                }
                None
            }
            Ingress::Tcp(packet) => self.segment(p, &packet, expected, may_hand_off),
            // Devices spread reports by the addresses of who reports.
            Ingress::PathMtu { key, seq, mtu } => {
                self.path_mtu(&key, seq, mtu);
                self.sibling(&key, may_hand_off)
            }
            Ingress::Unreachable { key, hard } => {
                self.unreachable(&key, hard);
                self.sibling(&key, may_hand_off)
            }
        };
        if let Some(owner) = owner {
            self.counters.strays += 1;
            let message = Message::Frame { port: p as u8, frame };
            if self.inboxes.give(owner, message).is_err() {
                self.counters.drop_frame(DropReason::InboxFull);
            }
        }
    }

    /// Takes a segment to its connection. Returns the worker it belongs to if that is another.
    pub(super) fn segment(
        &mut self,
        p: usize,
        packet: &TcpPacket<'_>,
        expected: Option<FlowId>,
        may_hand_off: bool,
    ) -> Option<u16> {
        if let Some(id) = self.flow_of(p, &packet.key, expected) {
            self.input(id, packet);
            return None;
        }
        if let Some(owner) = self.sibling(&packet.key, may_hand_off) {
            return Some(owner);
        }
        if packet.is_syn() {
            self.syn(p, packet);
        } else if !self.cookie(p, packet) && !self.answer_time_wait(p, packet) {
            self.counters.drop_frame(DropReason::NoFlow);
            self.refuse(p, packet);
        }
        None
    }

    /// Feeds a segment to its connection. What it carries of a stream goes right into the tunnel, if
    /// nothing waits in front of it: copied once from frame to record.
    fn input(&mut self, id: FlowId, packet: &TcpPacket<'_>) {
        let Some(conn) = self.conns.get(id) else { return };
        let tunnel = match conn.leg.permit() {
            Some((_, tunnel)) if packet.payload_len > 0 => tunnel,
            _ => None,
        };
        let both = tunnel.and_then(|tunnel| self.conns.get2_mut(id, tunnel));
        let (conn, into) = match both {
            Some((conn, tunnel)) => (conn, tunnel.up_for(id)),
            None => match self.conns.get_mut(id) {
                Some(conn) => (conn, None),
                None => return,
            },
        };
        let Conn { tcp, leg, .. } = &mut *conn;
        let into = leg.permit().zip(into);
        let mut failed = None;
        let read = |payload: &[u8], memory: &mut Memory| {
            let Some(((permit, _), (tunnel_tcp, up))) = into else { return 0 };
            up.resume(self.now);
            let (scratch, counters) = (&mut self.scratch, &mut self.counters);
            relay::arrived_to_tunnel(permit, payload, up, tunnel_tcp, memory, scratch, counters)
                .unwrap_or_else(|e| {
                    failed = Some(e);
                    0
                })
        };
        let event = self.engine.input(tcp, self.now, packet.tcp, packet.congested, read);
        conn.note(event);
        if packet.flags.fin {
            conn.fin_seq = packet.seq.wrapping_add(packet.payload_len as u32).wrapping_add(1);
        }
        Self::wake(&mut self.ready, id, conn);
        if conn.tcp.has_unreported_gaps() {
            // One acknowledgement for a whole burst would name the last three only.
            self.output(id);
        }
        if let (Some(e), Some(tunnel)) = (failed, tunnel) {
            self.lose_tunnel(tunnel, e.reason(), Some(&e));
        }
    }

    fn flow_of(&mut self, p: usize, key: &FlowKey, expected: Option<FlowId>) -> Option<FlowId> {
        if expected.and_then(|id| self.conns.get(id)).is_some_and(|conn| conn.tcp.key() == key) {
            return expected;
        }
        if let Some((last, id)) = &self.ports[p].last_flow
            && last == key
            && self.conns.get(*id).is_some()
        {
            return Some(*id);
        }
        let id = self.flows.get(key)?;
        self.ports[p].last_flow = Some((*key, id));
        Some(id)
    }

    /// The worker that a connection belongs to, if that is another and may be given its frames.
    fn sibling(&self, key: &FlowKey, may_hand_off: bool) -> Option<u16> {
        let owner = (may_hand_off && self.config.workers > 1).then(|| self.steering.owner(key));
        owner.filter(|owner| *owner != self.config.id)
    }

    pub(super) fn refuse(&mut self, p: usize, packet: &TcpPacket<'_>) {
        let (stack, mut tx) = self.ports[p].split();
        stack.reset(self.now, packet, &mut tx, &mut self.counters);
    }

    /// A segment of a connection in TIME-WAIT: a repeated FIN is acknowledged again (RFC 9293,
    /// section 3.10.7.4). All that is needed for it stands in the segment.
    fn answer_time_wait(&mut self, p: usize, packet: &TcpPacket<'_>) -> bool {
        if !self.time_wait.contains(&packet.key) {
            return false;
        }
        if packet.flags.fin {
            let (stack, mut tx) = self.ports[p].split();
            stack.acknowledge(self.now, packet, &mut tx);
        }
        true
    }

    /// RFC 5927, section 7.2: only a report of what is on its way is believed.
    fn path_mtu(&mut self, key: &FlowKey, seq: u32, mtu: usize) {
        let Some(conn) = self.flows.get(key).and_then(|id| self.conns.get_mut(id)) else { return };
        if !conn.tcp.is_on_its_way(seq) {
            return self.counters.drop_frame(DropReason::IcmpIgnored);
        }
        let old = conn.tcp.profile();
        if mtu < self.engine.mtu(old) {
            let checksum_offload = self.ports[usize::from(conn.port)].io.caps().tx_checksum;
            let profile = self.engine.profile(Profile { mtu, checksum_offload });
            self.engine.set_profile(&mut conn.tcp, profile);
        }
    }

    /// A hard error ends a connection that is not yet established; later it is ignored, as anyone
    /// could have sent it (RFC 5927, section 5.2).
    fn unreachable(&mut self, key: &FlowKey, hard: bool) {
        let Some(id) = self.flows.get(key) else { return };
        let Some(conn) = self.conns.get_mut(id) else { return };
        if hard && conn.tcp.state() == TcpState::Opening && conn.pending == Pending::No {
            conn.tcp.abort();
            conn.note(TcpEvent::Reset);
            Self::wake(&mut self.ready, id, conn);
        }
    }
}
