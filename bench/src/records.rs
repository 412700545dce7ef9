//! `records`: what sealing and opening TLS records costs, by library, cipher and length.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use clgw::config::Crypto;
use clgw::limits::{TLS_MAX_PLAINTEXT, TLS_RECORD_HEADER, TLS_RECORD_TRAILER};
use clgw::sim::Pki;
use clgw::time::Instant;
use clgw::tls::{Handshake, KeyCache, Opened, Progress, RecordLayer, Suite};

use crate::apps::MIB;
use crate::hop::Cipher;
use crate::scenario::{Bench, ROUNDS, Scenario, at_least_one, crypto, rounds};
use crate::tsc::cycles;

/// Records that are sealed before they are opened, bytes: what stands in a gateway's rings.
const AT_ONCE: usize = 256 * 1024;
/// With shorter ones a key may be used up before the end.
const LEAST_PAYLOAD: usize = 64;

#[derive(Clone, Debug, Args)]
pub struct RecordsArgs {
    /// Libraries.
    #[arg(long, value_delimiter = ',', value_parser = crypto,
          default_values = Crypto::ALL.iter().map(|crypto| crypto.name()))]
    pub crypto: Vec<Crypto>,
    /// Cipher suites.
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::Chacha20Poly1305])]
    pub suite: Vec<Cipher>,
    /// Payload of a record, bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [1_400, TLS_MAX_PLAINTEXT],
          value_parser = payload)]
    pub payload: Vec<usize>,
    /// Windows per setting; each gives one sample.
    #[arg(long, default_value_t = 15, value_parser = at_least_one::<usize>())]
    pub repetitions: usize,
    /// Payload of one window, MiB.
    #[arg(long, default_value_t = 32, value_parser = at_least_one::<u64>())]
    pub window_mib: u64,
}

fn payload(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(payload) if (LEAST_PAYLOAD..=TLS_MAX_PLAINTEXT).contains(&payload) => Ok(payload),
        _ => Err(format!("a number from {LEAST_PAYLOAD} to {TLS_MAX_PLAINTEXT}")),
    }
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    crypto: Crypto,
    cipher: Cipher,
    payload: usize,
}

impl RecordsArgs {
    /// Libraries side by side.
    fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for &cipher in &self.suite {
            for &payload in &self.payload {
                settings.extend(self.crypto.iter().map(|&crypto| Setting {
                    crypto,
                    cipher,
                    payload,
                }));
            }
        }
        settings
    }

    /// Of one setting. Sealing and opening take some 0.6 ms per MiB.
    fn expected(&self) -> Duration {
        Duration::from_micros(600 * self.repetitions as u64 * self.window_mib)
    }
}

impl Scenario for RecordsArgs {
    fn name(&self) -> &'static str {
        "records"
    }

    fn estimate(&self) -> Duration {
        self.expected() * self.settings().len() as u32
    }

    fn shorten(&mut self) {
        self.repetitions = self.repetitions.min(5);
        self.window_mib = self.window_mib.min(8);
    }

    /// # Errors
    /// A record is not opened to what was sealed.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        bench.pin(self.name())?;
        let hz = bench.report.environment.tsc_hz;
        let settings = self.settings();
        let mut windows: Vec<Vec<Window>> = vec![Vec::new(); settings.len()];
        for round in rounds(self.repetitions) {
            for (setting, windows) in settings.iter().zip(&mut windows) {
                let Setting { crypto, cipher, payload } = setting;
                let (name, library) = (cipher.name(), crypto.name());
                let label = format!("records: {name} by {library}, {payload} bytes, {round}");
                bench.step(&label, round.part(self.expected()))?;
                windows
                    .extend(measure(setting, self.window_mib * MIB, round.share).context(label)?);
            }
        }
        for (Setting { crypto, cipher, payload }, windows) in settings.iter().zip(&windows) {
            let parameters = [
                ("cipher", cipher.name().to_owned()),
                ("payload, bytes", payload.to_string()),
                ("library", crypto.name().to_owned()),
            ];
            type Of = fn(&Window) -> u64;
            let sides: [([&str; 2], Of); 2] = [
                (["sealed", "cost of sealing"], |w| w.sealing),
                (["opened", "cost of opening"], |w| w.opening),
            ];
            for ([rate, cost], of) in sides {
                let mut metric = |name, unit, value: &dyn Fn(&Window) -> f64| {
                    let samples = windows.iter().map(value).collect();
                    bench.report.add("records", &parameters, name, unit, samples);
                };
                metric(rate, "GB/s", &|w| w.payload as f64 * hz / of(w) as f64 / 1e9);
                metric(cost, "cycles/byte", &|w| of(w) as f64 / w.payload as f64);
            }
        }
        bench.report.note(format!(
            "records: {} windows of {} MiB each, in {ROUNDS} rounds; {} KiB are sealed in place, then \
             opened in place by the other end, on one core. Header, trailer and all of the record \
             layer's checks are in it, copies are not",
            self.repetitions,
            self.window_mib,
            AT_ONCE / 1024
        ));
        Ok(())
    }
}

