//! On a virtual clock that goes on by what the strategy wants, and by the time of a turn.

use super::*;

const TURN: Duration = Duration::from_nanos(200);
const PAUSE: Duration = Duration::from_nanos(60);
const BUSY: Turn = Turn { busy: true, next: None, awaits: false };
const EMPTY: Turn = Turn { busy: false, next: None, awaits: false };

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

struct Thread {
    idle: Idle,
    now: Instant,
    /// By how much sleeps take longer.
    overrun: Duration,
}

/// What a thread did in a gap.
#[derive(Debug, Default)]
struct Gap {
    turns: u32,
    slept: Vec<Duration>,
    /// Between the frame and the turn that takes it.
    late: Duration,
}

impl Thread {
    fn new(policy: IdlePolicy) -> Self {
        let now = Instant::from_millis(1_000);
        Self { idle: Idle::new(policy, now), now, overrun: Duration::ZERO }
    }

    fn turn(&mut self, turn: Turn) -> Rest {
        let began = self.now;
        self.now += TURN;
        let rest = self.idle.rest(turn, began, self.now);
        match rest {
            Rest::Pause(n) => self.now += PAUSE * n,
            Rest::Sleep(time) => self.now += time + self.overrun,
            Rest::Nothing | Rest::Arm | Rest::Disarm => {}
        }
        rest
    }

    /// A busy turn, and then empty ones until a frame comes after `gap`.
    fn gap(&mut self, gap: Duration) -> Gap {
        assert_eq!(self.turn(BUSY), Rest::Nothing);
        let until = self.now + gap;
        let mut result = Gap::default();
        while self.now < until {
            result.turns += 1;
            if let Rest::Sleep(time) = self.turn(EMPTY) {
                result.slept.push(time);
            }
        }
        result.late = self.now.since(until);
        result
    }

    /// The next rest that is no pause.
    fn after_spinning(&mut self, turn: Turn) -> Rest {
        loop {
            match self.turn(turn) {
                Rest::Pause(_) => {}
                rest => return rest,
            }
        }
    }
}

#[test]
fn poll_never_gives_the_cpu_away() {
    let mut thread = Thread::new(IdlePolicy::Poll);
    assert_eq!(thread.turn(BUSY), Rest::Nothing);
    for _ in 0..100_000 {
        assert_eq!(thread.turn(EMPTY), Rest::Pause(1));
    }
}

#[test]
fn under_load_nothing_sleeps() {
    let mut thread = Thread::new(IdlePolicy::Sleep);
    for gap in [0, 1, 4, 20, 40].map(micros) {
        for _ in 0..1_000 {
            let gap = thread.gap(gap);
            assert!(gap.slept.is_empty(), "{gap:?}");
            assert!(gap.late < micros(2), "{gap:?}");
        }
    }
}

#[test]
fn pauses_grow_while_it_spins_and_begin_anew() {
    let mut thread = Thread::new(IdlePolicy::Sleep);
    for _ in 0..2 {
        thread.turn(BUSY);
        let rests: Vec<Rest> = (0..7).map(|_| thread.turn(EMPTY)).collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 16, 16].map(Rest::Pause));
    }
}

#[test]
fn sleeps_double_and_then_grow_with_the_silence() {
    let mut thread = Thread::new(IdlePolicy::Sleep);
    for _ in 0..10 {
        thread.gap(Duration::from_millis(1));
    }
    let slept = thread.gap(Duration::from_secs(1)).slept;
    // Spun for as long as a sleep costs; each sleep takes as long as the silence until it.
    assert_eq!(slept[0], SLEEP_MIN);
    assert!(slept[1] > micros(15) && slept[1] < micros(20), "{slept:?}");
    assert!(slept[2] > micros(30) && slept[2] < micros(40), "{slept:?}");
    assert!(slept[3..40].iter().all(|time| *time == SLEEP_BOUND), "{slept:?}");
    assert!(slept.is_sorted());
    assert_eq!(slept.last(), Some(&SLEEP_MAX));
    // There is room for 20,000 of 50 us in a second.
    assert!(slept.len() < 700, "{}", slept.len());
}

#[test]
fn no_frame_waits_for_more_than_its_part_of_the_silence() {
    let mut thread = Thread::new(IdlePolicy::Sleep);
    let mut gap = micros(1);
    while gap < Duration::from_secs(3) {
        let late = thread.gap(gap).late;
        let bound = (gap / SILENCE_PART).clamp(SLEEP_BOUND, SLEEP_MAX).min(gap.max(SLEEP_MIN));
        assert!(late <= bound + TURN + PAUSE * PAUSES_MAX, "{late:?} behind {gap:?}");
        gap = gap * 11 / 10 + Duration::from_nanos(7);
    }
}

#[test]
fn the_first_frame_after_a_lull_ends_the_long_sleeps() {
    let mut thread = Thread::new(IdlePolicy::Sleep);
    assert_eq!(thread.gap(Duration::from_secs(1)).slept.last(), Some(&SLEEP_MAX));
    let slept = thread.gap(Duration::from_millis(2)).slept;
    assert!(!slept.is_empty() && slept.iter().all(|time| *time <= SLEEP_BOUND), "{slept:?}");
}

