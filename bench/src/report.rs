//! Results: what was measured, of whom, with which settings, how often. One shape for the table
//! on the terminal and for the JSON file, so that further outputs need nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;

/// One metric of one subject under one setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    pub scenario: String,
    /// What distinguishes this row from the others of its scenario, in the order of the table.
    pub parameters: Vec<(String, String)>,
    pub metric: String,
    pub unit: String,
    /// One value per repetition, in the order they were taken.
    pub samples: Vec<f64>,
    pub summary: Summary,
}

/// How often a value was not exceeded: a latency's distribution, over all repetitions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Distribution {
    pub scenario: String,
    pub parameters: Vec<(String, String)>,
    pub metric: String,
    pub unit: String,
    /// Quantile (0 to 1) and value, both growing.
    pub points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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

#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub environment: Environment,
    /// Which CPUs did what, by scenario.
    pub pinnings: BTreeMap<String, String>,
    /// Names and versions of what else was measured or used.
    pub peers: BTreeMap<String, String>,
    pub measurements: Vec<Measurement>,
    pub distributions: Vec<Distribution>,
    /// What a reader has to know to read the figures.
    pub notes: Vec<String>,
}

impl Report {
    pub fn new(environment: Environment) -> Self {
        Self {
            environment,
            pinnings: BTreeMap::new(),
            peers: BTreeMap::new(),
            measurements: Vec::new(),
            distributions: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub fn pinning(&mut self, scenario: &str, pinning: String) {
        self.pinnings.insert(scenario.to_owned(), pinning);
    }

    pub fn peer(&mut self, name: &str, version: String) {
        self.peers.insert(name.to_owned(), version);
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds a metric; without samples there is nothing to add.
    pub fn add(
        &mut self,
        scenario: &str,
        parameters: &[(&str, String)],
        metric: &str,
        unit: &str,
        samples: Vec<f64>,
    ) {
        if samples.is_empty() {
            return;
        }
        let summary = Summary::of(&samples);
        self.measurements.push(Measurement {
            scenario: scenario.to_owned(),
            parameters: owned(parameters),
            metric: metric.to_owned(),
            unit: unit.to_owned(),
            samples,
            summary,
        });
    }

    /// Adds the curve of a distribution; see [`Distribution::points`].
    pub fn add_distribution(
        &mut self,
        scenario: &str,
        parameters: &[(&str, String)],
        metric: &str,
        unit: &str,
        points: Vec<(f64, f64)>,
    ) {
        self.distributions.push(Distribution {
            scenario: scenario.to_owned(),
            parameters: owned(parameters),
            metric: metric.to_owned(),
            unit: unit.to_owned(),
            points,
        });
    }

    /// Writes all forms of it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        std::fs::create_dir_all(dir).with_context(|| cannot(dir))?;
        for (name, text) in [("results.json", json), ("report.md", self.table())] {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| cannot(&path))?;
        }
        Ok(())
    }

    /// Markdown: a row per set of parameters, a column per metric, `median [min-max]`.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for line in self.environment.lines() {
            let _ = writeln!(text, "{line}");
        }
        for (scenario, pinning) in &self.pinnings {
            let _ = writeln!(text, "pinning   {scenario}: {pinning}");
        }
        for (name, version) in &self.peers {
            let _ = writeln!(text, "peer      {name}: {version}");
        }
        let mut scenarios: Vec<&str> = Vec::new();
        for m in &self.measurements {
            if !scenarios.contains(&m.scenario.as_str()) {
                scenarios.push(&m.scenario);
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

fn cannot(path: &Path) -> String {
    format!("{}: cannot be written; choose another --out", path.display())
}

fn owned(parameters: &[(&str, String)]) -> Vec<(String, String)> {
    parameters.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn pivot(of: &[&Measurement]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    let mut metrics: Vec<(&str, &str)> = Vec::new();
    let mut rows: Vec<&[(String, String)]> = Vec::new();
    let mut cells: BTreeMap<(usize, usize), String> = BTreeMap::new();
    for m in of {
        for (key, _) in &m.parameters {
            if !keys.contains(&key.as_str()) {
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
            metrics.push((&m.metric, &m.unit));
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
        let row = |mtu: &str, metric: &str, unit: &str, samples: &[f64]| Measurement {
            scenario: "hop".to_owned(),
            parameters: vec![("mtu".to_owned(), mtu.to_owned())],
            metric: metric.to_owned(),
            unit: unit.to_owned(),
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
