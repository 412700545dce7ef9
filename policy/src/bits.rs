//! A set of policies: one bit per policy, in the order in which they decide.

/// Fixed number of bits; all sets of one table have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Bits(Box<[u64]>);

impl Bits {
    pub fn empty(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)].into())
    }

    /// Bits outside the set's size are ignored.
    pub fn insert(&mut self, bit: u32) {
        if let Some(word) = self.0.get_mut(bit as usize / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    pub fn contains(&self, bit: u32) -> bool {
        self.0.get(bit as usize / 64).is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }

    /// The bits that are in both sets, ascending.
    pub fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        self.0.iter().zip(&other.0).zip(0u32..).flat_map(|((a, b), word)| {
            let mut rest = a & b;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    word * 64 + bit
                })
            })
        })
    }
}
