//! `clgw policy eval`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clgw_policy::attributes::Attributes;
use clgw_policy::connection::{connect, reported_labels};
use clgw_policy::{Client, Diagnostic, Explainer, Explanation, ObjectName, PeerLabels, Verdict};
use serde_json::json;

use super::connection::Asked;
use super::site::{
    self, LoadedSite, OtherSite, PeerArgs, PeerLabel, Refused, object_name, other_site, peer_label,
};
use super::{connection, json as document, trace};
use crate::cli::output;
use crate::lifecycle::ExitCode;

const EXAMPLES: &str = "\
Examples:
  The importer's view, and the whole connection:
    clgw policy eval site-a --import shop/db --client 10.1.2.3
    clgw policy eval site-a --import shop/db --client 10.1.2.3 --exporter site-b
  A client that does not exist yet:
    clgw policy eval site-a --import shop/db --client namespace=shop,labels.app=web -v
  The exporter's view of a client of site-a:
    clgw policy eval site-b --export shop/db --peer site-a --client namespace=shop

Exit codes (as of kubectl auth can-i):
  0  allowed
  1  denied
  2  the command line is wrong: an unknown import, export, peer or attribute
  3  the objects or a gateway.yaml are invalid";

/// Says whether a client may reach a service, and which policies say so. Whether peers are
/// reachable does not count.
#[derive(Debug, clap::Args)]
#[command(
    after_help = EXAMPLES,
    group(clap::ArgGroup::new("service").required(true).args(["import", "export"]))
)]
pub(super) struct Args {
    /// The site that is asked: a directory of objects, or a gateway.yaml.
    site: PathBuf,
    /// Ask as the importer: may the client use this import?
    #[arg(long, value_name = "NS/NAME", value_parser = object_name)]
    import: Option<ObjectName>,
    /// Ask as the exporter: may the client of another peer use this export?
    #[arg(long, value_name = "NS/NAME", value_parser = object_name)]
    export: Option<ObjectName>,
    /// An address of a workload, `unknown`, or attributes: namespace=shop,service-account=till,
    /// labels.app=web, or full keys as in policies. Namespace and service account are `default`
    /// where they are not given.
    #[arg(long, value_name = "IP|ATTRS", value_parser = Client::parse)]
    client: Client,
    /// With --import, only the sources of this peer; with --export, the peer of the client.
    #[arg(long)]
    peer: Option<String>,
    /// Ask this site too where it is the peer of a source: a gateway.yaml, or a directory of
    /// objects behind the name of its peer. May be repeated.
    #[arg(long, value_name = "[NAME=]SITE", value_parser = other_site, conflicts_with = "export")]
    exporter: Vec<OtherSite>,
    /// A label that another peer reports; may be repeated. Those of an --exporter's gateway.yaml
    /// are known.
    #[arg(long, value_name = "PEER:KEY=VALUE", value_parser = peer_label)]
    peer_label: Vec<PeerLabel>,
    #[command(flatten)]
    own: PeerArgs,
    /// List the policies that did not match too, and why.
    #[arg(short, long)]
    verbose: bool,
    /// Print one JSON document with everything instead.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let mut findings = Vec::new();
    match answer(args, &mut findings) {
        Ok(true) => ExitCode::Ok,
        Ok(false) => ExitCode::Failure,
        Err(refused) => refused.report(&findings, args.json),
    }
}

fn answer(args: &Args, findings: &mut Vec<Diagnostic>) -> Result<bool, Refused> {
    let given = site::peer_labels(&args.peer_label);
    let asked = site::load(&args.site, &args.own, findings);
    let exporters = site::load_others(&args.exporter, &given, findings);
    let (asked, exporters) = match (asked, exporters) {
        (Some(asked), Ok(exporters)) => (asked, exporters),
        (None, Err(usage @ Refused::Usage(_))) | (Some(_), Err(usage)) => return Err(usage),
        (None, _) => return Err(Refused::Invalid),
    };
    args.own.check(&[&asked])?;
    let all: Vec<&LoadedSite> = std::iter::once(&asked).chain(&exporters).collect();
    site::require_names(&all)?;
    match (&args.import, &args.export) {
        (Some(import), _) => import_answer(args, asked, &exporters, import, given),
        (None, Some(export)) => export_answer(args, &asked, export, &given),
        (None, None) => Err(Refused::Usage("give --import or --export".to_owned())),
    }
}

fn defect(error: impl ToString) -> Refused {
    Refused::Defect(error.to_string())
}

