//! Fabric to table.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use crate::attributes::{self, Attributes};
use crate::bits::Bits;
use crate::decide::Verdict;
use crate::fabric::{AccessPolicy, Action, Fabric, LocalPeer, PeerLabels, PolicyName};
use crate::index::{NO_PAIR, SideIndex, View, Vocabulary};
use crate::table::{
    ClientEntry, ClientId, ClientMap, ExportEntry, ImportEntry, PeerEntry, PeerId, PolicyEntry,
    PolicyId, PolicyTable, SourceEntry,
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
        let policies = in_deciding_order(fabric);
        let mut vocabulary = Vocabulary::default();
        let from = index(&mut vocabulary, &policies, |policy| &policy.from);
        let to = index(&mut vocabulary, &policies, |policy| &policy.to);
        let selective = |policy: &AccessPolicy| {
            policy.from.iter().any(|selector| !selector.requirements().is_empty())
        };
        let guarded = policies.iter().any(|policy| !policy.dry_run && selective(policy));
        let dry_run_guard = policies
            .iter()
            .position(|policy| policy.dry_run && selective(policy))
            .map(|position| PolicyId(position as u32));

        let mut scopes = Scopes::new(&policies);
        let mut sets = Interned::default();
        let mut destination = |namespace: &str, destination: &Attributes| {
            let matching = matching_set(&to, &vocabulary, destination, policies.len());
            sets.id(scopes.restrict(&matching, namespace))
        };
        let source_sets = fabric
            .imports()
            .map(|import| {
                let sources = import.sources.iter().map(|source| {
                    let labels = peer_labels.get(&source.peer);
                    let attributes = attributes::egress_destination(import, source, labels);
                    destination(&import.name.namespace, &attributes)
                });
                sources.collect()
            })
            .collect();
        let export_sets = fabric
            .exports()
            .map(|export| {
                let attributes = attributes::ingress_destination(local, export);
                destination(&export.name.namespace, &attributes)
            })
            .collect();

        let mut client_sets = Interned::default();
        let nobody = matching_set(&from, &vocabulary, &Attributes::new(), policies.len());
        client_sets.id(nobody);
        let client_entries = fabric
            .workloads()
            .map(|workload| {
                let source = attributes::source(local, workload);
                let set = matching_set(&from, &vocabulary, &source, policies.len());
                ClientEntry {
                    name: workload.name.clone(),
                    set: client_sets.id(set),
                    attributes: source.into_iter().collect(),
                }
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
            client_entries,
            client_sets: client_sets.sets.into(),
            destination_sets: sets.sets.into(),
            source_sets,
            export_sets,
            policies: policies.iter().map(|policy| entry(policy)).collect(),
            vocabulary,
            from,
        }
    }
}

/// Privileged before namespaced, deny before allow, then by name.
fn in_deciding_order(fabric: &Fabric) -> Vec<&AccessPolicy> {
    let mut policies: Vec<_> = fabric.policies().collect();
    policies.sort_by_key(|policy| {
        (!policy.name.is_privileged(), policy.action != Action::Deny, &policy.name)
    });
    policies
}

fn index<'a>(
    vocabulary: &mut Vocabulary,
    policies: &[&'a AccessPolicy],
    side: impl Fn(&'a AccessPolicy) -> &'a [crate::selector::Selector],
) -> SideIndex {
    let selectors = policies
        .iter()
        .zip(0u32..)
        .flat_map(|(policy, id)| side(policy).iter().map(move |selector| (id, selector)));
    SideIndex::build(vocabulary, selectors)
}

fn matching_set(
    index: &SideIndex,
    vocabulary: &Vocabulary,
    attributes: &Attributes,
    policies: usize,
) -> Bits {
    let mut storage = vec![NO_PAIR; attributes.len()];
    let pairs = attributes.iter().map(|(key, value)| (&**key, &**value));
    match View::resolve(vocabulary, pairs, &mut storage) {
        Ok(view) => index.matching_set(&view, policies),
        // Cannot be, the storage has a slot for every attribute; an empty set denies.
        Err(_) => Bits::empty(policies),
    }
}

/// Which policies apply in which namespace.
struct Scopes<'a> {
    policies: &'a [&'a AccessPolicy],
    applying: HashMap<Box<str>, Bits>,
}

impl<'a> Scopes<'a> {
    fn new(policies: &'a [&'a AccessPolicy]) -> Self {
        Self { policies, applying: HashMap::new() }
    }

    /// Those of `matching` that are privileged or of this namespace.
    fn restrict(&mut self, matching: &Bits, namespace: &str) -> Bits {
        let policies = self.policies;
        let applying = self.applying.entry(namespace.into()).or_insert_with(|| {
            let mut bits = Bits::empty(policies.len());
            for (policy, id) in policies.iter().zip(0u32..) {
                if policy.name.namespace.as_deref().is_none_or(|own| own == namespace) {
                    bits.insert(id);
                }
            }
            bits
        });
        let mut restricted = Bits::empty(policies.len());
        for id in matching.common(applying) {
            restricted.insert(id);
        }
        restricted
    }
}

/// Each distinct set once: clients and destinations that policies cannot tell apart share one.
#[derive(Default)]
struct Interned {
    ids: HashMap<Bits, u32>,
    sets: Vec<Bits>,
}

impl Interned {
    fn id(&mut self, set: Bits) -> u32 {
        if let Some(id) = self.ids.get(&set) {
            return *id;
        }
        let id = self.sets.len() as u32;
        self.sets.push(set.clone());
        self.ids.insert(set, id);
        id
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
