//! Runs the files in `scripts/`: one engine, a hand-written other side, a virtual clock. The format
//! is in `scripts/README.md`.

use super::packet::{Field, Pattern, Segment, Zero, byte};
use super::*;

/// Initial sequence number of the other side: its numbers wrap soon.
const THEIRS: u32 = u32::MAX - 2_000;
/// Their clock at the beginning, ms.
const THEIR_CLOCK: u32 = 70_000;
const SECRET: u8 = 1;
/// Times agree if they differ by less.
const EXACT: Duration = Duration::from_millis(1);

struct Runner {
    side: Side,
    local: SocketAddr,
    remote: SocketAddr,
    profile: Profile,
    start: Instant,
    /// When the connection was opened, which its initial sequence number depends on.
    opened: Instant,
    now: Instant,
    /// What was sent and no line has named yet.
    sent: VecDeque<(Instant, Segment)>,
    listens: bool,
    /// Our clock in the last segment of ours.
    echo: u32,
    written: u32,
    read: u32,
    events: usize,
}

/// Runs one file; panics with the line that does not hold.
fn run(name: &str, text: &str) {
    let mut runner = Runner::new();
    let fail = |line: usize, said: &str, reason: String| -> ! {
        panic!("src/tcp/tests/scripts/{name}.pkt:{line}: {said}\n    {reason}")
    };
    for (line, number) in text.lines().zip(1..) {
        let said = line.split('#').next().unwrap_or_default().trim();
        if !said.is_empty()
            && let Err(reason) = runner.line(said)
        {
            fail(number, said, reason);
        }
    }
    if let Err(reason) = runner.end() {
        fail(text.lines().count(), "end of the file", reason);
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|s| (0.0..1e7).contains(s));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("{text:?} is no time in seconds"))
}

fn same<T: PartialEq + std::fmt::Display>(wanted: T, came: T) -> Result<(), String> {
    if wanted == came { Ok(()) } else { Err(format!("expected {wanted}, came {came}")) }
}

impl Runner {
    fn new() -> Self {
        let (local, remote) = addresses();
        let start = Instant::from_millis(5_000);
        Self {
            side: Side::new(SECRET),
            local,
            remote,
            profile: PROFILE,
            start,
            opened: start,
            now: start,
            sent: VecDeque::new(),
            listens: false,
            echo: 0,
            written: 0,
            read: 0,
            events: 0,
        }
    }

