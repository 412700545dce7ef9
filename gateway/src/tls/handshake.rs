//! The TLS 1.3 handshake: rustls' unbuffered connections, driven without I/O.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, ExtractedSecrets, HandshakeKind, Side};

use super::kernel::Kernel;
use super::verify::leaf_facts;
use super::{CONTROL_RECORDS_MAX, Identity, KeyCache, RecordLayer, TlsError};
use crate::limits::{TLS_MAX_HANDSHAKE, TLS_MAX_PLAINTEXT, TLS_RECORD_HEADER};

/// Who the other side has proven to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// DNS SANs of the peer's certificate, lower case, never empty.
    pub dns_names: Vec<String>,
}

impl PeerIdentity {
    /// True if `name` is one of the certificate's names. No wildcards: a name is a peer's name.
    pub fn is(&self, name: &str) -> bool {
        self.dns_names.iter().any(|dns| dns.eq_ignore_ascii_case(name))
    }
}

/// The result of a handshake.
#[derive(Debug)]
pub struct Established {
    pub records: RecordLayer,
    pub peer: PeerIdentity,
    /// The protocol agreed upon, `None` if the other side offered (or chose) none.
    pub alpn: Option<Vec<u8>>,
    /// By a session ticket: no certificate was sent and no signature made.
    pub resumed: bool,
    /// The group of the key exchange, as in "X25519MLKEM768".
    pub key_exchange: &'static str,
    /// Bytes received behind the handshake, still encrypted; the first for the record layer.
    /// Always the end of the last step's input, so a caller that has it in a ring may leave it
    /// there instead.
    pub leftover: Vec<u8>,
}

/// How far [`Handshake::step`] came.
#[derive(Debug)]
pub enum Progress {
    /// More bytes of the peer are needed.
    More,
    Done(Box<Established>),
}

enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// A handshake in progress. [`Send`], so that a helper thread can take the steps.
pub struct Handshake {
    identity: Arc<Identity>,
    /// `None` once the handshake has ended.
    connection: Option<Connection>,
    /// Bytes of the peer that rustls has not consumed.
    input: Vec<u8>,
    /// Bytes of `input` rustls may see. It gets record after record, so that it never takes
    /// application data, which is the record layer's.
    visible: usize,
    /// Bytes rustls has consumed.
    consumed: usize,
}

/// What rustls wants next.
enum Next {
    Again,
    Blocked,
    Traffic,
    Closed,
}

impl Handshake {
    /// The importing side. `peer_name` must be among the DNS SANs of the exporter's certificate.
    ///
    /// # Errors
    /// [`TlsError::NotADnsName`].
    pub fn client(identity: &Arc<Identity>, peer_name: &str) -> Result<Self, TlsError> {
        let name = DnsName::try_from(peer_name.to_owned())
            .map_err(|_| TlsError::NotADnsName(peer_name.to_owned()))?;
        let config = identity.client_config().clone();
        let connection = UnbufferedClientConnection::new(config, ServerName::DnsName(name))
            .map_err(TlsError::from_rustls)?;
        Ok(Self::new(identity, Connection::Client(connection)))
    }

    /// The exporting side.
    ///
    /// # Errors
    /// [`TlsError::Handshake`] if rustls refuses the configuration.
    pub fn server(identity: &Arc<Identity>) -> Result<Self, TlsError> {
        let config = identity.server_config().clone();
        let connection = UnbufferedServerConnection::new(config).map_err(TlsError::from_rustls)?;
        Ok(Self::new(identity, Connection::Server(connection)))
    }

    fn new(identity: &Arc<Identity>, connection: Connection) -> Self {
        Self {
            identity: identity.clone(),
            connection: Some(connection),
            input: Vec::new(),
            visible: 0,
            consumed: 0,
        }
    }

    /// Takes bytes of the peer (none to start a client) and appends to `out` what is to be sent.
    ///
    /// # Errors
    /// Why the handshake failed. `out` may hold an alert for the peer: send it, then close. The
    /// handshake is over.
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, TlsError> {
        let mut rest = input;
        loop {
            let room = TLS_MAX_HANDSHAKE - self.input.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.input.extend_from_slice(now);
            rest = later;
            let result = self.process(out);
            match result {
                Ok(true) => {}
                Ok(false) if rest.is_empty() => return Ok(Progress::More),
                Ok(false) if self.input.len() < TLS_MAX_HANDSHAKE => continue,
                Ok(false) => {
                    self.connection = None;
                    return Err(TlsError::HandshakeTooLong);
                }
                Err(error) => {
                    self.alert(out);
                    self.connection = None;
                    return Err(error);
                }
            }
            let mut established = self.finish(out)?;
            established.leftover.extend_from_slice(rest);
            return Ok(Progress::Done(Box::new(established)));
        }
    }

    /// Runs rustls until it is done (true) or needs more than `input` holds.
    fn process(&mut self, out: &mut Vec<u8>) -> Result<bool, TlsError> {
        loop {
            match self.next(out)? {
                Next::Again => {}
                Next::Closed => return Err(TlsError::HandshakeClosed),
                Next::Traffic if self.is_established() => return Ok(true),
                Next::Traffic | Next::Blocked => {
                    if self.consumed + self.visible > TLS_MAX_HANDSHAKE {
                        return Err(TlsError::HandshakeTooLong);
                    }
                    match next_record(&self.input[self.visible..]) {
                        Some(len) => self.visible += len,
                        None => return Ok(false),
                    }
                }
            }
        }
    }

