//! Where and on what a measurement was made. Without it a figure means nothing.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Flags of CPUs that decide which AES-GCM runs, of x86 and of Arm.
const CRYPTO_FLAGS: [&str; 8] =
    ["aes", "vaes", "pclmulqdq", "vpclmulqdq", "avx2", "avx512f", "pmull", "sha2"];

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// Of the checkout in the current directory; `None` outside of one. `+` marks changed files.
    pub commit: Option<String>,
    pub command: String,
    /// UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// Of the whole run, seconds.
    pub duration: f64,
    pub cpu: String,
    pub cpus: usize,
    /// Those that decide how fast AES-GCM is.
    pub cpu_flags: Vec<String>,
    /// Whether the CPU says that it is a hypervisor's.
    pub virtual_machine: bool,
    /// Bytes.
    pub memory: u64,
    pub kernel: String,
    pub dpdk: String,
    /// Over one minute, at the start: other work on the machine.
    pub load_before: f64,
    /// The same at the end; the measurement itself is in it.
    pub load_after: f64,
    /// Rate of the time stamp counter, Hz.
    pub tsc_hz: f64,
    pub profile: String,
    /// Version of the compiler, and flags given to it.
    pub rustc: String,
}

impl Environment {
    pub fn capture() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let flags = cpu_flags(&cpuinfo);
        Self {
            commit: commit(),
            command: std::env::args()
                .enumerate()
                .map(|(n, arg)| if n == 0 { "clgw-bench".to_owned() } else { arg })
                .collect::<Vec<_>>()
                .join(" "),
            started: OffsetDateTime::now_utc(),
            duration: 0.0,
            cpu: cpu_model(&cpuinfo),
            cpus: Self::cpus().into(),
            virtual_machine: flags.contains(&"hypervisor"),
            cpu_flags: CRYPTO_FLAGS
                .into_iter()
                .filter(|flag| flags.contains(flag))
                .map(str::to_owned)
                .collect(),
            memory: memory(&read("/proc/meminfo")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            dpdk: dpdk_bindings::Eal::version(),
            load_before: load(),
            load_after: 0.0,
            tsc_hz: crate::tsc::calibrate(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            rustc: env!("CLGW_BENCH_RUSTC").to_owned(),
        }
    }

    /// To be called after the last measurement.
    pub fn finish(&mut self) {
        self.duration = (OffsetDateTime::now_utc() - self.started).as_seconds_f64();
        self.load_after = load();
    }

    /// CPUs of the machine, also while this thread is bound to one of them.
    pub fn cpus() -> u16 {
        let online = read("/sys/devices/system/cpu/online");
        let last = online.trim().rsplit([',', '-']).next().and_then(|n| n.parse::<u16>().ok());
        last.map_or(1, |n| n + 1)
    }

    /// Heads and texts for the top of a report.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let started = self.started.replace_nanosecond(0).unwrap_or(self.started);
        vec![
            ("command", self.command.clone()),
            ("commit", self.commit.clone().unwrap_or_else(|| "not in a git checkout".to_owned())),
            (
                "started",
                format!(
                    "{}, took {:.0} s",
                    started.format(&Rfc3339).unwrap_or_default(),
                    self.duration
                ),
            ),
            ("CPU", format!("{} x {}", self.cpus, self.cpu)),
            ("CPU flags", self.cpu_flags.join(" ")),
            ("TSC", format!("{:.0} MHz", self.tsc_hz / 1e6)),
            (
                "machine",
                format!(
                    "{}, memory {:.1} GiB",
                    if self.virtual_machine { "virtual" } else { "no hypervisor reported" },
                    self.memory as f64 / f64::from(1 << 30)
                ),
            ),
            ("kernel", self.kernel.clone()),
            ("DPDK", self.dpdk.clone()),
            ("compiler", format!("{}, {}", self.rustc, self.profile)),
            ("load", format!("{:.2} before, {:.2} after", self.load_before, self.load_after)),
        ]
    }

    /// What makes the figures worthless.
    pub fn warning(&self) -> Option<&'static str> {
        (self.profile == "debug").then_some("a debug build: these figures say nothing")
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

fn cpu_flags(cpuinfo: &str) -> Vec<&str> {
    // "flags" on x86, "Features" on Arm.
    let line =
        cpuinfo.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    line.and_then(|line| line.split_once(':'))
        .map_or_else(Vec::new, |(_, flags)| flags.split_whitespace().collect())
}

/// In bytes; 0 where the kernel does not tell.
fn memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib =
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
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
        assert_eq!(cpu_flags(text), ["a", "b"]);
        assert_eq!(cpu_flags("Features : aes pmull\n"), ["aes", "pmull"]);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(memory("MemTotal:       24684084 kB\nMemFree: 1 kB\n"), 24_684_084 * 1024);
        assert_eq!(memory(""), 0);
    }
}
