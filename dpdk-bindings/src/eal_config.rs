//! EAL's options as types, and the checks that must come before `rte_eal_init`.
//!
//! EAL answers some bad options by printing its usage, by exiting (`--help`) or by aborting (a CPU
//! the kernel refuses), and a failed start cannot be repeated in the same process. So everything
//! that can be checked is checked here first.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{DpdkError, c_string, errno};

const CHECK: &str = "check EAL option";

/// Which lcores exist and where they run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LcoreMap {
    /// One lcore (id 0) for the calling thread, on all CPUs the thread may use now. Worker threads
    /// are started by the application and join with [`Eal::register_thread`](crate::Eal).
    #[default]
    Auto,
    /// Pairs of (lcore id, CPU). The lowest id is the calling thread; for each other one EAL starts
    /// a thread that sleeps until it is given work.
    Map(Vec<(u16, u16)>),
}

/// Where packet memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HugePages {
    /// Huge pages. `in_memory` leaves no files behind and needs no hugetlbfs mount; without it other
    /// processes can attach, and the file prefix must be unique on the host.
    Use { in_memory: bool },
    /// Ordinary pages: works everywhere, cannot feed a physical NIC without an IOMMU.
    None,
}

/// How devices address memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IovaMode {
    /// Virtual addresses when there are only virtual devices, otherwise EAL asks the buses.
    #[default]
    Auto,
    Va,
    Pa,
}

/// A device EAL must open. PCI is not probed at all unless a [`Device::Pci`] is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// Driver name and arguments: `net_af_packet0,iface=veth0`.
    Vdev(String),
    /// PCI address and device arguments: `0000:00:05.0`.
    Pci(String),
}

impl Device {
    /// The name of the port this device makes.
    pub fn name(&self) -> &str {
        let (Self::Vdev(text) | Self::Pci(text)) = self;
        text.split(',').next().unwrap_or_default()
    }
}

/// From which severity on DPDK writes to stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    #[default]
    Warning,
    Notice,
    Info,
    Debug,
}

/// What EAL is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalConfig {
    /// The process name EAL logs under.
    pub program: String,
    pub lcores: LcoreMap,
    pub huge: HugePages,
    /// MiB taken at start. 0 takes as needed with huge pages, and 64 without.
    pub memory_mib: u32,
    /// Tells several DPDK processes of a host apart. Needed with `in_memory: false` only.
    pub file_prefix: Option<String>,
    pub iova: IovaMode,
    pub devices: Vec<Device>,
    pub log_level: LogLevel,
    /// Further long options, each as `--name` or `--name=value`, from [`EXTRA_OPTIONS`].
    pub extra: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            program: "clgw".into(),
            lcores: LcoreMap::Auto,
            huge: HugePages::Use { in_memory: true },
            memory_mib: 256,
            file_prefix: None,
            iova: IovaMode::Auto,
            devices: Vec::new(),
            log_level: LogLevel::Warning,
            extra: Vec::new(),
        }
    }
}

/// What [`EalConfig::extra`] may contain. A list of allowed names, because EAL takes unambiguous
/// prefixes too (`--hel` is `--help` and ends the process), and because what has a field of its own
/// must not be given twice.
pub const EXTRA_OPTIONS: &[&str] = &[
    "base-virtaddr",
    "force-max-simd-bitwidth",
    "huge-dir",
    "huge-unlink",
    "huge-worker-stack",
    "legacy-mem",
    "log-level",
    "match-allocations",
    "numa",
    "single-file-segments",
    "socket-limit",
    "socket-mem",
    "vfio-intr",
    "vfio-vf-token",
];

/// The most memory the `-m` option is given, MiB: 16 TiB, far above any host and below EAL's own
/// arithmetic limits.
const MEMORY_MIB_MAX: u32 = 16 * 1024 * 1024;

