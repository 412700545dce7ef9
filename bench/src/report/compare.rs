//! Two runs side by side: do they say the same, as far as each says how sure it is?

use std::fmt::Write as _;

use super::markdown::layout;
use super::tables::range;
use super::{Measurement, Report, number};

/// What both runs measured.
#[derive(Debug)]
pub struct Comparison<'a> {
    pairs: Vec<Pair<'a>>,
    /// Of one run only: which one, and what.
    alone: Vec<(&'static str, String)>,
    /// What was different about the runs: heads, and texts of both.
    differences: Vec<(String, String, String)>,
}

#[derive(Debug)]
struct Pair<'a> {
    a: &'a Measurement,
    b: &'a Measurement,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Agree,
    /// How far the nearest ends of both ranges are from each other, as a factor.
    Apart(f64),
    /// One sample each has no range.
    Unknown,
}

impl<'a> Comparison<'a> {
    pub fn of(a: &'a Report, b: &'a Report) -> Self {
        let same = |a: &Measurement, b: &Measurement| {
            a.scenario == b.scenario
                && a.metric == b.metric
                && a.unit == b.unit
                && a.parameters == b.parameters
        };
        let mut pairs = Vec::new();
        let mut alone = Vec::new();
        for m in &a.measurements {
            match b.measurements.iter().find(|other| same(m, other)) {
                Some(other) => pairs.push(Pair { a: m, b: other }),
                None => alone.push(("A", label(m))),
            }
        }
        let only_b = b.measurements.iter().filter(|m| !a.measurements.iter().any(|o| same(o, m)));
        alone.extend(only_b.map(|m| ("B", label(m))));
        // These hardly ever are the same, and need not be.
        let own = ["command", "started", "TSC", "load"];
        let facts = b.facts();
        let differences = a
            .facts()
            .into_iter()
            .filter(|(head, _)| !own.contains(&head.as_str()))
            .filter_map(|(head, of_a)| {
                let of_b = facts.iter().find(|(h, _)| *h == head).map_or("-", |(_, text)| text);
                (of_a != of_b).then(|| (head, of_a.clone(), of_b.to_owned()))
            })
            .collect();
        Self { pairs, alone, differences }
    }

    /// A table of everything, and a summary.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let rows: Vec<Vec<String>> = self.pairs.iter().map(Pair::row).collect();
        let head = ["scenario", "metric", "A", "B", "B / A", "ranges"].map(str::to_owned);
        if !rows.is_empty() {
            text += &layout(&head, &rows, 2);
            text.push('\n');
        }
        for (head, a, b) in &self.differences {
            let _ = writeln!(text, "different {head}: A {a}; B {b}");
        }
        for (run, what) in &self.alone {
            let _ = writeln!(text, "only in {run}: {what}");
        }
        let known = self.pairs.iter().filter(|p| p.verdict() != Verdict::Unknown).count();
        let apart = self.apart();
        let _ = writeln!(
            text,
            "{} of {known} agree: their ranges [min-max] overlap. {} more have one sample each.",
            known - apart.len(),
            self.pairs.len() - known
        );
        for (pair, factor) in apart {
            let _ = writeln!(
                text,
                "apart by {}: {}: {} and {} {}",
                times(factor),
                label(pair.a),
                range(&pair.a.summary),
                range(&pair.b.summary),
                pair.a.unit
            );
        }
        text
    }

    /// Those whose medians differ by more than this factor, either way, and whose ranges do not
    /// overlap.
    pub fn above(&self, factor: f64) -> Vec<String> {
        let pairs = self.pairs.iter().filter(|p| {
            let ratio = p.ratio();
            p.verdict() != Verdict::Agree && ratio.max(1.0 / ratio) > factor
        });
        pairs.map(|p| format!("{}: {}", label(p.a), times(p.ratio()))).collect()
    }

    /// Those whose ranges do not overlap, the furthest apart first.
    fn apart(&self) -> Vec<(&Pair<'a>, f64)> {
        let mut apart: Vec<_> = self
            .pairs
            .iter()
            .filter_map(|pair| match pair.verdict() {
                Verdict::Apart(factor) => Some((pair, factor)),
                Verdict::Agree | Verdict::Unknown => None,
            })
            .collect();
        apart.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        apart
    }
}

