//! A port as a worker has it: the device, the stack without TCP state, and the frames on their
//! way out.

use std::collections::VecDeque;

use crate::flow::FlowId;
use crate::limits::{ETHERNET_HEADER, TSO_PACKET, TX_QUEUE_FRAMES, TX_STASH_FRAMES};
use crate::net::{FlowKey, NeighbourId, PortStack, TxSink, request_checksum};
use crate::port::{Frame, FrameIo, Side, TxMeta};
use crate::tcp::{ProfileId, SegmentSink};
use crate::telemetry::{Counters, DropReason};

#[derive(Debug)]
pub(super) struct Port<P: FrameIo> {
    pub io: P,
    pub stack: PortStack,
    pub side: Side,
    pub profile: ProfileId,
    /// Whose segment came last: the next one is often of the same connection. May be gone by now.
    pub last_flow: Option<(FlowKey, FlowId)>,
    queue: VecDeque<P::Frame>,
    /// Where a segment goes for which there is no frame.
    spare: Box<[u8]>,
    tx_checksum: bool,
    tally: Tally,
}

/// What was queued and what could not be, since it was last added to the worker's counters.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    bytes: u64,
    queue_full: u64,
    no_frame: u64,
    too_long: u64,
    unresolved: u64,
}

impl<P: FrameIo> Port<P> {
    pub fn new(io: P, stack: PortStack, side: Side, profile: ProfileId) -> Self {
        let tx_checksum = io.caps().tx_checksum;
        let spare = vec![0; ETHERNET_HEADER + stack.mtu()].into();
        Self {
            io,
            stack,
            side,
            profile,
            last_flow: None,
            queue: VecDeque::with_capacity(TX_QUEUE_FRAMES + TX_STASH_FRAMES),
            spare,
            tx_checksum,
            tally: Tally::default(),
        }
    }

    /// The stack and where it may send, at the same time.
    pub fn split(&mut self) -> (&mut PortStack, Tx<'_, P>) {
        let Self { io, stack, queue, spare, tx_checksum, tally, .. } = self;
        (stack, Tx { io, queue, spare, tx_checksum: *tx_checksum, tally })
    }

    /// Where a connection with this next hop may send.
    pub fn flow_tx(&mut self, neighbour: NeighbourId, v4: bool) -> FlowTx<'_, P> {
        let l2 = self.stack.l2_header(neighbour, !v4);
        let cuts = self.io.caps().tso;
        FlowTx { tx: self.split().1, l2, cuts, large: None }
    }

    /// Gives queued frames to the device; returns how many it took.
    pub fn transmit(&mut self, counters: &mut Counters) -> usize {
        let tally = std::mem::take(&mut self.tally);
        counters.tx_bytes += tally.bytes;
        counters.add_drops(DropReason::TxQueueFull, tally.queue_full);
        counters.add_drops(DropReason::NoMbuf, tally.no_frame);
        counters.add_drops(DropReason::FrameTooLong, tally.too_long);
        counters.add_drops(DropReason::NeighbourUnresolved, tally.unresolved);
        let mut sent = 0;
        while !self.queue.is_empty() {
            let n = self.io.tx_burst(&mut self.queue);
            sent += n;
            if n == 0 {
                break;
            }
        }
        counters.tx_frames += sent as u64;
        sent
    }
}

/// Where frames of one port go.
pub(super) struct Tx<'a, P: FrameIo> {
    io: &'a mut P,
    queue: &'a mut VecDeque<P::Frame>,
    spare: &'a mut [u8],
    tx_checksum: bool,
    tally: &'a mut Tally,
}

impl<P: FrameIo> TxSink for Tx<'_, P> {
    fn send(&mut self, len: usize, meta: TxMeta, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        // Replies may use the room that connections leave alone.
        if self.queue.len() >= TX_QUEUE_FRAMES + TX_STASH_FRAMES {
            self.tally.queue_full += 1;
            return false;
        }
        let Some(mut frame) = self.io.alloc() else {
            self.tally.no_frame += 1;
            return false;
        };
        if len > frame.capacity() {
            self.tally.too_long += 1;
            return false;
        }
        frame.set_len(len);
        fill(frame.data_mut());
        frame.set_tx_meta(meta);
        self.tally.bytes += len as u64;
        self.queue.push_back(frame);
        true
    }
}

/// Where segments of one connection go: frames of its port with its link header in front.
pub(super) struct FlowTx<'a, P: FrameIo> {
    pub tx: Tx<'a, P>,
    /// `None` while the next hop is unknown.
    pub l2: Option<[u8; ETHERNET_HEADER]>,
    /// The device cuts packets of this connection.
    cuts: bool,
    /// For the next of them.
    large: Option<P::Frame>,
}

impl<P: FrameIo> FlowTx<'_, P> {
    /// Fills and queues a frame that holds `len` bytes behind its link header.
    fn queue<R>(
        &mut self,
        mut frame: P::Frame,
        l2: [u8; ETHERNET_HEADER],
        (len, cut): (usize, u16),
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let whole = ETHERNET_HEADER + len;
        frame.set_len(whole);
        let bytes = frame.data_mut();
        bytes[..ETHERNET_HEADER].copy_from_slice(&l2);
        let result = fill(&mut bytes[ETHERNET_HEADER..]);
        if self.tx.tx_checksum {
            let meta = request_checksum(&mut bytes[ETHERNET_HEADER..], cut);
            frame.set_tx_meta(meta);
        }
        self.tx.tally.bytes += whole as u64;
        self.tx.queue.push_back(frame);
        result
    }
}

impl<P: FrameIo> SegmentSink for FlowTx<'_, P> {
    fn room(&self) -> usize {
        match self.l2 {
            Some(_) => TX_QUEUE_FRAMES.saturating_sub(self.tx.queue.len()),
            None => 0,
        }
    }

    fn segment<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let whole = ETHERNET_HEADER + len;
        let frame = match self.l2 {
            Some(l2) if self.tx.queue.len() < TX_QUEUE_FRAMES + TX_STASH_FRAMES => {
                self.tx.io.alloc().filter(|f| whole <= f.capacity()).map(|f| (f, l2))
            }
            _ => None,
        };
        let Some((frame, l2)) = frame else {
            match self.l2 {
                None => self.tx.tally.unresolved += 1,
                Some(_) => self.tx.tally.no_frame += 1,
            }
            return fill(&mut self.tx.spare[..len]);
        };
        self.queue(frame, l2, (len, 0), fill)
    }

    fn cuts(&mut self) -> usize {
        if self.cuts && self.large.is_none() && self.room() > 0 {
            self.large = self.tx.io.alloc_large();
        }
        if self.large.is_some() { TSO_PACKET } else { 0 }
    }

    fn cut(&mut self, len: usize, segment: u16, fill: impl FnOnce(&mut [u8])) {
        match (self.large.take(), self.l2) {
            (Some(frame), Some(l2)) => self.queue(frame, l2, (len, segment), fill),
            _ => self.tx.tally.no_frame += 1,
        }
    }
}
