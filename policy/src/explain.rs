//! Why a connection was decided as it was: every policy that was looked at, in deciding order.
//!
//! The decision is always the table's. The trace beside it walks the policies again by the rules of
//! [`crate::reference`], remembers what it saw, and must come to the same end; where it does not,
//! there is an error and no answer.

use std::collections::HashMap;

use thiserror::Error;

use crate::attributes::{self, Attributes};
use crate::decide::{Decision, Side, Tier, Verdict};
use crate::fabric::{AccessPolicy, Action, Fabric, LocalPeer, ObjectName, PeerLabels, PolicyName};
use crate::limits::MAX_SOURCE_ATTRIBUTES;
use crate::reference::Outcome;
use crate::selector::{Requirement, Selector};
use crate::table::{ClientId, PolicyTable};

/// The answer to one question, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Namespace whose `AccessPolicy`s count: that of the import or export.
    pub namespace: Box<str>,
    pub from: Attributes,
    pub to: Attributes,
    pub guard: Guard,
    /// Privileged deny, privileged allow, deny, allow: the order in which they decide.
    pub stages: [Stage; 4],
    /// By [`PolicyTable`].
    pub outcome: Outcome,
}

impl Explanation {
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.outcome.verdict == Verdict::Allow
    }

    /// The enforced or dry-run policies that matched, in deciding order.
    pub fn matched(&self) -> impl Iterator<Item = &Considered> {
        self.stages.iter().flat_map(|stage| &stage.policies).filter(|policy| policy.matches())
    }

    /// The explanation without the policies that did not match, but for the `closest` ones that
    /// would have turned the verdict: those with the fewest requirements unmet. Of tables with many
    /// policies, this is what a person wants to read.
    #[must_use]
    pub fn reduced(mut self, closest: usize) -> Self {
        let turning = match self.outcome.verdict {
            Verdict::Allow => Action::Deny,
            Verdict::Deny => Action::Allow,
        };
        let mut near: Vec<(usize, PolicyName)> = self
            .stages
            .iter()
            .filter(|stage| stage.action == turning)
            .flat_map(|stage| &stage.policies)
            .filter(|policy| !policy.matches() && !policy.dry_run)
            .map(|policy| (policy.unmet(), policy.name.clone()))
            .collect();
        near.sort();
        near.truncate(closest);
        for stage in &mut self.stages {
            stage.policies.retain(|p| p.matches() || near.iter().any(|(_, name)| *name == p.name));
        }
        self
    }
}

/// Whether policies could be asked at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The client has attributes.
    Known,
    /// The client has none, but no enforced policy looks at sources.
    NotNeeded,
    /// The client has none, and this enforced policy, the first of them, looks at sources.
    UnknownClient { because: PolicyName },
    /// The client has this many attributes, more than [`MAX_SOURCE_ATTRIBUTES`].
    TooManyAttributes(usize),
}

impl Guard {
    /// Whether it refuses the client.
    #[must_use]
    pub fn holds(&self) -> bool {
        matches!(self, Self::UnknownClient { .. } | Self::TooManyAttributes(_))
    }
}

/// All policies of one tier and action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// [`Tier::Privileged`] or [`Tier::Namespace`].
    pub tier: Tier,
    pub action: Action,
    /// False when the guard or an earlier stage has decided; nothing was looked at then.
    pub asked: bool,
    /// In deciding order, see [`Fabric::policies_in_deciding_order`]. The first enforced one that
    /// matches decides.
    pub policies: Vec<Considered>,
    /// Policies of other namespaces, which do not count here.
    pub elsewhere: usize,
}

/// One policy that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    pub name: PolicyName,
    pub dry_run: bool,
    pub from: SideMatch,
    pub to: SideMatch,
}

impl Considered {
    #[must_use]
    pub fn matches(&self) -> bool {
        matches!(self.from, SideMatch::Element(_)) && matches!(self.to, SideMatch::Element(_))
    }

    /// Requirements that do not hold, on both sides together, each side by its nearest element.
    #[must_use]
    pub fn unmet(&self) -> usize {
        let side = |side: &SideMatch| match side {
            SideMatch::Element(_) => 0,
            SideMatch::Nothing(unmet) => {
                let of = |element| unmet.iter().filter(|u| u.element == element).count();
                unmet.iter().map(|u| of(u.element)).min().unwrap_or_default()
            }
        };
        side(&self.from) + side(&self.to)
    }
}

/// How `from` or `to` of a policy fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SideMatch {
    /// The first element that matches, counted from 0.
    Element(usize),
    /// None matches: for each element the requirements that do not hold.
    Nothing(Vec<Unmet>),
}

/// A requirement that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Position in `from` or `to`.
    pub element: usize,
    pub requirement: Requirement,
    /// The attribute's value; None where the attribute is absent.
    pub found: Option<Box<str>>,
}

