//! Acknowledgements: what has arrived, what is lost, and how it is repaired.

use std::time::Duration;

use arrayvec::ArrayVec;
use smoltcp::wire::{TcpControl, TcpRepr};

use super::assembler::{Block, SACK_BLOCKS};
use super::congestion::{Acked, Lost};
use super::conn::{Doubt, Probe, Reduction, Repair, TcpConn};
use super::engine::Profile;
use super::frto::Frto;
use super::input::seq_of;
use super::scoreboard::Delivered;
use super::seq::Seq;
use crate::time::Instant;

/// Acknowledgements of nothing new that mean a loss (RFC 5681, section 3.2).
const DUPLICATES: u8 = 3;
/// Echoed clocks that are older say nothing of the path, ms.
const ECHO_MAX: u32 = 120_000;

impl TcpConn {
    /// Everything before `ack` has arrived, says `segment`, and perhaps more.
    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        ack: Seq,
        segment: &TcpRepr<'_>,
        profile: Profile,
    ) {
        let seq = seq_of(segment);
        let original = self.echoes_the_first(segment);
        let mut delivered = Delivered::by(original);
        let advances = ack.gt(self.una);
        let before = self.una;
        if advances {
            let base = self.base();
            (self.una, self.iss) = (ack, ack - 1);
            self.sent.acknowledge(ack, now, &mut delivered);
            self.tx.consume(self.base().since(base) as usize);
            (self.rto_from, self.probe_from, self.progress) = (now, now, now);
        }
        let duplicate = self.sack && self.selective(now, (before, ack), segment, &mut delivered);
        // Timestamps tell where something was sent twice (RFC 7323, section 4.1).
        let echoed = || {
            let millis = self.clock(now).wrapping_sub(self.echo(segment)?);
            (millis <= ECHO_MAX).then(|| Duration::from_millis(u64::from(millis.max(1))))
        };
        if let Some(rtt) = delivered.rtt.or_else(|| advances.then(echoed).flatten()) {
            self.rtt.sample(now, rtt);
            self.rtt.progress();
        }
        let shift = if segment.control == TcpControl::Syn { 0 } else { self.send_shift };
        let window = u32::from(segment.window_len) << shift;
        let repeats = ack == before && window == self.window && segment.payload.is_empty();
        // Section 3.10.7.4, "fifth": only the newest segment's.
        let newer = self.window_seq.lt(seq) || (self.window_seq == seq && self.window_ack.le(ack));
        if newer && ack.ge(before) {
            if window > self.window {
                (self.persist_at, self.persists) = (None, 0);
            }
            self.window = window;
            self.max_window = self.max_window.max(window);
            (self.window_seq, self.window_ack) = (seq, ack);
        }
        if self.persists > 0 || self.window == 0 {
            // It answers, if only to say that it has no room (RFC 9293, section 3.8.6.1).
            self.progress = now;
        }
        let brought = advances || delivered.bytes > 0;
        self.probe_answered(now, ack, duplicate, brought);
        if !self.sack {
            self.count_duplicates(now, repeats, advances, profile);
        }
        if brought {
            self.probed = false;
            self.spurious(original, advances);
        }
        self.judge_time_out(segment, (repeats, brought, advances));
        if brought {
            self.repair(now, &delivered, advances, profile);
        }
    }

    /// Without selective acknowledgements, three that bring nothing mean a loss, and each partial one
    /// another (RFC 6582). What else but a loss repeats an acknowledgement is not counted (RFC 5681,
    /// section 2).
    fn count_duplicates(&mut self, now: Instant, repeats: bool, advances: bool, profile: Profile) {
        if advances {
            self.duplicates = 0;
            if matches!(self.repair, Repair::Fast(point) if self.una.lt(point)) {
                self.sent.lose_first();
            }
            return;
        }
        if self.sent.is_empty() || !repeats {
            return;
        }
        self.duplicates = self.duplicates.saturating_add(1);
        if self.duplicates == DUPLICATES && self.repair == Repair::No && self.sent.lose_first() > 0
        {
            self.begin_repair(now);
            self.reduction.allowance = self.mss(profile);
        }
    }

    /// Selective acknowledgements; whether one of them is of something that came twice (RFC 2883).
    fn selective(
        &mut self,
        now: Instant,
        (before, ack): (Seq, Seq),
        segment: &TcpRepr<'_>,
        delivered: &mut Delivered,
    ) -> bool {
        let blocks = segment.sack_ranges.iter().flatten().map(|(a, b)| (Seq(*a), Seq(*b)));
        let valid = |(start, end): &Block| start.lt(*end) && end.le(self.nxt);
        let mut blocks: ArrayVec<Block, SACK_BLOCKS> = blocks.filter(valid).collect();
        let mut duplicate = false;
        if let Some(&(start, end)) = blocks.first() {
            let within = blocks.get(1).is_some_and(|(a, b)| a.le(start) && end.le(*b));
            // Nobody can have received twice what was acknowledged long ago.
            duplicate = (end.le(ack) || within) && (end + self.max_window).ge(before);
        }
        if duplicate {
            if self.una.ge(self.duplicate_round) {
                self.duplicate_round = self.nxt;
                self.sent.duplicate_reported();
            }
            blocks.remove(0);
        }
        // In the order in which they were sent: what arrives behind it looks reordered.
        blocks.sort_unstable_by_key(|(start, _)| start.since(self.una));
        for block in blocks {
            if block.0.ge(self.una) {
                self.sent.sack(block, now, delivered);
            }
        }
        duplicate
    }

    /// Nothing was lost: the other side echoes a clock of before anything was sent again (Eifel, RFC
    /// 3522). What is lost beside that will be noticed again.
    fn spurious(&mut self, original: bool, advances: bool) {
        if !advances {
            return;
        }
        match std::mem::replace(&mut self.doubt, Doubt::Judged) {
            // Nothing was sent again yet.
            Doubt::Open => {}
            Doubt::Since(_) if original => {}
            Doubt::Since(_) | Doubt::Judged => return,
        }
        if let Repair::Fast(_) = self.repair {
            self.sent.saw_reordering();
        }
        self.nothing_was_lost();
    }

    /// Takes back what a loss or a time-out has led to.
    pub(super) fn nothing_was_lost(&mut self) {
        self.sent.find_all();
        self.control.get_mut().undo();
        (self.repair, self.frto) = (Repair::No, Frto::No);
    }

    /// RFC 8985, section 7.4: a probe that was needed stands for a loss.
    fn probe_answered(&mut self, now: Instant, ack: Seq, duplicate: bool, brought: bool) {
        let Some(Probe { end, again }) = self.probe else { return };
        let needed = again && !duplicate && ack.gt(end);
        let over = match again {
            // The first one had arrived, too: a report says so, or an acknowledgement of nothing new.
            true => needed || duplicate || (ack == end && !brought),
            false => ack.ge(end),
        };
        if over {
            self.probe = None;
        }
        if needed && self.repair == Repair::No {
            let control = self.control.get_mut();
            control.congested(now, self.peak);
            control.recovered();
        }
    }

    /// Finds losses, and says how much may be sent.
    fn repair(&mut self, now: Instant, delivered: &Delivered, advances: bool, profile: Profile) {
        if let Repair::Fast(point) | Repair::Slow(point) = self.repair
            && self.una.ge(point)
        {
            if matches!(self.repair, Repair::Fast(_)) {
                self.control.get_mut().recovered();
                self.sent.recovered();
            }
            self.repair = Repair::No;
        }
        let lost = self.find_losses(now);
        let mss = self.mss(profile);
        let recovering = matches!(self.repair, Repair::Fast(_));
        if recovering {
            self.reduce(delivered.bytes, lost == 0, advances, mss);
        }
        let round = self.una.gt(self.round_end);
        if round {
            self.round_end = self.nxt;
        }
        let control = self.control.get_mut();
        // In slow start a window that is used by half will be too small in a round trip.
        let used = if control.window() < control.threshold() {
            2 * self.peak
        } else {
            self.peak + 3 * mss
        };
        let min_rtt = self.rtt.min().unwrap_or_default();
        control.acked(&Acked {
            now,
            bytes: delivered.bytes,
            rtt: delivered.rtt,
            smooth_rtt: self.rtt.smooth().unwrap_or_default(),
            limited: used >= control.window(),
            round,
            recovering,
            flight: self.sent.flight(),
            delivered: self.sent.delivered(),
            sample: self.sent.sample(now, delivered, min_rtt),
        });
    }

    /// Marks losses and begins to repair them; how many bytes there are of them.
    pub(super) fn find_losses(&mut self, now: Instant) -> u32 {
        if !self.sack {
            // Nothing tells which of several arrived (RFC 8985, section 4).
            return 0;
        }
        let (Some(min), Some(smooth)) = (self.rtt.min(), self.rtt.smooth()) else { return 0 };
        let recovering = self.repair != Repair::No;
        let control = self.control.get_mut();
        let each = |lost: &Lost| control.lost(lost);
        let (lost, again_at) = self.sent.detect(now, (min, smooth), recovering, each);
        self.reorder_at = again_at;
        if lost > 0 && !recovering {
            self.begin_repair(now);
        }
        lost
    }

    fn begin_repair(&mut self, now: Instant) {
        // All that is not acknowledged in order, as RFC 5681 and RFC 6937 count it.
        let flight = self.nxt.since(self.una);
        self.repair = Repair::Fast(self.nxt);
        self.control.get_mut().congested(now, flight);
        self.reduction = Reduction { flight: flight.max(1), ..Reduction::default() };
        self.doubt = Doubt::Open;
        self.probe = None;
    }

    /// RFC 6937: what may be sent for what has arrived.
    fn reduce(&mut self, delivered: u32, none_lost: bool, advances: bool, mss: u32) {
        let flight = self.sent.flight();
        let threshold = self.control.get().threshold();
        let reduction = &mut self.reduction;
        reduction.delivered = reduction.delivered.saturating_add(delivered);
        let allowance = if flight > threshold {
            let share = u64::from(reduction.delivered) * u64::from(threshold);
            let due = share.div_ceil(u64::from(reduction.flight)) as u32;
            due.saturating_sub(reduction.sent)
        } else {
            let bound = reduction.delivered.saturating_sub(reduction.sent).max(delivered);
            (threshold - flight).min(bound + if none_lost && advances { mss } else { 0 })
        };
        // The first retransmission goes out at once, and where only partial acknowledgements tell of
        // losses each does (RFC 6582, section 3.2).
        let at_once = reduction.sent == 0 || (!self.sack && advances);
        reduction.allowance = if at_once { allowance.max(mss) } else { allowance };
    }
}
