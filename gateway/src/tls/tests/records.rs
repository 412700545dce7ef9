//! The record layer of established connections.

use std::io::Write;

use super::*;
use crate::limits::{TLS_KEY_UPDATES_PER_SECOND, TLS_MAX_EMPTY_RECORDS};
use crate::telemetry::CloseReason;
use crate::time::Duration;
use crate::tls::{Suite, TICKETS_PER_CONNECTION, TicketJob};
use rustls::AlertDescription;

fn stock_send(stock: &mut rustls::Connection, data: &[u8]) -> Vec<u8> {
    stock.set_buffer_limit(None);
    stock.writer().write_all(data).unwrap();
    stock_output(stock)
}

/// One record with `content` as its type, as a misbehaving peer could make it.
fn forge(ours: &mut Ours, content: u8, body: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; TLS_RECORD_HEADER + body.len() + TLS_RECORD_TRAILER];
    buf[TLS_RECORD_HEADER..][..body.len()].copy_from_slice(body);
    let len = ours.records.seal_as(&mut ours.keys, content.into(), &mut buf, body.len()).unwrap();
    assert_eq!(len, buf.len());
    buf
}

/// Ours on both sides, tickets taken in.
pub(super) fn pair() -> (Ours, Ours) {
    let (west, east) = gateways();
    let (client, server) = both_ours(&west, &east);
    let (mut client, server) = (Ours::new(client), Ours::new(server));
    client.feed(&[]).unwrap();
    (client, server)
}

#[test]
fn all_sizes_both_ways() {
    let (west, east) = gateways();
    let (mut client, mut stock_server) = our_client(&west, &east);
    let (mut server, mut stock_client) = our_server(&west, &east);
    let sizes = (0..40).chain([1_000, 1_399, 1_400, 4_096, 16_383, 16_384, 16_385, 50_000]);
    for size in sizes {
        for (ours, stock) in [(&mut client, &mut stock_server), (&mut server, &mut stock_client)] {
            let data = bytes(size);
            ours.send(&data);
            assert_eq!(stock_feed(stock, &ours.take_output()).unwrap(), data);
            ours.feed(&stock_send(stock, &data)).unwrap();
            assert_eq!(ours.take_received(), data);
        }
    }
}

#[test]
fn all_suites() {
    use rustls::crypto::ring::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let (west, east) = gateways();
    for (offer, suite) in [
        (TLS13_AES_128_GCM_SHA256, Suite::Aes128Gcm),
        (TLS13_AES_256_GCM_SHA384, Suite::Aes256Gcm),
        (TLS13_CHACHA20_POLY1305_SHA256, Suite::ChaCha20Poly1305),
    ] {
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![offer],
            ..rustls::crypto::ring::default_provider()
        };
        let resolver = east.server_config().cert_resolver.clone();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        let mut stock: rustls::Connection =
            rustls::ServerConnection::new(Arc::new(config)).unwrap().into();
        let mut handshake = Handshake::client(&west, "east").unwrap();
        let (ours, _) = with_stock(&mut handshake, &mut stock, &mut Chance(1), 1 << 20);
        let mut ours = Ours::new(*ours.unwrap());
        assert_eq!(ours.records.suite(), suite);
        for _ in 0..3 {
            ours.send(&bytes(20_000));
            assert_eq!(stock_feed(&mut stock, &ours.take_output()).unwrap(), bytes(20_000));
            stock.refresh_traffic_keys().unwrap();
            ours.feed(&stock_send(&mut stock, &bytes(20_000))).unwrap();
            assert_eq!(ours.take_received(), bytes(20_000));
            ours.records.set_key_update_after(1);
        }
    }
    // Without restriction, ours is the cheapest one.
    assert_eq!(our_client(&west, &east).0.records.suite(), Suite::by_cost()[0]);
    assert_eq!(our_server(&west, &east).0.records.suite(), Suite::by_cost()[0]);
}

#[test]
fn key_updates_of_the_peer() {
    let (west, east) = gateways();
    for (mut ours, mut stock) in [our_client(&west, &east), our_server(&west, &east)] {
        for round in 0..5 {
            stock.refresh_traffic_keys().unwrap();
            let data = bytes(100 + round);
            ours.feed(&stock_send(&mut stock, &data)).unwrap();
            assert_eq!(ours.take_received(), data);
            // rustls asks for one in return.
            assert!(ours.records.pending());
            ours.send(&data);
            assert_eq!(stock_feed(&mut stock, &ours.take_output()).unwrap(), data);
        }
    }
}

