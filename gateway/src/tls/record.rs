//! TLS 1.3 records of an established connection (RFC 8446, section 5), in place and without
//! allocation for application data.
//!
//! The owner's loop: before sealing data, write what is [`RecordLayer::pending`]; when bytes
//! come, cut them by [`RecordLayer::frame_len`] and [`RecordLayer::open`] each record. After an
//! error one alert is pending; write it, then close.

use std::fmt;

use rustls::{AlertDescription, ContentType, ExtractedSecrets};

use super::aead::Half;
use super::kernel::{Kernel, TicketDone, TicketJob};
use super::key_cache::KeyCache;
use super::messages::{self, KEY_UPDATE_MESSAGE, Message};
use super::{Suite, TAG_LEN, TICKETS_PER_CONNECTION, TlsError};
use crate::config::Crypto;
use crate::limits::{
    TLS_KEY_UPDATES_PER_SECOND, TLS_MAX_EMPTY_RECORDS, TLS_MAX_PLAINTEXT, TLS_RECORD_HEADER,
    TLS_RECORD_TRAILER,
};
use crate::time::{Duration, Instant};

/// Room [`RecordLayer::write_pending`] needs for all it may have to say: a KeyUpdate and an alert.
pub const CONTROL_RECORDS_MAX: usize = KEY_UPDATE_RECORD + ALERT_RECORD;
const KEY_UPDATE_RECORD: usize = TLS_RECORD_HEADER + KEY_UPDATE_MESSAGE.len() + TLS_RECORD_TRAILER;
const ALERT_RECORD: usize = TLS_RECORD_HEADER + 2 + TLS_RECORD_TRAILER;

/// Most bytes behind the header of a record (RFC 8446, section 5.2).
const MAX_CIPHERTEXT: usize = TLS_MAX_PLAINTEXT + 256;
/// Records between the KeyUpdate we want to send and the last record the key may seal: time for
/// the owner to write it.
const KEY_UPDATE_HEADROOM: u64 = 1 << 16;
const ALERT_WARNING: u8 = 1;
const ALERT_FATAL: u8 = 2;

/// What [`RecordLayer::open`] found in a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'a> {
    /// Application data, 1 to 16384 bytes, a part of the record's buffer.
    Data(&'a mut [u8]),
    /// The record was for the record layer. It may have made something pending.
    Nothing,
    /// As `Nothing`; a session ticket waits for [`RecordLayer::take_ticket_job`].
    Ticket,
    /// The peer has ended its direction (close_notify). Ours stays open until
    /// [`RecordLayer::close`].
    Closed,
    /// The record was left untouched, because the next receive key can only be had after
    /// [`RecordLayer::return_ticket_job`]. Open it again then.
    Blocked,
}

/// State that most connections never need.
#[derive(Default)]
struct Rare {
    /// Start of a handshake message whose rest comes in another record.
    partial: Vec<u8>,
    /// Bodies of session tickets for the next [`TicketJob`].
    tickets: Vec<Vec<u8>>,
}

/// Both directions of an established TLS 1.3 connection.
pub struct RecordLayer {
    tx: Half,
    rx: Half,
    /// Away while a [`TicketJob`] runs.
    kernel: Option<Box<Kernel>>,
    rare: Option<Box<Rare>>,
    /// Sequence number from which a KeyUpdate of our own is due.
    key_update_at: u64,
    /// KeyUpdates received since this time, for at most a second.
    key_updates_since: Instant,
    key_updates: u32,
    empty_records: u32,
    tickets_taken: u8,
    alert: Option<AlertDescription>,
    /// A received KeyUpdate that waits for the kernel; the value says whether it wants a reply.
    rx_update: Option<bool>,
    reply_update: bool,
    close_wanted: bool,
    client: bool,
    tx_closed: bool,
    rx_closed: bool,
    failed: bool,
}

// An idle tunnel costs this and rustls' part (about 1.3 KiB).
const _: () = assert!(size_of::<RecordLayer>() <= 216);

