//! Which congestion control connections have.

/// How a TCP connection finds out what its path carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// RFC 9438: what most of the Internet runs; gives way at every loss.
    #[default]
    Cubic,
    /// draft-ietf-ccwg-bbr: sends at the rate that arrives, and takes a loss for what it is: long
    /// lines that lose packets stay full.
    Bbr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controllers {
    /// Towards clients and services. Default [`Congestion::Cubic`].
    pub service: Congestion,
    /// Towards other gateways. Default [`Congestion::Bbr`].
    pub peer: Congestion,
}
