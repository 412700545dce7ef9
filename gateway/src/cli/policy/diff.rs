//! `clgw policy diff`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clgw_policy::connection::{Site, reported_labels};
use clgw_policy::diff::{self, Change, Decisions, Group, ObjectChange, Say, Service, State};
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

/// Kinds of change shown without `--all`.
const SHOWN_GROUPS: usize = 20;

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
    let decisions =
        diff::decisions(of(&old.site, &peer_labels), of(&new.site, &peer_labels), &others);
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
    print_groups(args, decisions, true);
    if args.verbose {
        output::line("  the same verdict by another policy");
        print_groups(args, decisions, false);
    }
    if decisions.exports_without_clients > 0 {
        output::line(format_args!(
            "  {} compared for unknown clients only; give the sites that import them with \
             --importer",
            output::count(decisions.exports_without_clients, "export"),
        ));
    }
}

fn print_groups(args: &Args, decisions: &Decisions, turns: bool) {
    let exact = alike(decisions, turns);
    let mut groups: Vec<Alike<'_>> =
        if args.all || exact.len() <= SHOWN_GROUPS { exact } else { by_decision(decisions, turns) };
    groups.sort_by_key(|group| std::cmp::Reverse(group.pairs));
    let shown = if args.all { groups.len() } else { SHOWN_GROUPS };
    for group in groups.iter().take(shown) {
        output::line(format_args!("  {} -> {}", say(group.old), say(group.new)));
        let services: Vec<String> = group.services.iter().map(ToString::to_string).collect();
        let names: Vec<&str> = group
            .clients
            .iter()
            .filter_map(|client| decisions.clients.get(*client as usize).map(String::as_str))
            .collect();
        if group.pairs < services.len() * names.len() {
            output::line(format_args!("    {} pairs, among these:", group.pairs));
        }
        output::line(format_args!("    {}", list(args, &services, "services")));
        output::line(format_args!("    {}", list(args, &names, "clients")));
    }
    if groups.len() > shown {
        let more = &groups[shown..];
        let pairs: usize = more.iter().map(|group| group.pairs).sum();
        output::line(format_args!(
            "  and {} more kinds of change of {pairs} pairs of a client and a service (--all)",
            more.len()
        ));
    }
}

/// Changes that are told together.
struct Alike<'a> {
    old: &'a Say,
    new: &'a Say,
    services: Vec<&'a Service>,
    /// Ascending positions in [`Decisions::clients`].
    clients: Cow<'a, [u32]>,
    /// Changed pairs of a client and a service: all of these, unless there are too many groups to
    /// keep them apart.
    pairs: usize,
}

/// Services that changed alike for the same clients.
fn alike(decisions: &Decisions, turns: bool) -> Vec<Alike<'_>> {
    let mut alike: BTreeMap<(&Say, &Say, &[u32]), Vec<&Service>> = BTreeMap::new();
    for group in decisions.groups.iter().filter(|group| group.turns() == turns) {
        alike
            .entry((&group.old, &group.new, group.clients.as_slice()))
            .or_default()
            .push(&group.service);
    }
    let groups = alike.into_iter().map(|((old, new, clients), services)| Alike {
        old,
        new,
        pairs: services.len() * clients.len(),
        services,
        clients: clients.into(),
    });
    groups.collect()
}

/// All that changed from one decision to another, whoever the clients are.
fn by_decision(decisions: &Decisions, turns: bool) -> Vec<Alike<'_>> {
    let mut all: BTreeMap<(&Say, &Say), Vec<&Group>> = BTreeMap::new();
    for group in decisions.groups.iter().filter(|group| group.turns() == turns) {
        all.entry((&group.old, &group.new)).or_default().push(group);
    }
    let groups = all.into_iter().map(|((old, new), groups)| {
        let clients: BTreeSet<u32> =
            groups.iter().flat_map(|group| &group.clients).copied().collect();
        Alike {
            old,
            new,
            services: groups.iter().map(|group| &group.service).collect(),
            clients: clients.into_iter().collect(),
            pairs: groups.iter().map(|group| group.clients.len()).sum(),
        }
    });
    groups.collect()
}

fn say(say: &Say) -> String {
    format!("{} by {}", if say.allowed { "ALLOW" } else { "DENY" }, say.policy)
}

/// The first few, or all.
fn list(args: &Args, names: &[impl AsRef<str>], what: &str) -> String {
    let join = |names: &[_]| names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if args.all || names.len() <= SHOWN_NAMES {
        return join(names);
    }
    let first = join(&names[..SHOWN_NAMES]);
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
    let said = |say: &Say| {
        let verdict = if say.allowed { "allow" } else { "deny" };
        json!({ "verdict": verdict, "policy": say.policy })
    };
    let group = |group: &Alike<'_>, turns: bool| {
        let clients: Vec<&String> = group
            .clients
            .iter()
            .filter_map(|client| decisions.clients.get(*client as usize))
            .collect();
        json!({
            "services": group.services.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "old": said(group.old),
            "new": said(group.new),
            "verdictChanges": turns,
            "clients": clients,
        })
    };
    let groups = [true, false]
        .into_iter()
        .flat_map(|turns| alike(decisions, turns).into_iter().map(move |group| (group, turns)));
    json!({
        "verdictsChange": turns,
        "compared": decisions.compared,
        "exportsWithoutClients": decisions.exports_without_clients,
        "objects": changes.iter().map(object).collect::<Vec<_>>(),
        "decisions": groups.map(|(alike, turns)| group(&alike, turns)).collect::<Vec<_>>(),
    })
}
