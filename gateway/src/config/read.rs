//! The tree of a gateway.yaml to a [`GatewayConfig`], section by section. Rules of one field are
//! here; rules between fields are in [`super::rules`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clgw_policy::limits::MAX_LABELS_PER_OBJECT;
use clgw_policy::yaml::{Node, Value};

use super::reader::{At, Findings, Section, parsed, text};
use super::rules::{self, Draft, DraftPort, DraftVip};
use super::{
    BufferSizes, Congestion, Controllers, DrainConfig, EalSettings, GatewayConfig, Host, Hugepages,
    IdlePolicy, Loaded, LogConfig, LogFormat, LogLevel, PeerConfig, Place, Side, TlsConfig,
    TunnelConfig, WorkersConfig, defaults, values,
};
use crate::fabric::name;

/// `findings` has what is wrong with the file as YAML already.
pub(super) fn read(file: &Path, root: &Node, host: &Host, mut findings: Findings) -> Loaded {
    if root.value == Value::Null {
        findings.error(
            Default::default(),
            "",
            "the file is empty",
            "begin with configs/gateway.yaml, which explains every key",
        );
        let diagnostics = findings.into_sorted();
        return Loaded { config: None, tls: None, objects: None, diagnostics };
    }
    let base = file.parent().unwrap_or(Path::new(""));
    let f = &mut findings;
    let mut root = Section::of(root, String::new(), f);
    let peer = peer(root.section("peer", f), f);
    let tls = tls(root.section("tls", f), base, f);
    let objects = match root.text("objects", f) {
        Some(path) => Some(base.join(path.value)),
        None if root.has("objects") => None,
        None => Some(base.join(defaults::OBJECTS)),
    };
    let workers = workers(root.section("workers", f), host, f);
    let eal = eal(root.section("eal", f), peer.as_ref().map(|p| p.name.as_str()), f);
    root.require(
        "ports",
        "list at least one port of side service and one of side peer, or one of side both",
        f,
    );
    let port_list = root.list("ports", f);
    let ports_at = port_list.is_some().then_some(root.mark());
    let ports = port_list.into_iter().flatten().map(|(node, path)| port(node, path, f)).collect();
    let tunnel = tunnel(root.section("tunnel", f), f);
    let vip_list = root.list("vips", f).into_iter().flatten();
    let vips = vip_list.filter_map(|(node, path)| vip(node, path, f)).collect();
    let buffers = buffers(root.section("buffers", f), f);
    let congestion = congestion(root.section("congestion", f), f);
    let drain = drain(root.section("drain", f), f);
    let log = log(root.section("log", f), f);
    root.finish(f);

    let draft = Draft { ports, vips };
    rules::check(&draft, ports_at, f);
    let diagnostics = findings.into_sorted();
    let config = match (peer, &tls, &objects, diagnostics.is_empty()) {
        (Some(peer), Some(tls), Some(objects), true) => {
            draft.finish().map(|(ports, vips)| GatewayConfig {
                file: file.to_owned(),
                peer,
                tls: tls.clone(),
                objects: objects.clone(),
                workers,
                eal,
                ports,
                tunnel,
                vips,
                buffers,
                congestion,
                drain,
                log,
            })
        }
        _ => None,
    };
    Loaded { config, tls, objects, diagnostics }
}

fn place<T>(at: &At<T>) -> Place {
    Place { line: at.mark.line, column: at.mark.column, field: at.field.clone() }
}

fn peer(mut section: Section<'_>, f: &mut Findings) -> Option<PeerConfig> {
    let peer_name = section
        .required("name", "write this peer's name: the first DNS SAN of its certificate", f)
        .and_then(|text| {
            parsed(text, |t| name::peer(t).map(|()| t.to_owned()).map_err(Into::into), f)
        });
    let mut labels = BTreeMap::new();
    let label_section = section.section("labels", f);
    let label_mark = label_section.mark();
    let found = label_section.texts(f);
    if found.len() > MAX_LABELS_PER_OBJECT {
        f.error(
            label_mark,
            "peer.labels",
            format!("{} labels are more than a peer can have", found.len()),
            format!("use at most {MAX_LABELS_PER_OBJECT}"),
        );
    }
    for (key, value) in found {
        if let Err(refusal) = rules::label(&key.value, &value.value) {
            key.refuse(f, refusal.message, refusal.hint);
        }
        labels.insert(key.value, value.value);
    }
    section.finish(f);
    peer_name.map(|at| PeerConfig { name_at: place(&at), name: at.value, labels })
}