    /// One state of rustls.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<Next, TlsError> {
        let connection = self.connection.as_mut().ok_or(TlsError::HandshakeOver)?;
        let visible = &mut self.input[..self.visible];
        let (discard, next) = match connection {
            Connection::Client(c) => digest(c.process_tls_records(visible), out),
            Connection::Server(c) => digest(c.process_tls_records(visible), out),
        };
        let discard = discard.min(self.visible);
        self.input.drain(..discard);
        self.visible -= discard;
        self.consumed += discard;
        next
    }

    fn is_established(&self) -> bool {
        self.common().is_some_and(|common| !common.is_handshaking())
    }

    fn common(&self) -> Option<&CommonState> {
        match self.connection.as_ref()? {
            Connection::Client(c) => Some(c),
            Connection::Server(c) => Some(c),
        }
    }

    /// Lets rustls say why it gave up.
    ///
    /// rustls must not be asked beyond what it has queued: it would look at the input again, and
    /// after an error that panics (0.23.46: positions of its deframer, a second fatal alert).
    fn alert(&mut self, out: &mut Vec<u8>) {
        while self.common().is_some_and(CommonState::wants_write) {
            if !matches!(self.next(out), Ok(Next::Again)) {
                return;
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<Established, TlsError> {
        let common = self.common().ok_or(TlsError::HandshakeOver)?;
        let alpn = common.alpn_protocol().map(<[u8]>::to_vec);
        let resumed = common.handshake_kind() == Some(HandshakeKind::Resumed);
        let group = common.negotiated_key_exchange_group();
        let key_exchange = group.and_then(|group| group.name().as_str()).unwrap_or_default();
        let leaf = common.peer_certificates().and_then(|chain| chain.first()).cloned();
        let connection = self.connection.take().ok_or(TlsError::HandshakeOver)?;
        if self.visible > 0 {
            return Err(TlsError::HandshakeTrailing);
        }
        let (secrets, kernel) = connection.into_parts()?;
        let mut records = RecordLayer::new(self.identity.crypto(), &secrets, kernel)?;
        let peer = match self.peer(leaf.as_ref(), resumed) {
            Ok(peer) => peer,
            Err(error) => {
                records.abort(&error);
                let mut alert = [0; CONTROL_RECORDS_MAX];
                if let Ok(len) = records.write_pending(&mut KeyCache::new(1), &mut alert) {
                    out.extend_from_slice(&alert[..len]);
                }
                return Err(error);
            }
        };
        let leftover = std::mem::take(&mut self.input);
        Ok(Established { records, peer, alpn, resumed, key_exchange, leftover })
    }

    fn peer(
        &self,
        leaf: Option<&CertificateDer<'_>>,
        resumed: bool,
    ) -> Result<PeerIdentity, TlsError> {
        let leaf = leaf.and_then(leaf_facts).ok_or(TlsError::PeerWithoutName)?;
        if leaf.dns_names.is_empty() {
            return Err(TlsError::PeerWithoutName);
        }
        // A resumed session carries the certificate of the first one, and nobody has looked at
        // its dates since.
        if resumed && !self.identity.now().is_some_and(|now| leaf.valid_at(now)) {
            return Err(TlsError::ResumedCertificateExpired);
        }
        Ok(PeerIdentity { dns_names: leaf.dns_names })
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = self.connection.as_ref().map(|c| match c {
            Connection::Client(_) => Side::Client,
            Connection::Server(_) => Side::Server,
        });
        f.debug_struct("Handshake")
            .field("side", &side)
            .field("buffered", &self.input.len())
            .field("consumed", &self.consumed)
            .finish_non_exhaustive()
    }
}

impl Connection {
    fn into_parts(self) -> Result<(ExtractedSecrets, Kernel), TlsError> {
        match self {
            Self::Client(c) => c
                .dangerous_into_kernel_connection()
                .map(|(secrets, kernel)| (secrets, Kernel::Client(kernel))),
            Self::Server(c) => c
                .dangerous_into_kernel_connection()
                .map(|(secrets, kernel)| (secrets, Kernel::Server(kernel))),
        }
        .map_err(TlsError::KeySchedule)
    }
}

/// Acts on one state of rustls. Returns the bytes to take off the input.
fn digest<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Vec<u8>,
) -> (usize, Result<Next, TlsError>) {
    let next = match status.state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let start = out.len();
            // The first call only tells the size.
            let result = match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(size)) => {
                    out.resize(start + size.required_size, 0);
                    data.encode(&mut out[start..])
                }
                other => other,
            };
            match result {
                Ok(len) => {
                    out.truncate(start + len);
                    Ok(Next::Again)
                }
                Err(e) => {
                    out.truncate(start);
                    Err(TlsError::Handshake(rustls::Error::General(e.to_string())))
                }
            }
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Next::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::Blocked),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Traffic),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Next::Closed),
        // Early data is not offered, and application data is never shown to rustls.
        Ok(_) => Err(TlsError::HandshakeTrailing),
        Err(e) => Err(TlsError::from_rustls(e)),
    };
    (status.discard, next)
}

/// Length of the record at the start of `bytes`, `None` if it is not complete. A header that no
/// record can have gives all bytes: rustls then refuses them and words the alert.
fn next_record(bytes: &[u8]) -> Option<usize> {
    let &[kind, major, _, high, low] = bytes.first_chunk::<TLS_RECORD_HEADER>()?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if !(20..=23).contains(&kind) || major != 3 || len > TLS_MAX_PLAINTEXT + 256 {
        return Some(bytes.len());
    }
    (bytes.len() >= TLS_RECORD_HEADER + len).then_some(TLS_RECORD_HEADER + len)
}
