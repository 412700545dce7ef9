//! Network namespaces joined by veth pairs, and processes in them:
//!
//!     client eth0 --- svc0 a wan0 --- wan0 b svc0 --- eth0 server
//!
//! or, with a fifth one for [`clgw::sim::line`], `a wan0 --- left line right --- wan0 b`, and
//! `client eth1 --- left1 line right1 --- eth1 server` where the hosts share the line with the gateways.
//!
//! Everything is taken away again when its value is dropped; signals that end a program end every
//! wait with an error, so that values are dropped then, too. What a killed run has left,
//! [`remove_stale`] takes away.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::Cpus;
use super::process::{Process, run};
use crate::interrupt::Interrupt;
use crate::progress::print_line;

/// Names of namespaces and directories begin with this and the process id.
const PREFIX: &str = "clgw-e";
/// Where ip(8) keeps them.
const NAMESPACES: &str = "/run/netns";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Client,
    A,
    B,
    Server,
    Line,
}

impl Place {
    const ALL: [Self; 5] = [Self::Client, Self::A, Self::B, Self::Server, Self::Line];

    fn suffix(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::A => "a",
            Self::B => "b",
            Self::Server => "server",
            Self::Line => "line",
        }
    }
}

type Pair = [(Place, &'static str); 2];
/// Both ends of the veth pairs at the sites.
const SITES: [Pair; 2] =
    [[(Place::Client, "eth0"), (Place::A, "svc0")], [(Place::B, "svc0"), (Place::Server, "eth0")]];
/// Between the sites: at once, or by a line.
const BETWEEN: [Pair; 1] = [[(Place::A, "wan0"), (Place::B, "wan0")]];
const BY_LINE: [Pair; 2] =
    [[(Place::A, "wan0"), (Place::Line, "left")], [(Place::Line, "right"), (Place::B, "wan0")]];
const BESIDE: [Pair; 2] = [
    [(Place::Client, "eth1"), (Place::Line, "left1")],
    [(Place::Line, "right1"), (Place::Server, "eth1")],
];
/// The server's address past the gateways.
pub const SERVER_BESIDE: &str = "10.3.0.2";
/// Addresses of the gateways' ends where the kernel has them.
const KERNEL_ENDS: [(Place, &str, &str); 4] = [
    (Place::A, "svc0", "10.1.0.1/24"),
    (Place::A, "wan0", "192.0.2.1/24"),
    (Place::B, "wan0", "192.0.2.2/24"),
    (Place::B, "svc0", "10.2.0.1/24"),
];

/// Whose the gateways' ends of the links are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// DPDK's: no kernel address, and the hosts complete their checksums themselves, since
    /// af_packet hands them on as they are.
    Dpdk,
    /// The kernel's, with addresses.
    Kernel,
}

/// What is between the sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    Wire,
    /// A place for a line process. Its frames are whole ones, so their checksums are computed.
    Line,
    /// The same, and the hosts are at it, too.
    SharedLine,
}

impl Between {
    fn pairs(self) -> Vec<Pair> {
        match self {
            Self::Wire => BETWEEN.to_vec(),
            Self::Line => BY_LINE.to_vec(),
            Self::SharedLine => [BY_LINE, BESIDE].concat(),
        }
    }
}

/// What the links are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    pub ends: Ends,
    pub mtu: usize,
    /// Segments of 64 KiB pass, checksums are not computed: what veth does by itself.
    pub offloads: bool,
    pub between: Between,
    /// Of all TCP of the kernel's.
    pub congestion: &'static str,
    pub cpus: Cpus,
}

/// Namespaces may choose the congestion controls of a list of the machine's. While this lives, all
/// that the kernel has are on it.
#[derive(Debug)]
pub struct CongestionControls(String);

impl CongestionControls {
    const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

    /// # Errors
    /// The list cannot be read or written.
    pub fn allow_all() -> anyhow::Result<Self> {
        let read = |file: &str| fs::read_to_string(file).with_context(|| file.to_owned());
        let before = Self(read(Self::ALLOWED)?);
        let all = read("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
        fs::write(Self::ALLOWED, all).context(Self::ALLOWED)?;
        Ok(before)
    }
}

impl Drop for CongestionControls {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Self::ALLOWED, &self.0) {
            print_line(&format!("clgw-bench: {}: cannot be set back: {error}", Self::ALLOWED));
        }
    }
}

