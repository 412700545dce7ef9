//! What the fuzzer runs, and `tests/corpus.rs` over the inputs that were worth keeping.

use clgw_policy::attributes::Attributes;
use clgw_policy::reference::{Outcome, Reference};
use clgw_policy::{
    AccessPolicy, Action, ClientId, Export, ExportId, Fabric, Host, ImportId, LocalPeer,
    ObjectName, Operator, PeerLabels, PolicyName, PolicyTable, Requirement, Selector, Severity,
    SourceFile, load as load_files,
};

/// Any bytes as a file of objects: no panic, every finding has its place, and what loads compiles
/// and answers.
pub fn load(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A line ends at a line feed, a carriage return or both.
    let lines = text.split(['\n', '\r']).count() as u64;
    let findings = match load_files(&[SourceFile::new("f.yaml", text)]) {
        Ok(loaded) => {
            assert!(loaded.warnings.iter().all(|found| found.severity == Severity::Warning));
            let local = LocalPeer { name: "here".into(), ..LocalPeer::default() };
            ask_everything(&loaded.fabric, &local);
            loaded.warnings
        }
        Err(findings) => {
            assert!(findings.iter().any(|found| found.severity == Severity::Error));
            findings
        }
    };
    for finding in findings {
        assert!(finding.line <= lines + 1, "{finding} of {lines} lines");
        assert!(!finding.message.is_empty());
        assert!(finding.to_string().starts_with("f.yaml"));
    }
}

/// Every workload at every source of every import, and at every export.
fn ask_everything(fabric: &Fabric, local: &LocalPeer) {
    const FEW: usize = 8;
    let labels = PeerLabels::new();
    let table = PolicyTable::compile(fabric, local, 1, &labels);
    let reference = Reference { fabric, local, peer_labels: &labels };
    let addresses: Vec<_> = fabric
        .workloads()
        .flat_map(|workload| &workload.addresses)
        .map(|prefix| prefix.addr())
        .take(FEW)
        .collect();
    for address in addresses {
        let client = table.client(address);
        for (import, id) in fabric.imports().take(FEW).zip(0..) {
            for source in 0..import.sources.len().min(FEW) {
                let decision = table.decide_egress(ImportId(id), source, client);
                let expected = reference.egress(&import.name, source, address);
                assert_eq!(Some(Outcome::of(&decision, &table)), expected);
            }
        }
        let from: Attributes = table.source_attributes(client).iter().cloned().collect();
        for (export, id) in fabric.exports().take(FEW).zip(0..) {
            let pairs = from.iter().map(|(key, value)| (&**key, &**value));
            let decision = table.decide_ingress(ExportId(id), pairs);
            let expected = reference.ingress(&export.name, &from);
            assert_eq!(Some(Outcome::of(&decision, &table)), expected);
        }
    }
    assert!(!table.decide_egress(ImportId(u32::MAX), 0, ClientId::UNKNOWN).is_allowed());
}

/// Selectors and questions as texts, a line each: `key=a,b` (In), `key!=a,b` (NotIn), `key`
/// (Exists) and `!key` (DoesNotExist) side by side are a selector; behind a `?`, `key=value` side
/// by side are the attributes of a client. The compiled table and the reference must agree on every
/// client.
pub fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut fabric = Fabric::new();
    let mut clients: Vec<Attributes> = vec![Attributes::new()];
    for (line, number) in text.lines().take(200).zip(0..) {
        if let Some(client) = line.strip_prefix('?') {
            let pairs = client.split_whitespace().filter_map(|pair| pair.split_once('='));
            clients.push(pairs.map(|(key, value)| (key.into(), value.into())).collect());
            continue;
        }
        let requirements: Result<Vec<_>, _> = line.split_whitespace().map(requirement).collect();
        let Ok(requirements) = requirements else { continue };
        let name = format!("p{number}");
        let policy = AccessPolicy {
            name: if number % 3 == 0 {
                PolicyName::privileged(name)
            } else {
                PolicyName::namespaced("ns", name)
            },
            action: if number % 2 == 0 { Action::Allow } else { Action::Deny },
            from: vec![Selector::new(requirements)],
            to: vec![Selector::everything()],
            dry_run: number % 5 == 4,
        };
        fabric.put_policy(policy).expect("both sides are given");
    }
    fabric.put_export(Export {
        name: ObjectName::new("ns", "service"),
        labels: Default::default(),
        host: Host::Dns("service".into()),
        port: 1,
    });
    let local = LocalPeer { name: "here".into(), ..LocalPeer::default() };
    let labels = PeerLabels::new();
    let table = PolicyTable::compile(&fabric, &local, 1, &labels);
    let reference = Reference { fabric: &fabric, local: &local, peer_labels: &labels };
    for client in &clients {
        let pairs = client.iter().map(|(key, value)| (&**key, &**value));
        let decision = table.decide_ingress(ExportId(0), pairs);
        let expected = reference.ingress(&ObjectName::new("ns", "service"), client);
        assert_eq!(Some(Outcome::of(&decision, &table)), expected, "{client:?}");
    }
}

fn requirement(text: &str) -> Result<Requirement, clgw_policy::SelectorError> {
    let (key, operator, values) = if let Some(key) = text.strip_prefix('!') {
        (key, Operator::DoesNotExist, "")
    } else if let Some((key, values)) = text.split_once("!=") {
        (key, Operator::NotIn, values)
    } else if let Some((key, values)) = text.split_once('=') {
        (key, Operator::In, values)
    } else {
        (text, Operator::Exists, "")
    };
    let values = operator.takes_values().then(|| values.split(','));
    Requirement::new(key, operator, values.into_iter().flatten())
}
