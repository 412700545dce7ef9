//! Echo, errors sent, errors received.

use super::*;
use crate::limits::{ECHO_REPLIES_PER_SECOND, ERRORS_PER_SECOND};
use crate::net::FlowKey;

fn echo_v4(data: &[u8]) -> Vec<u8> {
    frame(&icmpv4("10.0.0.5", "10.0.9.9", [8, 0, 0, 0, 0xab, 0xcd, 0, 7], data))
}

fn echo_v6(dst: &str, data: &[u8]) -> Vec<u8> {
    icmpv6("fd00::5", dst, 64, [128, 0, 0, 0, 0xab, 0xcd, 0, 7], data)
}

#[test]
fn echo_is_answered() {
    let mut host = Host::new();
    for (request, kind, to, from) in [
        (echo_v4(b"ping"), 0, "10.0.0.5", "10.0.9.9"),
        (frame(&echo_v6("fd00::1", b"odd length pings")), 129, "fd00::5", "fd00::1"),
        (frame(&echo_v6("fd00::1", b"")), 129, "fd00::5", "fd00::1"),
    ] {
        let sent = host.answer(&request);
        assert_eq!(sent[..12], [THEIRS.0, OURS.0].concat());
        assert_valid(&sent[14..]);
        let (src, dst, _, message) = parts(&sent[14..]);
        assert_eq!((src.as_str(), dst.as_str()), (from, to));
        assert_eq!(message[..2], [kind, 0]);
        assert_eq!(message[4..], parts(&request[14..]).3[4..]);
    }
    assert_eq!(host.counters.icmp_replies, 3);
}

#[test]
fn echo_is_bounded() {
    let mut host = Host::new();
    host.answer(&echo_v4(&vec![1; 1500 - 28]));
    assert_eq!(host.dropped(&echo_v4(&vec![1; 1500 - 27])), DropReason::IcmpIgnored);
    assert_eq!(
        host.dropped(&eth(ALL_NODES_MAC, THEIRS, 0x86dd, &echo_v6("ff02::1", b"all"))),
        DropReason::IcmpIgnored,
        "a group does not answer"
    );
    let mut bad = echo_v4(b"ping");
    bad[14 + 20 + 5] ^= 1;
    assert_eq!(host.dropped(&bad), DropReason::IcmpMalformed);
    let short = frame(&ipv4_packet("10.0.0.5", "10.0.0.1", 1, &[8, 0, 0xf7, 0xff]));
    assert_eq!(host.dropped(&short), DropReason::IcmpMalformed);
    for _ in 1..ECHO_REPLIES_PER_SECOND {
        host.answer(&echo_v4(b"x"));
    }
    assert_eq!(host.dropped(&echo_v4(b"x")), DropReason::RateLimited);
    host.now += crate::time::Duration::from_millis(10);
    host.answer(&echo_v4(b"x"));
}

fn udp(src: &str, dst: &str, data: &[u8]) -> Vec<u8> {
    let datagram = [&[0x30, 0x39, 0, 53, 0, 8 + data.len() as u8, 0, 0], data].concat();
    match ip(src) {
        IpAddr::V4(_) => ipv4_packet(src, dst, 17, &datagram),
        IpAddr::V6(_) => ipv6_packet(src, dst, 17, 64, &datagram),
    }
}

#[test]
fn what_nothing_takes_is_refused_with_a_quotation() {
    let mut host = Host::new();
    let unknown_v4 = ipv4_packet("10.0.0.5", "10.0.0.1", 47, b"gre");
    let unknown_v6 = ipv6_packet("fd00::5", "fd00::1", 132, 64, b"sctp");
    let behind_options =
        ipv6_packet("fd00::5", "fd00::1", 60, 64, &[132, 0, 1, 4, 0, 0, 0, 0, 1, 2]);
    for (packet, head) in [
        (udp("10.0.0.5", "10.0.0.1", b"query"), [3, 3, 0, 0, 0, 0]),
        (udp("fd00::5", "fd00::1", b"query"), [1, 4, 0, 0, 0, 0]),
        (unknown_v4, [3, 2, 0, 0, 0, 0]),
        (unknown_v6, [4, 1, 0, 0, 0, 6]),
        (behind_options, [4, 1, 0, 0, 0, 40]),
    ] {
        let sent = host.answer(&frame(&packet));
        assert_eq!(sent[..12], [THEIRS.0, OURS.0].concat());
        assert_valid(&sent[14..]);
        let (_, _, protocol, message) = parts(&sent[14..]);
        assert_eq!(protocol, if packet[0] >> 4 == 4 { 1 } else { 58 });
        assert_eq!((&message[..2], &message[4..8]), (&head[..2], &head[2..]));
        assert_eq!(&message[8..], packet);
    }
    // Quotations are cut: 576 bytes over IPv4, the minimum MTU over IPv6.
    let sent = host.answer(&frame(&ipv4_packet("10.0.0.5", "10.0.0.1", 47, &[9; 1400])));
    assert_eq!(sent.len(), 14 + 576);
    let sent = host.answer(&frame(&ipv6_packet("fd00::5", "fd00::1", 132, 64, &[9; 1400])));
    assert_eq!(sent.len(), 14 + 1280);
    assert_valid(&sent[14..]);
    assert_eq!(host.counters.icmp_replies, 7);
}

