//! What can go wrong on one TLS connection, and the reason its close is counted under.

use rustls::{AlertDescription, CertificateError};

use crate::limits::{TLS_KEY_UPDATES_PER_SECOND, TLS_MAX_EMPTY_RECORDS, TLS_MAX_HANDSHAKE};
use crate::telemetry::CloseReason;

/// An error ends the connection, except [`TlsError::BufferTooSmall`],
/// [`TlsError::PlaintextTooLong`], [`TlsError::ControlPending`] and [`TlsError::KeyExhausted`],
/// which refuse one call and leave the connection as it was.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(
        "TLS handshake failed: {0}; check that both gateways have a valid certificate from the \
         same fabric CA"
    )]
    Handshake(rustls::Error),
    #[error(
        "the peer's certificate was refused: {0}; check the peer's certificate and our ca file"
    )]
    PeerCertificate(CertificateError),
    #[error(
        "the peer's certificate names {presented:?}, not {expected:?}; check the peer's address \
         and the DNS names in its certificate"
    )]
    PeerName { expected: String, presented: Vec<String> },
    #[error("the peer's certificate has no DNS name; issue it one with the peer's name as DNS SAN")]
    PeerWithoutName,
    #[error(
        "the resumed session belongs to a certificate that is not valid now; the peer must renew it"
    )]
    ResumedCertificateExpired,
    #[error("{0:?} is no DNS name and so cannot be a peer's name; correct the Peer object's name")]
    NotADnsName(String),
    #[error("the peer sent more than {TLS_MAX_HANDSHAKE} bytes of handshake; is it a gateway?")]
    HandshakeTooLong,
    #[error("the peer closed during the TLS handshake; its log says why")]
    HandshakeClosed,
    #[error("bytes follow the peer's Finished in the same record (RFC 8446, section 5.1)")]
    HandshakeTrailing,
    #[error("step was called on a handshake that has already ended")]
    HandshakeOver,
    #[error("a handshake panicked; only this connection is affected. Please report the log")]
    Panicked,

    #[error("record of type {0} after the handshake; only application_data (23) may come")]
    RecordType(u8),
    #[error("record of {0} bytes; TLS 1.3 allows 17 to 16640 (RFC 8446, section 5.2)")]
    RecordLength(usize),
    #[error("a record was opened with {have} bytes; its header says {need}")]
    RecordFraming { have: usize, need: usize },
    #[error(
        "a record's tag does not fit: it was altered on the way, or is from another connection"
    )]
    RecordAuthentication,
    #[error("a record has no content type (only padding) or one that may not come: {0}")]
    InnerType(u8),
    #[error("an alert record of {0} bytes; an alert has 2 (RFC 8446, section 6)")]
    AlertLength(usize),
    #[error("handshake message of type {0} after the handshake")]
    MessageUnexpected(u8),
    #[error("handshake message of type {kind} with a length of {len} bytes")]
    MessageLength { kind: u8, len: usize },
    #[error("KeyUpdate asks for {0}; only 0 and 1 are defined (RFC 8446, section 4.6.3)")]
    KeyUpdateValue(u8),
    #[error("bytes follow a KeyUpdate in its record (RFC 8446, section 5.1)")]
    KeyUpdateNotLast,
    #[error("a handshake message was interrupted by another record (RFC 8446, section 5.1)")]
    MessageInterrupted,
    #[error("the peer ended the connection with the TLS alert {0:?}; its log says why")]
    PeerAlert(AlertDescription),

    #[error("the peer sent more than {TLS_MAX_EMPTY_RECORDS} records without payload in a row")]
    EmptyRecords,
    #[error("the peer sent more than {TLS_KEY_UPDATES_PER_SECOND} KeyUpdates in a second")]
    KeyUpdateRate,
    #[error("the sending key has sealed its last record and KeyUpdate was not sent in time")]
    KeyExhausted,

    #[error("{have} bytes of room for a record that needs {need}")]
    BufferTooSmall { have: usize, need: usize },
    #[error("{0} bytes of payload for one record; 16384 is the most")]
    PlaintextTooLong(usize),
    #[error("a KeyUpdate must be sent (write_pending) before more data")]
    ControlPending,
    #[error("the connection's sending side is closed, or it has failed before")]
    Closed,
    #[error("the key schedule failed: {0}")]
    KeySchedule(rustls::Error),
    #[error("a session ticket could not be read: {0}")]
    Ticket(rustls::Error),
    #[error("the cipher refused to seal a record")]
    Seal,
    #[error("a key of {have} bytes where the suite needs {need}")]
    KeyLength { have: usize, need: usize },
    #[error("rustls agreed on a cipher suite the record layer does not know")]
    SuiteUnknown,
}

