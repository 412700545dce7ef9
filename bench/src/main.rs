//! `clgw-bench SCENARIO`: measurements of the gateway. See README.md for what they mean.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command, Parser, Subcommand};
use clgw_bench::lab::ends;
use clgw_bench::report::Report;
use clgw_bench::report::compare::Comparison;
use clgw_bench::scenario::{Bench, Scenario};
use clgw_bench::{e2e, generate, hop, memif, memory, relay, scale, wan};

/// Measures the gateway and prints tables.
#[derive(Debug, Parser)]
#[command(name = "clgw-bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: What,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Within a minute or so each, at the price of precision.
    #[arg(long, global = true)]
    short: bool,
    /// Writes results.json, results.csv, distributions.csv, report.md and report.html there.
    #[arg(long, global = true, value_name = "DIR")]
    out: Option<PathBuf>,
    /// CPU of the in-memory scenarios. Default: the last one.
    #[arg(long, global = true)]
    cpu: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Every scenario with its own settings, as `make bench` does. Needs root.
    All,
    /// One gateway core in memory: Gb/s, cycles per byte, cycles per frame.
    Hop(hop::HopArgs),
    /// Cycles per frame and memory per connection, from one to many open connections.
    Scale(scale::ScaleArgs),
    /// Two gateways in namespaces beside other relays and plain forwarding. Needs root.
    E2e(e2e::E2eArgs),
    /// Two gateways and the generator joined by shared memory, no kernel in the path.
    Memif(memif::MemifArgs),
    /// Puts load on anything that carries TCP, from DPDK ports of its own, and measures it.
    Generate(generate::GenerateArgs),
    /// `memif` with one MTU, in a process of its own.
    #[command(hide = true)]
    MemifOne(memif::OneArgs),
    /// Memory and CPU time of connections that carry nothing, beside other relays. Needs root.
    Memory(memory::MemoryArgs),
    /// A long line between the gateways: goodput with loss, first byte. Needs root.
    Wan(wan::WanArgs),
    /// Two runs side by side: medians, their ratio, and whether the ranges [min-max] overlap.
    Compare(CompareArgs),
    /// Makes the tables and the report of a run again from its results.json.
    Render {
        /// What a run had as --out.
        dir: PathBuf,
    },
    /// The long line.
    #[command(hide = true)]
    Line(wan::LineArgs),
    /// One end of the subject `relay`.
    #[command(hide = true)]
    Relay(relay::RelayArgs),
    /// Ends of short exchanges, in their namespaces.
    #[command(hide = true)]
    Ends(ends::EndsArgs),
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// What a run had as --out, or its results.json.
    a: PathBuf,
    /// The run to compare with it.
    b: PathBuf,
    /// Fails when medians are further apart than this factor, either way, and their ranges do not
    /// overlap. Without it, only files that cannot be read are an error.
    #[arg(long, value_name = "RATIO")]
    fail_above: Option<f64>,
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
    let mut scenarios: Vec<Box<dyn Scenario>> = match cli.command {
        What::All => vec![
            defaults::<hop::HopArgs>()?,
            defaults::<scale::ScaleArgs>()?,
            defaults::<memif::MemifArgs>()?,
            defaults::<e2e::E2eArgs>()?,
            defaults::<memory::MemoryArgs>()?,
            defaults::<wan::WanArgs>()?,
        ],
        What::Hop(args) => vec![Box::new(args)],
        What::Scale(args) => vec![Box::new(args)],
        What::E2e(args) => vec![Box::new(args)],
        What::Memif(args) => vec![Box::new(args)],
        What::Generate(args) => vec![Box::new(args)],
        What::MemifOne(args) => return memif::run_one(&args),
        What::Memory(args) => vec![Box::new(args)],
        What::Wan(args) => vec![Box::new(args)],
        What::Compare(args) => return compare(&args),
        What::Render { dir } => return Report::read(&dir)?.write(&dir),
        What::Line(args) => return args.run(),
        What::Relay(args) => return relay::run(&args),
        What::Ends(args) => return ends::run(&args),
    };
    if cli.common.short {
        scenarios.iter_mut().for_each(|s| s.shorten());
    }
    let mut bench = Bench::new(cli.common.cpu)?;
    // What was measured until something failed is still worth its table.
    let result = bench.run(&scenarios);
    bench.report.environment.finish();
    print!("{}", bench.report.table());
    if let Some(dir) = cli.common.out {
        bench.report.write(&dir)?;
    }
    result
}

fn compare(args: &CompareArgs) -> anyhow::Result<()> {
    let (a, b) = (Report::read(&args.a)?, Report::read(&args.b)?);
    let comparison = Comparison::of(&a, &b);
    print!("{}", comparison.text());
    if let Some(factor) = args.fail_above {
        let above = comparison.above(factor);
        anyhow::ensure!(
            above.is_empty(),
            "{} medians are more than {factor}x apart:\n{}",
            above.len(),
            above.join("\n")
        );
    }
    Ok(())
}

/// A scenario as it is without options.
fn defaults<S: Scenario + Args + 'static>() -> anyhow::Result<Box<dyn Scenario>> {
    let command = S::augment_args(Command::new("all").no_binary_name(true));
    let matches = command.try_get_matches_from(std::iter::empty::<&str>())?;
    Ok(Box::new(S::from_arg_matches(&matches)?))
}
