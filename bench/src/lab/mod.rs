//! What the scenarios in namespaces share: the subjects, the links between them, their clients
//! and servers.

mod capture;
pub mod counters;
pub mod ends;
pub mod net;
mod peers;
mod priority;
mod process;
pub mod runtime_dir;
mod subject;
pub mod usage;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::capture::Wire;
pub use self::net::{Between, Ends, Links, Net, Place};
pub use self::peers::clgw::Buffers;
pub use self::peers::{Gateways, HOLD_PORTS, IPERF_PORT, PEER_PORT, SUITE, TINY_PORT};
pub use self::process::{Process, ensure_root, program, run as run_program};
pub use self::subject::Subject;

use self::ends::{Connections, LISTENING, RoundTrips};
use self::net::{CongestionControls, SERVER_BESIDE};
use self::peers::Site;
use self::priority::Priority;
use crate::environment::{self, Environment};
use crate::interrupt::Interrupt;
use crate::progress::print_line;
use crate::report::Report;

/// Importer and exporter.
pub const SITES: [&str; 2] = ["site-a", "site-b"];
const FABRIC: &str = "bench";
/// Starts, and steps that take a second when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);
const BETWEEN_PROBES: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, Args)]
pub struct LabArgs {
    /// The gateway's program. Default: `clgw` beside this program.
    #[arg(long, value_name = "PATH")]
    pub clgw: Option<PathBuf>,
}

impl LabArgs {
    /// The file of the gateway's program.
    ///
    /// # Errors
    /// There is none.
    pub fn program(&self) -> anyhow::Result<PathBuf> {
        let this = std::env::current_exe().context("path of this program")?;
        let clgw = self.clgw.clone().unwrap_or_else(|| this.with_file_name("clgw"));
        ensure!(
            clgw.is_file(),
            "{}: there is no such program; build it (cargo build --release -p clgw) or name it \
             with --clgw",
            clgw.display()
        );
        fs::canonicalize(&clgw).with_context(|| clgw.display().to_string())
    }
}

/// CPUs of gateway A and of everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus {
    pub a: u16,
    pub rest: u16,
}

impl Cpus {
    fn choose() -> Self {
        Self { a: 0, rest: u16::from(Environment::cpus() > 1) }
    }

    /// The words for the report.
    fn describe(self) -> String {
        match self {
            Self { a, rest } if a == rest => "everything on the only CPU".to_owned(),
            Self { a, rest } => {
                format!("gateway A on CPU {a}; gateway B, client and server on CPU {rest}")
            }
        }
    }
}

/// The programs, and where they run.
#[derive(Debug)]
pub struct Lab {
    clgw: PathBuf,
    /// This program, for both ends of short exchanges.
    this: String,
    pub cpus: Cpus,
    pub interrupt: Interrupt,
    /// Of our own gateways.
    pub buffers: Buffers,
    /// Of our own gateways towards each other; `None` = their default.
    pub congestion: Option<&'static str>,
    /// Started so far: each has a log of its own.
    ends: AtomicUsize,
    _congestion_controls: CongestionControls,
    priority: Priority,
}

impl Lab {
    /// # Errors
    /// Not root, or a program is missing.
    pub fn new(
        args: &LabArgs,
        subjects: &[Subject],
        buffers: Buffers,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        ensure_root()?;
        let this = std::env::current_exe().context("path of this program")?;
        let clgw = args.program()?;
        for (name, package) in [
            ("ip", "iproute2"),
            ("ethtool", "ethtool"),
            ("sysctl", "procps"),
            ("iperf3", "iperf3"),
            ("setpriv", "util-linux"),
            ("taskset", "util-linux"),
            ("tcpdump", "tcpdump"),
        ] {
            program(name, package)?;
        }
        for subject in subjects {
            subject.program().with_context(|| {
                format!("subject {}; or leave it out of --subjects", subject.name())
            })?;
        }
        net::remove_stale();
        let cpus = Cpus::choose();
        dpdk_bindings::pin_current_thread(cpus.rest).context("CPU of everything but gateway A")?;
        let this = this.display().to_string();
        Ok(Self {
            clgw,
            this,
            cpus,
            interrupt: interrupt.clone(),
            buffers,
            congestion: None,
            ends: AtomicUsize::new(0),
            _congestion_controls: CongestionControls::allow_all()?,
            priority: Priority::raise(),
        })
    }

    /// Writes pinning and versions.
    ///
    /// # Errors
    /// A program does not say its version.
    pub fn record(
        &self,
        scenario: &str,
        subjects: &[Subject],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        report.pinning(scenario, self.cpus.describe() + self.priority.describe());
        let first_line = |text: String| text.lines().next().unwrap_or_default().trim().to_owned();
        report.peer("iperf3", first_line(run_program("iperf3", &["--version"])?));
        for subject in subjects {
            if *subject == Subject::Clgw {
                report.peer(subject.name(), environment::program(&self.clgw)?);
            } else if let Some(version) = subject.version()? {
                report.peer(subject.name(), version);
            }
        }
        Ok(())
    }

