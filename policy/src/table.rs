//! The compiled fabric: immutable, numbered, read by all workers.
//!
//! Ids are positions in one table and mean nothing in another generation; what lives longer is kept
//! by name, or for policies by [`PolicyEntry::fingerprint`].

use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::balance::{Failover, LbScheme};
use crate::decide::{Tier, Verdict};
use crate::fabric::{Gateway, Host, Labels, ObjectName, PolicyName};
use crate::index::Index;
use crate::sets::{SetId, Sets};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The position in the table's list of these.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id! {
    /// Position in [`PolicyTable::imports`].
    ImportId
}
id! {
    /// Position in [`PolicyTable::exports`].
    ExportId
}
id! {
    /// Position in [`PolicyTable::peers`].
    PeerId
}
id! {
    /// A workload, or [`ClientId::UNKNOWN`].
    ClientId
}
id! {
    /// Position in [`PolicyTable::policies`], or one of the constants where no policy decided.
    PolicyId
}

impl ClientId {
    /// No workload covers the address.
    pub const UNKNOWN: Self = Self(u32::MAX);
}

impl PolicyId {
    /// No policy matched: deny.
    pub const DEFAULT_DENY: Self = Self(u32::MAX);
    /// The client is unknown and some policy looks at sources: deny.
    pub const UNKNOWN_CLIENT: Self = Self(u32::MAX - 1);
    /// More attributes than an exporter takes, [`crate::limits::MAX_SOURCE_ATTRIBUTES`]: deny.
    pub const TOO_MANY_ATTRIBUTES: Self = Self(u32::MAX - 2);
    /// An import, source, export or client that this table does not have: deny.
    pub const STALE_REFERENCE: Self = Self(u32::MAX - 3);

    /// The name under which a constant is reported; None for the id of a policy.
    #[must_use]
    pub fn fixed_text(self) -> Option<&'static str> {
        match self {
            Self::DEFAULT_DENY => Some("<default deny>"),
            Self::UNKNOWN_CLIENT => Some("<unknown client>"),
            Self::TOO_MANY_ATTRIBUTES => Some("<too many attributes>"),
            Self::STALE_REFERENCE => Some("<stale reference>"),
            _ => None,
        }
    }
}

/// One place that can serve an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    pub peer: PeerId,
    pub peer_name: Box<str>,
    pub export_namespace: Box<str>,
    pub export_name: Box<str>,
    /// Share of the connections, for schemes that use weights.
    pub weight: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportEntry {
    pub namespace: Box<str>,
    pub name: Box<str>,
    /// Port clients know.
    pub port: u16,
    /// Port to listen on; None leaves the choice to the gateway.
    pub target_port: Option<u16>,
    pub lb_scheme: LbScheme,
    pub failover: Failover,
    pub labels: Labels,
    pub sources: Box<[SourceEntry]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportEntry {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub host: Host,
    pub port: u16,
    pub labels: Labels,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerEntry {
    pub name: Box<str>,
    /// Empty for a peer that is never reachable.
    pub gateways: Box<[Gateway]>,
    /// False for a name that only sources of imports mention.
    pub declared: bool,
}

/// A policy of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyEntry {
    pub name: PolicyName,
    pub verdict: Verdict,
    pub dry_run: bool,
    /// The same number for the same tier and name in every generation and process: FNV-1a, 64 bit.
    pub fingerprint: u64,
    pub(crate) text: Box<str>,
}

impl PolicyEntry {
    /// [`Tier::Privileged`] or [`Tier::Namespace`].
    #[must_use]
    pub fn tier(&self) -> Tier {
        if self.name.is_privileged() { Tier::Privileged } else { Tier::Namespace }
    }

    /// `namespace/name`, or the name of a privileged policy.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A workload as the table keeps it.
#[derive(Debug, Clone)]
pub(crate) struct ClientEntry {
    pub name: ObjectName,
    /// Sorted by key.
    pub attributes: Box<[(Box<str>, Box<str>)]>,
}

/// The rules of the policies whose `to` matches a destination and that apply in its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Destination {
    pub enforced: SetId,
    pub dry_run: SetId,
}

/// Who owns which address.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientMap {
    pub v4: PrefixMap<Ipv4Net, ClientId>,
    pub v6: PrefixMap<Ipv6Net, ClientId>,
}

impl ClientMap {
    pub fn find(&self, ip: IpAddr) -> Option<ClientId> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.get_lpm(&ip.into()).map(|(_, client)| *client),
            IpAddr::V6(ip) => self.v6.get_lpm(&ip.into()).map(|(_, client)| *client),
        }
    }
}

