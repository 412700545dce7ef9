//! Paths that swallow long packets and say nothing (RFC 4821; RFC 8899, section 4.3).
//!
//! When long segments time out again and again, shorter ones are tried. If those arrive, they stay.
//! The end of an outage looks the same, so a segment of the old length is tried soon, and then at
//! times, since paths change.

use std::time::Duration;

use super::SegmentSink;
use super::conn::TcpConn;
use super::engine::{Profile, ProfileId, TcpEngine};
use super::seq::Seq;
use crate::limits::{BLACK_HOLE_PACKETS_V4, BLACK_HOLE_PACKETS_V6, PATH_MTU_RAISE};
use crate::time::Instant;

/// Time-outs in a row with each length.
const TIME_OUTS: u8 = 2;
/// Long segments that may get lost before the path is given time to change: congestion may be why
/// (RFC 8899, section 5.1.2: MAX_PROBES).
const MAX_PROBES: u8 = 3;
/// Between these. The window has to grow by a long segment first.
const RAISE_SOON: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Open,
    /// Shorter segments than `before` are tried; `largest` is what the path was thought to carry
    /// first.
    Trying { before: ProfileId, largest: ProfileId },
    /// Shorter segments arrive. A long one is tried at `raise_at`, or on its way.
    Short { largest: ProfileId, raise_at: Instant, probe: Option<(Seq, Seq)>, lost: u8 },
}

impl State {
    fn short(largest: ProfileId, raise_at: Instant) -> Self {
        Self::Short { largest, raise_at, probe: None, lost: 0 }
    }
}

/// What a connection has seen of its path.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BlackHole {
    state: State,
    /// Since this was acknowledged.
    time_outs: u8,
    una: Seq,
}

impl BlackHole {
    /// Whether there is anything to look after.
    pub fn is_suspected(&self) -> bool {
        self.time_outs > 0 || !matches!(self.state, State::Open)
    }

    /// The retransmission time-out has expired.
    pub fn timed_out(&mut self, una: Seq) {
        if self.una != una {
            (self.una, self.time_outs) = (una, 0);
        }
        self.time_outs = self.time_outs.saturating_add(1);
    }

    /// What begins here is sent again. If it is of the long segment, that one did not arrive.
    pub fn sent_again(&mut self, start: Seq, now: Instant) {
        if let State::Short { raise_at, probe, lost, .. } = &mut self.state
            && probe.is_some_and(|(from, end)| from.le(start) && start.lt(end))
        {
            *probe = None;
            *lost += 1;
            *raise_at = now + RAISE_SOON;
            if *lost == MAX_PROBES {
                (*raise_at, *lost) = (now + PATH_MTU_RAISE, 0);
            }
        }
    }
}

impl TcpEngine {
    /// Connections so far that got on once their segments were shorter.
    pub fn black_holes(&self) -> u64 {
        self.black_holes
    }

    /// Before output: changes the length of the connection's segments if it is time to.
    pub(super) fn look_for_black_hole(
        &mut self,
        conn: &mut TcpConn,
        now: Instant,
        sink: &mut impl SegmentSink,
    ) {
        if conn.una != conn.black_hole.una {
            (conn.black_hole.una, conn.black_hole.time_outs) = (conn.una, 0);
            self.got_on(conn, now);
        } else if conn.rto_at().is_some_and(|at| at <= now) {
            self.will_time_out(conn, now);
        }
        if let State::Short { largest, raise_at, probe: None, .. } = conn.black_hole.state
            && raise_at <= now
        {
            let sent = conn.probe_path(now, self.of(largest), sink);
            if let State::Short { probe, .. } = &mut conn.black_hole.state {
                *probe = sent;
            }
        }
    }

    /// Something new was acknowledged.
    fn got_on(&mut self, conn: &mut TcpConn, now: Instant) {
        match conn.black_hole.state {
            State::Trying { before, largest } => {
                self.black_holes += u64::from(before == largest);
                conn.black_hole.state = State::short(largest, now + RAISE_SOON);
            }
            State::Short { largest, probe: Some((_, end)), .. } if conn.una.ge(end) => {
                self.change_profile(conn, largest);
                conn.black_hole.state = State::Open;
            }
            State::Open | State::Short { .. } => {}
        }
    }

    /// The next output begins with a time-out; nothing was acknowledged since the one before.
    fn will_time_out(&mut self, conn: &mut TcpConn, now: Instant) {
        let time_outs = conn.black_hole.time_outs;
        if time_outs % TIME_OUTS != TIME_OUTS - 1 {
            return;
        }
        let (before, largest) = match conn.black_hole.state {
            State::Open => (conn.profile, conn.profile),
            State::Trying { before, largest } => (before, largest),
            State::Short { largest, .. } => (conn.profile, largest),
        };
        let shorter = self.shorter(conn, before, time_outs / TIME_OUTS);
        if let Some(profile) = shorter {
            self.change_profile(conn, profile);
            conn.black_hole.state = State::Trying { before, largest };
        } else if matches!(conn.black_hole.state, State::Trying { .. }) {
            // It is not the length.
            self.change_profile(conn, before);
            conn.black_hole.state = match before == largest {
                true => State::Open,
                false => State::short(largest, now + PATH_MTU_RAISE),
            };
        }
    }

    /// The profile of a `step` below `before`, if what is missing is too long for it.
    fn shorter(&mut self, conn: &TcpConn, before: ProfileId, step: u8) -> Option<ProfileId> {
        let Profile { mtu: most, checksum_offload } = self.of(before);
        let lengths: &[usize] =
            if conn.key.is_v4() { &BLACK_HOLE_PACKETS_V4 } else { &BLACK_HOLE_PACKETS_V6 };
        let mtu = *lengths.iter().filter(|mtu| **mtu < most).nth(usize::from(step))?;
        let profile = Profile { mtu, checksum_offload };
        (conn.sent.oldest()? > conn.mss(profile)).then(|| self.profile(profile))
    }
}
