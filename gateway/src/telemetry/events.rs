//! What a worker tells the control thread about single connections, for logs.

use std::net::SocketAddr;
use std::sync::Arc;

use clgw_policy::{ClientId, ExportId, ImportId, PolicyId};
use crossbeam::queue::ArrayQueue;

use super::CloseReason;
use crate::limits::EVENT_QUEUE;

/// One thing worth a line in the log. Ids belong to the policy generation in the same event.
#[derive(Debug)]
pub enum Event {
    /// A client's connection was refused or failed before the service accepted it.
    ClientRefused {
        generation: u64,
        import: ImportId,
        client: ClientId,
        address: SocketAddr,
        reason: CloseReason,
        /// This gateway's deciding policy.
        policy: Option<PolicyId>,
        /// The exporter's deciding policy, by name.
        peer_policy: Option<Box<str>>,
    },
    /// A client's connection ended after it had been forwarded.
    ClientClosed {
        address: SocketAddr,
        reason: CloseReason,
    },
    /// An OPEN of another peer was refused.
    OpenRefused {
        generation: u64,
        peer: SocketAddr,
        export: Option<ExportId>,
        reason: CloseReason,
        policy: Option<PolicyId>,
    },
    /// A dry-run policy would have turned the decision about a connection.
    DryRun {
        generation: u64,
        policy: PolicyId,
        /// What was decided; the policy says the opposite.
        allowed: bool,
        service: Judged,
        /// Of the client, or of the peer whose OPEN it was.
        address: SocketAddr,
    },
    TunnelUp {
        peer: SocketAddr,
        name: Box<str>,
        resumed: bool,
        /// Group of the key exchange.
        key_exchange: &'static str,
    },
    TunnelDown {
        peer: SocketAddr,
        reason: CloseReason,
        detail: Option<Box<str>>,
    },
}

/// The service that a decision was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    Import(ImportId),
    Export(ExportId),
}

/// Bounded; a worker never waits on it. What does not fit is counted and lost.
#[derive(Clone, Debug)]
pub struct EventQueue(Arc<ArrayQueue<Event>>);

impl Default for EventQueue {
    fn default() -> Self {
        Self(Arc::new(ArrayQueue::new(EVENT_QUEUE)))
    }
}

impl EventQueue {
    /// `false` if the queue was full and the event is lost.
    pub fn push(&self, event: Event) -> bool {
        self.0.push(event).is_ok()
    }

    pub fn pop(&self) -> Option<Event> {
        self.0.pop()
    }
}
