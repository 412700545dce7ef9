//! Measurements of the gateway. A library, so that the program and the benchmarks under `benches/`
//! share the simulated chain.
#![forbid(unsafe_code)]

pub mod apps;
pub mod chain;
pub mod churn;
pub mod cores;
pub mod e2e;
pub mod environment;
pub mod flows;
pub mod gate;
pub mod generate;
pub mod handshakes;
pub mod hop;
pub mod idle;
pub mod interrupt;
pub mod lab;
pub mod memif;
pub mod memory;
mod objects;
pub mod progress;
pub mod records;
pub mod relay;
pub mod report;
pub mod scale;
pub mod scenario;
pub mod tsc;
pub mod wan;
