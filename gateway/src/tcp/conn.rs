//! One connection: its state, its bytes, and what the application does with them.

use super::assembler::Assembler;
use super::black_hole::BlackHole;
use super::congestion::Control;
use super::ecn::Ecn;
use super::engine::ProfileId;
use super::frto::Frto;
use super::memory::{Memory, Use};
use super::ring::Ring;
use super::rtt::Rtt;
use super::scoreboard::Scoreboard;
use super::seq::Seq;
use super::tuning::Tuning;
use super::{SQUEEZED, ring_size};
use crate::config::Congestion;
use crate::limits::TLS_MAX_RECORD;
use crate::net::{FlowKey, Ip};
use crate::time::Instant;

/// What a caller needs to know of RFC 9293's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    /// No connection, or one that is gone.
    Closed,
    /// The three-way handshake runs.
    Opening,
    /// At least one direction can still carry data.
    Open,
    /// Both directions have been closed; FINs or their acknowledgements are outstanding.
    Closing,
    /// TIME-WAIT: everything is acknowledged on both sides.
    Finished,
}

/// RFC 9293, section 3.3.2. LISTEN is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

/// Whether losses are being repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    No,
    /// Until this is acknowledged: by selective acknowledgements, or by what they say.
    Fast(Seq),
    /// Until this is acknowledged: after a time-out.
    Slow(Seq),
}

/// Whether a repair was called for, which its first acknowledgement of something new tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Nothing was sent again yet.
    Open,
    /// Our clock when something was sent again.
    Since(u32),
    Judged,
}

/// When to acknowledge what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    No,
    By(Instant),
    Now,
}

/// Timestamps (RFC 7323), once both sides have agreed on them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timestamps {
    /// To be echoed.
    pub recent: u32,
    pub recent_at: Instant,
}

/// Proportional rate reduction (RFC 6937), while losses are being repaired fast.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reduction {
    /// On their way when it began.
    pub flight: u32,
    pub delivered: u32,
    pub sent: u32,
    /// May be sent now.
    pub allowance: u32,
}

/// A probe for losses at the end of what was sent (RFC 8985, section 7).
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub end: Seq,
    /// It carried nothing new.
    pub again: bool,
}

/// What a connection may hold, in bytes (see [`ring_size`]), and what controls how fast it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSettings {
    /// Received and not taken: the largest window.
    pub receive: usize,
    /// Queued and not acknowledged.
    pub send: usize,
    pub side: BufferSide,
    pub congestion: Congestion,
}

/// What a connection carries, and so what its memory has to suffice for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferSide {
    /// A stream of bytes of a client or service.
    Service,
    /// TLS records between gateways. Half a record cannot be opened, and would keep its memory for
    /// ever if there were none for the other half: so memory is for a whole one at once.
    Peer,
}

