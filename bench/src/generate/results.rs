//! What a load has measured, as rows of the report.

use anyhow::bail;

use super::load::Plan;
use super::session::Outcome;
use super::side::Sample;
use crate::report::Report;

/// Quantiles of latencies, and their columns.
pub const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// Payload bytes of a part of the window in both directions: to the server, to the client.
fn payload(sample: &Sample) -> [u64; 2] {
    // What the server has received is more than what its gateway has acknowledged to the client;
    // it is known where the server is in this process.
    let to_server = sample.server.map_or(sample.client.sent, |server| server.received);
    [to_server, sample.client.received]
}

/// Payload in Gb/s of each second: to the server (0), to the client (1).
pub fn payload_rates(outcome: &Outcome, direction: usize) -> Vec<f64> {
    rates(outcome, |s| payload(s)[direction] as f64 * 8e-9)
}

/// Requests answered per second, of each second.
pub fn exchange_rates(outcome: &Outcome) -> Vec<f64> {
    rates(outcome, |s| s.client.exchanges as f64)
}

fn rates(outcome: &Outcome, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
    // The end of a window that was cut short may be a sample of almost no time: it says nothing.
    outcome.samples.iter().filter(|s| s.seconds > 0.1).map(|s| of(s) / s.seconds).collect()
}

