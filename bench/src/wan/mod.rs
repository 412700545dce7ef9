//! `wan`: a long line between the gateways: goodput with loss and reordering, what a new
//! connection waits for, and how the line is shared with other flows.

mod beside;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use clgw::sim::line::{self, LineConfig};

use crate::lab::{Between, Buffers, Lab, LabArgs, Line, Links, Net, Subject};
use crate::progress::print_line;
use crate::scenario::{Bench, Scenario, at_least_one};

/// The line's rate, Mb/s: what one CPU carries for both hosts, a gateway and the line itself.
const RATE_MBIT: u64 = 400;
/// The queue in front of the line, ms.
const QUEUE_MS: u64 = 50;
/// How much later late frames arrive, ms.
const LATE_MS: u64 = 2;
/// The same frames are lost for every subject, as far as they send the same number.
const SEED: u64 = 7;
/// Each direction of a tunnel of ours holds what the longest line does at its rate.
const BUFFERS: Buffers = Buffers { service_kib: Some(256), peer_kib: Some(8_192) };
/// Round trip of the line on which new connections are timed, ms.
const FIRST_BYTE_RTT: u64 = 50;
/// Connections before those that count: tunnels and TLS sessions are there then.
const WARM_UP: u64 = 4;
/// Starting line, subject and servers, and ending them.
const START: Duration = Duration::from_millis(3_500);

#[derive(Clone, Debug, Args)]
pub struct WanArgs {
    #[command(flatten)]
    pub lab: LabArgs,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::ALL)]
    pub parts: Vec<Part>,
    /// Round trips of the line, ms; half of it in either direction.
    #[arg(long, value_delimiter = ',', default_values_t = [5, 50, 150])]
    pub rtt: Vec<u64>,
    /// Frames lost, per cent; `reorder` = none is lost and one of 100 comes 2 ms late.
    #[arg(long, value_delimiter = ',', default_values_t = Fault::DEFAULT)]
    pub fault: Vec<Fault>,
    /// Whose goodput is measured.
    #[arg(long, value_enum, value_delimiter = ',',
          default_values_t = [Subject::Clgw, Subject::Haproxy])]
    pub subjects: Vec<Subject>,
    /// Congestion controls of the kernel's TCP; the gateway has its own, which goes by this beside
    /// other flows only.
    #[arg(long, value_enum, value_delimiter = ',',
          default_values_t = [Congestion::Cubic, Congestion::Bbr])]
    pub congestion: Vec<Congestion>,
    /// Of each transfer, slow start included.
    #[arg(long, default_value_t = 4, value_parser = at_least_one::<u64>())]
    pub seconds: u64,
    /// Transfers of each kind, each on a line and with gateways started afresh.
    #[arg(long, default_value_t = 1, value_parser = at_least_one::<usize>())]
    pub repetitions: usize,
    /// New connections that are timed, one after the other.
    #[arg(long, default_value_t = 20, value_parser = at_least_one::<u64>())]
    pub connections: u64,
    /// Whose new connections are timed.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Subject::ALL)]
    pub first_byte: Vec<Subject>,
    /// Whose flows share the line with others.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Subject::Clgw])]
    pub beside: Vec<Subject>,
    /// Round trips of the shared line, ms.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 50])]
    pub beside_rtt: Vec<u64>,
    /// Queues in front of the shared line, by what the line holds in a round trip.
    #[arg(long, value_delimiter = ',', default_values_t = [1.0])]
    pub queue: Vec<f64>,
    /// Seconds for which flows share the line and are counted, behind half as many that are not.
    #[arg(long, default_value_t = 20, value_parser = at_least_one::<u64>())]
    pub beside_seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Goodput.
    Transfers,
    /// What new connections wait for.
    FirstByte,
    /// Flows beside as many of the kernel's CUBIC.
    Beside,
}

