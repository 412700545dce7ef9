//! Two gateways in one process on a virtual clock: the real workers, policy, TLS and tunnels;
//! hosts with a TCP of their own; wires that lose, reorder, duplicate and damage.

mod crypto;
mod direct;
mod dry_run;
mod faults;
mod flood;
mod forwarding;
mod load_balancing;
mod memory;
mod records;
mod refusal;
mod sites;
mod syn_flood;
mod turns;
mod workers;
