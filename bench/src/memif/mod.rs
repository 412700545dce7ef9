//! `memif`: the generator, gateway A and gateway B in three processes, joined by shared memory:
//! no kernel in the path.

mod bed;
mod config;
mod row;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum as _};
use dpdk_bindings::{EalConfig, HugePages};

pub use bed::{OneArgs, run as run_one};

use self::bed::{BedArgs, CONCURRENCY, WARM_UP, steps};
use self::row::Row;
use crate::interrupt::Interrupt;
use crate::lab::{program, run_program};
use crate::report::Report;
use crate::scenario::{Bench, Scenario};

/// Of one MTU: three processes and their tunnels.
const START: Duration = Duration::from_secs(4);
/// Between two measurements.
const BETWEEN: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(50);
/// Percent of its CPU that a gateway has which nobody disturbs.
const UNDISTURBED: f64 = 90.0;
/// After SIGTERM.
const GRACE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Args)]
pub struct MemifArgs {
    #[command(flatten)]
    bed: BedArgs,
    #[arg(long, value_delimiter = ',', default_values_t = [1500, 9000])]
    mtu: Vec<usize>,
}

impl MemifArgs {
    /// The words for the report.
    fn pinning(&self) -> String {
        format!(
            "gateway A on CPU {}; gateway B and the generator on CPU {}",
            self.bed.gateway_cpu, self.bed.other_cpu
        )
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
    /// Something needed is missing, a measurement moved nothing, or SIGINT or SIGTERM came. Rows
    /// that were measured before are in the report.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        for name in ["setpriv", "taskset"] {
            program(name, "util-linux")?;
        }
        program("kill", "procps")?;
        self.bed.lab.program()?;
        bench.report.pinning(self.name(), self.pinning());
        // Ends that lend their memory share it as a file per memory segment, which are too many
        // unless they are huge.
        let eal = EalConfig {
            huge: HugePages::Use { in_memory: true },
            memory_mib: 3 * self.bed.memory_mib,
            ..EalConfig::default()
        };
        let zero_copy = eal.check_huge_pages().is_ok();
        for &mtu in &self.mtu {
            bench.step(&format!("memif: MTU {mtu}"), self.expected())?;
            let dir = tempfile::Builder::new()
                .prefix("clgw-memif-")
                .tempdir()
                .context("no temporary directory; make room or set TMPDIR")?;
            one(self, mtu, zero_copy, dir.path(), &bench.interrupt, &mut bench.report)
                .with_context(|| format!("MTU {mtu}"))?;
        }
        notes(self, zero_copy, &mut bench.report);
        Ok(())
    }
}

/// Measures with one MTU, in a process of its own.
fn one(
    args: &MemifArgs,
    mtu: usize,
    zero_copy: bool,
    dir: &Path,
    interrupt: &Interrupt,
    report: &mut Report,
) -> anyhow::Result<()> {
    let BedArgs { seconds, rate, gateway_cpu, other_cpu, generator_idle, memory_mib, .. } =
        &args.bed;
    let idle = generator_idle.to_possible_value().context("--generator-idle")?;
    let this = std::env::current_exe().context("path of this program")?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(this)
        .args(["memif-one", "--mtu", &mtu.to_string(), "--seconds", &seconds.to_string()])
        .args(["--rate", &rate.to_string(), "--memory-mib", &memory_mib.to_string()])
        .args(["--gateway-cpu", &gateway_cpu.to_string(), "--other-cpu", &other_cpu.to_string()])
        .args(["--generator-idle", idle.get_name()])
        .arg("--clgw")
        .arg(args.bed.lab.program()?)
        .arg("--dir")
        .arg(dir);
    if zero_copy {
        command.arg("--zero-copy");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("setpriv does not start; install util-linux")?;
    let stdout = child.stdout.take().context("its output")?;
    let (send, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    let (mut rows, mut had_cpu) = (0, f64::INFINITY);
    let mut told = None;
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) => {
                let row: Row = serde_json::from_str(&line).with_context(|| line.clone())?;
                had_cpu = had_cpu.min(row.had_cpu);
                row.report(mtu, report);
                rows += 1;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if interrupt.is_set() {
                    end(&mut child, &mut told);
                }
            }
            // Its end of the pipe is closed: it has ended.
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let _ = reader.join();
    let status = child.wait().context("its status")?;
    interrupt.check()?;
    let wanted = steps(&args.bed).len();
    if rows < wanted {
        bail!("{rows} of {wanted} measurements were made, then the process ended with {status}");
    }
    if had_cpu < UNDISTURBED {
        report.note(format!(
            "memif: MTU {mtu}: WARNING: A had as little as {had_cpu:.0} % of its CPU, so others \
             used the machine: only the figures per busy core say something"
        ));
    }
    if !status.success() {
        report.note(format!(
            "memif: MTU {mtu}: everything was measured, then the process ended with {status}: \
             net_memif of DPDK 22.11 may crash at the end of its peer"
        ));
    }
    Ok(())
}

/// SIGTERM, and some time later SIGKILL.
fn end(child: &mut Child, told: &mut Option<Instant>) {
    match told {
        None => {
            // Gone since: as well.
            let _ = run_program("kill", &["-TERM", &child.id().to_string()]);
            *told = Some(Instant::now());
        }
        Some(at) if at.elapsed() > GRACE => {
            let _ = child.kill();
        }
        Some(_) => {}
    }
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
