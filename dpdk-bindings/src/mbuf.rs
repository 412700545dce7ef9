//! The owned packet buffer.
//!
//! An [`Mbuf`] is a descriptor that holds the mbuf's pointer and the fields of it that a packet path
//! touches, so that reading and editing a packet is plain Rust. DPDK's own copy of the fields is
//! brought up to date in one go when the mbuf is sent or chained.

use std::fmt;
use std::num::NonZeroU16;

use dpdk_sys::clgw_mbuf;
use thiserror::Error;

/// A packet buffer owned by this value: dropped, it goes back to its pool; sent, it belongs to the
/// device. A received packet may consist of several segments; `data` is the first.
#[repr(transparent)]
pub struct Mbuf {
    raw: clgw_mbuf,
}

// `clgw_rx_burst` and `clgw_mbuf_alloc_bulk` write descriptors into arrays of Mbuf.
const _: () = assert!(size_of::<Mbuf>() == size_of::<clgw_mbuf>());

// SAFETY: the mbuf is reachable through this value only, and a pool takes mbufs back from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: `&Mbuf` only reads, from the descriptor, the buffer and the chain's links.
unsafe impl Sync for Mbuf {}

/// An edit that does not fit the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MbufError {
    #[error("{wanted} bytes are wanted and the mbuf has room for {room}; use a larger data room")]
    NoRoom { wanted: usize, room: usize },
    #[error("{wanted} bytes are to be cut off and the first segment has {len}; drop the packet")]
    TooShort { wanted: usize, len: usize },
    #[error("the packet has {segments} segments and this works on one; linearize it first")]
    MultiSegment { segments: u16 },
    #[error("offload request: {0}")]
    Offload(&'static str),
}

/// What is known about a checksum of a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// The device did not look: verify it in software.
    #[default]
    Unknown,
    Good,
    Bad,
}

/// What the device said about a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RxFlags {
    pub ip_cksum: Checksum,
    pub l4_cksum: Checksum,
    /// The hash that chose the receive queue.
    pub rss_hash: Option<u32>,
    /// Several segments of one flow, joined by the device.
    pub lro: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpVersion {
    V4,
    V6,
}

/// What the device shall fill in while sending. The caller has written the pseudo-header sum into
/// the L4 checksum field; with TSO that sum leaves the length out (DPDK mbuf guide, "TCP
/// segmentation offload").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxOffload {
    pub ip: IpVersion,
    /// Bytes of the Ethernet header, at most 127.
    pub l2_len: u8,
    /// Bytes of the IP header, at most 511.
    pub l3_len: u16,
    /// Bytes of the TCP header; needed for TSO only.
    pub l4_len: u8,
    /// Fill in the IPv4 header checksum.
    pub ip_cksum: bool,
    /// Fill in the TCP checksum.
    pub tcp_cksum: bool,
    /// Cut into segments of at most this many TCP payload bytes. Needs `tcp_cksum`.
    pub tso_segsz: Option<NonZeroU16>,
}

impl Mbuf {
    /// # Safety
    /// `raw` must describe a live mbuf, as the shim fills it, that nobody else owns.
    pub(crate) unsafe fn from_raw(raw: clgw_mbuf) -> Self {
        Self { raw }
    }

    /// Gives up ownership without freeing.
    pub(crate) fn into_raw(self) -> clgw_mbuf {
        let raw = self.raw;
        std::mem::forget(self);
        raw
    }

    pub(crate) fn raw(&self) -> &clgw_mbuf {
        &self.raw
    }

    /// The bytes of the first segment.
    pub fn data(&self) -> &[u8] {
        // SAFETY: the shim filled data and data_len from the mbuf, and every edit here keeps them
        // inside its buffer; the memory is initialised (zeroed by the kernel, or written since) and
        // owned by self.
        unsafe { std::slice::from_raw_parts(self.raw.data, usize::from(self.raw.data_len)) }
    }

