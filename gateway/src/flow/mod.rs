//! Finding connections: 4-tuple to slot, the slots themselves, their timers, the source ports of
//! new ones, and the limit on half-open ones. Nothing here knows TCP.

mod half_open;
mod hasher;
mod ports;
mod slab;
mod table;
mod time_wait;
mod timer_wheel;

pub use half_open::HalfOpen;
pub use hasher::FlowHasher;
pub use ports::EphemeralPorts;
pub use slab::{FlowId, Slab};
pub use table::{FlowTable, FlowTableError};
pub use time_wait::TimeWait;
pub use timer_wheel::TimerWheel;
