//! Holds a compiled table against the reference evaluator, on the objects at hand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use thiserror::Error;

use crate::attributes::{self, Attributes};
use crate::fabric::{Fabric, LocalPeer, ObjectName, PeerLabels};
use crate::reference::{Outcome, Reference};
use crate::table::{ExportId, ImportId, PolicyTable};

/// A defect of this program.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the compiled table and the reference evaluator disagree about {question}: the table says \
     {table}, the reference {reference}; please report this with the objects"
)]
pub struct Disagreement {
    pub question: String,
    pub table: String,
    pub reference: String,
}

/// Addresses that seldom belong to anybody: of no host, and of documentation.
const STRANGERS: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::BROADCAST),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 255)),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0)),
    IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)),
];

/// Asks both about clients at every import and export: the addresses of all workloads, and one that
/// nobody owns if there is one; at most `questions` of them, spread evenly over all there are. Returns how many
/// were asked and how many there are.
///
/// # Errors
/// The first question on which they differ.
pub fn check(
    fabric: &Fabric,
    local: &LocalPeer,
    peer_labels: &PeerLabels,
    questions: usize,
) -> Result<(usize, usize), Disagreement> {
    let table = PolicyTable::compile(fabric, local, 0, peer_labels);
    let reference = Reference { fabric, local, peer_labels };
    let nobody = STRANGERS.into_iter().find(|ip| reference.client(*ip).is_none());
    let known = fabric.workloads().flat_map(|workload| &workload.addresses).map(IpNet::addr);
    let clients: Vec<IpAddr> = known.chain(nobody).collect();
    let sources: Vec<(ImportId, &ObjectName, usize)> = fabric
        .imports()
        .zip((0u32..).map(ImportId))
        .flat_map(|(import, id)| (0..import.sources.len()).map(move |at| (id, &import.name, at)))
        .collect();
    let exports: Vec<(ExportId, &ObjectName)> = fabric
        .exports()
        .map(|export| &export.name)
        .enumerate()
        .map(|(i, n)| (ExportId(i as u32), n))
        .collect();
    let services = sources.len() + exports.len();
    let all = clients.len() * services;
    let step = all.div_ceil(questions.max(1)).max(1);
    let mut asked = 0;
    // A step that shares no factor with the number of services visits all of them in turn.
    let step = (step..).find(|step| gcd(*step, services.max(1)) == 1).unwrap_or(1);
    for question in (0..all).step_by(step) {
        let (ip, service) = (clients[question / services], question % services);
        let client = table.client(ip);
        let (what, decision, expected) = if let Some((id, name, at)) = sources.get(service) {
            let decision = table.decide_egress(*id, *at, client);
            (
                format!("{ip} at source {at} of import {name}"),
                decision,
                reference.egress(name, *at, ip),
            )
        } else {
            let (id, name) = exports[service - sources.len()];
            let from = reference
                .client(ip)
                .map_or_else(Attributes::new, |client| attributes::source(local, client));
            let pairs = from.iter().map(|(key, value)| (&**key, &**value));
            let decision = table.decide_ingress(id, pairs);
            (format!("{ip} at export {name}"), decision, reference.ingress(name, &from))
        };
        let outcome = Some(Outcome::of(&decision, &table));
        if outcome != expected {
            return Err(Disagreement {
                question: what,
                table: format!("{outcome:?}"),
                reference: format!("{expected:?}"),
            });
        }
        asked += 1;
    }
    Ok((asked, all))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SourceFile, load};

    #[test]
    fn questions_are_bounded_and_reach_every_service() {
        let mut text = String::new();
        for n in 1..=10 {
            text += &format!(
                "apiVersion: clusterlink.net/v1alpha1\nkind: Workload\nmetadata: {{name: w{n}}}\n\
                 spec: {{addresses: [10.0.0.{n}]}}\n---\n\
                 apiVersion: clusterlink.net/v1alpha1\nkind: Export\nmetadata: {{name: e{n}}}\n\
                 spec: {{host: 10.1.0.1, port: 1}}\n---\n"
            );
        }
        let fabric = load(&[SourceFile::new("f.yaml", text)]).unwrap().fabric;
        let (local, labels) = (LocalPeer::default(), PeerLabels::new());
        assert_eq!(check(&fabric, &local, &labels, 1000), Ok((110, 110)));
        let (asked, all) = check(&fabric, &local, &labels, 20).unwrap();
        assert!(asked > 5 && asked <= 20 && all == 110, "{asked}");
        assert_eq!(check(&Fabric::new(), &local, &labels, 10), Ok((0, 0)));
    }
}
