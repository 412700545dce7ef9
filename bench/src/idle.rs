//! `idle`: what a gateway without work costs, and how late it sees what comes then.
//!
//! One gateway on a virtio-user port, whose other end asks it for its MAC address: an answer takes a
//! microsecond to make, so all the rest is waiting until the gateway looks.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use clgw::sim::probe::Probe;
use hdrhistogram::Histogram;

use crate::environment;
use crate::interrupt::Interrupt;
use crate::lab::runtime_dir::{RuntimeDir, file_prefix};
use crate::lab::usage::process_nanos;
use crate::lab::{LabArgs, PATIENCE, Process, SITES, fabric, program};
use crate::objects::Objects;
use crate::scenario::{Bench, Scenario, at_least_one};

const GATEWAY: &str = "10.1.0.1";
const PROBE: &str = "10.1.0.2";
/// Without an answer for so long, the question is lost.
const LOST: Duration = Duration::from_millis(100);
/// A gateway's start and end.
const START: Duration = Duration::from_secs(2);
/// Before each measurement.
const SETTLE: Duration = Duration::from_millis(300);

#[derive(Clone, Debug, Args)]
pub struct IdleArgs {
    #[command(flatten)]
    pub lab: LabArgs,
    /// What the gateway's worker does without work (workers.idle).
    #[arg(
        long,
        value_delimiter = ',',
        default_values = ["poll", "sleep", "interrupt"],
        value_parser = ["poll", "sleep", "interrupt"],
    )]
    pub policies: Vec<String>,
    /// Between two questions, microseconds: half to one and a half of it. 0: nothing is asked.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 20, 200, 1_000, 50_000])]
    pub gaps_us: Vec<u64>,
    /// Of each measurement.
    #[arg(long, default_value_t = 2, value_parser = at_least_one::<u64>())]
    pub seconds: u64,
    #[arg(long, default_value_t = 5, value_parser = at_least_one::<usize>())]
    pub repetitions: usize,
    /// CPU of the gateway.
    #[arg(long, default_value_t = 0)]
    pub gateway_cpu: u16,
    /// CPU of what asks it, which never sleeps.
    #[arg(long, default_value_t = 1)]
    pub other_cpu: u16,
}

impl IdleArgs {
    /// With one gap.
    fn expected(&self) -> Duration {
        (SETTLE + Duration::from_secs(self.seconds)) * self.repetitions as u32
    }
}

impl Scenario for IdleArgs {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn estimate(&self) -> Duration {
        (START + self.expected() * self.gaps_us.len() as u32) * self.policies.len() as u32
    }

    fn shorten(&mut self) {
        self.repetitions = 1;
        self.seconds = 1;
    }

    /// # Errors
    /// Something needed is missing, or a gateway does not answer.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        for (name, package) in
            [("setpriv", "util-linux"), ("taskset", "util-linux"), ("kill", "procps")]
        {
            program(name, package)?;
        }
        let clgw = self.lab.program()?;
        bench.report.peer("clgw", environment::program(&clgw)?);
        dpdk_bindings::pin_current_thread(self.other_cpu).context("--other-cpu")?;
        let Self { gateway_cpu, other_cpu, .. } = self;
        bench.report.pinning(
            self.name(),
            format!("the gateway on CPU {gateway_cpu}, what asks it on CPU {other_cpu}"),
        );
        let dir = tempfile::Builder::new()
            .prefix("clgw-idle-")
            .tempdir()
            .context("no temporary directory; make room or set TMPDIR")?;
        let home = fabric(&clgw, dir.path())?.join(SITES[0]);
        let socket = dir.path().join("vhost");
        let mut probe = Probe::listen(&socket, PROBE.parse()?, GATEWAY.parse()?)?;
        for policy in &self.policies {
            bench.step(&format!("idle: {policy}: start"), START)?;
            let prefix = file_prefix(std::process::id(), policy);
            let _runtime_dir = RuntimeDir::of(prefix.clone());
            let file = configure(&home, policy, *gateway_cpu, &socket, &prefix)?;
            let command = [&clgw.display().to_string(), "run", "--config", &file];
            let interrupt = bench.interrupt.clone();
            let mut gateway =
                Process::spawn(policy, dir.path(), &[], *gateway_cpu, &command, &interrupt)?;
            gateway.wait_for(" ready ", PATIENCE)?;
            let measured = wait_until_open(&mut probe, &interrupt)
                .and_then(|()| self.measure(policy, &gateway, &mut probe, bench));
            measured.map_err(|error| error.context(gateway.last_lines()))?;
            let status = gateway.stop()?;
            ensure!(status.success(), "the gateway ended with {status} after SIGTERM");
        }
        bench.report.note(
            "idle: one gateway on a virtio-user port without connections; the other end asks it for \
             its MAC address by ARP, one question at a time, half to one and a half of the gap after \
             the one before was due, and latency counts from when a question was due. CPU = time of \
             all threads of the gateway",
        );
        Ok(())
    }
}

