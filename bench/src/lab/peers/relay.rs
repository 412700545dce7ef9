//! A pair of [`crate::relay`].

use super::{Gateways, PATIENCE, SERVICES, Site};
use crate::lab::{Lab, Net, Place};
use crate::relay::LISTENING;

pub fn start(lab: &Lab, net: &Net, sites: &[Site; 2]) -> anyhow::Result<Gateways> {
    let mut gateways = Gateways::default();
    for site in sites {
        let command = command(&lab.this, site);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        gateways.of(site.place).push(net.spawn(site.name, site.place, site.cpu, &command)?);
    }
    gateways.wait_for(LISTENING, PATIENCE)?;
    Ok(gateways)
}

fn command(this: &str, site: &Site) -> Vec<String> {
    let importer = site.place == Place::A;
    let list = |address: &str, port: fn(&(&str, u16, u16)) -> u16| {
        let ports = SERVICES.iter().map(|service| format!("{address}:{}", port(service)));
        ports.collect::<Vec<_>>().join(",")
    };
    let (mode, listen, connect) = if importer {
        ("tls-out", list("10.1.0.1", |s| s.1), list("192.0.2.2", |s| s.2))
    } else {
        ("tls-in", list("192.0.2.2", |s| s.2), list("10.2.0.2", |s| s.1))
    };
    let mut command = vec![this.to_owned(), "relay".to_owned()];
    for (option, value) in [
        ("--mode", mode.to_owned()),
        ("--listen", listen),
        ("--connect", connect),
        ("--ca", site.ca.display().to_string()),
        ("--cert", site.cert.display().to_string()),
        ("--key", site.key.display().to_string()),
    ] {
        command.extend([option.to_owned(), value]);
    }
    if importer {
        command.extend(["--peer".to_owned(), "site-b".to_owned()]);
    }
    command
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command};

    use super::*;

    #[test]
    fn both_ends_are_understood() {
        for (place, peer) in [(Place::A, true), (Place::B, false)] {
            let path = std::path::PathBuf::from;
            let [dir, ca, cert, key] = [path("d"), path("ca"), path("cert"), path("key")];
            let site = Site { name: "site", place, cpu: 0, dir, ca, cert, key };
            let command = command("clgw-bench", &site);
            let parser = crate::relay::RelayArgs::augment_args(Command::new("relay"));
            let matches = parser.try_get_matches_from(&command[1..]).unwrap();
            let ports = |name: &str| {
                matches.get_many::<std::net::SocketAddr>(name).unwrap().map(|a| a.port()).collect()
            };
            let (listen, connect): (Vec<u16>, Vec<u16>) = (ports("listen"), ports("connect"));
            assert_eq!(listen.len(), SERVICES.len());
            assert_eq!(connect.len(), SERVICES.len());
            assert_eq!(matches.contains_id("peer"), peer);
            assert!(listen != connect);
        }
    }
}
