//! Segments in, RSTs out.

use super::*;
use crate::limits::ERRORS_PER_SECOND;
use crate::net::{FlowKey, TcpFlags, likely_key};
use crate::port::RxChecksum;

#[test]
fn a_segment_is_handed_on_without_its_padding() {
    let mut host = Host::new();
    for (src, dst) in
        [("10.0.0.5", "10.0.0.1"), ("192.0.2.1", "10.0.9.9"), ("fd00::5", "fd00:9::9")]
    {
        let seg = Seg { src, dst, flags: ACK | 8, ack: 77, payload: b"data", ..Seg::default() };
        let mut frame = seg.frame();
        frame.extend([0; 9]);
        let Ingress::Tcp(packet) = host.receive(&frame) else { panic!("{src}") };
        let sockets = (std::net::SocketAddr::new(ip(dst), 443), (ip(src), 40_000).into());
        assert_eq!(packet.key, FlowKey::new(sockets.0, sockets.1));
        assert_eq!(likely_key(&frame), Some(packet.key));
        assert_eq!(packet.ip, seg.packet());
        assert_eq!((packet.seq, packet.ack, packet.payload_len), (0x0102_0304, 77, 4));
        assert_eq!(packet.src_mac, THEIRS);
        let flags = TcpFlags { ack: true, psh: true, ..TcpFlags::default() };
        assert_eq!((packet.flags, packet.is_syn()), (flags, false));
    }
    assert_eq!(host.counters.all_drops().count(), 0);
}

#[test]
fn nothing_is_likely_of_what_is_no_usual_segment() {
    for src in ["10.0.0.5", "fd00::5"] {
        let dst = if src.starts_with('f') { "fd00::1" } else { "10.0.0.1" };
        let frame = Seg { src, dst, ..Seg::default() }.frame();
        let headers = frame.len() - Seg { src, dst, ..Seg::default() }.tcp().len();
        for len in 0..headers + 4 {
            assert_eq!(likely_key(&frame[..len]), None, "{len} bytes");
        }
        let mut options = frame.clone();
        options[14] += 1;
        let mut udp = frame.clone();
        udp[if src.starts_with('f') { 14 + 6 } else { 14 + 9 }] = 17;
        let mut arp = frame;
        arp[13] = 0x06;
        assert_eq!((likely_key(&udp), likely_key(&arp)), (None, None));
        assert_eq!(likely_key(&options).is_none(), src.starts_with('1'));
    }
}

#[test]
fn checksums_are_verified_unless_the_device_did() {
    let mut host = Host::new();
    for src in ["10.0.0.5", "fd00::5"] {
        let dst = if src.starts_with('f') { "fd00::1" } else { "10.0.0.1" };
        let mut frame = Seg { src, dst, payload: b"odd", ..Seg::default() }.frame();
        *frame.last_mut().unwrap() ^= 1;
        assert_eq!(host.dropped(&frame), DropReason::TcpChecksum);
        let good = RxMeta { l4: RxChecksum::Good, ..RxMeta::default() };
        assert!(matches!(host.receive_with(&frame, good), Ingress::Tcp(_)));
    }
    // A device that cannot check is not believed, whatever it says.
    let blind = PortStackConfig { rx_checksum: false, ..config() };
    host.stack = PortStack::new(blind).unwrap();
    let mut frame = Seg::default().frame();
    frame[14 + 20 + 4] ^= 1;
    let good = RxMeta { l4: RxChecksum::Good, ..RxMeta::default() };
    assert!(matches!(host.receive_with(&frame, good), Ingress::Consumed));
    // Some devices say "bad" about what they merely cannot parse.
    let frame = Seg::default().frame();
    let bad = RxMeta { ip: RxChecksum::Bad, l4: RxChecksum::Bad, rss_hash: None };
    assert!(matches!(host.receive_with(&frame, bad), Ingress::Tcp(_)));
}

