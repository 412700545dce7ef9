//! One engine and a hand-written other side: what is on the wire, segment by segment.

use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber, TcpTimestampRepr,
};

use super::*;

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);
/// Initial sequence number of the hand-written side.
const THEIRS: u32 = u32::MAX - 2_000;

/// What a test looks at in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    control: TcpControl,
    /// From the initial sequence numbers of either side on.
    seq: u32,
    ack: Option<u32>,
    len: usize,
    window: u16,
    sack: Vec<(u32, u32)>,
    tsval: Option<u32>,
}

struct Script {
    side: Side,
    now: Instant,
    ours: u32,
    /// The clock of the hand-written side; `None` = without timestamps.
    clock: Option<u32>,
    /// The last one of ours, to be echoed.
    echo: u32,
}

impl Script {
    /// The engine has called, and all options are agreed on.
    fn connected(window: u16) -> Self {
        let mut script = Self::called();
        script.wait(RTT);
        script.reply(TcpControl::Syn, 0, Some(1), b"", window);
        assert_eq!(script.side.events, [TcpEvent::Established]);
        let ack = script.output();
        assert_eq!(
            (ack.len(), ack[0].control, ack[0].seq, ack[0].ack),
            (1, TcpControl::None, 1, Some(1))
        );
        script
    }

    fn called() -> Self {
        let (client, server) = addresses();
        let now = Instant::from_millis(5_000);
        let (side, clock, echo) = (Side::new(1), Some(70_000), 0);
        let mut script = Self { side, now, ours: 0, clock, echo };
        let profile = script.side.engine.profile(PROFILE);
        assert!(script.side.engine.connect(&mut script.side.conn, now, client, server, profile));
        script.side.output(now);
        script.ours = seq_of(script.side.line.segments.front().unwrap());
        let syn = script.take();
        assert_eq!((syn.len(), syn[0].control, syn[0].ack), (1, TcpControl::Syn, None));
        script
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.clock = self.clock.map(|clock| clock.wrapping_add(time.as_millis() as u32));
    }

    /// Until the engine wants to do something.
    fn wait_for_deadline(&mut self) -> Duration {
        let at = self.side.engine.deadline(&self.side.conn, self.now).unwrap();
        let time = at.since(self.now);
        self.wait(time);
        time
    }

    fn reply(
        &mut self,
        control: TcpControl,
        seq: u32,
        ack: Option<u32>,
        payload: &[u8],
        window: u16,
    ) {
        self.reply_with(control, seq, ack, payload, window, &[]);
    }

    fn reply_with(
        &mut self,
        control: TcpControl,
        seq: u32,
        ack: Option<u32>,
        payload: &[u8],
        window: u16,
        sack: &[(u32, u32)],
    ) {
        let (client, server) = addresses();
        let mut sack_ranges = [None; 3];
        for (slot, (start, end)) in sack_ranges.iter_mut().zip(sack) {
            *slot = Some((self.ours.wrapping_add(*start), self.ours.wrapping_add(*end)));
        }
        let syn = control == TcpControl::Syn;
        let tcp = TcpRepr {
            src_port: server.port(),
            dst_port: client.port(),
            control,
            seq_number: TcpSeqNumber(THEIRS.wrapping_add(seq) as i32),
            ack_number: ack.map(|ack| TcpSeqNumber(self.ours.wrapping_add(ack) as i32)),
            window_len: window,
            window_scale: syn.then_some(0),
            max_seg_size: syn.then_some(1_460),
            sack_permitted: syn,
            sack_ranges,
            timestamp: self.clock.map(|clock| TcpTimestampRepr::new(clock, self.echo)),
            payload,
        };
        let ip = Ipv4Repr {
            src_addr: Ipv4Address::new(10, 0, 0, 2),
            dst_addr: Ipv4Address::new(10, 0, 0, 1),
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let mut bytes = vec![0; 20 + tcp.buffer_len()];
        let none = ChecksumCapabilities::ignored();
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &none);
        let (src, dst): (IpAddress, IpAddress) = (ip.src_addr.into(), ip.dst_addr.into());
        tcp.emit(&mut TcpPacket::new_unchecked(&mut bytes[20..]), &src, &dst, &none);
        self.side.input(self.now, &bytes);
    }

