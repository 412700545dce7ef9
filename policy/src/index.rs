//! Which rules match one side of a connection, by set algebra.
//!
//! A rule is one selector of one policy. Per key and value that selectors mention the index knows
//! the rules that ask for it and the rules that it bars. The rules that match some attributes are
//! then, over all sets of keys that rules require and that are all present:
//!
//! > rules that require these keys ∩ for each of them (asks only for presence ∪ lists the value)
//! > − for each key present (bars presence ∪ bars the value)

use hashbrown::HashMap;

use crate::attributes::{Attributes, CLIENT_LABEL, PEER_LABEL};
use crate::selector::{Operator, Requirement, Selector};
use crate::sets::{self, Bits, SetId, Sets, SetsBuilder};
use crate::texts::Texts;

/// Most keys are labels. What stands before the label's own key says little and takes time to
/// hash.
const COMMON_PREFIX: usize = PEER_LABEL.len();
const _: () = assert!(COMMON_PREFIX <= CLIENT_LABEL.len());

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct KeyId(u32);

/// An attribute whose key some selector mentions: the key, and the rules that have something to
/// say about its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    key: KeyId,
    any: SetId,
    listed: SetId,
    absent: SetId,
    barred: SetId,
    /// One of the last two has a rule.
    bars: bool,
}

impl Pair {
    pub fn same_key(self, other: Self) -> bool {
        self.key == other.key
    }
}

#[derive(Debug, Clone)]
struct Key {
    /// Positions in [`Index::values`].
    values: Texts,
    /// Rules that require the key and take any value.
    any: SetId,
    /// Rules that do not match where the key is present.
    absent: SetId,
    /// Of [`Index::shapes`]: those that are kept with this key.
    shapes: std::ops::Range<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Value {
    /// Rules that require the key and list this value.
    listed: SetId,
    /// Rules that do not match this value.
    barred: SetId,
}

/// The rules that require the same keys. It is kept with the one of them that stands in the fewest
/// shapes.
#[derive(Debug, Clone)]
struct Shape {
    /// The one with the most values first: its value alone leaves few rules.
    keys: Box<[KeyId]>,
    rules: SetId,
}

/// The selectors of one side of all policies.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    ids: Texts,
    keys: Vec<Key>,
    values: Vec<Value>,
    shapes: Vec<Shape>,
    /// Rules that require no key.
    undemanding: SetId,
    rules: usize,
    sets: Sets,
}

impl Index {
    /// The number of a rule is its position in `rules`.
    pub fn build<'a>(rules: impl Iterator<Item = &'a Selector>) -> Self {
        let mut draft = Draft::new();
        for (selector, rule) in rules.zip(0u32..) {
            draft.add(rule, selector);
        }
        draft.finish()
    }

    /// The attribute in the terms of this index; None if no rule mentions its key.
    #[inline]
    pub fn resolve(&self, key: &str, value: &str) -> Option<Pair> {
        let id = self.ids.get(key)?;
        let key = self.keys.get(id as usize)?;
        let value = key.values.get(value).and_then(|value| self.values.get(value as usize));
        let (listed, barred) = value.map_or((SetId::EMPTY, SetId::EMPTY), |v| (v.listed, v.barred));
        let bars = key.absent != SetId::EMPTY || barred != SetId::EMPTY;
        Some(Pair { key: KeyId(id), any: key.any, listed, absent: key.absent, barred, bars })
    }

    /// The lowest rule of `within`, a set of `sets` over the same rules, that matches the
    /// attributes `pairs`, [ordered](order) and each key once.
    pub fn first(&self, pairs: &[Pair], sets: &Sets, within: SetId) -> Option<u32> {
        let mut best = u32::MAX;
        self.for_each_shape(pairs, |shape| {
            'shape: for block in 0..sets.blocks() {
                if sets::first_rule(block) > best {
                    break;
                }
                let occupied = shape.occupied(self, block) & sets.occupied(within, block);
                for index in sets::members(occupied) {
                    let word = sets.word(within, block, index);
                    let word = word & shape.word(self, pairs, block, index);
                    if let Some(rule) = sets::lowest_rule(block, index, word) {
                        best = best.min(rule);
                        break 'shape;
                    }
                }
            }
        });
        (best != u32::MAX).then_some(best)
    }

    /// All rules that match.
    pub fn matching(&self, attributes: &Attributes) -> Bits {
        let mut pairs: Vec<Pair> =
            attributes.iter().filter_map(|(key, value)| self.resolve(key, value)).collect();
        order(&mut pairs);
        let mut matching = Bits::empty(self.rules);
        self.for_each_shape(&pairs, |shape| {
            for block in 0..self.sets.blocks() {
                for index in sets::members(shape.occupied(self, block)) {
                    let word = shape.word(self, &pairs, block, index);
                    matching.insert_word(sets::word_number(block, index), word);
                }
            }
        });
        matching
    }

    /// Visits the shapes of which all keys are present.
    #[inline]
    fn for_each_shape(&self, pairs: &[Pair], mut visit: impl FnMut(Present<'_>)) {
        visit(Present { rules: self.undemanding, first: None, others: &[] });
        for pair in pairs {
            let Some(key) = self.keys.get(pair.key.0 as usize) else { continue };
            let range = key.shapes.start as usize..key.shapes.end as usize;
            for shape in self.shapes.get(range).unwrap_or_default() {
                let Some((first, others)) = shape.keys.split_first() else { continue };
                let first = find(pairs, *first);
                if first.is_some() && others.iter().all(|key| find(pairs, *key).is_some()) {
                    visit(Present { rules: shape.rules, first, others });
                }
            }
        }
    }
}

