//! What dry-run policies would have done, in the log: the first connection at once, the number of
//! those that follow once an interval. A policy on trial may concern every connection there is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::time::Instant;

/// Between two lines about the same policy and service.
const INTERVAL: Duration = Duration::from_secs(10);

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Trial {
    pub policy: String,
    /// `import ns/name` or `export ns/name`.
    pub service: String,
    /// What was decided; the policy says the opposite.
    pub allowed: bool,
}

#[derive(Debug)]
struct Tally {
    next_line: Instant,
    connections: u64,
    /// The last of them.
    address: SocketAddr,
}

#[derive(Debug, Default)]
pub(super) struct DryRuns(HashMap<Trial, Tally>);

impl DryRuns {
    /// One more connection.
    pub fn note(&mut self, trial: Trial, address: SocketAddr, now: Instant) {
        let tally =
            self.0.entry(trial).or_insert(Tally { next_line: now, connections: 0, address });
        tally.connections += 1;
        tally.address = address;
    }

    /// Writes the lines that are due; at the end (`all`) the others too.
    pub fn write(&mut self, now: Instant, all: bool) {
        self.due(now, all, |trial, connections, address| {
            let (decided, would) = if trial.allowed { ("allow", "deny") } else { ("deny", "allow") };
            tracing::info!(
                policy = trial.policy, service = trial.service, decided, would, connections, %address,
                "dry-run policy would decide otherwise"
            );
        });
    }

    fn due(&mut self, now: Instant, all: bool, mut line: impl FnMut(&Trial, u64, SocketAddr)) {
        self.0.retain(|trial, tally| {
            if tally.next_line > now && !all {
                return true;
            }
            if tally.connections == 0 {
                return false;
            }
            line(trial, tally.connections, tally.address);
            tally.connections = 0;
            tally.next_line = now + INTERVAL;
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_in_numbers() {
        let mut runs = DryRuns::default();
        let trial = |policy: &str| Trial {
            policy: policy.to_owned(),
            service: "import shop/web".to_owned(),
            allowed: true,
        };
        let address = "10.0.0.1:5".parse().unwrap();
        let told = |runs: &mut DryRuns, at: u64, all: bool| {
            let mut lines = Vec::new();
            let now = Instant::ZERO + Duration::from_secs(at);
            runs.due(now, all, |trial, n, _| lines.push((trial.policy.clone(), n)));
            lines
        };
        runs.note(trial("p"), address, Instant::ZERO);
        assert_eq!(told(&mut runs, 0, false), [("p".to_owned(), 1)]);
        for _ in 0..1000 {
            runs.note(trial("p"), address, Instant::ZERO);
        }
        runs.note(trial("q"), address, Instant::ZERO);
        assert_eq!(told(&mut runs, 1, false), [("q".to_owned(), 1)]);
        assert_eq!(told(&mut runs, 10, false), [("p".to_owned(), 1000)]);
        runs.note(trial("q"), address, Instant::ZERO);
        assert_eq!(told(&mut runs, 10, true), [("q".to_owned(), 1)]);
        // Nothing new for a whole interval: forgotten.
        assert_eq!(told(&mut runs, 30, false), []);
        assert!(runs.0.is_empty());
    }
}
