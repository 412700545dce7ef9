//! The decision about one connection, the same function for both gateways.
//!
//! Policies are numbered in the order in which they decide: privileged deny, privileged allow, then
//! deny and allow of the namespaces. The first one that matches source and destination has the
//! word; none means deny.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::index::{self, Pair};
use crate::limits::MAX_SOURCE_ATTRIBUTES;
use crate::sets::SetId;
use crate::table::{ClientId, Destination, ExportId, ImportId, PolicyId, PolicyTable};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Allow,
    Deny,
}

/// Which rule had the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// A `PrivilegedAccessPolicy`.
    Privileged,
    /// An `AccessPolicy` of the namespace of the import or export.
    Namespace,
    /// No policy matched.
    Default,
    /// The policies could not be asked; see [`PolicyId`] for the reasons.
    Guard,
}

/// Which gateway decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The importer, before it opens a tunnel.
    Egress,
    /// The exporter, before it dials the service.
    Ingress,
}

/// What was decided, by what, and under which generation of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'t> {
    pub verdict: Verdict,
    /// `namespace/name`, the name of a privileged policy, or a fixed text in angle brackets.
    pub policy: &'t str,
    pub id: PolicyId,
    pub tier: Tier,
    pub side: Side,
    pub generation: u64,
    /// The dry-run policy that would turn the verdict if all dry-run policies were enforced.
    pub dry_run_match: Option<PolicyId>,
}

impl Decision<'_> {
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// The first matching rules: the one that decides, and one of a dry-run policy that stands before
/// it.
#[derive(Debug, Clone, Copy)]
struct Matched {
    enforced: Option<u32>,
    dry_run: Option<u32>,
}

impl PolicyTable {
    /// May `client` use this source of this import? The importer's question, once per source it
    /// considers.
    ///
    /// An unknown client is refused as soon as any policy at all looks at sources: it could be the
    /// very client that policy is about. An id or index that is not of this table is refused.
    #[must_use]
    pub fn decide_egress(
        &self,
        import: ImportId,
        source_index: usize,
        client: ClientId,
    ) -> Decision<'_> {
        let unknown = client == ClientId::UNKNOWN;
        if unknown && self.guarded {
            return self.guard(PolicyId::UNKNOWN_CLIENT, Side::Egress);
        }
        let (Some(to), Some(from)) =
            (self.destination_of_source(import, source_index), self.rules_of_client(client))
        else {
            return self.guard(PolicyId::STALE_REFERENCE, Side::Egress);
        };
        let matched = self.first(to, |within| self.sets.first_common(within, from));
        self.conclude(Side::Egress, matched, unknown)
    }

    /// May a client with these attributes use this export? The exporter's question, once per
    /// connection.
    ///
    /// The attributes are those of [`PolicyTable::source_attributes`] at the importer; of a repeated
    /// key the last value counts. Whether the peer may speak for the peer name among them is for the
    /// caller to check against its certificate. None at all means an unknown client, see
    /// [`PolicyTable::decide_egress`].
    #[must_use]
    pub fn decide_ingress<'a>(
        &self,
        export: ExportId,
        attributes: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Decision<'_> {
        let unknown = attributes.clone().next().is_none();
        if unknown && self.guarded {
            return self.guard(PolicyId::UNKNOWN_CLIENT, Side::Ingress);
        }
        let Some(to) = self.destination_of_export(export) else {
            return self.guard(PolicyId::STALE_REFERENCE, Side::Ingress);
        };
        let mut pairs: ArrayVec<Pair, MAX_SOURCE_ATTRIBUTES> = ArrayVec::new();
        for (number, (key, value)) in attributes.enumerate() {
            if number == MAX_SOURCE_ATTRIBUTES {
                return self.guard(PolicyId::TOO_MANY_ATTRIBUTES, Side::Ingress);
            }
            let Some(pair) = self.from.resolve(key, value) else { continue };
            match pairs.iter_mut().find(|earlier| earlier.same_key(pair)) {
                Some(earlier) => *earlier = pair,
                // There is room for every number above.
                None => drop(pairs.try_push(pair)),
            }
        }
        index::order(&mut pairs);
        let matched = self.first(to, |within| self.from.first(&pairs, &self.sets, within));
        self.conclude(Side::Ingress, matched, unknown)
    }

    /// The workload that owns this address: the one with the longest prefix that covers it.
    #[must_use]
    pub fn client(&self, ip: IpAddr) -> ClientId {
        self.clients.find(ip).unwrap_or(ClientId::UNKNOWN)
    }

    /// `lowest` finds the first rule of a set that matches the source.
    fn first(&self, to: Destination, lowest: impl Fn(SetId) -> Option<u32>) -> Matched {
        let enforced = lowest(to.enforced);
        let dry_run = if to.dry_run == SetId::EMPTY { None } else { lowest(to.dry_run) };
        Matched {
            enforced,
            dry_run: dry_run.filter(|rule| enforced.is_none_or(|enforced| *rule < enforced)),
        }
    }

    fn conclude(&self, side: Side, matched: Matched, unknown_client: bool) -> Decision<'_> {
        let policy = |rule: u32| {
            let id = PolicyId(*self.policy_of_rule.get(rule as usize)?);
            Some((id, self.policy(id)?))
        };
        let mut decision = match matched.enforced.and_then(policy) {
            Some((id, entry)) => Decision {
                verdict: entry.verdict,
                policy: &entry.text,
                id,
                tier: entry.tier(),
                side,
                generation: self.generation,
                dry_run_match: None,
            },
            None => self.fixed(PolicyId::DEFAULT_DENY, Tier::Default, side),
        };
        decision.dry_run_match = match self.dry_run_guard {
            // Enforcing this one would make the guard hold, whatever else matched.
            Some(guard) if unknown_client => (decision.verdict == Verdict::Allow).then_some(guard),
            _ => matched
                .dry_run
                .and_then(policy)
                .filter(|(_, entry)| entry.verdict != decision.verdict)
                .map(|(id, _)| id),
        };
        decision
    }

    fn guard(&self, reason: PolicyId, side: Side) -> Decision<'_> {
        self.fixed(reason, Tier::Guard, side)
    }

    fn fixed(&self, id: PolicyId, tier: Tier, side: Side) -> Decision<'_> {
        Decision {
            verdict: Verdict::Deny,
            policy: id.fixed_text().unwrap_or_default(),
            id,
            tier,
            side,
            generation: self.generation,
            dry_run_match: None,
        }
    }
}
