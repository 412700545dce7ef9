//! A port without a device: frames are put in and taken out by whoever owns the simulated wire.
//! One thread, no clock, no randomness, so a simulation is what its seed says.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::{Frame, FrameIo, PortCaps, RxBurst, RxMeta, TxMeta};
use crate::limits::ETHERNET_HEADER;

/// Frame buffers of one simulation. Bounded, as an mbuf pool is, so that exhaustion can happen.
#[derive(Clone, Debug)]
pub struct SimPool {
    free: Arc<ArrayQueue<Box<[u8]>>>,
    frame_bytes: usize,
}

impl SimPool {
    /// `frames` buffers for IP packets of `mtu` bytes.
    pub fn new(frames: usize, mtu: usize) -> Self {
        let frame_bytes = mtu + ETHERNET_HEADER;
        let free = ArrayQueue::new(frames.max(1));
        while free.push(vec![0; frame_bytes].into()).is_ok() {}
        Self { free: Arc::new(free), frame_bytes }
    }

    pub fn alloc(&self) -> Option<SimFrame> {
        let bytes = self.free.pop()?;
        Some(SimFrame { bytes, len: 0, rx: RxMeta::default(), home: Arc::clone(&self.free) })
    }

    /// A frame with a copy of `bytes`; `None` if the pool is empty or they do not fit.
    pub fn copy(&self, bytes: &[u8]) -> Option<SimFrame> {
        if bytes.len() > self.frame_bytes {
            return None;
        }
        let mut frame = self.alloc()?;
        frame.set_len(bytes.len());
        frame.data_mut().copy_from_slice(bytes);
        Some(frame)
    }

    /// Buffers in the pool now; equal to the pool's size when no frame is anywhere.
    pub fn available(&self) -> usize {
        self.free.len()
    }
}

/// A frame; its buffer goes back to its pool when it is dropped.
#[derive(Debug)]
pub struct SimFrame {
    bytes: Box<[u8]>,
    len: usize,
    rx: RxMeta,
    home: Arc<ArrayQueue<Box<[u8]>>>,
}

impl SimFrame {
    pub fn set_rx_meta(&mut self, meta: RxMeta) {
        self.rx = meta;
    }
}

impl Drop for SimFrame {
    fn drop(&mut self) {
        // The pool has a place for each of its buffers.
        let _ = self.home.push(std::mem::take(&mut self.bytes));
    }
}

impl Frame for SimFrame {
    fn data(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    fn set_len(&mut self, len: usize) {
        self.len = len.min(self.bytes.len());
    }

    fn rx_meta(&self) -> RxMeta {
        self.rx
    }

    fn set_tx_meta(&mut self, _: TxMeta) {}
}

/// One queue pair of a simulated port.
#[derive(Debug)]
pub struct SimPort {
    caps: PortCaps,
    pool: SimPool,
    rx: VecDeque<SimFrame>,
    tx: VecDeque<SimFrame>,
    rx_ring: usize,
    tx_ring: usize,
    /// Frames that found the receive ring full.
    pub overruns: u64,
}

impl SimPort {
    /// A port whose rings hold `rx_ring` and `tx_ring` frames.
    pub fn new(caps: PortCaps, pool: SimPool, rx_ring: usize, tx_ring: usize) -> Self {
        Self {
            caps,
            pool,
            rx: VecDeque::with_capacity(rx_ring),
            tx: VecDeque::with_capacity(tx_ring),
            rx_ring,
            tx_ring,
            overruns: 0,
        }
    }

    /// Puts a frame into the receive ring; drops it if that is full, as a device does.
    pub fn deliver(&mut self, frame: SimFrame) {
        if self.rx.len() < self.rx_ring {
            self.rx.push_back(frame);
        } else {
            self.overruns += 1;
        }
    }

    /// Takes the oldest sent frame off the wire.
    pub fn collect(&mut self) -> Option<SimFrame> {
        self.tx.pop_front()
    }

    pub fn pool(&self) -> &SimPool {
        &self.pool
    }

    /// Whether frames wait to be received.
    pub fn has_received(&self) -> bool {
        !self.rx.is_empty()
    }
}

impl FrameIo for SimPort {
    type Frame = SimFrame;

    fn caps(&self) -> &PortCaps {
        &self.caps
    }

    fn rx_burst(&mut self, out: &mut RxBurst<SimFrame>) -> usize {
        let n = out.remaining_capacity().min(self.rx.len());
        out.extend(self.rx.drain(..n));
        n
    }

    fn alloc(&mut self) -> Option<SimFrame> {
        self.pool.alloc()
    }

    fn tx_burst(&mut self, queue: &mut VecDeque<SimFrame>) -> usize {
        let n = queue.len().min(self.tx_ring - self.tx.len());
        self.tx.extend(queue.drain(..n));
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::MacAddr;

    #[test]
    fn buffers_come_back_and_rings_are_bounded() {
        let pool = SimPool::new(4, 1500);
        let caps = PortCaps {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            tx_checksum: false,
            rx_checksum: false,
            rss: None,
        };
        let mut port = SimPort::new(caps, pool.clone(), 2, 1);
        for n in 0..3 {
            port.deliver(pool.copy(&[n; 60]).unwrap());
        }
        assert_eq!(port.overruns, 1);
        let mut burst = RxBurst::new();
        assert_eq!(port.rx_burst(&mut burst), 2);
        assert_eq!(burst[0].data(), [0; 60]);
        let mut queue: VecDeque<_> = burst.into_iter().collect();
        assert_eq!(port.tx_burst(&mut queue), 1, "the ring has one place");
        assert_eq!(queue.front().unwrap().data(), [1; 60], "what was refused stays");
        assert_eq!(port.collect().unwrap().data(), [0; 60]);
        drop(queue);
        assert_eq!(pool.available(), 4);
        assert!(pool.copy(&[0; 1515]).is_none());
    }
}
