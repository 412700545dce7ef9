//! `kind: AccessPolicy` and `kind: PrivilegedAccessPolicy`.

use serde::Deserialize;

use super::LabelSelector;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessPolicySpec {
    pub action: Option<String>,
    pub from: Option<Vec<WorkloadSetOrSelector>>,
    pub to: Option<Vec<WorkloadSetOrSelector>>,
    /// Our extension: evaluate, but never enforce.
    pub dry_run: Option<bool>,
}

/// Exactly one of the two; `workloadSets` is reserved and refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSetOrSelector {
    pub workload_sets: Option<Vec<String>>,
    pub workload_selector: Option<LabelSelector>,
}
