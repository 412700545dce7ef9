//! Fabrics of any size, and connections to judge in them.

use std::net::{IpAddr, Ipv4Addr};

use clgw_policy::{
    AccessPolicy, Action, ClientId, Export, ExportId, Fabric, Failover, Host, Import, ImportId,
    ImportSource, LbScheme, LocalPeer, ObjectName, Operator, PeerLabels, PolicyName, PolicyTable,
    Requirement, Selector, Workload,
};
use ipnet::{IpNet, Ipv4Net};

/// Clients of every fabric, each with an address and labels of its own.
pub const WORKLOADS: usize = 10_000;
const IMPORTS: usize = 100;
const EXPORTS: usize = 100;
const SOURCES: usize = 3;
/// Connections that are judged in turn: more than the CPU's nearest cache has room for.
pub const QUESTIONS: usize = 4096;

const NAMESPACE: &str = "shop";

/// What the policies of a fabric are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What people write: most policies name applications and services, some look at labels of
    /// sites or exclude a few clients, and the last one of all allows the rest.
    Everyday,
    /// Every client matches the even half of the policies, every service the odd one: all policies
    /// are of the namespace, none decides, and nothing can be left out on the way to the default.
    Worst,
}

pub struct Site {
    pub fabric: Fabric,
    pub local: LocalPeer,
    pub peer_labels: PeerLabels,
}

fn requirement(key: &str, operator: Operator, values: &[String]) -> Requirement {
    Requirement::new(key, operator, values.iter().map(String::as_str)).expect("a valid requirement")
}

fn is(key: &str, value: String) -> Requirement {
    requirement(key, Operator::In, &[value])
}

fn app(n: usize) -> Requirement {
    is("client.clusterlink.net/labels.app.kubernetes.io/name", format!("app-{n}"))
}

fn service(n: usize) -> Requirement {
    is("export.clusterlink.net/name", format!("service-{n}"))
}

fn everyday(n: usize, of: usize) -> (Action, Vec<Requirement>, Vec<Requirement>) {
    use Action::{Allow, Deny};
    let zone = "client.clusterlink.net/labels.zone";
    if n + 1 == of {
        return (Allow, vec![], vec![]);
    }
    match n % 10 {
        0..4 => (Allow, vec![app(n % 2_000)], vec![service(n % IMPORTS)]),
        4..6 => (Deny, vec![app(n % 2_000), is(zone, format!("z{}", n % 7))], vec![]),
        6 => {
            let teams: Vec<_> =
                (0..5).map(|k| format!("team-{}", (n / 10 + k * 13) % 60)).collect();
            let team = requirement("client.clusterlink.net/labels.team", Operator::In, &teams);
            (Allow, vec![team], vec![is("export.clusterlink.net/labels.env", "prod".into())])
        }
        7 => {
            let outside = requirement(zone, Operator::NotIn, &[format!("z{}", n % 7), "z9".into()]);
            (Deny, vec![outside, app(n % 2_000)], vec![service(n % 977)])
        }
        8 => (
            Deny,
            vec![is("peer.clusterlink.net/labels.region", format!("r{}", n % 50))],
            vec![service(n % IMPORTS)],
        ),
        _ => {
            let quarantined =
                requirement("client.clusterlink.net/labels.quarantine", Operator::Exists, &[]);
            (Deny, vec![quarantined], vec![service(n % IMPORTS)])
        }
    }
}

/// The numbered value keeps the two halves interleaved in the order in which policies decide.
fn worst(n: usize) -> (Action, Vec<Requirement>, Vec<Requirement>) {
    let (client, server) =
        if n.is_multiple_of(2) { (NAMESPACE, "elsewhere") } else { ("elsewhere", NAMESPACE) };
    let one_of = |key, namespace: &str| {
        requirement(key, Operator::In, &[format!("{n:06}"), namespace.to_owned()])
    };
    let from = one_of("client.clusterlink.net/namespace", client);
    let to = one_of("export.clusterlink.net/namespace", server);
    (Action::Allow, vec![from], vec![to])
}

fn labels<const N: usize>(pairs: [(&str, String); N]) -> clgw_policy::Labels {
    pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + n as u32)
}

