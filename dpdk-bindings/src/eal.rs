//! EAL, DPDK's process-wide environment: started once, kept by everything made from it.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char, c_int};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::eal_config::EalConfig;
use crate::error::{DpdkError, c_string, errno, take_log};
use crate::port::{Port, Unconfigured};

/// `rte_eal_init` has been called. It is not called again, whatever became of it: a failed start
/// leaves devices, locks and threads behind.
static CALLED: AtomicBool = AtomicBool::new(false);

/// A handle on the running EAL; clones are cheap. When the last one and everything that holds one
/// (pools, ports, queues, thread guards) is gone, EAL is cleaned up.
#[derive(Debug, Clone)]
pub struct Eal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Ports that a [`Port`] exists for: a second one would break the single ownership of queues.
    claimed: Mutex<BTreeSet<u16>>,
    /// Pools left in place because mbufs of them were out, and ports that did not close.
    leaked: AtomicU32,
    /// What DPDK logged while it started: the only place where a vdev's failure is explained.
    boot_log: String,
}

impl Eal {
    /// Starts EAL and opens the devices. Possible once per process. The calling thread becomes the
    /// main lcore, and keeps the CPU affinity it had.
    ///
    /// A device that fails to open does not make this fail: [`port_by_name`](Self::port_by_name)
    /// reports it. A device whose driver is not installed does.
    ///
    /// # Errors
    /// A refused option, missing huge pages, a second call, or whatever EAL fails on. After an error
    /// from EAL itself (`errno` from DPDK, text in `log`) only a restart of the process helps.
    pub fn init(config: &EalConfig) -> Result<Self, DpdkError> {
        let op = "start EAL";
        if CALLED.load(Ordering::SeqCst) {
            return Err(called_before(config));
        }
        let args = config.to_args()?;
        config.check_huge_pages()?;
        let mut strings = Vec::with_capacity(args.len());
        for arg in &args {
            strings.push(c_string(op, arg)?.into_bytes_with_nul());
        }
        // EAL permutes argv and cuts the strings up, so both are copies of its own.
        let mut argv: Vec<*mut c_char> =
            strings.iter_mut().map(|s| s.as_mut_ptr().cast::<c_char>()).collect();
        argv.push(std::ptr::null_mut());
        let argc = c_int::try_from(args.len()).unwrap_or(c_int::MAX);
        if CALLED.swap(true, Ordering::SeqCst) {
            return Err(called_before(config));
        }
        // SAFETY: argv holds argc writable, zero-ended strings and a final null, as main's would;
        // they outlive the call, and EAL keeps no pointer into them (rte_eal.h). CALLED makes this
        // the only call.
        let code = unsafe { dpdk_sys::clgw_eal_init(argc, argv.as_mut_ptr()) };
        let log = take_log();
        if code < 0 {
            let (errno, hint) = init_hint(-code, &log, config);
            return Err(DpdkError { op, subject: args.join(" "), errno, hint, log });
        }
        let inner = Inner {
            claimed: Mutex::new(BTreeSet::new()),
            leaked: AtomicU32::new(0),
            boot_log: log,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The DPDK at run time: `DPDK 22.11.11`. Needs no running EAL.
    pub fn version() -> String {
        // SAFETY: rte_version returns a zero-ended string of static storage.
        let text = unsafe { CStr::from_ptr(dpdk_sys::clgw_dpdk_version()) };
        text.to_string_lossy().into_owned()
    }

    /// Names of the ports that opened, in port order.
    pub fn port_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut from = 0u16;
        // SAFETY: EAL runs as long as self exists; the function only walks its table.
        while let Ok(id) = u16::try_from(unsafe { dpdk_sys::clgw_port_next(from) }) {
            let mut name = [0 as c_char; dpdk_sys::CLGW_NAME_LEN];
            // SAFETY: the buffer has the size DPDK wants for a port name (asserted in the shim).
            if unsafe { dpdk_sys::clgw_port_name(id, name.as_mut_ptr()) } == 0 {
                names.push(text_of(&name));
            }
            from = id.saturating_add(1);
        }
        names
    }

    /// The port of a device of [`EalConfig::devices`]; its name is [`Device::name`](crate::Device).
    ///
    /// # Errors
    /// The device did not open (with what its driver logged), or its [`Port`] exists already.
    pub fn port_by_name(&self, name: &str) -> Result<Port<Unconfigured>, DpdkError> {
        let op = "find port";
        let text = c_string(op, name)?;
        let mut id = 0u16;
        // SAFETY: a zero-ended string and a place for the answer.
        let code = unsafe { dpdk_sys::clgw_port_by_name(text.as_ptr(), &mut id) };
        if code < 0 {
            let existing = match self.port_names() {
                names if names.is_empty() => "none".to_owned(),
                names => names.join(", "),
            };
            let mut error = DpdkError::from_code(
                op,
                name,
                code,
                format!(
                    "No such port; there are: {existing}. Either the device is not in the list of \
                     devices, or it failed to open: check its arguments, that the interface exists, \
                     and for net_af_packet the capabilities CAP_NET_RAW and CAP_NET_ADMIN"
                ),
            );
            error.log.clone_from(&self.inner.boot_log);
            return Err(error);
        }
        self.claim(id, name)?;
        Ok(Port::claimed(self.clone(), id, name.to_owned()))
    }

    fn claim(&self, id: u16, name: &str) -> Result<(), DpdkError> {
        let mut claimed = self.inner.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.insert(id) {
            return Ok(());
        }
        Err(DpdkError::refused(
            "find port",
            name,
            errno::EBUSY,
            "The port is in use in this process; drop the other Port and its queues first",
        ))
    }

    pub(crate) fn release(&self, id: u16) {
        self.inner.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Makes the calling thread an lcore: two to four times cheaper mbufs, because only lcores have
    /// a cache in front of each pool. On a thread that is one already the guard does nothing.
    ///
    /// # Errors
    /// All lcore ids are taken.
    pub fn register_thread(&self) -> Result<ThreadGuard, DpdkError> {
        // SAFETY: reads a thread-local variable.
        let owner = unsafe { dpdk_sys::clgw_lcore_id() } < 0;
        if owner {
            // SAFETY: EAL runs as long as self exists.
            let code = unsafe { dpdk_sys::clgw_thread_register() };
            if code < 0 {
                return Err(DpdkError::from_code(
                    "register thread",
                    std::thread::current().name().unwrap_or("unnamed"),
                    code,
                    "Every lcore id is taken: start fewer worker threads",
                ));
            }
        }
        Ok(ThreadGuard { owner, _eal: self.clone(), _this_thread: PhantomData })
    }

    /// Pools and ports that had to be left in place. Not 0 means that somebody kept mbufs longer
    /// than their pool; EAL is then not cleaned up at the end.
    pub fn leaked(&self) -> u32 {
        self.inner.leaked.load(Ordering::Relaxed)
    }

    pub(crate) fn mark_leaked(&self) {
        self.inner.leaked.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if *self.leaked.get_mut() == 0 {
            // SAFETY: nothing made from EAL exists any more: every pool, port, queue and guard holds
            // a handle, and mbufs outlive their pool only if the pool was counted as leaked.
            unsafe { dpdk_sys::clgw_eal_cleanup() };
        }
    }
}

/// Keeps the thread an lcore; to be dropped on it, before it ends.
#[derive(Debug)]
pub struct ThreadGuard {
    owner: bool,
    _eal: Eal,
    /// The registration belongs to the thread: the guard must not leave it.
    _this_thread: PhantomData<*const ()>,
}

impl ThreadGuard {
    /// The lcore id of this thread.
    pub fn lcore(&self) -> u32 {
        // SAFETY: reads a thread-local variable, on the registered thread (the guard is !Send).
        u32::try_from(unsafe { dpdk_sys::clgw_lcore_id() }).unwrap_or(0)
    }
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        if self.owner {
            // SAFETY: this thread registered itself, and EAL still runs: the handle goes after this.
            unsafe { dpdk_sys::clgw_thread_unregister() };
        }
    }
}

/// Binds the calling thread to one CPU.
///
/// # Errors
/// The CPU does not exist, is offline, or is forbidden to the process.
pub fn pin_current_thread(cpu: u16) -> Result<(), DpdkError> {
    // SAFETY: takes a number and changes the affinity of this thread only.
    let code = unsafe { dpdk_sys::clgw_pin_thread(u32::from(cpu)) };
    if code == 0 {
        return Ok(());
    }
    Err(DpdkError::from_code(
        "pin thread to CPU",
        cpu.to_string(),
        code,
        "Choose a CPU of Cpus_allowed_list in /proc/self/status",
    ))
}

/// A zero-ended field of a shim struct as text.
pub(crate) fn text_of(field: &[c_char]) -> String {
    let bytes: Vec<u8> = field.iter().map(|&c| c as u8).take_while(|&b| b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn called_before(config: &EalConfig) -> DpdkError {
    DpdkError::refused(
        "start EAL",
        config.program.as_str(),
        errno::EALREADY,
        "EAL starts once per process: clone the handle of the first start, or restart the process \
         if that start failed",
    )
}

/// What a failed `rte_eal_init` means and what to do about it. The errno alone does not tell, and is
/// not even set on some paths; the log does.
fn init_hint(code: i32, log: &str, config: &EalConfig) -> (i32, String) {
    let said = |text: &str| log.contains(text);
    if said("Is another primary process running") || said("Cannot create lock") {
        let hint = format!(
            "Another DPDK process uses the file prefix `{}`: give this one its own, or keep its \
             memory to itself (in_memory: true)",
            config.file_prefix.as_deref().unwrap_or("rte")
        );
        return (errno::EBUSY, hint);
    }
    let hint = if said("failed to parse device") || code == errno::ENODEV && said("device") {
        "The driver of a device is not installed, or its name is misspelled. Debian: \
         librte-net-af-packet23, librte-net-ring23, ... (`apt-cache search librte-net`)"
            .to_owned()
    } else if code == errno::EACCES
        || code == errno::ENOMEM
        || said("hugepage")
        || said("Cannot init memory")
    {
        format!(
            "Not enough huge pages ({} MiB wanted): `sysctl -w vm.nr_hugepages={}`, as root or with \
             access to hugetlbfs; or run without them: `hugepages: off`",
            config.memory_mib,
            config.memory_mib.max(2).div_ceil(2)
        )
    } else if said("IOVA") {
        "The devices need physical addresses that this process cannot read: enable the IOMMU, or \
         run as root"
            .to_owned()
    } else {
        "Start once more with log level debug to see how far EAL came".to_owned()
    };
    (code, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_follows_what_dpdk_said() {
        let config = EalConfig { file_prefix: Some("gw".into()), ..EalConfig::default() };
        let hint = |errno, log| init_hint(errno, log, &config).1;
        let lock = "EAL: Cannot create lock on '/x'. Is another primary process running?";
        assert_eq!(init_hint(5, lock, &config).0, errno::EBUSY, "EAL leaves its errno unset here");
        assert!(hint(5, lock).contains("`gw`"));
        assert!(hint(19, "EAL: failed to parse device \"net_x0\"").contains("librte-net-ring23"));
        assert!(hint(13, "").contains("vm.nr_hugepages=128"));
        assert!(hint(12, "").contains("hugepages: off"));
        assert!(hint(5, "").contains("debug"));
    }

    #[test]
    fn a_field_ends_at_its_zero() {
        let field: Vec<c_char> = b"abc\0def".iter().map(|&b| b as c_char).collect();
        assert_eq!(text_of(&field), "abc");
    }
}
