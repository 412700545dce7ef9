//! Bringing up EAL, ports and queues.

use dpdk_bindings::{
    Device as EalDevice, DpdkError, Eal, EalConfig, HugePages, LcoreMap, LogLevel, MbufPool,
    PoolConfig, Port, PortConfig as DpdkPortConfig, RssConfig, RssKey, RssTypes, RxOffloads,
    Started, TxOffloads,
};

use crate::config::{self, GatewayConfig, Hugepages, PortConfig};
use crate::limits::ETHERNET_HEADER;
use crate::net::{MacAddr, PortStack, PortStackConfig, Route, StackError, Steering};
use crate::port::PortCaps;
use crate::port::dpdk::DpdkPort;
use crate::worker::WorkerPort;

/// Why the packet side of the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("{0}")]
    Eal(Box<DpdkError>),
    #[error("port {port} ({device}): {error}")]
    Port { port: String, device: String, error: Box<DpdkError> },
    #[error(
        "port {port} ({device}) has {queues} queue(s) and workers.cpus names {workers} CPUs; \
         name at most {queues}, or give the device more queues"
    )]
    Queues { port: String, device: String, queues: u16, workers: usize },
    #[error("port {port}: {error}")]
    Stack { port: String, error: StackError },
    #[error(
        "{mib} MiB are too little for the packet buffers of {ports} port(s): raise \
         eal.memory_mib to {wanted} at least"
    )]
    Memory { mib: u32, ports: usize, wanted: u32 },
}

/// Ports that run, and their queue pairs by worker. Dropped last: it keeps EAL.
#[derive(Debug)]
pub(super) struct Launched {
    pub ports: Vec<Port<Started>>,
    pub pools: Vec<MbufPool>,
    pub eal: Eal,
    pub huge: bool,
}

pub(super) type WorkerPorts = Vec<Vec<WorkerPort<DpdkPort>>>;

pub(super) fn launch(
    config: &GatewayConfig,
) -> Result<(Launched, WorkerPorts, Steering), LaunchError> {
    let (eal, huge) = start_eal(config)?;
    let workers = config.workers.count();
    let steering = Steering::software(workers as u16);
    let mut launched = Launched { ports: Vec::new(), pools: Vec::new(), eal, huge };
    let mut by_worker: WorkerPorts = (0..workers).map(|_| Vec::new()).collect();
    let room = data_room(config);
    let mbufs = mbufs_per_port(config, room, huge)?;
    for (n, port) in config.ports.iter().enumerate() {
        let failed = |error| LaunchError::Port {
            port: port.name.clone(),
            device: port.device.to_string(),
            error: Box::new(error),
        };
        let pool = MbufPool::new(
            &launched.eal,
            &format!("clgw-{n}"),
            PoolConfig { count: mbufs, data_room: room, ..PoolConfig::default() },
        )
        .map_err(failed)?;
        let unconfigured = launched.eal.port_by_name(port.device.name()).map_err(failed)?;
        let info = unconfigured.info().map_err(failed)?;
        let queues = info.max_rx_queues.min(info.max_tx_queues);
        if usize::from(queues) < workers {
            return Err(LaunchError::Queues {
                port: port.name.clone(),
                device: port.device.to_string(),
                queues,
                workers,
            });
        }
        let rx_checksum = info.rx_offloads.contains(RxOffloads::IPV4_CKSUM | RxOffloads::TCP_CKSUM);
        let tx_checksum = info.tx_offloads.contains(TxOffloads::IPV4_CKSUM | TxOffloads::TCP_CKSUM);
        let programmable = workers > 1 && info.reta_size > 0 && info.rss_key_len > 0;
        let rss = programmable.then(|| RssConfig {
            types: RssTypes::TCP,
            key: RssKey::new(&steering.rss().key).ok(),
            reta: Some(
                steering.rss().reta.iter().copied().cycle().take(info.reta_size.into()).collect(),
            ),
        });
        let (mut rx_offloads, mut tx_offloads) = (RxOffloads::NONE, TxOffloads::NONE);
        if rx_checksum {
            rx_offloads = RxOffloads::IPV4_CKSUM | RxOffloads::TCP_CKSUM;
        }
        if tx_checksum {
            tx_offloads = TxOffloads::IPV4_CKSUM | TxOffloads::TCP_CKSUM;
        }
        let wanted = DpdkPortConfig {
            rx_queues: workers as u16,
            tx_queues: workers as u16,
            // af_packet takes its frame size from its device arguments and refuses this one.
            mtu: (port.mtu != 1500 && port.mtu <= info.max_mtu.into()).then_some(port.mtu as u16),
            rx_offloads,
            tx_offloads,
            rss,
            // Neighbour solicitations come by multicast.
            promiscuous: true,
            ..DpdkPortConfig::default()
        };
        let configured =
            unconfigured.configure(wanted, std::slice::from_ref(&pool)).map_err(failed)?;
        let (started, queue_pairs) = configured.start().map_err(failed)?;
        let mac = MacAddr(started.mac().map_err(failed)?);
        for (worker, (rx, tx)) in queue_pairs.into_iter().enumerate() {
            let caps = PortCaps {
                mac,
                mtu: port.mtu,
                tx_checksum,
                rx_checksum,
                rss: programmable.then(|| steering.rss().clone()),
            };
            let stack = PortStack::new(stack_config(config, n, port, mac, rx_checksum))
                .map_err(|error| LaunchError::Stack { port: port.name.clone(), error })?;
            by_worker[worker].push(WorkerPort {
                io: DpdkPort::new(rx, tx, pool.clone(), caps),
                stack,
                side: port.side,
            });
        }
        tracing::info!(
            port = port.name, device = %port.device, driver = info.driver, %mac, mtu = port.mtu,
            queues = workers, rx_checksum, tx_checksum, rss = programmable, "port started"
        );
        launched.ports.push(started);
        launched.pools.push(pool);
    }
    Ok((launched, by_worker, steering))
}