/// Cycles.
#[derive(Clone, Copy, Debug)]
struct Window {
    payload: u64,
    sealing: u64,
    opening: u64,
}

fn measure(setting: &Setting, bytes: u64, repetitions: usize) -> anyhow::Result<Vec<Window>> {
    let &Setting { crypto, cipher, payload } = setting;
    let (mut client, mut server) = established(crypto, cipher.suite())?;
    let mut keys = KeyCache::new(2);
    let length = TLS_RECORD_HEADER + payload + TLS_RECORD_TRAILER;
    let mut buffers = vec![vec![0x5a; length]; (AT_ONCE / length).max(1)];
    let mut windows = Vec::new();
    for _ in 0..repetitions {
        let mut window = Window { payload: 0, sealing: 0, opening: 0 };
        while window.payload < bytes {
            let from = cycles();
            for buffer in &mut buffers {
                client.seal(&mut keys, black_box(buffer), payload)?;
            }
            let sealed = cycles();
            for buffer in &mut buffers {
                let opened = server.open(&mut keys, black_box(buffer), Instant::from_millis(1))?;
                let Opened::Data(data) = black_box(opened) else { bail!("no data in a record") };
                ensure!(data.len() == payload, "{} bytes instead of {payload}", data.len());
            }
            window.opening += cycles() - sealed;
            window.sealing += sealed - from;
            window.payload += (buffers.len() * payload) as u64;
        }
        windows.push(window);
    }
    let intact =
        buffers.iter().all(|b| b[TLS_RECORD_HEADER..][..payload].iter().all(|b| *b == 0x5a));
    ensure!(intact, "what was opened is not what was sealed");
    Ok(windows)
}

/// Both ends of an established connection, client and server.
///
/// # Errors
/// The certificates cannot be made, or the handshake fails.
pub fn established(crypto: Crypto, suite: Suite) -> anyhow::Result<(RecordLayer, RecordLayer)> {
    let pki = Pki::new("fabric").context("a CA")?;
    let identity = |name| {
        let (cert, key) = pki.peer(name).context("a certificate")?;
        anyhow::Ok(pki.identity_with(&cert, &key, crypto, &[suite])?)
    };
    let mut client = Handshake::client(&identity("a")?, "b")?;
    let mut server = Handshake::server(&identity("b")?)?;
    let (mut ends, mut input) = ([None, None], Vec::new());
    while ends.iter().any(Option::is_none) {
        for (end, handshake) in [&mut client, &mut server].into_iter().enumerate() {
            let mut output = Vec::new();
            // Behind its end of the handshake, the server sends tickets; the client needs none.
            if ends[end].is_none()
                && let Progress::Done(done) = handshake.step(&input, &mut output)?
            {
                ends[end] = Some(done.records);
            }
            input = output;
        }
    }
    let [Some(client), Some(server)] = ends else { unreachable!("the loop ends with both") };
    ensure!(client.suite() == suite, "another suite was agreed on");
    Ok((client, server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_cipher_and_length_is_measured() {
        let args = RecordsArgs {
            crypto: Crypto::ALL.to_vec(),
            suite: vec![Cipher::Aes128Gcm, Cipher::Chacha20Poly1305],
            payload: vec![LEAST_PAYLOAD, 1_400, TLS_MAX_PLAINTEXT],
            repetitions: 2,
            window_mib: 1,
        };
        let mut bench = Bench::new(None).unwrap();
        args.run(&mut bench).unwrap();
        // Two figures of sealing and opening each.
        let settings = Crypto::ALL.len() * 2 * 3;
        assert_eq!(bench.report.measurements.len(), settings * 4);
        assert_eq!(bench.report.samples(), settings * 4 * 2);
        assert!(payload("63").is_err() && payload("16385").is_err());
    }
}
