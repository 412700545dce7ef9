//! The checked objects of one site: what [`crate::load`] yields and a table is compiled from.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use crate::balance::{Failover, LbScheme};
use crate::limits::MAX_SOURCES_PER_IMPORT;
use crate::selector::Selector;

/// Labels of an object.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// Name of a namespaced object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    pub namespace: Box<str>,
    pub name: Box<str>,
}

impl ObjectName {
    pub fn new(namespace: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Name of a policy; without a namespace it is a `PrivilegedAccessPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    pub namespace: Option<Box<str>>,
    pub name: Box<str>,
}

impl PolicyName {
    /// A `PrivilegedAccessPolicy`.
    pub fn privileged(name: impl Into<Box<str>>) -> Self {
        Self { namespace: None, name: name.into() }
    }

    /// An `AccessPolicy`.
    pub fn namespaced(namespace: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        Self { namespace: Some(namespace.into()), name: name.into() }
    }

    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.namespace.is_none()
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Where a service or gateway is: an address, or a name that the gateway's control thread resolves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Ip(IpAddr),
    /// Lower case, without the final dot.
    Dns(Box<str>),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Dns(name) => f.write_str(name),
        }
    }
}

/// An endpoint of a remote peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gateway {
    pub host: Host,
    pub port: u16,
}

/// A remote site. The name must be a DNS SAN of its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub name: Box<str>,
    pub gateways: Vec<Gateway>,
}

/// A local service that other peers may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    pub name: ObjectName,
    pub labels: Labels,
    pub host: Host,
    pub port: u16,
}

/// One place that can serve an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportSource {
    pub peer: Box<str>,
    pub export: ObjectName,
    /// Share of the connections, for schemes that use weights. At most
    /// [`crate::limits::MAX_SOURCE_WEIGHT`] in what [`crate::load`] yields.
    pub weight: u32,
}

/// A remote service that local clients may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    pub name: ObjectName,
    pub labels: Labels,
    /// Port clients know.
    pub port: u16,
    /// Port the gateway listens on; None leaves the choice to the gateway.
    pub target_port: Option<u16>,
    pub lb_scheme: LbScheme,
    pub failover: Failover,
    /// At most [`MAX_SOURCES_PER_IMPORT`].
    pub sources: Vec<ImportSource>,
}

/// What a policy says about the connections it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Allow,
    Deny,
}

/// An `AccessPolicy` or, without a namespace in its name, a `PrivilegedAccessPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPolicy {
    pub name: PolicyName,
    pub action: Action,
    /// Matches when any of these matches the source.
    pub from: Vec<Selector>,
    /// Matches when any of these matches the destination.
    pub to: Vec<Selector>,
    /// Evaluated, never enforced.
    pub dry_run: bool,
}

/// A local client outside Kubernetes: who it is, by its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    pub name: ObjectName,
    pub labels: Labels,
    pub service_account: Box<str>,
    /// Without host bits. The longest prefix over all workloads decides.
    pub addresses: Vec<IpNet>,
}

/// This peer: its name (a DNS SAN of its certificate) and the labels it tells others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalPeer {
    pub name: Box<str>,
    pub labels: Labels,
}

/// Labels the remote peers reported with their heartbeats, by peer name. A peer that is not
/// reachable has none.
pub type PeerLabels = BTreeMap<Box<str>, Labels>;

/// Why a change of a fabric was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FabricError {
    #[error("there is no policy `{0}` to delete")]
    NoSuchPolicy(PolicyName),
    #[error(
        "policy `{0}` has an empty `{1}`; it could never match, give it at least one selector \
         (`{{}}` matches everything)"
    )]
    EmptySide(PolicyName, &'static str),
    #[error(
        "import `{0}` has {1} sources, more than the {MAX_SOURCES_PER_IMPORT} an import may have"
    )]
    TooManySources(ObjectName, usize),
}

