//! Checks of what all kinds have: a spec and `metadata` with a name that is used once.

use std::collections::BTreeMap;

use super::Loader;
use crate::fabric::{Labels, ObjectName};
use crate::limits::MAX_LABELS_PER_OBJECT;
use crate::model::{Manifest, ObjectMeta};
use crate::names;
use crate::yaml::Cursor;

/// Namespace of an object that names none, as `kubectl apply` would choose it.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// `metadata`, checked.
pub(super) struct Meta {
    pub name: ObjectName,
    pub labels: Labels,
}

/// What a name must be; import names become services, which are single labels.
#[derive(Clone, Copy)]
pub(super) enum NameRule {
    Label,
    Subdomain,
    /// A peer's name stands in its certificate and in SNI.
    DnsName,
}

/// Whether two objects of the same name may live in different namespaces.
#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Namespace,
    Cluster,
}

/// A kind of object and how its objects are named.
pub(super) struct Kind {
    name: &'static str,
    rule: NameRule,
    scope: Scope,
}

impl Kind {
    /// One system namespace holds all peers, so the name alone identifies a peer.
    pub const PEER: Self = Self::new("Peer", NameRule::DnsName, Scope::Cluster);
    pub const EXPORT: Self = Self::new("Export", NameRule::Subdomain, Scope::Namespace);
    pub const IMPORT: Self = Self::new("Import", NameRule::Label, Scope::Namespace);
    pub const ACCESS_POLICY: Self =
        Self::new("AccessPolicy", NameRule::Subdomain, Scope::Namespace);
    pub const PRIVILEGED_ACCESS_POLICY: Self =
        Self::new("PrivilegedAccessPolicy", NameRule::Subdomain, Scope::Cluster);
    pub const WORKLOAD: Self = Self::new("Workload", NameRule::Subdomain, Scope::Namespace);

    const fn new(name: &'static str, rule: NameRule, scope: Scope) -> Self {
        Self { name, rule, scope }
    }
}

impl Loader {
    /// Checks `metadata` and that no object of this kind has the name already. None when the object
    /// has no usable name; a duplicate is reported but still checked further.
    pub(super) fn meta<S>(
        &mut self,
        kind: Kind,
        manifest: &Manifest<S>,
        root: &Cursor<'_>,
    ) -> Option<Meta> {
        let Kind { name: kind, rule, scope } = kind;
        let at = root.key("metadata");
        let empty = ObjectMeta::default();
        let meta = manifest.metadata.as_ref().unwrap_or(&empty);
        let labels = self.labels(&at.key("labels"), meta.labels.as_ref());
        let namespace = match meta.namespace.as_deref() {
            None | Some("") => DEFAULT_NAMESPACE,
            Some(namespace) => {
                self.name(&at.key("namespace"), namespace, NameRule::Label).then_some(namespace)?
            }
        };
        let at = at.key("name");
        let name = self.text(&at, meta.name.as_deref(), "every object needs a name")?;
        if !self.name(&at, name, rule) {
            return None;
        }
        let full = match scope {
            Scope::Namespace => format!("{namespace}/{name}"),
            Scope::Cluster => name.to_owned(),
        };
        let origin = self.origin(&at);
        if let Some(first) = self.names.get(&(kind, full.clone())) {
            let message = format!("{kind} `{full}` is already defined at {first}");
            self.error(&at, message, "rename or remove one of the two");
        } else {
            self.names.insert((kind, full), origin);
        }
        Some(Meta { name: ObjectName::new(namespace, name), labels })
    }

    /// The spec and its place, or a complaint that there is none.
    pub(super) fn spec<'m, 'c, S>(
        &mut self,
        manifest: &'m Manifest<S>,
        root: &Cursor<'c>,
    ) -> Option<(&'m S, Cursor<'c>)> {
        let at = root.key("spec");
        if manifest.spec.is_none() {
            self.error(&at, "is missing", "every object needs a spec");
        }
        manifest.spec.as_ref().map(|spec| (spec, at))
    }

    /// Whether `text` is a name by this rule; reports it where not.
    pub(super) fn name(&mut self, at: &Cursor<'_>, text: &str, rule: NameRule) -> bool {
        let checked = match rule {
            NameRule::Label => names::dns_label(text),
            NameRule::Subdomain => names::dns_subdomain(text),
            NameRule::DnsName => names::dns_name(text),
        };
        if let Err(why) = &checked {
            let hint = match rule {
                NameRule::Label => "a name is a DNS label: a-z, 0-9 and '-', at most 63 characters",
                NameRule::Subdomain | NameRule::DnsName => {
                    "a name is a DNS name: labels of a-z, 0-9 and '-', joined by dots"
                }
            };
            self.error(at, format!("the name `{text}` {why}"), hint);
        }
        checked.is_ok()
    }

    fn labels(&mut self, at: &Cursor<'_>, labels: Option<&BTreeMap<String, String>>) -> Labels {
        let mut checked = Labels::new();
        let count = labels.map_or(0, BTreeMap::len);
        if count > MAX_LABELS_PER_OBJECT {
            // One error for all: the place of each label in a map of many is far to look for.
            let message = format!("{count} labels are more than {MAX_LABELS_PER_OBJECT}");
            self.error(at, message, "keep those that policies refer to");
            return checked;
        }
        for (key, value) in labels.into_iter().flatten() {
            if let Err(why) = names::label_key(key) {
                let hint = "a label key is [prefix/]name, as in app.kubernetes.io/name";
                self.error(&at.at_key(key), format!("the label key `{key}` {why}"), hint);
            }
            if let Err(why) = names::label_value(value) {
                let hint = "a label value has at most 63 letters, digits, '-', '_' or '.'";
                self.error(&at.key(key), format!("the label value `{value}` {why}"), hint);
            }
            checked.insert(key.as_str().into(), value.as_str().into());
        }
        checked
    }
}
