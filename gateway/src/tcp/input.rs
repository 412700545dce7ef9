//! Segments that arrive (RFC 9293, section 3.10.7).

use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::wire::{TcpControl, TcpRepr};

use super::conn::{Ack, Doubt, Repair, State, TcpConn, Timestamps};
use super::ecn::{Ecn, Marks};
use super::engine::{Profile, TcpEvent};
use super::header::parse;
use super::memory::Memory;
use super::seq::Seq;
use super::{ACK_DELAY, CHALLENGE_INTERVAL};
use crate::time::Instant;

/// A timestamp older than this says nothing of order any more (RFC 7323, section 5.5).
const TIMESTAMP_OLD: Duration = Duration::from_secs(24 * 24 * 3_600);
/// What the other side takes if it does not say (RFC 9293, section 3.7.1).
const DEFAULT_MSS_V4: u32 = 536;
const DEFAULT_MSS_V6: u32 = 1_220;
/// A smaller option is taken for this: it would be an attack on the CPU (as BSD's minmss).
const LEAST_MSS: u32 = 216;
/// RFC 7323, section 2.3.
const MAX_SHIFT: u8 = 14;

pub(super) fn seq_of(segment: &TcpRepr<'_>) -> Seq {
    Seq(segment.seq_number.0 as u32)
}

fn ack_of(segment: &TcpRepr<'_>) -> Option<Seq> {
    segment.ack_number.map(|ack| Seq(ack.0 as u32))
}

pub(super) fn default_mss(remote: SocketAddr) -> u32 {
    if remote.is_ipv4() { DEFAULT_MSS_V4 } else { DEFAULT_MSS_V6 }
}

impl TcpConn {
    /// Opens the connection with the SYN in `tcp`.
    pub(super) fn accept(&mut self, now: Instant, iss: u32, tcp: &[u8], profile: Profile) -> bool {
        let Some((segment, marks)) = parse(tcp).filter(|(s, _)| s.control == TcpControl::Syn)
        else {
            return false;
        };
        self.open(now, iss);
        self.state = State::SynReceived;
        self.synchronize(now, &segment, profile);
        self.ecn.on = marks.offer();
        true
    }

    /// What both kinds of opening have in common.
    pub(super) fn open(&mut self, now: Instant, iss: u32) {
        (self.iss, self.una, self.nxt) = (Seq(iss), Seq(iss), Seq(iss));
        (self.round_end, self.duplicate_round, self.ecn.until) = (Seq(iss), Seq(iss), Seq(iss));
        (self.heard, self.progress, self.alive_at) = (now, now, now);
        self.recv_shift = shift_for(self.rx.limit());
    }

    /// Takes the other side's SYN.
    pub(super) fn synchronize(&mut self, now: Instant, syn: &TcpRepr<'_>, profile: Profile) {
        self.irs = seq_of(syn);
        self.rcv_nxt = self.irs + 1;
        self.edge = self.rcv_nxt;
        self.last_ack = self.rcv_nxt;
        let default = default_mss(self.key.remote_addr());
        self.remote_mss = syn.max_seg_size.map_or(default, u32::from).max(LEAST_MSS);
        match syn.window_scale {
            Some(shift) => self.send_shift = shift.min(MAX_SHIFT),
            None => self.recv_shift = 0,
        }
        self.sack = syn.sack_permitted;
        self.timestamps =
            syn.timestamp.map(|timestamp| Timestamps { recent: timestamp.tsval, recent_at: now });
        self.begin_tuning(now);
        self.window = u32::from(syn.window_len);
        self.max_window = self.window;
        (self.window_seq, self.window_ack) = (self.irs, self.una);
        self.control.reset(self.mss(profile), self.iss.0);
        self.began_badly();
        self.heard = now;
    }

    /// Takes a segment of this connection.
    pub(super) fn segment(
        &mut self,
        now: Instant,
        tcp: &[u8],
        congested: bool,
        profile: Profile,
        memory: &mut Memory,
        read: impl FnOnce(&[u8], &mut Memory) -> usize,
    ) -> TcpEvent {
        let Some((segment, mut marks)) = parse(tcp) else { return TcpEvent::None };
        marks.congested = congested;
        if self.state == State::Established
            && self.is_next(&segment, marks)
            && self.take_next(now, &segment, profile, memory, read)
        {
            return TcpEvent::None;
        }
        match self.state {
            State::Closed => TcpEvent::None,
            State::SynSent => self.answer_to_syn(now, &segment, marks, profile),
            _ => self.in_order(now, &segment, marks, profile, memory),
        }
    }