    /// The bytes of the first segment, writable.
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; self is borrowed exclusively and is the only owner.
        unsafe { std::slice::from_raw_parts_mut(self.raw.data, usize::from(self.raw.data_len)) }
    }

    /// Bytes of the whole packet, all segments.
    pub fn len(&self) -> usize {
        self.raw.pkt_len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.raw.pkt_len == 0
    }

    /// How many segments the packet has; 1 for everything that was allocated here.
    pub fn segment_count(&self) -> u16 {
        self.raw.nb_segs
    }

    /// The segments' bytes in order, the first included.
    pub fn segments(&self) -> Segments<'_> {
        Segments { mbuf: self, next: self.raw.mbuf, first: true }
    }

    /// Free bytes in front of the data.
    pub fn headroom(&self) -> usize {
        usize::from(self.raw.headroom)
    }

    /// Free bytes behind the first segment's data.
    pub fn tailroom(&self) -> usize {
        usize::from(self.raw.tailroom)
    }

    /// Bytes the first segment holds at most, from where its data starts now.
    pub fn capacity(&self) -> usize {
        usize::from(self.raw.data_len) + usize::from(self.raw.tailroom)
    }

    fn single_segment(&self) -> Result<(), MbufError> {
        match self.raw.nb_segs {
            1 => Ok(()),
            segments => Err(MbufError::MultiSegment { segments }),
        }
    }

    /// Makes the packet `len` bytes long. New bytes are what the buffer held before: overwrite them
    /// before the packet leaves.
    ///
    /// # Errors
    /// More than [`capacity`](Self::capacity), or several segments.
    pub fn set_len(&mut self, len: usize) -> Result<(), MbufError> {
        self.single_segment()?;
        let room = self.capacity();
        let Ok(new) = u16::try_from(len) else {
            return Err(MbufError::NoRoom { wanted: len, room });
        };
        if len > room {
            return Err(MbufError::NoRoom { wanted: len, room });
        }
        // No overflow: room is at most the buffer, which u16 counts.
        self.raw.tailroom = (room - len) as u16;
        self.raw.data_len = new;
        self.raw.pkt_len = u32::from(new);
        Ok(())
    }

    /// Lengthens the packet by `n` bytes at its end and returns them. They hold old contents.
    ///
    /// # Errors
    /// No tailroom, or several segments.
    pub fn append(&mut self, n: usize) -> Result<&mut [u8], MbufError> {
        let old = self.data().len();
        let room = self.tailroom();
        if n > room {
            return Err(MbufError::NoRoom { wanted: n, room });
        }
        self.set_len(old + n)?;
        Ok(&mut self.data_mut()[old..])
    }

    /// Copies `bytes` behind the packet.
    ///
    /// # Errors
    /// No tailroom, or several segments; nothing is copied then.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), MbufError> {
        self.append(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Lengthens the packet by `n` bytes at its front and returns them. They hold old contents.
    ///
    /// # Errors
    /// No headroom.
    pub fn prepend(&mut self, n: usize) -> Result<&mut [u8], MbufError> {
        let room = self.headroom();
        let grown = u16::try_from(n).ok().and_then(|n| self.raw.data_len.checked_add(n));
        let (true, Some(grown)) = (n <= room, grown) else {
            return Err(MbufError::NoRoom { wanted: n, room });
        };
        // SAFETY: the headroom is that many bytes of the same buffer in front of data.
        self.raw.data = unsafe { self.raw.data.sub(n) };
        self.raw.headroom -= n as u16;
        self.raw.data_len = grown;
        self.raw.pkt_len += n as u32;
        Ok(&mut self.data_mut()[..n])
    }

    /// Cuts `n` bytes off the front of the packet.
    ///
    /// # Errors
    /// The first segment is shorter.
    pub fn trim_front(&mut self, n: usize) -> Result<(), MbufError> {
        let len = self.data().len();
        if n > len {
            return Err(MbufError::TooShort { wanted: n, len });
        }
        // SAFETY: n is at most data_len, so the pointer stays in the buffer or at its end.
        self.raw.data = unsafe { self.raw.data.add(n) };
        // No overflow: n is at most data_len, and headroom + data_len is inside the buffer.
        self.raw.headroom += n as u16;
        self.raw.data_len -= n as u16;
        self.raw.pkt_len -= n as u32;
        Ok(())
    }

    /// Cuts `n` bytes off the end of the packet.
    ///
    /// # Errors
    /// The packet is shorter, or has several segments.
    pub fn trim_back(&mut self, n: usize) -> Result<(), MbufError> {
        let len = self.data().len();
        match len.checked_sub(n) {
            Some(rest) => self.set_len(rest),
            None => Err(MbufError::TooShort { wanted: n, len }),
        }
    }

    /// What the device said about this packet when it was received.
    pub fn rx_flags(&self) -> RxFlags {
        let flags = self.raw.flags;
        let sum = |good: u32, bad: u32| {
            if flags & bad != 0 {
                Checksum::Bad
            } else if flags & good != 0 {
                Checksum::Good
            } else {
                Checksum::Unknown
            }
        };
        RxFlags {
            ip_cksum: sum(dpdk_sys::CLGW_RX_IP_CKSUM_GOOD, dpdk_sys::CLGW_RX_IP_CKSUM_BAD),
            l4_cksum: sum(dpdk_sys::CLGW_RX_L4_CKSUM_GOOD, dpdk_sys::CLGW_RX_L4_CKSUM_BAD),
            rss_hash: (flags & dpdk_sys::CLGW_RX_RSS_HASH != 0).then_some(self.raw.rss_hash),
            lro: flags & dpdk_sys::CLGW_RX_LRO != 0,
        }
    }

    /// Asks the device to fill in checksums or to segment. The port must have been configured with
    /// the offloads; a queue whose port was not refuses the packet.
    ///
    /// # Errors
    /// Headers beyond the first segment, or a contradiction.
    pub fn set_tx_offload(&mut self, offload: TxOffload) -> Result<(), MbufError> {
        // The widths of the bit fields in DPDK's mbuf.
        if offload.l2_len > 127 || offload.l3_len > 511 {
            return Err(MbufError::Offload("l2_len is at most 127 and l3_len at most 511 bytes"));
        }
        if offload.tso_segsz.is_some() && (!offload.tcp_cksum || offload.l4_len == 0) {
            return Err(MbufError::Offload("TSO needs tcp_cksum and l4_len"));
        }
        if offload.ip_cksum && offload.ip == IpVersion::V6 {
            return Err(MbufError::Offload("IPv6 has no header checksum"));
        }
        let headers =
            usize::from(offload.l2_len) + usize::from(offload.l3_len) + usize::from(offload.l4_len);
        if headers > self.data().len() {
            return Err(MbufError::TooShort { wanted: headers, len: self.data().len() });
        }
        let mut flags = match offload.ip {
            IpVersion::V4 => dpdk_sys::CLGW_TX_IPV4,
            IpVersion::V6 => dpdk_sys::CLGW_TX_IPV6,
        };
        if offload.ip_cksum {
            flags |= dpdk_sys::CLGW_TX_IP_CKSUM;
        }
        if offload.tcp_cksum {
            flags |= dpdk_sys::CLGW_TX_TCP_CKSUM;
        }
        if offload.tso_segsz.is_some() {
            flags |= dpdk_sys::CLGW_TX_TCP_SEG;
            if offload.ip == IpVersion::V4 {
                // Every segment has a length and a header sum of its own.
                flags |= dpdk_sys::CLGW_TX_IP_CKSUM;
            }
        }
        self.raw.flags = flags;
        self.raw.l2_len = offload.l2_len;
        self.raw.l3_len = offload.l3_len;
        self.raw.l4_len = offload.l4_len;
        self.raw.tso_segsz = offload.tso_segsz.map_or(0, NonZeroU16::get);
        Ok(())
    }

    /// Forgets what was said on receipt and what was asked for sending, as for a fresh mbuf.
    pub fn clear_flags(&mut self) {
        self.raw.flags = 0;
        self.raw.l2_len = 0;
        self.raw.l3_len = 0;
        self.raw.l4_len = 0;
        self.raw.tso_segsz = 0;
    }

    /// Copies the packet, all segments, to the front of `out` and returns its length.
    ///
    /// # Errors
    /// `out` is shorter than the packet; nothing useful is in it then.
    pub fn copy_to(&self, out: &mut [u8]) -> Result<usize, MbufError> {
        let room = out.len();
        let mut at = 0usize;
        for segment in self.segments() {
            let Some(place) = out.get_mut(at..at + segment.len()) else {
                return Err(MbufError::NoRoom { wanted: self.len(), room });
            };
            place.copy_from_slice(segment);
            at += segment.len();
        }
        Ok(at)
    }

    /// Makes the packet one segment by moving the others' bytes behind the first, and frees them.
    ///
    /// # Errors
    /// The first segment has no room for the rest; the packet is unchanged. [`copy_to`](Self::copy_to)
    /// with a larger buffer is the way then.
    pub fn linearize(&mut self) -> Result<(), MbufError> {
        if self.raw.nb_segs == 1 {
            return Ok(());
        }
        let first = self.data().len();
        let room = self.tailroom();
        // Summed up from the segments: a device's pkt_len is not trusted with a copy's bounds.
        let rest: usize = self.segments().skip(1).map(<[u8]>::len).sum();
        if rest > room {
            return Err(MbufError::NoRoom { wanted: rest, room });
        }
        let mut at = first;
        let mut segment = self.raw.mbuf;
        while let Some((next, data, len)) = next_segment(segment) {
            // SAFETY: source: len initialised bytes of a segment in this chain. Destination: the sum
            // of the lengths fits the tailroom, checked above. Different buffers, so no overlap.
            unsafe { std::ptr::copy_nonoverlapping(data, self.raw.data.add(at), len) };
            at += len;
            segment = next;
        }
        // No overflow: first + rest is at most the buffer, which u16 counts.
        self.raw.data_len = at as u16;
        self.raw.tailroom = (room - rest) as u16;
        // SAFETY: the mbuf is owned and its chain is well formed; the shim frees the rest of it.
        unsafe { dpdk_sys::clgw_mbuf_drop_tail(&mut self.raw) };
        Ok(())
    }

    /// Hangs `tail` behind this packet, whole. For TSO packets larger than one buffer.
    ///
    /// # Errors
    /// Too many segments; `tail` comes back.
    pub fn chain(&mut self, tail: Mbuf) -> Result<(), (Mbuf, MbufError)> {
        let raw = tail.into_raw();
        let grown = self.raw.pkt_len.checked_add(raw.pkt_len);
        // SAFETY: two live mbufs, both owned here and different ones. On 0 tail belongs to self.
        let fits =
            grown.is_some() && unsafe { dpdk_sys::clgw_mbuf_chain(&mut self.raw, &raw) } == 0;
        if fits {
            return Ok(());
        }
        // SAFETY: not chained, so still owned by this function and live.
        let tail = unsafe { Self::from_raw(raw) };
        let segments = self.raw.nb_segs.saturating_add(raw.nb_segs);
        Err((tail, MbufError::MultiSegment { segments }))
    }
}

