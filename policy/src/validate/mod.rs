//! Files to a [`Fabric`]: every error of every file at once.

mod meta;
mod network;
mod policy;

pub(crate) use meta::DEFAULT_NAMESPACE;
pub(crate) use network::DEFAULT_SERVICE_ACCOUNT;

use std::collections::{HashMap, HashSet};
use std::fmt;

use ipnet::IpNet;
use serde::de::DeserializeOwned;

use crate::diagnostic::{Diagnostic, Severity, SourceFile};
use crate::fabric::{Fabric, ObjectName};
use crate::limits;
use crate::model::{API_VERSION, KINDS, Manifest};
use crate::yaml::{self, Budget, Cursor, Mark, Node, Value};

/// What one file of objects may cost to read.
const BUDGET: Budget = Budget {
    bytes: limits::MAX_FILE_BYTES,
    depth: limits::MAX_YAML_DEPTH,
    nodes: limits::MAX_YAML_NODES,
};

/// A fabric without errors, and what looked odd in its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub fabric: Fabric,
    /// Severity is [`Severity::Warning`] throughout.
    pub warnings: Vec<Diagnostic>,
}

/// Reads and checks all files as one fabric. `kind: List` and several documents per file are fine;
/// the order of files and objects does not matter.
///
/// # Errors
/// When anything is wrong: all errors of all files, and the warnings too, in the order of the
/// files, then by line. Nothing of the fabric is returned then.
pub fn load(files: &[SourceFile]) -> Result<Loaded, Vec<Diagnostic>> {
    let mut loader = Loader::default();
    let mut diagnostics = Vec::new();
    for file in files {
        loader.file.clone_from(&file.path);
        let mut errors = Vec::new();
        let documents = yaml::documents(&file.text, &BUDGET, &mut errors);
        loader.found.extend(errors.iter().map(|error| error.diagnostic(&file.path)));
        for mut document in documents {
            loader.object(&mut document, "");
        }
        diagnostics.push(std::mem::take(&mut loader.found));
    }
    // Sources are held against the peers only now that all files are read.
    let peers = &loader.peer_names;
    for (file, peer, warning) in loader.sources {
        if !peers.contains(&peer) {
            let position = files.iter().position(|candidate| candidate.path == file);
            diagnostics[position.unwrap_or_default()].push(warning);
        }
    }
    for found in &mut diagnostics {
        found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    }
    let diagnostics: Vec<Diagnostic> = diagnostics.into_iter().flatten().collect();
    if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        Err(diagnostics)
    } else {
        Ok(Loaded { fabric: loader.fabric, warnings: diagnostics })
    }
}

/// Where an object or value was first seen, for errors that name two places.
#[derive(Debug, Clone)]
struct Origin {
    file: String,
    line: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

#[derive(Debug, Default)]
struct Loader {
    fabric: Fabric,
    file: String,
    /// Findings in the current file.
    found: Vec<Diagnostic>,
    /// Paths in the current object that have been reported and removed already.
    cut: Vec<String>,
    /// Kind and full name of every object.
    names: HashMap<(&'static str, String), Origin>,
    /// Names of all peers, also of those with errors.
    peer_names: HashSet<String>,
    /// File, peer and the warning to give when there is no such peer.
    sources: Vec<(String, String, Diagnostic)>,
    target_ports: HashMap<u16, (ObjectName, Origin)>,
    prefixes: HashMap<IpNet, (ObjectName, Origin)>,
}

impl Loader {
    fn object(&mut self, node: &mut Node, path: &str) {
        self.cut.clear();
        let at = Cursor::new(node, path);
        if !matches!(node.value, Value::Map(_)) {
            let message = "this document is not an object".to_owned();
            self.error(
                &at,
                message,
                "an object is a mapping with apiVersion, kind, metadata and spec",
            );
            return;
        }
        let text = |key: &str| node.get(key).and_then(Node::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if (api_version == "v1" && kind == "List")
            || (api_version == API_VERSION
                && kind.strip_suffix("List").is_some_and(|item| KINDS.contains(&item)))
        {
            self.list(node, path);
            return;
        }
        if api_version != API_VERSION {
            let message = match node.get("apiVersion") {
                None => "is missing".to_owned(),
                Some(_) if api_version.is_empty() => "is not a text".to_owned(),
                Some(_) => format!("unknown apiVersion `{api_version}`"),
            };
            self.error(
                &at.key("apiVersion"),
                message,
                format!("write `apiVersion: {API_VERSION}`"),
            );
            return;
        }
        match kind.as_str() {
            "Peer" => self.read(node, path, Self::peer),
            "Export" => self.read(node, path, Self::export),
            "Import" => self.read(node, path, Self::import),
            "AccessPolicy" => self.read(node, path, Self::namespaced_policy),
            "PrivilegedAccessPolicy" => self.read(node, path, Self::privileged_policy),
            "Workload" => self.read(node, path, Self::workload),
            "" => {
                let hint = format!("one of {}", KINDS.join(", "));
                self.error(&at.key("kind"), "is missing or not a text", hint);
            }
            "Instance" => self.error(
                &at.key("kind"),
                "kind `Instance` configures ClusterLink's operator, which has no part in this gateway",
                "remove this object",
            ),
            other => {
                let hint = match yaml::nearest(other, &KINDS) {
                    Some(kind) => format!("did you mean `{kind}`?"),
                    None => format!("one of {}", KINDS.join(", ")),
                };
                self.error(&at.key("kind"), format!("unknown kind `{other}`"), hint);
            }
        }
    }

    fn list(&mut self, node: &mut Node, path: &str) {
        let at = Cursor::new(node, path);
        if let Value::Map(entries) = &node.value {
            let known = ["apiVersion", "kind", "metadata", "items"];
            for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
                let message = format!("unknown field `{}`", entry.key);
                self.error(&at.at_key(&entry.key), message, "a List has items only");
            }
        }
        let at = at.key("items").detached();
        let Value::Map(entries) = &mut node.value else { return };
        match entries.iter_mut().find(|entry| entry.key == "items").map(|e| &mut e.node.value) {
            Some(Value::Seq(items)) => {
                for item in items {
                    self.object(&mut item.node, &format!("{}[{}]", at.path, item.index));
                }
            }
            _ => self.error(&at, "a List needs a list of items", "write `items: []` for none"),
        }
    }

