//! Which source of an import serves a connection: ClusterLink's three schemes in its exact order,
//! and two of our own that look at weights.
//!
//! A [`Selection`] lives for one connection. It hands out sources one by one; the caller asks the
//! policy, tries the peer, and asks for the next source when either says no. Sources whose peer is
//! not reachable are put off and come last, in the order they were put off; none comes twice.

use crate::limits::{DEFAULT_SOURCE_WEIGHT, MAX_SOURCES_PER_IMPORT};

/// `spec.lbScheme` of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LbScheme {
    #[default]
    RoundRobin,
    Random,
    Static,
    /// By chance, in proportion to the weights. Not in ClusterLink.
    Weighted,
    /// The source with the fewest open connections per weight. Not in ClusterLink.
    LeastLoaded,
}

impl LbScheme {
    pub const ALL: [Self; 5] =
        [Self::RoundRobin, Self::Random, Self::Static, Self::Weighted, Self::LeastLoaded];

    /// The word in YAML.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::Static => "static",
            Self::Weighted => "weighted",
            Self::LeastLoaded => "least-loaded",
        }
    }

    /// The scheme of this exact name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.as_str() == text)
    }

    /// Whether `spec.sources[].weight` means anything.
    #[must_use]
    pub fn uses_weights(self) -> bool {
        matches!(self, Self::Weighted | Self::LeastLoaded)
    }
}

/// `spec.failover` of an import: up to where the failure of a source leads to the next one. Not in
/// ClusterLink, whose rule is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Failover {
    /// Until the source's gateway has authorised the connection; if its service then cannot be
    /// reached, the connection has failed.
    #[default]
    Authorization,
    /// Until the source's service has accepted the connection.
    Connection,
}

impl Failover {
    pub const ALL: [Self; 2] = [Self::Authorization, Self::Connection];

    /// The word in YAML.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::Connection => "connection",
        }
    }

    /// The rule of this exact name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|failover| failover.as_str() == text)
    }
}

/// What a [`Selection`] asks about the sources it chooses among, by their position in the import.
///
/// A closure says whether a source is reachable; its sources have the default weight and no load.
pub trait Sources {
    /// Whether the peer answers its heartbeat.
    fn reachable(&self, source: usize) -> bool;

    /// Its share of the connections, relative to the sum. 0: it gets none, not even as the last
    /// resort. Only asked by schemes that use weights, and must not change during a selection.
    fn weight(&self, _source: usize) -> u32 {
        DEFAULT_SOURCE_WEIGHT
    }

    /// Open connections it serves. Only [`LbScheme::LeastLoaded`] asks.
    fn load(&self, _source: usize) -> u32 {
        0
    }
}

impl<F: Fn(usize) -> bool> Sources for F {
    fn reachable(&self, source: usize) -> bool {
        self(source)
    }
}

/// The counter of one import that outlives its connections. Every pick of every connection
/// advances it, retries too, which is what spreads the load of a dead source evenly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundRobin {
    picks: u64,
}

impl RoundRobin {
    /// A counter `picks` further than ClusterLink's. Counters of one import that stand side by side
    /// begin with different sources when each starts one pick further than the one before.
    #[must_use]
    pub fn starting_at(picks: u64) -> Self {
        Self { picks }
    }

    fn advance(&mut self) -> u64 {
        self.picks = self.picks.wrapping_add(1);
        self.picks
    }
}

/// The choice of sources for one connection. Fixed size, no heap.
#[derive(Debug, Clone)]
pub struct Selection {
    scheme: LbScheme,
    sources: u8,
    current: Option<u8>,
    /// One bit per source that has been handed out or put off, or that has no weight.
    failed: u64,
    delayed: [u8; MAX_SOURCES_PER_IMPORT],
    delayed_head: u8,
    delayed_tail: u8,
}

impl Selection {
    /// A choice among `sources` sources. Those beyond [`MAX_SOURCES_PER_IMPORT`] are never chosen;
    /// no fabric has so many.
    #[must_use]
    pub fn new(scheme: LbScheme, sources: usize) -> Self {
        Self {
            scheme,
            sources: sources.min(MAX_SOURCES_PER_IMPORT) as u8,
            current: None,
            failed: 0,
            delayed: [0; MAX_SOURCES_PER_IMPORT],
            delayed_head: 0,
            delayed_tail: 0,
        }
    }

