//! Two runs side by side: do they say the same, as far as each says how sure it is?

use std::fmt::Write as _;

use super::markdown::layout;
use super::{Measurement, Report, number};

/// Of fewer samples, quartiles say nothing: the range is taken.
const FEW: usize = 4;

/// What both runs measured.
#[derive(Debug)]
pub struct Comparison<'a> {
    pairs: Vec<Pair<'a>>,
    /// Of run A only.
    missing_in_b: Vec<String>,
    missing_in_a: Vec<String>,
    /// What was different about the runs: heads, and texts of both.
    differences: Vec<(String, String, String)>,
}

#[derive(Debug)]
struct Pair<'a> {
    a: &'a Measurement,
    b: &'a Measurement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The intervals overlap.
    Agree,
    Differ,
    /// One sample each has no spread.
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
        let mut missing_in_b = Vec::new();
        for m in &a.measurements {
            match b.measurements.iter().find(|other| same(m, other)) {
                Some(other) => pairs.push(Pair { a: m, b: other }),
                None => missing_in_b.push(label(m)),
            }
        }
        let only_b = b.measurements.iter().filter(|m| !a.measurements.iter().any(|o| same(o, m)));
        let missing_in_a = only_b.map(label).collect();
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
        Self { pairs, missing_in_b, missing_in_a, differences }
    }

    /// A table of everything, what is to be looked at, and [`Comparison::summary`] as the last line.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let rows: Vec<Vec<String>> = self.pairs.iter().map(Pair::row).collect();
        let head = ["scenario", "metric", "A", "B", "B / A", "verdict"].map(str::to_owned);
        if !rows.is_empty() {
            let _ = writeln!(
                text,
                "median [quartiles] samples; of fewer than {FEW} samples [min-max]; runs agree if \
                 these overlap\n"
            );
            text += &layout(&head, &rows, 2);
            text.push('\n');
        }
        for (head, a, b) in &self.differences {
            let _ = writeln!(text, "different {head}: A {a}; B {b}");
        }
        for what in &self.missing_in_b {
            let _ = writeln!(text, "missing in B: {what}");
        }
        for what in &self.missing_in_a {
            let _ = writeln!(text, "missing in A: {what}");
        }
        for pair in self.differing() {
            let (a, b) = (spread(pair.a), spread(pair.b));
            let (times, unit) = (times(pair.ratio()), &pair.a.unit);
            let _ = writeln!(text, "differ by {times}: {}: {a} and {b} {unit}", label(pair.a));
        }
        text + &self.summary() + "\n"
    }

    /// How many agree, and how far the others are from that, in a line.
    pub fn summary(&self) -> String {
        let known = self.pairs.iter().filter(|p| p.verdict() != Verdict::Unknown).count();
        let differing = self.differing();
        let mut text = format!(
            "{} of {known} metrics agree within their spread; {} differ",
            known - differing.len(),
            differing.len()
        );
        if let (Some(most), Some(least)) = (differing.first(), differing.last()) {
            let _ = write!(text, ", by {} to {}", times(least.factor()), times(most.factor()));
        }
        let _ = write!(
            text,
            "; {} more have one sample each; {} missing in B, {} in A",
            self.pairs.len() - known,
            self.missing_in_b.len(),
            self.missing_in_a.len()
        );
        text
    }

    /// Those whose medians differ by more than this factor, either way, and whose intervals do not
    /// overlap; and those of A that B does not have.
    pub fn above(&self, factor: f64) -> Vec<String> {
        let pairs =
            self.pairs.iter().filter(|p| p.verdict() != Verdict::Agree && p.factor() > factor);
        let apart = pairs.map(|p| format!("{}: {}", label(p.a), times(p.ratio())));
        let missing = self.missing_in_b.iter().map(|what| format!("{what}: missing in B"));
        apart.chain(missing).collect()
    }

    /// The furthest apart first.
    fn differing(&self) -> Vec<&Pair<'a>> {
        let differ = |pair: &&Pair<'_>| pair.verdict() == Verdict::Differ;
        let mut differing: Vec<_> = self.pairs.iter().filter(differ).collect();
        differing.sort_by(|one, other| other.factor().total_cmp(&one.factor()));
        differing
    }
}

