//! Instructions that the gateway's steps take, under valgrind: the same whatever else the machine
//! does, so that growth is noticed before it can be timed.
//!
//! `cargo bench --bench counts [-- [--update] [FILTER]]` counts them, compares with
//! `baseline.json` beside this file and fails above the tolerance. To that end it runs itself as
//! a gungraun benchmark, which runs it under valgrind.

mod decide;
mod lookup;
mod parse;
mod record;
mod relay;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;
use clap::Parser;
use clgw_bench::gate::{self, Ratio, Unit};

/// Set for the run that gungraun is to handle.
const INNER: &str = "CLGW_COUNTS_INNER";
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts/baseline.json");

/// What the counts of a group are for.
const UNITS: [(&str, Unit); 7] = [
    ("decide/", Unit { items: decide::DECISIONS as u64, item: "decision" }),
    ("lookup/", Unit { items: lookup::LOOKUPS as u64, item: "lookup" }),
    ("parse/", Unit { items: parse::FRAMES as u64, item: "frame" }),
    ("record/", Unit { items: record::RECORDS as u64, item: "record" }),
    ("relay/step", Unit { items: relay::FRAMES, item: "frame" }),
    ("relay/workers", Unit { items: relay::FLOWS as u64 * relay::FRAMES_EACH, item: "frame" }),
    ("relay/tunnel_open", Unit { items: relay::OPENED as u64, item: "connection" }),
];

/// What several workers may cost of what one costs for the same work: nothing is shared while
/// frames arrive where they belong, a frame that does not is looked at twice, and a connection whose
/// frames overtake each other has gaps to report.
const RATIOS: [Ratio; 4] = [
    Ratio { gate: "relay/workers/two", of: "relay/workers/one", most: 1.03 },
    Ratio { gate: "relay/workers/four", of: "relay/workers/one", most: 1.05 },
    Ratio { gate: "relay/workers/four_own_hash", of: "relay/workers/one", most: 1.2 },
    Ratio { gate: "relay/workers/four_random", of: "relay/workers/one", most: 1.85 },
];

mod benchmarks {
    use gungraun::{Callgrind, LibraryBenchmarkConfig, main};

    use super::decide::decide;
    use super::lookup::lookup;
    use super::parse::parse;
    use super::record::record;
    use super::relay::relay;

    main!(
        // Simulated caches would take half of the time again, and nobody asks them.
        config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["cache-sim=no"])),
        library_benchmark_groups = [decide, lookup, parse, record, relay]
    );

    pub(super) fn run() {
        main();
    }
}

/// Counts the instructions of the gateway's steps and compares them with the baseline.
#[derive(Debug, Parser)]
struct Args {
    /// Writes the counts as the new baseline, instead of comparing.
    #[arg(long)]
    update: bool,
    /// Only benchmarks whose path (counts::GROUP::FUNCTION::ID) fits this pattern, with * and ?.
    filter: Option<String>,
    /// cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let under_valgrind = std::env::args().nth(1).is_some_and(|a| a == "--gungraun-run");
    if under_valgrind || std::env::var_os(INNER).is_some() {
        benchmarks::run();
        return ExitCode::SUCCESS;
    }
    match count(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("counts: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn count(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(!(args.update && args.filter.is_some()), "--update takes no filter");
    let path = Path::new(BASELINE);
    let baseline = match gate::read(path) {
        // There may be none yet.
        Err(_) if args.update => BTreeMap::new(),
        result => result?,
    };
    let mut runner = Command::new(std::env::current_exe().context("this program's own path")?);
    runner.args(["--bench", "--output-format=json", "--parallel=2"]).args(&args.filter);
    runner.env(INNER, "1").stdout(Stdio::piped());
    let mut child = runner.spawn().context("this program cannot be run again")?;
    let output = child.stdout.take().context("the output of gungraun")?;
    println!("{}", gate::head());
    let mut counts = BTreeMap::new();
    // Read to its end in any case, so that gungraun does not go on alone.
    let lines: Vec<anyhow::Result<()>> = BufReader::new(output)
        .lines()
        .map(|line| {
            let (name, counted) = gate::parse_summary(&line.context("the output of gungraun")?)?;
            println!("{}", gate::row(&name, unit(&name)?, baseline.get(&name).copied(), counted));
            counts.insert(name, counted);
            Ok(())
        })
        .collect();
    let status = child.wait().context("gungraun")?;
    anyhow::ensure!(status.success(), "gungraun failed; what it printed says why");
    lines.into_iter().collect::<anyhow::Result<()>>()?;
    anyhow::ensure!(!counts.is_empty(), "nothing was counted; does the filter fit anything?");
    // Of no baseline: they hold whatever the counts are.
    for text in gate::judge_ratios(&RATIOS, &counts)? {
        println!("{text}");
    }
    if args.update {
        gate::write(path, &counts)?;
        println!("baseline of {} gates written: {}", counts.len(), path.display());
        return Ok(());
    }
    println!("{}", gate::judge(&baseline, &counts, args.filter.is_none())?);
    Ok(())
}

fn unit(name: &str) -> anyhow::Result<Unit> {
    let found = UNITS.iter().find(|(start, _)| name.starts_with(start));
    found.map(|(_, unit)| *unit).with_context(|| format!("{name} has no entry in UNITS"))
}
