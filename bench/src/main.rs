//! `clgw-bench SCENARIO`: measurements of the gateway. See README.md for what they mean.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::Resettable;
use clap::{Args, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clgw_bench::lab::ends;
use clgw_bench::report::Report;
use clgw_bench::report::compare::Comparison;
use clgw_bench::scenario::{Bench, Scenario};
use clgw_bench::{
    churn, cores, e2e, generate, handshakes, hop, idle, memif, memory, records, relay, scale, wan,
};

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
    /// Shorter, at the price of precision: fewer and smaller measurements. What is given stays.
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
    /// Sealing and opening of TLS records, each library beside the other.
    Records(records::RecordsArgs),
    /// TLS handshakes, each library beside the other.
    Handshakes(handshakes::HandshakesArgs),
    /// One gateway core in memory: Gb/s, cycles per byte, cycles per frame.
    Hop(hop::HopArgs),
    /// One gateway core in memory: new connections over warm tunnels.
    Churn(churn::ChurnArgs),
    /// One to many workers in memory: cycles per segment, frames handed over.
    Cores(cores::CoresArgs),
    /// Cycles per frame and memory per connection, from one to many open connections.
    Scale(scale::ScaleArgs),
    /// Two gateways in namespaces beside other relays and plain forwarding. Needs root.
    E2e(e2e::E2eArgs),
    /// Two gateways and the generator joined by shared memory, no kernel in the path.
    Memif(memif::MemifArgs),
    /// One gateway without work: its CPU time, and how late it sees what comes.
    Idle(idle::IdleArgs),
    /// Puts load on anything that carries TCP, from DPDK ports of its own, and measures it.
    Generate(generate::GenerateArgs),
    /// `memif` with one MTU, in a process of its own.
    #[command(hide = true)]
    MemifOne(memif::OneArgs),
    /// Memory and CPU time of connections that carry nothing, beside other relays. Needs root.
    Memory(memory::MemoryArgs),
    /// A long line between the gateways: goodput with loss, first byte. Needs root.
    Wan(wan::WanArgs),
    /// Two runs side by side: medians, their ratio, and whether they agree within their spread.
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
    /// Fails when medians are further apart than this factor, either way, and their spreads do not
    /// overlap, or when B lacks what A has. Without it, only files that cannot be read are an error.
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    fail_above: Option<f64>,
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if ratio >= 1.0 => Ok(ratio),
        _ => Err("a factor of 1 or more".to_owned()),
    }
}

impl Cli {
    fn read(args: &[OsString]) -> Result<Self, clap::Error> {
        let mut cli = Self::try_parse_from(args)?;
        if cli.common.short {
            cli.command.shorten();
            // Over the shortened defaults, what the user gave.
            let given = without_defaults(Self::command_for_update()).try_get_matches_from(args)?;
            cli.update_from_arg_matches(&given)?;
        }
        Ok(cli)
    }
}

fn without_defaults(command: Command) -> Command {
    command.mut_args(|arg| arg.default_value(Resettable::Reset)).mut_subcommands(without_defaults)
}

