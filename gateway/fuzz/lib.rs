//! The gateway's TCP engine without the gateway.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "what the rest of the gateway uses")]

pub mod config {
    #[path = "../../src/config/congestion.rs"]
    mod congestion;

    pub use congestion::{Congestion, Controllers};
}
#[path = "../src/limits.rs"]
pub mod limits;
#[path = "../src/tcp/mod.rs"]
pub mod tcp;
#[path = "../src/time.rs"]
pub mod time;
