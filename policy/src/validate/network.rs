//! Checks of peers, exports, imports and workloads.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Loader;
use super::meta::{Kind, Meta, NameRule};
use crate::balance::{Failover, LbScheme};
use crate::diagnostic::{Diagnostic, Severity};
use crate::fabric::{Export, Gateway, Host, Import, ImportSource, ObjectName, Peer, Workload};
use crate::limits::{DEFAULT_SOURCE_WEIGHT, MAX_SOURCE_WEIGHT, MAX_SOURCES_PER_IMPORT};
use crate::model::{ExportSpec, ImportSourceSpec, ImportSpec, Manifest, PeerSpec, WorkloadSpec};
use crate::names;
use crate::yaml::Cursor;

/// Service account of a workload that names none, as for a pod.
pub(crate) const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// ClusterLink mixes local and remote backends of one Kubernetes service under this label.
const MERGE_LABEL: &str = "import.clusterlink.net/merge";

impl Loader {
    fn host(&mut self, at: &Cursor<'_>, text: &str) -> Option<Host> {
        match names::host(text) {
            Ok(host) => Some(host),
            Err(why) => {
                let hint = "give an IPv4 or IPv6 address or a DNS name";
                self.error(at, format!("the host `{text}` {why}"), hint);
                None
            }
        }
    }

