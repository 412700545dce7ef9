//! ClusterLink's load balancing cases under the names they have there, and the order of retries.

use std::collections::{BTreeMap, BTreeSet};

use clgw_policy::limits::MAX_SOURCES_PER_IMPORT;
use clgw_policy::{LbScheme, RoundRobin, Selection};
use proptest::prelude::*;

/// A connection to an import with `sources` sources of which only `serving` answer: the source that
/// served it.
fn connect(
    scheme: LbScheme,
    counter: &mut RoundRobin,
    sources: usize,
    serving: &[usize],
    random: &mut impl FnMut() -> u64,
) -> Option<usize> {
    let mut selection = Selection::new(scheme, sources);
    while let Some(source) = selection.next(counter, random(), |_| true) {
        if serving.contains(&source) {
            return Some(source);
        }
    }
    None
}

fn serve(scheme: LbScheme, serving: &[usize], requests: usize, seed: u64) -> Vec<usize> {
    let mut counter = RoundRobin::default();
    let mut state = seed;
    // Knuth's MMIX generator; its high bits are good enough to choose a source.
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state
    };
    (0..requests).filter_map(|_| connect(scheme, &mut counter, 3, serving, &mut random)).collect()
}

#[test]
fn test_load_balancing_round_robin() {
    let all: Vec<usize> = [1, 2, 0].into_iter().cycle().take(30).collect();
    assert_eq!(serve(LbScheme::RoundRobin, &[0, 1, 2], 30, 0), all);
    // Without #0 the other two alternate strictly, because a retry advances the counter too.
    let two: Vec<usize> = [1, 2].into_iter().cycle().take(30).collect();
    assert_eq!(serve(LbScheme::RoundRobin, &[1, 2], 30, 0), two);
    assert_eq!(serve(LbScheme::RoundRobin, &[2], 30, 0), [2; 30]);
    assert_eq!(serve(LbScheme::RoundRobin, &[], 30, 0), [0; 0]);
}

#[test]
fn test_load_balancing_static() {
    assert_eq!(serve(LbScheme::Static, &[0, 1, 2], 30, 0), [0; 30]);
    assert_eq!(serve(LbScheme::Static, &[1, 2], 30, 0), [1; 30]);
    assert_eq!(serve(LbScheme::Static, &[2], 30, 0), [2; 30]);
}

#[test]
fn test_load_balancing_random() {
    let seen = |serving: &[usize], requests: usize| -> BTreeSet<usize> {
        serve(LbScheme::Random, serving, requests, 7).into_iter().collect()
    };
    assert_eq!(seen(&[0, 1, 2], 100), BTreeSet::from([0, 1, 2]));
    assert_eq!(seen(&[1, 2], 30), BTreeSet::from([1, 2]));
    assert_eq!(seen(&[2], 30), BTreeSet::from([2]));
}

#[test]
fn random_picks_spread_evenly() {
    let mut counts = BTreeMap::new();
    for source in serve(LbScheme::Random, &[0, 1, 2], 30_000, 42) {
        *counts.entry(source).or_insert(0) += 1;
    }
    for (source, count) in counts {
        assert!((9_500..10_500).contains(&count), "source {source} served {count} of 30000");
    }
}

/// The random word chooses where to begin; already tried sources are passed over upwards.
#[test]
fn random_passes_over_failed_sources() {
    let mut counter = RoundRobin::default();
    let mut selection = Selection::new(LbScheme::Random, 4);
    let word_for = |source: u64| (u64::MAX / 4) * source + (1 << 32);
    let mut order = Vec::new();
    for word in [word_for(2), word_for(2), word_for(2), word_for(0), word_for(1)] {
        order.push(selection.next(&mut counter, word, |_| true));
    }
    assert_eq!(order, [Some(2), Some(3), Some(0), Some(1), None]);
    assert_eq!(counter, RoundRobin::default(), "random leaves the counter alone");
}

fn order(scheme: LbScheme, sources: usize, reachable: &[usize]) -> Vec<usize> {
    let mut counter = RoundRobin::default();
    let mut selection = Selection::new(scheme, sources);
    std::iter::from_fn(|| selection.next(&mut counter, 0, |source| reachable.contains(&source)))
        .collect()
}