impl Part {
    const ALL: [Self; 3] = [Self::Transfers, Self::FirstByte, Self::Beside];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Congestion {
    Cubic,
    Bbr,
}

impl Congestion {
    fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

/// What goes wrong on the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Per cent of the frames.
    Loss(f64),
    Reorder,
}

impl Fault {
    const DEFAULT: [Self; 4] = [Self::Loss(0.0), Self::Loss(0.1), Self::Loss(1.0), Self::Reorder];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss(percent) => write!(f, "{percent}"),
            Self::Reorder => f.write_str("reorder"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("reorder", _) => Ok(Self::Reorder),
            (_, Ok(percent)) if (0.0..=100.0).contains(&percent) => Ok(Self::Loss(percent)),
            _ => Err("a percentage of lost frames, or `reorder`".to_owned()),
        }
    }
}

/// The process between the sites.
#[derive(Clone, Debug, Args)]
pub struct LineArgs {
    #[arg(long)]
    rtt_ms: f64,
    #[arg(long)]
    loss_percent: f64,
    #[arg(long)]
    late_percent: f64,
    #[arg(long)]
    rate_mbit: u64,
    #[arg(long)]
    queue_ms: f64,
    /// The hosts have ends at it, too.
    #[arg(long)]
    shared: bool,
}

/// Where a line process finds its ends.
const GATEWAYS: [&str; 2] = ["left", "right"];
const HOSTS: [&str; 2] = ["left1", "right1"];

impl LineArgs {
    /// Between the gateways.
    fn of(rtt: u64, fault: Fault) -> Self {
        let (loss_percent, late_percent) = match fault {
            Fault::Loss(percent) => (percent, 0.0),
            Fault::Reorder => (0.0, 1.0),
        };
        Self {
            rtt_ms: rtt as f64,
            loss_percent,
            late_percent,
            rate_mbit: RATE_MBIT,
            queue_ms: QUEUE_MS as f64,
            shared: false,
        }
    }

    fn options(&self) -> Vec<String> {
        let mut options = vec![
            format!("--rtt-ms={}", self.rtt_ms),
            format!("--loss-percent={}", self.loss_percent),
            format!("--late-percent={}", self.late_percent),
            format!("--rate-mbit={}", self.rate_mbit),
            format!("--queue-ms={}", self.queue_ms),
        ];
        options.extend(self.shared.then(|| "--shared".to_owned()));
        options
    }

    /// Runs until killed.
    ///
    /// # Errors
    /// Its interfaces cannot be opened.
    pub fn run(&self) -> anyhow::Result<()> {
        let config = LineConfig {
            delay: Duration::from_secs_f64(self.rtt_ms / 2e3),
            rate: self.rate_mbit * 1_000_000,
            queue: Duration::from_secs_f64(self.queue_ms / 1e3),
            loss: self.loss_percent / 100.0,
            late: self.late_percent / 100.0,
            late_by: Duration::from_millis(LATE_MS),
            seed: SEED,
        };
        let pairs = if self.shared { &[GATEWAYS, HOSTS][..] } else { &[GATEWAYS] };
        line::run(pairs, config).context("the line's interfaces")
    }
}

/// Who carries, with which TCP of the kernel's.
type Carrier = (Subject, Congestion);

impl WanArgs {
    fn carriers(&self) -> Vec<Carrier> {
        let mut carriers = Vec::new();
        for &subject in &self.subjects {
            let first = self.congestion.first().copied().unwrap_or(Congestion::Cubic);
            match subject {
                Subject::Clgw => carriers.push((subject, first)),
                _ => carriers.extend(self.congestion.iter().map(|c| (subject, *c))),
            }
        }
        carriers
    }

    fn expected(&self) -> Duration {
        START + Duration::from_secs(2 * self.seconds)
    }

    fn expected_first_byte(&self) -> Duration {
        let each = Duration::from_millis(4 * FIRST_BYTE_RTT);
        START + each * (WARM_UP + self.connections) as u32
    }

