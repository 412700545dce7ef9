//! Four network namespaces joined by veth pairs, and processes in them:
//!
//!     client eth0 --- svc0 a wan0 --- wan0 b svc0 --- eth0 server
//!
//! Everything is taken away again when its value is dropped; SIGINT and SIGTERM end every wait
//! with an error, so that values are dropped then, too.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::interrupt::Interrupt;

/// Names of namespaces and directories begin with this and the process id.
const PREFIX: &str = "clgw-e";
/// Rare enough not to disturb what is measured on the same CPU.
const POLL: Duration = Duration::from_millis(20);
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Lines of a log that an error shows.
const LOG_LINES: usize = 15;
/// USER_HZ: the unit of CPU times in /proc (proc_pid_stat(5)), 100 on all 64-bit machines DPDK
/// runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// Where programs of administrators are when PATH lacks them.
const ADMIN_PATH: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Client,
    A,
    B,
    Server,
}

impl Place {
    const ALL: [Self; 4] = [Self::Client, Self::A, Self::B, Self::Server];

    fn suffix(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::A => "a",
            Self::B => "b",
            Self::Server => "server",
        }
    }
}

/// Both ends of the three veth pairs.
const PAIRS: [[(Place, &str); 2]; 3] = [
    [(Place::Client, "eth0"), (Place::A, "svc0")],
    [(Place::A, "wan0"), (Place::B, "wan0")],
    [(Place::B, "svc0"), (Place::Server, "eth0")],
];
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

#[derive(Debug)]
pub struct Net {
    dir: TempDir,
    prefix: String,
    interrupt: Interrupt,
}

impl Net {
    /// Makes the namespaces and links with hosts' addresses 10.1.0.2 and 10.2.0.2, MTU 1500.
    ///
    /// # Errors
    /// A step of `ip`, `sysctl` or `ethtool` failed, with what it said.
    pub fn new(ends: Ends, offloads: bool, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir()
            .context("no temporary directory; make room or set TMPDIR")?;
        let net = Self { dir, prefix, interrupt: interrupt.clone() };
        net.connect(ends, offloads)?;
        Ok(net)
    }

    fn connect(&self, ends: Ends, offloads: bool) -> anyhow::Result<()> {
        for place in Place::ALL {
            run("ip", &["netns", "add", &self.namespace(place)])?;
            self.ip(place, &["link", "set", "lo", "up"])?;
            // Thousands of connections a second between two addresses use up what there is of
            // ports until TIME_WAIT ends.
            let ports = "net.ipv4.ip_local_port_range=1024 65535";
            self.run_in(place, &["sysctl", "-q", "-w", ports, "net.ipv4.tcp_tw_reuse=1"])?;
        }
        for [(left, a), (right, b)] in PAIRS {
            let (left, right) = (self.namespace(left), self.namespace(right));
            let pair = ["link", "add", a, "netns", &left, "type", "veth", "peer", "name", b];
            run("ip", &[&pair[..], &["netns", &right]].concat())?;
        }
        for (place, interface) in PAIRS.into_iter().flatten() {
            let key = format!("net.ipv6.conf.{interface}.disable_ipv6=1");
            self.run_in(place, &["sysctl", "-q", "-w", &key])?;
            let mut off = vec![];
            if !offloads {
                off.extend(["tso", "off", "gso", "off", "gro", "off"]);
            }
            if ends == Ends::Dpdk {
                off.extend(["tx", "off"]);
            }
            if !off.is_empty() {
                self.run_in(place, &[&["ethtool", "-K", interface][..], &off].concat())?;
            }
            self.ip(place, &["link", "set", interface, "mtu", "1500", "up"])?;
        }
        self.ip(Place::Client, &["addr", "add", "10.1.0.2/24", "dev", "eth0"])?;
        self.ip(Place::Server, &["addr", "add", "10.2.0.2/24", "dev", "eth0"])?;
        if ends == Ends::Kernel {
            for (place, interface, address) in KERNEL_ENDS {
                self.ip(place, &["addr", "add", address, "dev", interface])?;
            }
        }
        Ok(())
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
        self.interrupt.check()?;
        let log = self.dir().join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        // Each program replaces the one before, so that the child is the command itself; and the
        // kernel kills it should this process die without cleaning up.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.namespace(place)])
            .args(["taskset", "-c", &cpu.to_string()])
            .args(command)
            .env_remove("RUST_LOG")
            // Ctrl-C is for this process, which then ends its children in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("log file")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        let interrupt = self.interrupt.clone();
        Ok(Process { name: name.to_owned(), child, log, ended: None, interrupt })
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
            let name = self.namespace(place);
            if !Path::new("/run/netns").join(&name).exists() {
                continue;
            }
            let pids = run("ip", &["netns", "pids", &name]).unwrap_or_default();
            for pid in pids.split_whitespace() {
                // Gone since: as well.
                let _ = run("kill", &["-KILL", pid]);
            }
            if let Err(error) = run("ip", &["netns", "del", &name]) {
                eprintln!("clgw-bench: namespace {name} is left: {error:#}");
            }
        }
    }
}

