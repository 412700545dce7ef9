//! Selectors over interned attributes, found by the attributes they ask for.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::bits::Bits;
use crate::selector::{Operator, Selector};

/// Keyed without randomness: the same fabric always compiles to the same table. The stored strings
/// come from the operator's own files; remote strings are only looked up, never stored.
type FixedMap<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyId(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ValueId(u32);

impl ValueId {
    /// Any value that no selector mentions.
    const OTHER: Self = Self(0);
}

/// The keys and values that the selectors of a table mention.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vocabulary {
    keys: FixedMap<Box<str>, KeyId>,
    values: Vec<FixedMap<Box<str>, ValueId>>,
}

impl Vocabulary {
    fn learn_key(&mut self, key: &str) -> KeyId {
        if let Some(id) = self.keys.get(key) {
            return *id;
        }
        let id = KeyId(self.values.len() as u32);
        self.keys.insert(key.into(), id);
        self.values.push(FixedMap::default());
        id
    }

    fn learn_value(&mut self, key: KeyId, value: &str) -> ValueId {
        let values = &mut self.values[key.0 as usize];
        let next = ValueId(values.len() as u32 + 1);
        *values.entry(value.into()).or_insert(next)
    }

    fn value(&self, key: KeyId, value: &str) -> ValueId {
        self.values
            .get(key.0 as usize)
            .and_then(|values| values.get(value))
            .copied()
            .unwrap_or(ValueId::OTHER)
    }
}

pub(crate) type Pair = (KeyId, ValueId);

/// An unused slot of a [`View`]'s storage.
pub(crate) const NO_PAIR: Pair = (KeyId(u32::MAX), ValueId::OTHER);

/// More known attributes than a view has room for.
#[derive(Debug)]
pub(crate) struct ViewFull;

/// One side of a connection, reduced to the attributes that selectors mention.
#[derive(Debug)]
pub(crate) struct View<'s> {
    pairs: &'s [Pair],
}

impl<'s> View<'s> {
    /// Resolves `attributes` into `storage`. Of a repeated key the last value counts, as in the
    /// JSON object that carries them.
    pub fn resolve<'a>(
        vocabulary: &Vocabulary,
        attributes: impl Iterator<Item = (&'a str, &'a str)>,
        storage: &'s mut [Pair],
    ) -> Result<Self, ViewFull> {
        let mut used = 0;
        for (key, value) in attributes {
            let Some(&key) = vocabulary.keys.get(key) else { continue };
            let value = vocabulary.value(key, value);
            if let Some(pair) = storage[..used].iter_mut().find(|(known, _)| *known == key) {
                pair.1 = value;
            } else {
                *storage.get_mut(used).ok_or(ViewFull)? = (key, value);
                used += 1;
            }
        }
        Ok(Self { pairs: &storage[..used] })
    }

    fn get(&self, key: KeyId) -> Option<ValueId> {
        self.pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }
}

#[derive(Debug, Clone)]
struct Condition {
    key: KeyId,
    operator: Operator,
    values: Box<[ValueId]>,
}

impl Condition {
    fn holds(&self, view: &View<'_>) -> bool {
        let value = view.get(self.key);
        let listed = |value: ValueId| self.values.binary_search(&value).is_ok();
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// One distinct selector and the policies that have it on this side.
#[derive(Debug, Clone)]
struct Term {
    conditions: Box<[Condition]>,
    /// Ascending.
    policies: Vec<u32>,
}

/// All selectors of one side. A selector with an `In` condition is only looked at when the view has
/// one of its values.
#[derive(Debug, Clone, Default)]
pub(crate) struct SideIndex {
    terms: Vec<Term>,
    by_pair: FixedMap<Pair, Vec<u32>>,
    /// Terms without an `In` condition.
    always: Vec<u32>,
}

impl SideIndex {
    /// Indexes the selectors of policies, given in ascending order of the policies.
    pub fn build<'a>(
        vocabulary: &mut Vocabulary,
        selectors: impl Iterator<Item = (u32, &'a Selector)>,
    ) -> Self {
        let mut index = Self::default();
        let mut known: FixedMap<&Selector, usize> = FixedMap::default();
        for (policy, selector) in selectors {
            let term = *known.entry(selector).or_insert_with(|| index.add(vocabulary, selector));
            let policies = &mut index.terms[term].policies;
            if policies.last() != Some(&policy) {
                policies.push(policy);
            }
        }
        index
    }

    fn add(&mut self, vocabulary: &mut Vocabulary, selector: &Selector) -> usize {
        let mut conditions = Vec::with_capacity(selector.requirements().len());
        for requirement in selector.requirements() {
            let key = vocabulary.learn_key(requirement.key());
            let mut values: Box<[ValueId]> = requirement
                .values()
                .iter()
                .map(|value| vocabulary.learn_value(key, value))
                .collect();
            values.sort_unstable();
            conditions.push(Condition { key, operator: requirement.operator(), values });
        }
        let term = self.terms.len();
        match conditions.iter().find(|condition| condition.operator == Operator::In) {
            Some(condition) => {
                for value in &condition.values {
                    self.by_pair.entry((condition.key, *value)).or_default().push(term as u32);
                }
            }
            None => self.always.push(term as u32),
        }
        self.terms.push(Term { conditions: conditions.into(), policies: Vec::new() });
        term
    }

    /// For each matching selector the policies that have it, ascending.
    pub fn matching<'i>(&'i self, view: &'i View<'_>) -> impl Iterator<Item = &'i [u32]> {
        let asked_for = view.pairs.iter().filter_map(|pair| self.by_pair.get(pair)).flatten();
        asked_for
            .chain(&self.always)
            .map(|term| &self.terms[*term as usize])
            .filter(|term| term.conditions.iter().all(|condition| condition.holds(view)))
            .map(|term| &*term.policies)
    }

    /// The policies of which at least one selector matches.
    pub fn matching_set(&self, view: &View<'_>, policies: usize) -> Bits {
        let mut bits = Bits::empty(policies);
        for policy in self.matching(view).flatten() {
            bits.insert(*policy);
        }
        bits
    }
}