    fn line(&mut self, said: &str) -> Result<(), String> {
        let (first, rest) = said.split_once(' ').unwrap_or((said, ""));
        let (at, command) = match first.split_at_checked(1) {
            Some(("+", delay)) => (self.now + time(delay)?, rest),
            Some(("@", at)) => (self.start + time(at)?, rest),
            _ => (self.now, said),
        };
        if at < self.now {
            return Err(format!("it is {:?} already", self.now - self.start));
        }
        self.advance(at)?;
        let command = command.trim();
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let number = || rest.parse::<u32>().map_err(|_| format!("{rest:?} is no number"));
        match verb {
            ">" => self.expect(rest),
            "<" => self.claimed().and_then(|()| self.arrive(rest)),
            "nothing" => self.output().and_then(|()| self.claimed()),
            "ignore" => self.output().map(|()| self.sent.clear()),
            "deadline" => self.deadline(rest),
            "set" => self.set(rest),
            "connect" => self.connect(),
            "accept" => {
                self.listens = true;
                Ok(())
            }
            "write" => self.write(number()?),
            "read" => self.read(number()?),
            "close" => {
                self.side.conn.close();
                Ok(())
            }
            "abort" => {
                self.side.conn.abort();
                Ok(())
            }
            "mtu" => {
                self.profile.mtu = number()? as usize;
                let profile = self.side.engine.profile(self.profile);
                self.side.engine.set_profile(&mut self.side.conn, profile);
                Ok(())
            }
            "sink" => match rest {
                "full" => self.output().map(|()| self.side.line.full = true),
                "free" => {
                    self.side.line.full = false;
                    Ok(())
                }
                _ => Err("a sink is full or free".into()),
            },
            "event" => self.event(rest),
            "finished" => same(true, self.side.conn.recv_finished()),
            "over" => self.output().and_then(|()| same(true, self.side.conn.is_over())),
            "state" => self
                .output()
                .and_then(|()| same(rest.to_owned(), format!("{:?}", self.side.conn.state))),
            "readable" => same(number()?, self.side.conn.recv_len() as u32),
            "queued" => same(number()?, self.side.conn.send_queue() as u32),
            "cwnd" => {
                self.output().and_then(|()| same(number()?, self.side.conn.control.get().window()))
            }
            "ssthresh" => self
                .output()
                .and_then(|()| same(number()?, self.side.conn.control.get().threshold())),
            "flight" => self.output().and_then(|()| same(number()?, self.side.conn.sent.flight())),
            _ => Err(format!("there is no command {verb:?}")),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        self.output()?;
        self.claimed()?;
        match self.side.events.get(self.events..) {
            Some([]) | None => Ok(()),
            Some(events) => Err(format!("no line names the events {events:?}")),
        }
    }

    // --- time -----------------------------------------------------------------------------------

    /// Lets the engine do at each of its deadlines what it wants to do then.
    fn advance(&mut self, to: Instant) -> Result<(), String> {
        if to <= self.now {
            return Ok(());
        }
        self.output()?;
        let due = |runner: &Self| runner.side.engine.deadline(&runner.side.conn, runner.now);
        while let Some(at) = due(self).filter(|at| *at <= to) {
            self.now = at.max(self.now);
            self.output()?;
        }
        self.now = to;
        self.output()
    }

    fn output(&mut self) -> Result<(), String> {
        let full = self.side.line.full;
        loop {
            let before = self.side.line.segments.len();
            let Side { engine, conn, line, events } = &mut self.side;
            let (event, more) = engine.output(conn, self.now, 64, line);
            events.extend((event != TcpEvent::None).then_some(event));
            if !more || full {
                break;
            }
            if line.segments.len() == before {
                return Err("output wants to go on, and sends nothing".into());
            }
        }
        if let Some(at) = self.side.engine.deadline(&self.side.conn, self.now)
            && at <= self.now
            && !full
        {
            return Err("a deadline has passed, and output does not clear it".into());
        }
        let zero = self.zero();
        // Theirs is the other way round.
        let zero = Zero { seq: zero.ack, ack: zero.seq, value: zero.echo, echo: zero.value };
        for ip in self.side.line.segments.drain(..) {
            if ip.len() > self.profile.mtu {
                return Err(format!("a packet of {} bytes", ip.len()));
            }
            let segment = Segment::read(&ip, zero)?;
            let clock = segment.options.iter().find_map(|option| match option {
                Field::Clock(Some((value, _))) => Some(*value),
                _ => None,
            });
            self.echo = clock.unwrap_or(self.echo);
            self.sent.push_back((self.now, segment));
        }
        Ok(())
    }

    /// What numbers in segments of the other side count from.
    fn zero(&self) -> Zero {
        let conn = &self.side.conn;
        let ours = IsnSecret::new([SECRET; 16]).isn(self.opened, self.local, self.remote);
        let echo = conn.clock_offset.wrapping_add(self.start.as_millis() as u32);
        Zero { seq: THEIRS, ack: ours, value: THEIR_CLOCK, echo }
    }

    fn claimed(&self) -> Result<(), String> {
        match self.sent.front() {
            None => Ok(()),
            Some((at, segment)) => {
                let (at, more) = (*at - self.start, self.sent.len() - 1);
                Err(format!("no line names {segment} at {at:?}, nor {more} behind it"))
            }
        }
    }

    // --- segments -------------------------------------------------------------------------------

    fn expect(&mut self, text: &str) -> Result<(), String> {
        let pattern = Pattern::parse(text)?;
        self.output()?;
        for n in 0..pattern.times() {
            if self.sent.is_empty() {
                // It may be due within what counts as the same time.
                let due = self.side.engine.deadline(&self.side.conn, self.now);
                if let Some(at) = due.filter(|at| *at < self.now + EXACT) {
                    self.advance(at)?;
                }
            }
            let Some((at, seen)) = self.sent.pop_front() else {
                let due = self.side.engine.deadline(&self.side.conn, self.now);
                let due = due.map(|at| at - self.now);
                return Err(format!("nothing came as number {}; next deadline in {due:?}", n + 1));
            };
            if !pattern.fits(n, &seen) {
                return Err(format!("number {} is {seen}", n + 1));
            }
            if self.now - at >= EXACT {
                let (at, now) = (at - self.start, self.now - self.start);
                return Err(format!("it came at {at:?}, and now it is {now:?}"));
            }
        }
        Ok(())
    }

    fn arrive(&mut self, text: &str) -> Result<(), String> {
        let pattern = Pattern::parse(text)?;
        let elapsed = (self.now - self.start).as_millis() as u32;
        for mut segment in pattern.segments()? {
            if pattern.options.is_none() && !segment.is_syn() {
                let agreed = self.side.conn.timestamps.is_some();
                segment.options.extend(agreed.then_some(Field::Clock(None)));
            }
            for option in &mut segment.options {
                if let Field::Clock(clock @ None) = option {
                    *clock = Some((elapsed, self.echo));
                }
            }
            let ports = (self.remote.port(), self.local.port());
            if self.listens && segment.is_syn() {
                let profile = self.side.engine.profile(self.profile);
                let (local, remote) = (self.local, self.remote);
                self.opened = self.now;
                let bytes = segment.bytes(ports, self.zero());
                let Side { engine, conn, .. } = &mut self.side;
                if !engine.accept(conn, self.now, (local, remote), profile, &bytes) {
                    return Err("it was not taken for a call".into());
                }
                self.listens = false;
            } else {
                let bytes = segment.bytes(ports, self.zero());
                let marked = segment.ecn == 3;
                let Side { engine, conn, .. } = &mut self.side;
                let event = engine.input(conn, self.now, &bytes, marked, unread);
                self.side.events.extend((event != TcpEvent::None).then_some(event));
            }
        }
        Ok(())
    }

    // --- the application and what it sees -------------------------------------------------------

    fn set(&mut self, text: &str) -> Result<(), String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |text: &str| text.parse::<usize>().map_err(|e| e.to_string());
        match words[..] {
            ["ipv6"] => {
                self.local = "[fd00::1]:4000".parse().unwrap();
                self.remote = "[fd00::2]:80".parse().unwrap();
            }
            ["bbr"] => {
                let congestion = Congestion::Bbr;
                self.side.conn = TcpConn::new(TcpSettings { congestion, ..SETTINGS });
            }
            ["mtu", n] => self.profile.mtu = number(n)?,
            ["rings", n] => {
                self.side.conn =
                    TcpConn::new(TcpSettings { receive: number(n)?, send: number(n)?, ..SETTINGS })
            }
            _ => return Err(format!("there is nothing like {text:?} to be set")),
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), String> {
        let profile = self.side.engine.profile(self.profile);
        self.opened = self.now;
        let (local, remote) = (self.local, self.remote);
        let Side { engine, conn, .. } = &mut self.side;
        same(true, engine.connect(conn, self.now, local, remote, profile))
    }

    fn write(&mut self, n: u32) -> Result<(), String> {
        let data: Vec<u8> = (0..n).map(|i| byte(true, 1 + self.written + i)).collect();
        self.written += n;
        same(n as usize, self.side.send_slice(&data))
    }

    fn read(&mut self, n: u32) -> Result<(), String> {
        let mut data = vec![0; n as usize];
        same(data.len(), self.side.conn.peek(&mut data))?;
        self.side.conn.skip(data.len());
        let wrong = (1 + self.read..).zip(&data).find(|(at, seen)| byte(false, *at) != **seen);
        self.read += n;
        wrong.map_or(Ok(()), |(at, _)| Err(format!("byte {at} is wrong")))
    }

    fn event(&mut self, text: &str) -> Result<(), String> {
        self.output()?;
        let event = self.side.events.get(self.events).copied().unwrap_or(TcpEvent::None);
        self.events += 1;
        same(text.to_owned(), format!("{event:?}"))
    }

    fn deadline(&mut self, text: &str) -> Result<(), String> {
        self.output()?;
        let due = self.side.engine.deadline(&self.side.conn, self.now).map(|at| at - self.now);
        let wanted = if text == "none" { None } else { Some(time(text)?) };
        let close = match (wanted, due) {
            (Some(wanted), Some(due)) => wanted.abs_diff(due) < EXACT,
            (wanted, due) => wanted == due,
        };
        if close { Ok(()) } else { Err(format!("expected {wanted:?}, came {due:?}")) }
    }
}

/// One test a file.
macro_rules! scripts {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name), include_str!(concat!("scripts/", stringify!($name), ".pkt")));
            }
        )*

        #[test]
        fn every_file_is_run() {
            let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tcp/tests/scripts");
            let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            let files = files.filter(|path| path.extension().is_some_and(|e| e == "pkt"));
            let name = |path: std::path::PathBuf| path.file_stem()?.to_str().map(str::to_owned);
            let mut files: Vec<String> = files.filter_map(name).collect();
            files.sort();
            assert_eq!(files, [$(stringify!($name)),*], "list them in script.rs, in this order");
        }
    };
}

