//! What may be said when on one tunnel: the state machine over [`Frame`]s, without I/O.
//!
//! A tunnel carries one service connection ("stream") at a time. The importer begins it with
//! OPEN. Each direction of it is ended by exactly one terminator: FIN, RESET, or (exporter only)
//! REFUSED. When both directions are terminated the tunnel is idle again and its next OPEN may
//! follow at once. Because TCP keeps the order, no stream number is needed: what comes after a
//! direction's terminator belongs to the next stream.

use super::frame::{Frame, Open, RefuseReason, VERSION};

/// Who began the tunnel. Only the importer sends OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Importer,
    Exporter,
}

/// A frame that was legal, and what it means now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// Needs nothing from the caller.
    Nothing,
    Open(Open<'a>),
    Opened,
    Refused {
        reason: RefuseReason,
        policy: &'a str,
    },
    Data(&'a [u8]),
    /// The other side's direction has ended.
    Fin,
    /// The other side broke the stream off.
    Reset,
    Ping(u64),
    Pong(u64),
    GoAway,
}

/// Frames that came when they must not, or say what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("the first frame is not HELLO")]
    NoHello,
    #[error("a second HELLO")]
    SecondHello,
    #[error("the peer speaks version {0} of the native protocol, this gateway {VERSION}")]
    Version(u16),
    #[error("{0} is not legal in this state")]
    State(&'static str),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stream {
    #[default]
    Idle,
    /// OPEN is out (importer) or being worked on (exporter).
    Opening {
        /// This side has sent its terminator.
        local_done: bool,
        /// The other side has.
        remote_done: bool,
    },
    Open {
        local_done: bool,
        remote_done: bool,
    },
}

/// State of one end of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    role: Role,
    greeted: bool,
    goaway: bool,
    stream: Stream,
}