    /// Starts servers and a subject on fresh links, and waits until the client reaches them.
    ///
    /// # Errors
    /// Something does not start, with the end of what it said.
    pub fn start(&self, subject: Subject, net: Net) -> anyhow::Result<Line<'_>> {
        let mut servers = vec![self.iperf_server(&net, "iperf3-server", "10.2.0.2")?];
        if net.links().between == Between::SharedLine {
            servers.push(self.iperf_server(&net, "iperf3-server-beside", SERVER_BESIDE)?);
        }
        let mut tiny = self.end(&net, Place::Server, &["server", &server(TINY_PORT)])?;
        tiny.wait_for(LISTENING, PATIENCE)?;
        let sites = self.sites(net.dir())?;
        let gateways = subject.start(self, &net, &sites)?;
        servers.push(tiny);
        let line = Line { lab: self, subject, gateways, servers, net };
        line.wait_until_open().with_context(|| line.logs())?;
        Ok(line)
    }

    fn iperf_server(&self, net: &Net, name: &str, address: &str) -> anyhow::Result<Process> {
        let port = IPERF_PORT.to_string();
        let command =
            ["iperf3", "-s", "--forceflush", "--timestamps=%T ", "-B", address, "-p", &port];
        let mut server = net.spawn(name, Place::Server, self.cpus.rest, &command)?;
        server.wait_for("Server listening", PATIENCE)?;
        Ok(server)
    }

    /// The line between the sites, for [`Between::Line`].
    ///
    /// # Errors
    /// It does not start.
    pub fn line(&self, net: &Net, options: &[&str]) -> anyhow::Result<Process> {
        let command = [&[self.this.as_str(), "line"][..], options].concat();
        let mut line = net.spawn("line", Place::Line, self.cpus.rest, &command)?;
        line.wait_for(LISTENING, PATIENCE)?;
        Ok(line)
    }

    /// This program as an end of short exchanges.
    fn end(&self, net: &Net, place: Place, role: &[&str]) -> anyhow::Result<Process> {
        let command = [&[self.this.as_str(), "ends"][..], role].concat();
        let number = self.ends.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", role[0]);
        net.spawn(&name, place, self.cpus.rest, &command)
    }

    /// CA and certificates of both sites.
    fn sites(&self, dir: &Path) -> anyhow::Result<[Site; 2]> {
        let fabric = fabric(&self.clgw, dir)?;
        let site = |name: &'static str, place, cpu| {
            let dir = fabric.join(name);
            let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
            Site { name, place, cpu, ca: fabric.join("cert.pem"), cert, key, dir }
        };
        let Cpus { a, rest } = self.cpus;
        let [name_a, name_b] = SITES;
        Ok([site(name_a, Place::A, a), site(name_b, Place::B, rest)])
    }
}

/// CA at `cert.pem`, and for both sites `cert.pem` and `key.pem` in a directory each.
///
/// # Errors
/// `clgw` does not make them.
pub fn fabric(clgw: &Path, dir: &Path) -> anyhow::Result<PathBuf> {
    let (clgw, path) = (clgw.display().to_string(), dir.display().to_string());
    run_program(&clgw, &["create", "fabric", "--name", FABRIC, "--path", &path])?;
    for site in SITES {
        let of = ["--name", site, "--fabric", FABRIC, "--path", &path];
        run_program(&clgw, &[&["create", "peer-cert"][..], &of].concat())?;
    }
    Ok(dir.join(FABRIC))
}

fn server(port: u16) -> String {
    format!("10.2.0.2:{port}")
}

/// A running subject, as the client sees it. Fields are dropped in this order.
#[derive(Debug)]
pub struct Line<'a> {
    lab: &'a Lab,
    pub subject: Subject,
    pub gateways: Gateways,
    servers: Vec<Process>,
    pub net: Net,
}

/// A transfer of iperf3.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Received payload.
    pub gbit: f64,
    pub seconds: f64,
    /// Segments that the client's TCP sent again.
    pub retransmits: f64,
}

impl Transfer {
    pub fn gbps(&self) -> f64 {
        self.gbit / self.seconds
    }
}

