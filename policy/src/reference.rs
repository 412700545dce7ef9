//! The rules written down as plainly as possible: slow, without ids, sets or caches.
//!
//! The compiled table must agree with this on every question; it is the oracle of the property
//! tests and of the self-check before a table is published.

use std::net::IpAddr;

use crate::attributes::{self, Attributes};
use crate::decide::{Decision, Side, Tier, Verdict};
use crate::fabric::{
    AccessPolicy, Action, Fabric, LocalPeer, ObjectName, PeerLabels, PolicyName, Workload,
};
use crate::limits::MAX_SOURCE_ATTRIBUTES;
use crate::selector::Selector;
use crate::table::PolicyTable;

/// Who decided, in terms that do not depend on a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// As in [`Decision::policy`].
    pub policy: String,
    pub tier: Tier,
    pub side: Side,
    /// The dry-run policy that would turn the verdict.
    pub dry_run_match: Option<PolicyName>,
}

impl Outcome {
    /// The same facts of a decision of `table`.
    #[must_use]
    pub fn of(decision: &Decision<'_>, table: &PolicyTable) -> Self {
        Self {
            verdict: decision.verdict,
            policy: decision.policy.to_owned(),
            tier: decision.tier,
            side: decision.side,
            dry_run_match: decision
                .dry_run_match
                .and_then(|id| table.policy(id))
                .map(|entry| entry.name.clone()),
        }
    }
}

/// One peer's view of a fabric.
#[derive(Debug, Clone, Copy)]
pub struct Reference<'a> {
    pub fabric: &'a Fabric,
    pub local: &'a LocalPeer,
    pub peer_labels: &'a PeerLabels,
}

impl Reference<'_> {
    /// The workload with the longest prefix that covers `ip`.
    #[must_use]
    pub fn client(&self, ip: IpAddr) -> Option<&Workload> {
        let ip = ip.to_canonical();
        let mut best: Option<(u8, &Workload)> = None;
        for workload in self.fabric.workloads() {
            for address in &workload.addresses {
                let length = address.prefix_len();
                if address.contains(&ip) && best.is_none_or(|(longest, _)| length > longest) {
                    best = Some((length, workload));
                }
            }
        }
        best.map(|(_, workload)| workload)
    }

    /// What [`PolicyTable::decide_egress`] must say about a client at this address. None when there
    /// is no such import or source.
    #[must_use]
    pub fn egress(&self, import: &ObjectName, source: usize, ip: IpAddr) -> Option<Outcome> {
        let import = self.fabric.imports.get(import)?;
        let source = import.sources.get(source)?;
        let client = self.client(ip);
        let from =
            client.map_or_else(Attributes::new, |client| attributes::source(self.local, client));
        let labels = self.peer_labels.get(&source.peer);
        let to = attributes::egress_destination(import, source, labels);
        Some(self.decide(Side::Egress, &from, &to, &import.name.namespace))
    }

    /// What [`PolicyTable::decide_ingress`] must say. None when there is no such export.
    #[must_use]
    pub fn ingress(&self, export: &ObjectName, from: &Attributes) -> Option<Outcome> {
        let export = self.fabric.exports.get(export)?;
        if from.len() > MAX_SOURCE_ATTRIBUTES {
            return Some(Outcome {
                verdict: Verdict::Deny,
                policy: "<too many attributes>".to_owned(),
                tier: Tier::Guard,
                side: Side::Ingress,
                dry_run_match: None,
            });
        }
        let to = attributes::ingress_destination(self.local, export);
        Some(self.decide(Side::Ingress, from, &to, &export.name.namespace))
    }

    fn decide(&self, side: Side, from: &Attributes, to: &Attributes, namespace: &str) -> Outcome {
        let all = self.fabric.policies_in_deciding_order();
        let enforced: Vec<&AccessPolicy> =
            all.iter().filter(|policy| !policy.dry_run).copied().collect();
        let mut outcome = judge(&enforced, side, from, to, namespace);
        let would_be = judge(&all, side, from, to, namespace);
        if would_be.verdict != outcome.verdict {
            outcome.dry_run_match = if would_be.tier == Tier::Guard {
                all.iter()
                    .find(|policy| policy.dry_run && looks_at_sources(policy))
                    .map(|policy| policy.name.clone())
            } else {
                all.iter()
                    .find(|policy| policy.name.to_string() == would_be.policy)
                    .map(|policy| policy.name.clone())
            };
        }
        outcome
    }
}

fn judge(
    policies: &[&AccessPolicy],
    side: Side,
    from: &Attributes,
    to: &Attributes,
    namespace: &str,
) -> Outcome {
    let outcome = |verdict, policy: String, tier| Outcome {
        verdict,
        policy,
        tier,
        side,
        dry_run_match: None,
    };
    if from.is_empty() && policies.iter().any(|policy| looks_at_sources(policy)) {
        return outcome(Verdict::Deny, "<unknown client>".to_owned(), Tier::Guard);
    }
    for tier in [Tier::Privileged, Tier::Namespace] {
        for (action, verdict) in [(Action::Deny, Verdict::Deny), (Action::Allow, Verdict::Allow)] {
            for policy in policies {
                let applies = match &policy.name.namespace {
                    None => tier == Tier::Privileged,
                    Some(own) => tier == Tier::Namespace && **own == *namespace,
                };
                if applies
                    && policy.action == action
                    && any_matches(&policy.from, from)
                    && any_matches(&policy.to, to)
                {
                    return outcome(verdict, policy.name.to_string(), tier);
                }
            }
        }
    }
    outcome(Verdict::Deny, "<default deny>".to_owned(), Tier::Default)
}

fn any_matches(selectors: &[Selector], attributes: &Attributes) -> bool {
    selectors.iter().any(|selector| selector.matches(attributes))
}

fn looks_at_sources(policy: &AccessPolicy) -> bool {
    policy.from.iter().any(|selector| !selector.requirements().is_empty())
}
