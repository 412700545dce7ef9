//! `e2e`: two gateways between a client and a server of the kernel's, beside HAProxy as a pair of
//! TLS relays and beside no relay at all, all over the same veth links.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::e2e_client::{Connections, LISTENING, RoundTrips};
use crate::e2e_config::{self, IPERF_PORT, SUITE, TINY_PORT, VIP};
use crate::interrupt::Interrupt;
use crate::netns::{Ends, Net, Place, Process, ensure_root, program, run as run_program};
use crate::report::Report;
use crate::scenario::{Bench, Scenario};

/// Connections the client of new connections has open at a time.
const CONCURRENCY: usize = 32;
const CONNECTION_SECONDS: f64 = 3.0;
/// Before it: pools of tunnels and caches of TLS sessions fill.
const WARM_UP_SECONDS: f64 = 0.5;
const ROUND_TRIPS: usize = 2000;
/// Starts, and steps that take a second when all is well.
const PATIENCE: Duration = Duration::from_secs(30);
const BETWEEN_PROBES: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, Args)]
pub struct E2eArgs {
    /// The gateway's program. Default: `clgw` beside this program.
    #[arg(long, value_name = "PATH")]
    pub clgw: Option<PathBuf>,
    /// Rounds; in each one, every subject is started afresh and measured once.
    #[arg(long, default_value_t = 3)]
    pub repetitions: usize,
    /// Of each iperf3 run.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Subject::ALL)]
    pub subjects: Vec<Subject>,
}

