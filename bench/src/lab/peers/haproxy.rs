//! A pair of HAProxy.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::{Gateways, PROBES, SERVICES, SUITE, Site, write};
use crate::lab::{Net, Place, usage};

pub fn start(program: &str, net: &Net, sites: &[Site; 2]) -> anyhow::Result<Gateways> {
    let mut gateways = Gateways::default();
    for site in sites {
        // HAProxy wants both in one file.
        let pem = site.dir.join("both.pem");
        let part = |file: &Path| fs::read_to_string(file).context(file.display().to_string());
        write(&pem, &(part(&site.cert)? + &part(&site.key)?))?;
        let file = site.dir.join("haproxy.cfg");
        write(&file, &config(site.place, &site.ca, &pem, usage::relayed_limit()? + PROBES))?;
        let file = file.display().to_string();
        let command = [program, "-db", "-f", &file];
        gateways.of(site.place).push(net.spawn(site.name, site.place, site.cpu, &command)?);
    }
    Ok(gateways)
}

/// `haproxy.cfg` of a site: plain to TLS at A, TLS to plain at B; both prove who they are.
fn config(place: Place, ca: &Path, pem: &Path, connections: u64) -> String {
    let (ca, pem) = (ca.display(), pem.display());
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn {connections}\n  \
         ssl-default-bind-options ssl-min-ver TLSv1.3\n  \
         ssl-default-bind-ciphersuites {SUITE}\n  \
         ssl-default-server-options ssl-min-ver TLSv1.3\n  \
         ssl-default-server-ciphersuites {SUITE}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n"
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
        let [a, b] =
            [Place::A, Place::B].map(|p| config(p, Path::new("ca"), Path::new("pem"), 100));
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
}
