//! What has been sent and not acknowledged: when, how often, and what became of it. Losses are
//! found by time (RACK, RFC 8985), on what selective acknowledgements say (RFC 2018).

use std::collections::VecDeque;
use std::time::Duration;

use super::assembler::Block;
use super::congestion::{Lost, Sample};
use super::memory::Memory;
use super::sent::{Rate, Sent, is_before};
use super::seq::Seq;
use crate::limits::TCP_MAX_SEGMENTS;
use crate::time::Instant;

/// Selectively acknowledged segments after which reordering is no excuse any more, as long as none
/// was ever seen (RFC 8985, section 6.2).
const DUPLICATE_THRESHOLD: u32 = 3;
/// Rounds for which a wider reordering window lasts (RFC 8985, section 6.2).
const WIDER_FOR: u32 = 16;
const WIDEST: u32 = 64;

/// What acknowledgements brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivered {
    /// Bytes that were not known to have arrived.
    pub bytes: u32,
    /// Round trip of the segment that was sent last, if all is sure about it.
    pub rtt: Option<Duration>,
    /// The acknowledgement is for what was sent first, not for a repetition.
    original: bool,
    /// Send time of the segment of `rtt`'s kind, for any of them.
    latest: Option<Instant>,
    /// The segment among them that was sent last.
    newest: Option<Sent>,
}

