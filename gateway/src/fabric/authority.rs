//! The CA of a fabric, read from its two files.

use std::fs;
use std::io;
use std::path::Path;

use rcgen::{Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::{CERT_FILE, FabricError, KEY_FILE, pkcs8};

/// PEM files of a CA are a few KiB; more is another file.
const MAX_PEM: u64 = 1024 * 1024;

pub(super) struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
    /// The CA certificate as it goes behind every leaf.
    pub pem: String,
    pub not_after: OffsetDateTime,
}

impl Authority {
    /// Reads the CA in `directory` and checks that it can sign today.
    pub fn load(directory: &Path, now: OffsetDateTime) -> Result<Self, FabricError> {
        let cert_path = directory.join(CERT_FILE);
        let key_path = directory.join(KEY_FILE);
        if !cert_path.exists() && !key_path.exists() {
            return Err(FabricError::NoFabric(directory.to_owned()));
        }
        let pem = Zeroizing::new(read(&cert_path)?);
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
            FabricError::authority(
                &cert_path,
                "holds no PEM certificate",
                "it must have a BEGIN CERTIFICATE block",
            )
        })?;
        let (_, cert) = X509Certificate::from_der(&der).map_err(|error| {
            FabricError::authority(
                &cert_path,
                format!("the certificate cannot be read: {error}"),
                "restore it from a copy",
            )
        })?;
        if !cert.is_ca() {
            return Err(FabricError::authority(
                &cert_path,
                "is not a CA certificate",
                "name the fabric's directory, not a peer's",
            ));
        }
        let may_sign =
            cert.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
        if !may_sign {
            return Err(FabricError::authority(
                &cert_path,
                "the CA may not sign certificates (key usage)",
                "use the CA the fabric was made with",
            ));
        }
        let not_after = cert.validity().not_after.to_datetime();
        if not_after <= now {
            return Err(FabricError::authority(
                &cert_path,
                format!("the CA expired on {}", not_after.date()),
                "make a new fabric and new peer certificates",
            ));
        }
        let key = load_key(&key_path)?;
        if key.public_key_raw() != cert.public_key().subject_public_key.data.as_ref() {
            return Err(FabricError::authority(
                &key_path,
                format!("is not the key of {}", cert_path.display()),
                "restore the two files from the same copy",
            ));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { issuer, pem: to_pem(&pem), not_after })
    }
}

/// The first certificate block alone: a leaf must not drag along what else is in the file.
fn to_pem(text: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let start = text.find("-----BEGIN CERTIFICATE-----").unwrap_or(0);
    let end = text[start..].find(END).map_or(text.len(), |at| start + at + END.len());
    format!("{}\n", &text[start..end])
}

fn load_key(path: &Path) -> Result<KeyPair, FabricError> {
    let pem = Zeroizing::new(read(path)?);
    let parsed = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    if pem.contains("ENCRYPTED") {
        return Err(FabricError::authority(
            path,
            "the key is encrypted",
            "decrypt it first: openssl pkey -in key.pem -out plain.pem",
        ));
    }
    let key = parsed.map_err(|_| {
        FabricError::authority(
            path,
            "holds no PEM private key",
            "it must have a BEGIN PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY block",
        )
    })?;
    let load = |der: &[u8]| KeyPair::try_from(&PrivatePkcs8KeyDer::from(der));
    let loaded = match &key {
        PrivateKeyDer::Pkcs8(der) => load(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => load(&pkcs8::from_pkcs1(der.secret_pkcs1_der())),
        PrivateKeyDer::Sec1(der) => {
            let [p256, p384] = pkcs8::from_sec1(der.secret_sec1_der());
            load(&p256).or_else(|_| load(&p384))
        }
        _ => Err(rcgen::Error::UnsupportedSignatureAlgorithm),
    };
    loaded.map_err(|error| {
        FabricError::authority(
            path,
            format!("the private key cannot be used: {error}"),
            "it must be ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits",
        )
    })
}

fn read(path: &Path) -> Result<String, FabricError> {
    let failed = |source| FabricError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > MAX_PEM {
        return Err(failed(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{size} bytes are no PEM file"),
        )));
    }
    fs::read_to_string(path).map_err(failed)
}
