//! `cores`: what a segment costs one worker and several, on devices that spread frames well,
//! otherwise and badly.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use clgw::limits::MAX_WORKERS;
use clgw::sim::Spread;

use crate::apps::MIB;
use crate::chain::{Meter, Setup};
use crate::churn;
use crate::flows::{Flows, SEGMENT};
use crate::interrupt::Interrupt;
use crate::report::Report;
use crate::scenario::{Bench, ROUNDS, Scenario, at_least_one, rounds};

/// For the windows of all connections.
const FRAMES: usize = 16_384;

#[derive(Clone, Debug, Args)]
pub struct CoresArgs {
    /// Workers of each gateway.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4],
          value_parser = at_least_one::<usize>().range(..=MAX_WORKERS as u64))]
    pub workers: Vec<usize>,
    /// Connections that are open and carry payload.
    #[arg(long, default_value_t = 64, value_parser = at_least_one::<usize>())]
    pub connections: usize,
    /// Windows per setting; each gives one sample.
    #[arg(long, default_value_t = 15, value_parser = at_least_one::<usize>())]
    pub repetitions: usize,
    /// Payload of one window, MiB.
    #[arg(long, default_value_t = 32, value_parser = at_least_one::<u64>())]
    pub window_mib: u64,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    workers: usize,
    spread: Spread,
}

impl Setting {
    fn spread(self) -> &'static str {
        match self.spread {
            Spread::Rss => "our RSS",
            Spread::OwnHash => "a hash of its own",
            Spread::Random => "chance",
        }
    }
}

impl CoresArgs {
    /// One worker gets everything, whatever the device does.
    fn settings(&self) -> Vec<Setting> {
        let several = [Spread::Rss, Spread::OwnHash, Spread::Random];
        let spreads = |workers| if workers == 1 { &several[..1] } else { &several[..] };
        let rows =
            |&workers| spreads(workers).iter().map(move |&spread| Setting { workers, spread });
        self.workers.iter().flat_map(rows).collect()
    }

    /// Of one setting. A connection takes two handshakes; per MiB both gateways and both endpoints
    /// take some 3 ms on a core of today.
    fn expected(&self) -> Duration {
        let opening = ROUNDS * self.connections;
        let windows = self.repetitions as u64 * self.window_mib;
        Duration::from_millis(100 + opening as u64 + 3 * windows)
    }
}

impl Scenario for CoresArgs {
    fn name(&self) -> &'static str {
        "cores"
    }

    fn estimate(&self) -> Duration {
        self.expected() * self.settings().len() as u32
    }

    /// Fewer and smaller windows.
    fn shorten(&mut self) {
        self.repetitions = self.repetitions.min(5);
        self.window_mib = self.window_mib.min(8);
    }

    /// # Errors
    /// Bytes did not arrive, or not as they were sent, or frames were lost.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        bench.pin(self.name())?;
        let hz = bench.report.environment.tsc_hz;
        let settings = self.settings();
        let mut windows: Vec<Vec<Window>> = settings.iter().map(|_| Vec::new()).collect();
        for round in rounds(self.repetitions) {
            for (setting, windows) in settings.iter().zip(&mut windows) {
                let label = format!(
                    "cores: workers: {}, spread by {}, {round}",
                    setting.workers,
                    setting.spread()
                );
                bench.step(&label, round.part(self.expected()))?;
                windows.extend(measure(self, *setting, round.share, &bench.interrupt)?);
            }
        }
        for (setting, windows) in settings.iter().zip(&windows) {
            add(&mut bench.report, hz, *setting, windows);
        }
        bench.report.note(format!(
            "cores: {} connections upload, {} windows of {} MiB, AES-128-GCM, MTU 1500, checksums \
             by the port. All workers of both gateways and the endpoints have their turns on one \
             core, one behind the other, and share its caches; what is timed are the turns of \
             gateway A that found work",
            self.connections, self.repetitions, self.window_mib
        ));
        bench.report.note(
            "cores: all workers, Gb/s = payload / TSC time of the worker that had most to do: what \
             as many cores would carry. Handed over = frames that arrived at another worker than \
             their connection's, of all that arrived",
        );
        Ok(())
    }
}

struct Window {
    payload: u64,
    /// By worker of gateway A.
    workers: Vec<Meter>,
}

impl Window {
    fn all(&self) -> Meter {
        self.workers.iter().copied().fold(Meter::default(), Meter::plus)
    }

    /// Of the worker that had most to do.
    fn most_cycles(&self) -> u64 {
        self.workers.iter().map(|m| m.cycles).max().unwrap_or(0)
    }
}

fn measure(
    args: &CoresArgs,
    Setting { workers, spread }: Setting,
    repetitions: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Window>> {
    let setup = Setup { workers, spread, frames: FRAMES, ..churn::SETUP };
    let mut flows = Flows::open(&setup, args.connections, true)?;
    // Each has left its slow start.
    flows.relay(200 * SEGMENT)?;
    flows.flood(MIB)?;
    let mut windows = Vec::new();
    for _ in 0..repetitions {
        interrupt.check()?;
        let (start, before) = (flows.arrived(), flows.chain.meters_of_a());
        flows.flood(args.window_mib * MIB)?;
        let after = flows.chain.meters_of_a();
        windows.push(Window {
            payload: flows.arrived() - start,
            workers: after.iter().zip(before).map(|(after, before)| after.since(before)).collect(),
        });
    }
    flows.chain.ensure_no_loss()?;
    let strays = flows.chain.meters().0.strays;
    ensure!(spread != Spread::Rss || strays == 0, "{strays} frames missed their worker");
    Ok(windows)
}

fn add(report: &mut Report, hz: f64, setting: Setting, windows: &[Window]) {
    let parameters = [
        ("workers", setting.workers.to_string()),
        ("frames spread by", setting.spread().to_owned()),
    ];
    let mut metric = |name, unit, value: &dyn Fn(&Window) -> f64| {
        report.add("cores", &parameters, name, unit, windows.iter().map(value).collect());
    };
    metric("cost of a segment", "cycles", &|w| {
        w.all().cycles as f64 * SEGMENT as f64 / w.payload as f64
    });
    metric("all workers", "Gb/s", &|w| w.payload as f64 * 8.0 * hz / w.most_cycles() as f64 / 1e9);
    metric("handed over", "%", &|w| w.all().strays as f64 * 100.0 / w.all().rx_frames as f64);
    metric("frames in a turn", "", &|w| w.all().rx_frames as f64 / w.all().turns as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_works_and_strays_are_seen() {
        let args = CoresArgs { workers: vec![1, 2], connections: 8, repetitions: 3, window_mib: 1 };
        assert_eq!(args.settings().len(), 4);
        let mut bench = Bench::new(None).unwrap();
        args.run(&mut bench).unwrap();
        assert_eq!(bench.report.measurements.len(), 4 * 4);
        for setting in args.settings() {
            for window in measure(&args, setting, 2, &bench.interrupt).unwrap() {
                assert!(window.payload >= MIB);
                assert_eq!(window.workers.len(), setting.workers);
                assert!(window.workers.iter().all(|m| m.cycles > 0 && m.turns > 0), "{setting:?}");
                assert!(window.most_cycles() < window.all().cycles || setting.workers == 1);
                let strays = window.all().strays;
                assert_eq!(strays > 0, setting.spread != Spread::Rss, "{setting:?}: {strays}");
            }
        }
    }
}