/// One connection. It has no memory of its own: bytes, and what is known of segments, stand in
/// memory of the engine. So it must end with [`super::TcpEngine::release`].
pub struct TcpConn {
    pub(super) state: State,
    pub(super) key: FlowKey,
    pub(super) profile: ProfileId,
    pub(super) black_hole: BlackHole,
    // --- sending
    pub(super) tx: Ring,
    /// Ours, until it is acknowledged; then it stays right behind `una`, since the numbers wrap.
    pub(super) iss: Seq,
    pub(super) una: Seq,
    pub(super) nxt: Seq,
    pub(super) window: u32,
    pub(super) max_window: u32,
    /// Segment and acknowledgement of the last window update.
    pub(super) window_seq: Seq,
    pub(super) window_ack: Seq,
    pub(super) send_shift: u8,
    /// Largest payload the other side takes (its MSS option).
    pub(super) remote_mss: u32,
    /// Of our FIN, once the direction is closed.
    pub(super) fin: Option<Seq>,
    pub(super) sent: Scoreboard,
    pub(super) rtt: Rtt,
    congestion: Congestion,
    /// As `congestion` says from the opening on.
    pub(super) control: Control,
    pub(super) repair: Repair,
    pub(super) reduction: Reduction,
    pub(super) probe: Option<Probe>,
    /// One was sent, and nothing has arrived since: the time-out comes next.
    pub(super) probed: bool,
    /// Acknowledgements of nothing new; counted where there are no selective ones.
    pub(super) duplicates: u8,
    /// Reports of duplicates count once a round, which ends here.
    pub(super) duplicate_round: Seq,
    /// On their way after the last output.
    pub(super) peak: u32,
    /// The next segment with payload leaves no earlier, where there is pacing; and one waits for it.
    pub(super) pace_at: Instant,
    pub(super) paced: bool,
    /// A round of acknowledgements ends here.
    pub(super) round_end: Seq,
    pub(super) doubt: Doubt,
    pub(super) frto: Frto,
    // --- receiving
    pub(super) rx: Ring,
    pub(super) irs: Seq,
    pub(super) rcv_nxt: Seq,
    /// Right edge of the window that the other side knows.
    pub(super) edge: Seq,
    pub(super) recv_shift: u8,
    pub(super) assembler: Assembler,
    /// Of the other side's FIN, before it is reached.
    pub(super) remote_fin: Option<Seq>,
    pub(super) fin_received: bool,
    pub(super) ack: Ack,
    pub(super) last_ack: Seq,
    pub(super) challenge_at: Instant,
    /// Segments behind gaps that no acknowledgement has named yet.
    pub(super) unreported: u8,
    pub(super) tuning: Tuning,
    // --- memory
    /// The worker's memory is tight.
    pub(super) squeezed: bool,
    /// Something could not be queued for want of memory.
    starved: bool,
    // --- options
    /// Added to milliseconds, so that a clock says nothing of other connections'.
    pub(super) clock_offset: u32,
    pub(super) timestamps: Option<Timestamps>,
    pub(super) sack: bool,
    pub(super) ecn: Ecn,
    // --- timers
    /// Since when the retransmission time-out runs.
    pub(super) rto_from: Instant,
    pub(super) probe_from: Instant,
    pub(super) reorder_at: Option<Instant>,
    pub(super) persist_at: Option<Instant>,
    pub(super) persists: u32,
    pub(super) heard: Instant,
    pub(super) alive_at: Instant,
    /// Since when nothing new was acknowledged although something is outstanding.
    pub(super) progress: Instant,
    // --- to be said outside of the order
    pub(super) reset: bool,
    /// RST for a segment that acknowledged what was never sent.
    pub(super) reset_at: Option<Seq>,
    /// A bare segment that makes the other side answer.
    pub(super) poke: bool,
}

const NOBODY: Ip = Ip::from_octets([0; 16]);
/// Waits to be sent beyond another congestion window: what an application that is slow to fill it
/// leaves for the device, and some records of a tunnel.
const SEND_AHEAD: usize = 64 * 1024;
/// Before the path is known.
const SOME_MSS: u32 = 536;

impl std::fmt::Debug for TcpConn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpConn")
            .field("key", &self.key)
            .field("state", &self.state)
            .field("recv", &self.rx.len())
            .field("send", &self.tx.len())
            .field("una", &self.una)
            .field("nxt", &self.nxt)
            .field("window", &self.window)
            .field("repair", &self.repair)
            .finish_non_exhaustive()
    }
}

