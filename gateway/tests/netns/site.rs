//! Files of a site: certificates, gateway.yaml, objects.

use std::fs;
use std::path::{Path, PathBuf};

use crate::lab::run;

/// What differs between scenarios.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// Names the certificate, too.
    pub peer: String,
    pub fabric: String,
    /// The other gateway's address on the peer side.
    pub other: String,
    /// The other site's peer name.
    pub other_name: String,
    /// CPUs of the workers; with more than one, ports get as many queues. Empty: one worker on
    /// the default CPU.
    pub cpus: Vec<usize>,
    pub file_prefix: String,
    pub drain: String,
    pub hugepages: &'static str,
    /// The device of the service side, if it is not the namespace's `svc0`.
    pub service: Option<String>,
    /// The device of the peer side, if it is not the namespace's `wan0`.
    pub wan: Option<String>,
}

impl SiteOptions {
    fn new(peer: &str, other: &str, address: &str) -> Self {
        Self {
            peer: peer.into(),
            fabric: "fabric".into(),
            other: address.into(),
            other_name: other.into(),
            cpus: Vec::new(),
            file_prefix: format!("clgw-{peer}"),
            drain: "20s".into(),
            hugepages: "auto",
            service: None,
            wan: None,
        }
    }

    /// The importing site.
    pub fn a() -> Self {
        Self::new("site-a", "site-b", "192.0.2.2")
    }

    /// The exporting site.
    pub fn b() -> Self {
        Self::new("site-b", "site-a", "192.0.2.1")
    }
}

/// Services of site B by name, with the port they have at the server and at the import.
pub const SERVICES: [(&str, u16); 5] =
    [("web", 80), ("echo", 7000), ("greet", 7001), ("dead", 7009), ("secret", 7010)];
/// Address of every import at site A.
pub const VIP: &str = "10.1.0.80";
pub const VIP6: &str = "fd00:1::80";

/// A site's directory.
#[derive(Debug)]
pub struct Site {
    pub dir: PathBuf,
}

impl Site {
    /// The importer: every service as an import.
    pub fn importer(root: &Path, options: &SiteOptions) -> Self {
        let vips: String = SERVICES
            .iter()
            .flat_map(|(name, _)| {
                [VIP, VIP6]
                    .map(|vip| format!("  - {{ import: demo/{name}, address: \"{vip}\" }}\n"))
            })
            .collect();
        let (service, peer) = (["10.1.0.1/24", "fd00:1::1/64"], ["192.0.2.1/24", "fd00:9::1/64"]);
        let site = Self::new(root, options, service, peer, &format!("vips:\n{vips}"));
        for (name, port) in SERVICES {
            site.object(
                &format!("import-{name}.yaml"),
                &format!(
                    "kind: Import\nmetadata: {{ name: {name}, namespace: demo }}\nspec:\n  port: \
                     {port}\n  sources:\n    - {{ peer: {}, exportName: {name}, exportNamespace: \
                     demo }}\n",
                    options.other_name
                ),
            );
        }
        for (name, address) in [("client", "10.1.0.2\", \"fd00:1::2"), ("stranger", "10.1.0.3")] {
            site.object(
                &format!("workload-{name}.yaml"),
                &format!(
                    "kind: Workload\nmetadata: {{ name: {name}, namespace: demo, labels: {{ app: \
                     {name} }} }}\nspec: {{ addresses: [\"{address}\"] }}\n"
                ),
            );
        }
        site.allow("allow-client", "client.clusterlink.net/labels.app: client");
        site.deny_stranger();
        site
    }

    /// The exporter: every service as an export. It allows everything of the other site but
    /// `secret`.
    pub fn exporter(root: &Path, options: &SiteOptions) -> Self {
        let (service, peer) = (["10.2.0.1/24", "fd00:2::1/64"], ["192.0.2.2/24", "fd00:9::2/64"]);
        let site = Self::new(root, options, service, peer, "");
        for (name, port) in SERVICES {
            site.object(
                &format!("export-{name}.yaml"),
                &format!(
                    "kind: Export\nmetadata: {{ name: {name}, namespace: demo }}\nspec: {{ host: \
                     10.2.0.2, port: {port} }}\n"
                ),
            );
        }
        site.allow("allow-site-a", &format!("peer.clusterlink.net/name: {}", options.other_name));
        site.deny_export("no-secret", "secret");
        site
    }

