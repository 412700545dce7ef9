//! `e2e`: pairs of gateways between a client and a server of the kernel's: ours, others that one
//! would pick instead, and none, all over the same veth links.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use crate::lab::usage::Idle;
use crate::lab::{Between, Buffers, Cpus, Ends, Lab, LabArgs, Line, Links, Net, SUITE, Subject};
use crate::progress::print_line;
use crate::report::Summary;
use crate::scenario::{Bench, Scenario, at_least_one};

/// Connections the client of new connections has open at a time.
const CONCURRENCY: usize = 32;
/// Before it: pools of tunnels and caches of TLS sessions fill.
const WARM_UP_SECONDS: f64 = 0.3;
const ROUND_TRIPS: usize = 5_000;
/// Connections whose handshakes are counted on the wire.
const WATCHED: u64 = 100;
/// Of [`SUITE`].
const SUITE_NUMBER: u16 = 0x1301;
/// Points of a latency's curve: quantiles of all round trips.
const CURVE: [f64; 15] =
    [0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999];

#[derive(Clone, Debug, Args)]
pub struct E2eArgs {
    #[command(flatten)]
    pub lab: LabArgs,
    /// Rounds; in each one, every subject is started afresh and measured once.
    #[arg(long, default_value_t = 3, value_parser = at_least_one::<usize>())]
    pub repetitions: usize,
    /// Of each iperf3 run, and of the run of new connections.
    #[arg(long, default_value_t = 1, value_parser = at_least_one::<u64>())]
    pub seconds: u64,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Subject::ALL)]
    pub subjects: Vec<Subject>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Mode::ALL)]
    pub modes: Vec<Mode>,
}

/// What the links carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// MTU 1500, no segmentation offload.
    #[value(name = "1500")]
    Mtu1500,
    /// MTU 9000, no segmentation offload.
    #[value(name = "9000")]
    Mtu9000,
    /// MTU 1500, segments of 64 KiB: what the kernel has on.
    Offload,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Mtu1500, Self::Mtu9000, Self::Offload];

    fn name(self) -> &'static str {
        match self {
            Self::Mtu1500 => "MTU 1500",
            Self::Mtu9000 => "MTU 9000",
            Self::Offload => "64 KiB segments",
        }
    }

    fn links(self, subject: Subject, cpus: Cpus) -> Links {
        Links {
            ends: subject.ends(),
            mtu: if self == Self::Mtu9000 { 9_000 } else { 1_500 },
            offloads: self == Self::Offload,
            between: Between::Wire,
            congestion: "cubic",
            cpus,
        }
    }
}

/// A row of the table.
#[derive(Debug)]
struct Case {
    subject: Subject,
    mode: Mode,
    samples: Vec<(&'static str, &'static str, Vec<f64>)>,
    /// Of all rounds.
    round_trips: Vec<f64>,
}

impl Case {
    fn label(&self) -> String {
        format!("{}, {}", self.subject, self.mode.name())
    }

    fn push(&mut self, metric: &'static str, unit: &'static str, value: f64) {
        match self.samples.iter_mut().find(|(name, ..)| *name == metric) {
            Some((.., samples)) => samples.push(value),
            None => self.samples.push((metric, unit, vec![value])),
        }
    }
}

impl E2eArgs {
    /// Of one case in one round, steps and starts.
    fn expected(&self) -> Duration {
        Duration::from_secs(self.seconds * 3) + Duration::from_millis(2_500)
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &mode in &self.modes {
            for &subject in &self.subjects {
                // af_packet takes frames of the MTU only.
                if !(mode == Mode::Offload && subject == Subject::Clgw) {
                    let (samples, round_trips) = Default::default();
                    cases.push(Case { subject, mode, samples, round_trips });
                }
            }
        }
        cases
    }
}