#[derive(Debug)]
pub struct Net {
    dir: TempDir,
    prefix: String,
    interrupt: Interrupt,
    links: Links,
}

impl Net {
    /// Makes the namespaces and links with hosts' addresses 10.1.0.2 and 10.2.0.2.
    ///
    /// # Errors
    /// A step of `ip`, `sysctl` or `ethtool` failed, with what it said.
    pub fn new(links: Links, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir()
            .context("no temporary directory; make room or set TMPDIR")?;
        let net = Self { dir, prefix, interrupt: interrupt.clone(), links };
        net.connect()?;
        Ok(net)
    }

    fn connect(&self) -> anyhow::Result<()> {
        let Links { ends, mtu, offloads, between, congestion, cpus } = self.links;
        let line = between != Between::Wire;
        let pairs = [&SITES[..], &between.pairs()].concat();
        let congestion = format!("net.ipv4.tcp_congestion_control={congestion}");
        for place in &Place::ALL[..if line { 5 } else { 4 }] {
            run("ip", &["netns", "add", &self.namespace(*place)])?;
            self.ip(*place, &["link", "set", "lo", "up"])?;
            // Thousands of connections a second between two addresses use up what there is of
            // ports until TIME_WAIT ends. Windows must hold what a long line does. What the kernel
            // remembers of a transfer's losses must not slow down the next one.
            let mut sysctl = vec!["sysctl", "-q", "-w"];
            sysctl.extend([
                "net.ipv4.ip_local_port_range=1024 65535",
                "net.ipv4.tcp_tw_reuse=1",
                "net.ipv4.tcp_no_metrics_save=1",
                "net.ipv4.tcp_rmem=4096 131072 33554432",
                "net.ipv4.tcp_wmem=4096 65536 33554432",
                &congestion,
            ]);
            self.run_in(*place, &sysctl)?;
        }
        for [(left, a), (right, b)] in &pairs {
            let (left, right) = (self.namespace(*left), self.namespace(*right));
            let pair = ["link", "add", a, "netns", &left, "type", "veth", "peer", "name", b];
            run("ip", &[&pair[..], &["netns", &right]].concat())?;
        }
        let mtu = mtu.to_string();
        for (place, interface) in pairs.into_iter().flatten() {
            let key = format!("net.ipv6.conf.{interface}.disable_ipv6=1");
            self.run_in(place, &["sysctl", "-q", "-w", &key])?;
            let mut off = vec![];
            if !offloads {
                off.extend(["tso", "off", "gso", "off", "gro", "off"]);
            }
            if ends == Ends::Dpdk || (line && !["svc0", "eth0"].contains(&interface)) {
                off.extend(["tx", "off"]);
            }
            if !off.is_empty() {
                self.run_in(place, &[&["ethtool", "-K", interface][..], &off].concat())?;
            }
            // veth leaves what arrives to the sender's CPU; a NIC's interrupt would not.
            let mask = 1u64 << if place == Place::A { cpus.a } else { cpus.rest };
            let steer = format!("echo {mask:x} >/sys/class/net/{interface}/queues/rx-0/rps_cpus");
            self.run_in(place, &["sh", "-c", &steer])?;
            self.ip(place, &["link", "set", interface, "mtu", &mtu, "up"])?;
        }
        self.ip(Place::Client, &["addr", "add", "10.1.0.2/24", "dev", "eth0"])?;
        self.ip(Place::Server, &["addr", "add", "10.2.0.2/24", "dev", "eth0"])?;
        if between == Between::SharedLine {
            self.ip(Place::Client, &["addr", "add", "10.3.0.1/24", "dev", "eth1"])?;
            let address = format!("{SERVER_BESIDE}/24");
            self.ip(Place::Server, &["addr", "add", &address, "dev", "eth1"])?;
        }
        if ends == Ends::Kernel {
            for (place, interface, address) in KERNEL_ENDS {
                self.ip(place, &["addr", "add", address, "dev", interface])?;
            }
        }
        Ok(())
    }

    pub fn links(&self) -> Links {
        self.links
    }