impl Pair<'_> {
    fn verdict(&self) -> Verdict {
        let ((a_low, a_high), (b_low, b_high)) = (interval(self.a), interval(self.b));
        if self.a.samples.len() == 1 && self.b.samples.len() == 1 {
            Verdict::Unknown
        } else if a_low.max(b_low) <= a_high.min(b_high) {
            Verdict::Agree
        } else {
            Verdict::Differ
        }
    }

    /// Of the medians. Nothing beside nothing is the same.
    fn ratio(&self) -> f64 {
        let (a, b) = (self.a.summary.median, self.b.summary.median);
        if a == b { 1.0 } else { b / a }
    }

    /// How far the medians are apart, either way: 1 or more.
    fn factor(&self) -> f64 {
        match self.ratio() {
            ratio if ratio > 0.0 => ratio.max(1.0 / ratio),
            _ => f64::INFINITY,
        }
    }

    fn row(&self) -> Vec<String> {
        let cell = |m: &Measurement| match m.samples.len() {
            1 => spread(m),
            n => format!("{} {n}", spread(m)),
        };
        let verdict = match self.verdict() {
            Verdict::Agree => "agree",
            Verdict::Differ => "differ",
            Verdict::Unknown => "-",
        };
        let unit =
            if self.a.unit.is_empty() { String::new() } else { format!(", {}", self.a.unit) };
        vec![
            setting(self.a),
            format!("{}{unit}", self.a.metric),
            cell(self.a),
            cell(self.b),
            times(self.ratio()),
            verdict.to_owned(),
        ]
    }
}

/// Between what the middle half of the samples lies: a single one far off does not widen it.
fn interval(m: &Measurement) -> (f64, f64) {
    if m.samples.len() < FEW {
        return (m.summary.min, m.summary.max);
    }
    let mut sorted = m.samples.clone();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (sorted.len() - 1) as f64;
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    (at(0.25), at(0.75))
}

fn spread(m: &Measurement) -> String {
    let median = number(m.summary.median);
    let (low, high) = interval(m);
    match m.samples.len() {
        1 => median,
        _ => format!("{median} [{}-{}]", number(low), number(high)),
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
    match factor {
        0.0 => "to zero".to_owned(),
        _ if factor.is_finite() => format!("{factor:.3}x"),
        _ => "from zero".to_owned(),
    }
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

    fn verdict(a: &[f64], b: &[f64]) -> Verdict {
        let (a, b) = (report(&[("m", a)]), report(&[("m", b)]));
        Comparison::of(&a, &b).pairs[0].verdict()
    }

    #[test]
    fn ranges_of_few_samples_that_touch_agree() {
        let a = [1.0, 2.0];
        assert_eq!(verdict(&a, &[2.0, 3.0]), Verdict::Agree);
        assert_eq!(verdict(&a, &[0.5, 9.0]), Verdict::Agree);
        assert_eq!(verdict(&a, &[1.5]), Verdict::Agree);
        assert_eq!(verdict(&a, &[3.0, 4.0]), Verdict::Differ);
        assert_eq!(verdict(&a, &[0.25, 0.5]), Verdict::Differ);
        assert_eq!(verdict(&[1.0], &[9.0]), Verdict::Unknown);
    }

    #[test]
    fn one_sample_far_off_hides_no_difference() {
        let a = [1.0, 1.1, 1.2, 1.3, 9.0];
        assert_eq!(verdict(&a, &[2.0, 2.1, 2.2, 2.3, 0.1]), Verdict::Differ);
        assert_eq!(verdict(&a, &[1.3, 1.4, 1.5, 1.6, 7.0]), Verdict::Differ);
        assert_eq!(verdict(&a, &[1.2, 1.3, 1.4, 1.5, 7.0]), Verdict::Agree);
        let of = report(&[("m", &[4.0, 1.0, 2.0, 3.0])]);
        assert_eq!(interval(&of.measurements[0]), (1.75, 3.25));
    }

    #[test]
    fn the_summary_is_the_last_line_and_the_furthest_are_first() {
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
            ("far", &[0.1, 0.2]),
            ("same", &[1.5, 2.5]),
            ("single", &[4.0]),
            ("zero", &[0.0, 0.0]),
            ("new", &[1.0]),
        ]);
        let comparison = Comparison::of(&a, &b);
        let text = comparison.text();
        let lines: Vec<&str> = text.lines().collect();
        let summary = "2 of 4 metrics agree within their spread; 2 differ, by 1.733x to 10.000x; 1 \
                       more have one sample each; 1 missing in B, 1 in A";
        let end = [
            "missing in B: s: n 1: gone",
            "missing in A: s: n 1: new",
            "differ by 0.100x: s: n 1: far: 1.50 [1.00-2.00] and 0.150 [0.100-0.200] us",
            "differ by 1.733x: s: n 1: near: 1.50 [1.00-2.00] and 2.60 [2.20-3.00] us",
            summary,
        ];
        assert_eq!(lines[lines.len() - end.len()..], end);
        let gone = "s: n 1: gone: missing in B";
        assert_eq!(comparison.above(3.0), ["s: n 1: far: 0.100x", "s: n 1: single: 4.000x", gone]);
        assert_eq!(comparison.above(20.0), [gone]);
        assert!(Comparison::of(&a, &a).above(1.0).is_empty());
    }

    #[test]
    fn from_and_to_nothing_is_as_far_as_can_be() {
        let (a, b) = (report(&[("m", &[0.0, 0.0])]), report(&[("m", &[1.0, 1.0])]));
        assert_eq!(Comparison::of(&a, &b).above(1e9), ["s: n 1: m: from zero"]);
        assert_eq!(Comparison::of(&b, &a).above(1e9), ["s: n 1: m: to zero"]);
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
