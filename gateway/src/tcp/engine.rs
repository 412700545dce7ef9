//! Segments in, segments out, deadlines.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult};
use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::socket::tcp as smol;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpEndpoint};

use super::conn::TcpConn;
use super::duplicate;
use super::isn::{IsnSecret, seed_for};
use super::{ACK_DELAY, SegmentSink, TcpState};
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
    /// The engine panicked on this connection; it must not be used any more.
    Fault,
}

pub struct TcpEngine {
    profiles: Vec<(Profile, Interface)>,
    isn: IsnSecret,
}

impl std::fmt::Debug for TcpEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpEngine").field("profiles", &self.profiles.len()).finish()
    }
}

fn smol_time(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(now.as_micros() as i64)
}

fn endpoint(a: SocketAddr) -> IpEndpoint {
    IpEndpoint::new(a.ip().into(), a.port())
}

impl TcpEngine {
    pub fn new(isn: IsnSecret) -> Self {
        Self { profiles: Vec::new(), isn }
    }

    /// The profile with these properties, made on first use.
    ///
    /// There are at most 256: beyond that the one with the next smaller MTU is given, which is
    /// correct for the wire and only less efficient.
    pub fn profile(&mut self, wanted: Profile) -> ProfileId {
        if let Some(i) = self.profiles.iter().position(|(p, _)| *p == wanted) {
            return ProfileId(i as u8);
        }
        if self.profiles.len() > usize::from(u8::MAX) {
            let best = self
                .profiles
                .iter()
                .enumerate()
                .filter(|(_, (p, _))| {
                    p.mtu <= wanted.mtu && p.checksum_offload == wanted.checksum_offload
                })
                .max_by_key(|(_, (p, _))| p.mtu);
            return ProfileId(best.map_or(0, |(i, _)| i as u8));
        }
        self.profiles.push((wanted, interface(wanted, 0, Instant::ZERO)));
        ProfileId((self.profiles.len() - 1) as u8)
    }

    pub fn mtu(&self, id: ProfileId) -> usize {
        self.profiles[usize::from(id.0)].0.mtu
    }

    /// Opens a connection passively with the SYN that `ip` holds; the SYN|ACK goes to `sink`
    /// with the next [`TcpEngine::output`].
    pub fn accept(
        &mut self,
        conn: &mut TcpConn,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        profile: ProfileId,
        ip: &[u8],
        sink: &mut impl SegmentSink,
    ) -> TcpEvent {
        conn.prepare(profile);
        if conn.socket_mut().listen(endpoint(local)).is_err() {
            return TcpEvent::Fault;
        }
        let mut iface = self.seeded(now, local, remote, profile);
        input(&mut iface, conn, now, ip, sink)
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
        conn.prepare(profile);
        let mut iface = self.seeded(now, local, remote, profile);
        conn.socket_mut().connect(iface.context(), endpoint(remote), endpoint(local)).is_ok()
    }

    /// Feeds one IP packet that belongs to this connection.
    pub fn input(
        &mut self,
        conn: &mut TcpConn,
        now: Instant,
        ip: &[u8],
        sink: &mut impl SegmentSink,
    ) -> TcpEvent {
        let iface = &mut self.profiles[usize::from(conn.profile.0)].1;
        input(iface, conn, now, ip, sink)
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
        if conn.rests() {
            return (TcpEvent::None, false);
        }
        let before = conn.socket().state();
        let last_ack = before == smol::State::TimeWait;
        let now = if last_ack { now + ACK_DELAY } else { now };
        let iface = &mut self.profiles[usize::from(conn.profile.0)].1;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let TcpConn { set, acknowledged, .. } = conn;
            let mut device = Segments { rx: None, sink, acknowledged };
            for _ in 0..budget {
                if !device.sink.ready() {
                    return true;
                }
                match iface.poll_egress(smol_time(now), &mut device, set) {
                    PollResult::None => return false,
                    PollResult::SocketStateChanged => {}
                }
            }
            true
        }));
        match outcome {
            Err(_) => (TcpEvent::Fault, false),
            Ok(more) => {
                let after = conn.socket().state();
                conn.last_ack_sent |= last_ack && !more;
                let event = match (before, after) {
                    (smol::State::Closed | smol::State::TimeWait, _) => TcpEvent::None,
                    (_, smol::State::Closed) => TcpEvent::TimedOut,
                    _ => TcpEvent::None,
                };
                (event, more)
            }
        }
    }

    /// When the connection needs [`TcpEngine::output`] again; `None` while it only waits for the
    /// other side. A time in the past means now.
    pub fn deadline(&mut self, conn: &TcpConn, now: Instant) -> Option<Instant> {
        if conn.rests() {
            return None;
        }
        let iface = &mut self.profiles[usize::from(conn.profile.0)].1;
        catch_unwind(AssertUnwindSafe(|| iface.poll_at(smol_time(now), &conn.set)))
            .ok()?
            .map(|t| Instant::from_nanos((t.total_micros().max(0) as u64).saturating_mul(1_000)))
    }

    fn seeded(
        &self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        id: ProfileId,
    ) -> Interface {
        let profile = self.profiles[usize::from(id.0)].0;
        interface(profile, seed_for(self.isn.isn(now, local, remote)), now)
    }
}