impl Delivered {
    pub fn by(original: bool) -> Self {
        Self { original, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Rack {
    /// The segment that was sent last of those that have arrived.
    at: Instant,
    end: Seq,
    rtt: Duration,
    /// Something has arrived.
    valid: bool,
    /// Highest sequence number that has arrived.
    highest: Option<Seq>,
    reordering: bool,
    /// Quarters of the smallest round-trip time that reordering may take.
    quarters: u32,
    /// Rounds until that is one again.
    wider_for: u32,
}

#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    /// Without gaps, from the oldest byte that is not acknowledged on.
    sent: VecDeque<Sent>,
    segments: u32,
    sacked_bytes: u32,
    sacked_segments: u32,
    lost_bytes: u32,
    rack: Rack,
    rate: Rate,
}

impl Scoreboard {
    /// Gives its memory back while there is nothing to note, and takes some if segments are due.
    pub fn settle(&mut self, memory: &mut Memory, due: bool) {
        let has = self.sent.capacity() > 0;
        if due && !has {
            self.sent = memory.take_board();
        } else if has && !due && self.sent.is_empty() {
            memory.put_board(std::mem::take(&mut self.sent));
        }
    }

    pub fn clear(&mut self) {
        self.sent.clear();
        (self.segments, self.sacked_segments) = (0, 0);
        (self.sacked_bytes, self.lost_bytes) = (0, 0);
        (self.rack, self.rate) = (Rack::default(), Rate::default());
    }

    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.sent.capacity() * size_of::<Sent>()
    }

    #[cfg(test)]
    pub fn runs(&self) -> usize {
        self.sent.len()
    }

    /// Segments that can be noted before some are acknowledged. Those of a run count each: what
    /// arrives may cut it up.
    pub fn room(&self) -> usize {
        TCP_MAX_SEGMENTS.saturating_sub(self.segments as usize)
    }

    /// Bytes thought to be on their way (RFC 6675's pipe).
    pub fn flight(&self) -> u32 {
        let (Some(first), Some(last)) = (self.sent.front(), self.sent.back()) else { return 0 };
        last.end.since(first.start).saturating_sub(self.sacked_bytes + self.lost_bytes)
    }

    pub fn lost_bytes(&self) -> u32 {
        self.lost_bytes
    }

    pub fn any_sacked(&self) -> bool {
        self.sacked_segments > 0
    }

    /// Segments of `unit` numbers each, the last of what is left, were sent for the first time.
    pub fn push(&mut self, (start, end): Block, unit: u32, at: Instant) {
        if self.sent.is_empty() {
            (self.rate.first_at, self.rate.delivered_at) = (at, at);
        }
        let flight = self.flight() + end.since(start);
        let mark = self.rate.mark(flight);
        let (again, sacked, lost) = (false, false, false);
        let sent = Sent { start, end, unit, at, again, sacked, lost, mark };
        self.segments += sent.segments();
        self.sent.push_back(sent);
    }

    /// The application has nothing to send although more would be let out.
    pub fn app_limited(&mut self) {
        self.rate.app_limited = (self.rate.delivered + u64::from(self.flight())).max(1);
    }

    /// Bytes that have ever arrived.
    pub fn delivered(&self) -> u64 {
        self.rate.delivered
    }

    /// The rate at which the newest of `delivered` and those around it arrived.
    pub fn sample(&self, now: Instant, delivered: &Delivered, min_rtt: Duration) -> Option<Sample> {
        let Sent { at, mark, .. } = delivered.newest?;
        let sending = at.since(mark.first_at);
        let arriving = now.since(mark.delivered_at);
        let interval = sending.max(arriving);
        let bytes = self.rate.delivered.saturating_sub(mark.delivered);
        // Sent and acknowledged in lumps: no path is that fast.
        let measured = interval >= min_rtt && !interval.is_zero();
        Some(Sample {
            rate: if measured { bytes as f64 / interval.as_secs_f64() } else { 0.0 },
            app_limited: mark.app_limited,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            prior: mark.delivered,
            flight: mark.flight,
            lost: self.rate.lost_since(&mark),
        })
    }

    /// Everything before `una` has arrived.
    pub fn acknowledge(&mut self, una: Seq, now: Instant, delivered: &mut Delivered) {
        let mut again = false;
        while let Some(first) = self.sent.front().copied().filter(|first| first.start.lt(una)) {
            again |= first.again;
            let whole = first.within((first.start, una)).1;
            if whole == first.start && first.len() > first.unit {
                // The rest of a segment stays one, and the others end where they did.
                self.split(0, first.start, first.first().1);
                continue;
            }
            let to = if whole == first.start { una } else { whole };
            let (gone, rest) = (Sent { end: to, ..first }, Sent { start: to, ..first });
            match self.sent.front_mut() {
                Some(front) if to != first.end => *front = rest,
                _ => _ = self.sent.pop_front(),
            }
            let segments = first.segments() - rest.segments();
            self.segments -= segments;
            self.forget(&gone, gone.len());
            if first.sacked {
                self.sacked_segments -= segments;
            } else if to == whole {
                self.arrived(&gone, now, delivered);
            } else {
                delivered.bytes += gone.len();
                self.rate.delivered += u64::from(gone.len());
            }
        }
        if again {
            // They waited for the repair.
            (delivered.rtt, delivered.latest) = (None, None);
        }
    }

    fn forget(&mut self, sent: &Sent, bytes: u32) {
        if sent.sacked {
            self.sacked_bytes -= bytes;
        }
        if sent.lost {
            self.lost_bytes -= bytes;
        }
    }

    /// A block that has arrived ahead of others. Blocks that name what was never sent are no harm.
    pub fn sack(&mut self, (start, end): Block, now: Instant, delivered: &mut Delivered) {
        let mut i = self.sent.partition_point(|sent| sent.end.le(start));
        while let Some(run) = self.sent.get(i).copied().filter(|run| run.start.lt(end)) {
            // Of a segment that has arrived in part only, the rest has to come again, and all of it
            // may: to cut it up would let the other side say into how many pieces.
            let (from, to) = run.within((start, end));
            if !run.sacked && from.lt(to) {
                i = self.split(i, from, to);
                let sent = self.sent[i];
                self.forget(&sent, sent.len());
                self.sent[i].sacked = true;
                self.sent[i].lost = false;
                self.sacked_bytes += sent.len();
                self.sacked_segments += sent.segments();
                self.arrived(&sent, now, delivered);
            }
            i += 1;
        }
    }

    /// Cuts [start, end) out of a run; its place.
    fn split(&mut self, mut i: usize, start: Seq, end: Seq) -> usize {
        let whole = self.sent[i];
        if whole.start.lt(start) {
            self.sent[i].end = start;
            i += 1;
            self.sent.insert(i, Sent { start, ..whole });
        }
        if whole.end.gt(end) {
            self.sent[i].end = end;
            self.sent.insert(i + 1, Sent { start: end, ..whole });
        }
        i
    }

    /// RFC 8985, section 6.2, steps 1 to 3.
    fn arrived(&mut self, sent: &Sent, now: Instant, delivered: &mut Delivered) {
        delivered.bytes += sent.len();
        let rate = &mut self.rate;
        rate.delivered += u64::from(sent.len());
        rate.delivered_at = now;
        if rate.app_limited > 0 && rate.delivered > rate.app_limited {
            rate.app_limited = 0;
        }
        if delivered.newest.is_none_or(|newest| is_before(newest.order(), sent.order())) {
            delivered.newest = Some(*sent);
            rate.first_at = sent.at;
        }
        let rtt = now.since(sent.at);
        if !sent.again && delivered.latest.is_none_or(|at| at <= sent.at) {
            delivered.latest = Some(sent.at);
            delivered.rtt = Some(rtt);
        }
        let rack = &mut self.rack;
        if rack.highest.is_some_and(|highest| sent.end.lt(highest)) {
            rack.reordering |= !sent.again;
        } else {
            rack.highest = Some(sent.end);
        }
        // The acknowledgement of something sent again may be for the first time it was sent.
        if sent.again && (delivered.original || (rack.valid && rtt < rack.rtt / 2)) {
            return;
        }
        if !rack.valid || is_before((rack.at, rack.end), sent.order()) {
            (rack.at, rack.end, rack.rtt, rack.valid) = (sent.at, sent.end, rtt, true);
        }
    }

    /// A duplicate was reported (RFC 2883): a segment was not lost but late, so the reordering
    /// window was too short.
    pub fn duplicate_reported(&mut self) {
        self.rack.quarters = (self.rack.quarters + 1).min(WIDEST);
        self.rack.wider_for = WIDER_FOR;
    }

    /// Something was sent again although it was only late.
    pub fn saw_reordering(&mut self) {
        self.rack.reordering = true;
    }

    /// What was sent again at a time-out had arrived before: that it was acknowledged soon does not
    /// mean that what was sent in between is lost.
    pub fn repeated_for_nothing(&mut self) {
        self.rack.valid = false;
    }

    /// A recovery has ended.
    pub fn recovered(&mut self) {
        self.rack.wider_for = self.rack.wider_for.saturating_sub(1);
        if self.rack.wider_for == 0 {
            self.rack.quarters = 0;
        }
    }

    /// Marks what is lost (RFC 8985, section 6.2, step 5), and tells `each` of it. Returns how many
    /// bytes, and when to look again if nothing arrives until then.
    pub fn detect(
        &mut self,
        now: Instant,
        (min_rtt, smooth_rtt): (Duration, Duration),
        recovering: bool,
        mut each: impl FnMut(&Lost),
    ) -> (u32, Option<Instant>) {
        let rack = self.rack;
        if !rack.valid {
            return (0, None);
        }
        let patience =
            if !rack.reordering && (recovering || self.sacked_segments >= DUPLICATE_THRESHOLD) {
                Duration::ZERO
            } else {
                (min_rtt / 4 * (rack.quarters + 1)).min(smooth_rtt)
            };
        let (mut lost, mut again_at) = (0, None);
        let mut last_lost = None;
        for sent in &mut self.sent {
            if sent.sacked || sent.lost {
                continue;
            }
            if !is_before(sent.order(), (rack.at, rack.end)) {
                if !sent.again {
                    // All behind it were sent later still.
                    break;
                }
                continue;
            }
            let at = sent.at + rack.rtt + patience;
            if at <= now {
                sent.lost = true;
                lost += sent.len();
                self.rate.lost = self.rate.lost.wrapping_add(sent.len());
                each(&Lost {
                    bytes: sent.len(),
                    flight: sent.mark.flight,
                    lost: self.rate.lost_since(&sent.mark),
                    app_limited: sent.mark.app_limited,
                    apart: last_lost != Some(sent.start),
                });
                last_lost = Some(sent.end);
            } else {
                again_at = again_at.max(Some(at));
            }
        }
        self.lost_bytes += lost;
        (lost, again_at)
    }

    /// After a time-out: everything that is not known to have arrived.
    pub fn lose_all(&mut self) {
        if self.sent.front().is_some_and(|first| first.sacked) {
            // The other side did not keep what it had (RFC 2018, section 8).
            self.sent.iter_mut().for_each(|sent| sent.sacked = false);
            (self.sacked_bytes, self.sacked_segments) = (0, 0);
        }
        self.lose_longer(0);
    }

    /// Without selective acknowledgements: the oldest one. How many bytes.
    pub fn lose_first(&mut self) -> u32 {
        let Some(first) = self.sent.front().copied().filter(|first| !first.lost && !first.sacked)
        else {
            return 0;
        };
        let i = self.split(0, first.start, first.first().1);
        self.sent[i].lost = true;
        self.lost_bytes += self.sent[i].len();
        self.sent[i].len()
    }

    /// Segments of more bytes than that.
    pub fn lose_longer(&mut self, bytes: u32) {
        for sent in &mut self.sent {
            if !sent.sacked && !sent.lost && sent.len().min(sent.unit) > bytes {
                sent.lost = true;
                self.lost_bytes += sent.len();
            }
        }
    }

    /// Nothing is lost after all.
    pub fn find_all(&mut self) {
        for sent in &mut self.sent {
            sent.lost = false;
        }
        self.lost_bytes = 0;
    }

    /// The oldest segment that is lost, and its place.
    pub fn first_lost(&self) -> Option<(usize, Block)> {
        if self.lost_bytes == 0 {
            return None;
        }
        let (i, sent) = self.sent.iter().enumerate().find(|(_, sent)| sent.lost)?;
        Some((i, sent.first()))
    }

    /// Numbers of the oldest segment that has not arrived.
    pub fn oldest(&self) -> Option<u32> {
        self.sent.iter().find(|sent| !sent.sacked).map(|sent| sent.len().min(sent.unit))
    }

    /// Where the newest segment begins.
    pub fn last(&self) -> Option<Seq> {
        self.sent.back().map(Sent::last)
    }

    /// Cuts off the newest segment; its place, and the segment.
    pub fn cut_last(&mut self) -> Option<(usize, Block)> {
        let run = *self.sent.back()?;
        let i = self.split(self.sent.len() - 1, run.last(), run.end);
        Some((i, (run.last(), run.end)))
    }

    /// The first `len` numbers of the first segment of run `i` are sent again.
    pub fn resent(&mut self, i: usize, len: u32, at: Instant) {
        let Some(sent) = self.sent.get(i).copied() else { return };
        let (start, end) = sent.first();
        self.split(i, start, end);
        if (start + len).lt(end) {
            self.split(i, start, start + len);
            self.segments += 1;
        }
        self.sent[i].unit = len;
        if self.sent[i].lost {
            self.lost_bytes -= self.sent[i].len();
        }
        let mark = self.rate.mark(self.flight());
        let sent = &mut self.sent[i];
        (sent.lost, sent.again, sent.at, sent.mark) = (false, true, at, mark);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const RTT: Duration = Duration::from_millis(20);

    fn at(ms: u64) -> Instant {
        Instant::from_millis(1_000 + ms)
    }

    fn detect(board: &mut Scoreboard, ms: u64) -> (u32, Option<Instant>) {
        board.detect(at(ms), (RTT, RTT), false, |_| {})
    }

    /// Segments of 10 bytes, a millisecond apart.
    fn sent(count: u32) -> Scoreboard {
        let mut board = Scoreboard::default();
        for n in 0..count {
            board.push((Seq(n * 10), Seq(n * 10 + 10)), 10, at(u64::from(n)));
        }
        board
    }

    #[test]
    fn acknowledgements_give_round_trips_of_what_was_sent_last() {
        let mut board = sent(4);
        let mut delivered = Delivered::default();
        board.acknowledge(Seq(25), at(20), &mut delivered);
        assert_eq!((delivered.bytes, delivered.rtt), (25, Some(19 * MS)));
        assert_eq!(board.flight(), 15);
        board.acknowledge(Seq(40), at(30), &mut delivered);
        assert!(board.is_empty() && board.flight() == 0 && delivered.bytes == 40);
    }

    #[test]
    fn three_segments_behind_a_gap_mean_a_loss() {
        let mut board = sent(6);
        let mut delivered = Delivered::default();
        board.sack((Seq(10), Seq(30)), at(22), &mut delivered);
        assert_eq!(detect(&mut board, 22), (0, Some(at(0) + 20 * MS + RTT / 4)));
        board.sack((Seq(10), Seq(40)), at(23), &mut delivered);
        assert_eq!(detect(&mut board, 23), (10, None));
        assert_eq!((board.flight(), board.lost_bytes()), (20, 10));
        let (i, first) = board.first_lost().unwrap();
        assert_eq!((i, first), (0, (Seq(0), Seq(10))));
        board.resent(i, 4, at(23));
        assert_eq!((board.flight(), board.lost_bytes()), (24, 6));
        board.resent(1, 6, at(23));
        assert_eq!((board.flight(), board.first_lost().is_none()), (30, true));
    }

    #[test]
    fn a_late_segment_widens_the_window() {
        let mut board = sent(8);
        let mut delivered = Delivered::default();
        board.sack((Seq(10), Seq(20)), at(21), &mut delivered);
        board.acknowledge(Seq(20), at(22), &mut delivered);
        board.sack((Seq(30), Seq(70)), at(26), &mut delivered);
        // Sent at 2, the newest that has arrived was sent at 6 and took 20.
        assert_eq!(detect(&mut board, 26), (0, Some(at(27))));
        assert_eq!(detect(&mut board, 27), (10, None));
        board.duplicate_reported();
        board.find_all();
        assert_eq!(detect(&mut board, 27), (0, Some(at(32))));
    }

    /// RFC 2018, section 8: it may forget what it has said to have.
    #[test]
    fn who_forgets_gets_it_again() {
        let mut board = sent(4);
        let mut delivered = Delivered::default();
        board.sack((Seq(10), Seq(40)), at(23), &mut delivered);
        board.acknowledge(Seq(10), at(40), &mut delivered);
        assert_eq!(board.flight(), 0);
        board.lose_all();
        assert_eq!((board.lost_bytes(), board.any_sacked()), (30, false));
        assert_eq!(board.first_lost().map(|(_, lost)| lost.0), Some(Seq(10)));
    }

    #[test]
    fn a_lost_retransmission_is_noticed() {
        let mut board = sent(5);
        let mut delivered = Delivered::default();
        board.sack((Seq(10), Seq(40)), at(23), &mut delivered);
        assert_eq!(detect(&mut board, 23).0, 10);
        board.resent(0, 10, at(23));
        board.push((Seq(50), Seq(60)), 10, at(24));
        board.sack((Seq(50), Seq(60)), at(44), &mut delivered);
        assert_eq!(board.detect(at(44), (RTT, RTT), true, |_| {}).0, 20);
    }

    /// A run is only shorter to write than its segments: whatever arrives, the same is known of it.
    #[test]
    fn a_run_is_what_its_segments_are() {
        let (mut run, mut single) = (Scoreboard::default(), Scoreboard::default());
        run.push((Seq(0), Seq(95)), 10, at(0));
        for n in 0..10 {
            single.push((Seq(n * 10), Seq((n * 10 + 10).min(95))), 10, at(0));
        }
        let known = |board: &Scoreboard| -> Vec<(u32, u32, bool, bool)> {
            let segments = board.sent.iter().flat_map(|s| {
                let starts = (s.start.0..s.end.0).step_by(s.unit as usize);
                starts.map(|n| (n, s.end.0.min(n + s.unit), s.sacked, s.lost))
            });
            segments.collect()
        };
        let mut step = |what: &dyn Fn(&mut Scoreboard)| {
            what(&mut run);
            what(&mut single);
            assert_eq!(known(&run), known(&single));
            assert_eq!((run.flight(), run.segments), (single.flight(), single.segments));
            assert_eq!(run.sacked_segments, single.sacked_segments);
            assert_eq!((run.last(), run.oldest()), (single.last(), single.oldest()));
        };
        step(&|b| b.acknowledge(Seq(20), at(20), &mut Delivered::default()));
        // Not whole: neither the first nor the last of these.
        step(&|b| b.sack((Seq(35), Seq(68)), at(21), &mut Delivered::default()));
        step(&|b| b.sack((Seq(90), Seq(95)), at(22), &mut Delivered::default()));
        step(&|b| assert_eq!(detect(b, 40).0, 50));
        step(&|b| b.resent(0, 10, at(40)));
        step(&|b| b.acknowledge(Seq(33), at(60), &mut Delivered::default()));
        step(&|b| b.lose_all());
        step(&|b| b.resent(0, 7, at(61)));
        step(&|b| b.find_all());
        step(&|b| assert!(b.cut_last().is_some()));
        step(&|b| b.acknowledge(Seq(95), at(80), &mut Delivered::default()));
    }

    proptest! {
        /// The sums are those of the segments, whatever an opponent acknowledges.
        #[test]
        fn sums_stay_right(
            steps in proptest::collection::vec((0u8..6, 0u32..700, 1u32..100), 1..120),
        ) {
            let base = Seq(u32::MAX - 300);
            let mut board = Scoreboard::default();
            let (mut una, mut next, mut now) = (base, base, at(0));
            for (what, n, len) in steps {
                now += MS;
                let mut delivered = Delivered::default();
                match what {
                    0 | 1 => {
                        board.push((next, next + len), n % 40 + 1, now);
                        next += len;
                    }
                    2 => {
                        let to = una + n.min(next.since(una));
                        board.acknowledge(to, now, &mut delivered);
                        una = to;
                    }
                    3 => board.sack((base + n, base + n + len), now, &mut delivered),
                    4 => {
                        board.detect(now, (RTT, RTT), n % 2 == 0, |_| {});
                    }
                    _ => match board.first_lost() {
                        Some((i, (start, end))) => {
                            board.resent(i, len.min(end.since(start)), now);
                        }
                        None if n % 3 == 0 => {
                            board.lose_first();
                        }
                        None if n % 3 == 1 => {
                            board.cut_last();
                        }
                        None => board.lose_all(),
                    },
                }
                let sum = |f: fn(&Sent) -> bool| -> u32 {
                    board.sent.iter().filter(|s| f(s)).map(Sent::len).sum()
                };
                prop_assert_eq!(board.lost_bytes, sum(|s| s.lost));
                prop_assert_eq!(board.sacked_bytes, sum(|s| s.sacked));
                let segments = |f: fn(&Sent) -> bool| -> u32 {
                    board.sent.iter().filter(|s| f(s)).map(Sent::segments).sum()
                };
                prop_assert_eq!(board.sacked_segments, segments(|s| s.sacked));
                prop_assert_eq!(board.segments, segments(|_| true));
                prop_assert_eq!(board.flight(), sum(|s| !s.sacked && !s.lost));
                prop_assert!(board.sent.iter().all(|s| s.start.lt(s.end) && !(s.lost && s.sacked)));
                let mut expected = una;
                for s in &board.sent {
                    prop_assert_eq!(s.start, expected);
                    expected = s.end;
                }
                prop_assert!(board.is_empty() || expected == next);
            }
        }
    }
}
