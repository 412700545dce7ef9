//! Handshakes in both roles, those that succeed and those that must not.

use std::sync::Arc;

use rcgen::{KeyPair, date_time_ymd};
use rustls::{AlertDescription, CertificateError};

use super::pki::{Pki, SetClock};
use super::*;
use crate::limits::TLS_MAX_HANDSHAKE;
use crate::telemetry::CloseReason;
use crate::tls::{ALPN_NATIVE, SESSION_TICKETS};

#[test]
fn both_roles_in_chunks_of_any_size() {
    let (west, east) = gateways();
    let mut chance = Chance(42);
    for largest in [1, 2, 7, 64, 1_400, 1 << 20] {
        let mut stock = stock_server(&east);
        let mut handshake = Handshake::client(&west, "east").unwrap();
        let (ours, theirs) = with_stock(&mut handshake, &mut stock, &mut chance, largest);
        theirs.unwrap();
        let established = *ours.unwrap();
        assert_eq!(established.alpn.as_deref(), Some(ALPN_NATIVE));
        assert_eq!(established.peer.dns_names, ["east"]);
        let mut ours = Ours::new(established);
        // What the server says behind its Finished comes through, in whatever pieces.
        ours.feed(&stock_output(&mut stock)).unwrap();
        assert_eq!(ours.tickets, 1, "both tickets come in one record");
        ours.send(b"ping");
        assert_eq!(stock_feed(&mut stock, &ours.take_output()).unwrap(), b"ping");

        let mut stock = stock_client(&east, "west");
        let mut handshake = Handshake::server(&west).unwrap();
        let (ours, theirs) = with_stock(&mut handshake, &mut stock, &mut chance, largest);
        theirs.unwrap();
        let established = *ours.unwrap();
        assert_eq!(stock.alpn_protocol(), Some(ALPN_NATIVE));
        assert_eq!(established.alpn.as_deref(), Some(ALPN_NATIVE));
        assert!(established.peer.is("EAST") && !established.peer.is("west"));
        let mut ours = Ours::new(established);
        ours.send(b"pong");
        assert_eq!(stock_feed(&mut stock, &ours.take_output()).unwrap(), b"pong");
    }
}

/// Application data in the same bytes as the end of the handshake is left for the record layer.
#[test]
fn data_behind_the_handshake_is_left_over() {
    use std::io::Write;
    let (west, east) = gateways();
    let mut stock = stock_client(&east, "west");
    let mut handshake = Handshake::server(&west).unwrap();
    let mut to_client = Vec::new();
    let hello = stock_output(&mut stock);
    assert!(matches!(handshake.step(&hello, &mut to_client), Ok(Progress::More)));
    stock_feed(&mut stock, &to_client).unwrap();
    // More than the bound of a handshake: data does not count towards it.
    let data = bytes(3 * TLS_MAX_HANDSHAKE);
    stock.set_buffer_limit(None);
    stock.writer().write_all(&data).unwrap();
    let flight = stock_output(&mut stock);
    to_client.clear();
    let Ok(Progress::Done(established)) = handshake.step(&flight, &mut to_client) else {
        panic!("not done");
    };
    assert!(matches!(handshake.step(&[], &mut to_client), Err(TlsError::HandshakeOver)));
    let mut ours = Ours::new(*established);
    ours.feed(&[]).unwrap();
    assert_eq!(ours.received, data);
    assert!(stock_feed(&mut stock, &to_client).unwrap().is_empty(), "tickets only");
}

#[test]
fn tickets_resume_in_both_roles() {
    let (west, east) = gateways();
    for round in 0..3 {
        let mut stock = stock_server(&east);
        let mut handshake = Handshake::client(&west, "east").unwrap();
        let (ours, _) = with_stock(&mut handshake, &mut stock, &mut Chance(3), 500);
        let ours = *ours.unwrap();
        assert_eq!(ours.resumed, round > 0, "round {round}");
        assert_eq!(ours.peer.dns_names, ["east"], "known from the first handshake");
        assert_eq!(stock.handshake_kind() == Some(rustls::HandshakeKind::Resumed), round > 0);
        let mut ours = Ours::new(ours);
        ours.feed(&[]).unwrap();
        assert_eq!(ours.tickets, 1);
    }
    for round in 0..3 {
        let mut stock = stock_client(&east, "west");
        let mut handshake = Handshake::server(&west).unwrap();
        let (ours, _) = with_stock(&mut handshake, &mut stock, &mut Chance(4), 500);
        let ours = *ours.unwrap();
        assert_eq!(ours.resumed, round > 0, "round {round}");
        assert_eq!(ours.peer.dns_names, ["east"], "carried in the ticket");
    }
}

