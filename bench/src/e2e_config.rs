//! What the gateways of [`crate::e2e`] are configured with: the same services, addresses and
//! certificates for `clgw` and HAProxy.

use std::path::Path;

use crate::netns::Place;

pub const IPERF_PORT: u16 = 5201;
pub const TINY_PORT: u16 = 7000;
/// Address of the imports at site A.
pub const VIP: &str = "10.1.0.80";
pub const SUITE: &str = "TLS_AES_128_GCM_SHA256";

/// Name, port at the client's and the server's side, and port between a pair of HAProxy, which
/// has no other way to say what it wants from the other side.
const SERVICES: [(&str, u16, u16); 2] = [("iperf", IPERF_PORT, 4443), ("tiny", TINY_PORT, 4444)];

/// `gateway.yaml` and the objects of a site.
pub fn clgw(place: Place, cpu: u16) -> (String, String) {
    let importer = place == Place::A;
    let (name, other, wan, other_wan, service) = if importer {
        ("site-a", "site-b", "192.0.2.1", "192.0.2.2", "10.1.0.1")
    } else {
        ("site-b", "site-a", "192.0.2.2", "192.0.2.1", "10.2.0.1")
    };
    let ring = "blocksz=131072,framesz=2048,framecnt=4096";
    let mut config = format!(
        "peer: {{ name: {name} }}\n\
         tls: {{ ca: ../cert.pem, cert: cert.pem, key: key.pem }}\n\
         objects: objects/\n\
         workers: {{ count: 1, cpus: [{cpu}], idle: sleep }}\n\
         eal: {{ file_prefix: clgw-bench-{pid}-{name} }}\n\
         ports:\n\
         - name: service0\n  device: \"net_af_packet0,iface=svc0,{ring}\"\n  side: service\n  \
         addresses: [{service}/24]\n\
         - name: wan0\n  device: \"net_af_packet1,iface=wan0,{ring}\"\n  side: peer\n  \
         addresses: [{wan}/24]\n\
         drain: {{ deadline: 2s }}\n",
        pid = std::process::id(),
    );
    let mut objects = vec![
        format!(
            "kind: Peer\nmetadata: {{ name: {other}, namespace: clusterlink-system }}\n\
             spec: {{ gateways: [{{ host: {other_wan}, port: 4443 }}] }}\n"
        ),
        "kind: AccessPolicy\nmetadata: { name: allow-all, namespace: bench }\nspec:\n  \
         action: allow\n  from: [{ workloadSelector: {} }]\n  to: [{ workloadSelector: {} }]\n"
            .to_owned(),
    ];
    if importer {
        config.push_str("vips:\n");
    }
    for (service, port, _) in SERVICES {
        if importer {
            config.push_str(&format!("- {{ import: bench/{service}, address: {VIP} }}\n"));
            objects.push(format!(
                "kind: Import\nmetadata: {{ name: {service}, namespace: bench }}\nspec:\n  \
                 port: {port}\n  sources:\n  - {{ peer: {other}, exportName: {service}, \
                 exportNamespace: bench }}\n"
            ));
        } else {
            objects.push(format!(
                "kind: Export\nmetadata: {{ name: {service}, namespace: bench }}\n\
                 spec: {{ host: 10.2.0.2, port: {port} }}\n"
            ));
        }
    }
    let version = "apiVersion: clusterlink.net/v1alpha1\n";
    let objects: Vec<String> = objects.iter().map(|o| format!("{version}{o}")).collect();
    (config, objects.join("---\n"))
}

/// `haproxy.cfg` of a site: plain to TLS at A, TLS to plain at B; both prove who they are.
pub fn haproxy(place: Place, ca: &Path, pem: &Path) -> String {
    let (ca, pem) = (ca.display(), pem.display());
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 4096\n  \
         ssl-default-bind-options ssl-min-ver TLSv1.3\n  \
         ssl-default-bind-ciphersuites {SUITE}\n  \
         ssl-default-server-options ssl-min-ver TLSv1.3\n  \
         ssl-default-server-ciphersuites {SUITE}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
    );
    for (service, port, between) in SERVICES {
        let (bind, server) = if place == Place::A {
            (
                format!("10.1.0.1:{port}"),
                format!(
                    "192.0.2.2:{between} ssl crt {pem} ca-file {ca} verify required verifyhost \
                     site-b sni str(site-b)"
                ),
            )
        } else {
            (
                format!("192.0.2.2:{between} ssl crt {pem} ca-file {ca} verify required"),
                format!("10.2.0.2:{port}"),
            )
        };
        text.push_str(&format!(
            "frontend {service}\n  bind {bind}\n  default_backend {service}-other\n\
             backend {service}-other\n  server other {server}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_between_the_haproxies_and_nowhere_else() {
        let [a, b] = [Place::A, Place::B].map(|p| haproxy(p, Path::new("ca"), Path::new("pem")));
        let lines = |text: &str, word: &str| -> Vec<String> {
            let of = |line: &&str| line.trim().starts_with(word);
            text.lines().filter(of).map(str::to_owned).collect()
        };
        for (text, sealed, plain) in [(&a, "server ", "bind "), (&b, "bind ", "server ")] {
            assert_eq!(lines(text, sealed).len(), SERVICES.len());
            assert!(lines(text, sealed).iter().all(|l| l.contains(" ssl ")), "{text}");
            assert!(lines(text, sealed).iter().all(|l| l.contains("verify required")), "{text}");
            assert!(lines(text, plain).iter().all(|l| !l.contains("ssl")), "{text}");
        }
    }

    #[test]
    fn every_service_is_an_import_here_and_an_export_there() {
        let (config, imports) = clgw(Place::A, 0);
        let (_, exports) = clgw(Place::B, 1);
        assert_eq!(imports.matches("kind: Import").count(), SERVICES.len());
        assert_eq!(exports.matches("kind: Export").count(), SERVICES.len());
        assert_eq!(config.matches(VIP).count(), SERVICES.len());
    }
}
