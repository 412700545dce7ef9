//! Measurements as tables: a row per set of parameters, a column per metric.

use super::{Measurement, Report, Summary, keys, number, value_of};

/// What has the same parameters and shares metrics, of one scenario.
#[derive(Debug)]
pub(super) struct Table<'a> {
    /// What is the same in all rows, if there are several.
    pub constant: Vec<(&'a str, &'a str)>,
    /// Parameters that differ.
    pub keys: Vec<&'a str>,
    /// Names and units.
    pub metrics: Vec<(&'a str, &'a str)>,
    pub rows: Vec<Row<'a>>,
}

#[derive(Debug)]
pub(super) struct Row<'a> {
    pub parameters: &'a [(String, String)],
    /// By metric.
    pub cells: Vec<Option<&'a Measurement>>,
}

impl<'a> Table<'a> {
    /// Of one scenario. Rows with other parameters, or with none of the metrics, are other tables.
    pub fn of(report: &'a Report, scenario: &str) -> Vec<Self> {
        let mut groups: Vec<Vec<&Measurement>> = Vec::new();
        for m in report.measurements.iter().filter(|m| m.scenario == scenario) {
            let belongs = |group: &Vec<&Measurement>| {
                group.iter().any(|other| {
                    other.parameters == m.parameters
                        || (same_keys(other, m) && other.metric == m.metric && other.unit == m.unit)
                })
            };
            let (mut with, without): (Vec<_>, Vec<_>) = groups.into_iter().partition(belongs);
            // This one may be what two groups have in common; they stay at the place of the first.
            let at = without
                .iter()
                .filter(|g| with.first().is_none_or(|w| before(report, g, w)))
                .count();
            let mut group: Vec<_> = with.drain(..).flatten().collect();
            group.push(m);
            groups = without;
            groups.insert(at, group);
        }
        groups.iter().map(|group| Self::new(group)).collect()
    }