/// One handshake gives [`SESSION_TICKETS`] tickets: that many connections resume at once.
#[test]
fn a_handshake_pays_for_two_resumptions() {
    let (west, east) = gateways();
    let (client, _server) = both_ours(&west, &east);
    assert!(!client.resumed);
    Ours::new(client).feed(&[]).unwrap();
    for round in 0..3 {
        // The new tickets are not taken in.
        let (client, server) = both_ours(&west, &east);
        assert_eq!(client.resumed, round < SESSION_TICKETS, "round {round}");
        assert_eq!(client.resumed, server.resumed);
    }
}

/// A new generation must not honour what the old one trusted.
#[test]
fn tickets_do_not_survive_a_generation() {
    let pki = Pki::new();
    let (west, east) = (pki.gateway("west"), pki.gateway("east"));
    let (west_1, east_1) = (west.identity(), east.identity());
    let (client, _server) = both_ours(&west_1, &east_1);
    Ours::new(client).feed(&[]).unwrap();
    let (client, _server) = both_ours(&west_1, &east.identity());
    assert!(!client.resumed, "a ticket of the server's old generation");
    let (client, _server) = both_ours(&west.identity(), &east_1);
    assert!(!client.resumed, "the client's new generation has no sessions");
    let (client, _server) = both_ours(&west_1, &east_1);
    assert!(client.resumed, "the old generations go on");
}

#[test]
fn a_certificate_that_expired_since_does_not_resume() {
    const NEW_YEAR: u64 = 1_767_225_600;
    let pki = Pki::new();
    let clock = SetClock::at(NEW_YEAR);
    let west = Arc::new(pki.gateway("west").load(clock.clone()).unwrap());
    let short = pki.issue(&KeyPair::generate().unwrap(), "east", |p| {
        p.not_after = date_time_ymd(2026, 1, 2);
    });
    let east = Arc::new(short.load(clock.clone()).unwrap());
    // Two hours before the certificate's end. Tickets are good for twelve.
    clock.set(NEW_YEAR + 22 * 3_600);
    let (client, _server) = both_ours(&east, &west);
    Ours::new(client).feed(&[]).unwrap();
    clock.set(NEW_YEAR + 23 * 3_600);
    let (client, _server) = both_ours(&east, &west);
    assert!(client.resumed);
    clock.set(NEW_YEAR + 25 * 3_600);
    let mut handshake = Handshake::client(&east, "west").unwrap();
    let mut server = Handshake::server(&west).unwrap();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    handshake.step(&[], &mut a).unwrap();
    server.step(&a, &mut b).unwrap();
    a.clear();
    let client = handshake.step(&b, &mut a).unwrap();
    b.clear();
    let error = server.step(&a, &mut b).unwrap_err();
    assert!(matches!(error, TlsError::ResumedCertificateExpired), "{error}");
    assert_eq!(error.reason(), CloseReason::TlsHandshake);
    let Progress::Done(client) = client else { panic!("the client is done") };
    let error = Ours::new(*client).feed(&b).unwrap_err();
    assert!(matches!(error, TlsError::PeerAlert(AlertDescription::CertificateExpired)), "{error}");
}

/// The alert our server ends a handshake with, as our client gets it.
fn refused(client: &Arc<Identity>, server: &Arc<Identity>) -> (TlsError, TlsError) {
    let mut c = Handshake::client(client, server.peer_name()).unwrap();
    let mut s = Handshake::server(server).unwrap();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    c.step(&[], &mut a).unwrap();
    s.step(&a, &mut b).unwrap();
    a.clear();
    let Progress::Done(c) = c.step(&b, &mut a).unwrap() else { panic!("client not done") };
    b.clear();
    let server_error = s.step(&a, &mut b).unwrap_err();
    let mut ours = Ours::new(*c);
    let client_error = ours.feed(&b).unwrap_err();
    assert!(!ours.records.pending(), "an alert is not answered");
    (client_error, server_error)
}

