//! Whatever bytes come: no panic, and no data that was not sent.

use proptest::prelude::*;

use super::*;

/// What the network or an attacker does to a stream.
#[derive(Clone, Debug)]
enum Damage {
    Flip {
        at: prop::sample::Index,
        mask: u8,
    },
    Cut(prop::sample::Index),
    Insert {
        at: prop::sample::Index,
        bytes: Vec<u8>,
    },
    Remove {
        at: prop::sample::Index,
        len: usize,
    },
    /// Two records change places.
    Swap(prop::sample::Index, prop::sample::Index),
    Repeat(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), 1u8..).prop_map(|(at, mask)| Damage::Flip { at, mask }),
        index().prop_map(Damage::Cut),
        (index(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        (index(), 1usize..60).prop_map(|(at, len)| Damage::Remove { at, len }),
        (index(), index()).prop_map(|(a, b)| Damage::Swap(a, b)),
        index().prop_map(Damage::Repeat),
    ]
}

fn inflict(damage: &Damage, records: &[Vec<u8>]) -> Vec<u8> {
    let mut records = records.to_vec();
    match damage {
        Damage::Swap(a, b) => {
            let (a, b) = (a.index(records.len()), b.index(records.len()));
            records.swap(a, b);
        }
        Damage::Repeat(at) => {
            let at = at.index(records.len());
            records.insert(at, records[at].clone());
        }
        _ => {}
    }
    let mut stream = records.concat();
    match damage {
        Damage::Flip { at, mask } => {
            let at = at.index(stream.len());
            stream[at] ^= mask;
        }
        Damage::Cut(at) => stream.truncate(at.index(stream.len())),
        Damage::Insert { at, bytes } => {
            let at = at.index(stream.len());
            stream.splice(at..at, bytes.iter().copied());
        }
        Damage::Remove { at, len } => {
            let at = at.index(stream.len());
            stream.drain(at..(at + len).min(stream.len()));
        }
        Damage::Swap(..) | Damage::Repeat(_) => {}
    }
    stream
}

thread_local! {
    static GATEWAYS: (Arc<Identity>, Arc<Identity>) = gateways();
}

fn pair() -> (Ours, Ours) {
    let (client, server) = GATEWAYS.with(|(west, east)| both_ours(west, east));
    let (mut client, server) = (Ours::new(client), Ours::new(server));
    client.feed(&[]).unwrap();
    (client, server)
}

