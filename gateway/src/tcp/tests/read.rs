//! Payload that is taken as it arrives.

use super::*;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 3) as u8).collect()
}

#[test]
fn what_is_taken_on_arrival_needs_no_memory() {
    let now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    let data = pattern(10_000);
    c.send_slice(&data);
    c.output(now);
    let mut taken = Vec::new();
    for segment in std::mem::take(&mut c.line.segments) {
        s.input_to(now, &segment, |payload, _| {
            taken.extend_from_slice(payload);
            payload.len()
        });
        assert_eq!((s.conn.recv_len(), s.engine.memory().in_use()), (0, 0));
    }
    assert_eq!(taken, data);
    exchange(&mut c, &mut s, now + ACK_DELAY);
    assert_eq!(c.conn.send_queue(), 0, "it is acknowledged");
}

#[test]
fn what_is_left_of_a_segment_is_not_overtaken() {
    let now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    let data = pattern(6_000);
    c.send_slice(&data);
    c.output(now);
    let mut taken = Vec::new();
    let mut take = |payload: &[u8], _: &mut Memory| {
        taken.extend_from_slice(&payload[..100]);
        100
    };
    for segment in std::mem::take(&mut c.line.segments) {
        s.input_to(now, &segment, &mut take);
    }
    let mut rest = [0; 6_000];
    assert_eq!((s.conn.peek(&mut rest), &rest[..5_900]), (5_900, &data[100..]));
    s.conn.skip(5_900);
    c.send_slice(&data[..200]);
    c.output(now);
    s.input_to(now, &c.line.segments.pop_front().unwrap(), &mut take);
    assert_eq!(s.conn.recv_len(), 100);
    assert_eq!(taken, [&data[..100], &data[..100]].concat());
}

#[test]
fn neither_what_is_behind_a_gap_nor_what_closes_it_is_taken() {
    let now = Instant::from_millis(1);
    let (mut c, mut s) = established(now);
    c.send_slice(&pattern(4_000));
    c.output(now);
    c.line.segments.rotate_left(1);
    for segment in std::mem::take(&mut c.line.segments) {
        s.input_to(now, &segment, |_, _| panic!("it is not the next"));
    }
    assert_eq!(s.conn.recv_len(), 4_000);
}

/// As if the application were always there at once.
#[test]
fn windows_do_not_tell_how_bytes_were_taken() {
    let shown = |on_arrival: bool| {
        let settings = TcpSettings { receive: 4 << 20, send: 4 << 20, ..SETTINGS };
        let mut now = Instant::from_millis(1);
        let (mut c, mut s) = (Side::with(1, settings, PLENTY), Side::with(2, settings, PLENTY));
        call(&mut c, &mut s, now);
        exchange(&mut c, &mut s, now);
        let mut shown = Vec::new();
        for _ in 0..30 {
            c.send(|free| (free.len(), ()));
            c.output(now);
            for segment in std::mem::take(&mut c.line.segments) {
                if on_arrival {
                    s.input_to(now, &segment, |payload, _| payload.len());
                } else {
                    s.input(now, &segment);
                    s.conn.skip(usize::MAX);
                }
            }
            s.output(now);
            now += Duration::from_millis(5);
            shown.push((s.conn.rcv_nxt, s.conn.edge, s.line.segments.len()));
            for segment in std::mem::take(&mut s.line.segments) {
                c.input(now, &segment);
            }
        }
        assert!(s.conn.tuning.window() > 1 << 20, "{}", s.conn.tuning.window());
        shown
    };
    assert_eq!(shown(true), shown(false));
}