#[test]
fn a_server_with_another_name_or_ca_is_refused() {
    let (pki, other) = (Pki::new(), Pki::named("other"));
    let (west, east) = (pki.gateway("west").identity(), pki.gateway("east").identity());

    let mut stock = stock_server(&east);
    let mut handshake = Handshake::client(&west, "north").unwrap();
    let (ours, theirs) = with_stock(&mut handshake, &mut stock, &mut Chance(5), 100);
    let error = ours.unwrap_err();
    assert!(
        matches!(&error, TlsError::PeerName { expected, presented }
            if expected == "north" && format!("{presented:?}").contains("east")),
        "{error:?}"
    );
    assert_eq!(error.reason(), CloseReason::PeerName);
    // Whoever waits at the other end learns why.
    assert_eq!(theirs.unwrap_err(), rustls::Error::AlertReceived(AlertDescription::BadCertificate));

    let mut stock = stock_server(&other.gateway("east").identity());
    let mut handshake = Handshake::client(&west, "east").unwrap();
    let (ours, theirs) = with_stock(&mut handshake, &mut stock, &mut Chance(5), 100);
    let error = ours.unwrap_err();
    assert!(matches!(error, TlsError::PeerCertificate(CertificateError::UnknownIssuer)));
    assert_eq!(error.reason(), CloseReason::TlsHandshake);
    assert_eq!(theirs.unwrap_err(), rustls::Error::AlertReceived(AlertDescription::UnknownCA));

    for name in ["10.0.0.1", "", "a b", "::1"] {
        let error = Handshake::client(&west, name).unwrap_err();
        assert!(matches!(error, TlsError::NotADnsName(_)), "{name}: {error}");
    }
}

#[test]
fn clients_without_the_right_certificate_are_refused() {
    let (pki, other) = (Pki::new(), Pki::named("other"));
    let west = pki.gateway("west").identity();

    // Trusts west's CA, but is of another fabric.
    let mut stranger = other.gateway("east");
    stranger.ca.push_str(&pki.ca);
    let (client, server) = refused(&stranger.identity(), &west);
    assert!(matches!(server, TlsError::PeerCertificate(CertificateError::UnknownIssuer)));
    assert!(matches!(client, TlsError::PeerAlert(AlertDescription::UnknownCA)), "{client}");
    assert_eq!(client.reason(), CloseReason::TlsAlert);

    // Ours again, but too late.
    let clock = SetClock::at(1_767_225_600);
    let short = pki.issue(&KeyPair::generate().unwrap(), "east", |p| {
        p.not_after = date_time_ymd(2026, 1, 2);
    });
    let east = Arc::new(short.load(clock.clone()).unwrap());
    let west_later = Arc::new(pki.gateway("west").load(SetClock::at(1_767_400_000)).unwrap());
    let (client, server) = refused(&east, &west_later);
    assert!(
        matches!(server, TlsError::PeerCertificate(CertificateError::ExpiredContext { .. })),
        "{server:?}"
    );
    assert!(matches!(client, TlsError::PeerAlert(AlertDescription::CertificateExpired)));
}

/// Clients our own identity could not be: no certificate at all, and one without a name.
#[test]
fn anonymous_and_nameless_clients_are_refused() {
    let pki = Pki::new();
    let west = pki.gateway("west").identity();
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    roots.add(CertificateDer::from_pem_slice(pki.ca.as_bytes()).unwrap()).unwrap();
    let builder = || {
        rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots.clone())
    };
    let nameless = pki.issue(&KeyPair::generate().unwrap(), "x", |p| p.subject_alt_names.clear());
    let configs = [
        (builder().with_no_client_auth(), AlertDescription::CertificateRequired),
        (
            builder()
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(nameless.cert.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(nameless.key.as_bytes()).unwrap(),
                )
                .unwrap(),
            AlertDescription::CertificateUnknown,
        ),
    ];
    for (config, alert) in configs {
        let name = ServerName::try_from("west").unwrap();
        let mut stock: rustls::Connection =
            rustls::ClientConnection::new(Arc::new(config), name).unwrap().into();
        let mut handshake = Handshake::server(&west).unwrap();
        let (ours, theirs) = with_stock(&mut handshake, &mut stock, &mut Chance(6), 1_000);
        let error = ours.unwrap_err();
        match alert {
            AlertDescription::CertificateRequired => {
                assert!(matches!(
                    error,
                    TlsError::Handshake(rustls::Error::NoCertificatesPresented)
                ));
            }
            _ => {
                assert!(matches!(error, TlsError::PeerWithoutName), "{error:?}");
                assert_eq!(error.reason(), CloseReason::PeerName);
            }
        }
        assert_eq!(theirs.unwrap_err(), rustls::Error::AlertReceived(alert));
    }
}

