//! The TLS layer against independent implementations: buffered rustls and OpenSSL.

#[cfg(feature = "aws-lc")]
mod aws_lc;
mod executor;
mod handshake;
mod identity;
mod keys;
mod openssl;
mod pki;
mod properties;
mod records;
mod suites;

use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::{
    CONTROL_RECORDS_MAX, Established, Handshake, Identity, KeyCache, Opened, Progress, RecordLayer,
    TicketJob, TlsError,
};
use crate::limits::{TLS_MAX_PLAINTEXT, TLS_RECORD_HEADER, TLS_RECORD_TRAILER};
use crate::time::Instant;
use pki::Pki;

/// Numbers that look random and are the same in each run.
struct Chance(u64);

impl Chance {
    /// 1 to `n`.
    fn up_to(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + (self.0 >> 33) as usize % n
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + len) as u8).collect()
}

/// Our side of an established connection, with what a worker does around the record layer.
struct Ours {
    records: RecordLayer,
    /// With room for one: the two directions take it from each other.
    keys: KeyCache,
    /// Received bytes not opened yet.
    input: Vec<u8>,
    received: Vec<u8>,
    output: Vec<u8>,
    now: Instant,
    /// Ticket records seen.
    tickets: usize,
    closed: bool,
}

impl Ours {
    fn new(established: Established) -> Self {
        Self {
            records: established.records,
            keys: KeyCache::new(1),
            input: established.leftover,
            received: Vec::new(),
            output: Vec::new(),
            now: Instant::ZERO,
            tickets: 0,
            closed: false,
        }
    }

    fn flush(&mut self) {
        if self.records.pending() {
            let mut control = [0; CONTROL_RECORDS_MAX];
            let len = self.records.write_pending(&mut self.keys, &mut control).unwrap();
            assert!(len > 0, "pending, but nothing written");
            self.output.extend_from_slice(&control[..len]);
        }
        assert!(!self.records.pending());
    }

    fn send(&mut self, data: &[u8]) {
        for chunk in data.chunks(TLS_MAX_PLAINTEXT) {
            self.flush();
            let record = seal(self, chunk).unwrap();
            self.output.extend_from_slice(&record);
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        self.input.extend_from_slice(bytes);
        while let Some(len) = self.records.frame_len(&self.input)? {
            if self.input.len() < len {
                break;
            }
            match self.records.open(&mut self.keys, &mut self.input[..len], self.now)? {
                Opened::Data(data) => self.received.extend_from_slice(data),
                Opened::Nothing => {}
                Opened::Ticket => {
                    self.tickets += 1;
                    if let Some(job) = self.records.take_ticket_job() {
                        self.records.return_ticket_job(job.run())?;
                    }
                }
                Opened::Closed => self.closed = true,
                Opened::Blocked => panic!("blocked while no job is out"),
            }
            self.input.drain(..len);
        }
        Ok(())
    }

    fn take_output(&mut self) -> Vec<u8> {
        self.flush();
        std::mem::take(&mut self.output)
    }

    fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }
}

fn seal(ours: &mut Ours, data: &[u8]) -> Result<Vec<u8>, TlsError> {
    let mut buf = vec![0; TLS_RECORD_HEADER + data.len() + TLS_RECORD_TRAILER];
    buf[TLS_RECORD_HEADER..][..data.len()].copy_from_slice(data);
    let len = ours.records.seal(&mut ours.keys, &mut buf, data.len())?;
    assert_eq!(len, buf.len());
    Ok(buf)
}

/// What stock rustls has to send.
fn stock_output(stock: &mut rustls::Connection) -> Vec<u8> {
    let mut out = Vec::new();
    while stock.wants_write() {
        stock.write_tls(&mut out).unwrap();
    }
    out
}

/// Gives `bytes` to stock rustls and returns the plaintext that comes out.
fn stock_feed(stock: &mut rustls::Connection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    use std::io::Read;
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        stock.read_tls(&mut bytes).unwrap();
        let state = stock.process_new_packets()?;
        let mut chunk = vec![0; state.plaintext_bytes_to_read()];
        stock.reader().read_exact(&mut chunk).unwrap();
        plain.extend_from_slice(&chunk);
    }
    Ok(plain)
}

