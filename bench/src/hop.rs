//! `hop`: what one gateway core can carry, without NIC, kernel and wire.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use clgw::sim::{App, SocketIo};

use crate::chain::{Chain, IMPORTS, Meter, Setup};
use crate::report::Report;
use crate::scenario::{Bench, Scenario};

const MIB: u64 = 1 << 20;
/// Bytes whose content is checked at their arrival, before anything is measured.
const CHECKED: u64 = 4 * MIB;
/// Of the chain's own clock; a window of 32 MiB takes some milliseconds of it.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Args)]
pub struct HopArgs {
    /// MTUs, bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [1500, 9000])]
    pub mtu: Vec<usize>,
    /// Windows per setting; each gives one sample.
    #[arg(long, default_value_t = 15)]
    pub repetitions: usize,
    /// Payload of one window, MiB.
    #[arg(long, default_value_t = 32)]
    pub window_mib: u64,
    /// Buffers of service legs, KiB.
    #[arg(long, default_value_t = 64)]
    pub service_kib: usize,
    /// Buffers of tunnels, KiB. The gateway's default of 256 is for long round trips; where there
    /// are none, it costs cache.
    #[arg(long, default_value_t = 64)]
    pub peer_kib: usize,
    /// Frames per pool; 0 chooses the least that suffices.
    #[arg(long, default_value_t = 0)]
    pub frames: usize,
    #[arg(long, value_enum, default_value_t = Checksum::Both)]
    pub checksum: Checksum,
    #[arg(long, value_enum, default_value_t = Direction::Both)]
    pub direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Checksum {
    /// The port computes and verifies them, as NICs do.
    Offload,
    /// The gateway does.
    Software,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// The client sends: gateway A seals, gateway B opens.
    Upload,
    /// The server sends: gateway B seals, gateway A opens.
    Download,
    Both,
}

impl HopArgs {
    /// MTU, checksums by the port, upload.
    fn settings(&self) -> Vec<(usize, bool, bool)> {
        let mut settings = Vec::new();
        for &mtu in &self.mtu {
            for offload in [true, false] {
                for upload in [true, false] {
                    let left_out = [
                        if offload { Checksum::Software } else { Checksum::Offload }
                            == self.checksum,
                        if upload { Direction::Download } else { Direction::Upload }
                            == self.direction,
                    ];
                    if !left_out.contains(&true) {
                        settings.push((mtu, offload, upload));
                    }
                }
            }
        }
        settings
    }

    /// Of one setting: making the chain, and windows at 8 Gb/s.
    fn expected(&self) -> Duration {
        Duration::from_millis(500 + self.repetitions as u64 * self.window_mib * 4)
    }
}

impl Scenario for HopArgs {
    fn name(&self) -> &'static str {
        "hop"
    }

    fn estimate(&self) -> Duration {
        self.expected() * self.settings().len() as u32
    }

    fn shorten(&mut self) {
        self.repetitions = self.repetitions.min(5);
        self.window_mib = self.window_mib.min(8);
    }