/// A site with this many policies.
pub fn site(kind: Kind, policies: usize) -> Site {
    let mut fabric = Fabric::new();
    for n in 0..policies {
        let (action, from, to) = match kind {
            Kind::Everyday => everyday(n, policies),
            Kind::Worst => worst(n),
        };
        // Some for all namespaces; the last one never, so that it is asked last.
        let name = match kind {
            Kind::Everyday if n % 50 == 7 => PolicyName::privileged(format!("p{n:06}")),
            _ => PolicyName::namespaced(NAMESPACE, format!("p{n:06}")),
        };
        let policy = AccessPolicy {
            name,
            action,
            from: vec![Selector::new(from)],
            to: vec![Selector::new(to)],
            dry_run: false,
        };
        fabric.put_policy(policy).expect("both sides are given");
    }
    for n in 0..WORKLOADS {
        fabric.put_workload(Workload {
            name: ObjectName::new(NAMESPACE, format!("workload-{n}")),
            labels: labels([
                ("app.kubernetes.io/name", format!("app-{}", n % 2_500)),
                ("team", format!("team-{}", n % 61)),
                ("zone", format!("z{}", n % 8)),
                ("pod", format!("pod-{n}")),
            ]),
            service_account: format!("account-{}", n % 100).into(),
            addresses: vec![IpNet::V4(Ipv4Net::from(address(n)))],
        });
    }
    for n in 0..IMPORTS {
        let source = |peer| ImportSource {
            peer: format!("peer-{peer}").into(),
            export: ObjectName::new(NAMESPACE, format!("service-{n}")),
            weight: 1,
        };
        let import = Import {
            name: ObjectName::new(NAMESPACE, format!("import-{n:03}")),
            labels: labels([("env", if n % 3 == 0 { "prod" } else { "test" }.to_owned())]),
            port: 80,
            target_port: None,
            lb_scheme: LbScheme::RoundRobin,
            failover: Failover::Authorization,
            sources: (0..SOURCES).map(source).collect(),
        };
        fabric.put_import(import).expect("few sources");
    }
    for n in 0..EXPORTS {
        fabric.put_export(Export {
            name: ObjectName::new(NAMESPACE, format!("service-{n}")),
            labels: labels([("env", if n % 3 == 0 { "prod" } else { "test" }.to_owned())]),
            host: Host::Ip(Ipv4Addr::LOCALHOST.into()),
            port: 80,
        });
    }
    let local =
        LocalPeer { name: "peer-here".into(), labels: labels([("region", "r99".to_owned())]) };
    Site { fabric, local, peer_labels: PeerLabels::new() }
}

impl Site {
    pub fn compile(&self) -> PolicyTable {
        PolicyTable::compile(&self.fabric, &self.local, 1, &self.peer_labels)
    }
}

/// One connection as the importer sees it.
#[derive(Clone, Copy)]
pub struct Egress {
    pub address: IpAddr,
    pub client: ClientId,
    pub import: ImportId,
    pub source: usize,
}

/// One connection as the exporter sees it. The texts lie behind each other, as in the OPEN that
/// brings them.
pub struct Ingress {
    pub export: ExportId,
    pub attributes: Vec<(&'static str, &'static str)>,
}

/// Numbers below the bound, the same in every run, scattered so that neighbours have nothing in
/// common.
fn scattered(n: usize, bound: usize) -> usize {
    ((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % bound
}

pub fn egress(table: &PolicyTable) -> Vec<Egress> {
    (0..QUESTIONS)
        .map(|n| {
            let address = IpAddr::V4(address(scattered(n, WORKLOADS)));
            Egress {
                address,
                client: table.client(address),
                import: ImportId(scattered(n + 7, IMPORTS) as u32),
                source: n % SOURCES,
            }
        })
        .collect()
}

pub fn ingress(table: &PolicyTable) -> Vec<Ingress> {
    egress(table)
        .into_iter()
        .zip(0..)
        .map(|(question, n)| {
            let attributes = table.source_attributes(question.client);
            let texts: String = attributes.iter().map(|(k, v)| format!("{k}{v}")).collect();
            let mut rest: &'static str = texts.leak();
            let mut take = |length| {
                let (text, behind) = rest.split_at(length);
                rest = behind;
                text
            };
            Ingress {
                export: ExportId(scattered(n + 7, EXPORTS) as u32),
                attributes: attributes
                    .iter()
                    .map(|(key, value)| (take(key.len()), take(value.len())))
                    .collect(),
            }
        })
        .collect()
}

pub fn ask_egress(table: &PolicyTable, question: &Egress) -> bool {
    table.decide_egress(question.import, question.source, question.client).is_allowed()
}

pub fn ask_ingress(table: &PolicyTable, question: &Ingress) -> bool {
    table.decide_ingress(question.export, question.attributes.iter().copied()).is_allowed()
}
