//! Which rules match one side of a connection, by set algebra.
//!
//! A rule is one selector of one policy. Per key and value that selectors mention the index knows
//! the rules that ask for it and the rules that it bars. The rules that match some attributes are
//! then, over all sets of keys that rules require and that are all present:
//!
//! > rules that require these keys ∩ for each of them (asks only for presence ∪ lists the value)
//! > − for each key present (bars presence ∪ bars the value)

use hashbrown::HashMap;

use crate::attributes::Attributes;
use crate::selector::{Operator, Requirement, Selector};
use crate::sets::{self, Bits, Set, SetId, Sets, SetsBuilder};

/// Not keyed at random: what is stored comes from the operator's own files, and remote texts are
/// only looked up, so nobody can crowd a bucket.
type FixedMap<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct KeyId(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ValueId(u32);

impl ValueId {
    /// Any value that no selector mentions.
    const OTHER: Self = Self(u32::MAX);
}

/// An attribute whose key some selector mentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    key: KeyId,
    value: ValueId,
}

impl Pair {
    pub fn same_key(self, other: Self) -> bool {
        self.key == other.key
    }
}

#[derive(Debug, Clone)]
struct Key {
    values: FixedMap<Box<str>, ValueId>,
    /// Rules that require the key and take any value.
    any: SetId,
    /// Rules that do not match where the key is present.
    absent: SetId,
    /// Of [`Index::shapes`]: those that are looked at when the key is present.
    shapes: std::ops::Range<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Value {
    /// Rules that require the key and list this value.
    listed: SetId,
    /// Rules that do not match this value.
    barred: SetId,
}

/// The rules that require the same keys.
#[derive(Debug, Clone)]
struct Shape {
    keys: Box<[KeyId]>,
    rules: SetId,
}

/// The selectors of one side of all policies.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    ids: FixedMap<Box<str>, KeyId>,
    keys: Vec<Key>,
    values: Vec<Value>,
    /// Grouped by the one of their keys that stands in the fewest shapes.
    shapes: Vec<Shape>,
    /// Rules that require no key.
    undemanding: SetId,
    every_rule: SetId,
    rules: usize,
    sets: Sets,
}

impl Index {
    /// The number of a rule is its position in `rules`.
    pub fn build<'a>(rules: impl Iterator<Item = &'a Selector>) -> Self {
        let mut draft = Draft::default();
        for (selector, rule) in rules.zip(0u32..) {
            draft.add(rule, selector);
        }
        draft.finish()
    }

    /// The attribute in the terms of this index; None if no rule mentions its key.
    #[inline]
    pub fn resolve(&self, key: &str, value: &str) -> Option<Pair> {
        let key = *self.ids.get(key)?;
        let values = &self.keys.get(key.0 as usize)?.values;
        Some(Pair { key, value: values.get(value).copied().unwrap_or(ValueId::OTHER) })
    }

    /// The lowest rule of `within`, a set of the caller's over the same rules, that matches the
    /// attributes `pairs`, of which each key stands there once.
    pub fn first(&self, pairs: &[Pair], within: Set<'_>) -> Option<u32> {
        let mut best = None;
        for (keys, rules) in self.candidates(pairs) {
            'shape: for block in 0..within.blocks() {
                for index in sets::members(self.occupied(keys, rules, pairs, within, block)) {
                    let word = self.word(keys, rules, pairs, within, block, index);
                    if let Some(rule) = sets::lowest_rule(block, index, word) {
                        best = Some(best.map_or(rule, |best: u32| best.min(rule)));
                        break 'shape;
                    }
                }
            }
        }
        best
    }

    /// All rules that match.
    pub fn matching(&self, attributes: &Attributes) -> Bits {
        let pairs: Vec<Pair> =
            attributes.iter().filter_map(|(key, value)| self.resolve(key, value)).collect();
        let within = self.sets.get(self.every_rule);
        let mut matching = Bits::empty(self.rules);
        for (keys, rules) in self.candidates(&pairs) {
            for block in 0..within.blocks() {
                for index in sets::members(self.occupied(keys, rules, &pairs, within, block)) {
                    let word = self.word(keys, rules, &pairs, within, block, index);
                    matching.insert_word(sets::word_number(block, index), word);
                }
            }
        }
        matching
    }

    /// Shapes of which all keys are present, with their rules.
    fn candidates<'i>(&'i self, pairs: &'i [Pair]) -> impl Iterator<Item = (&'i [KeyId], Set<'i>)> {
        let present = |keys: &[KeyId]| keys.iter().all(|key| find(pairs, *key).is_some());
        let shapes = pairs.iter().flat_map(|pair| {
            let range = self.keys.get(pair.key.0 as usize).map_or(0..0, |key| key.shapes.clone());
            self.shapes.get(range.start as usize..range.end as usize).unwrap_or_default()
        });
        std::iter::once((&[][..], self.sets.get(self.undemanding))).chain(
            shapes
                .filter(move |shape| present(&shape.keys))
                .map(|shape| (&*shape.keys, self.sets.get(shape.rules))),
        )
    }

    /// Which words of a block can be other than zero.
    fn occupied(
        &self,
        keys: &[KeyId],
        rules: Set<'_>,
        pairs: &[Pair],
        within: Set<'_>,
        block: usize,
    ) -> u64 {
        let mut occupied = rules.occupied(block) & within.occupied(block);
        for key in keys {
            if occupied == 0 {
                break;
            }
            let (any, listed) = self.wanted(*key, pairs);
            occupied &= any.occupied(block) | listed.occupied(block);
        }
        occupied
    }

    fn word(
        &self,
        keys: &[KeyId],
        rules: Set<'_>,
        pairs: &[Pair],
        within: Set<'_>,
        block: usize,
        index: u32,
    ) -> u64 {
        let mut word = rules.word(block, index) & within.word(block, index);
        for key in keys {
            let (any, listed) = self.wanted(*key, pairs);
            word &= any.word(block, index) | listed.word(block, index);
        }
        for pair in pairs {
            if word == 0 {
                break;
            }
            let absent = self.keys.get(pair.key.0 as usize).map_or(SetId::EMPTY, |key| key.absent);
            let barred = self.values.get(pair.value.0 as usize).map_or(SetId::EMPTY, |v| v.barred);
            word &= !self.sets.get(absent).word(block, index);
            word &= !self.sets.get(barred).word(block, index);
        }
        word
    }

    /// The rules that require a key and are content with its value: whatever it is, and because
    /// they list it.
    fn wanted(&self, key: KeyId, pairs: &[Pair]) -> (Set<'_>, Set<'_>) {
        let any = self.keys.get(key.0 as usize).map_or(SetId::EMPTY, |key| key.any);
        let listed = find(pairs, key)
            .and_then(|pair| self.values.get(pair.value.0 as usize))
            .map_or(SetId::EMPTY, |value| value.listed);
        (self.sets.get(any), self.sets.get(listed))
    }
}