impl EalConfig {
    /// The argument vector for `rte_eal_init`, program name first.
    ///
    /// # Errors
    /// The first option that EAL would refuse, exit on or abort on.
    pub fn to_args(&self) -> Result<Vec<String>, DpdkError> {
        if self.program.is_empty() {
            return Err(refuse("program", "The program name is empty; give any name"));
        }
        if self.memory_mib > MEMORY_MIB_MAX {
            return Err(refuse(
                format!("memory_mib={}", self.memory_mib),
                format!("At most {MEMORY_MIB_MAX} MiB can be asked for; lower it"),
            ));
        }
        let mut args = vec![self.program.clone(), format!("--lcores={}", self.lcore_arg()?)];
        match self.huge {
            HugePages::Use { in_memory: true } => args.push("--in-memory".into()),
            HugePages::Use { in_memory: false } => {}
            // No shared configuration either: without it several processes need no prefixes, and
            // EAL refuses --no-huge together with --in-memory.
            HugePages::None => args.extend(["--no-huge".into(), "--no-shconf".into()]),
        }
        if self.memory_mib > 0 {
            args.extend(["-m".into(), self.memory_mib.to_string()]);
        }
        args.push("--no-telemetry".into());
        args.extend(self.log_args().map(String::from));
        if let Some(prefix) = &self.file_prefix {
            if prefix.is_empty() || prefix.contains(['/', '%', '*']) {
                return Err(refuse(
                    format!("file_prefix={prefix}"),
                    "A file prefix is a plain, non-empty file name",
                ));
            }
            args.push(format!("--file-prefix={prefix}"));
        }
        self.device_args(&mut args)?;
        for option in &self.extra {
            check_extra(option)?;
            args.push(option.clone());
        }
        for arg in &args {
            c_string(CHECK, arg)?;
        }
        Ok(args)
    }

    fn log_args(&self) -> impl Iterator<Item = &'static str> {
        let (global, all) = match self.log_level {
            LogLevel::Error => ("--log-level=error", None),
            LogLevel::Warning => ("--log-level=warning", None),
            LogLevel::Notice => ("--log-level=notice", None),
            LogLevel::Info => ("--log-level=info", Some("--log-level=*:info")),
            // The global level only caps; each library's own level must be raised as well.
            LogLevel::Debug => ("--log-level=debug", Some("--log-level=*:debug")),
        };
        [Some(global), all].into_iter().flatten()
    }

    fn lcore_arg(&self) -> Result<String, DpdkError> {
        match &self.lcores {
            LcoreMap::Auto => {
                let cpus = allowed_cpus();
                if cpus.is_empty() {
                    return Err(refuse(
                        "lcores=Auto",
                        "The thread's CPU affinity cannot be read; list lcores and CPUs instead",
                    ));
                }
                Ok(format!("0@({})", cpu_list(&cpus)))
            }
            LcoreMap::Map(pairs) => {
                let max = limits().max_lcores;
                let mut seen = BTreeSet::new();
                if pairs.is_empty() {
                    return Err(refuse("lcores", "The list is empty; give at least one lcore"));
                }
                for &(lcore, cpu) in pairs {
                    let pair = || format!("lcores={lcore}@{cpu}");
                    if u32::from(lcore) >= max {
                        return Err(refuse(
                            pair(),
                            format!("This DPDK was built for lcore ids below {max}"),
                        ));
                    }
                    if !seen.insert(lcore) {
                        return Err(refuse(pair(), "The lcore id is listed twice"));
                    }
                    // SAFETY: takes a number; the thread's own affinity is put back.
                    if unsafe { dpdk_sys::clgw_cpu_usable(u32::from(cpu)) } != 1 {
                        return Err(refuse(
                            pair(),
                            format!(
                                "This process may not run on CPU {cpu}: it does not exist, is \
                                 offline, or the cgroup forbids it (see Cpus_allowed_list in \
                                 /proc/self/status)"
                            ),
                        ));
                    }
                }
                let list: Vec<String> =
                    pairs.iter().map(|(lcore, cpu)| format!("{lcore}@{cpu}")).collect();
                Ok(list.join(","))
            }
        }
    }

    fn device_args(&self, args: &mut Vec<String>) -> Result<(), DpdkError> {
        let mut names = BTreeSet::new();
        let mut pci = false;
        for device in &self.devices {
            if !names.insert(device.name()) {
                return Err(refuse(device.name(), "The device is listed twice; number the vdevs"));
            }
            match device {
                Device::Vdev(text) => {
                    let name = device.name();
                    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
                    if !name.starts_with(|c: char| c.is_ascii_alphabetic())
                        || !name.contains(plain)
                        || !name.chars().all(plain)
                    {
                        return Err(refuse(
                            text.as_str(),
                            "A vdev is DRIVER plus a number, then arguments: \
                             net_af_packet0,iface=veth0",
                        ));
                    }
                    let max = limits().port_name_max as usize;
                    if name.len() > max {
                        return Err(refuse(name, format!("Port names have at most {max} bytes")));
                    }
                    args.push(format!("--vdev={text}"));
                }
                Device::Pci(text) => {
                    if !is_pci_address(device.name()) {
                        return Err(refuse(
                            text.as_str(),
                            "A PCI device is DOMAIN:BUS:DEVICE.FUNCTION in hex: 0000:00:05.0 \
                             (lspci -D lists them)",
                        ));
                    }
                    pci = true;
                    args.push(format!("--allow={text}"));
                }
            }
        }
        if !pci {
            // Otherwise EAL would try to take over every NIC it has a driver for.
            args.push("--no-pci".into());
        }
        match self.iova {
            IovaMode::Auto if !pci => args.push("--iova-mode=va".into()),
            IovaMode::Auto => {}
            IovaMode::Va => args.push("--iova-mode=va".into()),
            IovaMode::Pa => args.push("--iova-mode=pa".into()),
        }
        Ok(())
    }

    /// Looks for the huge pages this configuration needs, so that their absence is explained
    /// instead of ending in EAL's "Cannot get hugepage information".
    ///
    /// # Errors
    /// Too few free pages, or no hugetlbfs where one is needed.
    pub fn check_huge_pages(&self) -> Result<(), DpdkError> {
        let HugePages::Use { in_memory } = self.huge else { return Ok(()) };
        let free = free_huge_mib(Path::new("/sys/kernel/mm/hugepages"));
        let wanted = u64::from(self.memory_mib.max(2));
        if free < wanted {
            return Err(DpdkError::refused(
                "reserve huge pages for",
                self.program.as_str(),
                errno::ENOMEM,
                format!(
                    "{wanted} MiB of huge pages are wanted and {free} MiB are free. Reserve them \
                     with `sysctl -w vm.nr_hugepages={}` (2 MiB pages, added to those in use), or \
                     run without them: `hugepages: off`",
                    wanted.div_ceil(2)
                ),
            ));
        }
        let has_dir = self.extra.iter().any(|o| o.starts_with("--huge-dir="));
        let mounted = std::fs::read_to_string("/proc/self/mounts")
            .is_ok_and(|m| m.lines().any(|l| l.split(' ').nth(2) == Some("hugetlbfs")));
        if !in_memory && !has_dir && !mounted {
            return Err(DpdkError::refused(
                "find hugetlbfs for",
                self.program.as_str(),
                errno::ENOENT,
                "Memory shared between processes needs a hugetlbfs: `mount -t hugetlbfs none \
                 /dev/hugepages`, or keep it in memory (in_memory: true)",
            ));
        }
        Ok(())
    }
}

