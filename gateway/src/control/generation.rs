//! From objects and certificates to the [`Snapshot`] that workers decide by.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use clgw_policy::{Host, ImportEntry, ImportId, PeerLabels, PolicyTable, SourceEntry};

use super::material::Material;
use crate::config::GatewayConfig;
use crate::worker::{GatewayEntry, GatewayId, ImportSlot, Listener, Snapshot, SourceSlot};

/// Turns host names into addresses. A parameter, because the simulator has no resolver.
pub trait Resolver {
    fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The resolver of the operating system, over its own network. Blocks: control thread only.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn addresses(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok((name, 0).to_socket_addrs()?.map(|a| a.ip()).collect())
    }
}

/// Makes snapshots. Remembers the numbers it has given to gateways, imports and their sources, so
/// that workers keep their tunnels and load-balancing state from one generation to the next.
#[derive(Debug, Default)]
pub struct Generations {
    last: u64,
    /// The last answer for each name: a resolver that fails for a moment must not take away what
    /// works.
    resolved: HashMap<Box<str>, Vec<IpAddr>>,
    gateways: HashMap<(Arc<str>, SocketAddr), GatewayId>,
    imports: HashMap<(Box<str>, Box<str>), ImportSlot>,
    /// A source that moves within its import keeps its number.
    sources: HashMap<SourceName, SourceSlot>,
}

/// What stays of a source from one generation to the next.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SourceName {
    import: ImportSlot,
    peer: Box<str>,
    export_namespace: Box<str>,
    export_name: Box<str>,
}

impl Generations {
    /// The next generation. Names that do not resolve leave their gateway or export unreachable
    /// and are described in the second value.
    pub fn next(
        &mut self,
        config: &GatewayConfig,
        material: Material,
        resolver: &impl Resolver,
    ) -> (Snapshot, Vec<String>) {
        self.last += 1;
        let mut warnings = Vec::new();
        let local = config.peer.local();
        let table =
            PolicyTable::compile(&material.fabric, &local, self.last, &PeerLabels::default());

        let resolved = &mut self.resolved;
        let mut resolve = |host: &Host, port: u16, what: &dyn Fn() -> String| {
            let name = match host {
                Host::Ip(ip) => return vec![SocketAddr::new(*ip, port)],
                Host::Dns(name) => name,
            };
            let failure = match resolver.addresses(name) {
                Ok(found) if !found.is_empty() => {
                    resolved.insert(name.clone(), found);
                    None
                }
                Ok(_) => Some("has no address".to_owned()),
                Err(e) => Some(format!("does not resolve: {e}")),
            };
            let known = resolved.get(name).map_or(&[][..], Vec::as_slice);
            if let Some(failure) = failure {
                let kept = if known.is_empty() { "" } else { "; its last addresses are kept" };
                warnings.push(format!("{}: {name} {failure}{kept}", what()));
            }
            known.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
        };
        let services: Vec<Vec<SocketAddr>> = table
            .exports()
            .iter()
            .map(|e| resolve(&e.host, e.port, &|| format!("Export {}/{}", e.namespace, e.name)))
            .collect();
        let addresses: Vec<Vec<SocketAddr>> = table
            .peers()
            .iter()
            .map(|peer| {
                peer.gateways
                    .iter()
                    .flat_map(|g| resolve(&g.host, g.port, &|| format!("Peer {}", peer.name)))
                    .collect()
            })
            .collect();
        let gateways: Vec<Vec<GatewayEntry>> = table
            .peers()
            .iter()
            .zip(addresses)
            .map(|(peer, addresses)| {
                let name: Arc<str> = Arc::from(&*peer.name);
                addresses.into_iter().map(|a| self.gateway(&name, a)).collect()
            })
            .collect();
        let import_slots: Vec<ImportSlot> = table
            .imports()
            .iter()
            .map(|i| {
                let next = ImportSlot(self.imports.len() as u32);
                *self.imports.entry((i.namespace.clone(), i.name.clone())).or_insert(next)
            })
            .collect();
        let source_slots = table
            .imports()
            .iter()
            .zip(&import_slots)
            .map(|(i, slot)| i.sources.iter().map(|s| self.source(*slot, s)).collect())
            .collect();
        let mut wanted: Vec<GatewayEntry> = table
            .imports()
            .iter()
            .flat_map(|i| i.sources.iter())
            .filter_map(|s| gateways.get(s.peer.index()))
            .flatten()
            .cloned()
            .collect();
        wanted.sort_by_key(|g| g.id.0);
        wanted.dedup_by_key(|g| g.id);
        let listeners = listeners(config, table.imports());
        let snapshot = Snapshot {
            table,
            identity: material.identity,
            listeners,
            gateways,
            services,
            import_slots,
            source_slots,
            wanted,
        };
        (snapshot, warnings)
    }

    fn source(&mut self, import: ImportSlot, source: &SourceEntry) -> SourceSlot {
        let next = SourceSlot(self.sources.len() as u32);
        let name = SourceName {
            import,
            peer: source.peer_name.clone(),
            export_namespace: source.export_namespace.clone(),
            export_name: source.export_name.clone(),
        };
        *self.sources.entry(name).or_insert(next)
    }

    fn gateway(&mut self, peer: &Arc<str>, address: SocketAddr) -> GatewayEntry {
        let next = GatewayId(self.gateways.len() as u32);
        let id = *self.gateways.entry((Arc::clone(peer), address)).or_insert(next);
        GatewayEntry { id, peer: Arc::clone(peer), address }
    }
}

/// Where tunnels and imports are accepted. An import with VIPs is reached at those and its
/// `spec.port`, one without at every service-side address and its `spec.targetPort`.
fn listeners(config: &GatewayConfig, imports: &[ImportEntry]) -> HashMap<SocketAddr, Listener> {
    let mut listeners = HashMap::new();
    for port in config.ports.iter().filter(|p| p.side.is_peer()) {
        for address in &port.addresses {
            listeners.insert(SocketAddr::new(address.addr(), config.tunnel.port), Listener::Tunnel);
        }
    }
    for (n, import) in imports.iter().enumerate() {
        let id = Listener::Import(ImportId(n as u32));
        let mut vips = config
            .vips
            .iter()
            .filter(|v| *v.import.namespace == *import.namespace && *v.import.name == *import.name)
            .peekable();
        if vips.peek().is_some() {
            listeners.extend(vips.map(|v| (SocketAddr::new(v.address, import.port), id)));
            continue;
        }
        let port = import.target_port.unwrap_or(import.port);
        for service in config.ports.iter().filter(|p| p.side.is_service()) {
            listeners
                .extend(service.addresses.iter().map(|a| (SocketAddr::new(a.addr(), port), id)));
        }
    }
    listeners
}