#[test]
fn alpn_none_is_told_and_foreign_is_refused() {
    let (west, east) = gateways();
    for (offer, good) in [(vec![], true), (vec![b"h2".to_vec()], false)] {
        let mut config = (**east.client_config()).clone();
        config.alpn_protocols = offer;
        let name = ServerName::try_from("west").unwrap();
        let mut stock: rustls::Connection =
            rustls::ClientConnection::new(Arc::new(config), name).unwrap().into();
        let mut handshake = Handshake::server(&west).unwrap();
        let (ours, theirs) = with_stock(&mut handshake, &mut stock, &mut Chance(7), 1_000);
        if good {
            assert_eq!(ours.unwrap().alpn, None);
        } else {
            assert!(matches!(
                ours.unwrap_err(),
                TlsError::Handshake(rustls::Error::NoApplicationProtocol)
            ));
            assert_eq!(
                theirs.unwrap_err(),
                rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
            );
        }
    }
    // A server that knows no ALPN: the caller is told.
    let mut config = (**east.server_config()).clone();
    config.alpn_protocols = vec![];
    let mut stock: rustls::Connection =
        rustls::ServerConnection::new(Arc::new(config)).unwrap().into();
    let mut handshake = Handshake::client(&west, "east").unwrap();
    let (ours, _) = with_stock(&mut handshake, &mut stock, &mut Chance(7), 1_000);
    assert_eq!(ours.unwrap().alpn, None);
}

#[test]
fn what_is_no_handshake_ends_at_once() {
    let (west, _) = gateways();
    for junk in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        &[22, 3, 1, 0xff, 0xff, 0],
        &[23, 3, 3, 0, 1, 0],
        &[0; 64],
        &[22, 3, 1, 0, 0, 22, 3, 1, 0, 0],
    ] {
        let mut handshake = Handshake::server(&west).unwrap();
        let mut out = Vec::new();
        let error = handshake.step(junk, &mut out).unwrap_err();
        assert_eq!(error.reason(), CloseReason::TlsHandshake, "{error}");
        assert_eq!(out.first(), Some(&21), "an alert for {junk:?}");
        assert!(matches!(handshake.step(junk, &mut out), Err(TlsError::HandshakeOver)));
    }
}

/// A flood that never completes is cut at the bound, however it is cut into records.
#[test]
fn endless_handshakes_are_cut() {
    let (west, _) = gateways();
    // A ClientHello of 65,535 bytes that comes in records of 16 KiB, and then a second one.
    let mut flood = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    flood.resize(5 + 16_384, 0);
    for _ in 0..8 {
        flood.extend_from_slice(&[22, 3, 1, 0x40, 0]);
        flood.resize(flood.len() + 16_384, 0);
    }
    for chunk in [1_000, flood.len()] {
        let mut handshake = Handshake::server(&west).unwrap();
        let mut out = Vec::new();
        let mut taken = 0;
        let error = loop {
            let end = flood.len().min(taken + chunk);
            match handshake.step(&flood[taken..end], &mut out) {
                Ok(_) => taken = end,
                Err(error) => break error,
            }
            assert!(taken < flood.len(), "the flood went through");
        };
        assert!(matches!(error, TlsError::HandshakeTooLong), "{error}");
        assert_eq!(error.reason(), CloseReason::TlsLimit);
        assert!(taken <= TLS_MAX_HANDSHAKE + chunk);
    }
}