    /// Whether an established connection has been waiting for just this segment: the next bytes, and
    /// nothing else that is new. Then all that [`Self::in_order`] would do is in [`Self::take_next`].
    #[inline]
    fn is_next(&self, segment: &TcpRepr<'_>, marks: Marks) -> bool {
        let len = segment.payload.len() as u32;
        let clock = match (&self.timestamps, segment.timestamp) {
            (Some(ours), Some(theirs)) => theirs.tsval.wrapping_sub(ours.recent) as i32 >= 0,
            (None, None) => true,
            _ => false,
        };
        len > 0
            && seq_of(segment) == self.rcv_nxt
            && ack_of(segment) == Some(self.una)
            && u32::from(segment.window_len) << self.send_shift == self.window
            && clock
            && matches!(segment.control, TcpControl::None | TcpControl::Psh)
            && segment.sack_ranges[0].is_none()
            && (self.rcv_nxt + len).le(self.edge)
            && self.assembler.is_empty()
            && self.remote_fin.is_none()
            && self.window > 0
            && self.probe.is_none()
            && !(self.ecn.on && (marks.congested || marks.ece || marks.cwr))
    }

    /// `false`: there is no memory, and nothing was done.
    #[inline]
    fn take_next(
        &mut self,
        now: Instant,
        segment: &TcpRepr<'_>,
        profile: Profile,
        memory: &mut Memory,
        read: impl FnOnce(&[u8], &mut Memory) -> usize,
    ) -> bool {
        let mut taken = 0;
        if self.rx.len() == 0 {
            taken = read(segment.payload, memory);
        }
        let mut rest = &segment.payload[taken..];
        if !self.rx.reserve(memory, self.rx.len() + rest.len()) {
            if taken == 0 {
                return false;
            }
            // As if the network had cut the segment.
            memory.segment_dropped();
            rest = &[];
        }
        self.heard = now;
        (self.window_seq, self.window_ack) = (self.rcv_nxt, self.una);
        self.note_timestamp(now, segment);
        self.tune_window(now, self.echo(segment));
        self.rx.push(rest);
        self.received(now, self.rcv_nxt + (taken + rest.len()) as u32, false, profile);
        true
    }

    /// Section 3.10.7.3.
    fn answer_to_syn(
        &mut self,
        now: Instant,
        segment: &TcpRepr<'_>,
        marks: Marks,
        profile: Profile,
    ) -> TcpEvent {
        let ack = ack_of(segment);
        let reset = segment.control == TcpControl::Rst;
        if let Some(ack) = ack
            && (ack.le(self.iss) || ack.gt(self.nxt))
        {
            if !reset {
                self.reset_at = Some(ack);
            }
            return TcpEvent::None;
        }
        if reset {
            if ack.is_none() {
                return TcpEvent::None;
            }
            self.end();
            return TcpEvent::Reset;
        }
        if segment.control != TcpControl::Syn {
            return TcpEvent::None;
        }
        self.synchronize(now, segment, profile);
        let Some(ack) = ack else {
            // Both have called each other: ours becomes a SYN|ACK.
            self.state = State::SynReceived;
            self.sent.lose_all();
            return TcpEvent::None;
        };
        self.state = State::Established;
        self.ack = Ack::Now;
        self.ecn.on = marks.accept();
        self.acknowledged(now, ack, segment, profile);
        TcpEvent::Established
    }

