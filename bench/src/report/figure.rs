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
