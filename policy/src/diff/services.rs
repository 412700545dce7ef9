//! What clients want to reach, in classes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::State;
use super::classes::{Signature, Vocabulary};
use crate::attributes::{self, Attributes};
use crate::fabric::ObjectName;
use crate::table::{ExportId, ImportId};

/// What a client wants to reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// A source of an import, asked at the importer.
    Import { import: ObjectName, peer: Box<str>, export: ObjectName },
    /// Asked at the exporter.
    Export(ObjectName),
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Import { import, peer, export } if import == export => {
                write!(f, "import {import} at {peer}")
            }
            Self::Import { import, peer, export } => {
                write!(f, "import {import} at {peer} (its {export})")
            }
            Self::Export(export) => write!(f, "export {export}"),
        }
    }
}

/// Services that policies cannot tell apart.
pub(super) struct Destination<P> {
    pub members: Vec<Service>,
    /// One of them before and after; None where there is none.
    pub old: Option<P>,
    pub new: Option<P>,
}

/// A source of an import in one table.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub import: ImportId,
    pub source: usize,
}

/// A service in one state: where, the namespace whose policies count, and what they see.
type Seen<P> = (Service, P, Box<str>, Attributes);

pub(super) fn imports(
    old: State<'_>,
    new: State<'_>,
    vocabulary: &Vocabulary<'_>,
) -> Vec<Destination<Source>> {
    let seen = |state: State<'_>| {
        let mut seen: Vec<Seen<Source>> = Vec::new();
        for (import, id) in state.fabric.imports().zip((0u32..).map(ImportId)) {
            for (index, source) in import.sources.iter().enumerate() {
                let labels = state.peer_labels.get(&source.peer);
                seen.push((
                    Service::Import {
                        import: import.name.clone(),
                        peer: source.peer.clone(),
                        export: source.export.clone(),
                    },
                    Source { import: id, source: index },
                    import.name.namespace.clone(),
                    attributes::egress_destination(import, source, labels),
                ));
            }
        }
        seen
    };
    sort(seen(old), seen(new), vocabulary)
}

pub(super) fn exports(
    old: State<'_>,
    new: State<'_>,
    vocabulary: &Vocabulary<'_>,
) -> Vec<Destination<ExportId>> {
    let seen = |state: State<'_>| {
        let exports = state.fabric.exports().zip((0u32..).map(ExportId));
        exports
            .map(|(export, id)| {
                let to = attributes::ingress_destination(state.local, export);
                (Service::Export(export.name.clone()), id, export.name.namespace.clone(), to)
            })
            .collect()
    };
    sort(seen(old), seen(new), vocabulary)
}

/// Sorts services into classes by what policies see of them before and after.
fn sort<P: Copy>(
    old: Vec<Seen<P>>,
    new: Vec<Seen<P>>,
    vocabulary: &Vocabulary<'_>,
) -> Vec<Destination<P>> {
    type View<'a, P> = Option<(P, (Box<str>, Signature<'a>))>;
    let mut services: BTreeMap<Service, [View<'_, P>; 2]> = BTreeMap::new();
    for (state, seen) in [old, new].into_iter().enumerate() {
        for (service, place, namespace, to) in seen {
            let views = services.entry(service).or_insert_with(|| [None, None]);
            // The same source listed twice is decided alike.
            views[state].get_or_insert((place, (namespace, vocabulary.signature(&to))));
        }
    }
    let mut known = HashMap::new();
    let mut destinations: Vec<Destination<P>> = Vec::new();
    for (service, [old, new]) in services {
        let (old, old_key) = old.unzip();
        let (new, new_key) = new.unzip();
        let class = *known.entry((old_key, new_key)).or_insert_with(|| {
            destinations.push(Destination { members: Vec::new(), old, new });
            destinations.len() - 1
        });
        destinations[class].members.push(service);
    }
    destinations
}