/// A shape of which all keys are present.
#[derive(Clone, Copy)]
struct Present<'a> {
    rules: SetId,
    first: Option<&'a Pair>,
    others: &'a [KeyId],
}

impl Present<'_> {
    /// Which words of a block can be other than zero. The first key alone leaves few.
    #[inline]
    fn occupied(self, index: &Index, block: usize) -> u64 {
        let occupied = |set| index.sets.occupied(set, block);
        let content = |pair: &Pair| occupied(pair.any) | occupied(pair.listed);
        occupied(self.rules) & self.first.map_or(u64::MAX, content)
    }

    /// The rules of one word that match.
    #[inline]
    fn word(self, index: &Index, pairs: &[Pair], block: usize, number: u32) -> u64 {
        let word = |set| index.sets.word(set, block, number);
        let content = |pair: &Pair| word(pair.any) | word(pair.listed);
        let mut matching = word(self.rules) & self.first.map_or(u64::MAX, content);
        for key in self.others {
            matching &= find(pairs, *key).map_or(0, content);
        }
        if matching != 0 {
            for pair in pairs.iter().filter(|pair| pair.bars) {
                matching &= !(word(pair.absent) | word(pair.barred));
            }
        }
        matching
    }
}

/// Up to this many attributes are found sooner one by one.
const FEW: usize = 16;

/// Prepares attributes for being looked for. A hostile peer may send many that policies mention.
pub(crate) fn order(pairs: &mut [Pair]) {
    if pairs.len() > FEW {
        pairs.sort_unstable_by_key(|pair| pair.key);
    }
}

#[inline]
fn find(pairs: &[Pair], key: KeyId) -> Option<&Pair> {
    if pairs.len() > FEW {
        let place = pairs.binary_search_by_key(&key, |pair| pair.key).ok()?;
        return pairs.get(place);
    }
    pairs.iter().find(|pair| pair.key == key)
}

/// An [`Index`] with lists for sets.
#[derive(Debug)]
struct Draft {
    rules: u32,
    ids: Texts,
    keys: Vec<DraftKey>,
    values: Vec<DraftValue>,
    shapes: HashMap<Box<[KeyId]>, Vec<u32>, foldhash::fast::FixedState>,
}

#[derive(Debug, Default)]
struct DraftKey {
    values: Texts,
    any: Vec<u32>,
    absent: Vec<u32>,
}

#[derive(Debug, Default)]
struct DraftValue {
    listed: Vec<u32>,
    barred: Vec<u32>,
}

impl Draft {
    fn new() -> Self {
        Self {
            rules: 0,
            ids: Texts::with_common_prefix(COMMON_PREFIX),
            keys: Vec::new(),
            values: Vec::new(),
            shapes: HashMap::default(),
        }
    }

    fn add(&mut self, rule: u32, selector: &Selector) {
        self.rules = rule + 1;
        let mut shape = Vec::new();
        // Requirements are sorted, so those of one key stand together.
        for group in selector.requirements().chunk_by(|a, b| a.key() == b.key()) {
            let key = self.key(group[0].key());
            let of = |operator| group.iter().filter(move |r| r.operator() == operator);
            let mut lists = of(Operator::In).map(Requirement::values);
            let required = match lists.next() {
                // Of several lists only what all of them have; nothing may be left.
                Some(first) => {
                    let others: Vec<_> = lists.collect();
                    for value in first.iter().filter(|v| others.iter().all(|o| o.contains(v))) {
                        self.value(key, value).listed.push(rule);
                    }
                    true
                }
                None if of(Operator::Exists).next().is_some() => {
                    self.keys[key.0 as usize].any.push(rule);
                    true
                }
                None => false,
            };
            if required {
                shape.push(key);
            }
            for value in of(Operator::NotIn).flat_map(Requirement::values) {
                let barred = &mut self.value(key, value).barred;
                if barred.last() != Some(&rule) {
                    barred.push(rule);
                }
            }
            if of(Operator::DoesNotExist).next().is_some() {
                self.keys[key.0 as usize].absent.push(rule);
            }
        }
        self.shapes.entry(shape.into()).or_default().push(rule);
    }

