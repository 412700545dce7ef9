//! Starting a DPDK port with its queues.

use dpdk_bindings::rss::KEY_LEN;
use dpdk_bindings::{
    DpdkError, Eal, MbufPool, PoolConfig, Port, PortConfig, PortInfo, RssConfig, RssKey, RssTypes,
    RxOffloads, Started, TxOffloads,
};

use super::dpdk::DpdkPort;
use super::{MacAddr, PortCaps, Rss};
use crate::limits::{ETHERNET_HEADER, TSO_PACKET};

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
    /// Mbufs for packets that the device cuts, if it does; 0 = it is not asked to.
    pub large: u32,
    /// Largest IP packet, bytes.
    pub mtu: usize,
    /// Queue pairs.
    pub queues: u16,
    /// How the device is to spread packets, where it can be told.
    pub rss: Option<&'a Rss>,
    /// Prepare [`DpdkPort::watch`].
    pub interrupts: bool,
}

/// A port that runs. The queue pairs end before `port`, and that before `pools`.
#[derive(Debug)]
pub struct StartedPort {
    pub queues: Vec<DpdkPort>,
    pub port: Port<Started>,
    pub pools: Vec<MbufPool>,
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

/// Starts a port, with checksum and segmentation offload where it has them.
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
    // net_tap takes no full segments: it adds the link header to what has to fit into the MTU, and then
    // stands still (rte_eth_tap.c of DPDK 22.11).
    let tso = tx_checksum
        && request.large > 0
        && info.tx_offloads.contains(TxOffloads::TCP_TSO)
        && info.driver != "net_tap";
    let mut large = None;
    if tso {
        tx_offloads |= TxOffloads::TCP_TSO;
        large =
            Some(MbufPool::new(eal, &format!("{}-tso", request.pool), large_pool(request.large))?);
    }
    let rss = request.rss.filter(|_| !(info.rss_types & RssTypes::TCP).is_empty());
    let key = rss.and_then(|rss| RssKey::new(&rss.key).ok());
    let wanted = PortConfig {
        rx_queues: request.queues,
        tx_queues: request.queues,
        // af_packet takes its frame size from its device arguments and refuses this one.
        mtu: (request.mtu != 1500 && request.mtu <= info.max_mtu.into())
            .then_some(request.mtu as u16),
        rx_offloads,
        tx_offloads,
        // Without a table as well: whatever queue it chooses, one core is not to receive all.
        rss: rss.map(|_| RssConfig {
            types: RssTypes::TCP,
            key: key.filter(|_| takes_key(&info)),
            reta: None,
        }),
        // Neighbour solicitations come by multicast.
        promiscuous: true,
        rx_interrupts: request.interrupts,
        ..PortConfig::default()
    };
    let configured = unconfigured.configure(wanted, std::slice::from_ref(&pool))?;
    let (port, pairs) = configured.start()?;
    let caps = PortCaps {
        mac: MacAddr(port.mac()?),
        mtu: request.mtu,
        tx_checksum,
        rx_checksum,
        tso,
        rss: rss.filter(|rss| key.is_some_and(|key| spreads(&port, rss, &key))).cloned(),
    };
    let queue = |pair| DpdkPort::new(pair, pool.clone(), large.clone(), caps.clone());
    let queues = pairs.into_iter().map(queue).collect();
    let pools = [Some(pool), large].into_iter().flatten().collect();
    Ok(StartedPort { queues, port, pools, driver: info.driver, caps })
}

fn large_pool(count: u32) -> PoolConfig {
    let data_room = (TSO_PACKET + ETHERNET_HEADER).next_multiple_of(64) as u16;
    // Few that are large: what other lcores keep for themselves would be missed.
    PoolConfig {
        count,
        data_room,
        cache: (count / 16).min(PoolConfig::default().cache),
        ..PoolConfig::default()
    }
}

/// Entries of a port's redirection table; 0 if it has none.
///
/// # Errors
/// There is no such port.
pub fn table_entries(eal: &Eal, device: &str) -> Result<u16, DpdkError> {
    Ok(eal.port_by_name(device)?.info()?.reta_size)
}

/// Whether the device takes a key when it is configured.
fn takes_key(info: &PortInfo) -> bool {
    usize::from(info.rss_key_len) >= KEY_LEN
}

/// Tells a device the rest of how to spread packets, and asks it what it does now. Behind the start:
/// some have another table then, and one that refuses is still a port.
fn spreads(port: &Port<Started>, rss: &Rss, key: &RssKey) -> bool {
    let tell = || {
        let info = port.info().ok()?;
        if !takes_key(&info) {
            // Of those that state no length some take a key all the same.
            port.set_rss(key, RssTypes::TCP).ok()?;
        }
        let table = rss.table(info.reta_size)?;
        port.set_reta(&table).ok()?;
        let (now, types) = port.rss().ok()?;
        let same_key = now.as_bytes()[..KEY_LEN] == key.as_bytes()[..KEY_LEN];
        let ports = RssTypes::IPV4_TCP | RssTypes::IPV6_TCP;
        Some(same_key && types.contains(ports) && port.reta().ok()? == table)
    };
    tell().unwrap_or(false)
}
