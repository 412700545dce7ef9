//! Short ways to say fabrics and questions.
#![allow(dead_code)] // Every test file uses another part.

pub mod generated;

use std::net::IpAddr;

use clgw_policy::reference::{Outcome, Reference};
use clgw_policy::{
    AccessPolicy, Action, Decision, Diagnostic, ExportId, Fabric, ImportId, Labels, LocalPeer,
    PeerLabels, PolicyName, PolicyTable, Selector, SourceFile, load,
};

/// A file with one object in the namespace `default`; `spec` stands in line 4.
pub fn object(kind: &str, name: &str, spec: &str) -> String {
    object_with(kind, &format!("name: {name}"), spec)
}

/// As [`object`] with all of its metadata, the inside of a mapping.
pub fn object_with(kind: &str, metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: clusterlink.net/v1alpha1\nkind: {kind}\nmetadata: {{{metadata}}}\n\
         spec: {spec}\n"
    )
}

/// One file with several objects.
pub fn objects(texts: &[String]) -> String {
    texts.join("---\n")
}

/// The fabric of one YAML text; warnings are fine.
pub fn fabric(text: &str) -> Fabric {
    match load(&[SourceFile::new("fabric.yaml", text)]) {
        Ok(loaded) => loaded.fabric,
        Err(diagnostics) => panic!("{}", render(&diagnostics)),
    }
}

/// What is wrong with one YAML text, errors and warnings.
pub fn findings(text: &str) -> Vec<Diagnostic> {
    match load(&[SourceFile::new("f.yaml", text)]) {
        Ok(loaded) => loaded.warnings,
        Err(diagnostics) => diagnostics,
    }
}

pub fn render(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

pub fn local(name: &str, pairs: &[(&str, &str)]) -> LocalPeer {
    LocalPeer { name: name.into(), labels: labels(pairs) }
}

pub fn peer_labels(peers: &[(&str, &[(&str, &str)])]) -> PeerLabels {
    peers.iter().map(|(name, pairs)| ((*name).into(), labels(pairs))).collect()
}

pub fn selector(pairs: &[(&str, &str)]) -> Selector {
    Selector::labels(pairs.iter().copied()).expect("a valid selector")
}

pub fn policy(name: PolicyName, action: Action, from: Selector, to: Selector) -> AccessPolicy {
    AccessPolicy { name, action, from: vec![from], to: vec![to], dry_run: false }
}

/// One gateway: a fabric that can be changed, and questions to a table compiled afresh for each,
/// every answer held against the reference evaluator.
pub struct Site {
    pub fabric: Fabric,
    pub local: LocalPeer,
    pub peer_labels: PeerLabels,
}

impl Site {
    pub fn new(name: &str, labels: &[(&str, &str)], text: &str) -> Self {
        Self {
            fabric: fabric(text),
            local: local(name, labels),
            peer_labels: PeerLabels::default(),
        }
    }

    pub fn table(&self) -> PolicyTable {
        PolicyTable::compile(&self.fabric, &self.local, 1, &self.peer_labels)
    }

    /// Adds the objects of a text, replacing those of the same name.
    pub fn apply(&mut self, text: &str) {
        let new = fabric(text);
        for export in new.exports() {
            self.fabric.put_export(export.clone());
        }
        for policy in new.policies() {
            self.fabric.put_policy(policy.clone()).expect("both sides given");
        }
        for workload in new.workloads() {
            self.fabric.put_workload(workload.clone());
        }
        for import in new.imports() {
            self.fabric.put_import(import.clone()).expect("few sources");
        }
    }

    pub fn delete(&mut self, name: PolicyName) {
        self.fabric.delete_policy(&name).expect("the policy exists");
    }

    fn reference(&self) -> Reference<'_> {
        Reference { fabric: &self.fabric, local: &self.local, peer_labels: &self.peer_labels }
    }

    /// The outcome for the client at `ip` on one source of the only import.
    pub fn egress(&self, source: usize, ip: &str) -> Outcome {
        let ip: IpAddr = ip.parse().expect("an address");
        let table = self.table();
        let decision = table.decide_egress(ImportId(0), source, table.client(ip));
        let import = self.fabric.imports().next().expect("an import").name.clone();
        let expected = self.reference().egress(&import, source, ip).expect("a source");
        let outcome = Outcome::of(&decision, &table);
        assert_eq!(outcome, expected);
        outcome
    }

    /// The outcome at the only export for what `importer` says about its client at `ip`.
    pub fn ingress(&self, importer: &Site, ip: &str) -> Outcome {
        let ip: IpAddr = ip.parse().expect("an address");
        let theirs = importer.table();
        let attributes = theirs.source_attributes(theirs.client(ip));
        let pairs = attributes.iter().map(|(key, value)| (&**key, &**value));
        let table = self.table();
        let decision: Decision<'_> = table.decide_ingress(ExportId(0), pairs);
        let export = self.fabric.exports().next().expect("an export").name.clone();
        let from = attributes.iter().cloned().collect();
        let expected = self.reference().ingress(&export, &from).expect("an export");
        let outcome = Outcome::of(&decision, &table);
        assert_eq!(outcome, expected);
        outcome
    }
}
