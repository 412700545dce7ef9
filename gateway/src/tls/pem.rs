//! Files to DER, with errors a person can act on.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::IdentityError;
use crate::limits::MAX_CONFIG_FILE;

/// Reads a file that may hold a key: the bytes are wiped when dropped.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let file = path.display().to_string();
    let mut bytes = Zeroizing::new(Vec::new());
    // One byte more than allowed, to tell a file that is too large from one that just fits.
    let result = File::open(path).and_then(|f| f.take(MAX_CONFIG_FILE + 1).read_to_end(&mut bytes));
    match result {
        Ok(_) if bytes.len() as u64 > MAX_CONFIG_FILE => {
            Err(IdentityError::TooLarge { file, limit: MAX_CONFIG_FILE })
        }
        Ok(_) => Ok(bytes),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            Err(permission(path, std::fs::metadata(path)))
        }
        Err(source) => Err(IdentityError::Read { file, source }),
    }
}

/// Says whose the file is and who we are.
fn permission(path: &Path, metadata: io::Result<std::fs::Metadata>) -> IdentityError {
    use std::os::unix::fs::MetadataExt;
    let owner = match metadata {
        Ok(m) => format!("it belongs to uid {} with mode {:04o}", m.uid(), m.mode() & 0o7777),
        Err(_) => "a directory above it may not be entered".to_owned(),
    };
    let uid = match std::fs::metadata("/proc/self") {
        Ok(m) => m.uid().to_string(),
        Err(_) => "unknown".to_owned(),
    };
    IdentityError::Permission { file: path.display().to_string(), owner, uid }
}

/// All certificates of a file, at least one.
pub(super) fn certificates(
    bytes: &[u8],
    file: &str,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let certificates = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| IdentityError::Pem { file: file.to_owned(), detail: describe(e) })?;
    if certificates.is_empty() {
        return Err(IdentityError::NoCertificate { file: file.to_owned() });
    }
    Ok(certificates)
}

/// The first private key of a file: PKCS#1, PKCS#8 or SEC1.
pub(super) fn private_key(
    bytes: &[u8],
    file: &str,
) -> Result<PrivateKeyDer<'static>, IdentityError> {
    // Both ways to mark it: PKCS#8 (RFC 7468, section 11) and the older header (RFC 1421).
    let marks: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    if marks.iter().any(|mark| bytes.windows(mark.len()).any(|w| w == *mark)) {
        return Err(IdentityError::EncryptedKey { file: file.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|e| match e {
        pem::Error::NoItemsFound => IdentityError::NoKey { file: file.to_owned() },
        e => IdentityError::Pem { file: file.to_owned(), detail: describe(e) },
    })
}

/// The parser's own words would print the bytes of an end marker as numbers, and could print a
/// line of the key: keep to the kind.
fn describe(error: pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed".to_owned(),
        pem::Error::Base64Decode(_) => "a section is not base64".to_owned(),
        pem::Error::SectionTooLarge => "a section is too large".to_owned(),
        _ => "it cannot be parsed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_error_names_file_owner_and_process() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = permission(file.path(), file.as_file().metadata()).to_string();
        assert!(text.starts_with(&file.path().display().to_string()), "{text}");
        assert!(text.contains("mode 0600"), "{text}");
        assert!(text.contains("runs as uid "), "{text}");
        let text = permission(file.path(), Err(io::ErrorKind::PermissionDenied.into())).to_string();
        assert!(text.contains("directory"), "{text}");
    }

    #[test]
    fn files_that_are_none() {
        assert!(matches!(read(Path::new("/nonexistent/k")), Err(IdentityError::Read { .. })));
        assert!(matches!(certificates(b"", "c"), Err(IdentityError::NoCertificate { .. })));
        assert!(matches!(private_key(b"hello", "k"), Err(IdentityError::NoKey { .. })));
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        let error = certificates(cut, "c").unwrap_err().to_string();
        assert_eq!(error, "c: not valid PEM: a section has no END line; write the file again");
        let bad = b"-----BEGIN PRIVATE KEY-----\n?secret?\n-----END PRIVATE KEY-----\n";
        let error = private_key(bad, "k").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        for mark in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            assert!(matches!(
                private_key(mark.as_bytes(), "k"),
                Err(IdentityError::EncryptedKey { .. })
            ));
        }
    }
}
