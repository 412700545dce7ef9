//! Segments that leave, and the timers that make them (RFC 9293, section 3.8).

use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::wire::{TCP_HEADER_LEN, TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

use super::SegmentSink;
use super::assembler::SACK_BLOCKS;
use super::conn::{Ack, Doubt, Probe, Repair, State, TcpConn};
use super::ecn::{ECT_0, Marks};
use super::engine::{Profile, TcpEvent};
use super::header::{TIMESTAMP_OPTION, ip_header, write};
use super::seq::Seq;
use crate::limits::{TCP_KEEPALIVE, TCP_KEEPALIVE_REPEAT, TCP_USER_TIMEOUT};
use crate::time::Instant;

/// A probe for losses does not come sooner: timers are no finer, and other sides are not faster.
const PROBE_MIN: Duration = Duration::from_millis(2);
/// How long the other side may hold back an acknowledgement of a single segment (RFC 8985, section
/// 7.2).
const PEER_ACK_DELAY: Duration = Duration::from_millis(200);
const PERSIST_MAX: Duration = Duration::from_secs(60);

/// How late a paced segment may leave and still count as in time: timers are no finer.
const PACING_SLACK: Duration = Duration::from_millis(2);
/// What a path carries in this time leaves at once, up to [`RUN_MAX`] bytes: a segment at a time, a
/// timer for each would cost more than the segment (draft-ietf-ccwg-bbr, section 5.6.3).
const PACING_RUN: Duration = Duration::from_millis(1);
const RUN_MAX: u32 = 64 * 1024;
/// Between two paced segments at the most.
const PACING_MAX: Duration = Duration::from_secs(1);

/// What the next segment is, or a run of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    seq: Seq,
    /// Of the last one, if there are several.
    control: TcpControl,
    /// Payload, by its distance from the oldest byte in the send ring.
    offset: usize,
    len: usize,
    /// Payload of each but the last, bytes.
    unit: usize,
    /// Sent for the first time.
    fresh: bool,
}

impl Next {
    fn bare(seq: Seq) -> Self {
        Self { seq, control: TcpControl::None, offset: 0, len: 0, unit: 0, fresh: false }
    }

    fn segments(&self) -> usize {
        if self.len <= self.unit { 1 } else { self.len.div_ceil(self.unit) }
    }
}

/// Bytes of an IP packet around the payload of a segment without options.
pub(super) fn segment_overhead(local: SocketAddr) -> usize {
    ip_header(local.is_ipv4()) + TCP_HEADER_LEN
}

impl TcpConn {
    /// Payload of a full segment, bytes. Selective acknowledgements take more off it.
    pub(super) fn mss(&self, profile: Profile) -> u32 {
        let path = profile.mtu.saturating_sub(ip_header(self.key.is_v4()) + TCP_HEADER_LEN) as u32;
        let options = if self.timestamps.is_some() { TIMESTAMP_OPTION as u32 } else { 0 };
        path.min(self.remote_mss).saturating_sub(options).max(1)
    }

    /// Sends until nothing is due, the sink is full or `budget` segments are out.
    pub(super) fn send_segments(
        &mut self,
        now: Instant,
        profile: Profile,
        budget: usize,
        sink: &mut impl SegmentSink,
    ) -> (TcpEvent, bool) {
        if self.state == State::Closed {
            return (TcpEvent::None, self.say_reset(now, profile, sink));
        }
        if self.given_up_at().is_some_and(|at| at <= now) {
            self.abort();
            self.say_reset(now, profile, sink);
            return (TcpEvent::TimedOut, self.reset);
        }
        self.run_timers(now, profile);
        self.paced = false;
        let mut probing = self.probe_at().is_some_and(|at| at <= now);
        let (mut more, mut left) = (true, budget);
        while left > 0 && sink.room() > 0 {
            if let Some(ack) = self.reset_at.take() {
                let next = Next { control: TcpControl::Rst, ..Next::bare(ack) };
                self.emit(now, profile, next, false, sink);
                left -= 1;
                continue;
            }
            let most = left.min(sink.room());
            let next = match self.state {
                State::TimeWait => None,
                _ => self.next(now, profile, std::mem::take(&mut probing), most),
            };
            let Some(next) = next.or_else(|| self.bare()) else {
                more = false;
                break;
            };
            self.emit(now, profile, next, true, sink);
            left = left.saturating_sub(next.segments());
        }
        self.peak = self.sent.flight();
        if !more && !self.paced && self.unsent() == 0 && self.allowance(self.peak) > 0 {
            self.sent.app_limited();
        }
        (TcpEvent::None, more)
    }

