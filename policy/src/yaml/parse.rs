//! Text to trees.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{NonFiniteFloatPolicy, Options};

use super::node::Raw;
use super::{Mark, Node, Value, YamlError, path};
use crate::limits;

/// What reading one text may cost. Aliases have the same bounds in every text:
/// [`limits::MAX_YAML_ALIASES`] and [`limits::MAX_YAML_ALIAS_EVENTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of the text.
    pub bytes: usize,
    /// Levels of nesting in one document. Reading recurses once per level.
    pub depth: usize,
    /// Scalars, sequences and mappings of one document.
    pub nodes: usize,
}

/// All documents of `text` that can be read, in order; empty ones are left out.
///
/// What is wrong is added to `errors`. After a syntax error the rest of the text may be lost; of
/// equal keys the first is kept. Without a new error, the result is everything that `text` says.
pub fn documents(text: &str, budget: &Budget, errors: &mut Vec<YamlError>) -> Vec<Node> {
    if !fits(text, budget, errors) {
        return Vec::new();
    }
    let mut documents = Vec::new();
    let mut nodes = 0;
    let mut reader = text.as_bytes();
    for document in serde_saphyr::read_with_options::<_, Raw>(&mut reader, options(budget)) {
        let mut node = match document {
            Ok(Raw(node)) => node,
            Err(error) => {
                errors.push(YamlError::from_parser(&error));
                continue;
            }
        };
        nodes += drop_duplicate_keys(&mut node, &Steps::Root, errors);
        // The parser counts aliases per document. Without them no node takes less than a byte.
        if nodes > text.len() + limits::MAX_YAML_ALIAS_EVENTS {
            let message = "the aliases of all documents together stand for too much".to_owned();
            errors.push(YamlError::Limit { mark: node.mark, message });
            break;
        }
        if node.value != Value::Null {
            documents.push(node);
        }
    }
    documents
}

/// The only document of `text`, [`Value::Null`] if there is none or it is empty. A second document
/// is a syntax error.
///
/// What is wrong is added to `errors`; None if that left no document. Of equal keys the first is
/// kept.
pub fn document(text: &str, budget: &Budget, errors: &mut Vec<YamlError>) -> Option<Node> {
    if !fits(text, budget, errors) {
        return None;
    }
    match serde_saphyr::from_str_with_options::<Raw>(text, options(budget)) {
        Ok(Raw(mut node)) => {
            drop_duplicate_keys(&mut node, &Steps::Root, errors);
            Some(node)
        }
        Err(error) => {
            errors.push(YamlError::from_parser(&error));
            None
        }
    }
}

fn fits(text: &str, budget: &Budget, errors: &mut Vec<YamlError>) -> bool {
    let (bytes, limit) = (text.len(), budget.bytes);
    if bytes > limit {
        errors.push(YamlError::TooLong { bytes, limit });
    }
    bytes <= limit
}

fn options(budget: &Budget) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(budget.bytes),
            max_depth: budget.depth,
            max_nodes: budget.nodes,
            max_events: 2 * budget.nodes,
            max_aliases: limits::MAX_YAML_ALIASES,
            max_anchors: limits::MAX_YAML_ALIASES,
            max_recorded_anchor_events: limits::MAX_YAML_ALIAS_EVENTS,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: limits::MAX_YAML_ALIAS_EVENTS,
            max_replay_stack_depth: 8,
        },
        // Found below, where the document can still be read on.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // A merged value would have no place of its own to point at.
        merge_keys: MergeKeyPolicy::Error,
        // YAML 1.2: `n` and `yes` are texts, and good names for namespaces and label values.
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        reject_unsupported_tags: true,
        emit_comments: false,
        with_snippet: false,
    }
}

/// The way to a value. Only an error needs it as a text, which is as long as the keys on the way.
enum Steps<'a> {
    Root,
    Key(&'a Steps<'a>, &'a str),
    Index(&'a Steps<'a>, usize),
}

impl Steps<'_> {
    fn path(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Key(at, key) => path::key(&at.path(), key),
            Self::Index(at, index) => path::index(&at.path(), *index),
        }
    }
}

/// Keeps the first of several equal keys and reports the others. Returns the number of nodes.
fn drop_duplicate_keys(node: &mut Node, at: &Steps<'_>, errors: &mut Vec<YamlError>) -> usize {
    let mut nodes = 1;
    match &mut node.value {
        Value::Seq(items) => {
            for item in items {
                let child = Steps::Index(at, item.index);
                nodes += drop_duplicate_keys(&mut item.node, &child, errors);
            }
        }
        Value::Map(entries) => {
            let mut seen: HashMap<String, Mark> = HashMap::with_capacity(entries.len());
            entries.retain_mut(|entry| {
                let child = Steps::Key(at, &entry.key);
                nodes += 1 + drop_duplicate_keys(&mut entry.node, &child, errors);
                match seen.entry(entry.key.clone()) {
                    Slot::Occupied(first) => {
                        let (mark, first) = (entry.key_mark, *first.get());
                        errors.push(YamlError::DuplicateKey { mark, path: child.path(), first });
                        false
                    }
                    Slot::Vacant(slot) => {
                        slot.insert(entry.key_mark);
                        true
                    }
                }
            });
        }
        _ => {}
    }
    nodes
}
