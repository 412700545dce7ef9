//! Which figures there are. It follows from the data's shape alone: a number that spans a hundred
//! times makes curves, everything else bars; a distribution makes a cumulative curve. What has no
//! unit is for the tables only.

use super::figure::{Bar, Curves, Figure, Group, Point, Series, Shape, Who, YScale, better, clean};
use super::tables::{Table, split};
use super::{Distribution, Measurement, Parameters, Report, Summary, keys, value_of};

/// The parameter that says whose figure it is. Everything without it is the gateway's.
const SUBJECT: &str = "subject";
/// More bars than this are hard to read in one figure.
const BARS: usize = 40;
const CURVES: usize = 8;
/// Bars this much shorter than those of another setting would not be seen.
const UNEVEN: f64 = 6.0;
/// An axis of less is better shown as bars.
const SPAN: f64 = 100.0;

/// Subjects of the whole report, ours first.
#[derive(Debug)]
pub(super) struct Subjects(Vec<String>);

impl Subjects {
    pub fn of(report: &Report) -> Self {
        let measured = report.measurements.iter().map(|m| &m.parameters);
        let mut subjects: Vec<String> = Vec::new();
        for set in measured.chain(report.distributions.iter().map(|d| &d.parameters)) {
            if let Some(subject) = value_of(set, SUBJECT)
                && !subjects.iter().any(|s| s == subject)
            {
                subjects.push(subject.to_owned());
            }
        }
        subjects.sort_by_key(|subject| !is_ours(subject));
        Self(subjects)
    }

    fn who(&self, subject: &str) -> Who {
        // The first colour is ours, also where we were not measured.
        let others = usize::from(!self.0.first().is_some_and(|first| is_ours(first)));
        let at = self.0.iter().position(|s| s == subject).unwrap_or(0);
        Who { label: clean(subject), colour: at + others, ours: is_ours(subject) }
    }
}

pub(super) fn is_ours(subject: &str) -> bool {
    subject.starts_with("clgw")
}

/// The figures of a scenario.
pub(super) fn choose(report: &Report, subjects: &Subjects, scenario: &str) -> Vec<Figure> {
    let mut figures = Vec::new();
    for table in Table::of(report, scenario) {
        for (n, (metric, unit)) in table.metrics.iter().enumerate() {
            let of: Vec<_> = table.rows.iter().filter_map(|row| row.cells[n]).collect();
            if unit.is_empty() || of.iter().all(|m| m.summary.max <= 0.0) {
                continue;
            }
            let title = format!("{}, {}", clean(metric), clean(unit));
            let (rest, scaling) = match axis(&table.keys, &of) {
                Some(key) => scaling(subjects, &title, unit, key, of),
                None => (of, Vec::new()),
            };
            figures.extend(scaling);
            bars(subjects, &title, &[], unit, rest, &mut figures);
        }
    }
    let mut metrics: Vec<(&str, &str)> = Vec::new();
    for d in report.distributions.iter().filter(|d| d.scenario == scenario) {
        let metric = (d.metric.as_str(), d.unit.as_str());
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    for (metric, unit) in metrics {
        let of = report
            .distributions
            .iter()
            .filter(|d| d.scenario == scenario && d.metric == metric && d.unit == unit);
        figures.extend(cumulative(subjects, metric, unit, of.collect()));
    }
    figures
}

/// The parameter that spans enough for an axis of its own.
fn axis<'a>(keys: &[&'a str], of: &[&Measurement]) -> Option<&'a str> {
    keys.iter().copied().find(|key| {
        let values: Vec<f64> = of.iter().filter_map(|m| coordinate(m, key)).collect();
        let all = values.len() == of.len();
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(0.0, f64::max);
        all && max / min >= SPAN
    })
}

fn coordinate(m: &Measurement, key: &str) -> Option<f64> {
    let value = value_of(&m.parameters, key)?.parse::<f64>().ok()?;
    (value > 0.0 && value.is_finite()).then_some(value)
}

