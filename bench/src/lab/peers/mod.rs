//! How each subject is configured and started: a file each. All have the same services,
//! addresses and certificates, one CPU at either end and one worker where there is such a setting,
//! and TLS 1.3 between them with both ends proved.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::runtime_dir::RuntimeDir;
use super::{PATIENCE, Place, Process};

pub mod clgw;
pub mod envoy;
pub mod haproxy;
pub mod nginx;
pub mod relay;
pub mod stunnel;

pub const IPERF_PORT: u16 = 5201;
pub const TINY_PORT: u16 = 7000;
/// Services with many connections that stay open; several, since the ports of one pair of
/// addresses come to an end.
pub const HOLD_PORTS: [u16; 2] = [7001, 7002];
pub const SUITE: &str = "TLS_AES_128_GCM_SHA256";

/// Where B is found by A, for one service at least.
pub const PEER_PORT: u16 = 4443;

/// Name, port at the client's and the server's side, and port between a pair of relays that have
/// no other way to say what they want from the other side.
pub const SERVICES: [(&str, u16, u16); 4] = [
    ("iperf", IPERF_PORT, PEER_PORT),
    ("tiny", TINY_PORT, 4444),
    ("hold-1", HOLD_PORTS[0], 4445),
    ("hold-2", HOLD_PORTS[1], 4446),
];
/// Connections beside those that are measured.
const PROBES: u64 = 100;

/// One end of a pair.
#[derive(Debug)]
pub struct Site {
    pub name: &'static str,
    pub place: Place,
    pub cpu: u16,
    /// For files of its own.
    pub dir: PathBuf,
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The processes of a running pair; none at all where nothing relays.
#[derive(Debug, Default)]
pub struct Gateways {
    pub a: Vec<Process>,
    pub b: Vec<Process>,
    /// Go behind the processes.
    runtime_dirs: Vec<RuntimeDir>,
}

impl Gateways {
    fn of(&mut self, place: Place) -> &mut Vec<Process> {
        if place == Place::A { &mut self.a } else { &mut self.b }
    }

    fn wait_for(&mut self, text: &str, within: Duration) -> anyhow::Result<()> {
        self.a.iter_mut().chain(&mut self.b).try_for_each(|p| p.wait_for(text, within))
    }

    /// The ends of their logs.
    pub fn logs(&self) -> String {
        let all = self.a.iter().chain(&self.b);
        all.map(Process::last_lines).collect::<Vec<_>>().join("\n")
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("{}: cannot be written", file.display()))
}