/// Feeds `stream` in pieces; what was received until the end or the first error.
fn receive(to: &mut Ours, stream: &[u8], piece: usize) -> Vec<u8> {
    for chunk in stream.chunks(piece) {
        if to.feed(chunk).is_err() {
            // Must have been brought to an end.
            assert!(to.feed(&[23, 3, 3, 0, 17]).is_err());
            let mut alert = [0; CONTROL_RECORDS_MAX];
            let _len = to.records.write_pending(&mut to.keys, &mut alert).unwrap();
            assert!(!to.records.pending());
            break;
        }
    }
    to.take_received()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn damaged_streams_give_a_prefix(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..80), 1..12),
        update_after in 1u64..10,
        damage in damage(),
        piece in 1usize..100,
        downwards in any::<bool>(),
    ) {
        let (client, server) = pair();
        let (mut from, mut to) = if downwards { (server, client) } else { (client, server) };
        from.records.set_key_update_after(update_after);
        let mut records = Vec::new();
        for payload in &payloads {
            from.send(payload);
            records.push(from.take_output());
        }
        from.records.close();
        records.push(from.take_output());
        let sent = payloads.concat();
        let stream = inflict(&damage, &records);
        let received = receive(&mut to, &stream, piece);
        prop_assert!(sent.starts_with(&received));
        if stream == records.concat() {
            prop_assert_eq!(received, sent);
            prop_assert!(to.closed);
        } else if to.closed {
            // Only what follows close_notify was touched.
            prop_assert_eq!(received, sent);
        }
    }

    #[test]
    fn noise_gives_nothing(
        noise in prop::collection::vec(any::<u8>(), 0..400),
        framed in any::<bool>(),
        piece in 1usize..100,
    ) {
        let (_, mut server) = pair();
        let mut stream = noise;
        if framed {
            let len = (stream.len() as u16).to_be_bytes();
            stream.splice(0..0, [23, 3, 3, len[0], len[1]]);
        }
        prop_assert!(receive(&mut server, &stream, piece).is_empty());
    }

    /// An authenticated peer that says nonsense.
    #[test]
    fn nonsense_within_records_gives_only_data(
        records in prop::collection::vec(
            (prop_oneof![0u8..30, Just(22u8), Just(22u8), Just(21u8), Just(23u8)],
             prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                prop::collection::vec(0u8..30, 0..8),
                Just(vec![24, 0, 0, 1, 1]),
             ]),
            1..20),
        downwards in any::<bool>(),
    ) {
        let (client, server) = pair();
        let (mut from, mut to) = if downwards { (server, client) } else { (client, server) };
        let mut sent = Vec::new();
        for (content, body) in records {
            let mut buf = vec![0; TLS_RECORD_HEADER + body.len() + TLS_RECORD_TRAILER];
            buf[TLS_RECORD_HEADER..][..body.len()].copy_from_slice(&body);
            let len = from.records.seal_as(&mut from.keys, content.into(), &mut buf, body.len()).unwrap();
            if content == 23 {
                sent.extend_from_slice(&body);
            } else if content == 0 {
                // Padding to the last byte that is not zero, which is taken for the type.
                let end = body.iter().rposition(|b| *b != 0).unwrap_or(0);
                if body.get(end) == Some(&23) {
                    sent.extend_from_slice(&body[..end]);
                }
            }
            if to.feed(&buf[..len]).is_err() {
                break;
            }
            to.take_output();
        }
        let received = to.take_received();
        prop_assert!(sent.starts_with(&received), "{received:?} of {sent:?}");
    }

    /// Data, key updates and pieces in any order, both ways at once.
    #[test]
    fn conversations_arrive(
        turns in prop::collection::vec((any::<bool>(), 1usize..40_000, 1u64..6), 1..12),
        piece in 1usize..20_000,
    ) {
        let (mut client, mut server) = pair();
        for (downwards, len, update_after) in turns {
            let (from, to) =
                if downwards { (&mut server, &mut client) } else { (&mut client, &mut server) };
            from.records.set_key_update_after(update_after);
            let data = bytes(len);
            to.now += crate::time::Duration::from_secs(1);
            from.send(&data);
            for chunk in from.take_output().chunks(piece) {
                to.feed(chunk).unwrap();
            }
            prop_assert_eq!(to.take_received(), data);
        }
    }

    #[test]
    fn damaged_handshakes_fail_or_authenticate(
        flight in 0usize..3,
        at in any::<prop::sample::Index>(),
        mask in 1u8..,
        piece in 1usize..400,
    ) {
        let (mut client, mut server) = GATEWAYS.with(|(west, east)| {
            (Handshake::client(west, "east").unwrap(), Handshake::server(east).unwrap())
        });
        let damage = |bytes: &mut Vec<u8>, n| {
            if n == flight && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= mask;
            }
        };
        let step = |to: &mut Handshake, bytes: &[u8]| {
            let mut out = Vec::new();
            let mut left: Vec<&[u8]> = bytes.chunks(piece).collect();
            left.reverse();
            while let Some(chunk) = left.pop() {
                match to.step(chunk, &mut out) {
                    Ok(Progress::More) => {}
                    Ok(Progress::Done(e)) => return Some((out, Some(e))),
                    Err(_) => return None,
                }
            }
            Some((out, None))
        };
        let mut hello = Vec::new();
        client.step(&[], &mut hello).unwrap();
        damage(&mut hello, 0);
        let Some((mut reply, None)) = step(&mut server, &hello) else { return Ok(()) };
        damage(&mut reply, 1);
        let Some((mut finished, Some(_client))) = step(&mut client, &reply) else { return Ok(()) };
        damage(&mut finished, 2);
        if let Some((_, Some(established))) = step(&mut server, &finished) {
            prop_assert!(established.peer.is("west"));
            // What is not authenticated is the record headers' version and the compatibility
            // ChangeCipherSpec, nothing else.
        }
    }

    #[test]
    fn noise_is_no_handshake(
        noise in prop::collection::vec(any::<u8>(), 1..600),
        as_client in any::<bool>(),
        framed in any::<bool>(),
        piece in 1usize..200,
    ) {
        let mut handshake = GATEWAYS.with(|(west, east)| {
            if as_client {
                Handshake::client(west, "east").unwrap()
            } else {
                Handshake::server(east).unwrap()
            }
        });
        let mut stream = noise;
        if framed {
            let len = (stream.len() as u16).to_be_bytes();
            stream.splice(0..0, [22, 3, 3, len[0], len[1]]);
        }
        let mut out = Vec::new();
        for chunk in stream.chunks(piece) {
            match handshake.step(chunk, &mut out) {
                Ok(Progress::More) => {}
                Ok(Progress::Done(_)) => prop_assert!(false, "noise shook hands"),
                Err(_) => break,
            }
        }
    }
}