    fn ack(&mut self, ack: u32) {
        self.reply(TcpControl::None, 1, Some(ack), b"", u16::MAX);
    }

    fn output(&mut self) -> Vec<Seen> {
        self.side.output(self.now);
        self.take()
    }

    /// What the engine has sent, with correct checksums.
    fn take(&mut self) -> Vec<Seen> {
        let segments = std::mem::take(&mut self.side.line.segments);
        segments.iter().map(|segment| self.read(segment)).collect()
    }

    fn read(&mut self, segment: &[u8]) -> Seen {
        let ip = Ipv4Packet::new_checked(segment).unwrap();
        assert!(ip.verify_checksum());
        let (src, dst) = (ip.src_addr().into(), ip.dst_addr().into());
        let packet = TcpPacket::new_checked(ip.payload()).unwrap();
        let tcp = TcpRepr::parse(&packet, &src, &dst, &ChecksumCapabilities::default()).unwrap();
        self.echo = tcp.timestamp.map_or(self.echo, |timestamp| timestamp.tsval);
        let theirs = |seq: u32| seq.wrapping_sub(THEIRS);
        Seen {
            control: tcp.control,
            seq: (tcp.seq_number.0 as u32).wrapping_sub(self.ours),
            ack: tcp.ack_number.map(|ack| theirs(ack.0 as u32)),
            len: tcp.payload.len(),
            window: tcp.window_len,
            sack: tcp.sack_ranges.iter().flatten().map(|(a, b)| (theirs(*a), theirs(*b))).collect(),
            tsval: tcp.timestamp.map(|timestamp| timestamp.tsval),
        }
    }
}

/// Sequence numbers of payload.
fn seqs(segments: &[Seen]) -> Vec<(u32, usize)> {
    segments.iter().map(|segment| (segment.seq, segment.len)).collect()
}

#[test]
fn the_initial_window_is_ten_segments() {
    let mut script = Script::connected(u16::MAX);
    script.side.send_slice(&[1; 40_000]);
    let sent = script.output();
    assert_eq!(sent.len(), 10);
    assert!(sent.iter().all(|segment| segment.len == 1_448), "{sent:?}");
}

#[test]
fn a_syn_is_repeated_after_a_second_and_then_two() {
    let mut script = Script::called();
    assert_eq!(script.wait_for_deadline(), Duration::from_secs(1));
    assert_eq!(script.output()[0].control, TcpControl::Syn);
    assert_eq!(script.wait_for_deadline(), Duration::from_secs(2));
    assert_eq!(script.output().len(), 1);
}

#[test]
fn both_may_call_at_once() {
    let mut script = Script::called();
    script.reply(TcpControl::Syn, 0, None, b"", u16::MAX);
    let answer = script.output();
    assert_eq!((answer[0].control, answer[0].seq, answer[0].ack), (TcpControl::Syn, 0, Some(1)));
    script.reply(TcpControl::Syn, 0, Some(1), b"", u16::MAX);
    assert_eq!(script.side.events, [TcpEvent::Established]);
    assert_eq!(script.output()[0].ack, Some(1));
    script.reply(TcpControl::None, 1, Some(1), b"hello", u16::MAX);
    assert_eq!(script.side.conn.recv_len(), 5);
}

#[test]
fn an_answer_to_a_call_that_was_never_made_is_reset() {
    let mut script = Script::called();
    script.reply(TcpControl::Syn, 0, Some(77), b"", u16::MAX);
    let answer = script.output();
    assert_eq!((answer[0].control, answer[0].seq, answer[0].ack), (TcpControl::Rst, 77, None));
    script.reply(TcpControl::Rst, 0, Some(77), b"", 0);
    assert!(script.side.events.is_empty(), "nor does its reset refuse ours");
    script.reply(TcpControl::Rst, 0, Some(1), b"", 0);
    assert_eq!(script.side.events, [TcpEvent::Reset]);
}

/// RFC 9293, section 3.8.6.3: every second segment, or after a delay.
#[test]
fn acknowledgements_are_delayed_and_not_for_long() {
    let mut script = Script::connected(u16::MAX);
    script.reply(TcpControl::Psh, 1, Some(1), &[2; 1_448], u16::MAX);
    assert_eq!(script.output(), []);
    assert_eq!(script.wait_for_deadline(), ACK_DELAY);
    assert_eq!(script.output()[0].ack, Some(1_449));
    script.reply(TcpControl::None, 1_449, Some(1), &[2; 1_448], u16::MAX);
    script.reply(TcpControl::None, 2_897, Some(1), &[2; 1_448], u16::MAX);
    assert_eq!(script.output()[0].ack, Some(4_345));
}

