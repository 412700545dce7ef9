//! Gates on instruction counts: what was counted now, against the committed baseline.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

/// A count may grow by this part of the baseline.
pub const TOLERANCE: f64 = 0.05;

/// Instructions by gate. In a file it is JSON with one gate a line, so that a change shows in the
/// diff as what it is.
pub type Counts = BTreeMap<String, u64>;

/// # Errors
/// The file cannot be read, or is not what [`write`] writes.
pub fn read(path: &Path) -> anyhow::Result<Counts> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot be read; write it with --update", path.display()))?;
    serde_json::from_str(&text).with_context(|| {
        format!("{}: is no object of gates and counts; write it with --update", path.display())
    })
}

/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, counts: &Counts) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(counts)? + "\n";
    std::fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))
}

#[derive(Deserialize)]
struct Summary {
    group: String,
    function_name: String,
    id: Option<String>,
    profiles: Vec<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    total: Total,
}

#[derive(Deserialize)]
struct Total {
    metrics: BTreeMap<String, Metric>,
}

#[derive(Deserialize)]
struct Metric {
    values: Values,
}

#[derive(Deserialize)]
struct Values {
    new: serde_json::Number,
}

/// Gate and count of one line that gungraun prints with `--output-format=json`.
///
/// # Errors
/// The line is something else, or holds no count.
pub fn parse_summary(line: &str) -> anyhow::Result<(String, u64)> {
    let summary: Summary =
        serde_json::from_str(line).with_context(|| format!("not a summary: {line:.200}"))?;
    let mut name = format!("{}/{}", summary.group, summary.function_name);
    if let Some(id) = &summary.id {
        name = format!("{name}/{id}");
    }
    let metric = summary.profiles.first().and_then(|p| p.data.total.metrics.get("Ir"));
    let count = metric.and_then(|m| m.values.new.as_u64()).unwrap_or(0);
    anyhow::ensure!(
        count > 0,
        "{name}: no instructions were counted; has its function a new name?"
    );
    Ok((name, count))
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Within,
    /// Too many.
    Grown,
    /// So few that the baseline no longer guards anything.
    Shrunk,
    /// The baseline has no such gate.
    New,
}

impl Verdict {
    pub fn of(baseline: Option<u64>, counted: u64) -> Self {
        let Some(baseline) = baseline else { return Self::New };
        let (baseline, counted) = (baseline as f64, counted as f64);
        if counted > baseline * (1.0 + TOLERANCE) {
            Self::Grown
        } else if counted < baseline * (1.0 - TOLERANCE) {
            Self::Shrunk
        } else {
            Self::Within
        }
    }
}

/// What a gate's count stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    pub items: u64,
    pub item: &'static str,
}

/// One row of the output; `unit` is what `counted` is divided by.
pub fn row(name: &str, unit: Unit, baseline: Option<u64>, counted: u64) -> String {
    let each = |count: u64| format!("{:.1}", count as f64 / unit.items as f64);
    let (was, change) = match baseline {
        Some(baseline) => {
            let percent = (counted as f64 / baseline as f64 - 1.0) * 100.0;
            // 0.00 by rounding is not -0.00.
            let percent = if percent.abs() < 0.005 { 0.0 } else { percent };
            (each(baseline), format!("{percent:+.2} %"))
        }
        None => ("-".to_owned(), "new".to_owned()),
    };
    let remark = match Verdict::of(baseline, counted) {
        Verdict::Grown => "  MORE",
        Verdict::Shrunk => "  fewer",
        Verdict::Within | Verdict::New => "",
    };
    format!("{name:<32} {:<10} {was:>10} {:>10} {change:>10}{remark}", unit.item, each(counted))
}

/// Head of the rows.
pub fn head() -> String {
    format!(
        "{:<32} {:<10} {:>10} {:>10} {:>10}",
        "instructions", "of one", "baseline", "now", "change"
    )
}

/// Judges all gates; the text is what a reader has to know beside the rows.
///
/// `whole`: every gate was counted, so one that is missing has gone.
///
/// # Errors
/// A count has grown beyond the tolerance, or gates and baseline are not the same.
pub fn judge(baseline: &Counts, counted: &Counts, whole: bool) -> anyhow::Result<String> {
    let of = |verdict: Verdict| {
        let percent = |name: &str, count: u64| match baseline.get(name) {
            Some(was) => format!("{name} by {:.1} %", (count as f64 / *was as f64 - 1.0) * 100.0),
            None => name.to_owned(),
        };
        let is = |name: &str, count| Verdict::of(baseline.get(name).copied(), count) == verdict;
        let of = counted.iter().filter(|(name, count)| is(name, **count));
        of.map(|(name, count)| percent(name, *count)).collect::<Vec<_>>().join(", ")
    };
    let gone: Vec<&str> =
        baseline.keys().filter(|n| !counted.contains_key(*n)).map(String::as_str).collect();
    let mut faults = Vec::new();
    let grown = of(Verdict::Grown);
    if !grown.is_empty() {
        faults.push(format!(
            "grown by more than {:.0} %: {grown}. Make it cheaper; or, if the \
             instructions are worth it, run `.ci/counts --update` and commit the new baseline \
             together with the change, the reason in the commit message",
            TOLERANCE * 100.0
        ));
    }
    let new = of(Verdict::New);
    if !new.is_empty() {
        faults.push(format!("not in the baseline: {new}. Add it with `.ci/counts --update`"));
    }
    if whole && !gone.is_empty() {
        faults.push(format!(
            "in the baseline, but not counted: {}. Remove it with `.ci/counts --update`",
            gone.join(", ")
        ));
    }
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("\n"));
    let shrunk = of(Verdict::Shrunk);
    Ok(if shrunk.is_empty() {
        format!("{} gates within {:.0} % of the baseline", counted.len(), TOLERANCE * 100.0)
    } else {
        format!(
            "{} gates hold. Cheaper by more than {:.0} %: {shrunk}. Lower the baseline with \
             `.ci/counts --update`, so that it goes on guarding",
            counted.len(),
            TOLERANCE * 100.0
        )
    })
}