#[test]
fn how_long_it_spins_follows_the_gaps() {
    let mut thread = Thread::new(IdlePolicy::Sleep);
    // Far apart: it spins less and less.
    let first = thread.gap(Duration::from_millis(1)).turns;
    let turns: Vec<u32> = (0..8).map(|_| thread.gap(Duration::from_millis(1)).turns).collect();
    assert!(turns.is_sorted_by(|a, b| a >= b) && turns[7] + 20 < first, "{first}, {turns:?}");
    assert_eq!(thread.idle.spin, SPIN_MIN);
    // Close together: a few gaps, and it sleeps through none.
    let slept: Vec<usize> = (0..8).map(|_| thread.gap(micros(30)).slept.len()).collect();
    assert!(slept[0] > 0, "{slept:?}");
    assert_eq!(slept[5..], [0, 0, 0], "{slept:?}");
}

#[test]
fn sleeps_that_take_too_long_are_not_taken_for_gaps() {
    let mut thread = Thread::new(IdlePolicy::Sleep);
    thread.overrun = micros(70);
    for _ in 0..10 {
        thread.gap(Duration::from_millis(1));
    }
    let slept: Vec<usize> = (0..8).map(|_| thread.gap(micros(20)).slept.len()).collect();
    assert!(slept[0] > 0, "{slept:?}");
    assert_eq!(slept[5..], [0, 0, 0], "{slept:?}");
}

#[test]
fn deadlines_are_kept() {
    let mut thread = Thread::new(IdlePolicy::Sleep);
    thread.gap(Duration::from_secs(1));
    thread.turn(BUSY);
    let next = thread.now + Duration::from_millis(300);
    let until = |next| Turn { next: Some(next), ..EMPTY };
    let mut longest = Duration::ZERO;
    while thread.now < next {
        match thread.turn(until(next)) {
            Rest::Sleep(time) => longest = longest.max(time),
            Rest::Pause(_) | Rest::Nothing => {}
            rest => panic!("{rest:?}"),
        }
    }
    assert_eq!(longest, SLEEP_MAX);
    assert!(thread.now.since(next) <= PAUSE * PAUSES_MAX, "{:?}", thread.now.since(next));
    // Now, or before: a turn at once. Too soon for a sleep: a pause.
    assert_eq!(thread.turn(until(next)), Rest::Nothing);
    let soon = thread.now + TURN + (SPIN_MIN - Duration::from_nanos(1));
    assert_eq!(thread.turn(until(soon)), Rest::Pause(PAUSES_MAX));
    let later = thread.now + TURN + micros(7);
    assert_eq!(thread.turn(until(later)), Rest::Sleep(micros(7)));
}

#[test]
fn interrupts_are_armed_once_before_the_waits_and_disarmed_by_work() {
    let mut thread = Thread::new(IdlePolicy::Interrupt);
    thread.turn(BUSY);
    assert_eq!(thread.after_spinning(EMPTY), Rest::Arm);
    // A turn between arming and waiting, which a frame of before may end.
    assert_eq!(thread.turn(BUSY), Rest::Disarm);
    assert_eq!(thread.after_spinning(EMPTY), Rest::Arm);
    assert_eq!(thread.turn(EMPTY), Rest::Sleep(ARMED_BOUND));
    // It stays armed, and sleeps grow.
    thread.now += Duration::from_millis(50);
    assert!(matches!(thread.turn(EMPTY), Rest::Sleep(t) if t > ARMED_BOUND && t < ARMED_MAX));
    thread.now += Duration::from_millis(500);
    assert_eq!(thread.turn(EMPTY), Rest::Sleep(ARMED_MAX));
    let next = thread.now + TURN + micros(300);
    assert_eq!(thread.turn(Turn { next: Some(next), ..EMPTY }), Rest::Sleep(micros(300)));
    assert_eq!(thread.turn(BUSY), Rest::Disarm);
    assert_eq!(thread.turn(BUSY), Rest::Nothing);
}

#[test]
fn an_interrupt_that_brought_nothing_is_armed_again() {
    let mut thread = Thread::new(IdlePolicy::Interrupt);
    assert_eq!(thread.after_spinning(EMPTY), Rest::Arm);
    assert_eq!(thread.turn(EMPTY), Rest::Sleep(ARMED_BOUND));
    thread.idle.interrupted();
    assert_eq!(thread.turn(EMPTY), Rest::Arm);
    assert_eq!(thread.turn(EMPTY), Rest::Sleep(ARMED_BOUND));
    // And one that brought something is disarmed, as without it.
    thread.idle.interrupted();
    assert_eq!(thread.turn(BUSY), Rest::Disarm);
    assert_eq!(thread.turn(BUSY), Rest::Nothing);
}

#[test]
fn what_raises_no_interrupt_is_looked_for_as_without_them() {
    let mut thread = Thread::new(IdlePolicy::Interrupt);
    let awaits = Turn { awaits: true, ..EMPTY };
    assert_eq!(thread.after_spinning(awaits), Rest::Arm);
    thread.now += micros(500);
    assert_eq!(thread.turn(awaits), Rest::Sleep(SLEEP_BOUND));
    assert_eq!(thread.turn(EMPTY), Rest::Sleep(ARMED_BOUND));
}
