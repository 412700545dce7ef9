//! An explanation as people read it.

use clgw_policy::attributes::{
    Attributes, CLIENT_LABEL, CLIENT_NAMESPACE, CLIENT_SERVICE_ACCOUNT, PEER_LABEL, PEER_NAME,
};
use clgw_policy::explain::{Considered, Guard, SideMatch, Stage};
use clgw_policy::{Action, Explanation, Tier, Verdict};

use crate::cli::output;

/// Policies that nearly matched, shown where nothing did.
const CLOSEST: usize = 2;

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "ALLOW",
        Verdict::Deny => "DENY",
    }
}

/// `ALLOW by shop/tills`.
pub(super) fn decision(explanation: &Explanation) -> String {
    format!("{} by {}", verdict(explanation.outcome.verdict), explanation.outcome.policy)
}

/// The attributes of a client in one line: itself, then its peer.
pub(super) fn attributes(attributes: &Attributes) -> String {
    if attributes.is_empty() {
        return "nothing is known of it".to_owned();
    }
    let known = [CLIENT_NAMESPACE, CLIENT_SERVICE_ACCOUNT, CLIENT_LABEL, PEER_NAME, PEER_LABEL];
    let mut parts = Vec::new();
    for prefix in known {
        let group = attributes.iter().filter(|(key, _)| key.starts_with(prefix));
        parts.extend(group.map(|(key, value)| {
            let key = key.strip_prefix("client.clusterlink.net/").unwrap_or(key);
            let key = match key.strip_prefix("peer.clusterlink.net/") {
                Some("name") => "peer".to_owned(),
                Some(label) => format!("peer-{label}"),
                None => key.to_owned(),
            };
            format!("{key}={value}")
        }));
    }
    parts.join(", ")
}

pub(super) fn stage_name(stage: &Stage) -> &'static str {
    match (stage.tier, stage.action) {
        (Tier::Privileged, Action::Deny) => "privileged deny",
        (Tier::Privileged, Action::Allow) => "privileged allow",
        (_, Action::Deny) => "deny",
        (_, Action::Allow) => "allow",
    }
}

/// The stages in deciding order; `verbose` with the policies that did not match, and why.
pub(super) fn print(explanation: &Explanation, verbose: bool, indent: &str) {
    let row = |name: &str, text: &str| {
        output::line(format_args!("{indent}{name:<16}  {text}"));
    };
    match &explanation.guard {
        Guard::Known => {}
        Guard::NotNeeded => {
            row("unknown client", "no enforced policy looks at sources, so policies are asked");
        }
        Guard::UnknownClient { because } => row(
            "unknown client",
            &format!("refused before any policy is asked, because {because} looks at sources"),
        ),
        Guard::TooManyAttributes(count) => {
            row("attributes", &format!("{count} that policies look at in clients are too many"));
        }
    }
    for stage in &explanation.stages {
        print_stage(explanation, stage, verbose, &row);
    }
    if let Some(policy) = &explanation.outcome.dry_run_match {
        let other = match explanation.outcome.verdict {
            Verdict::Allow => Verdict::Deny,
            Verdict::Deny => Verdict::Allow,
        };
        row("dry run", &format!("{policy} would make it {}", verdict(other)));
    }
    if !verbose && explanation.outcome.tier == Tier::Default {
        print_closest(&explanation.clone().reduced(CLOSEST), indent);
    }
}

fn print_stage(explanation: &Explanation, stage: &Stage, verbose: bool, row: &impl Fn(&str, &str)) {
    let name = stage_name(stage);
    if !stage.asked {
        if verbose {
            row(name, "not asked, it is decided already");
        }
        return;
    }
    let (matched, others): (Vec<_>, Vec<_>) =
        stage.policies.iter().partition(|policy| policy.matches());
    let mut lines = Vec::new();
    for policy in matched {
        let decides = policy.name.to_string() == explanation.outcome.policy && !policy.dry_run;
        let note = match (decides, policy.dry_run) {
            (true, _) => " and decides",
            (_, true) => " (dry run, not enforced)",
            _ => " too",
        };
        let at = [("from", &policy.from), ("to", &policy.to)].map(|(side, matched)| {
            let SideMatch::Element(element) = matched else { return String::new() };
            format!("{side}[{element}]")
        });
        lines.push(format!("{} matches{note}: {}", policy.name, at.join(" and ")));
    }
    if verbose {
        for policy in &others {
            lines.push(format!("{} does not match{}", policy.name, dry_run(policy)));
            lines.extend(unmet(policy).into_iter().map(|text| format!("  {text}")));
        }
        if stage.elsewhere > 0 {
            lines.push(format!(
                "{} of other namespaces than {} not considered",
                output::policies(stage.elsewhere),
                explanation.namespace
            ));
        }
    } else if !others.is_empty() {
        lines.push(if lines.is_empty() {
            format!("no match ({})", output::policies(others.len()))
        } else {
            format!("no match: {}", output::count(others.len(), "other"))
        });
    }
    if lines.is_empty() {
        if verbose {
            row(name, "no policies");
        }
        return;
    }
    for (index, line) in lines.iter().enumerate() {
        row(if index == 0 { name } else { "" }, line);
    }
}

fn dry_run(policy: &Considered) -> &'static str {
    if policy.dry_run { " (dry run)" } else { "" }
}

/// What is missing for the policy to match, a line for each requirement.
pub(super) fn unmet(policy: &Considered) -> Vec<String> {
    let mut lines = Vec::new();
    for (side, matched) in [("from", &policy.from), ("to", &policy.to)] {
        let SideMatch::Nothing(unmet) = matched else { continue };
        lines.extend(unmet.iter().map(|unmet| {
            let found = match &unmet.found {
                Some(value) => format!("it is {value:?}"),
                None => "it is absent".to_owned(),
            };
            format!("{side}[{}] wants {}, but {found}", unmet.element, unmet.requirement)
        }));
    }
    lines
}

/// The policies of a [reduced](Explanation::reduced) explanation that did not match, as a way on.
pub(super) fn print_closest(reduced: &Explanation, indent: &str) {
    let near = reduced.stages.iter().flat_map(|s| &s.policies).filter(|p| !p.matches());
    for (index, policy) in near.enumerate() {
        let name = if index == 0 { "closest" } else { "" };
        output::line(format_args!("{indent}{name:<16}  {}", policy.name));
        for line in unmet(policy) {
            output::line(format_args!("{indent}{:<16}    {line}", ""));
        }
    }
}
