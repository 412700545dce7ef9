//! YAML text to trees with positions, and trees to typed objects with every error at once.
//!
//! Reading goes in two steps because one serde pass stops at its first error. The parser builds a
//! [`Node`] tree that keeps line and column; [`decode()`] runs serde over that tree, and after an
//! error cuts off the offending part and goes on.

mod cursor;
mod de;
mod decode;
mod node;
mod parse;

pub(crate) use cursor::Cursor;
pub(crate) use de::nearest;
pub(crate) use decode::decode;
pub(crate) use node::{Entry, Item, Node, Value};
pub(crate) use parse::parse;

/// Position of a value; both count characters from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub line: u64,
    pub column: u64,
}
