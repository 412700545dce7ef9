//! Names of fabrics and peers.

use thiserror::Error;

/// Longest common name a certificate can carry (RFC 5280, appendix A.1, ub-common-name).
const MAX_COMMON_NAME: usize = 64;
/// Longest label of a DNS name (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// Why a name cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    #[error("{0:?} is no name for a fabric")]
    Fabric(String),
    #[error("{name:?} is no name for a peer: {why}")]
    Peer { name: String, why: &'static str },
}

impl NameError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Fabric(_) => {
                "use 1 to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
            }
            Self::Peer { .. } => {
                "use a DNS name in lower case, as in site-a or site-a.example.com; international \
                 names in their xn-- form"
            }
        }
    }
}

/// A fabric's name is a directory and a common name.
///
/// # Errors
/// [`NameError::Fabric`].
pub fn fabric(name: &str) -> Result<(), NameError> {
    let good = (1..=MAX_COMMON_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && name.as_bytes()[0].is_ascii_alphanumeric();
    if good { Ok(()) } else { Err(NameError::Fabric(name.to_owned())) }
}

/// A peer's name is the DNS SAN of its certificate, the TLS server name, and in Kubernetes the
/// name of a Peer object: a DNS name (RFC 1123, section 2.1) in lower case.
///
/// # Errors
/// [`NameError::Peer`] with the rule that is broken.
pub fn peer(name: &str) -> Result<(), NameError> {
    let refuse = |why| Err(NameError::Peer { name: name.to_owned(), why });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > MAX_COMMON_NAME {
        return refuse("a certificate's common name has at most 64 characters");
    }
    if !name.is_ascii() {
        return refuse("it has characters outside ASCII");
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return refuse("it is an IP address");
    }
    for label in name.split('.') {
        let bytes = label.as_bytes();
        if bytes.is_empty() {
            return refuse("a part between dots is empty");
        }
        if bytes.len() > MAX_LABEL {
            return refuse("a part between dots is longer than 63 characters");
        }
        if bytes.iter().any(u8::is_ascii_uppercase) {
            return refuse("it has capital letters");
        }
        if !bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-') {
            return refuse("only letters, digits, `-` and `.` are allowed");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return refuse("a part between dots begins or ends with `-`");
        }
        // RFC 5890, section 2.3.1: "??--" is reserved, and "xn--" is its only use so far.
        if bytes.len() >= 4 && &bytes[2..4] == b"--" && !label.starts_with("xn--") {
            return refuse("`--` in the third and fourth place is reserved for xn-- names");
        }
    }
    // RFC 1123, section 2.1: what ends in a number would read as an IPv4 address.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return refuse("its last part is a number");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names_are_peers() {
        for good in
            ["a", "site-a", "site-a.example.com", "xn--bcher-kva.example", "7.a", &"a".repeat(63)]
        {
            assert_eq!(peer(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_rule() {
        for (bad, why) in [
            ("", "empty"),
            ("Site", "capital"),
            ("a_b", "only letters"),
            ("a/b", "only letters"),
            ("..", "between dots is empty"),
            ("a.", "between dots is empty"),
            ("-a", "begins or ends"),
            ("a-.b", "begins or ends"),
            ("ab--cd", "reserved"),
            ("bücher", "outside ASCII"),
            ("10.0.0.1", "IP address"),
            ("7", "a number"),
            ("a.42", "a number"),
            (&"a".repeat(64), "63 characters"),
            (&"a.".repeat(33), "64 characters"),
        ] {
            let error = peer(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn a_fabric_cannot_leave_its_directory() {
        assert_eq!(fabric("default_fabric"), Ok(()));
        for bad in ["", ".", "..", "../x", "a/b", "-x", "a b", "a\0", &"a".repeat(65)] {
            assert!(fabric(bad).is_err(), "{bad:?}");
        }
    }
}
