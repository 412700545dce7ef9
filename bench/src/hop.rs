//! `hop`: what one gateway core can carry, without NIC, kernel and wire.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use clgw::config::Crypto;
use clgw::limits::{MAX_IP_PACKET, MAX_MTU, MIN_MTU};
use clgw::sim::{App, Offload, Spread};
use clgw::tls::Suite;

use crate::apps::{CHECKED, MIB, Received, Sink, Source};
use crate::chain::{Chain, IMPORTS, Meter, Setup};
use crate::interrupt::Interrupt;
use crate::report::Report;
use crate::scenario::{Bench, ROUNDS, Scenario, at_least_one, crypto, rounds};

/// Of the chain's own clock; a window of 32 MiB takes some milliseconds of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Segments that rings hold at the least: with one or two, each would wait for its acknowledgement.
const SEGMENTS_IN_RING: usize = 7;

#[derive(Clone, Debug, Args)]
pub struct HopArgs {
    /// IP packet sizes, bytes. 65535 stands for segments that NICs cut and merge (TSO, LRO).
    #[arg(long, value_delimiter = ',', default_values_t = [1500, 9000, MAX_IP_PACKET],
          value_parser = mtu)]
    pub mtu: Vec<usize>,
    /// Cipher suites. Ports that do nothing and ports that cut segments are measured with the first one
    /// only: the two costs have nothing to do with each other.
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::Chacha20Poly1305])]
    pub suite: Vec<Cipher>,
    /// Libraries of cryptography.
    #[arg(long, value_delimiter = ',', value_parser = crypto,
          default_values = Crypto::ALL.iter().map(|crypto| crypto.name()))]
    pub crypto: Vec<Crypto>,
    /// Windows per setting; each gives one sample.
    #[arg(long, default_value_t = 15, value_parser = at_least_one::<usize>())]
    pub repetitions: usize,
    /// Payload of one window, MiB.
    #[arg(long, default_value_t = 32, value_parser = at_least_one::<u64>())]
    pub window_mib: u64,
    /// Buffers of service legs, KiB; at least seven packets.
    #[arg(long, default_value_t = 64)]
    pub service_kib: usize,
    /// Buffers of tunnels, KiB; at least seven packets. What a service sends goes right into them, as
    /// far as there is room beside what was not acknowledged yet. The gateway's default of 256 is for
    /// long round trips; where there are none, it costs cache.
    #[arg(long, default_value_t = 128)]
    pub peer_kib: usize,
    /// Frames per pool; 0 chooses the least that suffices.
    #[arg(long, default_value_t = 0)]
    pub frames: usize,
    /// What ports do by themselves. Packets of 64 KiB are not cut.
    #[arg(long, value_delimiter = ',', value_enum,
          default_values_t = [Port::Checksums, Port::Segments, Port::Nothing])]
    pub port: Vec<Port>,
    #[arg(long, value_enum, default_value_t = Direction::Both)]
    pub direction: Direction,
}