/// Why there is no explanation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExplainError {
    #[error("there is no import `{0}`")]
    NoSuchImport(ObjectName),
    #[error("import `{import}` has no source {index}, counted from 0")]
    NoSuchSource { import: ObjectName, index: usize },
    #[error("there is no export `{0}`")]
    NoSuchExport(ObjectName),
    #[error("there is no workload `{0}`")]
    NoSuchWorkload(ObjectName),
    /// A defect of this program.
    #[error(
        "the trace and the table disagree: the trace says {trace}, the table says {table}; \
         neither can be trusted, please report this with the objects"
    )]
    Disagree { trace: String, table: String },
}

/// One peer's rules, ready to be asked about.
#[derive(Debug)]
pub struct Explainer<'a> {
    fabric: &'a Fabric,
    local: &'a LocalPeer,
    peer_labels: &'a PeerLabels,
    table: PolicyTable,
    clients: HashMap<&'a ObjectName, ClientId>,
    /// In the order in which they decide.
    policies: Vec<&'a AccessPolicy>,
}

impl<'a> Explainer<'a> {
    /// Compiles the table that will be asked.
    #[must_use]
    pub fn new(fabric: &'a Fabric, local: &'a LocalPeer, peer_labels: &'a PeerLabels) -> Self {
        let policies = fabric.policies_in_deciding_order();
        Self {
            fabric,
            local,
            peer_labels,
            table: PolicyTable::compile(fabric, local, 0, peer_labels),
            clients: fabric.workloads().map(|w| &w.name).zip((0..).map(ClientId)).collect(),
            policies,
        }
    }

    /// The table behind the answers.
    #[must_use]
    pub fn table(&self) -> &PolicyTable {
        &self.table
    }

