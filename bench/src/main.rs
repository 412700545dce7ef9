//! `clgw-bench SCENARIO`: measurements of the gateway. See README.md for what they mean.
#![forbid(unsafe_code)]

mod chain;
mod e2e;
mod e2e_client;
mod e2e_config;
mod environment;
mod generate;
mod hop;
mod memif;
mod netns;
mod report;
mod scale;
mod tsc;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use self::environment::Environment;
use self::report::Report;

/// Measures the gateway and prints a table; --json keeps every sample.
#[derive(Debug, Parser)]
#[command(name = "clgw-bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Within a minute, at the price of precision.
    #[arg(long, global = true)]
    short: bool,
    /// Writes all samples and the environment to this file.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// CPU of the in-memory scenarios. Default: the last one.
    #[arg(long, global = true)]
    cpu: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// One gateway core in memory: Gb/s, cycles per byte, cycles per frame.
    Hop(hop::HopArgs),
    /// Two gateways in namespaces beside HAProxy and plain forwarding. Needs root.
    E2e(e2e::E2eArgs),
    /// Ends of `e2e`, in their namespaces.
    #[command(hide = true)]
    E2ePeer(e2e_client::PeerArgs),
    /// Puts load on anything that carries TCP, from DPDK ports of its own, and measures it.
    Generate(generate::GenerateArgs),
    /// Two gateways and the generator joined by shared memory, no kernel in the path.
    Memif(memif::MemifArgs),
    /// `memif` with one MTU, in a process of its own.
    #[command(hide = true)]
    MemifOne(memif::OneArgs),
    /// Cycles per frame and memory per connection, from one to many open connections.
    Scale(scale::ScaleArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clgw-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let Common { short, json, cpu } = cli.common;
    let report = match cli.scenario {
        Scenario::Hop(mut args) => {
            if short {
                args.shorten();
            }
            let mut report = pinned(cpu)?;
            let hz = report.environment.tsc_hz;
            hop::run(&args, hz, &mut report)?;
            report
        }
        Scenario::E2e(mut args) => {
            if short {
                args.shorten();
            }
            let mut report = Report::new(Environment::capture(e2e::pinning()));
            e2e::run(&args, &mut report)?;
            report
        }
        Scenario::E2ePeer(args) => return e2e_client::run(&args),
        Scenario::Generate(mut args) => {
            if short {
                args.shorten();
            }
            let mut report = Report::new(Environment::capture(args.pinning()));
            generate::run(&args, &mut report)?;
            report
        }
        Scenario::Memif(mut args) => {
            if short {
                args.shorten();
            }
            let mut report = Report::new(Environment::capture(args.pinning()));
            memif::run(&args, &mut report)?;
            report
        }
        Scenario::MemifOne(args) => return memif::run_one(&args),
        Scenario::Scale(mut args) => {
            if short {
                args.shorten();
            }
            let mut report = pinned(cpu)?;
            scale::run(&args, &mut report)?;
            report
        }
    };
    print!("{}", report.table());
    if let Some(file) = json {
        report.write_json(&file)?;
    }
    Ok(())
}

/// Binds this thread to a CPU. The environment is looked at before: afterwards there seems to be
/// one CPU only.
fn pinned(cpu: Option<u16>) -> anyhow::Result<Report> {
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let cpu = cpu.unwrap_or(u16::try_from(last).unwrap_or(0));
    let report = Report::new(Environment::capture(format!("one thread on CPU {cpu}")));
    dpdk_bindings::pin_current_thread(cpu).context("--cpu")?;
    Ok(report)
}