    fn key(&mut self, key: &str) -> KeyId {
        let id = self.ids.get_or_insert(key, self.keys.len() as u32);
        if id as usize == self.keys.len() {
            self.keys.push(DraftKey::default());
        }
        KeyId(id)
    }

    fn value(&mut self, key: KeyId, value: &str) -> &mut DraftValue {
        let values = &mut self.keys[key.0 as usize].values;
        let id = values.get_or_insert(value, self.values.len() as u32) as usize;
        if id == self.values.len() {
            self.values.push(DraftValue::default());
        }
        &mut self.values[id]
    }

    fn finish(mut self) -> Index {
        let rules = self.rules as usize;
        let mut sets = SetsBuilder::new(rules);
        let undemanding = self.shapes.remove(&[][..]).unwrap_or_default();
        let undemanding = sets.add(&undemanding);

        let mut popularity = vec![0u32; self.keys.len()];
        for key in self.shapes.keys().flatten() {
            popularity[key.0 as usize] += 1;
        }
        let mut shapes: Vec<(KeyId, Box<[KeyId]>, Vec<u32>)> = self
            .shapes
            .into_iter()
            .filter_map(|(mut keys, rules)| {
                let rarest = *keys.iter().min_by_key(|key| popularity[key.0 as usize])?;
                keys.sort_by_key(|key| std::cmp::Reverse(self.keys[key.0 as usize].values.len()));
                Some((rarest, keys, rules))
            })
            .collect();
        shapes.sort_unstable();
        let until = |id: u32| shapes.partition_point(|(rarest, ..)| *rarest < KeyId(id)) as u32;

        let keys = self
            .keys
            .into_iter()
            .zip(0u32..)
            .map(|(key, id)| Key {
                values: key.values,
                any: sets.add(&key.any),
                absent: sets.add(&key.absent),
                shapes: until(id)..until(id + 1),
            })
            .collect();
        let values = self
            .values
            .into_iter()
            .map(|value| Value { listed: sets.add(&value.listed), barred: sets.add(&value.barred) })
            .collect();
        let shapes = shapes
            .into_iter()
            .map(|(_, keys, rules)| Shape { keys, rules: sets.add(&rules) })
            .collect();
        let ids = self.ids;
        Index { ids, keys, values, shapes, undemanding, rules, sets: sets.finish() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn key(n: usize) -> String {
        format!("client.clusterlink.net/labels.k{n}")
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let values = proptest::collection::vec(select(&["a", "b", "c"][..]), 1..3);
        (0usize..40, select(&Operator::ALL[..]), values).prop_map(|(n, operator, values)| {
            let values = if operator.takes_values() { values } else { Vec::new() };
            Requirement::new(&key(n), operator, values).expect("valid")
        })
    }

    proptest! {
        /// Clients with more attributes than are looked for one by one too, and with fewer.
        #[test]
        fn rules_match_as_their_selectors_do(
            selectors in proptest::collection::vec(
                proptest::collection::vec(requirement(), 0..4).prop_map(Selector::new), 0..100),
            client in proptest::collection::btree_map(
                0usize..40, select(&["a", "b", "c", "d"][..]), 0..40),
            within in proptest::collection::btree_set(0u32..100, 0..100),
        ) {
            let index = Index::build(selectors.iter());
            let client: Attributes =
                client.into_iter().map(|(n, value)| (key(n).into(), value.into())).collect();
            let expected: Vec<usize> =
                (0..selectors.len()).filter(|n| selectors[*n].matches(&client)).collect();
            let matching = index.matching(&client);
            prop_assert_eq!(matching.members().collect::<Vec<_>>(), &expected[..]);

            let within: Vec<u32> =
                within.into_iter().filter(|n| (*n as usize) < selectors.len()).collect();
            let mut sets = SetsBuilder::new(selectors.len());
            let id = sets.add(&within);
            let mut pairs: Vec<Pair> =
                client.iter().filter_map(|(key, value)| index.resolve(key, value)).collect();
            order(&mut pairs);
            let first = expected.iter().map(|n| *n as u32).find(|n| within.contains(n));
            prop_assert_eq!(index.first(&pairs, &sets.finish(), id), first);
        }
    }
}