#[test]
fn malformed_segments_are_dropped() {
    let mut host = Host::new();
    for (flags, ports) in [(SYN | FIN, (1, 2)), (SYN | RST, (1, 2)), (SYN, (0, 2)), (ACK, (1, 0))] {
        let frame = Seg { flags, ports, ..Seg::default() }.frame();
        assert_eq!(host.dropped(&frame), DropReason::TcpMalformed);
    }
    for offset in [0x40, 0x60] {
        // A header shorter than 20 bytes; a header longer than the segment.
        let mut tcp = Seg::default().tcp();
        tcp[12] = offset;
        let frame = frame(&ipv4_packet("10.0.0.5", "10.0.0.1", 6, &tcp));
        assert_eq!(host.dropped(&frame), DropReason::TcpMalformed);
    }
    let short = frame(&ipv4_packet("10.0.0.5", "10.0.0.1", 6, &[0; 19]));
    assert_eq!(host.dropped(&short), DropReason::TcpMalformed);
}

fn reset(host: &mut Host, seg: &Seg<'_>) {
    let frame = seg.frame();
    let Ingress::Tcp(packet) = host.receive(&frame) else { panic!() };
    host.stack.reset(host.now, &packet, &mut host.wire, &mut host.counters);
}

#[test]
fn resets_have_the_numbers_of_rfc_9293() {
    for (src, dst) in [("10.0.0.5", "10.0.0.1"), ("fd00::5", "fd00::1")] {
        let mut host = Host::new();
        let base = Seg { src, dst, ..Seg::default() };
        // With ACK: the number the peer expects, no ACK of ours.
        reset(&mut host, &Seg { flags: ACK, ack: 0xdead_beef, payload: b"xyz", ..base });
        let with_ack = host.sent();
        // Without: zero, and everything the segment occupied acknowledged.
        reset(&mut host, &Seg { flags: SYN, payload: b"xyz", ..base });
        let without = host.sent();
        reset(&mut host, &Seg { flags: FIN, seq: u32::MAX, payload: b"xyz", ..base });
        let wrapped = host.sent();
        for (sent, seq, ack, flags) in [
            (with_ack, 0xdead_beef, 0, RST),
            (without, 0, 0x0102_0304 + 4, RST | ACK),
            (wrapped, 0, 3, RST | ACK),
        ] {
            assert_eq!(sent[..12], [THEIRS.0, OURS.0].concat());
            assert_valid(&sent[14..]);
            let (from, to, protocol, tcp) = parts(&sent[14..]);
            assert_eq!((from.as_str(), to.as_str(), protocol), (dst, src, 6));
            let word = |at: usize| u32::from_be_bytes(*tcp[at..].first_chunk().unwrap());
            assert_eq!(tcp[..4], [443u16.to_be_bytes(), 40_000u16.to_be_bytes()].concat());
            assert_eq!((word(4), word(8), tcp[13]), (seq, ack, flags));
        }
        assert_eq!(host.counters.resets_sent, 3);
    }
}

#[test]
fn a_reset_is_never_answered_and_resets_are_limited() {
    let mut host = Host::new();
    reset(&mut host, &Seg { flags: RST, ..Seg::default() });
    reset(&mut host, &Seg { flags: RST | ACK, ..Seg::default() });
    assert!(host.wire.frames.is_empty());
    for _ in 0..ERRORS_PER_SECOND + 5 {
        reset(&mut host, &Seg::default());
    }
    assert_eq!(host.counters.resets_sent, u64::from(ERRORS_PER_SECOND));
    assert_eq!(host.counters.drops(DropReason::RateLimited), 5);
}

#[test]
fn time_wait_acknowledges_a_fin_again() {
    let mut host = Host::new();
    let seg = Seg { flags: FIN | ACK, seq: 100, ack: 200, ..Seg::default() };
    let frame = seg.frame();
    let Ingress::Tcp(packet) = host.receive(&frame) else { panic!() };
    host.stack.acknowledge(host.now, &packet, &mut host.wire);
    let sent = host.sent();
    assert_valid(&sent[14..]);
    let (_, _, _, tcp) = parts(&sent[14..]);
    assert_eq!((&tcp[4..8], &tcp[8..12], tcp[13]), (&[0, 0, 0, 200][..], &[0, 0, 0, 101][..], ACK));
}
