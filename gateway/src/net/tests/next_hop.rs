//! Routes, neighbour states over time, announcements.

use super::*;
use crate::limits::{
    MAX_NEIGHBOURS, NEIGHBOUR_IDLE, NEIGHBOUR_REACHABLE, NEIGHBOUR_RETRY, NEIGHBOUR_STALE_CHECK,
    NEIGHBOUR_TRIES,
};
use crate::net::NeighbourId;

fn arp_reply(mac: MacAddr, from: &str) -> Vec<u8> {
    let mut p = vec![0, 1, 8, 0, 6, 4, 0, 2];
    p.extend(mac.0);
    p.extend(v4(from).octets());
    p.extend(OURS.0);
    p.extend(v4("10.0.0.1").octets());
    eth(OURS, mac, 0x0806, &p)
}

/// Whom an ARP request asks for.
fn asked(frame: &[u8]) -> (MacAddr, String) {
    assert_eq!(frame[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    let mac = MacAddr(*frame.first_chunk().unwrap());
    (mac, Ipv4Addr::from(*frame[38..].first_chunk::<4>().unwrap()).to_string())
}

/// A resolved neighbour.
fn resolved(host: &mut Host, who: &str) -> NeighbourId {
    let Resolve::Pending(id) = host.resolve(who) else { panic!() };
    host.receive(&arp_reply(THEIRS, who));
    host.wait(100);
    assert_eq!(host.events, [NeighbourEvent::Resolved(id)]);
    host.events.clear();
    id
}

#[test]
fn the_longest_prefix_names_the_next_hop() {
    let mut host = Host::new();
    for (dst, hop) in [
        ("10.0.0.5", "10.0.0.5"),
        ("192.0.2.1", "10.0.0.254"),
        ("10.7.1.2", "10.0.0.7"),
        ("::ffff:10.0.0.6", "10.0.0.6"),
    ] {
        assert!(matches!(host.resolve(dst), Resolve::Pending(_)));
        assert_eq!(asked(&host.sent()), (MacAddr::BROADCAST, hop.to_owned()), "{dst}");
    }
    for (dst, group) in [("fd00::77", "ff02::1:ff00:77"), ("2001:db8::1", "ff02::1:ff00:fe")] {
        assert!(matches!(host.resolve(dst), Resolve::Pending(_)));
        let sent = host.sent();
        assert_valid(&sent[14..]);
        assert_eq!(parts(&sent[14..]).1, group);
    }
    for dst in [
        "10.0.0.1",
        "10.0.9.9",
        "10.0.0.255",
        "255.255.255.255",
        "224.1.2.3",
        "0.0.0.0",
        "127.0.0.1",
        "::",
        "::1",
        "ff02::1",
        "fd00::1",
    ] {
        assert_eq!(host.resolve(dst), Resolve::NoRoute, "{dst}");
        assert_eq!(host.stack.source_for(ip(dst)), None, "{dst}");
    }
    assert_eq!(host.counters.drops(DropReason::NoRoute), 11);
}

#[test]
fn sources_fit_the_next_hop() {
    let host = Host::new();
    for (dst, source) in [
        ("10.0.0.5", "10.0.0.1"),
        ("8.8.8.8", "10.0.0.1"),
        ("fd00::9", "fd00::1"),
        ("fe80::9", "fe80::ff:fe00:1"),
    ] {
        assert_eq!(host.stack.source_for(ip(dst)), Some(ip(source)), "{dst}");
    }
}

/// The router is named by its link-local address (as RFC 4861 has it), yet what goes through it
/// must carry an address that can be answered from afar.
#[test]
fn a_link_local_router_does_not_make_a_link_local_source() {
    assert_eq!(Host::new().stack.source_for(ip("2001:db8::1")), Some(ip("fd00::1")));
}

#[test]
fn silence_fails_and_use_keeps_asking() {
    let mut host = Host::new();
    let Resolve::Pending(id) = host.resolve("10.0.0.5") else { panic!() };
    assert_eq!(host.resolve("10.0.0.5"), Resolve::Pending(id));
    host.sent();
    let again = host.wait(NEIGHBOUR_RETRY.as_millis() as u64 * u64::from(NEIGHBOUR_TRIES));
    assert_eq!(again.len(), usize::from(NEIGHBOUR_TRIES) - 1, "one question a second");
    assert_eq!(host.events, [NeighbourEvent::Failed(id)]);
    // Connections that go on sending get it asked for now and then.
    host.events.clear();
    assert_eq!(host.stack.mac_of(id), None);
    let later = host.wait(NEIGHBOUR_STALE_CHECK.as_millis() as u64);
    assert_eq!(later.iter().map(|f| asked(f).0).collect::<Vec<_>>(), [MacAddr::BROADCAST]);
    host.receive(&arp_reply(THEIRS, "10.0.0.5"));
    host.wait(100);
    assert_eq!(
        (&host.events[..], host.stack.mac_of(id)),
        (&[NeighbourEvent::Resolved(id)][..], Some(THEIRS))
    );
}

#[test]
fn a_failed_entry_nobody_uses_is_forgotten() {
    let mut host = Host::new();
    let Resolve::Pending(id) = host.resolve("10.0.0.5") else { panic!() };
    host.wait(60_000);
    assert_eq!((host.stack.mac_of(id), host.stack.next_deadline()), (None, None));
    let Resolve::Pending(new) = host.resolve("10.0.0.5") else { panic!() };
    assert_ne!(new, id, "the old id stays invalid");
    host.receive(&arp_reply(THEIRS, "10.0.0.5"));
    assert_eq!((host.stack.mac_of(id), host.stack.mac_of(new)), (None, Some(THEIRS)));
}

#[test]
fn a_failed_entry_is_asked_for_at_once_when_resolved_again() {
    let mut host = Host::new();
    let Resolve::Pending(id) = host.resolve("10.0.0.5") else { panic!() };
    host.wait(3_000);
    assert_eq!(host.events, [NeighbourEvent::Failed(id)]);
    assert_eq!(host.resolve("10.0.0.5"), Resolve::Pending(id));
    assert_eq!(asked(&host.sent()).1, "10.0.0.5");
}

#[test]
fn used_entries_are_probed_and_used_meanwhile() {
    let mut host = Host::new();
    let id = resolved(&mut host, "10.0.0.5");
    host.stack.mac_of(id);
    let reachable = NEIGHBOUR_REACHABLE.as_millis() as u64;
    assert!(host.wait(reachable - 200).is_empty());
    let probes = host.wait(300);
    assert_eq!(probes.iter().map(|f| asked(f)).collect::<Vec<_>>(), [(THEIRS, "10.0.0.5".into())]);
    assert_eq!(host.stack.mac_of(id), Some(THEIRS));
    host.receive(&arp_reply(THEIRS, "10.0.0.5"));
    assert!(host.wait(reachable - 200).is_empty(), "confirmed");
    // No answer this time: the last question goes to everybody, then it is given up.
    host.stack.mac_of(id);
    let probes = host.wait(5_000);
    let macs: Vec<_> = probes.iter().map(|f| asked(f).0).collect();
    assert_eq!(macs, [THEIRS, THEIRS, MacAddr::BROADCAST]);
    assert_eq!(
        (&host.events[..], host.stack.mac_of(id)),
        (&[NeighbourEvent::Failed(id)][..], None)
    );
}

#[test]
fn unused_entries_are_left_alone_and_then_forgotten() {
    let mut host = Host::new();
    let id = resolved(&mut host, "10.0.0.5");
    // Asking for the address counts as use, so the first period ends with a probe.
    assert_eq!(host.wait(NEIGHBOUR_REACHABLE.as_millis() as u64).len(), 0);
    assert!(host.wait(NEIGHBOUR_IDLE.as_millis() as u64 + 10_000).is_empty(), "silence");
    assert_eq!((host.stack.mac_of(id), host.stack.next_deadline()), (None, None));
    assert!(host.events.is_empty());
}

#[test]
fn stale_entries_are_probed_soon_after_use() {
    let mut host = Host::new();
    let id = resolved(&mut host, "10.0.0.5");
    host.wait(60_000);
    assert_eq!(host.stack.mac_of(id), Some(THEIRS));
    assert_eq!(host.wait(NEIGHBOUR_STALE_CHECK.as_millis() as u64 + 100).len(), 1);
    host.receive(&arp_reply(THEIRS, "10.0.0.5"));
    host.wait(60_000);
    // A new connection has it checked at once.
    assert_eq!(host.resolve("10.0.0.5"), Resolve::Ready(id));
    assert_eq!(asked(&host.sent()).0, THEIRS);
}

#[test]
fn a_syn_shows_the_way_back() {
    let mut host = Host::new();
    host.stack.observe(host.now, ip("10.0.0.5"), THEIRS);
    assert!(matches!(host.resolve("10.0.0.5"), Resolve::Ready(_)));
    // From afar it shows the router, and only if that is not known yet.
    host.stack.observe(host.now, ip("192.0.2.1"), THEIRS);
    host.stack.observe(host.now, ip("192.0.2.2"), OTHER);
    let Resolve::Ready(id) = host.resolve("198.51.100.1") else { panic!() };
    assert_eq!(host.stack.mac_of(id), Some(THEIRS));
    let Resolve::Pending(id) = host.resolve("10.0.0.6") else { panic!() };
    host.stack.observe(host.now, ip("10.0.0.6"), MacAddr::BROADCAST);
    assert_eq!(host.stack.mac_of(id), None);
    host.stack.observe(host.now, ip("10.0.0.6"), OTHER);
    assert_eq!(host.stack.mac_of(id), Some(OTHER));
    host.wait(100);
    assert_eq!(host.events, [NeighbourEvent::Resolved(id)]);
    // Never for ourselves.
    host.stack.observe(host.now, ip("10.0.0.1"), OTHER);
    assert_eq!(host.resolve("10.0.0.1"), Resolve::NoRoute);
}

#[test]
fn siblings_share_what_they_learn() {
    let mut host = Host::new();
    let Resolve::Pending(id) = host.resolve("10.0.0.5") else { panic!() };
    let mut events = Vec::new();
    host.stack.learn(host.now, ip("10.0.0.5"), THEIRS, &mut events);
    assert_eq!(
        (&events[..], host.stack.mac_of(id)),
        (&[NeighbourEvent::Resolved(id)][..], Some(THEIRS))
    );
    for (who, mac) in [("192.0.2.1", THEIRS), ("10.0.0.1", THEIRS), ("10.0.0.8", MacAddr::ZERO)] {
        host.stack.learn(host.now, ip(who), mac, &mut events);
    }
    assert!(matches!(host.resolve("10.0.0.8"), Resolve::Pending(_)));
    // The answer to our probe went to a sibling: the probing ends.
    host.wire.frames.clear();
    let probes = host.wait(NEIGHBOUR_STALE_CHECK.as_millis() as u64 + 100);
    assert!(probes.iter().any(|f| asked(f) == (THEIRS, "10.0.0.5".into())));
    host.stack.learn(host.now, ip("10.0.0.5"), THEIRS, &mut events);
    let quiet = host.wait(NEIGHBOUR_REACHABLE.as_millis() as u64 - 200);
    assert!(quiet.iter().all(|f| asked(f).1 != "10.0.0.5"));
}

#[test]
fn a_full_table_gives_up_the_unused_only() {
    let mut config = config();
    config.addresses.push("10.8.0.1/16".parse().unwrap());
    let mut host = Host::new();
    host.stack = PortStack::new(config).unwrap();
    let name = |n: usize| format!("10.8.{}.{}", n >> 8, n & 255);
    let fill: Vec<_> = (2..MAX_NEIGHBOURS + 2).map(name).collect();
    for who in &fill {
        assert!(matches!(host.resolve(who), Resolve::Pending(_)));
    }
    assert_eq!(host.resolve("10.8.200.1"), Resolve::TableFull, "all are waited for");
    assert_eq!(host.counters.drops(DropReason::NeighbourTableFull), 1);
    host.wire.frames.clear();
    let kept = fill[17].as_str();
    let mut kept_id = None;
    for who in &fill {
        host.receive(&arp_reply(THEIRS, who));
        let Resolve::Ready(id) = host.resolve(who) else { panic!() };
        kept_id = kept_id.or((who == kept).then_some(id));
    }
    host.wire.frames.clear();
    for n in 0..100 {
        // In use, and so found to be in use whenever somebody looks for room.
        assert_eq!(host.stack.mac_of(kept_id.unwrap()), Some(THEIRS), "{n}");
        host.resolve(&format!("10.8.200.{n}"));
    }
    assert!(host.counters.drops(DropReason::NeighbourTableFull) < 100);
    assert!(matches!(host.resolve(kept), Resolve::Ready(_)));
}

#[test]
fn own_addresses_are_announced_as_room_allows() {
    let mut host = Host::new();
    host.wire.full = true;
    host.stack.announce(&mut host.wire);
    assert!(host.stack.next_deadline().is_some_and(|d| d <= host.now));
    host.wire.full = false;
    let frames = host.wait(100);
    let (arp, ndp): (Vec<_>, Vec<_>) = frames.into_iter().partition(|f| f[12..14] == [8, 6]);
    let targets: Vec<_> = arp.iter().map(|f| asked(f)).collect();
    assert_eq!(targets, ["10.0.0.1", "10.0.9.9"].map(|ip| (MacAddr::BROADCAST, ip.to_owned())));
    // RFC 5227: sender and target are the announced address.
    assert!(arp.iter().all(|f| f[28..32] == f[38..42] && f[22..28] == OURS.0));
    let sources: Vec<_> = ndp.iter().map(|f| parts(&f[14..]).0).collect();
    assert_eq!(sources, ["fd00::1", "fd00:9::9", "fe80::ff:fe00:1"]);
    for frame in &ndp {
        assert_valid(&frame[14..]);
        assert_eq!((parts(&frame[14..]).1.as_str(), frame[14 + 44]), ("ff02::1", 0x20));
    }
    assert_eq!(host.stack.next_deadline(), None);
}
