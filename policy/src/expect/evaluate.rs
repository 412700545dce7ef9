//! Asks the sites what the table wants to know.

use std::collections::{BTreeMap, BTreeSet};

use super::parse::hint;
use super::{Case, Expectations, Place, Question};
use crate::attributes::Attributes;
use crate::client::Client;
use crate::connection::{self, Exporter, Site, SourceView};
use crate::decide::{Side, Verdict};
use crate::diagnostic::{Diagnostic, Severity};
use crate::explain::{ExplainError, Explainer, Explanation};
use crate::fabric::{ObjectName, PeerLabels};

/// Policies that nearly matched, kept for each leg of a failed case.
const CLOSEST: usize = 2;

/// What became of one case.
#[derive(Debug, Clone)]
pub struct Answer {
    pub verdict: Verdict,
    /// The policy of the last gateway asked; of several sources, of the one that would serve first,
    /// or where all deny, of the last one.
    pub by: String,
    pub passed: bool,
    /// Allowed by the importer alone: the exporter that would serve, this peer, is no site of the
    /// table and may still deny.
    pub unasked: Option<Box<str>>,
    /// Who was asked and why each said what it said. Empty for a case that passed.
    pub legs: Vec<Leg>,
}

/// One gateway's decision.
#[derive(Debug, Clone)]
pub struct Leg {
    pub site: Box<str>,
    /// Peer and export of the source, where an import was asked.
    pub source: Option<(Box<str>, ObjectName)>,
    /// Reduced to what matched and what nearly did, see [`Explanation::reduced`]. None when the
    /// site has no such export.
    pub explanation: Option<Explanation>,
    pub side: Side,
}

/// Asks `sites`, by name, all questions of the table of `file`. Clients that are described are
/// added to the fabrics, without addresses. Answers are in the order of the cases.
///
/// # Errors
/// Questions about what a site does not have, with the nearest name; and, as the error of the whole
/// file, a trace that does not agree with its table.
pub fn evaluate(
    table: &Expectations,
    file: &str,
    sites: &mut BTreeMap<Box<str>, Site>,
) -> Result<Vec<Answer>, Vec<Diagnostic>> {
    let found = check(table, file, sites);
    if !found.is_empty() {
        return Err(found);
    }
    for case in &table.cases {
        if let Question::Import { client: Client::Described(description), .. } = &case.question
            && let Some(site) = sites.get_mut(&case.site)
        {
            description.enlist(&mut site.fabric);
        }
    }
    let labels: BTreeMap<&str, PeerLabels> = sites
        .keys()
        .map(|own| {
            let others = sites.iter().filter(|(name, _)| *name != own).map(|(_, site)| site);
            (&**own, connection::reported_labels(others))
        })
        .collect();
    let explainers: BTreeMap<&str, Explainer<'_>> = sites
        .iter()
        .map(|(name, site)| (&**name, Explainer::new(&site.fabric, &site.local, &labels[&**name])))
        .collect();
    let mut answers = Vec::with_capacity(table.cases.len());
    for case in &table.cases {
        // Every site was there above.
        let Some(asked) = explainers.get(&*case.site) else { continue };
        match answer(case, asked, &explainers) {
            Ok(answer) => answers.push(answer),
            Err(error) => return Err(vec![diagnostic(file, &case.at, error.to_string(), "")]),
        }
    }
    Ok(answers)
}

fn diagnostic(
    file: &str,
    at: &Place,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        file: file.to_owned(),
        line: at.mark.line,
        column: at.mark.column,
        field: at.field.clone(),
        message: message.into(),
        hint: hint.into(),
    }
}

