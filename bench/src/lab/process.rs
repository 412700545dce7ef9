//! Processes in namespaces, and short commands.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::usage::open_files_limit;
use crate::interrupt::Interrupt;

/// Rare enough not to disturb what is measured on the same CPU.
pub(super) const POLL: Duration = Duration::from_millis(20);
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Lines of a log that an error shows.
const LOG_LINES: usize = 15;
/// Where programs of administrators are when PATH lacks them.
const ADMIN_PATH: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

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
    /// Starts a command on one CPU, `enter` in front of it; its output is in `NAME.log` of `dir`.
    ///
    /// # Errors
    /// It does not start, or interrupted.
    pub fn spawn(
        name: &str,
        dir: &Path,
        enter: &[&str],
        cpu: u16,
        command: &[&str],
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        interrupt.check()?;
        let files = open_files_limit()?;
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        // Each program replaces the one before, so that the child is the command itself; and the
        // kernel kills it should this process die without cleaning up.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(enter)
            .args(["prlimit", &format!("--nofile={files}:{files}")])
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
        let name = name.to_owned();
        Ok(Self { name, child, log, ended: None, interrupt: interrupt.clone() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

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

    /// Sends it a signal: `-TERM`.
    ///
    /// # Errors
    /// It had ended before.
    pub fn signal(&mut self, signal: &str) -> anyhow::Result<()> {
        ensure!(self.is_running(), "{} had ended already\n{}", self.name, self.last_lines());
        run("kill", &[signal, &self.child.id().to_string()]).map(|_| ())
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    /// It had ended before, or does not end in time (then dropping kills it).
    pub fn stop(mut self) -> anyhow::Result<ExitStatus> {
        self.signal("-TERM")?;
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
    ensure!(effective == Some("0"), "network namespaces are made, which takes root: use sudo");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
