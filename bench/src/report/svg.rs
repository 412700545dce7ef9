//! Draws figures as SVG to be put into an HTML document, whose style sheet gives the colours.

use anyhow::Context as _;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::{Curves, Figure, Group, Point, Shape, Who, YScale};
use super::number;

/// In units of the drawing, which are half a pixel or so on a screen: the backend rounds to whole ones.
const WIDTH: u32 = 1280;
const TEXT: u32 = 27;
const ROW: u32 = 48;
const CURVES_HEIGHT: u32 = 720;
/// Of a digit or letter on average, bold ones too.
const LETTER: f64 = 0.6;

/// Colours that stand for variables of the style sheet until the drawing is finished.
const FOREGROUND: RGBColor = RGBColor(1, 0, 0);
const MUTED: RGBColor = RGBColor(1, 0, 1);
const GRID: RGBColor = RGBColor(1, 0, 2);
pub(super) const COLOURS: usize = 10;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// The `<svg>` element. `id` must be no other one's in the document.
pub(super) fn draw(figure: &Figure, id: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    let height = match &figure.shape {
        Shape::Bars(groups) => bars_height(groups),
        Shape::Curves(_) => CURVES_HEIGHT,
    };
    let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
    let drawn = match &figure.shape {
        Shape::Bars(groups) => bars(&area, groups),
        Shape::Curves(curves) => curves_of(&area, curves),
    };
    drawn.and_then(|()| Ok(area.present()?)).with_context(|| format!("figure {}", figure.title))?;
    drop(area);
    Ok(finish(&text, figure, id, height))
}

/// Colours become variables, and the head tells what is shown.
fn finish(text: &str, figure: &Figure, id: &str, height: u32) -> String {
    let body = text.split_once('>').map_or(text, |(_, body)| body);
    let mut body = body.replace(" font-family=\"sans-serif\"", "");
    for (colour, variable) in [(FOREGROUND, "fg"), (MUTED, "muted"), (GRID, "grid")] {
        body = body.replace(&hex(colour), &format!("\"var(--{variable})\""));
    }
    for n in 0..COLOURS {
        body = body.replace(&hex(colour(n)), &format!("\"var(--s{n})\""));
    }
    let title = super::html::escape(&figure.title);
    let description = super::html::escape(&figure.description());
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\n\
         <title id=\"{id}-t\">{title}</title>\n<desc id=\"{id}-d\">{description}</desc>{body}"
    )
}

fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("\"#{r:02X}{g:02X}{b:02X}\"")
}

fn colour(n: usize) -> RGBColor {
    RGBColor(2, 0, (n % COLOURS) as u8)
}

fn style(colour: RGBColor, bold: bool, h: HPos, v: VPos) -> TextStyle<'static> {
    // The backend divides by this.
    let size = f64::from(TEXT) * 1.24;
    let weight = if bold { FontStyle::Bold } else { FontStyle::Normal };
    let mut style = TextStyle::from(("sans-serif", size, weight).into_font()).pos(Pos::new(h, v));
    style.color = colour.to_backend_color();
    style
}

fn width(text: &str) -> u32 {
    (text.chars().count() as f64 * f64::from(TEXT) * LETTER) as u32
}

fn text(area: &Area<'_>, text: &str, style: &TextStyle<'_>, at: (i32, i32)) -> anyhow::Result<()> {
    Ok(area.draw_text(text, style, at)?)
}

/// Of a group's head, in rows.
const HEAD: f64 = 1.2;

fn bars_height(groups: &[Group]) -> u32 {
    let heads = groups.iter().filter(|g| !g.head.is_empty()).count();
    let bars: usize = groups.iter().map(|g| g.bars.len()).sum();
    ((bars as f64 + heads as f64 * HEAD) * f64::from(ROW)) as u32 + 70
}

