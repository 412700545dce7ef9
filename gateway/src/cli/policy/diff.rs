//! `clgw policy diff`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clgw_policy::connection::{Site, reported_labels};
use clgw_policy::diff::{
    self, Change, Decisions, Group, ObjectChange, Say, Service, State, decisions,
};
use clgw_policy::{Diagnostic, PeerLabels};
use serde_json::{Value, json};

use super::site::{
    self, LoadedSite, OtherSite, PeerArgs, PeerLabel, Refused, other_site, peer_label,
};
use crate::cli::output;
use crate::lifecycle::ExitCode;

/// Names shown of a list without `--all`.
const SHOWN_NAMES: usize = 3;

/// Changed objects shown without `--all`.
const SHOWN_OBJECTS: usize = 20;

const EXAMPLES: &str = "\
Examples:
  clgw policy diff old/objects new/objects --name site-a
  clgw policy diff site-b/gateway.yaml next/site-b/gateway.yaml --importer site-a/gateway.yaml

Imports are asked about for every address of the old and the new workloads and for unknown clients,
exports for the workloads of the --importer sites.

Exit codes (as of diff):
  0  every verdict is the same
  1  a verdict changes
  2  the command line is wrong
  3  the objects or a gateway.yaml are invalid";

/// Says which clients' decisions change between two states of one site.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The state before: a directory of objects, or a gateway.yaml.
    old: PathBuf,
    /// The state after.
    new: PathBuf,
    #[command(flatten)]
    own: PeerArgs,
    /// A site whose workloads are clients of the exports: a gateway.yaml, or a directory of objects
    /// behind the name of its peer. May be repeated.
    #[arg(long, value_name = "[NAME=]SITE", value_parser = other_site)]
    importer: Vec<OtherSite>,
    /// A label that another peer reports; may be repeated.
    #[arg(long, value_name = "PEER:KEY=VALUE", value_parser = peer_label)]
    peer_label: Vec<PeerLabel>,
    /// List all clients, services and objects instead of the first few.
    #[arg(long)]
    all: bool,
    /// Show also where only the deciding policy changes.
    #[arg(short, long)]
    verbose: bool,
    /// Print one JSON document with everything instead.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let mut findings = Vec::new();
    match answer(args, &mut findings) {
        Ok(false) => ExitCode::Ok,
        Ok(true) => ExitCode::Failure,
        Err(refused) => refused.report(&findings, args.json),
    }
}

/// Whether a verdict changes.
fn answer(args: &Args, findings: &mut Vec<Diagnostic>) -> Result<bool, Refused> {
    let given = site::peer_labels(&args.peer_label);
    let old = site::load(&args.old, &args.own, findings);
    let new = site::load(&args.new, &args.own, findings);
    let importers = site::load_others(&args.importer, &given, findings);
    let (old, new, importers) = match (old, new, importers) {
        (Some(old), Some(new), Ok(importers)) => (old, new, importers),
        (_, _, Err(usage @ Refused::Usage(_))) => return Err(usage),
        _ => return Err(Refused::Invalid),
    };
    args.own.check(&[&old, &new])?;
    let all: Vec<&LoadedSite> = [&old, &new].into_iter().chain(&importers).collect();
    site::require_names(&all)?;
    let mut peer_labels = reported_labels(importers.iter().map(|importer| &importer.site));
    for (peer, labels) in given {
        peer_labels.entry(peer).or_default().extend(labels);
    }
    let others: Vec<State<'_>> = importers.iter().map(|i| of(&i.site, &peer_labels)).collect();
    let changes = diff::objects(&old.site.fabric, &new.site.fabric);
    let decisions = decisions(of(&old.site, &peer_labels), of(&new.site, &peer_labels), &others);
    let turns = decisions.groups.iter().any(Group::turns);
    if args.json {
        output::json(&document(&changes, &decisions, turns));
    } else {
        print_objects(args, &changes);
        print_decisions(args, &decisions);
    }
    Ok(turns)
}

fn of<'a>(site: &'a Site, peer_labels: &'a PeerLabels) -> State<'a> {
    State { fabric: &site.fabric, local: &site.local, peer_labels }
}

