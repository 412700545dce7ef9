//! ClusterLink's objects as they stand in YAML, `apiVersion: clusterlink.net/v1alpha1`.
//!
//! Every field is optional here although most are required: a missing one is reported by
//! [`crate::validate`] with its place and beside all other errors. Unknown fields are refused,
//! except for `status` and the metadata that an API server adds, so that the output of
//! `kubectl get -o yaml` loads.

mod access_policy;
mod export;
mod import;
mod meta;
mod peer;
mod selector;
mod workload;

pub use access_policy::{AccessPolicySpec, WorkloadSetOrSelector};
pub use export::ExportSpec;
pub use import::{ImportSourceSpec, ImportSpec};
pub use meta::{Manifest, ObjectMeta};
pub use peer::{GatewaySpec, PeerSpec};
pub use selector::{LabelSelector, LabelSelectorRequirement};
pub use workload::WorkloadSpec;

/// The only group and version that is read.
pub const API_VERSION: &str = "clusterlink.net/v1alpha1";

/// The kinds that are read. `Workload` and the policies' `dryRun` are not ClusterLink's own.
pub const KINDS: [&str; 6] =
    ["Peer", "Export", "Import", "AccessPolicy", "PrivilegedAccessPolicy", "Workload"];