#[test]
fn refusals_are_limited_and_groups_get_none() {
    let mut host = Host::new();
    let query = frame(&udp("10.0.0.5", "10.0.0.1", b"q"));
    for _ in 0..ERRORS_PER_SECOND {
        host.answer(&query);
    }
    assert_eq!(host.dropped(&query), DropReason::RateLimited);
    let mdns = eth(ALL_NODES_MAC, THEIRS, 0x86dd, &udp("fd00::5", "ff02::1", b"q"));
    assert_eq!(host.dropped(&mdns), DropReason::NotForUs);
    let cut = frame(&ipv4_packet("10.0.0.5", "10.0.0.1", 17, &[0; 7]));
    assert_eq!(host.dropped(&cut), DropReason::IpMalformed);
}

#[test]
fn a_full_transmit_queue_is_not_an_answer() {
    let mut host = Host::new();
    host.wire.full = true;
    host.receive(&echo_v4(b"x"));
    host.receive(&frame(&udp("10.0.0.5", "10.0.0.1", b"q")));
    assert_eq!((host.counters.icmp_replies, host.counters.all_drops().count()), (0, 0));
}

/// A segment of ours as a router quotes it: eight bytes of TCP are enough.
fn quoted(src: &str, dst: &str) -> Vec<u8> {
    let packet = Seg { src, dst, ports: (443, 40_000), ..Seg::default() }.packet();
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    packet[..header + 8].to_vec()
}

fn key(local: &str, remote: &str) -> FlowKey {
    FlowKey::new((ip(local), 443).into(), (ip(remote), 40_000).into())
}

fn error_v4(kind: u8, code: u8, mtu: u16, quote: &[u8]) -> Vec<u8> {
    let [m0, m1] = mtu.to_be_bytes();
    frame(&icmpv4("198.51.100.1", "10.0.0.1", [kind, code, 0, 0, 0, 0, m0, m1], quote))
}

fn error_v6(kind: u8, code: u8, value: u32, quote: &[u8]) -> Vec<u8> {
    let [a, b, c, d] = value.to_be_bytes();
    frame(&icmpv6("fd00:77::1", "fd00::1", 60, [kind, code, 0, 0, a, b, c, d], quote))
}

#[test]
fn path_mtu_reports() {
    let mut host = Host::new();
    let quote = quoted("10.0.0.1", "192.0.2.9");
    let mut big = quote.clone();
    put(&mut big, 2, 1500);
    for (frame, local, remote, expected) in [
        (error_v4(3, 4, 1400, &quote), "10.0.0.1", "192.0.2.9", 1400),
        // Forged low, or from a router that knows no MTU (RFC 1191, section 7).
        (error_v4(3, 4, 68, &quote), "10.0.0.1", "192.0.2.9", 552),
        (error_v4(3, 4, 0, &big), "10.0.0.1", "192.0.2.9", 1492),
        (error_v4(3, 4, 0, &quote), "10.0.0.1", "192.0.2.9", 552),
        (error_v6(2, 0, 1400, &quoted("fd00::1", "fd00:5::9")), "fd00::1", "fd00:5::9", 1400),
        (error_v6(2, 0, 576, &quoted("fd00::1", "fd00:5::9")), "fd00::1", "fd00:5::9", 1280),
    ] {
        let Ingress::PathMtu { key: k, mtu, .. } = host.receive(&frame) else {
            panic!("{expected}")
        };
        assert_eq!((k, mtu), (key(local, remote), expected));
    }
    assert_eq!(host.dropped(&error_v4(3, 4, 1500, &quote)), DropReason::IcmpIgnored);
    let v6 = error_v6(2, 0, 9000, &quoted("fd00::1", "fd00:5::9"));
    assert_eq!(host.dropped(&v6), DropReason::IcmpIgnored);
}

