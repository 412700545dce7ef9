//! `generate`: a load generator on DPDK ports, with the same TCP host as the simulation. Client
//! and server may be two ports of one process or run on two machines.

mod exchanges;
mod load;
mod protocol;
mod results;
mod schedule;
mod server;
mod session;
mod side;
mod streams;
mod tally;
#[cfg(test)]
mod tests;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand, ValueEnum};
use clgw::config::{Device, EalSettings, Hugepages};
use clgw::limits::{MAX_MTU, MIN_MTU};
use ipnet::IpNet;

pub use exchanges::ExchangesPlan;
pub use load::Plan;
pub use results::{QUANTILES, ensure_moved, exchange_rates, payload_rates, report_drops};
pub use schedule::Timing;
pub use session::{Job, Outcome, Session, Setup, SideSetup};
pub use side::Idle;
pub use streams::StreamsPlan;

use crate::scenario::{Bench, Scenario};

#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    #[command(subcommand)]
    mode: Mode,
    #[command(flatten)]
    ports: PortArgs,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Ports")]
struct PortArgs {
    /// Port of the client: PCI address or virtual device with its arguments, as in gateway.yaml.
    #[arg(long, global = true, value_name = "DEVICE")]
    client_device: Option<Device>,
    /// Its address with the prefix length of the subnet.
    #[arg(long, global = true, value_name = "ADDRESS/LEN")]
    client_address: Option<IpNet>,
    /// Use so many addresses from there on; one has ports for 55,000 connections.
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    client_addresses: u32,
    /// Router towards what is outside the subnet.
    #[arg(long, global = true, value_name = "ADDRESS")]
    client_via: Option<IpAddr>,
    /// CPU of the client's thread. The same CPU, or none, for both sides: one thread for both.
    #[arg(long, global = true, value_name = "CPU")]
    client_cpu: Option<u16>,
    /// Port of the server.
    #[arg(long, global = true, value_name = "DEVICE")]
    server_device: Option<Device>,
    #[arg(long, global = true, value_name = "ADDRESS/LEN")]
    server_address: Option<IpNet>,
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    server_addresses: u32,
    #[arg(long, global = true, value_name = "ADDRESS")]
    server_via: Option<IpAddr>,
    #[arg(long, global = true, value_name = "CPU")]
    server_cpu: Option<u16>,
    /// TCP ports where the server listens.
    #[arg(long, global = true, value_delimiter = ',', default_value = "8080")]
    listen: Vec<u16>,
    /// Where the client connects to, as ADDRESS:PORT.
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    target: Option<SocketAddr>,
    /// IP packet, bytes, on both ports.
    #[arg(long, global = true, default_value_t = 1500)]
    mtu: usize,
    /// What threads do when there is nothing to do.
    #[arg(long, global = true, value_enum, default_value_t = Idle::Poll)]
    idle: Idle,
    /// Receive buffer of each connection, and its send buffer. Default: 1024 for streams, else 64.
    #[arg(long, global = true, value_name = "KIB")]
    buffer_kib: Option<usize>,
    /// Compares every byte of streams, too; requests and responses always are.
    #[arg(long, global = true)]
    verify: bool,
    #[arg(long, global = true, value_enum, default_value_t = Pages::Auto)]
    hugepages: Pages,
    /// Memory for packet buffers, MiB.
    #[arg(long, global = true, value_name = "MIB", default_value_t = 256)]
    memory_mib: u32,
    /// A further EAL argument, one word; repeatable.
    #[arg(long, global = true, value_name = "WORD", allow_hyphen_values = true)]
    eal_arg: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pages {
    /// Hugepages if there are enough free ones.
    Auto,
    On,
    /// Normal pages. Physical NICs may not work so.
    Off,
}

#[derive(Clone, Copy, Debug, Args)]
struct TimeArgs {
    /// Of the measurement.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Before it.
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
}

impl TimeArgs {
    fn timing(self) -> Timing {
        Timing {
            warm_up: Duration::from_secs(self.warm_up),
            measure: Duration::from_secs(self.seconds),
        }
    }
}

#[derive(Clone, Copy, Debug, Args)]
struct SizeArgs {
    /// Bytes of a request.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    request: u32,
    /// Bytes of a response.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    response: u32,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Mode {
    /// Transfers: Gb/s of payload.
    Streams {
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        streams: u64,
        #[arg(long, value_enum, default_value_t = Direction::Upload)]
        direction: Direction,
        #[command(flatten)]
        time: TimeArgs,
    },
    /// New connections: connect, one request, its response, close.
    Connections {
        /// Connections at a time; with --rate, at the most.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
        concurrency: u64,
        /// New ones due per second, whether or not those before are done. Default: a new one
        /// whenever one ends.
        #[arg(long, value_parser = parse_rate)]
        rate: Option<f64>,
        #[command(flatten)]
        sizes: SizeArgs,
        #[command(flatten)]
        time: TimeArgs,
    },
    /// Requests on open connections. With --rate, latency counts from when a request was due.
    Requests {
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
        connections: u64,
        /// Due per second, over all connections. Default: the next one whenever one is answered.
        #[arg(long, value_parser = parse_rate)]
        rate: Option<f64>,
        #[command(flatten)]
        sizes: SizeArgs,
        #[command(flatten)]
        time: TimeArgs,
    },
    /// Only the server side, until SIGINT or SIGTERM.
    Serve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// Client to server.
    Upload,
    Download,
    Both,
}

impl Direction {
    pub fn streams(self, streams: u64, timing: Timing, verify: bool) -> StreamsPlan {
        let (up, down) = (self != Self::Download, self != Self::Upload);
        StreamsPlan { streams, up, down, verify, timing }
    }
}

/// Requests per second: a schedule of theirs must come to its end.
///
/// # Errors
/// No number, or none that can be kept.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(rate),
        _ => Err("a number of requests per second above 0, to 1e9".to_owned()),
    }
}

