//! ClusterLink's load balancing cases under the names they have there, and the order of retries.

use std::collections::{BTreeMap, BTreeSet};

use clgw_policy::limits::{MAX_SOURCE_WEIGHT, MAX_SOURCES_PER_IMPORT};
use clgw_policy::{LbScheme, RoundRobin, Selection, Sources};
use proptest::prelude::*;

const CLUSTERLINKS: [LbScheme; 3] = [LbScheme::RoundRobin, LbScheme::Random, LbScheme::Static];
const OURS: [LbScheme; 2] = [LbScheme::Weighted, LbScheme::LeastLoaded];

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

/// Knuth's MMIX generator; its high bits are good enough to choose a source.
fn generator(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state
    }
}

fn serve(scheme: LbScheme, serving: &[usize], requests: usize, seed: u64) -> Vec<usize> {
    let mut counter = RoundRobin::default();
    let mut random = generator(seed);
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

/// A counter that starts `k` picks further begins `k` sources further; at 0 it is ClusterLink's.
#[test]
fn counters_side_by_side_begin_side_by_side() {
    assert_eq!(RoundRobin::starting_at(0), RoundRobin::default());
    let first = |k| {
        let mut counter = RoundRobin::starting_at(k);
        Selection::new(LbScheme::RoundRobin, 3).next(&mut counter, 0, |_| true)
    };
    assert_eq!([0, 1, 2, 3].map(first), [Some(1), Some(2), Some(0), Some(1)]);
    assert_eq!(first(u64::MAX), Some(0), "the counter wraps");
}

/// Sources with all that a selection may ask.
#[derive(Clone, Debug)]
struct Table {
    reachable: Vec<bool>,
    weights: Vec<u32>,
    loads: Vec<u32>,
}

impl Table {
    fn new(weights: &[u32], loads: &[u32]) -> Self {
        Self {
            reachable: vec![true; weights.len()],
            weights: weights.to_vec(),
            loads: loads.to_vec(),
        }
    }

    /// The sources in the order in which one connection tries them.
    fn order(
        &self,
        scheme: LbScheme,
        counter: &mut RoundRobin,
        random: &mut impl FnMut() -> u64,
    ) -> Vec<usize> {
        let mut selection = Selection::new(scheme, self.weights.len());
        std::iter::from_fn(|| selection.next(counter, random(), self)).collect()
    }

    /// Connections that stay open: how many each source has in the end.
    fn fill(&mut self, scheme: LbScheme, connections: usize) -> Vec<u32> {
        let (mut counter, mut random) = (RoundRobin::default(), generator(3));
        for _ in 0..connections {
            let mut selection = Selection::new(scheme, self.weights.len());
            let source = selection.next(&mut counter, random(), &*self).expect("a source");
            self.loads[source] += 1;
        }
        self.loads.clone()
    }
}

impl Sources for &Table {
    fn reachable(&self, source: usize) -> bool {
        self.reachable[source]
    }

    fn weight(&self, source: usize) -> u32 {
        self.weights[source]
    }

    fn load(&self, source: usize) -> u32 {
        self.loads[source]
    }
}

#[test]
fn weighted_follows_the_proportions() {
    let served = Table::new(&[1, 0, 2, 5], &[0; 4]).fill(LbScheme::Weighted, 80_000);
    for (source, expected) in [10_000, 0, 20_000, 50_000].into_iter().enumerate() {
        let (low, high) = (expected * 98 / 100, expected * 102 / 100);
        assert!((low..=high).contains(&served[source]), "source {source}: {served:?}");
    }
}

/// Each weight is an interval of the random word, and exactly as long as it says.
#[test]
fn weighted_divides_the_random_word_exactly() {
    let table = Table::new(&[1, 0, 3], &[0; 3]);
    let first = |word: u64| {
        let mut selection = Selection::new(LbScheme::Weighted, 3);
        selection.next(&mut RoundRobin::default(), word, &table)
    };
    let quarter = 1 << 62;
    assert_eq!([0, quarter - 1].map(first), [Some(0), Some(0)]);
    assert_eq!([quarter, 2 * quarter, u64::MAX].map(first), [Some(2), Some(2), Some(2)]);
}

/// After a no the others share what is left, by their weights among themselves.
#[test]
fn weighted_retries_by_the_weights_that_are_left() {
    let table = Table::new(&[90, 1, 9], &[0; 3]);
    let (mut counter, mut random) = (RoundRobin::default(), generator(11));
    let mut second = [0; 3];
    for _ in 0..20_000 {
        let order = table.order(LbScheme::Weighted, &mut counter, &mut random);
        if order[0] == 0 {
            second[order[1]] += 1;
        }
    }
    assert_eq!(second[0], 0);
    let share = f64::from(second[2]) / f64::from(second[1] + second[2]);
    assert!((0.88..0.92).contains(&share), "{second:?}");
    assert_eq!(counter, RoundRobin::default(), "weighted leaves the counter alone");
}

#[test]
fn a_source_without_weight_is_not_even_the_last_resort() {
    for scheme in OURS {
        for reachable in [[true; 3], [false; 3], [false, true, false]] {
            let table = Table { reachable: reachable.to_vec(), ..Table::new(&[0, 7, 0], &[0; 3]) };
            let order = table.order(scheme, &mut RoundRobin::default(), &mut generator(5));
            assert_eq!(order, [1]);
        }
        let order =
            Table::new(&[0; 3], &[0; 3]).order(scheme, &mut RoundRobin::default(), &mut || 0);
        assert_eq!(order, [0; 0]);
    }
    // The others do not look at weights.
    for scheme in CLUSTERLINKS {
        let order =
            Table::new(&[0; 3], &[0; 3]).order(scheme, &mut RoundRobin::default(), &mut || 0);
        assert_eq!(order.len(), 3);
    }
}

#[test]
fn the_largest_weights_and_loads_do_not_overflow() {
    for weight in [MAX_SOURCE_WEIGHT, u32::MAX] {
        for scheme in OURS {
            let sources = MAX_SOURCES_PER_IMPORT;
            let table = Table::new(&vec![weight; sources], &vec![u32::MAX; sources]);
            for word in [0, u64::MAX] {
                let mut order = table.order(scheme, &mut RoundRobin::default(), &mut || word);
                order.sort_unstable();
                assert_eq!(order, (0..sources).collect::<Vec<_>>());
            }
        }
    }
}

/// Open connections settle in the ratio of the weights.
#[test]
fn least_loaded_fills_by_weight() {
    let served = Table::new(&[1, 2, 5, 0], &[0; 4]).fill(LbScheme::LeastLoaded, 800);
    assert_eq!(served, [100, 200, 500, 0]);
    // One that is behind catches up first.
    let mut table = Table::new(&[1, 1, 1], &[10, 0, 10]);
    assert_eq!(table.fill(LbScheme::LeastLoaded, 10), [10, 10, 10]);
}

/// Connections that end before the next one comes: as round-robin.
#[test]
fn least_loaded_takes_turns_among_equals() {
    let table = Table::new(&[1, 1, 1], &[4, 4, 4]);
    let mut counter = RoundRobin::default();
    let mut first = || {
        let mut selection = Selection::new(LbScheme::LeastLoaded, 3);
        selection.next(&mut counter, 0, &table)
    };
    let served: Vec<_> = (0..6).filter_map(|_| first()).collect();
    assert_eq!(served, [1, 2, 0, 1, 2, 0]);
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
        scheme in prop::sample::select(CLUSTERLINKS.to_vec()),
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
    /// With weights: every source that has one exactly once, unreachable ones last, each choice of
    /// least-loaded the smallest fraction of what was left and, of equals, the first in turn.
    #[test]
    fn selection_by_weight_follows_the_model(
        scheme in prop::sample::select(OURS.to_vec()),
        sources in prop::collection::vec(
            (any::<bool>(), prop_oneof![0u32..4, any::<u32>()], prop_oneof![0u32..4, any::<u32>()]),
            1..=MAX_SOURCES_PER_IMPORT,
        ),
        picks in any::<u64>(),
        seed in any::<u64>(),
    ) {
        let table = Table {
            reachable: sources.iter().map(|s| s.0).collect(),
            weights: sources.iter().map(|s| s.1).collect(),
            loads: sources.iter().map(|s| s.2).collect(),
        };
        let mut counter = RoundRobin::starting_at(picks);
        let order = table.order(scheme, &mut counter, &mut generator(seed));
        let mut left: Vec<usize> =
            (0..sources.len()).filter(|s| table.weights[*s] > 0).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert_eq!(&sorted, &left);
        let reachable = order.iter().take_while(|s| table.reachable[**s]).count();
        prop_assert!(order[reachable..].iter().all(|s| !table.reachable[*s]));
        if scheme == LbScheme::LeastLoaded {
            let (mut handed_out, mut delayed) = (Vec::new(), Vec::new());
            let mut turn = picks;
            while !left.is_empty() {
                turn = turn.wrapping_add(1);
                let start = (turn % sources.len() as u64) as usize;
                let rank = |s: usize| {
                    let (load, weight) = (u128::from(table.loads[s]), u128::from(table.weights[s]));
                    // Fractions of 32 bits that differ, differ in the first 64 binary places.
                    ((load << 64) / weight, (s + sources.len() - start) % sources.len())
                };
                let best = left.iter().copied().min_by_key(|s| rank(*s)).unwrap();
                left.retain(|s| *s != best);
                if table.reachable[best] { &mut handed_out } else { &mut delayed }.push(best);
            }
            handed_out.append(&mut delayed);
            prop_assert_eq!(order, handed_out);
        }
    }
}
