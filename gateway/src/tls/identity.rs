//! A gateway's certificate, key and trust bundle, and what rustls needs of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::provider::{provider, ticketer};
use super::verify::{LeafFacts, NamedClientVerifier};
use super::{ALPN_NATIVE, CLIENT_SESSION_PEERS, IdentityError, SESSION_TICKETS, Suite, pem};
use crate::config::Crypto;

/// Tickets rustls keeps per peer; the unit of its session store's size.
const TICKETS_PER_PEER: usize = 8;

/// Where an identity is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The fabric's CA certificates; several during a change of the CA.
    pub ca: PathBuf,
    /// The gateway's certificate, then intermediates.
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The content of the three files, and their names for the errors.
#[derive(Clone, Copy)]
pub struct TlsPem<'a> {
    pub ca: &'a [u8],
    pub ca_name: &'a str,
    pub cert: &'a [u8],
    pub cert_name: &'a str,
    pub key: &'a [u8],
    pub key_name: &'a str,
}

impl fmt::Debug for TlsPem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPem")
            .field("ca_name", &self.ca_name)
            .field("cert_name", &self.cert_name)
            .field("key_name", &self.key_name)
            .finish_non_exhaustive()
    }
}

/// One generation of a gateway's identity, immutable. A change of any file makes a new one;
/// connections keep the one they began with.
///
/// Sessions belong to a generation too: a ticket stands for the certificates it was issued under,
/// and must not outlive a trust bundle that no longer contains their CA. So the first connection
/// to each peer after a change makes a full handshake.
pub struct Identity {
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
    crypto: Crypto,
    time: Arc<dyn TimeProvider>,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Identity {
    /// Reads and checks the files, by the system's clock.
    ///
    /// # Errors
    /// The first thing that makes the identity unusable.
    pub fn load(files: &TlsFiles, crypto: Crypto) -> Result<Self, IdentityError> {
        let name = |path: &Path| path.display().to_string();
        let (ca, cert, key) =
            (pem::read(&files.ca)?, pem::read(&files.cert)?, pem::read(&files.key)?);
        Self::from_pem(
            &TlsPem {
                ca: &ca,
                ca_name: &name(&files.ca),
                cert: &cert,
                cert_name: &name(&files.cert),
                key: &key,
                key_name: &name(&files.key),
            },
            Arc::new(DefaultTimeProvider),
            crypto,
        )
    }

    /// As [`Self::load`], from memory and by another clock, which serves the later handshakes as
    /// well.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_pem(
        pem: &TlsPem<'_>,
        time: Arc<dyn TimeProvider>,
        crypto: Crypto,
    ) -> Result<Self, IdentityError> {
        Self::with_suites(pem, time, crypto, &Suite::by_cost())
    }

    /// As [`Self::from_pem`], with these cipher suites only; the first one that the peer has too is
    /// used.
    ///
    /// # Errors
    /// As [`Self::load`]; rustls refuses to go without any suite.
    pub fn with_suites(
        pem: &TlsPem<'_>,
        time: Arc<dyn TimeProvider>,
        crypto: Crypto,
        suites: &[Suite],
    ) -> Result<Self, IdentityError> {
        let now = time.current_time().ok_or(IdentityError::NoTime)?;
        let provider = Arc::new(provider(crypto, suites));
        let roots = Arc::new(trust_bundle(pem)?);
        let chain = pem::certificates(pem.cert, pem.cert_name)?;
        let leaf = check_leaf(&chain[0], pem.cert_name, now)?;
        let certified = certified_key(pem, chain, &provider)?;

        let server_verifier =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
                .build()
                .map_err(|e| IdentityError::Setup(rustls::Error::General(e.to_string())))?;
        let client_verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|e| IdentityError::Setup(rustls::Error::General(e.to_string())))?;
        check_chain(pem, &certified.cert, &leaf, &*server_verifier, &*client_verifier, now)?;