    pub(super) fn peer(&mut self, manifest: &Manifest<PeerSpec>, root: &Cursor<'_>) {
        let meta = self.meta(Kind::PEER, manifest, root);
        if let Some(meta) = &meta {
            self.peer_names.insert(meta.name.name.to_string());
        }
        let Some((spec, at)) = self.spec(manifest, root) else { return };
        let at = at.key("gateways");
        let Some(specs) = &spec.gateways else {
            self.error(&at, "is missing", "list the peer's gateways as {host, port}");
            return;
        };
        if specs.is_empty() {
            self.warning(
                &at,
                "the peer has no gateways, so it is never reachable",
                "list at least one {host, port}",
            );
        }
        let mut gateways = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let at = at.index(index);
            let hint = "give the address or DNS name of the gateway";
            let host = self
                .text(&at.key("host"), spec.host.as_deref(), hint)
                .and_then(|text| self.host(&at.key("host"), text));
            let port = self.port(&at.key("port"), spec.port);
            let (Some(host), Some(port)) = (host, port) else { continue };
            let gateway = Gateway { host, port };
            if gateways.contains(&gateway) {
                let message = format!("{}:{} is listed twice", gateway.host, gateway.port);
                self.warning(&at, message, "remove one of the two");
            } else {
                gateways.push(gateway);
            }
        }
        if let Some(meta) = meta {
            self.fabric.put_peer(Peer { name: meta.name.name, gateways });
        }
    }

    pub(super) fn export(&mut self, manifest: &Manifest<ExportSpec>, root: &Cursor<'_>) {
        let meta = self.meta(Kind::EXPORT, manifest, root);
        let Some((spec, at)) = self.spec(manifest, root) else { return };
        let port = self.port(&at.key("port"), spec.port);
        let host = match spec.host.as_deref() {
            None | Some("") => {
                meta.as_ref().and_then(|meta| self.cluster_host(&at.key("host"), &meta.name))
            }
            Some(text) => self.host(&at.key("host"), text),
        };
        if let (Some(Meta { name, labels }), Some(host), Some(port)) = (meta, host, port) {
            self.fabric.put_export(Export { name, labels, host, port });
        }
    }

    /// The name that Kubernetes gives to the service of the same name as the export.
    fn cluster_host(&mut self, at: &Cursor<'_>, export: &ObjectName) -> Option<Host> {
        let name = format!("{}.{}.svc.cluster.local", export.name, export.namespace);
        if names::dns_name(&name).is_err() {
            let message = format!("no host is given, and `{name}` is too long for a DNS name");
            self.error(at, message, "give the address or DNS name of the service");
            return None;
        }
        self.warning(
            at,
            format!("no host is given; `{name}` is used, which only a cluster's DNS can resolve"),
            "outside Kubernetes, give the address or DNS name of the service",
        );
        Some(Host::Dns(name.into()))
    }

    pub(super) fn import(&mut self, manifest: &Manifest<ImportSpec>, root: &Cursor<'_>) {
        let meta = self.meta(Kind::IMPORT, manifest, root);
        if meta.as_ref().is_some_and(|m| m.labels.get(MERGE_LABEL).is_some_and(|v| **v == *"true"))
        {
            self.warning(
                &root.key("metadata").key("labels").key(MERGE_LABEL),
                "merging with a local service works inside Kubernetes only",
                "remove the label; clients use the import's own address",
            );
        }
        let Some((spec, at)) = self.spec(manifest, root) else { return };
        let port = self.port(&at.key("port"), spec.port);
        let target_port = match spec.target_port {
            None | Some(0) => None,
            given => self.port(&at.key("targetPort"), given),
        };
        if let (Some(target), Some(meta)) = (target_port, &meta) {
            self.claim_target_port(&at.key("targetPort"), target, &meta.name);
        }
        let lb_scheme = match spec.lb_scheme.as_deref() {
            None | Some("") => Some(LbScheme::default()),
            Some(text) => LbScheme::parse(text),
        };
        if lb_scheme.is_none() {
            let text = spec.lb_scheme.as_deref().unwrap_or_default();
            let known = LbScheme::ALL.map(LbScheme::as_str).join(", ");
            let message = format!("unknown load balancing scheme `{text}`");
            self.error(&at.key("lbScheme"), message, format!("one of {known}"));
        }
        let failover = match spec.failover.as_deref() {
            None | Some("") => Some(Failover::default()),
            Some(text) => Failover::parse(text),
        };
        if failover.is_none() {
            let text = spec.failover.as_deref().unwrap_or_default();
            let known = Failover::ALL.map(Failover::as_str).join(", ");
            let message = format!("unknown rule of failover `{text}`");
            self.error(&at.key("failover"), message, format!("one of {known}"));
        }
        let sources = self.sources(&at.key("sources"), spec.sources.as_deref(), lb_scheme);
        if let (Some(Meta { name, labels }), Some(port), Some(lb_scheme), Some(failover)) =
            (meta, port, lb_scheme, failover)
        {
            let import = Import { name, labels, port, target_port, lb_scheme, failover, sources };
            if let Err(error) = self.fabric.put_import(import) {
                self.error(
                    &at.key("sources"),
                    error.to_string(),
                    "split the import, or list gateways of one peer under one Peer",
                );
            }
        }
    }

    fn claim_target_port(&mut self, at: &Cursor<'_>, port: u16, import: &ObjectName) {
        let origin = self.origin(at);
        if let Some((other, first)) = self.target_ports.get(&port) {
            let message =
                format!("listening port {port} is already taken by import `{other}` at {first}");
            self.error(
                at,
                message,
                "choose another targetPort, or leave it out to have one chosen",
            );
        } else {
            self.target_ports.insert(port, (import.clone(), origin));
        }
    }

    fn sources(
        &mut self,
        at: &Cursor<'_>,
        specs: Option<&[ImportSourceSpec]>,
        lb_scheme: Option<LbScheme>,
    ) -> Vec<ImportSource> {
        let Some(specs) = specs else {
            let hint = "list the sources as {peer, exportName, exportNamespace}";
            self.error(at, "is missing", hint);
            return Vec::new();
        };
        if specs.is_empty() {
            self.warning(
                at,
                "the import has no sources, so every connection to it fails",
                "list at least one {peer, exportName, exportNamespace}",
            );
        }
        if !specs.is_empty() && specs.iter().all(|spec| spec.weight == Some(0)) {
            self.warning(
                at,
                "every weight is 0, so every connection to the import fails",
                "give at least one source a weight above 0",
            );
        }
        let mut sources = Vec::with_capacity(specs.len().min(MAX_SOURCES_PER_IMPORT));
        for (index, spec) in specs.iter().enumerate() {
            let at = at.index(index);
            let peer = self.required_name(&at.key("peer"), spec.peer.as_deref(), NameRule::DnsName);
            let name = self.required_name(
                &at.key("exportName"),
                spec.export_name.as_deref(),
                NameRule::Subdomain,
            );
            let namespace = self.required_name(
                &at.key("exportNamespace"),
                spec.export_namespace.as_deref(),
                NameRule::Label,
            );
            if let Some(peer) = peer {
                let at = at.key("peer");
                let warning = Diagnostic {
                    severity: Severity::Warning,
                    file: self.file.clone(),
                    line: at.mark.line,
                    column: at.mark.column,
                    field: at.path,
                    message: format!(
                        "there is no peer `{peer}`, so this source is never reachable"
                    ),
                    hint: "add a Peer of this name, or correct the name".to_owned(),
                };
                self.sources.push((self.file.clone(), peer.to_owned(), warning));
            }
            let weight = self.weight(&at.key("weight"), spec.weight, lb_scheme);
            if let (Some(peer), Some(name), Some(namespace)) = (peer, name, namespace) {
                sources.push(ImportSource {
                    peer: peer.into(),
                    export: ObjectName::new(namespace, name),
                    weight,
                });
            }
        }
        sources
    }

    /// `lb_scheme` is None when it is wrong itself; whether it uses weights is open then.
    fn weight(&mut self, at: &Cursor<'_>, given: Option<i64>, lb_scheme: Option<LbScheme>) -> u32 {
        let Some(value) = given else { return DEFAULT_SOURCE_WEIGHT };
        if let Some(scheme) = lb_scheme.filter(|scheme| !scheme.uses_weights()) {
            self.error(
                at,
                format!("the scheme `{}` does not look at weights", scheme.as_str()),
                "set lbScheme to weighted or least-loaded, or remove the weight",
            );
        }
        match u32::try_from(value) {
            Ok(weight) if weight <= MAX_SOURCE_WEIGHT => weight,
            _ => {
                let hint = format!("give a whole number from 0 to {MAX_SOURCE_WEIGHT}");
                self.error(at, format!("{value} is no weight"), hint);
                DEFAULT_SOURCE_WEIGHT
            }
        }
    }

    fn required_name<'v>(
        &mut self,
        at: &Cursor<'_>,
        value: Option<&'v str>,
        rule: NameRule,
    ) -> Option<&'v str> {
        let text =
            self.text(at, value, "every source needs peer, exportName and exportNamespace")?;
        self.name(at, text, rule).then_some(text)
    }

    pub(super) fn workload(&mut self, manifest: &Manifest<WorkloadSpec>, root: &Cursor<'_>) {
        let meta = self.meta(Kind::WORKLOAD, manifest, root);
        let Some((spec, at)) = self.spec(manifest, root) else { return };
        let service_account = match spec.service_account.as_deref() {
            None | Some("") => DEFAULT_SERVICE_ACCOUNT,
            Some(text) => {
                self.name(&at.key("serviceAccount"), text, NameRule::Subdomain);
                text
            }
        };
        let at = at.key("addresses");
        let texts = spec.addresses.as_deref().unwrap_or_default();
        if texts.is_empty() {
            let hint =
                "list IP addresses or CIDR prefixes, as in [10.1.2.3, 10.1.4.0/24, fd00::/64]";
            self.error(&at, "a workload without addresses is never anyone's identity", hint);
        }
        let mut addresses = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let at = at.index(index);
            match prefix(text) {
                Ok(net) => {
                    if let Some(meta) = &meta {
                        self.claim_prefix(&at, net, &meta.name);
                    }
                    addresses.push(net);
                }
                Err((message, hint)) => self.error(&at, message, hint),
            }
        }
        if let Some(Meta { name, labels }) = meta {
            let service_account = service_account.into();
            self.fabric.put_workload(Workload { name, labels, service_account, addresses });
        }
    }

    fn claim_prefix(&mut self, at: &Cursor<'_>, net: IpNet, workload: &ObjectName) {
        let origin = self.origin(at);
        if let Some((other, first)) = self.prefixes.get(&net) {
            let (message, hint) = if other == workload {
                (format!("{net} is listed twice"), "remove one of the two")
            } else {
                (
                    format!("{net} already belongs to workload `{other}` at {first}"),
                    "an address has one owner; remove it from one of the two",
                )
            };
            self.error(at, message, hint);
        } else {
            self.prefixes.insert(net, (workload.clone(), origin));
        }
    }
}

/// An address or prefix without host bits, or message and hint.
fn prefix(text: &str) -> Result<IpNet, (String, String)> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip.to_canonical()));
    }
    let Ok(net) = text.parse::<IpNet>() else {
        return Err((
            format!("`{text}` is neither an IP address nor a CIDR prefix"),
            "write it as in 10.1.2.3, 10.1.4.0/24 or fd00::/64".to_owned(),
        ));
    };
    // Clients are looked up in canonical form, so such a prefix could never match.
    if let IpNet::V6(net) = net
        && net.prefix_len() >= 96
        && net.addr().to_ipv4_mapped().is_some()
    {
        return Err((
            format!("`{text}` is an IPv4-mapped prefix"),
            "write it as an IPv4 prefix".to_owned(),
        ));
    }
    if net != net.trunc() {
        return Err((
            format!("`{text}` has bits set behind its prefix length"),
            format!("write {} for the network or {} for the one address", net.trunc(), net.addr()),
        ));
    }
    Ok(net)
}