    /// Section 3.10.7.4.
    fn in_order(
        &mut self,
        now: Instant,
        segment: &TcpRepr<'_>,
        marks: Marks,
        profile: Profile,
        memory: &mut Memory,
    ) -> TcpEvent {
        let reset = segment.control == TcpControl::Rst;
        let (mut seq, mut payload) = (seq_of(segment), segment.payload);
        if !reset && !self.timestamp_passes(now, segment) {
            // Old, or a stranger's: says where we stand (RFC 7323, section 5.3), and does not go on
            // with it forever.
            if payload.is_empty() {
                self.challenge(now);
            } else {
                self.ack = Ack::Now;
            }
            return TcpEvent::None;
        }
        if segment.control == TcpControl::Syn {
            if self.state == State::SynReceived && seq == self.irs {
                if let Some(ack) = ack_of(segment).filter(|ack| *ack == self.nxt) {
                    // Both had called each other.
                    self.state = State::Established;
                    self.ack = Ack::Now;
                    self.acknowledged(now, ack, segment, profile);
                    return TcpEvent::Established;
                }
                // Ours got lost, or the other side's ACK did.
                self.sent.lose_all();
            } else {
                self.challenge(now);
            }
            return TcpEvent::None;
        }
        let fin = segment.control == TcpControl::Fin;
        let end = seq + payload.len() as u32;
        let right = self.edge.max(self.rcv_nxt);
        if reset {
            // RFC 5961, section 3.2.
            if seq == self.rcv_nxt {
                return self.was_reset();
            }
            if seq.ge(self.rcv_nxt) && seq.lt(right) {
                self.challenge(now);
            }
            return TcpEvent::None;
        }
        if seq.gt(right) || (seq + self.rx.limit() as u32).lt(self.rcv_nxt) {
            self.challenge(now);
            return TcpEvent::None;
        }
        let Some(ack) = ack_of(segment) else { return TcpEvent::None };
        self.heard = now;
        let mut event = TcpEvent::None;
        if self.state == State::SynReceived {
            if ack.le(self.una) || ack.gt(self.nxt) {
                self.reset_at = Some(ack);
                return TcpEvent::None;
            }
            self.state = State::Established;
            event = TcpEvent::Established;
        } else if ack.gt(self.nxt) || (ack + self.max_window).lt(self.una) {
            // RFC 5961, section 5.2.
            self.challenge(now);
            return TcpEvent::None;
        }
        self.note_timestamp(now, segment);
        // A repeated segment's acknowledgement counts: when both sides repeat what the other one
        // has, nothing else would tell them.
        self.acknowledged(now, ack, segment, profile);
        if self.ecn.on {
            self.take_marks(now, marks, !payload.is_empty());
        }
        if self.fin_acknowledged() {
            match self.state {
                State::FinWait1 => self.state = State::FinWait2,
                State::Closing => {
                    self.state = State::TimeWait;
                    return TcpEvent::Finished;
                }
                State::LastAck => {
                    (self.state, self.ack) = (State::Closed, Ack::No);
                    return TcpEvent::Finished;
                }
                _ => {}
            }
        }
        if seq.lt(self.rcv_nxt) {
            let old = self.rcv_nxt.since(seq);
            if !payload.is_empty() {
                self.assembler.came_again((seq, self.rcv_nxt.min(end)));
            }
            payload = payload.get(old as usize..).unwrap_or_default();
            seq = self.rcv_nxt.min(end);
            // The other side lacks an acknowledgement, or wants to know whether we are there.
            self.ack = Ack::Now;
        }
        if !self.receives() {
            if !payload.is_empty() || (fin && end.ge(self.rcv_nxt) && !self.fin_received) {
                self.challenge(now);
            }
            return event;
        }
        if fin && (end.le(right) || end == self.rcv_nxt) && end.ge(self.rcv_nxt) {
            // There is one, and nothing behind it.
            self.remote_fin.get_or_insert(end);
        }
        let fin = fin && self.remote_fin == Some(end);
        if !payload.is_empty() {
            let echo = self.echo(segment);
            self.tune_window(now, echo);
        }
        self.take(now, (seq, payload, fin), profile, memory);
        if self.remote_fin == Some(self.rcv_nxt) {
            self.rcv_nxt += 1;
            self.edge = self.edge.max(self.rcv_nxt);
            (self.fin_received, self.remote_fin, self.ack) = (true, None, Ack::Now);
            match self.state {
                State::Established => self.state = State::CloseWait,
                State::FinWait1 => self.state = State::Closing,
                State::FinWait2 => {
                    self.state = State::TimeWait;
                    return TcpEvent::Finished;
                }
                _ => {}
            }
        }
        event
    }

    /// RFC 9293, section 3.10.7.4: where both have said all, a reset is an end like another, and
    /// what was received stays.
    fn was_reset(&mut self) -> TcpEvent {
        if matches!(self.state, State::Closing | State::LastAck | State::TimeWait) {
            (self.state, self.ack) = (State::Closed, Ack::No);
            self.tx.clear();
            self.sent.clear();
            return TcpEvent::Finished;
        }
        self.end();
        TcpEvent::Reset
    }

    /// The other side has not ended its direction.
    fn receives(&self) -> bool {
        matches!(self.state, State::Established | State::FinWait1 | State::FinWait2)
            && !self.fin_received
    }

    fn fin_acknowledged(&self) -> bool {
        self.fin.is_some_and(|fin| self.una.gt(fin))
    }

    /// Protection against wrapped sequence numbers (RFC 7323, section 5.3).
    fn timestamp_passes(&self, now: Instant, segment: &TcpRepr<'_>) -> bool {
        // One without: from a TIME-WAIT that does not know the clock any more, or past a middlebox
        // that takes options away. As Linux, we let it pass.
        let (Some(ours), Some(theirs)) = (&self.timestamps, segment.timestamp) else { return true };
        let newer = theirs.tsval.wrapping_sub(ours.recent) as i32 >= 0;
        newer || now.since(ours.recent_at) > TIMESTAMP_OLD
    }

