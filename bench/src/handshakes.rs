//! `handshakes`: what a TLS handshake between gateways costs, by library.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use clgw::config::Crypto;
use clgw::fabric::{self, Created, Issuance};
use clgw::time::Instant;
use clgw::tls::{Established, Handshake, Identity, KeyCache, Opened, Progress, TlsFiles};
use time::OffsetDateTime;

use crate::scenario::{Bench, ROUNDS, Scenario, at_least_one, crypto, rounds};
use crate::tsc::cycles;

const FABRIC: &str = "fabric";

#[derive(Clone, Debug, Args)]
pub struct HandshakesArgs {
    /// Libraries.
    #[arg(long, value_delimiter = ',', value_parser = crypto,
          default_values = Crypto::ALL.iter().map(|crypto| crypto.name()))]
    pub crypto: Vec<Crypto>,
    /// Windows per setting; each gives one sample.
    #[arg(long, default_value_t = 15, value_parser = at_least_one::<usize>())]
    pub repetitions: usize,
    /// Handshakes in a window.
    #[arg(long, default_value_t = 100, value_parser = at_least_one::<usize>())]
    pub window: usize,
}

impl HandshakesArgs {
    fn settings(&self) -> Vec<(Crypto, bool)> {
        let kinds = [false, true];
        kinds.iter().flat_map(|kind| self.crypto.iter().map(|crypto| (*crypto, *kind))).collect()
    }

    /// Of one setting. Both ends take some 400 us.
    fn expected(&self) -> Duration {
        Duration::from_micros(400 * (self.repetitions * self.window) as u64)
    }
}

impl Scenario for HandshakesArgs {
    fn name(&self) -> &'static str {
        "handshakes"
    }

    fn estimate(&self) -> Duration {
        self.expected() * self.settings().len() as u32
    }

    fn shorten(&mut self) {
        self.repetitions = self.repetitions.min(5);
        self.window = self.window.min(20);
    }

    /// # Errors
    /// A handshake fails, or is not of the kind that is measured.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        bench.pin(self.name())?;
        let hz = bench.report.environment.tsc_hz;
        let dir = tempfile::tempdir().context("a directory for certificates")?;
        let pki = Pki::new(dir.path())?;
        let settings = self.settings();
        let mut windows: Vec<Vec<Handshaken>> = vec![Vec::new(); settings.len()];
        for round in rounds(self.repetitions) {
            for (&(crypto, resumed), windows) in settings.iter().zip(&mut windows) {
                let kind = if resumed { ", resumed" } else { "" };
                let label = format!("handshakes: {}{kind}, {round}", crypto.name());
                bench.step(&label, round.part(self.expected()))?;
                let ends = pki.ends(crypto)?;
                if resumed {
                    // The first one brings the tickets of the next.
                    handshake(&ends, true)?;
                }
                for _ in 0..round.share {
                    let mut sum = Handshaken::default();
                    for _ in 0..self.window {
                        let one = handshake(&ends, resumed)?;
                        ensure!(one.resumed == resumed, "{label}: resumed is {}", one.resumed);
                        sum.add(&one);
                    }
                    windows.push(sum);
                }
            }
        }
        for ((crypto, resumed), windows) in settings.iter().zip(&windows) {
            let Some(first) = windows.first() else { continue };
            let parameters = [
                ("handshake", if *resumed { "resumed" } else { "full" }.to_owned()),
                ("library", crypto.name().to_owned()),
                ("key exchange", first.key_exchange.to_owned()),
            ];
            let mut metric = |name, unit, value: &dyn Fn(&Handshaken) -> f64| {
                let samples = windows.iter().map(|w| value(w) / self.window as f64).collect();
                bench.report.add("handshakes", &parameters, name, unit, samples);
            };
            metric("client", "us", &|w| w.client as f64 * 1e6 / hz);
            metric("server", "us", &|w| w.server as f64 * 1e6 / hz);
            metric("client sends", "bytes", &|w| w.client_sent as f64);
            metric("server sends", "bytes", &|w| w.server_sent as f64);
        }
        bench.report.note(format!(
            "handshakes: {} windows of {} each, in {ROUNDS} rounds; P-256 certificates as `clgw create` \
             makes them, both ends verified, on one core, from the first step to the record layer. A \
             resumed one exchanges keys as well. Session tickets are sent, and stored outside of the time",
            self.repetitions, self.window
        ));
        Ok(())
    }
}