fn bars(area: &Area<'_>, groups: &[Group]) -> anyhow::Result<()> {
    let all = || groups.iter().flat_map(|g| &g.bars);
    let labels = all().map(|bar| width(&bar.who.label)).max().unwrap_or(0) + 30;
    let values = all().map(|bar| width(&number(bar.summary.median))).max().unwrap_or(0) + 30;
    // Where all is ours, nothing has to stand out.
    let mixed = all().any(|bar| !bar.who.ours);
    let max = all().map(|bar| bar.summary.max).fold(0.0, f64::max);
    let height = area.dim_in_pixel().1;
    let bottom = (height - 50) as i32;
    let mut chart = ChartBuilder::on(area)
        .margin_left(labels.min(WIDTH / 2))
        .margin_right(values)
        .margin_top(4)
        .margin_bottom(50)
        .build_cartesian_2d(0.0..max, 0.0..f64::from(bottom - 4))?;
    // The plane has pixels upwards; rows are counted downwards.
    let y = |row: f64| f64::from(bottom - 4) - row * f64::from(ROW);
    let ticks = linear(max);
    let end = style(MUTED, false, HPos::Center, VPos::Top);
    for tick in &ticks {
        let at = chart.backend_coord(&(*tick, 0.0));
        text(area, &number_of_tick(*tick), &end, (at.0, at.1 + 10))?;
    }
    let mut row = 0.0;
    for group in groups {
        if !group.head.is_empty() {
            let (_, at) = chart.backend_coord(&(0.0, y(row + HEAD * 0.6)));
            text(area, &group.head, &style(MUTED, false, HPos::Left, VPos::Center), (4, at))?;
            row += HEAD;
        }
        let (first, last) = (y(row), y(row + group.bars.len() as f64));
        for tick in &ticks {
            line(&mut chart, &[(*tick, first), (*tick, last)], GRID, 1)?;
        }
        for bar in &group.bars {
            let Who { label, colour: n, ours } = &bar.who;
            let s = &bar.summary;
            let corners = [(0.0, y(row + 0.14)), (s.median, y(row + 0.86))];
            let fill = colour(*n).mix(if *ours { 1.0 } else { 0.7 }).filled();
            chart.draw_series([Rectangle::new(corners, fill)])?;
            if bar.samples > 1 {
                line(&mut chart, &[(s.min, y(row + 0.5)), (s.max, y(row + 0.5))], FOREGROUND, 3)?;
                for x in [s.min, s.max] {
                    line(&mut chart, &[(x, y(row + 0.32)), (x, y(row + 0.68))], FOREGROUND, 3)?;
                }
            }
            let (x, at) = chart.backend_coord(&(s.max.max(s.median), y(row + 0.5)));
            let (left, _) = chart.backend_coord(&(0.0, 0.0));
            let right = style(FOREGROUND, *ours && mixed, HPos::Right, VPos::Center);
            text(area, label, &right, (left - 12, at))?;
            let after = style(FOREGROUND, *ours && mixed, HPos::Left, VPos::Center);
            text(area, &number(s.median), &after, (x + 12, at))?;
            row += 1.0;
        }
        line(&mut chart, &[(0.0, first), (0.0, last)], MUTED, 2)?;
    }
    Ok(())
}