/// Curves of a metric over `key`, and what has but one point on it.
fn scaling<'a>(
    subjects: &Subjects,
    title: &str,
    unit: &str,
    key: &str,
    of: Vec<&'a Measurement>,
) -> (Vec<&'a Measurement>, Vec<Figure>) {
    let others = |m: &Measurement| {
        m.parameters.iter().filter(|(k, _)| k != key).cloned().collect::<Vec<_>>()
    };
    let mut sets: Vec<(Parameters, Vec<&Measurement>)> = Vec::new();
    for m in of {
        let set = others(m);
        match sets.iter_mut().find(|(other, _)| *other == set) {
            Some((_, members)) => members.push(m),
            None => sets.push((set, vec![m])),
        }
    }
    let (curves, single): (Vec<_>, Vec<_>) = sets.into_iter().partition(|(_, of)| of.len() > 1);
    let figures = divide(subjects, curves, CURVES).into_iter().map(|part| {
        let series: Vec<Series> = part
            .members
            .into_iter()
            .map(|(who, of)| {
                let mut points: Vec<Point> = of
                    .iter()
                    .filter_map(|m| {
                        let Summary { min, median, max } = m.summary;
                        coordinate(m, key).map(|x| Point { x, y: median, low: min, high: max })
                    })
                    .collect();
                points.sort_by(|a, b| a.x.total_cmp(&b.x));
                Series { who, points }
            })
            .collect();
        let values = || series.iter().flat_map(|s| &s.points);
        let low = values().map(|p| p.low).fold(f64::INFINITY, f64::min);
        let high = values().map(|p| p.high).fold(0.0, f64::max);
        let y_scale =
            if low > 0.0 && high / low >= SPAN { YScale::Logarithmic } else { YScale::Linear };
        let axes = if y_scale == YScale::Linear { "x axis" } else { "both axes" };
        let caption = format!(
            "{}Medians, the lines through them are min to max; {axes} logarithmic. {}",
            part.common,
            better(unit)
        );
        let curves = Curves { x: clean(key), y: title.to_owned(), y_scale, series };
        Figure {
            title: format!("{title}, by {}{}", clean(key), part.apart),
            caption,
            shape: Shape::Curves(curves),
        }
    });
    let figures = figures.collect();
    (single.into_iter().flat_map(|(_, of)| of).collect(), figures)
}

fn cumulative(
    subjects: &Subjects,
    metric: &str,
    unit: &str,
    of: Vec<&Distribution>,
) -> Vec<Figure> {
    let sets = of.into_iter().map(|d| (d.parameters.clone(), d)).collect();
    let title = format!("{}, {}", clean(metric), clean(unit));
    let figure = |part: Part<&Distribution>| {
        let series = part
            .members
            .into_iter()
            .map(|(who, d)| {
                let points = d
                    .points
                    .iter()
                    .filter(|(_, value)| *value > 0.0)
                    .map(|(q, value)| Point { x: *value, y: *q, low: *q, high: *q });
                Series { who, points: points.collect() }
            })
            .filter(|s: &Series| s.points.len() > 1)
            .collect::<Vec<_>>();
        (!series.is_empty()).then(|| Figure {
            title: format!("{title}: distribution{}", part.apart),
            caption: format!(
                "{}How much was no more than this; every further nine takes as much room. Further \
                 left is better.",
                part.common
            ),
            shape: Shape::Curves(Curves {
                x: title.clone(),
                y: "share".to_owned(),
                y_scale: YScale::Nines,
                series,
            }),
        })
    };
    divide(subjects, sets, CURVES).into_iter().filter_map(figure).collect()
}

/// `said`: parameters that are in the title.
fn bars(
    subjects: &Subjects,
    title: &str,
    said: &[&str],
    unit: &str,
    of: Vec<&Measurement>,
    figures: &mut Vec<Figure>,
) {
    // A bar alone says no more than its figure in the table, and nothing has no length.
    if of.len() < 2 || of.iter().all(|m| m.summary.max <= 0.0) {
        return;
    }
    let sets: Vec<&[(String, String)]> = of.iter().map(|m| m.parameters.as_slice()).collect();
    let keys = keys(sets.iter().copied());
    let (varying, mut constant) = split(&keys, &sets);
    constant.retain(|(key, _)| !said.contains(key));
    let others: Vec<&str> = varying.iter().copied().filter(|key| *key != SUBJECT).collect();
    if let Some(first) = others.first() {
        let mut parts: Vec<(Option<&str>, Vec<&Measurement>)> = Vec::new();
        for m in &of {
            let value = value_of(&m.parameters, first);
            match parts.iter_mut().find(|(other, _)| *other == value) {
                Some((_, part)) => part.push(m),
                None => parts.push((value, vec![m])),
            }
        }
        let longest =
            parts.iter().map(|(_, p)| p.iter().map(|m| m.summary.max).fold(0.0, f64::max));
        let (low, high) =
            longest.fold((f64::INFINITY, 0.0f64), |(l, h), max| (l.min(max), h.max(max)));
        let uneven = high / low > UNEVEN && parts.iter().all(|(_, part)| part.len() > 1);
        if of.len() > BARS || uneven {
            for (value, part) in parts {
                let title = format!("{title}; {}: {}", clean(first), clean(value.unwrap_or("-")));
                let said = [said, &[*first]].concat();
                bars(subjects, &title, &said, unit, part, figures);
            }
            return;
        }
    }
    let beside = varying.contains(&SUBJECT);
    // Subjects stand beside each other; without them, what differs last does.
    let (heads, labels) = match (beside, others.len()) {
        (true, _) => (others.as_slice(), &[][..]),
        (false, 0 | 1) => (&[][..], others.as_slice()),
        (false, _) => others.split_at(1),
    };
    let mut groups: Vec<Group> = Vec::new();
    for (m, set) in of.iter().zip(&sets) {
        let head = name(set, heads, true);
        let mut who = subjects.who(value_of(set, SUBJECT).unwrap_or("clgw"));
        if !beside {
            who.label = name(set, labels, false);
        }
        let bar = Bar { who, summary: m.summary, samples: m.samples.len() };
        match groups.iter_mut().find(|group| group.head == head) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group { head, bars: vec![bar] }),
        }
    }
    let spread = match of.iter().any(|m| m.samples.len() > 1) {
        true => "Medians; the thin lines are min to max. ",
        false => "One sample each. ",
    };
    let caption = format!("{}{spread}{}", sentence(&constant), better(unit));
    figures.push(Figure { title: title.to_owned(), caption, shape: Shape::Bars(groups) });
}

