//! Tables for the terminal and for documents.

use std::fmt::Write as _;

use super::Report;
use super::tables::{Table, quantiles};

/// As it stands on the terminal: facts first, then each scenario's tables, then the notes.
pub(super) fn terminal(report: &Report) -> String {
    let facts = report.facts();
    let width = facts.iter().map(|(head, _)| head.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (head, fact) in &facts {
        let _ = writeln!(text, "{head:<width$}  {fact}");
    }
    if let Some(warning) = report.environment.warning() {
        let _ = writeln!(text, "{:<width$}  {warning}", "WARNING");
    }
    for scenario in report.scenarios() {
        text.push_str(&tables(report, scenario));
    }
    if !report.notes.is_empty() {
        text.push('\n');
    }
    for note in &report.notes {
        let _ = writeln!(text, "- {note}");
    }
    text
}

/// A document with a section per scenario, whose tables can be taken over as they are.
pub(super) fn document(report: &Report) -> String {
    let mut text = String::from("# Results of clgw-bench\n\n");
    if let Some(warning) = report.environment.warning() {
        let _ = writeln!(text, "**Warning: {warning}.**\n");
    }
    for (head, fact) in report.facts() {
        let _ = writeln!(text, "- {head}: {}", escape(&fact));
    }
    for note in report.notes_on(None) {
        let _ = writeln!(text, "- {}", escape(note));
    }
    for scenario in report.scenarios() {
        let _ = writeln!(text, "\n## {scenario}");
        text.push_str(&tables(report, scenario));
        let notes = report.notes_on(Some(scenario));
        if !notes.is_empty() {
            text.push('\n');
        }
        for note in notes {
            let _ = writeln!(text, "- {}", escape(note));
        }
    }
    text
}

/// Each with its caption above.
fn tables(report: &Report, scenario: &str) -> String {
    let mut text = String::new();
    for table in Table::of(report, scenario) {
        let _ = writeln!(text, "\n{scenario}: {}\n", escape(&table.caption()));
        text.push_str(&layout(&table.head(), &table.lines().collect::<Vec<_>>(), table.keys.len()));
    }
    if let Some((head, rows, texts)) = quantiles(report, scenario) {
        let _ = writeln!(text, "\n{scenario}: quantiles over all repetitions\n");
        text.push_str(&layout(&head, &rows, texts));
    }
    text
}

/// The first `texts` columns are read from the left, the others are figures.
pub(super) fn layout(head: &[String], rows: &[Vec<String>], texts: usize) -> String {
    let lines: Vec<Vec<String>> = std::iter::once(head)
        .chain(rows.iter().map(Vec::as_slice))
        .map(|line| line.iter().map(|cell| escape(cell)).collect())
        .collect();
    let width =
        |c: usize| lines.iter().map(|line| line[c].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(
                |(c, (cell, width))| {
                    if c < texts { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                },
            )
            .collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if n == 0 {
            let rule = widths.iter().enumerate().map(|(c, width)| {
                if c < texts { "-".repeat(*width) } else { "-".repeat(width - 1) + ":" }
            });
            let _ = writeln!(text, "| {} |", rule.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}

/// What would end a cell, or begin something else.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "\\<").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn figures_are_on_the_right() {
        let text = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let table = layout(
            &text(&["MTU", "rate, Gb/s"]),
            &[text(&["1500", "2.00 [1.00-3.00]"]), text(&["a|b", "1"])],
            1,
        );
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "| MTU  |       rate, Gb/s |");
        assert_eq!(lines[1], "| ---- | ---------------: |");
        assert_eq!(lines[2], "| 1500 | 2.00 [1.00-3.00] |");
        assert_eq!(lines[3], "| a\\|b |                1 |");
    }

    #[test]
    fn notes_stand_below_their_tables() {
        let document = document(&fixture::report());
        let at =
            |text: &str| document.find(text).unwrap_or_else(|| panic!("no {text}: {document}"));
        assert!(at("- nobody: a note on the whole run") < at("## relays"));
        assert!(at("## scale") < at("- one \\<small> note: with a colon"));
        assert!(at("- one \\<small> note") < at("## latency"));
        assert!(document.contains("- haproxy: 2.6.12"));
    }
}
