//! RFC 4861.

use super::*;

const OPTION: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 0x42];

fn solicitation(src: &str, dst: &str, target: &str, options: &[u8]) -> Vec<u8> {
    let body = [&v6(target).octets()[..], options].concat();
    icmpv6(src, dst, 255, [135, 0, 0, 0, 0, 0, 0, 0], &body)
}

fn advertisement(dst: &str, target: &str, flags: u8, mac: Option<MacAddr>) -> Vec<u8> {
    let mut body = v6(target).octets().to_vec();
    if let Some(mac) = mac {
        body.extend([2, 1]);
        body.extend(mac.0);
    }
    frame(&icmpv6(target, dst, 255, [136, 0, 0, 0, flags, 0, 0, 0], &body))
}

fn to(dst: MacAddr, packet: &[u8]) -> Vec<u8> {
    eth(dst, THEIRS, 0x86dd, packet)
}

const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Flags, target and target MAC of an advertisement of ours; checks everything else.
#[track_caller]
fn assert_advertisement(sent: &[u8], dst_mac: MacAddr, dst: &str, target: &str, flags: u8) {
    assert_eq!(sent[..14], eth(dst_mac, OURS, 0x86dd, &[]));
    let packet = &sent[14..];
    assert_valid(packet);
    let (from, to, protocol, message) = parts(packet);
    assert_eq!((from.as_str(), to.as_str(), protocol, packet[7]), (target, dst, 58, 255));
    assert_eq!(message[..2], [136, 0]);
    assert_eq!(message[4..8], [flags, 0, 0, 0]);
    assert_eq!(message[8..24], v6(target).octets());
    assert_eq!(message[24..], [2, 1, 2, 0, 0, 0, 0, 1]);
}

#[test]
fn our_addresses_vips_and_link_local_are_answered() {
    let mut host = Host::new();
    let (group_9, group_mac_9) = ("ff02::1:ff00:9", MacAddr([0x33, 0x33, 0xff, 0, 0, 9]));
    for (dst, mac, target) in [
        ("ff02::1:ff00:1", GROUP_1, "fd00::1"),
        (group_9, group_mac_9, "fd00:9::9"),
        ("ff02::1:ff00:1", GROUP_1, "fe80::ff:fe00:1"),
        // Unicast, as when it is checked that we are still there.
        ("fd00::1", OURS, "fd00::1"),
    ] {
        let packet = solicitation("fd00::5", dst, target, &OPTION);
        let frame = to(mac, &packet);
        let Ingress::Neighbour { ip: who, mac } = host.receive(&frame) else { panic!("{target}") };
        assert_eq!((who, mac), (ip("fd00::5"), THEIRS));
        assert_advertisement(&host.sent(), THEIRS, "fd00::5", target, SOLICITED | OVERRIDE);
    }
    assert_eq!(host.counters.ndp_replies, 4);
    assert!(matches!(host.resolve("fd00::5"), Resolve::Ready(_)));
    host.wire.frames.clear();
    // Without the option the answer goes where the frame came from, and nothing is learnt.
    let bare = host.answer(&to(OURS, &solicitation("fd00::6", "fd00::1", "fd00::1", &[])));
    assert_advertisement(&bare, THEIRS, "fd00::6", "fd00::1", SOLICITED | OVERRIDE);
    assert!(matches!(host.resolve("fd00::6"), Resolve::Pending(_)));
}

#[test]
fn duplicate_address_detection_is_answered_to_all_nodes() {
    let mut host = Host::new();
    let packet = solicitation("::", "ff02::1:ff00:1", "fd00::1", &[]);
    let sent = host.answer(&to(GROUP_1, &packet));
    assert_advertisement(&sent, ALL_NODES_MAC, "ff02::1", "fd00::1", OVERRIDE);
    // With a link-layer address, or to a unicast address, it is not valid (section 7.1.1).
    let with_option = solicitation("::", "ff02::1:ff00:1", "fd00::1", &OPTION);
    assert_eq!(host.dropped(&to(GROUP_1, &with_option)), DropReason::NdpMalformed);
    let unicast = solicitation("::", "fd00::1", "fd00::1", &[]);
    assert_eq!(host.dropped(&to(OURS, &unicast)), DropReason::NdpMalformed);
}