/// Handshake between one of ours and stock rustls, bytes in chunks of chance. Both may fail.
fn with_stock(
    ours: &mut Handshake,
    stock: &mut rustls::Connection,
    chance: &mut Chance,
    largest: usize,
) -> (Result<Box<Established>, TlsError>, Result<(), rustls::Error>) {
    let mut to_stock = Vec::new();
    let mut done = None;
    let mut error = None;
    let mut stock_result = Ok(());
    match ours.step(&[], &mut to_stock) {
        Ok(Progress::More) => {}
        other => panic!("a handshake without bytes: {other:?}"),
    }
    for _ in 0..20 {
        let mut rest = std::mem::take(&mut to_stock);
        while !rest.is_empty() && stock_result.is_ok() {
            let n = chance.up_to(largest.min(rest.len()));
            stock_result = stock_feed(stock, &rest[..n]).map(|plain| assert!(plain.is_empty()));
            rest.drain(..n);
        }
        let to_ours = stock_output(stock);
        let mut rest = &to_ours[..];
        while !rest.is_empty() && error.is_none() {
            let n = chance.up_to(largest.min(rest.len()));
            let (now, later) = rest.split_at(n);
            rest = later;
            match &mut done {
                None => match ours.step(now, &mut to_stock) {
                    Ok(Progress::More) => {}
                    Ok(Progress::Done(established)) => {
                        assert!(now.ends_with(&established.leftover));
                        done = Some(established);
                    }
                    Err(e) => error = Some(e),
                },
                Some(established) => established.leftover.extend_from_slice(now),
            }
        }
        if to_stock.is_empty() && !stock.wants_write() {
            break;
        }
    }
    let ours = match (done, error) {
        (_, Some(e)) => Err(e),
        (Some(d), None) => Ok(d),
        (None, None) => Err(TlsError::HandshakeClosed),
    };
    (ours, stock_result)
}

fn stock_client(identity: &Identity, name: &str) -> rustls::Connection {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    rustls::ClientConnection::new(identity.client_config().clone(), name).unwrap().into()
}

fn stock_server(identity: &Identity) -> rustls::Connection {
    rustls::ServerConnection::new(identity.server_config().clone()).unwrap().into()
}

/// An established pair: our client, stock server.
fn our_client(identity: &Arc<Identity>, server: &Identity) -> (Ours, rustls::Connection) {
    let mut stock = stock_server(server);
    let mut handshake = Handshake::client(identity, server.peer_name()).unwrap();
    let (ours, theirs) = with_stock(&mut handshake, &mut stock, &mut Chance(1), 1 << 20);
    theirs.unwrap();
    (Ours::new(*ours.unwrap()), stock)
}

/// An established pair: our server, stock client.
fn our_server(identity: &Arc<Identity>, client: &Identity) -> (Ours, rustls::Connection) {
    let mut stock = stock_client(client, identity.peer_name());
    let mut handshake = Handshake::server(identity).unwrap();
    let (ours, theirs) = with_stock(&mut handshake, &mut stock, &mut Chance(1), 1 << 20);
    theirs.unwrap();
    (Ours::new(*ours.unwrap()), stock)
}

/// Ours on both sides. Returns client and server.
fn both_ours(client: &Arc<Identity>, server: &Arc<Identity>) -> (Established, Established) {
    let mut c = Handshake::client(client, server.peer_name()).unwrap();
    let mut s = Handshake::server(server).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    assert!(matches!(c.step(&[], &mut to_server), Ok(Progress::More)));
    assert!(matches!(s.step(&to_server, &mut to_client), Ok(Progress::More)));
    to_server.clear();
    let Ok(Progress::Done(mut client)) = c.step(&to_client, &mut to_server) else {
        panic!("client not done");
    };
    to_client.clear();
    let Ok(Progress::Done(server)) = s.step(&to_server, &mut to_client) else {
        panic!("server not done");
    };
    client.leftover.extend_from_slice(&to_client);
    (*client, *server)
}

/// Two gateways of one fabric.
fn gateways() -> (Arc<Identity>, Arc<Identity>) {
    let pki = Pki::new();
    (pki.gateway("west").identity(), pki.gateway("east").identity())
}

/// Client and server, for tests of what stands on them.
pub(crate) fn record_layers() -> (RecordLayer, RecordLayer) {
    let (client, server) = records::pair();
    (client.records, server.records)
}

/// The same with the client's kernel lent out: a key update that the server has asked for waits for it.
pub(crate) fn awaiting_key_update() -> (RecordLayer, RecordLayer, TicketJob) {
    let (client, server, job) = records::awaiting_key_update();
    (client.records, server.records, job)
}