fn mtu(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(mtu) if (MIN_MTU..=MAX_IP_PACKET).contains(&mtu) => Ok(mtu),
        _ => Err(format!("an IP packet size is a number from {MIN_MTU} to {MAX_IP_PACKET}")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    Chacha20Poly1305,
}

impl Cipher {
    pub fn suite(self) -> Suite {
        match self {
            Self::Aes128Gcm => Suite::Aes128Gcm,
            Self::Aes256Gcm => Suite::Aes256Gcm,
            Self::Chacha20Poly1305 => Suite::ChaCha20Poly1305,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::Chacha20Poly1305 => "ChaCha20-Poly1305",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Port {
    /// The gateway computes and verifies checksums.
    Nothing,
    /// The port does, as NICs do.
    Checksums,
    /// It also cuts what is sent into segments (TSO).
    Segments,
}

impl Port {
    fn offload(self) -> Offload {
        match self {
            Self::Nothing => Offload::Nothing,
            Self::Checksums => Offload::Checksums,
            Self::Segments => Offload::Segments,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Checksums => "checksums",
            Self::Segments => "checksums, TSO",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// The client sends: gateway A seals, gateway B opens.
    Upload,
    /// The server sends: gateway B seals, gateway A opens.
    Download,
    Both,
}

/// One row of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    mtu: usize,
    cipher: Cipher,
    crypto: Crypto,
    port: Port,
    upload: bool,
}

impl Setting {
    /// ring is what one has without asking.
    fn cipher(&self) -> String {
        match self.cipher.name() {
            name if self.crypto == Crypto::Ring => name.to_owned(),
            name => format!("{name} by {}", self.crypto.name()),
        }
    }

    fn label(&self) -> String {
        format!(
            "{}, MTU {}, the port does: {}, {}",
            self.cipher(),
            self.mtu,
            self.port.name(),
            if self.upload { "upload" } else { "download" }
        )
    }
}

impl HopArgs {
    /// Every suite by every library with checksums by the port, the first one also with the other kinds
    /// of port; each with every MTU.
    fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        let libraries = |&cipher| self.crypto.iter().map(move |&crypto| (cipher, crypto));
        for (n, (cipher, crypto)) in self.suite.iter().flat_map(libraries).enumerate() {
            let plain = |port: &&Port| n == 0 || **port == Port::Checksums;
            for &port in self.port.iter().filter(plain) {
                let uncut = |mtu: &&usize| port != Port::Segments || **mtu <= MAX_MTU;
                for &mtu in self.mtu.iter().filter(uncut) {
                    for upload in [true, false] {
                        let other = if upload { Direction::Download } else { Direction::Upload };
                        if self.direction != other {
                            settings.push(Setting { mtu, cipher, crypto, port, upload });
                        }
                    }
                }
            }
        }
        settings
    }

    /// Of one setting. Per MiB both gateways and both endpoints take some 2 ms on a core of today.
    fn expected(&self) -> Duration {
        let window = self.repetitions as u64 * self.window_mib + 2 * CHECKED / MIB;
        Duration::from_millis(100 + 2 * window)
    }

    /// KiB that a ring of `kib` has at this MTU.
    fn ring(kib: usize, mtu: usize) -> usize {
        kib.max((SEGMENTS_IN_RING * mtu).div_ceil(1024).next_power_of_two())
    }
}

impl Scenario for HopArgs {
    fn name(&self) -> &'static str {
        "hop"
    }

    fn estimate(&self) -> Duration {
        self.expected() * self.settings().len() as u32
    }

    /// Fewer and smaller windows; within seconds.
    fn shorten(&mut self) {
        self.repetitions = self.repetitions.min(5);
        self.window_mib = self.window_mib.min(8);
    }

    /// # Errors
    /// Bytes did not arrive, or not as they were sent, or frames were lost.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        bench.pin(self.name())?;
        let hz = bench.report.environment.tsc_hz;
        let mut failures = Vec::new();
        let settings = self.settings();
        // None once a setting has failed.
        let mut windows: Vec<Option<Vec<Window>>> =
            settings.iter().map(|_| Some(Vec::new())).collect();
        for round in rounds(self.repetitions) {
            for (setting, slot) in settings.iter().zip(&mut windows) {
                let Some(windows) = slot else { continue };
                let label = format!("hop: {}, {round}", setting.label());
                bench.step(&label, round.part(self.expected()))?;
                match transfer(self, setting, round.share, &bench.interrupt) {
                    Ok(more) => windows.extend(more),
                    Err(error) => {
                        bench.interrupt.check()?;
                        failures.push(format!("{}: {error:#}", setting.label()));
                        *slot = None;
                    }
                }
            }
        }
        for (setting, windows) in settings.iter().zip(&windows) {
            if let Some(windows) = windows {
                add(&mut bench.report, hz, self, setting, windows);
            }
        }
        bench.report.note(format!(
            "hop: payload of one connection, {} windows of {} MiB each. Only the gateways' own \
             turns are timed; both endpoints and the other gateway run on the same core between \
             them and use the same L2; in {ROUNDS} rounds. MTU 65535 is what a port with TSO and LRO carries: the \
             packets in memory are that large",
            self.repetitions, self.window_mib
        ));
        bench.report.note(
            "hop: Gb/s of one core = payload / TSC time of turns that found work; a frame is one \
             received by that gateway, acknowledgements included; its cost includes what is sent \
             because of it. A + B is one core that does the work of both gateways",
        );
        ensure!(
            failures.is_empty(),
            "{} settings failed:\n{}",
            failures.len(),
            failures.join("\n")
        );
        Ok(())
    }
}

struct Window {
    payload: u64,
    a: Meter,
    b: Meter,
}

fn transfer(
    args: &HopArgs,
    setting: &Setting,
    repetitions: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Window>> {
    let &Setting { mtu, cipher, crypto, port, upload } = setting;
    let (service_kib, peer_kib) =
        (HopArgs::ring(args.service_kib, mtu), HopArgs::ring(args.peer_kib, mtu));
    let window = 1024 * peer_kib.max(service_kib);
    let setup = Setup {
        mtu,
        crypto,
        suite: cipher.suite(),
        offload: port.offload(),
        service_kib,
        peer_kib,
        host_buffer: 1024 * HopArgs::ring(64, mtu),
        frames: if args.frames > 0 { args.frames } else { 64 + 2 * window.div_ceil(mtu - 52) },
        workers: 1,
        spread: Spread::Rss,
    };
    let mut chain = Chain::new(&setup)?;
    let received = Rc::new(Cell::new(Received::default()));
    let (_, service) = IMPORTS[0];
    let end = Rc::clone(&received);
    chain.server.listen(
        service,
        Box::new(move |_| {
            if upload { Box::new(Sink(Rc::clone(&end))) } else { Box::new(Source::endless()) }
        }),
    );
    // The pool of warm tunnels comes first.
    chain.run_until("warm tunnels", PATIENCE, |c| c.counters().0.tunnels_opened > 0)?;
    let end = Rc::clone(&received);
    let app: Box<dyn App> = if upload { Box::new(Source::endless()) } else { Box::new(Sink(end)) };
    chain.connect(0, app)?;
    let mut target = 2 * CHECKED;
    chain.run_until("first bytes", PATIENCE, |_| received.get().bytes >= target)?;
    ensure!(!received.get().wrong, "bytes arrived that were not sent");
    let mut windows = Vec::new();
    for _ in 0..repetitions {
        interrupt.check()?;
        let (start, (a, b)) = (received.get().bytes, chain.meters());
        target = start + args.window_mib * MIB;
        chain.run_until("one window", PATIENCE, |_| received.get().bytes >= target)?;
        let (later_a, later_b) = chain.meters();
        windows.push(Window {
            payload: received.get().bytes - start,
            a: later_a.since(a),
            b: later_b.since(b),
        });
    }
    chain.ensure_no_loss()?;
    Ok(windows)
}

fn add(report: &mut Report, hz: f64, args: &HopArgs, setting: &Setting, windows: &[Window]) {
    type Of = fn(&Window) -> Meter;
    let &Setting { mtu, port, upload, .. } = setting;
    let does = |seals| if seals { "seals" } else { "opens" };
    let gateways: [(String, Of); 3] = [
        (format!("A {}", does(upload)), |w| w.a),
        (format!("B {}", does(!upload)), |w| w.b),
        ("A + B".to_owned(), |w| w.a.plus(w.b)),
    ];
    let [service, peer] = [args.service_kib, args.peer_kib].map(|kib| HopArgs::ring(kib, mtu));
    let rings = if service == peer { peer.to_string() } else { format!("{service} / {peer}") };
    for (name, of) in gateways {
        let parameters = [
            ("cipher", setting.cipher()),
            ("MTU", mtu.to_string()),
            ("the port does", port.name().to_owned()),
            ("rings, KiB", rings.clone()),
            ("direction", if upload { "upload" } else { "download" }.to_owned()),
            ("gateway", name),
        ];
        let mut metric = |name, unit, value: &dyn Fn(&Window, Meter) -> f64| {
            let samples = windows.iter().map(|w| value(w, of(w))).collect();
            report.add("hop", &parameters, name, unit, samples);
        };
        metric("one core", "Gb/s", &|w, m| w.payload as f64 * 8.0 * hz / m.cycles as f64 / 1e9);
        metric("cost", "cycles/byte", &|w, m| m.cycles as f64 / w.payload as f64);
        metric("cost of a frame", "cycles", &|_, m| m.cycles as f64 / m.rx_frames as f64);
        metric("frames in a turn", "", &|_, m| m.rx_frames as f64 / m.turns as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> HopArgs {
        HopArgs {
            mtu: vec![1500],
            suite: vec![Cipher::Aes128Gcm],
            crypto: vec![Crypto::Ring],
            repetitions: 2,
            window_mib: 1,
            service_kib: 64,
            peer_kib: 64,
            frames: 0,
            port: vec![Port::Nothing],
            direction: Direction::Both,
        }
    }

    #[test]
    fn both_gateways_are_measured_in_both_directions() {
        let args = args();
        assert_eq!(args.settings().len(), 2);
        let interrupt = Interrupt::install().unwrap();
        for setting in args.settings() {
            let windows = transfer(&args, &setting, 2, &interrupt).unwrap();
            assert_eq!(windows.len(), 2);
            for w in windows {
                assert!(w.payload >= MIB);
                // Each payload byte came in one frame of at most 1448 bytes, at both gateways.
                for m in [w.a, w.b] {
                    assert!(m.cycles > 0 && m.rx_frames >= w.payload / 1448 - 200, "{m:?}");
                }
            }
        }
    }

    #[test]
    fn every_cipher_and_packets_of_64_kib() {
        let args = HopArgs {
            mtu: vec![MAX_IP_PACKET],
            suite: vec![Cipher::Aes256Gcm, Cipher::Chacha20Poly1305],
            port: vec![Port::Nothing, Port::Checksums],
            window_mib: 4,
            ..args()
        };
        let settings = args.settings();
        assert_eq!(settings.len(), 6, "checksums in software with the first cipher only");
        let mut bench = Bench::new(None).unwrap();
        args.run(&mut bench).unwrap();
        // Four figures of A, B and both, for each setting.
        assert_eq!(bench.report.measurements.len(), 6 * 3 * 4);
        for setting in settings {
            for w in transfer(&args, &setting, 2, &bench.interrupt).unwrap() {
                let payload = if setting.upload { w.a.rx_frames } else { w.b.rx_frames };
                let most = w.payload / 30_000;
                assert!(payload < most, "{}: {payload} frames, not {most}", setting.label());
            }
        }
    }

    #[test]
    fn rings_hold_some_packets() {
        assert_eq!(HopArgs::ring(64, 1500), 64);
        assert_eq!(HopArgs::ring(64, 9000), 64);
        assert_eq!(HopArgs::ring(64, MAX_IP_PACKET), 512);
        assert!(mtu("65536").is_err() && mtu("1279").is_err() && mtu("x").is_err());
        assert_eq!(mtu("65535"), Ok(65_535));
    }
}
