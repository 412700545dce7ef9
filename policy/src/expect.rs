//! A table of expected decisions: `sites` with their objects, `tests` with a question and the
//! answer it must have.
//!
//! [`parse`] reads it without looking at any site; [`evaluate`] asks, once the caller has read the
//! sites' objects. Both report everything that is wrong at once.

mod evaluate;
mod parse;
mod shape;

pub use evaluate::{Answer, Leg, evaluate};
pub use parse::{object_name, parse};

use crate::client::Client;
use crate::decide::Verdict;
use crate::fabric::{Labels, ObjectName};
use crate::yaml::Mark;

/// A table without errors.
#[derive(Debug, Clone, Default)]
pub struct Expectations {
    pub sites: Vec<SiteEntry>,
    pub cases: Vec<Case>,
}

/// A site that cases ask. Its name is the peer's.
#[derive(Debug, Clone)]
pub struct SiteEntry {
    pub name: Box<str>,
    pub files: SiteFiles,
    /// Of the peer. Empty with a [`SiteFiles::Config`], which has them itself.
    pub labels: Labels,
    /// For errors that only show when the files are read.
    pub at: Place,
}

/// Where a site's objects are, as it stands in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteFiles {
    /// A directory of objects.
    Objects(String),
    /// A gateway.yaml, which names the directory.
    Config(String),
}

/// A place in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub mark: Mark,
    pub field: String,
}

/// One question and its expected answer.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub at: Place,
    pub site: Box<str>,
    pub question: Question,
    /// Where the import or export is named.
    pub service_at: Place,
    pub expect: Verdict,
    /// The policy that must be the last one asked.
    pub by: Option<(String, Place)>,
}

#[derive(Debug, Clone)]
pub enum Question {
    /// The whole connection; through any source, or those of one peer.
    Import { import: ObjectName, client: Client, peer: Option<(Box<str>, Place)> },
    /// The exporter alone.
    Export { export: ObjectName, client: Client },
}