/// All objects of one site by name. Objects are replaced by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fabric {
    pub(crate) peers: BTreeMap<Box<str>, Peer>,
    pub(crate) exports: BTreeMap<ObjectName, Export>,
    pub(crate) imports: BTreeMap<ObjectName, Import>,
    pub(crate) policies: BTreeMap<PolicyName, AccessPolicy>,
    pub(crate) workloads: BTreeMap<ObjectName, Workload>,
}

impl Fabric {
    /// A fabric without objects: nothing is reachable.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn peers(&self) -> impl ExactSizeIterator<Item = &Peer> {
        self.peers.values()
    }

    pub fn exports(&self) -> impl ExactSizeIterator<Item = &Export> {
        self.exports.values()
    }

    pub fn imports(&self) -> impl ExactSizeIterator<Item = &Import> {
        self.imports.values()
    }

    /// Both tiers.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = &AccessPolicy> {
        self.policies.values()
    }

    /// Both tiers in the order in which they decide: privileged before namespaced, deny before
    /// allow. Among those with the same say the order only matters for which of several is named as
    /// the deciding one; by selectors, because that keeps policies about the same clients together
    /// in the sets of a table, and then by name.
    #[must_use]
    pub fn policies_in_deciding_order(&self) -> Vec<&AccessPolicy> {
        let mut policies: Vec<_> = self.policies().collect();
        policies.sort_by(|a, b| {
            let say = |policy: &AccessPolicy| {
                (!policy.name.is_privileged(), policy.action != Action::Deny)
            };
            (say(a), &a.from, &a.to, &a.name).cmp(&(say(b), &b.from, &b.to, &b.name))
        });
        policies
    }

    pub fn workloads(&self) -> impl ExactSizeIterator<Item = &Workload> {
        self.workloads.values()
    }

    /// Adds or replaces a peer; returns the one it replaced.
    pub fn put_peer(&mut self, peer: Peer) -> Option<Peer> {
        self.peers.insert(peer.name.clone(), peer)
    }

    /// Adds or replaces an export; returns the one it replaced.
    pub fn put_export(&mut self, export: Export) -> Option<Export> {
        self.exports.insert(export.name.clone(), export)
    }

    /// Adds or replaces an import; returns the one it replaced.
    ///
    /// # Errors
    /// When it has more than [`MAX_SOURCES_PER_IMPORT`] sources.
    pub fn put_import(&mut self, import: Import) -> Result<Option<Import>, FabricError> {
        if import.sources.len() > MAX_SOURCES_PER_IMPORT {
            return Err(FabricError::TooManySources(import.name, import.sources.len()));
        }
        Ok(self.imports.insert(import.name.clone(), import))
    }

    /// Adds or replaces a policy of either tier; returns the one it replaced.
    ///
    /// # Errors
    /// When `from` or `to` is empty.
    pub fn put_policy(
        &mut self,
        policy: AccessPolicy,
    ) -> Result<Option<AccessPolicy>, FabricError> {
        for (side, selectors) in [("from", &policy.from), ("to", &policy.to)] {
            if selectors.is_empty() {
                return Err(FabricError::EmptySide(policy.name, side));
            }
        }
        Ok(self.policies.insert(policy.name.clone(), policy))
    }

    /// Adds or replaces a workload; returns the one it replaced.
    pub fn put_workload(&mut self, workload: Workload) -> Option<Workload> {
        self.workloads.insert(workload.name.clone(), workload)
    }

    /// Deletes a policy.
    ///
    /// # Errors
    /// When there is none of this name in this tier.
    pub fn delete_policy(&mut self, name: &PolicyName) -> Result<AccessPolicy, FabricError> {
        self.policies.remove(name).ok_or_else(|| FabricError::NoSuchPolicy(name.clone()))
    }

    pub fn delete_peer(&mut self, name: &str) -> Option<Peer> {
        self.peers.remove(name)
    }

    pub fn delete_export(&mut self, name: &ObjectName) -> Option<Export> {
        self.exports.remove(name)
    }

    pub fn delete_import(&mut self, name: &ObjectName) -> Option<Import> {
        self.imports.remove(name)
    }

    pub fn delete_workload(&mut self, name: &ObjectName) -> Option<Workload> {
        self.workloads.remove(name)
    }
}
