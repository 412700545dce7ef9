//! What a scenario is: it says how long it takes, and adds what it measures to a report.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::builder::RangedU64ValueParser;
use clgw::config::Crypto;

use crate::environment::Environment;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::report::Report;

/// What all scenarios of a run share.
#[derive(Debug)]
pub struct Bench {
    pub report: Report,
    pub progress: Progress,
    pub interrupt: Interrupt,
    /// CPU of the in-memory scenarios; `None` = the last one.
    pub cpu: Option<u16>,
}

pub trait Scenario {
    fn name(&self) -> &'static str;

    /// How long the run takes when all is well, for the time left. It is the sum of what `run`
    /// tells [`Bench::step`].
    fn estimate(&self) -> Duration;

    /// Makes the defaults shorter, at the price of precision. What the user gave is put back behind
    /// it.
    fn shorten(&mut self);

    /// Whether SIGINT or SIGTERM is its normal end.
    fn ends_by_interrupt(&self) -> bool {
        false
    }

    /// # Errors
    /// Something needed is missing, or what was measured is not what was asked for.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()>;
}

/// For options that count what is measured.
pub fn at_least_one<T: TryFrom<u64> + Clone + Send + Sync>() -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(1..)
}

/// For options that name a library of cryptography.
pub fn crypto(text: &str) -> Result<Crypto, String> {
    let names = || Crypto::ALL.iter().map(|crypto| crypto.name()).collect::<Vec<_>>().join(", ");
    Crypto::named(text).ok_or_else(|| format!("this build has: {}", names()))
}

/// Each setting is measured so many times, with all the others between, so that the spread tells of a
/// machine whose speed changes within minutes.
pub const ROUNDS: usize = 3;

/// One way through all settings of a scenario, as in "round 1/3".
#[derive(Clone, Copy, Debug)]
pub struct Round {
    number: usize,
    of: usize,
    /// Windows of each setting.
    pub share: usize,
}

impl Round {
    /// Its part of what all of them take.
    pub fn part(self, whole: Duration) -> Duration {
        whole / self.of as u32
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}/{}", self.number, self.of)
    }
}

/// The rounds in which each setting gets `windows` windows.
pub fn rounds(windows: usize) -> impl Iterator<Item = Round> {
    let of = ROUNDS.min(windows);
    (0..of).map(move |n| Round { number: n + 1, of, share: (windows + n) / of })
}

impl Bench {
    /// # Errors
    /// Signals cannot be handled.
    pub fn new(cpu: Option<u16>) -> anyhow::Result<Self> {
        Ok(Self {
            report: Report::new(Environment::capture()),
            progress: Progress::default(),
            interrupt: Interrupt::install()?,
            cpu,
        })
    }

    /// Runs the scenarios in turn, each measured with what the ones before left in the report.
    ///
    /// # Errors
    /// All failures of scenarios, after the last one has run; at once when interrupted.
    pub fn run(&mut self, scenarios: &[Box<dyn Scenario>]) -> anyhow::Result<()> {
        self.progress.start(scenarios.iter().map(|s| s.estimate()).sum());
        let mut failures = Vec::new();
        for scenario in scenarios {
            let before = self.report.samples();
            let result = scenario.run(self).and_then(|()| {
                // Whatever was chosen, nothing is no result.
                let some = self.report.samples() > before || scenario.ends_by_interrupt();
                ensure!(some, "nothing was measured; see its options");
                Ok(())
            });
            if !scenario.ends_by_interrupt() {
                self.interrupt.check()?;
            }
            let result = result.with_context(|| scenario.name().to_owned());
            if let Err(error) = result {
                self.progress.say(&format!("failed: {error:#}"));
                failures.push(format!("{error:#}"));
            }
        }
        self.progress.finish();
        match failures.as_slice() {
            [] => Ok(()),
            [one] => anyhow::bail!("{one}"),
            many => anyhow::bail!("{} scenarios failed:\n{}", many.len(), many.join("\n")),
        }
    }

    /// The step before this one is done, and this one begins.
    ///
    /// # Errors
    /// The user wants it to end.
    pub fn step(&mut self, label: &str, expected: Duration) -> anyhow::Result<()> {
        self.interrupt.check()?;
        self.progress.step(label, expected);
        Ok(())
    }

    /// Binds this thread to the CPU of the in-memory scenarios, and says so in the report.
    ///
    /// # Errors
    /// There is no such CPU.
    pub fn pin(&mut self, scenario: &'static str) -> anyhow::Result<()> {
        let cpu = self.cpu.unwrap_or_else(|| Environment::cpus().saturating_sub(1));
        dpdk_bindings::pin_current_thread(cpu).context("--cpu")?;
        self.report.pinning(scenario, format!("one thread on CPU {cpu}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Adds(&'static [f64]);

    impl Scenario for Adds {
        fn name(&self) -> &'static str {
            "adds"
        }

        fn estimate(&self) -> Duration {
            Duration::ZERO
        }

        fn shorten(&mut self) {}

        fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
            bench.report.add("adds", &[], "m", "us", self.0.to_vec());
            Ok(())
        }
    }

    #[test]
    fn a_scenario_that_measures_nothing_fails() {
        let mut bench = Bench::new(None).unwrap();
        // The second one has more samples of what is there already.
        bench.run(&[Box::new(Adds(&[1.0])), Box::new(Adds(&[2.0]))]).unwrap();
        let both: [Box<dyn Scenario>; 2] = [Box::new(Adds(&[])), Box::new(Adds(&[3.0]))];
        let error = bench.run(&both).unwrap_err().to_string();
        assert_eq!(error, "adds: nothing was measured; see its options");
        assert_eq!(bench.report.samples(), 3);
    }
}
