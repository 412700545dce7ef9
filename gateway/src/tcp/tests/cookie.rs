//! Connections that are opened by a SYN cookie, beside those that are not.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, Ipv4Address, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr,
};

use super::*;
use crate::limits::SYN_COOKIE_LIFETIME;

const NOW: Instant = Instant::from_millis(77_777);
const RTT: Duration = Duration::from_millis(20);
const THEIR_CLOCK: u32 = 4_000_000_000;
const IRS: i32 = -5;

fn syn() -> TcpRepr<'static> {
    TcpRepr {
        src_port: 4_000,
        dst_port: 80,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(IRS),
        ack_number: None,
        window_len: 60_000,
        window_scale: Some(9),
        max_seg_size: Some(1_460),
        sack_permitted: true,
        sack_ranges: [None; 3],
        timestamp: Some(TcpTimestampRepr::new(THEIR_CLOCK, 0)),
        payload: &[],
    }
}

/// The first segment behind the SYN|ACK.
fn third(syn_ack: &TcpRepr<'_>) -> TcpRepr<'static> {
    let stamp = |t: TcpTimestampRepr| TcpTimestampRepr::new(THEIR_CLOCK + 20, t.tsval);
    TcpRepr {
        control: TcpControl::Psh,
        seq_number: TcpSeqNumber(IRS + 1),
        ack_number: Some(syn_ack.seq_number + 1),
        window_len: 500,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        timestamp: syn_ack.timestamp.map(stamp),
        payload: b"hello",
        ..syn()
    }
}

fn nobody() -> IpAddress {
    Ipv4Address::UNSPECIFIED.into()
}

/// With room for an IPv4 header in front.
fn bytes(tcp: &TcpRepr<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 20 + tcp.buffer_len()];
    let none = ChecksumCapabilities::ignored();
    tcp.emit(&mut TcpPacket::new_unchecked(&mut bytes[20..]), &nobody(), &nobody(), &none);
    bytes
}

fn parsed(segment: &[u8]) -> TcpRepr<'_> {
    let packet = TcpPacket::new_checked(&segment[20..]).unwrap();
    TcpRepr::parse(&packet, &nobody(), &nobody(), &ChecksumCapabilities::ignored()).unwrap()
}

/// The server's ends: its own address first.
fn ends() -> (SocketAddr, SocketAddr) {
    let (client, server) = addresses();
    (server, client)
}

fn answer(s: &mut Side, now: Instant, syn: &[u8]) -> TcpRepr<'static> {
    let profile = s.engine.profile(PROFILE);
    let settings = TcpSettings { receive: s.conn.rx.limit(), ..SETTINGS };
    let secret = || [(now.as_millis() % 251) as u8; 16];
    s.engine.syn_cookie(now, ends(), profile, settings, &syn[20..], secret).unwrap()
}

/// Opens the server's connection with the segment that brings the cookie.
fn open(s: &mut Side, now: Instant, third: &[u8]) -> bool {
    let Some(cookie) = s.engine.check_cookie(now, ends(), &third[20..]) else { return false };
    let profile = s.engine.profile(PROFILE);
    s.engine.accept_cookie(&mut s.conn, now, ends(), profile, &cookie);
    s.input(now, third);
    true
}

/// What the options of a connection made of it.
fn agreed(s: &Side) -> impl PartialEq + std::fmt::Debug {
    let conn = &s.conn;
    (
        [conn.send_shift, conn.recv_shift],
        [conn.sack, conn.timestamps.is_some()],
        conn.timestamps.map(|t| t.recent),
        conn.remote_mss,
        conn.mss(PROFILE),
        (conn.irs, conn.rcv_nxt, conn.edge.since(conn.irs)),
        (conn.window, conn.max_window.max(conn.window), conn.clock_offset),
        conn.una.since(conn.iss),
        conn.recv_len(),
    )
}

