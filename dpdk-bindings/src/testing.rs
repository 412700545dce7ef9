//! Ports without a NIC, for tests and measurements. Needs no privileges and no huge pages.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::eal::Eal;
use crate::eal_config::{EalConfig, HugePages, LogLevel};
use crate::error::{DpdkError, c_string, errno};
use crate::pool::MbufPool;
use crate::port::{Port, Unconfigured};

/// MiB of ordinary memory the tests' EAL takes.
pub const TEST_MEMORY_MIB: u32 = 128;

/// An EAL configuration that starts everywhere.
pub fn config() -> EalConfig {
    EalConfig {
        program: "clgw-test".into(),
        huge: HugePages::None,
        memory_mib: TEST_MEMORY_MIB,
        log_level: LogLevel::Error,
        ..EalConfig::default()
    }
}

/// One EAL for all tests of a process, started by whoever comes first. Tests that need devices of
/// their own live in a file of their own and call [`Eal::init`].
///
/// # Errors
/// The start failed; every later call returns the same error.
pub fn eal() -> Result<Eal, DpdkError> {
    static SHARED: OnceLock<Result<Eal, DpdkError>> = OnceLock::new();
    SHARED.get_or_init(|| Eal::init(&config())).clone()
}

thread_local! {
    // Neither built lazily nor dropped: the allocator may not allocate for it.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// A global allocator for tests that must show that a path does not allocate, and for
/// measurements of what a structure takes.
#[derive(Debug)]
pub struct CountingAllocator;

/// Allocations of this thread so far, where [`CountingAllocator`] is the global allocator.
pub fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// Bytes this thread has allocated less those it has freed, where [`CountingAllocator`] is the
/// global allocator. What the allocator adds for itself is not in it.
pub fn allocated_bytes() -> i64 {
    BYTES.get()
}

/// Fails only while the thread is being taken down.
fn count(allocations: u64, bytes: i64) {
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + allocations));
    let _ = BYTES.try_with(|n| n.set(n.get() + bytes));
}

// SAFETY: passes every call on to the system allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// A cable between two ports of this process: one ring per queue and direction.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Kept for their Drop.
    _rings: Vec<Ring>,
    /// The pools of what may be on the cable; after the rings, so that they find their mbufs back.
    pools: Mutex<Vec<MbufPool>>,
    _eal: Eal,
}

#[derive(Debug)]
struct Ring(*mut c_void);

// SAFETY: the pointer is only passed to DPDK; the ring's two ends are used through one send and one
// receive queue, which are single-owner, and freed after both ports are closed.
unsafe impl Send for Ring {}
// SAFETY: as above; a shared Ring offers no operation.
unsafe impl Sync for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the last owner: both ports, which hold the Wire, are closed.
        unsafe { dpdk_sys::clgw_ring_free(self.0) };
    }
}

impl Wire {
    pub(crate) fn keep_pools(&self, pools: &[MbufPool]) {
        let mut kept = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(pools.iter().cloned());
    }
}

/// Shape of a [`ring_pair`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingPairConfig {
    /// Queues each way, at most 16. Queue k of one port ends at queue k of the other.
    pub queues: u16,
    /// Packets each queue holds.
    pub slots: u32,
}

impl Default for RingPairConfig {
    fn default() -> Self {
        Self { queues: 1, slots: 1024 }
    }
}

/// Two ports joined by a cable of `net_ring`: what one sends the other receives, same mbufs, in
/// order; a full cable refuses. Segments pass as they are, offloads are not performed, received
/// packets carry no flags. `name` is at most 20 bytes and used once per process.
///
/// # Errors
/// A bad name or shape, or the driver is not installed.
pub fn ring_pair(
    eal: &Eal,
    name: &str,
    config: RingPairConfig,
) -> Result<(Port<Unconfigured>, Port<Unconfigured>), DpdkError> {
    let op = "create ring pair";
    let queues = usize::from(config.queues);
    if name.is_empty() || name.len() > 20 || queues == 0 || queues > 16 || config.slots == 0 {
        return Err(DpdkError::refused(
            op,
            name,
            errno::EINVAL,
            "The name has 1 to 20 bytes; there are 1 to 16 queues of at least 1 slot",
        ));
    }
    let mut rings = Vec::with_capacity(2 * queues);
    for index in 0..2 * queues {
        let ring_name = c_string(op, &format!("{name}.{index}"))?;
        let mut code = 0;
        // SAFETY: EAL runs (the handle); the name is zero-ended and copied.
        let ring =
            unsafe { dpdk_sys::clgw_ring_create(ring_name.as_ptr(), config.slots, &mut code) };
        if ring.is_null() {
            let hint = "Names are used once; at most 2^31 slots, and enough EAL memory for them";
            return Err(DpdkError::from_code(op, name, code, hint));
        }
        rings.push(Ring(ring));
    }
    let pointers: Vec<*mut c_void> = rings.iter().map(|ring| ring.0).collect();
    let wire = Arc::new(Wire { _rings: rings, pools: Mutex::new(Vec::new()), _eal: eal.clone() });
    let (east, west) = pointers.split_at(queues);
    let a = ring_port(eal, &format!("{name}a"), east, west, &wire)?;
    let b = ring_port(eal, &format!("{name}b"), west, east, &wire)?;
    Ok((a, b))
}

fn ring_port(
    eal: &Eal,
    name: &str,
    rx: &[*mut c_void],
    tx: &[*mut c_void],
    wire: &Arc<Wire>,
) -> Result<Port<Unconfigured>, DpdkError> {
    let op = "create ring port";
    let text = c_string(op, name)?;
    // SAFETY: EAL runs; both arrays hold as many live rings as stated, and the port made keeps the
    // wire that owns them.
    let code = unsafe {
        dpdk_sys::clgw_eth_from_rings(text.as_ptr(), rx.as_ptr(), tx.as_ptr(), rx.len() as u32)
    };
    if code < 0 {
        let hint = if code == -errno::ENOENT {
            "The net_ring driver is not installed; Debian: apt-get install librte-net-ring23"
        } else {
            "Names are used once per process; there are at most 32 ports"
        };
        return Err(DpdkError::from_code(op, name, code, hint));
    }
    match eal.port_by_name(&format!("net_ring_{name}")) {
        Ok(port) => Ok(port.with_wire(Arc::clone(wire))),
        Err(error) => {
            // A port nobody owns points to the rings now: they must never be freed.
            std::mem::forget(Arc::clone(wire));
            Err(error)
        }
    }
}
