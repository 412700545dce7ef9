//! A queue pair of a DPDK port.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use arrayvec::ArrayVec;
use dpdk_bindings::{
    Checksum, DpdkError, IpVersion, Mbuf, MbufPool, RxInterrupts, RxQueue, TxOffload, TxQueue,
};

use super::{Frame, FrameIo, PortCaps, RxBurst, RxChecksum, RxMeta, TxMeta};
use crate::limits::TX_STASH_FRAMES;

impl Frame for Mbuf {
    fn data(&self) -> &[u8] {
        Mbuf::data(self)
    }

    fn data_mut(&mut self) -> &mut [u8] {
        Mbuf::data_mut(self)
    }

    fn capacity(&self) -> usize {
        Mbuf::capacity(self)
    }

    fn set_len(&mut self, len: usize) {
        let len = len.min(Mbuf::capacity(self));
        let set = Mbuf::set_len(self, len);
        debug_assert!(set.is_ok(), "a length within the capacity of one segment");
    }

    fn rx_meta(&self) -> RxMeta {
        let flags = self.rx_flags();
        let checksum = |c| match c {
            Checksum::Good => RxChecksum::Good,
            Checksum::Bad => RxChecksum::Bad,
            _ => RxChecksum::Unknown,
        };
        RxMeta {
            ip: checksum(flags.ip_cksum),
            l4: checksum(flags.l4_cksum),
            rss_hash: flags.rss_hash,
        }
    }

    fn set_tx_meta(&mut self, meta: TxMeta) {
        if !meta.checksum {
            return;
        }
        let set = self.set_tx_offload(TxOffload {
            ip: if meta.ipv6 { IpVersion::V6 } else { IpVersion::V4 },
            l2_len: meta.l2_len,
            l3_len: meta.l3_len.into(),
            l4_len: meta.l4_len,
            ip_cksum: !meta.ipv6,
            tcp_cksum: true,
            tso_segsz: NonZeroU16::new(meta.tso_segment),
        });
        debug_assert!(set.is_ok(), "header lengths come from the headers just written");
    }
}

/// The queue pair that one worker owns.
#[derive(Debug)]
pub struct DpdkPort {
    rx: RxQueue,
    tx: TxQueue,
    pool: MbufPool,
    /// For what the device cuts, if it cuts.
    large: Option<MbufPool>,
    /// Empty mbufs at hand: one pool access for many frames.
    stash: ArrayVec<Mbuf, TX_STASH_FRAMES>,
    caps: PortCaps,
}

impl DpdkPort {
    /// `large`: mbufs of [`crate::limits::TSO_PACKET`] bytes and a link header, where the device cuts.
    pub fn new(
        (rx, tx): (RxQueue, TxQueue),
        pool: MbufPool,
        large: Option<MbufPool>,
        caps: PortCaps,
    ) -> Self {
        Self { rx, tx, pool, large, stash: ArrayVec::new(), caps }
    }

    /// Lets received frames wake the thread that has `interrupts`, while the port is armed.
    ///
    /// # Errors
    /// The device has no receive interrupts, or they were not asked for when it started.
    pub fn watch(&mut self, interrupts: &mut RxInterrupts) -> Result<(), DpdkError> {
        interrupts.watch(&mut self.rx)
    }

    /// # Errors
    /// As of [`Self::watch`].
    pub fn arm(&mut self) -> Result<(), DpdkError> {
        self.rx.arm()
    }

    pub fn disarm(&mut self) {
        self.rx.disarm();
    }
}

impl FrameIo for DpdkPort {
    type Frame = Mbuf;

    fn caps(&self) -> &PortCaps {
        &self.caps
    }

    fn rx_burst(&mut self, out: &mut RxBurst<Mbuf>) -> usize {
        let before = out.len();
        let n = self.rx.burst(out);
        for mbuf in &mut out[before..] {
            // Parsers want one run of bytes. A frame that does not fit one mbuf is longer than
            // any MTU we configure, and its IP length will not match what is left of it.
            if mbuf.segment_count() > 1 {
                let _ = mbuf.linearize();
            }
        }
        n
    }

    fn alloc(&mut self) -> Option<Mbuf> {
        if self.stash.is_empty() {
            self.pool.alloc_bulk(&mut self.stash);
        }
        self.stash.pop()
    }

    fn alloc_large(&mut self) -> Option<Mbuf> {
        self.large.as_ref()?.alloc()
    }

    fn tx_burst(&mut self, queue: &mut VecDeque<Mbuf>) -> usize {
        self.tx.burst(queue)
    }
}