#[test]
fn a_connection_by_cookie_is_like_any_other() {
    let classes = [216, 536, 1_240, 1_360, 1_410, 1_452, 1_460, 8_960];
    for mss in classes.map(Some).into_iter().chain([None]) {
        for (window_scale, sack_permitted) in
            [(None, false), (None, true), (Some(0), true), (Some(9), false), (Some(14), true)]
        {
            let syn = TcpRepr { max_seg_size: mss, window_scale, sack_permitted, ..syn() };
            let syn = bytes(&syn);
            let mut known = Side::new(2);
            let profile = known.engine.profile(PROFILE);
            assert!(known.engine.accept(&mut known.conn, NOW, ends(), profile, &syn[20..]));
            known.output(NOW);
            let segment = known.line.segments.pop_front().unwrap();
            let usual = parsed(&segment);
            known.conn.max_window = 0;
            known.input(NOW + RTT, &bytes(&third(&usual)));

            let mut s = Side::new(2);
            let syn_ack = answer(&mut s, NOW, &syn);
            let said = |a: &TcpRepr<'_>| {
                let options = (a.window_scale, a.max_seg_size, a.sack_permitted);
                (a.control, a.ack_number, a.window_len, options, a.timestamp.map(|t| t.tsecr))
            };
            assert_eq!(said(&syn_ack), said(&usual), "{mss:?} {window_scale:?}");
            assert!(open(&mut s, NOW + RTT, &bytes(&third(&syn_ack))));
            assert_eq!(agreed(&s), agreed(&known), "{mss:?} {window_scale:?}");
            assert_eq!(s.conn.state(), TcpState::Open);
            assert_eq!(s.conn.rtt.smooth(), None, "the echo carries options");
        }
    }
}

#[test]
fn without_timestamps_there_are_no_other_options() {
    let mut s = Side::new(2);
    let syn = bytes(&TcpRepr { timestamp: None, ..syn() });
    let syn_ack = answer(&mut s, NOW, &syn);
    let options = (syn_ack.window_scale, syn_ack.sack_permitted, syn_ack.timestamp);
    assert_eq!(options, (None, false, None));
    assert!(open(&mut s, NOW + RTT, &bytes(&third(&syn_ack))));
    assert_eq!((s.conn.send_shift, s.conn.recv_shift, s.conn.sack), (0, 0, false));
    assert_eq!((s.conn.remote_mss, s.conn.window, s.conn.recv_len()), (1_460, 500, 5));
}

#[test]
fn only_the_acknowledgement_of_a_cookie_opens() {
    let mut s = Side::new(2);
    assert!(!s.engine.expects_cookies(NOW));
    let syn_ack = answer(&mut s, NOW, &bytes(&syn()));
    assert!(s.engine.expects_cookies(NOW));
    let good = third(&syn_ack);
    let check = |ends, segment: &TcpRepr<'_>| {
        s.engine.check_cookie(NOW + RTT, ends, &bytes(segment)[20..]).is_some()
    };
    assert!(check(ends(), &good));
    let (local, remote) = ends();
    for other in [
        (local, "10.0.0.1:4001".parse().unwrap()),
        (local, "10.0.0.9:4000".parse().unwrap()),
        ("10.0.0.2:81".parse().unwrap(), remote),
        ("10.0.0.3:80".parse().unwrap(), remote),
    ] {
        assert!(!check(other, &good), "{other:?}");
    }
    for n in 1..20_000 {
        let ack = good.ack_number.map(|ack| ack + n * 53);
        assert!(!check(ends(), &TcpRepr { ack_number: ack, ..good }));
        assert!(!check(ends(), &TcpRepr { seq_number: good.seq_number + n, ..good }));
    }
    let echo = |tsecr| TcpRepr { timestamp: Some(TcpTimestampRepr::new(7, tsecr)), ..good };
    let echoed = good.timestamp.unwrap().tsecr;
    for bit in 0..5 {
        assert!(!check(ends(), &echo(echoed ^ (1 << bit))), "other options");
    }
    assert!(!check(ends(), &TcpRepr { timestamp: None, ..good }));
    assert!(!check(ends(), &TcpRepr { control: TcpControl::Rst, ..good }));
    assert!(!check(ends(), &TcpRepr { control: TcpControl::Syn, ..good }));
    assert!(!check(ends(), &TcpRepr { ack_number: None, ..good }));
    let stranger = Side::new(2);
    let tcp = bytes(&good);
    assert_eq!(stranger.engine.check_cookie(NOW + RTT, ends(), &tcp[20..]), None);
}

