//! `scale`: what a frame costs, and a connection, as the number of open connections grows.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use clgw::config::Crypto;
use clgw::sim::{Offload, Spread};
use clgw::tls::Suite;

use crate::apps::{Caller, Echo, MESSAGE, Orders};
use crate::chain::{Chain, IMPORTS, MAX_CONNECTIONS, Setup};
use crate::environment::meminfo;
use crate::scenario::{Bench, Scenario, at_least_one};

/// Messages under way at a time: about a burst.
const BURST: usize = 32;
/// Connections that are opened at a time; well below the limits on half-open ones.
const BATCH: usize = 256;
/// Connections after which the memory for the rest is known.
const PROBE: usize = 2 * BATCH;
/// Memory that is left to the machine.
const SPARE: u64 = 1 << 30;
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, Args)]
pub struct ScaleArgs {
    /// Open connections, each through a tunnel of its own; up to 120,000. Each takes about
    /// 270 KB, or 90 KB with MALLOC_TOP_PAD_=0 in the environment (see bench/README.md).
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000, 50_000],
          value_parser = at_least_one::<usize>().range(..=MAX_CONNECTIONS as u64))]
    pub connections: Vec<usize>,
    /// Windows per setting; each gives one sample.
    #[arg(long, default_value_t = 15, value_parser = at_least_one::<usize>())]
    pub repetitions: usize,
    /// Bursts in a window.
    #[arg(long, default_value_t = 400, value_parser = at_least_one::<usize>())]
    pub bursts: usize,
}

impl ScaleArgs {
    /// Of one number of connections: one is opened in 1.2 ms, most of it for two handshakes, and a
    /// frame goes around in 20 us.
    fn expected(&self, connections: usize) -> Duration {
        let frames = 2 * self.repetitions * self.bursts * BURST;
        Duration::from_micros((connections * 1_200 + frames * 20) as u64)
    }
}

impl Scenario for ScaleArgs {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn estimate(&self) -> Duration {
        self.connections.iter().map(|n| self.expected(*n)).sum()
    }

    fn shorten(&mut self) {
        self.connections.retain(|n| *n <= 1_000);
        self.repetitions = self.repetitions.min(5);
        self.bursts = self.bursts.min(100);
    }

    /// # Errors
    /// Connections are not established, or messages not answered.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        bench.pin(self.name())?;
        let mut failures = Vec::new();
        for &connections in &self.connections {
            let label = format!("scale: {connections} connections");
            bench.step(&label, self.expected(connections))?;
            if let Err(error) = measure(self, connections, bench) {
                bench.interrupt.check()?;
                failures.push(format!("{connections} connections: {error:#}"));
            }
        }
        bench.report.note(format!(
            "scale: each message is {MESSAGE} bytes and is answered by as many; {BURST} are under \
             way at a time, all on one connection (one hot) or on connections drawn at random \
             (random). Cycles are those of gateway A's turns by its received frames: plain \
             segments, records and acknowledgements"
        ));
        bench.report.note(
            "scale: memory is what the process grew by, divided by the connections: both gateways \
             (4 TCP legs, 2 TLS ends) and both endpoints (2 TCP legs with rings of 4 KiB) \
             together; rings count as far as they were touched",
        );
        ensure!(
            failures.is_empty(),
            "{} settings failed:\n{}",
            failures.len(),
            failures.join("\n")
        );
        Ok(())
    }
}

fn measure(args: &ScaleArgs, connections: usize, bench: &mut Bench) -> anyhow::Result<()> {
    let mut chain = Chain::new(&Setup {
        mtu: 1500,
        crypto: Crypto::Ring,
        suite: Suite::Aes128Gcm,
        offload: Offload::Checksums,
        service_kib: 32,
        peer_kib: 32,
        host_buffer: 4_096,
        frames: 4_096,
        workers: 1,
        spread: Spread::Rss,
    })?;
    for (_, port) in IMPORTS {
        chain.server.listen(port, Box::new(|_| Box::new(Echo::default())));
    }
    chain.run_until("warm tunnels", PATIENCE, |c| c.counters().0.tunnels_opened > 0)?;
    let before = resident()?;
    let started = std::time::Instant::now();
    let mut open: Vec<(usize, Rc<Orders>)> = Vec::with_capacity(connections);
    while open.len() < connections {
        let first = open.len();
        for n in first..connections.min(first + BATCH) {
            let orders = Rc::new(Orders::default());
            orders.owed.set(1);
            let app = Box::new(Caller(Rc::clone(&orders)));
            let number = chain.connect(n % IMPORTS.len(), app)?;
            open.push((number, orders));
        }
        let batch: Vec<_> = open[first..].iter().map(|(_, o)| Rc::clone(o)).collect();
        chain.run_until("opening connections", PATIENCE, |_| {
            batch.iter().all(|o| o.answered.get() >= MESSAGE as u64)
        })?;
        if open.len() == PROBE && connections > PROBE {
            let each = resident()?.saturating_sub(before) / PROBE as u64;
            ensure_memory(
                connections,
                each * (connections - PROBE) as u64,
                meminfo("MemAvailable")?,
            )?;
        }
        bench.interrupt.check()?;
        if open.len().is_multiple_of(5_120) {
            let seconds = started.elapsed().as_secs();
            let line = format!("scale: {} of {connections} open after {seconds} s", open.len());
            bench.progress.say(&line);
        }
    }
    let grown = resident()?.saturating_sub(before) as f64 / connections as f64;
    let parameters = |pattern: &str| {
        [("open connections", connections.to_string()), ("frames of", pattern.to_owned())]
    };
    bench.report.add("scale", &parameters("one hot"), "memory", "bytes/connection", vec![grown]);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for hot in [true, false] {
        let mut samples = Vec::new();
        for _ in 0..args.repetitions {
            let (before, _) = chain.meters();
            for _ in 0..args.bursts {
                bench.interrupt.check()?;
                burst(&mut chain, &open, hot, &mut random)?;
            }
            let spent = chain.meters().0.since(before);
            ensure!(spent.rx_frames > 0, "gateway A received nothing");
            samples.push(spent.cycles as f64 / spent.rx_frames as f64);
        }
        let pattern = if hot { "one hot" } else { "random" };
        bench.report.add("scale", &parameters(pattern), "cost of a frame", "cycles", samples);
    }
    chain.ensure_no_loss()
}

