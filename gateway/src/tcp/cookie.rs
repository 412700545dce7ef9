//! SYN cookies (RFC 4987, section 3.6): a SYN is answered without keeping anything of it. The
//! acknowledgement brings all that is needed back.
//!
//! The sequence number of the SYN|ACK is a keyed hash of what the SYN said, with the class of its
//! MSS in the low bits. Window scale and SACK go into the low bits of our timestamp, which the
//! other side echoes; a SYN without timestamps gets neither, as there is no room for them, and none
//! gets ECN.
//!
//! A SYN|ACK that is lost comes again only when the SYN does. If the acknowledgement is lost, the
//! other side's first bytes do instead; one that waits for ours waits in vain. That is why cookies
//! are for floods only.

use std::hash::Hasher;
use std::net::SocketAddr;

use siphasher::sip::SipHasher24;
use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

use super::conn::{State, TcpConn, TcpSettings};
use super::engine::{Profile, ProfileId, TcpEngine};
use super::header::parse;
use super::input::{default_mss, shift_for};
use super::isn::hash_ends;
use super::output::segment_overhead;
use super::ring_size;
use crate::limits::SYN_COOKIE_LIFETIME;
use crate::time::Instant;

/// MSS classes, as the IP packets that such segments make; a SYN's is rounded down.
const PACKETS: [u16; 8] = [256, 576, 1_280, 1_400, 1_450, 1_492, 1_500, 9_000];
const CLASS_MASK: u32 = PACKETS.len() as u32 - 1;
const _: () = assert!(PACKETS.len().is_power_of_two());

/// The low bits of a timestamp that carry options: four for the shift, one for SACK.
const OPTION_MASK: u32 = 0x1f;
const SHIFT_MASK: u32 = 0xf;
/// Stands for a SYN without window scale, whose largest is 14.
const NO_SHIFT: u32 = 15;
const SACK_BIT: u32 = 0x10;

/// Options of a SYN that a timestamp carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    shift: Option<u8>,
    sack: bool,
}

impl Options {
    const NONE: Self = Self { shift: None, sack: false };

    fn of(syn: &TcpRepr<'_>) -> Self {
        Self { shift: syn.window_scale, sack: syn.sack_permitted }
    }

    fn to_bits(self) -> u32 {
        // More than 14 counts as 14 (RFC 7323, section 2.3).
        let shift = self.shift.map_or(NO_SHIFT, |shift| u32::from(shift.min(14)));
        shift | if self.sack { SACK_BIT } else { 0 }
    }

    fn from_bits(bits: u32) -> Self {
        let shift = bits & SHIFT_MASK;
        let shift = (shift != NO_SHIFT).then_some(shift as u8);
        Self { shift, sack: bits & SACK_BIT != 0 }
    }

    /// The latest timestamp up to `clock` with these options. One of the future would make the other
    /// side turn away what follows (RFC 7323, section 5).
    fn stamp(self, clock: u32) -> u32 {
        let bits = self.to_bits();
        let stamp = (clock & !OPTION_MASK) | bits;
        if bits > clock & OPTION_MASK { stamp.wrapping_sub(OPTION_MASK + 1) } else { stamp }
    }
}

/// What a good cookie says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    iss: u32,
    irs: u32,
    mss: u16,
    options: Options,
    /// The other side's clock, if timestamps were agreed on.
    clock: Option<u32>,
}

impl Cookie {
    /// Sequence number of the SYN.
    pub fn syn_seq(&self) -> u32 {
        self.irs
    }

    /// The SYN, as far as the connection needs it.
    fn syn(&self) -> TcpRepr<'static> {
        TcpRepr {
            max_seg_size: Some(self.mss),
            window_scale: self.options.shift,
            sack_permitted: self.options.sack,
            timestamp: self.clock.map(|clock| TcpTimestampRepr::new(clock, 0)),
            seq_number: TcpSeqNumber(self.irs as i32),
            ..SYN
        }
    }
}

const SYN: TcpRepr<'static> = TcpRepr {
    src_port: 0,
    dst_port: 0,
    control: TcpControl::Syn,
    seq_number: TcpSeqNumber(0),
    ack_number: None,
    window_len: 0,
    window_scale: None,
    max_seg_size: None,
    sack_permitted: false,
    sack_ranges: [None; 3],
    timestamp: None,
    payload: &[],
};

struct Secret {
    key: [u8; 16],
    since: Instant,
}

