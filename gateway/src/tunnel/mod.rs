//! The native protocol between gateways: warm, mutually authenticated tunnels that carry one
//! service connection at a time.
//!
//! [`frame`] is the wire format, [`Session`] says which frame is legal when, and [`Tunnel`] puts
//! both on a TLS record layer and a TCP connection.

pub mod frame;
mod session;
mod sizes;
#[cfg(test)]
mod tests;

pub use frame::{Frame, FrameError, FrameWriter, Open, RefuseReason};
pub use session::{Incoming, Role, Session, SessionError};

use self::sizes::{Outlook, RecordSizes};
use crate::limits::{
    EARLY_DATA, TLS_EXPANDED_KEYS, TLS_MAX_PLAINTEXT, TLS_MAX_RECORD, TLS_RECORD_HEADER,
    TLS_RECORD_TRAILER, TUNNEL_HEADER, TUNNEL_MAX_DATA,
};
use crate::tcp::{Memory, TcpConn};
use crate::telemetry::CloseReason;
use crate::time::Instant;
use crate::tls::{KeyCache, Opened, RecordLayer, TicketDone, TicketJob, TlsError};

/// Bytes that a record adds to its plaintext.
pub const RECORD_OVERHEAD: usize = TLS_RECORD_HEADER + TLS_RECORD_TRAILER;
/// Bytes that one DATA record adds to its payload.
pub const DATA_OVERHEAD: usize = RECORD_OVERHEAD + TUNNEL_HEADER;
/// A bulk record is not begun for less room than this (or than what there is to send): the send
/// ring empties segment by segment, and records that small would cost more than they carry.
const MIN_BULK_RECORD: usize = 4 * 1024;
/// Room that control frames need at the most, record overhead included.
const CONTROL_ROOM: usize = 1_536;
/// Where the payload of a DATA record begins.
const DATA_BEGIN: usize = TLS_RECORD_HEADER + TUNNEL_HEADER;

/// Why a tunnel cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl TunnelError {
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Tls(e) => e.reason(),
            Self::Session(SessionError::Version(_)) => CloseReason::TunnelVersion,
            Self::Frame(_) | Self::Session(_) => CloseReason::TunnelProtocol,
        }
    }
}

/// Memory of a worker for the records of all its tunnels.
pub struct Scratch {
    /// For one that wraps around the end of a ring.
    record: Box<[u8; TLS_MAX_RECORD]>,
    keys: KeyCache,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch")
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self { record: Box::new([0; TLS_MAX_RECORD]), keys: KeyCache::new(TLS_EXPANDED_KEYS) }
    }
}

/// Who takes what comes out of a tunnel.
pub trait Upcalls {
    /// Whether `n` payload bytes can be taken now. A record is opened only if all of it fits:
    /// opening is destructive.
    fn takes(&mut self, n: usize) -> bool;

    /// One legal frame. Returning [`Next::Pause`] leaves the records behind it unread.
    fn frame(&mut self, incoming: Incoming<'_>) -> Next;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Continue,
    Pause,
}

/// Why [`Tunnel::open_records`] stopped.
#[derive(Debug)]
pub enum Stopped {
    /// No whole record is there.
    Drained,
    /// [`Upcalls::takes`] says no to the next record.
    NoRoom,
    /// The byte budget is used up.
    Budget,
    /// [`Next::Pause`].
    Paused,
    /// close_notify: the peer sends nothing more.
    Closed,
}

/// What became of an OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenSent {
    Sent,
    /// The send ring is too full, or there is no memory: take another tunnel.
    NoRoom,
    /// Names and attributes do not fit into one record, on this tunnel or any other.
    TooLong,
}

/// Control frames that wait for room.
#[derive(Debug, Default)]
struct Outbox {
    hello: bool,
    opened: bool,
    refused: Option<(RefuseReason, Box<str>)>,
    fin: bool,
    reset: bool,
    ping: Option<u64>,
    pong: Option<u64>,
    goaway: bool,
}

/// A DATA record that is being filled, bytes of payload. It stands as a draft behind what the send
/// ring has queued: whatever else is sent would be written over it, so it is sealed before.
#[derive(Clone, Copy, Debug, Default)]
struct OpenRecord {
    filled: u16,
    /// It is sealed with so many. 0: none is open.
    most: u16,
}

