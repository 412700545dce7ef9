//! A tree to a typed object, with every shape error rather than the first.

use serde::de::DeserializeOwned;

use super::de::{NodeDeserializer, ShapeError};
use super::{Mark, Node, Value, path};
use crate::limits::MAX_SHAPE_ERRORS_PER_OBJECT;

/// One place where the tree does not fit the type.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub mark: Mark,
    pub path: String,
    pub message: String,
    pub hint: String,
}

#[derive(Debug)]
pub(crate) struct Decoded<T> {
    /// What could be read after the misfits were cut off. None when even that was impossible.
    pub object: Option<T>,
    pub misfits: Vec<Misfit>,
}

/// Reads `node` as a `T`. Parts that do not fit are removed from `node`, so that it and the object
/// stay parallel. `path` is where the node stands in its document.
///
/// Every field of `T` must be optional, or a removed part would come back as a missing field.
pub(crate) fn decode<T: DeserializeOwned>(node: &mut Node, path: &str) -> Decoded<T> {
    let mut misfits = Vec::new();
    loop {
        match T::deserialize(NodeDeserializer(node)) {
            Ok(object) => return Decoded { object: Some(object), misfits },
            Err(error) => {
                let root = error.steps.is_empty();
                misfits.push(cut(node, path, error));
                if root || misfits.len() >= MAX_SHAPE_ERRORS_PER_OBJECT {
                    return Decoded { object: None, misfits };
                }
            }
        }
    }
}

/// Removes what the error points at and says where it was.
fn cut(root: &mut Node, path: &str, error: ShapeError) -> Misfit {
    let mut node = root;
    let mut at = path.to_owned();
    let mut mark = node.mark;
    let mut steps = error.steps.into_iter().rev().peekable();
    while let Some(position) = steps.next() {
        let last = steps.peek().is_none();
        match &mut node.value {
            Value::Seq(items) if position < items.len() => {
                at = path::index(&at, items[position].index);
                mark = items[position].node.mark;
                if last {
                    items.remove(position);
                    break;
                }
                node = &mut items[position].node;
            }
            Value::Map(entries) if position < entries.len() => {
                let entry = &entries[position];
                at = path::key(&at, &entry.key);
                mark = if last && error.at_key { entry.key_mark } else { entry.node.mark };
                if last {
                    entries.remove(position);
                    break;
                }
                node = &mut entries[position].node;
            }
            _ => break,
        }
    }
    Misfit { mark, path: at, message: error.message, hint: error.hint }
}
