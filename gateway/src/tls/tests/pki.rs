//! Certificates made at run time, good ones and bad ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, SignatureAlgorithm,
};
use rustls::pki_types::UnixTime;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use crate::config::Crypto;
use crate::tls::{Identity, IdentityError, TlsPem};

/// Tests are of the last library that was built: ring's turn is in every build without another.
pub(super) const CRYPTO: Crypto = Crypto::ALL[Crypto::ALL.len() - 1];

/// A clock that stands where it is put; at `u64::MAX` it panics.
#[derive(Debug)]
pub(super) struct SetClock(pub(super) AtomicU64);

impl SetClock {
    pub(super) fn at(seconds: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(seconds)))
    }

    pub(super) fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl TimeProvider for SetClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.load(Ordering::Relaxed);
        assert!(seconds != u64::MAX, "the clock was told to panic");
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

/// A CA.
pub(super) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    pub(super) ca: String,
}

impl Pki {
    pub(super) fn new() -> Self {
        Self::named("fabric")
    }

    pub(super) fn named(fabric: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, fabric);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), ca }
    }

    /// A good certificate with an ECDSA key.
    pub(super) fn gateway(&self, name: &str) -> Files {
        self.issue(&KeyPair::generate().unwrap(), name, |_| {})
    }

    pub(super) fn gateway_with(&self, name: &str, algorithm: &'static SignatureAlgorithm) -> Files {
        self.issue(&KeyPair::generate_for(algorithm).unwrap(), name, |_| {})
    }

    /// A certificate for `key`, good until `change`d.
    pub(super) fn issue(
        &self,
        key: &KeyPair,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let cert = params.signed_by(key, &self.issuer).unwrap().pem();
        Files { ca: self.ca.clone(), cert, key: key.serialize_pem() }
    }
}

/// The content of the three files of an identity.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) ca: String,
    pub(super) cert: String,
    pub(super) key: String,
}

impl Files {
    pub(super) fn load(&self, time: Arc<dyn TimeProvider>) -> Result<Identity, IdentityError> {
        Identity::from_pem(&self.pem(), time, CRYPTO)
    }

    pub(super) fn pem(&self) -> TlsPem<'_> {
        TlsPem {
            ca: self.ca.as_bytes(),
            ca_name: "ca.pem",
            cert: self.cert.as_bytes(),
            cert_name: "cert.pem",
            key: self.key.as_bytes(),
            key_name: "key.pem",
        }
    }

    pub(super) fn identity(&self) -> Arc<Identity> {
        Arc::new(self.load(Arc::new(DefaultTimeProvider)).unwrap())
    }
}
