//! Measurements of the gateway. A library, so that the program and the benchmarks under `benches/`
//! share the simulated chain.
#![forbid(unsafe_code)]

pub mod apps;
pub mod chain;
pub mod e2e;
pub mod e2e_client;
pub mod e2e_config;
pub mod environment;
pub mod gate;
pub mod hop;
pub mod netns;
pub mod report;
pub mod scale;
pub mod tsc;
