//! Results: what was measured, of whom, with which settings, how often. All outputs are made of
//! this one shape, and nothing in them knows a scenario by its name.

pub mod compare;
mod csv;
mod figure;
mod html;
mod markdown;
mod plots;
mod svg;
mod tables;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;

/// What a run keeps; the other files can be made of it again.
const RESULTS: &str = "results.json";
const SAMPLES: &str = "results.csv";
const DISTRIBUTIONS: &str = "distributions.csv";
const MARKDOWN: &str = "report.md";
const HTML: &str = "report.html";
const FILES: [&str; 5] = [RESULTS, SAMPLES, DISTRIBUTIONS, MARKDOWN, HTML];

/// Keys and values, in the order of the table.
type Parameters = Vec<(String, String)>;

/// One metric of one subject under one setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    pub scenario: String,
    /// What distinguishes this row from the others of its scenario, in the order of the table.
    pub parameters: Parameters,
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
    pub parameters: Parameters,
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

    /// Adds a metric, or further repetitions of it; without samples there is nothing to add. What is
    /// no number (a division by nothing) is left out, and a note says so.
    pub fn add(
        &mut self,
        scenario: &str,
        parameters: &[(&str, String)],
        metric: &str,
        unit: &str,
        mut samples: Vec<f64>,
    ) {
        let taken = samples.len();
        samples.retain(|sample| sample.is_finite());
        if samples.len() < taken {
            let lost = taken - samples.len();
            self.note(format!("{scenario}: {metric}: {lost} of {taken} samples were no number"));
        }
        if samples.is_empty() {
            return;
        }
        let parameters = owned(parameters);
        let same = |m: &&mut Measurement| {
            m.scenario == scenario
                && m.metric == metric
                && m.unit == unit
                && m.parameters == parameters
        };
        if let Some(m) = self.measurements.iter_mut().find(same) {
            m.samples.append(&mut samples);
            m.summary = Summary::of(&m.samples);
            return;
        }
        let summary = Summary::of(&samples);
        self.measurements.push(Measurement {
            scenario: scenario.to_owned(),
            parameters,
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

    /// Makes the directory for [`Report::write`], and finds out whether it and what is there of an
    /// earlier run can be written: a long run should not end with finding that it cannot.
    ///
    /// # Errors
    /// It cannot.
    pub fn prepare(dir: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(dir).with_context(|| cannot(dir))?;
        tempfile::tempfile_in(dir).with_context(|| cannot(dir))?;
        for path in FILES.map(|name| dir.join(name)).iter().filter(|path| path.exists()) {
            OpenOptions::new().append(true).open(path).with_context(|| cannot(path))?;
        }
        Ok(())
    }

    /// Writes all forms of it, first the one that the others can be made of again.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, dir: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(dir).with_context(|| cannot(dir))?;
        for name in FILES {
            let text = match name {
                RESULTS => serde_json::to_string_pretty(self)? + "\n",
                SAMPLES => csv::samples(self)?,
                DISTRIBUTIONS => csv::distributions(self)?,
                MARKDOWN => markdown::document(self),
                _ => html::document(self)?,
            };
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| cannot(&path))?;
        }
        Ok(())
    }

    /// Reads what [`Report::write`] wrote: results.json, or the directory with it.
    ///
    /// # Errors
    /// The file cannot be read, or is none of this version.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = if path.is_dir() { path.join(RESULTS) } else { path.to_owned() };
        let text = fs::read_to_string(&file).with_context(|| {
            format!("{}: cannot be read; --out of a run writes it", file.display())
        })?;
        serde_json::from_str(&text).with_context(|| {
            format!("{}: no results of this version; measure again", file.display())
        })
    }

    /// For the terminal: the environment, the tables and the notes.
    pub fn table(&self) -> String {
        markdown::terminal(self)
    }

    /// How much was measured.
    pub fn samples(&self) -> usize {
        self.measurements.iter().map(|m| m.samples.len()).sum()
    }

    /// Names of the scenarios that measured something, in the order in which they ran.
    fn scenarios(&self) -> Vec<&str> {
        let measured = self.measurements.iter().map(|m| m.scenario.as_str());
        let mut names = Vec::new();
        for name in measured.chain(self.distributions.iter().map(|d| d.scenario.as_str())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Notes on this scenario, without its name in front; with `None` those on no scenario.
    fn notes_on(&self, scenario: Option<&str>) -> Vec<&str> {
        let scenarios = self.scenarios();
        let of = |note: &'_ str| {
            note.split_once(": ")
                .map(|(head, _)| head.to_owned())
                .filter(|head| scenarios.contains(&head.as_str()))
        };
        let notes = self.notes.iter().filter(|note| of(note).as_deref() == scenario);
        notes
            .map(|note| match scenario {
                Some(name) => &note[name.len() + ": ".len()..],
                None => note.as_str(),
            })
            .collect()
    }

    /// Heads and texts of what is to be known about the whole run.
    fn facts(&self) -> Vec<(String, String)> {
        let own = self.environment.facts().into_iter().map(|(head, text)| (head.to_owned(), text));
        let pinnings =
            self.pinnings.iter().map(|(of, text)| (format!("pinning of {of}"), text.clone()));
        let peers = self.peers.iter().map(|(name, version)| (name.clone(), version.clone()));
        own.chain(pinnings).chain(peers).collect()
    }
}