impl Mode {
    fn plan(self, verify: bool) -> Option<Plan> {
        match self {
            Self::Streams { streams, direction, time } => {
                Some(Plan::Streams(direction.streams(streams, time.timing(), verify)))
            }
            Self::Connections { concurrency, rate, sizes, time } => {
                Some(exchanges(true, concurrency, rate, sizes, time))
            }
            Self::Requests { connections, rate, sizes, time } => {
                Some(exchanges(false, connections, rate, sizes, time))
            }
            Self::Serve => None,
        }
    }
}

fn exchanges(
    churn: bool,
    connections: u64,
    rate: Option<f64>,
    sizes: SizeArgs,
    time: TimeArgs,
) -> Plan {
    let SizeArgs { request, response } = sizes;
    let timing = time.timing();
    Plan::Exchanges(ExchangesPlan { churn, connections, rate, request, response, timing })
}

impl GenerateArgs {
    /// Where the threads run, for the report.
    fn pinning(&self) -> String {
        let of = |name, cpu: Option<u16>| match cpu {
            Some(cpu) => format!("{name} on CPU {cpu}"),
            None => format!("{name} not pinned"),
        };
        let client = self.ports.client_device.as_ref().map(|_| of("client", self.ports.client_cpu));
        let server = self.ports.server_device.as_ref().map(|_| of("server", self.ports.server_cpu));
        let both: Vec<String> = [client, server].into_iter().flatten().collect();
        both.join(", ")
    }
}

impl PortArgs {
    fn setup(&self) -> anyhow::Result<Setup> {
        ensure!(
            (MIN_MTU..=MAX_MTU).contains(&self.mtu),
            "--mtu is {}; the range is {MIN_MTU} to {MAX_MTU}",
            self.mtu
        );
        let side = |name: &str, device: &Option<Device>, address: Option<IpNet>| {
            let Some(device) = device else { return anyhow::Ok(None) };
            let address =
                address.with_context(|| format!("--{name}-device takes --{name}-address"))?;
            Ok(Some(SideSetup {
                device: device.clone(),
                address,
                addresses: 1,
                via: None,
                cpu: None,
            }))
        };
        let client = side("client", &self.client_device, self.client_address)?.map(|s| SideSetup {
            addresses: self.client_addresses,
            via: self.client_via,
            cpu: self.client_cpu,
            ..s
        });
        let server = side("server", &self.server_device, self.server_address)?.map(|s| SideSetup {
            addresses: self.server_addresses,
            via: self.server_via,
            cpu: self.server_cpu,
            ..s
        });
        let eal = EalSettings {
            hugepages: match self.hugepages {
                Pages::Auto => Hugepages::Auto,
                Pages::On => Hugepages::On,
                Pages::Off => Hugepages::Off,
            },
            memory_mib: self.memory_mib,
            file_prefix: format!("clgw-generate-{}", std::process::id()),
            extra: self.eal_arg.clone(),
        };
        Ok(Setup { client, server, eal, mtu: self.mtu, idle: self.idle })
    }

    fn job(&self, plan: Option<Plan>) -> anyhow::Result<Job> {
        let load = match plan {
            None => None,
            Some(plan) => Some((plan, self.target.context("a load takes a --target")?)),
        };
        let default = if matches!(plan, Some(Plan::Exchanges(_))) { 64 } else { 1024 };
        let buffer = self.buffer_kib.unwrap_or(default);
        ensure!(
            (4..=65_536).contains(&buffer),
            "--buffer-kib is {buffer}; the range is 4 to 65536"
        );
        Ok(Job { load, listen: self.listen.clone(), verify: self.verify, buffer: buffer * 1024 })
    }
}

impl Scenario for GenerateArgs {
    fn name(&self) -> &'static str {
        "generate"
    }

    fn estimate(&self) -> Duration {
        match &self.mode {
            Mode::Streams { time, .. }
            | Mode::Connections { time, .. }
            | Mode::Requests { time, .. } => Duration::from_secs(time.seconds + 2),
            _ => Duration::ZERO,
        }
    }

    /// Within a few seconds.
    fn shorten(&mut self) {
        if let Mode::Streams { time, .. }
        | Mode::Connections { time, .. }
        | Mode::Requests { time, .. } = &mut self.mode
        {
            time.seconds = time.seconds.min(2);
        }
    }

    fn ends_by_interrupt(&self) -> bool {
        matches!(self.mode, Mode::Serve)
    }

    /// # Errors
    /// A port does not start, nothing was moved, or connections were missing.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        bench.report.pinning(self.name(), self.pinning());
        bench.step("generate", self.estimate())?;
        let plan = self.mode.plan(self.ports.verify);
        let job = self.ports.job(plan)?;
        let mut session = Session::start(self.ports.setup()?)?;
        if !session.checksum_offload() {
            bench.report.note("generate: the ports do not compute checksums; the generator does");
        }
        let progress = &bench.progress;
        let flag = bench.interrupt.flag();
        let outcome = session.run(&job, flag, &mut |tick| progress.say(&tick.line));
        drop(session);
        let outcome = outcome?;
        let parameters = [("mtu", self.ports.mtu.to_string())];
        results::report("generate", plan, &parameters, &outcome, &mut bench.report);
        results::ensure_moved(plan, &outcome)
    }
}
