//! Raw FFI to DPDK through the flat C shim in `shim/`.
//!
//! Only plain integers, bytes and opaque pointers cross this border; no DPDK struct, constant or
//! inline function is repeated in Rust, so a new DPDK release is a matter of the shim alone. Unless
//! stated otherwise the functions return 0 or a negative errno. Nothing here is safe to call
//! without knowing DPDK's own rules: the crate `dpdk-bindings` is the interface for everyone else.

#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int, c_void};

/// Most descriptors one call of a burst function handles.
pub const CLGW_BURST_MAX: usize = 64;
/// Bytes of a name field, final zero included.
pub const CLGW_NAME_LEN: usize = 64;
/// Longest RSS key a port may have, bytes.
pub const CLGW_RSS_KEY_MAX: usize = 64;

pub const CLGW_RX_IP_CKSUM_GOOD: u32 = 1 << 0;
pub const CLGW_RX_IP_CKSUM_BAD: u32 = 1 << 1;
pub const CLGW_RX_L4_CKSUM_GOOD: u32 = 1 << 2;
pub const CLGW_RX_L4_CKSUM_BAD: u32 = 1 << 3;
pub const CLGW_RX_RSS_HASH: u32 = 1 << 4;
pub const CLGW_RX_LRO: u32 = 1 << 5;

pub const CLGW_TX_IPV4: u32 = 1 << 16;
pub const CLGW_TX_IPV6: u32 = 1 << 17;
pub const CLGW_TX_IP_CKSUM: u32 = 1 << 18;
pub const CLGW_TX_TCP_CKSUM: u32 = 1 << 19;
pub const CLGW_TX_UDP_CKSUM: u32 = 1 << 20;
pub const CLGW_TX_TCP_SEG: u32 = 1 << 21;

pub const CLGW_RXO_IPV4_CKSUM: u64 = 1 << 0;
pub const CLGW_RXO_TCP_CKSUM: u64 = 1 << 1;
pub const CLGW_RXO_UDP_CKSUM: u64 = 1 << 2;
pub const CLGW_RXO_LRO: u64 = 1 << 3;
pub const CLGW_RXO_SCATTER: u64 = 1 << 4;
pub const CLGW_RXO_RSS_HASH: u64 = 1 << 5;

pub const CLGW_TXO_IPV4_CKSUM: u64 = 1 << 0;
pub const CLGW_TXO_TCP_CKSUM: u64 = 1 << 1;
pub const CLGW_TXO_UDP_CKSUM: u64 = 1 << 2;
pub const CLGW_TXO_TCP_TSO: u64 = 1 << 3;
pub const CLGW_TXO_MULTI_SEGS: u64 = 1 << 4;

pub const CLGW_RSS_IPV4: u32 = 1 << 0;
pub const CLGW_RSS_IPV4_TCP: u32 = 1 << 1;
pub const CLGW_RSS_IPV6: u32 = 1 << 2;
pub const CLGW_RSS_IPV6_TCP: u32 = 1 << 3;

