//! Fabric to table.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use crate::attributes::{self, Attributes};
use crate::decide::Verdict;
use crate::fabric::{AccessPolicy, Action, Fabric, LocalPeer, PeerLabels, PolicyName};
use crate::index::Index;
use crate::selector::Selector;
use crate::sets::{Bits, SetsBuilder};
use crate::table::{
    ClientEntry, ClientId, ClientMap, Destination, ExportEntry, ImportEntry, PeerEntry, PeerId,
    PolicyEntry, PolicyId, PolicyTable, SourceEntry,
};

impl PolicyTable {
    /// Compiles `fabric` as the peer `local` sees it. `peer_labels` are what remote peers last
    /// reported; compile again when they change. `generation` is repeated in every decision.
    #[must_use]
    pub fn compile(
        fabric: &Fabric,
        local: &LocalPeer,
        generation: u64,
        peer_labels: &PeerLabels,
    ) -> Self {
        let policies = fabric.policies_in_deciding_order();
        let selective = |policy: &AccessPolicy| {
            policy.from.iter().any(|selector| !selector.requirements().is_empty())
        };
        let guarded = policies.iter().any(|policy| !policy.dry_run && selective(policy));
        let dry_run_guard = policies
            .iter()
            .position(|policy| policy.dry_run && selective(policy))
            .map(|position| PolicyId(position as u32));

        let from = Side::new(&policies, |policy| &policy.from);
        let mut sets = SetsBuilder::new(from.policy_of_rule.len());
        let unknown_client = sets.intern(&from.index.matching(&Attributes::new()));
        let (client_entries, client_sets): (Vec<_>, Vec<_>) = fabric
            .workloads()
            .map(|workload| {
                let source = attributes::source(local, workload);
                let set = sets.intern(&from.index.matching(&source));
                let attributes = source.into_iter().collect();
                (ClientEntry { name: workload.name.clone(), attributes }, set)
            })
            .unzip();

        let mut destinations = Destinations::new(&policies, &from);
        let mut first_source = vec![0];
        let mut sources = Vec::new();
        for import in fabric.imports() {
            for source in &import.sources {
                let labels = peer_labels.get(&source.peer);
                let attributes = attributes::egress_destination(import, source, labels);
                sources.push(destinations.find(&mut sets, &import.name.namespace, &attributes));
            }
            first_source.push(sources.len() as u32);
        }
        let exported = fabric
            .exports()
            .map(|export| {
                let attributes = attributes::ingress_destination(local, export);
                destinations.find(&mut sets, &export.name.namespace, &attributes)
            })
            .collect();

        let peers = peers(fabric);
        Self {
            generation,
            imports: imports(fabric, &peers),
            exports: exports(fabric),
            peers,
            guarded,
            dry_run_guard,
            clients: clients(fabric),
            client_entries: client_entries.into(),
            client_sets: client_sets.into(),
            unknown_client,
            first_source: first_source.into(),
            sources: sources.into(),
            exported,
            policies: policies.iter().map(|policy| entry(policy)).collect(),
            policy_of_rule: from.policy_of_rule,
            from: from.index,
            sets: sets.finish(),
        }
    }
}

/// The selectors of all policies at one end of a connection, as rules in the order in which their
/// policies decide.
struct Side {
    policy_of_rule: Box<[u32]>,
    index: Index,
}

impl Side {
    fn new<'a>(
        policies: &[&'a AccessPolicy],
        selectors: impl Fn(&'a AccessPolicy) -> &'a [Selector],
    ) -> Self {
        let policy_of_rule = policies
            .iter()
            .zip(0u32..)
            .flat_map(|(policy, id)| std::iter::repeat_n(id, selectors(policy).len()))
            .collect();
        Self {
            policy_of_rule,
            index: Index::build(policies.iter().flat_map(|policy| selectors(policy))),
        }
    }
}

/// From the attributes of a destination to the rules of the `from` sides that apply there.
struct Destinations<'a> {
    policies: &'a [&'a AccessPolicy],
    to: Side,
    /// Per policy the first of its `from` rules, and one more for the end.
    first_rule: Vec<u32>,
    rules: usize,
    /// By namespace and the policies' `to` rules that match.
    known: HashMap<(Box<str>, Bits), Destination>,
}

