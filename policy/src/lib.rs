//! ClusterLink's objects and rules as one pure decision engine for both gateways.
//!
//! The way of a rule through this crate:
//!
//! 1. [`load`] reads YAML files into [`model`] types, checks everything and yields a [`Fabric`],
//!    or every error of every file at once as [`Diagnostic`]s.
//! 2. [`PolicyTable::compile`] turns the fabric into an immutable, numbered table.
//! 3. Per connection, [`PolicyTable::decide_egress`] (importer) and
//!    [`PolicyTable::decide_ingress`] (exporter) say [`Verdict::Allow`] or [`Verdict::Deny`] and
//!    which policy said so; [`Selection`] walks the sources of an import.
//!
//! Nothing here does I/O, reads a clock, starts a thread or draws a random number: files, random
//! words and the reachability of peers are parameters.
#![forbid(unsafe_code)]

pub mod agreement;
pub mod attributes;
pub mod balance;
pub mod client;
mod compile;
pub mod connection;
pub mod decide;
pub mod diagnostic;
pub mod diff;
pub mod expect;
pub mod explain;
pub mod fabric;
mod index;
pub mod limits;
pub mod model;
pub mod names;
pub mod reference;
pub mod selector;
mod sets;
pub mod table;
mod texts;
pub mod validate;
pub mod yaml;

pub use balance::{Failover, LbScheme, RoundRobin, Selection, Sources};
pub use client::{Client, ClientError, Description};
pub use decide::{Decision, Side, Tier, Verdict};
pub use diagnostic::{Diagnostic, Severity, SourceFile};
pub use explain::{ExplainError, Explainer, Explanation};
pub use fabric::{
    AccessPolicy, Action, Export, Fabric, FabricError, Gateway, Host, Import, ImportSource, Labels,
    LocalPeer, ObjectName, Peer, PeerLabels, PolicyName, Workload,
};
pub use selector::{Operator, Requirement, Selector, SelectorError};
pub use table::{
    ClientId, ExportEntry, ExportId, ImportEntry, ImportId, PeerEntry, PeerId, PolicyEntry,
    PolicyId, PolicyTable, SourceEntry,
};
pub use validate::{Loaded, load};