impl TcpConn {
    /// A connection that was never opened; it is opened once.
    pub fn new(settings: TcpSettings) -> Self {
        let (receive, send) = (ring_size(settings.receive), ring_size(settings.send));
        let (rx, tx) = match settings.side {
            BufferSide::Service => {
                (Ring::new(receive, 0, Use::ServiceReceive), Ring::new(send, 0, Use::ServiceSend))
            }
            BufferSide::Peer => (
                Ring::new(receive, TLS_MAX_RECORD, Use::PeerReceive),
                Ring::new(send, TLS_MAX_RECORD, Use::PeerSend),
            ),
        };
        Self {
            state: State::Closed,
            key: FlowKey { local: NOBODY, remote: NOBODY, local_port: 0, remote_port: 0 },
            profile: ProfileId::default(),
            black_hole: BlackHole::default(),
            tx,
            iss: Seq(0),
            una: Seq(0),
            nxt: Seq(0),
            window: 0,
            max_window: 0,
            window_seq: Seq(0),
            window_ack: Seq(0),
            send_shift: 0,
            remote_mss: SOME_MSS,
            fin: None,
            sent: Scoreboard::default(),
            rtt: Rtt::default(),
            congestion: settings.congestion,
            control: Control::default(),
            repair: Repair::No,
            reduction: Reduction::default(),
            probe: None,
            probed: false,
            peak: 0,
            pace_at: Instant::ZERO,
            paced: false,
            round_end: Seq(0),
            doubt: Doubt::Judged,
            frto: Frto::No,
            rx,
            irs: Seq(0),
            rcv_nxt: Seq(0),
            edge: Seq(0),
            recv_shift: 0,
            assembler: Assembler::default(),
            remote_fin: None,
            fin_received: false,
            ack: Ack::No,
            last_ack: Seq(0),
            challenge_at: Instant::ZERO,
            unreported: 0,
            tuning: Tuning::new(receive),
            squeezed: false,
            starved: false,
            clock_offset: 0,
            timestamps: None,
            sack: false,
            ecn: Ecn::default(),
            duplicates: 0,
            duplicate_round: Seq(0),
            rto_from: Instant::ZERO,
            probe_from: Instant::ZERO,
            reorder_at: None,
            persist_at: None,
            persists: 0,
            heard: Instant::ZERO,
            alive_at: Instant::ZERO,
            progress: Instant::ZERO,
            reset: false,
            reset_at: None,
            poke: false,
        }
    }

    pub fn state(&self) -> TcpState {
        match self.state {
            State::Closed => TcpState::Closed,
            State::SynSent | State::SynReceived => TcpState::Opening,
            State::Established | State::CloseWait | State::FinWait1 | State::FinWait2 => {
                TcpState::Open
            }
            State::Closing | State::LastAck => TcpState::Closing,
            State::TimeWait => TcpState::Finished,
        }
    }

    /// Whether the connection holds nothing that has to reach the wire any more.
    pub fn is_over(&self) -> bool {
        match self.state {
            State::Closed => !self.reset,
            State::TimeWait => self.ack == Ack::No,
            _ => false,
        }
    }

    /// Its ends, once it was opened.
    pub fn key(&self) -> &FlowKey {
        &self.key
    }

    /// The profile (path MTU) the connection runs on.
    pub fn profile(&self) -> ProfileId {
        self.profile
    }

    // --- receiving ------------------------------------------------------------------------------

    /// Bytes received in order and not yet taken.
    pub fn recv_len(&self) -> usize {
        self.rx.len()
    }

    /// The other side has ended its direction and every byte of it has been taken.
    pub fn recv_finished(&self) -> bool {
        self.fin_received && self.rx.len() == 0
    }

    /// Lends the longest contiguous run of received bytes; `f` returns how many it has taken.
    /// After a wrap of the ring the run can be shorter than [`TcpConn::recv_len`].
    pub fn recv<R>(&mut self, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let (taken, result) = f(self.rx.run());
        self.skip(taken);
        result
    }

    /// Copies received bytes from the front without taking them; returns how many.
    pub fn peek(&mut self, out: &mut [u8]) -> usize {
        self.rx.read_at(0, out)
    }

    /// Takes `n` received bytes without looking at them.
    pub fn skip(&mut self, n: usize) {
        self.rx.consume(n);
    }

    /// Copies received bytes from `offset` on without taking them; returns how many.
    pub fn peek_at(&mut self, offset: usize, out: &mut [u8]) -> usize {
        self.rx.read_at(offset, out)
    }

    // --- sending --------------------------------------------------------------------------------

    /// Whether this side's direction is open, and not only going to be.
    pub fn may_send(&self) -> bool {
        matches!(self.state, State::Established | State::CloseWait)
    }

    /// Bytes that may be queued; 0 once the direction is closed. Not much more waits to be sent
    /// than the path carries, or each bulk flow would fill all it may hold.
    pub fn send_room(&self) -> usize {
        if !self.may_send() {
            return 0;
        }
        if self.squeezed {
            return SQUEEZED.saturating_sub(self.tx.len());
        }
        let ahead = self.control.get().window() as usize + SEND_AHEAD;
        let room = self.tx.limit().saturating_sub(self.tx.len());
        room.min(ahead.saturating_sub(self.unsent() as usize))
    }