fn start_eal(config: &GatewayConfig) -> Result<(Eal, bool), LaunchError> {
    let devices = config
        .ports
        .iter()
        .map(|p| match &p.device {
            config::Device::Vdev(text) => EalDevice::Vdev(text.clone()),
            config::Device::Pci(text) => EalDevice::Pci(text.clone()),
        })
        .collect();
    let mut eal = EalConfig {
        program: "clgw".into(),
        lcores: LcoreMap::Auto,
        huge: HugePages::Use { in_memory: true },
        memory_mib: config.eal.memory_mib,
        file_prefix: Some(config.eal.file_prefix.clone()),
        devices,
        log_level: LogLevel::Warning,
        extra: config.eal.extra.clone(),
        ..EalConfig::default()
    };
    match config.eal.hugepages {
        Hugepages::Off => eal.huge = HugePages::None,
        Hugepages::Auto => {
            if let Err(error) = eal.check_huge_pages() {
                tracing::warn!(%error, "not enough free hugepages: running on normal pages");
                eal.huge = HugePages::None;
            }
        }
        Hugepages::On => eal.check_huge_pages().map_err(|e| LaunchError::Eal(Box::new(e)))?,
    }
    let huge = eal.huge != HugePages::None;
    Ok((Eal::init(&eal).map_err(|e| LaunchError::Eal(Box::new(e)))?, huge))
}

/// Bytes of one mbuf: a whole frame of the largest MTU, since frames are parsed in one run.
fn data_room(config: &GatewayConfig) -> u16 {
    let mtu = config.ports.iter().map(|p| p.mtu).max().unwrap_or(1500);
    (mtu + ETHERNET_HEADER + 64).next_multiple_of(64).max(2048) as u16
}

/// mbuf count per port: what three quarters of EAL's memory hold, in the range that is useful.
fn mbufs_per_port(config: &GatewayConfig, room: u16, huge: bool) -> Result<u32, LaunchError> {
    // Descriptors of each queue, a burst in work and the transmit queue must have mbufs at once.
    const LEAST: u64 = 2_047;
    const MOST: u64 = 65_535;
    // DPDK lets no mbuf lie across two pages.
    let each = match u64::from(room) + 320 {
        bytes if huge => bytes,
        bytes => bytes.next_multiple_of(4_096),
    };
    let ports = config.ports.len() as u64;
    let bytes = u64::from(config.eal.memory_mib) * 1024 * 1024 * 3 / 4 / ports;
    // One less than a power of two wastes no ring memory.
    let fits = (bytes / each + 2).next_power_of_two() / 2 - 1;
    if fits < LEAST {
        let wanted = (LEAST + 1) * each * ports * 4 / 3 / (1024 * 1024) + 1;
        return Err(LaunchError::Memory {
            mib: config.eal.memory_mib,
            ports: config.ports.len(),
            wanted: wanted as u32,
        });
    }
    Ok(fits.min(MOST) as u32)
}

/// A VIP belongs to the service port whose subnet holds it, else to the first service port:
/// routers send it there.
pub(crate) fn stack_config(
    config: &GatewayConfig,
    index: usize,
    port: &PortConfig,
    mac: MacAddr,
    rx_checksum: bool,
) -> PortStackConfig {
    let first_service = config.ports.iter().position(|p| p.side.is_service());
    let owns = |vip: &config::VipConfig| {
        let on_link = config.ports.iter().position(|p| {
            p.side.is_service() && p.addresses.iter().any(|a| a.contains(&vip.address))
        });
        on_link.or(first_service) == Some(index)
    };
    let mut vips: Vec<_> = config.vips.iter().filter(|v| owns(v)).map(|v| v.address).collect();
    vips.sort_unstable();
    vips.dedup();
    PortStackConfig {
        mac,
        mtu: port.mtu,
        rx_checksum,
        addresses: port.addresses.clone(),
        vips,
        routes: port.routes.iter().map(|r| Route { to: r.to, via: r.via }).collect(),
    }
}