fn print_objects(args: &Args, changes: &[ObjectChange]) {
    if changes.is_empty() {
        output::line("objects    no changes");
        return;
    }
    let shown = if args.all { changes.len() } else { SHOWN_OBJECTS };
    output::line(format_args!("objects    {} changed", changes.len()));
    for change in changes.iter().take(shown) {
        let (verb, words) = match &change.change {
            Change::Added => ("added", &[][..]),
            Change::Removed => ("removed", &[][..]),
            Change::Changed(words) => ("changed", words.as_slice()),
        };
        output::line(format_args!("  {verb:<7}  {} {}", change.kind, change.name));
        for word in words {
            output::line(format_args!("             {word}"));
        }
    }
    if changes.len() > shown {
        output::line(format_args!("  and {} more (--all)", changes.len() - shown));
    }
}

fn print_decisions(args: &Args, decisions: &Decisions) {
    let turning = decisions.groups.iter().filter(|group| group.turns());
    let turned: usize = turning.map(|group| group.clients.len()).sum();
    output::line(format_args!(
        "decisions  {} compared, {turned} with another verdict",
        decisions.compared
    ));
    for (turns, title) in [(true, ""), (false, "the same verdict by another policy")] {
        if !turns && !args.verbose {
            continue;
        }
        let groups = alike(decisions, turns);
        if !groups.is_empty() && !title.is_empty() {
            output::line(format_args!("  {title}"));
        }
        for ((old, new, clients), services) in groups {
            output::line(format_args!("  {} -> {}", say(old), say(new)));
            let services: Vec<String> = services.iter().map(ToString::to_string).collect();
            output::line(format_args!("    {}", list(args, &services, "services")));
            let names: Vec<String> = clients
                .iter()
                .filter_map(|client| decisions.clients.get(*client as usize).cloned())
                .collect();
            output::line(format_args!("    {}", list(args, &names, "clients")));
        }
    }
    if decisions.exports_without_clients > 0 {
        output::line(format_args!(
            "  {} compared for unknown clients only; give the sites that import them with \
             --importer",
            output::count(decisions.exports_without_clients, "export"),
        ));
    }
}

type Alike<'a> = BTreeMap<(&'a Say, &'a Say, &'a [u32]), Vec<&'a Service>>;

/// The services that changed alike for the same clients.
fn alike(decisions: &Decisions, turns: bool) -> Alike<'_> {
    let mut alike = Alike::new();
    for group in decisions.groups.iter().filter(|group| group.turns() == turns) {
        alike
            .entry((&group.old, &group.new, group.clients.as_slice()))
            .or_default()
            .push(&group.service);
    }
    alike
}

fn say(say: &Say) -> String {
    format!("{} by {}", if say.allowed { "ALLOW" } else { "DENY" }, say.policy)
}

/// The first few, or all.
fn list(args: &Args, names: &[String], what: &str) -> String {
    if args.all || names.len() <= SHOWN_NAMES {
        return names.join(", ");
    }
    let first = names[..SHOWN_NAMES].join(", ");
    format!("{} {what}: {first} and {} more", names.len(), names.len() - SHOWN_NAMES)
}

fn document(changes: &[ObjectChange], decisions: &Decisions, turns: bool) -> Value {
    let object = |change: &ObjectChange| {
        let (what, details) = match &change.change {
            Change::Added => ("added", &[][..]),
            Change::Removed => ("removed", &[][..]),
            Change::Changed(words) => ("changed", words.as_slice()),
        };
        json!({ "kind": change.kind, "name": change.name, "change": what, "details": details })
    };
    let said = |say: &Say| json!({ "verdict": if say.allowed { "allow" } else { "deny" }, "policy": say.policy });
    let group = |group: &Group| {
        let clients: Vec<&String> = group
            .clients
            .iter()
            .filter_map(|client| decisions.clients.get(*client as usize))
            .collect();
        json!({
            "service": group.service.to_string(),
            "old": said(&group.old),
            "new": said(&group.new),
            "verdictChanges": group.turns(),
            "clients": clients,
        })
    };
    json!({
        "verdictsChange": turns,
        "compared": decisions.compared,
        "exportsWithoutClients": decisions.exports_without_clients,
        "objects": changes.iter().map(object).collect::<Vec<_>>(),
        "decisions": decisions.groups.iter().map(group).collect::<Vec<_>>(),
    })
}
