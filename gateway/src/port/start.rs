//! Starting a DPDK port with its queues.

use dpdk_bindings::{
    DpdkError, Eal, MbufPool, PoolConfig, Port, PortConfig, RssConfig, RssKey, RssTypes,
    RxOffloads, Started, TxOffloads,
};

use super::dpdk::DpdkPort;
use super::{MacAddr, PortCaps, Rss};

/// What to start.
#[derive(Clone, Copy, Debug)]
pub struct PortRequest<'a> {
    /// The name DPDK gives the port.
    pub device: &'a str,
    /// Name of the port's mbuf pool, used once per process.
    pub pool: &'a str,
    pub mbufs: u32,
    /// Bytes of one mbuf.
    pub data_room: u16,
    /// Largest IP packet, bytes.
    pub mtu: usize,
    /// Queue pairs.
    pub queues: u16,
    /// Set where the device can be told how to spread packets.
    pub rss: Option<&'a Rss>,
}

/// A port that runs. The queue pairs end before `port`, and that before `pool`.
#[derive(Debug)]
pub struct StartedPort {
    pub queues: Vec<DpdkPort>,
    pub port: Port<Started>,
    pub pool: MbufPool,
    pub driver: String,
    /// Of every queue pair.
    pub caps: PortCaps,
}

#[derive(Debug, thiserror::Error)]
pub enum PortStartError {
    #[error("the device has {0} queue pair(s)")]
    Queues(u16),
    #[error("{0}")]
    Dpdk(Box<DpdkError>),
}

impl From<DpdkError> for PortStartError {
    fn from(error: DpdkError) -> Self {
        Self::Dpdk(Box::new(error))
    }
}

/// Starts a port, with checksum offload where it has it.
///
/// # Errors
/// There is no such port, it has too few queues, or DPDK refuses a step.
pub fn start(eal: &Eal, request: &PortRequest<'_>) -> Result<StartedPort, PortStartError> {
    let pool =
        PoolConfig { count: request.mbufs, data_room: request.data_room, ..PoolConfig::default() };
    let pool = MbufPool::new(eal, request.pool, pool)?;
    let unconfigured = eal.port_by_name(request.device)?;
    let info = unconfigured.info()?;
    let queues = info.max_rx_queues.min(info.max_tx_queues);
    if queues < request.queues {
        return Err(PortStartError::Queues(queues));
    }
    let rx_checksum = info.rx_offloads.contains(RxOffloads::IPV4_CKSUM | RxOffloads::TCP_CKSUM);
    let tx_checksum = info.tx_offloads.contains(TxOffloads::IPV4_CKSUM | TxOffloads::TCP_CKSUM);
    let (mut rx_offloads, mut tx_offloads) = (RxOffloads::NONE, TxOffloads::NONE);
    if rx_checksum {
        rx_offloads = RxOffloads::IPV4_CKSUM | RxOffloads::TCP_CKSUM;
    }
    if tx_checksum {
        tx_offloads = TxOffloads::IPV4_CKSUM | TxOffloads::TCP_CKSUM;
    }
    let rss = request.rss.filter(|_| info.reta_size > 0 && info.rss_key_len > 0);
    let wanted = PortConfig {
        rx_queues: request.queues,
        tx_queues: request.queues,
        // af_packet takes its frame size from its device arguments and refuses this one.
        mtu: (request.mtu != 1500 && request.mtu <= info.max_mtu.into())
            .then_some(request.mtu as u16),
        rx_offloads,
        tx_offloads,
        rss: rss.map(|rss| RssConfig {
            types: RssTypes::TCP,
            key: RssKey::new(&rss.key).ok(),
            reta: Some(rss.reta.iter().copied().cycle().take(info.reta_size.into()).collect()),
        }),
        // Neighbour solicitations come by multicast.
        promiscuous: true,
        ..PortConfig::default()
    };
    let configured = unconfigured.configure(wanted, std::slice::from_ref(&pool))?;
    let (port, pairs) = configured.start()?;
    let caps = PortCaps {
        mac: MacAddr(port.mac()?),
        mtu: request.mtu,
        tx_checksum,
        rx_checksum,
        rss: rss.cloned(),
    };
    let queue = |(rx, tx)| DpdkPort::new(rx, tx, pool.clone(), caps.clone());
    let queues = pairs.into_iter().map(queue).collect();
    Ok(StartedPort { queues, port, pool, driver: info.driver, caps })
}
