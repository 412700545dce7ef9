//! Checks of access policies and their selectors.

use super::Loader;
use super::meta::Kind;
use crate::attributes;
use crate::fabric::{AccessPolicy, Action, PolicyName};
use crate::model::{
    AccessPolicySpec, LabelSelector, LabelSelectorRequirement, Manifest, WorkloadSetOrSelector,
};
use crate::selector::{Operator, Requirement, Selector, SelectorError};
use crate::yaml::Cursor;

/// Which side of a connection a selector looks at.
#[derive(Clone, Copy)]
enum End {
    From,
    To,
}

impl Loader {
    pub(super) fn namespaced_policy(
        &mut self,
        manifest: &Manifest<AccessPolicySpec>,
        root: &Cursor<'_>,
    ) {
        let meta = self.meta(Kind::ACCESS_POLICY, manifest, root);
        let name = meta.map(|meta| PolicyName::namespaced(meta.name.namespace, meta.name.name));
        self.policy(name, manifest, root);
    }

    pub(super) fn privileged_policy(
        &mut self,
        manifest: &Manifest<AccessPolicySpec>,
        root: &Cursor<'_>,
    ) {
        let meta = self.meta(Kind::PRIVILEGED_ACCESS_POLICY, manifest, root);
        if manifest.metadata.as_ref().is_some_and(|meta| meta.namespace.is_some()) {
            self.warning(
                &root.key("metadata").key("namespace"),
                "a PrivilegedAccessPolicy belongs to no namespace; it holds in all of them",
                "remove the namespace, or use an AccessPolicy",
            );
        }
        self.policy(meta.map(|meta| PolicyName::privileged(meta.name.name)), manifest, root);
    }

    fn policy(
        &mut self,
        name: Option<PolicyName>,
        manifest: &Manifest<AccessPolicySpec>,
        root: &Cursor<'_>,
    ) {
        let Some((spec, at)) = self.spec(manifest, root) else { return };
        let action = self.action(&at.key("action"), spec.action.as_deref());
        let from = self.selectors(&at.key("from"), spec.from.as_deref(), End::From);
        let to = self.selectors(&at.key("to"), spec.to.as_deref(), End::To);
        // An empty side has been reported; it would be refused by the fabric as well.
        if let (Some(name), Some(action), Some(from), Some(to)) = (name, action, from, to) {
            let dry_run = spec.dry_run.unwrap_or(false);
            let policy = AccessPolicy { name, action, from, to, dry_run };
            if let Err(error) = self.fabric.put_policy(policy) {
                self.error(&at, error.to_string(), "");
            }
        }
    }

    fn action(&mut self, at: &Cursor<'_>, text: Option<&str>) -> Option<Action> {
        const HINT: &str = "write `action: allow` or `action: deny`";
        match self.text(at, text, HINT)? {
            "allow" => Some(Action::Allow),
            "deny" => Some(Action::Deny),
            other => {
                self.error(at, format!("unknown action `{other}`"), HINT);
                None
            }
        }
    }

