//! A pair of Envoy: plain relays with TLS between them, or arranged as ClusterLink arranges its
//! data plane, with an HTTP CONNECT for each connection.

use super::{Gateways, PATIENCE, SERVICES, Site, write};
use crate::lab::{Net, Place};

const TYPE: &str = "type.googleapis.com/envoy";
/// Envoy's own limit is 1,024 connections and requests.
const UNLIMITED: &str = "circuit_breakers: { thresholds: [{ max_connections: 100000, \
                         max_pending_requests: 100000, max_requests: 100000 }] }";

/// How the connection of a client is carried to the other site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// The bytes of a connection are those of a TLS connection.
    Plain,
    /// ClusterLink's: importing listener, internal listener with HTTP, CONNECT over mutual TLS,
    /// terminated by HTTP at the exporter. The two authorisation calls of a connection to the
    /// control plane are left out.
    Connect,
}

pub fn start(
    program: &str,
    net: &Net,
    sites: &[Site; 2],
    arrangement: Arrangement,
) -> anyhow::Result<Gateways> {
    let mut gateways = Gateways::default();
    for site in sites {
        let file = site.dir.join("envoy.yaml");
        let config = match (arrangement, site.place) {
            (Arrangement::Plain, Place::A) => plain_importer(site),
            (Arrangement::Plain, _) => plain_exporter(site),
            (Arrangement::Connect, Place::A) => connect_importer(site),
            (Arrangement::Connect, _) => connect_exporter(site),
        };
        write(&file, &config)?;
        let file = file.display().to_string();
        let command =
            [program, "-c", &file, "--concurrency", "1", "--disable-hot-restart", "-l", "info"];
        gateways.of(site.place).push(net.spawn(site.name, site.place, site.cpu, &command)?);
    }
    gateways.wait_for("starting main dispatch loop", PATIENCE)?;
    Ok(gateways)
}

fn bootstrap(listeners: &[String], clusters: &[String]) -> String {
    let list = |items: &[String]| items.iter().map(|i| format!("  - {i}\n")).collect::<String>();
    format!(
        "static_resources:\n  listeners:\n{}  clusters:\n{}\
         bootstrap_extensions:\n\
         - {{ name: envoy.bootstrap.internal_listener, typed_config: {{ \"@type\": \
         {TYPE}.extensions.bootstrap.internal_listener.v3.InternalListener }} }}\n",
        list(listeners),
        list(clusters)
    )
}

fn address(ip: &str, port: u16) -> String {
    format!("{{ socket_address: {{ address: {ip}, port_value: {port} }} }}")
}

fn cluster(name: &str, endpoint: &str, more: &str) -> String {
    format!(
        "{{ name: {name}, type: STATIC, connect_timeout: 5s, {UNLIMITED}, load_assignment: \
         {{ cluster_name: {name}, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {endpoint} \
         }} }}] }}] }}{more} }}"
    )
}

fn listener(name: &str, at: &str, filter: &str, more: &str) -> String {
    format!("{{ name: {name}, {at}, filter_chains: [{{ filters: [{filter}]{more} }}] }}")
}

fn tcp_proxy(service: &str, cluster: &str, more: &str) -> String {
    format!(
        "{{ name: tcp, typed_config: {{ \"@type\": \
         {TYPE}.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: {service}, cluster: \
         {cluster}, idle_timeout: 0s{more} }} }}"
    )
}

/// Routes CONNECT by the name of the import.
fn http(name: &str, routes: &[String]) -> String {
    format!(
        "{{ name: http, typed_config: {{ \"@type\": {TYPE}.extensions.filters.network.\
         http_connection_manager.v3.HttpConnectionManager, stat_prefix: {name}, \
         stream_idle_timeout: 0s, upgrade_configs: [{{ upgrade_type: CONNECT }}], \
         http_filters: [{{ name: router, typed_config: {{ \"@type\": \
         {TYPE}.extensions.filters.http.router.v3.Router }} }}], route_config: {{ virtual_hosts: [\
         {{ name: all, domains: ['*'], routes: [{}] }}] }} }} }}",
        routes.join(", ")
    )
}