#[test]
fn gaps_are_reported_at_once_the_latest_first() {
    let mut script = Script::connected(u16::MAX);
    script.reply(TcpControl::None, 101, Some(1), &[2; 100], u16::MAX);
    let ack = script.output();
    assert_eq!((ack[0].ack, &ack[0].sack[..]), (Some(1), &[(101, 201)][..]));
    script.reply(TcpControl::None, 301, Some(1), &[2; 100], u16::MAX);
    assert_eq!(script.output()[0].sack, [(301, 401), (101, 201)]);
    script.reply(TcpControl::None, 101, Some(1), &[2; 100], u16::MAX);
    assert_eq!(script.output()[0].sack, [(101, 201), (101, 201), (301, 401)], "it came twice");
    script.reply(TcpControl::None, 1, Some(1), &[2; 100], u16::MAX);
    let ack = script.output();
    assert_eq!((ack[0].ack, &ack[0].sack[..]), (Some(201), &[(301, 401)][..]));
    script.reply(TcpControl::None, 201, Some(1), &[2; 100], u16::MAX);
    assert_eq!((script.output()[0].ack, script.side.conn.recv_len()), (Some(401), 400));
}

/// Its number is reported like those of bytes, or the other side would think it lost.
#[test]
fn an_end_behind_a_gap_is_reported_too() {
    let mut script = Script::connected(u16::MAX);
    script.reply(TcpControl::Fin, 101, Some(1), &[2; 100], u16::MAX);
    let ack = script.output();
    assert_eq!((ack[0].ack, &ack[0].sack[..]), (Some(1), &[(101, 202)][..]));
    script.reply(TcpControl::None, 1, Some(1), &[2; 100], u16::MAX);
    assert_eq!((script.output()[0].ack, script.side.conn.recv_len()), (Some(202), 200));
    script.side.conn.skip(200);
    assert!(script.side.conn.recv_finished());
}

/// Three segments behind a gap, and the window is reduced; RFC 6675, RFC 8985.
#[test]
fn a_gap_is_filled_without_a_time_out() {
    let mut script = Script::connected(u16::MAX);
    script.side.send_slice(&[1; 14_480]);
    assert_eq!(script.output().len(), 10);
    script.wait(RTT);
    script.reply_with(TcpControl::None, 1, Some(1), b"", u16::MAX, &[(1_449, 4_345)]);
    assert_eq!(seqs(&script.output()), []);
    script.reply_with(TcpControl::None, 1, Some(1), b"", u16::MAX, &[(1_449, 5_793)]);
    assert_eq!(seqs(&script.output()), [(1, 1_448)]);
    script.wait(RTT);
    script.ack(14_481);
    assert_eq!(script.output(), []);
    // Seven tenths of ten segments.
    script.side.send_slice(&[1; 40_000]);
    assert_eq!(script.output().len(), 7);
}

/// RFC 8985, section 7: the last segments are lost, and nothing comes behind them.
#[test]
fn losses_at_the_end_are_probed_for() {
    let mut script = Script::connected(u16::MAX);
    script.side.send_slice(&[1; 4_344]);
    assert_eq!(script.output().len(), 3);
    script.wait(RTT);
    script.ack(1_449);
    assert_eq!(script.output(), []);
    // Twice the round trip.
    assert_eq!(script.wait_for_deadline(), 2 * RTT);
    assert_eq!(seqs(&script.output()), [(2_897, 1_448)]);
    script.wait(RTT);
    script.reply_with(TcpControl::None, 1, Some(1_449), b"", u16::MAX, &[(2_897, 4_345)]);
    assert_eq!(seqs(&script.output()), [(1_449, 1_448)]);
}