/// Adds a row: `parameters` behind what the plan itself says.
pub fn report(
    scenario: &'static str,
    plan: Option<Plan>,
    parameters: &[(&'static str, String)],
    outcome: &Outcome,
    report: &mut Report,
) {
    let mut row = describe(plan);
    row.extend_from_slice(parameters);
    let mut add = |metric, unit, samples| report.add(scenario, &row, metric, unit, samples);
    match plan {
        Some(Plan::Streams(plan)) => {
            for (n, wanted, name) in [(0, plan.up, "upload"), (1, plan.down, "download")] {
                if wanted {
                    add(name, "Gb/s", payload_rates(outcome, n));
                }
            }
        }
        Some(Plan::Exchanges(_)) => {
            add("rate", "1/s", exchange_rates(outcome));
        }
        None => {
            let server = outcome.server;
            add("received", "Gbit", vec![server.received as f64 * 8e-9]);
            add("sent", "Gbit", vec![server.sent as f64 * 8e-9]);
            add("requests", "", vec![server.exchanges as f64]);
            add("connections", "", vec![server.established as f64]);
            add("failed", "", vec![server.failed as f64]);
        }
    }
    if let Some(latencies) = &outcome.latencies {
        if !latencies.histogram.is_empty() {
            for (name, quantile) in QUANTILES {
                let nanos = latencies.histogram.value_at_quantile(quantile);
                add(name, "us", vec![nanos as f64 / 1e3]);
            }
        }
        add("unanswered", "", vec![latencies.unanswered as f64]);
    }
    if plan.is_some() && !outcome.samples.is_empty() {
        add("failed", "", vec![outcome.failed() as f64]);
    }
    report_drops(scenario, &row, &outcome.drops, report);
    let mut add = |metric, unit, samples| report.add(scenario, &row, metric, unit, samples);
    for (thread, usage) in &outcome.usage {
        let name = match *thread {
            "client" => "client thread busy",
            "server" => "server thread busy",
            _ => "generator busy",
        };
        let share = usage.busy.as_secs_f64() / usage.total.as_secs_f64().max(1e-9);
        add(name, "%", vec![share * 100.0]);
    }
    if let Some(why) = &outcome.first_failure {
        report.note(format!("{scenario}: first failure: {why}"));
    }
}

fn describe(plan: Option<Plan>) -> Vec<(&'static str, String)> {
    let Some(plan) = plan else { return vec![("load", "serve".to_owned())] };
    let mut row = vec![("load", plan.words()), ("connections", plan.connections().to_string())];
    if let Plan::Exchanges(plan) = plan {
        row.push(("bytes", format!("{}/{}", plan.request, plan.response)));
    }
    row
}

/// Adds what the generator's own stacks dropped: figures of a generator that loses frames are not
/// those of what it measures.
pub fn report_drops(
    scenario: &str,
    row: &[(&str, String)],
    drops: &[(String, u64)],
    report: &mut Report,
) {
    let sum: u64 = drops.iter().map(|(_, n)| n).sum();
    report.add(scenario, row, "generator drops", "frames", vec![sum as f64]);
    if sum > 0 {
        let row: Vec<_> = row.iter().map(|(key, value)| format!("{key} {value}")).collect();
        let by: Vec<_> = drops.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        report.note(format!(
            "{scenario}: {}: WARNING: the generator itself dropped {sum} frames, warm-up and end \
             included: {}",
            row.join(", "),
            by.join(", ")
        ));
    }
}

/// # Errors
/// A load that measured nothing, or less than was asked for.
pub fn ensure_moved(plan: Option<Plan>, outcome: &Outcome) -> anyhow::Result<()> {
    let target = outcome.target.map_or_else(String::new, |to| format!(" to {to}"));
    let why = outcome.first_failure.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
    if let Some(broken) = outcome.broken {
        bail!(
            "connections{target}: {broken}{why}; is the target's address right, and does its \
             server listen and keep running?"
        );
    }
    let measured = outcome.measured();
    let [up, down] = payload(&measured);
    let moved = match plan {
        None => return Ok(()),
        Some(Plan::Streams(plan)) => (!plan.up || up > 0) && (!plan.down || down > 0),
        Some(Plan::Exchanges(_)) => measured.client.exchanges > 0,
    };
    if moved {
        return Ok(());
    }
    bail!(
        "nothing was moved: {} connections begun{target}, {} established, {} failed{why}; is the \
         target's address right, and does its server listen?",
        outcome.client.opened,
        outcome.client.established,
        outcome.client.failed,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::environment::Environment;
    use crate::generate::tally::Counts;
    use crate::generate::{Direction, Timing};
    use crate::report::Measurement;

    fn of_metric<'a>(report: &'a Report, metric: &str) -> Option<&'a Measurement> {
        report.measurements.iter().find(|m| m.metric == metric)
    }

    fn upload() -> Plan {
        let timing = Timing { warm_up: Duration::ZERO, measure: Duration::from_secs(1) };
        Plan::Streams(Direction::Upload.streams(1, timing, false))
    }

    /// A second in which a client's peer acknowledged a gigabit.
    fn acknowledged(server: Option<Counts>) -> Outcome {
        let client = Counts { sent: 125_000_000, ..Counts::default() };
        Outcome { samples: vec![Sample { seconds: 1.0, client, server }], ..Outcome::default() }
    }

    #[test]
    fn what_a_gateway_acknowledged_and_the_server_never_got_is_no_throughput() {
        let outcome = acknowledged(Some(Counts::default()));
        assert_eq!(payload_rates(&outcome, 0), [0.0]);
        let error = ensure_moved(Some(upload()), &outcome).unwrap_err().to_string();
        assert!(error.starts_with("nothing was moved"), "{error}");
        // A server elsewhere: what its side acknowledged is all there is to know.
        let outcome = acknowledged(None);
        assert_eq!(payload_rates(&outcome, 0), [1.0]);
        ensure_moved(Some(upload()), &outcome).unwrap();
    }

    #[test]
    fn frames_that_the_generator_drops_are_in_the_report() {
        for (drops, sum, notes) in [(vec![], 0.0, 0), (vec![("a", 3), ("b", 4)], 7.0, 1)] {
            let drops = drops.into_iter().map(|(why, n)| (why.to_owned(), n)).collect();
            let outcome = Outcome { drops, ..Outcome::default() };
            let mut made = Report::new(Environment::capture());
            report("generate", Some(upload()), &[], &outcome, &mut made);
            let [drops] = &made.measurements[..] else { panic!("{:?}", made.measurements) };
            assert_eq!((drops.metric.as_str(), drops.unit.as_str()), ("generator drops", "frames"));
            assert_eq!((&drops.samples[..], made.notes.len()), (&[sum][..], notes));
            assert!(
                made.notes
                    .iter()
                    .all(|note| note.ends_with("7 frames, warm-up and end included: 3 a, 4 b"))
            );
        }
    }

    #[test]
    fn a_connection_that_was_reset_in_the_window_failed_once() {
        let failed = |failed| Counts { failed, sent: 1, ..Counts::default() };
        let sample = |n| Sample { seconds: 1.0, client: failed(n), server: Some(failed(n)) };
        let outcome = Outcome {
            samples: vec![sample(2), sample(1)],
            // With warm-up and end.
            client: failed(7),
            server: failed(7),
            ..Outcome::default()
        };
        let mut made = Report::new(Environment::capture());
        report("generate", Some(upload()), &[], &outcome, &mut made);
        assert_eq!(of_metric(&made, "failed").unwrap().samples, [3.0]);
        // Without a window there is no figure of it.
        let mut made = Report::new(Environment::capture());
        let outcome = Outcome { client: failed(7), ..Outcome::default() };
        report("generate", Some(upload()), &[], &outcome, &mut made);
        assert!(of_metric(&made, "failed").is_none(), "{:?}", made.measurements);
    }
}