impl Pair<'_> {
    fn verdict(&self) -> Verdict {
        let (a, b) = (&self.a.summary, &self.b.summary);
        let low = a.min.max(b.min);
        let high = a.max.min(b.max);
        if self.a.samples.len() == 1 && self.b.samples.len() == 1 {
            Verdict::Unknown
        } else if low <= high {
            Verdict::Agree
        } else {
            Verdict::Apart(low / high)
        }
    }

    /// Of the medians. Nothing beside nothing is the same.
    fn ratio(&self) -> f64 {
        let (a, b) = (self.a.summary.median, self.b.summary.median);
        if a == b { 1.0 } else { b / a }
    }

    fn row(&self) -> Vec<String> {
        let cell = |m: &Measurement| match m.samples.len() {
            1 => number(m.summary.median),
            n => format!("{} {n}", range(&m.summary)),
        };
        let verdict = match self.verdict() {
            Verdict::Agree => "overlap".to_owned(),
            Verdict::Apart(factor) => format!("apart by {}", times(factor)),
            Verdict::Unknown => "-".to_owned(),
        };
        let unit =
            if self.a.unit.is_empty() { String::new() } else { format!(", {}", self.a.unit) };
        vec![
            setting(self.a),
            format!("{}{unit}", self.a.metric),
            cell(self.a),
            cell(self.b),
            times(self.ratio()),
            verdict,
        ]
    }
}

fn setting(m: &Measurement) -> String {
    let parameters: Vec<String> = m.parameters.iter().map(|(k, v)| format!("{k} {v}")).collect();
    match parameters.is_empty() {
        true => m.scenario.clone(),
        false => format!("{}: {}", m.scenario, parameters.join(", ")),
    }
}

fn label(m: &Measurement) -> String {
    format!("{}: {}", setting(m), m.metric)
}

fn times(factor: f64) -> String {
    if factor.is_finite() { format!("{factor:.3}x") } else { "from zero".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn report(figures: &[(&str, &[f64])]) -> Report {
        let mut report = Report::new(fixture::environment());
        for (metric, samples) in figures {
            report.add("s", &[("n", "1".to_owned())], metric, "us", samples.to_vec());
        }
        report
    }

    #[test]
    fn ranges_that_touch_agree() {
        let a = report(&[("m", &[1.0, 2.0])]);
        let verdict = |samples: &[f64]| {
            let b = report(&[("m", samples)]);
            Comparison::of(&a, &b).pairs[0].verdict()
        };
        assert_eq!(verdict(&[2.0, 3.0]), Verdict::Agree);
        assert_eq!(verdict(&[0.5, 9.0]), Verdict::Agree);
        assert_eq!(verdict(&[1.5]), Verdict::Agree);
        assert_eq!(verdict(&[3.0, 4.0]), Verdict::Apart(1.5));
        assert_eq!(verdict(&[0.25, 0.5]), Verdict::Apart(2.0));
    }

    #[test]
    fn the_summary_has_the_furthest_first() {
        let a = report(&[
            ("near", &[1.0, 2.0]),
            ("far", &[1.0, 2.0]),
            ("same", &[1.0, 2.0]),
            ("single", &[1.0]),
            ("gone", &[1.0]),
            ("zero", &[0.0, 0.0]),
        ]);
        let b = report(&[
            ("near", &[2.2, 3.0]),
            ("far", &[20.0, 30.0]),
            ("same", &[1.5, 2.5]),
            ("single", &[4.0]),
            ("zero", &[0.0, 0.0]),
            ("new", &[1.0]),
        ]);
        let comparison = Comparison::of(&a, &b);
        let text = comparison.text();
        let summary: Vec<&str> = text.lines().skip_while(|l| !l.is_empty()).skip(1).collect();
        assert_eq!(
            summary,
            [
                "only in A: s: n 1: gone",
                "only in B: s: n 1: new",
                "2 of 4 agree: their ranges [min-max] overlap. 1 more have one sample each.",
                "apart by 10.000x: s: n 1: far: 1.50 [1.00-2.00] and 25.0 [20.0-30.0] us",
                "apart by 1.100x: s: n 1: near: 1.50 [1.00-2.00] and 2.60 [2.20-3.00] us",
            ]
        );
        assert_eq!(comparison.above(3.0), ["s: n 1: far: 16.667x", "s: n 1: single: 4.000x"]);
        assert!(comparison.above(20.0).is_empty());
    }

    #[test]
    fn what_was_different_about_the_machine_is_said() {
        let (a, mut b) = (report(&[("m", &[1.0])]), report(&[("m", &[1.0])]));
        b.environment.kernel = "6.19".to_owned();
        b.environment.load_before = 7.0;
        let text = Comparison::of(&a, &b).text();
        assert!(text.contains("different kernel: A 6.18; B 6.19\n"), "{text}");
        assert!(!text.contains("different load"), "{text}");
    }
}
