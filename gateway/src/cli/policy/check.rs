//! `clgw policy check`.

use std::path::PathBuf;

use clgw_policy::{Action, Fabric, PeerLabels, agreement};
use serde_json::json;

use super::site::{self, PeerArgs, Refused};
use crate::cli::output;
use crate::lifecycle::ExitCode;

/// Policies the reference evaluator looks at in all its answers together. It is slow on purpose;
/// this keeps it to a few seconds.
const REFERENCE_WORK: usize = 300_000;

/// Questions at most, however few policies there are.
const MOST_QUESTIONS: usize = 10_000;

const EXAMPLES: &str = "\
Examples:
  clgw policy check site-a/objects
  clgw policy check site-a/gateway.yaml --json

Exit code 3 if there is any error; warnings alone are fine.";

/// Reads all objects, reports every error and warning, and asks the compiled policies and an
/// independent evaluator the same questions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A directory of objects, or a gateway.yaml.
    site: PathBuf,
    #[command(flatten)]
    peer: PeerArgs,
    /// Print one JSON document with every finding instead.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let mut findings = Vec::new();
    let Some(loaded) = site::load(&args.site, &args.peer, &mut findings) else {
        return Refused::Invalid.report(&findings, args.json);
    };
    if let Err(refused) = args.peer.check(&[&loaded]) {
        return refused.report(&findings, args.json);
    }
    let fabric = &loaded.site.fabric;
    let questions = (REFERENCE_WORK / fabric.policies().len().max(1)).clamp(1, MOST_QUESTIONS);
    let none = PeerLabels::new();
    let (asked, all) = match agreement::check(fabric, &loaded.site.local, &none, questions) {
        Ok(counts) => counts,
        Err(error) => return Refused::Defect(error.to_string()).report(&findings, args.json),
    };
    let counts = Counts::of(fabric);
    if args.json {
        let mut document = output::findings_json(&findings);
        document.insert("summary".to_owned(), counts.json(fabric));
        document.insert("selfCheck".to_owned(), json!({ "asked": asked, "possible": all }));
        output::json(&document.into());
        return ExitCode::Ok;
    }
    output::diagnostics(&findings);
    output::line(format_args!("{}: good", loaded.path.display()));
    output::line(format_args!(
        "  objects   {}, {}, {}, {}",
        output::count(fabric.peers().len(), "peer"),
        output::count(fabric.exports().len(), "export"),
        output::count(fabric.imports().len(), "import"),
        output::count(fabric.workloads().len(), "workload"),
    ));
    let [[privileged_deny, privileged_allow], [deny, allow]] = counts.policies;
    output::line(format_args!(
        "  policies  privileged: {privileged_deny} deny, {privileged_allow} allow; \
         namespaced: {deny} deny, {allow} allow; dry-run: {}",
        counts.dry_run
    ));
    if all == 0 {
        output::line(
            "  decisions nothing to decide: there is no import with a source, and no export",
        );
    } else {
        output::line(format_args!(
            "  decisions compiled table and reference evaluator agree: {asked} of {all} questions \
             asked"
        ));
    }
    ExitCode::Ok
}

struct Counts {
    /// Privileged, then namespaced; deny, then allow. Dry-run policies among them.
    policies: [[usize; 2]; 2],
    dry_run: usize,
}

impl Counts {
    fn of(fabric: &Fabric) -> Self {
        let mut counts = Self { policies: [[0; 2]; 2], dry_run: 0 };
        for policy in fabric.policies() {
            let tier = usize::from(!policy.name.is_privileged());
            counts.policies[tier][usize::from(policy.action == Action::Allow)] += 1;
            counts.dry_run += usize::from(policy.dry_run);
        }
        counts
    }

    fn json(&self, fabric: &Fabric) -> serde_json::Value {
        let [[privileged_deny, privileged_allow], [deny, allow]] = self.policies;
        json!({
            "peers": fabric.peers().len(),
            "exports": fabric.exports().len(),
            "imports": fabric.imports().len(),
            "workloads": fabric.workloads().len(),
            "policies": {
                "privileged": { "deny": privileged_deny, "allow": privileged_allow },
                "namespaced": { "deny": deny, "allow": allow },
                "dryRun": self.dry_run,
            },
        })
    }
}
