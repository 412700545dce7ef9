//! Any segment in any state.

use proptest::prelude::*;

use super::packet::{Field, Segment, Zero};
use super::*;

const THEIRS: u32 = u32::MAX - 2_000;
const THEIR_CLOCK: u32 = 70_000;
/// Flags of segments: SYN, RST, FIN with ACK, ACK.
const KINDS: [u8; 8] = [2, 4, 17, 24, 16, 18, 20, 16];

/// What a stranger, a liar or a broken network may send.
#[derive(Clone, Debug)]
enum Step {
    Segment {
        kind: u8,
        seq: i32,
        ack: i32,
        len: usize,
        win: u16,
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
        near(),
        0usize..1_460,
        prop_oneof![Just(0u16), any::<u16>()],
        prop::collection::vec((near(), 1u32..3_000), 0..3),
        prop::option::weighted(0.9, -20i32..200),
    );
    let segment = segment.prop_map(|(kind, seq, ack, len, win, sack, clock)| Step::Segment {
        kind,
        seq,
        ack,
        len,
        win,
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

/// The engine has called; the initial sequence number.
fn called(now: Instant) -> (Side, u32) {
    let (client, server) = addresses();
    let mut side = Side::new(1);
    let profile = side.engine.profile(PROFILE);
    assert!(side.engine.connect(&mut side.conn, now, client, server, profile));
    side.output(now);
    let ours = seq_of(&side.line.segments.pop_front().unwrap());
    (side, ours)
}

fn arrive(side: &mut Side, now: Instant, ours: u32, segment: &Segment) {
    let zero = Zero { seq: THEIRS, ack: ours, value: THEIR_CLOCK, echo: 0 };
    let marked = segment.ecn == 3;
    let bytes = segment.bytes((80, 4_000), zero);
    let event = side.engine.input(&mut side.conn, now, &bytes, marked, unread);
    side.events.extend((event != TcpEvent::None).then_some(event));
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
        let start = Instant::from_millis(5_000);
        let mut now = start;
        let (mut side, ours) = called(now);
        if connected {
            let mut options = vec![Field::Mss(1_460), Field::Scale(0), Field::SackPermitted];
            options.extend(stamped.then_some(Field::Clock(Some((0, 0)))));
            let win = u16::MAX;
            arrive(&mut side, now, ours, &Segment { flags: 18, ack: 1, win, options, ..Segment::default() });
            assert_eq!(side.events, [TcpEvent::Established]);
            side.output(now);
            side.line.segments.clear();
        }
        for step in steps {
            match step {
                Step::Segment { kind, seq, ack, len, win, sack, clock } => {
                    // Around what the engine expects.
                    let una = side.conn.una.0.wrapping_sub(ours);
                    let block = |(at, len): (i32, u32)| {
                        let at = una.wrapping_add_signed(at);
                        (at, at.wrapping_add(len))
                    };
                    let elapsed = (now - start).as_millis() as u32;
                    let clock = clock.filter(|_| stamped);
                    let clock = clock.map(|c| Field::Clock(Some((elapsed.wrapping_add_signed(c), 0))));
                    let sack = (!sack.is_empty())
                        .then(|| Field::Sack(sack.into_iter().map(block).collect()));
                    let segment = Segment {
                        flags: KINDS[usize::from(kind)],
                        seq: side.conn.rcv_nxt.0.wrapping_sub(THEIRS).wrapping_add_signed(seq),
                        ack: una.wrapping_add_signed(ack),
                        len,
                        win,
                        urg: 0,
                        ecn: (win & 3) as u8,
                        options: sack.into_iter().chain(clock).collect(),
                    };
                    arrive(&mut side, now, ours, &segment);
                }
                Step::Send(n) => {
                    side.send_slice(&vec![6; n]);
                }
                Step::Receive(n) => side.conn.skip(n),
                Step::Close => side.conn.close(),
                Step::Wait(millis) => now += Duration::from_millis(millis),
                Step::Deadline => {
                    now = now.max(side.engine.deadline(&side.conn, now).unwrap_or(now));
                }
            }
            let mut turns = 0;
            loop {
                let sent = side.line.segments.len();
                let (_, more) = side.engine.output(&mut side.conn, now, 64, &mut side.line);
                turns += 1;
                if !more {
                    break;
                }
                prop_assert!(side.line.segments.len() > sent && turns < 100, "it goes on forever");
            }
            side.line.segments.clear();
            let deadline = side.engine.deadline(&side.conn, now);
            prop_assert!(deadline.is_none_or(|at| at > now), "{deadline:?} {:?}", side.conn);
            prop_assert!(side.conn.sent.runs() <= 1_000);
        }
    }
}

/// A peer that takes tiny segments, or acknowledges byte by byte, does not get many records.
#[test]
fn lies_do_not_cost_memory() {
    let now = Instant::from_millis(5_000);
    let (mut side, ours) = called(now);
    let options = vec![Field::Mss(1_460), Field::SackPermitted];
    let (flags, win) = (18, u16::MAX);
    arrive(&mut side, now, ours, &Segment { flags, ack: 1, win, options, ..Segment::default() });
    side.send_slice(&[1; 14_600]);
    side.output(now);
    for n in 0..400 {
        let at = 1_462 + 10 * n;
        let options = vec![Field::Sack(vec![(at, at + 1)])];
        let (flags, seq) = (16, 1);
        let segment = Segment { flags, seq, ack: 1, win, options, ..Segment::default() };
        arrive(&mut side, now, ours, &segment);
    }
    assert!(side.conn.sent.runs() <= 10, "{}", side.conn.sent.runs());
}