#[test]
fn a_requested_key_update_is_answered_before_data() {
    let (mut client, mut server) = pair();
    for round in 0..TLS_KEY_UPDATES_PER_SECOND as usize {
        let request = forge(&mut client, 22, &[24, 0, 0, 1, 1]);
        // The forger switches as the honest one would.
        client.records.switch_tx().unwrap();
        server.feed(&request).unwrap();
        assert!(server.records.pending());
        assert!(matches!(seal(&mut server, b"x"), Err(TlsError::ControlPending)));
        let mut small = [0; 26];
        assert!(matches!(
            server.records.write_pending(&mut server.keys, &mut small),
            Err(TlsError::BufferTooSmall { have: 26, need: 27 })
        ));
        server.send(&bytes(round + 1));
        client.feed(&server.take_output()).unwrap();
        assert_eq!(client.take_received(), bytes(round + 1));
        client.send(&bytes(round + 2));
        server.feed(&client.take_output()).unwrap();
        assert_eq!(server.take_received(), bytes(round + 2));
    }
}

#[test]
fn own_limit_makes_a_key_update_unseen_by_the_data() {
    let (west, east) = gateways();
    for (mut ours, mut stock) in [our_client(&west, &east), our_server(&west, &east)] {
        ours.records.set_key_update_after(3);
        let mut updates = 0;
        for round in 0..40 {
            ours.send(&bytes(round + 1));
            updates += usize::from(ours.records.pending());
            assert_eq!(stock_feed(&mut stock, &ours.take_output()).unwrap(), bytes(round + 1));
        }
        assert!(updates >= 40 / 3 - 1, "{updates} updates");
        ours.feed(&stock_send(&mut stock, b"still here")).unwrap();
        assert_eq!(ours.take_received(), b"still here");
    }
}

#[test]
fn a_key_update_put_off_too_long_stops_the_data() {
    let (mut client, mut server) = pair();
    client.records.set_key_update_after(1);
    let mut buf = [0; TLS_RECORD_HEADER + 1 + TLS_RECORD_TRAILER];
    let mut sealed = 0;
    let error = loop {
        match client.records.seal(&mut client.keys, &mut buf, 1) {
            Ok(_) => sealed += 1,
            Err(error) => break error,
        }
        assert!(matches!(
            server.records.open(&mut server.keys, &mut buf, Instant::ZERO),
            Ok(Opened::Data(_))
        ));
    };
    assert!(matches!(error, TlsError::KeyExhausted));
    assert_eq!(error.reason(), CloseReason::TlsLimit);
    assert_eq!(sealed, 1 + (1 << 16));
    // Only the call was refused: the update can still be made up for.
    client.send(b"on");
    server.feed(&client.take_output()).unwrap();
    assert_eq!(server.take_received(), b"on");
}

#[test]
fn close_notify_ends_one_direction() {
    let (west, east) = gateways();
    for (mut ours, mut stock) in [our_client(&west, &east), our_server(&west, &east)] {
        stock.send_close_notify();
        ours.feed(&stock_output(&mut stock)).unwrap();
        assert!(ours.closed && ours.records.is_read_closed() && !ours.records.is_write_closed());
        // Nothing that follows is looked at.
        ours.feed(b"GET / HTTP/1.1").unwrap();
        let mut junk = [23, 3, 3, 0, 17, 0];
        assert_eq!(
            ours.records.open(&mut ours.keys, &mut junk, Instant::ZERO).unwrap(),
            Opened::Closed
        );
        ours.send(b"last words");
        ours.records.close();
        assert!(ours.records.pending());
        let state = stock_feed(&mut stock, &ours.take_output()).unwrap();
        assert_eq!(state, b"last words");
        assert!(stock.process_new_packets().unwrap().peer_has_closed());
        assert!(ours.records.is_write_closed() && !ours.records.pending());
        assert!(matches!(seal(&mut ours, b"x"), Err(TlsError::Closed)));
    }
}

