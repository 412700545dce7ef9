//! Why an identity cannot be used. Each message names the file and the remedy.

/// Errors of [`super::Identity::load`] and [`super::Identity::from_pem`]. Times are in UTC.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{file}: cannot be read: {source}; check the path in the tls section")]
    Read { file: String, source: std::io::Error },
    #[error(
        "{file}: permission denied: {owner}, and this process runs as uid {uid}; give that user \
         read access, but nobody else"
    )]
    Permission { file: String, owner: String, uid: String },
    #[error("{file}: larger than {limit} bytes; this is no PEM file of certificates or keys")]
    TooLarge { file: String, limit: u64 },
    #[error("{file}: not valid PEM: {detail}; write the file again")]
    Pem { file: String, detail: String },
    #[error("{file}: no certificate in it; it must hold PEM sections BEGIN CERTIFICATE")]
    NoCertificate { file: String },
    #[error("{file}: certificate {number} cannot be decoded: {detail}; issue it again")]
    Certificate { file: String, number: usize, detail: String },
    #[error(
        "{file}: certificate {number} ({subject}) is no CA; the trust bundle takes the fabric's \
         CA certificates only"
    )]
    NotACa { file: String, number: usize, subject: String },
    #[error(
        "{file}: no private key in it; it must hold one PEM section BEGIN PRIVATE KEY, BEGIN RSA \
         PRIVATE KEY or BEGIN EC PRIVATE KEY"
    )]
    NoKey { file: String },
    #[error(
        "{file}: the private key is encrypted; nobody is there to type the pass phrase: store it \
         decrypted (openssl pkey -in KEY -out NEW) with access for the gateway only"
    )]
    EncryptedKey { file: String },
    #[error(
        "{file}: the private key is not supported: {detail}; use ECDSA P-256 or P-384, Ed25519, \
         or RSA of 2048 to 4096 bits"
    )]
    Key { file: String, detail: String },
    #[error(
        "{key}: the private key does not belong to the first certificate in {cert}; the gateway's \
         own certificate must come first, and both files must be of the same issue"
    )]
    KeyMismatch { key: String, cert: String },
    #[error("{file}: the certificate expired at {not_after}; it is {now} now: renew it")]
    Expired { file: String, not_after: String, now: String },
    #[error(
        "{file}: the certificate is valid only from {not_before}; it is {now} now: check the clock \
         of this machine and of the one that issued it"
    )]
    NotYetValid { file: String, not_before: String, now: String },
    #[error("{file}: the certificate has no DNS name; issue it with the peer's name as DNS SAN")]
    NoDnsName { file: String },
    #[error(
        "{file}: {name:?}, the certificate's first DNS name, cannot be a peer's name; issue it \
         with the peer's name as first DNS SAN"
    )]
    PeerName { file: String, name: String },
    #[error(
        "{file}: the certificate is not allowed as {missing}: its extended key usage lacks \
         {missing}; a gateway needs serverAuth and clientAuth"
    )]
    ExtendedKeyUsage { file: String, missing: &'static str },
    #[error(
        "{cert}: the certificate does not verify against the CAs in {ca}: {detail}; take both from \
         the same fabric, and put intermediate certificates behind the first one in {cert}"
    )]
    Chain { cert: String, ca: String, detail: String },
    #[error("the clock gives no time of day, so that no certificate can be checked; set it")]
    NoTime,
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}
