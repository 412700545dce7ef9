//! A whole connection: the importer is asked for each source, and the exporter where its rules are
//! at hand.

use std::collections::BTreeMap;

use crate::attributes::Attributes;
use crate::balance::{LbScheme, RoundRobin, Selection, Sources};
use crate::explain::{ExplainError, Explainer, Explanation};
use crate::fabric::{Fabric, Import, ImportSource, LocalPeer, ObjectName, PeerLabels};

/// The policy that is named where an exporter has no such export.
pub const NO_SUCH_EXPORT: &str = "<no such export>";

/// One site of a fabric of several.
#[derive(Debug, Clone, Default)]
pub struct Site {
    pub local: LocalPeer,
    pub fabric: Fabric,
}

/// The labels that heartbeats of these sites would report.
pub fn reported_labels<'a>(sites: impl IntoIterator<Item = &'a Site>) -> PeerLabels {
    sites.into_iter().map(|site| (site.local.name.clone(), site.local.labels.clone())).collect()
}

/// What both gateways say about one source.
#[derive(Debug, Clone)]
pub struct SourceView {
    /// Position in the import's sources.
    pub index: usize,
    pub source: ImportSource,
    pub importer: Explanation,
    pub exporter: Exporter,
}

/// The other gateway's say. It is asked here even where the importer denies, and would not be.
#[derive(Debug, Clone)]
pub enum Exporter {
    /// Its rules are not at hand.
    NotGiven,
    NoSuchExport,
    Asked(Box<Explanation>),
}

impl SourceView {
    /// Whether every gateway whose rules are at hand allows it.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.importer.is_allowed()
            && match &self.exporter {
                Exporter::NotGiven => true,
                Exporter::NoSuchExport => false,
                Exporter::Asked(explanation) => explanation.is_allowed(),
            }
    }

    /// The policy of the last gateway that was asked: the importer's when that denies.
    #[must_use]
    pub fn decided_by(&self) -> &str {
        match &self.exporter {
            Exporter::Asked(explanation) if self.importer.is_allowed() => {
                &explanation.outcome.policy
            }
            Exporter::NoSuchExport if self.importer.is_allowed() => NO_SUCH_EXPORT,
            _ => &self.importer.outcome.policy,
        }
    }
}

/// A client's way through an import.
#[derive(Debug, Clone)]
pub struct Connection {
    pub scheme: LbScheme,
    /// What the importer would send.
    pub attributes: Attributes,
    /// In the order of the import.
    pub sources: Vec<SourceView>,
    /// Positions in the import's sources, in the order in which the first connection after a start
    /// would try them with all peers reachable.
    pub order: Vec<usize>,
}

impl Connection {
    /// The allowed sources in the order in which they would be tried.
    pub fn allowed(&self) -> impl Iterator<Item = &SourceView> {
        self.order
            .iter()
            .filter_map(|index| self.sources.iter().find(|view| view.index == *index))
            .filter(|view| view.is_allowed())
    }

    /// The source that would serve this connection, were it the first after a start and all peers
    /// reachable.
    #[must_use]
    pub fn serving(&self) -> Option<&SourceView> {
        self.allowed().next()
    }

    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.serving().is_some()
    }
}

/// Asks about all sources of an import, or those of the peer `only`, for a workload of the
/// importer, None for an unknown client. `exporters` are by peer name.
///
/// # Errors
/// When there is no such import or workload, or a trace and its table disagree.
pub fn connect(
    importer: &Explainer<'_>,
    exporters: &BTreeMap<&str, Explainer<'_>>,
    import: &ObjectName,
    client: Option<&ObjectName>,
    only: Option<&str>,
) -> Result<Connection, ExplainError> {
    let import = importer
        .fabric()
        .imports
        .get(import)
        .ok_or_else(|| ExplainError::NoSuchImport(import.clone()))?;
    let attributes = importer.attributes(client)?;
    let mut sources = Vec::new();
    for (index, source) in import.sources.iter().enumerate() {
        if only.is_some_and(|peer| peer != &*source.peer) {
            continue;
        }
        let exporter = match exporters.get(&*source.peer) {
            None => Exporter::NotGiven,
            Some(exporter) => match exporter.ingress(&source.export, &attributes) {
                Ok(explanation) => Exporter::Asked(Box::new(explanation)),
                Err(ExplainError::NoSuchExport(_)) => Exporter::NoSuchExport,
                Err(error) => return Err(error),
            },
        };
        sources.push(SourceView {
            index,
            source: source.clone(),
            importer: importer.egress(&import.name, index, client)?,
            exporter,
        });
    }
    let order = first_order(import);
    Ok(Connection { scheme: import.lb_scheme, attributes, sources, order })
}

/// As [`Selection`] proposes them to the first connection; a random start is as good as the first.
/// Sources without weight come in no order of a scheme that uses weights.
fn first_order(import: &Import) -> Vec<usize> {
    struct Reachable<'a>(&'a [ImportSource]);

    impl Sources for Reachable<'_> {
        fn reachable(&self, _source: usize) -> bool {
            true
        }

        fn weight(&self, source: usize) -> u32 {
            self.0.get(source).map_or(0, |source| source.weight)
        }
    }

    let mut selection = Selection::new(import.lb_scheme, import.sources.len());
    let mut round_robin = RoundRobin::default();
    std::iter::from_fn(|| selection.next(&mut round_robin, 0, Reachable(&import.sources))).collect()
}
