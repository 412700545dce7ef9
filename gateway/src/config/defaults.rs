//! What a key of gateway.yaml is when it is left out, and the range it may have. The commented
//! `configs/gateway.yaml` repeats the defaults; a test keeps the two equal.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::limits;

use super::{Congestion, Crypto, Hugepages, IdlePolicy, LogFormat, LogLevel};

pub const CRYPTO: Crypto = Crypto::Ring;

pub const OBJECTS: &str = "objects/";

pub const WORKERS: usize = 1;
pub const WORKERS_RANGE: RangeInclusive<usize> = 1..=limits::MAX_WORKERS;
/// A gateway normally owns its cores; only shared cores want `sleep`.
pub const IDLE: IdlePolicy = IdlePolicy::Poll;
pub const HANDSHAKE_THREADS: usize = 1;
pub const HANDSHAKE_THREADS_RANGE: RangeInclusive<usize> = 1..=64;

pub const HUGEPAGES: Hugepages = Hugepages::Auto;
pub const MEMORY_MIB: u32 = 256;
/// Below 64 MiB not even one port's receive ring and pool fit.
pub const MEMORY_MIB_RANGE: RangeInclusive<u32> = 64..=1_048_576;
/// `file_prefix` is this followed by the peer's name.
pub const FILE_PREFIX: &str = "clgw-";

pub const MTU: usize = 1_500;
pub const MTU_RANGE: RangeInclusive<usize> = limits::MIN_MTU..=limits::MAX_MTU;

/// ClusterLink's data plane port.
pub const TUNNEL_PORT: u16 = 4443;
pub const TUNNEL_WARM: usize = 2;
pub const TUNNEL_MAX_IDLE: usize = 16;
pub const TUNNEL_IDLE_RANGE: RangeInclusive<usize> = 0..=limits::TUNNEL_MAX_IDLE;

pub const SERVICE_KIB: usize = 64;
/// One leg's receive buffer must at least take a few segments.
pub const SERVICE_KIB_RANGE: RangeInclusive<usize> = 8..=16_384;
pub const PEER_KIB: usize = 256;
/// A TLS record can only be opened when it is there as a whole.
pub const PEER_KIB_RANGE: RangeInclusive<usize> = 32..=16_384;
pub const WORKER_MIB: usize = 512;
/// Below 16 MiB a few hundred busy connections would hold each other up.
pub const WORKER_MIB_RANGE: RangeInclusive<usize> = 16..=1_048_576;
const _: () = assert!(*WORKER_MIB_RANGE.start() << 20 >= crate::limits::TCP_LEAST_MEMORY);

pub const SERVICE_CONGESTION: Congestion = Congestion::Cubic;
pub const PEER_CONGESTION: Congestion = Congestion::Bbr;

pub const DRAIN_DEADLINE: Duration = limits::DRAIN_DEADLINE;
/// Longer than an hour is a gateway that never restarts.
pub const DRAIN_DEADLINE_MAX: Duration = Duration::from_secs(3_600);

pub const LOG_LEVEL: LogLevel = LogLevel::Info;
pub const LOG_FORMAT: LogFormat = LogFormat::Text;

/// VIPs of one gateway; each is one local address.
pub const MAX_VIPS: usize = limits::MAX_LOCAL_ADDRESSES / 2;
/// Ports of one gateway.
pub const MAX_PORTS: usize = 16;

const _: () = {
    assert!(*PEER_KIB_RANGE.start() * 1024 > limits::TLS_MAX_RECORD);
    assert!(TUNNEL_WARM <= TUNNEL_MAX_IDLE && TUNNEL_MAX_IDLE <= limits::TUNNEL_MAX_IDLE);
    assert!(MTU >= limits::MIN_MTU && MTU <= limits::MAX_MTU);
    assert!(MAX_VIPS < limits::MAX_LOCAL_ADDRESSES);
};
