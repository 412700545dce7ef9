//! YAML text to trees with positions, for everything that wants to name the line it complains about.
//!
//! [`documents`] and [`document`] turn text into [`Node`]s: each value with its line and column,
//! within a [`Budget`], and with every repeated key refused. They read YAML 1.2: `on`, `yes` and `n`
//! are texts. Tags other than the core ones and merge keys (`<<`) are errors.
//!
//! Typed objects are read in a second step because one serde pass stops at its first error: inside
//! this crate serde runs over the tree, and after an error the offending part is cut off and reading
//! goes on.

mod cursor;
mod de;
mod decode;
mod error;
mod nearest;
mod node;
mod parse;
pub mod path;

pub(crate) use cursor::Cursor;
pub(crate) use decode::decode;
pub use error::YamlError;
pub use nearest::nearest;
pub use node::{Entry, Item, Node, Value};
pub use parse::{Budget, document, documents};

/// Position of a value; both count characters from 1 and are 0 where there is no position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    pub line: u64,
    pub column: u64,
}