/// Sources of unreachable peers come last, in the order in which they were put off.
#[test]
fn unreachable_sources_come_last() {
    assert_eq!(order(LbScheme::Static, 4, &[0, 1, 2, 3]), [0, 1, 2, 3]);
    assert_eq!(order(LbScheme::Static, 4, &[2]), [2, 0, 1, 3]);
    assert_eq!(order(LbScheme::Static, 4, &[]), [0, 1, 2, 3]);
    assert_eq!(order(LbScheme::RoundRobin, 4, &[0, 2]), [2, 0, 1, 3]);
    assert_eq!(order(LbScheme::RoundRobin, 4, &[]), [1, 2, 3, 0]);
}

/// A single source is tried although its peer does not answer.
#[test]
fn a_lone_unreachable_source_is_tried() {
    for scheme in LbScheme::ALL {
        assert_eq!(order(scheme, 1, &[]), [0]);
    }
}

#[test]
fn no_sources_no_choice() {
    for scheme in LbScheme::ALL {
        assert_eq!(order(scheme, 0, &[]), [0; 0]);
    }
}

/// An unreachable source that round-robin skipped advances the counter like any other pick.
#[test]
fn skipped_sources_advance_the_counter() {
    let mut counter = RoundRobin::default();
    let mut first = || {
        let mut selection = Selection::new(LbScheme::RoundRobin, 3);
        selection.next(&mut counter, 0, |source| source != 0)
    };
    let served: Vec<_> = (0..6).filter_map(|_| first()).collect();
    assert_eq!(served, [1, 2, 1, 2, 1, 2]);
}

/// More sources than any fabric has: the excess is never chosen, and nothing overflows.
#[test]
fn the_largest_import() {
    for sources in [MAX_SOURCES_PER_IMPORT, MAX_SOURCES_PER_IMPORT + 1, usize::MAX] {
        for scheme in LbScheme::ALL {
            for reachable in [vec![], vec![63], (0..64).collect::<Vec<_>>()] {
                let mut tried = order(scheme, sources, &reachable);
                tried.sort_unstable();
                assert_eq!(tried, (0..MAX_SOURCES_PER_IMPORT).collect::<Vec<_>>());
            }
        }
    }
}

/// ClusterLink's selection, written with sets and queues as its description reads.
fn model(scheme: LbScheme, sources: usize, counter: &mut u64, reachable: &[bool]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut failed = BTreeSet::new();
    let mut delayed = std::collections::VecDeque::new();
    let mut current: Option<usize> = None;
    loop {
        failed.extend(current);
        if failed.len() == sources {
            let Some(source) = delayed.pop_front() else { return order };
            current = Some(source);
            order.push(source);
            continue;
        }
        let source = match scheme {
            LbScheme::RoundRobin => {
                *counter += 1;
                current.map_or(*counter as usize, |current| current + 1) % sources
            }
            _ => current.map_or(0, |current| current + 1),
        };
        current = Some(source);
        if reachable[source] {
            order.push(source);
        } else {
            delayed.push_back(source);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    /// Every source exactly once, and for the two schemes without chance exactly in this order.
    #[test]
    fn selection_follows_the_model(
        scheme in prop::sample::select(LbScheme::ALL.to_vec()),
        reachable in prop::collection::vec(any::<bool>(), 1..=MAX_SOURCES_PER_IMPORT),
        connections in 1usize..8,
        words in prop::collection::vec(any::<u64>(), 1..16),
    ) {
        let sources = reachable.len();
        let (mut counter, mut model_counter) = (RoundRobin::default(), 0);
        let mut words = words.into_iter().cycle();
        for _ in 0..connections {
            let mut selection = Selection::new(scheme, sources);
            let mut tried = Vec::new();
            while let Some(source) =
                selection.next(&mut counter, words.next().unwrap_or(0), |source| reachable[source])
            {
                tried.push(source);
                prop_assert!(tried.len() <= sources);
            }
            let unreachable_from = tried.iter().position(|source| !reachable[*source]);
            if let Some(start) = unreachable_from {
                prop_assert!(tried[start..].iter().all(|source| !reachable[*source]));
            }
            if scheme == LbScheme::Random {
                tried.sort_unstable();
                prop_assert_eq!(tried, (0..sources).collect::<Vec<_>>());
            } else {
                let expected = model(scheme, sources, &mut model_counter, &reachable);
                prop_assert_eq!(tried, expected);
            }
        }
    }
}
