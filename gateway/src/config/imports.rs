//! Rules between gateway.yaml and the Imports of the fabric.

use std::collections::HashMap;
use std::net::IpAddr;

use clgw_policy::{Diagnostic, Severity};

use super::{GatewayConfig, Place, Side};

/// An Import as far as listening is concerned.
#[derive(Clone, Copy, Debug)]
pub struct ImportPort<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// `spec.port`: where the import is reached at its VIPs.
    pub port: u16,
    /// `spec.targetPort`, or `spec.port` without one: where it is reached at the gateway's own
    /// addresses if it has no VIP.
    pub target_port: u16,
}

/// What is wrong between `vips`, `tunnel.port` and the Imports: a VIP of an import that does not
/// exist, two imports at one address and port, an import on a port that also takes tunnels.
pub fn check_listeners<'a>(
    config: &GatewayConfig,
    imports: impl Iterator<Item = ImportPort<'a>> + Clone,
) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    let mut report = |at: &Place, message: String, hint: &str| {
        out.push(Diagnostic {
            severity: Severity::Error,
            file: config.file.display().to_string(),
            line: at.line,
            column: at.column,
            field: at.field.clone(),
            message,
            hint: hint.to_owned(),
        });
    };
    let mut listeners: HashMap<(IpAddr, u16), &Place> = HashMap::new();
    for vip in &config.vips {
        let found = imports
            .clone()
            .find(|i| i.namespace == vip.import.namespace && i.name == vip.import.name);
        let Some(import) = found else {
            report(
                &vip.at,
                format!("there is no Import {}", vip.import),
                "add the Import to the objects, or remove the VIP",
            );
            continue;
        };
        if let Some(first) = listeners.get(&(vip.address, import.port)) {
            report(
                &vip.at,
                format!(
                    "{} port {} already belongs to the VIP in line {}",
                    vip.address, import.port, first.line
                ),
                "give the two imports different addresses or ports",
            );
        } else {
            listeners.insert((vip.address, import.port), &vip.at);
        }
    }
    let shared = config.ports.iter().any(|p| p.side == Side::Both);
    let own = |field: &str| Place { line: 0, column: 0, field: field.to_owned() };
    let mut at_own_addresses: HashMap<u16, ImportPort<'a>> = HashMap::new();
    for import in imports {
        let has_vip = config
            .vips
            .iter()
            .any(|v| v.import.namespace == import.namespace && v.import.name == import.name);
        if has_vip {
            continue;
        }
        let ImportPort { namespace, name, target_port, .. } = import;
        if shared && target_port == config.tunnel.port {
            report(
                &own("tunnel.port"),
                format!(
                    "port {target_port} takes tunnels, and Import {namespace}/{name} listens there too"
                ),
                "give the import a VIP or another targetPort, or change tunnel.port",
            );
        }
        if let Some(other) = at_own_addresses.insert(target_port, import) {
            report(
                &own("vips"),
                format!(
                    "the Imports {}/{} and {namespace}/{name} both listen on port {target_port} of \
                     the gateway's own addresses",
                    other.namespace, other.name
                ),
                "give one of them a VIP or another targetPort",
            );
        }
    }
    out
}