impl Line<'_> {
    /// Runs this program as a client of a service to its end; its result.
    fn client<T: DeserializeOwned>(
        &self,
        role: &str,
        more: &[&str],
        within: Duration,
    ) -> anyhow::Result<T> {
        let to = format!("{}:{TINY_PORT}", self.subject.target());
        let command = [&[self.lab.this.as_str(), "ends", role, &to][..], more].concat();
        let text =
            self.net.output("client", Place::Client, self.lab.cpus.rest, &command, within)?;
        serde_json::from_str(&text).with_context(|| format!("its result: {text}"))
    }

    /// Gateways find each other a little after they are ready.
    fn wait_until_open(&self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.round_trips(1) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > until => {
                    return Err(error.context("the client does not reach the server"));
                }
                Err(_) => self.net.pause(BETWEEN_PROBES)?,
            }
        }
    }

    /// # Errors
    /// One failed.
    pub fn round_trips(&self, count: usize) -> anyhow::Result<RoundTrips> {
        self.client("round-trips", &["--count", &count.to_string()], 2 * PATIENCE)
    }

    /// New connections with an exchange each, for some seconds.
    ///
    /// # Errors
    /// None was complete.
    pub fn connections_for(&self, seconds: f64, concurrency: usize) -> anyhow::Result<Connections> {
        let (seconds, concurrency) = (seconds.to_string(), concurrency.to_string());
        self.connections(&["--seconds", &seconds, "--concurrency", &concurrency])
    }

    /// As many new connections.
    ///
    /// # Errors
    /// None was complete.
    pub fn connections_of(&self, count: u64, concurrency: usize) -> anyhow::Result<Connections> {
        let (count, concurrency) = (count.to_string(), concurrency.to_string());
        self.connections(&["--count", &count, "--concurrency", &concurrency])
    }

    fn connections(&self, more: &[&str]) -> anyhow::Result<Connections> {
        let result: Connections = self.client("connections", more, 2 * PATIENCE)?;
        if let Some(error) = &result.first_error {
            print_line(&format!(
                "{}: {} connections failed, first: {error}",
                self.subject, result.errors
            ));
        }
        ensure!(!result.micros.is_empty(), "no connection carried its byte");
        Ok(result)
    }

    /// An upload.
    ///
    /// # Errors
    /// Nothing arrived.
    pub fn iperf(&self, streams: usize, seconds: u64) -> anyhow::Result<Transfer> {
        let (port, time, streams) =
            (IPERF_PORT.to_string(), seconds.to_string(), streams.to_string());
        let command =
            ["iperf3", "-c", self.subject.target(), "-p", &port, "-t", &time, "-P", &streams, "-J"];
        self.iperf_server_is_free()?;
        let within = PATIENCE + Duration::from_secs(seconds);
        let text = self.net.output("iperf3", Place::Client, self.lab.cpus.rest, &command, within);
        text.and_then(|text| transfer(&text)).with_context(|| format!("iperf3 -P {streams}"))
    }

    /// Uploads through the subject and past it at once, on [`Between::SharedLine`]; what arrived of
    /// each after the first `warm_up` seconds. Past it the kernel's CUBIC sends. `first`: the subject's begin.
    ///
    /// # Errors
    /// Nothing of one arrived.
    pub fn iperf_beside(
        &self,
        streams: usize,
        (warm_up, seconds): (u64, u64),
        first: bool,
    ) -> anyhow::Result<[Transfer; 2]> {
        let (port, streams) = (IPERF_PORT.to_string(), streams.to_string());
        let (omit, time) = (warm_up.to_string(), seconds.to_string());
        let spawn = |name: &str, target: &str, more: &[&str]| {
            let command = [
                "iperf3", "-c", target, "-p", &port, "-O", &omit, "-t", &time, "-P", &streams, "-J",
            ];
            self.net.spawn(name, Place::Client, self.lab.cpus.rest, &[&command, more].concat())
        };
        let through = || spawn("iperf3", self.subject.target(), &[]);
        let past = || spawn("iperf3-beside", SERVER_BESIDE, &["-C", "cubic"]);
        let (subject, beside) = if first {
            let subject = through()?;
            (subject, past()?)
        } else {
            let beside = past()?;
            (through()?, beside)
        };
        let within = PATIENCE + Duration::from_secs(warm_up + seconds);
        let result = |mut client: Process| {
            let status = client.wait(within)?;
            ensure!(status.success(), "iperf3 ended with {status}:\n{}", client.last_lines());
            transfer(&client.text())
        };
        Ok([result(subject)?, result(beside)?])
    }

    /// The server takes one test at a time, and resets whoever comes before it has heard of the end
    /// of the last one: over a lossy line that takes a time-out.
    fn iperf_server_is_free(&self) -> anyhow::Result<()> {
        let until = Instant::now() + 10 * BETWEEN_PROBES;
        while self.established(Place::Server, &[IPERF_PORT])? > 0 && Instant::now() < until {
            std::thread::sleep(BETWEEN_PROBES);
        }
        // It listens anew.
        std::thread::sleep(BETWEEN_PROBES);
        Ok(())
    }

    /// The ends of the logs of gateways and servers.
    pub fn logs(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(Process::last_lines).collect();
        format!("{}\n{}", self.gateways.logs(), servers.join("\n"))
    }

    /// Checks that a relay at B sends away who has no certificate. (Nobody in the kernel can ask
    /// ours, whose ports have no address there; its own tests do.)
    ///
    /// # Errors
    /// It does not.
    pub fn refuses_strangers(&self) -> anyhow::Result<()> {
        let ca = self.net.dir().join(FABRIC).join("cert.pem").display().to_string();
        let to = format!("192.0.2.2:{PEER_PORT}");
        let command = [&self.lab.this, "ends", "stranger", &to, "--ca", &ca, "--name", SITES[1]];
        let text = self.net.output("stranger", Place::A, self.lab.cpus.rest, &command, PATIENCE)?;
        ensure!(text.contains(ends::REFUSED), "a client without a certificate was told {text:?}");
        Ok(())
    }

    /// TCP connections of the client's or the server's kernel that are established.
    ///
    /// # Errors
    /// `ss` fails.
    pub fn established(&self, place: Place, ports: &[u16]) -> anyhow::Result<usize> {
        let port = if place == Place::Client { "dport" } else { "sport" };
        let filter: Vec<String> = ports.iter().map(|n| format!("{port} = :{n}")).collect();
        let filter = format!("( {} )", filter.join(" or "));
        let list = ["ss", "-H", "-t", "-n", "state", "established", &filter];
        Ok(self.net.run_in(place, &list)?.lines().count())
    }

    /// CPU seconds of the processes of gateways A and B.
    ///
    /// # Errors
    /// One has ended.
    pub fn cpu_seconds(&self) -> anyhow::Result<[f64; 2]> {
        let of = |processes: &[Process]| {
            processes.iter().map(|p| usage::cpu_seconds(p.pid())).sum::<Result<f64, _>>()
        };
        Ok([of(&self.gateways.a)?, of(&self.gateways.b)?])
    }

    /// Bytes of memory of gateways A and B.
    ///
    /// # Errors
    /// One has ended.
    pub fn memory(&self) -> anyhow::Result<[f64; 2]> {
        let of = |processes: &[Process]| {
            processes
                .iter()
                .map(|p| usage::memory(p.pid()).map(|n| n as f64))
                .sum::<Result<f64, _>>()
        };
        Ok([of(&self.gateways.a)?, of(&self.gateways.b)?])
    }

    /// This program at the client's or the server's place, in a role of its own.
    ///
    /// # Errors
    /// It does not start.
    pub fn end(&self, place: Place, role: &[&str]) -> anyhow::Result<Process> {
        self.lab.end(&self.net, place, role)
    }

    /// Ends the gateways.
    ///
    /// # Errors
    /// One of ours does not end as it should.
    pub fn stop(self) -> anyhow::Result<()> {
        for gateway in self.gateways.a.into_iter().chain(self.gateways.b) {
            let status = gateway.stop()?;
            // Some relays end by the signal.
            ensure!(
                status.success() || self.subject != Subject::Clgw,
                "gateway ended with {status} after SIGTERM"
            );
        }
        Ok(())
    }
}

