//! What can be wrong with a text as YAML, whatever it means.

use super::Mark;
use super::node::mark;
use crate::diagnostic::{Diagnostic, Severity};

/// Why a text, or one document or key of it, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// Nothing was read.
    #[error("the file has {bytes} bytes, more than the limit of {limit}")]
    TooLong { bytes: usize, limit: usize },

    /// This document was not read, and perhaps none behind it.
    #[error("not readable as YAML: {message}")]
    Syntax { mark: Mark, message: String },

    /// This document costs more than the [`Budget`](super::Budget) allows, or the aliases of the
    /// text stand for too much. Documents behind it may be missing too.
    #[error("not readable as YAML: it exceeds a limit: {message}")]
    Limit { mark: Mark, message: String },

    /// A mapping has the key twice; the tree has the first.
    #[error("the key is already set in line {}", first.line)]
    DuplicateKey {
        mark: Mark,
        /// The key with its [path](super::path).
        path: String,
        first: Mark,
    },
}

impl YamlError {
    pub(super) fn from_parser(error: &serde_saphyr::Error) -> Self {
        let error = error.without_snippet();
        let mark = error.location().map_or_else(Mark::default, mark);
        let message = bare_message(error, mark);
        if is_limit(error) { Self::Limit { mark, message } } else { Self::Syntax { mark, message } }
    }

    /// Where it is; line and column 0 for the whole text.
    pub fn mark(&self) -> Mark {
        match self {
            Self::TooLong { .. } => Mark::default(),
            Self::Syntax { mark, .. }
            | Self::Limit { mark, .. }
            | Self::DuplicateKey { mark, .. } => *mark,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "check that this is the right file; split it into several",
            Self::Syntax { .. } => "correct the YAML here; other errors may show only then",
            Self::Limit { .. } => "use smaller documents, nest less, and write aliases out",
            Self::DuplicateKey { .. } => "keep one of the two",
        }
    }

    /// The same as an error in `file`.
    pub fn diagnostic(&self, file: &str) -> Diagnostic {
        let mark = self.mark();
        Diagnostic {
            severity: Severity::Error,
            file: file.to_owned(),
            line: mark.line,
            column: mark.column,
            field: match self {
                Self::DuplicateKey { path, .. } => path.clone(),
                _ => String::new(),
            },
            message: self.to_string(),
            hint: self.hint().to_owned(),
        }
    }
}

fn is_limit(error: &serde_saphyr::Error) -> bool {
    use serde_saphyr::Error;
    matches!(
        error,
        Error::Budget { .. }
            | Error::AliasReplayCounterOverflow { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. }
    )
}

/// The parser's message without the position, which stands in fields of its own.
fn bare_message(error: &serde_saphyr::Error, mark: Mark) -> String {
    use serde_saphyr::budget::BudgetBreach;
    if let serde_saphyr::Error::Budget { breach, .. } = error {
        // The parser's own words are Rust's.
        match breach {
            BudgetBreach::Depth { depth } => return format!("nested {depth} levels deep"),
            BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
                return "too many values in one document".to_owned();
            }
            BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => {
                return "too many anchors or aliases".to_owned();
            }
            _ => {}
        }
    }
    let Mark { line, column } = mark;
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let message =
        message.strip_prefix(&format!("line {line} column {column}: ")).unwrap_or(message);
    let message = message.strip_prefix("budget breached: ").unwrap_or(message);
    message.find(" at line ").map_or(message, |at| &message[..at]).to_owned()
}
