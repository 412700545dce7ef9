//! What a change of objects changes: which client may reach which service, and which policy says
//! so.
//!
//! Clients are compared by address: whoever owned a prefix before against whoever owns it now.
//! Clients and destinations that no policy can tell apart are asked about once.

mod classes;
mod clients;
mod objects;
mod services;

pub use objects::{Change, ObjectChange, objects};
pub use services::Service;

use std::collections::HashMap;

use crate::connection::NO_SUCH_EXPORT;
use crate::decide::Decision;
use crate::fabric::{Fabric, LocalPeer, PeerLabels};
use crate::table::PolicyTable;
use classes::Vocabulary;
use services::Destination;

/// The policy that is named where there is no such import, or it has no such source.
pub const NO_SUCH_SOURCE: &str = "<no such source>";

/// One state of a site.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    pub fabric: &'a Fabric,
    pub local: &'a LocalPeer,
    pub peer_labels: &'a PeerLabels,
}

/// A decision without its table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Say {
    pub allowed: bool,
    /// As in [`Decision::policy`]; [`NO_SUCH_SOURCE`] or [`NO_SUCH_EXPORT`] where there is nothing
    /// to decide about.
    pub policy: String,
}

/// Clients whose way to one service changed alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub service: Service,
    pub old: Say,
    pub new: Say,
    /// Ascending positions in [`Decisions::clients`].
    pub clients: Vec<u32>,
}

impl Group {
    /// Whether the verdict changed, not only the policy that gives it.
    #[must_use]
    pub fn turns(&self) -> bool {
        self.old.allowed != self.new.allowed
    }
}

/// All changed decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Every client that was compared: `namespace/name`, perhaps with `(new)` or `(removed)` behind
    /// it; `old -> new` of addresses that changed hands; `peer: namespace/name` of another site's;
    /// and `unknown clients`.
    pub clients: Vec<String>,
    /// By service, then by what was and is said.
    pub groups: Vec<Group>,
    /// Pairs of a client and a service that were compared.
    pub compared: usize,
    /// Exports that were compared for unknown clients only, for want of importing sites.
    pub exports_without_clients: usize,
}

/// Compares every decision of a site before and after a change. `importers` are the sites whose
/// workloads are the clients of the exports.
#[must_use]
pub fn decisions(old: State<'_>, new: State<'_>, importers: &[State<'_>]) -> Decisions {
    let compile =
        |state: State<'_>| PolicyTable::compile(state.fabric, state.local, 0, state.peer_labels);
    let (was, is) = (compile(old), compile(new));
    let vocabulary = Vocabulary::of([old.fabric, new.fabric]);
    let mut all = Decisions::default();

    let clients = clients::of_addresses(old, new, &vocabulary);
    let destinations = services::imports(old, new, &vocabulary);
    all.compare(clients.names, &clients.classes, &destinations, |client, service| {
        let old = service.old.map(|at| was.decide_egress(at.import, at.source, client.old));
        let new = service.new.map(|at| is.decide_egress(at.import, at.source, client.new));
        [said(old, NO_SUCH_SOURCE), said(new, NO_SUCH_SOURCE)]
    });

    let clients = clients::of_importers(importers, &vocabulary);
    let destinations = services::exports(old, new, &vocabulary);
    if importers.is_empty() {
        all.exports_without_clients = destinations.iter().map(|d| d.members.len()).sum();
    }
    all.compare(clients.names, &clients.classes, &destinations, |from, service| {
        let pairs = from.iter().map(|(key, value)| (&**key, &**value));
        let old = service.old.map(|export| was.decide_ingress(export, pairs.clone()));
        let new = service.new.map(|export| is.decide_ingress(export, pairs));
        [said(old, NO_SUCH_EXPORT), said(new, NO_SUCH_EXPORT)]
    });
    all.groups.sort_by(|a, b| (&a.service, &a.old, &a.new).cmp(&(&b.service, &b.old, &b.new)));
    all
}

/// Verdict and policy; `nothing` where there is nothing to decide about.
fn said<'t>(decision: Option<Decision<'t>>, nothing: &'static str) -> (bool, &'t str) {
    decision.map_or((false, nothing), |decision| (decision.is_allowed(), decision.policy))
}

impl Decisions {
    /// Asks once for each class of clients and class of services.
    fn compare<'t, C, P>(
        &mut self,
        names: Vec<String>,
        clients: &[clients::Class<C>],
        destinations: &[Destination<P>],
        ask: impl Fn(&C, &Destination<P>) -> [(bool, &'t str); 2],
    ) {
        let base = self.clients.len() as u32;
        for destination in destinations {
            let mut changed: HashMap<[(bool, &str); 2], Vec<u32>> = HashMap::new();
            for class in clients {
                let said = ask(&class.asked, destination);
                if said[0] != said[1] {
                    let members = class.members.iter().map(|member| base + member);
                    changed.entry(said).or_default().extend(members);
                }
            }
            for (said, mut clients) in changed {
                clients.sort_unstable();
                let [old, new] =
                    said.map(|(allowed, policy)| Say { allowed, policy: policy.to_owned() });
                self.groups.extend(destination.members.iter().map(|service| Group {
                    service: service.clone(),
                    old: old.clone(),
                    new: new.clone(),
                    clients: clients.clone(),
                }));
            }
            self.compared += names.len() * destination.members.len();
        }
        self.clients.extend(names);
    }
}