fn check(table: &Expectations, file: &str, sites: &BTreeMap<Box<str>, Site>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let policies: BTreeSet<String> = sites
        .values()
        .flat_map(|site| site.fabric.policies().map(|policy| policy.name.to_string()))
        .collect();
    for case in &table.cases {
        let Some(site) = sites.get(&case.site) else {
            let message = format!("the objects of site `{}` are not at hand", case.site);
            found.push(diagnostic(file, &case.at, message, "read them before asking"));
            continue;
        };
        let missing = |kind: &str, name: &ObjectName, known: Vec<String>| {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let hint = hint(&name.to_string(), &known, &format!("this site has no {kind}s"));
            let message = format!("there is no {kind} `{name}` at {}", case.site);
            diagnostic(file, &case.service_at, message, hint)
        };
        match &case.question {
            Question::Import { import, peer, .. } => match site.fabric.imports.get(import) {
                None => {
                    let known = site.fabric.imports.keys().map(ToString::to_string).collect();
                    found.push(missing("import", import, known));
                }
                Some(import) => {
                    let peers: Vec<&str> = import.sources.iter().map(|s| &*s.peer).collect();
                    if let Some((peer, at)) = peer
                        && !peers.contains(&&**peer)
                    {
                        let hint = hint(peer, &peers, "the import has no sources");
                        let message =
                            format!("import `{}` has no source at peer `{peer}`", import.name);
                        found.push(diagnostic(file, at, message, hint));
                    }
                }
            },
            Question::Export { export, .. } => {
                if !site.fabric.exports.contains_key(export) {
                    let known = site.fabric.exports.keys().map(ToString::to_string).collect();
                    found.push(missing("export", export, known));
                }
            }
        }
        if let Some((by, at)) = &case.by
            && !by.starts_with('<')
            && !policies.contains(by)
        {
            let known: Vec<&str> = policies.iter().map(String::as_str).collect();
            let hint =
                hint(by, &known, "no site has a policy; what is decided then is `<default deny>`");
            found.push(diagnostic(file, at, format!("no site has a policy `{by}`"), hint));
        }
    }
    found
}

fn answer(
    case: &Case,
    asked: &Explainer<'_>,
    sites: &BTreeMap<&str, Explainer<'_>>,
) -> Result<Answer, ExplainError> {
    let (allowed, by, unasked, mut legs) = match &case.question {
        Question::Import { import, client, peer } => {
            let workload = match client {
                Client::Unknown => None,
                Client::Address(ip) => {
                    let table = asked.table();
                    table.client_name(table.client(*ip)).cloned()
                }
                Client::Described(description) => Some(description.workload_name()),
            };
            let only = peer.as_ref().map(|(peer, _)| &**peer);
            let connection = connection::connect(asked, sites, import, workload.as_ref(), only)?;
            let word = connection
                .serving()
                .or_else(|| connection.sources.iter().rfind(|view| !view.is_allowed()));
            let by = word.map_or("<no source>", SourceView::decided_by).to_owned();
            let allowed = connection.is_allowed();
            let is_unasked = |view: &SourceView| matches!(view.exporter, Exporter::NotGiven);
            let unasked = connection
                .serving()
                .filter(|_| connection.allowed().all(is_unasked))
                .map(|view| view.source.peer.clone());
            (
                allowed,
                by,
                unasked,
                connection.sources.into_iter().flat_map(|v| legs(case, v)).collect(),
            )
        }
        Question::Export { export, client } => {
            let from = match client {
                Client::Described(description) => {
                    let mut client = description.clone();
                    let site = client.peer.as_deref().and_then(|peer| sites.get(peer));
                    if let Some(site) = site.filter(|_| client.peer_labels.is_empty()) {
                        client.peer_labels.clone_from(&site.local().labels);
                    }
                    client.attributes().unwrap_or_default()
                }
                _ => Attributes::new(),
            };
            let explanation = asked.ingress(export, &from)?;
            let by = explanation.outcome.policy.clone();
            let allowed = explanation.is_allowed();
            let leg = Leg {
                site: case.site.clone(),
                source: None,
                side: Side::Ingress,
                explanation: Some(explanation),
            };
            (allowed, by, None, vec![leg])
        }
    };
    let verdict = if allowed { Verdict::Allow } else { Verdict::Deny };
    let passed = verdict == case.expect && case.by.as_ref().is_none_or(|(wanted, _)| *wanted == by);
    if passed {
        legs.clear();
    }
    for leg in &mut legs {
        leg.explanation = leg.explanation.take().map(|full| full.reduced(CLOSEST));
    }
    Ok(Answer { verdict, by, passed, unasked, legs })
}

/// The gateways a connection through this source asks, in their order.
fn legs(case: &Case, view: SourceView) -> Vec<Leg> {
    let source = Some((view.source.peer.clone(), view.source.export));
    let importer_allows = view.importer.is_allowed();
    let mut legs = vec![Leg {
        site: case.site.clone(),
        source: source.clone(),
        side: Side::Egress,
        explanation: Some(view.importer),
    }];
    let exporter = match view.exporter {
        Exporter::NotGiven => return legs,
        Exporter::NoSuchExport => None,
        Exporter::Asked(explanation) => Some(*explanation),
    };
    if importer_allows {
        let side = Side::Ingress;
        legs.push(Leg { site: view.source.peer, source, side, explanation: exporter });
    }
    legs
}
