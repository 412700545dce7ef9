//! `gateway.yaml`: one gateway's own settings, checked as a whole before anything starts.
//!
//! ClusterLink's objects (Peer, Export, Import, policies) are not here: they live in the directory
//! that `objects` names and belong to `clgw-policy`.
//!
//! Reading never stops at the first error. [`load`] returns every one of them, each with file,
//! line, column, field, message and a hint.

mod congestion;
mod crypto;
mod defaults;
mod device;
mod host;
mod imports;
mod objects;
mod read;
mod reader;
mod rules;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clgw_policy::yaml::{self, Budget};
use clgw_policy::{Diagnostic, LocalPeer, Severity};
use ipnet::IpNet;

pub use crate::port::Side;
pub use congestion::{Congestion, Controllers};
pub use crypto::Crypto;
pub use device::{Device, ParseDeviceError};
pub use host::Host;
pub use imports::{ImportPort, check_listeners};
pub use objects::read_objects;

use crate::limits;
use reader::Findings;

/// What a gateway.yaml may cost to read.
const BUDGET: Budget = Budget {
    bytes: limits::MAX_CONFIG_FILE as usize,
    // A gateway.yaml has five levels; more is an attack or a mistake.
    depth: 32,
    // Far more than the largest sensible file: 1,024 addresses and 256 routes on every port.
    nodes: 200_000,
};

/// A configuration that passed every rule. Paths are resolved against the directory of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayConfig {
    pub file: PathBuf,
    pub peer: PeerConfig,
    pub tls: TlsConfig,
    /// Directory of ClusterLink objects. Default `objects/`.
    pub objects: PathBuf,
    pub workers: WorkersConfig,
    pub eal: EalSettings,
    /// At least one on the service side and one on the peer side, or one on both.
    pub ports: Vec<PortConfig>,
    pub tunnel: TunnelConfig,
    /// Default none.
    pub vips: Vec<VipConfig>,
    pub buffers: BufferSizes,
    pub congestion: Controllers,
    pub drain: DrainConfig,
    pub log: LogConfig,
}

/// Where a value stands in the file, to be named in errors that only show later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub column: u64,
    pub field: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PeerConfig {
    /// Name of this peer in the fabric: must equal the first DNS SAN of its certificate.
    pub name: String,
    pub name_at: Place,
    /// Labels of this peer for policies, `peer.clusterlink.net/labels.*`. Default none.
    pub labels: BTreeMap<String, String>,
}

impl PeerConfig {
    /// This peer as policies see it.
    pub fn local(&self) -> LocalPeer {
        let label = |(key, value): (&String, &String)| (key.as_str().into(), value.as_str().into());
        LocalPeer {
            name: self.name.as_str().into(),
            labels: self.labels.iter().map(label).collect(),
        }
    }
}

/// PEM files of this peer, and what computes with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Trusted fabric CAs, one or several.
    pub ca: PathBuf,
    /// This peer's certificate, leaf first.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Default [`Crypto::Ring`].
    pub crypto: Crypto,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WorkersConfig {
    /// CPU of each worker; their number is the number of workers. Default: one worker on the last
    /// CPU the process may use, as the first ones serve interrupts on most hosts.
    pub cpus: Vec<usize>,
    /// Default [`IdlePolicy::Poll`].
    pub idle: IdlePolicy,
    /// Threads that run TLS handshakes beside the workers. Default 1.
    pub handshake_threads: usize,
}

impl WorkersConfig {
    pub fn count(&self) -> usize {
        self.cpus.len()
    }
}

/// What a worker does when it finds no work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Looks again at once: lowest latency, and the CPU is never free for anybody else.
    Poll,
    /// Sleeps, the longer the longer nothing has come: for CPUs that are shared.
    Sleep,
    /// Sleeps until a frame comes: the same, on devices that have receive interrupts.
    Interrupt,
}

/// How the environment abstraction layer of DPDK starts.
#[derive(Clone, Debug, PartialEq)]
pub struct EalSettings {
    /// Default [`Hugepages::Auto`].
    pub hugepages: Hugepages,
    /// Memory for packet buffers and rings, MiB. Default 256.
    pub memory_mib: u32,
    /// Tells the gateways of one host apart. Default `clgw-` and the peer's name.
    pub file_prefix: String,
    /// Further EAL arguments, one word each. Default none.
    pub extra: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// Hugepages if the host has enough free ones, else normal pages.
    Auto,
    /// Hugepages or an error.
    On,
    /// Normal pages. Physical NICs may not work without hugepages.
    Off,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PortConfig {
    /// Name in logs and metrics; unique.
    pub name: String,
    pub device: Device,
    pub side: Side,
    /// IP packet size, bytes, [`limits::MIN_MTU`] to [`limits::MAX_MTU`]. Default 1500.
    pub mtu: usize,
    /// Own addresses with the prefix of their subnet; at least one.
    pub addresses: Vec<IpNet>,
    /// Default none: only the port's own subnets are reached.
    pub routes: Vec<RouteConfig>,
}

/// A route of one port; `via` is in a subnet of that port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    pub to: IpNet,
    pub via: IpAddr,
}

