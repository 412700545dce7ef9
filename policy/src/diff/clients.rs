//! The clients that are compared, in classes.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound::{Excluded, Unbounded};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use super::State;
use super::classes::{Signature, Vocabulary};
use crate::attributes::{self, Attributes};
use crate::fabric::{Fabric, ObjectName, Workload};
use crate::table::ClientId;

const UNKNOWN: &str = "unknown clients";

/// Clients that policies cannot tell apart.
pub(super) struct Class<C> {
    /// One of them.
    pub asked: C,
    /// Positions in [`Clients::names`].
    pub members: Vec<u32>,
}

pub(super) struct Clients<C> {
    pub names: Vec<String>,
    pub classes: Vec<Class<C>>,
}

/// Who an address belonged to, and belongs to now.
pub(super) struct Owners {
    pub old: ClientId,
    pub new: ClientId,
}

impl<C> Clients<C> {
    /// Sorts clients into classes; those of equal `key` are alike.
    fn sort<K: Hash + Eq>(clients: impl Iterator<Item = (String, K, C)>) -> Self {
        let mut all = Self { names: Vec::new(), classes: Vec::new() };
        let mut known: HashMap<K, usize> = HashMap::new();
        for (name, key, asked) in clients {
            let class = *known.entry(key).or_insert_with(|| {
                all.classes.push(Class { asked, members: Vec::new() });
                all.classes.len() - 1
            });
            all.classes[class].members.push(all.names.len() as u32);
            all.names.push(name);
        }
        all
    }
}

/// Every distinct pair of owners of an address in either state, and the unknown client.
pub(super) fn of_addresses(
    old: State<'_>,
    new: State<'_>,
    vocabulary: &Vocabulary<'_>,
) -> Clients<Owners> {
    let (was, is) = (Owned::of(old.fabric), Owned::of(new.fabric));
    let mut pairs: BTreeSet<(Option<u32>, Option<u32>)> = BTreeSet::from([(None, None)]);
    let workloads = old.fabric.workloads().chain(new.fabric.workloads());
    let nets: BTreeSet<IpNet> =
        workloads.flat_map(|workload| &workload.addresses).map(IpNet::trunc).collect();
    for net in nets.iter().filter(|net| !is_covered(**net, &nets)) {
        pairs.insert((was.owner(*net), is.owner(*net)));
    }
    let signatures = |state: State<'_>| {
        let source = |w: &Workload| vocabulary.signature(&attributes::source(state.local, w));
        state.fabric.workloads().map(source).collect::<Vec<_>>()
    };
    let (before, after) = (signatures(old), signatures(new));
    fn name<'w>(workloads: &[&'w Workload], id: Option<u32>) -> Option<&'w ObjectName> {
        workloads.get(id? as usize).map(|workload| &workload.name)
    }
    let olds: Vec<&Workload> = old.fabric.workloads().collect();
    let news: Vec<&Workload> = new.fabric.workloads().collect();
    let id = |id: Option<u32>| id.map_or(ClientId::UNKNOWN, ClientId);
    Clients::sort(pairs.into_iter().map(|(was, is)| {
        let label = match (name(&olds, was), name(&news, is)) {
            (Some(was), Some(is)) if was == is => is.to_string(),
            (Some(was), Some(is)) => format!("{was} -> {is}"),
            (Some(was), None) if new.fabric.workloads.contains_key(was) => {
                format!("{was} -> unknown")
            }
            (Some(was), None) => format!("{was} (removed)"),
            (None, Some(is)) if old.fabric.workloads.contains_key(is) => {
                format!("unknown -> {is}")
            }
            (None, Some(is)) => format!("{is} (new)"),
            (None, None) => UNKNOWN.to_owned(),
        };
        let key = (at(&before, was), at(&after, is));
        (label, key, Owners { old: id(was), new: id(is) })
    }))
}

fn at<'v>(signatures: &[Signature<'v>], id: Option<u32>) -> Signature<'v> {
    signatures.get(id? as usize)?.clone()
}

/// Whether longer prefixes of `nets` leave no address of this one: whoever has it owns nothing then.
fn is_covered(net: IpNet, nets: &BTreeSet<IpNet>) -> bool {
    let mut next = net.network();
    // Within a family they ascend by address, and of equal ones the shorter prefix comes first.
    for inner in nets.range((Excluded(net), Unbounded)).take_while(|inner| net.contains(*inner)) {
        if inner.network() > next {
            return false;
        }
        if inner.broadcast() >= net.broadcast() {
            return true;
        }
        next = next.max(after(inner.broadcast()));
    }
    false
}

/// The next address; the last one stays.
fn after(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().saturating_add(1)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().saturating_add(1)).into(),
    }
}

/// The workloads of other sites as those describe them to exporters, and the unknown client.
pub(super) fn of_importers(
    importers: &[State<'_>],
    vocabulary: &Vocabulary<'_>,
) -> Clients<Attributes> {
    let known = importers.iter().flat_map(|site| {
        site.fabric.workloads().map(|workload| {
            let from = attributes::source(site.local, workload);
            (format!("{}: {}", site.local.name, workload.name), from)
        })
    });
    let unknown = std::iter::once((UNKNOWN.to_owned(), Attributes::new()));
    Clients::sort(
        known.chain(unknown).map(|(name, from)| (name, vocabulary.signature(&from), from)),
    )
}

/// Who owns which address, by position of the workload.
#[derive(Default)]
struct Owned {
    v4: PrefixMap<Ipv4Net, u32>,
    v6: PrefixMap<Ipv6Net, u32>,
}

impl Owned {
    /// As the table sees it: of two workloads with the same prefix the first owns it.
    fn of(fabric: &Fabric) -> Self {
        let mut owned = Self::default();
        for (workload, id) in fabric.workloads().zip(0u32..) {
            for net in workload.addresses.iter().map(IpNet::trunc) {
                match net {
                    IpNet::V4(net) => owned.v4.entry(net).or_insert(id),
                    IpNet::V6(net) => owned.v6.entry(net).or_insert(id),
                };
            }
        }
        owned
    }

    /// The owner of the part of `net` that no longer prefix takes out of it.
    fn owner(&self, net: IpNet) -> Option<u32> {
        match net {
            IpNet::V4(net) => self.v4.get_lpm(&net).map(|(_, id)| *id),
            IpNet::V6(net) => self.v6.get_lpm(&net).map(|(_, id)| *id),
        }
    }
}
