//! Certificates for simulated sites. Ed25519, because its signatures have one length: with ECDSA
//! the sizes of handshakes, and with them the whole simulation, would differ from run to run.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SerialNumber,
};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::config::Crypto;
use crate::tls::{Identity, IdentityError, Suite, TlsPem};

/// Wall clock of a simulation: stands still in the middle of the certificates' validity.
#[derive(Clone, Copy, Debug)]
pub struct SimTime;

/// 1 January 2026.
const NOW: u64 = 1_767_225_600;

impl TimeProvider for SimTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(NOW)))
    }
}

/// The CA of a simulated fabric.
pub struct Pki {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pki(..)")
    }
}

impl Pki {
    /// # Errors
    /// The key or certificate cannot be made.
    pub fn new(fabric: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = params(fabric, Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = params.self_signed(&key)?.pem();
        Ok(Self { ca_pem, issuer: Issuer::new(params, key) })
    }

    /// The CA's certificate, as PEM.
    pub fn ca(&self) -> &str {
        &self.ca_pem
    }

    /// Certificate and key of a peer, as PEM.
    ///
    /// # Errors
    /// As [`Pki::new`].
    pub fn peer(&self, name: &str) -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = params(name, vec![name.to_owned()])?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok((cert.pem(), key.serialize_pem()))
    }

    /// The identity of a peer that trusts this CA.
    ///
    /// # Errors
    /// Never, for certificates of this module.
    pub fn identity(&self, cert: &str, key: &str) -> Result<Arc<Identity>, IdentityError> {
        self.identity_with(cert, key, Crypto::default(), &Suite::by_cost())
    }

    /// As [`Pki::identity`], of a peer with this library, which knows these cipher suites only.
    ///
    /// # Errors
    /// As [`Pki::identity`].
    pub fn identity_with(
        &self,
        cert: &str,
        key: &str,
        crypto: Crypto,
        suites: &[Suite],
    ) -> Result<Arc<Identity>, IdentityError> {
        let pem = TlsPem {
            ca: self.ca_pem.as_bytes(),
            ca_name: "ca",
            cert: cert.as_bytes(),
            cert_name: "cert",
            key: key.as_bytes(),
            key_name: "key",
        };
        Identity::with_suites(&pem, Arc::new(SimTime), crypto, suites).map(Arc::new)
    }
}

fn params(name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2035, 1, 1);
    // Without one it is a hash, whose length differs when it begins with zeros.
    params.serial_number = Some(SerialNumber::from(1));
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{Handshake, Progress};

    #[test]
    fn certificates_have_one_length() {
        let pki = Pki::new("fabric").unwrap();
        let length = || pki.peer("site-a").unwrap().0.len();
        let first = length();
        assert!((0..1_000).all(|_| length() == first));
    }

    #[test]
    fn a_peer_uses_the_suite_it_is_given() {
        let pki = Pki::new("fabric").unwrap();
        for suite in Suite::ALL {
            let identity = |name| {
                let (cert, key) = pki.peer(name).unwrap();
                pki.identity_with(&cert, &key, Crypto::default(), &[suite]).unwrap()
            };
            let mut client = Handshake::client(&identity("a"), "b").unwrap();
            let mut server = Handshake::server(&identity("b")).unwrap();
            let (mut hello, mut flight) = (Vec::new(), Vec::new());
            assert!(matches!(client.step(&[], &mut hello), Ok(Progress::More)));
            assert!(matches!(server.step(&hello, &mut flight), Ok(Progress::More)));
            let Ok(Progress::Done(done)) = client.step(&flight, &mut Vec::new()) else {
                panic!("{suite:?}: not done");
            };
            assert_eq!(done.records.suite(), suite);
        }
    }
}