fn tls(mut section: Section<'_>, base: &Path, f: &mut Findings) -> Option<TlsConfig> {
    let mut path = |key: &'static str, hint: &str| -> Option<PathBuf> {
        section.required(key, hint, f).map(|text| base.join(text.value))
    };
    let ca = path("ca", "name the PEM file with the fabric's CA certificate");
    let cert = path("cert", "name the PEM file with this peer's certificate");
    let key = path("key", "name the PEM file with this peer's private key");
    let crypto =
        section.parsed("crypto", values::crypto, f).map_or(defaults::CRYPTO, |at| at.value);
    section.finish(f);
    Some(TlsConfig { ca: ca?, cert: cert?, key: key?, crypto })
}

fn workers(mut section: Section<'_>, host: &Host, f: &mut Findings) -> WorkersConfig {
    let mut cpus = Vec::new();
    let list = section.list("cpus", f).unwrap_or_default();
    let listed = list.len();
    for (node, field) in list {
        match node.value {
            Value::Int(n) => match usize::try_from(n) {
                Ok(cpu) => cpus.push(At { value: cpu, mark: node.mark, field }),
                Err(_) => f.error(node.mark, field, format!("{n} is not a CPU"), ""),
            },
            ref other => f.error(
                node.mark,
                field,
                format!("expected a CPU number, found {}", other.kind()),
                "write numbers as in `cpus: [2, 3]`",
            ),
        }
    }
    let default = if listed == 0 { defaults::WORKERS } else { listed };
    let count = section.number("count", defaults::WORKERS_RANGE, default, f);
    let cpus = rules::worker_cpus(&count, listed, cpus, host, f);
    let idle = section.choice(
        "idle",
        &[
            ("poll", IdlePolicy::Poll),
            ("sleep", IdlePolicy::Sleep),
            ("interrupt", IdlePolicy::Interrupt),
        ],
        defaults::IDLE,
        f,
    );
    let handshake_threads = section
        .number(
            "handshake_threads",
            defaults::HANDSHAKE_THREADS_RANGE,
            defaults::HANDSHAKE_THREADS,
            f,
        )
        .value;
    section.finish(f);
    WorkersConfig { cpus, idle, handshake_threads }
}

fn eal(mut section: Section<'_>, peer: Option<&str>, f: &mut Findings) -> EalSettings {
    let hugepages = section.choice(
        "hugepages",
        &[("auto", Hugepages::Auto), ("on", Hugepages::On), ("off", Hugepages::Off)],
        defaults::HUGEPAGES,
        f,
    );
    let memory_mib =
        section.number("memory_mib", defaults::MEMORY_MIB_RANGE, defaults::MEMORY_MIB, f).value;
    let file_prefix = section.parsed("file_prefix", values::file_prefix, f).map_or_else(
        || format!("{}{}", defaults::FILE_PREFIX, peer.unwrap_or_default()),
        |at| at.value,
    );
    let mut extra = Vec::new();
    for (node, field) in section.list("extra", f).into_iter().flatten() {
        if let Some(argument) =
            text(node, field, f).and_then(|t| parsed(t, values::eal_argument, f))
        {
            extra.push(argument.value);
        }
    }
    section.finish(f);
    EalSettings { hugepages, memory_mib, file_prefix, extra }
}