    fn new(
        root: &Path,
        options: &SiteOptions,
        service: [&str; 2],
        wan: [&str; 2],
        vips: &str,
    ) -> Self {
        let clgw = env!("CARGO_BIN_EXE_clgw");
        let path = root.display().to_string();
        let at = ["--path", path.as_str()];
        if !root.join(&options.fabric).exists() {
            run(clgw, &[&["create", "fabric", "--name", &options.fabric], &at[..]].concat());
        }
        let dir = root.join(&options.fabric).join(&options.peer);
        if !dir.exists() {
            let names = ["--name", &options.peer, "--fabric", &options.fabric];
            run(clgw, &[&["create", "peer-cert"], &names[..], &at].concat());
        }
        let queues = options.cpus.len().max(1);
        let ring = format!("qpairs={queues},blocksz=131072,framesz=2048,framecnt=4096");
        let wan0 = format!("net_af_packet1,iface=wan0,{ring}");
        let svc0 = format!("net_af_packet0,iface=svc0,{ring}");
        let service_device = options.service.as_ref().unwrap_or(&svc0);
        let wan_device = options.wan.as_ref().unwrap_or(&wan0);
        let cpus = match options.cpus.as_slice() {
            [] => String::new(),
            cpus => format!("  count: {}\n  cpus: {cpus:?}\n", cpus.len()),
        };
        fs::write(
            dir.join("gateway.yaml"),
            format!(
                "peer: {{ name: {peer} }}\n\
                 tls: {{ ca: ../cert.pem, cert: cert.pem, key: key.pem }}\n\
                 objects: objects/\n\
                 workers:\n  idle: sleep\n{cpus}\
                 eal: {{ file_prefix: {prefix}, hugepages: {hugepages} }}\n\
                 ports:\n  \
                 - name: service0\n    device: \"{service_device}\"\n    \
                 side: service\n    addresses: {service:?}\n  \
                 - name: wan0\n    device: \"{wan_device}\"\n    \
                 side: peer\n    addresses: {wan:?}\n\
                 {vips}\
                 drain: {{ deadline: {drain} }}\n",
                peer = options.peer,
                prefix = options.file_prefix,
                hugepages = options.hugepages,
                drain = options.drain,
            ),
        )
        .unwrap();
        fs::create_dir_all(dir.join("objects")).unwrap();
        let site = Self { dir };
        let other = if options.other.contains(':') {
            format!("\"{}\"", options.other)
        } else {
            options.other.clone()
        };
        site.object(
            "peer.yaml",
            &format!(
                "kind: Peer\nmetadata: {{ name: {}, namespace: clusterlink-system }}\nspec:\n  \
                 gateways:\n    - {{ host: {other}, port: 4443 }}\n",
                options.other_name
            ),
        );
        site
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("gateway.yaml")
    }

    /// Replaces part of gateway.yaml.
    pub fn edit_config(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "gateway.yaml has no {from:?}:\n{text}");
        fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    /// Writes one object file; the apiVersion comes by itself.
    pub fn object(&self, file: &str, text: &str) {
        let text = format!("apiVersion: clusterlink.net/v1alpha1\n{text}");
        fs::write(self.dir.join("objects").join(file), text).unwrap();
    }

    pub fn remove_object(&self, file: &str) {
        fs::remove_file(self.dir.join("objects").join(file)).unwrap();
    }

    fn allow(&self, name: &str, label: &str) {
        self.object(
            &format!("{name}.yaml"),
            &format!(
                "kind: AccessPolicy\nmetadata: {{ name: {name}, namespace: demo }}\nspec:\n  \
                 action: allow\n  from:\n    - workloadSelector: {{ matchLabels: {{ {label} }} \
                 }}\n  to:\n    - workloadSelector: {{}}\n"
            ),
        );
    }

    fn deny_stranger(&self) {
        self.object(
            "no-strangers.yaml",
            "kind: PrivilegedAccessPolicy\nmetadata: { name: no-strangers }\nspec:\n  action: \
             deny\n  from:\n    - workloadSelector: { matchLabels: { \
             client.clusterlink.net/labels.app: stranger } }\n  to:\n    - workloadSelector: {}\n",
        );
    }

    /// A policy that denies everybody one export.
    pub fn deny_export(&self, name: &str, export: &str) {
        self.object(
            &format!("{name}.yaml"),
            &format!(
                "kind: AccessPolicy\nmetadata: {{ name: {name}, namespace: demo }}\nspec:\n  \
                 action: deny\n  from:\n    - workloadSelector: {{}}\n  to:\n    - \
                 workloadSelector: {{ matchLabels: {{ export.clusterlink.net/name: {export} }} }}\n"
            ),
        );
    }
}
