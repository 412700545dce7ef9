//! Bringing up EAL, ports and queues.

use dpdk_bindings::{
    Device as EalDevice, DpdkError, Eal, EalConfig, HugePages, LcoreMap, LogLevel, MbufPool, Port,
    RxInterrupts, Started,
};

use crate::config::{self, EalSettings, GatewayConfig, Hugepages, IdlePolicy, PortConfig};
use crate::limits::{ETHERNET_HEADER, MAX_MTU, TSO_FRAMES, TSO_PACKET};
use crate::net::{MacAddr, PortStack, PortStackConfig, Route, StackError, Steering};
use crate::port::dpdk::DpdkPort;
use crate::port::{self, PortRequest, PortStartError, StartedPort};
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
    #[error(
        "port {port} ({device}) has no receive interrupts, which workers.idle: interrupt takes; write \
         sleep, or poll where the CPU is the worker's own: {error}"
    )]
    Interrupts { port: String, device: String, error: Box<DpdkError> },
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

/// What one worker has to itself.
#[derive(Debug)]
pub(super) struct Own {
    pub ports: Vec<WorkerPort<DpdkPort>>,
    /// Of all its ports with [`IdlePolicy::Interrupt`], else of none.
    pub interrupts: RxInterrupts,
}

pub(super) fn launch(
    config: &GatewayConfig,
) -> Result<(Launched, Vec<Own>, Steering), LaunchError> {
    let (eal, huge) = start_eal("clgw", &config.eal, config.ports.iter().map(|p| &p.device))?;
    let workers = config.workers.count();
    let failed = |port: &PortConfig, error: Box<DpdkError>| LaunchError::Port {
        port: port.name.clone(),
        device: port.device.to_string(),
        error,
    };
    let tables = config.ports.iter().map(|port| {
        let entries = port::table_entries(&eal, port.device.name());
        entries.map_err(|error| failed(port, Box::new(error)))
    });
    let tables = tables.collect::<Result<Vec<u16>, _>>()?;
    let steering = Steering::new(workers as u16, tables);
    let mut launched = Launched { ports: Vec::new(), pools: Vec::new(), eal, huge };
    let own = |_| RxInterrupts::new().map(|interrupts| Own { ports: Vec::new(), interrupts });
    let by_worker: Result<Vec<Own>, DpdkError> = (0..workers).map(own).collect();
    let mut by_worker = by_worker.map_err(|error| LaunchError::Eal(Box::new(error)))?;
    let interrupts = config.workers.idle == IdlePolicy::Interrupt;
    let room = data_room(config.ports.iter().map(largest_packet).max().unwrap_or(1500));
    let mbufs = mbufs_per_port(config.eal.memory_mib, config.ports.len(), room, huge)?;
    for (n, port) in config.ports.iter().enumerate() {
        let started = port::start(
            &launched.eal,
            &PortRequest {
                device: port.device.name(),
                pool: &format!("clgw-{n}"),
                mbufs,
                data_room: room,
                large: large_frames(config.eal.memory_mib, config.ports.len(), workers),
                mtu: port.mtu,
                queues: workers as u16,
                rss: (workers > 1).then(|| steering.rss()),
                interrupts,
            },
        );
        let started = match started {
            Ok(started) => started,
            Err(PortStartError::Queues(queues)) => {
                return Err(LaunchError::Queues {
                    port: port.name.clone(),
                    device: port.device.to_string(),
                    queues,
                    workers,
                });
            }
            Err(PortStartError::Dpdk(error)) => return Err(failed(port, error)),
        };
        let StartedPort { port: running, pools, queues, driver, caps } = started;
        for (own, mut io) in by_worker.iter_mut().zip(queues) {
            if interrupts {
                io.watch(&mut own.interrupts).map_err(|error| LaunchError::Interrupts {
                    port: port.name.clone(),
                    device: port.device.to_string(),
                    error: Box::new(error),
                })?;
            }
            let stack = PortStack::new(stack_config(config, n, port, caps.mac, caps.rx_checksum))
                .map_err(|error| LaunchError::Stack { port: port.name.clone(), error })?;
            own.ports.push(WorkerPort { io, stack, side: port.side });
        }
        tracing::info!(
            port = port.name, device = %port.device, driver, mac = %caps.mac, mtu = port.mtu,
            queues = workers, rx_checksum = caps.rx_checksum, tx_checksum = caps.tx_checksum,
            tso = caps.tso, rss = caps.rss.is_some(), "port started"
        );
        launched.ports.push(running);
        launched.pools.extend(pools);
    }
    Ok((launched, by_worker, steering))
}

