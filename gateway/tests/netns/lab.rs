//! Four network namespaces joined by veth pairs, and processes in them.
//!
//!     client eth0 --- svc0 a wan0 --- wan0 b svc0 --- eth0 server
//!
//! or, with a fifth one for `clgw::sim::line`, `a wan0 --- left line right --- wan0 b`.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::endpoint;

/// One lab at a time in this process; the file lock does the same between processes.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// Names of namespaces and directories begin with this and the process id.
const PREFIX: &str = "clgw-t";
const POLL: Duration = Duration::from_millis(20);
/// Steps that set something up: slow only when the machine is.
const SETUP: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Client,
    SiteA,
    SiteB,
    Server,
    Line,
}

impl Place {
    const ALL: [Self; 5] = [Self::Client, Self::SiteA, Self::SiteB, Self::Server, Self::Line];

    fn suffix(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::SiteA => "a",
            Self::SiteB => "b",
            Self::Server => "server",
            Self::Line => "line",
        }
    }
}

#[derive(Debug)]
pub struct Lab {
    pub dir: TempDir,
    // Behind everything that needs it: fields are dropped in order.
    _turn: File,
    _guard: MutexGuard<'static, ()>,
}

impl Lab {
    /// Makes the namespaces. Panics with the reason if that does not go: a test that cannot run
    /// has failed.
    pub fn new() -> Self {
        Self::build(false)
    }

    /// The same with a place for a line process between the sites.
    pub fn with_line() -> Self {
        Self::build(true)
    }

    fn build(line: bool) -> Self {
        let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(
            run("id", &["-u"]).trim(),
            "0",
            "tests in namespaces must run as root: sudo -E cargo test, or sudo make test"
        );
        let turn = File::create(std::env::temp_dir().join("clgw-netns.lock")).unwrap();
        turn.lock().unwrap();
        remove_stale();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap();
        let lab = Self { dir, _turn: turn, _guard: guard };
        lab.connect(line);
        lab
    }

    fn connect(&self, with_line: bool) {
        let [client, a, b, server, line] = Place::ALL.map(|place| self.namespace(place));
        let names = [&client, &a, &b, &server, &line];
        for name in &names[..if with_line { 5 } else { 4 }] {
            run("ip", &["netns", "add", name]);
            run("ip", &["-n", name, "link", "set", "lo", "up"]);
        }
        let mut pairs = vec![("eth0", &client, "svc0", &a), ("svc0", &b, "eth0", &server)];
        // DPDK's ends.
        let mut gateways = vec![
            (Place::SiteA, "svc0"),
            (Place::SiteA, "wan0"),
            (Place::SiteB, "wan0"),
            (Place::SiteB, "svc0"),
        ];
        if with_line {
            pairs.extend([("wan0", &a, "left", &line), ("right", &line, "wan0", &b)]);
            gateways.extend([(Place::Line, "left"), (Place::Line, "right")]);
        } else {
            pairs.push(("wan0", &a, "wan0", &b));
        }
        for (left, in_left, right, in_right) in pairs {
            let args = ["link", "add", left, "netns", in_left, "type", "veth", "peer", "name"];
            run("ip", &[&args[..], &[right, "netns", in_right]].concat());
        }
        // The gateway is the host there: no address, and no answer of the kernel's own.
        for (place, interface) in gateways {
            let key = format!("net.ipv6.conf.{interface}.disable_ipv6=1");
            self.run_in(place, &["sysctl", "-q", "-w", &key]);
            self.up(place, interface);
        }
        for (place, v4, v6) in [
            (Place::Client, "10.1.0.2/24", "fd00:1::2/64"),
            (Place::Server, "10.2.0.2/24", "fd00:2::2/64"),
        ] {
            self.up(place, "eth0");
            self.ip(place, &["addr", "add", v4, "dev", "eth0"]);
            self.ip(place, &["addr", "add", v6, "dev", "eth0", "nodad"]);
        }
        self.ip(Place::Client, &["addr", "add", "10.1.0.3/24", "dev", "eth0"]);
    }

    fn up(&self, place: Place, interface: &str) {
        // af_packet cuts the segments that offloads make longer than a frame, without a word, and
        // passes on what the kernel leaves of a checksum for a card to complete.
        let off = ["tso", "off", "gso", "off", "gro", "off", "tx", "off"];
        self.run_in(place, &[&["ethtool", "-K", interface][..], &off].concat());
        self.ip(place, &["link", "set", interface, "up"]);
    }

    pub fn namespace(&self, place: Place) -> String {
        format!("{PREFIX}{}-{}", std::process::id(), place.suffix())
    }

    /// Runs `ip` in the namespace.
    pub fn ip(&self, place: Place, args: &[&str]) -> String {
        run("ip", &[&["-n", &self.namespace(place)][..], args].concat())
    }

    /// Runs a command in the namespace and expects success. Returns its stdout.
    pub fn run_in(&self, place: Place, command: &[&str]) -> String {
        run("ip", &[&["netns", "exec", &self.namespace(place)][..], command].concat())
    }