    fn say_reset(&mut self, now: Instant, profile: Profile, sink: &mut impl SegmentSink) -> bool {
        let at = self.reset_at.take();
        if !self.reset && at.is_none() {
            return false;
        }
        if sink.room() == 0 {
            self.reset_at = at;
            return true;
        }
        let (seq, ack) = (at.unwrap_or(self.nxt), at.is_none());
        let next = Next { control: TcpControl::Rst, ..Next::bare(seq) };
        self.emit(now, profile, next, ack, sink);
        self.reset = false;
        false
    }

    // --- timers ---------------------------------------------------------------------------------

    /// When the other side has not answered for too long.
    fn given_up_at(&self) -> Option<Instant> {
        let stuck = (!self.sent.is_empty()).then_some(self.progress);
        let asked = self.persists > 0 || self.alive_at > self.heard;
        let silent = asked.then_some(self.heard);
        [stuck, silent].into_iter().flatten().min().map(|since| since + TCP_USER_TIMEOUT)
    }

    fn run_timers(&mut self, now: Instant, profile: Profile) {
        if self.reorder_at.is_some_and(|at| at <= now)
            && self.find_losses(now) > 0
            && matches!(self.repair, Repair::Fast(_))
        {
            // No acknowledgement may come that would let it out.
            self.reduction.allowance = self.reduction.allowance.max(self.mss(profile));
        }
        if self.rto_at().is_some_and(|at| at <= now) {
            self.time_out(now);
        }
        if self.persist_at.is_some_and(|at| at <= now) {
            self.persists += 1;
            self.poke = true;
            let wait = self.rtt.rto() * 2u32.saturating_pow(self.persists.min(10));
            self.persist_at = Some(now + wait.min(PERSIST_MAX));
        }
        if self.keepalive_at().is_some_and(|at| at <= now) {
            self.alive_at = now;
            self.poke = true;
        }
        if let Ack::By(at) = self.ack
            && at <= now
        {
            self.ack = Ack::Now;
        }
    }

    /// RFC 6298, section 5.
    fn time_out(&mut self, now: Instant) {
        let flight = self.sent.flight() + self.sent.lost_bytes();
        self.black_hole.timed_out(self.una);
        self.rtt.back_off();
        self.rto_from = now;
        self.probe = None;
        self.reorder_at = None;
        // One reduction, however often the same segment gets lost.
        if self.una == self.iss {
            self.began_badly();
        } else if !matches!(self.repair, Repair::Slow(_)) || self.doubt == Doubt::Judged {
            if let Repair::Fast(_) = self.repair {
                // That loss was one, whatever comes of this.
                self.control.get_mut().recovered();
            }
            self.control.get_mut().timed_out(now, flight);
            self.doubt = Doubt::Open;
        }
        self.doubt_time_out();
        self.repair = Repair::Slow(self.nxt);
        self.sent.lose_all();
    }

    /// A SYN that got lost once may have met a busy other side; twice is a bad path (RFC 6928,
    /// section 2).
    pub(super) fn began_badly(&mut self) {
        if self.rtt.backed_off() > 1 {
            self.control.get_mut().restart();
        }
    }

    pub(super) fn rto_at(&self) -> Option<Instant> {
        (!self.sent.is_empty()).then(|| self.rto_from + self.rtt.rto())
    }

