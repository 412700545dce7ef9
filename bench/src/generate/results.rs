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
    match plan {
        None => vec![("load", "serve".to_owned())],
        Some(Plan::Streams(plan)) => {
            let direction = match (plan.up, plan.down) {
                (true, true) => "both",
                (_, true) => "download",
                _ => "upload",
            };
            vec![
                ("load", format!("streams, {direction}")),
                ("connections", plan.streams.to_string()),
            ]
        }
        Some(Plan::Exchanges(plan)) => {
            let what = if plan.churn { "connections" } else { "requests" };
            let pace = match plan.rate {
                Some(rate) => format!("{rate}/s due"),
                None => "closed loop".to_owned(),
            };
            vec![
                ("load", format!("{what}, {pace}")),
                ("connections", plan.connections.to_string()),
                ("bytes", format!("{}/{}", plan.request, plan.response)),
            ]
        }
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
        let of = |metric| made.measurements.iter().find(|m| m.metric == metric);
        assert_eq!(of("failed").unwrap().samples, [3.0]);
        // Without a window there is no figure of it.
        let mut made = Report::new(Environment::capture());
        let outcome = Outcome { client: failed(7), ..Outcome::default() };
        report("generate", Some(upload()), &[], &outcome, &mut made);
        assert!(made.measurements.is_empty(), "{:?}", made.measurements);
    }
}