impl Scenario for E2eArgs {
    fn name(&self) -> &'static str {
        "e2e"
    }

    fn estimate(&self) -> Duration {
        self.expected() * (self.repetitions * self.cases().len()) as u32
    }

    fn shorten(&mut self) {
        self.repetitions = 1;
    }

    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        let lab = Lab::new(&self.lab, &self.subjects, Buffers::default(), &bench.interrupt)?;
        lab.record(self.name(), &self.subjects, &mut bench.report)?;
        let mut cases = self.cases();
        let mut failures = Vec::new();
        // Rounds, so that what else happens on the machine meets all subjects alike.
        for round in 1..=self.repetitions {
            for case in &mut cases {
                let label = format!("e2e: round {round}/{}: {}", self.repetitions, case.label());
                bench.step(&label, self.expected())?;
                if let Err(error) = self.measure(&lab, case) {
                    bench.interrupt.check()?;
                    failures.push(format!("{}: {error:#}", case.label()));
                }
            }
        }
        for case in &mut cases {
            let parameters = [
                ("links", case.mode.name().to_owned()),
                ("subject", case.subject.name().to_owned()),
            ];
            for (metric, unit, samples) in std::mem::take(&mut case.samples) {
                bench.report.add("e2e", &parameters, metric, unit, samples);
            }
            if !case.round_trips.is_empty() {
                case.round_trips.sort_by(f64::total_cmp);
                let at = |q: f64| (q, quantile(&case.round_trips, q));
                let curve = CURVE.map(at).to_vec();
                bench.report.add_distribution("e2e", &parameters, "round trip", "us", curve);
            }
        }
        self.notes(bench);
        ensure!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
        Ok(())
    }
}

impl E2eArgs {
    /// One subject from its start to its end.
    fn measure(&self, lab: &Lab, case: &mut Case) -> anyhow::Result<()> {
        let cpus = lab.cpus;
        let net = Net::new(case.mode.links(case.subject, cpus), &lab.interrupt)?;
        let mut line = lab.start(case.subject, net)?;
        let measured = steps(&mut line, cpus.a, self.seconds, case);
        if measured.is_err() {
            print_line(&line.logs());
        }
        measured.and(line.stop())
    }

    fn notes(&self, bench: &mut Bench) {
        let seconds = self.seconds;
        let report = &mut bench.report;
        report.note(format!(
            "e2e: client - gateway A - gateway B - server, namespaces joined by veth; iperf3 \
             uploads for {seconds} s; every sample with freshly started gateways, with one CPU \
             each and one worker where there is such a setting (stunnel has a thread for each \
             connection). Client, server and gateway B share a CPU, and where gateway A is not the limit, \
             that CPU is: compare seconds per Gbit before Gb/s. TLS 1.3, {SUITE}, mutual, P-256",
        ));
        report.note(
            "e2e: 64 KiB segments = what the kernel has on; clgw cannot use that here, since \
             af_packet takes no segments larger than a frame. MTU 1500 and 9000 = tso, gso and gro \
             off at all ends of the links; for clgw, hosts compute checksums as well, since \
             af_packet passes them on as they are; for the others veth skips them",
        );
        report.note(
            "e2e: A, B = CPU seconds of that gateway's processes, user and system, by received \
             Gbit; core A = time in which gateway A's CPU was not idle, softirqs included, by \
             Gbit: what arrives at a gateway is received on its CPU (rps_cpus), as with a NIC. For \
             clgw these include a poll loop that goes on between frames (workers.idle: \
             sleep) and the kernel's af_packet; A useful = the time of the turns that found work, \
             by Gbit of its own counters (SIGUSR1). This contains interrupts in these turns; for B \
             it would contain what others on its CPU took",
        );
        report.note(format!(
            "e2e: connections: {CONCURRENCY} at a time, each connects, sends a byte, gets a byte \
             and closes, for {seconds} s; those that end later do not count. A's ms = its CPU time by connection. Round \
             trips: 1 byte there and back, {ROUND_TRIPS} on one connection. Of {WATCHED} more \
             connections, a capture between the gateways counts TCP connections, TLS handshakes \
             and resumed ones; tunnels that are open already take no new ones. relay resumes part \
             of them, since rustls keeps 8 tickets of a server and {CONCURRENCY} connections begin \
             at a time; envoy keeps 64 (its default is 1) and agrees on X25519 like the others (its \
             default is a hybrid with ML-KEM)",
        ));
        if self.subjects.contains(&Subject::EnvoyCl) {
            report.note(
                "e2e: envoy-cl asks nobody whether a connection is allowed (ClusterLink's data \
                 plane asks twice), so it is an upper bound",
            );
        }
    }
}

