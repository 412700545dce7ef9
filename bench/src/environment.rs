//! Where and on what a measurement was made. Without it a figure means nothing.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// Of the checkout in the current directory; `None` outside of one. `+` marks changed files.
    pub commit: Option<String>,
    pub command: String,
    pub cpu: String,
    pub cpus: usize,
    pub kernel: String,
    pub dpdk: String,
    /// Over one minute, at the start: other work on the machine.
    pub load_before: f64,
    /// Rate of the time stamp counter, Hz.
    pub tsc_hz: f64,
    pub profile: String,
}

impl Environment {
    pub fn capture() -> Self {
        Self {
            commit: commit(),
            command: std::env::args()
                .enumerate()
                .map(|(n, arg)| if n == 0 { "clgw-bench".to_owned() } else { arg })
                .collect::<Vec<_>>()
                .join(" "),
            cpu: cpu_model(&read("/proc/cpuinfo")),
            cpus: Self::cpus().into(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            dpdk: dpdk_bindings::Eal::version(),
            load_before: load(),
            tsc_hz: crate::tsc::calibrate(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        }
    }

    /// CPUs of the machine, also while this thread is bound to one of them.
    pub fn cpus() -> u16 {
        let online = read("/sys/devices/system/cpu/online");
        let last = online.trim().rsplit([',', '-']).next().and_then(|n| n.parse::<u16>().ok());
        last.map_or(1, |n| n + 1)
    }

    /// Lines for the top of a table.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("command   {}", self.command),
            format!("commit    {}", self.commit.as_deref().unwrap_or("not in a git checkout")),
            format!("CPU       {} x {}, TSC {:.0} MHz", self.cpus, self.cpu, self.tsc_hz / 1e6),
            format!("kernel    {}   {}", self.kernel, self.dpdk),
            format!("load      {:.2} before", self.load_before),
        ];
        if self.profile == "debug" {
            lines.push("WARNING   a debug build: these figures say nothing".to_owned());
        }
        lines
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?.trim().to_owned();
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.trim().is_empty() { commit } else { commit + "+" })
}

fn cpu_model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|rest| rest.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned())
}

/// Load over the last minute; 0 where the kernel does not tell.
fn load() -> f64 {
    read("/proc/loadavg").split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_named() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t: a b\n";
        assert_eq!(cpu_model(text), "Some CPU @ 3 GHz");
        assert_eq!(cpu_model("processor : 0\n"), std::env::consts::ARCH);
    }
}
