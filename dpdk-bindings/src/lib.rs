//! Safe layer over DPDK: EAL, mbuf pools, ports and queues, with DPDK's ownership rules in types.
//!
//! | question | module |
//! |---|---|
//! | how is EAL started, what are its options | [`eal`], [`eal_config`] |
//! | where do packets live, who frees them | [`pool`], [`mbuf`] |
//! | how is a port configured, started, stopped | [`port`] |
//! | how are packets received and sent | [`queue`] |
//! | which queue will a flow land on | [`rss`] |
//! | what can the port do by itself | [`offload`] |
//! | what did the port count | [`stats`] |
//! | what to do when there is nothing to do | [`idle`] |
//! | how to bring something into the cache ahead | [`cache`] |
//! | how to test without a NIC | [`testing`] |
//!
//! The rules that the types carry:
//!
//! - An [`Mbuf`] is owned by exactly one value; dropping it frees it, sending it gives it away
//!   before DPDK sees the pointer.
//! - A queue handle is `Send`, not `Sync`, and takes `&mut self`: one thread at a time.
//! - Queues keep their port, ports keep their pools, and everything keeps EAL. A pool that is
//!   dropped while mbufs of it are still out is left in place for good, and EAL with it.
//! - No call ends the process: failures are [`DpdkError`], with what to do about them.

pub mod cache;
pub mod eal;
pub mod eal_config;
pub mod error;
pub mod idle;
pub mod mbuf;
pub mod offload;
pub mod pool;
pub mod port;
pub mod queue;
pub mod rss;
pub mod stats;
pub mod testing;

pub use cache::prefetch;
pub use eal::{Eal, ThreadGuard, pin_current_thread};
pub use eal_config::{Device, EalConfig, HugePages, IovaMode, LcoreMap, LogLevel};
pub use error::DpdkError;
pub use idle::{RxInterrupts, Wake};
pub use mbuf::{Checksum, IpVersion, Mbuf, MbufError, RxFlags, TxOffload};
pub use offload::{RxOffloads, TxOffloads};
pub use pool::{MbufPool, PoolConfig};
pub use port::{Configured, Port, PortConfig, PortInfo, Started, Unconfigured};
pub use queue::{BURST_MAX, RxQueue, TxQueue};
pub use rss::{RssConfig, RssKey, RssTypes};
pub use stats::{Link, PortStats, XStat};