    /// RFC 8985, section 7.2.
    fn probe_at(&self) -> Option<Instant> {
        let smooth = self.rtt.smooth()?;
        let quiet = self.repair == Repair::No
            && self.probe.is_none()
            && !self.probed
            && !self.sent.any_sacked()
            && self.sent.lost_bytes() == 0;
        if !self.sack || !quiet || self.sent.is_empty() || self.una.le(self.iss) {
            return None;
        }
        let single = self.sent.last().is_some_and(|last| last.le(self.una));
        let delay = if single { PEER_ACK_DELAY } else { Duration::ZERO };
        let wait = (2 * smooth).max(PROBE_MIN) + delay;
        // The time-out comes first then.
        (wait < self.rtt.rto()).then(|| self.probe_from + wait)
    }

    fn keepalive_at(&self) -> Option<Instant> {
        let idle = self.sent.is_empty()
            && matches!(
                self.state,
                State::Established | State::CloseWait | State::FinWait1 | State::FinWait2
            );
        let next = if self.alive_at > self.heard {
            self.alive_at + TCP_KEEPALIVE_REPEAT
        } else {
            self.heard + TCP_KEEPALIVE
        };
        idle.then_some(next)
    }

    /// When [`TcpConn::send_segments`] has something to do without anything arriving.
    pub(super) fn due(&self, now: Instant, profile: Profile) -> Option<Instant> {
        if self.state == State::Closed || self.state == State::TimeWait {
            let acknowledges = self.state == State::TimeWait && self.ack != Ack::No;
            let owes = self.reset || self.reset_at.is_some() || acknowledges;
            return owes.then_some(now);
        }
        let ack = match self.ack {
            Ack::No => None,
            Ack::Now => Some(now),
            Ack::By(at) => Some(at),
        };
        let waiting = (self.nxt == self.iss || self.window_grew(profile)).then_some(now);
        let paced = self.paced.then_some(self.pace_at);
        [
            ack,
            self.rto_at(),
            self.probe_at(),
            self.reorder_at,
            self.persist_at,
            self.keepalive_at(),
            self.given_up_at(),
            waiting,
            paced,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // --- what to send ---------------------------------------------------------------------------

    /// Bytes that congestion control lets out now, with so many on their way.
    fn allowance(&self, flight: u32) -> u32 {
        match self.repair {
            Repair::Fast(_) if self.control.get().reduces() => self.reduction.allowance,
            _ => self.control.get().window().saturating_sub(flight),
        }
    }

    /// Whether a segment has to wait for its time.
    fn waits(&mut self, now: Instant) -> bool {
        self.paced = self.pace_at > now && self.control.get().pacing().is_some();
        self.paced
    }

    /// Takes what is sent off the allowance, outside of fast repairs the flight tells, and says when
    /// the next one leaves.
    fn spend(&mut self, now: Instant, numbers: u32) {
        if let Some(rate) = self.control.get().pacing() {
            let nanos = f64::from(numbers) * 1e9 / rate;
            let gap = Duration::from_nanos(nanos as u64).min(PACING_MAX);
            let late = now.since(self.pace_at).saturating_sub(PACING_SLACK);
            self.pace_at += late + gap;
        }
        if let Repair::Fast(_) = self.repair {
            self.reduction.sent += numbers;
            self.reduction.allowance = self.reduction.allowance.saturating_sub(numbers);
        }
    }

    /// At most `most` segments. `probing`: a probe for losses is due.
    fn next(&mut self, now: Instant, profile: Profile, probing: bool, most: usize) -> Option<Next> {
        if self.nxt == self.iss {
            self.started(now);
            self.sent.push((self.iss, self.iss + 1), 1, now);
            self.nxt += 1;
            return Some(Next { control: TcpControl::Syn, fresh: true, ..Next::bare(self.iss) });
        }
        let mss = self.mss(profile).saturating_sub(self.sack_space());
        if let Some(next) = self.next_in_doubt(now, mss) {
            return next;
        }
        if let Some((i, (start, end))) = self.sent.first_lost() {
            let piece = self.piece(start, end, mss);
            if self.waits(now) {
                return None;
            }
            let flight = self.sent.flight();
            if flight == 0 || self.allowance(flight) >= piece.1 {
                return Some(self.again(now, i, start, piece));
            }
            return None;
        }
        if let Some(next) = self.fresh(now, mss, probing, most) {
            return Some(next);
        }
        if !probing {
            return None;
        }
        let (i, (start, end)) = self.sent.cut_last()?;
        (self.probe, self.probed) = (Some(Probe { end: self.nxt, again: true }), true);
        self.rto_from = now;
        let piece = self.piece(start, end, mss);
        Some(self.again(now, i, start, piece))
    }

    /// What of [start, end) one segment can carry: its control bits and how many numbers.
    fn piece(&self, start: Seq, end: Seq, mss: u32) -> (TcpControl, u32) {
        if start == self.iss {
            return (TcpControl::Syn, 1);
        }
        let len = end.since(start);
        let fin = self.fin.is_some_and(|fin| end.gt(fin));
        let data = len - u32::from(fin);
        match data <= mss {
            true if fin => (TcpControl::Fin, len),
            true => (TcpControl::Psh, len),
            false => (TcpControl::None, mss),
        }
    }

    fn again(&mut self, now: Instant, i: usize, start: Seq, piece: (TcpControl, u32)) -> Next {
        let (control, len) = piece;
        self.sent.resent(i, len, now);
        self.frto.sent_again(start + len);
        self.black_hole.sent_again(start, now);
        if self.doubt == Doubt::Open {
            self.doubt = Doubt::Since(self.clock(now));
        }
        self.spend(now, len);
        // Without a repair, when the path got narrower, it would be time for a probe at once.
        self.probe_from = now;
        if start == self.una {
            self.rto_from = now;
        }
        let numbered = u32::from(control == TcpControl::Fin || control == TcpControl::Syn);
        let len = (len - numbered) as usize;
        let offset = start.since(self.base()) as usize;
        Next { seq: start, control, offset, len, unit: len, fresh: false }
    }

    /// Bytes that were not sent yet.
    pub fn unsent(&self) -> u32 {
        (self.tx.len() as u32).saturating_sub(self.nxt.since(self.base()))
    }

    /// Bytes or a FIN that were not sent yet, at most `most` segments.
    pub(super) fn fresh(
        &mut self,
        now: Instant,
        mss: u32,
        probing: bool,
        most: usize,
    ) -> Option<Next> {
        let carries = matches!(
            self.state,
            State::Established
                | State::CloseWait
                | State::FinWait1
                | State::Closing
                | State::LastAck
        );
        if !carries || self.una.le(self.iss) || self.fin.is_some_and(|fin| self.nxt.gt(fin)) {
            return None;
        }
        let most = most.min(self.sent.room()) as u32;
        if most == 0 {
            return None;
        }
        let offset = self.nxt.since(self.base());
        let unsent = self.unsent();
        let fin_next = self.fin.is_some();
        if unsent == 0 && !fin_next {
            return None;
        }
        let usable = (self.una + self.window).since(self.nxt);
        let len = unsent.min(mss).min(usable);
        if unsent > 0 && len < unsent && len < mss {
            // The receiver's window is what holds us back. Against silly small segments (RFC 9293,
            // section 3.8.6.2.1); with nothing on its way, it has to be asked at times.
            let idle = self.sent.is_empty();
            let overdue = self.poke && idle && len > 0;
            let silly = len == 0 || 2 * len < self.max_window.min(2 * mss);
            if silly && !overdue {
                if idle && self.persist_at.is_none() {
                    self.persist_at = Some(now + self.rtt.rto());
                }
                return None;
            }
            self.poke &= !overdue;
        }
        if self.sent.is_empty() && now.since(self.probe_from) > self.rtt.rto() {
            self.control.get_mut().idled(now);
        }
        let flight = self.sent.flight();
        let allowance = self.allowance(flight);
        if !probing && (self.waits(now) || (flight > 0 && allowance < len)) {
            return None;
        }
        let run = usable.min(allowance).min(unsent).min(self.run(mss, most));
        let len = if len < mss || probing { len } else { len.max(run / mss * mss) };
        let fin = fin_next && len == unsent;
        let numbers = len + u32::from(fin);
        if self.sent.is_empty() {
            self.started(now);
        }
        self.spend(now, numbers);
        if probing {
            self.rto_from = now;
            self.probe = Some(Probe { end: self.nxt + numbers, again: false });
            self.probed = true;
        }
        let seq = self.nxt;
        self.sent.push((seq, seq + numbers), mss, now);
        self.nxt += numbers;
        (self.probe_from, self.persist_at, self.persists) = (now, None, 0);
        let control = match (fin, len == unsent) {
            (true, _) => TcpControl::Fin,
            (false, true) => TcpControl::Psh,
            (false, false) => TcpControl::None,
        };
        let (offset, len, unit) = (offset as usize, len as usize, mss as usize);
        Some(Next { seq, control, offset, len, unit, fresh: true })
    }

    /// Bytes that may leave in one run of `most` segments.
    fn run(&self, mss: u32, most: u32) -> u32 {
        if self.assembler.reports() > 0 {
            // Each acknowledgement says something else of gaps.
            return mss;
        }
        let quantum = match self.control.get().pacing() {
            Some(rate) => (rate * PACING_RUN.as_secs_f64()) as u32,
            None => u32::MAX,
        };
        quantum.max(mss).min(RUN_MAX).min(most.saturating_mul(mss))
    }

    /// Sends one full segment of `profile` that was not sent yet, if there is enough for it and
    /// nothing else is due; where it begins and ends.
    pub(super) fn probe_path(
        &mut self,
        now: Instant,
        profile: Profile,
        sink: &mut impl SegmentSink,
    ) -> Option<(Seq, Seq)> {
        let mss = self.mss(profile).saturating_sub(self.sack_space());
        let unsent = self.unsent();
        let usable = (self.una + self.window).since(self.nxt);
        let busy = self.repair != Repair::No || self.waits(now) || sink.room() == 0;
        if busy || unsent < mss || usable < mss {
            return None;
        }
        let start = self.nxt;
        let next = self.fresh(now, mss, false, 1)?;
        self.emit(now, profile, next, true, sink);
        Some((start, self.nxt))
    }

    /// Something is on its way again.
    fn started(&mut self, now: Instant) {
        (self.rto_from, self.progress, self.probe_from) = (now, now, now);
    }

    /// A segment without payload: an acknowledgement, or one that makes the other side answer.
    fn bare(&mut self) -> Option<Next> {
        if std::mem::take(&mut self.poke) {
            // Old by one, so that it has to be acknowledged.
            return Some(Next::bare(self.una - 1));
        }
        let called = self.state != State::SynSent;
        (called && self.ack == Ack::Now).then(|| Next::bare(self.nxt))
    }

    // --- receive window -------------------------------------------------------------------------

    /// The right edge that the next segment can show. It never goes back, and moves by a segment at
    /// least, or the other side would send small ones (RFC 9293, section 3.8.6.2.2).
    fn wanted_edge(&self, profile: Profile) -> Seq {
        let room = (self.window_room() >> self.recv_shift).min(u32::from(u16::MAX));
        let edge = self.rcv_nxt + (room << self.recv_shift);
        let known = self.edge.max(self.rcv_nxt);
        if edge.lt(known + self.mss(profile).min(self.window_bound() / 2)) {
            return known;
        }
        edge
    }

    /// By enough to tell the other side without being asked: doubled at least.
    fn window_grew(&self, profile: Profile) -> bool {
        if self.fin_received
            || !matches!(self.state, State::Established | State::FinWait1 | State::FinWait2)
        {
            return false;
        }
        let known = self.edge.since(self.rcv_nxt);
        let grown = self.wanted_edge(profile).since(self.edge.max(self.rcv_nxt));
        grown > 0 && grown >= known
    }

    pub(super) fn update_window(&mut self, profile: Profile) {
        if self.window_grew(profile) {
            self.ack = Ack::Now;
        }
    }

    // --- the wire -------------------------------------------------------------------------------

    pub(super) fn clock(&self, now: Instant) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.clock_offset)
    }

