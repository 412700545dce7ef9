//! What a figure shows, whatever draws it.

use super::tables::range;
use super::{Summary, number};

#[derive(Debug)]
pub(super) struct Figure {
    pub title: String,
    pub caption: String,
    pub shape: Shape,
}

#[derive(Debug)]
pub(super) enum Shape {
    Bars(Vec<Group>),
    Curves(Curves),
}

/// Bars to be compared with each other.
#[derive(Debug)]
pub(super) struct Group {
    pub head: String,
    pub bars: Vec<Bar>,
}

#[derive(Debug)]
pub(super) struct Bar {
    pub who: Who,
    pub summary: Summary,
    pub samples: usize,
}

#[derive(Debug)]
pub(super) struct Curves {
    pub x: String,
    pub y: String,
    /// The x axis always is logarithmic.
    pub y_scale: YScale,
    pub series: Vec<Series>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum YScale {
    Linear,
    Logarithmic,
    /// Of quantiles: every nine takes as much room, so that the tail can be seen.
    Nines,
}

#[derive(Debug)]
pub(super) struct Series {
    pub who: Who,
    pub points: Vec<Point>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub x: f64,
    pub y: f64,
    pub low: f64,
    pub high: f64,
}

/// Whose figure it is, and how that is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub label: String,
    /// Index of a colour: the same for a subject in all figures.
    pub colour: usize,
    pub ours: bool,
}

impl Figure {
    /// What a reader sees who cannot see the figure.
    pub fn description(&self) -> String {
        match &self.shape {
            Shape::Bars(groups) => {
                let bar = |bar: &Bar| format!("{} {}", bar.who.label, range(&bar.summary));
                let group = |group: &Group| {
                    let bars: Vec<String> = group.bars.iter().map(bar).collect();
                    let head = if group.head.is_empty() { "" } else { ": " };
                    format!("{}{head}{}", group.head, bars.join("; "))
                };
                groups.iter().map(group).collect::<Vec<_>>().join(". ")
            }
            Shape::Curves(curves) => {
                let one = |s: &Series| {
                    let end = |p: Option<&Point>| {
                        p.map_or_else(String::new, |p| {
                            format!("{} at {}", number(p.y), number(p.x))
                        })
                    };
                    let (first, last) = (end(s.points.first()), end(s.points.last()));
                    format!("{}: from {first} to {last}", s.who.label)
                };
                curves.series.iter().map(one).collect::<Vec<_>>().join("; ")
            }
        }
    }
}

/// Without control characters, which no document may have.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Which way is better, where the unit tells: a rate, or a cost as it is or for each of something.
pub(super) fn better(unit: &str) -> &'static str {
    let cost = ["ns", "us", "ms", "s", "round trips", "cycles", "bytes", "KiB"];
    match unit.split_once('/') {
        Some((_, "s")) => "More is better.",
        Some((of, _)) if of == "1" || cost.contains(&of) => "Less is better.",
        None if cost.contains(&unit) => "Less is better.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_told_from_rates() {
        // As the scenarios have them.
        for rate in ["Gb/s", "Mb/s", "1/s"] {
            assert_eq!(better(rate), "More is better.", "{rate}");
        }
        for cost in [
            "s/Gbit",
            "1/Gbit",
            "ms/connection",
            "KiB/connection",
            "bytes/connection",
            "cycles/byte",
            "cycles",
            "us",
            "ms",
            "round trips",
        ] {
            assert_eq!(better(cost), "Less is better.", "{cost}");
        }
        // A share of a CPU may be either, and a count is no figure.
        for neither in ["%", "of 100", "Gbit", "", "1"] {
            assert_eq!(better(neither), "", "{neither}");
        }
    }
}