/// RFC 6298, with Linux' minimum; RFC 3522.
#[test]
fn a_time_out_that_was_none_is_undone() {
    let mut script = Script::connected(u16::MAX);
    script.side.send_slice(&[1; 1_448]);
    assert_eq!(script.output().len(), 1);
    script.wait(RTT);
    script.ack(1_449);
    script.side.send_slice(&[1; 14_480]);
    let sent = script.output();
    let before = sent.last().unwrap().tsval.unwrap();
    let mut waited = Duration::ZERO;
    let again = loop {
        waited += script.wait_for_deadline();
        let out = script.output();
        if out.first().is_some_and(|segment| segment.seq == 1_449) {
            break out;
        }
        assert!(waited < Duration::from_secs(1));
    };
    assert!(waited >= 200 * MS && waited <= 320 * MS, "{waited:?}");
    assert_eq!(seqs(&again), [(1_449, 1_448)]);
    // The acknowledgement of the first time was late: it echoes what was sent then.
    script.echo = before;
    script.ack(2_897);
    let more = script.output();
    assert!(more.iter().all(|segment| segment.seq >= 15_929), "nothing else is repeated: {more:?}");
    script.ack(15_929);
    script.side.send_slice(&[1; 40_000]);
    assert!(script.output().len() >= 10);
}

#[test]
fn a_closed_window_is_asked_after_and_opens_again() {
    let mut script = Script::connected(1_000);
    script.side.send_slice(&[1; 3_000]);
    assert_eq!(seqs(&script.output()), [(1, 1_000)]);
    script.wait(10 * MS);
    script.reply(TcpControl::None, 1, Some(1_001), b"", 0);
    assert_eq!(script.output(), []);
    for _ in 0..3 {
        script.wait_for_deadline();
        let probe = script.output();
        // Old by one, so that it is answered.
        assert_eq!(seqs(&probe), [(1_000, 0)]);
        script.reply(TcpControl::None, 1, Some(1_001), b"", 0);
        assert_eq!(script.output(), []);
    }
    script.reply(TcpControl::None, 1, Some(1_001), b"", 2_000);
    assert_eq!(seqs(&script.output()), [(1_001, 1_448), (2_449, 552)]);
}

/// RFC 9293, section 3.8.6.2.1.
#[test]
fn silly_windows_are_not_filled() {
    let mut script = Script::connected(4_000);
    script.side.send_slice(&[1; 8_000]);
    assert_eq!(seqs(&script.output()), [(1, 1_448), (1_449, 1_448)]);
    script.reply(TcpControl::None, 1, Some(1_449), b"", 1_500);
    assert_eq!(script.output(), []);
    script.reply(TcpControl::None, 1, Some(2_897), b"", 3_000);
    assert_eq!(seqs(&script.output()), [(2_897, 1_448), (4_345, 1_448)]);
}

/// RFC 5961.
#[test]
fn forged_resets_and_calls_are_challenged() {
    let mut script = Script::connected(u16::MAX);
    script.wait(Duration::from_secs(1));
    script.reply(TcpControl::Rst, 100, Some(1), b"", 0);
    let answer = script.output();
    assert_eq!((answer.len(), answer[0].control, answer[0].ack), (1, TcpControl::None, Some(1)));
    script.reply(TcpControl::Syn, 5, Some(1), b"", 0);
    assert_eq!(script.output(), [], "no more than two a second");
    script.wait(CHALLENGE_INTERVAL);
    script.reply(TcpControl::Syn, 5, Some(1), b"", 0);
    assert_eq!(script.output().len(), 1);
    script.wait(CHALLENGE_INTERVAL);
    script.reply(TcpControl::Rst, 1_000_000, Some(1), b"", 0);
    assert_eq!(script.output(), []);
    script.reply(TcpControl::None, 1, Some(500), b"x", u16::MAX);
    assert_eq!(script.side.conn.recv_len(), 0, "acknowledges what was never sent");
    assert_eq!(script.side.events, [TcpEvent::Established]);
    script.reply(TcpControl::Rst, 1, Some(1), b"", 0);
    assert_eq!(script.side.events.last(), Some(&TcpEvent::Reset));
}

/// RFC 7323, section 5.
#[test]
fn old_clocks_are_turned_away() {
    let mut script = Script::connected(u16::MAX);
    script.wait(50 * MS);
    script.reply(TcpControl::None, 1, Some(1), b"new", u16::MAX);
    script.wait(ACK_DELAY);
    assert_eq!(script.output().len(), 1);
    let now = script.clock;
    script.clock = now.map(|clock| clock - 30);
    script.reply(TcpControl::None, 4, Some(1), b"old", u16::MAX);
    assert_eq!(script.side.conn.recv_len(), 3);
    assert_eq!(script.output()[0].ack, Some(4), "and is told so");
    script.clock = None;
    script.reply(TcpControl::None, 4, Some(1), b"none", u16::MAX);
    assert_eq!(script.side.conn.recv_len(), 7, "as Linux does");
    script.clock = now;
    script.reply(TcpControl::None, 8, Some(1), b"good", u16::MAX);
    assert_eq!(script.side.conn.recv_len(), 11);
}

