//! A gateway's process: started on one CPU, asked for its counters, ended.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::netns::run;

const LOOK: Duration = Duration::from_millis(2);
/// Until the counters that were asked for are in the log.
const ANSWER: Duration = Duration::from_secs(5);
/// Lines of a log that an error shows.
const LOG_LINES: usize = 15;
/// What the log has to say, and not a line for each connection.
const FILTER: &str = "warn,clgw::control=info,clgw::control::journal=off";
const COUNTERS: &str = " counters=";

/// Killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    name: &'static str,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

/// Counters of a gateway with one worker.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    pub at: Instant,
    /// Of the turns that found work.
    pub busy_nanos: u64,
    /// That the worker's thread was on its CPU.
    pub cpu_nanos: u64,
    /// Payload sealed into tunnels and delivered from them, bytes.
    pub payload: u64,
    pub clients_accepted: u64,
}

impl Gateway {
    /// # Errors
    /// It does not start.
    pub fn start(
        name: &'static str,
        program: &Path,
        cpu: u16,
        config: &Path,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        // Each program replaces the one before; the kernel kills the last one should this process
        // die without cleaning up.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "-c", &cpu.to_string()])
            .arg(program)
            .args(["run", "--config"])
            .arg(config)
            .env("RUST_LOG", FILTER)
            // Ctrl-C is for this process, which then ends its children in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("log file")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{name}: setpriv does not start; install util-linux"))?;
        Ok(Self { name, child, log, ended: None })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of its log, for errors.
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

    /// # Errors
    /// It ended, or `within` passed.
    pub fn wait_until_ready(
        &mut self,
        within: Duration,
        interrupt: &AtomicBool,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        while !self.text().contains(" ready ") {
            ensure!(!interrupt.load(Ordering::Relaxed), "interrupted");
            let running = self.is_running() && Instant::now() < until;
            ensure!(running, "{} does not get ready\n{}", self.name, self.last_lines());
            thread::sleep(10 * LOOK);
        }
        Ok(())
    }

    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        run("kill", &[signal, &self.child.id().to_string()]).map(|_| ())
    }

    /// Asks for the counters by SIGUSR1 and waits for them.
    ///
    /// # Errors
    /// It ended, or does not answer.
    pub fn counters(&mut self) -> anyhow::Result<Counters> {
        let before = self.text().matches(COUNTERS).count();
        let at = Instant::now();
        self.signal("-USR1")?;
        while at.elapsed() < ANSWER {
            let text = self.text();
            let line = text.lines().filter(|line| line.contains(COUNTERS)).nth(before);
            // A line that is only half there does not parse.
            if let Some(counters) = line.and_then(|line| parse(line, at)) {
                return Ok(Counters { cpu_nanos: self.worker_nanos()?, ..counters });
            }
            ensure!(self.is_running(), "{} ended\n{}", self.name, self.last_lines());
            thread::sleep(LOOK);
        }
        bail!("{} does not tell its counters\n{}", self.name, self.last_lines())
    }

    /// Time of the worker's thread on its CPU so far (first field of its schedstat).
    fn worker_nanos(&self) -> anyhow::Result<u64> {
        let tasks = format!("/proc/{}/task", self.child.id());
        for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
            let task = task.context("its threads")?.path();
            if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "worker-0") {
                let file = task.join("schedstat");
                let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                let nanos = text.split_whitespace().next().and_then(|n| n.parse().ok());
                return nanos.with_context(|| format!("{}: {text:?}", file.display()));
            }
        }
        bail!("{tasks}: no thread of {} is named worker-0", self.name)
    }

    /// # Errors
    /// It cannot be told.
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        self.signal("-TERM")
    }

    /// # Errors
    /// It does not end.
    pub fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let until = Instant::now() + within;
        while self.is_running() {
            ensure!(Instant::now() < until, "{} does not end", self.name);
            thread::sleep(10 * LOOK);
        }
        self.ended.context("ended")
    }
}

fn parse(line: &str, at: Instant) -> Option<Counters> {
    let (_, json) = line.split_once(COUNTERS)?;
    let json: Value = serde_json::from_str(json.trim()).ok()?;
    let number = |name| json[name].as_u64();
    Some(Counters {
        at,
        busy_nanos: number("busy_nanos")?,
        cpu_nanos: 0,
        payload: number("bytes_to_peer")? + number("bytes_from_peer")?,
        clients_accepted: number("clients_accepted")?,
    })
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_counters_are_read_from_its_log() {
        let at = Instant::now();
        let line = "2026-01-01T00:00:00Z  INFO clgw::control: stats worker=0 counters={\"rx_frames\"\
                    :5,\"busy_nanos\":7,\"bytes_to_peer\":40,\"bytes_from_peer\":2,\
                    \"clients_accepted\":3}";
        let counters = parse(line, at).unwrap();
        assert_eq!((counters.busy_nanos, counters.payload), (7, 42));
        assert_eq!(counters.clients_accepted, 3);
        assert!(parse(&line[..line.len() - 1], at).is_none(), "half a line");
    }
}
