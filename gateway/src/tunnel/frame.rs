//! Frames of the native protocol (ALPN [`super::ALPN`]), inside TLS application data.
//!
//! A TLS record holds whole frames, one or more; a frame never spans records. So a receiver
//! parses a record where it was decrypted and keeps nothing between records. DATA and OPEN are
//! alone in their records: the one may have to wait for the service, the other for the end of the
//! stream before. Control frames may share one.
//!
//! ```text
//!  0        1        2                 4
//! +--------+--------+-----------------+---------------------+
//! |  type  | flags=0|  length (BE16)  |  payload (length)   |
//! +--------+--------+-----------------+---------------------+
//! ```
//!
//! | type | frame | payload |
//! |---|---|---|
//! | 1 | HELLO | version u16, largest DATA payload u16; the first frame each way, once |
//! | 2 | OPEN | export namespace, export name, u16 count, count x (key, value); strings are u16 length + UTF-8 |
//! | 3 | OPENED | empty |
//! | 4 | REFUSED | reason u8, policy name string |
//! | 5 | DATA | bytes of the service connection, at least one |
//! | 6 | FIN | empty: this direction has ended |
//! | 7 | RESET | empty: this direction has ended and the connection is broken |
//! | 8 | PING | u64, echoed by PONG |
//! | 9 | PONG | u64 |
//! | 10 | GOAWAY | empty: the sender takes no further OPEN on this tunnel |

use crate::limits::{TUNNEL_HEADER, TUNNEL_MAX_ATTRIBUTE_LEN, TUNNEL_MAX_ATTRIBUTES};

/// Version in HELLO. A receiver refuses another one: the version is raised only for changes that
/// an older gateway cannot pass over.
pub const VERSION: u16 = 1;

/// Why an OPEN was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RefuseReason {
    /// No policy of the exporter allows it; the frame names the deciding policy.
    Policy = 1,
    /// The exporter has no such export.
    NoSuchExport = 2,
    /// The service did not accept the connection.
    ServiceUnreachable = 3,
    ServiceTimeout = 4,
    Overload = 5,
    Draining = 6,
    /// The attributes name another peer than the certificate does.
    PeerName = 7,
}

impl RefuseReason {
    fn from_wire(b: u8) -> Option<Self> {
        Some(match b {
            1 => Self::Policy,
            2 => Self::NoSuchExport,
            3 => Self::ServiceUnreachable,
            4 => Self::ServiceTimeout,
            5 => Self::Overload,
            6 => Self::Draining,
            7 => Self::PeerName,
            _ => return None,
        })
    }
}

/// A parsed frame; borrows from the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Hello { version: u16, max_data: u16 },
    Open(Open<'a>),
    Opened,
    Refused { reason: RefuseReason, policy: &'a str },
    Data(&'a [u8]),
    Fin,
    Reset,
    Ping(u64),
    Pong(u64),
    GoAway,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("record ends inside a frame")]
    Truncated,
    #[error("unknown frame type {0}")]
    Type(u8),
    #[error("reserved flags {0:#04x} are set")]
    Flags(u8),
    #[error("payload of a frame of type {0} has the wrong length or content")]
    Payload(u8),
}

/// OPEN: which export is wanted, and the attributes of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// Validated `count` pairs on the wire.
    attributes: &'a [u8],
}

impl<'a> Open<'a> {
    /// Attribute pairs in the order of the wire.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { rest: self.attributes }
    }
}

/// Iterator over the attribute pairs of an OPEN.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = take_str(self.rest)?;
        let (value, rest) = take_str(rest)?;
        self.rest = rest;
        Some((key, value))
    }
}

mod kind {
    pub const HELLO: u8 = 1;
    pub const OPEN: u8 = 2;
    pub const OPENED: u8 = 3;
    pub const REFUSED: u8 = 4;
    pub const DATA: u8 = 5;
    pub const FIN: u8 = 6;
    pub const RESET: u8 = 7;
    pub const PING: u8 = 8;
    pub const PONG: u8 = 9;
    pub const GOAWAY: u8 = 10;
}

fn take_u16(b: &[u8]) -> Option<(u16, &[u8])> {
    let (head, rest) = b.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*head), rest))
}