#[test]
fn either_direction_ends_by_itself() {
    let mut script = Script::connected(u16::MAX);
    script.side.send_slice(b"last words");
    script.side.conn.close();
    let sent = script.output();
    assert_eq!((sent[0].control, sent[0].seq, sent[0].len), (TcpControl::Fin, 1, 10));
    script.ack(12);
    script.reply(TcpControl::Psh, 1, Some(12), b"still here", u16::MAX);
    assert_eq!(script.side.conn.recv_len(), 10);
    script.reply(TcpControl::Fin, 11, Some(12), b"", u16::MAX);
    assert_eq!(script.side.events.last(), Some(&TcpEvent::Finished));
    assert!(!script.side.conn.is_over(), "an acknowledgement is owed");
    assert_eq!(script.output()[0].ack, Some(12));
    assert!(script.side.conn.is_over());
    assert_eq!(script.side.conn.recv_len(), 10);
}

/// RFC 9293, section 3.10.7.4: both have said all.
#[test]
fn a_reset_behind_both_ends_is_an_end() {
    let mut script = Script::connected(u16::MAX);
    script.reply(TcpControl::Fin, 1, Some(1), b"all", u16::MAX);
    script.side.conn.close();
    let sent = script.output();
    assert_eq!((sent[0].control, sent[0].ack), (TcpControl::Fin, Some(5)));
    script.reply(TcpControl::Rst, 5, Some(1), b"", 0);
    assert_eq!(script.side.events.last(), Some(&TcpEvent::Finished));
    assert_eq!((script.side.conn.recv_len(), script.side.conn.is_over()), (3, true));
}

#[test]
fn who_is_silent_is_asked_and_given_up() {
    let mut script = Script::connected(u16::MAX);
    let first = script.wait_for_deadline();
    assert_eq!(first, crate::limits::TCP_KEEPALIVE);
    assert_eq!(seqs(&script.output()), [(0, 0)]);
    script.reply(TcpControl::None, 1, Some(1), b"", u16::MAX);
    assert_eq!(script.wait_for_deadline(), crate::limits::TCP_KEEPALIVE);
    let mut probes = 0;
    let start = script.now;
    loop {
        probes += script.output().len();
        if script.side.events.contains(&TcpEvent::TimedOut) {
            break;
        }
        script.wait_for_deadline();
        assert!(script.now.since(start) < Duration::from_secs(60));
    }
    assert!(probes >= 4, "{probes}");
}

/// The window is told again when the reader has made room, without being asked.
#[test]
fn a_window_that_opens_is_told() {
    let mut script = Script::connected(u16::MAX);
    let mut seq = 1;
    let last = loop {
        let room = (script.side.conn.rx.limit() - script.side.conn.rx.len());
        if room == 0 {
            script.wait(ACK_DELAY);
            break script.output();
        }
        let len = room.min(1_448);
        script.reply(TcpControl::None, seq, Some(1), &vec![3; len], u16::MAX);
        seq += len as u32;
        if (script.side.conn.rx.limit() - script.side.conn.rx.len()) > 0 {
            script.output();
        }
    };
    assert_eq!(last.last().map(|segment| segment.window), Some(0));
    script.side.conn.skip(100);
    assert_eq!(script.output(), [], "not for so little");
    script.side.conn.skip(20_000);
    let update = script.output();
    assert_eq!((update.len(), update[0].ack), (1, Some(seq)));
    assert!(update[0].window > 0);
}

/// A peer that takes tiny segments, or acknowledges byte by byte, does not get many records.
#[test]
fn lies_do_not_cost_memory() {
    let mut script = Script::connected(u16::MAX);
    script.side.send_slice(&[1; 14_480]);
    script.output();
    for n in 0..400 {
        let at = 1_450 + 10 * n;
        script.reply_with(TcpControl::None, 1, Some(1), b"", u16::MAX, &[(at, at + 1)]);
    }
    assert!(script.side.conn.sent.segments() <= 10, "{}", script.side.conn.sent.segments());
}

