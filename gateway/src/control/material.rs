//! Everything that a generation is made from, read and checked: objects and certificates.

use std::path::Path;
use std::sync::Arc;

use clgw_policy::{Diagnostic, Fabric, Severity};

use crate::config::{self, GatewayConfig, ImportPort, TlsConfig};
use crate::tls::{Identity, TlsFiles};

/// Objects and certificates that belong together.
#[derive(Debug)]
pub struct Material {
    pub fabric: Fabric,
    pub identity: Arc<Identity>,
    pub warnings: Vec<Diagnostic>,
}

/// Reads what `config` names.
///
/// # Errors
/// Every finding of every file, if one of them is an error.
pub fn load(config: &GatewayConfig) -> Result<Material, Vec<Diagnostic>> {
    let mut findings = Vec::new();
    let fabric = objects(&config.objects, &mut findings);
    let identity = identity(&config.tls, &mut findings);
    check_together(config, fabric.as_ref(), identity.as_ref(), &mut findings);
    match (fabric, identity) {
        (Some(fabric), Some(identity))
            if findings.iter().all(|d| d.severity != Severity::Error) =>
        {
            Ok(Material { fabric, identity: Arc::new(identity), warnings: findings })
        }
        _ => Err(findings),
    }
}

/// Rules between the configuration and the files it names.
pub fn check_together(
    config: &GatewayConfig,
    fabric: Option<&Fabric>,
    identity: Option<&Identity>,
    findings: &mut Vec<Diagnostic>,
) {
    if let Some(identity) = identity
        && let Err(error) = config.check_peer_name(identity.peer_name())
    {
        findings.push(*error);
    }
    if let Some(fabric) = fabric {
        findings.extend(config::check_listeners(config, import_ports(fabric).into_iter()));
    }
}

/// The objects of a directory; findings are appended.
pub fn objects(directory: &Path, findings: &mut Vec<Diagnostic>) -> Option<Fabric> {
    let files = config::read_objects(directory).map_err(|e| findings.extend(e)).ok()?;
    let loaded = clgw_policy::load(&files).map_err(|e| findings.extend(e)).ok()?;
    findings.extend(loaded.warnings);
    Some(loaded.fabric)
}

/// The certificates; findings are appended.
pub fn identity(tls: &TlsConfig, findings: &mut Vec<Diagnostic>) -> Option<Identity> {
    let files = TlsFiles { ca: tls.ca.clone(), cert: tls.cert.clone(), key: tls.key.clone() };
    Identity::load(&files, tls.crypto)
        .map_err(|error| {
            // The error names its file first, where a diagnostic has it too.
            let text = error.to_string();
            let (file, message) = [&tls.ca, &tls.cert, &tls.key]
                .into_iter()
                .find_map(|path| {
                    let name = path.display().to_string();
                    let rest = text.strip_prefix(&format!("{name}: "))?.to_owned();
                    Some((name, rest))
                })
                .unwrap_or_else(|| (tls.cert.display().to_string(), text.clone()));
            findings.push(Diagnostic {
                severity: Severity::Error,
                file,
                line: 0,
                column: 0,
                field: String::new(),
                message,
                hint: String::new(),
            });
        })
        .ok()
}

fn import_ports(fabric: &Fabric) -> Vec<ImportPort<'_>> {
    fabric
        .imports()
        .map(|import| ImportPort {
            namespace: &import.name.namespace,
            name: &import.name.name,
            port: import.port,
            target_port: import.target_port.unwrap_or(import.port),
        })
        .collect()
}