impl RecordLayer {
    pub(super) fn new(
        crypto: Crypto,
        secrets: &ExtractedSecrets,
        kernel: Kernel,
    ) -> Result<Self, TlsError> {
        let tx = Half::new(crypto, secrets.tx.0, &secrets.tx.1)?;
        Ok(Self {
            key_update_at: tx.suite().records_per_key() - KEY_UPDATE_HEADROOM,
            tx,
            rx: Half::new(crypto, secrets.rx.0, &secrets.rx.1)?,
            client: matches!(kernel, Kernel::Client(_)),
            kernel: Some(Box::new(kernel)),
            rare: None,
            key_updates_since: Instant::ZERO,
            key_updates: 0,
            empty_records: 0,
            tickets_taken: 0,
            alert: None,
            rx_update: None,
            reply_update: false,
            close_wanted: false,
            tx_closed: false,
            rx_closed: false,
            failed: false,
        })
    }

    pub fn suite(&self) -> Suite {
        self.tx.suite()
    }

    /// Sends a KeyUpdate after this many records under one key, instead of shortly before the
    /// suite's bound. A number beyond that bound has no effect.
    pub fn set_key_update_after(&mut self, records: u64) {
        let latest = self.suite().records_per_key() - KEY_UPDATE_HEADROOM;
        self.key_update_at = records.clamp(1, latest);
    }

    /// Seals one record of application data in place. `buf` holds [`TLS_RECORD_HEADER`] bytes of
    /// room, `payload_len` bytes of payload and [`TLS_RECORD_TRAILER`] bytes of room. Returns the
    /// length of the record, which starts at `buf[0]`.
    ///
    /// # Errors
    /// [`TlsError::BufferTooSmall`], [`TlsError::PlaintextTooLong`];
    /// [`TlsError::ControlPending`] if the peer has asked for a KeyUpdate, which must go first
    /// (RFC 8446, section 4.6.3); [`TlsError::KeyExhausted`] if KeyUpdate was put off too long;
    /// [`TlsError::Closed`]. The payload is unchanged after all of these.
    #[inline]
    pub fn seal(
        &mut self,
        keys: &mut KeyCache,
        buf: &mut [u8],
        payload_len: usize,
    ) -> Result<usize, TlsError> {
        if self.tx_closed || self.failed {
            return Err(TlsError::Closed);
        }
        if self.reply_update {
            return Err(TlsError::ControlPending);
        }
        if payload_len > TLS_MAX_PLAINTEXT {
            return Err(TlsError::PlaintextTooLong(payload_len));
        }
        if self.tx.seq() >= self.key_update_at.saturating_add(KEY_UPDATE_HEADROOM) {
            return Err(TlsError::KeyExhausted);
        }
        self.seal_as(keys, ContentType::ApplicationData, buf, payload_len)
    }

    #[inline]
    pub(super) fn seal_as(
        &mut self,
        keys: &mut KeyCache,
        content: ContentType,
        buf: &mut [u8],
        len: usize,
    ) -> Result<usize, TlsError> {
        let need = TLS_RECORD_HEADER + len + TLS_RECORD_TRAILER;
        let have = buf.len();
        let too_small = TlsError::BufferTooSmall { have, need };
        let Some((header, rest)) = buf.split_first_chunk_mut::<TLS_RECORD_HEADER>() else {
            return Err(too_small);
        };
        let Some((inner, rest)) = rest.split_at_mut_checked(len + 1) else {
            return Err(too_small);
        };
        let Some(tag) = rest.first_chunk_mut::<TAG_LEN>() else {
            return Err(too_small);
        };
        let [high, low] = ((len + TLS_RECORD_TRAILER) as u16).to_be_bytes();
        // Outer type and version never change (RFC 8446, section 5.2).
        *header = [u8::from(ContentType::ApplicationData), 3, 3, high, low];
        inner[len] = u8::from(content);
        self.tx.seal(keys, header, inner, tag)?;
        Ok(need)
    }

