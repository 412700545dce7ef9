//! What commands print: results to stdout, errors to stderr, colour only for people.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clgw_policy::{Diagnostic, Severity};

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

/// One finding after the other to stderr, and a count of the errors at the end.
pub(super) fn diagnostics(list: &[Diagnostic]) {
    let colour = colour();
    let mut out = io::stderr().lock();
    for diagnostic in list {
        let _ = writeln!(out, "{}", paint(diagnostic.severity, &diagnostic.to_string(), colour));
    }
    let errors = list.iter().filter(|d| d.severity == Severity::Error).count();
    if errors > 0 {
        let plural = if errors == 1 { "" } else { "s" };
        let _ = writeln!(
            out,
            "{}",
            paint(Severity::Error, &format!("error: {errors} error{plural} found"), colour)
        );
    }
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