/// The segment after `segment`: its mbuf, bytes and length.
fn next_segment(
    segment: *mut std::ffi::c_void,
) -> Option<(*mut std::ffi::c_void, *const u8, usize)> {
    let mut data = std::ptr::null_mut();
    let mut len = 0u16;
    // SAFETY: callers pass the mbuf of an owned chain; the shim only follows its link.
    let next = unsafe { dpdk_sys::clgw_mbuf_next(segment, &mut data, &mut len) };
    (!next.is_null()).then_some((next, data.cast_const(), usize::from(len)))
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: owned and live; the pool outlives it (see MbufPool). All segments go.
        unsafe { dpdk_sys::clgw_mbuf_free(self.raw.mbuf) };
    }
}

impl fmt::Debug for Mbuf {
    // Without the contents: packets carry other people's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("segments", &self.raw.nb_segs)
            .field("headroom", &self.raw.headroom)
            .field("tailroom", &self.raw.tailroom)
            .field("rx_flags", &self.rx_flags())
            .finish_non_exhaustive()
    }
}

/// Frees all mbufs of the iterator, a burst at a time: cheaper than one by one.
pub fn free_bulk(mbufs: impl IntoIterator<Item = Mbuf>) {
    let mut raw = arrayvec::ArrayVec::<clgw_mbuf, { dpdk_sys::CLGW_BURST_MAX }>::new();
    let free = |raw: &mut arrayvec::ArrayVec<clgw_mbuf, { dpdk_sys::CLGW_BURST_MAX }>| {
        // SAFETY: into_raw below made this function the owner of every entry.
        unsafe { dpdk_sys::clgw_mbuf_free_bulk(raw.as_ptr(), raw.len() as u32) };
        raw.clear();
    };
    for mbuf in mbufs {
        raw.push(mbuf.into_raw());
        if raw.is_full() {
            free(&mut raw);
        }
    }
    free(&mut raw);
}

/// Iterator over a packet's segments, from [`Mbuf::segments`].
#[derive(Debug)]
pub struct Segments<'a> {
    mbuf: &'a Mbuf,
    next: *mut std::ffi::c_void,
    first: bool,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.first {
            self.first = false;
            // From the descriptor: DPDK's own fields of the first segment may be out of date.
            return Some(self.mbuf.data());
        }
        if self.next.is_null() {
            return None;
        }
        match next_segment(self.next) {
            Some((next, data, len)) => {
                self.next = next;
                // SAFETY: len initialised bytes of a segment of a chain that is borrowed for 'a.
                Some(unsafe { std::slice::from_raw_parts(data, len) })
            }
            None => {
                self.next = std::ptr::null_mut();
                None
            }
        }
    }
}