    /// Decodes `node`, reports what does not fit, and hands the rest to `check`.
    fn read<S: DeserializeOwned>(
        &mut self,
        node: &mut Node,
        path: &str,
        check: impl FnOnce(&mut Self, &Manifest<S>, &Cursor<'_>),
    ) {
        let decoded = yaml::decode::<Manifest<S>>(node, path);
        for misfit in decoded.misfits {
            self.push(Severity::Error, misfit.mark, &misfit.path, misfit.message, misfit.hint);
            self.cut.push(misfit.path);
        }
        if let Some(manifest) = decoded.object {
            check(self, &manifest, &Cursor::new(node, path));
        }
    }

    fn error(&mut self, at: &Cursor<'_>, message: impl Into<String>, hint: impl Into<String>) {
        if !self.is_cut(&at.path) {
            self.push(Severity::Error, at.mark, &at.path, message.into(), hint.into());
        }
    }

    fn warning(&mut self, at: &Cursor<'_>, message: impl Into<String>, hint: impl Into<String>) {
        if !self.is_cut(&at.path) {
            self.push(Severity::Warning, at.mark, &at.path, message.into(), hint.into());
        }
    }

    fn push(&mut self, severity: Severity, mark: Mark, field: &str, message: String, hint: String) {
        self.found.push(Diagnostic {
            severity,
            file: self.file.clone(),
            line: mark.line,
            column: mark.column,
            field: field.to_owned(),
            message,
            hint,
        });
    }

    /// Whether a complaint about `path` would only be the consequence of something removed there,
    /// above or below, that has been reported already.
    fn is_cut(&self, path: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('.') || rest.starts_with('[')
            })
        };
        !path.is_empty() && self.cut.iter().any(|cut| within(cut, path) || within(path, cut))
    }

    fn origin(&self, at: &Cursor<'_>) -> Origin {
        Origin { file: self.file.clone(), line: at.mark.line }
    }

    /// A required text that is not empty.
    fn text<'v>(&mut self, at: &Cursor<'_>, value: Option<&'v str>, hint: &str) -> Option<&'v str> {
        match value {
            Some(text) if !text.is_empty() => Some(text),
            Some(_) => {
                self.error(at, "is empty", hint);
                None
            }
            None => {
                self.error(at, "is missing", hint);
                None
            }
        }
    }

    fn port(&mut self, at: &Cursor<'_>, value: Option<i64>) -> Option<u16> {
        const HINT: &str = "give a TCP port from 1 to 65535";
        let Some(value) = value else {
            self.error(at, "the port is missing", HINT);
            return None;
        };
        match u16::try_from(value) {
            Ok(port) if port != 0 => Some(port),
            _ => {
                self.error(at, format!("{value} is no port"), HINT);
                None
            }
        }
    }
}
