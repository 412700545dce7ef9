//! TLS records, AES-128-GCM.

use std::hint::black_box;

use clgw::limits::{TLS_RECORD_HEADER, TLS_RECORD_TRAILER};
use clgw::sim::Pki;
use clgw::time::Instant;
use clgw::tls::{Handshake, Opened, Progress, RecordLayer, Suite};
use gungraun::prelude::*;

pub const RECORDS: usize = 100;

/// Both ends of an established connection.
fn established() -> (RecordLayer, RecordLayer) {
    let pki = Pki::new("fabric").expect("a CA");
    let identity = |name| {
        let (cert, key) = pki.peer(name).expect("a certificate");
        pki.identity(&cert, &key).expect("a valid identity")
    };
    let mut client = Handshake::client(&identity("a"), "b").expect("a client");
    let mut server = Handshake::server(&identity("b")).expect("a server");
    let (mut ends, mut input) = ([None, None], Vec::new());
    while ends.iter().any(Option::is_none) {
        for (end, handshake) in [&mut client, &mut server].into_iter().enumerate() {
            let mut output = Vec::new();
            // Behind its end of the handshake, the server sends tickets; the client needs none.
            if ends[end].is_none()
                && let Progress::Done(done) =
                    handshake.step(&input, &mut output).expect("a handshake that succeeds")
            {
                ends[end] = Some(done.records);
            }
            input = output;
        }
    }
    let [Some(client), Some(server)] = ends else { unreachable!("the loop ends with both") };
    assert_eq!(client.suite(), Suite::Aes128Gcm);
    (client, server)
}

struct Setup {
    layer: RecordLayer,
    payload: usize,
    /// Each with room for header and trailer.
    buffers: Vec<Vec<u8>>,
}

fn unsealed(payload: usize) -> Vec<Vec<u8>> {
    vec![vec![0x5a; TLS_RECORD_HEADER + payload + TLS_RECORD_TRAILER]; RECORDS]
}

fn seal_setup(payload: usize) -> Setup {
    Setup { layer: established().0, payload, buffers: unsealed(payload) }
}

fn open_setup(payload: usize) -> Setup {
    let (mut client, mut server) = established();
    // Tickets come first.
    let mut buffers = unsealed(payload);
    for buffer in &mut buffers {
        client.seal(buffer, payload).expect("a record");
    }
    assert!(!server.pending());
    server.set_key_update_after(u64::MAX);
    Setup { layer: server, payload, buffers }
}

#[library_benchmark(setup = seal_setup)]
#[bench::bytes_1400(args = (1_400))]
#[bench::bytes_16384(args = (16_384))]
fn seal(mut setup: Setup) -> Setup {
    let Setup { layer, payload, buffers } = &mut setup;
    for buffer in buffers {
        let sealed = layer.seal(black_box(buffer), *payload);
        assert!(black_box(sealed).is_ok());
    }
    setup
}

#[library_benchmark(setup = open_setup)]
#[bench::bytes_1400(args = (1_400))]
#[bench::bytes_16384(args = (16_384))]
fn open(mut setup: Setup) -> Setup {
    let Setup { layer, payload, buffers } = &mut setup;
    for buffer in buffers {
        let opened = layer.open(black_box(buffer), Instant::from_millis(1));
        assert!(matches!(black_box(opened), Ok(Opened::Data(d)) if d.len() == *payload));
    }
    setup
}

library_benchmark_group!(name = record; benchmarks = seal, open);
