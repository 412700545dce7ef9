//! Mbuf pools.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::eal::Eal;
use crate::eal_config::limits;
use crate::error::{DpdkError, c_string, errno};
use crate::mbuf::Mbuf;

/// Size and place of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Mbufs in the pool. One less than a power of two wastes no memory.
    pub count: u32,
    /// Mbufs each lcore may keep for itself, in front of the pool's shared ring.
    pub cache: u32,
    /// Bytes of packet data one mbuf holds, headroom not counted.
    pub data_room: u16,
    /// NUMA node; `None` takes any.
    pub numa: Option<u16>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { count: 8191, cache: 256, data_room: 2048, numa: None }
    }
}

/// A pool of mbufs; clones are handles on the same pool.
///
/// When the last handle goes while mbufs are still out (in a queue, in the hands of another thread,
/// in another lcore's cache), the memory is left in place: [`Eal::leaked`] counts it.
#[derive(Debug, Clone)]
pub struct MbufPool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: *mut c_void,
    config: PoolConfig,
    name: String,
    eal: Eal,
}

// SAFETY: a mempool may be used from any thread at the same time; lcores use their own caches, other
// threads the multi-producer, multi-consumer ring (rte_mempool.h). The other fields are Send + Sync.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl MbufPool {
    /// Makes a pool. All memory is taken now: an mbuf costs its data room plus about 320 bytes.
    ///
    /// # Errors
    /// A name that is taken or too long, sizes DPDK refuses, too little memory.
    pub fn new(eal: &Eal, name: &str, config: PoolConfig) -> Result<Self, DpdkError> {
        let op = "create mbuf pool";
        let limits = limits();
        let refuse = |code, hint: String| Err(DpdkError::refused(op, name, code, hint));
        if name.is_empty() || name.len() > limits.pool_name_max as usize {
            return refuse(
                errno::ENAMETOOLONG,
                format!("Pool names have 1 to {} bytes", limits.pool_name_max),
            );
        }
        if config.count == 0 || config.data_room == 0 {
            return refuse(errno::EINVAL, "count and data_room must be above 0".into());
        }
        // The pool's ring rounds up to a power of two, and DPDK takes at most 2^30.
        if config.count >= 1 << 30 {
            return refuse(errno::EINVAL, format!("count={} must be below 2^30", config.count));
        }
        // DPDK wants the cache to fill no more than two thirds of the pool.
        if config.cache > limits.pool_cache_max
            || config.cache.saturating_mul(3) > config.count.saturating_mul(2)
        {
            return refuse(
                errno::EINVAL,
                format!(
                    "cache={} must be at most {} and at most two thirds of count={}",
                    config.cache, limits.pool_cache_max, config.count
                ),
            );
        }
        if u32::from(config.data_room) + limits.headroom > u32::from(u16::MAX) {
            return refuse(
                errno::EINVAL,
                format!("data_room is at most {} bytes", u32::from(u16::MAX) - limits.headroom),
            );
        }
        let text = c_string(op, name)?;
        let mut code = 0;
        // SAFETY: EAL runs (the handle), the name is zero-ended and copied by DPDK.
        let pool = unsafe {
            dpdk_sys::clgw_pool_create(
                text.as_ptr(),
                config.count,
                config.cache,
                config.data_room,
                config.numa.map_or(-1, i32::from),
                &mut code,
            )
        };
        if pool.is_null() {
            return Err(DpdkError::from_code(op, name, code, create_hint(-code, config)));
        }
        let inner = Inner { pool, config, name: name.to_owned(), eal: eal.clone() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes one empty mbuf; `None` when the pool is empty.
    pub fn alloc(&self) -> Option<Mbuf> {
        let mut raw = MaybeUninit::<dpdk_sys::clgw_mbuf>::uninit();
        // SAFETY: the pool lives as long as self; room for one descriptor.
        let code = unsafe { dpdk_sys::clgw_mbuf_alloc_bulk(self.inner.pool, raw.as_mut_ptr(), 1) };
        // SAFETY: on 0 the shim has filled the descriptor, and its mbuf belongs to the caller.
        (code == 0).then(|| unsafe { Mbuf::from_raw(raw.assume_init()) })
    }

    /// Fills the free places of `out` with empty mbufs and returns how many came; fewer than asked
    /// for when the pool runs out.
    pub fn alloc_bulk<const N: usize>(&self, out: &mut ArrayVec<Mbuf, N>) -> usize {
        let start = out.len();
        let mut part = out.remaining_capacity().min(dpdk_sys::CLGW_BURST_MAX);
        while part > 0 && !out.is_full() {
            part = part.min(out.remaining_capacity());
            let len = out.len();
            // SAFETY: `part` places after the length are inside the ArrayVec; Mbuf is transparent
            // over the descriptor. On 0 all of them are filled and owned, and the length may grow
            // by them; otherwise none is.
            let code = unsafe {
                let free = out.as_mut_ptr().add(len).cast::<dpdk_sys::clgw_mbuf>();
                let code = dpdk_sys::clgw_mbuf_alloc_bulk(self.inner.pool, free, part as u32);
                if code == 0 {
                    out.set_len(len + part);
                }
                code
            };
            if code != 0 {
                // DPDK gives all or nothing: near the end, ask for less until one is refused.
                part /= 2;
            }
        }
        out.len() - start
    }

    /// Mbufs that are neither in the pool nor in a cache of it. Walks all caches: for gauges, not
    /// for the packet path.
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool lives as long as self; the count is a snapshot of plain loads.
        unsafe { dpdk_sys::clgw_pool_in_use(self.inner.pool) }
    }

    /// Mbufs in the pool when all are back.
    pub fn capacity(&self) -> u32 {
        self.inner.config.count
    }

    /// Bytes of packet data one mbuf of this pool holds.
    pub fn data_room(&self) -> u16 {
        self.inner.config.data_room
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.inner.pool
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the last handle: nobody can take mbufs any more. The shim frees the pool only if
        // every mbuf is back and no thread can still be putting one.
        if unsafe { dpdk_sys::clgw_pool_free_if_idle(self.pool) } == 0 {
            self.eal.mark_leaked();
        }
    }
}

fn create_hint(code: i32, config: PoolConfig) -> String {
    match code {
        errno::EEXIST => {
            "A pool of this name exists (a leaked one keeps its name): choose another".into()
        }
        errno::ENOMEM => format!(
            "{} mbufs of {} bytes need about {} MiB: raise memory_mib, reserve more huge pages, or \
             make the pool smaller",
            config.count,
            config.data_room,
            (u64::from(config.count) * (u64::from(config.data_room) + 320)).div_ceil(1 << 20)
        ),
        errno::EINVAL => "DPDK's ring mempool driver is probably missing; Debian: apt-get install \
             librte-mempool-ring23"
            .into(),
        _ => "See DPDK's log".into(),
    }
}