    fn new(group: &[&'a Measurement]) -> Self {
        let mut metrics: Vec<(&str, &str)> = Vec::new();
        let mut rows: Vec<Row<'a>> = Vec::new();
        for m in group {
            let metric = (m.metric.as_str(), m.unit.as_str());
            if !metrics.contains(&metric) {
                metrics.push(metric);
            }
            if !rows.iter().any(|row| *row.parameters == *m.parameters) {
                rows.push(Row { parameters: &m.parameters, cells: Vec::new() });
            }
        }
        for row in &mut rows {
            let cell = |(metric, unit): &(&str, &str)| {
                let same = |m: &&&Measurement| {
                    m.metric == *metric && m.unit == *unit && *m.parameters == *row.parameters
                };
                group.iter().find(same).copied()
            };
            row.cells = metrics.iter().map(cell).collect();
        }
        let sets: Vec<_> = rows.iter().map(|row| row.parameters).collect();
        let (varying, constant) = split(&keys(sets.iter().copied()), &sets);
        Self { constant, keys: varying, metrics, rows }
    }

    pub fn head(&self) -> Vec<String> {
        let metrics = self.metrics.iter().map(|(metric, unit)| match *unit {
            "" => (*metric).to_owned(),
            unit => format!("{metric}, {unit}"),
        });
        self.keys.iter().map(|key| (*key).to_owned()).chain(metrics).collect()
    }

    pub fn lines(&self) -> impl Iterator<Item = Vec<String>> {
        let often = self.repetitions();
        self.rows.iter().map(move |row| {
            let keys = self
                .keys
                .iter()
                .map(|key| value_of(row.parameters, key).unwrap_or_default().to_owned());
            let cells =
                row.cells.iter().map(|m| m.map_or_else(|| "-".to_owned(), |m| cell(m, often)));
            keys.chain(cells).collect()
        })
    }

    /// What the cells are, and what is the same in all of them.
    pub fn caption(&self) -> String {
        let mut counts =
            self.rows.iter().flat_map(|row| row.cells.iter().flatten().map(|m| m.samples.len()));
        let mut caption = match (self.repetitions(), counts.any(|n| n == 1)) {
            (Some(1), _) => "one sample each".to_owned(),
            (Some(n), false) => format!("median [min-max] of {n}"),
            (Some(n), true) => format!("median [min-max] of {n}; without brackets: one sample"),
            (None, _) => "median [min-max] samples; without brackets: one sample".to_owned(),
        };
        for (key, value) in &self.constant {
            caption += &format!("; {key} {value}");
        }
        caption
    }

    /// How many samples there are of everything that has more than one; `None` if that differs.
    fn repetitions(&self) -> Option<usize> {
        let mut several: Vec<usize> = self
            .rows
            .iter()
            .flat_map(|row| row.cells.iter().flatten().map(|m| m.samples.len()))
            .filter(|n| *n > 1)
            .collect();
        several.sort_unstable();
        several.dedup();
        match several.as_slice() {
            [] => Some(1),
            [n] => Some(*n),
            _ => None,
        }
    }
}

/// Keys whose values differ between the sets, and those that are the same in all, with the value.
/// One set alone differs in everything.
pub(super) fn split<'a>(
    keys: &[&'a str],
    sets: &[&'a [(String, String)]],
) -> (Vec<&'a str>, Vec<(&'a str, &'a str)>) {
    let mut varying = Vec::new();
    let mut constant = Vec::new();
    for key in keys {
        let first = sets.first().and_then(|set| value_of(set, key));
        match first {
            Some(value) if sets.len() > 1 && sets.iter().all(|s| value_of(s, key) == first) => {
                constant.push((*key, value));
            }
            _ => varying.push(*key),
        }
    }
    (varying, constant)
}

fn same_keys(a: &Measurement, b: &Measurement) -> bool {
    let keys = |m: &Measurement| {
        let mut keys: Vec<_> = m.parameters.iter().map(|(key, _)| key.clone()).collect();
        keys.sort();
        keys
    };
    keys(a) == keys(b)
}

fn before(report: &Report, a: &[&Measurement], b: &[&Measurement]) -> bool {
    let at =
        |group: &[&Measurement]| report.measurements.iter().position(|m| std::ptr::eq(m, group[0]));
    at(a) < at(b)
}

/// `often`: said in the caption.
fn cell(m: &Measurement, often: Option<usize>) -> String {
    let n = m.samples.len();
    match often {
        _ if n == 1 => number(m.summary.median),
        Some(_) => range(&m.summary),
        None => format!("{} {n}", range(&m.summary)),
    }
}

/// `median [min-max]`.
pub(super) fn range(summary: &Summary) -> String {
    let Summary { min, median, max } = *summary;
    format!("{} [{}-{}]", number(median), number(min), number(max))
}

/// Quantiles of distributions: heads, and rows of the parameters and values.
pub(super) fn quantiles(
    report: &Report,
    scenario: &str,
) -> Option<(Vec<String>, Vec<Vec<String>>, usize)> {
    const QUANTILES: [(f64, &str); 4] =
        [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];
    /// What two ways of writing the same quantile may differ by.
    const SAME: f64 = 1e-9;
    let of: Vec<_> = report.distributions.iter().filter(|d| d.scenario == scenario).collect();
    if of.is_empty() {
        return None;
    }
    let keys = keys(of.iter().map(|d| d.parameters.as_slice()));
    let mut head: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    head.push("distribution".to_owned());
    let texts = head.len();
    head.extend(QUANTILES.map(|(_, name)| name.to_owned()));
    let rows = of.iter().map(|d| {
        let keys = keys.iter().map(|key| value_of(&d.parameters, key).unwrap_or("-").to_owned());
        let values = QUANTILES.iter().map(|(quantile, _)| {
            let point = d.points.iter().find(|(q, _)| (q - quantile).abs() < SAME);
            point.map_or_else(|| "-".to_owned(), |(_, value)| number(*value))
        });
        keys.chain([format!("{}, {}", d.metric, d.unit)]).chain(values).collect()
    });
    Some((head, rows.collect(), texts))
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn other_metrics_are_another_table() {
        let report = fixture::report();
        let tables = Table::of(&report, "relays");
        assert_eq!(tables.len(), 2);
        assert_eq!(
            tables[0].head(),
            ["subject", "offloads", "1 stream, Gb/s", "A (1), s/Gbit", "failed"]
        );
        assert_eq!(tables[0].caption(), "median [min-max] of 3; site a & b");
        // The kernel alone has no gateway, but its throughput belongs beside the others'.
        let direct = tables[0].lines().find(|line| line[0] == "direct").unwrap();
        assert_eq!(direct, ["direct", "none", "9.00 [8.00-10.0]", "-", "0 [0-0]"]);
        assert_eq!(tables[1].head(), ["subject", "delay", "goodput, Mb/s"]);
    }

    #[test]
    fn single_samples_are_told_from_several() {
        let report = fixture::report();
        let tables = Table::of(&report, "scale");
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].caption(), "median [min-max] of 2; without brackets: one sample");
        let mut lines = tables[0].lines();
        assert_eq!(lines.next().unwrap(), ["1", "one hot", "4,050 [4,000-4,100]", "150,000"]);
        assert_eq!(lines.next().unwrap(), ["1", "random", "4,150 [4,100-4,200]", "-"]);
    }

    #[test]
    fn different_counts_are_in_the_cells() {
        let mut report = Report::new(fixture::environment());
        report.add("s", &[("n", "1".to_owned())], "m", "us", vec![1.0, 2.0]);
        report.add("s", &[("n", "2".to_owned())], "m", "us", vec![1.0, 2.0, 3.0]);
        let tables = Table::of(&report, "s");
        let lines: Vec<_> = tables[0].lines().collect();
        assert_eq!(lines[0][1], "1.50 [1.00-2.00] 2");
        assert_eq!(lines[1][1], "2.00 [1.00-3.00] 3");
        assert_eq!(tables[0].caption(), "median [min-max] samples; without brackets: one sample");
    }

    #[test]
    fn quantiles_of_distributions() {
        let report = fixture::report();
        let (head, rows, texts) = quantiles(&report, "latency").unwrap();
        assert_eq!(head[..texts], ["subject", "rate", "distribution"]);
        assert_eq!(head[texts..], ["p50", "p90", "p99", "p99.9"]);
        assert_eq!(rows[0][..texts], ["clgw", "1000", "round trip, us"]);
        assert_eq!(rows[0][texts..], ["100", "216", "382", "548"]);
        assert!(quantiles(&report, "scale").is_none());
    }

    #[test]
    fn no_quantile_stands_under_the_name_of_another() {
        let mut report = Report::new(fixture::environment());
        let points = vec![(0.5 + 1e-12, 1.0), (0.95, 2.0), (0.999, 3.0), (1.0, 4.0)];
        report.add_distribution("s", &[], "m", "us", points);
        let (_, rows, _) = quantiles(&report, "s").unwrap();
        assert_eq!(rows, [["m, us", "1.00", "-", "-", "3.00"]]);
    }
}
