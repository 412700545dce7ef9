//! Text to documents.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{NonFiniteFloatPolicy, Options};

use super::{Mark, Node, Value};
use crate::diagnostic::{Diagnostic, Severity, SourceFile};
use crate::limits;

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(limits::MAX_FILE_BYTES),
            max_depth: limits::MAX_YAML_DEPTH,
            max_nodes: limits::MAX_YAML_NODES,
            max_events: 2 * limits::MAX_YAML_NODES,
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

/// All documents of a file that can be read. Empty documents are left out.
///
/// After a syntax error the rest of the file is lost; duplicate keys are reported and the first
/// value is kept.
pub(crate) fn parse(file: &SourceFile, diagnostics: &mut Vec<Diagnostic>) -> Vec<Node> {
    let mut complain = |mark: Mark, field: String, message: String, hint: &str| {
        diagnostics.push(Diagnostic {
            severity: Severity::Error,
            file: file.path.clone(),
            line: mark.line,
            column: mark.column,
            field,
            message,
            hint: hint.to_owned(),
        });
    };
    let bytes = file.text.len();
    if bytes > limits::MAX_FILE_BYTES {
        let message = format!(
            "the file has {bytes} bytes, more than the limit of {}",
            limits::MAX_FILE_BYTES
        );
        complain(Mark::default(), String::new(), message, "split it into several files");
        return Vec::new();
    }
    let mut documents = Vec::new();
    let mut nodes = 0;
    let mut reader = file.text.as_bytes();
    for document in serde_saphyr::read_with_options::<_, Node>(&mut reader, options()) {
        let mut node = match document {
            Ok(node) => node,
            Err(error) => {
                let (mark, message, hint) = syntax_error(&error);
                complain(mark, String::new(), message, hint);
                continue;
            }
        };
        nodes += drop_duplicate_keys(&mut node, "", &mut |mark, field, first| {
            let message = format!("the key is already set in line {}", first.line);
            complain(mark, field, message, "keep one of the two");
        });
        // The parser counts aliases per document. Without them no node takes less than a byte.
        if nodes > bytes + limits::MAX_YAML_ALIAS_EVENTS {
            let message = "the file exceeds a limit for YAML: its aliases stand for too much";
            complain(node.mark, String::new(), message.to_owned(), LIMIT_HINT);
            break;
        }
        if node.value != Value::Null {
            documents.push(node);
        }
    }
    documents
}

const LIMIT_HINT: &str = "split it into smaller documents, nest less, and write aliases out";

fn syntax_error(error: &serde_saphyr::Error) -> (Mark, String, &'static str) {
    let error = error.without_snippet();
    let mark = error.location().map_or_else(Mark::default, |location| Mark {
        line: location.line(),
        column: location.column(),
    });
    let text = first_line(error, mark);
    if is_limit(error) {
        (mark, format!("the document exceeds a limit for YAML: {text}"), LIMIT_HINT)
    } else {
        let hint = "correct the YAML here; the documents behind it may not have been checked";
        (mark, format!("not readable as YAML: {text}"), hint)
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
fn first_line(error: &serde_saphyr::Error, mark: Mark) -> String {
    let Mark { line, column } = mark;
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let message =
        message.strip_prefix(&format!("line {line} column {column}: ")).unwrap_or(message);
    let message = message.strip_prefix("budget breached: ").unwrap_or(message);
    message.find(" at line ").map_or(message, |at| &message[..at]).to_owned()
}

/// Keeps the first of several equal keys and calls `report(second, path, first)` for the others.
/// Returns the number of nodes.
fn drop_duplicate_keys(
    node: &mut Node,
    path: &str,
    report: &mut impl FnMut(Mark, String, Mark),
) -> usize {
    let mut nodes = 1;
    match &mut node.value {
        Value::Seq(items) => {
            for item in items {
                let child = super::cursor::index(path, item.index);
                nodes += drop_duplicate_keys(&mut item.node, &child, report);
            }
        }
        Value::Map(entries) => {
            let mut seen: HashMap<String, Mark> = HashMap::with_capacity(entries.len());
            entries.retain_mut(|entry| {
                let child = super::cursor::key(path, &entry.key);
                nodes += 1 + drop_duplicate_keys(&mut entry.node, &child, report);
                match seen.entry(entry.key.clone()) {
                    Slot::Occupied(first) => {
                        report(entry.key_mark, child, *first.get());
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
