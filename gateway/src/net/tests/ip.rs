//! What is refused before its transport header is looked at.

use super::*;
use crate::limits::{MAX_IP_PACKET, MAX_IPV6_EXTENSIONS};
use crate::port::RxChecksum;

#[test]
fn link_layer_rules() {
    let mut host = Host::new();
    let packet = Seg::default().packet();
    assert_eq!(host.dropped(&[0; 13]), DropReason::FrameTooShort);
    assert_eq!(host.dropped(&frame(&vec![0x45; MAX_IP_PACKET + 1])), DropReason::FrameTooLong);
    for tag in [0x8100, 0x88a8, 0x9100] {
        assert_eq!(host.dropped(&eth(OURS, THEIRS, tag, &packet)), DropReason::VlanTagged);
    }
    // A length instead of a type (802.3), and LLDP.
    for other in [0x0026, 0x88cc] {
        assert_eq!(host.dropped(&eth(OURS, THEIRS, other, &packet)), DropReason::EtherType);
    }
    for src in [OURS, MacAddr::BROADCAST, MacAddr::ZERO, GROUP_1] {
        assert_eq!(host.dropped(&eth(OURS, src, 0x0800, &packet)), DropReason::SourceMac);
    }
    // IPv4 unicast in a link-layer broadcast (RFC 1122, 3.3.6); groups we are not in.
    for dst in [OTHER, MacAddr::BROADCAST, ALL_NODES_MAC, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
        assert_eq!(host.dropped(&eth(dst, THEIRS, 0x0800, &packet)), DropReason::NotForUs);
    }
    let v6 = Seg { src: "fd00::5", dst: "fd00::1", ..Seg::default() }.packet();
    for dst in [GROUP_1, ALL_NODES_MAC, MacAddr([0x33, 0x33, 0xff, 0, 0, 2])] {
        assert_eq!(host.dropped(&eth(dst, THEIRS, 0x86dd, &v6)), DropReason::NotForUs);
    }
}

#[test]
fn ipv4_header_rules() {
    let mut host = Host::new();
    let good = Seg::default().packet();
    let mut bad = good.clone();
    bad[10] ^= 0x40;
    assert_eq!(host.dropped(&frame(&bad)), DropReason::IpChecksum);
    let verified = RxMeta { ip: RxChecksum::Good, ..RxMeta::default() };
    assert!(matches!(host.receive_with(&frame(&bad), verified), Ingress::Tcp(_)));

    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut p = good.clone();
        change(&mut p);
        fix_ipv4(&mut p);
        p
    };
    for (packet, reason) in [
        (vec![], DropReason::IpMalformed),
        (good[..19].to_vec(), DropReason::IpMalformed),
        (good[..39].to_vec(), DropReason::IpMalformed),
        (changed(&|p| p[0] = 0x44), DropReason::IpMalformed),
        (changed(&|p| p[0] = 0x4f), DropReason::IpMalformed),
        (changed(&|p| put(p, 2, 19)), DropReason::IpMalformed),
        (changed(&|p| put(p, 2, 41)), DropReason::IpMalformed),
        (changed(&|p| put(p, 6, 0x2000)), DropReason::IpFragment),
        (changed(&|p| put(p, 6, 1)), DropReason::IpFragment),
    ] {
        assert_eq!(host.dropped(&eth(OURS, THEIRS, 0x0800, &packet)), reason, "{packet:02x?}");
    }
    assert_eq!(host.dropped(&eth(OURS, THEIRS, 0x86dd, &good)), DropReason::IpVersion);
    assert_eq!(host.dropped(&eth(OURS, THEIRS, 0x0800, &[0x60; 60])), DropReason::IpVersion);
}

#[test]
fn ipv4_options_are_tolerated() {
    let tcp = Seg::default().tcp();
    let plain = ipv4_packet("10.0.0.5", "10.0.0.1", 6, &tcp);
    let mut packet = [&plain[..20], &[1, 1, 1, 0], &tcp].concat();
    packet[0] = 0x46;
    let len = packet.len() as u16;
    put(&mut packet, 2, len);
    fix_ipv4(&mut packet);
    let frame = frame(&packet);
    let Ingress::Tcp(tcp) = Host::new().receive(&frame) else { panic!() };
    assert_eq!((tcp.ip, tcp.key.remote_port), (&packet[..], 40_000));
}

