//! A pair of stunnel.

use super::{Gateways, PATIENCE, SERVICES, SUITE, Site, write};
use crate::lab::{Net, Place};

pub fn start(program: &str, net: &Net, sites: &[Site; 2]) -> anyhow::Result<Gateways> {
    let mut gateways = Gateways::default();
    for site in sites {
        let file = site.dir.join("stunnel.conf");
        write(&file, &config(site))?;
        let file = file.display().to_string();
        let command = [program, &file];
        gateways.of(site.place).push(net.spawn(site.name, site.place, site.cpu, &command)?);
    }
    gateways.wait_for("Configuration successful", PATIENCE)?;
    Ok(gateways)
}

fn config(site: &Site) -> String {
    let mut text = format!(
        "foreground = yes\npid =\nsyslog = no\ndebug = notice\n\
         socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n\
         cert = {}\nkey = {}\nCAfile = {}\nverifyChain = yes\nsslVersionMin = TLSv1.3\n\
         ciphersuites = {SUITE}\n",
        site.cert.display(),
        site.key.display(),
        site.ca.display()
    );
    for (service, port, between) in SERVICES {
        text.push_str(&match site.place {
            Place::A => format!(
                "[{service}]\nclient = yes\naccept = 10.1.0.1:{port}\n\
                 connect = 192.0.2.2:{between}\nsni = site-b\ncheckHost = site-b\n"
            ),
            _ => format!("[{service}]\naccept = 192.0.2.2:{between}\nconnect = 10.2.0.2:{port}\n"),
        });
    }
    text
}