/// A fabric and two peers.
struct Pki {
    ca: Created,
    client: Created,
    server: Created,
}

impl Pki {
    fn new(dir: &Path) -> anyhow::Result<Self> {
        let issuance = |serial| Issuance { now: OffsetDateTime::now_utc(), serial };
        let peer = |name, serial| {
            fabric::create_peer(dir, FABRIC, name, issuance(serial)).context("a certificate")
        };
        Ok(Self {
            ca: fabric::create_fabric(dir, FABRIC, issuance(1)).context("a CA")?,
            client: peer("client", 2)?,
            server: peer("server", 3)?,
        })
    }

    /// Client and server, without any sessions.
    fn ends(&self, crypto: Crypto) -> anyhow::Result<[Arc<Identity>; 2]> {
        let identity = |of: &Created| {
            let ca = self.ca.cert.clone();
            let files = TlsFiles { ca, cert: of.cert.clone(), key: of.key.clone() };
            anyhow::Ok(Arc::new(Identity::load(&files, crypto)?))
        };
        Ok([identity(&self.client)?, identity(&self.server)?])
    }
}

/// One handshake, or the sum of several.
#[derive(Clone, Copy, Debug, Default)]
struct Handshaken {
    /// Cycles.
    client: u64,
    server: u64,
    /// Bytes.
    client_sent: usize,
    server_sent: usize,
    resumed: bool,
    key_exchange: &'static str,
}

impl Handshaken {
    fn add(&mut self, other: &Self) {
        self.client += other.client;
        self.server += other.server;
        self.client_sent += other.client_sent;
        self.server_sent += other.server_sent;
        (self.resumed, self.key_exchange) = (other.resumed, other.key_exchange);
    }
}

fn handshake(ends: &[Arc<Identity>; 2], take_tickets: bool) -> anyhow::Result<Handshaken> {
    let [client, server] = ends;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());

    let start = cycles();
    let mut c = Handshake::client(client, server.peer_name())?;
    let Progress::More = c.step(&[], &mut to_server)? else { bail!("done without a server") };
    let hello = cycles();
    let mut s = Handshake::server(server)?;
    let Progress::More = s.step(&to_server, &mut to_client)? else { bail!("done too soon") };
    let answered = cycles();
    let (mut finish, mut tickets) = (Vec::new(), Vec::new());
    let Progress::Done(established) = c.step(&to_client, &mut finish)? else {
        bail!("a client that is not done")
    };
    let finished = cycles();
    let Progress::Done(_) = s.step(&finish, &mut tickets)? else {
        bail!("a server that is not done")
    };
    let end = cycles();

    let (resumed, key_exchange) = (established.resumed, established.key_exchange);
    if take_tickets {
        store(*established, &tickets)?;
    }
    Ok(Handshaken {
        client: (hello - start) + (finished - answered),
        server: (answered - hello) + (end - finished),
        client_sent: to_server.len() + finish.len(),
        server_sent: to_client.len() + tickets.len(),
        resumed,
        key_exchange,
    })
}

/// Takes in the tickets that the server sent behind the handshake.
fn store(established: Established, tickets: &[u8]) -> anyhow::Result<()> {
    let Established { mut records, leftover: mut bytes, .. } = established;
    bytes.extend_from_slice(tickets);
    let mut keys = KeyCache::new(1);
    while let Some(length) = records.frame_len(&bytes)? {
        let record = bytes.get_mut(..length).context("half a record")?;
        if let Opened::Ticket = records.open(&mut keys, record, Instant::from_millis(1))? {
            let job = records.take_ticket_job().context("a ticket that is not there")?;
            records.return_ticket_job(job.run())?;
        }
        bytes.drain(..length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_measured_by_every_library() {
        let args = HandshakesArgs { crypto: Crypto::ALL.to_vec(), repetitions: 2, window: 3 };
        let mut bench = Bench::new(None).unwrap();
        args.run(&mut bench).unwrap();
        assert_eq!(bench.report.measurements.len(), Crypto::ALL.len() * 2 * 4);
        // A certificate is what most of the bytes are.
        let sent = |kind: &str| {
            let found = bench.report.measurements.iter().find(|m| {
                m.metric == "server sends" && m.parameters.iter().any(|(_, value)| value == kind)
            });
            found.unwrap().samples[0]
        };
        assert!(sent("full") > sent("resumed") + 500.0);
    }
}
