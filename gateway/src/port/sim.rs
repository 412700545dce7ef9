//! A port without a device: frames are put in and taken out by whoever owns the simulated wire.
//! One thread, no clock, no randomness, so a simulation is what its seed says.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpPacket};

use super::{Frame, FrameIo, PortCaps, RxBurst, RxMeta, TxMeta};
use crate::limits::{ETHERNET_HEADER, TSO_PACKET};

/// Frames for what a device is to cut.
const LARGE_FRAMES: usize = 64;

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
        let (rx, tx) = (RxMeta::default(), TxMeta::default());
        Some(SimFrame { bytes, len: 0, rx, tx, home: Arc::clone(&self.free) })
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
    tx: TxMeta,
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

    fn set_tx_meta(&mut self, meta: TxMeta) {
        self.tx = meta;
    }
}

/// One queue pair of a simulated port.
#[derive(Debug)]
pub struct SimPort {
    caps: PortCaps,
    pool: SimPool,
    /// Frames for what the device cuts.
    large: Option<SimPool>,
    rx: VecDeque<SimFrame>,
    tx: VecDeque<SimFrame>,
    /// Bytes of payload of the first frame of `tx` that were cut off and collected.
    cut: usize,
    rx_ring: usize,
    tx_ring: usize,
    /// Frames that found the receive ring full.
    pub overruns: u64,
}

