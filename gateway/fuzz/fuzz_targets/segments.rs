#![no_main]

#[path = "../bodies.rs"]
mod bodies;

use std::sync::atomic::{AtomicU64, Ordering};

/// An input is a stream of them, so the fuzzer's own count says little.
static SEGMENTS: AtomicU64 = AtomicU64::new(0);
const REPORT: u64 = 10_000_000;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let fed = bodies::segments(data);
    let before = SEGMENTS.fetch_add(fed, Ordering::Relaxed);
    if before / REPORT != (before + fed) / REPORT {
        eprintln!("{} million segments", (before + fed) / 1_000_000);
    }
});
