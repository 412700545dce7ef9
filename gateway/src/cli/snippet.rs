//! One finding as a compiler shows it: what is wrong, the line with the value underlined, and what
//! to do about it.

use std::ops::Range;
use std::path::Path;

use annotate_snippets::{
    AnnotationKind, Element, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};
use clgw_policy::{Diagnostic, Severity};

use crate::config;

/// Characters of a line that are shown. Generated files may be one line of megabytes.
const LONGEST_LINE: usize = 2_000;

/// Draws findings. Files are read again for the lines; the last one is kept, because findings come
/// file by file.
pub(super) struct Painter {
    renderer: Renderer,
    file: String,
    text: String,
    /// Where each line of `text` begins.
    starts: Vec<usize>,
}

impl Painter {
    pub fn new(colour: bool) -> Self {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        Self { renderer, file: String::new(), text: String::new(), starts: Vec::new() }
    }

    /// The finding in several lines, without a final newline. Where the file has no such line, or
    /// can no longer be read, the place stands alone.
    pub fn paint(&mut self, finding: &Diagnostic) -> String {
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = if finding.field.is_empty() {
            finding.message.clone()
        } else {
            format!("{}: {}", finding.field, finding.message)
        };
        let line = self.line(&finding.file, finding.line);
        let place: Element<'_> = match &line {
            Some(line) => {
                let span = extent(line, finding.column);
                Snippet::source(line.as_str())
                    .line_start(usize::try_from(finding.line).unwrap_or(usize::MAX))
                    .path(finding.file.as_str())
                    .annotation(AnnotationKind::Primary.span(span))
                    .into()
            }
            None => {
                let mut origin = Origin::path(finding.file.as_str());
                if let (Ok(line @ 1..), Ok(column)) =
                    (usize::try_from(finding.line), usize::try_from(finding.column))
                {
                    origin = origin.line(line).char_column(column);
                }
                origin.into()
            }
        };
        let mut group = level.primary_title(title).element(place);
        if !finding.hint.is_empty() {
            group = group.element(Level::HELP.message(normalize_untrusted_str(&finding.hint)));
        }
        self.renderer.render(&[group])
    }

    fn line(&mut self, file: &str, number: u64) -> Option<String> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        if self.file != file {
            file.clone_into(&mut self.file);
            self.text = config::read_text(Path::new(file)).unwrap_or_default();
            let ends = self.text.match_indices('\n').map(|(end, _)| end + 1);
            self.starts = std::iter::once(0).chain(ends).collect();
        }
        let line = self.text[*self.starts.get(index)?..].lines().next()?;
        line.chars().nth(LONGEST_LINE).is_none().then(|| line.to_owned())
    }
}

/// The bytes of the value that begins at `column` (characters, from 1): a quoted text to its
/// closing quote, anything else to where YAML's flow punctuation, a comment or the key's colon ends
/// it.
fn extent(line: &str, column: u64) -> Range<usize> {
    let skip = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some((start, first)) = line.char_indices().nth(skip) else {
        return line.len()..line.len();
    };
    let rest = &line[start..];
    let end = match first {
        '"' | '\'' => rest[1..].find(first).map_or(rest.len(), |at| at + 2),
        '{' | '[' => 1,
        _ => ["}", "]", ", ", ": ", " #"]
            .iter()
            .filter_map(|stop| rest.find(stop))
            .chain([rest.strip_suffix([':', ',']).unwrap_or(rest).len()])
            .min()
            .unwrap_or(rest.len()),
    };
    let value = rest[..end].trim_end();
    // Of a place between values, as at the end of a line, one character.
    start..start + value.len().max(first.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_underlined_and_nothing_behind_it() {
        let underlined = |line: &'static str, column| &line[extent(line, column)];
        assert_eq!(underlined("  action: alow  # really", 11), "alow");
        assert_eq!(underlined("  { port: 80, host: a }", 11), "80");
        assert_eq!(underlined("  { port: 80, host: a }", 21), "a");
        assert_eq!(underlined("addresses: [10.0.0.1, \"fd00::1, x\"]", 23), "\"fd00::1, x\"");
        assert_eq!(underlined("  acton: allow", 3), "acton");
        assert_eq!(underlined("  spec:", 3), "spec");
        assert_eq!(underlined("spec: {action: deny}", 7), "{");
        assert_eq!(underlined("host: bücher.example", 7), "bücher.example");
        assert_eq!(underlined("short", 80), "");
        assert_eq!(underlined("", 1), "");
    }

    proptest::proptest! {
        #[test]
        fn any_place_in_any_line_can_be_underlined(
            line in "[ a:#,\"'{}\\[\\]é\u{1f600}]*",
            column: u8,
        ) {
            let span = extent(&line, u64::from(column));
            assert!(span.start <= span.end && line.get(span).is_some());
        }
    }

    fn finding(file: &str, line: u64, column: u64) -> Diagnostic {
        Diagnostic {
            file: file.to_owned(),
            line,
            column,
            severity: Severity::Error,
            field: "spec.action".to_owned(),
            message: "unknown action `alow`".to_owned(),
            hint: "write `action: allow` or `action: deny`".to_owned(),
        }
    }

    #[test]
    fn a_finding_is_drawn_as_compilers_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.yaml");
        std::fs::write(&file, "kind: AccessPolicy\nspec:\n  action: alow # typo\n").unwrap();
        let name = file.display().to_string();
        let text = Painter::new(false).paint(&finding(&name, 3, 11));
        let expected = format!(
            "error: spec.action: unknown action `alow`\n \
             --> {name}:3:11\n  \
             |\n\
             3 |   action: alow # typo\n  \
             |           ^^^^\n  \
             |\n  \
             = help: write `action: allow` or `action: deny`"
        );
        assert_eq!(text, expected);
        assert!(Painter::new(true).paint(&finding(&name, 3, 11)).contains('\u{1b}'));
    }

    #[test]
    fn without_the_line_the_place_stands_alone() {
        let text = Painter::new(false).paint(&finding("/nonexistent/p.yaml", 3, 11));
        assert!(text.contains("--> /nonexistent/p.yaml:3:11\n"), "{text}");
        let text = Painter::new(false).paint(&finding("/nonexistent/p.yaml", 0, 0));
        assert!(text.contains("--> /nonexistent/p.yaml\n"), "{text}");
    }

    #[test]
    fn a_file_cannot_send_escape_sequences_to_the_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.yaml");
        std::fs::write(&file, "action: \u{1b}[2Jx\n").unwrap();
        let mut bad = finding(&file.display().to_string(), 1, 9);
        bad.message = "unknown \u{1b}[2J".to_owned();
        bad.hint = "\u{1b}[2J".to_owned();
        let text = Painter::new(false).paint(&bad);
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
