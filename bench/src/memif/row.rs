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
    /// Of gateway A's time that its worker slept, in percent.
    pub asleep: f64,
    /// Of the rest that it had its CPU, in percent; others had it else.
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
        let asleep = last.slept_seconds(&first);
        let awake = (wall - asleep).max(1e-9);
        let had_cpu = ((last.cpu_nanos - first.cpu_nanos) as f64 / 1e9 / awake).min(1.0);
        let mut row = Self {
            busy: busy / wall * 100.0,
            asleep: asleep / wall * 100.0,
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
        add("A asleep", "%", vec![self.asleep]);
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::generate::{Direction, ExchangesPlan, Timing};

    const TIMING: Timing = Timing { warm_up: Duration::ZERO, measure: Duration::from_secs(4) };

    /// Four seconds: two of them busy, one asleep if so, and A had its CPU for `cpu`.
    fn counters(cpu: Duration, asleep: bool) -> [Counters; 2] {
        let first = Counters {
            at: Instant::now(),
            cpu_nanos: 5_000,
            busy_nanos: 7_000,
            asleep_nanos: 3_000,
            bytes_to_peer: 1_000,
            bytes_from_peer: 2_000,
            clients_accepted: 10,
        };
        let last = Counters {
            at: first.at + Duration::from_secs(4),
            cpu_nanos: first.cpu_nanos + cpu.as_nanos() as u64,
            busy_nanos: first.busy_nanos + 2_000_000_000,
            asleep_nanos: first.asleep_nanos + u64::from(asleep) * 1_000_000_000,
            bytes_to_peer: first.bytes_to_peer + 250_000_000,
            bytes_from_peer: first.bytes_from_peer + 125_000_000,
            clients_accepted: first.clients_accepted + 30_000,
        };
        [first, last]
    }

    #[test]
    fn a_busy_core_does_without_the_time_that_others_had_its_cpu() {
        let plan = Plan::Streams(Direction::Upload.streams(8, TIMING, false));
        let row = Row::new(plan, &Outcome::default(), counters(Duration::from_secs(3), false));
        assert_eq!((row.load.as_str(), row.connections), ("streams, upload", 8));
        assert_eq!((row.busy, row.had_cpu), (50.0, 75.0));
        // 3 Gbit in 2 s, of which it had the CPU for 3 of 4.
        assert_eq!((row.core_gbps, row.core_connections), (Some(2.0), None));
        // The two clocks are read one after the other.
        let row =
            Row::new(plan, &Outcome::default(), counters(Duration::from_millis(4_001), false));
        assert_eq!((row.had_cpu, row.core_gbps), (100.0, Some(1.5)));
        // Who sleeps leaves its CPU to nobody but those who would have it for nothing.
        let row = Row::new(plan, &Outcome::default(), counters(Duration::from_secs(3), true));
        assert_eq!((row.asleep, row.had_cpu, row.core_gbps), (25.0, 100.0, Some(1.5)));
    }

    #[test]
    fn connections_of_a_busy_core_are_those_that_it_accepted() {
        let (request, response) = (64, 64);
        let plan = |churn| {
            let (connections, rate, timing) = (32, Some(1000.0), TIMING);
            let plan = ExchangesPlan { churn, connections, rate, request, response, timing };
            Row::new(
                Plan::Exchanges(plan),
                &Outcome::default(),
                counters(Duration::from_secs(3), false),
            )
        };
        let row = plan(true);
        assert_eq!(row.load, "connections, 1000/s due");
        assert_eq!((row.core_gbps, row.core_connections), (None, Some(20_000.0)));
        assert_eq!(plan(false).core_connections, None);
    }
}