    fn sack_space(&self) -> u32 {
        let blocks = self.assembler.reports() as u32;
        if self.sack && blocks > 0 { (2 + 8 * blocks).next_multiple_of(4) } else { 0 }
    }

    /// What a segment says of marks, and whether it may be marked itself (RFC 3168, section 6.1).
    fn marks(&mut self, syn: bool, offered: bool, next: Next) -> Marks {
        if syn {
            // A SYN that is sent again may have been dropped for its offer (section 6.1.1.1).
            let offers = offered && next.fresh;
            return Marks { congested: false, ece: offers || self.ecn.on, cwr: offers };
        }
        let data = next.fresh && next.len > 0;
        let cwr = data && self.ecn.reduced;
        self.ecn.reduced &= !cwr;
        let on = self.ecn.on && next.control != TcpControl::Rst;
        Marks { congested: on && data, ece: on && self.ecn.echo, cwr: on && cwr }
    }

    fn emit(
        &mut self,
        now: Instant,
        profile: Profile,
        next: Next,
        acknowledges: bool,
        sink: &mut impl SegmentSink,
    ) {
        let syn = next.control == TcpControl::Syn;
        let acknowledges = acknowledges && self.state != State::SynSent;
        let offered = syn && self.state == State::SynSent;
        let most = u32::from(u16::MAX);
        // Of a SYN the window is not scaled.
        let (window, edge) = if syn {
            let window = self.window_room().min(most);
            (window, self.rcv_nxt + window)
        } else {
            let edge = self.wanted_edge(profile);
            ((edge.since(self.rcv_nxt) >> self.recv_shift).min(most), edge)
        };
        let mut sack_ranges = [None; SACK_BLOCKS];
        if acknowledges {
            self.edge = edge;
            if self.sack && !syn {
                sack_ranges = self.assembler.report().map(|b| b.map(|(a, z)| (a.0, z.0)));
            }
            self.ack = Ack::No;
            (self.last_ack, self.unreported) = (self.rcv_nxt, 0);
        }
        let header = ip_header(self.key.is_v4());
        let tsval = self.clock(now);
        let recent = self.timestamps.map_or(0, |timestamps| timestamps.recent);
        let stamped = offered || self.timestamps.is_some();
        let scaled = offered || self.recv_shift > 0 || self.send_shift > 0;
        let largest =
            profile.mtu.saturating_sub(header + TCP_HEADER_LEN).min(usize::from(u16::MAX));
        let mut repr = TcpRepr {
            src_port: self.key.local_port,
            dst_port: self.key.remote_port,
            control: next.control,
            seq_number: TcpSeqNumber(next.seq.0 as i32),
            ack_number: acknowledges.then_some(TcpSeqNumber(self.rcv_nxt.0 as i32)),
            // A reset tells nothing of it.
            window_len: if syn || acknowledges { window as u16 } else { 0 },
            window_scale: (syn && scaled).then_some(self.recv_shift),
            max_seg_size: syn.then_some(largest as u16),
            sack_permitted: syn && (offered || self.sack),
            sack_ranges,
            timestamp: stamped.then(|| TcpTimestampRepr::new(tsval, recent)),
            payload: &[],
        };
        let mut marks = self.marks(syn, offered, next);
        let ecn = if marks.congested { ECT_0 } else { 0 };
        let headers = header + repr.header_len();
        let (tx, key) = (&self.tx, &self.key);
        let (mut offset, mut left) = (next.offset, next.len);
        loop {
            // CWR is for one segment; not every device knows that (RFC 3168, section 6.1.2).
            let cuts = left > next.unit && !marks.cwr && profile.checksum_offload;
            let most = if cuts { sink.cuts().saturating_sub(headers) / next.unit } else { 0 };
            let len = left.min(most.max(1) * next.unit);
            left -= len;
            repr.control = if left == 0 { next.control } else { TcpControl::None };
            let fill = |packet: &mut [u8]| {
                tx.read_at(offset, &mut packet[headers..]);
                write(packet, key, &repr, marks, ecn, profile);
            };
            if len > next.unit {
                sink.cut(headers + len, next.unit as u16, fill);
            } else {
                sink.segment(headers + len, fill);
            }
            if left == 0 {
                return;
            }
            offset += len;
            repr.seq_number += len;
            marks.cwr = false;
        }
    }
}
