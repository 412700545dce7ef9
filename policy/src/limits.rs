//! Every bound of the policy engine, checked against each other at compile time.

/// Sources of one import. [`crate::Selection`] keeps its failed set in one machine word.
pub const MAX_SOURCES_PER_IMPORT: usize = 64;

/// Largest `spec.sources[].weight` of an import, as of a `backendRef` in the Kubernetes Gateway
/// API.
pub const MAX_SOURCE_WEIGHT: u32 = 1_000_000;

/// Weight of a source that gives none, as there.
pub const DEFAULT_SOURCE_WEIGHT: u32 = 1;

/// Labels of one object. Together with the local peer's labels they must fit into
/// [`MAX_SOURCE_ATTRIBUTES`], or an exporter would refuse a client its own importer accepts.
pub const MAX_LABELS_PER_OBJECT: usize = 60;

/// Attributes that an importer may send about one client, whether policies mention them or not. More
/// are refused.
pub const MAX_SOURCE_ATTRIBUTES: usize = 256;

/// Bytes of one YAML file.
pub const MAX_FILE_BYTES: usize = 32 << 20;

/// Levels of nesting in one YAML document. `managedFields` of Kubernetes stays below 40.
pub const MAX_YAML_DEPTH: usize = 64;

/// Nodes of one YAML document; a `kind: List` of 50,000 policies stays below it.
pub const MAX_YAML_NODES: usize = 4_000_000;

/// Nodes that aliases may add, to one document and to one file. Real objects use none; a "billion
/// laughs" file stops here.
pub const MAX_YAML_ALIAS_EVENTS: usize = 10_000;

/// Anchors and aliases in one document.
pub const MAX_YAML_ALIASES: usize = 1_000;

/// Shape errors reported for one object before the rest of it is given up.
pub const MAX_SHAPE_ERRORS_PER_OBJECT: usize = 64;

/// Longest DNS name (RFC 1035, section 2.3.4, in text form without the final dot).
pub const MAX_DNS_NAME: usize = 253;

/// Longest DNS label, and so longest namespace and import name.
pub const MAX_DNS_LABEL: usize = 63;

const _: () = assert!(MAX_SOURCES_PER_IMPORT <= u64::BITS as usize);
// Peer name, namespace and service account, then the labels of the client and of its peer.
const _: () = assert!(3 + 2 * MAX_LABELS_PER_OBJECT <= MAX_SOURCE_ATTRIBUTES);
