//! Handshake messages behind the handshake (RFC 8446, section 4.6): reassembly over records and
//! the check of what may come. A server may send NewSessionTicket, both may send KeyUpdate.

use super::TlsError;
use crate::limits::TLS_MAX_HANDSHAKE;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// Type and 24-bit length (RFC 8446, section 4).
const MESSAGE_HEADER: usize = 4;

/// A KeyUpdate that asks for nothing in return, as sent.
pub(super) const KEY_UPDATE_MESSAGE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// One complete message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// The body of a NewSessionTicket.
    Ticket(&'a [u8]),
    KeyUpdate {
        /// The peer wants one in return.
        requested: bool,
    },
}

/// The first message of `bytes` with its length, or `None` if it is not complete yet.
///
/// # Errors
/// A type that may not come, a length beyond [`TLS_MAX_HANDSHAKE`], a malformed KeyUpdate. All
/// found as soon as the header is there, so that no length makes us wait for nothing.
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Message<'_>, usize)>, TlsError> {
    let Some((&[kind, a, b, c], body)) = bytes.split_first_chunk::<MESSAGE_HEADER>() else {
        return match bytes.first() {
            Some(&kind) if kind != NEW_SESSION_TICKET && kind != KEY_UPDATE => {
                Err(TlsError::MessageUnexpected(kind))
            }
            _ => Ok(None),
        };
    };
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    match kind {
        NEW_SESSION_TICKET if len > TLS_MAX_HANDSHAKE - MESSAGE_HEADER => {
            Err(TlsError::MessageLength { kind, len })
        }
        NEW_SESSION_TICKET => {
            Ok(body.get(..len).map(|body| (Message::Ticket(body), MESSAGE_HEADER + len)))
        }
        KEY_UPDATE if len != 1 => Err(TlsError::MessageLength { kind, len }),
        KEY_UPDATE => match body.first() {
            None => Ok(None),
            Some(value @ (0 | 1)) => {
                Ok(Some((Message::KeyUpdate { requested: *value == 1 }, MESSAGE_HEADER + len)))
            }
            Some(value) => Err(TlsError::KeyUpdateValue(*value)),
        },
        _ => Err(TlsError::MessageUnexpected(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_messages_wait_and_complete_ones_come_out() {
        let ticket = [4, 0, 0, 3, 7, 8, 9, 24];
        for short in 0..7 {
            assert!(matches!(first(&ticket[..short]), Ok(None)), "{short} bytes");
        }
        assert_eq!(first(&ticket).unwrap(), Some((Message::Ticket(&[7, 8, 9]), 7)));
        assert_eq!(
            first(&KEY_UPDATE_MESSAGE).unwrap(),
            Some((Message::KeyUpdate { requested: false }, 5))
        );
        assert_eq!(
            first(&[24, 0, 0, 1, 1]).unwrap(),
            Some((Message::KeyUpdate { requested: true }, 5))
        );
    }

    #[test]
    fn what_may_not_come_is_refused_at_once() {
        // A certificate request, seen from its first byte.
        assert!(matches!(first(&[13]), Err(TlsError::MessageUnexpected(13))));
        assert!(matches!(first(&[0, 0, 0, 0]), Err(TlsError::MessageUnexpected(0))));
        assert!(matches!(
            first(&[4, 1, 0, 0]),
            Err(TlsError::MessageLength { kind: 4, len: 65_536 })
        ));
        assert!(matches!(first(&[24, 0, 0, 2]), Err(TlsError::MessageLength { kind: 24, len: 2 })));
        assert!(matches!(first(&[24, 0, 0, 1, 2]), Err(TlsError::KeyUpdateValue(2))));
    }
}