    /// Length of the record at the start of `available`, header included, or `None` if the header
    /// is not complete. The record itself need not be complete. Always `None` behind the peer's
    /// close_notify: what follows it is to be thrown away unseen (RFC 8446, section 6.1).
    ///
    /// # Errors
    /// A type other than application_data and a length TLS 1.3 does not allow; an alert is
    /// pending then. [`TlsError::Closed`] after an error.
    #[inline]
    pub fn frame_len(&mut self, available: &[u8]) -> Result<Option<usize>, TlsError> {
        if self.failed {
            return Err(TlsError::Closed);
        }
        if self.rx_closed {
            return Ok(None);
        }
        let Some(&[kind, _, _, high, low]) = available.first_chunk::<TLS_RECORD_HEADER>() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let error = if kind != u8::from(ContentType::ApplicationData) {
            // ChangeCipherSpec as well: it may come only before the peer's Finished (section 5).
            TlsError::RecordType(kind)
        } else if !(TLS_RECORD_TRAILER..=MAX_CIPHERTEXT).contains(&len) {
            TlsError::RecordLength(len)
        } else {
            return Ok(Some(TLS_RECORD_HEADER + len));
        };
        self.fail(&error);
        Err(error)
    }

    /// Opens one record in place: `record` is exactly what [`Self::frame_len`] measured. `now`
    /// limits the rate of KeyUpdates.
    ///
    /// # Errors
    /// Whatever the peer did wrong, and its fatal alerts. The connection is over then: the next
    /// calls fail with [`TlsError::Closed`], and an alert is pending unless the peer sent one.
    #[inline]
    pub fn open<'a>(
        &mut self,
        keys: &mut KeyCache,
        record: &'a mut [u8],
        now: Instant,
    ) -> Result<Opened<'a>, TlsError> {
        if self.failed {
            return Err(TlsError::Closed);
        }
        if self.rx_closed {
            return Ok(Opened::Closed);
        }
        if self.rx_update.is_some() {
            return Ok(Opened::Blocked);
        }
        let result = self.open_record(keys, record, now);
        if let Err(error) = &result {
            self.fail(error);
        }
        result
    }

    #[inline]
    fn open_record<'a>(
        &mut self,
        keys: &mut KeyCache,
        record: &'a mut [u8],
        now: Instant,
    ) -> Result<Opened<'a>, TlsError> {
        match self.frame_len(record)? {
            Some(need) if need == record.len() => {}
            need => {
                let need = need.unwrap_or(TLS_RECORD_HEADER);
                return Err(TlsError::RecordFraming { have: record.len(), need });
            }
        }
        let (header, sealed) = record.split_at_mut(TLS_RECORD_HEADER);
        let inner = self.rx.open(keys, header, sealed)?;
        if inner.len() > TLS_MAX_PLAINTEXT + 1 {
            return Err(TlsError::PlaintextTooLong(inner.len()));
        }
        // Zeros behind the content type are padding (section 5.4).
        let end = inner.iter().rposition(|b| *b != 0).ok_or(TlsError::InnerType(0))?;
        let kind = inner[end];
        let payload = &mut inner[..end];
        if self.rare.as_ref().is_some_and(|r| !r.partial.is_empty())
            && ContentType::from(kind) != ContentType::Handshake
        {
            return Err(TlsError::MessageInterrupted);
        }
        match ContentType::from(kind) {
            ContentType::ApplicationData if payload.is_empty() => {
                self.count_empty()?;
                Ok(Opened::Nothing)
            }
            ContentType::ApplicationData => {
                self.empty_records = 0;
                Ok(Opened::Data(payload))
            }
            ContentType::Handshake => self.handshake(payload, now),
            ContentType::Alert => self.alert_received(payload),
            _ => Err(TlsError::InnerType(kind)),
        }
    }

    fn count_empty(&mut self) -> Result<(), TlsError> {
        self.empty_records += 1;
        if self.empty_records > TLS_MAX_EMPTY_RECORDS {
            return Err(TlsError::EmptyRecords);
        }
        Ok(())
    }

    fn alert_received(&mut self, payload: &[u8]) -> Result<Opened<'static>, TlsError> {
        let &[_, description] = payload else {
            return Err(TlsError::AlertLength(payload.len()));
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => {
                self.rx_closed = true;
                Ok(Opened::Closed)
            }
            // Announces a close_notify (section 6.1) and means nothing by itself.
            AlertDescription::UserCanceled => {
                self.count_empty()?;
                Ok(Opened::Nothing)
            }
            description => Err(TlsError::PeerAlert(description)),
        }
    }

    fn handshake(&mut self, payload: &[u8], now: Instant) -> Result<Opened<'static>, TlsError> {
        if payload.is_empty() {
            // Section 5.1 forbids it.
            return Err(TlsError::MessageLength { kind: 0, len: 0 });
        }
        let joined = match &mut self.rare {
            Some(rare) if !rare.partial.is_empty() => {
                rare.partial.extend_from_slice(payload);
                Some(std::mem::take(&mut rare.partial))
            }
            _ => None,
        };
        let mut bytes = joined.as_deref().unwrap_or(payload);
        let mut opened = Opened::Nothing;
        while let Some((message, len)) = messages::first(bytes)? {
            bytes = &bytes[len..];
            match message {
                Message::Ticket(_) if !self.client => return Err(TlsError::MessageUnexpected(4)),
                Message::Ticket(body) => {
                    if self.tickets_taken < TICKETS_PER_CONNECTION {
                        self.tickets_taken += 1;
                        self.rare.get_or_insert_default().tickets.push(body.to_vec());
                        opened = Opened::Ticket;
                    }
                }
                Message::KeyUpdate { requested } => {
                    if !bytes.is_empty() {
                        return Err(TlsError::KeyUpdateNotLast);
                    }
                    self.count_key_update(now)?;
                    self.rx_update = Some(requested);
                    self.switch_rx()?;
                }
            }
        }
        if !bytes.is_empty() {
            // `messages::first` has bounded the message by its header.
            self.rare.get_or_insert_default().partial = bytes.to_vec();
        }
        Ok(opened)
    }

    fn count_key_update(&mut self, now: Instant) -> Result<(), TlsError> {
        if self.key_updates == 0 || now.since(self.key_updates_since) >= Duration::from_secs(1) {
            self.key_updates_since = now;
            self.key_updates = 0;
        }
        self.key_updates += 1;
        if self.key_updates > TLS_KEY_UPDATES_PER_SECOND {
            return Err(TlsError::KeyUpdateRate);
        }
        Ok(())
    }

    /// Takes the next receive key, if the kernel is here to derive it.
    fn switch_rx(&mut self) -> Result<(), TlsError> {
        let (Some(kernel), Some(requested)) = (&mut self.kernel, self.rx_update) else {
            return Ok(());
        };
        let (seq, secrets) = kernel.next_rx()?;
        self.rx = self.rx.next(seq, &secrets)?;
        self.rx_update = None;
        // Several requests may share one answer (section 4.6.3).
        self.reply_update |= requested;
        Ok(())
    }

    /// The connection is lost by `error`: nothing is opened or sealed any more, except the alert.
    fn fail(&mut self, error: &TlsError) {
        if !self.failed {
            self.failed = true;
            self.alert = error.alert();
            self.rare = None;
        }
    }

    /// Ends the connection by a fatal alert that suits `error`.
    pub(super) fn abort(&mut self, error: &TlsError) {
        self.fail(error);
    }

    /// Ends our direction: makes a close_notify pending. What is sealed before it is written still
    /// counts. The peer's direction stays open.
    pub fn close(&mut self) {
        self.close_wanted = true;
    }

    /// True once close_notify or an alert was written.
    pub fn is_write_closed(&self) -> bool {
        self.tx_closed
    }

    /// True once the peer's close_notify came.
    pub fn is_read_closed(&self) -> bool {
        self.rx_closed
    }

    fn key_update_due(&self) -> bool {
        let due = self.reply_update || self.tx.seq() >= self.key_update_at;
        due && self.kernel.is_some() && !self.failed
    }

    /// True if [`Self::write_pending`] has something to write.
    #[inline]
    pub fn pending(&self) -> bool {
        !self.tx_closed
            && (self.alert.is_some()
                || self.key_update_due()
                || (self.close_wanted && !self.failed))
    }

    /// Seals the pending control records into `buf`, in their order, and returns the bytes
    /// written. [`CONTROL_RECORDS_MAX`] bytes are enough for all; a record that does not fit
    /// stays pending.
    ///
    /// # Errors
    /// [`TlsError::BufferTooSmall`] if not even the first one fits. [`TlsError::KeySchedule`] if
    /// no next key can be had: the connection is over.
    pub fn write_pending(
        &mut self,
        keys: &mut KeyCache,
        buf: &mut [u8],
    ) -> Result<usize, TlsError> {
        let mut written = 0;
        while self.pending() {
            let room = &mut buf[written..];
            let result = if let Some(alert) = self.alert {
                self.write_alert(keys, room, ALERT_FATAL, alert)
            } else if self.key_update_due() {
                self.write_key_update(keys, room)
            } else {
                self.write_alert(keys, room, ALERT_WARNING, AlertDescription::CloseNotify)
            };
            match result {
                Ok(len) => written += len,
                Err(TlsError::BufferTooSmall { .. }) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    fn write_alert(
        &mut self,
        keys: &mut KeyCache,
        buf: &mut [u8],
        level: u8,
        description: AlertDescription,
    ) -> Result<usize, TlsError> {
        let body = [level, u8::from(description)];
        let len = self.write_control(keys, ContentType::Alert, buf, &body)?;
        self.tx_closed = true;
        Ok(len)
    }

    fn write_key_update(&mut self, keys: &mut KeyCache, buf: &mut [u8]) -> Result<usize, TlsError> {
        // The message goes under the old key, everything behind it under the new one.
        let len = self.write_control(keys, ContentType::Handshake, buf, &KEY_UPDATE_MESSAGE)?;
        self.switch_tx()?;
        Ok(len)
    }

    /// Takes the next send key.
    pub(super) fn switch_tx(&mut self) -> Result<(), TlsError> {
        // `key_update_due` has looked whether it is here.
        let kernel = self.kernel.as_deref_mut().ok_or(TlsError::ControlPending)?;
        let next = kernel.next_tx().and_then(|(seq, secrets)| self.tx.next(seq, &secrets));
        match next {
            Ok(tx) => self.tx = tx,
            Err(error) => {
                // The peer now waits for a key we do not have: no alert could be read.
                self.failed = true;
                self.tx_closed = true;
                return Err(error);
            }
        }
        self.reply_update = false;
        Ok(())
    }

    fn write_control(
        &mut self,
        keys: &mut KeyCache,
        content: ContentType,
        buf: &mut [u8],
        body: &[u8],
    ) -> Result<usize, TlsError> {
        let end = TLS_RECORD_HEADER + body.len();
        let have = buf.len();
        let Some(room) = buf.get_mut(TLS_RECORD_HEADER..end) else {
            return Err(TlsError::BufferTooSmall { have, need: end + TLS_RECORD_TRAILER });
        };
        room.copy_from_slice(body);
        self.seal_as(keys, content, buf, body.len())
    }

    /// True if [`Self::take_ticket_job`] would give one.
    pub fn ticket_job_ready(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.tickets.is_empty())
            && self.kernel.is_some()
            && !self.key_update_due()
            && !self.failed
    }

    /// Lends rustls' part of the connection out to store the tickets that came. `None` if there
    /// are none, or not now: a KeyUpdate that is due goes first, so try again after
    /// [`Self::write_pending`].
    ///
    /// While it is out, a KeyUpdate of the peer makes [`Self::open`] answer [`Opened::Blocked`]
    /// and one of our own waits.
    pub fn take_ticket_job(&mut self) -> Option<TicketJob> {
        if !self.ticket_job_ready() {
            return None;
        }
        let kernel = self.kernel.take()?;
        let tickets = std::mem::take(&mut self.rare.as_mut()?.tickets);
        if self.rare.as_ref().is_some_and(|r| r.partial.is_empty()) {
            self.rare = None;
        }
        Some(TicketJob::new(kernel, tickets))
    }

    /// Takes rustls' part back.
    ///
    /// # Errors
    /// [`TlsError::Ticket`] if the peer sent a malformed ticket, [`TlsError::KeySchedule`]. The
    /// connection is over then, an alert is pending.
    pub fn return_ticket_job(&mut self, done: TicketDone) -> Result<(), TlsError> {
        let (kernel, stored) = done.into_parts();
        self.kernel = Some(kernel);
        if self.failed {
            return Ok(());
        }
        let result = stored.and_then(|()| self.switch_rx());
        if let Err(error) = &result {
            self.fail(error);
        }
        result
    }
}

impl fmt::Debug for RecordLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordLayer")
            .field("client", &self.client)
            .field("suite", &self.suite())
            .field("tx_seq", &self.tx.seq())
            .field("rx_seq", &self.rx.seq())
            .field("tx_closed", &self.tx_closed)
            .field("rx_closed", &self.rx_closed)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
