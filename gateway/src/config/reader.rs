//! Typed values out of a [`Node`] tree, with a note for everything that does not fit.
//!
//! A [`Section`] remembers the keys it was asked for: those are the known ones, and
//! [`Section::finish`] refuses all others. There is no second list of keys to keep in step.

use std::fmt::Display;
use std::ops::RangeInclusive;

use clgw_policy::yaml::{Entry, Mark, Node, Value, YamlError, nearest, path};
use clgw_policy::{Diagnostic, Severity};

/// Errors of one file, in the order they were found.
#[derive(Debug)]
pub(super) struct Findings {
    file: String,
    list: Vec<Diagnostic>,
}

impl Findings {
    pub fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), list: Vec::new() }
    }

    pub fn error(
        &mut self,
        mark: Mark,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.list.push(Diagnostic {
            severity: Severity::Error,
            file: self.file.clone(),
            line: mark.line,
            column: mark.column,
            field: field.into(),
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// Notes what is wrong with the file as YAML.
    pub fn yaml(&mut self, errors: &[YamlError]) {
        self.list.extend(errors.iter().map(|error| error.diagnostic(&self.file)));
    }

    /// All findings, in the order of the file.
    pub fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|d| (d.line, d.column));
        self.list
    }
}

/// A value with the place it came from. A default has the place of the section that lacks it.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub mark: Mark,
    pub field: String,
}

impl<T> At<T> {
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At { value: f(self.value), mark: self.mark, field: self.field }
    }

    /// Notes an error at this place.
    pub fn refuse(
        &self,
        findings: &mut Findings,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        findings.error(self.mark, self.field.clone(), message, hint);
    }
}

/// Why a text is not a value: message and hint.
#[derive(Debug)]
pub(super) struct Refusal {
    pub message: String,
    pub hint: String,
}

impl Refusal {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// One mapping of the file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    entries: &'a [Entry],
    path: String,
    mark: Mark,
    known: Vec<&'static str>,
    /// Not a mapping at all. That has been said; missing keys would only repeat it.
    broken: bool,
}