impl TlsError {
    /// The reason the connection's end is counted and logged under.
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::PeerName { .. } | Self::PeerWithoutName | Self::NotADnsName(_) => {
                CloseReason::PeerName
            }
            Self::Handshake(_)
            | Self::PeerCertificate(_)
            | Self::ResumedCertificateExpired
            | Self::HandshakeClosed
            | Self::HandshakeTrailing
            | Self::HandshakeOver
            | Self::Panicked
            | Self::SuiteUnknown => CloseReason::TlsHandshake,
            Self::PeerAlert(_) => CloseReason::TlsAlert,
            Self::HandshakeTooLong
            | Self::EmptyRecords
            | Self::KeyUpdateRate
            | Self::KeyExhausted => CloseReason::TlsLimit,
            Self::RecordType(_)
            | Self::RecordLength(_)
            | Self::RecordFraming { .. }
            | Self::RecordAuthentication
            | Self::InnerType(_)
            | Self::AlertLength(_)
            | Self::MessageUnexpected(_)
            | Self::MessageLength { .. }
            | Self::KeyUpdateValue(_)
            | Self::KeyUpdateNotLast
            | Self::MessageInterrupted
            | Self::BufferTooSmall { .. }
            | Self::PlaintextTooLong(_)
            | Self::ControlPending
            | Self::Closed
            | Self::KeySchedule(_)
            | Self::Ticket(_)
            | Self::Seal
            | Self::KeyLength { .. } => CloseReason::TlsRecord,
        }
    }

    /// The alert that tells the peer (RFC 8446, section 6.2); `None` where it must not hear of it
    /// or has said so itself.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        Some(match self {
            Self::PeerAlert(_) | Self::Closed => return None,
            Self::RecordLength(len) if *len > 16_640 => AlertDescription::RecordOverflow,
            Self::RecordLength(_) | Self::RecordAuthentication => AlertDescription::BadRecordMac,
            Self::RecordType(_)
            | Self::InnerType(_)
            | Self::MessageUnexpected(_)
            | Self::KeyUpdateNotLast
            | Self::MessageInterrupted
            | Self::EmptyRecords
            | Self::KeyUpdateRate => AlertDescription::UnexpectedMessage,
            Self::KeyUpdateValue(_) => AlertDescription::IllegalParameter,
            Self::AlertLength(_) | Self::MessageLength { .. } | Self::Ticket(_) => {
                AlertDescription::DecodeError
            }
            Self::PlaintextTooLong(_) => AlertDescription::RecordOverflow,
            Self::ResumedCertificateExpired => AlertDescription::CertificateExpired,
            Self::PeerWithoutName => AlertDescription::BadCertificate,
            _ => AlertDescription::InternalError,
        })
    }

    /// rustls' error as ours: what the certificate is at fault for stays visible in the reason.
    pub(super) fn from_rustls(error: rustls::Error) -> Self {
        use rustls::Error;
        match error {
            Error::AlertReceived(description) => Self::PeerAlert(description),
            Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                expected,
                presented,
            }) => Self::PeerName { expected: expected.to_str().into_owned(), presented },
            Error::InvalidCertificate(CertificateError::Other(other))
                if other.0.is::<super::verify::NoDnsName>() =>
            {
                Self::PeerWithoutName
            }
            Error::InvalidCertificate(e) => Self::PeerCertificate(e),
            e => Self::Handshake(e),
        }
    }
}
