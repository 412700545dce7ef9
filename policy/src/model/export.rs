//! `kind: Export`.

use serde::Deserialize;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportSpec {
    /// Empty means `<name>.<namespace>.svc.cluster.local`.
    pub host: Option<String>,
    pub port: Option<i64>,
}
