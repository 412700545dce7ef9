//! A place in a document: the path in words and the position to point at.

use super::{Mark, Node, Value};

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
        self.step(self.node.and_then(|node| node.get(name)), key(&self.path, name))
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
                self.step(Some(&item.node), index(&self.path, item.index))
            }
            _ => self.step(None, index(&self.path, position)),
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

/// `path.name`, or `path["name"]` for a name with characters that would read as several steps.
pub(super) fn key(path: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    match (plain, path.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{path}.{name}"),
        (false, _) => format!("{path}[{name:?}]"),
    }
}

pub(super) fn index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}
