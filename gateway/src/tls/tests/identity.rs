//! Identities that load, and the words about those that do not.

use std::process::Command;

use rcgen::{
    ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType, date_time_ymd,
};

use super::pki::{CRYPTO, Files, Pki, SetClock};
use super::{bytes, our_client};
use crate::tls::{Identity, IdentityError, TlsFiles};

/// 2026-01-01 00:00:00 UTC.
const NEW_YEAR: u64 = 1_767_225_600;

fn error(files: &Files) -> (IdentityError, String) {
    let error = files.load(SetClock::at(NEW_YEAR)).unwrap_err();
    let text = error.to_string();
    (error, text)
}

#[test]
fn loads_from_files_with_several_cas_and_all_key_types() {
    let (pki, other) = (Pki::new(), Pki::new());
    let dir = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        ca: dir.path().join("ca.pem"),
        cert: dir.path().join("cert.pem"),
        key: dir.path().join("key.pem"),
    };
    let gateway = pki.issue(&KeyPair::generate().unwrap(), "West", |p| {
        p.subject_alt_names.push(SanType::DnsName("west.example".try_into().unwrap()));
        p.not_after = date_time_ymd(2090, 1, 1);
    });
    std::fs::write(&files.ca, format!("{}{}", other.ca, pki.ca)).unwrap();
    // ClusterLink writes leaf and CA into one file.
    std::fs::write(&files.cert, format!("{}{}", gateway.cert, pki.ca)).unwrap();
    std::fs::write(&files.key, &gateway.key).unwrap();
    let identity = Identity::load(&files, CRYPTO).unwrap();
    assert_eq!(identity.peer_name(), "west");
    assert_eq!(identity.dns_names(), ["west", "west.example"]);
    assert_eq!(identity.not_after(), 3_786_912_000);

    std::fs::remove_file(&files.key).unwrap();
    let text = Identity::load(&files, CRYPTO).unwrap_err().to_string();
    assert!(text.starts_with(&format!("{}: cannot be read", files.key.display())), "{text}");

    for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P384_SHA384] {
        let west = pki.gateway_with("west", algorithm).identity();
        let east = pki.gateway_with("east", algorithm).identity();
        let (mut ours, mut stock) = our_client(&west, &east);
        ours.send(&bytes(100));
        assert_eq!(super::stock_feed(&mut stock, &ours.take_output()).unwrap(), bytes(100));
    }
}

/// The three encodings of private keys, as OpenSSL writes them.
#[test]
fn pkcs1_sec1_and_pkcs8_keys_load() {
    let pki = Pki::new();
    let openssl = |args: &[&str], input: &str| {
        let mut command = Command::new("openssl");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.pem");
        std::fs::write(&path, input).unwrap();
        command.args(args);
        if !input.is_empty() {
            command.arg("-in").arg(&path);
        }
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let rsa = openssl(&["genpkey", "-algorithm", "RSA", "-quiet"], "");
    let ec = KeyPair::generate().unwrap().serialize_pem();
    for (pkcs8, convert, mark) in [
        (&rsa, ["rsa", "-traditional"].as_slice(), "BEGIN RSA PRIVATE KEY"),
        (&ec, ["ec"].as_slice(), "BEGIN EC PRIVATE KEY"),
    ] {
        let pair = KeyPair::from_pem(pkcs8).unwrap();
        let mut files = pki.issue(&pair, "west", |_| {});
        assert!(pkcs8.contains("BEGIN PRIVATE KEY"));
        files.key.clone_from(pkcs8);
        files.identity();
        files.key = openssl(convert, pkcs8);
        assert!(files.key.contains(mark), "{mark}");
        let identity = files.identity();
        let debug = format!("{identity:?}");
        assert!(debug.contains("west") && !debug.contains("key"), "{debug}");
        let (mut ours, mut stock) = our_client(&identity, &identity);
        ours.send(b"hello");
        assert_eq!(super::stock_feed(&mut stock, &ours.take_output()).unwrap(), b"hello");

        files.key = openssl(&["pkey", "-aes128", "-passout", "pass:x"], pkcs8);
        assert!(matches!(error(&files).0, IdentityError::EncryptedKey { .. }));
    }
}

#[test]
fn wrong_files_are_named() {
    let pki = Pki::new();
    let good = pki.gateway("west");
    assert!(good.load(SetClock::at(NEW_YEAR)).is_ok());

    let (e, text) = error(&Files { key: pki.gateway("west").key, ..good.clone() });
    assert!(matches!(e, IdentityError::KeyMismatch { .. }), "{text}");
    assert!(text.starts_with("key.pem:") && text.contains("cert.pem"), "{text}");

    for (other, why) in [
        (Pki::named("other"), "ca.pem: none of them has issued it"),
        (Pki::new(), "ca.pem: a CA of the same name but with another key"),
    ] {
        let (e, text) = error(&Files { ca: other.ca, ..good.clone() });
        assert!(matches!(e, IdentityError::Chain { .. }), "{text}");
        assert!(text.contains(why), "{text}");
    }

    let (e, text) = error(&Files { ca: good.cert.clone(), ..good.clone() });
    assert!(matches!(e, IdentityError::NotACa { number: 1, .. }), "{text}");

    let (e, _) = error(&Files { cert: good.key.clone(), ..good.clone() });
    assert!(matches!(e, IdentityError::NoCertificate { file } if file == "cert.pem"));
    let (e, _) = error(&Files { key: good.cert.clone(), ..good.clone() });
    assert!(matches!(e, IdentityError::NoKey { file } if file == "key.pem"));

    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (e, _) = error(&Files { cert: junk.into(), ..good.clone() });
    assert!(matches!(e, IdentityError::Certificate { file, number: 1, .. } if file == "cert.pem"));
    let (e, _) = error(&Files { ca: format!("{}{junk}", good.ca), ..good });
    assert!(matches!(e, IdentityError::Certificate { file, number: 2, .. } if file == "ca.pem"));
}

#[test]
fn unusable_certificates_are_explained() {
    let pki = Pki::new();
    let key = KeyPair::generate().unwrap();
    let dated = pki.issue(&key, "west", |p| {
        p.not_before = date_time_ymd(2025, 3, 1);
        p.not_after = date_time_ymd(2025, 12, 31);
    });
    let (_, text) = error(&dated);
    assert_eq!(
        text,
        "cert.pem: the certificate expired at 2025-12-31 00:00:00; it is 2026-01-01 00:00:00 now: \
         renew it"
    );
    let text = dated.load(SetClock::at(1_000_000_000)).unwrap_err().to_string();
    assert!(text.contains("valid only from 2025-03-01 00:00:00; it is 2001-09-09"), "{text}");

    let (e, _) = error(&pki.issue(&key, "west", |p| p.subject_alt_names.clear()));
    assert!(matches!(e, IdentityError::NoDnsName { .. }));
    let (e, _) = error(&pki.issue(&key, "*.west", |_| {}));
    assert!(matches!(e, IdentityError::PeerName { name, .. } if name == "*.west"));
    let (e, _) = error(&pki.issue(&key, "west", |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    }));
    assert!(matches!(e, IdentityError::ExtendedKeyUsage { missing: "clientAuth", .. }));
    let (e, _) = error(&pki.issue(&key, "west", |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    }));
    assert!(matches!(e, IdentityError::ExtendedKeyUsage { missing: "serverAuth", .. }));
    // No such extension: every use is allowed.
    let all = pki.issue(&key, "west", |p| p.extended_key_usages.clear());
    assert!(all.load(SetClock::at(NEW_YEAR)).is_ok());
}