fn curves_of(area: &Area<'_>, curves: &Curves) -> anyhow::Result<()> {
    let points = || curves.series.iter().flat_map(|s| &s.points);
    let bounds = |of: fn(&Point) -> f64| {
        let values = points().map(of);
        values.fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (x_low, x_high) = bounds(|p| p.x);
    let x_range = around(x_low.log10(), x_high.log10());
    let low = bounds(|p| p.low).0;
    let high = bounds(|p| p.high).1;
    let most = points().map(|p| p.y).filter(|q| *q < 1.0).fold(0.0, f64::max);
    // Where all of it is: no further than the last nine that was seen.
    let all = nines(most).max(1.0) + 0.35;
    let (y_range, y_ticks): (_, Vec<(f64, String)>) = match curves.y_scale {
        YScale::Linear => {
            let ticks = linear(high).into_iter().map(|t| (t, number_of_tick(t)));
            (0.0..if high > 0.0 { high * 1.05 } else { 1.0 }, ticks.collect())
        }
        YScale::Logarithmic => {
            let range = around(low.log10(), high.log10());
            let ticks = logarithmic(&range).into_iter().map(|t| (t.log10(), number_of_tick(t)));
            (range.clone(), ticks.collect())
        }
        YScale::Nines => {
            let shares = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999];
            let ticks = shares.into_iter().filter(|q| nines(*q) < all - 0.3);
            let ticks = ticks.map(|q| (nines(q), format!("{} %", percent(q))));
            (0.0..all + 0.05, ticks.chain([(all, "100 %".to_owned())]).collect())
        }
    };
    let y = |value: f64| match curves.y_scale {
        YScale::Linear => value,
        YScale::Logarithmic => value.log10(),
        YScale::Nines if value >= 1.0 => all,
        YScale::Nines => nines(value),
    };
    let labels = y_ticks.iter().map(|(_, label)| width(label)).max().unwrap_or(0) + 30;
    let mut chart = ChartBuilder::on(area)
        .margin_left(labels)
        .margin_right(40)
        .margin_top(60)
        .margin_bottom(90)
        .build_cartesian_2d(x_range.clone(), y_range.clone())?;
    let (left, top) = chart.backend_coord(&(x_range.start, y_range.end));
    let (right, bottom) = chart.backend_coord(&(x_range.end, y_range.start));
    for (tick, label) in y_ticks {
        line(&mut chart, &[(x_range.start, tick), (x_range.end, tick)], GRID, 1)?;
        let (_, at) = chart.backend_coord(&(x_range.start, tick));
        text(area, &label, &style(MUTED, false, HPos::Right, VPos::Center), (left - 12, at))?;
    }
    let below = style(MUTED, false, HPos::Center, VPos::Top);
    for tick in logarithmic(&x_range) {
        let x = tick.log10();
        line(&mut chart, &[(x, y_range.start), (x, y_range.end)], GRID, 1)?;
        let (at, _) = chart.backend_coord(&(x, y_range.start));
        text(area, &number_of_tick(tick), &below, (at, bottom + 10))?;
    }
    text(area, &curves.x, &style(FOREGROUND, false, HPos::Right, VPos::Top), (right, bottom + 48))?;
    text(area, &curves.y, &style(FOREGROUND, false, HPos::Left, VPos::Top), (4, top - 52))?;
    line(&mut chart, &[(x_range.start, y_range.start), (x_range.end, y_range.start)], MUTED, 2)?;
    // Ours last, so that nothing covers it.
    let mut series: Vec<_> = curves.series.iter().collect();
    series.reverse();
    series.sort_by_key(|s| s.who.ours);
    for one in series {
        let shade = colour(one.who.colour);
        let path: Vec<_> = one.points.iter().map(|p| (p.x.log10(), y(p.y))).collect();
        line(&mut chart, &path, shade, if one.who.ours { 6 } else { 4 })?;
        if curves.y_scale == YScale::Nines {
            continue;
        }
        for p in &one.points {
            let x = p.x.log10();
            line(&mut chart, &[(x, y(p.low)), (x, y(p.high))], shade, 3)?;
            chart.draw_series([Circle::new((x, y(p.y)), 8, shade.filled())])?;
        }
    }
    Ok(())
}

fn line(chart: &mut Plane<'_>, path: &[(f64, f64)], of: RGBColor, wide: u32) -> anyhow::Result<()> {
    chart.draw_series([PathElement::new(path.to_vec(), of.stroke_width(wide))])?;
    Ok(())
}

/// Room on both sides, and some where all is the same.
fn around(low: f64, high: f64) -> std::ops::Range<f64> {
    let room = ((high - low) * 0.04).max(0.02);
    low - room..high + room
}

/// How many nines a quantile has: 1 for 0.9, 2 for 0.99.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn percent(quantile: f64) -> f64 {
    (quantile * 1e8).round() / 1e6
}

/// Round numbers from 0 to this.
fn linear(max: f64) -> Vec<f64> {
    if max <= 0.0 {
        return vec![0.0];
    }
    let rough = max / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|s| *s >= rough);
    let step = step.unwrap_or(10.0 * power);
    (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= max * 1.0001).collect()
}

/// Round numbers in this range of decimal logarithms.
fn logarithmic(range: &std::ops::Range<f64>) -> Vec<f64> {
    let factors: &[f64] = match range.end - range.start {
        decades if decades > 3.0 => &[1.0],
        decades if decades > 0.6 => &[1.0, 2.0, 5.0],
        _ => &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
    };
    let decades = range.start.floor() as i32..=range.end.floor() as i32;
    decades
        .flat_map(|decade| factors.iter().map(move |factor| factor * 10f64.powi(decade)))
        .filter(|tick| range.contains(&tick.log10()))
        .collect()
}

/// As short as it is exact: ticks are round.
fn number_of_tick(tick: f64) -> String {
    let text = number(tick);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(linear(9.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(linear(0.4).len(), 5);
        assert_eq!(linear(0.0), [0.0]);
        assert_eq!(logarithmic(&(0.0..4.7)), [1.0, 10.0, 100.0, 1000.0, 10000.0]);
        assert_eq!(logarithmic(&(1.9..3.0)), [100.0, 200.0, 500.0]);
        let ticks = [0.0, 0.000_02, 3.0 * 0.1, 0.5, 20.0, 20000.0].map(number_of_tick);
        assert_eq!(ticks, ["0", "0.00002", "0.3", "0.5", "20", "20,000"]);
        assert_eq!(percent(0.999), 99.9);
        assert!((nines(0.99) - 2.0).abs() < 1e-9);
    }
}