    fn transfers(&self, bench: &mut Bench, lab: &Lab) -> anyhow::Result<Vec<String>> {
        let mut failures = Vec::new();
        for &rtt in &self.rtt {
            for &fault in &self.fault {
                for carrier in self.carriers() {
                    let (mut one, mut eight) = (Vec::new(), Vec::new());
                    let (mut gone, mut full) = (Vec::new(), Vec::new());
                    let (subject, congestion) = (carrier.0, tcp(carrier));
                    let label = format!("{subject} ({congestion}), RTT {rtt} ms, {}", words(fault));
                    for _ in 0..self.repetitions {
                        bench.step(&format!("wan: {label}"), self.expected())?;
                        let measured = on_line(lab, carrier, &LineArgs::of(rtt, fault), |line| {
                            one.push(line.iperf(1, self.seconds)?.gbps() * 1e3);
                            eight.push(line.iperf(8, self.seconds)?.gbps() * 1e3);
                            Ok(())
                        });
                        match measured {
                            Ok([lost, all, overflowed, missed]) => {
                                let all = all as f64 / 100.0;
                                gone.push((lost + missed) as f64 / all);
                                full.push(overflowed as f64 / all);
                            }
                            Err(error) => {
                                bench.interrupt.check()?;
                                failures.push(format!("{label}: {error:#}"));
                            }
                        }
                    }
                    let parameters = [
                        ("RTT, ms", rtt.to_string()),
                        ("line", words(fault)),
                        ("subject", subject.name().to_owned()),
                        ("TCP", congestion.to_owned()),
                    ];
                    bench.report.add("wan", &parameters, "1 stream", "Mb/s", one);
                    bench.report.add("wan", &parameters, "8 streams", "Mb/s", eight);
                    bench.report.add("wan", &parameters, "lost", "% of frames", gone);
                    bench.report.add("wan", &parameters, "queue full", "% of frames", full);
                }
            }
        }
        bench.report.note(format!(
            "wan: the line carries {RATE_MBIT} Mb/s in either direction, with a queue of {QUEUE_MS} \
             ms in front; it is a process on DPDK, since not every kernel has netem, on the CPU of \
             everything but gateway A. MTU 1500, no segmentation offload. Goodput of {} s with slow \
             start, as received; TCP = congestion control of the kernel's ends, which for clgw is \
             only between hosts and gateways. Lost and queue full: what happened to frames of both \
             directions on the line, both transfers together. clgw has buffers of {} KiB a tunnel \
             here. reorder = one frame of 100 arrives {LATE_MS} ms late",
            self.seconds,
            BUFFERS.peer_kib.unwrap_or_default(),
        ));
        Ok(failures)
    }

    fn first_bytes(&self, bench: &mut Bench, lab: &Lab) -> anyhow::Result<Vec<String>> {
        let mut failures = Vec::new();
        for &subject in &self.first_byte {
            let label = format!("wan: first byte of new connections, {subject}");
            bench.step(&label, self.expected_first_byte())?;
            let carrier = (subject, Congestion::Cubic);
            let mut times = Vec::new();
            let between = LineArgs::of(FIRST_BYTE_RTT, Fault::Loss(0.0));
            let measured = on_line(lab, carrier, &between, |line| {
                line.connections_of(WARM_UP, 1)?;
                let result = line.connections_of(self.connections, 1)?;
                let (errors, all) = (result.errors, self.connections);
                ensure!(errors == 0, "{errors} of {all} connections failed");
                times = result.micros;
                Ok(())
            });
            if let Err(error) = measured {
                bench.interrupt.check()?;
                failures.push(format!("{label}: {error:#}"));
            }
            let parameters = [("subject", subject.name().to_owned())];
            let trips = times.iter().map(|us| us / 1e3 / FIRST_BYTE_RTT as f64).collect();
            let millis = times.iter().map(|us| us / 1e3).collect();
            let scenario = "wan, new connections";
            bench.report.add(scenario, &parameters, "first byte", "round trips", trips);
            bench.report.add(scenario, &parameters, "time", "ms", millis);
        }
        bench.report.note(format!(
            "wan, new connections: from connect to the first byte of the answer to a byte, on a line \
             of {FIRST_BYTE_RTT} ms without loss, after {WARM_UP} others",
        ));
        Ok(failures)
    }
}

