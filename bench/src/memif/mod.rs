//! `memif`: the generator, gateway A and gateway B in three processes, joined by shared memory:
//! no kernel in the path.

mod bed;
mod child;
mod config;
mod row;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use dpdk_bindings::{EalConfig, HugePages};

pub use bed::{OneArgs, run as run_one};

use self::bed::{BedArgs, CONCURRENCY, WARM_UP, steps};
use self::child::Said;
use crate::environment;
use crate::interrupt::Interrupt;
use crate::lab::{LabArgs, program};
use crate::report::Report;
use crate::scenario::{Bench, Scenario};

/// Of one MTU: three processes and their tunnels.
const START: Duration = Duration::from_secs(4);
/// Between two measurements.
const BETWEEN: Duration = Duration::from_millis(500);
/// Percent of its CPU that a gateway has which nobody disturbs.
const UNDISTURBED: f64 = 90.0;

#[derive(Clone, Debug, Args)]
pub struct MemifArgs {
    #[command(flatten)]
    bed: BedArgs,
    #[arg(long, value_delimiter = ',', default_values_t = [1500, 9000])]
    mtu: Vec<usize>,
}

impl MemifArgs {
    /// The words for the report: what two runs have to have in common.
    fn pinning(&self, zero_copy: bool) -> String {
        let pages = if zero_copy { "hugepages, zero-copy" } else { "normal pages, copies" };
        format!(
            "gateway A on CPU {} ({}); gateway B, the generator and what watches them on CPU {}; {pages}",
            self.bed.gateway_cpu, self.bed.gateway_idle, self.bed.other_cpu
        )
    }

    /// Returns what failed.
    fn measure(&self, zero_copy: bool, bench: &mut Bench) -> anyhow::Result<Vec<String>> {
        let mut failures = Vec::new();
        for &mtu in &self.mtu {
            bench.step(&format!("memif: MTU {mtu}"), self.expected())?;
            match one(self, mtu, zero_copy, &bench.interrupt, &mut bench.report) {
                Ok(more) => failures.extend(more.iter().map(|why| format!("MTU {mtu}: {why}"))),
                Err(error) => {
                    bench.interrupt.check()?;
                    failures.push(format!("MTU {mtu}: {error:#}"));
                }
            }
        }
        Ok(failures)
    }

    /// Of one MTU.
    fn expected(&self) -> Duration {
        let each = WARM_UP + Duration::from_secs(self.bed.seconds) + BETWEEN;
        START + each * steps(&self.bed).len() as u32
    }
}

impl Scenario for MemifArgs {
    fn name(&self) -> &'static str {
        "memif"
    }

    fn estimate(&self) -> Duration {
        self.expected() * self.mtu.len() as u32
    }

    /// One MTU and short measurements.
    fn shorten(&mut self) {
        self.bed.seconds = self.bed.seconds.min(3);
        self.mtu.truncate(1);
    }

    /// # Errors
    /// Something needed is missing, SIGINT or SIGTERM came, or all measurements that failed, after
    /// the last one. Rows that were measured are in the report.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        for name in ["setpriv", "taskset"] {
            program(name, "util-linux")?;
        }
        program("kill", "procps")?;
        bench.report.peer("clgw", environment::program(&self.bed.lab.program()?)?);
        self.bed.leave_a_alone()?;
        // Ends that lend their memory share it as a file per memory segment, which are too many
        // unless they are huge.
        let eal = EalConfig {
            huge: HugePages::Use { in_memory: true },
            memory_mib: 3 * self.bed.memory_mib,
            ..EalConfig::default()
        };
        let zero_copy = eal.check_huge_pages().is_ok();
        bench.report.pinning(self.name(), self.pinning(zero_copy));
        let failures = self.measure(zero_copy, bench);
        notes(self, zero_copy, &mut bench.report);
        let failures = failures?;
        ensure!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
        Ok(())
    }
}