#[test]
fn impossible_sources_and_foreign_destinations() {
    let mut host = Host::new();
    for src in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "10.0.0.255",
        "10.0.0.1",
        "10.0.9.9",
    ] {
        let frame = Seg { src, ..Seg::default() }.frame();
        assert_eq!(host.dropped(&frame), DropReason::IpAddress, "{src}");
    }
    let link_local = "fe80::ff:fe00:1";
    for src in ["::", "::1", "ff02::1", "fd00::1", "fd00:9::9", link_local, "::ffff:10.0.0.5"] {
        let frame = Seg { src, dst: "fd00::1", ..Seg::default() }.frame();
        assert_eq!(host.dropped(&frame), DropReason::IpAddress, "{src}");
    }
    for dst in ["10.0.0.2", "10.0.0.255", "255.255.255.255", "224.0.0.1"] {
        let frame = Seg { dst, ..Seg::default() }.frame();
        assert_eq!(host.dropped(&frame), DropReason::NotForUs, "{dst}");
    }
    for dst in ["fd00::2", "fe80::2", "ff02::1", "ff02::1:ff00:1"] {
        let frame = Seg { src: "fd00::5", dst, ..Seg::default() }.frame();
        assert_eq!(host.dropped(&frame), DropReason::NotForUs, "{dst}");
    }
    let ours = Seg { src: "fe80::5", dst: link_local, ..Seg::default() }.frame();
    assert!(matches!(host.receive(&ours), Ingress::Tcp(_)), "link-local of the MAC is ours");
}

/// In the tables an IPv4 address is a mapped IPv6 address: without this, an IPv6 packet could
/// speak for an IPv4 connection.
#[test]
fn mapped_addresses_do_not_reach_ipv4_flows() {
    let mut host = Host::new();
    let mapped = Seg { src: "fd00::5", dst: "::ffff:10.0.0.1", ..Seg::default() }.frame();
    assert_eq!(host.dropped(&mapped), DropReason::IpAddress);
}

/// Headers: type, and the bytes behind the first two (next header, length).
type Chain<'a> = &'a [(u8, &'a [u8])];

fn with_extensions(chain: Chain<'_>) -> Vec<u8> {
    let seg = Seg { src: "fd00::5", dst: "fd00::1", ..Seg::default() };
    let mut payload = Vec::new();
    for (n, (_, body)) in chain.iter().enumerate() {
        let next = chain.get(n + 1).map_or(6, |(kind, _)| *kind);
        assert_eq!((body.len() + 2) % 8, 0);
        payload.extend([next, ((body.len() + 2) / 8 - 1) as u8]);
        payload.extend(*body);
    }
    payload.extend(seg.tcp());
    frame(&ipv6_packet(seg.src, seg.dst, chain.first().map_or(6, |(k, _)| *k), 64, &payload))
}

#[test]
fn ipv6_extension_headers() {
    const PAD: &[u8] = &[1, 4, 0, 0, 0, 0];
    let mut host = Host::new();
    // Hop-by-hop with a router alert, destination options padded in different ways.
    let fine: [Chain<'_>; 4] = [
        &[(0, PAD)],
        &[(60, &[0; 6])],
        &[(0, &[5, 2, 0, 0, 0, 0]), (60, PAD)],
        &[(60, &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    ];
    for chain in fine {
        let frame = with_extensions(chain);
        let Ingress::Tcp(packet) = host.receive(&frame) else { panic!("{chain:?}") };
        assert_eq!(packet.key.local_port, 443);
    }
    let many = vec![(60, PAD); MAX_IPV6_EXTENSIONS];
    assert!(matches!(host.receive(&with_extensions(&many)), Ingress::Tcp(_)));
    let too_many = vec![(60, PAD); MAX_IPV6_EXTENSIONS + 1];
    assert_eq!(host.dropped(&with_extensions(&too_many)), DropReason::IpExtension);

    let refused: [(Chain<'_>, DropReason); 7] = [
        (&[(43, PAD)], DropReason::IpExtension),
        (&[(44, PAD)], DropReason::IpFragment),
        (&[(60, PAD), (0, PAD)], DropReason::IpExtension),
        (&[(59, PAD)], DropReason::IpProtocol),
        // An unknown option that asks for the packet to be discarded (action bits 01).
        (&[(60, &[0x5e, 4, 0, 0, 0, 0])], DropReason::IpExtension),
        // An option longer than its header; one without a length.
        (&[(60, &[1, 5, 0, 0, 0, 0])], DropReason::IpMalformed),
        (&[(60, &[0, 0, 0, 0, 0, 1])], DropReason::IpMalformed),
    ];
    for (chain, reason) in refused {
        assert_eq!(host.dropped(&with_extensions(chain)), reason, "{chain:?}");
    }
    let mut long = with_extensions(&[(60, PAD)]);
    long[14 + 41] = 200;
    assert_eq!(host.dropped(&long), DropReason::IpMalformed);
    let cut = frame(&ipv6_packet("fd00::5", "fd00::1", 60, 64, &[6]));
    assert_eq!(host.dropped(&cut), DropReason::IpMalformed);
}

#[test]
fn ipv6_payload_length_must_fit() {
    let mut host = Host::new();
    let mut frame = Seg { src: "fd00::5", dst: "fd00::1", ..Seg::default() }.frame();
    put(&mut frame, 14 + 4, 21);
    assert_eq!(host.dropped(&frame), DropReason::IpMalformed);
    assert_eq!(host.dropped(&frame[..14 + 39]), DropReason::IpMalformed);
}