#[test]
fn key_update_goes_before_close_notify_and_in_parts() {
    let (mut client, mut server) = pair();
    client.records.set_key_update_after(1);
    client.send(b"x");
    client.records.close();
    let mut buf = [0; 30];
    // Only the KeyUpdate fits.
    let len = client.records.write_pending(&mut client.keys, &mut buf).unwrap();
    assert_eq!(len, 27);
    client.output.extend_from_slice(&buf[..len]);
    server.feed(&client.take_output()).unwrap();
    assert!(server.closed);
    assert_eq!(server.take_received(), b"x");
}

#[test]
fn alerts_end_the_connection() {
    let (mut client, mut server) = pair();
    // user_canceled by itself means nothing.
    server.feed(&forge(&mut client, 21, &[1, 90])).unwrap();
    // A warning level does not make it one (RFC 8446, section 6).
    let error = server.feed(&forge(&mut client, 21, &[1, 40])).unwrap_err();
    assert!(matches!(error, TlsError::PeerAlert(AlertDescription::HandshakeFailure)));
    assert_eq!(error.reason(), CloseReason::TlsAlert);
    assert!(!server.records.pending(), "no alert against an alert");
    assert!(matches!(seal(&mut server, b"x"), Err(TlsError::Closed)));
    assert!(matches!(server.feed(&[]), Err(TlsError::Closed)));
}