const _: () = assert!(TUNNEL_MAX_DATA <= u16::MAX as usize);

/// One end of a tunnel whose TLS handshake is done.
#[derive(Debug)]
pub struct Tunnel {
    records: RecordLayer,
    session: Session,
    open: OpenRecord,
    outbox: Outbox,
    sizes: RecordSizes,
    /// DNS names of its certificate; the first is the peer's name.
    pub peer: Vec<String>,
}

impl Tunnel {
    pub fn new(role: Role, records: RecordLayer, peer: Vec<String>) -> Self {
        let outbox = Outbox { hello: true, ..Outbox::default() };
        let (session, sizes) = (Session::new(role), RecordSizes::default());
        Self { records, session, open: OpenRecord::default(), outbox, sizes, peer }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// See [`RecordLayer::ticket_job_ready`].
    pub fn ticket_job_ready(&self) -> bool {
        self.records.ticket_job_ready()
    }

    /// See [`RecordLayer::take_ticket_job`].
    pub fn take_ticket_job(&mut self) -> Option<TicketJob> {
        self.records.take_ticket_job()
    }

    /// See [`RecordLayer::return_ticket_job`].
    ///
    /// # Errors
    /// Also if the record layer cannot seal.
    pub fn return_ticket_job(
        &mut self,
        tcp: &mut TcpConn,
        scratch: &mut Scratch,
        done: TicketDone,
    ) -> Result<(), TunnelError> {
        // It may make a key update due, behind which the record that is open could not be sealed.
        self.seal_open(tcp, scratch)?;
        Ok(self.records.return_ticket_job(done)?)
    }

    // --- what this side says --------------------------------------------------------------------

    /// Sends OPEN.
    ///
    /// # Errors
    /// The record layer cannot seal.
    pub fn send_open<'s>(
        &mut self,
        tcp: &mut TcpConn,
        memory: &mut Memory,
        scratch: &mut Scratch,
        namespace: &str,
        name: &str,
        attributes: impl ExactSizeIterator<Item = (&'s str, &'s str)>,
    ) -> Result<OpenSent, TunnelError> {
        if !self.flush(tcp, memory, scratch)? || !tcp.reserve(memory, TLS_MAX_RECORD) {
            return Ok(OpenSent::NoRoom);
        }
        let plain = &mut scratch.record[TLS_RECORD_HEADER..TLS_RECORD_HEADER + TLS_MAX_PLAINTEXT];
        let mut writer = FrameWriter::new(plain);
        if writer.open(namespace, name, attributes).is_err() {
            return Ok(OpenSent::TooLong);
        }
        let len = writer.len();
        self.seal_scratch(tcp, scratch, len)?;
        self.session.sent_open();
        self.sizes.restart();
        Ok(OpenSent::Sent)
    }

