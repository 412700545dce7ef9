//! Where and on what a measurement was made. Without it a figure means nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use ring::digest;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Flags of CPUs that decide which AES-GCM runs, of x86 and of Arm.
const CRYPTO_FLAGS: [&str; 8] =
    ["aes", "vaes", "pclmulqdq", "vpclmulqdq", "avx2", "avx512f", "pmull", "sha2"];

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// What this program was built from; `None` where it was built without git.
    pub commit: Option<String>,
    /// Whether its sources differed from that commit.
    #[serde(default)]
    pub changed: bool,
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
    /// Bytes; 0 where the kernel does not tell.
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
            commit: Some(env!("CLGW_BENCH_COMMIT"))
                .filter(|commit| *commit != "unknown")
                .map(str::to_owned),
            changed: env!("CLGW_BENCH_CHANGED") == "true",
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
            memory: meminfo("MemTotal").unwrap_or_default(),
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

    /// The commit, and whether that is all.
    pub fn source(&self) -> String {
        let commit = self.commit.as_deref().unwrap_or("unknown");
        format!("{commit}{}", if self.changed { ", changed" } else { "" })
    }

    /// Heads and texts for the top of a report.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let started = self.started.replace_nanosecond(0).unwrap_or(self.started);
        vec![
            ("command", self.command.clone()),
            ("commit", self.source()),
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

/// What a measured program says of itself, and which file it is: the same version may have been
/// built from many commits.
///
/// # Errors
/// It cannot be read or started, or does not know `--version`.
pub fn program(path: &Path) -> anyhow::Result<String> {
    let name = path.display().to_string();
    let said = crate::lab::run_program(&name, &["--version"])?;
    let file = fs::read(path).with_context(|| format!("{name}: cannot be read"))?;
    let digest = digest::digest(&digest::SHA256, &file);
    let mut text = format!("{}, SHA-256 ", said.lines().next().unwrap_or_default().trim());
    for byte in &digest.as_ref()[..6] {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
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

/// A line of /proc/meminfo, bytes.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn meminfo(key: &str) -> anyhow::Result<u64> {
    memory(&read("/proc/meminfo"), key).with_context(|| format!("/proc/meminfo has no {key}"))
}

fn memory(meminfo: &str, key: &str) -> Option<u64> {
    let mut lines = meminfo.lines().filter_map(|line| line.split_once(':'));
    let (_, rest) = lines.find(|(head, _)| *head == key)?;
    let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
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
        let text = "MemTotal:       24684084 kB\nMemFree: 1 kB\n";
        assert_eq!(memory(text, "MemTotal"), Some(24_684_084 * 1024));
        assert_eq!(memory(text, "MemFree"), Some(1024));
        assert_eq!(memory(text, "Mem"), None);
        assert_eq!(memory("MemTotal: much", "MemTotal"), None);
        assert!(meminfo("MemAvailable").unwrap() > 1 << 20);
        assert!(meminfo("Mem").unwrap_err().to_string().ends_with("has no Mem"));
    }

    #[test]
    fn a_program_is_known_by_its_version_and_its_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gateway");
        fs::write(&file, "#!/bin/sh\necho gateway 1.2.3 \"$1\"\n").unwrap();
        assert!(program(&file).is_err(), "not executable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(program(&file).unwrap(), "gateway 1.2.3 --version, SHA-256 0b828d3a8056");
        fs::write(&file, "#!/bin/sh\nexit 1\n").unwrap();
        assert!(program(&file).unwrap_err().to_string().contains("exit status: 1"));
    }
}
