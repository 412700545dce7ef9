//! Counters and the reasons behind them. A reason is an enum variant: the same value feeds the
//! counter, the log and the access log, so that they never disagree.

mod counters;
mod events;
mod reasons;

pub use counters::{Counters, Published, Shares};
pub use events::{Event, EventQueue, Judged};
pub use reasons::{CloseReason, DropReason};
