//! What our own gateways say of themselves: SIGUSR1 makes one log its counters.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::usage::thread_nanos;
use super::{Line, PATIENCE, Process, Subject};

/// What the gateway calls the thread of its only worker.
const WORKER: &str = "worker-0";
/// Counters are read while others measure, so a moment is short.
const LOOK: Duration = Duration::from_millis(2);

/// Of the event that holds them; see README.md of the project.
const EVENT: &str = " stats ";

/// All workers of one gateway.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Counters {
    /// When they were asked for.
    #[serde(skip, default = "Instant::now")]
    pub at: Instant,
    /// Time that the worker's thread had its CPU, then.
    #[serde(skip)]
    pub cpu_nanos: u64,
    /// Time of the turns that found work, and time asleep.
    pub busy_nanos: u64,
    pub asleep_nanos: u64,
    /// Application bytes sealed into tunnels, and delivered from them.
    pub bytes_to_peer: u64,
    pub bytes_from_peer: u64,
    pub clients_accepted: u64,
}

impl Counters {
    /// Seconds of work that were done since `before`.
    pub fn useful_seconds(&self, before: &Self) -> f64 {
        self.busy_nanos.saturating_sub(before.busy_nanos) as f64 / 1e9
    }

    /// Seconds that the worker has slept since `before`.
    pub fn slept_seconds(&self, before: &Self) -> f64 {
        self.asleep_nanos.saturating_sub(before.asleep_nanos) as f64 / 1e9
    }

    /// Gbit of applications, either way.
    pub fn gbit(&self, before: &Self) -> f64 {
        let bytes = |c: &Self| c.bytes_to_peer + c.bytes_from_peer;
        bytes(self).saturating_sub(bytes(before)) as f64 * 8.0 / 1e9
    }
}

impl Line<'_> {
    /// Counters of gateway A, which has a CPU of its own; `None` where it is not ours.
    ///
    /// # Errors
    /// It does not answer.
    pub fn counters_of_a(&mut self) -> anyhow::Result<Option<Counters>> {
        if self.subject != Subject::Clgw {
            return Ok(None);
        }
        ask(self.gateways.a.first_mut().context("no gateway runs")?).map(Some)
    }
}

/// Asks a gateway of ours for its counters.
///
/// # Errors
/// It ended, or does not answer.
pub fn ask(gateway: &mut Process) -> anyhow::Result<Counters> {
    let events = |text: &str| text.matches(EVENT).count();
    let before = events(&gateway.text());
    let at = Instant::now();
    gateway.signal("-USR1")?;
    loop {
        let text = gateway.text();
        // A line that is not yet written to its end does not count.
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        if events(whole) > before {
            let cpu_nanos = thread_nanos(gateway.pid(), WORKER)?;
            return Ok(Counters { at, cpu_nanos, ..last(whole)? });
        }
        let late = at.elapsed() > PATIENCE;
        ensure!(!late, "no counters after SIGUSR1\n{}", gateway.last_lines());
        thread::sleep(LOOK);
    }
}

/// Of the last event. The gateways of the lab have one worker.
fn last(log: &str) -> anyhow::Result<Counters> {
    let line = log.lines().rfind(|line| line.contains(EVENT)).context("no counters in the log")?;
    let wrong = || format!("no counters in {line:?}");
    let (from, to) = (line.find('{').with_context(wrong)?, line.rfind('}').with_context(wrong)?);
    let json = line.get(from..=to).with_context(wrong)?.replace("\\\"", "\"");
    serde_json::from_str(&json).with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_counts() {
        let event = |busy: u64| {
            format!(
                "2026-01-01T00:00:00Z  INFO stats worker=0 busy_percent=1.0 counters=\"{{\\\"rx_frames\\\":1,\
                 \\\"bytes_to_peer\\\":125000000,\\\"bytes_from_peer\\\":0,\
                 \\\"clients_accepted\\\":3,\\\"busy_nanos\\\":{busy},\\\"asleep_nanos\\\":7}}\"\n"
            )
        };
        let text = format!("{}INFO other\n{}", event(1), event(2_500_000_000));
        let counters = last(&text).unwrap();
        assert_eq!(counters.useful_seconds(&last(&event(500_000_000)).unwrap()), 2.0);
        assert_eq!(counters.clients_accepted, 3);
        let before = Counters { bytes_to_peer: 25_000_000, ..counters };
        assert_eq!(counters.gbit(&before), 0.8);
        assert!(last("INFO ready\n").is_err());
        assert!(last(" stats worker=0 counters={}\n").is_err());
    }
}
