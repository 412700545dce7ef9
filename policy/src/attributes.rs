//! The keys of the flat string maps that policies look at, one map for the source of a connection
//! and one for its destination.
//!
//! | key | source | destination |
//! |---|---|---|
//! | [`PEER_NAME`] | importing peer | egress: the source's peer; ingress: this peer |
//! | [`PEER_LABEL`]`<key>` | labels of the importing peer | labels of that same peer |
//! | [`CLIENT_NAMESPACE`], [`CLIENT_SERVICE_ACCOUNT`], [`CLIENT_LABEL`]`<key>` | the workload | |
//! | [`EXPORT_NAME`], [`EXPORT_NAMESPACE`] | | the export |
//! | [`EXPORT_LABEL`]`<key>` | | egress: labels of the import; ingress: of the export |

use std::collections::BTreeMap;

use crate::fabric::{Export, Import, ImportSource, Labels, LocalPeer, Workload};

pub const PEER_NAME: &str = "peer.clusterlink.net/name";
pub const PEER_LABEL: &str = "peer.clusterlink.net/labels.";
pub const CLIENT_NAMESPACE: &str = "client.clusterlink.net/namespace";
pub const CLIENT_SERVICE_ACCOUNT: &str = "client.clusterlink.net/service-account";
pub const CLIENT_LABEL: &str = "client.clusterlink.net/labels.";
pub const EXPORT_NAME: &str = "export.clusterlink.net/name";
pub const EXPORT_NAMESPACE: &str = "export.clusterlink.net/namespace";
pub const EXPORT_LABEL: &str = "export.clusterlink.net/labels.";

/// Prefixes behind which the key of a label stands as its owner wrote it.
pub const LABEL_PREFIXES: [&str; 3] = [PEER_LABEL, CLIENT_LABEL, EXPORT_LABEL];

/// One side of a connection as policies see it.
pub type Attributes = BTreeMap<Box<str>, Box<str>>;

/// Whether a source can ever have this attribute.
#[must_use]
pub fn is_source_key(key: &str) -> bool {
    matches!(key, PEER_NAME | CLIENT_NAMESPACE | CLIENT_SERVICE_ACCOUNT)
        || key.starts_with(PEER_LABEL)
        || key.starts_with(CLIENT_LABEL)
}

/// Whether a destination can ever have this attribute.
#[must_use]
pub fn is_destination_key(key: &str) -> bool {
    matches!(key, PEER_NAME | EXPORT_NAME | EXPORT_NAMESPACE)
        || key.starts_with(PEER_LABEL)
        || key.starts_with(EXPORT_LABEL)
}

fn put(attributes: &mut Attributes, key: &str, value: &str) {
    attributes.insert(key.into(), value.into());
}

fn put_labels(attributes: &mut Attributes, prefix: &str, labels: &Labels) {
    for (key, value) in labels {
        attributes.insert(format!("{prefix}{key}").into(), value.clone());
    }
}

/// What the importing peer knows about one of its clients, and sends to the exporter.
#[must_use]
pub fn source(local: &LocalPeer, client: &Workload) -> Attributes {
    let mut attributes = Attributes::new();
    put(&mut attributes, PEER_NAME, &local.name);
    put_labels(&mut attributes, PEER_LABEL, &local.labels);
    put(&mut attributes, CLIENT_NAMESPACE, &client.name.namespace);
    put(&mut attributes, CLIENT_SERVICE_ACCOUNT, &client.service_account);
    put_labels(&mut attributes, CLIENT_LABEL, &client.labels);
    attributes
}

/// The destination as the importing peer sees it. `peer_labels` are those the remote peer last
/// reported; the export's labels are not known here, the import's stand in for them.
#[must_use]
pub fn egress_destination(
    import: &Import,
    source: &ImportSource,
    peer_labels: Option<&Labels>,
) -> Attributes {
    let mut attributes = Attributes::new();
    put(&mut attributes, PEER_NAME, &source.peer);
    if let Some(labels) = peer_labels {
        put_labels(&mut attributes, PEER_LABEL, labels);
    }
    put(&mut attributes, EXPORT_NAME, &source.export.name);
    put(&mut attributes, EXPORT_NAMESPACE, &source.export.namespace);
    put_labels(&mut attributes, EXPORT_LABEL, &import.labels);
    attributes
}

/// The destination as the exporting peer sees it.
#[must_use]
pub fn ingress_destination(local: &LocalPeer, export: &Export) -> Attributes {
    let mut attributes = Attributes::new();
    put(&mut attributes, PEER_NAME, &local.name);
    put_labels(&mut attributes, PEER_LABEL, &local.labels);
    put(&mut attributes, EXPORT_NAME, &export.name.name);
    put(&mut attributes, EXPORT_NAMESPACE, &export.name.namespace);
    put_labels(&mut attributes, EXPORT_LABEL, &export.labels);
    attributes
}