    /// Sends one record ahead of OPENED; `fill` copies its bytes. Returns how many went.
    ///
    /// # Errors
    /// The record layer cannot seal.
    pub fn send_early(
        &mut self,
        tcp: &mut TcpConn,
        memory: &mut Memory,
        scratch: &mut Scratch,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<usize, TunnelError> {
        if !self.session.may_send() || !tcp.reserve(memory, TLS_MAX_RECORD) {
            return Ok(0);
        }
        let most = self.sizes.payload(outlook(tcp, EARLY_DATA));
        let n = fill(&mut scratch.record[DATA_BEGIN..][..most]);
        if n == 0 {
            return Ok(0);
        }
        scratch.record[TLS_RECORD_HEADER..DATA_BEGIN].copy_from_slice(&frame::data_header(n));
        self.seal_scratch(tcp, scratch, TUNNEL_HEADER + n)?;
        self.sizes.sealed(n);
        Ok(n)
    }

    /// The exporter accepts the stream.
    pub fn accept(&mut self) {
        self.outbox.opened = true;
        self.session.sent_opened();
        self.sizes.restart();
    }

    /// The exporter refuses the stream; ends its direction.
    pub fn refuse(&mut self, reason: RefuseReason, policy: &str) {
        self.outbox.refused = Some((reason, policy.into()));
        self.session.sent_terminator();
    }

    /// This side's direction has ended. Call only when all its bytes have been sealed.
    pub fn finish(&mut self) {
        self.outbox.fin = true;
        self.session.sent_terminator();
    }

    /// This side breaks the stream off.
    pub fn reset(&mut self) {
        self.outbox.reset = true;
        self.session.sent_terminator();
    }

    pub fn ping(&mut self, token: u64) {
        self.outbox.ping = Some(token);
    }

    pub fn go_away(&mut self) {
        self.outbox.goaway = true;
    }

    /// Ends the TLS connection with close_notify (RFC 8446, section 6.1).
    pub fn close(&mut self) {
        self.records.close();
    }

    /// Seals the record that is open, and what is waiting in front of new data: key updates, alerts,
    /// control frames. `true` when nothing is left waiting.
    ///
    /// # Errors
    /// The record layer cannot seal.
    pub fn flush(
        &mut self,
        tcp: &mut TcpConn,
        memory: &mut Memory,
        scratch: &mut Scratch,
    ) -> Result<bool, TunnelError> {
        self.seal_open(tcp, scratch)?;
        if self.records.pending() {
            if !tcp.reserve(memory, CONTROL_ROOM) {
                return Ok(false);
            }
            let n = self.records.write_pending(&mut scratch.keys, &mut scratch.record[..])?;
            tcp.send_slice(&scratch.record[..n]);
        }
        if self.outbox.is_empty() {
            return Ok(true);
        }
        let policy = self.outbox.refused.as_ref().map_or(0, |(_, p)| p.len());
        if !tcp.reserve(memory, CONTROL_ROOM.max(RECORD_OVERHEAD + 64 + policy)) {
            return Ok(false);
        }
        let len = self.outbox.write(&mut scratch.record[TLS_RECORD_HEADER..]);
        self.seal_scratch(tcp, scratch, len)?;
        Ok(true)
    }

    /// Seals `len` plaintext bytes that stand behind the header room of `scratch`. The caller has
    /// reserved room for the record, and no other one is open.
    fn seal_scratch(
        &mut self,
        tcp: &mut TcpConn,
        scratch: &mut Scratch,
        len: usize,
    ) -> Result<(), TunnelError> {
        debug_assert!(self.open.most == 0, "it would be written over");
        let n = self.records.seal(&mut scratch.keys, &mut scratch.record[..], len)?;
        tcp.send_slice(&scratch.record[..n]);
        Ok(())
    }

    /// Tells the time at which there are bytes to move: after a pause records begin short.
    pub fn resume(&mut self, now: Instant) {
        self.sizes.resume(now);
    }

    /// Moves bytes from a service leg into DATA records, about `budget`; returns how many. The last
    /// record may be open until [`Self::flush`]. Each byte is copied once, into the send ring, and
    /// sealed there.
    ///
    /// # Errors
    /// The record layer cannot seal.
    pub fn seal_from(
        &mut self,
        tcp: &mut TcpConn,
        service: &mut TcpConn,
        memory: &mut Memory,
        scratch: &mut Scratch,
        budget: usize,
    ) -> Result<usize, TunnelError> {
        let mut moved = 0;
        while moved < budget {
            let available = service.recv_len();
            let n = service.recv(|src| {
                let n = self.fill(tcp, memory, scratch, src, available);
                (n.as_ref().map_or(0, |n| *n), n)
            })?;
            if n == 0 {
                break;
            }
            moved += n;
        }
        Ok(moved)
    }

    /// Moves payload that has just arrived, and that nothing waits in front of, into DATA records;
    /// returns how much. The last one is open for what arrives next, until [`Self::flush`].
    ///
    /// In the beginning of a stream it takes nothing: how long records are depends there on how much
    /// has arrived in all.
    ///
    /// # Errors
    /// The record layer cannot seal.
    pub fn seal_arrived(
        &mut self,
        tcp: &mut TcpConn,
        memory: &mut Memory,
        scratch: &mut Scratch,
        payload: &[u8],
    ) -> Result<usize, TunnelError> {
        if !self.sizes.is_bulk() {
            return Ok(0);
        }
        let mut moved = 0;
        loop {
            let n = self.fill(tcp, memory, scratch, &payload[moved..], usize::MAX)?;
            if n == 0 {
                return Ok(moved);
            }
            moved += n;
        }
    }

    /// Copies into a DATA record what it can still hold of `data`, and seals it once it is full.
    /// Returns how much that was. There are `available` bytes, `data` among them.
    fn fill(
        &mut self,
        tcp: &mut TcpConn,
        memory: &mut Memory,
        scratch: &mut Scratch,
        data: &[u8],
        available: usize,
    ) -> Result<usize, TunnelError> {
        let there = !data.is_empty()
            && (self.open.most > 0 || self.begin(tcp, memory, scratch, available)?);
        if !there {
            return Ok(0);
        }
        let OpenRecord { filled, most } = self.open;
        let n = data.len().min(usize::from(most - filled));
        let n = tcp.draft(DATA_BEGIN + usize::from(filled), &data[..n]);
        self.open.filled += n as u16;
        if self.open.filled == most {
            self.seal_open(tcp, scratch)?;
        }
        Ok(n)
    }

    /// Opens a DATA record for some of `available` bytes. `false`: there is no room or memory for
    /// it, or not even for what goes before it.
    fn begin(
        &mut self,
        tcp: &mut TcpConn,
        memory: &mut Memory,
        scratch: &mut Scratch,
        available: usize,
    ) -> Result<bool, TunnelError> {
        if !self.flush(tcp, memory, scratch)? {
            return Ok(false);
        }
        let outlook = outlook(tcp, available);
        if outlook.room < DATA_OVERHEAD + available.min(MIN_BULK_RECORD) {
            return Ok(false);
        }
        let most = self.sizes.payload(outlook);
        if !tcp.reserve(memory, DATA_OVERHEAD + most) {
            return Ok(false);
        }
        // Rather shorter than around the end of the ring, which takes two more copies.
        let fits = tcp.send_run().saturating_sub(DATA_OVERHEAD);
        let most = if fits < most.min(MIN_BULK_RECORD) { most } else { most.min(fits) };
        self.open = OpenRecord { filled: 0, most: most as u16 };
        Ok(true)
    }

    /// Seals the record that is open, if one is. What it holds counts as sent already, so it goes
    /// whatever has become of room and memory.
    fn seal_open(&mut self, tcp: &mut TcpConn, scratch: &mut Scratch) -> Result<(), TunnelError> {
        let n = usize::from(std::mem::take(&mut self.open).filled);
        if n == 0 {
            return Ok(());
        }
        let (records, Scratch { record: spare, keys }) = (&mut self.records, scratch);
        tcp.send_draft(DATA_OVERHEAD + n, &mut spare[..], |record| {
            record[TLS_RECORD_HEADER..DATA_BEGIN].copy_from_slice(&frame::data_header(n));
            records.seal(keys, record, TUNNEL_HEADER + n).map(drop)
        })?;
        self.sizes.sealed(n);
        Ok(())
    }

    // --- what the other side says ---------------------------------------------------------------

    /// Opens received records and hands their frames on, about `budget` bytes of them.
    ///
    /// # Errors
    /// A record, frame or order of frames that breaks the protocol.
    pub fn open_records(
        &mut self,
        tcp: &mut TcpConn,
        scratch: &mut Scratch,
        now: Instant,
        budget: usize,
        up: &mut impl Upcalls,
    ) -> Result<(Stopped, usize), TunnelError> {
        let mut opened = 0;
        loop {
            if opened >= budget {
                return Ok((Stopped::Budget, opened));
            }
            let mut header = [0; TLS_RECORD_HEADER];
            if tcp.peek(&mut header) < TLS_RECORD_HEADER {
                return Ok((Stopped::Drained, opened));
            }
            let Some(len) = self.records.frame_len(&header)? else {
                return Ok((Stopped::Drained, opened));
            };
            if tcp.recv_len() < len {
                return Ok((Stopped::Drained, opened));
            }
            if !up.takes(len.saturating_sub(DATA_OVERHEAD)) {
                return Ok((Stopped::NoRoom, opened));
            }
            let (records, session, outbox) =
                (&mut self.records, &mut self.session, &mut self.outbox);
            let Scratch { record, keys } = &mut *scratch;
            let mut verdict = None;
            let in_place = tcp.recv(|run| {
                if run.len() < len {
                    return (0, false);
                }
                verdict = Some(open_one(records, keys, session, outbox, &mut run[..len], now, up));
                // A record that could not be opened yet stays.
                let keep = matches!(verdict, Some(Ok(Some(Stopped::NoRoom))));
                (if keep { 0 } else { len }, true)
            });
            if !in_place {
                let record = &mut record[..len];
                tcp.peek(record);
                let v = open_one(records, keys, session, outbox, record, now, up);
                if !matches!(v, Ok(Some(Stopped::NoRoom))) {
                    tcp.skip(len);
                }
                verdict = Some(v);
            }
            opened += len;
            if let Some(Some(stop)) = verdict.transpose()? {
                return Ok((stop, opened));
            }
        }
    }
}

/// What a DATA record may be made of.
fn outlook(tcp: &TcpConn, available: usize) -> Outlook {
    Outlook {
        available,
        room: tcp.send_room(),
        segment: tcp.segment_size(),
        unsent: tcp.unsent() as usize,
    }
}

/// Opens one record and hands its frames on. `Some` = stop, and why.
fn open_one(
    records: &mut RecordLayer,
    keys: &mut KeyCache,
    session: &mut Session,
    outbox: &mut Outbox,
    record: &mut [u8],
    now: Instant,
    up: &mut impl Upcalls,
) -> Result<Option<Stopped>, TunnelError> {
    let mut plain: &[u8] = match records.open(keys, record, now)? {
        Opened::Data(bytes) => bytes,
        Opened::Nothing => return Ok(None),
        Opened::Closed => return Ok(Some(Stopped::Closed)),
        Opened::Blocked => return Ok(Some(Stopped::NoRoom)),
        // For a helper thread: see `Tunnel::records_mut`.
        Opened::Ticket => return Ok(None),
    };
    let whole = plain.len();
    let mut next = Next::Continue;
    while !plain.is_empty() {
        let (frame, rest) = frame::parse(plain)?;
        let alone = plain.len() == whole && rest.is_empty();
        match frame {
            Frame::Data(_) if !alone => return Err(FrameError::Payload(5).into()),
            Frame::Open(_) if !alone => return Err(FrameError::Payload(2).into()),
            _ => {}
        }
        let incoming = session.receive(frame)?;
        match incoming {
            Incoming::Nothing => {}
            Incoming::Ping(token) => outbox.pong = Some(token),
            other => {
                if up.frame(other) == Next::Pause {
                    next = Next::Pause;
                }
            }
        }
        plain = rest;
    }
    Ok((next == Next::Pause).then_some(Stopped::Paused))
}

impl Outbox {
    fn is_empty(&self) -> bool {
        !(self.hello
            || self.opened
            || self.refused.is_some()
            || self.fin
            || self.reset
            || self.ping.is_some()
            || self.pong.is_some()
            || self.goaway)
    }

    /// Writes and forgets everything; the caller has checked the room.
    fn write(&mut self, buf: &mut [u8]) -> usize {
        let mut w = FrameWriter::new(buf);
        let out = std::mem::take(self);
        let mut all = Ok(());
        if out.hello {
            all = all.and_then(|()| w.hello(TUNNEL_MAX_DATA as u16));
        }
        if out.opened {
            all = all.and_then(|()| w.opened());
        }
        if let Some((reason, policy)) = &out.refused {
            all = all.and_then(|()| w.refused(*reason, policy));
        }
        if out.fin {
            all = all.and_then(|()| w.fin());
        }
        if out.reset {
            all = all.and_then(|()| w.reset());
        }
        if let Some(token) = out.ping {
            all = all.and_then(|()| w.ping(token));
        }
        if let Some(token) = out.pong {
            all = all.and_then(|()| w.pong(token));
        }
        if out.goaway {
            all = all.and_then(|()| w.goaway());
        }
        debug_assert!(all.is_ok(), "control frames are far smaller than a record");
        w.len()
    }
}