fn steps(line: &mut Line<'_>, core: u16, seconds: u64, case: &mut Case) -> anyhow::Result<()> {
    let mut times = line.round_trips(ROUND_TRIPS)?.micros;
    times.sort_by(f64::total_cmp);
    case.push("round trip p50", "us", quantile(&times, 0.5));
    case.push("p99", "us", quantile(&times, 0.99));
    case.push("p99.9", "us", quantile(&times, 0.999));
    case.round_trips.extend(times);
    for (streams, rate, a, b, useful, core_a, again) in [
        (1, "1 stream", "A (1)", "B (1)", "A useful (1)", "core A (1)", "resent (1)"),
        (8, "8 streams", "A (8)", "B (8)", "A useful (8)", "core A (8)", "resent (8)"),
    ] {
        let counters = line.counters_of_a()?;
        let (before, idle) = (line.cpu_seconds()?, Idle::of(core)?);
        let transfer = line.iperf(streams, seconds)?;
        let (after, busy) = (line.cpu_seconds()?, idle.busy_until(&Idle::of(core)?));
        case.push(rate, "Gb/s", transfer.gbps());
        if case.subject.encrypts() {
            case.push(a, "s/Gbit", (after[0] - before[0]) / transfer.gbit);
            case.push(b, "s/Gbit", (after[1] - before[1]) / transfer.gbit);
        }
        if let (Some(before), Some(after)) = (counters, line.counters_of_a()?) {
            let gbit = after.gbit(&before);
            ensure!(gbit > 0.0, "the gateway's counters do not know of the transfer");
            case.push(useful, "s/Gbit", after.useful_seconds(&before) / gbit);
        }
        case.push(core_a, "s/Gbit", busy / transfer.gbit);
        case.push(again, "1/Gbit", transfer.retransmits / transfer.gbit);
    }
    line.connections_for(WARM_UP_SECONDS, CONCURRENCY)?;
    let before = line.cpu_seconds()?;
    let result = line.connections_for(seconds as f64, CONCURRENCY)?;
    let after = line.cpu_seconds()?;
    let complete = result.micros.len() as f64;
    case.push("connections", "1/s", result.in_time as f64 / result.seconds);
    case.push("failed", "", result.errors as f64);
    case.push("connection", "ms", Summary::of(&result.micros).median / 1e3);
    if case.subject.encrypts() {
        case.push("A", "ms/connection", (after[0] - before[0]) * 1e3 / complete);
    }
    if case.subject.encrypts() && case.subject.ends() == Ends::Kernel {
        line.refuses_strangers()?;
    }
    let wire = line.watch(|| {
        let result = line.connections_of(WATCHED, CONCURRENCY)?;
        ensure!(result.errors == 0, "{} of {WATCHED} connections failed", result.errors);
        Ok(())
    })?;
    case.push("TCP on the wire", "of 100", wire.connections as f64);
    if case.subject.encrypts() {
        ensure!(
            wire.suites.iter().all(|suite| *suite == SUITE_NUMBER),
            "not {SUITE} but suites {:x?} were agreed on",
            wire.suites
        );
        ensure!(
            wire.handshakes == wire.connections,
            "{} TCP connections between the gateways but {} TLS handshakes: the capture is not \
             understood",
            wire.connections,
            wire.handshakes
        );
        case.push("handshakes", "of 100", wire.handshakes as f64);
        case.push("resumed", "of 100", wire.resumed as f64);
    }
    Ok(())
}

/// Of sorted values; the nearest one.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values() {
        let values: Vec<f64> = (0..=1_000).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.0), 0.0);
        assert_eq!(quantile(&values, 0.999), 999.0);
        assert_eq!(quantile(&values, 1.0), 1_000.0);
    }

    #[test]
    fn ours_is_not_measured_where_it_cannot_run() {
        let args = E2eArgs {
            lab: LabArgs { clgw: None },
            repetitions: 1,
            seconds: 1,
            subjects: Subject::ALL.to_vec(),
            modes: Mode::ALL.to_vec(),
        };
        let cases = args.cases();
        assert_eq!(cases.len(), 3 * Subject::ALL.len() - 1);
    }
}