    /// # Errors
    /// Bytes did not arrive, or not as they were sent, or frames were lost.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        bench.pin(self.name())?;
        let hz = bench.report.environment.tsc_hz;
        for (mtu, offload, upload) in self.settings() {
            let label = format!(
                "hop: MTU {mtu}, checksums {}, {}",
                if offload { "offloaded" } else { "in software" },
                if upload { "upload" } else { "download" }
            );
            bench.step(&label, self.expected())?;
            let windows = transfer(self, mtu, offload, upload)?;
            add(&mut bench.report, hz, mtu, offload, upload, &windows);
        }
        bench.report.note(format!(
            "hop: payload of one connection, AES-128-GCM, buffers {} / {} KiB (service / tunnel), \
             {} windows of {} MiB each. Only the gateway's own turns are timed; both endpoints and \
             the other gateway run on the same core between them and use the same L2.",
            self.service_kib, self.peer_kib, self.repetitions, self.window_mib
        ));
        bench.report.note(
            "hop: Gb/s of one core = payload / TSC time of turns that found work; a frame is one \
             received by that gateway, acknowledgements included; its cost includes what is sent \
             because of it",
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
    mtu: usize,
    offload: bool,
    upload: bool,
) -> anyhow::Result<Vec<Window>> {
    let window = 1024 * args.peer_kib.max(args.service_kib);
    let setup = Setup {
        mtu,
        checksum_offload: offload,
        service_kib: args.service_kib,
        peer_kib: args.peer_kib,
        host_buffer: 65_536,
        frames: if args.frames > 0 { args.frames } else { 64 + 2 * window.div_ceil(mtu - 52) },
    };
    let mut chain = Chain::new(&setup)?;
    let received = Rc::new(Cell::new(Received::default()));
    let (to, port) = IMPORTS[0];
    let end = Rc::clone(&received);
    chain.server.listen(
        port,
        Box::new(move |_| {
            if upload { Box::new(Sink(Rc::clone(&end))) } else { Box::new(Source::default()) }
        }),
    );
    // The pool of warm tunnels comes first.
    chain.run_until("warm tunnels", PATIENCE, |c| c.counters().0.tunnels_opened > 0)?;
    let end = Rc::clone(&received);
    let app: Box<dyn App> = if upload { Box::new(Source::default()) } else { Box::new(Sink(end)) };
    chain.connect(to, app)?;
    let mut target = 2 * CHECKED;
    chain.run_until("first bytes", PATIENCE, |_| received.get().bytes >= target)?;
    anyhow::ensure!(!received.get().wrong, "bytes arrived that were not sent");
    let mut windows = Vec::new();
    for _ in 0..args.repetitions {
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

fn add(report: &mut Report, hz: f64, mtu: usize, offload: bool, upload: bool, windows: &[Window]) {
    type Of = fn(&Window) -> Meter;
    let gateways: [(&str, bool, Of); 2] = [("A", upload, |w| w.a), ("B", !upload, |w| w.b)];
    for (name, seals, of) in gateways {
        let parameters = [
            ("MTU", mtu.to_string()),
            ("checksum", if offload { "offload" } else { "software" }.to_owned()),
            ("direction", if upload { "upload" } else { "download" }.to_owned()),
            ("gateway", format!("{name} {}", if seals { "seals" } else { "opens" })),
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

#[derive(Clone, Copy, Debug, Default)]
struct Received {
    bytes: u64,
    wrong: bool,
}

/// Byte `at` of what is sent at first.
fn pattern(at: u64) -> u8 {
    (at / 7).wrapping_mul(0x9e37_79b9).to_le_bytes()[1]
}

/// Sends without end. Behind the checked bytes it sends what the ring contains: to write it costs
/// cache, and no cipher minds what it seals.
#[derive(Default)]
struct Source {
    sent: u64,
}

impl App for Source {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        loop {
            let at = self.sent;
            let n = io.send(|room| {
                if at < CHECKED {
                    for (i, byte) in room.iter_mut().enumerate() {
                        *byte = pattern(at + i as u64);
                    }
                }
                room.len()
            });
            if n == 0 {
                return;
            }
            self.sent += n as u64;
        }
    }
}

struct Sink(Rc<Cell<Received>>);

impl App for Sink {
    fn poll(&mut self, io: &mut SocketIo<'_>) {
        loop {
            let mut received = self.0.get();
            let n = io.recv(|bytes| {
                let left = CHECKED.saturating_sub(received.bytes);
                let checked = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                received.wrong |= bytes[..checked]
                    .iter()
                    .enumerate()
                    .any(|(i, byte)| *byte != pattern(received.bytes + i as u64));
                bytes.len()
            });
            if n == 0 {
                return;
            }
            received.bytes += n as u64;
            self.0.set(received);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_gateways_are_measured_in_both_directions() {
        let args = HopArgs {
            mtu: vec![1500],
            repetitions: 2,
            window_mib: 1,
            service_kib: 64,
            peer_kib: 64,
            frames: 0,
            checksum: Checksum::Software,
            direction: Direction::Both,
        };
        for upload in [true, false] {
            let windows = transfer(&args, 1500, false, upload).unwrap();
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
}
