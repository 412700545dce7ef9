//! What commands print: results to stdout, errors to stderr, colour only for people.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clgw_policy::{Diagnostic, Severity};
use serde_json::{Map, Value, json};

use super::snippet::Painter;

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const RESET: &str = "\x1b[0m";

/// Whether text for stderr may be coloured: a terminal, and not against NO_COLOR, which counts
/// when it is set and not empty (no-color.org).
pub(super) fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// One line to stdout. A reader that went away is not our failure.
pub(super) fn line(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// `error: text` to stderr.
pub(super) fn error(text: impl Display) {
    let _ =
        writeln!(io::stderr(), "{}", paint(Severity::Error, &format!("error: {text}"), colour()));
}

/// One finding after the other to stderr, as compilers draw them, and the counts at the end.
pub(super) fn diagnostics(list: &[Diagnostic]) {
    let colour = colour();
    let mut painter = Painter::new(colour);
    let mut out = io::stderr().lock();
    for finding in list {
        let _ = writeln!(out, "{}\n", painter.paint(finding));
    }
    let (errors, warnings) = counts(list);
    let said = [(errors, "error"), (warnings, "warning")].into_iter();
    let found: Vec<String> = said.filter(|(n, _)| *n > 0).map(|(n, word)| count(n, word)).collect();
    let worst = if errors > 0 { Severity::Error } else { Severity::Warning };
    if !found.is_empty() {
        let text = format!("{worst}: {} found", found.join(" and "));
        let _ = writeln!(out, "{}", paint(worst, &text, colour));
    }
}

/// `1 thing`, `2 things`.
pub(super) fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// `1 policy`, `2 policies`.
pub(super) fn policies(number: usize) -> String {
    format!("{number} {}", if number == 1 { "policy" } else { "policies" })
}

/// Errors and warnings among `list`.
pub(super) fn counts(list: &[Diagnostic]) -> (usize, usize) {
    let errors = list.iter().filter(|d| d.severity == Severity::Error).count();
    (errors, list.len() - errors)
}

/// The findings for machines: `findings`, and their counts as `errors` and `warnings`. 0 as line
/// and column means the whole file; field and hint may be empty.
pub(super) fn findings_json(list: &[Diagnostic]) -> Map<String, Value> {
    let (errors, warnings) = counts(list);
    let finding = |d: &Diagnostic| {
        json!({
            "severity": d.severity.to_string(),
            "file": d.file,
            "line": d.line,
            "column": d.column,
            "field": d.field,
            "message": d.message,
            "hint": d.hint,
        })
    };
    let mut document = Map::new();
    document.insert("errors".to_owned(), errors.into());
    document.insert("warnings".to_owned(), warnings.into());
    document.insert("findings".to_owned(), list.iter().map(finding).collect());
    document
}

/// One JSON document to stdout.
pub(super) fn json(document: &Value) {
    // In one piece: stdout would be written line by line.
    line(format!("{document:#}"));
}

/// The word of the severity in colour, the rest as it is.
fn paint(severity: Severity, text: &str, colour: bool) -> String {
    if !colour {
        return text.to_owned();
    }
    let (word, code) = match severity {
        Severity::Error => ("error: ", RED),
        Severity::Warning => ("warning: ", YELLOW),
    };
    text.replacen(word, &format!("{code}{word}{RESET}"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_is_coloured_and_only_when_wanted() {
        let text = "gateway.yaml:1:2: error: peer.name: is missing";
        assert_eq!(paint(Severity::Error, text, false), text);
        assert_eq!(
            paint(Severity::Error, text, true),
            "gateway.yaml:1:2: \x1b[1;31merror: \x1b[0mpeer.name: is missing"
        );
    }
}