#[test]
fn invalid_messages_are_dropped() {
    let mut host = Host::new();
    let target = v6("fd00::1").octets();
    let make = |hop_limit, head, body: &[u8]| {
        to(OURS, &icmpv6("fd00::5", "fd00::1", hop_limit, head, body))
    };
    const NS: [u8; 8] = [135, 0, 0, 0, 0, 0, 0, 0];
    const NA: [u8; 8] = [136, 0, 0, 0, 0, 0, 0, 0];
    for (frame, why) in [
        (make(254, NS, &target), "came through a router"),
        (make(255, [135, 1, 0, 0, 0, 0, 0, 0], &target), "code"),
        (make(255, NS, &target[..15]), "short"),
        (make(255, NS, &v6("ff02::1").octets()), "group as target"),
        (make(255, NS, &[&target[..], &[1, 0, 0, 0, 0, 0, 0, 0]].concat()), "option of length 0"),
        (make(255, NS, &[&target[..], &[1, 2, 0, 0, 0, 0, 0, 0]].concat()), "option cut off"),
        (make(255, NS, &[&target[..], &[1]].concat()), "half an option"),
        (make(255, NS, &[&target[..], &[1, 1, 1, 0, 0, 0, 0, 1]].concat()), "group as source"),
        (make(255, NA, &[&target[..], &[2, 1, 0, 0, 0, 0, 0, 0]].concat()), "zero as target MAC"),
    ] {
        assert_eq!(host.dropped(&frame), DropReason::NdpMalformed, "{why}");
    }
    let solicited = icmpv6("fd00::5", "ff02::1", 255, [136, 0, 0, 0, 0x40, 0, 0, 0], &target);
    assert_eq!(host.dropped(&to(ALL_NODES_MAC, &solicited)), DropReason::NdpMalformed);
    let mut sum = make(255, NS, &target);
    sum[14 + 42] ^= 1;
    assert_eq!(host.dropped(&sum), DropReason::IcmpMalformed);
    let looped = [&target[..], &[1, 1, 2, 0, 0, 0, 0, 1]].concat();
    assert_eq!(host.dropped(&make(255, NS, &looped)), DropReason::SourceMac);
    let other = solicitation("fd00::5", "ff02::1:ff00:1", "fd00:77::1", &OPTION);
    assert_eq!(host.dropped(&to(GROUP_1, &other)), DropReason::NotForUs);
}

#[test]
fn routers_do_not_configure_us() {
    let mut host = Host::new();
    for kind in [133, 134, 137] {
        let packet = icmpv6("fe80::fe", "ff02::1", 255, [kind, 0, 0, 0, 64, 0, 0, 0], &[0; 32]);
        assert_eq!(host.dropped(&to(ALL_NODES_MAC, &packet)), DropReason::NdpIgnored);
    }
}

#[test]
fn conflicts_are_counted() {
    let mut host = Host::new();
    let claimed = advertisement("ff02::1", "fd00::1", OVERRIDE, Some(OTHER));
    assert_eq!(host.dropped(&claimed), DropReason::AddressConflict);
    let target = v6("fd00:9::9").octets();
    let about = icmpv6("fd00::5", "fd00::1", 255, [136, 0, 0, 0, 0x40, 0, 0, 0], &target);
    assert_eq!(host.dropped(&frame(&about)), DropReason::AddressConflict);
    let asks = solicitation("fd00::1", "ff02::1:ff00:5", "fd00::5", &OPTION);
    assert_eq!(host.dropped(&frame(&asks)), DropReason::AddressConflict);
}

/// RFC 4861, section 7.2.5, case by case.
#[test]
fn advertisements_change_the_cache_as_the_rfc_says() {
    let mut host = Host::new();
    let Resolve::Pending(id) = host.resolve("fd00::5") else { panic!() };
    let asked = host.sent();
    assert_valid(&asked[14..]);
    assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0, 0, 5]);
    assert_eq!(parts(&asked[14..]).1, "ff02::1:ff00:5");
    // Incomplete, without an address: useless.
    let bare = advertisement("fd00::1", "fd00::5", SOLICITED, None);
    assert_eq!(host.dropped(&bare), DropReason::NdpIgnored);
    let first = advertisement("fd00::1", "fd00::5", SOLICITED, Some(THEIRS));
    assert!(matches!(host.receive(&first), Ingress::Neighbour { .. }));
    assert_eq!(host.stack.mac_of(id), Some(THEIRS));
    // Reachable, no override, other address: not taken, but doubted.
    let other = advertisement("fd00::1", "fd00::5", SOLICITED, Some(OTHER));
    assert_eq!(host.dropped(&other), DropReason::NdpIgnored);
    assert_eq!(host.stack.mac_of(id), Some(THEIRS));
    assert!(matches!(host.resolve("fd00::5"), Resolve::Ready(_)));
    let probe = host.sent();
    assert_eq!((&probe[..6], parts(&probe[14..]).1.as_str()), (&THEIRS.0[..], "fd00::5"));
    // Override: taken.
    let moved = advertisement("ff02::1", "fd00::5", OVERRIDE, Some(OTHER));
    let Ingress::Neighbour { mac, .. } = host.receive(&moved) else { panic!() };
    assert_eq!((mac, host.stack.mac_of(id)), (OTHER, Some(OTHER)));
    // The same again, unsolicited: no news.
    assert_eq!(host.dropped(&moved), DropReason::NdpIgnored);
    // Not asked for, unknown: nobody cares; off-link: never.
    let unasked = advertisement("ff02::1", "fd00::9", OVERRIDE, Some(OTHER));
    assert_eq!(host.dropped(&unasked), DropReason::NdpIgnored);
    let remote = advertisement("fd00::1", "fd00:77::9", SOLICITED, Some(OTHER));
    assert_eq!(host.dropped(&remote), DropReason::NdpIgnored);
}
