//! A whole connection as people and machines read it.

use clgw_policy::attributes::Attributes;
use clgw_policy::connection::{self, Connection, Exporter, SourceView};
use clgw_policy::{Client, LbScheme, ObjectName};
use serde_json::{Value, json};

use super::{json as document, trace};
use crate::cli::output;

/// Who connects to what, and where.
pub(super) struct Asked<'a> {
    pub client: &'a Client,
    /// The workload that is the client; None for an unknown one.
    pub workload: Option<&'a ObjectName>,
    pub import: &'a ObjectName,
    /// Name of the importing peer.
    pub importer: &'a str,
}

/// The client in words: who it is, and what was asked for.
fn client_text(asked: &Client, workload: Option<&ObjectName>) -> String {
    match (asked, workload) {
        (Client::Address(ip), Some(workload)) => format!("{workload} ({ip})"),
        (Client::Address(ip), None) => format!("unknown: no workload has {ip}"),
        (Client::Unknown, _) => "unknown".to_owned(),
        (Client::Described(_), _) => "described, no workload of the site".to_owned(),
    }
}

pub(super) fn print(asked: &Asked<'_>, connection: &Connection, verbose: bool) {
    output::line(format_args!("client    {}", client_text(asked.client, asked.workload)));
    output::line(format_args!("          {}", trace::attributes(&connection.attributes)));
    let all = connection.order.len();
    output::line(format_args!(
        "import    {}, {}, {}",
        asked.import,
        output::count(all, "source"),
        connection.scheme.as_str(),
    ));
    for view in &connection.sources {
        let source = &view.source;
        output::line("");
        output::line(format_args!(
            "source {}  {} at {}",
            view.index + 1,
            source.export,
            source.peer
        ));
        let decision = trace::decision(&view.importer);
        output::line(format_args!("  importer {}: {decision}", asked.importer));
        trace::print(&view.importer, verbose, "    ");
        match &view.exporter {
            Exporter::NotGiven => output::line(format_args!(
                "  exporter {0}: not asked; give its objects with --exporter {0}=SITE",
                source.peer
            )),
            Exporter::NoSuchExport => output::line(format_args!(
                "  exporter {}: DENY, it has no export {}",
                source.peer, source.export
            )),
            Exporter::Asked(explanation) => {
                let not_asked = if view.importer.is_allowed() {
                    ""
                } else {
                    "not asked, the importer denies; it would say "
                };
                let decision = trace::decision(explanation);
                let peer = &source.peer;
                output::line(format_args!("  exporter {peer}: {not_asked}{decision}"));
                trace::print(explanation, verbose, "    ");
            }
        }
    }
    output::line("");
    output::line(conclusion(connection));
}

/// Who serves, or that nobody does.
fn conclusion(connection: &Connection) -> String {
    let Some(serving) = connection.serving() else {
        if connection.sources.iter().any(SourceView::is_allowed) {
            return "DENIED: the sources that are allowed have the weight 0".to_owned();
        }
        return match connection.sources.len() {
            0 => "DENIED: the import has no sources".to_owned(),
            1 => "DENIED: its source is refused".to_owned(),
            count => format!("DENIED: all {count} sources are refused"),
        };
    };
    let mut allowed: Vec<&SourceView> = connection.allowed().collect();
    allowed.sort_by_key(|view| view.index);
    let by = if allowed.iter().any(|view| matches!(view.exporter, Exporter::NotGiven)) {
        "ALLOWED by the importer"
    } else {
        "ALLOWED"
    };
    let scheme = connection.scheme.as_str();
    let SourceView { index, source, .. } = serving;
    let first = format!("source {} ({} at {})", index + 1, source.export, source.peer);
    let serves = if connection.sources.len() == 1 {
        format!("{first} serves; it is the only source")
    } else if allowed.len() == 1 {
        format!("{first} serves; it is the only one allowed")
    } else if connection.scheme == LbScheme::Static {
        format!("{first} serves; {scheme} takes the first allowed source of the list")
    } else if connection.scheme == LbScheme::RoundRobin {
        format!(
            "{first} serves first after a start; {scheme} gives each of the {} allowed sources its \
             turn",
            allowed.len()
        )
    } else {
        let numbers: Vec<String> =
            allowed.iter().map(|view| (view.index + 1).to_string()).collect();
        format!("sources {} serve, as {scheme} chooses", numbers.join(", "))
    };
    format!("{by}: {serves}")
}

/// The source that serves the first connection after a start. None also where that is not settled
/// by the objects.
fn serving(connection: &Connection) -> Option<&SourceView> {
    let settled = matches!(connection.scheme, LbScheme::Static | LbScheme::RoundRobin)
        || connection.allowed().count() == 1;
    connection.serving().filter(|_| settled)
}

pub(super) fn client_json(
    asked: &Client,
    workload: Option<&ObjectName>,
    from: &Attributes,
) -> Value {
    let workload = workload.filter(|_| matches!(asked, Client::Address(_)));
    json!({
        "asked": asked.to_string(),
        "workload": workload.map(ToString::to_string),
        "attributes": document::attributes(from),
    })
}

pub(super) fn json(asked: &Asked<'_>, connection: &Connection) -> Value {
    let source = |view: &SourceView| {
        let exporter = match &view.exporter {
            Exporter::NotGiven => Value::Null,
            Exporter::NoSuchExport => {
                json!({ "verdict": "deny", "policy": connection::NO_SUCH_EXPORT })
            }
            Exporter::Asked(explanation) => document::explanation(explanation),
        };
        json!({
            "index": view.index,
            "peer": view.source.peer,
            "export": view.source.export.to_string(),
            "allowed": view.is_allowed(),
            "decidedBy": view.decided_by(),
            "importer": document::explanation(&view.importer),
            "exporter": exporter,
        })
    };
    json!({
        "import": asked.import.to_string(),
        "scheme": connection.scheme.as_str(),
        "client": client_json(asked.client, asked.workload, &connection.attributes),
        "allowed": connection.is_allowed(),
        "serving": serving(connection).map(|view| view.index),
        "sources": connection.sources.iter().map(source).collect::<Vec<_>>(),
    })
}