impl E2eArgs {
    /// Of one case in one round, steps and starts.
    fn expected(&self) -> Duration {
        Duration::from_secs(self.seconds * 2 + 10)
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for offloads in [false, true] {
            for &subject in &self.subjects {
                // af_packet takes frames of the MTU only.
                if !(offloads && subject == Subject::Clgw) {
                    cases.push(Case { subject, offloads, samples: Default::default() });
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

    /// One round with short transfers.
    fn shorten(&mut self) {
        self.repetitions = 1;
        self.seconds = self.seconds.min(2);
    }

    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        run(self, bench)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// Two gateways on af_packet.
    Clgw,
    /// Two HAProxy with mutual TLS between them.
    Haproxy,
    /// The kernel forwards, nothing is encrypted.
    Direct,
}

impl Subject {
    const ALL: [Self; 3] = [Self::Clgw, Self::Haproxy, Self::Direct];

    fn name(self) -> &'static str {
        match self {
            Self::Clgw => "clgw",
            Self::Haproxy => "haproxy",
            Self::Direct => "direct",
        }
    }

    fn ends(self) -> Ends {
        if self == Self::Clgw { Ends::Dpdk } else { Ends::Kernel }
    }

    /// Where the client finds the services.
    fn target(self) -> &'static str {
        match self {
            Self::Clgw => VIP,
            Self::Haproxy => "10.1.0.1",
            Self::Direct => "10.2.0.2",
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Metric {
    One,
    OneA,
    OneB,
    Eight,
    EightA,
    EightB,
    Connections,
    Errors,
    P50,
    P99,
}

impl Metric {
    /// Names and units, in the order of the variants and of the table.
    const ALL: [(&'static str, &'static str); 10] = [
        ("1 stream", "Gb/s"),
        ("A (1)", "CPU s/Gbit"),
        ("B (1)", "CPU s/Gbit"),
        ("8 streams", "Gb/s"),
        ("A (8)", "CPU s/Gbit"),
        ("B (8)", "CPU s/Gbit"),
        ("connections", "1/s"),
        ("failed", ""),
        ("round trip p50", "us"),
        ("p99", "us"),
    ];
}

/// A row of the table.
#[derive(Debug)]
struct Case {
    subject: Subject,
    offloads: bool,
    samples: [Vec<f64>; Metric::ALL.len()],
}

impl Case {
    fn label(&self) -> String {
        let offloads = if self.offloads { "veth offloads" } else { "no offloads" };
        format!("{}, {offloads}", self.subject.name())
    }

    fn push(&mut self, metric: Metric, value: f64) {
        self.samples[metric as usize].push(value);
    }
}

/// CPUs of gateway A and of everything else.
#[derive(Clone, Copy, Debug)]
struct Cpus {
    a: u16,
    rest: u16,
}

impl Cpus {
    fn choose() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self { a: 0, rest: u16::from(cpus > 1) }
    }
}

/// The words for the report.
fn pinning() -> String {
    match Cpus::choose() {
        Cpus { a, rest } if a == rest => "everything on the only CPU".to_owned(),
        Cpus { a, rest } => {
            format!("gateway A on CPU {a}; gateway B, client and server on CPU {rest}")
        }
    }
}

/// What all cases share.
#[derive(Debug)]
struct Lab<'a> {
    args: &'a E2eArgs,
    clgw: PathBuf,
    haproxy: PathBuf,
    /// This program, for both ends of short exchanges.
    this: String,
    cpus: Cpus,
    interrupt: Interrupt,
}

fn run(args: &E2eArgs, bench: &mut Bench) -> anyhow::Result<()> {
    ensure_root()?;
    let lab = Lab::new(args, &bench.interrupt)?;
    bench.report.pinning("e2e", pinning());
    let mut cases = args.cases();
    // Rounds, so that what else happens on the machine meets all subjects alike.
    let mut failures = Vec::new();
    for round in 1..=args.repetitions {
        for case in &mut cases {
            let label = format!("e2e: round {round}/{}: {}", args.repetitions, case.label());
            bench.step(&label, args.expected())?;
            if let Err(error) = lab.case(case, &mut failures) {
                bench.interrupt.check()?;
                failures.push(format!("{}: {error:#}", case.label()));
            }
        }
    }
    for case in &cases {
        let parameters = [
            ("subject", case.subject.name().to_owned()),
            ("offloads", if case.offloads { "veth's" } else { "none" }.to_owned()),
        ];
        for ((metric, unit), samples) in Metric::ALL.into_iter().zip(&case.samples) {
            bench.report.add("e2e", &parameters, metric, unit, samples.clone());
        }
    }
    lab.notes(&mut bench.report)?;
    ensure!(failures.is_empty(), "{} steps failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

impl<'a> Lab<'a> {
    fn new(args: &'a E2eArgs, interrupt: &Interrupt) -> anyhow::Result<Self> {
        ensure!(args.repetitions > 0 && args.seconds > 0, "--repetitions and --seconds start at 1");
        let this = std::env::current_exe().context("path of this program")?;
        let clgw = args.clgw.clone().unwrap_or_else(|| this.with_file_name("clgw"));
        ensure!(
            clgw.is_file(),
            "{}: there is no such program; build it (cargo build --release -p clgw) or name it \
             with --clgw",
            clgw.display()
        );
        for (name, package) in [
            ("ip", "iproute2"),
            ("ethtool", "ethtool"),
            ("sysctl", "procps"),
            ("iperf3", "iperf3"),
            ("setpriv", "util-linux"),
            ("taskset", "util-linux"),
        ] {
            program(name, package)?;
        }
        let mut haproxy = PathBuf::new();
        if args.subjects.contains(&Subject::Haproxy) {
            haproxy = program("haproxy", "haproxy")
                .context("or leave it out with --subjects clgw,direct")?;
        }
        let cpus = Cpus::choose();
        dpdk_bindings::pin_current_thread(cpus.rest).context("CPU of everything but gateway A")?;
        let clgw = fs::canonicalize(&clgw).with_context(|| clgw.display().to_string())?;
        let this = this.display().to_string();
        Ok(Self { args, clgw, haproxy, this, cpus, interrupt: interrupt.clone() })
    }

    /// One subject from its start to its end.
    fn case(&self, case: &mut Case, failures: &mut Vec<String>) -> anyhow::Result<()> {
        let net = Net::new(case.subject.ends(), case.offloads, &self.interrupt)?;
        let iperf =
            ["iperf3", "-s", "--forceflush", "-B", "10.2.0.2", "-p", &IPERF_PORT.to_string()];
        let mut iperf = net.spawn("iperf3-server", Place::Server, self.cpus.rest, &iperf)?;
        iperf.wait_for("Server listening", PATIENCE)?;
        let tiny = format!("10.2.0.2:{TINY_PORT}");
        let tiny = [self.this.as_str(), "e2e-peer", "server", &tiny];
        let mut tiny = net.spawn("tiny-server", Place::Server, self.cpus.rest, &tiny)?;
        tiny.wait_for(LISTENING, PATIENCE)?;
        let gateways = match case.subject {
            Subject::Clgw => self.start_clgw(&net)?,
            Subject::Haproxy => self.start_haproxy(&net)?,
            Subject::Direct => {
                net.forward()?;
                Vec::new()
            }
        };
        let line = Line { lab: self, net: &net, subject: case.subject, gateways: &gateways };
        line.wait_until_open().with_context(|| line.logs())?;
        for step in Step::ALL {
            if let Err(error) = line.measure(step, case) {
                if self.interrupt.is_set() {
                    return Err(error);
                }
                let logs = line.logs();
                failures.push(format!("{}: {}: {error:#}\n{logs}", case.label(), step.describe()));
            }
        }
        for gateway in gateways {
            let status = gateway.stop()?;
            // HAProxy ends by the signal.
            ensure!(
                status.success() || case.subject != Subject::Clgw,
                "gateway ended with {status} after SIGTERM"
            );
        }
        Ok(())
    }

    /// CA at `bench/cert.pem`, and for both sites `cert.pem` and `key.pem` in a directory.
    fn certificates(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let clgw = self.clgw.display().to_string();
        let path = dir.display().to_string();
        run_program(&clgw, &["create", "fabric", "--name", "bench", "--path", &path])?;
        for site in ["site-a", "site-b"] {
            let of = ["--name", site, "--fabric", "bench", "--path", &path];
            run_program(&clgw, &[&["create", "peer-cert"][..], &of].concat())?;
        }
        Ok(dir.join("bench"))
    }

    fn start_clgw(&self, net: &Net) -> anyhow::Result<Vec<Process>> {
        let fabric = self.certificates(net.dir())?;
        let Cpus { a, rest } = self.cpus;
        let mut gateways = Vec::new();
        for (name, place, cpu) in [("site-a", Place::A, a), ("site-b", Place::B, rest)] {
            let site = fabric.join(name);
            let (config, objects) = e2e_config::clgw(place, cpu);
            write(&site.join("gateway.yaml"), &config)?;
            fs::create_dir_all(site.join("objects")).context("objects")?;
            write(&site.join("objects/objects.yaml"), &objects)?;
            let file = site.join("gateway.yaml").display().to_string();
            let clgw = self.clgw.display().to_string();
            gateways.push(net.spawn(name, place, cpu, &[&clgw, "run", "--config", &file])?);
        }
        for gateway in &mut gateways {
            gateway.wait_for(" ready ", PATIENCE)?;
        }
        Ok(gateways)
    }

    fn start_haproxy(&self, net: &Net) -> anyhow::Result<Vec<Process>> {
        let fabric = self.certificates(net.dir())?;
        let haproxy = self.haproxy.display().to_string();
        let start = |name: &str, place, cpu| {
            let site = fabric.join(name);
            // HAProxy wants both in one file.
            let pem = site.join("both.pem");
            let part = |file: &str| fs::read_to_string(site.join(file)).context(file.to_owned());
            write(&pem, &(part("cert.pem")? + &part("key.pem")?))?;
            let config = site.join("haproxy.cfg");
            write(&config, &e2e_config::haproxy(place, &fabric.join("cert.pem"), &pem))?;
            let config = config.display().to_string();
            net.spawn(name, place, cpu, &[&haproxy, "-db", "-f", &config])
        };
        Ok(vec![
            start("site-a", Place::A, self.cpus.a)?,
            start("site-b", Place::B, self.cpus.rest)?,
        ])
    }

    fn notes(&self, report: &mut Report) -> anyhow::Result<()> {
        let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
        let seconds = self.args.seconds;
        if self.cpus.a == self.cpus.rest {
            report.note("e2e: one CPU only: gateway A shares it with everything else");
        }
        report.note(format!(
            "e2e: client - gateway A - gateway B - server, namespaces joined by veth, MTU 1500; {} \
             upload of {seconds} s; every sample with freshly started gateways. Client, server and \
             gateway B share a CPU, and where gateway A is not the limit, that CPU is: compare \
             CPU seconds before Gb/s",
            first_line(run_program("iperf3", &["--version"])?)
        ));
        report.note(format!(
            "e2e: offloads: none = tso, gso and gro off at all ends of the links (for clgw, hosts \
             compute checksums as well, since af_packet passes them on as they are; for the others \
             veth skips them); veth's = what the kernel has on. clgw cannot use the latter here: \
             af_packet takes no segments larger than a frame. TLS 1.3, {SUITE}, mutual, P-256",
        ));
        report.note(
            "e2e: CPU s/Gbit = user and system time of that gateway's process during the transfer, \
             by received payload. For clgw this includes a poll loop that goes on between frames \
             (workers.idle: sleep) and the kernel's af_packet. Work of softirqs, most of the \
             kernel's network stack, counts for the process it happens to run in or, as kernels are \
             configured, for none",
        );
        report.note(format!(
            "e2e: connections: {CONCURRENCY} at a time, each connects, sends a byte, gets a byte \
             and closes, for {CONNECTION_SECONDS} s; HAProxy resumes TLS sessions. Round trips: 1 \
             byte there and back, {ROUND_TRIPS} on one connection",
        ));
        if self.args.subjects.contains(&Subject::Haproxy) {
            let version = first_line(run_program(&self.haproxy.display().to_string(), &["-v"])?);
            let version = version.split(" - ").next().unwrap_or_default().to_owned();
            report.note(format!("e2e: {version}, mode tcp, nbthread 1, TLS between the pair"));
        }
        Ok(())
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("{}: cannot be written", file.display()))
}

#[derive(Clone, Copy, Debug)]
enum Step {
    RoundTrips,
    One,
    Eight,
    Connections,
}

impl Step {
    const ALL: [Self; 4] = [Self::RoundTrips, Self::One, Self::Eight, Self::Connections];

    fn describe(self) -> &'static str {
        match self {
            Self::RoundTrips => "round trips",
            Self::One => "iperf3, 1 stream",
            Self::Eight => "iperf3, 8 streams",
            Self::Connections => "new connections",
        }
    }
}

/// A running subject, as the client sees it.
#[derive(Debug)]
struct Line<'a> {
    lab: &'a Lab<'a>,
    net: &'a Net,
    subject: Subject,
    /// A and B, or none.
    gateways: &'a [Process],
}

impl Line<'_> {
    fn logs(&self) -> String {
        self.gateways.iter().map(Process::last_lines).collect::<Vec<_>>().join("\n")
    }

    /// This program as a client of the tiny server.
    fn tiny(&self, role: &str, more: &[&str], within: Duration) -> anyhow::Result<String> {
        let to = format!("{}:{TINY_PORT}", self.subject.target());
        let command = [&[self.lab.this.as_str(), "e2e-peer", role, &to][..], more].concat();
        self.net.output("tiny-client", Place::Client, self.lab.cpus.rest, &command, within)
    }

    /// Gateways find each other a little after they are ready.
    fn wait_until_open(&self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.tiny("round-trips", &["--count", "1"], PATIENCE) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > until => {
                    return Err(error.context("the client does not reach the server"));
                }
                Err(_) => self.net.pause(BETWEEN_PROBES)?,
            }
        }
    }