fn find(pairs: &[Pair], key: KeyId) -> Option<Pair> {
    pairs.iter().find(|pair| pair.key == key).copied()
}

/// An [`Index`] with lists for sets.
#[derive(Debug, Default)]
struct Draft {
    rules: u32,
    ids: FixedMap<Box<str>, KeyId>,
    keys: Vec<DraftKey>,
    values: Vec<DraftValue>,
    shapes: FixedMap<Box<[KeyId]>, Vec<u32>>,
}

#[derive(Debug, Default)]
struct DraftKey {
    values: FixedMap<Box<str>, ValueId>,
    any: Vec<u32>,
    absent: Vec<u32>,
}

#[derive(Debug, Default)]
struct DraftValue {
    listed: Vec<u32>,
    barred: Vec<u32>,
}

impl Draft {
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
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let id = KeyId(self.keys.len() as u32);
        self.ids.insert(key.into(), id);
        self.keys.push(DraftKey::default());
        id
    }

    fn value(&mut self, key: KeyId, value: &str) -> &mut DraftValue {
        let values = &mut self.keys[key.0 as usize].values;
        let id = match values.get(value) {
            Some(id) => *id,
            None => {
                let id = ValueId(self.values.len() as u32);
                values.insert(value.into(), id);
                self.values.push(DraftValue::default());
                id
            }
        };
        &mut self.values[id.0 as usize]
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
            .filter_map(|(keys, rules)| {
                let rarest = *keys.iter().min_by_key(|key| popularity[key.0 as usize])?;
                Some((rarest, keys, rules))
            })
            .collect();
        shapes.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));

        let keys = self
            .keys
            .into_iter()
            .zip(0u32..)
            .map(|(key, id)| Key {
                values: key.values,
                any: sets.add(&key.any),
                absent: sets.add(&key.absent),
                shapes: shapes.partition_point(|shape| shape.0 < KeyId(id)) as u32
                    ..shapes.partition_point(|shape| shape.0 <= KeyId(id)) as u32,
            })
            .collect();
        let values = self
            .values
            .into_iter()
            .map(|value| Value {
                listed: sets.add(&value.listed),
                barred: sets.add(&value.barred),
            })
            .collect();
        let shapes = shapes
            .into_iter()
            .map(|(_, keys, rules)| Shape { keys, rules: sets.add(&rules) })
            .collect();
        let every_rule = sets.add(&Vec::from_iter(0..self.rules));
        let ids = self.ids;
        Index { ids, keys, values, shapes, undemanding, every_rule, rules, sets: sets.finish() }
    }
}