/// A process in a namespace; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
    interrupt: Interrupt,
}

impl Process {
    /// What it has written so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of what it has written.
    pub fn last_lines(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("--- last lines of {}\n{}", self.name, last.join("\n"))
    }

    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    /// CPU seconds of all its threads so far, user and system (proc_pid_stat(5)).
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let file = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(&file)
            .with_context(|| format!("{file}: {} ended\n{}", self.name, self.last_lines()))?;
        cpu_seconds(&stat).with_context(|| format!("{file}: no CPU times in {stat:?}"))
    }

    /// Waits until it has written `text`.
    ///
    /// # Errors
    /// It ended before, or took too long, with its last lines; or interrupted.
    pub fn wait_for(&mut self, text: &str, within: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        loop {
            // In this order: what it wrote before its end counts.
            let running = self.is_running();
            if self.text().contains(text) {
                return Ok(());
            }
            ensure!(running, "{} ended without {text:?}\n{}", self.name, self.last_lines());
            self.tick(until, within)?;
        }
    }

    /// Waits for its end; kills it when that takes too long.
    ///
    /// # Errors
    /// It took too long, or interrupted.
    pub fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let until = Instant::now() + within;
        while self.is_running() {
            self.tick(until, within)?;
        }
        self.ended.context("ended without a status")
    }

    fn tick(&self, until: Instant, within: Duration) -> anyhow::Result<()> {
        if Instant::now() >= until {
            bail!("{}: not within {} s\n{}", self.name, within.as_secs(), self.last_lines());
        }
        thread::sleep(POLL);
        self.interrupt.check()
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    /// It had ended before, or does not end in time (then dropping kills it).
    pub fn stop(mut self) -> anyhow::Result<ExitStatus> {
        ensure!(self.is_running(), "{} had ended already\n{}", self.name, self.last_lines());
        run("kill", &["-TERM", &self.child.id().to_string()])?;
        self.wait(GRACE)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// utime + stime; the name in front of them may hold blanks and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    // The state is field 3; utime and stime are 14 and 15.
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// Runs to the end, expects success, returns stdout.
///
/// # Errors
/// It does not start or fails, with what it said.
pub fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(args)
        .process_group(0)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} does not start; install it"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {}: {}: {}",
        args.join(" "),
        output.status,
        error.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The file of a program, in PATH or where administrators' programs are.
///
/// # Errors
/// There is none; names the Debian package that has it.
pub fn program(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(ADMIN_PATH.map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    found.with_context(|| format!("there is no {name}: apt-get install {package}"))
}

/// # Errors
/// This process may not make namespaces.
pub fn ensure_root() -> anyhow::Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // Real, effective, saved, file system.
    let effective = uid.and_then(|ids| ids.split_whitespace().nth(1));
    ensure!(
        effective == Some("0"),
        "e2e makes network namespaces and must run as root: sudo clgw-bench e2e"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_behind_any_name() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 9 0 0 0 150 25 7 8 20 0 1 0 5 6 7";
        assert_eq!(cpu_seconds(stat), Some(1.75));
        assert_eq!(cpu_seconds("77 (a) S 1"), None);
    }

    #[test]
    fn a_missing_program_names_its_package() {
        assert!(program("sh", "dash").unwrap().is_file());
        let error = program("clgw-no-such-program", "some-package").unwrap_err().to_string();
        assert!(error.ends_with("apt-get install some-package"), "{error}");
    }

    #[test]
    fn a_command_says_why_it_failed() {
        assert_eq!(run("echo", &["a", "b"]).unwrap(), "a b\n");
        let error = run("sh", &["-c", "echo because >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("because"), "{error}");
    }
}
