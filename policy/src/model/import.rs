//! `kind: Import`.

use serde::Deserialize;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportSpec {
    pub port: Option<i64>,
    /// 0 or absent: chosen by the gateway.
    pub target_port: Option<i64>,
    pub sources: Option<Vec<ImportSourceSpec>>,
    /// `round-robin` (default), `random` or `static`; ours: `weighted`, `least-loaded`.
    pub lb_scheme: Option<String>,
    /// Ours: `authorization` (default) or `connection`.
    pub failover: Option<String>,
}

/// An export of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportSourceSpec {
    pub peer: Option<String>,
    pub export_name: Option<String>,
    pub export_namespace: Option<String>,
    /// Ours, for `weighted` and `least-loaded`; 1 where absent.
    pub weight: Option<i64>,
}
