//! Text to a table.

use std::collections::BTreeMap;

use super::shape::{ClientMapping, ClientSpec, SiteSpec, Table, TestSpec};
use super::{Case, Expectations, Place, Question, SiteEntry, SiteFiles};
use crate::client::{Client, Description};
use crate::decide::Verdict;
use crate::diagnostic::{Diagnostic, Severity, SourceFile};
use crate::fabric::{Labels, ObjectName};
use crate::yaml::{self, Budget, Cursor, Mark, Value, nearest};
use crate::{limits, names};

const BUDGET: Budget = Budget {
    bytes: limits::MAX_FILE_BYTES,
    depth: limits::MAX_YAML_DEPTH,
    nodes: limits::MAX_YAML_NODES,
};

/// Reads and checks one table.
///
/// # Errors
/// Everything that is wrong with it, by line.
pub fn parse(file: &SourceFile) -> Result<Expectations, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let root = yaml::document(&file.text, &BUDGET, &mut errors);
    let mut reader = Reader {
        file: &file.path,
        found: errors.iter().map(|error| error.diagnostic(&file.path)).collect(),
        cut: Vec::new(),
    };
    let table = root.and_then(|mut root| {
        if root.value == Value::Null {
            let at = Place { mark: Mark::default(), field: String::new() };
            reader.error(&at, "the file is empty", "give it `sites` and `tests`");
            return None;
        }
        let decoded = yaml::decode::<Table>(&mut root, "");
        for misfit in decoded.misfits {
            let at = Place { mark: misfit.mark, field: misfit.path.clone() };
            reader.error(&at, misfit.message, misfit.hint);
            reader.cut.push(misfit.path);
        }
        let table = decoded.object?;
        Some(reader.table(&table, &Cursor::new(&root, "")))
    });
    let mut found = reader.found;
    found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    match table {
        Some(table) if found.is_empty() => Ok(table),
        _ => Err(found),
    }
}

pub(super) fn place(at: &Cursor<'_>) -> Place {
    Place { mark: at.mark, field: at.path.clone() }
}

/// "did you mean", or the first of what there is.
pub(super) fn hint(word: &str, known: &[&str], none: &str) -> String {
    /// More would not be read.
    const SHOWN: usize = 8;
    match nearest(word, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => none.to_owned(),
        None if known.len() > SHOWN => {
            format!("there are {} and {} more", known[..SHOWN].join(", "), known.len() - SHOWN)
        }
        None => format!("there is {}", known.join(", ")),
    }
}

struct Reader<'a> {
    file: &'a str,
    found: Vec<Diagnostic>,
    /// Paths that have been reported and removed already.
    cut: Vec<String>,
}

