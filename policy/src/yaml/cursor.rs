//! A place in a document: the path in words and the position to point at.

use super::{Mark, Node, Value, path};

/// Walks a tree beside the typed object, so that a check of the object can say where it failed.
/// Steps into missing parts are allowed: the position stays at the nearest part that exists.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    node: Option<&'a Node>,
    pub mark: Mark,
    pub path: String,
}

impl<'a> Cursor<'a> {
    pub fn new(node: &'a Node, path: impl Into<String>) -> Self {
        Self { node: Some(node), mark: node.mark, path: path.into() }
    }

    /// The value under `name`.
    pub fn key(&self, name: &str) -> Self {
        self.step(self.node.and_then(|node| node.get(name)), path::key(&self.path, name))
    }

    /// The key `name` itself, for complaints about the key rather than its value.
    pub fn at_key(&self, name: &str) -> Self {
        let mut cursor = self.key(name);
        if let Some(Node { value: Value::Map(entries), .. }) = self.node
            && let Some(entry) = entries.iter().find(|entry| entry.key == name)
        {
            cursor.mark = entry.key_mark;
        }
        cursor
    }

    /// The element at `position` of those that could be read.
    pub fn index(&self, position: usize) -> Self {
        match self.node {
            Some(Node { value: Value::Seq(items), .. }) if position < items.len() => {
                let item = &items[position];
                self.step(Some(&item.node), path::index(&self.path, item.index))
            }
            _ => self.step(None, path::index(&self.path, position)),
        }
    }

    /// The same place without the tree, for one that is about to change.
    pub fn detached(&self) -> Cursor<'static> {
        Cursor { node: None, mark: self.mark, path: self.path.clone() }
    }

    fn step(&self, node: Option<&'a Node>, path: String) -> Self {
        Self { node, mark: node.map_or(self.mark, |node| node.mark), path }
    }
}
