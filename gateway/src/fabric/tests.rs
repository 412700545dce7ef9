//! The files against OpenSSL, the fabric against CAs from elsewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::*;

fn issuance() -> Issuance {
    Issuance { now: OffsetDateTime::now_utc(), serial: u64::MAX }
}

fn leap_day() -> OffsetDateTime {
    time::Date::from_calendar_date(2028, time::Month::February, 29).unwrap().midnight().assume_utc()
}

/// Output of `openssl`, which must succeed.
fn openssl(directory: &Path, args: &str) -> String {
    let output = Command::new("openssl")
        .args(args.split_whitespace())
        .current_dir(directory)
        .output()
        .expect("the openssl command is needed for this test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "openssl {args}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The peer's certificate verifies for both uses and has the fields ClusterLink's has.
fn assert_peer(directory: &Path, fabric: &str, name: &str) {
    for purpose in ["sslserver", "sslclient"] {
        let text = openssl(
            directory,
            &format!(
                "verify -x509_strict -purpose {purpose} -verify_hostname {name} -CAfile \
                 {fabric}/cert.pem {fabric}/{name}/cert.pem"
            ),
        );
        assert!(text.contains(": OK"), "{text}");
    }
    let text = openssl(directory, &format!("x509 -noout -text -in {fabric}/{name}/cert.pem"));
    for part in [
        &format!("Subject: CN = {name}"),
        &format!("DNS:{name}\n"),
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "Public Key Algorithm: id-ecPublicKey",
        "ASN1 OID: prime256v1",
        "Digital Signature",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("CA:TRUE"), "{text}");
    let chain = fs::read_to_string(directory.join(fabric).join(name).join("cert.pem")).unwrap();
    let ca = fs::read_to_string(directory.join(fabric).join("cert.pem")).unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(chain.ends_with(ca.trim_start()), "the chain does not end with the CA");
    let public = |args: &str| openssl(directory, &args.replace("DIR", &format!("{fabric}/{name}")));
    assert_eq!(
        public("x509 -noout -pubkey -in DIR/cert.pem"),
        public("pkey -pubout -in DIR/key.pem")
    );
}

#[test]
fn a_fabric_and_its_peers_verify_with_openssl() {
    let dir = tempfile::tempdir().unwrap();
    let fabric = create_fabric(dir.path(), DEFAULT_FABRIC, issuance()).unwrap();
    assert_eq!(mode(&fabric.key), 0o600);
    assert_eq!(mode(&fabric.cert) & 0o044, 0o044);
    let text = openssl(dir.path(), "x509 -noout -text -in default_fabric/cert.pem");
    for part in [
        "Subject: CN = default_fabric",
        "Issuer: CN = default_fabric",
        "CA:TRUE",
        "Certificate Sign, CRL Sign",
        "ASN1 OID: prime256v1",
        "Signature Algorithm: ecdsa-with-SHA256",
        // 63 bits of the serial number that was asked for.
        "9223372036854775807 (0x7fffffffffffffff)",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(
        openssl(
            dir.path(),
            "verify -x509_strict -CAfile default_fabric/cert.pem default_fabric/cert.pem"
        )
        .contains("OK")
    );
    let peer = create_peer(dir.path(), DEFAULT_FABRIC, "site-a", issuance()).unwrap();
    assert_eq!(mode(&peer.key), 0o600);
    assert_peer(dir.path(), DEFAULT_FABRIC, "site-a");
    create_peer(dir.path(), DEFAULT_FABRIC, "site-b.example.com", issuance()).unwrap();
    assert_peer(dir.path(), DEFAULT_FABRIC, "site-b.example.com");
    // The staging directories are gone.
    let hidden = |path: &Path| {
        fs::read_dir(path).unwrap().any(|e| e.unwrap().file_name().as_encoded_bytes()[0] == b'.')
    };
    assert!(!hidden(dir.path()) && !hidden(&dir.path().join(DEFAULT_FABRIC)));
}

#[test]
fn certificates_last_ten_years_and_no_longer_than_their_ca() {
    let dir = tempfile::tempdir().unwrap();
    let leap = Issuance { now: leap_day(), serial: 0 };
    let fabric = create_fabric(dir.path(), "f", leap).unwrap();
    assert_eq!(fabric.not_after - leap.now, Duration::days(3_650));
    let later = Issuance { now: leap.now + Duration::days(365), serial: 7 };
    let peer = create_peer(dir.path(), "f", "a", later).unwrap();
    assert_eq!(peer.not_after, fabric.not_after);
    let expired = Issuance { now: fabric.not_after + Duration::SECOND, serial: 7 };
    let error = create_peer(dir.path(), "f", "b", expired).unwrap_err().to_string();
    assert!(error.contains("the CA expired on 2038-02-26"), "{error}");
}

/// A fabric as other tools make it: RSA-4096 and a PKCS#1 key as ClusterLink, and the key formats
/// an administrator may have converted it to.
#[test]
fn fabrics_of_other_tools_sign_peers() {
    for (fabric, make_key, convert) in [
        ("clusterlink", "genrsa -traditional -out F/key.pem 4096", None),
        ("pkcs8", "genrsa -out F/key.pem 2048", None),
        ("sec1", "ecparam -name prime256v1 -genkey -out F/key.pem", None),
        ("p384", "ecparam -name secp384r1 -genkey -noout -out F/key.pem", None),
        (
            "ecpkcs8",
            "ecparam -name prime256v1 -genkey -noout -out F/sec1.pem",
            Some("pkcs8 -topk8 -nocrypt -in F/sec1.pem -out F/key.pem"),
        ),
        ("ed25519", "genpkey -algorithm ed25519 -out F/key.pem", None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(fabric)).unwrap();
        let run = |args: &str| openssl(dir.path(), &args.replace('F', fabric));
        run(make_key);
        if let Some(convert) = convert {
            run(convert);
        }
        // Subject with several parts, and the printable string that other tools prefer.
        run("req -x509 -new -key F/key.pem -days 3650 -subj /O=Example/CN=other -out F/cert.pem \
             -addext keyUsage=critical,keyCertSign,cRLSign");
        create_peer(dir.path(), fabric, "site-a", issuance())
            .unwrap_or_else(|error| panic!("{fabric}: {error}"));
        assert_peer(dir.path(), fabric, "site-a");
    }
}

#[test]
fn a_ca_without_a_subject_key_identifier_signs_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("f")).unwrap();
    openssl(dir.path(), "genrsa -traditional -out f/key.pem 2048");
    openssl(
        dir.path(),
        "req -x509 -new -key f/key.pem -days 30 -subj /CN=f -out f/cert.pem -addext \
         subjectKeyIdentifier=none",
    );
    create_peer(dir.path(), "f", "a", issuance()).unwrap();
    let text = openssl(dir.path(), "verify -CAfile f/cert.pem f/a/cert.pem");
    assert!(text.contains("OK"), "{text}");
}

#[test]
fn nothing_is_ever_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    create_fabric(dir.path(), "f", issuance()).unwrap();
    create_peer(dir.path(), "f", "a", issuance()).unwrap();
    let before = fs::read(dir.path().join("f/a/key.pem")).unwrap();
    let ca_before = fs::read(dir.path().join("f/key.pem")).unwrap();
    let error = create_fabric(dir.path(), "f", issuance()).unwrap_err();
    assert!(matches!(error, FabricError::Exists(_)), "{error}");
    let error = create_peer(dir.path(), "f", "a", issuance()).unwrap_err();
    assert!(matches!(error, FabricError::Exists(_)), "{error}");
    // A legal DNS name that is a file of the fabric.
    let error = create_peer(dir.path(), "f", "key.pem", issuance()).unwrap_err();
    assert!(matches!(error, FabricError::Exists(_)), "{error}");
    assert_eq!(fs::read(dir.path().join("f/a/key.pem")).unwrap(), before);
    assert_eq!(fs::read(dir.path().join("f/key.pem")).unwrap(), ca_before);
}

