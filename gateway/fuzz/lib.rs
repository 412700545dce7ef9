//! The gateway's TCP engine without the gateway.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "what the rest of the gateway uses")]

#[path = "../src/config/congestion.rs"]
pub mod config;
#[path = "../src/limits.rs"]
pub mod limits;
#[path = "../src/net/key.rs"]
pub mod net;
#[path = "../src/tcp/mod.rs"]
pub mod tcp;
#[path = "../src/time.rs"]
pub mod time;