/// Everything a worker asks about objects and policies. Made by [`PolicyTable::compile`]; lookups
/// and decisions neither allocate nor panic, whatever ids and attributes they are given.
#[derive(Debug, Clone)]
pub struct PolicyTable {
    pub(crate) generation: u64,
    pub(crate) peers: Box<[PeerEntry]>,
    pub(crate) imports: Box<[ImportEntry]>,
    pub(crate) exports: Box<[ExportEntry]>,
    /// In the order in which they decide.
    pub(crate) policies: Box<[PolicyEntry]>,
    /// The `from` selectors of all policies. A rule is one of these; rules are numbered like their
    /// policies, in the order in which they decide.
    pub(crate) from: Index,
    pub(crate) policy_of_rule: Box<[u32]>,
    pub(crate) sets: Sets,
    /// An enforced policy looks at sources.
    pub(crate) guarded: bool,
    /// The first dry-run policy that looks at sources; of no effect while an enforced one does.
    pub(crate) dry_run_guard: Option<PolicyId>,
    pub(crate) clients: ClientMap,
    pub(crate) client_entries: Box<[ClientEntry]>,
    /// By [`ClientId`]: the rules that match the client.
    pub(crate) client_sets: Box<[SetId]>,
    pub(crate) unknown_client: SetId,
    /// By [`ImportId`]: where its sources begin in `sources`, and one more for the end.
    pub(crate) first_source: Box<[u32]>,
    pub(crate) sources: Box<[Destination]>,
    /// By [`ExportId`].
    pub(crate) exported: Box<[Destination]>,
}

impl PolicyTable {
    /// The number given to [`PolicyTable::compile`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Ordered by namespace and name; the position is the [`ImportId`].
    #[must_use]
    pub fn imports(&self) -> &[ImportEntry] {
        &self.imports
    }

    /// Ordered by namespace and name; the position is the [`ExportId`].
    #[must_use]
    pub fn exports(&self) -> &[ExportEntry] {
        &self.exports
    }

    /// Ordered by name; the position is the [`PeerId`]. Includes names that only sources mention.
    #[must_use]
    pub fn peers(&self) -> &[PeerEntry] {
        &self.peers
    }

    /// Both tiers, dry-run policies too, in the order in which they decide; the position is the
    /// [`PolicyId`].
    #[must_use]
    pub fn policies(&self) -> &[PolicyEntry] {
        &self.policies
    }

    #[must_use]
    pub fn import(&self, id: ImportId) -> Option<&ImportEntry> {
        self.imports.get(id.index())
    }

    #[must_use]
    pub fn export(&self, id: ExportId) -> Option<&ExportEntry> {
        self.exports.get(id.index())
    }

    #[must_use]
    pub fn peer(&self, id: PeerId) -> Option<&PeerEntry> {
        self.peers.get(id.index())
    }

    /// None for the constants of [`PolicyId`] too.
    #[must_use]
    pub fn policy(&self, id: PolicyId) -> Option<&PolicyEntry> {
        self.policies.get(id.index())
    }

    #[must_use]
    pub fn find_import(&self, namespace: &str, name: &str) -> Option<ImportId> {
        self.imports
            .binary_search_by(|entry| (&*entry.namespace, &*entry.name).cmp(&(namespace, name)))
            .ok()
            .map(|index| ImportId(index as u32))
    }

    #[must_use]
    pub fn find_export(&self, namespace: &str, name: &str) -> Option<ExportId> {
        self.exports
            .binary_search_by(|entry| (&*entry.namespace, &*entry.name).cmp(&(namespace, name)))
            .ok()
            .map(|index| ExportId(index as u32))
    }

    #[must_use]
    pub fn find_peer(&self, name: &str) -> Option<PeerId> {
        self.peers
            .binary_search_by(|entry| (*entry.name).cmp(name))
            .ok()
            .map(|index| PeerId(index as u32))
    }

    /// Namespace and name of the workload; None for an unknown client.
    #[must_use]
    pub fn client_name(&self, client: ClientId) -> Option<&ObjectName> {
        self.client_entries.get(client.index()).map(|entry| &entry.name)
    }

    /// What the exporter is told about this client, sorted by key. Empty for an unknown one.
    #[must_use]
    pub fn source_attributes(&self, client: ClientId) -> &[(Box<str>, Box<str>)] {
        self.client_entries.get(client.index()).map_or(&[], |entry| &entry.attributes)
    }

    /// Whether unknown clients are refused because an enforced policy looks at sources.
    #[must_use]
    pub fn depends_on_client_attributes(&self) -> bool {
        self.guarded
    }

    pub(crate) fn rules_of_client(&self, client: ClientId) -> Option<SetId> {
        if client == ClientId::UNKNOWN {
            return Some(self.unknown_client);
        }
        self.client_sets.get(client.index()).copied()
    }

    pub(crate) fn destination_of_source(
        &self,
        import: ImportId,
        source: usize,
    ) -> Option<Destination> {
        let first = *self.first_source.get(import.index())? as usize;
        let end = *self.first_source.get(import.index().checked_add(1)?)? as usize;
        self.sources.get(first..end)?.get(source).copied()
    }

    pub(crate) fn destination_of_export(&self, export: ExportId) -> Option<Destination> {
        self.exported.get(export.index()).copied()
    }
}