#[test]
fn what_is_wrong_with_a_fabric_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let failure = |fabric: &str| create_peer(dir.path(), fabric, "x", issuance()).unwrap_err();
    assert!(matches!(failure("none"), FabricError::NoFabric(_)));
    assert!(matches!(failure("../up"), FabricError::Name { .. }));

    create_fabric(dir.path(), "f", issuance()).unwrap();
    create_fabric(dir.path(), "g", issuance()).unwrap();
    create_peer(dir.path(), "f", "site", issuance()).unwrap();
    let broken = |make: &dyn Fn()| -> String {
        fs::create_dir(path("bad")).unwrap();
        fs::copy(path("f/cert.pem"), path("bad/cert.pem")).unwrap();
        fs::copy(path("f/key.pem"), path("bad/key.pem")).unwrap();
        make();
        let error = failure("bad").to_string();
        assert!(!path("bad/x").exists());
        fs::remove_dir_all(path("bad")).unwrap();
        error
    };
    for (make, wanted) in [
        (
            (&|| {
                fs::copy(path("g/key.pem"), path("bad/key.pem")).unwrap();
            }) as &dyn Fn(),
            "is not the key of",
        ),
        (
            &|| {
                fs::copy(path("f/site/cert.pem"), path("bad/cert.pem")).unwrap();
            },
            "is not a CA",
        ),
        (&|| fs::write(path("bad/cert.pem"), "x").unwrap(), "holds no PEM certificate"),
        (&|| fs::write(path("bad/key.pem"), "x").unwrap(), "holds no PEM private key"),
        (&|| fs::remove_file(path("bad/key.pem")).unwrap(), "cannot be read"),
        (
            &|| {
                let pem = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
                fs::write(path("bad/cert.pem"), pem).unwrap();
            },
            "the certificate cannot be read",
        ),
        (
            &|| {
                let pem = "-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n";
                fs::write(path("bad/key.pem"), pem).unwrap();
            },
            "the private key cannot be used",
        ),
        (
            &|| {
                openssl(
                    dir.path(),
                    "pkcs8 -topk8 -in f/key.pem -out bad/key.pem -passout pass:secret",
                );
            },
            "the key is encrypted",
        ),
    ] {
        let error = broken(make);
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

#[test]
fn a_place_that_cannot_be_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = create_fabric(&dir.path().join("missing"), "f", issuance()).unwrap_err();
    assert!(error.to_string().contains("create the directory that --path names first"), "{error}");
}
