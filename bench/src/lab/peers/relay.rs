//! A pair of [`crate::relay`], a process a service.

use super::{Gateways, PATIENCE, SERVICES, Site};
use crate::lab::{Lab, Net, Place};

pub fn start(lab: &Lab, net: &Net, sites: &[Site; 2]) -> anyhow::Result<Gateways> {
    let mut gateways = Gateways::default();
    for site in sites {
        for (service, port, between) in SERVICES {
            let (listen, connect, side, other) = match site.place {
                Place::A => (
                    format!("10.1.0.1:{port}"),
                    format!("192.0.2.2:{between}"),
                    "tls-out",
                    "site-b",
                ),
                _ => {
                    (format!("192.0.2.2:{between}"), format!("10.2.0.2:{port}"), "tls-in", "site-a")
                }
            };
            let [ca, cert, key] =
                [&site.ca, &site.cert, &site.key].map(|file| file.display().to_string());
            let command = [
                lab.this.as_str(),
                "relay",
                "--listen",
                &listen,
                "--connect",
                &connect,
                "--side",
                side,
                "--ca",
                &ca,
                "--cert",
                &cert,
                "--key",
                &key,
                "--peer-name",
                other,
            ];
            let name = format!("{}-{service}", site.name);
            gateways.of(site.place).push(net.spawn(&name, site.place, site.cpu, &command)?);
        }
    }
    gateways.wait_for("listening", PATIENCE)?;
    Ok(gateways)
}