/// A gate that may cost no more than so many times another.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    pub gate: &'static str,
    pub of: &'static str,
    pub most: f64,
}

/// Judges those of which both gates were counted; a line for each.
///
/// # Errors
/// One is above what it may be.
pub fn judge_ratios(ratios: &[Ratio], counted: &Counts) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut above = Vec::new();
    for Ratio { gate, of, most } in ratios {
        let (Some(count), Some(base)) = (counted.get(*gate), counted.get(*of)) else { continue };
        let ratio = *count as f64 / *base as f64;
        let line = format!("{gate} is {ratio:.3}x {of}, {most}x at the most");
        if ratio > *most {
            above.push(line.clone());
        }
        lines.push(line);
    }
    anyhow::ensure!(above.is_empty(), "{}", above.join("\n"));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> Counts {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn five_percent_more_is_too_much() {
        assert_eq!(Verdict::of(Some(1000), 1050), Verdict::Within);
        assert_eq!(Verdict::of(Some(1000), 1051), Verdict::Grown);
        assert_eq!(Verdict::of(Some(1000), 950), Verdict::Within);
        assert_eq!(Verdict::of(Some(1000), 949), Verdict::Shrunk);
        assert_eq!(Verdict::of(None, 1), Verdict::New);
    }

    #[test]
    fn says_which_and_what_to_do() {
        let baseline = counts(&[("a", 1000), ("b", 1000)]);
        let judged = |of: &[(&str, u64)], whole| judge(&baseline, &counts(of), whole);
        assert!(judged(&[("a", 1000), ("b", 1040)], true).unwrap().starts_with("2 gates within"));
        assert!(
            judged(&[("a", 900), ("b", 1000)], true).unwrap().contains("5 %: a by -10.0 %. Lower")
        );
        assert!(judged(&[("a", 1000)], false).is_ok());
        let error = |of: &[(&str, u64)]| judged(of, true).unwrap_err().to_string();
        assert!(error(&[("a", 1100), ("b", 1000)]).contains("5 %: a by 10.0 %. Make it cheaper"));
        assert!(error(&[("a", 1000)]).contains("not counted: b."));
        let both = error(&[("a", 1000), ("b", 2000), ("c", 1)]);
        assert!(
            both.contains("5 %: b by 100.0 %. Make") && both.contains("not in the baseline: c.")
        );
    }

    #[test]
    fn ratios_hold_whatever_the_baseline() {
        let ratios = [("b", 1.05), ("c", 2.0)].map(|(gate, most)| Ratio { gate, of: "a", most });
        let judged = |of: &[(&str, u64)]| judge_ratios(&ratios, &counts(of));
        assert!(judged(&[("b", 9_000)]).unwrap().is_empty(), "there is nothing to compare with");
        let lines = judged(&[("a", 1_000), ("b", 1_050), ("c", 1_999)]).unwrap();
        assert_eq!(lines, ["b is 1.050x a, 1.05x at the most", "c is 1.999x a, 2x at the most"]);
        let error = judged(&[("a", 1_000), ("b", 1_051), ("c", 1_000)]).unwrap_err().to_string();
        assert_eq!(error, "b is 1.051x a, 1.05x at the most");
    }

    #[test]
    fn rows_are_by_item() {
        let unit = Unit { items: 100, item: "frame" };
        let text = row("parse/ipv4", unit, Some(10_000), 11_000);
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["parse/ipv4", "frame", "100.0", "110.0", "+10.00", "%", "MORE"]);
    }

    #[test]
    fn gungraun_summaries() {
        let line = r#"{"group":"decide","function_name":"egress","id":"worst","profiles":[
            {"data":{"parts":[],"total":{"metrics":{"Ir":{"values":{"new":COUNT}}}}}}]}"#;
        let (name, count) = parse_summary(&line.replace("COUNT", "1234")).unwrap();
        assert_eq!((name.as_str(), count), ("decide/egress/worst", 1234));
        let error = parse_summary(&line.replace("COUNT", "0")).unwrap_err().to_string();
        assert!(error.contains("no instructions"), "{error}");
        assert!(parse_summary("gungraun: something else").is_err());
    }

    #[test]
    fn the_file_is_read_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("baseline.json");
        let of = counts(&[("a/b", 12), ("c", 3)]);
        write(&path, &of).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\n  \"a/b\": 12,\n  \"c\": 3\n}\n");
        assert_eq!(read(&path).unwrap(), of);
        assert!(read(&dir.path().join("other")).unwrap_err().to_string().contains("--update"));
    }
}