    /// Connections of the client come from this address, one of its own, from now on.
    pub fn client_is(&self, address: &str) {
        let route = ["route", "replace", "10.1.0.0/24", "dev", "eth0", "src", address];
        self.ip(Place::Client, &route);
    }

    /// Starts a process in the namespace, with its output in `NAME.log`.
    pub fn spawn(&self, name: &str, place: Place, command: &[&str]) -> Process {
        self.spawn_with(name, place, command, &[])
    }

    pub fn spawn_with(
        &self,
        name: &str,
        place: Place,
        command: &[&str],
        environment: &[(&str, &str)],
    ) -> Process {
        let log = self.dir.path().join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        // Every step replaces the one before, so that the child is the command itself; and the
        // kernel kills it should this process die without cleaning up.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.namespace(place)])
            .args(command)
            .envs(environment.iter().copied())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Process { name: name.to_owned(), child, log, ended: None }
    }

    /// Starts a role of [`endpoint`].
    pub fn endpoint(&self, name: &str, place: Place, role: &str) -> Process {
        let (command, (key, value)) = endpoint::command(role);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        self.spawn_with(name, place, &command, &[(&key, &value)])
    }

    /// A server role, when it listens.
    pub fn server(&self, name: &str, role: &str) -> Process {
        let mut process = self.endpoint(name, Place::Server, role);
        process.wait_for("listening", SETUP);
        process
    }

    /// Runs a client role to its end; panics with what it said if it did not go well.
    pub fn client(&self, role: &str, within: Duration) -> String {
        let mut process = self.endpoint("client", Place::Client, role);
        let status = process.wait(within);
        assert!(status.success(), "client {role:?} ended with {status}:\n{}", process.text());
        process.text()
    }

    /// How a connection to the address goes, in a word, and the milliseconds until then.
    pub fn attempt(&self, address: &str) -> (String, u64) {
        let text = self.client(&format!("try {address}"), Duration::from_secs(60));
        let line = text.lines().rev().find(|line| line.ends_with(" ms")).expect("an outcome");
        let words: Vec<&str> = line.rsplitn(4, ' ').collect();
        (words[2].to_owned(), words[1].parse().expect("milliseconds"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for place in Place::ALL {
            remove(&self.namespace(place));
        }
    }
}

/// Runs to the end, expects success, returns stdout.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program} does not start: {error}; .ci/packages installs what tests need")
    });
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}: {error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn remove(namespace: &str) {
    let quiet = |args: &[&str]| {
        Command::new("ip").args(args).stderr(Stdio::null()).output().map(|o| o.stdout)
    };
    if !Path::new("/run/netns").join(namespace).exists() {
        return;
    }
    for pid in String::from_utf8_lossy(&quiet(&["netns", "pids", namespace]).unwrap_or_default())
        .split_whitespace()
    {
        // Only what runs inside a namespace of ours, each by its id.
        let _ = Command::new("kill").args(["-KILL", pid]).status();
    }
    let _ = quiet(&["netns", "del", namespace]);
}

/// Namespaces and directories of test processes that were killed.
fn remove_stale() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    let abandoned = |name: &str| {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
        owner.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists())
    };
    let names = |entries: fs::ReadDir| {
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).filter(|n| abandoned(n))
    };
    names(entries).for_each(|name| remove(&name));
    for name in fs::read_dir(std::env::temp_dir()).into_iter().flat_map(names) {
        let _ = fs::remove_dir_all(std::env::temp_dir().join(name));
    }
}

/// Looks again and again until `done` gives something; panics with `what` when time is over.
pub fn eventually<T>(what: &str, within: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + within;
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(Instant::now() < until, "{what}: not within {within:?}");
        thread::sleep(POLL);
    }
}

/// A process in a namespace; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// What it has written so far.
    pub fn text(&self) -> String {
        let mut bytes = Vec::new();
        File::open(&self.log).and_then(|mut file| file.read_to_end(&mut bytes)).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The first line with all these words, None if there is none yet.
    pub fn line_with(&self, words: &[&str]) -> Option<String> {
        let text = self.text();
        text.lines().find(|line| words.iter().all(|w| line.contains(w))).map(str::to_owned)
    }

    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended.is_none()
    }

    /// Waits until a line contains `text`; panics if the process ends before or time is over.
    pub fn wait_for(&mut self, text: &str, within: Duration) -> String {
        self.wait_for_all(&[text], within)
    }

    /// The same for a line that contains all of `words`.
    pub fn wait_for_all(&mut self, words: &[&str], within: Duration) -> String {
        let what = format!("{}: a line with {words:?}", self.name);
        eventually(&what, within, || {
            // In this order: what it wrote before its end counts.
            let running = self.is_running();
            let found = self.line_with(words);
            assert!(running || found.is_some(), "{} ended without {words:?}", self.name);
            found
        })
    }

    /// Sends a signal, by name.
    pub fn signal(&self, name: &str) {
        run("kill", &[&format!("-{name}"), &self.child.id().to_string()]);
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("end of {}", self.name);
        eventually(&what, within, || {
            self.is_running();
            self.ended
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let text = self.text();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(25)..];
            eprintln!("--- last lines of {} ({:?})\n{}", self.name, self.ended, last.join("\n"));
        }
    }
}
