//! Results: what was measured, of whom, with which settings, how often. One shape for the table
//! on the terminal and for the JSON file, so that further outputs need nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::environment::Environment;

/// One metric of one subject under one setting.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub scenario: &'static str,
    /// What distinguishes this row from the others of its scenario, in the order of the table.
    pub parameters: Vec<(&'static str, String)>,
    pub metric: &'static str,
    pub unit: &'static str,
    /// One value per repetition, in the order they were taken.
    pub samples: Vec<f64>,
    pub summary: Summary,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Summary {
    /// # Panics
    /// Without samples: nothing was measured, and that is not a result.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            panic!("a summary of no samples");
        };
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Self { min, median, max }
    }
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub environment: Environment,
    pub measurements: Vec<Measurement>,
    /// What a reader has to know to read the figures.
    pub notes: Vec<String>,
}

impl Report {
    pub fn new(environment: Environment) -> Self {
        Self { environment, measurements: Vec::new(), notes: Vec::new() }
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds a metric; without samples there is nothing to add.
    pub fn add(
        &mut self,
        scenario: &'static str,
        parameters: &[(&'static str, String)],
        metric: &'static str,
        unit: &'static str,
        samples: Vec<f64>,
    ) {
        if samples.is_empty() {
            return;
        }
        let summary = Summary::of(&samples);
        let parameters = parameters.to_vec();
        self.measurements.push(Measurement {
            scenario,
            parameters,
            metric,
            unit,
            samples,
            summary,
        });
    }

    /// # Errors
    /// The file cannot be written.
    pub fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").with_context(|| {
            format!("{}: cannot be written; choose another --json", path.display())
        })
    }

    /// Markdown: a row per set of parameters, a column per metric, `median [min-max]`.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for line in self.environment.lines() {
            let _ = writeln!(text, "{line}");
        }
        let mut scenarios: Vec<&str> = Vec::new();
        for m in &self.measurements {
            if !scenarios.contains(&m.scenario) {
                scenarios.push(m.scenario);
            }
        }
        for scenario in scenarios {
            let of: Vec<_> = self.measurements.iter().filter(|m| m.scenario == scenario).collect();
            let _ = writeln!(text, "\n{scenario}: median [min-max] of n\n");
            text.push_str(&pivot(&of));
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }
}

fn pivot(of: &[&Measurement]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    let mut metrics: Vec<(&str, &str)> = Vec::new();
    let mut rows: Vec<&[(&str, String)]> = Vec::new();
    let mut cells: BTreeMap<(usize, usize), String> = BTreeMap::new();
    for m in of {
        for (key, _) in &m.parameters {
            if !keys.contains(key) {
                keys.push(key);
            }
        }
        let position = |found: Option<usize>, len: usize| found.unwrap_or(len);
        let row = position(rows.iter().position(|r| **r == *m.parameters), rows.len());
        if row == rows.len() {
            rows.push(&m.parameters);
        }
        let column = position(metrics.iter().position(|c| c.0 == m.metric), metrics.len());
        if column == metrics.len() {
            metrics.push((m.metric, m.unit));
        }
        cells.insert((row, column), cell(m));
    }
    let mut table: Vec<Vec<String>> = Vec::new();
    let heads = metrics.iter().map(|(metric, unit)| match *unit {
        "" => (*metric).to_owned(),
        unit => format!("{metric}, {unit}"),
    });
    table.push(keys.iter().map(|k| (*k).to_owned()).chain(heads).collect());
    for (r, row) in rows.iter().enumerate() {
        let value = |key: &&str| {
            row.iter().find(|(k, _)| k == key).map_or_else(String::new, |(_, v)| v.clone())
        };
        let values = (0..metrics.len())
            .map(|c| cells.get(&(r, c)).cloned().unwrap_or_else(|| "-".to_owned()));
        table.push(keys.iter().map(value).chain(values).collect());
    }
    markdown(&table)
}

fn markdown(table: &[Vec<String>]) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let width = |c: usize| table.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (n, row) in table.iter().enumerate() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if n == 0 {
            let rule: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
            let _ = writeln!(text, "| {} |", rule.join(" | "));
        }
    }
    text
}

fn cell(m: &Measurement) -> String {
    let Summary { min, median, max } = m.summary;
    match m.samples.len() {
        1 => number(median),
        n => format!("{} [{}-{}] {n}", number(median), number(min), number(max)),
    }
}

/// Three significant digits, or all in front of the point.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        v if v < 0.1 => 4,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        let s = Summary::of(&[3.0, 1.0, 2.0]);
        assert_eq!(s, Summary { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Summary::of(&[4.0, 1.0]).median, 2.5);
        assert_eq!(Summary::of(&[7.0]), Summary { min: 7.0, median: 7.0, max: 7.0 });
    }

    #[test]
    fn a_row_per_setting_and_a_column_per_metric() {
        let summary = |samples: &[f64]| Summary::of(samples);
        let row = |mtu: &str, metric, unit, samples: &[f64]| Measurement {
            scenario: "hop",
            parameters: vec![("mtu", mtu.to_owned())],
            metric,
            unit,
            samples: samples.to_vec(),
            summary: summary(samples),
        };
        let rows = [
            row("1500", "rate", "Gb/s", &[1.0, 2.0, 3.0]),
            row("1500", "cost", "", &[0.25]),
            row("9000", "rate", "Gb/s", &[123.4]),
        ];
        let table = pivot(&rows.iter().collect::<Vec<_>>());
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "| mtu  | rate, Gb/s         | cost |");
        assert_eq!(lines[2], "| 1500 | 2.00 [1.00-3.00] 3 | 0.25 |");
        assert_eq!(lines[3], "| 9000 | 123                | -    |");
    }
}
