//! Whatever arrives: no panic, and every frame is accounted for exactly once.

use proptest::prelude::*;

use super::*;

/// Frames of every kind the stack understands.
fn corpus() -> Vec<Vec<u8>> {
    let quote = Seg { src: "10.0.0.1", dst: "192.0.2.9", ..Seg::default() }.packet();
    let quote6 = Seg { src: "fd00::1", dst: "fd00:5::9", ..Seg::default() }.packet();
    let target = v6("fd00::1").octets();
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend([2, 0, 0, 0, 0, 0x42, 10, 0, 0, 5, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    let mut arp_reply = arp.clone();
    arp_reply[7] = 2;
    let option = [&target[..], &[1, 1, 2, 0, 0, 0, 0, 0x42]].concat();
    let about = [&v6("fd00::5").octets()[..], &[2, 1, 2, 0, 0, 0, 0, 0x42]].concat();
    let extended = [
        &[6, 0, 1, 4, 0, 0, 0, 0][..],
        &Seg { src: "fd00::5", dst: "fd00::1", ..Seg::default() }.tcp(),
    ]
    .concat();
    vec![
        Seg { payload: b"hello", ..Seg::default() }.frame(),
        Seg { src: "fd00::5", dst: "fd00::1", payload: b"hello", ..Seg::default() }.frame(),
        frame(&ipv6_packet("fd00::5", "fd00::1", 60, 64, &extended)),
        frame(&icmpv4("10.0.0.5", "10.0.0.1", [8, 0, 0, 0, 0, 1, 0, 2], b"ping")),
        frame(&icmpv6("fd00::5", "fd00::1", 64, [128, 0, 0, 0, 0, 1, 0, 2], b"ping")),
        frame(&icmpv4("192.0.2.1", "10.0.0.1", [3, 4, 0, 0, 0, 0, 5, 0x14], &quote)),
        frame(&icmpv6("fd00:7::1", "fd00::1", 64, [2, 0, 0, 0, 0, 0, 5, 0x14], &quote6)),
        frame(&icmpv6("fd00::5", "fd00::1", 255, [135, 0, 0, 0, 0, 0, 0, 0], &option)),
        frame(&icmpv6("fd00::5", "fd00::1", 255, [136, 0, 0, 0, 0x60, 0, 0, 0], &about)),
        frame(&ipv4_packet("10.0.0.5", "10.0.0.1", 17, &[1, 2, 3, 4, 0, 8, 0, 0])),
        frame(&ipv6_packet("fd00::5", "fd00::1", 17, 64, &[1, 2, 3, 4, 0, 8, 0, 0])),
        eth(MacAddr::BROADCAST, THEIRS, 0x0806, &arp),
        eth(OURS, THEIRS, 0x0806, &arp_reply),
    ]
}

/// Gives `frame` to a fresh host and to one whose device vouches for every checksum, so that
/// mutations also get behind the checks.
fn account(frame: &[u8]) -> Result<(), TestCaseError> {
    use crate::port::RxChecksum::Good;
    for meta in [RxMeta::default(), RxMeta { ip: Good, l4: Good, rss_hash: None }] {
        let mut host = Host::new();
        let ingress = host.receive_with(frame, meta);
        let drops: u64 = host.counters.all_drops().map(|(_, n)| n).sum();
        let c = &host.counters;
        let answers = c.arp_replies + c.ndp_replies + c.icmp_replies;
        prop_assert_eq!(answers, host.wire.frames.len() as u64);
        let handed_on = match &ingress {
            Ingress::Consumed => 0,
            // Learning may come with an answer, and counts as the same outcome.
            Ingress::Neighbour { mac, .. } => {
                prop_assert!(mac.is_unicast());
                u64::from(answers == 0)
            }
            Ingress::Tcp(packet) => {
                prop_assert!(packet.payload_len < packet.ip.len());
                let at = packet.ip.as_ptr() as usize - frame.as_ptr() as usize;
                prop_assert!(at == 14 && packet.ip.len() <= frame.len() - 14);
                prop_assert!(host.stack.is_local(packet.key.local.into()));
                // Our answer to it must not trip over it either.
                let mut wire = Wire::default();
                host.stack.reset(host.now, packet, &mut wire, &mut Counters::default());
                prop_assert_eq!(wire.frames.is_empty(), packet.flags.rst);
                1
            }
            Ingress::PathMtu { key, mtu, .. } => {
                prop_assert!((552..1500).contains(mtu));
                prop_assert!(host.stack.is_local(key.local.into()));
                1
            }
            Ingress::Unreachable { key, .. } => {
                prop_assert!(host.stack.is_local(key.local.into()));
                1
            }
        };
        prop_assert_eq!(drops + answers + handed_on, 1, "{:?} {:?}", ingress, host.counters);
        for sent in &host.wire.frames {
            prop_assert_eq!(&sent[6..12], &OURS.0);
            prop_assert_eq!(sent[0] & 1 == 1, sent[..6] == ALL_NODES_MAC.0, "to one host");
            if sent[12..14] != [8, 6] {
                assert_valid(&sent[14..]);
            }
        }
    }
    Ok(())
}

#[test]
fn the_corpus_is_understood() {
    for frame in corpus() {
        account(&frame).unwrap();
        let mut host = Host::new();
        host.receive(&frame);
        assert_eq!(host.counters.all_drops().count(), 0, "{frame:02x?}");
    }
}

#[test]
fn every_truncation_is_accounted_for() {
    for frame in corpus() {
        for len in 0..frame.len() {
            account(&frame[..len]).unwrap();
        }
    }
}

#[test]
fn every_changed_byte_is_accounted_for() {
    for frame in corpus() {
        for at in 0..frame.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, frame[at] ^ 1, frame[at].wrapping_add(1)] {
                let mut frame = frame.clone();
                frame[at] = value;
                account(&frame).unwrap();
            }
        }
    }
}

