//! An explanation for machines: everything, whatever `-v` says.

use clgw_policy::attributes::Attributes;
use clgw_policy::explain::{Considered, Guard, SideMatch, Stage};
use clgw_policy::{Action, Explanation, Side, Tier, Verdict};
use serde_json::{Map, Value, json};

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

pub(super) fn side(side: Side) -> &'static str {
    match side {
        Side::Egress => "egress",
        Side::Ingress => "ingress",
    }
}

pub(super) fn attributes(attributes: &Attributes) -> Value {
    let pairs = attributes.iter().map(|(key, value)| (key.to_string(), Value::from(&**value)));
    pairs.collect::<Map<_, _>>().into()
}

pub(super) fn explanation(explanation: &Explanation) -> Value {
    let outcome = &explanation.outcome;
    let guard = match &explanation.guard {
        Guard::Known => json!({ "holds": false, "client": "known" }),
        Guard::NotNeeded => json!({ "holds": false, "client": "unknown" }),
        Guard::UnknownClient { because } => {
            json!({ "holds": true, "client": "unknown", "because": because.to_string() })
        }
        Guard::TooManyAttributes(count) => {
            json!({ "holds": true, "client": "known", "attributes": count })
        }
    };
    json!({
        "side": side(outcome.side),
        "verdict": verdict(outcome.verdict),
        "policy": outcome.policy,
        "tier": tier(outcome.tier),
        "dryRunMatch": outcome.dry_run_match.as_ref().map(ToString::to_string),
        "namespace": explanation.namespace,
        "from": attributes(&explanation.from),
        "to": attributes(&explanation.to),
        "guard": guard,
        "stages": explanation.stages.iter().map(stage).collect::<Vec<_>>(),
    })
}

fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Privileged => "privileged",
        Tier::Namespace => "namespace",
        Tier::Default => "default",
        Tier::Guard => "guard",
    }
}

fn stage(stage: &Stage) -> Value {
    let action = match stage.action {
        Action::Allow => "allow",
        Action::Deny => "deny",
    };
    json!({
        "tier": tier(stage.tier),
        "action": action,
        "asked": stage.asked,
        "otherNamespaces": stage.elsewhere,
        "policies": stage.policies.iter().map(policy).collect::<Vec<_>>(),
    })
}

fn policy(policy: &Considered) -> Value {
    json!({
        "name": policy.name.to_string(),
        "dryRun": policy.dry_run,
        "matches": policy.matches(),
        "from": side_match(&policy.from),
        "to": side_match(&policy.to),
    })
}

fn side_match(matched: &SideMatch) -> Value {
    match matched {
        SideMatch::Element(element) => json!({ "matches": true, "element": element }),
        SideMatch::Nothing(unmet) => {
            let unmet = unmet.iter().map(|unmet| {
                json!({
                    "element": unmet.element,
                    "key": unmet.requirement.key(),
                    "operator": unmet.requirement.operator().as_str(),
                    "values": unmet.requirement.values(),
                    "found": unmet.found,
                })
            });
            json!({ "matches": false, "unmet": unmet.collect::<Vec<_>>() })
        }
    }
}