    /// None when there is none, or one of them has an error.
    fn selectors(
        &mut self,
        at: &Cursor<'_>,
        specs: Option<&[WorkloadSetOrSelector]>,
        end: End,
    ) -> Option<Vec<Selector>> {
        let specs = specs.unwrap_or_default();
        if specs.is_empty() {
            self.error(
                at,
                "needs at least one element, or the policy never matches",
                "`[{workloadSelector: {}}]` matches everything",
            );
            return None;
        }
        let checked: Vec<_> = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| self.set_or_selector(&at.index(index), spec, end))
            .collect();
        checked.into_iter().collect()
    }

    fn set_or_selector(
        &mut self,
        at: &Cursor<'_>,
        spec: &WorkloadSetOrSelector,
        end: End,
    ) -> Option<Selector> {
        let has_sets = spec.workload_sets.as_ref().is_some_and(|sets| !sets.is_empty());
        if has_sets {
            self.error(
                &at.key("workloadSets"),
                "workload sets are reserved and cannot be used yet",
                "describe the workloads with a workloadSelector",
            );
        }
        match &spec.workload_selector {
            Some(_) if has_sets => {
                self.error(
                    at,
                    "workloadSelector and workloadSets are both set",
                    "keep the workloadSelector",
                );
                None
            }
            Some(selector) => self.selector(&at.key("workloadSelector"), selector, end),
            None if has_sets => None,
            None => {
                self.error(
                    at,
                    "has no workloadSelector",
                    "`workloadSelector: {}` matches everything",
                );
                None
            }
        }
    }

    fn selector(&mut self, at: &Cursor<'_>, spec: &LabelSelector, end: End) -> Option<Selector> {
        let mut requirements = Vec::new();
        let mut complete = true;
        let labels = at.key("matchLabels");
        for (key, value) in spec.match_labels.iter().flatten() {
            let checked = Requirement::new(key, Operator::In, [value.as_str()]);
            // A key is looked for in the whole mapping: only where there is something to say.
            let place = match checked {
                Ok(ref requirement) if is_alive(requirement.key(), end) => None,
                Err(SelectorError::Value { .. }) => Some(labels.key(key)),
                _ => Some(labels.at_key(key)),
            };
            match self.requirement(place.as_ref().unwrap_or(&labels), checked) {
                Some(requirement) => requirements.push((place, requirement)),
                None => complete = false,
            }
        }
        let expressions = at.key("matchExpressions");
        for (index, spec) in spec.match_expressions.iter().flatten().enumerate() {
            let place = expressions.index(index);
            match self.expression(&place, spec) {
                Some(requirement) => requirements.push((Some(place.key("key")), requirement)),
                None => complete = false,
            }
        }
        for (place, requirement) in &requirements {
            if let Some(place) = place {
                self.warn_dead_key(place, requirement.key(), end);
            }
        }
        complete.then(|| Selector::new(requirements.into_iter().map(|(_, checked)| checked)))
    }

    fn expression(
        &mut self,
        at: &Cursor<'_>,
        spec: &LabelSelectorRequirement,
    ) -> Option<Requirement> {
        let known = || Operator::ALL.map(Operator::as_str).join(", ");
        let key = self.text(&at.key("key"), spec.key.as_deref(), "name the attribute to look at");
        let place = at.key("operator");
        let operator = self
            .text(&place, spec.operator.as_deref(), &format!("one of {}", known()))
            .and_then(|text| {
                let operator = Operator::parse(text);
                if operator.is_none() {
                    let message = format!("unknown operator `{text}`");
                    self.error(&place, message, format!("one of {}", known()));
                }
                operator
            });
        let values = spec.values.iter().flatten().map(String::as_str);
        let checked = Requirement::new(key?, operator?, values);
        let place = match &checked {
            Err(SelectorError::Value { value, .. }) => {
                let values = spec.values.as_deref().unwrap_or_default();
                let index = values.iter().position(|candidate| candidate == value);
                at.key("values").index(index.unwrap_or_default())
            }
            Err(SelectorError::ValuesMissing { .. } | SelectorError::ValuesNotAllowed { .. }) => {
                at.key("values")
            }
            _ => at.key("key"),
        };
        self.requirement(&place, checked)
    }

    fn requirement(
        &mut self,
        at: &Cursor<'_>,
        checked: Result<Requirement, SelectorError>,
    ) -> Option<Requirement> {
        checked
            .map_err(|error| {
                let hint = match error {
                    SelectorError::Key { .. } => "a key is [prefix/]name, as in peer.clusterlink.net/name",
                    SelectorError::Value { .. } => {
                        "a value has letters, digits, '-', '_' or '.', and is quoted if it reads as a number"
                    }
                    SelectorError::ValuesMissing { .. } => "list the values, or use Exists or DoesNotExist",
                    SelectorError::ValuesNotAllowed { .. } => "remove the values, or use In or NotIn",
                };
                self.error(at, error.to_string(), hint);
            })
            .ok()
    }

    /// Legal, but surely not what was meant: this side never has the attribute.
    fn warn_dead_key(&mut self, at: &Cursor<'_>, key: &str, end: End) {
        let (side, hint) = match end {
            End::From => (
                "source",
                "a source has peer.clusterlink.net/* and client.clusterlink.net/* attributes",
            ),
            End::To => (
                "destination",
                "a destination has peer.clusterlink.net/* and export.clusterlink.net/* attributes",
            ),
        };
        if !is_alive(key, end) {
            self.warning(at, format!("no {side} ever has the attribute `{key}`"), hint);
        }
    }
}

/// Whether this side of a connection can ever have the attribute.
fn is_alive(key: &str, end: End) -> bool {
    match end {
        End::From => attributes::is_source_key(key),
        End::To => attributes::is_destination_key(key),
    }
}