fn input(
    iface: &mut Interface,
    conn: &mut TcpConn,
    now: Instant,
    ip: &[u8],
    sink: &mut impl SegmentSink,
) -> TcpEvent {
    let before = conn.socket().state();
    let bare_ack = conn.acknowledged.and_then(|expected| duplicate::bare_ack(ip, expected));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let TcpConn { set, acknowledged, .. } = conn;
        let mut device = Segments { rx: None, sink, acknowledged };
        if let Some(ack) = &bare_ack {
            device.rx = Some(ack.ip());
            iface.poll_ingress_single(smol_time(now), &mut device, set);
        }
        device.rx = Some(ip);
        iface.poll_ingress_single(smol_time(now), &mut device, set)
    }));
    let Ok(
        PollIngressSingleResult::PacketProcessed
        | PollIngressSingleResult::SocketStateChanged
        | PollIngressSingleResult::None,
    ) = outcome
    else {
        return TcpEvent::Fault;
    };
    let after = conn.socket().state();
    if before == after {
        return TcpEvent::None;
    }
    let event = match (before, after) {
        (smol::State::LastAck, smol::State::Closed) | (_, smol::State::TimeWait) => {
            TcpEvent::Finished
        }
        (_, smol::State::Closed) => TcpEvent::Reset,
        // A refused or abandoned passive open goes back to LISTEN.
        (_, smol::State::Listen) => TcpEvent::Reset,
        (smol::State::Listen, smol::State::SynReceived) => TcpEvent::None,
        (smol::State::SynSent, smol::State::SynReceived) => TcpEvent::None,
        (smol::State::SynSent | smol::State::SynReceived, _) => TcpEvent::Established,
        _ => TcpEvent::None,
    };
    conn.finished |= event == TcpEvent::Finished;
    event
}

fn interface(profile: Profile, seed: u64, now: Instant) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut caps_only = CapsOnly(capabilities(profile));
    let mut iface = Interface::new(config, &mut caps_only, smol_time(now));
    // Addresses are checked by `net` before a packet comes here.
    iface.set_any_ip(true);
    iface
}

fn capabilities(profile: Profile) -> DeviceCapabilities {
    let mut caps = DeviceCapabilities::default();
    caps.medium = Medium::Ip;
    caps.max_transmission_unit = profile.mtu;
    // Received checksums have been verified by the device or by `net`.
    let tx = if profile.checksum_offload { Checksum::None } else { Checksum::Tx };
    caps.checksum = ChecksumCapabilities::ignored();
    caps.checksum.ipv4 = tx;
    caps.checksum.tcp = tx;
    caps
}

/// The engine's device for the length of one call: at most one packet in, segments out.
struct Segments<'a, S> {
    rx: Option<&'a [u8]>,
    sink: &'a mut S,
    /// See [`TcpConn::acknowledged`].
    acknowledged: &'a mut Option<u32>,
}

struct Rx<'a>(&'a [u8]);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

struct Tx<'a, S> {
    sink: &'a mut S,
    acknowledged: &'a mut Option<u32>,
}

impl<S: SegmentSink> TxToken for Tx<'_, S> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Self { sink, acknowledged } = self;
        sink.segment(len, |bytes| {
            let result = f(bytes);
            if let Some(ack) = duplicate::sent_ack(bytes) {
                *acknowledged = Some(ack);
            }
            result
        })
    }
}

impl<S: SegmentSink> Device for Segments<'_, S> {
    type RxToken<'t>
        = Rx<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Tx<'t, S>
    where
        Self: 't;

    fn receive(&mut self, _: SmolInstant) -> Option<(Rx<'_>, Tx<'_, S>)> {
        let packet = self.rx.take()?;
        Some((Rx(packet), Tx { sink: &mut *self.sink, acknowledged: &mut *self.acknowledged }))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Tx<'_, S>> {
        if !self.sink.ready() {
            return None;
        }
        Some(Tx { sink: &mut *self.sink, acknowledged: &mut *self.acknowledged })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        DeviceCapabilities::default()
    }
}

/// Gives an interface its capabilities when it is made.
struct CapsOnly(DeviceCapabilities);

struct Never;

impl RxToken for Never {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&[])
    }
}

impl TxToken for Never {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        f(&mut vec![0; len])
    }
}

impl Device for CapsOnly {
    type RxToken<'t> = Never;
    type TxToken<'t> = Never;

    fn receive(&mut self, _: SmolInstant) -> Option<(Never, Never)> {
        None
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Never> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.0.clone()
    }
}

impl TcpConn {
    /// Whether the connection holds nothing that has to reach the wire any more.
    pub fn is_over(&self) -> bool {
        matches!(self.state(), TcpState::Closed | TcpState::Finished) && !self.reset_pending()
    }
}
