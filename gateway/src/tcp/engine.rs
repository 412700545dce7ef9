//! Segments in, segments out, deadlines.

use std::net::SocketAddr;

use super::SegmentSink;
use super::black_hole::BlackHole;
use super::conn::{State, TcpConn};
use super::cookie::Secrets;
use super::isn::IsnSecret;
use super::memory::Memory;
use crate::net::FlowKey;
use crate::time::Instant;

/// What segments of a connection look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Largest IP packet, bytes.
    pub mtu: usize,
    /// The device computes checksums; the engine leaves them zero.
    pub checksum_offload: bool,
}

/// Index of a [`Profile`] in its engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfileId(u8);

/// What a segment or a deadline did to the connection, beyond moving bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpEvent {
    None,
    /// The handshake has completed.
    Established,
    /// The other side reset the connection, or refused it.
    Reset,
    /// The other side no longer answers.
    TimedOut,
    /// Both directions ended with FIN and everything is acknowledged.
    Finished,
}

/// What all connections of a worker share.
#[derive(Debug)]
pub struct TcpEngine {
    profiles: Vec<Profile>,
    pub(super) isn: IsnSecret,
    pub(super) cookies: Secrets,
    pub(super) black_holes: u64,
    memory: Memory,
}

impl TcpEngine {
    /// An engine whose connections hold at most `buffers` bytes, all together. Connections
    /// between gateways may stand still for ever with less than [`crate::limits::TCP_LEAST_MEMORY`].
    pub fn new(isn: IsnSecret, buffers: usize) -> Self {
        Self {
            profiles: Vec::new(),
            isn,
            cookies: Secrets::default(),
            black_holes: 0,
            memory: Memory::new(buffers),
        }
    }

    /// Memory for what connections send.
    pub fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// Takes back the memory of a connection, whatever its state.
    pub fn release(&mut self, mut conn: TcpConn) {
        conn.end();
        conn.settle(&mut self.memory);
        self.memory.put_control(conn.control);
    }

    /// The profile with these properties, made on first use.
    ///
    /// There are at most 256: beyond that the one with the next smaller MTU is given, which is
    /// correct for the wire and only less efficient.
    pub fn profile(&mut self, wanted: Profile) -> ProfileId {
        if let Some(i) = self.profiles.iter().position(|p| *p == wanted) {
            return ProfileId(i as u8);
        }
        if self.profiles.len() > usize::from(u8::MAX) {
            let fits =
                |p: &Profile| p.mtu <= wanted.mtu && p.checksum_offload == wanted.checksum_offload;
            let all = self.profiles.iter().enumerate();
            let best = all.clone().filter(|(_, p)| fits(p)).max_by_key(|(_, p)| p.mtu);
            let least = || {
                let same = |p: &Profile| p.checksum_offload == wanted.checksum_offload;
                all.filter(|(_, p)| same(p)).min_by_key(|(_, p)| p.mtu)
            };
            return ProfileId(best.or_else(least).map_or(0, |(i, _)| i as u8));
        }
        self.profiles.push(wanted);
        ProfileId((self.profiles.len() - 1) as u8)
    }

    pub fn mtu(&self, id: ProfileId) -> usize {
        self.of(id).mtu
    }

    pub(super) fn of(&self, id: ProfileId) -> Profile {
        self.profiles[usize::from(id.0)]
    }

    /// Opens a connection passively with the SYN that `tcp` holds, a TCP header and what is behind
    /// it; the SYN|ACK goes out with the next [`TcpEngine::output`]. Returns `false` if it holds none.
    pub fn accept(
        &mut self,
        conn: &mut TcpConn,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        profile: ProfileId,
        tcp: &[u8],
    ) -> bool {
        self.prepare(conn, local, remote, profile);
        conn.accept(now, self.isn.isn(now, local, remote), tcp, self.of(profile))
    }

    /// Opens a connection actively; the SYN goes out with the next [`TcpEngine::output`].
    /// Returns `false` if the addresses cannot be connected (port 0, mixed families).
    pub fn connect(
        &mut self,
        conn: &mut TcpConn,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        profile: ProfileId,
    ) -> bool {
        if local.port() == 0 || remote.port() == 0 || local.is_ipv4() != remote.is_ipv4() {
            return false;
        }
        self.prepare(conn, local, remote, profile);
        conn.open(now, self.isn.isn(now, local, remote));
        conn.state = State::SynSent;
        true
    }

    pub(super) fn prepare(
        &mut self,
        conn: &mut TcpConn,
        local: SocketAddr,
        remote: SocketAddr,
        profile: ProfileId,
    ) {
        (conn.key, conn.profile) = (FlowKey::new(local, remote), profile);
        conn.take_control(&mut self.memory);
        conn.clock_offset = self.isn.clock_offset(local, remote);
    }

    /// Moves the connection to a profile with another MTU; the next segment obeys it. What is on its
    /// way and too long for it has been dropped, and is no sign of congestion (RFC 1191, section
    /// 6.4).
    pub fn set_profile(&self, conn: &mut TcpConn, id: ProfileId) {
        conn.black_hole = BlackHole::default();
        self.change_profile(conn, id);
    }

    pub(super) fn change_profile(&self, conn: &mut TcpConn, id: ProfileId) {
        conn.profile = id;
        let mss = conn.mss(self.of(id));
        conn.control.get_mut().set_mss(mss);
        conn.sent.lose_longer(mss);
    }

    /// Feeds one segment of this connection, from the TCP header on. Whoever calls has checked its
    /// checksum. `congested`: a router has marked the packet (RFC 3168, CE).
    ///
    /// Payload that has just been waited for, while no other waits to be taken, is shown to `read`
    /// before it would go into the receive ring. What `read` says that it took is taken.
    pub fn input(
        &mut self,
        conn: &mut TcpConn,
        now: Instant,
        tcp: &[u8],
        congested: bool,
        read: impl FnOnce(&[u8], &mut Memory) -> usize,
    ) -> TcpEvent {
        let profile = self.of(conn.profile);
        conn.segment(now, tcp, congested, profile, &mut self.memory, read)
    }

    /// Sends what the connection has to send, until the sink is full or `budget` segments are
    /// out. Also runs the connection's timers. Returns what happened and whether more is waiting.
    pub fn output(
        &mut self,
        conn: &mut TcpConn,
        now: Instant,
        budget: usize,
        sink: &mut impl SegmentSink,
    ) -> (TcpEvent, bool) {
        if conn.black_hole.is_suspected() {
            self.look_for_black_hole(conn, now, sink);
        }
        let profile = self.of(conn.profile);
        conn.settle(&mut self.memory);
        conn.update_window(profile);
        conn.send_segments(now, profile, budget, sink)
    }

    /// When the connection needs [`TcpEngine::output`] again; `None` while it only waits for the
    /// other side. A time in the past means now.
    pub fn deadline(&self, conn: &TcpConn, now: Instant) -> Option<Instant> {
        conn.due(now, self.of(conn.profile))
    }
}