    fn measure(&self, step: Step, case: &mut Case) -> anyhow::Result<()> {
        match step {
            Step::RoundTrips => {
                let count = ROUND_TRIPS.to_string();
                let text = self.tiny("round-trips", &["--count", &count], 2 * PATIENCE)?;
                let result: RoundTrips = serde_json::from_str(&text).context("its result")?;
                case.push(Metric::P50, result.p50);
                case.push(Metric::P99, result.p99);
            }
            Step::One => self.iperf(1, [Metric::One, Metric::OneA, Metric::OneB], case)?,
            Step::Eight => self.iperf(8, [Metric::Eight, Metric::EightA, Metric::EightB], case)?,
            Step::Connections => {
                self.connections(WARM_UP_SECONDS)?;
                let result = self.connections(CONNECTION_SECONDS)?;
                case.push(Metric::Connections, result.complete as f64 / result.seconds);
                case.push(Metric::Errors, result.errors as f64);
                if let Some(error) = &result.first_error {
                    eprintln!("e2e:   {} connections failed, first: {error}", result.errors);
                }
                ensure!(result.complete > 0, "no connection carried its byte: {result:?}");
            }
        }
        Ok(())
    }

    fn connections(&self, seconds: f64) -> anyhow::Result<Connections> {
        let (concurrency, seconds) = (CONCURRENCY.to_string(), seconds.to_string());
        let more = ["--concurrency", &concurrency, "--seconds", &seconds];
        let text = self.tiny("connections", &more, PATIENCE)?;
        serde_json::from_str(&text).context("its result")
    }