impl<'a> Section<'a> {
    /// `node` as a mapping; anything else is noted and read as an empty one. An empty value counts
    /// as an empty mapping, as when every key below it is commented out.
    pub fn of(node: &'a Node, path: String, findings: &mut Findings) -> Self {
        let mut broken = false;
        let entries: &'a [Entry] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            other => {
                broken = true;
                findings.error(
                    node.mark,
                    path.clone(),
                    format!("expected a mapping, found {}", other.kind()),
                    "write `key: value` lines below it",
                );
                &[]
            }
        };
        Self { entries, path, mark: node.mark, known: Vec::new(), broken }
    }

    /// Where errors about missing keys point.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    pub fn path_of(&self, key: &str) -> String {
        path::key(&self.path, key)
    }

    fn find(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.known.push(key);
        self.entries.iter().find(|e| e.key == key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|e| e.key == key)
    }

    /// The section under `key`, empty when missing.
    pub fn section(&mut self, key: &'static str, findings: &mut Findings) -> Section<'a> {
        let path = self.path_of(key);
        match self.find(key) {
            Some(entry) => {
                let mut section = Section::of(&entry.node, path, findings);
                section.mark = entry.key_mark;
                section
            }
            None => Section {
                entries: &[],
                path,
                mark: self.mark,
                known: Vec::new(),
                broken: self.broken,
            },
        }
    }

    /// Notes that `key` is missing, if it is; `hint` says what belongs there.
    pub fn require(&self, key: &str, hint: &str, findings: &mut Findings) {
        if !self.has(key) && !self.broken {
            findings.error(self.mark, self.path_of(key), "is missing", hint);
        }
    }

    /// Elements of the list under `key` with their paths. None when missing and, after a note, when
    /// it is no list.
    pub fn list(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
    ) -> Option<Vec<(&'a Node, String)>> {
        let path = self.path_of(key);
        let entry = self.find(key)?;
        match &entry.node.value {
            Value::Seq(items) => {
                Some(items.iter().map(|i| (&i.node, path::index(&path, i.index))).collect())
            }
            Value::Null => Some(Vec::new()),
            other => {
                findings.error(
                    entry.node.mark,
                    path,
                    format!("expected a list, found {}", other.kind()),
                    "write `[a, b]`, or one `- a` line for each",
                );
                None
            }
        }
    }

    /// All keys with text values, as of a label map.
    pub fn texts(mut self, findings: &mut Findings) -> Vec<(At<String>, At<String>)> {
        let entries = std::mem::take(&mut self.entries);
        let mut out: Vec<(At<String>, At<String>)> = Vec::new();
        for entry in entries {
            let field = path::key(&self.path, &entry.key);
            let key = At { value: entry.key.clone(), mark: entry.key_mark, field: field.clone() };
            if let Some(value) = text(&entry.node, field, findings) {
                out.push((key, value));
            }
        }
        out
    }

    /// The text under `key`; None when missing, and also, after a note, when it is something else.
    pub fn text(&mut self, key: &'static str, findings: &mut Findings) -> Option<At<String>> {
        let field = self.path_of(key);
        let entry = self.find(key)?;
        text(&entry.node, field, findings)
    }

    /// As [`Self::text`], but a missing key is noted; `hint` says what belongs there.
    pub fn required(
        &mut self,
        key: &'static str,
        hint: &str,
        findings: &mut Findings,
    ) -> Option<At<String>> {
        self.require(key, hint, findings);
        self.text(key, findings)
    }

    /// A whole number within `range`, `default` when missing.
    pub fn number<T>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<T>,
        default: T,
        findings: &mut Findings,
    ) -> At<T>
    where
        T: Copy + Display + PartialOrd + TryFrom<i128>,
    {
        let field = self.path_of(key);
        let Some(entry) = self.find(key) else {
            return At { value: default, mark: self.mark, field };
        };
        let mark = entry.node.mark;
        let value = match &entry.node.value {
            Value::Int(n) => match T::try_from(*n) {
                Ok(value) if range.contains(&value) => value,
                _ => {
                    findings.error(
                        mark,
                        field.clone(),
                        format!("{n} is out of range"),
                        format!("allowed: {} to {}", range.start(), range.end()),
                    );
                    default
                }
            },
            other => {
                findings.error(
                    mark,
                    field.clone(),
                    format!("expected a whole number, found {}", other.kind()),
                    format!("write a number from {} to {}", range.start(), range.end()),
                );
                default
            }
        };
        At { value, mark, field }
    }

    /// One of the named values, `default` when missing.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        allowed: &[(&str, T)],
        default: T,
        findings: &mut Findings,
    ) -> T {
        self.choice_if_any(key, allowed, findings).unwrap_or(default)
    }

    /// One of the named values; None when missing or unknown, and only the latter is noted.
    pub fn choice_if_any<T: Copy>(
        &mut self,
        key: &'static str,
        allowed: &[(&str, T)],
        findings: &mut Findings,
    ) -> Option<T> {
        let field = self.path_of(key);
        let entry = self.find(key)?;
        let words = || allowed.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let found = match &entry.node.value {
            Value::String(word) => {
                if let Some((_, value)) = allowed.iter().find(|(name, _)| name == word) {
                    return Some(*value);
                }
                format!("unknown value {word:?}")
            }
            other => format!("expected a word, found {}", other.kind()),
        };
        findings.error(entry.node.mark, field, found, format!("allowed: {}", words()));
        None
    }

    /// Text that `parse` turns into a value; None when missing or refused. A bare number counts as
    /// its text, so that the refusal can say which unit is missing.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
        findings: &mut Findings,
    ) -> Option<At<T>> {
        let field = self.path_of(key);
        let entry = self.find(key)?;
        let text = match &entry.node.value {
            Value::Int(n) => At { value: n.to_string(), mark: entry.node.mark, field },
            _ => text(&entry.node, field, findings)?,
        };
        parsed(text, parse, findings)
    }

    /// Refuses the keys nobody asked for.
    pub fn finish(self, findings: &mut Findings) {
        for entry in self.entries {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            let hint = match nearest(&entry.key, &self.known) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            findings.error(
                entry.key_mark,
                path::key(&self.path, &entry.key),
                format!("unknown key {:?}", entry.key),
                hint,
            );
        }
    }
}

/// `node` as text; anything else is noted.
pub(super) fn text(node: &Node, field: String, findings: &mut Findings) -> Option<At<String>> {
    let hint = match &node.value {
        Value::String(value) if !value.trim().is_empty() => {
            return Some(At { value: value.clone(), mark: node.mark, field });
        }
        Value::String(_) => {
            findings.error(node.mark, field, "is empty", "give it a value, or remove the key");
            return None;
        }
        Value::Null => "give it a value, or remove the key",
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => "put the value in quotes",
        Value::Seq(_) | Value::Map(_) => "write a single value",
    };
    findings.error(node.mark, field, format!("expected text, found {}", node.value.kind()), hint);
    None
}

/// `text` through `parse`; a refusal is noted at its place.
pub(super) fn parsed<T>(
    text: At<String>,
    parse: impl FnOnce(&str) -> Result<T, Refusal>,
    findings: &mut Findings,
) -> Option<At<T>> {
    match parse(&text.value) {
        Ok(value) => Some(text.map(|_| value)),
        Err(refusal) => {
            text.refuse(findings, refusal.message, refusal.hint);
            None
        }
    }
}