    /// Keeps the clock to be echoed, of a segment that is good (RFC 7323, section 4.3).
    fn note_timestamp(&mut self, now: Instant, segment: &TcpRepr<'_>) {
        let (Some(ours), Some(theirs)) = (&mut self.timestamps, segment.timestamp) else { return };
        // Only of what extends the order: the clock of an old segment that was sent again would turn
        // away those that are merely late.
        let (start, len) = (seq_of(segment), segment.payload.len() as u32);
        if start.le(self.last_ack) && self.last_ack.le(start + len) {
            (ours.recent, ours.recent_at) = (theirs.tsval, now);
        }
    }

    /// What the other side echoes, if it does.
    pub(super) fn echo(&self, segment: &TcpRepr<'_>) -> Option<u32> {
        let theirs = self.timestamps.and(segment.timestamp)?;
        (theirs.tsecr != 0).then_some(theirs.tsecr)
    }

    /// Of before anything was sent again.
    pub(super) fn echoes_the_first(&self, segment: &TcpRepr<'_>) -> bool {
        let Doubt::Since(at) = self.doubt else { return false };
        self.echo(segment).is_some_and(|echo| (echo.wrapping_sub(at) as i32) < 0)
    }

    /// Says where we stand to whoever may have forged a segment (RFC 5961): seldom.
    fn challenge(&mut self, now: Instant) {
        if now >= self.challenge_at {
            self.challenge_at = now + CHALLENGE_INTERVAL;
            self.ack = Ack::Now;
        }
    }

    /// RFC 3168, sections 6.1.2 and 6.1.3.
    fn take_marks(&mut self, now: Instant, marks: Marks, carries: bool) {
        let Ecn { echo, reduced, until, .. } = &mut self.ecn;
        *echo &= !marks.cwr;
        if marks.congested && carries {
            *echo = true;
            self.ack = Ack::Now;
        }
        if marks.ece && self.una.ge(*until) {
            (*until, *reduced) = (self.nxt, true);
            if self.repair == Repair::No {
                self.control.get_mut().marked(now, self.peak);
            }
        }
    }

    // --- data -----------------------------------------------------------------------------------

    fn take(
        &mut self,
        now: Instant,
        (seq, payload, fin): (Seq, &[u8], bool),
        profile: Profile,
        memory: &mut Memory,
    ) {
        if payload.is_empty() && !(fin && seq.gt(self.rcv_nxt)) {
            return;
        }
        let offset = seq.since(self.rcv_nxt) as usize;
        let at = self.rx.len() + offset;
        let n = payload.len().min(self.rx.limit().saturating_sub(at));
        if n < payload.len() {
            // Beyond the window.
            self.ack = Ack::Now;
        }
        let whole = n == payload.len();
        if n == 0 && !(whole && fin) {
            return;
        }
        if n > 0 && !self.rx.reserve(memory, at + n) {
            // As if the network had lost it.
            return memory.segment_dropped();
        }
        self.rx.write_at(at, &payload[..n]);
        let end = seq + n as u32;
        if offset > 0 {
            self.ack = Ack::Now;
            self.assembler.prepare(memory);
            // A gap too many: it comes again. The FIN has a number, too.
            self.assembler.insert((seq, end + u32::from(fin && whole)));
            self.unreported = self.unreported.saturating_add(1);
            return;
        }
        let filled = !self.assembler.is_empty();
        let next = self.assembler.advance(end);
        let next = self.remote_fin.map_or(next, |fin| next.min(fin));
        self.rx.extend(next.since(self.rcv_nxt) as usize);
        self.received(now, next, filled, profile);
    }

    /// The bytes before `next` are there; `filled`: that closes a gap, or makes it smaller.
    fn received(&mut self, now: Instant, next: Seq, filled: bool, profile: Profile) {
        self.rcv_nxt = next;
        // RFC 5681, section 4.2: at once when a gap is filled, and every second full segment.
        let due = self.rcv_nxt.since(self.last_ack) >= 2 * self.mss(profile);
        if filled || due {
            self.ack = Ack::Now;
        } else if self.ack == Ack::No {
            self.ack = Ack::By(now + ACK_DELAY);
        }
    }
}

/// The smallest scale with which the window field can say `capacity`.
pub(super) fn shift_for(capacity: usize) -> u8 {
    (0..MAX_SHIFT).find(|shift| capacity >> shift <= usize::from(u16::MAX)).unwrap_or(MAX_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_say_any_window() {
        for (capacity, shift) in [(1, 0), (65_535, 0), (65_536, 1), (1 << 20, 5), (1 << 30, 14)] {
            assert_eq!(shift_for(capacity), shift, "{capacity}");
        }
    }
}
