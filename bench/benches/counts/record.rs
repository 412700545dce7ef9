//! TLS records, AES-128-GCM.

use std::hint::black_box;

use clgw::config::Crypto;
use clgw::limits::{TLS_RECORD_HEADER, TLS_RECORD_TRAILER};
use clgw::time::Instant;
use clgw::tls::{KeyCache, Opened, RecordLayer, Suite};
use clgw_bench::records;
use gungraun::prelude::*;

pub const RECORDS: usize = 100;

fn established() -> (RecordLayer, RecordLayer) {
    records::established(Crypto::Ring, Suite::Aes128Gcm).expect("a connection")
}

struct Setup {
    layer: RecordLayer,
    /// With the layer's key expanded.
    keys: KeyCache,
    payload: usize,
    /// Each with room for header and trailer.
    buffers: Vec<Vec<u8>>,
}

fn unsealed(payload: usize) -> Vec<Vec<u8>> {
    vec![vec![0x5a; TLS_RECORD_HEADER + payload + TLS_RECORD_TRAILER]; RECORDS]
}

fn seal_setup(payload: usize) -> Setup {
    let (mut layer, _) = established();
    let mut keys = KeyCache::new(2);
    layer.seal(&mut keys, &mut unsealed(payload)[0], payload).expect("a record");
    Setup { layer, keys, payload, buffers: unsealed(payload) }
}

fn open_setup(payload: usize) -> Setup {
    let (mut client, mut layer) = established();
    let mut keys = KeyCache::new(2);
    let mut first = unsealed(payload).swap_remove(0);
    // Tickets come first.
    let mut buffers = unsealed(payload);
    for buffer in [&mut first].into_iter().chain(&mut buffers) {
        client.seal(&mut keys, buffer, payload).expect("a record");
    }
    layer.open(&mut keys, &mut first, Instant::from_millis(1)).expect("a record");
    assert!(!layer.pending());
    Setup { layer, keys, payload, buffers }
}

#[library_benchmark(setup = seal_setup)]
#[bench::bytes_1400(args = (1_400))]
#[bench::bytes_16384(args = (16_384))]
fn seal(mut setup: Setup) -> Setup {
    let Setup { layer, keys, payload, buffers } = &mut setup;
    for buffer in buffers {
        let sealed = layer.seal(keys, black_box(buffer), *payload);
        assert!(black_box(sealed).is_ok());
    }
    setup
}

#[library_benchmark(setup = open_setup)]
#[bench::bytes_1400(args = (1_400))]
#[bench::bytes_16384(args = (16_384))]
fn open(mut setup: Setup) -> Setup {
    let Setup { layer, keys, payload, buffers } = &mut setup;
    for buffer in buffers {
        let opened = layer.open(keys, black_box(buffer), Instant::from_millis(1));
        assert!(matches!(black_box(opened), Ok(Opened::Data(d)) if d.len() == *payload));
    }
    setup
}

library_benchmark_group!(name = record; benchmarks = seal, open);