    fn iperf(&self, streams: usize, metrics: [Metric; 3], case: &mut Case) -> anyhow::Result<()> {
        let cpu = || self.gateways.iter().map(Process::cpu_seconds).collect::<Result<Vec<_>, _>>();
        let before = cpu()?;
        let seconds = self.lab.args.seconds;
        let (port, time, streams) =
            (IPERF_PORT.to_string(), seconds.to_string(), streams.to_string());
        let command =
            ["iperf3", "-c", self.subject.target(), "-p", &port, "-t", &time, "-P", &streams, "-J"];
        let within = PATIENCE + Duration::from_secs(seconds);
        let text =
            self.net.output("iperf3", Place::Client, self.lab.cpus.rest, &command, within)?;
        let after = cpu()?;
        let (gbit, rate) = received(&text)?;
        ensure!(gbit > 0.0, "nothing arrived:\n{text}");
        case.push(metrics[0], rate);
        for ((metric, before), after) in metrics[1..].iter().zip(before).zip(after) {
            case.push(*metric, (after - before) / gbit);
        }
        Ok(())
    }
}

/// Gbit and Gb/s that the server got, from iperf3's JSON.
fn received(json: &str) -> anyhow::Result<(f64, f64)> {
    let value: Value = serde_json::from_str(json).context("iperf3's JSON")?;
    let sum = &value["end"]["sum_received"];
    let (bytes, rate) = (sum["bytes"].as_f64(), sum["bits_per_second"].as_f64());
    let (Some(bytes), Some(rate)) = (bytes, rate) else {
        bail!("iperf3's JSON has no end.sum_received: {}", value["error"]);
    };
    Ok((bytes * 8.0 / 1e9, rate / 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iperf3_is_read() {
        let json = r#"{"end":{"sum_received":{"bytes":250000000,"bits_per_second":4.0e8}}}"#;
        assert_eq!(received(json).unwrap(), (2.0, 0.4));
        let error = received(r#"{"error":"unable to connect"}"#).unwrap_err().to_string();
        assert!(error.contains("unable to connect"), "{error}");
        assert!(received("").is_err());
    }

    #[test]
    fn every_metric_has_its_column() {
        assert_eq!(Metric::ALL[Metric::One as usize].0, "1 stream");
        assert_eq!(Metric::ALL[Metric::EightB as usize], ("B (8)", "CPU s/Gbit"));
        assert_eq!(Metric::ALL[Metric::P99 as usize].0, "p99");
        // The table tells columns apart by name.
        let names: std::collections::BTreeSet<_> = Metric::ALL.iter().map(|m| m.0).collect();
        assert_eq!(names.len(), Metric::ALL.len());
    }
}