pub(crate) fn limits() -> dpdk_sys::clgw_limits {
    let mut limits = dpdk_sys::clgw_limits::default();
    // SAFETY: writes the struct it is given; needs no EAL.
    unsafe { dpdk_sys::clgw_limits(&mut limits) };
    limits
}

fn refuse(subject: impl Into<String>, hint: impl Into<String>) -> DpdkError {
    DpdkError::refused(CHECK, subject, errno::EINVAL, hint)
}

fn check_extra(option: &str) -> Result<(), DpdkError> {
    let name = option.strip_prefix("--").map(|o| o.split('=').next().unwrap_or_default());
    if name.is_some_and(|name| EXTRA_OPTIONS.contains(&name)) {
        return Ok(());
    }
    Err(refuse(
        option,
        format!(
            "Only these are passed through, as --name or --name=value: {}. Others have a field of \
             their own or would end the process",
            EXTRA_OPTIONS.join(", ")
        ),
    ))
}

fn is_pci_address(text: &str) -> bool {
    let hex = |part: &str, most: usize| {
        (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (domain, bus, rest) = match parts.as_slice() {
        [domain, bus, rest] => (*domain, *bus, *rest),
        [bus, rest] => ("0", *bus, *rest),
        _ => return false,
    };
    let Some((device, function)) = rest.split_once('.') else { return false };
    hex(domain, 8)
        && hex(bus, 2)
        && hex(device, 2)
        && function.len() == 1
        && function.bytes().all(|b| (b'0'..=b'7').contains(&b))
}

fn allowed_cpus() -> Vec<u16> {
    let mut cpus = vec![0u16; 1024];
    // SAFETY: the buffer holds as many entries as it is said to.
    let n = unsafe { dpdk_sys::clgw_affinity(cpus.as_mut_ptr(), cpus.len() as u32) };
    cpus.truncate(n as usize);
    cpus
}

/// `[0, 1, 2, 5]` as `0-2,5`.
fn cpu_list(cpus: &[u16]) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(cpu) => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let text: Vec<String> = ranges
        .iter()
        .map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            },
        )
        .collect();
    text.join(",")
}

