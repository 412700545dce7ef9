//! What a client certificate must be beyond a chain to the trust bundle, and how names are read.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate whose holder cannot be named.
#[derive(Debug)]
pub(super) struct NoDnsName;

impl fmt::Display for NoDnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the certificate has no DNS name")
    }
}

impl std::error::Error for NoDnsName {}

/// The stock chain check, and then: a DNS SAN must be there. Checked within the handshake, so
/// that the client gets an alert instead of a connection that says nothing.
#[derive(Debug)]
pub(super) struct NamedClientVerifier(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for NamedClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        match leaf_facts(end_entity) {
            Some(leaf) if !leaf.dns_names.is_empty() => Ok(verified),
            _ => Err(CertificateError::Other(OtherError(Arc::new(NoDnsName))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What we need to know of a leaf certificate. Times are seconds since 1970.
pub(super) struct LeafFacts {
    /// DNS SANs in lower case, in the certificate's order.
    pub(super) dns_names: Vec<String>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl LeafFacts {
    pub(super) fn of(cert: &X509Certificate<'_>) -> Self {
        let dns_names = match cert.subject_alternative_name() {
            Ok(Some(san)) => san
                .value
                .general_names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::DNSName(dns) => Some(dns.to_ascii_lowercase()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        Self {
            dns_names,
            not_before: cert.validity().not_before.timestamp(),
            not_after: cert.validity().not_after.timestamp(),
        }
    }

    pub(super) fn valid_at(&self, now: UnixTime) -> bool {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.not_before <= now && now <= self.not_after
    }
}

/// `None` if the certificate cannot be read.
pub(super) fn leaf_facts(cert: &CertificateDer<'_>) -> Option<LeafFacts> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    Some(LeafFacts::of(&cert))
}
