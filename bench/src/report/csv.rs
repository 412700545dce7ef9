//! Tidy data, as pandas and R read it: a line is one observation, a column one variable, and each
//! parameter is a column of its own, empty where a scenario does not have it.

use anyhow::Context as _;

use super::{Parameters, Report, keys, value_of};

/// Columns that are no parameters.
const SAMPLES: [&str; 5] = ["scenario", "metric", "unit", "repetition", "value"];
const POINTS: [&str; 5] = ["scenario", "metric", "unit", "quantile", "value"];

/// A line per sample. Repetitions count from 1, in the order in which they were measured.
pub(super) fn samples(report: &Report) -> anyhow::Result<String> {
    let lines = report.measurements.iter().flat_map(|m| {
        let samples = m.samples.iter().zip(1..);
        samples.map(move |(value, n): (_, usize)| {
            let texts = [m.scenario.clone(), m.metric.clone(), m.unit.clone()];
            (&m.parameters, texts, [n.to_string(), value.to_string()])
        })
    });
    write(&SAMPLES, &keys(report.measurements.iter().map(|m| m.parameters.as_slice())), lines)
}

/// A line per point of a curve.
pub(super) fn distributions(report: &Report) -> anyhow::Result<String> {
    let lines = report.distributions.iter().flat_map(|d| {
        d.points.iter().map(move |(quantile, value)| {
            let texts = [d.scenario.clone(), d.metric.clone(), d.unit.clone()];
            (&d.parameters, texts, [quantile.to_string(), value.to_string()])
        })
    });
    write(&POINTS, &keys(report.distributions.iter().map(|d| d.parameters.as_slice())), lines)
}

fn write<'a>(
    fixed: &[&str; 5],
    keys: &[&str],
    lines: impl Iterator<Item = (&'a Parameters, [String; 3], [String; 2])>,
) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let (first, last) = fixed.split_at(3);
    // Two columns of one name cannot be told apart by the reader.
    let heads = keys.iter().map(|key| match fixed.contains(key) {
        true => format!("parameter {key}"),
        false => (*key).to_owned(),
    });
    let texts = |part: &[&str]| part.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    writer.write_record(texts(first).into_iter().chain(heads).chain(texts(last)))?;
    for (parameters, texts, figures) in lines {
        let values =
            keys.iter().map(|key| value_of(parameters, key).unwrap_or_default().to_owned());
        writer.write_record(texts.into_iter().chain(values).chain(figures))?;
    }
    let bytes = writer.into_inner().context("CSV in memory")?;
    Ok(String::from_utf8(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn a_line_per_sample() {
        let mut report = Report::new(fixture::environment());
        report.add("hop", &[("MTU", "1500".to_owned())], "rate", "Gb/s", vec![1.5, 0.1]);
        report.add("e2e", &[("value", "a, \"b\"".to_owned())], "failed", "", vec![0.0]);
        let text = samples(&report).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "scenario,metric,unit,MTU,parameter value,repetition,value");
        assert_eq!(lines[1], "hop,rate,Gb/s,1500,,1,1.5");
        assert_eq!(lines[2], "hop,rate,Gb/s,1500,,2,0.1");
        assert_eq!(lines[3], "e2e,failed,,,\"a, \"\"b\"\"\",1,0");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn a_line_per_point() {
        let mut report = Report::new(fixture::environment());
        let points = vec![(0.5, 10.0), (0.99, 12.25)];
        report.add_distribution("e2e", &[("subject", "clgw".to_owned())], "rtt", "us", points);
        let text = distributions(&report).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "scenario,metric,unit,subject,quantile,value");
        assert_eq!(lines[1..], ["e2e,rtt,us,clgw,0.5,10", "e2e,rtt,us,clgw,0.99,12.25"]);
    }
}