fn take_str(b: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = take_u16(b)?;
    let (text, rest) = rest.split_at_checked(usize::from(len))?;
    if text.len() > TUNNEL_MAX_ATTRIBUTE_LEN {
        return None;
    }
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// Parses the first frame of `record`; returns it and what is behind it.
///
/// # Errors
/// A record that is not made of whole, known frames; the tunnel is then closed.
pub fn parse(record: &[u8]) -> Result<(Frame<'_>, &[u8]), FrameError> {
    let (header, rest) =
        record.split_first_chunk::<TUNNEL_HEADER>().ok_or(FrameError::Truncated)?;
    let [kind, flags, len @ ..] = *header;
    if flags != 0 {
        return Err(FrameError::Flags(flags));
    }
    let len = usize::from(u16::from_be_bytes(len));
    let (payload, rest) = rest.split_at_checked(len).ok_or(FrameError::Truncated)?;
    let empty = |frame| if payload.is_empty() { Some(frame) } else { None };
    let number = || payload.try_into().ok().map(u64::from_be_bytes);
    let frame = match kind {
        kind::HELLO => hello(payload),
        kind::OPEN => open(payload),
        kind::OPENED => empty(Frame::Opened),
        kind::REFUSED => refused(payload),
        kind::DATA => (!payload.is_empty()).then_some(Frame::Data(payload)),
        kind::FIN => empty(Frame::Fin),
        kind::RESET => empty(Frame::Reset),
        kind::PING => number().map(Frame::Ping),
        kind::PONG => number().map(Frame::Pong),
        kind::GOAWAY => empty(Frame::GoAway),
        _ => return Err(FrameError::Type(kind)),
    };
    Ok((frame.ok_or(FrameError::Payload(kind))?, rest))
}

fn hello(payload: &[u8]) -> Option<Frame<'_>> {
    let (version, rest) = take_u16(payload)?;
    // A later version may append fields.
    let (max_data, _) = take_u16(rest)?;
    Some(Frame::Hello { version, max_data })
}

fn open(payload: &[u8]) -> Option<Frame<'_>> {
    let (namespace, rest) = take_str(payload)?;
    let (name, rest) = take_str(rest)?;
    let (count, attributes) = take_u16(rest)?;
    if usize::from(count) > TUNNEL_MAX_ATTRIBUTES {
        return None;
    }
    let mut pairs = Attributes { rest: attributes };
    if pairs.by_ref().count() != usize::from(count) || !pairs.rest.is_empty() {
        return None;
    }
    Some(Frame::Open(Open { namespace, name, attributes }))
}

fn refused(payload: &[u8]) -> Option<Frame<'_>> {
    let (&reason, rest) = payload.split_first()?;
    let (policy, rest) = take_str(rest)?;
    if !rest.is_empty() {
        return None;
    }
    Some(Frame::Refused { reason: RefuseReason::from_wire(reason)?, policy })
}

/// Header of a DATA frame with `len` bytes of payload.
pub fn data_header(len: usize) -> [u8; TUNNEL_HEADER] {
    header(kind::DATA, len)
}

fn header(kind: u8, len: usize) -> [u8; TUNNEL_HEADER] {
    debug_assert!(len <= usize::from(u16::MAX));
    let [hi, lo] = (len as u16).to_be_bytes();
    [kind, 0, hi, lo]
}

/// Writes control frames into a fixed buffer; DATA has its own way ([`data_header`]).
#[derive(Debug)]
pub struct FrameWriter<'a> {
    buf: &'a mut [u8],
    len: usize,
}

/// The frame does not fit into the buffer, or a string or list is over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame does not fit")]
pub struct NoRoom;