fn import_answer(
    args: &Args,
    mut asked: LoadedSite,
    exporters: &[LoadedSite],
    name: &ObjectName,
    given: PeerLabels,
) -> Result<bool, Refused> {
    let place = asked.path.display().to_string();
    let Some(import) = asked.site.fabric.imports().find(|import| import.name == *name) else {
        let known = asked.site.fabric.imports().map(|import| import.name.to_string());
        return Err(site::no_such("import", &name.to_string(), &place, known));
    };
    let peers: Vec<String> = import.sources.iter().map(|source| source.peer.to_string()).collect();
    if let Some(peer) = &args.peer
        && !peers.contains(peer)
    {
        let import = format!("import {name}");
        return Err(site::no_such("source peer", peer, &import, peers.into_iter()));
    }
    let peer_of_client = match &args.client {
        Client::Described(described) => {
            described.peer.is_some() || !described.peer_labels.is_empty()
        }
        _ => false,
    };
    if peer_of_client {
        return Err(Refused::Usage(
            "the client of an import belongs to the site itself; leave out its peer attributes"
                .to_owned(),
        ));
    }
    let described = match &args.client {
        Client::Described(description) => Some(description.enlist(&mut asked.site.fabric)),
        _ => None,
    };
    let mut peer_labels = reported_labels(exporters.iter().map(|exporter| &exporter.site));
    for (peer, labels) in given {
        peer_labels.entry(peer).or_default().extend(labels);
    }
    let theirs = reported_labels([&asked.site]);
    let explainer = Explainer::new(&asked.site.fabric, &asked.site.local, &peer_labels);
    let others: BTreeMap<&str, Explainer<'_>> = exporters
        .iter()
        .map(|exporter| {
            let local = &exporter.site.local;
            (&*local.name, Explainer::new(&exporter.site.fabric, local, &theirs))
        })
        .collect();
    let client = match &args.client {
        Client::Address(ip) => {
            let table = explainer.table();
            table.client_name(table.client(*ip)).cloned()
        }
        _ => described,
    };
    let only = args.peer.as_deref();
    let connection = connect(&explainer, &others, name, client.as_ref(), only).map_err(defect)?;
    let question = Asked {
        client: &args.client,
        workload: client.as_ref(),
        import: name,
        importer: &asked.site.local.name,
    };
    if args.json {
        output::json(&connection::json(&question, &connection));
    } else {
        connection::print(&question, &connection, args.verbose);
    }
    Ok(connection.is_allowed())
}

fn export_answer(
    args: &Args,
    asked: &LoadedSite,
    name: &ObjectName,
    given: &PeerLabels,
) -> Result<bool, Refused> {
    let place = asked.path.display().to_string();
    let fabric = &asked.site.fabric;
    if !fabric.exports().any(|export| export.name == *name) {
        let known = fabric.exports().map(|export| export.name.to_string());
        return Err(site::no_such("export", &name.to_string(), &place, known));
    }
    let from = claimed(args, fabric.peers().map(|peer| peer.name.to_string()), given)?;
    let none = PeerLabels::new();
    let explainer = Explainer::new(fabric, &asked.site.local, &none);
    let explanation = explainer.ingress(name, &from).map_err(defect)?;
    if args.json {
        output::json(&json!({
            "export": name.to_string(),
            "client": connection::client_json(&args.client, None, &from),
            "allowed": explanation.is_allowed(),
            "exporter": document::explanation(&explanation),
        }));
    } else {
        print_export(args, &asked.site.local.name, name, &from, &explanation);
    }
    Ok(explanation.is_allowed())
}

fn print_export(
    args: &Args,
    exporter: &str,
    export: &ObjectName,
    from: &Attributes,
    explanation: &Explanation,
) {
    output::line(format_args!("client    {}", trace::attributes(from)));
    output::line(format_args!("export    {export}"));
    output::line("");
    output::line(format_args!("exporter {exporter}: {}", trace::decision(explanation)));
    trace::print(explanation, args.verbose, "  ");
    output::line("");
    output::line(match explanation.outcome.verdict {
        Verdict::Allow => "ALLOWED by the exporter; the importer must allow it too",
        Verdict::Deny => "DENIED",
    });
}

/// What the importing peer would send.
fn claimed(
    args: &Args,
    peers: impl Iterator<Item = String>,
    given: &PeerLabels,
) -> Result<Attributes, Refused> {
    let described = match &args.client {
        Client::Unknown => return Ok(Attributes::new()),
        Client::Address(ip) => {
            return Err(Refused::Usage(format!(
                "an exporter does not know whose address {ip} is; ask the importer with --import \
                 and --exporter, or describe the client, as in --client namespace=shop"
            )));
        }
        Client::Described(described) => described,
    };
    let mut described = described.clone();
    match (&args.peer, &described.peer) {
        (Some(flag), Some(attribute)) if **flag != **attribute => {
            return Err(Refused::Usage(format!(
                "--peer {flag} and --client say different peers ({attribute}); keep one"
            )));
        }
        (Some(flag), _) => described.peer = Some(flag.as_str().into()),
        _ => {}
    }
    let Some(peer) = &described.peer else {
        let known: Vec<String> = peers.collect();
        return Err(Refused::Usage(format!(
            "an exporter hears of clients from their peer: give --peer NAME (there is {})",
            if known.is_empty() { "no Peer here".to_owned() } else { known.join(", ") }
        )));
    };
    if let Some(labels) = given.get(peer) {
        described.peer_labels.extend(labels.clone());
    }
    Ok(described.attributes().unwrap_or_default())
}