fn route(service: &str, cluster: &str, connect: &str) -> String {
    format!(
        "{{ match: {{ connect_matcher: {{}}, headers: [{{ name: x-import-name, string_match: \
         {{ exact: {service} }} }}] }}, route: {{ cluster: {cluster}, timeout: 0s, \
         upgrade_configs: [{{ upgrade_type: CONNECT{connect} }}] }} }}"
    )
}

/// Both ends' TLS context; `kind` is Upstream or Downstream.
fn tls(site: &Site, kind: &str, peer: &str, more: &str) -> String {
    format!(
        ", transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
         {TYPE}.extensions.transport_sockets.tls.v3.{kind}TlsContext, {more}, common_tls_context: \
         {{ tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: \
         TLSv1_3, ecdh_curves: [X25519] }}, tls_certificates: [{{ certificate_chain: {{ filename: {} }}, private_key: \
         {{ filename: {} }} }}], validation_context: {{ trusted_ca: {{ filename: {} }}, \
         match_typed_subject_alt_names: [{{ san_type: DNS, matcher: {{ exact: {peer} }} }}] }} }} \
         }} }}",
        site.cert.display(),
        site.key.display(),
        site.ca.display()
    )
}

/// Envoy keeps one session, which is not enough for connections that begin at the same time. Its
/// first choice of a group is a hybrid with ML-KEM, which the others do not have.
fn upstream(site: &Site) -> String {
    tls(site, "Upstream", "site-b", "sni: site-b, max_session_keys: 64")
}

fn downstream(site: &Site) -> String {
    tls(site, "Downstream", "site-a", "require_client_certificate: true")
}

fn plain_importer(site: &Site) -> String {
    let (mut listeners, mut clusters) = (Vec::new(), Vec::new());
    for (service, port, between) in SERVICES {
        let at = format!("address: {}", address("10.1.0.1", port));
        listeners.push(listener(service, &at, &tcp_proxy(service, service, ""), ""));
        clusters.push(cluster(service, &address("192.0.2.2", between), &upstream(site)));
    }
    bootstrap(&listeners, &clusters)
}

fn plain_exporter(site: &Site) -> String {
    let (mut listeners, mut clusters) = (Vec::new(), Vec::new());
    for (service, port, between) in SERVICES {
        let at = format!("address: {}", address("192.0.2.2", between));
        listeners.push(listener(service, &at, &tcp_proxy(service, service, ""), &downstream(site)));
        clusters.push(cluster(service, &address("10.2.0.2", port), ""));
    }
    bootstrap(&listeners, &clusters)
}

fn connect_importer(site: &Site) -> String {
    let mut listeners = Vec::new();
    let mut routes = Vec::new();
    for (service, port, _) in SERVICES {
        let at = format!("address: {}", address("10.1.0.1", port));
        let tunnel = format!(
            ", tunneling_config: {{ hostname: 'site-b:443', headers_to_add: [{{ header: {{ key: \
             x-import-name, value: {service} }} }}] }}"
        );
        listeners.push(listener(service, &at, &tcp_proxy(service, "egress", &tunnel), ""));
        routes.push(route(service, "remote-peer-site-b", ""));
    }
    listeners.push(listener("egress", "internal_listener: {}", &http("egress", &routes), ""));
    let internal = "{ envoy_internal_address: { server_listener_name: egress } }";
    let clusters = [
        cluster("egress", internal, ""),
        cluster("remote-peer-site-b", &address("192.0.2.2", SERVICES[0].2), &upstream(site)),
    ];
    bootstrap(&listeners, &clusters)
}

fn connect_exporter(site: &Site) -> String {
    let mut routes = Vec::new();
    let mut clusters = Vec::new();
    for (service, port, _) in SERVICES {
        routes.push(route(service, &format!("export-{service}"), ", connect_config: {}"));
        clusters.push(cluster(&format!("export-{service}"), &address("10.2.0.2", port), ""));
    }
    let at = format!("address: {}", address("192.0.2.2", SERVICES[0].2));
    bootstrap(&[listener("ingress", &at, &http("ingress", &routes), &downstream(site))], &clusters)
}