/// The secrets of the cookies that may still be acknowledged.
#[derive(Default)]
pub(super) struct Secrets {
    current: Option<Secret>,
    previous: Option<Secret>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Secrets {
    /// That of new cookies.
    fn current(&mut self, now: Instant, fresh: impl FnOnce() -> [u8; 16]) -> [u8; 16] {
        match &self.current {
            Some(secret) if now.since(secret.since) < SYN_COOKIE_LIFETIME => secret.key,
            _ => {
                self.previous = self.current.take();
                let key = fresh();
                self.current = Some(Secret { key, since: now });
                key
            }
        }
    }

    fn valid(&self, now: Instant) -> impl Iterator<Item = &[u8; 16]> {
        [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .filter(move |secret| now.since(secret.since) < 2 * SYN_COOKIE_LIFETIME)
            .map(|secret| &secret.key)
    }
}

/// The cookie of a SYN. SipHash-2-4: unlike a hash table's, these hashes are shown to strangers.
fn cookie(
    key: &[u8; 16],
    (local, remote): (SocketAddr, SocketAddr),
    irs: u32,
    class: u32,
    options: Option<Options>,
) -> u32 {
    let mut h = SipHasher24::new_with_key(key);
    hash_ends(&mut h, local, remote);
    h.write_u32(irs);
    h.write_u32(class);
    h.write_u32(options.map_or(u32::MAX, Options::to_bits));
    (h.finish() as u32 & !CLASS_MASK) | class
}

fn class_of(mss: u32, local: SocketAddr) -> u32 {
    let packet = mss + segment_overhead(local) as u32;
    let fits = PACKETS.iter().rposition(|p| u32::from(*p) <= packet);
    fits.unwrap_or(0) as u32
}

fn mss_of(class: u32, local: SocketAddr) -> u16 {
    PACKETS[(class & CLASS_MASK) as usize].saturating_sub(segment_overhead(local) as u16)
}

impl TcpEngine {
    /// The answer to the SYN in `tcp`, a TCP header and what is behind it, that needs no connection
    /// yet. `settings` are what one would have; `fresh` gives a random secret. `None` if there is no
    /// SYN.
    pub fn syn_cookie(
        &mut self,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        profile: ProfileId,
        settings: TcpSettings,
        tcp: &[u8],
        fresh: impl FnOnce() -> [u8; 16],
    ) -> Option<TcpRepr<'static>> {
        let (syn, _) = parse(tcp)?;
        if syn.control != TcpControl::Syn || syn.ack_number.is_some() {
            return None;
        }
        let options = syn.timestamp.map(|_| Options::of(&syn));
        let irs = syn.seq_number.0 as u32;
        let class = class_of(syn.max_seg_size.map_or(default_mss(remote), u32::from), local);
        let key = self.cookies.current(now, fresh);
        let iss = cookie(&key, (local, remote), irs, class, options);
        let stamp = |theirs: TcpTimestampRepr| {
            let clock = self.isn.clock(now, local, remote);
            let ours = options.unwrap_or(Options::NONE).stamp(clock);
            TcpTimestampRepr::new(ours, theirs.tsval)
        };
        let largest = self.mtu(profile).saturating_sub(segment_overhead(local));
        let window = ring_size(settings.receive);
        Some(TcpRepr {
            src_port: local.port(),
            dst_port: remote.port(),
            seq_number: TcpSeqNumber(iss as i32),
            ack_number: Some(TcpSeqNumber(irs.wrapping_add(1) as i32)),
            // Of a SYN it is not scaled, and so no more than is shown of any window at first.
            window_len: window.min(usize::from(u16::MAX)) as u16,
            window_scale: options.and_then(|o| o.shift).map(|_| shift_for(window)),
            max_seg_size: Some(largest.min(usize::from(u16::MAX)) as u16),
            sack_permitted: options.is_some_and(|o| o.sack),
            timestamp: syn.timestamp.map(stamp),
            ..SYN
        })
    }

    /// Cookies were given out that may still be acknowledged.
    pub fn expects_cookies(&self, now: Instant) -> bool {
        self.cookies.valid(now).next().is_some()
    }

    /// What the cookie that the segment in `tcp` acknowledges says; `None` if it is none of ours, too
    /// old, or the segment is not the first behind the SYN.
    pub fn check_cookie(
        &self,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        tcp: &[u8],
    ) -> Option<Cookie> {
        let (segment, _) = parse(tcp)?;
        if matches!(segment.control, TcpControl::Syn | TcpControl::Rst) {
            return None;
        }
        let iss = (segment.ack_number?.0 as u32).wrapping_sub(1);
        let irs = (segment.seq_number.0 as u32).wrapping_sub(1);
        let options = segment.timestamp.map(|t| Options::from_bits(t.tsecr));
        let class = iss & CLASS_MASK;
        let good = |key| cookie(key, (local, remote), irs, class, options) == iss;
        self.cookies.valid(now).any(good).then(|| Cookie {
            iss,
            irs,
            mss: mss_of(class, local),
            options: options.unwrap_or(Options::NONE),
            clock: segment.timestamp.map(|t| t.tsval),
        })
    }

    /// Opens the connection whose SYN was answered with `cookie`: it is established. The segment that
    /// brought the cookie is the first to be fed to [`TcpEngine::input`].
    pub fn accept_cookie(
        &mut self,
        conn: &mut TcpConn,
        now: Instant,
        (local, remote): (SocketAddr, SocketAddr),
        profile: ProfileId,
        cookie: &Cookie,
    ) {
        self.prepare(conn, local, remote, profile);
        conn.open_by(now, cookie, self.of(profile));
    }
}

impl TcpConn {
    fn open_by(&mut self, now: Instant, cookie: &Cookie, profile: Profile) {
        // Everything begins behind the SYN|ACK, so that its acknowledgement is no news: the echo of a
        // timestamp that carries options says nothing of the round trip.
        self.open(now, cookie.iss.wrapping_add(1));
        self.iss = self.una - 1;
        self.synchronize(now, &cookie.syn(), profile);
        // What the SYN|ACK has said.
        self.edge = self.rcv_nxt + self.window_room().min(u32::from(u16::MAX));
        self.state = State::Established;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(v6: bool) -> (SocketAddr, SocketAddr) {
        let text =
            if v6 { ("[fd00::1]:80", "[fd00::2]:4000") } else { ("10.0.0.1:80", "10.0.0.2:4000") };
        (text.0.parse().unwrap(), text.1.parse().unwrap())
    }

    #[test]
    fn options_come_back_from_every_timestamp_and_none_is_of_the_future() {
        for shift in [None, Some(0), Some(7), Some(14)] {
            for sack in [false, true] {
                let options = Options { shift, sack };
                for clock in [0, 1, 15, 31, 32, 1_000_003, u32::MAX - 20, u32::MAX] {
                    let stamp = options.stamp(clock);
                    assert_eq!(Options::from_bits(stamp), options);
                    let age = clock.wrapping_sub(stamp);
                    assert!(age <= OPTION_MASK, "{options:?} at {clock}: {age} ms old");
                }
            }
        }
        assert_eq!(Options { shift: Some(200), sack: false }.to_bits(), 14);
    }

    #[test]
    fn an_mss_is_rounded_down_to_its_class_and_usual_ones_are_kept() {
        for v6 in [false, true] {
            let (local, _) = ends(v6);
            for mss in 0..=65_535 {
                let kept = u32::from(mss_of(class_of(mss, local), local));
                assert!(kept <= mss.max(216), "{mss} became {kept}");
            }
            let overhead = segment_overhead(local) as u16;
            for packet in PACKETS {
                let mss = packet - overhead;
                assert_eq!(mss_of(class_of(mss.into(), local), local), mss);
            }
        }
    }

    #[test]
    fn secrets_rotate_and_end() {
        let mut secrets = Secrets::default();
        let start = Instant::from_millis(5);
        assert_eq!(secrets.valid(start).count(), 0);
        assert_eq!(secrets.current(start, || [1; 16]), [1; 16]);
        let later = start + SYN_COOKIE_LIFETIME / 2;
        assert_eq!(secrets.current(later, || [2; 16]), [1; 16]);
        let later = start + SYN_COOKIE_LIFETIME;
        assert_eq!(secrets.current(later, || [2; 16]), [2; 16]);
        assert_eq!(secrets.valid(later).count(), 2);
        let later = start + 2 * SYN_COOKIE_LIFETIME;
        assert_eq!(secrets.valid(later).collect::<Vec<_>>(), [&[2; 16]]);
        assert_eq!(secrets.valid(start + 3 * SYN_COOKIE_LIFETIME).count(), 0);
    }
}
