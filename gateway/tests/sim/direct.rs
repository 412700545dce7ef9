//! What services send in bulk goes right from the frames into records.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use clgw::sim::{End, LinkConfig, World};
use clgw::telemetry::CloseReason;
use smoltcp::wire::{Ipv4Packet, TcpPacket};

use crate::sites::*;

/// Number of the wire between client and gateway A.
const LAN: usize = 0;
const PIECE: u64 = 1_000;
/// So much has been sent when a stream is past its beginning, where records go by segments.
const BEGINNING: u64 = 80 * PIECE;
const BURST: u64 = 40_000;

/// A connection whose client has sent [`BEGINNING`] bytes, little by little.
struct Upload {
    world: World,
    served: Rc<RefCell<Vec<Watch>>>,
    gate: Rc<Cell<u64>>,
}

impl Upload {
    fn begin() -> Self {
        let mut world = Sites::default().build();
        // Neither end closes: a stream goes right into the tunnel while both directions are open.
        let open = |script| Script { close_after_send: false, ..script };
        let served = serve(&mut world, open(Script::new(0, BEGINNING + BURST)));
        let gate = Rc::new(Cell::new(0));
        let (mut app, _) = Scripted::new(open(Script::new(BEGINNING + BURST, 0)));
        app.send_gate = Some(Rc::clone(&gate));
        let (from, to) = ("10.1.0.2".parse().unwrap(), WEB.parse().unwrap());
        let now = world.now;
        world.hosts[CLIENT].connect(now, Some(from), to, Box::new(app)).unwrap();
        let mut upload = Self { world, served, gate };
        for until in (PIECE..=BEGINNING).step_by(PIECE as usize) {
            upload.send(until);
            upload.receive(until);
        }
        upload
    }

    fn send(&mut self, until: u64) {
        self.gate.set(until);
        self.world.hosts[CLIENT].nudge_all();
    }

    fn receive(&mut self, until: u64) {
        let served = &self.served;
        let received = || served.borrow().first().map_or(0, |watch| watch.borrow().received);
        run(&mut self.world, 5, |_| received() == until);
        self.world.run_for(Duration::from_millis(1));
    }

    /// Bytes that gateway A has needed for buffers so far.
    fn buffers(&mut self) -> u64 {
        // They are published at times.
        self.world.run_for(Duration::from_millis(100));
        let counters = self.world.gateways[A].counters();
        counters.buffer_bytes + counters.buffer_bytes_kept
    }
}

#[test]
fn a_burst_needs_no_memory_but_the_tunnels() {
    let mut upload = Upload::begin();
    let before = upload.buffers();
    upload.send(BEGINNING + BURST);
    upload.receive(BEGINNING + BURST);
    let needed = upload.buffers() - before;
    // The tunnel's ring has grown. One for the client's bytes would have taken as much and more.
    assert_eq!(needed, 64 * 1024, "{}", describe(&upload.world));
    assert_eq!(upload.world.gateways[A].counters().bytes_to_peer, BEGINNING + BURST);
    assert!(!upload.served.borrow()[0].borrow().wrong);
}

/// A segment right behind that in `frame`, which resets the connection.
fn reset_behind(frame: &[u8]) -> Vec<u8> {
    let mut reset = frame.to_vec();
    let mut ip = Ipv4Packet::new_unchecked(&mut reset[14..]);
    let (src, dst) = (ip.src_addr().into(), ip.dst_addr().into());
    let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
    let end = tcp.seq_number() + tcp.payload_mut().len();
    let headers = usize::from(tcp.header_len());
    let mut tcp = TcpPacket::new_unchecked(&mut tcp.into_inner()[..headers]);
    tcp.set_seq_number(end);
    tcp.set_psh(false);
    tcp.set_rst(true);
    tcp.fill_checksum(&src, &dst);
    let len = usize::from(ip.header_len()) + headers;
    ip.set_total_len(len as u16);
    ip.fill_checksum();
    reset.truncate(14 + len);
    reset
}

/// They come in one turn: what was acknowledged goes out, then the stream is broken off.
#[test]
fn a_record_is_open_when_its_stream_is_reset() {
    let mut upload = Upload::begin();
    let frames: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let seen = Rc::clone(&frames);
    let from_client = move |_, end, frame: &[u8]| {
        if end == End::Host(CLIENT) && frame.len() > 1_000 {
            seen.borrow_mut().push(frame.to_vec());
        }
    };
    upload.world.set_tap(Box::new(from_client));
    upload.world.cut(LAN, true);
    upload.send(BEGINNING + BURST);
    upload.world.run_for(Duration::from_micros(50));
    let mut frames = frames.take();
    let payload: usize = frames.iter().map(|frame| payload_len(frame)).sum();
    assert!(payload > 10_000, "{payload} bytes");
    frames.push(reset_behind(frames.last().unwrap()));
    let gateway = &mut upload.world.gateways[A];
    for frame in frames {
        let frame = gateway.pool().copy(&frame).unwrap();
        gateway.deliver(0, frame);
    }
    upload.world.run_for(Duration::from_millis(1));
    let counters = upload.world.gateways[A].counters();
    assert_eq!(counters.closes(CloseReason::ClientReset), 1, "{}", describe(&upload.world));
    assert_eq!(counters.bytes_to_peer, BEGINNING + payload as u64);

    upload.world.cut(LAN, false);
    upload.world.hosts[SERVER].stop_listening(8080);
    let script = Script::new(1_000, 1_000);
    let _served = serve(&mut upload.world, script.clone());
    let watch = connect(&mut upload.world, WEB, script.clone());
    run(&mut upload.world, 5, |_| watch.borrow().complete(&script));
    assert_eq!(upload.world.gateways[A].counters().closes(CloseReason::TunnelLost), 0);
}

fn payload_len(frame: &[u8]) -> usize {
    let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
    TcpPacket::new_checked(ip.payload()).unwrap().payload().len()
}

/// Records are open when acknowledgements come, when losses are repaired, and at the end of small
/// rings.
#[test]
fn uploads_over_bad_wires() {
    const SIZE: u64 = 1_000_000;
    let bad = LinkConfig {
        delay: Duration::from_micros(200),
        jitter: Duration::from_micros(20),
        loss: 0.003,
        duplicate: 0.003,
        corrupt: 0.001,
    };
    for seed in 0..6 {
        let more = ["", "buffers: { service_kib: 64, peer_kib: 64, worker_mib: 16 }"];
        let more = more[seed as usize % 2];
        let mut world = Sites { seed, more, wan: bad, lan: bad, ..Sites::default() }.build();
        let client = Script::new(SIZE, 0);
        let server = Script { send_last: true, ..Script::new(0, SIZE) };
        let served = serve(&mut world, server.clone());
        let watches: Vec<_> = (0..3).map(|_| connect(&mut world, WEB, client.clone())).collect();
        run(&mut world, 600, |_| watches.iter().all(|watch| watch.borrow().complete(&client)));
        assert!(served.borrow().iter().all(|watch| watch.borrow().complete(&server)));
        assert_eq!(world.gateways[A].counters().bytes_to_peer, 3 * SIZE, "seed {seed}");
    }
}
