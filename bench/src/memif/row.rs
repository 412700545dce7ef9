//! What one measurement gives: made in the process that has the ports, reported by the one that
//! has the report.

use serde::{Deserialize, Serialize};

use crate::generate::{Outcome, Plan, QUANTILES, exchange_rates, payload_rates, report_drops};
use crate::lab::counters::Counters;
use crate::report::Report;

/// A row of the table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    pub load: String,
    pub connections: u64,
    /// Payload, Gb/s in each second; empty for requests.
    pub gbps: Vec<f64>,
    /// Requests answered per second; empty for streams.
    pub rate: Vec<f64>,
    /// Of gateway A's time that it had work, in percent.
    pub busy: f64,
    /// Of gateway A's time that its worker had its CPU, in percent; the rest went to others.
    pub had_cpu: f64,
    /// What a core of gateway A does that always has work: payload, Gb/s, and client connections
    /// per second; `None` where that is not what is measured.
    pub core_gbps: Option<f64>,
    pub core_connections: Option<f64>,
    /// By [`QUANTILES`], microseconds; empty without an open loop.
    pub latency: Vec<f64>,
    pub unanswered: u64,
    /// In the window.
    pub failed: u64,
    /// Frames, by reason; of the whole run of the load.
    pub generator_drops: Vec<(String, u64)>,
    /// Of the generator's thread, in percent.
    pub generator_busy: f64,
}

impl Row {
    /// `a` is what gateway A said in the window: first and last.
    pub fn new(plan: Plan, outcome: &Outcome, [first, last]: [Counters; 2]) -> Self {
        let wall = last.at.duration_since(first.at).as_secs_f64();
        let busy = last.useful_seconds(&first);
        // Who is taken off the CPU in a turn that has work counts the time as busy. A polling
        // thread is taken off in such turns as often as it is in them: the share that it had of
        // the CPU takes that out again.
        let had_cpu = ((last.cpu_nanos - first.cpu_nanos) as f64 / 1e9 / wall).min(1.0);
        let mut row = Self {
            busy: busy / wall * 100.0,
            had_cpu: had_cpu * 100.0,
            load: plan.words(),
            connections: plan.connections(),
            failed: outcome.failed(),
            generator_drops: outcome.drops.clone(),
            ..Self::default()
        };
        let busy = busy * had_cpu;
        match plan {
            Plan::Streams(plan) => {
                row.gbps = payload_rates(outcome, usize::from(plan.down));
                row.core_gbps = Some(last.gbit(&first) / busy);
            }
            Plan::Exchanges(plan) => {
                row.rate = exchange_rates(outcome);
                if plan.churn {
                    let accepted = last.clients_accepted - first.clients_accepted;
                    row.core_connections = Some(accepted as f64 / busy);
                }
                if let Some(latencies) = &outcome.latencies {
                    row.unanswered = latencies.unanswered;
                    if plan.rate.is_some() {
                        let micros = |q| latencies.histogram.value_at_quantile(q) as f64 / 1e3;
                        row.latency = QUANTILES.iter().map(|(_, q)| micros(*q)).collect();
                    }
                }
            }
        }
        for (_, usage) in &outcome.usage {
            let share = usage.busy.as_secs_f64() / usage.total.as_secs_f64().max(1e-9) * 100.0;
            row.generator_busy = row.generator_busy.max(share);
        }
        row
    }

    pub fn report(self, mtu: usize, report: &mut Report) {
        let parameters = [
            ("load", self.load),
            ("connections", self.connections.to_string()),
            ("mtu", mtu.to_string()),
        ];
        let mut add =
            |metric, unit, samples| report.add("memif", &parameters, metric, unit, samples);
        add("payload", "Gb/s", self.gbps);
        add("rate", "1/s", self.rate);
        add("A busy", "%", vec![self.busy]);
        add("A had its CPU", "%", vec![self.had_cpu]);
        // The table tells columns apart by name.
        add("A, busy core", "Gb/s", self.core_gbps.into_iter().collect());
        add("A, busy core, new", "1/s", self.core_connections.into_iter().collect());
        for ((name, _), micros) in QUANTILES.iter().zip(self.latency) {
            add(name, "us", vec![micros]);
        }
        add("unanswered", "", vec![self.unanswered as f64]);
        add("failed", "", vec![self.failed as f64]);
        add("generator busy", "%", vec![self.generator_busy]);
        report_drops("memif", &parameters, &self.generator_drops, report);
    }
}