scripts! {
    a_bare_end_behind_a_gap_waits
    a_call_is_refused
    a_call_is_repeated_after_a_second_and_then_two
    a_call_that_is_given_up_says_nothing
    a_call_that_is_repeated_leaves_no_doubt
    a_call_that_is_repeated_offers_no_marks
    a_clock_measures_repetitions
    a_closed_window_is_asked_after
    a_duplicate_ends_the_doubt
    a_full_sink_keeps_the_segments
    a_gap_is_filled_without_a_time_out
    a_gap_that_stays_is_a_loss
    a_large_mss_is_bounded_by_the_path
    a_late_segment_is_waited_for
    a_mark_is_echoed_until_it_was_heard
    a_new_segment_in_doubt_is_paced
    a_probe_carries_what_is_new
    a_probe_that_was_needed_costs_window
    a_probe_that_was_not_needed_costs_nothing
    a_repeated_end_is_acknowledged_again
    a_repetition_in_doubt_may_be_cut
    a_repetition_measures_nothing
    a_repetition_that_got_lost_is_found
    a_repetition_that_was_none_is_undone
    a_report_leaves_the_doubt
    a_report_of_a_duplicate_widens_the_reordering_window
    a_reset_behind_both_ends_is_an_end
    a_reset_behind_our_end_is_a_reset
    a_reset_elsewhere_in_the_window_is_challenged
    a_reset_ends_a_half_open_connection
    a_reset_ends_it
    a_reset_in_closing_is_an_end
    a_reset_needs_no_young_clock
    a_reset_outside_of_the_window_is_nothing
    a_reset_that_acknowledges_nothing_refuses_nothing
    a_scale_beyond_14_is_14
    a_segment_without_acknowledgement_is_dropped
    a_segment_without_clock_passes
    a_single_segment_is_probed_for_later
    a_small_window_is_used_in_the_end
    a_syn_on_a_connection_is_challenged
    a_time_out_in_a_repair_is_believed
    a_time_out_in_doubt_may_be_followed_by_one
    a_time_out_is_believed_if_the_window_closes
    a_time_out_is_believed_if_the_window_is_full
    a_time_out_is_believed_if_there_is_nothing_new
    a_time_out_that_came_twice_may_be_none
    a_time_out_that_was_none_is_undone
    a_time_out_that_was_none_is_undone_by_a_report
    a_time_out_that_was_none_is_undone_without_clocks
    a_time_out_that_was_one_is_known_by_a_report
    a_time_out_that_was_one_is_known_by_duplicates
    a_tiny_mss_is_not_obeyed
    a_window_is_told_again_when_there_is_room
    a_window_may_shrink
    a_window_that_opens_unasked_is_used
    a_wrong_acknowledgement_of_an_answer_is_reset
    acknowledgements_wait_ten_milliseconds
    active_open
    after_a_pause_half_of_the_window_is_left
    after_a_time_out_the_window_is_one_segment
    an_abort_is_one_reset
    an_abort_of_a_half_open_connection_is_a_reset
    an_acknowledgement_goes_with_data
    an_acknowledgement_of_what_was_never_sent_is_challenged
    an_answer_is_repeated_although_we_have_closed
    an_answer_that_got_lost_is_repeated
    an_answer_to_a_call_that_was_never_made_is_reset
    an_end_behind_a_gap_waits
    an_end_goes_with_the_last_bytes
    an_end_is_acknowledged_again_in_time_wait
    an_end_may_come_with_the_end_of_the_handshake
    an_end_that_acknowledges_ours
    an_old_acknowledgement_tells_no_window
    both_close_at_once
    both_may_call_and_one_answer_be_lost
    both_may_call_at_once
    challenges_are_seldom
    closing_before_the_handshake_is_over
    data_may_come_with_the_end_of_the_handshake
    data_on_a_syn_comes_again
    each_partial_acknowledgement_is_another_loss
    every_second_segment_is_acknowledged
    gaps_are_reported_at_once_the_latest_first
    ipv6
    losses_at_the_end_are_probed_for
    marks_cost_window_once
    no_mss_means_1220_over_ipv6
    no_mss_means_536
    nothing_comes_behind_an_end
    old_acknowledgements_are_no_duplicates
    old_clocks_are_turned_away
    old_clocks_of_bare_acknowledgements_are_turned_away
    one_lost_answer_leaves_the_initial_window
    one_lost_call_leaves_the_initial_window
    one_segment_is_sent_again_in_doubt
    only_the_newest_segment_tells_the_window
    only_what_is_missing_is_sent_again
    our_end_is_sent_again
    overlapping_segments_make_one_stream
    passive_open
    scaling_needs_both_sides
    segments_are_shorter_beside_reports
    silly_windows_are_not_filled
    the_clock_behind_a_gap_is_not_echoed
    the_clock_of_the_first_segment_is_echoed
    the_initial_window_is_ten_segments
    the_initial_window_of_small_segments
    the_other_direction_goes_on
    the_path_may_become_narrower
    the_rate_is_reduced_in_proportion
    the_time_out_doubles
    the_time_out_is_that_of_rfc_6298
    the_time_out_starts_anew_with_each_acknowledgement
    they_close_first
    three_duplicates_mean_a_loss
    two_lost_answers_leave_one_segment
    two_lost_calls_leave_one_segment
    urgent_data_is_data
    we_close_first
    we_do_not_offer_what_was_not_offered
    we_may_send_after_their_end
    what_came_twice_is_reported
    what_is_no_syn_does_not_answer_a_call
    what_is_not_acknowledged_ends_it
    what_is_sent_again_may_not_be_marked
    what_lies_beyond_the_window_is_not_taken
    what_says_nothing_new_leaves_the_doubt
    who_forgets_gets_it_again
    whoever_does_not_answer_is_given_up
    whoever_is_silent_is_asked
    whoever_keeps_a_window_closed_and_is_silent_is_given_up
    whoever_keeps_a_window_closed_is_not_given_up
    window_updates_are_no_duplicates
    windows_are_scaled
    without_reports_nothing_is_probed_for
}
