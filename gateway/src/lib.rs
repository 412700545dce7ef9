//! ClusterLink gateway: one peer of a fabric on poll-mode cores.
//!
//! Layers, each depending only on those to its right (a test holds it to that):
//! cli > sim > host > control > lifecycle > worker > relay > tunnel > tls, tcp > flow > net >
//! config > fabric > port > telemetry > limits, time.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod control;
pub mod fabric;
pub mod flow;
#[cfg(feature = "simulation")]
pub mod host;
pub mod lifecycle;
pub mod limits;
pub mod net;
pub mod port;
pub mod relay;
#[cfg(feature = "simulation")]
pub mod sim;
pub mod tcp;
pub mod telemetry;
pub mod time;
pub mod tls;
pub mod tunnel;
pub mod worker;
