//! `clgw policy test`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clgw_policy::connection::Site;
use clgw_policy::expect::{self, Answer, Case, Leg, SiteFiles};
use clgw_policy::{Diagnostic, Labels, Severity, Side, SourceFile, Verdict};
use serde_json::{Value, json};

use super::{json as document, site, trace};
use crate::cli::output;
use crate::config;
use crate::lifecycle::ExitCode;

const EXAMPLES: &str = "\
A table names sites and what must be decided there; paths are relative to the file:
  sites:
    site-a: {config: site-a/gateway.yaml}
    site-b: {objects: site-b/objects, labels: {region: eu}}
  tests:
  - name: tills reach the database
    site: site-a
    import: shop/db             # the whole connection: site-a, then the peers in this file
    client: 10.1.2.3            # or {namespace: shop, labels: {app: till}}, or unknown
    peer: site-b                # only this source; without it, any source may serve
    expect: allow
    by: shop/allow-tills        # the policy of the last gateway asked
  - site: site-b
    export: hr/payroll          # the exporter alone
    client: {peer: site-c, peerLabels: {region: us}, namespace: hr}
    expect: deny

Exit codes:
  0  all tests passed
  1  a test failed
  3  a table, its objects or a gateway.yaml are invalid";

/// Holds policies against tables of expected decisions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Tables in YAML.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON document with every result instead.
    #[arg(long)]
    json: bool,
}

/// A table and its answers.
struct Tested {
    file: String,
    results: Vec<(Case, Answer)>,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let mut findings = Vec::new();
    let tested: Vec<Tested> =
        args.files.iter().filter_map(|file| test(file, &mut findings)).collect();
    let results = || tested.iter().flat_map(|tested| &tested.results);
    let passed = results().filter(|(_, answer)| answer.passed).count();
    let failed = results().count() - passed;
    let invalid = findings.iter().any(|finding| finding.severity == Severity::Error);
    if args.json {
        let mut all = output::findings_json(&findings);
        all.insert("passed".to_owned(), passed.into());
        all.insert("failed".to_owned(), failed.into());
        all.insert("files".to_owned(), tested.iter().map(file_json).collect());
        output::json(&all.into());
    } else {
        output::diagnostics(&findings);
        for tested in &tested {
            print(tested);
        }
        if !tested.is_empty() {
            output::line(format_args!("{passed} passed, {failed} failed"));
        }
    }
    match (invalid, failed) {
        (true, _) => ExitCode::Configuration,
        (false, 0) => ExitCode::Ok,
        (false, _) => ExitCode::Failure,
    }
}

/// None if there is an error in the table or its sites.
fn test(path: &Path, findings: &mut Vec<Diagnostic>) -> Option<Tested> {
    let file = path.display().to_string();
    let text = config::read_text(path).map_err(|error| findings.push(*error)).ok()?;
    let source = SourceFile::new(file.clone(), text);
    let table = expect::parse(&source).map_err(|errors| findings.extend(errors)).ok()?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut sites: BTreeMap<Box<str>, Site> = BTreeMap::new();
    for entry in &table.sites {
        let (path, labels) = match &entry.files {
            SiteFiles::Objects(path) => (base.join(path), entry.labels.clone()),
            SiteFiles::Config(path) => (base.join(path), Labels::new()),
        };
        let Some(loaded) = site::load_as(&path, Some(&entry.name), labels, findings) else {
            continue;
        };
        if loaded.site.local.name != entry.name {
            findings.push(Diagnostic {
                severity: Severity::Error,
                file: file.clone(),
                line: entry.at.mark.line,
                column: entry.at.mark.column,
                field: entry.at.field.clone(),
                message: format!(
                    "{} is of peer `{}`, not `{}`",
                    loaded.path.display(),
                    loaded.site.local.name,
                    entry.name
                ),
                hint: format!("call the site `{}`", loaded.site.local.name),
            });
            continue;
        }
        sites.insert(entry.name.clone(), loaded.site);
    }
    if sites.len() < table.sites.len() {
        return None;
    }
    let answers = expect::evaluate(&table, &file, &mut sites)
        .map_err(|errors| findings.extend(errors))
        .ok()?;
    Some(Tested { file, results: table.cases.into_iter().zip(answers).collect() })
}

fn print(tested: &Tested) {
    for (case, answer) in &tested.results {
        if answer.passed {
            output::line(format_args!("ok      {}", case.name));
            if let Some(peer) = &answer.unasked {
                output::line(format_args!(
                    "        by the importer alone: {peer} is no site of this file"
                ));
            }
            continue;
        }
        output::line(format_args!("FAILED  {}", case.name));
        output::line(format_args!("        at {}:{}", tested.file, case.at.mark.line));
        let wanted_by = case.by.as_ref().map(|(by, _)| format!(" by {by}")).unwrap_or_default();
        output::line(format_args!(
            "        expected {}{wanted_by}, got {} by {}",
            trace::verdict(case.expect),
            trace::verdict(answer.verdict),
            answer.by
        ));
        for leg in &answer.legs {
            print_leg(leg, case.expect);
        }
    }
}

fn print_leg(leg: &Leg, expect: Verdict) {
    let role = match leg.side {
        Side::Egress => "importer",
        Side::Ingress => "exporter",
    };
    let source = match (&leg.source, leg.side) {
        (Some((peer, export)), Side::Egress) => format!(" for {export} at {peer}"),
        _ => String::new(),
    };
    let site = &leg.site;
    let Some(explanation) = &leg.explanation else {
        output::line(format_args!("        {role} {site}: DENY, it has no such export"));
        return;
    };
    let decision = trace::decision(explanation);
    output::line(format_args!("        {role} {site}{source}: {decision}"));
    if explanation.outcome.verdict != expect {
        trace::print_closest(explanation, "          ");
    }
}

fn file_json(tested: &Tested) -> Value {
    let result = |(case, answer): &(Case, Answer)| {
        let legs = answer.legs.iter().map(|leg| {
            json!({
                "site": leg.site,
                "side": document::side(leg.side),
                "peer": leg.source.as_ref().map(|(peer, _)| peer),
                "export": leg.source.as_ref().map(|(_, export)| export.to_string()),
                "explanation": leg.explanation.as_ref().map(document::explanation),
            })
        });
        json!({
            "name": case.name,
            "line": case.at.mark.line,
            "site": case.site,
            "passed": answer.passed,
            "expected": document::verdict(case.expect),
            "expectedBy": case.by.as_ref().map(|(by, _)| by),
            "got": document::verdict(answer.verdict),
            "by": answer.by,
            "exporterNotAsked": answer.unasked,
            "legs": legs.collect::<Vec<_>>(),
        })
    };
    json!({
        "file": tested.file,
        "tests": tested.results.iter().map(result).collect::<Vec<_>>(),
    })
}