    #[must_use]
    pub fn fabric(&self) -> &'a Fabric {
        self.fabric
    }

    #[must_use]
    pub fn local(&self) -> &'a LocalPeer {
        self.local
    }

    /// What this peer knows, and sends, about one of its clients; nothing about an unknown one.
    ///
    /// # Errors
    /// When there is no such workload.
    pub fn attributes(&self, client: Option<&ObjectName>) -> Result<Attributes, ExplainError> {
        let id = self.client(client)?;
        Ok(self.table.source_attributes(id).iter().cloned().collect())
    }

    /// The importer's question: may this workload, None for an unknown client, use this source?
    ///
    /// # Errors
    /// When there is no such import, source or workload, or trace and table disagree.
    pub fn egress(
        &self,
        import: &ObjectName,
        source: usize,
        client: Option<&ObjectName>,
    ) -> Result<Explanation, ExplainError> {
        let missing = || ExplainError::NoSuchImport(import.clone());
        let id = self.table.find_import(&import.namespace, &import.name).ok_or_else(missing)?;
        let import = self.fabric.imports.get(import).ok_or_else(missing)?;
        let place = import.sources.get(source).ok_or_else(|| ExplainError::NoSuchSource {
            import: import.name.clone(),
            index: source,
        })?;
        let from = self.attributes(client)?;
        let labels = self.peer_labels.get(&place.peer);
        let to = attributes::egress_destination(import, place, labels);
        let decision = self.table.decide_egress(id, source, self.client(client)?);
        self.explain(&decision, &import.name.namespace, from, to)
    }

    /// The exporter's question: may a client with these attributes use this export?
    ///
    /// # Errors
    /// When there is no such export, or trace and table disagree.
    pub fn ingress(
        &self,
        export: &ObjectName,
        from: &Attributes,
    ) -> Result<Explanation, ExplainError> {
        let missing = || ExplainError::NoSuchExport(export.clone());
        let id = self.table.find_export(&export.namespace, &export.name).ok_or_else(missing)?;
        let export = self.fabric.exports.get(export).ok_or_else(missing)?;
        let to = attributes::ingress_destination(self.local, export);
        let pairs = from.iter().map(|(key, value)| (&**key, &**value));
        let decision = self.table.decide_ingress(id, pairs);
        self.explain(&decision, &export.name.namespace, from.clone(), to)
    }

    fn client(&self, name: Option<&ObjectName>) -> Result<ClientId, ExplainError> {
        let Some(name) = name else { return Ok(ClientId::UNKNOWN) };
        self.clients
            .get(name)
            .copied()
            .filter(|id| self.table.client_name(*id) == Some(name))
            .ok_or_else(|| ExplainError::NoSuchWorkload(name.clone()))
    }

    fn explain(
        &self,
        decision: &Decision<'_>,
        namespace: &str,
        from: Attributes,
        to: Attributes,
    ) -> Result<Explanation, ExplainError> {
        let outcome = Outcome::of(decision, &self.table);
        let guard = self.guard(&from, outcome.side);
        let mut decided = guard.holds();
        let stages = STAGES.map(|(tier, action)| {
            let mut stage =
                Stage { tier, action, asked: !decided, policies: Vec::new(), elsewhere: 0 };
            if !decided {
                self.walk(&mut stage, namespace, &from, &to);
                decided = stage.policies.iter().any(|p| p.matches() && !p.dry_run);
            }
            stage
        });
        let explanation =
            Explanation { namespace: namespace.into(), from, to, guard, stages, outcome };
        let trace = self.conclude(&explanation);
        if trace == explanation.outcome {
            Ok(explanation)
        } else {
            let text = |outcome: &Outcome| format!("{outcome:?}");
            Err(ExplainError::Disagree { trace: text(&trace), table: text(&explanation.outcome) })
        }
    }

    fn guard(&self, from: &Attributes, side: Side) -> Guard {
        if from.is_empty() {
            let first = self.policies.iter().find(|p| !p.dry_run && looks_at_sources(p));
            return match first {
                Some(policy) => Guard::UnknownClient { because: policy.name.clone() },
                None => Guard::NotNeeded,
            };
        }
        // The importer reads its own files, whose bounds are checked; only an exporter is told.
        if side == Side::Ingress && from.len() > MAX_SOURCE_ATTRIBUTES {
            Guard::TooManyAttributes(from.len())
        } else {
            Guard::Known
        }
    }

    fn walk(&self, stage: &mut Stage, namespace: &str, from: &Attributes, to: &Attributes) {
        for policy in &self.policies {
            let tier = if policy.name.is_privileged() { Tier::Privileged } else { Tier::Namespace };
            if tier != stage.tier || policy.action != stage.action {
                continue;
            }
            if policy.name.namespace.as_deref().is_some_and(|own| own != namespace) {
                stage.elsewhere += 1;
                continue;
            }
            stage.policies.push(Considered {
                name: policy.name.clone(),
                dry_run: policy.dry_run,
                from: matching(&policy.from, from),
                to: matching(&policy.to, to),
            });
        }
    }

    /// What the trace alone amounts to.
    fn conclude(&self, explanation: &Explanation) -> Outcome {
        let fixed = |policy: &str, tier| Outcome {
            verdict: Verdict::Deny,
            policy: policy.to_owned(),
            tier,
            side: explanation.outcome.side,
            dry_run_match: None,
        };
        match explanation.guard {
            Guard::UnknownClient { .. } => return fixed("<unknown client>", Tier::Guard),
            Guard::TooManyAttributes(_) => return fixed("<too many attributes>", Tier::Guard),
            Guard::Known | Guard::NotNeeded => {}
        }
        let mut dry_run: Option<(Verdict, &PolicyName)> = None;
        let mut outcome = fixed("<default deny>", Tier::Default);
        'decided: for stage in &explanation.stages {
            let verdict = match stage.action {
                Action::Allow => Verdict::Allow,
                Action::Deny => Verdict::Deny,
            };
            for policy in stage.policies.iter().filter(|policy| policy.matches()) {
                if policy.dry_run {
                    dry_run.get_or_insert((verdict, &policy.name));
                } else {
                    outcome.verdict = verdict;
                    outcome.policy = policy.name.to_string();
                    outcome.tier = stage.tier;
                    break 'decided;
                }
            }
        }
        let guarding = self.policies.iter().find(|p| p.dry_run && looks_at_sources(p));
        outcome.dry_run_match = match guarding {
            Some(policy) if explanation.from.is_empty() => {
                (outcome.verdict == Verdict::Allow).then(|| policy.name.clone())
            }
            _ => dry_run
                .filter(|(verdict, _)| *verdict != outcome.verdict)
                .map(|(_, name)| name.clone()),
        };
        outcome
    }
}

const STAGES: [(Tier, Action); 4] = [
    (Tier::Privileged, Action::Deny),
    (Tier::Privileged, Action::Allow),
    (Tier::Namespace, Action::Deny),
    (Tier::Namespace, Action::Allow),
];

fn looks_at_sources(policy: &AccessPolicy) -> bool {
    policy.from.iter().any(|selector| !selector.requirements().is_empty())
}

fn matching(selectors: &[Selector], attributes: &Attributes) -> SideMatch {
    if let Some(element) = selectors.iter().position(|selector| selector.matches(attributes)) {
        return SideMatch::Element(element);
    }
    let value = |key: &str| attributes.get(key).map(|value| &**value);
    let unmet = selectors.iter().enumerate().flat_map(|(element, selector)| {
        selector
            .requirements()
            .iter()
            .filter(|requirement| !requirement.holds(value(requirement.key())))
            .map(move |requirement| Unmet {
                element,
                requirement: requirement.clone(),
                found: value(requirement.key()).map(Into::into),
            })
    });
    SideMatch::Nothing(unmet.collect())
}