/// What a stranger, a liar or a broken network may send.
#[derive(Clone, Debug)]
enum Step {
    Segment {
        control: u8,
        seq: i32,
        ack: Option<i32>,
        len: usize,
        window: u16,
        sack: Vec<(i32, u32)>,
        clock: Option<i32>,
    },
    Send(usize),
    Receive(usize),
    Close,
    Wait(u64),
    Deadline,
}

fn step() -> impl Strategy<Value = Step> {
    let near = || prop_oneof![-3i32..4, -3_000i32..3_000, any::<i32>()];
    let segment = (
        0u8..8,
        near(),
        prop::option::weighted(0.9, near()),
        0usize..1_460,
        prop_oneof![Just(0u16), any::<u16>()],
        prop::collection::vec((near(), 1u32..3_000), 0..3),
        prop::option::weighted(0.9, -20i32..200),
    );
    let segment = segment.prop_map(|(control, seq, ack, len, window, sack, clock)| Step::Segment {
        control,
        seq,
        ack,
        len,
        window,
        sack,
        clock,
    });
    prop_oneof![
        8 => segment,
        2 => (0usize..40_000).prop_map(Step::Send),
        2 => (0usize..40_000).prop_map(Step::Receive),
        1 => Just(Step::Close),
        2 => (0u64..400).prop_map(Step::Wait),
        3 => Just(Step::Deadline),
    ]
}

proptest! {
    /// Nothing panics, nothing grows without bound, and no deadline is in the past without anything
    /// being done about it: the worker would do nothing else.
    #[test]
    fn whatever_comes(
        connected in any::<bool>(),
        stamped in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut script = if connected { Script::connected(u16::MAX) } else { Script::called() };
        let start = script.clock.unwrap_or_default();
        for step in steps {
            match step {
                Step::Segment { control, seq, ack, len, window, sack, clock } => {
                    let control = match control {
                        0 => TcpControl::Syn,
                        1 => TcpControl::Rst,
                        2 => TcpControl::Fin,
                        3 => TcpControl::Psh,
                        _ => TcpControl::None,
                    };
                    // Around what the engine expects.
                    let conn = &script.side.conn;
                    let expected = conn.rcv_nxt.0.wrapping_sub(THEIRS);
                    let una = conn.una.0.wrapping_sub(script.ours);
                    let seq = expected.wrapping_add_signed(seq);
                    let ack = ack.map(|ack| una.wrapping_add_signed(ack));
                    let sack: Vec<(u32, u32)> = sack
                        .into_iter()
                        .map(|(at, len)| {
                            let at = una.wrapping_add_signed(at);
                            (at, at.wrapping_add(len))
                        })
                        .collect();
                    let elapsed = script.now.as_millis() as u32;
                    script.clock = clock
                        .filter(|_| stamped)
                        .map(|clock| start.wrapping_add(elapsed).wrapping_add_signed(clock));
                    script.reply_with(control, seq, ack, &vec![5; len], window, &sack);
                }
                Step::Send(n) => {
                    script.side.send_slice(&vec![6; n]);
                }
                Step::Receive(n) => script.side.conn.skip(n),
                Step::Close => script.side.conn.close(),
                Step::Wait(millis) => script.now += Duration::from_millis(millis),
                Step::Deadline => {
                    let side = &script.side;
                    if let Some(at) = side.engine.deadline(&side.conn, script.now) {
                        script.now = script.now.max(at);
                    }
                }
            }
            let mut turns = 0;
            loop {
                let sent = script.side.line.segments.len();
                let (_, more) =
                    script.side.engine.output(&mut script.side.conn, script.now, 64, &mut script.side.line);
                turns += 1;
                if !more {
                    break;
                }
                prop_assert!(script.side.line.segments.len() > sent && turns < 100, "it goes on forever");
            }
            script.side.line.segments.clear();
            let side = &script.side;
            let deadline = side.engine.deadline(&side.conn, script.now);
            prop_assert!(deadline.is_none_or(|at| at > script.now), "{deadline:?} {:?}", side.conn);
            prop_assert!(side.conn.sent.segments() <= 1_000);
        }
    }
}
