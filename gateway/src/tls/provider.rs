//! What rustls takes from each library.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::ProducesTickets;
#[cfg(feature = "aws-lc")]
use rustls::{NamedGroup, crypto::aws_lc_rs};

use super::Suite;
use crate::config::Crypto;

pub(super) fn provider(crypto: Crypto, suites: &[Suite]) -> CryptoProvider {
    let mut provider = match crypto {
        Crypto::Ring => ring::default_provider(),
        #[cfg(feature = "aws-lc")]
        Crypto::AwsLc => {
            let mut provider = aws_lc_rs::default_provider();
            // A client sends its share of the first group, and of this one that of X25519 as well:
            // who does not know it loses no round trip.
            provider.kx_groups.sort_by_key(|group| group.name() != NamedGroup::X25519MLKEM768);
            provider
        }
    };
    let known = std::mem::take(&mut provider.cipher_suites);
    let by_id = |suite: &Suite| known.iter().find(|known| known.suite() == suite.id()).copied();
    provider.cipher_suites = suites.iter().filter_map(by_id).collect();
    provider
}

pub(super) fn ticketer(crypto: Crypto) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    match crypto {
        Crypto::Ring => ring::Ticketer::new(),
        #[cfg(feature = "aws-lc")]
        Crypto::AwsLc => aws_lc_rs::Ticketer::new(),
    }
}