impl What {
    fn shorten(&mut self) {
        match self {
            Self::Records(args) => args.shorten(),
            Self::Handshakes(args) => args.shorten(),
            Self::Hop(args) => args.shorten(),
            Self::Churn(args) => args.shorten(),
            Self::Cores(args) => args.shorten(),
            Self::Scale(args) => args.shorten(),
            Self::E2e(args) => args.shorten(),
            Self::Memif(args) => args.shorten(),
            Self::Idle(args) => args.shorten(),
            Self::Generate(args) => args.shorten(),
            Self::Memory(args) => args.shorten(),
            Self::Wan(args) => args.shorten(),
            Self::All
            | Self::MemifOne(_)
            | Self::Compare(_)
            | Self::Render { .. }
            | Self::Line(_)
            | Self::Relay(_)
            | Self::Ends(_) => {}
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match Cli::read(&args).map_err(|error| error.exit()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The terminal may be gone.
            let _ = writeln!(io::stderr(), "clgw-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let short = cli.common.short;
    let scenarios: Vec<Box<dyn Scenario>> = match cli.command {
        What::All => vec![
            defaults::<records::RecordsArgs>(short)?,
            defaults::<handshakes::HandshakesArgs>(short)?,
            defaults::<hop::HopArgs>(short)?,
            defaults::<churn::ChurnArgs>(short)?,
            defaults::<cores::CoresArgs>(short)?,
            defaults::<scale::ScaleArgs>(short)?,
            defaults::<memif::MemifArgs>(short)?,
            defaults::<idle::IdleArgs>(short)?,
            defaults::<e2e::E2eArgs>(short)?,
            defaults::<memory::MemoryArgs>(short)?,
            defaults::<wan::WanArgs>(short)?,
        ],
        What::Records(args) => vec![Box::new(args)],
        What::Handshakes(args) => vec![Box::new(args)],
        What::Hop(args) => vec![Box::new(args)],
        What::Churn(args) => vec![Box::new(args)],
        What::Cores(args) => vec![Box::new(args)],
        What::Scale(args) => vec![Box::new(args)],
        What::E2e(args) => vec![Box::new(args)],
        What::Memif(args) => vec![Box::new(args)],
        What::Idle(args) => vec![Box::new(args)],
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
    if let Some(dir) = &cli.common.out {
        Report::prepare(dir)?;
    }
    let mut bench = Bench::new(cli.common.cpu)?;
    let measured = bench.run(&scenarios);
    bench.report.environment.finish();
    // What was measured until something failed is still worth its files and its table. Files first:
    // who reads the table may not want all of it.
    let written = cli.common.out.map_or(Ok(()), |dir| bench.report.write(&dir));
    let shown = show(&bench.report.table());
    all_of([measured, written, shown])
}

/// Every failure, not only the first one.
fn all_of<const N: usize>(results: [anyhow::Result<()>; N]) -> anyhow::Result<()> {
    let failures: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    let texts: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
    anyhow::ensure!(texts.is_empty(), "{}", texts.join("\n"));
    Ok(())
}

/// Prints; who has read enough and closed the pipe is no error.
fn show(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("the table cannot be printed"),
    }
}

fn compare(args: &CompareArgs) -> anyhow::Result<()> {
    let (a, b) = (Report::read(&args.a)?, Report::read(&args.b)?);
    let comparison = Comparison::of(&a, &b);
    show(&comparison.text())?;
    if let Some(factor) = args.fail_above {
        let above = comparison.above(factor);
        anyhow::ensure!(
            above.is_empty(),
            "{} medians are more than {factor}x apart, or missing:\n{}",
            above.len(),
            above.join("\n")
        );
    }
    Ok(())
}

/// A scenario as it is without options.
fn defaults<S: Scenario + Args + 'static>(short: bool) -> anyhow::Result<Box<dyn Scenario>> {
    let command = S::augment_args(Command::new("all").no_binary_name(true));
    let matches = command.try_get_matches_from(std::iter::empty::<&str>())?;
    let mut scenario = S::from_arg_matches(&matches)?;
    if short {
        scenario.shorten();
    }
    Ok(Box::new(scenario))
}

#[cfg(test)]
mod tests {
    use clgw::config::Crypto;

    use super::*;

    fn read(args: &str) -> Result<Cli, clap::Error> {
        let args: Vec<OsString> = args.split_whitespace().map(OsString::from).collect();
        Cli::read(&args)
    }

    fn command(args: &str) -> What {
        read(args).unwrap_or_else(|error| panic!("{error}")).command
    }

    #[test]
    fn short_runs_keep_what_is_given() {
        let What::Scale(args) = command("b scale --short") else { panic!() };
        assert_eq!((args.connections, args.repetitions, args.bursts), (vec![1, 1_000], 5, 100));
        let What::Scale(args) = command("b scale --short --connections 50000,7 --bursts 400")
        else {
            panic!()
        };
        assert_eq!((args.connections, args.repetitions, args.bursts), (vec![50_000, 7], 5, 400));
        let What::Scale(args) = command("b --short scale --repetitions 15") else { panic!() };
        assert_eq!((args.repetitions, args.bursts), (15, 100));
        let What::Hop(args) = command("b hop --short --window-mib 32") else { panic!() };
        assert_eq!((args.repetitions, args.window_mib), (5, 32));
        // Every library that was built, unless told otherwise.
        assert_eq!(args.crypto, Crypto::ALL);
        let What::Records(args) = command("b records --crypto ring --short") else { panic!() };
        assert_eq!((args.crypto, args.repetitions), (vec![Crypto::Ring], 5));
        // Also where a scenario picks from a list.
        let What::Wan(args) = command("b wan --rtt 150 --short") else { panic!() };
        assert_eq!((args.rtt, args.fault.len()), (vec![150], 2));
        let What::E2e(args) = command("b e2e --repetitions 2 --short") else { panic!() };
        assert_eq!(args.repetitions, 2);
        let What::Memory(args) = command("b memory --connections 2000 --short") else { panic!() };
        assert_eq!(args.connections, [2_000]);
        for (args, seconds) in [("--seconds 7 --short", 9), ("--short", 4)] {
            let What::Generate(args) = command(&format!("b generate streams {args}")) else {
                panic!()
            };
            assert_eq!(args.estimate().as_secs(), seconds, "and two for the rest");
        }
    }

    #[test]
    fn nothing_is_no_number_of_measurements() {
        for args in [
            "b hop --repetitions 0",
            "b hop --window-mib 0",
            "b cores --workers 0",
            "b cores --workers 65",
            "b records --crypto openssl",
            "b scale --repetitions 0",
            "b scale --bursts 0",
            "b scale --connections 0",
            "b scale --connections 120001",
            "b compare a b --fail-above 0.5",
            "b compare a b --fail-above nan",
        ] {
            assert!(read(args).is_err(), "{args}");
        }
    }

    #[test]
    fn every_failure_is_told() {
        let failed = |text: &str| Err(anyhow::anyhow!("because").context(text.to_owned()));
        assert!(all_of([Ok(()), Ok(())]).is_ok());
        let error = all_of([failed("one"), Ok(()), failed("two")]).unwrap_err();
        assert_eq!(error.to_string(), "one: because\ntwo: because");
    }
}
