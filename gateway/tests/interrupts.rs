//! `workers.idle: interrupt` on a device that has receive interrupts, virtio-user, whose other end is
//! net_vhost in this process; and on one that has none.
#![forbid(unsafe_code)]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clgw::sim::probe::Probe;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
/// Questions, each after a lull in which sleeps grow to their longest.
const QUESTIONS: u32 = 20;
const LULL: Duration = Duration::from_millis(110);

/// A gateway on one device, with its log.
struct Gateway {
    process: Child,
    dir: TempDir,
}

impl Gateway {
    fn start(dir: TempDir, device: &str) -> Self {
        let path = dir.path().display().to_string();
        clgw(&["create", "fabric", "--name", "fabric", "--path", &path]);
        clgw(&["create", "peer-cert", "--name", "site-a", "--fabric", "fabric", "--path", &path]);
        let home = dir.path().join("fabric/site-a");
        fs::create_dir(home.join("objects")).unwrap();
        let config = format!(
            "peer: {{ name: site-a }}\n\
             tls: {{ ca: ../cert.pem, cert: cert.pem, key: key.pem }}\n\
             workers: {{ idle: interrupt }}\n\
             eal: {{ hugepages: off, memory_mib: 64 }}\n\
             ports:\n\
             - {{ name: wan0, device: \"{device}\", side: both, addresses: [10.1.0.1/24] }}\n",
        );
        let file = home.join("gateway.yaml");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_clgw"))
            .args(["run", "--config"])
            .arg(file)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, dir }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// The part of the log behind `text`, once it is there.
    fn wait_for(&mut self, text: &str) -> String {
        let what = format!("{text:?} in the log");
        eventually(&what, || {
            let running = self.process.try_wait().unwrap().is_none();
            let log = self.log();
            // A line that is not yet written to its end does not count.
            let whole = log.rfind('\n').map_or("", |end| &log[..end]);
            let found = whole.split_once(text).map(|(_, behind)| behind.to_owned());
            assert!(running || found.is_some(), "ended without {text:?}:\n{log}");
            found
        })
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        eventually("the gateway's end", || self.process.try_wait().unwrap()).code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn clgw(args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_clgw")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(2));
    }
}

/// A number of the log, behind its name.
fn number(log: &str, name: &str) -> f64 {
    let (_, rest) = log.split_once(name).unwrap_or_else(|| panic!("no {name} in {log}"));
    let digits = rest.trim_start_matches(['\\', '"', ':', '=']);
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_else(|_| panic!("{name} is no number in {log}"))
}

#[test]
fn frames_wake_a_gateway_that_sleeps() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vhost");
    let [us, gateway] = ["10.1.0.2", "10.1.0.1"].map(|ip| ip.parse().unwrap());
    let mut probe = Probe::listen(&socket, us, gateway).unwrap();
    let device = format!("net_virtio_user0,queues=1,cq=1,path={}", socket.display());
    let mut gateway = Gateway::start(dir, &device);
    gateway.wait_for(" ready ");
    eventually("the first answer", || {
        probe.ask();
        sleep(Duration::from_millis(10));
        probe.is_answered().then_some(())
    });
    gateway.signal("-USR1");
    let before = gateway.wait_for(" stats ");
    for _ in 0..QUESTIONS {
        sleep(LULL);
        assert!(probe.ask());
        eventually("an answer", || probe.is_answered().then_some(()));
    }
    gateway.signal("-USR1");
    let mut after = String::new();
    eventually("more counters", || {
        after = gateway.wait_for(" stats ").rsplit_once(" stats ")?.1.to_owned();
        Some(())
    });
    let grown = |name| number(&after, name) - number(&before, name);
    // Nearly all come while it sleeps, and end that.
    assert!(grown("sleeps_interrupted") >= f64::from(QUESTIONS / 2), "{after}");
    // Some 35 in each lull. Those that no frame ends are shorter: 200.
    assert!(grown("sleeps") < f64::from(QUESTIONS * 100), "{after}");
    assert!(number(&after, "asleep_percent") > 50.0, "{after}");
    assert!(number(&after, "busy_percent") < 50.0, "{after}");
    gateway.signal("-TERM");
    assert_eq!(gateway.exit_code(), Some(0), "{}", gateway.log());
}

#[test]
fn a_device_without_interrupts_is_refused_with_its_name_and_what_to_do() {
    let mut gateway = Gateway::start(tempfile::tempdir().unwrap(), "net_null0");
    assert_eq!(gateway.exit_code(), Some(4));
    let log = gateway.log();
    for word in ["port wan0", "net_null0", "receive interrupts", "workers.idle", "sleep", "poll"] {
        assert!(log.contains(word), "{word}: {log}");
    }
}
