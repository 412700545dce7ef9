//! Certificates of a fabric, in ClusterLink's layout: a CA in `<path>/<fabric>/{cert,key}.pem`, and
//! for every peer `<path>/<fabric>/<peer>/{cert,key}.pem` with the CA appended to the certificate.
//!
//! New keys are ECDSA P-256: on the wire both data planes of ClusterLink take them, and a handshake
//! costs a small part of what RSA-4096 does. A fabric that ClusterLink made (RSA-4096, PKCS#1 key
//! file) signs new peers just as well.

mod authority;
pub mod name;
mod pkcs8;
mod store;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use thiserror::Error;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use authority::Authority;
use name::NameError;

/// ClusterLink's fabric name when none is given.
pub const DEFAULT_FABRIC: &str = "default_fabric";
/// File with the certificate chain, leaf first.
pub const CERT_FILE: &str = "cert.pem";
/// File with the private key.
pub const KEY_FILE: &str = "key.pem";

/// Validity of every certificate, as in ClusterLink.
const VALIDITY_YEARS: i32 = 10;
/// Peers whose clock is behind ours by this much still accept a new certificate.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// Why no certificate was made.
#[derive(Debug, Error)]
pub enum FabricError {
    #[error("{source}; {}", source.hint())]
    Name { source: NameError },
    #[error("{path} already exists; nothing was changed: choose another name or path", path = .0.display())]
    Exists(PathBuf),
    #[error(
        "there is no fabric in {path}: create it with `clgw create fabric`, or correct --fabric and --path",
        path = .0.display()
    )]
    NoFabric(PathBuf),
    #[error("{path}: cannot be read: {source}; {}", read_hint(source), path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: cannot be written: {source}; {}", write_hint(source), path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{path}: {message}; {hint}", path = path.display())]
    Authority { path: PathBuf, message: String, hint: &'static str },
    #[error("the certificate could not be made: {0}")]
    Sign(#[from] rcgen::Error),
}

impl From<NameError> for FabricError {
    fn from(source: NameError) -> Self {
        Self::Name { source }
    }
}

impl FabricError {
    fn authority(path: &Path, message: impl Into<String>, hint: &'static str) -> Self {
        Self::Authority { path: path.to_owned(), message: message.into(), hint }
    }
}

fn read_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run as the user that owns the fabric",
        io::ErrorKind::NotFound => "restore the file, or make a new fabric",
        _ => "check the file and its file system",
    }
}

fn write_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "choose a directory this user may write to with --path",
        io::ErrorKind::NotFound => "create the directory that --path names first",
        io::ErrorKind::StorageFull => "free some space",
        _ => "check the directory and its file system",
    }
}

/// The two files of a new certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub not_after: OffsetDateTime,
}

/// What a certificate takes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Issuance {
    pub now: OffsetDateTime,
    /// Random; the top bit is not used, as a serial number is a positive integer of 63 bits here.
    pub serial: u64,
}

impl Issuance {
    fn serial(&self) -> SerialNumber {
        // RFC 5280, section 4.1.2.2: positive, so never zero.
        SerialNumber::from((self.serial & (u64::MAX >> 1)).max(1))
    }

    fn not_after(&self) -> OffsetDateTime {
        // The 29th of February has no anniversary in ten years.
        self.now
            .replace_year(self.now.year() + VALIDITY_YEARS)
            .unwrap_or(self.now + Duration::days(365 * i64::from(VALIDITY_YEARS)))
    }

    fn params(&self, common_name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.serial_number = Some(self.serial());
        params.not_before = self.now - CLOCK_SKEW;
        params.not_after = self.not_after();
        params
    }
}

/// Makes a fabric: a self-signed CA in `<path>/<name>/`.
///
/// # Errors
/// The name is no fabric name, the directory exists, or it cannot be written. In all cases nothing
/// is left behind.
pub fn create_fabric(path: &Path, name: &str, issuance: Issuance) -> Result<Created, FabricError> {
    name::fabric(name)?;
    let directory = path.join(name);
    store::must_be_free(&directory)?;
    let mut params = issuance.params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let cert = params.self_signed(&key)?;
    write(&directory, &cert.pem(), &key, params.not_after)
}

/// Makes a peer's certificate in `<path>/<fabric>/<name>/`, signed by that fabric's CA.
///
/// # Errors
/// The name is no DNS name, the fabric is missing or not usable as a CA, the directory of the peer
/// exists, or it cannot be written. In all cases nothing is left behind.
pub fn create_peer(
    path: &Path,
    fabric: &str,
    name: &str,
    issuance: Issuance,
) -> Result<Created, FabricError> {
    name::fabric(fabric)?;
    name::peer(name)?;
    let fabric_directory = path.join(fabric);
    let directory = fabric_directory.join(name);
    store::must_be_free(&directory)?;
    let authority = Authority::load(&fabric_directory, issuance.now)?;

    let mut params = issuance.params(name);
    params.subject_alt_names =
        vec![rcgen::SanType::DnsName(name.try_into().map_err(FabricError::Sign)?)];
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    // A leaf that outlives its CA only looks valid.
    params.not_after = params.not_after.min(authority.not_after);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let cert = params.signed_by(&key, &authority.issuer)?;
    let chain = format!("{}{}", cert.pem(), authority.pem);
    write(&directory, &chain, &key, params.not_after)
}

fn write(
    directory: &Path,
    chain: &str,
    key: &KeyPair,
    not_after: OffsetDateTime,
) -> Result<Created, FabricError> {
    let key = Zeroizing::new(key.serialize_pem());
    store::write_directory(
        directory,
        &[
            store::File { name: CERT_FILE, text: chain, mode: 0o644 },
            store::File { name: KEY_FILE, text: &key, mode: 0o600 },
        ],
    )?;
    Ok(Created { cert: directory.join(CERT_FILE), key: directory.join(KEY_FILE), not_after })
}