fn port(node: &Node, path: String, f: &mut Findings) -> DraftPort {
    let mut section = Section::of(node, path.clone(), f);
    let mark = section.mark();
    let name = section.required("name", "give the port a name for logs, as in service0", f);
    let device = section
        .required(
            "device",
            "name a PCI address like 0000:01:10.0, or a virtual device like \
             net_af_packet0,iface=eth0",
            f,
        )
        .and_then(|t| parsed(t, values::device, f));
    let sides = [("service", Side::Service), ("peer", Side::Peer), ("both", Side::Both)];
    section.require(
        "side",
        "write service (clients and services), peer (other gateways) or both",
        f,
    );
    let side = section.choice_if_any("side", &sides, f);
    let mtu = section.number("mtu", defaults::MTU_RANGE, defaults::MTU, f);
    section.require(
        "addresses",
        "list the gateway's own addresses on this port, as in [10.1.0.1/24]",
        f,
    );
    let mut addresses = Vec::new();
    let list = section.list("addresses", f);
    let no_addresses = list.as_ref().is_some_and(Vec::is_empty);
    for (node, field) in list.into_iter().flatten() {
        let address = text(node, field, f).and_then(|t| parsed(t, values::interface_address, f));
        addresses.extend(address);
    }
    let mut routes = Vec::new();
    for (node, path) in section.list("routes", f).into_iter().flatten() {
        let mut route = Section::of(node, path, f);
        let to = route
            .required("to", "write the destination prefix, as in 0.0.0.0/0", f)
            .and_then(|t| parsed(t, values::prefix, f));
        let via = route
            .required("via", "write the router's address in a subnet of this port", f)
            .and_then(|t| parsed(t, values::host_address, f));
        route.finish(f);
        if let (Some(to), Some(via)) = (to, via) {
            routes.push((to, via));
        }
    }
    section.finish(f);
    DraftPort { path, mark, name, device, side, mtu, addresses, no_addresses, routes }
}

fn tunnel(mut section: Section<'_>, f: &mut Findings) -> TunnelConfig {
    let port = section.number("port", 1..=u16::MAX, defaults::TUNNEL_PORT, f).value;
    let max_idle =
        section.number("max_idle", defaults::TUNNEL_IDLE_RANGE, defaults::TUNNEL_MAX_IDLE, f);
    let warm_default = defaults::TUNNEL_WARM.min(max_idle.value);
    let warm = section.number("warm", defaults::TUNNEL_IDLE_RANGE, warm_default, f);
    if warm.value > max_idle.value {
        warm.refuse(
            f,
            format!("{} is more than max_idle, {}", warm.value, max_idle.value),
            "tunnels kept ready are idle ones: lower warm or raise max_idle",
        );
    }
    section.finish(f);
    TunnelConfig { port, warm: warm.value, max_idle: max_idle.value }
}

fn vip(node: &Node, path: String, f: &mut Findings) -> Option<DraftVip> {
    let mut section = Section::of(node, path, f);
    let import = section
        .required("import", "name an Import as namespace/name", f)
        .and_then(|t| parsed(t, values::import_ref, f));
    let address = section
        .required("address", "write the address clients use, as in 10.1.0.100", f)
        .and_then(|t| parsed(t, values::host_address, f));
    section.finish(f);
    Some(DraftVip { at: place(import.as_ref()?), import: import?, address: address? })
}

fn buffers(mut section: Section<'_>, f: &mut Findings) -> BufferSizes {
    let service =
        section.number("service_kib", defaults::SERVICE_KIB_RANGE, defaults::SERVICE_KIB, f);
    let peer = section.number("peer_kib", defaults::PEER_KIB_RANGE, defaults::PEER_KIB, f);
    let worker = section.number("worker_mib", defaults::WORKER_MIB_RANGE, defaults::WORKER_MIB, f);
    section.finish(f);
    BufferSizes { service: service.value << 10, peer: peer.value << 10, worker: worker.value << 20 }
}

fn congestion(mut section: Section<'_>, f: &mut Findings) -> Controllers {
    let known = [("cubic", Congestion::Cubic), ("bbr", Congestion::Bbr)];
    let service = section.choice("service", &known, defaults::SERVICE_CONGESTION, f);
    let peer = section.choice("peer", &known, defaults::PEER_CONGESTION, f);
    section.finish(f);
    Controllers { service, peer }
}

fn drain(mut section: Section<'_>, f: &mut Findings) -> DrainConfig {
    let deadline = match section.parsed("deadline", values::duration, f) {
        Some(at) if at.value > defaults::DRAIN_DEADLINE_MAX => {
            at.refuse(f, "is longer than an hour", "write at most 1h");
            defaults::DRAIN_DEADLINE
        }
        Some(at) => at.value,
        None => defaults::DRAIN_DEADLINE,
    };
    section.finish(f);
    DrainConfig { deadline }
}

fn log(mut section: Section<'_>, f: &mut Findings) -> LogConfig {
    let level = section.choice(
        "level",
        &[
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ],
        defaults::LOG_LEVEL,
        f,
    );
    let format = section.choice(
        "format",
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        defaults::LOG_FORMAT,
        f,
    );
    section.finish(f);
    LogConfig { level, format }
}
