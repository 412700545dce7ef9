//! RFC 826.

use super::*;

fn arp(op: u8, sha: MacAddr, spa: &str, tha: MacAddr, tpa: &str) -> Vec<u8> {
    let mut p = vec![0, 1, 8, 0, 6, 4, 0, op];
    p.extend(sha.0);
    p.extend(v4(spa).octets());
    p.extend(tha.0);
    p.extend(v4(tpa).octets());
    p
}

fn request(sha: MacAddr, spa: &str, tpa: &str) -> Vec<u8> {
    eth(MacAddr::BROADCAST, sha, 0x0806, &arp(1, sha, spa, MacAddr::ZERO, tpa))
}

fn reply(sha: MacAddr, spa: &str) -> Vec<u8> {
    eth(OURS, sha, 0x0806, &arp(2, sha, spa, OURS, "10.0.0.1"))
}

#[test]
fn our_addresses_and_vips_are_answered_and_the_asker_is_learnt() {
    let mut host = Host::new();
    for target in ["10.0.0.1", "10.0.9.9"] {
        let mut frame = request(THEIRS, "10.0.0.5", target);
        frame.extend([0; 18]);
        let Ingress::Neighbour { ip: who, mac } = host.receive(&frame) else { panic!() };
        assert_eq!((who, mac), (ip("10.0.0.5"), THEIRS));
        let expected = eth(THEIRS, OURS, 0x0806, &arp(2, OURS, target, THEIRS, "10.0.0.5"));
        assert_eq!(host.sent(), expected);
    }
    assert_eq!(host.counters.arp_replies, 2);
    let Resolve::Ready(id) = host.resolve("10.0.0.5") else { panic!() };
    assert_eq!(host.stack.mac_of(id), Some(THEIRS));
    assert_eq!(
        host.dropped_after_clear(&request(THEIRS, "10.0.0.9", "10.0.0.2")),
        DropReason::NotForUs
    );
    assert!(matches!(host.resolve("10.0.0.9"), Resolve::Pending(_)), "not learnt in passing");
}

impl Host {
    fn dropped_after_clear(&mut self, frame: &[u8]) -> DropReason {
        self.wire.frames.clear();
        self.dropped(frame)
    }
}

#[test]
fn probes_and_askers_from_elsewhere_are_answered_but_not_learnt() {
    let mut host = Host::new();
    // RFC 5227: the sender does not own an address yet.
    let probe = host.answer(&request(THEIRS, "0.0.0.0", "10.0.0.1"));
    assert_eq!(probe[14..], arp(2, OURS, "10.0.0.1", THEIRS, "0.0.0.0"));
    host.answer(&request(THEIRS, "192.0.2.9", "10.0.0.1"));
    host.answer(&request(THEIRS, "10.0.0.255", "10.0.0.1"));
    assert_eq!(host.stack.next_deadline(), None, "no entry was made");
}

#[test]
fn bogus_packets_teach_nothing() {
    let mut host = Host::new();
    let good = arp(2, THEIRS, "10.0.0.5", OURS, "10.0.0.1");
    let mut bad: Vec<Vec<u8>> = vec![good[..27].to_vec()];
    for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3), (6, 1)] {
        let mut p = good.clone();
        p[at] = value;
        bad.push(p);
    }
    bad.push(arp(2, MacAddr::ZERO, "10.0.0.5", OURS, "10.0.0.1"));
    bad.push(arp(2, MacAddr::BROADCAST, "10.0.0.5", OURS, "10.0.0.1"));
    bad.push(arp(2, GROUP_1, "10.0.0.5", OURS, "10.0.0.1"));
    for sender in ["224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0"] {
        bad.push(arp(2, THEIRS, sender, OURS, "10.0.0.1"));
    }
    for packet in bad {
        let frame = eth(OURS, THEIRS, 0x0806, &packet);
        assert_eq!(host.dropped(&frame), DropReason::ArpMalformed, "{packet:02x?}");
    }
    for ours in ["10.0.0.1", "10.0.9.9"] {
        assert_eq!(host.dropped(&request(THEIRS, ours, ours)), DropReason::AddressConflict);
        assert_eq!(host.dropped(&reply(THEIRS, ours)), DropReason::AddressConflict);
    }
    let looped = eth(OURS, THEIRS, 0x0806, &arp(2, OURS, "10.0.0.5", OURS, "10.0.0.1"));
    assert_eq!(host.dropped(&looped), DropReason::SourceMac);
    assert_eq!(host.dropped(&reply(THEIRS, "192.0.2.1")), DropReason::ArpIgnored);
    assert_eq!(host.stack.next_deadline(), None, "no entry was made");
}

#[test]
fn an_answer_resolves_and_reaches_siblings() {
    let mut host = Host::new();
    let Resolve::Pending(id) = host.resolve("10.0.0.5") else { panic!() };
    assert_eq!(host.sent(), request_from_us("10.0.0.5"));
    assert_eq!((host.stack.mac_of(id), host.stack.l2_header(id, false)), (None, None));
    assert!(matches!(host.receive(&reply(THEIRS, "10.0.0.5")), Ingress::Neighbour { .. }));
    assert!(host.stack.next_deadline().is_some_and(|d| d <= host.now));
    host.wait(100);
    assert_eq!(host.events, [NeighbourEvent::Resolved(id)]);
    assert_eq!(host.stack.l2_header(id, false).unwrap()[..], eth(THEIRS, OURS, 0x0800, &[]));

    // Another worker asked, the answer came here by RSS: kept all the same.
    assert!(matches!(host.receive(&reply(OTHER, "10.0.0.6")), Ingress::Neighbour { .. }));
    assert!(matches!(host.resolve("10.0.0.6"), Resolve::Ready(_)));
}

fn request_from_us(target: &str) -> Vec<u8> {
    eth(MacAddr::BROADCAST, OURS, 0x0806, &arp(1, OURS, "10.0.0.1", MacAddr::ZERO, target))
}

#[test]
fn a_known_neighbour_may_announce_a_new_mac() {
    let mut host = Host::new();
    host.receive(&reply(THEIRS, "10.0.0.254"));
    let Resolve::Ready(id) = host.resolve("192.0.2.1") else { panic!() };
    let gratuitous = request(OTHER, "10.0.0.254", "10.0.0.254");
    assert!(matches!(host.receive(&gratuitous), Ingress::Neighbour { .. }));
    assert_eq!(host.stack.mac_of(id), Some(OTHER));
    assert!(host.wire.frames.is_empty(), "an announcement is not answered");
    let stranger = request(OTHER, "10.0.0.77", "10.0.0.77");
    assert_eq!(host.dropped(&stranger), DropReason::NotForUs);
}
