//! Explicit congestion notification (RFC 3168): routers mark segments instead of dropping them.

use super::seq::Seq;

/// The ECN field of the IP header: this segment may be marked (RFC 3168, section 5).
pub(super) const ECT_0: u8 = 0b10;

/// What a segment says of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// A router has marked it (CE): the IP header says so, and what reads TCP headers leaves it out.
    pub congested: bool,
    pub ece: bool,
    pub cwr: bool,
}

impl Marks {
    /// Of a SYN: the other side offers it (section 6.1.1).
    pub fn offer(self) -> bool {
        self.ece && self.cwr
    }

    /// Of a SYN|ACK: the other side has taken the offer.
    pub fn accept(self) -> bool {
        self.ece && !self.cwr
    }
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ecn {
    /// Both sides have agreed.
    pub on: bool,
    /// A mark has arrived: every acknowledgement says so until the other side has heard it.
    pub echo: bool,
    /// The window was reduced: the next segment that is sent for the first time says so.
    pub reduced: bool,
    /// The marks of one window count once; it ends here.
    pub until: Seq,
}
