//! `kind: Workload`, our own: who a client outside Kubernetes is.

use serde::Deserialize;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSpec {
    /// `default` where absent, as for a pod.
    pub service_account: Option<String>,
    /// IP addresses and CIDR prefixes.
    pub addresses: Option<Vec<String>>,
}