/// Each of these must end the connection with the alert that RFC 8446 wants.
#[test]
fn misbehaviour_is_answered_with_its_alert() {
    let unexpected = AlertDescription::UnexpectedMessage;
    let decode = AlertDescription::DecodeError;
    type Case = (&'static str, AlertDescription, &'static [(u8, &'static [u8])]);
    let cases: &[Case] = &[
        ("change cipher spec inside", unexpected, &[(20, &[1])]),
        ("no content type", unexpected, &[(0, &[])]),
        ("heartbeat", unexpected, &[(24, &[1])]),
        ("short alert", decode, &[(21, &[1])]),
        ("two alerts in a record", decode, &[(21, &[1, 0, 1, 0])]),
        ("empty handshake record", decode, &[(22, &[])]),
        ("client hello", unexpected, &[(22, &[1, 0, 0, 0])]),
        ("certificate request", unexpected, &[(22, &[13, 0, 0, 1, 0])]),
        ("ticket to a server", unexpected, &[(22, &[4, 0, 0, 1, 0])]),
        ("key update value", AlertDescription::IllegalParameter, &[(22, &[24, 0, 0, 1, 2])]),
        ("key update length", decode, &[(22, &[24, 0, 0, 2, 0, 0])]),
        ("bytes behind a key update", unexpected, &[(22, &[24, 0, 0, 1, 0, 24])]),
        ("data within a message", unexpected, &[(22, &[24, 0, 0]), (23, &[1])]),
        ("alert within a message", unexpected, &[(22, &[24]), (21, &[1, 0])]),
    ];
    for (name, alert, records) in cases {
        let (mut client, mut server) = pair();
        let mut result = Ok(());
        for (content, body) in *records {
            assert!(result.is_ok(), "{name}: before the last record");
            result = server.feed(&forge(&mut client, *content, body));
        }
        let error = result.unwrap_err();
        assert_eq!(error.reason(), CloseReason::TlsRecord, "{name}");
        let reply = server.take_output();
        match client.feed(&reply).unwrap_err() {
            TlsError::PeerAlert(got) => assert_eq!(got, *alert, "{name}"),
            other => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn bad_headers_and_altered_records() {
    for (header, alert) in [
        ([20, 3, 3, 0, 1], AlertDescription::UnexpectedMessage),
        ([21, 3, 3, 0, 2], AlertDescription::UnexpectedMessage),
        ([22, 3, 3, 0, 40], AlertDescription::UnexpectedMessage),
        ([23, 3, 3, 0, 16], AlertDescription::BadRecordMac),
        ([23, 3, 3, 0x41, 1], AlertDescription::RecordOverflow),
        ([23, 3, 3, 0xff, 0xff], AlertDescription::RecordOverflow),
    ] {
        let (mut client, mut server) = pair();
        assert_eq!(server.records.frame_len(&header[..4]).unwrap(), None);
        let error = server.records.frame_len(&header).unwrap_err();
        assert_eq!(error.reason(), CloseReason::TlsRecord);
        match client.feed(&server.take_output()).unwrap_err() {
            TlsError::PeerAlert(got) => assert_eq!(got, alert, "{header:?}"),
            other => panic!("{header:?}: {other}"),
        }
    }
    // The largest record there may be: padded to the full 2^14 + 256.
    let (_, mut server) = pair();
    assert_eq!(server.records.frame_len(&[23, 3, 3, 0x41, 0]).unwrap(), Some(16_645));

    for flip in [0, 4, 5, 10, 25] {
        let (mut client, mut server) = pair();
        let mut record = seal(&mut client, b"payload").unwrap();
        record[flip] ^= 1;
        let len = record.len();
        let error = server.records.open(&mut server.keys, &mut record, Instant::ZERO).unwrap_err();
        assert_eq!(error.reason(), CloseReason::TlsRecord, "byte {flip} of {len}");
    }
    // Cut, lengthened, repeated, out of order.
    let (mut client, mut server) = pair();
    let mut record = seal(&mut client, b"payload").unwrap();
    let len = record.len();
    assert!(matches!(
        server.records.open(&mut server.keys, &mut record[..len - 1], Instant::ZERO),
        Err(TlsError::RecordFraming { .. })
    ));
    let (mut client, mut server) = pair();
    let record = seal(&mut client, b"payload").unwrap();
    server.feed(&record).unwrap();
    assert!(matches!(server.feed(&record), Err(TlsError::RecordAuthentication)));
    assert_eq!(server.take_received(), b"payload");
    let (mut client, mut server) = pair();
    let _first = seal(&mut client, b"first").unwrap();
    let second = seal(&mut client, b"second").unwrap();
    assert!(matches!(server.feed(&second), Err(TlsError::RecordAuthentication)));
    assert!(server.received.is_empty());
}

#[test]
fn padding_is_taken_off() {
    let (mut client, mut server) = pair();
    // Content type 23 and zeros within the payload, zero as the outermost type: padding.
    let mut body = b"data".to_vec();
    body.push(23);
    body.resize(16_384, 0);
    server.feed(&forge(&mut client, 0, &body)).unwrap();
    assert_eq!(server.take_received(), b"data");
    // One byte beyond what a record may hold, padding included.
    body.push(0);
    let error = server.feed(&forge(&mut client, 0, &body)).unwrap_err();
    assert!(matches!(error, TlsError::PlaintextTooLong(16_386)), "{error}");
}

#[test]
fn buffers_of_the_wrong_size_are_refused_without_harm() {
    let (mut client, mut server) = pair();
    let mut buf = [7; 40];
    for short in 0..27 {
        assert!(matches!(
            client.records.seal(&mut client.keys, &mut buf[..short], 5),
            Err(TlsError::BufferTooSmall { need: 27, .. })
        ));
    }
    let mut large = vec![0; 20_000];
    assert!(matches!(
        client.records.seal(&mut client.keys, &mut large, 16_385),
        Err(TlsError::PlaintextTooLong(16_385))
    ));
    assert_eq!(buf, [7; 40]);
    let len = client.records.seal(&mut client.keys, &mut buf, 5).unwrap();
    server.feed(&buf[..len]).unwrap();
    assert_eq!(server.take_received(), [7; 5]);
}

#[test]
fn floods_are_cut() {
    let (mut client, mut server) = pair();
    for _ in 0..3 {
        for _ in 0..TLS_MAX_EMPTY_RECORDS {
            server.feed(&forge(&mut client, 23, &[])).unwrap();
        }
        server.feed(&forge(&mut client, 23, b"x")).unwrap();
    }
    for _ in 0..TLS_MAX_EMPTY_RECORDS {
        server.feed(&forge(&mut client, 23, &[])).unwrap();
    }
    let error = server.feed(&forge(&mut client, 23, &[])).unwrap_err();
    assert!(matches!(error, TlsError::EmptyRecords));
    assert_eq!(error.reason(), CloseReason::TlsLimit);

    let (mut client, mut server) = pair();
    client.records.set_key_update_after(1);
    let update = |client: &mut Ours| {
        client.send(b"x");
        client.take_output()
    };
    for second in 0..3 {
        server.now = Instant::ZERO + Duration::from_secs(second);
        for _ in 0..TLS_KEY_UPDATES_PER_SECOND {
            server.feed(&update(&mut client)).unwrap();
        }
    }
    let error = server.feed(&update(&mut client)).unwrap_err();
    assert!(matches!(error, TlsError::KeyUpdateRate));
    assert_eq!(error.reason(), CloseReason::TlsLimit);
}

#[test]
fn messages_split_over_records_are_joined() {
    let (mut client, mut server) = pair();
    for byte in [24, 0, 0, 1, 0] {
        server.feed(&forge(&mut client, 22, &[byte])).unwrap();
    }
    client.records.switch_tx().unwrap();
    client.send(b"new key");
    server.feed(&client.take_output()).unwrap();
    assert_eq!(server.take_received(), b"new key");

    // A ticket in pieces, a second one whole behind its end.
    let mut ticket = vec![4, 0, 0, 19, 0, 0, 0, 60, 0, 0, 0, 0, 1, 9, 0, 6];
    ticket.extend_from_slice(&[1, 2, 3, 4, 5, 6, 0]);
    let len = (ticket.len() - 4) as u8;
    ticket[3] = len;
    // The extensions' length has two bytes.
    ticket.push(0);
    ticket[3] += 1;
    let both = [ticket.clone(), ticket].concat();
    let before = client.tickets;
    for piece in both.chunks(9) {
        client.feed(&forge(&mut server, 22, piece)).unwrap();
    }
    assert_eq!(client.tickets, before + 2);
}

#[test]
fn malformed_tickets_end_the_connection() {
    let (mut client, mut server) = pair();
    let error = client.feed(&forge(&mut server, 22, &[4, 0, 0, 2, 0, 0])).unwrap_err();
    assert!(matches!(error, TlsError::Ticket(_)), "{error}");
    match server.feed(&client.take_output()).unwrap_err() {
        TlsError::PeerAlert(alert) => assert_eq!(alert, AlertDescription::DecodeError),
        other => panic!("{other}"),
    }
    // A length no message may have is refused before anything is kept.
    let (mut client, mut server) = pair();
    let error = client.feed(&forge(&mut server, 22, &[4, 255, 255, 255])).unwrap_err();
    assert!(matches!(error, TlsError::MessageLength { kind: 4, .. }));
}

#[test]
fn many_tickets_are_taken_up_to_the_bound() {
    let (west, east) = gateways();
    let mut config = (**east.server_config()).clone();
    config.send_tls13_tickets = 50;
    let mut stock: rustls::Connection =
        rustls::ServerConnection::new(Arc::new(config)).unwrap().into();
    let mut handshake = Handshake::client(&west, "east").unwrap();
    let (ours, _) = with_stock(&mut handshake, &mut stock, &mut Chance(9), 700);
    let mut ours = *ours.unwrap();
    let (mut jobs, mut keys) = (0, KeyCache::new(1));
    let mut rest = std::mem::take(&mut ours.leftover);
    while let Some(len) = ours.records.frame_len(&rest).unwrap() {
        match ours.records.open(&mut keys, &mut rest[..len], Instant::ZERO).unwrap() {
            Opened::Ticket | Opened::Nothing => {}
            other => panic!("{other:?}"),
        }
        rest.drain(..len);
    }
    assert!(rest.is_empty());
    while let Some(job) = ours.records.take_ticket_job() {
        assert!(format!("{job:?}").contains(&format!("tickets: {TICKETS_PER_CONNECTION}")));
        ours.records.return_ticket_job(job.run()).unwrap();
        jobs += 1;
    }
    assert_eq!(jobs, 1);
    let mut ours = Ours::new(ours);
    ours.feed(&stock_send(&mut stock, b"data")).unwrap();
    assert_eq!(ours.take_received(), b"data");
}

/// Ticket and KeyUpdate in one record: the answer to the one goes before the other is taken.
#[test]
fn a_requested_key_update_goes_before_the_tickets() {
    let (mut client, mut server) = pair();
    let mut body = vec![4, 0, 0, 20, 0, 0, 0, 60, 0, 0, 0, 0, 1, 9, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0];
    body.extend_from_slice(&[24, 0, 0, 1, 1]);
    let mut record = forge(&mut server, 22, &body);
    server.records.switch_tx().unwrap();
    assert_eq!(
        client.records.open(&mut client.keys, &mut record, Instant::ZERO).unwrap(),
        Opened::Ticket
    );
    assert!(!client.records.ticket_job_ready() && client.records.take_ticket_job().is_none());
    client.flush();
    assert!(client.records.ticket_job_ready());
    let job = client.records.take_ticket_job().unwrap();
    client.records.return_ticket_job(job.run()).unwrap();
    assert!(!client.records.ticket_job_ready());
    client.send(b"up");
    server.feed(&client.take_output()).unwrap();
    assert_eq!(server.take_received(), b"up");
    server.send(b"down");
    client.feed(&server.take_output()).unwrap();
    assert_eq!(client.take_received(), b"down");
}

/// A client with its kernel lent out, and its server.
fn lent() -> (Ours, Ours, TicketJob) {
    let (west, east) = gateways();
    let (client, server) = both_ours(&west, &east);
    let (mut client, server) = (Ours::new(client), Ours::new(server));
    let len = client.records.frame_len(&client.input).unwrap().unwrap();
    let opened =
        client.records.open(&mut client.keys, &mut client.input[..len], Instant::ZERO).unwrap();
    assert_eq!(opened, Opened::Ticket);
    client.input.drain(..len);
    let job = client.records.take_ticket_job().unwrap();
    assert!(client.records.take_ticket_job().is_none(), "one at a time");
    (client, server, job)
}

pub(super) fn awaiting_key_update() -> (Ours, Ours, TicketJob) {
    let (mut client, mut server, job) = lent();
    let update = forge(&mut server, 22, &[24, 0, 0, 1, 1]);
    server.records.switch_tx().unwrap();
    client.feed(&update).unwrap();
    (client, server, job)
}

#[test]
fn data_flows_while_the_kernel_is_away() {
    let (mut client, mut server, job) = lent();
    server.send(b"down");
    client.feed(&server.take_output()).unwrap();
    assert_eq!(client.take_received(), b"down");
    client.records.set_key_update_after(1);
    client.send(b"up");
    // The update is due, but cannot be made now: nothing is pending, data goes on.
    assert!(!client.records.pending());
    client.send(b" and on");
    server.feed(&client.take_output()).unwrap();
    assert_eq!(server.take_received(), b"up and on");
    client.records.return_ticket_job(job.run()).unwrap();
    assert!(client.records.pending());
    client.send(b"new key");
    server.feed(&client.take_output()).unwrap();
    assert_eq!(server.take_received(), b"new key");
}

#[test]
fn a_key_update_blocks_until_the_kernel_is_back() {
    let (mut client, mut server, job) = lent();
    server.send(b"old key");
    let mut update = forge(&mut server, 22, &[24, 0, 0, 1, 0]);
    server.records.switch_tx().unwrap();
    let data = seal(&mut server, b"new key").unwrap();
    client.feed(&server.take_output()).unwrap();
    assert_eq!(client.take_received(), b"old key");
    assert_eq!(
        client.records.open(&mut client.keys, &mut update, Instant::ZERO).unwrap(),
        Opened::Nothing
    );
    let mut record = data.clone();
    for _ in 0..3 {
        assert_eq!(
            client.records.open(&mut client.keys, &mut record, Instant::ZERO).unwrap(),
            Opened::Blocked
        );
    }
    assert_eq!(record, data, "left untouched");
    client.records.return_ticket_job(job.run()).unwrap();
    client.feed(&data).unwrap();
    assert_eq!(client.take_received(), b"new key");
}

#[test]
fn a_kernel_that_comes_back_to_a_failed_connection_is_no_trouble() {
    let (mut client, _server, job) = lent();
    assert!(client.records.frame_len(&[20, 3, 3, 0, 1]).is_err());
    client.records.return_ticket_job(job.run()).unwrap();
    assert!(client.records.take_ticket_job().is_none());
    assert!(client.records.pending());
    client.flush();
    assert!(client.records.is_write_closed());
}
