//! Two of our own gateways, on DPDK's `net_af_packet`.

use std::fs;

use anyhow::Context as _;

use super::{Gateways, PATIENCE, SERVICES, Site, write};
use crate::lab::runtime_dir::{RuntimeDir, file_prefix};
use crate::lab::{Lab, Net, Place};
use crate::objects::Objects;

/// Address of the imports at site A.
pub const VIP: &str = "10.1.0.80";

pub fn start(lab: &Lab, net: &Net, sites: &[Site; 2]) -> anyhow::Result<Gateways> {
    let mut gateways = Gateways::default();
    for site in sites {
        gateways.runtime_dirs.push(RuntimeDir::of(file_prefix(std::process::id(), site.name)));
        let (config, objects) =
            files(site.place, site.cpu, net.links().mtu, (lab.buffers, lab.congestion));
        let file = site.dir.join("gateway.yaml");
        write(&file, &config)?;
        fs::create_dir_all(site.dir.join("objects")).context("objects")?;
        write(&site.dir.join("objects/objects.yaml"), &objects)?;
        let (clgw, file) = (lab.clgw.display().to_string(), file.display().to_string());
        let command = [&clgw, "run", "--config", &file];
        gateways.of(site.place).push(net.spawn(site.name, site.place, site.cpu, &command)?);
    }
    gateways.wait_for(" ready ", PATIENCE)?;
    Ok(gateways)
}

/// What each connection's rings hold, KiB; `None` = the gateway's defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffers {
    pub service_kib: Option<usize>,
    pub peer_kib: Option<usize>,
}

/// `gateway.yaml` and the objects of a site.
fn files(
    place: Place,
    cpu: u16,
    mtu: usize,
    (buffers, congestion): (Buffers, Option<&str>),
) -> (String, String) {
    let importer = place == Place::A;
    let (name, other, wan, other_wan, service) = if importer {
        ("site-a", "site-b", "192.0.2.1", "192.0.2.2", "10.1.0.1")
    } else {
        ("site-b", "site-a", "192.0.2.2", "192.0.2.1", "10.2.0.1")
    };
    let ring = match mtu {
        ..=1_500 => "blocksz=131072,framesz=2048,framecnt=4096",
        // framesz times an integer is blocksz, which is a multiple of the page.
        _ => "blocksz=147456,framesz=9216,framecnt=1024",
    };
    // Many connections need more ports than one pair of addresses has.
    let more = if importer { "" } else { ", 192.0.2.3/24" };
    let mut config = format!(
        "peer: {{ name: {name} }}\n\
         tls: {{ ca: ../cert.pem, cert: cert.pem, key: key.pem }}\n\
         objects: objects/\n\
         workers: {{ count: 1, cpus: [{cpu}], idle: sleep }}\n\
         eal: {{ file_prefix: {file_prefix} }}\n\
         ports:\n\
         - name: service0\n  device: \"net_af_packet0,iface=svc0,{ring}\"\n  side: service\n  \
         mtu: {mtu}\n  addresses: [{service}/24]\n\
         - name: wan0\n  device: \"net_af_packet1,iface=wan0,{ring}\"\n  side: peer\n  \
         mtu: {mtu}\n  addresses: [{wan}/24{more}]\n\
         drain: {{ deadline: 2s }}\n",
        file_prefix = file_prefix(std::process::id(), name),
    );
    let sizes = [("service_kib", buffers.service_kib), ("peer_kib", buffers.peer_kib)];
    let sizes: Vec<String> =
        sizes.iter().filter_map(|(key, kib)| kib.map(|kib| format!("{key}: {kib}"))).collect();
    config.push_str(&format!("buffers: {{ {} }}\n", sizes.join(", ")));
    if let Some(congestion) = congestion {
        config.push_str(&format!("congestion: {{ peer: {congestion} }}\n"));
    }
    let others: &[&str] = if importer { &[other_wan, "192.0.2.3"] } else { &[other_wan] };
    let mut objects = Objects::new(other, others);
    if importer {
        config.push_str("vips:\n");
    }
    for (service, port, _) in SERVICES {
        if importer {
            config.push_str(&format!("- {{ import: bench/{service}, address: {VIP} }}\n"));
            objects.import(service, port, other);
        } else {
            objects.export(service, "10.2.0.2", port);
        }
    }
    (config, objects.into_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_an_import_here_and_an_export_there() {
        let (config, imports) = files(Place::A, 0, 1_500, (Buffers::default(), None));
        let (_, exports) = files(Place::B, 1, 9_000, (Buffers::default(), None));
        assert_eq!(imports.matches("kind: Import").count(), SERVICES.len());
        assert_eq!(exports.matches("kind: Export").count(), SERVICES.len());
        assert_eq!(config.matches(VIP).count(), SERVICES.len());
        assert!(!config.contains("congestion"));
        let (config, _) = files(Place::A, 0, 1_500, (Buffers::default(), Some("cubic")));
        assert!(config.contains("congestion: { peer: cubic }\n"));
    }
}
