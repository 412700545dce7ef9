//! `hop`: what one gateway core can carry, without NIC, kernel and wire.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use clgw::sim::App;

use crate::apps::{CHECKED, MIB, Received, Sink, Source};
use crate::chain::{Chain, IMPORTS, Meter, Setup};
use crate::report::Report;

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
    /// Fewer and smaller windows; within seconds.
    pub fn shorten(&mut self) {
        self.repetitions = self.repetitions.min(5);
        self.window_mib = self.window_mib.min(8);
    }
}

/// # Errors
/// Bytes did not arrive, or not as they were sent, or frames were lost.
pub fn run(args: &HopArgs, hz: f64, report: &mut Report) -> anyhow::Result<()> {
    for &mtu in &args.mtu {
        for offload in [true, false] {
            if args.checksum == if offload { Checksum::Software } else { Checksum::Offload } {
                continue;
            }
            for upload in [true, false] {
                if args.direction == if upload { Direction::Download } else { Direction::Upload } {
                    continue;
                }
                eprintln!(
                    "hop: MTU {mtu}, checksums {}, {}",
                    if offload { "offloaded" } else { "in software" },
                    if upload { "upload" } else { "download" }
                );
                let windows = transfer(args, mtu, offload, upload)?;
                add(report, hz, mtu, offload, upload, &windows);
            }
        }
    }
    report.note(format!(
        "hop: payload of one connection, AES-128-GCM, buffers {} / {} KiB (service / tunnel), {} \
         windows of {} MiB each. Only the gateway's own turns are timed; both endpoints and the \
         other gateway run on the same core between them and use the same L2.",
        args.service_kib, args.peer_kib, args.repetitions, args.window_mib
    ));
    report.note(
        "hop: Gb/s of one core = payload / TSC time of turns that found work; a frame is one \
         received by that gateway, acknowledgements included; its cost includes what is sent \
         because of it",
    );
    Ok(())
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
            if upload { Box::new(Sink(Rc::clone(&end))) } else { Box::new(Source::endless()) }
        }),
    );
    // The pool of warm tunnels comes first.
    chain.run_until("warm tunnels", PATIENCE, |c| c.counters().0.tunnels_opened > 0)?;
    let end = Rc::clone(&received);
    let app: Box<dyn App> = if upload { Box::new(Source::endless()) } else { Box::new(Sink(end)) };
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
