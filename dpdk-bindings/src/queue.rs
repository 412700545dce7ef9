//! Receive and send queues: one owner each, one FFI call a burst.

use std::cell::Cell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys::clgw_mbuf;

use crate::mbuf::Mbuf;
use crate::offload::TxOffloads;
use crate::port::PortInner;

/// Most packets one FFI call moves.
pub const BURST_MAX: usize = dpdk_sys::CLGW_BURST_MAX;

/// An Ethernet header: several NICs stop their queue on anything shorter.
const FRAME_MIN: u32 = 14;

/// Held by every queue of a started port; the port cannot stop while one exists.
#[derive(Debug)]
pub(crate) struct QueueToken;

/// A receive queue. `Send`, so that it can move to its worker, and not `Sync`.
#[derive(Debug)]
pub struct RxQueue {
    // Before the port: the token must be back when the port goes.
    pub(crate) token: Arc<QueueToken>,
    pub(crate) port: Arc<PortInner>,
    pub(crate) queue: u16,
    _not_sync: PhantomData<Cell<()>>,
}

/// A send queue. `Send`, so that it can move to its worker, and not `Sync`.
#[derive(Debug)]
pub struct TxQueue {
    _token: Arc<QueueToken>,
    pub(crate) port: Arc<PortInner>,
    pub(crate) queue: u16,
    /// Flags the port was not configured for.
    forbidden: u32,
    segments_max: u16,
    rejected: u64,
    _not_sync: PhantomData<Cell<()>>,
}

impl RxQueue {
    pub(crate) fn new(token: Arc<QueueToken>, port: Arc<PortInner>, queue: u16) -> Self {
        Self { token, port, queue, _not_sync: PhantomData }
    }

    /// The queue's index on its port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// Appends received packets, oldest first, to the free places of `out` (at most [`BURST_MAX`])
    /// and returns how many came.
    pub fn burst<const N: usize>(&mut self, out: &mut ArrayVec<Mbuf, N>) -> usize {
        let len = out.len();
        let room = out.remaining_capacity().min(BURST_MAX);
        if room == 0 {
            return 0;
        }
        // SAFETY: this is the queue's only handle and the port is started while it exists (the
        // token). `room` places after the length are inside the ArrayVec, Mbuf is transparent over
        // the descriptor, and the `got` descriptors filled are live mbufs that are ours now.
        unsafe {
            let free = out.as_mut_ptr().add(len).cast::<clgw_mbuf>();
            let got = dpdk_sys::clgw_rx_burst(self.port.id, self.queue, free, room as u16);
            let got = usize::from(got).min(room);
            out.set_len(len + got);
            got
        }
    }
}

impl TxQueue {
    pub(crate) fn new(
        token: Arc<QueueToken>,
        port: Arc<PortInner>,
        queue: u16,
        offloads: TxOffloads,
        segments_max: u16,
    ) -> Self {
        let mut forbidden = 0;
        for (offload, flag) in [
            (TxOffloads::IPV4_CKSUM, dpdk_sys::CLGW_TX_IP_CKSUM),
            (TxOffloads::TCP_CKSUM, dpdk_sys::CLGW_TX_TCP_CKSUM),
            (TxOffloads::UDP_CKSUM, dpdk_sys::CLGW_TX_UDP_CKSUM),
            (TxOffloads::TCP_TSO, dpdk_sys::CLGW_TX_TCP_SEG),
        ] {
            if !offloads.contains(offload) {
                forbidden |= flag;
            }
        }
        let segments_max = match segments_max {
            _ if !offloads.contains(TxOffloads::MULTI_SEGS) => 1,
            0 => u16::MAX,
            limit => limit,
        };
        Self {
            _token: token,
            port,
            queue,
            forbidden,
            segments_max,
            rejected: 0,
            _not_sync: PhantomData,
        }
    }

    /// The queue's index on its port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// Packets dropped because this port can never send them: shorter than an Ethernet header, or
    /// with an offload or a number of segments it was not configured for.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Sends from the front of `queue` until it is empty or the device is full, and returns how many
    /// packets the device took. What it refused stays, in order. Packets this port can never send
    /// are dropped and counted in [`rejected`](Self::rejected).
    pub fn burst(&mut self, queue: &mut VecDeque<Mbuf>) -> usize {
        let mut total = 0;
        while !queue.is_empty() {
            // Ownership leaves the queue before DPDK sees a pointer: whatever happens in between,
            // no Mbuf exists whose drop could free what the device holds.
            let mut batch = ArrayVec::<clgw_mbuf, BURST_MAX>::new();
            while !batch.is_full()
                && let Some(mbuf) = queue.pop_front()
            {
                if self.sendable(mbuf.raw()) {
                    batch.push(mbuf.into_raw());
                } else {
                    self.rejected += 1;
                }
            }
            if batch.is_empty() {
                break;
            }
            let mut invalid = 0u8;
            // SAFETY: this is the queue's only handle and the port is started while it exists (the
            // token). Every entry is a live mbuf owned by `batch`, in order; the first `sent` of
            // them belong to the device afterwards.
            let sent = unsafe {
                dpdk_sys::clgw_tx_burst(
                    self.port.id,
                    self.queue,
                    batch.as_ptr(),
                    batch.len() as u16,
                    &mut invalid,
                )
            };
            let sent = usize::from(sent).min(batch.len());
            total += sent;
            let mut back = sent;
            if invalid != 0 && sent < batch.len() {
                // SAFETY: not sent, so still owned here; dropped once.
                drop(unsafe { Mbuf::from_raw(batch[sent]) });
                self.rejected += 1;
                back += 1;
            }
            for raw in batch[back..].iter().rev() {
                // SAFETY: not sent, so still owned here; each goes into one Mbuf. The queue had room
                // for it before, so nothing is allocated.
                queue.push_front(unsafe { Mbuf::from_raw(*raw) });
            }
            if sent < batch.len() && invalid == 0 {
                break;
            }
        }
        total
    }

    fn sendable(&self, raw: &clgw_mbuf) -> bool {
        let headers = u32::from(raw.l2_len) + u32::from(raw.l3_len) + u32::from(raw.l4_len);
        raw.pkt_len >= FRAME_MIN
            && raw.flags & self.forbidden == 0
            && raw.nb_segs <= self.segments_max
            // An edit after set_tx_offload may have cut into the headers a driver will read.
            && headers <= u32::from(raw.data_len)
    }
}