impl IdleArgs {
    fn measure(
        &self,
        policy: &str,
        gateway: &Process,
        probe: &mut Probe,
        bench: &mut Bench,
    ) -> anyhow::Result<()> {
        for &gap in &self.gaps_us {
            let words = if gap == 0 { "none".to_owned() } else { format!("{gap} us") };
            bench.step(&format!("idle: {policy}: questions: {words}"), self.expected())?;
            let parameters = [("idle", policy.to_owned()), ("gap", words)];
            let (mut cpu, mut quantiles) = (Vec::new(), [const { Vec::new() }; 3]);
            let mut lost = 0;
            for _ in 0..self.repetitions {
                std::thread::sleep(SETTLE);
                let (begin, before) = (Instant::now(), process_nanos(gateway.pid())?);
                let window = Duration::from_secs(self.seconds);
                if gap == 0 {
                    std::thread::sleep(window);
                } else {
                    let asked = ask(probe, window, Duration::from_micros(gap), &bench.interrupt)?;
                    lost += asked.lost;
                    for (samples, quantile) in quantiles.iter_mut().zip([0.5, 0.99, 1.0]) {
                        let nanos = asked.histogram.value_at_quantile(quantile);
                        samples.push(nanos as f64 / 1e3);
                    }
                }
                let used = (process_nanos(gateway.pid())? - before) as f64 / 1e9;
                cpu.push(used / begin.elapsed().as_secs_f64() * 100.0);
            }
            let mut add = |metric, unit, samples| {
                bench.report.add("idle", &parameters, metric, unit, samples)
            };
            add("CPU", "%", cpu);
            for (metric, samples) in ["p50", "p99", "max"].into_iter().zip(quantiles) {
                add(metric, "us", samples);
            }
            if gap > 0 {
                add("lost", "", vec![lost as f64]);
            }
        }
        Ok(())
    }
}

/// `gateway.yaml` and the objects, which are none but what a gateway needs; the file.
fn configure(
    home: &Path,
    policy: &str,
    cpu: u16,
    socket: &Path,
    prefix: &str,
) -> anyhow::Result<String> {
    let file = home.join("gateway.yaml");
    let device = format!("net_virtio_user0,queues=1,cq=1,path={}", socket.display());
    let config = format!(
        "peer: {{ name: {} }}\n\
         tls: {{ ca: ../cert.pem, cert: cert.pem, key: key.pem }}\n\
         objects: objects/\n\
         workers: {{ cpus: [{cpu}], idle: {policy} }}\n\
         eal: {{ hugepages: off, memory_mib: 64, file_prefix: {prefix} }}\n\
         ports: [{{ name: port0, device: \"{device}\", side: both, addresses: [{GATEWAY}/24] }}]\n",
        SITES[0]
    );
    fs::write(&file, config).with_context(|| file.display().to_string())?;
    fs::create_dir_all(home.join("objects")).context("objects")?;
    let objects = Objects::new(SITES[1], &[PROBE]).into_text();
    fs::write(home.join("objects/objects.yaml"), objects).context("objects.yaml")?;
    Ok(file.display().to_string())
}

fn wait_until_open(probe: &mut Probe, interrupt: &Interrupt) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        // None is taken before the gateway's port has given its buffers.
        if probe.ask() && answered(probe, Instant::now() + LOST).is_some() {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the gateway does not answer");
        interrupt.check()?;
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Looks without a pause; when the answer was there, if it came in time.
fn answered(probe: &mut Probe, until: Instant) -> Option<Instant> {
    loop {
        let answered = probe.is_answered();
        let now = Instant::now();
        if answered {
            return Some(now);
        }
        if now >= until {
            return None;
        }
        std::hint::spin_loop();
    }
}

struct Asked {
    /// Nanoseconds.
    histogram: Histogram<u64>,
    lost: u64,
}

fn ask(
    probe: &mut Probe,
    window: Duration,
    gap: Duration,
    interrupt: &Interrupt,
) -> anyhow::Result<Asked> {
    let mut asked = Asked { histogram: Histogram::new(3)?, lost: 0 };
    let begin = Instant::now();
    let mut due = begin;
    for number in 0u32.. {
        due += part(number, gap);
        if due >= begin + window {
            break;
        }
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        interrupt.check()?;
        let sent = probe.ask();
        match answered(probe, Instant::now() + LOST).filter(|_| sent) {
            Some(at) => asked.histogram.record(at.duration_since(due).as_nanos() as u64)?,
            None => asked.lost += 1,
        }
    }
    ensure!(!asked.histogram.is_empty(), "no question was answered: take more --seconds");
    Ok(asked)
}

/// Half to one and a half of the gap, evenly spread: questions of one distance would always meet the
/// same phase of the gateway's sleeps.
fn part(number: u32, gap: Duration) -> Duration {
    const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
    gap.mul_f64(0.5 + (f64::from(number) * GOLDEN_RATIO).fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_spread_evenly_around_their_mean() {
        let gap = Duration::from_micros(100);
        let parts: Vec<Duration> = (0..1_000).map(|n| part(n, gap)).collect();
        let mean = parts.iter().sum::<Duration>() / 1_000;
        assert!(mean.abs_diff(gap) < Duration::from_micros(1), "{mean:?}");
        for tenth in 0..10u32 {
            let from = gap / 2 + gap / 10 * tenth;
            let there = parts.iter().filter(|p| (from..from + gap / 10).contains(*p)).count();
            assert!((95..=105).contains(&there), "{there} of 1000 from {from:?}");
        }
    }
}