#[test]
fn cookies_age() {
    let mut s = Side::new(2);
    answer(&mut s, NOW, &bytes(&syn()));
    // The last one of its secret.
    let made = NOW + (SYN_COOKIE_LIFETIME - Duration::from_millis(1));
    let tcp = bytes(&third(&answer(&mut s, made, &bytes(&syn()))));
    let lives = |s: &Side, at| s.engine.check_cookie(at, ends(), &tcp[20..]).is_some();
    assert!(lives(&s, made + SYN_COOKIE_LIFETIME));
    // Others follow, whose secret is another one.
    answer(&mut s, made + SYN_COOKIE_LIFETIME / 2, &bytes(&syn()));
    assert!(lives(&s, made + SYN_COOKIE_LIFETIME));
    assert!(!lives(&s, made + SYN_COOKIE_LIFETIME + Duration::from_millis(1)));
    assert!(!s.engine.expects_cookies(made + 3 * SYN_COOKIE_LIFETIME));
}

/// Two engines: windows beyond 64 KiB, repairs by selective acknowledgements, and both ends.
#[test]
fn a_connection_by_cookie_carries_as_much_as_any() {
    let (client, server) = addresses();
    let (mut c, mut s) = (Side::new(1), Side::new(2));
    for side in [&mut c, &mut s] {
        side.conn = TcpConn::new(TcpSettings { receive: 1 << 20, send: 1 << 20, ..SETTINGS });
    }
    let profile = c.engine.profile(PROFILE);
    assert!(c.engine.connect(&mut c.conn, NOW, client, server, profile));
    c.output(NOW);
    let syn = c.line.segments.pop_front().unwrap();
    let syn_ack = answer(&mut s, NOW, &syn);
    let now = NOW + RTT;
    c.input(now, &bytes(&syn_ack));
    assert_eq!(c.events, [TcpEvent::Established]);
    c.output(now);
    let third = c.line.segments.pop_front().unwrap();
    assert!(open(&mut s, now, &third));
    exchange(&mut c, &mut s, now);

    let now = now + RTT;
    s.send_slice(&[5; 14_000]);
    s.output(now);
    s.line.segments.pop_front();
    exchange(&mut c, &mut s, now + RTT);
    assert_eq!(c.conn.recv_len(), 14_000, "repaired without a time-out");
    let (mut sent, mut received) = ([0; 2], [0; 2]);
    for n in 2..30 {
        for (i, side) in [&mut c, &mut s].into_iter().enumerate() {
            received[i] += side.conn.recv_len();
            side.conn.skip(usize::MAX);
            sent[i] += side.send_slice(&[6; 100_000]);
        }
        exchange(&mut c, &mut s, now + RTT * n);
    }
    assert!(s.conn.window > 1 << 17, "scaled: {}", s.conn.window);
    received = [received[0] + c.conn.recv_len(), received[1] + s.conn.recv_len()];
    assert_eq!(received, [sent[1] + 14_000, sent[0]], "{:?} {:?}", c.conn, s.conn);
    assert!(sent.iter().all(|sent| *sent > 2_000_000), "{sent:?}");
    c.conn.close();
    s.conn.close();
    exchange(&mut c, &mut s, now + RTT * 31);
    assert_eq!(s.events.last(), Some(&TcpEvent::Finished));
    assert_eq!(c.events.last(), Some(&TcpEvent::Finished));
}