impl Reader<'_> {
    fn error(&mut self, at: &Place, message: impl Into<String>, hint: impl Into<String>) {
        // A value that was cut out is not missing as well.
        if self.cut.contains(&at.field) {
            return;
        }
        self.found.push(Diagnostic {
            severity: Severity::Error,
            file: self.file.to_owned(),
            line: at.mark.line,
            column: at.mark.column,
            field: at.field.clone(),
            message: message.into(),
            hint: hint.into(),
        });
    }

    fn table(&mut self, table: &Table, root: &Cursor<'_>) -> Expectations {
        let empty = BTreeMap::new();
        let specs = table.sites.as_ref().unwrap_or(&empty);
        let at = root.key("sites");
        if specs.is_empty() {
            let hint = "name the sites as in `sites: {site-a: {objects: site-a/objects}}`";
            self.error(&place(&at), "there are no sites to ask", hint);
        }
        let sites = specs.iter().filter_map(|(name, spec)| self.site(name, spec, &at)).collect();
        let names: Vec<&str> = specs.keys().map(String::as_str).collect();
        let at = root.key("tests");
        let tests = table.tests.as_deref().unwrap_or_default();
        if tests.is_empty() {
            let hint = "write at least one `- {site, import, client, expect}`";
            self.error(&place(&at), "there are no tests", hint);
        }
        let cases = tests
            .iter()
            .enumerate()
            .filter_map(|(index, spec)| self.case(index, spec, &at.index(index), &names))
            .collect();
        Expectations { sites, cases }
    }

    fn site(&mut self, name: &str, spec: &SiteSpec, at: &Cursor<'_>) -> Option<SiteEntry> {
        let key = at.at_key(name);
        if let Err(why) = names::dns_name(name) {
            let hint = "a site has the name of its peer, the first DNS SAN of its certificate";
            self.error(&place(&key), format!("the name `{name}` {why}"), hint);
        }
        let at = at.key(name);
        let labels = self.labels(&at.key("labels"), spec.labels.as_ref());
        let files = match (&spec.objects, &spec.config) {
            (Some(objects), None) => SiteFiles::Objects(objects.clone()),
            (None, Some(config)) => {
                if spec.labels.is_some() {
                    let hint = "remove them here";
                    let message = "the labels come from the gateway.yaml";
                    self.error(&place(&at.key("labels")), message, hint);
                }
                SiteFiles::Config(config.clone())
            }
            (Some(_), Some(_)) => {
                let hint = "keep one: the gateway.yaml names its objects itself";
                self.error(&place(&at.key("config")), "objects and config are both given", hint);
                return None;
            }
            (None, None) => {
                let cut = ["objects", "config"].map(|key| at.key(key).path);
                if !cut.iter().any(|path| self.cut.contains(path)) {
                    let hint = "give `objects: DIRECTORY` or `config: GATEWAY.YAML`";
                    self.error(&place(&at), "the site has no objects", hint);
                }
                return None;
            }
        };
        Some(SiteEntry { name: name.into(), files, labels, at: place(&key) })
    }

    fn labels(&mut self, at: &Cursor<'_>, labels: Option<&BTreeMap<String, String>>) -> Labels {
        let mut checked = Labels::new();
        for (key, value) in labels.into_iter().flatten() {
            if let Err(why) = names::label_key(key) {
                let hint = "a label key is [prefix/]name, as in app.kubernetes.io/name";
                let message = format!("the label key `{key}` {why}");
                self.error(&place(&at.at_key(key)), message, hint);
            }
            if let Err(why) = names::label_value(value) {
                let hint = "a label value has at most 63 letters, digits, '-', '_' or '.'";
                let message = format!("the label value `{value}` {why}");
                self.error(&place(&at.key(key)), message, hint);
            }
            checked.insert(key.as_str().into(), value.as_str().into());
        }
        checked
    }

    fn case(
        &mut self,
        index: usize,
        spec: &TestSpec,
        at: &Cursor<'_>,
        sites: &[&str],
    ) -> Option<Case> {
        let site = self.named_site(&at.key("site"), spec.site.as_deref(), sites);
        let expect = self.expected(&at.key("expect"), spec.expect.as_deref());
        let service = match (&spec.import, &spec.export) {
            (Some(import), None) => self.service(&at.key("import"), import).map(|n| (n, true)),
            (None, Some(export)) => self.service(&at.key("export"), export).map(|n| (n, false)),
            (Some(_), Some(_)) => {
                let hint = "ask about the import for the whole connection, the export for one side";
                self.error(&place(&at.key("export")), "import and export are both given", hint);
                None
            }
            (None, None) => {
                let cut = ["import", "export"].map(|key| at.key(key).path);
                if !cut.iter().any(|path| self.cut.contains(path)) {
                    let hint = "give `import: NAMESPACE/NAME` or `export: NAMESPACE/NAME`";
                    self.error(&place(at), "the test asks about nothing", hint);
                }
                None
            }
        };
        let importing = spec.export.is_none();
        let client = self.client(&at.key("client"), spec.client.as_ref(), importing);
        let peer = spec.peer.as_deref().map(|peer| (peer.into(), place(&at.key("peer"))));
        if !importing && let Some((_, at)) = &peer {
            let hint = "name the importing peer in the client: `client: {peer: ...}`";
            self.error(at, "chooses among the sources of an import, and this is an export", hint);
        }
        let (service, import) = service?;
        let service_at = place(&at.key(if import { "import" } else { "export" }));
        let client = client?;
        Some(Case {
            name: spec.name.clone().unwrap_or_else(|| format!("tests[{index}]")),
            at: place(at),
            site: site?.into(),
            question: if import {
                Question::Import { import: service, client, peer }
            } else {
                Question::Export { export: service, client }
            },
            service_at,
            expect: expect?,
            by: spec.by.clone().map(|by| (by, place(&at.key("by")))),
        })
    }

    fn named_site<'t>(
        &mut self,
        at: &Cursor<'_>,
        site: Option<&'t str>,
        sites: &[&str],
    ) -> Option<&'t str> {
        let Some(site) = site else {
            let hint = hint("", sites, "name one of the sites");
            self.error(&place(at), "is missing: which site is asked?", hint);
            return None;
        };
        if !sites.contains(&site) {
            let hint = hint(site, sites, "add it to `sites`");
            self.error(&place(at), format!("there is no site `{site}` in this file"), hint);
            return None;
        }
        Some(site)
    }

    fn expected(&mut self, at: &Cursor<'_>, text: Option<&str>) -> Option<Verdict> {
        const HINT: &str = "write `expect: allow` or `expect: deny`";
        match text {
            Some("allow") => Some(Verdict::Allow),
            Some("deny") => Some(Verdict::Deny),
            Some(other) => {
                self.error(&place(at), format!("`{other}` is no decision"), HINT);
                None
            }
            None => {
                self.error(&place(at), "is missing", HINT);
                None
            }
        }
    }

    fn service(&mut self, at: &Cursor<'_>, text: &str) -> Option<ObjectName> {
        let name = object_name(text);
        if name.is_none() {
            let hint = "write NAMESPACE/NAME, as in shop/db";
            self.error(&place(at), format!("`{text}` is no name of a service"), hint);
        }
        name
    }

    fn client(
        &mut self,
        at: &Cursor<'_>,
        spec: Option<&ClientSpec>,
        importing: bool,
    ) -> Option<Client> {
        let client = match spec {
            None => {
                let hint = "give an IP address, `unknown`, or attributes as in {namespace: shop}";
                self.error(&place(at), "is missing: who connects?", hint);
                return None;
            }
            Some(ClientSpec::Text(text)) => match Client::parse(text) {
                Ok(client) => client,
                Err(error) => {
                    self.error(&place(at), error.to_string(), "");
                    return None;
                }
            },
            Some(ClientSpec::Mapping(mapping)) => Client::Described(self.description(at, mapping)),
        };
        match &client {
            Client::Address(_) if !importing => {
                let hint = "describe the client as in {peer: site-a, namespace: shop}";
                let message = "an exporter knows no addresses of clients, only their attributes";
                self.error(&place(at), message, hint);
                None
            }
            Client::Described(described) if !importing && described.peer.is_none() => {
                let hint = "add `peer: NAME`, the peer the client belongs to";
                self.error(&place(&at.key("peer")), "is missing: whose client is it?", hint);
                None
            }
            Client::Described(described)
                if importing && (described.peer.is_some() || !described.peer_labels.is_empty()) =>
            {
                let hint = "remove it; to ask only one source, write `peer` beside `client`";
                let message = "the client of an import belongs to the site that is asked";
                self.error(&place(&at.key("peer")), message, hint);
                None
            }
            _ => Some(client),
        }
    }

    fn description(&mut self, at: &Cursor<'_>, mapping: &ClientMapping) -> Description {
        let mut description = Description {
            labels: self.labels(&at.key("labels"), mapping.labels.as_ref()),
            peer_labels: self.labels(&at.key("peerLabels"), mapping.peer_labels.as_ref()),
            peer: mapping.peer.as_deref().map(Into::into),
            ..Description::default()
        };
        let mut checked = |key: &str, value: &Option<String>, check: Check, to: &mut Box<str>| {
            let Some(value) = value else { return };
            if let Err(why) = check(value) {
                self.error(&place(&at.key(key)), format!("`{value}` {why}"), "correct the name");
            }
            *to = value.as_str().into();
        };
        checked("namespace", &mapping.namespace, names::dns_label, &mut description.namespace);
        let mut peer = Box::default();
        checked("peer", &mapping.peer, names::dns_name, &mut peer);
        checked(
            "serviceAccount",
            &mapping.service_account,
            names::dns_subdomain,
            &mut description.service_account,
        );
        description
    }
}

type Check = fn(&str) -> Result<(), String>;

/// `namespace/name`.
#[must_use]
pub fn object_name(text: &str) -> Option<ObjectName> {
    let (namespace, name) = text.split_once('/')?;
    names::dns_label(namespace).ok()?;
    names::dns_subdomain(name).ok()?;
    Some(ObjectName::new(namespace, name))
}