fn cannot(path: &Path) -> String {
    format!("{}: cannot be written; choose another --out", path.display())
}

fn owned(parameters: &[(&str, String)]) -> Parameters {
    parameters.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// The value of a parameter.
fn value_of<'a>(parameters: &'a [(String, String)], key: &str) -> Option<&'a str> {
    parameters.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
}

/// Keys of all sets, in the order of their first appearance.
fn keys<'a>(sets: impl IntoIterator<Item = &'a [(String, String)]>) -> Vec<&'a str> {
    let mut keys = Vec::new();
    for (key, _) in sets.into_iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    keys
}

/// Three significant digits, or all in front of the point.
fn number(value: f64) -> String {
    // The power of ten behind rounding, which makes 9.999 one of 10.
    let scientific = format!("{value:.2e}");
    let power = scientific.split_once('e').and_then(|(_, power)| power.parse::<i32>().ok());
    let digits = match power {
        Some(power) if value != 0.0 => usize::try_from(2 - power).unwrap_or(0),
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    // Groups of three digits are read without counting.
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0
            && digit.is_ascii_digit()
            && (whole.len() - n).is_multiple_of(3)
            && !grouped.ends_with('-')
        {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

#[cfg(test)]
mod fixture;

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
    fn repetitions_may_come_one_by_one() {
        let mut report = Report::new(fixture::environment());
        let mut add = |n: &str, samples: &[f64]| {
            report.add("s", &[("n", n.to_owned())], "m", "us", samples.to_vec());
        };
        add("1", &[3.0]);
        add("2", &[9.0]);
        add("1", &[1.0, f64::NAN]);
        add("3", &[f64::INFINITY]);
        assert_eq!(report.measurements.len(), 2);
        assert_eq!(report.measurements[0].samples, [3.0, 1.0]);
        assert_eq!(report.measurements[0].summary.median, 2.0);
        let notes = ["m: 1 of 2 samples were no number", "m: 1 of 1 samples were no number"];
        assert_eq!(report.notes_on(Some("s")), notes);
    }

    #[test]
    fn numbers() {
        let texts = [0.0, 0.01234, 1.0, 12.34, 123.4, 1234.5, -1234567.0].map(number);
        assert_eq!(texts, ["0", "0.0123", "1.00", "12.3", "123", "1,234", "-1,234,567"]);
        // Always three digits, also where rounding makes one more in front of the point.
        let texts = [0.000_03, 0.099_96, 0.75, 0.9996, 9.996, 99.96, 999.6].map(number);
        assert_eq!(texts, ["0.0000300", "0.100", "0.750", "1.00", "10.0", "100", "1,000"]);
        assert_eq!([-0.002_345, f64::INFINITY].map(number), ["-0.00234", "inf"]);
    }

    #[test]
    fn notes_go_with_their_scenario() {
        let report = fixture::report();
        assert_eq!(report.notes_on(Some("scale")), ["one <small> note: with a colon"]);
        assert_eq!(report.notes_on(None), ["nobody: a note on the whole run"]);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let report = fixture::report();
        report.write(dir.path()).unwrap();
        let again = Report::read(dir.path()).unwrap();
        assert_eq!(again.measurements.len(), report.measurements.len());
        assert_eq!(html::document(&again).unwrap(), html::document(&report).unwrap());
        let mut files: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let all = ["distributions.csv", "report.html", "report.md", "results.csv", "results.json"];
        assert_eq!(files, all);
        Report::prepare(dir.path()).unwrap();
        let error = Report::read(&dir.path().join("report.md")).unwrap_err();
        assert!(error.to_string().ends_with("no results of this version; measure again"));
    }

    #[test]
    fn what_cannot_be_written_is_known_before() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("a/b");
        Report::prepare(&new).unwrap();
        assert_eq!(fs::read_dir(&new).unwrap().count(), 0, "nothing is left there");
        // Root may write everywhere, but no file over a directory, and nothing below a file.
        fs::create_dir(new.join(MARKDOWN)).unwrap();
        let error = Report::prepare(&new).unwrap_err().to_string();
        assert!(error.ends_with("report.md: cannot be written; choose another --out"), "{error}");
        let error = fixture::report().write(&new).unwrap_err().to_string();
        assert!(error.contains("report.md: cannot be written"), "{error}");
        assert!(Report::read(&new).is_ok(), "the results themselves are written first");
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(Report::prepare(&dir.path().join("file/out")).is_err());
    }
}
