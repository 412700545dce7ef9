//! Single connections in the log, with the names behind their numbers.

use std::collections::VecDeque;
use std::sync::Arc;

use clgw_policy::PolicyId;

use super::dry_run::{DryRuns, Trial};
use crate::telemetry::{Event, EventQueue, Judged};
use crate::time::Instant;
use crate::worker::Snapshot;

/// Generations whose names can still be told.
const REMEMBERED: usize = 8;

/// Lines written in one go. A client that is refused a hundred thousand times a second must not
/// fill the disk with it.
const LINES_PER_TURN: usize = 50;

/// Writes workers' events to the log.
#[derive(Debug)]
pub(super) struct Journal {
    queue: EventQueue,
    /// Newest last. Holding them here is also what keeps a worker from ever freeing one.
    generations: VecDeque<Arc<Snapshot>>,
    dry_runs: DryRuns,
}

impl Journal {
    pub fn new(queue: EventQueue) -> Self {
        Self { queue, generations: VecDeque::new(), dry_runs: DryRuns::default() }
    }

    pub fn remember(&mut self, snapshot: Arc<Snapshot>) {
        self.generations.push_back(snapshot);
        self.forget();
    }

    /// Frees old generations that no worker uses any more.
    pub fn forget(&mut self) {
        let spare = self.generations.len().saturating_sub(REMEMBERED);
        let mut left = spare;
        self.generations.retain(|g| {
            if left == 0 {
                return true;
            }
            left -= 1;
            Arc::strong_count(g) > 1
        });
    }

    fn generation(&self, number: u64) -> Option<&Snapshot> {
        self.generations.iter().map(AsRef::as_ref).find(|s| s.generation() == number)
    }

    /// Writes what has come, and how much was left out.
    pub fn write(&mut self, now: Instant) {
        let mut written = 0;
        let mut left_out = 0u64;
        while let Some(event) = self.queue.pop() {
            if let Event::DryRun { generation, policy, allowed, service, address } = event {
                let trial = self.trial(generation, policy, allowed, service);
                self.dry_runs.note(trial, address, now);
            } else if written < LINES_PER_TURN {
                self.event(event);
                written += 1;
            } else {
                left_out += 1;
            }
        }
        if left_out > 0 {
            tracing::warn!(left_out, "too many events for the log; the counters have them all");
        }
        self.dry_runs.write(now, false);
    }

    /// Writes what is still held back.
    pub fn close(&mut self, now: Instant) {
        self.write(now);
        self.dry_runs.write(now, true);
    }

    fn trial(&self, generation: u64, policy: PolicyId, allowed: bool, service: Judged) -> Trial {
        let snapshot = self.generation(generation);
        let table = snapshot.map(|s| &s.table);
        let service = match service {
            Judged::Import(id) => table
                .and_then(|t| t.import(id))
                .map(|i| format!("import {}/{}", i.namespace, i.name)),
            Judged::Export(id) => table
                .and_then(|t| t.export(id))
                .map(|e| format!("export {}/{}", e.namespace, e.name)),
        };
        Trial {
            policy: policy_name(snapshot, policy),
            service: service.unwrap_or_else(|| "?".to_owned()),
            allowed,
        }
    }

    fn event(&self, event: Event) {
        match event {
            Event::ClientRefused {
                generation,
                import,
                client,
                address,
                reason,
                policy,
                peer_policy,
            } => {
                let snapshot = self.generation(generation);
                let table = snapshot.map(|s| &s.table);
                let import = table
                    .and_then(|t| t.import(import))
                    .map_or_else(|| "?".to_owned(), |i| format!("{}/{}", i.namespace, i.name));
                let workload = table
                    .and_then(|t| t.client_name(client))
                    .map_or_else(|| "unknown".to_owned(), ToString::to_string);
                let policy = policy.map(|p| policy_name(snapshot, p)).unwrap_or_default();
                tracing::warn!(
                    %address, workload, import, %reason, policy,
                    peer_policy = peer_policy.as_deref().unwrap_or_default(),
                    "connection refused"
                );
            }
            Event::ClientClosed { address, reason } => {
                tracing::debug!(%address, %reason, "connection closed");
            }
            Event::OpenRefused { generation, peer, export, reason, policy } => {
                let snapshot = self.generation(generation);
                let export = snapshot
                    .zip(export)
                    .and_then(|(s, e)| s.table.export(e))
                    .map_or_else(|| "?".to_owned(), |e| format!("{}/{}", e.namespace, e.name));
                let policy = policy.map(|p| policy_name(snapshot, p)).unwrap_or_default();
                tracing::warn!(%peer, export, %reason, policy, "stream of a peer refused");
            }
            // Gathered by `write`.
            Event::DryRun { .. } => {}
            Event::TunnelUp { peer, name, resumed, key_exchange } => {
                tracing::debug!(%peer, name, resumed, key_exchange, "tunnel up");
            }
            Event::TunnelDown { peer, reason, detail } => match detail {
                Some(detail) => tracing::warn!(%peer, %reason, %detail, "tunnel down"),
                None => tracing::debug!(%peer, %reason, "tunnel down"),
            },
        }
    }
}

fn policy_name(snapshot: Option<&Snapshot>, id: PolicyId) -> String {
    id.fixed_text()
        .or_else(|| Some(snapshot?.table.policy(id)?.text()))
        .unwrap_or("a policy of an older generation")
        .to_owned()
}