/// Starts EAL with these devices. The bool says whether it runs on hugepages.
///
/// # Errors
/// EAL does not start, or hugepages were demanded and there are too few.
pub fn start_eal<'a>(
    program: &str,
    settings: &EalSettings,
    devices: impl Iterator<Item = &'a config::Device>,
) -> Result<(Eal, bool), LaunchError> {
    let device = |device: &config::Device| match device {
        config::Device::Vdev(text) => EalDevice::Vdev(text.clone()),
        config::Device::Pci(text) => EalDevice::Pci(text.clone()),
    };
    let mut eal = EalConfig {
        program: program.into(),
        lcores: LcoreMap::Auto,
        huge: HugePages::Use { in_memory: true },
        memory_mib: settings.memory_mib,
        file_prefix: Some(settings.file_prefix.clone()),
        devices: devices.map(device).collect(),
        log_level: LogLevel::Warning,
        extra: settings.extra.clone(),
        ..EalConfig::default()
    };
    match settings.hugepages {
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

/// af_packet refuses mbufs that hold less than its frames, also where the MTU is smaller.
fn largest_packet(port: &PortConfig) -> usize {
    port.mtu.max(port.device.max_mtu().unwrap_or(0).min(MAX_MTU))
}

/// Bytes of one mbuf: a whole frame of the largest MTU, since frames are parsed in one run.
pub fn data_room(mtu: usize) -> u16 {
    (mtu + ETHERNET_HEADER + 64).next_multiple_of(64).max(2048) as u16
}

/// mbuf count per port: what three quarters of EAL's memory hold, in the range that is useful.
///
/// # Errors
/// Too little memory for the rings of the ports.
pub fn mbufs_per_port(
    memory_mib: u32,
    ports: usize,
    room: u16,
    huge: bool,
) -> Result<u32, LaunchError> {
    // Descriptors of each queue, a burst in work and the transmit queue must have mbufs at once.
    const LEAST: u64 = 2_047;
    const MOST: u64 = 65_535;
    // DPDK lets no mbuf lie across two pages.
    let each = match u64::from(room) + 320 {
        bytes if huge => bytes,
        bytes => bytes.next_multiple_of(4_096),
    };
    let bytes = u64::from(memory_mib) * 1024 * 1024 * 3 / 4 / ports as u64;
    // One less than a power of two wastes no ring memory.
    let fits = (bytes / each + 2).next_power_of_two() / 2 - 1;
    if fits < LEAST {
        let wanted = (LEAST + 1) * each * ports as u64 * 4 / 3 / (1024 * 1024) + 1;
        return Err(LaunchError::Memory { mib: memory_mib, ports, wanted: wanted as u32 });
    }
    Ok(fits.min(MOST) as u32)
}

/// Frames per port for packets that the device cuts: what an eighth of EAL's memory holds, up to
/// [`TSO_FRAMES`] for each worker.
fn large_frames(memory_mib: u32, ports: usize, workers: usize) -> u32 {
    let bytes = u64::from(memory_mib) * 1024 * 1024 / 8 / ports as u64;
    let fits = (bytes / TSO_PACKET as u64) as u32;
    let wanted = fits.min(TSO_FRAMES * workers as u32);
    // One less than a power of two wastes no ring memory.
    (wanted + 2).next_power_of_two() / 2 - 1
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of af_packet's header in a frame of its ring; the PMD wants an mbuf for the rest.
    const TPACKET2_HEADER: usize = 32;

    #[test]
    fn mbufs_hold_the_frames_of_af_packet() {
        for (frame, mtu) in [(2_048, 1_500), (9_216, 9_000), (9_088, 9_000)] {
            let port = PortConfig {
                name: "wan0".into(),
                device: format!("net_af_packet0,iface=wan0,framesz={frame}").parse().unwrap(),
                side: config::Side::Peer,
                mtu,
                addresses: Vec::new(),
                routes: Vec::new(),
            };
            let room = usize::from(data_room(largest_packet(&port)));
            assert!(room >= frame - TPACKET2_HEADER, "framesz={frame}: {room}");
        }
    }
}