/// An mbuf pointer and the mbuf fields of the packet path. The device sees changes only when the
/// descriptor is written back, which `clgw_tx_burst` and `clgw_mbuf_chain` do.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct clgw_mbuf {
    pub mbuf: *mut c_void,
    /// First byte of the first segment.
    pub data: *mut u8,
    /// Bytes in all segments.
    pub pkt_len: u32,
    /// Valid with [`CLGW_RX_RSS_HASH`].
    pub rss_hash: u32,
    pub flags: u32,
    /// Bytes in the first segment.
    pub data_len: u16,
    pub headroom: u16,
    pub tailroom: u16,
    pub nb_segs: u16,
    pub tso_segsz: u16,
    pub l3_len: u16,
    pub l2_len: u8,
    pub l4_len: u8,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct clgw_limits {
    pub max_lcores: u32,
    pub pool_name_max: u32,
    pub port_name_max: u32,
    pub pool_cache_max: u32,
    pub headroom: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct clgw_port_info {
    pub driver: [c_char; CLGW_NAME_LEN],
    pub mac: [u8; 6],
    pub rss_key_len: u8,
    pub has_mac: u8,
    pub max_rx_queues: u16,
    pub max_tx_queues: u16,
    pub min_mtu: u16,
    pub max_mtu: u16,
    pub rx_desc_min: u16,
    pub rx_desc_max: u16,
    pub tx_desc_min: u16,
    pub tx_desc_max: u16,
    pub tx_segs_max: u16,
    pub reta_size: u16,
    pub rss_types: u32,
    pub min_rx_buf: u32,
    pub numa: i32,
    pub max_lro: u32,
    pub rx_offloads: u64,
    pub tx_offloads: u64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct clgw_port_conf {
    pub rx_queues: u16,
    pub tx_queues: u16,
    /// In: wanted; out: what the device takes.
    pub rx_desc: u16,
    pub tx_desc: u16,
    /// 0 leaves the driver's.
    pub mtu: u16,
    pub rx_interrupts: u8,
    /// 0 leaves the driver's own key.
    pub rss_key_len: u8,
    pub rss_types: u32,
    pub reserved: u32,
    pub rx_offloads: u64,
    pub tx_offloads: u64,
    pub rss_key: [u8; CLGW_RSS_KEY_MAX],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct clgw_link {
    /// `u32::MAX`: unknown.
    pub speed_mbps: u32,
    pub up: u8,
    pub full_duplex: u8,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct clgw_stats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_missed: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_no_mbuf: u64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct clgw_xstat {
    pub name: [c_char; CLGW_NAME_LEN],
    pub value: u64,
}

// The figures of the static asserts in the shim: a field added on one side only stops the build.
const _: () = assert!(size_of::<clgw_mbuf>() == 48);
const _: () = assert!(size_of::<clgw_port_info>() == 128);
const _: () = assert!(size_of::<clgw_port_conf>() == 104);
const _: () = assert!(size_of::<clgw_stats>() == 64);
const _: () = assert!(size_of::<clgw_xstat>() == 72);
const _: () = assert!(size_of::<clgw_link>() == 8);
const _: () = assert!(size_of::<clgw_limits>() == 20);

unsafe extern "C" {
    // log.c
    pub fn clgw_log_take(out: *mut u8, cap: u32) -> u32;

    // eal.c
    pub fn clgw_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int;
    pub fn clgw_eal_cleanup() -> c_int;
    pub fn clgw_dpdk_version() -> *const c_char;
    pub fn clgw_limits(out: *mut clgw_limits);
    pub fn clgw_cpu_usable(cpu: u32) -> c_int;
    pub fn clgw_affinity(out: *mut u16, cap: u32) -> u32;
    pub fn clgw_pin_thread(cpu: u32) -> c_int;
    pub fn clgw_timer_slack(nanoseconds: u64) -> c_int;
    pub fn clgw_cycles() -> u64;
    pub fn clgw_cycles_hz() -> u64;
    /// The lcore of the calling thread, or -1.
    pub fn clgw_lcore_id() -> i32;
    pub fn clgw_thread_register() -> c_int;
    pub fn clgw_thread_unregister();

    // mbuf.c
    pub fn clgw_pool_create(
        name: *const c_char,
        count: u32,
        cache: u32,
        data_room: u16,
        numa: i32,
        error: *mut c_int,
    ) -> *mut c_void;
    pub fn clgw_pool_in_use(pool: *const c_void) -> u32;
    /// 1 if the pool was idle and is gone.
    pub fn clgw_pool_free_if_idle(pool: *mut c_void) -> c_int;
    pub fn clgw_rx_flags(ol: u64) -> u32;
    pub fn clgw_tx_ol_flags(flags: u32) -> u64;
    pub fn clgw_mbuf_alloc_bulk(pool: *mut c_void, out: *mut clgw_mbuf, n: u32) -> c_int;
    pub fn clgw_mbuf_free(mbuf: *mut c_void);
    pub fn clgw_mbuf_free_bulk(mbufs: *const clgw_mbuf, n: u32);
    pub fn clgw_mbuf_chain(head: *mut clgw_mbuf, tail: *const clgw_mbuf) -> c_int;
    pub fn clgw_mbuf_next(segment: *mut c_void, data: *mut *mut u8, len: *mut u16) -> *mut c_void;
    pub fn clgw_mbuf_drop_tail(mbuf: *mut clgw_mbuf);
    pub fn clgw_rx_burst(port: u16, queue: u16, out: *mut clgw_mbuf, n: u16) -> u16;
    pub fn clgw_tx_burst(
        port: u16,
        queue: u16,
        mbufs: *const clgw_mbuf,
        n: u16,
        invalid: *mut u8,
    ) -> u16;

    // port.c
    /// The first port at or after `from`, or -1.
    pub fn clgw_port_next(from: u16) -> i32;
    pub fn clgw_port_name(port: u16, out: *mut c_char) -> c_int;
    pub fn clgw_port_by_name(name: *const c_char, port: *mut u16) -> c_int;
    pub fn clgw_port_info(port: u16, out: *mut clgw_port_info) -> c_int;
    pub fn clgw_port_configure(port: u16, conf: *mut clgw_port_conf) -> c_int;
    pub fn clgw_rx_queue_setup(
        port: u16,
        queue: u16,
        desc: u16,
        pool: *mut c_void,
        offloads: u64,
    ) -> c_int;
    pub fn clgw_tx_queue_setup(port: u16, queue: u16, desc: u16, offloads: u64) -> c_int;
    pub fn clgw_port_start(port: u16) -> c_int;
    pub fn clgw_port_stop(port: u16) -> c_int;
    pub fn clgw_port_close(port: u16) -> c_int;
    pub fn clgw_port_promiscuous(port: u16, on: c_int) -> c_int;
    pub fn clgw_port_mtu(port: u16, mtu: *mut u16) -> c_int;
    pub fn clgw_port_link(port: u16, out: *mut clgw_link) -> c_int;
    pub fn clgw_port_stats(port: u16, out: *mut clgw_stats) -> c_int;
    /// How many there are, or a negative errno; fills at most `cap`.
    pub fn clgw_port_xstats(port: u16, out: *mut clgw_xstat, cap: u32) -> i32;
    pub fn clgw_rss_get(port: u16, key: *mut u8, key_len: u8, types: *mut u32) -> c_int;
    pub fn clgw_rss_set(port: u16, key: *mut u8, key_len: u8, types: u32) -> c_int;
    pub fn clgw_reta_get(port: u16, queues: *mut u16, size: u16) -> c_int;
    pub fn clgw_reta_set(port: u16, queues: *const u16, size: u16) -> c_int;
    /// Mbufs freed, or a negative errno.
    pub fn clgw_tx_done_cleanup(port: u16, queue: u16, max: u32) -> c_int;
    /// An epoll descriptor, or a negative errno.
    pub fn clgw_rx_intr_open() -> c_int;
    pub fn clgw_rx_intr_watch(epoll: c_int, port: u16, queue: u16, on: c_int) -> c_int;
    pub fn clgw_rx_intr_arm(port: u16, queue: u16, on: c_int) -> c_int;
    /// 1: fired, 0: time over or a signal.
    pub fn clgw_rx_intr_wait(epoll: c_int, nanoseconds: u64) -> c_int;

    // wire.c
    pub fn clgw_ring_create(name: *const c_char, slots: u32, error: *mut c_int) -> *mut c_void;
    pub fn clgw_ring_free(ring: *mut c_void);
    /// The port, or a negative errno; -ENOENT: the driver is not loaded.
    pub fn clgw_eth_from_rings(
        name: *const c_char,
        rx: *const *mut c_void,
        tx: *const *mut c_void,
        queues: u32,
    ) -> i32;
}

#[cfg(test)]
mod tests {
    use super::*;

    // DPDK's bits, from its ABI: the test fails if the shim's translation or the ABI moves.
    const IP_BAD: u64 = 1 << 4;
    const IP_GOOD: u64 = 1 << 7;
    const L4_BAD: u64 = 1 << 3;
    const L4_GOOD: u64 = 1 << 8;

    fn rx(ol: u64) -> u32 {
        // SAFETY: a pure function of its argument.
        unsafe { clgw_rx_flags(ol) }
    }

    fn tx(flags: u32) -> u64 {
        // SAFETY: a pure function of its argument.
        unsafe { clgw_tx_ol_flags(flags) }
    }

    #[test]
    fn receive_flags_are_translated_one_by_one() {
        assert_eq!(rx(0), 0);
        assert_eq!(rx(IP_GOOD), CLGW_RX_IP_CKSUM_GOOD);
        assert_eq!(rx(IP_BAD), CLGW_RX_IP_CKSUM_BAD);
        assert_eq!(rx(L4_GOOD), CLGW_RX_L4_CKSUM_GOOD);
        assert_eq!(rx(L4_BAD), CLGW_RX_L4_CKSUM_BAD);
        assert_eq!(rx(1 << 1), CLGW_RX_RSS_HASH);
        assert_eq!(rx(1 << 16), CLGW_RX_LRO);
        // VLAN, timestamps, flow director: not ours.
        assert_eq!(rx(1 | 1 << 2 | 1 << 6 | 1 << 9), 0);
    }

    #[test]
    fn a_sum_the_device_vouches_for_counts_as_good() {
        assert_eq!(rx(IP_GOOD | IP_BAD), CLGW_RX_IP_CKSUM_GOOD);
        assert_eq!(rx(L4_GOOD | L4_BAD), CLGW_RX_L4_CKSUM_GOOD);
    }

    #[test]
    fn send_flags_are_translated_one_by_one() {
        assert_eq!(tx(0), 0);
        assert_eq!(tx(CLGW_TX_IPV4), 1 << 55);
        assert_eq!(tx(CLGW_TX_IPV6), 1 << 56);
        assert_eq!(tx(CLGW_TX_IP_CKSUM), 1 << 54);
        assert_eq!(tx(CLGW_TX_TCP_CKSUM), 1 << 52);
        assert_eq!(tx(CLGW_TX_UDP_CKSUM), 3 << 52);
        assert_eq!(tx(CLGW_TX_TCP_SEG), 1 << 50);
        // What a received packet said must never leave again as a request.
        assert_eq!(tx(0xffff), 0);
    }
}
