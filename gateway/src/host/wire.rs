//! Frames of a host on their way out, and smoltcp's view of the port.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, RxToken, TxToken};
use smoltcp::time::Instant as SmolInstant;

use crate::limits::{ETHERNET_HEADER, MAX_IP_PACKET, RX_BURST, TX_QUEUE_FRAMES};
use crate::net::{TxSink, request_checksum};
use crate::port::{Frame, FrameIo, TxMeta};
use crate::telemetry::{Counters, DropReason};

pub(super) struct Out<P: FrameIo> {
    pub io: P,
    queue: VecDeque<P::Frame>,
    /// Where a segment goes for which there is no frame.
    scratch: Box<[u8]>,
    tx_checksum: bool,
    sent_bytes: u64,
    no_frame: u64,
}

impl<P: FrameIo> Out<P> {
    pub fn new(io: P) -> Self {
        let tx_checksum = io.caps().tx_checksum;
        Self {
            io,
            queue: VecDeque::with_capacity(TX_QUEUE_FRAMES),
            scratch: vec![0; MAX_IP_PACKET].into(),
            tx_checksum,
            sent_bytes: 0,
            no_frame: 0,
        }
    }

    /// The device does not take frames as fast as they come: connections have to wait.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= TX_QUEUE_FRAMES
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Enough frames wait to be worth a call of the device.
    pub fn has_burst(&self) -> bool {
        self.queue.len() >= RX_BURST
    }

    /// Gives queued frames to the device until it takes no more.
    pub fn transmit(&mut self, counters: &mut Counters) {
        counters.tx_bytes += std::mem::take(&mut self.sent_bytes);
        counters.add_drops(DropReason::NoMbuf, std::mem::take(&mut self.no_frame));
        while !self.queue.is_empty() {
            match self.io.tx_burst(&mut self.queue) {
                0 => break,
                n => counters.tx_frames += n as u64,
            }
        }
    }
}

impl<P: FrameIo> TxSink for Out<P> {
    fn send(&mut self, len: usize, meta: TxMeta, fill: &mut dyn FnMut(&mut [u8])) -> bool {
        let Some(mut frame) = self.io.alloc().filter(|f| len <= f.capacity()) else {
            self.no_frame += 1;
            return false;
        };
        frame.set_len(len);
        fill(frame.data_mut());
        frame.set_tx_meta(meta);
        self.sent_bytes += len as u64;
        self.queue.push_back(frame);
        true
    }
}

/// One packet in, any number out to one next hop.
pub(super) struct Wire<'a, P: FrameIo> {
    pub rx: Option<&'a [u8]>,
    pub out: &'a mut Out<P>,
    /// `None` while the next hop is unknown: what is sent is lost.
    pub l2: Option<[u8; ETHERNET_HEADER]>,
    /// Only read when the interface is made.
    pub caps: Option<DeviceCapabilities>,
}

pub(super) struct Rx<'a>(&'a [u8]);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct Tx<'a, P: FrameIo> {
    frame: Option<P::Frame>,
    out: &'a mut Out<P>,
    l2: Option<[u8; ETHERNET_HEADER]>,
}

impl<P: FrameIo> TxToken for Tx<'_, P> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Self { frame, out, l2 } = self;
        let whole = ETHERNET_HEADER + len;
        let frame = frame.or_else(|| l2.and_then(|_| out.io.alloc()));
        let (Some(mut frame), Some(l2)) = (frame.filter(|f| whole <= f.capacity()), l2) else {
            out.no_frame += u64::from(l2.is_some());
            return f(&mut out.scratch[..len]);
        };
        frame.set_len(whole);
        let data = frame.data_mut();
        data[..ETHERNET_HEADER].copy_from_slice(&l2);
        let result = f(&mut data[ETHERNET_HEADER..]);
        if out.tx_checksum {
            let meta = request_checksum(&mut data[ETHERNET_HEADER..], 0);
            frame.set_tx_meta(meta);
        }
        out.sent_bytes += whole as u64;
        out.queue.push_back(frame);
        result
    }
}

impl<P: FrameIo> Device for Wire<'_, P> {
    type RxToken<'t>
        = Rx<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Tx<'t, P>
    where
        Self: 't;

    fn receive(&mut self, _: SmolInstant) -> Option<(Rx<'_>, Tx<'_, P>)> {
        let packet = self.rx.take()?;
        // A frame only if there is an answer.
        Some((Rx(packet), Tx { frame: None, out: self.out, l2: self.l2 }))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Tx<'_, P>> {
        // Asked for only when there is a segment to send.
        let frame = self.out.io.alloc();
        frame.is_some().then_some(Tx { frame, out: self.out, l2: self.l2 })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.caps.clone().unwrap_or_default()
    }
}
