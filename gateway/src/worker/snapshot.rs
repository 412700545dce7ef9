//! What the control thread publishes and workers read: one immutable generation of everything a
//! connection is decided by.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use clgw_policy::{ExportId, ImportId, PeerId, PolicyTable};

use crate::tls::Identity;

/// A gateway of a peer. The number stays the same over generations as long as the process runs,
/// so that workers keep their tunnels to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GatewayId(pub u32);

/// An import's place in the workers' load-balancing state; the number stays the same over
/// generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImportSlot(pub u32);

/// A source of an import in the workers' counts of open connections; the number stays the same
/// over generations, so that a connection is taken off the source it was counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceSlot(pub u32);

/// What listens at a local address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    Import(ImportId),
    Tunnel,
}

/// One gateway of a peer with its resolved address.
#[derive(Clone, Debug)]
pub struct GatewayEntry {
    pub id: GatewayId,
    pub peer: Arc<str>,
    pub address: SocketAddr,
}

#[derive(Debug)]
pub struct Snapshot {
    pub table: PolicyTable,
    pub identity: Arc<Identity>,
    pub listeners: HashMap<SocketAddr, Listener>,
    /// By [`PeerId`]; empty for a peer without a resolvable gateway.
    pub gateways: Vec<Vec<GatewayEntry>>,
    /// By [`ExportId`]: resolved addresses of the service.
    pub services: Vec<Vec<SocketAddr>>,
    /// By [`ImportId`].
    pub import_slots: Vec<ImportSlot>,
    /// By [`ImportId`] and position of the source.
    pub source_slots: Vec<Box<[SourceSlot]>>,
    /// Peers that some import names, so that warm tunnels to them pay.
    pub wanted: Vec<GatewayEntry>,
}

impl Snapshot {
    pub fn generation(&self) -> u64 {
        self.table.generation()
    }

    pub fn gateways_of(&self, peer: PeerId) -> &[GatewayEntry] {
        self.gateways.get(peer.index()).map_or(&[], Vec::as_slice)
    }

    pub fn service_of(&self, export: ExportId) -> &[SocketAddr] {
        self.services.get(export.index()).map_or(&[], Vec::as_slice)
    }

    pub fn import_slot(&self, import: ImportId) -> ImportSlot {
        self.import_slots.get(import.index()).copied().unwrap_or(ImportSlot(0))
    }

    pub fn source_slot(&self, import: ImportId, source: usize) -> Option<SourceSlot> {
        self.source_slots.get(import.index())?.get(source).copied()
    }
}