impl<'a> Destinations<'a> {
    fn new(policies: &'a [&'a AccessPolicy], from: &Side) -> Self {
        let mut first_rule = vec![0];
        for policy in policies {
            first_rule.push(first_rule.last().unwrap_or(&0) + policy.from.len() as u32);
        }
        Self {
            policies,
            to: Side::new(policies, |policy| &policy.to),
            first_rule,
            rules: from.policy_of_rule.len(),
            known: HashMap::new(),
        }
    }

    /// `namespace` is that of the import or export: policies of others have no say.
    fn find(
        &mut self,
        sets: &mut SetsBuilder,
        namespace: &str,
        attributes: &Attributes,
    ) -> Destination {
        let matching = self.to.index.matching(attributes);
        *self.known.entry((namespace.into(), matching)).or_insert_with_key(|(_, matching)| {
            let (mut enforced, mut dry_run) = (Bits::empty(self.rules), Bits::empty(self.rules));
            for id in matching.members().filter_map(|rule| self.to.policy_of_rule.get(rule)) {
                let policy = self.policies[*id as usize];
                if policy.name.namespace.as_deref().is_some_and(|own| own != namespace) {
                    continue;
                }
                let rules = if policy.dry_run { &mut dry_run } else { &mut enforced };
                (self.first_rule[*id as usize]..self.first_rule[*id as usize + 1])
                    .for_each(|rule| rules.insert(rule));
            }
            Destination { enforced: sets.intern(&enforced), dry_run: sets.intern(&dry_run) }
        })
    }
}

fn peers(fabric: &Fabric) -> Box<[PeerEntry]> {
    let mentioned = fabric.imports().flat_map(|import| &import.sources).map(|source| &source.peer);
    let names: BTreeSet<&str> =
        fabric.peers().map(|peer| &peer.name).chain(mentioned).map(|name| &**name).collect();
    names
        .into_iter()
        .map(|name| {
            let peer = fabric.peers.get(name);
            PeerEntry {
                name: name.into(),
                gateways: peer.map_or_else(Box::default, |peer| peer.gateways.as_slice().into()),
                declared: peer.is_some(),
            }
        })
        .collect()
}

fn imports(fabric: &Fabric, peers: &[PeerEntry]) -> Box<[ImportEntry]> {
    let ids: BTreeMap<&str, PeerId> =
        peers.iter().zip(0u32..).map(|(peer, id)| (&*peer.name, PeerId(id))).collect();
    fabric
        .imports()
        .map(|import| ImportEntry {
            namespace: import.name.namespace.clone(),
            name: import.name.name.clone(),
            port: import.port,
            target_port: import.target_port,
            lb_scheme: import.lb_scheme,
            failover: import.failover,
            labels: import.labels.clone(),
            sources: import
                .sources
                .iter()
                .filter_map(|source| {
                    Some(SourceEntry {
                        peer: *ids.get(&*source.peer)?,
                        peer_name: source.peer.clone(),
                        export_namespace: source.export.namespace.clone(),
                        export_name: source.export.name.clone(),
                        weight: source.weight,
                    })
                })
                .collect(),
        })
        .collect()
}

fn exports(fabric: &Fabric) -> Box<[ExportEntry]> {
    fabric
        .exports()
        .map(|export| ExportEntry {
            namespace: export.name.namespace.clone(),
            name: export.name.name.clone(),
            host: export.host.clone(),
            port: export.port,
            labels: export.labels.clone(),
        })
        .collect()
}

/// Of two workloads with the same prefix the first by name owns it.
fn clients(fabric: &Fabric) -> ClientMap {
    let mut clients = ClientMap::default();
    for (workload, id) in fabric.workloads().zip(0u32..) {
        for address in &workload.addresses {
            match address.trunc() {
                IpNet::V4(net) => {
                    clients.v4.entry(net).or_insert(ClientId(id));
                }
                IpNet::V6(net) => {
                    clients.v6.entry(net).or_insert(ClientId(id));
                }
            }
        }
    }
    clients
}

fn entry(policy: &AccessPolicy) -> PolicyEntry {
    PolicyEntry {
        verdict: match policy.action {
            Action::Allow => Verdict::Allow,
            Action::Deny => Verdict::Deny,
        },
        dry_run: policy.dry_run,
        fingerprint: fingerprint(&policy.name),
        text: policy.name.to_string().into(),
        name: policy.name.clone(),
    }
}

/// FNV-1a over namespace, a zero byte and name. A namespace is never empty, so the tiers differ.
fn fingerprint(name: &PolicyName) -> u64 {
    let namespace = name.namespace.as_deref().unwrap_or_default();
    let bytes = namespace.bytes().chain([0]).chain(name.name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