/// Makes IPv4 and ICMP checksums right again, so that a mutation is looked at further in.
fn repair(frame: &mut [u8]) {
    if frame.len() < 34 {
        return;
    }
    let (ether_type, packet) = ([frame[12], frame[13]], &mut frame[14..]);
    if ether_type == [8, 0] {
        let header = usize::from(packet[0] & 15) * 4;
        fix_ipv4(packet);
        if packet[9] == 1 && packet.len() >= header + 4 && header >= 20 {
            put(packet, header + 2, 0);
            let check = !sum(&[&packet[header..]]);
            put(packet, header + 2, check);
        }
    } else if ether_type == [0x86, 0xdd] && packet.len() >= 44 && packet[6] == 58 {
        let (src, dst, _, message) = parts(packet);
        let mut message = message.to_vec();
        put(&mut message, 2, 0);
        let check = !sum(&[&pseudo(&src, &dst, 58, message.len()), &message]);
        put(packet, 42, check);
    }
}

proptest! {
    #[test]
    fn noise(mut frame in prop::collection::vec(any::<u8>(), 0..200), to_us: bool, kind in 0..4usize) {
        if to_us && frame.len() >= 14 {
            frame[..6].copy_from_slice(&OURS.0);
            frame[6..12].copy_from_slice(&THEIRS.0);
            let kinds = [[8, 0], [8, 6], [0x86, 0xdd], [0x81, 0]];
            frame[12..14].copy_from_slice(&kinds[kind]);
        }
        account(&frame)?;
    }

    #[test]
    fn mutations(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        tail in prop::collection::vec(any::<u8>(), 0..40),
        repaired: bool,
    ) {
        let corpus = corpus();
        let mut frame = corpus[which.index(corpus.len())].clone();
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        frame.extend(tail);
        if repaired {
            repair(&mut frame);
        }
        account(&frame)?;
    }

    #[test]
    fn a_sequence_of_anything_keeps_the_caches_sane(
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..40_000u64), 1..60),
    ) {
        let corpus = corpus();
        let mut host = Host::new();
        for (which, value, millis) in steps {
            let mut frame = corpus[which.index(corpus.len())].clone();
            let at = frame.len() - 1 - usize::from(value) % 10;
            frame[at] = value;
            repair(&mut frame);
            host.receive(&frame);
            if let Resolve::Ready(id) | Resolve::Pending(id) =
                host.resolve(&format!("10.0.0.{value}"))
                && let Some(mac) = host.stack.mac_of(id)
            {
                prop_assert!(mac.is_unicast());
            }
            host.now += crate::time::Duration::from_millis(millis);
            host.stack.poll(host.now, &mut host.wire, &mut host.events);
            let next = host.stack.next_deadline();
            prop_assert!(next.is_none_or(|d| d > host.now), "poll leaves nothing due");
        }
    }
}