impl Scenario for WanArgs {
    fn name(&self) -> &'static str {
        "wan"
    }

    fn estimate(&self) -> Duration {
        let transfers =
            self.rtt.len() * self.fault.len() * self.carriers().len() * self.repetitions;
        let of = |part, each: Duration, times: usize| {
            if self.parts.contains(&part) { each * times as u32 } else { Duration::ZERO }
        };
        of(Part::Transfers, self.expected(), transfers)
            + of(Part::FirstByte, self.expected_first_byte(), self.first_byte.len())
            + of(Part::Beside, self.expected_beside(), self.beside_cases())
    }

    fn shorten(&mut self) {
        self.rtt = vec![FIRST_BYTE_RTT];
        self.fault = vec![Fault::Loss(0.0), Fault::Loss(1.0)];
        self.congestion.truncate(1);
        self.seconds = self.seconds.min(3);
        self.connections = self.connections.min(5);
        self.beside_rtt = vec![10];
        self.queue.truncate(1);
        self.beside_seconds = self.beside_seconds.min(4);
    }

    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        let whose = |part| match part {
            Part::Transfers => &self.subjects[..],
            Part::FirstByte => &self.first_byte,
            Part::Beside => &self.beside,
        };
        let mut all: Vec<Subject> =
            self.parts.iter().flat_map(|part| whose(*part)).copied().collect();
        all.sort_unstable();
        all.dedup();
        let mut lab = Lab::new(&self.lab, &all, BUFFERS, &bench.interrupt)?;
        lab.record("wan", &all, &mut bench.report)?;
        let mut failures = Vec::new();
        for part in &self.parts {
            failures.extend(match part {
                Part::Transfers => self.transfers(bench, &lab)?,
                Part::FirstByte => self.first_bytes(bench, &lab)?,
                Part::Beside => self.flows_beside(bench, &mut lab)?,
            });
        }
        ensure!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
        Ok(())
    }
}

/// The congestion control between the sites.
fn tcp((subject, congestion): Carrier) -> &'static str {
    if subject == Subject::Clgw { "its own" } else { congestion.name() }
}

fn words(fault: Fault) -> String {
    match fault {
        Fault::Loss(percent) => format!("{percent} % lost"),
        Fault::Reorder => "reorder".to_owned(),
    }
}

/// Frames of the last line that says so in the log of a line: lost, all, overflowed, missed.
fn counted(log: &str) -> Option<[u64; 4]> {
    let last = log.lines().rev().find(|line| line.starts_with("lost "))?;
    let numbers: Vec<u64> =
        last.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [lost, all, _late, overflowed, missed] = numbers[..] else { return None };
    Some([lost, all, overflowed, missed])
}

/// Starts a line and a subject, measures, and ends both; what the line counted.
fn on_line(
    lab: &Lab,
    (subject, congestion): Carrier,
    between: &LineArgs,
    measure: impl FnOnce(&Line<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<[u64; 4]> {
    let links = Links {
        ends: subject.ends(),
        mtu: 1_500,
        offloads: false,
        between: if between.shared { Between::SharedLine } else { Between::Line },
        congestion: congestion.name(),
        cpus: lab.cpus,
    };
    let net = Net::new(links, &lab.interrupt)?;
    let options = between.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let line_process = lab.line(&net, &options)?;
    let line = lab.start(subject, net)?;
    let measured = measure(&line);
    if measured.is_err() {
        print_line(&format!("{}\n{}", line.logs(), line_process.last_lines()));
    }
    // Its log goes with the subject's.
    let counted = counted(&line_process.text());
    measured.and(line.stop())?;
    counted.context("the line does not say what it did to frames")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_it_did() {
        let log = "listening\nlost 0 of 7 frames, 0 late, 0 overflowed, 0 missed\n\
                   lost 2 of 1070 frames, 3 late, 4 overflowed, 5 missed\nother\n";
        assert_eq!(counted(log), Some([2, 1_070, 4, 5]));
        assert_eq!(counted("listening\n"), None);
    }

    #[test]
    fn faults_are_read_as_they_are_written() {
        for fault in Fault::DEFAULT {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        for wrong in ["", "-1", "101", "many"] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }
}