fn burst(
    chain: &mut Chain,
    open: &[(usize, Rc<Orders>)],
    hot: bool,
    random: &mut u64,
) -> anyhow::Result<()> {
    let mut expected: Vec<(Rc<Orders>, u64)> = Vec::with_capacity(BURST);
    for _ in 0..BURST {
        // xorshift64: the choice must be quick and spread, not unpredictable.
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let chosen = if hot { 0 } else { (*random % open.len() as u64) as usize };
        let (number, orders) = &open[chosen];
        orders.owed.set(orders.owed.get() + 1);
        chain.client.nudge(*number);
        match expected.iter_mut().find(|(o, _)| Rc::ptr_eq(o, orders)) {
            Some((_, bytes)) => *bytes += MESSAGE as u64,
            None => {
                let bytes = orders.answered.get() + MESSAGE as u64;
                expected.push((Rc::clone(orders), bytes));
            }
        }
    }
    chain.run_until("answers", PATIENCE, |_| {
        expected.iter().all(|(orders, bytes)| orders.answered.get() >= *bytes)
    })
}

/// # Errors
/// The machine has not got `needed` bytes more: it would begin to kill processes.
fn ensure_memory(connections: usize, needed: u64, available: u64) -> anyhow::Result<()> {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    ensure!(
        needed + SPARE <= available,
        "{connections} connections need {:.1} GB more, and {:.1} GB are available, of which {:.1} \
         are left to the machine: give fewer --connections, or run with MALLOC_TOP_PAD_=0, which \
         leaves rings alone until they are used",
        gb(needed),
        gb(available),
        gb(SPARE)
    );
    Ok(())
}

/// Resident bytes of this process.
fn resident() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
    Ok(pages.context("/proc/self/statm has no second number")? * 4_096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_memory_has_no_room_for() {
        assert!(ensure_memory(50_000, 13 << 30, 15 << 30).is_ok());
        let error = ensure_memory(100_000, 26_000_000_000, 20_000_000_000).unwrap_err().to_string();
        assert!(error.starts_with("100000 connections need 26.0 GB more, and 20.0 GB are"));
    }

    #[test]
    fn an_interrupt_ends_it_wherever_it_is() {
        let mut bench = Bench::new(None).unwrap();
        bench.interrupt.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        let args = ScaleArgs { connections: vec![3], repetitions: 1, bursts: 1 };
        let error = measure(&args, 3, &mut bench).unwrap_err().to_string();
        assert!(error.starts_with("interrupted"), "{error}");
        assert!(bench.report.measurements.is_empty());
    }

    #[test]
    fn one_that_fails_does_not_keep_the_others() {
        // More than memory holds.
        let args = ScaleArgs { connections: vec![20_000_000, 2], repetitions: 1, bursts: 1 };
        let mut bench = Bench::new(None).unwrap();
        let error = args.run(&mut bench).unwrap_err().to_string();
        assert!(error.starts_with("1 settings failed:\n"), "{error}");
        assert_eq!(bench.report.samples(), 3);
        assert_eq!(bench.report.notes.len(), 2);
    }

    #[test]
    fn every_number_of_connections_is_measured() {
        let args = ScaleArgs { connections: vec![1, 40], repetitions: 2, bursts: 3 };
        let mut bench = Bench::new(None).unwrap();
        args.run(&mut bench).unwrap();
        let report = &bench.report;
        let frames: Vec<_> =
            report.measurements.iter().filter(|m| m.metric == "cost of a frame").collect();
        assert_eq!(frames.len(), 4);
        assert!(frames.iter().all(|m| m.samples.len() == 2 && m.summary.min > 0.0));
    }
}