        let certified = Arc::new(SingleCertAndKey::from(certified));
        let mut client = ClientConfig::builder_with_details(provider.clone(), time.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(IdentityError::Setup)?
            .with_webpki_verifier(server_verifier)
            .with_client_cert_resolver(certified.clone());
        client.alpn_protocols = vec![ALPN_NATIVE.to_vec()];
        client.enable_secret_extraction = true;
        client.resumption =
            rustls::client::Resumption::in_memory_sessions(CLIENT_SESSION_PEERS * TICKETS_PER_PEER);

        let mut server = ServerConfig::builder_with_details(provider, time.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(IdentityError::Setup)?
            .with_client_cert_verifier(Arc::new(NamedClientVerifier(client_verifier)))
            .with_cert_resolver(certified);
        server.alpn_protocols = vec![ALPN_NATIVE.to_vec()];
        server.enable_secret_extraction = true;
        // Our order of suites is by cost per byte; the client's says nothing about this machine.
        server.ignore_client_order = true;
        server.send_tls13_tickets = SESSION_TICKETS;
        server.ticketer = ticketer(crypto).map_err(IdentityError::Setup)?;

        Ok(Self {
            names: leaf.dns_names,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            crypto,
            time,
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }

    /// This gateway's peer name: the certificate's first DNS SAN, lower case.
    pub fn peer_name(&self) -> &str {
        // `check_leaf` lets no certificate pass without one.
        self.names.first().map_or("", String::as_str)
    }

    /// All DNS SANs, lower case, in the certificate's order.
    pub fn dns_names(&self) -> &[String] {
        &self.names
    }

    /// End of the certificate's validity, seconds since 1970 (UTC).
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    pub fn client_config(&self) -> &Arc<ClientConfig> {
        &self.client
    }

    pub fn server_config(&self) -> &Arc<ServerConfig> {
        &self.server
    }

    pub(super) fn crypto(&self) -> Crypto {
        self.crypto
    }

    pub(super) fn now(&self) -> Option<UnixTime> {
        self.time.current_time()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("names", &self.names)
            .field("not_before", &utc(self.not_before))
            .field("not_after", &utc(self.not_after))
            .finish_non_exhaustive()
    }
}

fn parse<'a>(
    der: &'a CertificateDer<'_>,
    file: &str,
    number: usize,
) -> Result<X509Certificate<'a>, IdentityError> {
    X509Certificate::from_der(der).map(|(_, certificate)| certificate).map_err(|e| {
        IdentityError::Certificate { file: file.to_owned(), number, detail: e.to_string() }
    })
}

fn trust_bundle(pem: &TlsPem<'_>) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for (i, der) in pem::certificates(pem.ca, pem.ca_name)?.into_iter().enumerate() {
        let (file, number) = (pem.ca_name, i + 1);
        let certificate = parse(&der, file, number)?;
        if !certificate.is_ca() {
            let subject = certificate.subject().to_string();
            return Err(IdentityError::NotACa { file: file.to_owned(), number, subject });
        }
        roots.add(der).map_err(|e| IdentityError::Certificate {
            file: file.to_owned(),
            number,
            detail: e.to_string(),
        })?;
    }
    Ok(roots)
}

fn check_leaf(
    der: &CertificateDer<'_>,
    file: &str,
    now: UnixTime,
) -> Result<LeafFacts, IdentityError> {
    let certificate = parse(der, file, 1)?;
    let leaf = LeafFacts::of(&certificate);
    let file = file.to_owned();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds > leaf.not_after {
        let (not_after, now) = (utc(leaf.not_after), utc(seconds));
        return Err(IdentityError::Expired { file, not_after, now });
    }
    if seconds < leaf.not_before {
        let (not_before, now) = (utc(leaf.not_before), utc(seconds));
        return Err(IdentityError::NotYetValid { file, not_before, now });
    }
    let Some(name) = leaf.dns_names.first() else {
        return Err(IdentityError::NoDnsName { file });
    };
    if rustls::pki_types::DnsName::try_from(name.as_str()).is_err() {
        return Err(IdentityError::PeerName { file, name: name.clone() });
    }
    // Without the extension every use is allowed (RFC 5280, section 4.2.1.12). With it, rustls
    // wants the very purpose: anyExtendedKeyUsage does not stand in for it.
    if let Ok(Some(usage)) = certificate.extended_key_usage() {
        let usage = usage.value;
        for (present, missing) in
            [(usage.server_auth, "serverAuth"), (usage.client_auth, "clientAuth")]
        {
            if !present {
                return Err(IdentityError::ExtendedKeyUsage { file, missing });
            }
        }
    }
    Ok(leaf)
}

fn certified_key(
    pem: &TlsPem<'_>,
    chain: Vec<CertificateDer<'static>>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, IdentityError> {
    let key = pem::private_key(pem.key, pem.key_name)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => IdentityError::KeyMismatch {
            key: pem.key_name.to_owned(),
            cert: pem.cert_name.to_owned(),
        },
        e => IdentityError::Key { file: pem.key_name.to_owned(), detail: e.to_string() },
    })
}

/// Our certificate as the other gateways will see it, in both roles.
fn check_chain(
    pem: &TlsPem<'_>,
    chain: &[CertificateDer<'static>],
    leaf: &LeafFacts,
    server: &dyn ServerCertVerifier,
    client: &dyn ClientCertVerifier,
    now: UnixTime,
) -> Result<(), IdentityError> {
    let failed = |e: rustls::Error| {
        let detail = match e {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                "none of them has issued it".to_owned()
            }
            // Two fabrics of the same name, or one that was set up again.
            rustls::Error::InvalidCertificate(CertificateError::BadSignature) => {
                "a CA of the same name but with another key has issued it".to_owned()
            }
            e => e.to_string(),
        };
        IdentityError::Chain { cert: pem.cert_name.to_owned(), ca: pem.ca_name.to_owned(), detail }
    };
    let (end_entity, intermediates) = chain
        .split_first()
        .ok_or_else(|| IdentityError::NoCertificate { file: pem.cert_name.to_owned() })?;
    let name = leaf.dns_names.first().map_or("", String::as_str);
    let name = ServerName::try_from(name).map_err(|_| IdentityError::PeerName {
        file: pem.cert_name.to_owned(),
        name: name.to_owned(),
    })?;
    server.verify_server_cert(end_entity, intermediates, &name, &[], now).map_err(failed)?;
    client.verify_client_cert(end_entity, intermediates, now).map_err(failed)?;
    Ok(())
}

fn utc(seconds: i64) -> String {
    match time::OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(t) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        ),
        Err(_) => format!("{seconds} s after 1970"),
    }
}