    /// Lets the kernel forward between client and server; needs [`Ends::Kernel`].
    ///
    /// # Errors
    /// As of [`Self::new`].
    pub fn forward(&self) -> anyhow::Result<()> {
        for (place, to, via) in [
            (Place::Client, "10.2.0.0/24", "10.1.0.1"),
            (Place::A, "10.2.0.0/24", "192.0.2.2"),
            (Place::B, "10.1.0.0/24", "192.0.2.1"),
            (Place::Server, "10.1.0.0/24", "10.2.0.1"),
        ] {
            self.ip(place, &["route", "add", to, "via", via])?;
        }
        for place in [Place::A, Place::B] {
            self.run_in(place, &["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])?;
        }
        Ok(())
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn namespace(&self, place: Place) -> String {
        format!("{}{}", self.prefix, place.suffix())
    }

    /// Runs `ip` in the namespace; stdout.
    ///
    /// # Errors
    /// It failed, with what it said.
    pub fn ip(&self, place: Place, args: &[&str]) -> anyhow::Result<String> {
        run("ip", &[&["-n", &self.namespace(place)][..], args].concat())
    }

    /// Runs a short command in the namespace; stdout.
    ///
    /// # Errors
    /// It failed, with what it said.
    pub fn run_in(&self, place: Place, command: &[&str]) -> anyhow::Result<String> {
        run("ip", &[&["netns", "exec", &self.namespace(place)][..], command].concat())
    }

    /// Starts a process in the namespace on one CPU; its output is in `NAME.log`.
    ///
    /// # Errors
    /// It does not start.
    pub fn spawn(
        &self,
        name: &str,
        place: Place,
        cpu: u16,
        command: &[&str],
    ) -> anyhow::Result<Process> {
        let enter = ["ip", "netns", "exec", &self.namespace(place)];
        Process::spawn(name, self.dir(), &enter, cpu, command, &self.interrupt)
    }

    /// Runs to the end and expects success; its output.
    ///
    /// # Errors
    /// It failed or took longer than `within`, with the end of its output.
    pub fn output(
        &self,
        name: &str,
        place: Place,
        cpu: u16,
        command: &[&str],
        within: Duration,
    ) -> anyhow::Result<String> {
        let mut process = self.spawn(name, place, cpu, command)?;
        let status = process.wait(within)?;
        ensure!(status.success(), "{name} ended with {status}:\n{}", process.last_lines());
        Ok(process.text())
    }

    /// Sleeps, unless interrupted.
    ///
    /// # Errors
    /// Interrupted.
    pub fn pause(&self, time: Duration) -> anyhow::Result<()> {
        thread::sleep(time);
        self.interrupt.check()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for place in Place::ALL {
            remove(&self.namespace(place));
        }
    }
}

/// Ends a namespace and what runs in it, if it is there.
fn remove(namespace: &str) {
    if !Path::new(NAMESPACES).join(namespace).exists() {
        return;
    }
    let pids = run("ip", &["netns", "pids", namespace]).unwrap_or_default();
    for pid in pids.split_whitespace() {
        // Gone since: as well.
        let _ = run("kill", &["-KILL", pid]);
    }
    if let Err(error) = run("ip", &["netns", "del", namespace]) {
        print_line(&format!("clgw-bench: namespace {namespace} is left: {error:#}"));
    }
}

/// Takes away namespaces and directories of runs that were killed.
pub fn remove_stale() {
    let stale = |dir: &Path| -> Vec<String> {
        let names = fs::read_dir(dir).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| owner(name).is_some_and(|pid| !is_alive(pid))).collect()
    };
    for namespace in stale(Path::new(NAMESPACES)) {
        print_line(&format!("clgw-bench: namespace {namespace} of a killed run is taken away"));
        remove(&namespace);
    }
    let temporary = std::env::temp_dir();
    for dir in stale(&temporary) {
        let _ = fs::remove_dir_all(temporary.join(dir));
    }
}

/// Id of the process that made a namespace or directory of this name.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_whose_they_are() {
        assert_eq!(owner("clgw-e17-client"), Some(17));
        for other in ["clgw-e-client", "clgw-demo-a", "clgw-exx-a", "clgw-e17"] {
            assert_eq!(owner(other), None, "{other}");
        }
        assert!(is_alive(std::process::id()));
    }
}