impl SimPort {
    /// A port whose rings hold `rx_ring` and `tx_ring` frames.
    pub fn new(caps: PortCaps, pool: SimPool, rx_ring: usize, tx_ring: usize) -> Self {
        let large = caps.tso.then(|| SimPool::new(LARGE_FRAMES, TSO_PACKET));
        Self {
            caps,
            pool,
            large,
            cut: 0,
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

    /// Takes the oldest sent frame off the wire, or the next segment of it.
    pub fn collect(&mut self) -> Option<SimFrame> {
        let first = self.tx.front()?;
        if first.tx.tso_segment == 0 {
            return self.tx.pop_front();
        }
        let mut segment = self.pool.alloc()?;
        self.cut = cut(first, self.cut, &mut segment);
        if self.cut == 0 {
            self.tx.pop_front();
        }
        Some(segment)
    }

    pub fn pool(&self) -> &SimPool {
        &self.pool
    }

    /// Every frame for what the device cuts is in its pool.
    pub fn large_frames_are_back(&self) -> bool {
        self.large.as_ref().is_none_or(|large| large.available() == LARGE_FRAMES)
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

    fn alloc_large(&mut self) -> Option<SimFrame> {
        self.large.as_ref()?.alloc()
    }

    fn tx_burst(&mut self, queue: &mut VecDeque<SimFrame>) -> usize {
        let n = queue.len().min(self.tx_ring - self.tx.len());
        self.tx.extend(queue.drain(..n));
        n
    }
}

/// Writes to `segment` what a device sends of `whole` behind `done` bytes of payload, with the headers
/// that belong to it; returns how many are done now, 0 once all are. Checksums stay as they are: who receives it
/// is told that they were good.
fn cut(whole: &SimFrame, done: usize, segment: &mut SimFrame) -> usize {
    let TxMeta { l2_len, l3_len, l4_len, ipv6, tso_segment, .. } = whole.tx;
    let [l2, l3, l4] = [l2_len, l3_len, l4_len].map(usize::from);
    let (headers, payload) = whole.data().split_at(l2 + l3 + l4);
    let rest = &payload[done..];
    let part = &rest[..rest.len().min(tso_segment.into())];
    segment.set_len(headers.len() + part.len());
    segment.data_mut()[..headers.len()].copy_from_slice(headers);
    segment.data_mut()[headers.len()..].copy_from_slice(part);
    let ip = &mut segment.data_mut()[l2..];
    if ipv6 {
        Ipv6Packet::new_unchecked(&mut *ip).set_payload_len((l4 + part.len()) as u16);
    } else {
        Ipv4Packet::new_unchecked(&mut *ip).set_total_len((l3 + l4 + part.len()) as u16);
    }
    let mut tcp = TcpPacket::new_unchecked(&mut ip[l3..]);
    tcp.set_seq_number(tcp.seq_number() + done);
    let last = part.len() == rest.len();
    tcp.set_psh(tcp.psh() && last);
    tcp.set_fin(tcp.fin() && last);
    tcp.set_cwr(tcp.cwr() && done == 0);
    if last { 0 } else { done + part.len() }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        IpAddress, IpProtocol, IpRepr, TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr,
    };

    use super::*;
    use crate::net::request_checksum;
    use crate::port::MacAddr;

    fn caps() -> PortCaps {
        PortCaps {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            tx_checksum: false,
            rx_checksum: false,
            tso: false,
            rss: None,
        }
    }

    /// Two segments and a half, IPv4 and IPv6.
    #[test]
    fn a_packet_is_cut_into_segments() {
        let key = |v6| match v6 {
            false => ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:80".parse().unwrap()),
            true => ("[fd00::1]:4000".parse().unwrap(), "[fd00::2]:80".parse().unwrap()),
        };
        for v6 in [false, true] {
            let (src, dst): (SocketAddr, SocketAddr) = key(v6);
            let payload: Vec<u8> = (0..2_500).map(|n| (n % 251) as u8).collect();
            let tcp = TcpRepr {
                src_port: src.port(),
                dst_port: dst.port(),
                control: TcpControl::Psh,
                seq_number: TcpSeqNumber(-500),
                ack_number: Some(TcpSeqNumber(7)),
                window_len: 1_000,
                window_scale: None,
                max_seg_size: None,
                sack_permitted: false,
                sack_ranges: [None; 3],
                timestamp: Some(TcpTimestampRepr::new(1, 2)),
                payload: &payload,
            };
            let (from, to) = (IpAddress::from(src.ip()), IpAddress::from(dst.ip()));
            let ip = IpRepr::new(from, to, IpProtocol::Tcp, tcp.buffer_len(), 64);
            let checksums = ChecksumCapabilities::ignored();
            let mut whole = SimPool::new(1, 4_000).alloc().unwrap();
            whole.set_len(ETHERNET_HEADER + ip.buffer_len());
            let packet = &mut whole.data_mut()[ETHERNET_HEADER..];
            ip.emit(&mut *packet, &checksums);
            tcp.emit(
                &mut TcpPacket::new_unchecked(&mut packet[ip.header_len()..]),
                &from,
                &to,
                &checksums,
            );
            let meta = request_checksum(packet, 1_000);
            assert_eq!((meta.tso_segment, meta.ipv6), (1_000, v6));
            whole.set_tx_meta(meta);

            let caps = PortCaps { tso: true, ..caps() };
            let pool = SimPool::new(4, 1_500);
            let mut port = SimPort::new(caps, pool, 1, 1);
            assert_eq!(port.tx_burst(&mut [whole].into()), 1);
            let mut bytes = Vec::new();
            for (n, len) in [1_000, 1_000, 500].into_iter().enumerate() {
                let segment = port.collect().unwrap();
                let packet = &segment.data()[ETHERNET_HEADER..];
                let payload = if v6 {
                    Ipv6Packet::new_checked(packet).unwrap().payload()
                } else {
                    Ipv4Packet::new_checked(packet).unwrap().payload()
                };
                let part = TcpPacket::new_checked(payload).unwrap();
                assert_eq!(part.seq_number(), tcp.seq_number + 1_000 * n);
                assert_eq!((part.payload().len(), part.psh()), (len, n == 2));
                assert_eq!(part.header_len(), 32);
                bytes.extend_from_slice(part.payload());
            }
            assert_eq!(bytes, payload);
            assert!(port.collect().is_none());
        }
    }

    #[test]
    fn buffers_come_back_and_rings_are_bounded() {
        let pool = SimPool::new(4, 1500);
        let mut port = SimPort::new(caps(), pool.clone(), 2, 1);
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
