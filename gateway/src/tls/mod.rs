//! Mutual TLS 1.3 between gateways.
//!
//! Three parts, in the order a connection meets them:
//! - [`Identity`]: certificate, key and trust bundle of one generation, with the rustls
//!   configurations built from them.
//! - [`Handshake`]: a sans-I/O driver of rustls' unbuffered connections. It costs some hundred
//!   microseconds of CPU per connection, so workers hand it to a [`HandshakeExecutor`].
//! - [`RecordLayer`]: seals and opens records in place once the handshake is done, without
//!   allocating. rustls stays behind it only to derive the next traffic secrets (KeyUpdate) and
//!   to store session tickets.

mod aead;
#[cfg(feature = "aws-lc")]
mod aws_lc;
mod error;
mod executor;
mod handshake;
mod identity;
mod identity_error;
mod kernel;
mod key_cache;
mod messages;
mod pem;
mod provider;
mod record;
mod suite;
mod verify;

#[cfg(test)]
pub(crate) mod tests;

pub use aead::{Aead, NONCE_LEN, RingAead, TAG_LEN};
#[cfg(feature = "aws-lc")]
pub use aws_lc::AwsLcAead;
pub use error::TlsError;
pub use executor::{
    Done, HandshakeExecutor, HelperThreads, Helpers, Inline, Job, Outcome, Work, spawn_helpers,
};
pub use handshake::{Established, Handshake, PeerIdentity, Progress};
pub use identity::{Identity, TlsFiles, TlsPem};
pub use identity_error::IdentityError;
pub use kernel::{TicketDone, TicketJob};
pub use key_cache::KeyCache;
pub use record::{CONTROL_RECORDS_MAX, Opened, RecordLayer};
pub use suite::Suite;

/// ALPN protocol of the native tunnel (RFC 7301).
pub const ALPN_NATIVE: &[u8] = b"clusterlink-gw/1";

/// Peer gateways whose session tickets are remembered; the one that was added first is forgotten.
pub const CLIENT_SESSION_PEERS: usize = 256;
/// Session tickets a server hands out after a full or resumed handshake. A ticket is good for one
/// connection, so a client that resumes gets back more than it used.
pub const SESSION_TICKETS: usize = 2;
/// Session tickets taken from one connection in its life; later ones are ignored. A server that
/// keeps sending them would otherwise keep the helper threads busy.
pub const TICKETS_PER_CONNECTION: u8 = 16;
