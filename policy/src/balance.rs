//! Which source of an import serves a connection: ClusterLink's three schemes in its exact order.
//!
//! A [`Selection`] lives for one connection. It hands out sources one by one; the caller asks the
//! policy, tries the peer, and asks for the next source when either says no. Sources whose peer is
//! not reachable are put off and come last, in the order they were put off; none comes twice.

use crate::limits::MAX_SOURCES_PER_IMPORT;

/// `spec.lbScheme` of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LbScheme {
    #[default]
    RoundRobin,
    Random,
    Static,
}

impl LbScheme {
    pub const ALL: [Self; 3] = [Self::RoundRobin, Self::Random, Self::Static];

    /// The word in YAML.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::Static => "static",
        }
    }

    /// The scheme of this exact name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.as_str() == text)
    }
}

/// The counter of one import that outlives its connections. Every pick of every connection
/// advances it, retries too, which is what spreads the load of a dead source evenly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundRobin {
    picks: u64,
}

impl RoundRobin {
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
    /// One bit per source that has been handed out or put off.
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
    /// `random` is a uniformly random word, fresh for each call; only [`LbScheme::Random`] uses it.
    /// `reachable` says whether the peer of a source answers its heartbeat.
    pub fn next(
        &mut self,
        round_robin: &mut RoundRobin,
        random: u64,
        reachable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if self.sources == 0 {
            return None;
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
            let source = self.pick(round_robin, random);
            random = scramble(random);
            self.current = Some(source);
            if reachable(usize::from(source)) {
                return Some(usize::from(source));
            }
            self.push_delayed(source);
        }
    }

    fn pick(&self, round_robin: &mut RoundRobin, random: u64) -> u8 {
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
            (LbScheme::Random, _) => {
                // The high half of the product is uniform over 0..count, without a division.
                let start = ((u128::from(random) * u128::from(count)) >> 64) as u8;
                let mut source = start;
                while self.failed & (1 << source) != 0 {
                    source = after(source);
                }
                source
            }
        }
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

/// The output step of SplitMix64 (Steele, Lea and Flood, 2014): one more word from the caller's
/// when a single call picks several times.
fn scramble(word: u64) -> u64 {
    let mut word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