/// Measures with one MTU, in a process of its own; returns what failed.
fn one(
    args: &MemifArgs,
    mtu: usize,
    zero_copy: bool,
    interrupt: &Interrupt,
    report: &mut Report,
) -> anyhow::Result<Vec<String>> {
    let dir = tempfile::Builder::new()
        .prefix("clgw-memif-")
        .tempdir()
        .context("no temporary directory; make room or set TMPDIR")?;
    let lab = LabArgs { clgw: Some(args.bed.lab.program()?) };
    let bed = BedArgs { lab, ..args.bed.clone() };
    let one = OneArgs { bed, mtu, dir: dir.path().to_owned(), zero_copy };
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(std::env::current_exe().context("path of this program")?)
        .arg("memif-one")
        .args(one.words()?);
    let (mut rows, mut had_cpu) = (0, f64::INFINITY);
    let mut failures = Vec::new();
    let status = child::run(command, interrupt, &mut |said| match said {
        Said::Row(row) => {
            had_cpu = had_cpu.min(row.had_cpu);
            row.report(mtu, report);
            rows += 1;
        }
        Said::Failed(why) => failures.push(why),
    })?;
    dir.close().context("the temporary directory is left behind")?;
    interrupt.check()?;
    if had_cpu < UNDISTURBED {
        report.note(format!(
            "memif: MTU {mtu}: WARNING: A had as little as {had_cpu:.0} % of its CPU, so others \
             used the machine: only the figures per busy core say something"
        ));
    }
    let wanted = steps(&args.bed).len();
    let told = rows + failures.len();
    if told < wanted && (failures.is_empty() || !status.success()) {
        failures.push(format!(
            "{rows} of {wanted} measurements were made, then the process ended with {status}"
        ));
    } else if !status.success() {
        report.note(format!(
            "memif: MTU {mtu}: everything was done, then the process ended with {status}: \
             net_memif of DPDK 22.11 may crash at the end of its peer"
        ));
    }
    Ok(failures)
}

fn notes(args: &MemifArgs, zero_copy: bool, report: &mut Report) {
    let BedArgs { seconds, rate, .. } = args.bed;
    let memory = match zero_copy {
        true => {
            "hugepages; A's ports lend their buffers to the other end (zero-copy), which copies"
        }
        false => "normal pages, since there are not enough hugepages; each side copies every frame",
    };
    report.note(format!(
        "memif: generator (client) - gateway A - gateway B - generator (server), three processes \
         joined by net_memif, AES-128-GCM, no checksum or segmentation offload; {memory}. \
         {seconds} s each, samples of a second",
    ));
    report.note(
        "memif: A busy = time of the turns of A's poll loop that found work, from its own counters \
         (SIGUSR1), by the time between two readings in the window. A, busy core = what A carried \
         in that time, divided by its busy time and by the share that its thread had of its CPU: \
         what one core would do if it never waited. Batches of a busier core are larger and \
         cheaper, so this is an estimate from below; where others had much of A's CPU, caches were \
         theirs as well",
    );
    report.note(format!(
        "memif: gateway B (idle: sleep) and the generator share a CPU and are the limit of Gb/s, \
         requests and connections; they are in the latencies as well. Closed loop: \
         {CONCURRENCY} at a time. {rate}/s due: latency counts from when a request was due, 64 \
         bytes there and back; unanswered ones are in it with the time until the end. Warm-up \
         {} s",
        WARM_UP.as_secs()
    ));
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    #[test]
    fn runs_on_other_pages_are_told_apart() {
        let command = MemifArgs::augment_args(clap::Command::new("memif").no_binary_name(true));
        let matches = command.try_get_matches_from([] as [&str; 0]).unwrap();
        let args = MemifArgs::from_arg_matches(&matches).unwrap();
        let [huge, normal] = [true, false].map(|zero_copy| args.pinning(zero_copy));
        assert!(huge.ends_with("; hugepages, zero-copy"), "{huge}");
        assert!(normal.ends_with("; normal pages, copies"), "{normal}");
    }
}