    /// Makes sure that `n` bytes can be queued now. `false` if there is no room or no memory for
    /// them.
    pub fn reserve(&mut self, memory: &mut Memory, n: usize) -> bool {
        if n > self.send_room() {
            return false;
        }
        let there = self.tx.reserve(memory, self.tx.len() + n);
        self.starved |= !there;
        there
    }

    /// Whether something could not be queued for want of memory since the last call. Nothing but
    /// time tells when there is some again.
    pub fn take_starved(&mut self) -> bool {
        std::mem::take(&mut self.starved)
    }

    /// Payload of a full segment, bytes. Reports of gaps take a little off it.
    pub fn segment_size(&self) -> usize {
        self.control.get().mss() as usize
    }

    /// Bytes not yet acknowledged by the other side.
    pub fn send_queue(&self) -> usize {
        self.tx.len()
    }

    /// Bytes that stand side by side, of what was made sure of by [`TcpConn::reserve`].
    pub fn send_run(&mut self) -> usize {
        self.tx.free_run().len()
    }

    /// Writes `data` at a distance behind what is queued, where [`TcpConn::reserve`] has made sure of
    /// room, without queueing it; returns how much. It stays there until something is queued.
    pub fn draft(&mut self, offset: usize, data: &[u8]) -> usize {
        if !self.may_send() {
            return 0;
        }
        self.tx.write_at(self.tx.len() + offset, data)
    }

    /// Queues the `n` bytes behind what is queued, once `finish` has made of the draft what is to be
    /// sent. There is room, whatever [`TcpConn::send_room`] has become since it was made sure of.
    /// `spare` is for as many bytes, which wrap around the end of the ring at times.
    ///
    /// # Errors
    /// Those of `finish`; nothing is queued then.
    pub fn send_draft<E>(
        &mut self,
        n: usize,
        spare: &mut [u8],
        finish: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.may_send() {
            self.tx.lend_ahead(n, spare, finish)?;
            self.tx.extend(n);
        }
        Ok(())
    }

    /// Queues as much of `data` as was made sure of by [`TcpConn::reserve`]; returns how much.
    pub fn send_slice(&mut self, data: &[u8]) -> usize {
        self.tx.push(&data[..data.len().min(self.send_room())])
    }

    /// Ends this side's direction with a FIN behind the queued bytes.
    pub fn close(&mut self) {
        self.state = match self.state {
            State::SynSent => State::Closed,
            State::SynReceived | State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            other => return self.state = other,
        };
        self.fin = Some(self.base() + self.tx.len() as u32);
    }

    /// Drops the connection; the next output is one RST.
    pub fn abort(&mut self) {
        self.reset |= !matches!(self.state, State::Closed | State::SynSent | State::TimeWait);
        self.end();
    }

    /// The connection is gone, with all it held.
    pub(super) fn end(&mut self) {
        self.state = State::Closed;
        self.tx.clear();
        self.rx.clear();
        self.sent.clear();
        self.assembler.clear();
        self.ack = Ack::No;
        (self.poke, self.unreported) = (false, 0);
    }

    /// Before it is opened.
    pub(super) fn take_control(&mut self, memory: &mut Memory) {
        self.control = memory.take_control(self.congestion);
    }

    /// Gives back memory that holds nothing, and takes what the next segments are noted in.
    pub(super) fn settle(&mut self, memory: &mut Memory) {
        self.rx.settle(memory);
        self.tx.settle(memory);
        self.assembler.settle(memory);
        let end = self.fin.map_or(self.base() + self.tx.len() as u32, |fin| fin + 1);
        let sends = self.nxt.lt(end) && self.state != State::Closed;
        self.sent.settle(memory, sends);
        self.squeezed = memory.is_tight();
    }

    /// A segment that begins with this number is not acknowledged.
    pub fn is_on_its_way(&self, seq: u32) -> bool {
        self.una.le(Seq(seq)) && Seq(seq).lt(self.nxt)
    }

    /// Some segments came behind gaps, and the other side was not told yet.
    pub fn has_unreported_gaps(&self) -> bool {
        self.unreported >= 2
    }

    /// Sequence number of the first byte in the send ring.
    pub(super) fn base(&self) -> Seq {
        self.una.max(self.iss + 1)
    }
}
