//! Which objects changed, in words.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::fabric::{
    AccessPolicy, Action, Export, Fabric, Import, Labels, Peer, PolicyName, Workload,
};

/// One object that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChange {
    /// As in `kind` of the object.
    pub kind: &'static str,
    /// `namespace/name`, or the name where the kind has no namespaces.
    pub name: String,
    pub change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Added,
    Removed,
    /// What is different, a text for each field.
    Changed(Vec<String>),
}

/// All objects that were added, removed or changed, by kind and name.
#[must_use]
pub fn objects(old: &Fabric, new: &Fabric) -> Vec<ObjectChange> {
    let mut found = Vec::new();
    compare(&mut found, |_| "Peer", &old.peers, &new.peers, peer);
    compare(&mut found, |_| "Export", &old.exports, &new.exports, export);
    compare(&mut found, |_| "Import", &old.imports, &new.imports, import);
    let kind = |name: &PolicyName| {
        if name.is_privileged() { "PrivilegedAccessPolicy" } else { "AccessPolicy" }
    };
    compare(&mut found, kind, &old.policies, &new.policies, policy);
    compare(&mut found, |_| "Workload", &old.workloads, &new.workloads, workload);
    found
}

fn compare<K: Ord + Display, V: PartialEq>(
    found: &mut Vec<ObjectChange>,
    kind: impl Fn(&K) -> &'static str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    describe: impl Fn(&V, &V) -> Vec<String>,
) {
    let mut names: Vec<&K> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let change = match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(old), Some(new)) => {
                let mut words = describe(old, new);
                if words.is_empty() {
                    words.push("another value of a field".to_owned());
                }
                Change::Changed(words)
            }
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
        };
        found.push(ObjectChange { kind: kind(name), name: name.to_string(), change });
    }
}

/// `what old -> new` where they differ.
fn turned<T: PartialEq + Display>(words: &mut Vec<String>, what: &str, old: &T, new: &T) {
    if old != new {
        words.push(format!("{what} {old} -> {new}"));
    }
}

/// What a list gained and lost, or that only its order is another.
fn listed<T: PartialEq>(
    words: &mut Vec<String>,
    what: &str,
    old: &[T],
    new: &[T],
    text: impl Fn(&T) -> String,
) {
    if old == new {
        return;
    }
    let before = words.len();
    for (list, other, verb) in [(old, new, "removed"), (new, old, "added")] {
        for item in list.iter().filter(|item| !other.contains(item)) {
            words.push(format!("{what} {verb}: {}", text(item)));
        }
    }
    if words.len() == before {
        words.push(format!("{what}: another order or number"));
    }
}

fn labels(words: &mut Vec<String>, old: &Labels, new: &Labels) {
    let pairs = |labels: &Labels| labels.clone().into_iter().collect::<Vec<_>>();
    listed(words, "label", &pairs(old), &pairs(new), |(key, value)| format!("{key}={value}"));
}

fn optional_port(port: Option<u16>) -> String {
    port.map_or_else(|| "chosen by the gateway".to_owned(), |port| port.to_string())
}

fn peer(old: &Peer, new: &Peer) -> Vec<String> {
    let mut words = Vec::new();
    let text = |gateway: &crate::Gateway| format!("{} port {}", gateway.host, gateway.port);
    listed(&mut words, "gateway", &old.gateways, &new.gateways, text);
    words
}

fn export(old: &Export, new: &Export) -> Vec<String> {
    let mut words = Vec::new();
    turned(&mut words, "host", &old.host, &new.host);
    turned(&mut words, "port", &old.port, &new.port);
    labels(&mut words, &old.labels, &new.labels);
    words
}

fn import(old: &Import, new: &Import) -> Vec<String> {
    let mut words = Vec::new();
    turned(&mut words, "port", &old.port, &new.port);
    let target = [old, new].map(|import| optional_port(import.target_port));
    turned(&mut words, "targetPort", &target[0], &target[1]);
    turned(&mut words, "lbScheme", &old.lb_scheme.as_str(), &new.lb_scheme.as_str());
    turned(&mut words, "failover", &old.failover.as_str(), &new.failover.as_str());
    let weighted = old.lb_scheme.uses_weights() || new.lb_scheme.uses_weights();
    let text = |source: &crate::ImportSource| {
        let weight = if weighted { format!(", weight {}", source.weight) } else { String::new() };
        format!("{} at {}{weight}", source.export, source.peer)
    };
    listed(&mut words, "source", &old.sources, &new.sources, text);
    labels(&mut words, &old.labels, &new.labels);
    words
}

fn policy(old: &AccessPolicy, new: &AccessPolicy) -> Vec<String> {
    let mut words = Vec::new();
    let action = |policy: &AccessPolicy| match policy.action {
        Action::Allow => "allow",
        Action::Deny => "deny",
    };
    turned(&mut words, "action", &action(old), &action(new));
    turned(&mut words, "dryRun", &old.dry_run, &new.dry_run);
    listed(&mut words, "from", &old.from, &new.from, ToString::to_string);
    listed(&mut words, "to", &old.to, &new.to, ToString::to_string);
    words
}

fn workload(old: &Workload, new: &Workload) -> Vec<String> {
    let mut words = Vec::new();
    turned(&mut words, "serviceAccount", &old.service_account, &new.service_account);
    listed(&mut words, "address", &old.addresses, &new.addresses, ToString::to_string);
    labels(&mut words, &old.labels, &new.labels);
    words
}