/// Connections between gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelConfig {
    /// TCP port on the peer side where other gateways connect. Default 4443.
    pub port: u16,
    /// Idle tunnels kept ready per peer gateway and worker. Default 2.
    pub warm: usize,
    /// Idle tunnels kept at most per peer gateway and worker. Default 16.
    pub max_idle: usize,
}

/// An address of its own for an import, as a ClusterIP is for a Service: the import is reached at
/// this address and its `spec.port`. An import without a VIP is reached at every service-side
/// address of the gateway and its `spec.targetPort` (or `spec.port`).
#[derive(Clone, Debug, PartialEq)]
pub struct VipConfig {
    pub import: ImportRef,
    pub address: IpAddr,
    pub at: Place,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImportRef {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ImportRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The most that connections may hold, bytes. Memory is taken only while there are bytes to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// One connection and direction towards clients and services: its largest TCP window. Default
    /// 64 KiB.
    pub service: usize,
    /// The same towards other gateways, where round trips are long. Default 256 KiB.
    pub peer: usize,
    /// All connections of one worker together. Default 512 MiB.
    pub worker: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainConfig {
    /// Open connections get this long to finish after SIGTERM; zero cuts them at once.
    /// Default 30 s.
    pub deadline: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Default `info`. The variable RUST_LOG takes precedence.
    pub level: LogLevel,
    /// Default `text`.
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// What reading a file gave. The paths are here as soon as they could be read, so that the files
/// they name can be checked even when something else in the configuration is wrong.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// None if there is any error.
    pub config: Option<GatewayConfig>,
    pub tls: Option<TlsConfig>,
    pub objects: Option<PathBuf>,
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    fn unreadable(diagnostics: Vec<Diagnostic>) -> Self {
        Self { config: None, tls: None, objects: None, diagnostics }
    }
}

/// Reads and checks a gateway.yaml.
pub fn load(file: &Path, host: &Host) -> Loaded {
    match read_text(file) {
        Ok(text) => parse(file, &text, host),
        Err(diagnostic) => Loaded::unreadable(vec![*diagnostic]),
    }
}

/// Checks the text of a gateway.yaml; `file` is where it came from.
pub fn parse(file: &Path, text: &str, host: &Host) -> Loaded {
    let mut errors = Vec::new();
    let root = yaml::document(text, &BUDGET, &mut errors);
    let mut findings = Findings::new(file.display().to_string());
    findings.yaml(&errors);
    match root {
        Some(root) => read::read(file, &root, host, findings),
        None => Loaded::unreadable(findings.into_sorted()),
    }
}

impl GatewayConfig {
    /// Whether the certificate is this peer's: `first_san` is its first DNS SAN, which is the
    /// peer's identity in ClusterLink. Another gateway would refuse any other name.
    ///
    /// # Errors
    /// A diagnostic at `peer.name` with both names.
    pub fn check_peer_name(&self, first_san: &str) -> Result<(), Box<Diagnostic>> {
        if self.peer.name.eq_ignore_ascii_case(first_san) {
            return Ok(());
        }
        let at = &self.peer.name_at;
        Err(Box::new(Diagnostic {
            severity: Severity::Error,
            file: self.file.display().to_string(),
            line: at.line,
            column: at.column,
            field: at.field.clone(),
            message: format!(
                "the peer is called {:?}, but its certificate {} is for {first_san:?}",
                self.peer.name,
                self.tls.cert.display()
            ),
            hint: format!(
                "write `name: {first_san}`, or make a certificate: \
                 clgw create peer-cert --name {}",
                self.peer.name
            ),
        }))
    }
}

fn whole_file(file: &Path, message: String, hint: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        file: file.display().to_string(),
        line: 0,
        column: 0,
        field: String::new(),
        message,
        hint: hint.to_owned(),
    }
}

/// The text of a configuration or object file of at most [`limits::MAX_CONFIG_FILE`] bytes.
///
/// # Errors
/// When it cannot be read, is longer, or is no UTF-8: a diagnostic of that file.
pub fn read_text(file: &Path) -> Result<String, Box<Diagnostic>> {
    let unreadable = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "check the path; it is taken relative to where clgw runs"
            }
            std::io::ErrorKind::PermissionDenied => "let the user that runs clgw read the file",
            std::io::ErrorKind::IsADirectory => "name the file, not its directory",
            _ => "check the file and its file system",
        };
        Box::new(whole_file(file, format!("cannot be read: {error}"), hint))
    };
    let mut bytes = Vec::new();
    // One byte more than allowed: enough to see that it is too long, whatever it grows to.
    File::open(file)
        .and_then(|f| f.take(limits::MAX_CONFIG_FILE + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > limits::MAX_CONFIG_FILE {
        return Err(Box::new(whole_file(
            file,
            format!("is larger than {} bytes", limits::MAX_CONFIG_FILE),
            "check that this is the right file; split objects into several files",
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..good].iter().filter(|b| **b == b'\n').count();
        let mut diagnostic =
            whole_file(file, "is not UTF-8 text".to_owned(), "save the file as UTF-8");
        diagnostic.line = line as u64;
        diagnostic.column = 1;
        Box::new(diagnostic)
    })
}