impl<'a> FrameWriter<'a> {
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0 }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn bytes(&mut self, b: &[u8]) -> Result<(), NoRoom> {
        let end = self.len + b.len();
        self.buf.get_mut(self.len..end).ok_or(NoRoom)?.copy_from_slice(b);
        self.len = end;
        Ok(())
    }

    fn string(&mut self, s: &str) -> Result<(), NoRoom> {
        if s.len() > TUNNEL_MAX_ATTRIBUTE_LEN {
            return Err(NoRoom);
        }
        self.bytes(&(s.len() as u16).to_be_bytes())?;
        self.bytes(s.as_bytes())
    }

    /// Writes a frame whose payload `fill` writes; on error nothing is written.
    fn frame(
        &mut self,
        kind: u8,
        fill: impl FnOnce(&mut Self) -> Result<(), NoRoom>,
    ) -> Result<(), NoRoom> {
        let start = self.len;
        let result = self.bytes(&[0; TUNNEL_HEADER]).and_then(|()| fill(self));
        let payload = self.len - start;
        match result {
            Ok(()) if payload - TUNNEL_HEADER <= usize::from(u16::MAX) => {
                self.buf[start..start + TUNNEL_HEADER]
                    .copy_from_slice(&header(kind, payload - TUNNEL_HEADER));
                Ok(())
            }
            _ => {
                self.len = start;
                Err(NoRoom)
            }
        }
    }

    /// # Errors
    /// [`NoRoom`], as all writers here.
    pub fn hello(&mut self, max_data: u16) -> Result<(), NoRoom> {
        self.frame(kind::HELLO, |w| {
            w.bytes(&VERSION.to_be_bytes())?;
            w.bytes(&max_data.to_be_bytes())
        })
    }

    /// # Errors
    /// [`NoRoom`], also when an attribute or the number of attributes is over its limit.
    pub fn open<'s>(
        &mut self,
        namespace: &str,
        name: &str,
        attributes: impl ExactSizeIterator<Item = (&'s str, &'s str)>,
    ) -> Result<(), NoRoom> {
        if attributes.len() > TUNNEL_MAX_ATTRIBUTES {
            return Err(NoRoom);
        }
        self.frame(kind::OPEN, |w| {
            w.string(namespace)?;
            w.string(name)?;
            w.bytes(&(attributes.len() as u16).to_be_bytes())?;
            for (key, value) in attributes {
                w.string(key)?;
                w.string(value)?;
            }
            Ok(())
        })
    }

    /// # Errors
    /// [`NoRoom`].
    pub fn opened(&mut self) -> Result<(), NoRoom> {
        self.frame(kind::OPENED, |_| Ok(()))
    }

    /// `policy` is cut to the longest string a frame may carry.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn refused(&mut self, reason: RefuseReason, policy: &str) -> Result<(), NoRoom> {
        let mut end = policy.len().min(TUNNEL_MAX_ATTRIBUTE_LEN);
        while !policy.is_char_boundary(end) {
            end -= 1;
        }
        self.frame(kind::REFUSED, |w| {
            w.bytes(&[reason as u8])?;
            w.string(&policy[..end])
        })
    }

    /// # Errors
    /// [`NoRoom`].
    pub fn fin(&mut self) -> Result<(), NoRoom> {
        self.frame(kind::FIN, |_| Ok(()))
    }

    /// # Errors
    /// [`NoRoom`].
    pub fn reset(&mut self) -> Result<(), NoRoom> {
        self.frame(kind::RESET, |_| Ok(()))
    }

    /// # Errors
    /// [`NoRoom`].
    pub fn ping(&mut self, token: u64) -> Result<(), NoRoom> {
        self.frame(kind::PING, |w| w.bytes(&token.to_be_bytes()))
    }

    /// # Errors
    /// [`NoRoom`].
    pub fn pong(&mut self, token: u64) -> Result<(), NoRoom> {
        self.frame(kind::PONG, |w| w.bytes(&token.to_be_bytes()))
    }

    /// # Errors
    /// [`NoRoom`].
    pub fn goaway(&mut self) -> Result<(), NoRoom> {
        self.frame(kind::GOAWAY, |_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(f: impl FnOnce(&mut FrameWriter<'_>)) -> Vec<u8> {
        let mut buf = vec![0; 16_384];
        let mut w = FrameWriter::new(&mut buf);
        f(&mut w);
        let n = w.len();
        buf.truncate(n);
        buf
    }

    #[test]
    fn control_frames_in_one_record() {
        let record = written(|w| {
            w.hello(16_380).unwrap();
            w.opened().unwrap();
            w.refused(RefuseReason::Policy, "shop/no-test").unwrap();
            w.fin().unwrap();
            w.reset().unwrap();
            w.ping(7).unwrap();
            w.pong(u64::MAX).unwrap();
            w.goaway().unwrap();
        });
        let mut rest = &record[..];
        let mut seen = Vec::new();
        while !rest.is_empty() {
            let (frame, tail) = parse(rest).unwrap();
            seen.push(frame);
            rest = tail;
        }
        assert_eq!(
            seen,
            [
                Frame::Hello { version: VERSION, max_data: 16_380 },
                Frame::Opened,
                Frame::Refused { reason: RefuseReason::Policy, policy: "shop/no-test" },
                Frame::Fin,
                Frame::Reset,
                Frame::Ping(7),
                Frame::Pong(u64::MAX),
                Frame::GoAway,
            ]
        );
    }

    #[test]
    fn hello_of_a_later_version_may_be_longer() {
        let frame = [kind::HELLO, 0, 0, 6, 0, 9, 0x3f, 0xfc, 1, 2];
        let (frame, _) = parse(&frame).unwrap();
        assert_eq!(frame, Frame::Hello { version: 9, max_data: 0x3ffc });
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(parse(&[]), Err(FrameError::Truncated));
        assert_eq!(parse(&[5, 0, 0, 2, b'x']), Err(FrameError::Truncated));
        assert_eq!(parse(&[99, 0, 0, 0]), Err(FrameError::Type(99)));
        assert_eq!(parse(&[6, 1, 0, 0]), Err(FrameError::Flags(1)));
        assert_eq!(parse(&[5, 0, 0, 0]), Err(FrameError::Payload(5)), "empty DATA");
        assert_eq!(parse(&[6, 0, 0, 1, 0]), Err(FrameError::Payload(6)), "FIN with payload");
        assert_eq!(parse(&[8, 0, 0, 1, 0]), Err(FrameError::Payload(8)), "short PING");
        assert_eq!(parse(&[4, 0, 0, 3, 200, 0, 0]), Err(FrameError::Payload(4)), "reason");
        assert_eq!(parse(&[2, 0, 0, 6, 0, 0, 0, 0, 0, 1]), Err(FrameError::Payload(2)), "count");
    }

    #[test]
    fn too_large_is_refused_whole() {
        let long = "x".repeat(TUNNEL_MAX_ATTRIBUTE_LEN + 1);
        let mut buf = [0; 4096];
        let mut w = FrameWriter::new(&mut buf);
        w.fin().unwrap();
        let before = w.len();
        assert_eq!(w.open("ns", &long, std::iter::empty()), Err(NoRoom));
        assert_eq!(w.len(), before);
        w.refused(RefuseReason::Policy, &long).unwrap();
        let mut tiny = [0; 5];
        assert_eq!(FrameWriter::new(&mut tiny).ping(1), Err(NoRoom));
    }

    proptest! {
        #[test]
        fn open_round_trip(
            ns in "[a-z]{1,20}", name in "[a-z0-9-]{1,63}",
            attrs in proptest::collection::vec(("[a-z./]{1,60}", "\\PC{0,60}"), 0..20),
        ) {
            let record = written(|w| {
                w.open(&ns, &name, attrs.iter().map(|(k, v)| (k.as_str(), v.as_str()))).unwrap();
            });
            let (frame, rest) = parse(&record).unwrap();
            prop_assert!(rest.is_empty());
            let Frame::Open(open) = frame else { panic!("not OPEN: {frame:?}") };
            prop_assert_eq!((open.namespace, open.name), (ns.as_str(), name.as_str()));
            let got: Vec<_> = open.attributes().collect();
            let want: Vec<_> = attrs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            prop_assert_eq!(got, want);
        }

        #[test]
        fn any_bytes_parse_or_fail_without_panic(record in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut rest = &record[..];
            while let Ok((frame, tail)) = parse(rest) {
                prop_assert!(tail.len() < rest.len());
                if let Frame::Open(open) = frame {
                    prop_assert!(open.attributes().count() <= TUNNEL_MAX_ATTRIBUTES);
                }
                rest = tail;
            }
        }

        #[test]
        fn damaged_open_never_panics(at in 0usize..60, value: u8) {
            let mut record = written(|w| {
                w.open("shop", "db", [("client.clusterlink.net/namespace", "x")].into_iter()).unwrap();
            });
            let at = at % record.len();
            record[at] = value;
            if let Ok((Frame::Open(open), _)) = parse(&record) {
                prop_assert!(open.attributes().count() <= TUNNEL_MAX_ATTRIBUTES);
            }
        }
    }
}