#[test]
fn unreachable_reports() {
    let mut host = Host::new();
    let q4 = quoted("10.0.9.9", "192.0.2.9");
    let q6 = quoted("fd00:9::9", "fd00:5::9");
    let (k4, k6) = (key("10.0.9.9", "192.0.2.9"), key("fd00:9::9", "fd00:5::9"));
    for (frame, expected, hard) in [
        (error_v4(3, 0, 0, &q4), k4, false),
        (error_v4(3, 1, 0, &q4), k4, false),
        (error_v4(3, 2, 0, &q4), k4, true),
        (error_v4(3, 3, 0, &q4), k4, true),
        (error_v4(3, 13, 0, &q4), k4, false),
        (error_v4(11, 0, 0, &q4), k4, false),
        (error_v4(12, 0, 0, &q4), k4, false),
        (error_v6(1, 0, 0, &q6), k6, false),
        (error_v6(1, 1, 0, &q6), k6, true),
        (error_v6(1, 3, 0, &q6), k6, false),
        (error_v6(1, 4, 0, &q6), k6, true),
        (error_v6(3, 0, 0, &q6), k6, false),
        (error_v6(4, 0, 0, &q6), k6, false),
        (error_v6(4, 1, 6, &q6), k6, true),
    ] {
        let ingress = host.receive(&frame);
        let Ingress::Unreachable { key, hard: h } = ingress else { panic!("{ingress:?}") };
        assert_eq!((key, h), (expected, hard), "{:02x?}", &frame[34..36]);
    }
}

#[test]
fn quotations_of_others_and_broken_ones_are_ignored() {
    let mut host = Host::new();
    let good = quoted("10.0.0.1", "192.0.2.9");
    let with = |at: usize, value: u8| {
        let mut q = good.clone();
        q[at] = value;
        q
    };
    for (quote, reason) in [
        (quoted("10.0.0.77", "192.0.2.9"), DropReason::IcmpIgnored),
        (with(9, 17), DropReason::IcmpIgnored),
        (with(7, 1), DropReason::IcmpIgnored),
        (with(0, 0x65), DropReason::IcmpMalformed),
        (with(0, 0x44), DropReason::IcmpMalformed),
        (with(0, 0x4f), DropReason::IcmpMalformed),
        (good[..27].to_vec(), DropReason::IcmpMalformed),
        (good[..19].to_vec(), DropReason::IcmpMalformed),
    ] {
        assert_eq!(host.dropped(&error_v4(3, 3, 0, &quote)), reason, "{quote:02x?}");
    }
    let good = quoted("fd00::1", "fd00:5::9");
    let mut options = good.clone();
    options[6] = 0;
    for (quote, reason) in [
        (quoted("fd00::77", "fd00:5::9"), DropReason::IcmpIgnored),
        (quoted("::ffff:10.0.0.1", "::ffff:192.0.2.9"), DropReason::IcmpIgnored),
        (options, DropReason::IcmpIgnored),
        (good[..47].to_vec(), DropReason::IcmpMalformed),
        (good[..39].to_vec(), DropReason::IcmpMalformed),
    ] {
        assert_eq!(host.dropped(&error_v6(1, 4, 0, &quote)), reason, "{quote:02x?}");
    }
    // Source quench, redirect, timestamp; packet for the MLD listener.
    for kind in [4, 5, 13, 0] {
        let frame = error_v4(kind, 0, 0, &quoted("10.0.0.1", "192.0.2.9"));
        assert_eq!(host.dropped(&frame), DropReason::IcmpIgnored);
    }
    let mld = icmpv6("fe80::fe", "ff02::1", 1, [130, 0, 0, 0, 0, 0, 0, 0], &[0; 20]);
    let frame = eth(ALL_NODES_MAC, THEIRS, 0x86dd, &mld);
    assert_eq!(host.dropped(&frame), DropReason::IcmpIgnored);
}