/// What the server got, from iperf3's JSON.
fn transfer(json: &str) -> anyhow::Result<Transfer> {
    let value: Value = serde_json::from_str(json).context("iperf3's JSON")?;
    let end = &value["end"];
    let sum = &end["sum_received"];
    let (bytes, seconds) = (sum["bytes"].as_f64(), sum["seconds"].as_f64());
    let (Some(bytes), Some(seconds)) = (bytes, seconds) else {
        bail!("iperf3's JSON has no end.sum_received: {}", value["error"]);
    };
    ensure!(bytes > 0.0 && seconds > 0.0, "nothing arrived: {}", value["error"]);
    let retransmits = end["sum_sent"]["retransmits"].as_f64().unwrap_or(0.0);
    Ok(Transfer { gbit: bytes * 8.0 / 1e9, seconds, retransmits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iperf3_is_read() {
        let json = r#"{"end":{"sum_received":{"bytes":250000000,"seconds":5.0},
                       "sum_sent":{"retransmits":3}}}"#;
        let transfer_ = transfer(json).unwrap();
        assert_eq!((transfer_.gbit, transfer_.gbps(), transfer_.retransmits), (2.0, 0.4, 3.0));
        let error = transfer(r#"{"error":"unable to connect"}"#).unwrap_err().to_string();
        assert!(error.contains("unable to connect"), "{error}");
        assert!(transfer("").is_err());
    }
}