/// Curves that belong into one figure.
struct Part<T> {
    /// What sets them apart from the curves of other figures, for the title.
    apart: String,
    /// What all figures have in common, as a sentence.
    common: String,
    members: Vec<(Who, T)>,
}

/// By what differs beside the subject; without subjects, only if there are too many of them.
fn divide<T>(subjects: &Subjects, sets: Vec<(Parameters, T)>, most: usize) -> Vec<Part<T>> {
    let parameters: Vec<&[(String, String)]> = sets.iter().map(|(set, _)| set.as_slice()).collect();
    let (varying, constant) = split(&keys(parameters.iter().copied()), &parameters);
    let others: Vec<String> =
        varying.iter().filter(|key| **key != SUBJECT).map(|key| (*key).to_owned()).collect();
    let beside = parameters.iter().any(|set| value_of(set, SUBJECT).is_some());
    let heads = match (beside, sets.len() > most) {
        (true, _) => others.len(),
        (false, true) => others.len().min(1),
        (false, false) => 0,
    };
    let (heads, labels) = others.split_at(heads);
    let common = sentence(&constant);
    let mut parts: Vec<(String, Part<T>)> = Vec::new();
    for (set, member) in sets {
        let head = name(&set, heads, true);
        let at = parts.iter().position(|(other, _)| *other == head).unwrap_or_else(|| {
            let apart = if head.is_empty() { String::new() } else { format!("; {head}") };
            parts.push((head, Part { apart, common: common.clone(), members: Vec::new() }));
            parts.len() - 1
        });
        let members = &mut parts[at].1.members;
        let mut who = subjects.who(value_of(&set, SUBJECT).unwrap_or("clgw"));
        if !beside {
            who.colour = members.len();
            if !labels.is_empty() {
                who.label = name(&set, labels, false);
            }
        }
        members.push((who, member));
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// Values of these parameters. A number or a "none" says nothing without its key.
fn name(set: &[(String, String)], keys: &[impl AsRef<str>], with_keys: bool) -> String {
    let one = |key: &str| {
        let value = value_of(set, key)?;
        let bare = value.starts_with(|c: char| c.is_ascii_digit())
            || ["none", "on", "off", "yes", "no"].contains(&value);
        Some(match (with_keys, bare) {
            (true, _) => format!("{key}: {value}"),
            (false, true) => format!("{key} {value}"),
            (false, false) => value.to_owned(),
        })
    };
    let parts: Vec<String> = keys.iter().filter_map(|key| one(key.as_ref())).collect();
    clean(&parts.join(if with_keys { "; " } else { ", " }))
}

fn sentence(constant: &[(&str, &str)]) -> String {
    if constant.is_empty() {
        return String::new();
    }
    let parts: Vec<String> =
        constant.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    clean(&parts.join("; ")) + ". "
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn figures(scenario: &str) -> Vec<Figure> {
        let report = fixture::report();
        choose(&report, &Subjects::of(&report), scenario)
    }

    #[test]
    fn subjects_stand_beside_each_other_in_bars() {
        let figures = figures("relays");
        let titles: Vec<&str> = figures.iter().map(|f| f.title.as_str()).collect();
        // "failed" has no unit.
        assert_eq!(titles, ["1 stream, Gb/s", "A (1), s/Gbit", "goodput, Mb/s"]);
        let Shape::Bars(groups) = &figures[0].shape else { panic!("{:?}", figures[0]) };
        let heads: Vec<&str> = groups.iter().map(|g| g.head.as_str()).collect();
        assert_eq!(heads, ["offloads: none", "offloads: veth's"]);
        let who = |label: &str, colour| Who { label: label.to_owned(), colour, ours: colour == 0 };
        let bars: Vec<&Who> = groups[0].bars.iter().map(|b| &b.who).collect();
        assert_eq!(bars, [&who("clgw", 0), &who("haproxy", 1), &who("direct", 2)]);
        assert_eq!(groups[1].bars[0].who, who("haproxy", 1));
        let caption = "site: a & b. Medians; the thin lines are min to max. More is better.";
        assert_eq!(figures[0].caption, caption);
        assert!(figures[1].caption.ends_with("Less is better."));
    }

    #[test]
    fn a_number_of_wide_span_makes_curves() {
        let figures = figures("scale");
        assert_eq!(figures.len(), 2);
        assert_eq!(figures[0].title, "cost of a frame, cycles, by open connections");
        let Shape::Curves(curves) = &figures[0].shape else { panic!("{:?}", figures[0]) };
        let labels: Vec<&str> = curves.series.iter().map(|s| s.who.label.as_str()).collect();
        assert_eq!(labels, ["one hot", "random"]);
        let xs: Vec<f64> = curves.series[0].points.iter().map(|p| p.x).collect();
        assert_eq!(xs, [1.0, 1000.0, 50000.0]);
        assert_eq!(curves.y_scale, YScale::Linear);
        assert_eq!(
            (curves.series[0].points[0].low, curves.series[0].points[0].high),
            (4000.0, 4100.0)
        );
    }

    #[test]
    fn distributions_make_a_figure_per_setting() {
        let figures = figures("latency");
        assert_eq!(figures.len(), 2);
        assert_eq!(figures[0].title, "round trip, us: distribution; rate: 1000");
        for figure in &figures {
            let Shape::Curves(curves) = &figure.shape else { panic!("{figure:?}") };
            assert_eq!(curves.y_scale, YScale::Nines);
            let colours: Vec<usize> = curves.series.iter().map(|s| s.who.colour).collect();
            assert_eq!(colours, [0, 1]);
        }
    }

    #[test]
    fn without_subjects_bars_are_of_settings() {
        let mut report = Report::new(fixture::environment());
        for (mtu, direction) in [("1500", "upload"), ("1500", "download"), ("9000", "upload")] {
            let parameters = [("MTU", mtu.to_owned()), ("direction", direction.to_owned())];
            report.add("hop", &parameters, "one core", "Gb/s", vec![1.0]);
        }
        let figures = choose(&report, &Subjects::of(&report), "hop");
        let Shape::Bars(groups) = &figures[0].shape else { panic!("{figures:?}") };
        let shape: Vec<_> = groups.iter().map(|g| (g.head.as_str(), g.bars.len())).collect();
        assert_eq!(shape, [("MTU: 1500", 2), ("MTU: 9000", 1)]);
        assert_eq!(groups[0].bars[1].who.label, "download");
        assert!(figures[0].caption.starts_with("One sample each."));
    }

    #[test]
    fn short_bars_have_a_figure_of_their_own() {
        let mut report = Report::new(fixture::environment());
        for (delay, factor) in [("5", 100.0), ("150", 1.0)] {
            for subject in ["haproxy", "direct"] {
                let parameters = [("subject", subject.to_owned()), ("delay", delay.to_owned())];
                report.add("wan", &parameters, "goodput", "Mb/s", vec![factor, 2.0 * factor]);
            }
        }
        let subjects = Subjects::of(&report);
        let figures = choose(&report, &subjects, "wan");
        let titles: Vec<&str> = figures.iter().map(|f| f.title.as_str()).collect();
        assert_eq!(titles, ["goodput, Mb/s; delay: 5", "goodput, Mb/s; delay: 150"]);
        // The first colour is ours even when we were not measured.
        assert_eq!(subjects.who("haproxy").colour, 1);
    }

    #[test]
    fn many_bars_are_several_figures_and_one_is_none() {
        let mut report = Report::new(fixture::environment());
        for n in 0..50 {
            let parameters = [("a", (n % 2).to_string()), ("b", (n / 2).to_string())];
            report.add("s", &parameters, "m", "us", vec![1.0]);
        }
        report.add("alone", &[("a", "1".to_owned())], "m", "us", vec![1.0]);
        let subjects = Subjects::of(&report);
        let figures = choose(&report, &subjects, "s");
        assert_eq!(figures.len(), 2);
        assert_eq!(figures[1].title, "m, us; a: 1");
        assert!(choose(&report, &subjects, "alone").is_empty());
    }
}
