//! Attributes reduced to what policies can tell apart.

use std::collections::{HashMap, HashSet};

use crate::attributes::Attributes;
use crate::fabric::Fabric;

/// The keys, and the values of each, that any selector of either side mentions.
pub(super) struct Vocabulary<'a>(HashMap<&'a str, HashSet<&'a str>>);

/// A mentioned key that is present, with its value if that is mentioned too. Two of equal signature
/// are alike to every policy. None for no attributes at all, which the guard tells from attributes
/// that nobody mentions.
pub(super) type Signature<'a> = Option<Vec<(&'a str, Option<&'a str>)>>;

impl<'a> Vocabulary<'a> {
    pub fn of(fabrics: [&'a Fabric; 2]) -> Self {
        let mut keys: HashMap<&str, HashSet<&str>> = HashMap::new();
        for policy in fabrics.into_iter().flat_map(Fabric::policies) {
            let selectors = policy.from.iter().chain(&policy.to);
            for requirement in selectors.flat_map(|selector| selector.requirements()) {
                let values = keys.entry(requirement.key()).or_default();
                values.extend(requirement.values().iter().map(|value| &**value));
            }
        }
        Self(keys)
    }

    pub fn signature(&self, attributes: &Attributes) -> Signature<'a> {
        if attributes.is_empty() {
            return None;
        }
        let reduced = attributes.iter().filter_map(|(key, value)| {
            let (key, values) = self.0.get_key_value(&**key)?;
            Some((*key, values.get(&**value).copied()))
        });
        Some(reduced.collect())
    }
}