    /// The next source to try; the one handed out before counts as failed. None when all have been
    /// tried.
    ///
    /// `random` is a uniformly random word, fresh for each call; only [`LbScheme::Random`] and
    /// [`LbScheme::Weighted`] use it.
    pub fn next(
        &mut self,
        round_robin: &mut RoundRobin,
        random: u64,
        sources: impl Sources,
    ) -> Option<usize> {
        if self.current.is_none() && self.scheme.uses_weights() {
            for source in (0..self.sources).filter(|s| sources.weight(usize::from(*s)) == 0) {
                self.failed |= 1 << source;
            }
        }
        let mut random = random;
        loop {
            if let Some(current) = self.current {
                self.failed |= 1 << current;
            }
            if self.all_failed() {
                self.current = Some(self.pop_delayed()?);
                return self.current.map(usize::from);
            }
            let source = self.pick(round_robin, random, &sources);
            random = scramble(random);
            self.current = Some(source);
            if sources.reachable(usize::from(source)) {
                return Some(usize::from(source));
            }
            self.push_delayed(source);
        }
    }

    /// A source that has not failed; there is one.
    fn pick(&self, round_robin: &mut RoundRobin, random: u64, sources: &impl Sources) -> u8 {
        let count = self.sources;
        let after = |source: u8| (source + 1) % count;
        match (self.scheme, self.current) {
            (LbScheme::RoundRobin, None) => (round_robin.advance() % u64::from(count)) as u8,
            (LbScheme::RoundRobin, Some(current)) => {
                round_robin.advance();
                after(current)
            }
            (LbScheme::Static, None) => 0,
            (LbScheme::Static, Some(current)) => after(current),
            (LbScheme::Random, _) => self.at_or_after(below(random, u64::from(count)) as u8),
            (LbScheme::Weighted, _) => self.by_weight(random, sources),
            (LbScheme::LeastLoaded, _) => {
                let start = (round_robin.advance() % u64::from(count)) as u8;
                self.least_loaded(start, sources)
            }
        }
    }

    /// The first source from `start` on, cyclic, that has not failed.
    fn at_or_after(&self, start: u8) -> u8 {
        let mut source = start;
        while self.has_failed(source) {
            source = (source + 1) % self.sources;
        }
        source
    }

    fn by_weight(&self, random: u64, sources: &impl Sources) -> u8 {
        let left = || {
            (0..self.sources)
                .filter(|source| !self.has_failed(*source))
                .map(|source| (source, u64::from(sources.weight(usize::from(source)))))
        };
        // 64 weights of 32 bits: the sum has 38 at the most.
        let mut point = below(random, left().map(|(_, weight)| weight).sum());
        for (source, weight) in left() {
            if point < weight {
                return source;
            }
            point -= weight;
        }
        // Cannot be, the point lies below the sum.
        self.at_or_after(0)
    }

    /// The smallest load per weight; of equals the first from `start` on.
    fn least_loaded(&self, start: u8, sources: &impl Sources) -> u8 {
        let ratio = |source: u8| {
            let source = usize::from(source);
            (u64::from(sources.load(source)), u64::from(sources.weight(source)))
        };
        let mut best = self.at_or_after(start);
        let mut least = ratio(best);
        let mut source = (best + 1) % self.sources;
        while source != start {
            if !self.has_failed(source) {
                let (load, weight) = ratio(source);
                // load / weight < least.0 / least.1 without a division; 32 by 32 bits.
                if load * least.1 < least.0 * weight {
                    (best, least) = (source, (load, weight));
                }
            }
            source = (source + 1) % self.sources;
        }
        best
    }

    fn has_failed(&self, source: u8) -> bool {
        self.failed & (1 << source) != 0
    }

    fn all_failed(&self) -> bool {
        self.failed.count_ones() == u32::from(self.sources)
    }

    fn push_delayed(&mut self, source: u8) {
        // A source is put off at most once, so the tail cannot pass the end.
        if let Some(slot) = self.delayed.get_mut(usize::from(self.delayed_tail)) {
            *slot = source;
            self.delayed_tail += 1;
        }
    }

    fn pop_delayed(&mut self) -> Option<u8> {
        if self.delayed_head == self.delayed_tail {
            return None;
        }
        let source = self.delayed.get(usize::from(self.delayed_head)).copied();
        self.delayed_head += 1;
        source
    }
}

/// A number below `count`, uniform where `random` is: the high half of the product, without a
/// division.
fn below(random: u64, count: u64) -> u64 {
    ((u128::from(random) * u128::from(count)) >> 64) as u64
}

/// The output step of SplitMix64 (Steele, Lea and Flood, 2014): one more word from the caller's
/// when a single call picks several times.
fn scramble(word: u64) -> u64 {
    let mut word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
