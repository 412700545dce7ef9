//! Connections whose keys take turns in one cache.

use proptest::prelude::*;

use super::pki::Pki;
use super::suites::with_suites;
use super::*;
use crate::time::Duration;
use crate::tls::Suite;

const CONNECTIONS: usize = 4;

/// Does something with the cache that all share.
fn sharing<R>(keys: &mut KeyCache, ours: &mut Ours, act: impl FnOnce(&mut Ours) -> R) -> R {
    std::mem::swap(&mut ours.keys, keys);
    let result = act(ours);
    std::mem::swap(&mut ours.keys, keys);
    result
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Both ends of connections of all suites, with room for some of their keys or for all, and
    /// with new ones again and again.
    #[test]
    fn records_open_whatever_else_was_expanded(
        room in 1..4 * CONNECTIONS,
        turns in prop::collection::vec((0..CONNECTIONS, any::<bool>(), 1usize..200), 1..120),
    ) {
        let pki = Pki::new();
        let files = ["west", "east"].map(|name| pki.gateway(name));
        let mut pairs: Vec<[Ours; 2]> = (0..CONNECTIONS)
            .map(|n| {
                let suites = [Suite::ALL[n % Suite::ALL.len()]];
                let [west, east] = files.each_ref().map(|files| with_suites(files, &suites));
                let (client, server) = both_ours(&west, &east);
                [client, server].map(|end| {
                    let mut ours = Ours::new(end);
                    ours.records.set_key_update_after(3);
                    ours
                })
            })
            .collect();
        let mut keys = KeyCache::new(room);
        for (turn, (pair, downwards, len)) in turns.into_iter().enumerate() {
            let [client, server] = &mut pairs[pair];
            let (from, to) = if downwards { (server, client) } else { (client, server) };
            // Key updates are bounded by the second.
            to.now = Instant::ZERO + Duration::from_secs(turn as u64);
            let data = bytes(len);
            let sent = sharing(&mut keys, from, |from| {
                from.send(&data);
                from.take_output()
            });
            sharing(&mut keys, to, |to| to.feed(&sent)).unwrap();
            prop_assert_eq!(to.take_received(), data);
        }
    }
}