impl Session {
    pub fn new(role: Role) -> Self {
        Self { role, greeted: false, goaway: false, stream: Stream::Idle }
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// The other side's HELLO has been seen.
    pub fn greeted(&self) -> bool {
        self.greeted
    }

    /// The other side takes no further OPEN.
    pub fn going_away(&self) -> bool {
        self.goaway
    }

    pub fn is_idle(&self) -> bool {
        self.stream == Stream::Idle
    }

    /// The exporter has accepted the stream (and it has not ended).
    pub fn is_open(&self) -> bool {
        matches!(self.stream, Stream::Open { .. })
    }

    /// This side may still send DATA.
    pub fn may_send(&self) -> bool {
        matches!(
            self.stream,
            Stream::Opening { local_done: false, .. } | Stream::Open { local_done: false, .. }
        )
    }

    /// The other side may still send DATA.
    pub fn may_receive(&self) -> bool {
        matches!(
            self.stream,
            Stream::Opening { remote_done: false, .. } | Stream::Open { remote_done: false, .. }
        )
    }

    /// Takes a frame from the other side.
    ///
    /// # Errors
    /// A frame that breaks the protocol; the tunnel has to be closed.
    pub fn receive<'a>(&mut self, frame: Frame<'a>) -> Result<Incoming<'a>, SessionError> {
        if let Frame::Hello { version, .. } = frame {
            if self.greeted {
                return Err(SessionError::SecondHello);
            }
            if version != VERSION {
                return Err(SessionError::Version(version));
            }
            self.greeted = true;
            return Ok(Incoming::Nothing);
        }
        if !self.greeted {
            return Err(SessionError::NoHello);
        }
        match frame {
            Frame::Hello { .. } => Err(SessionError::SecondHello),
            Frame::Open(open) => {
                if self.role != Role::Exporter || self.stream != Stream::Idle {
                    return Err(SessionError::State("OPEN"));
                }
                self.stream = Stream::Opening { local_done: false, remote_done: false };
                Ok(Incoming::Open(open))
            }
            Frame::Opened => match (self.role, self.stream) {
                (Role::Importer, Stream::Opening { local_done, remote_done: false }) => {
                    self.stream = Stream::Open { local_done, remote_done: false };
                    Ok(Incoming::Opened)
                }
                _ => Err(SessionError::State("OPENED")),
            },
            Frame::Refused { reason, policy } => match (self.role, self.stream) {
                (Role::Importer, Stream::Opening { local_done, remote_done: false }) => {
                    self.stream = Stream::Opening { local_done, remote_done: true };
                    self.settle();
                    Ok(Incoming::Refused { reason, policy })
                }
                _ => Err(SessionError::State("REFUSED")),
            },
            Frame::Data(bytes) => {
                // An importer's early bytes come before OPENED; an exporter's never do.
                let early = self.role == Role::Exporter;
                if self.may_receive() && (early || self.is_open()) {
                    Ok(Incoming::Data(bytes))
                } else {
                    Err(SessionError::State("DATA"))
                }
            }
            Frame::Fin => {
                let early = self.role == Role::Exporter;
                if !(self.may_receive() && (early || self.is_open())) {
                    return Err(SessionError::State("FIN"));
                }
                self.remote_done();
                Ok(Incoming::Fin)
            }
            Frame::Reset => {
                if !self.may_receive() {
                    return Err(SessionError::State("RESET"));
                }
                self.remote_done();
                Ok(Incoming::Reset)
            }
            Frame::Ping(token) => Ok(Incoming::Ping(token)),
            Frame::Pong(token) => Ok(Incoming::Pong(token)),
            Frame::GoAway => {
                self.goaway = true;
                Ok(Incoming::GoAway)
            }
        }
    }

    /// The importer sends OPEN. Only legal while idle.
    pub fn sent_open(&mut self) {
        debug_assert!(self.role == Role::Importer && self.is_idle());
        self.stream = Stream::Opening { local_done: false, remote_done: false };
    }

    /// The exporter sends OPENED.
    pub fn sent_opened(&mut self) {
        if let Stream::Opening { local_done, remote_done } = self.stream {
            self.stream = Stream::Open { local_done, remote_done };
        }
    }

    /// This side sends its terminator: FIN, RESET or REFUSED.
    pub fn sent_terminator(&mut self) {
        match &mut self.stream {
            Stream::Opening { local_done, .. } | Stream::Open { local_done, .. } => {
                *local_done = true;
            }
            Stream::Idle => debug_assert!(false, "terminator without a stream"),
        }
        self.settle();
    }

    fn remote_done(&mut self) {
        match &mut self.stream {
            Stream::Opening { remote_done, .. } | Stream::Open { remote_done, .. } => {
                *remote_done = true;
            }
            Stream::Idle => {}
        }
        self.settle();
    }

    fn settle(&mut self) {
        if let Stream::Opening { local_done: true, remote_done: true }
        | Stream::Open { local_done: true, remote_done: true } = self.stream
        {
            self.stream = Stream::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::{self, FrameWriter};
    use super::*;

    const HELLO: Frame<'static> = Frame::Hello { version: VERSION, max_data: 16_380 };

    fn pair() -> (Session, Session) {
        let (mut i, mut e) = (Session::new(Role::Importer), Session::new(Role::Exporter));
        i.receive(HELLO).unwrap();
        e.receive(HELLO).unwrap();
        (i, e)
    }

    fn open_frame(buf: &mut [u8]) -> Frame<'_> {
        let mut w = FrameWriter::new(buf);
        w.open("shop", "db", std::iter::empty()).unwrap();
        let n = w.len();
        frame::parse(&buf[..n]).unwrap().0
    }

    #[test]
    fn a_stream_from_open_to_idle_and_again() {
        let (mut i, mut e) = pair();
        let mut buf = [0; 64];
        for _ in 0..2 {
            assert!(i.is_idle() && e.is_idle());
            i.sent_open();
            assert!(matches!(e.receive(open_frame(&mut buf)), Ok(Incoming::Open(_))));
            assert_eq!(e.receive(Frame::Data(b"early")), Ok(Incoming::Data(b"early")));
            e.sent_opened();
            assert_eq!(i.receive(Frame::Opened), Ok(Incoming::Opened));
            i.sent_terminator();
            assert_eq!(e.receive(Frame::Fin), Ok(Incoming::Fin));
            assert!(!e.is_idle(), "the other direction is still open");
            assert_eq!(i.receive(Frame::Data(b"answer")), Ok(Incoming::Data(b"answer")));
            e.sent_terminator();
            assert_eq!(i.receive(Frame::Fin), Ok(Incoming::Fin));
        }
        assert!(i.is_idle() && e.is_idle());
    }

    #[test]
    fn a_refused_stream_leaves_the_tunnel_usable() {
        let (mut i, mut e) = pair();
        let mut buf = [0; 64];
        i.sent_open();
        e.receive(open_frame(&mut buf)).unwrap();
        e.sent_terminator();
        // Early bytes were on their way already; they are still legal.
        assert!(matches!(e.receive(Frame::Data(b"late")), Ok(Incoming::Data(_))));
        let refused = Frame::Refused { reason: RefuseReason::Policy, policy: "p" };
        assert!(matches!(i.receive(refused), Ok(Incoming::Refused { .. })));
        assert!(!i.is_idle());
        i.sent_terminator();
        assert_eq!(e.receive(Frame::Reset), Ok(Incoming::Reset));
        assert!(i.is_idle() && e.is_idle());
    }

    #[test]
    fn illegal_frames_are_refused() {
        let mut s = Session::new(Role::Exporter);
        assert_eq!(s.receive(Frame::Ping(1)), Err(SessionError::NoHello));
        assert_eq!(
            s.receive(Frame::Hello { version: 2, max_data: 0 }),
            Err(SessionError::Version(2))
        );
        let (mut i, mut e) = pair();
        assert_eq!(e.receive(HELLO), Err(SessionError::SecondHello));
        let mut buf = [0; 64];
        assert_eq!(i.receive(open_frame(&mut buf)), Err(SessionError::State("OPEN")));
        assert_eq!(e.receive(Frame::Data(b"x")), Err(SessionError::State("DATA")));
        assert_eq!(e.receive(Frame::Fin), Err(SessionError::State("FIN")));
        assert_eq!(i.receive(Frame::Opened), Err(SessionError::State("OPENED")));
        i.sent_open();
        assert_eq!(i.receive(Frame::Data(b"x")), Err(SessionError::State("DATA")), "before OPENED");
        e.receive(open_frame(&mut buf)).unwrap();
        assert_eq!(e.receive(open_frame(&mut buf)), Err(SessionError::State("OPEN")));
    }

    proptest! {
        /// Two sessions that obey `may_send` never see an error and agree on being idle once
        /// everything in flight has arrived.
        #[test]
        fn two_ends_agree(choices in proptest::collection::vec(0u8..8, 0..200)) {
            let (mut i, mut e) = pair();
            let mut to_e: std::collections::VecDeque<Frame<'static>> = Default::default();
            let mut to_i: std::collections::VecDeque<Frame<'static>> = Default::default();
            let mut buf = [0; 64];
            let mut refused = false;
            for c in choices {
                match c {
                    0 if i.is_idle() => { i.sent_open(); to_e.push_back(Frame::Opened); /* stands for OPEN */ }
                    1 if i.may_send() => to_e.push_back(Frame::Data(b"d")),
                    2 if i.may_send() => { i.sent_terminator(); to_e.push_back(Frame::Fin); }
                    3 if e.may_send() && !e.is_open() => { e.sent_opened(); to_i.push_back(Frame::Opened); }
                    4 if e.may_send() && e.is_open() => to_i.push_back(Frame::Data(b"d")),
                    5 if e.may_send() && !e.is_open() => {
                        e.sent_terminator();
                        to_i.push_back(Frame::Refused { reason: RefuseReason::Policy, policy: "" });
                    }
                    6 if e.may_send() => { e.sent_terminator(); to_i.push_back(Frame::Reset); }
                    _ => {
                        if let Some(f) = to_e.pop_front() {
                            let f = if f == Frame::Opened { open_frame(&mut buf) } else { f };
                            prop_assert!(e.receive(f).is_ok());
                        }
                        if let Some(f) = to_i.pop_front() {
                            let r = i.receive(f);
                            prop_assert!(r.is_ok());
                            refused |= matches!(r, Ok(Incoming::Refused { .. }));
                            if (refused || matches!(r, Ok(Incoming::Reset))) && i.may_send() {
                                i.sent_terminator();
                                to_e.push_back(Frame::Reset);
                                refused = false;
                            }
                        }
                    }
                }
            }
            while let Some(f) = to_e.pop_front() {
                let f = if f == Frame::Opened { open_frame(&mut buf) } else { f };
                prop_assert!(e.receive(f).is_ok());
            }
            while let Some(f) = to_i.pop_front() { prop_assert!(i.receive(f).is_ok()); }
            if i.is_idle() && !e.may_send() { prop_assert!(e.is_idle()); }
        }
    }
}