/// MiB of huge pages of all sizes that are free or may be overcommitted.
fn free_huge_mib(root: &Path) -> u64 {
    let Ok(sizes) = std::fs::read_dir(root) else { return 0 };
    let mut kib = 0u64;
    for size in sizes.flatten() {
        let name = size.file_name();
        let Some(page_kib) = name
            .to_str()
            .and_then(|n| n.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok())
        else {
            continue;
        };
        let count = |file: &str| -> u64 {
            let text = std::fs::read_to_string(size.path().join(file)).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        let reserved = count("resv_hugepages");
        let overcommit =
            count("nr_overcommit_hugepages").saturating_sub(count("surplus_hugepages"));
        let free = count("free_hugepages").saturating_sub(reserved).saturating_add(overcommit);
        kib = kib.saturating_add(free.saturating_mul(page_kib));
    }
    kib / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(config: &EalConfig) -> Vec<String> {
        config.to_args().unwrap()
    }

    fn hint(config: &EalConfig) -> String {
        config.to_args().unwrap_err().to_string()
    }

    #[test]
    fn virtual_devices_never_touch_pci() {
        let config = EalConfig {
            devices: vec![Device::Vdev("net_null0,size=64".into())],
            ..EalConfig::default()
        };
        let args = args(&config);
        assert_eq!(args[0], "clgw");
        for want in [
            "--no-pci",
            "--in-memory",
            "--iova-mode=va",
            "--no-telemetry",
            "--vdev=net_null0,size=64",
        ] {
            assert!(args.iter().any(|a| a == want), "{want} missing in {args:?}");
        }
    }

    #[test]
    fn without_huge_pages_there_is_no_in_memory() {
        let args = args(&EalConfig { huge: HugePages::None, ..EalConfig::default() });
        assert!(args.contains(&"--no-huge".into()) && args.contains(&"--no-shconf".into()));
        assert!(!args.contains(&"--in-memory".into()));
    }

    #[test]
    fn a_nic_is_allowed_by_address_and_keeps_the_bus() {
        let config =
            EalConfig { devices: vec![Device::Pci("0000:00:05.0".into())], ..EalConfig::default() };
        let args = args(&config);
        assert!(args.contains(&"--allow=0000:00:05.0".into()));
        assert!(!args.contains(&"--no-pci".into()));
        assert!(!args.iter().any(|a| a.starts_with("--iova-mode")));
        for bad in ["", "eth0", "0000:00:05", "0000:00:05.8", "0000:zz:05.0", "1:2:3:4.0"] {
            let config =
                EalConfig { devices: vec![Device::Pci(bad.into())], ..EalConfig::default() };
            assert!(hint(&config).contains("lspci"), "{bad}");
        }
    }

    #[test]
    fn options_that_end_the_process_are_refused() {
        for bad in ["--help", "-h", "--hel", "--", "-v", "--version", "x", "--vdev=net_null9", ""] {
            let config = EalConfig { extra: vec![bad.into()], ..EalConfig::default() };
            assert!(hint(&config).contains("Only these"), "{bad}");
        }
        let good =
            EalConfig { extra: vec!["--single-file-segments".into()], ..EalConfig::default() };
        assert!(args(&good).contains(&"--single-file-segments".into()));
    }

    #[test]
    fn bad_lcores_are_named() {
        let with = |pairs: &[(u16, u16)]| EalConfig {
            lcores: LcoreMap::Map(pairs.to_vec()),
            ..EalConfig::default()
        };
        assert!(hint(&with(&[])).contains("empty"));
        assert!(hint(&with(&[(9999, 0)])).contains("lcores=9999@0"));
        let cpu = allowed_cpus()[0];
        assert!(hint(&with(&[(0, cpu), (0, cpu)])).contains("twice"));
        assert!(hint(&with(&[(0, 1023)])).contains("CPU 1023"));
        assert!(args(&with(&[(0, cpu), (5, cpu)])).contains(&format!("--lcores=0@{cpu},5@{cpu}")));
    }

    #[test]
    fn bad_devices_and_prefixes_are_named() {
        for bad in ["", "-x", ",iface=x", "net null0", "0net"] {
            let config =
                EalConfig { devices: vec![Device::Vdev(bad.into())], ..EalConfig::default() };
            assert!(hint(&config).contains("A vdev is"), "{bad}");
        }
        let twice = EalConfig {
            devices: vec![Device::Vdev("net_null0".into()), Device::Vdev("net_null0,x=1".into())],
            ..EalConfig::default()
        };
        assert!(hint(&twice).contains("twice"));
        let prefix = EalConfig { file_prefix: Some("a/b".into()), ..EalConfig::default() };
        assert!(hint(&prefix).contains("file_prefix=a/b"));
        let zero = EalConfig { program: "a\0".into(), ..EalConfig::default() };
        assert!(hint(&zero).contains("zero byte"));
    }

    #[test]
    fn cpu_lists_are_ranges() {
        assert_eq!(cpu_list(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(cpu_list(&[3]), "3");
    }

    #[test]
    fn no_page_folder_means_no_pages() {
        assert_eq!(free_huge_mib(Path::new("/nonexistent")), 0);
    }
}
