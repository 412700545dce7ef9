//! Two gateways over DPDK's af_packet ports between real kernel clients and servers, in network
//! namespaces. Needs root, and the programs that `.ci/packages` installs.
//!
//! One scenario runs at a time, also over several test processes: the machine's CPUs are part of
//! what is tested. The lab and everything in it goes away when a test ends, however it ends.
#![forbid(unsafe_code)]

mod endpoint;
mod gateway;
mod lab;
mod pattern;
mod site;
#[path = "../../../configs/demo/tlswire.rs"]
#[allow(dead_code, reason = "the demo's program, here without its main")]
mod tlswire;
mod world;

mod environment;
mod half_close;
mod lifecycle;
mod linux;
mod load_balancing;
mod peers;
mod policies;
mod tap;
mod transfers;
mod wire;
mod workers;
