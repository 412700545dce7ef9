//! The other end of a gateway's virtio-user port, which asks the shortest question there is: for what
//! measures how soon a gateway looks. Runs on DPDK's vhost driver and takes neither root nor hugepages.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::path::Path;

use arrayvec::ArrayVec;
use dpdk_bindings::{
    BURST_MAX, Device, DpdkError, Eal, EalConfig, HugePages, LogLevel, Mbuf, MbufPool, PoolConfig,
    Port, PortConfig, RxQueue, Started, TxQueue,
};

const MEMORY_MIB: u32 = 64;
const POOL: PoolConfig = PoolConfig { count: 4_095, cache: 64, data_room: 2_048, numa: None };
/// Ethernet's shortest frame, without its checksum.
const FRAME: usize = 60;
/// Ether type of ARP; IPv4 over Ethernet (RFC 826).
const ARP: [u8; 8] = [8, 6, 0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// Asks a neighbour for its MAC address, as often as wanted. Queues go before their port, and that
/// before EAL.
#[derive(Debug)]
pub struct Probe {
    rx: RxQueue,
    tx: TxQueue,
    question: [u8; FRAME],
    to: Ipv4Addr,
    queue: VecDeque<Mbuf>,
    received: ArrayVec<Mbuf, BURST_MAX>,
    pool: MbufPool,
    _port: Port<Started>,
    _eal: Eal,
}

impl Probe {
    /// Starts EAL, once per process, and listens at `socket`, where `net_virtio_user0,path=SOCKET` of
    /// a gateway connects to. Host `from` will ask its neighbour `to`.
    ///
    /// # Errors
    /// The driver or memory is missing.
    pub fn listen(socket: &Path, from: Ipv4Addr, to: Ipv4Addr) -> Result<Self, DpdkError> {
        let device = format!("net_vhost0,queues=1,iface={}", socket.display());
        let eal = Eal::init(&EalConfig {
            program: "clgw-probe".into(),
            huge: HugePages::None,
            memory_mib: MEMORY_MIB,
            devices: vec![Device::Vdev(device)],
            log_level: LogLevel::Warning,
            ..EalConfig::default()
        })?;
        let pool = MbufPool::new(&eal, "probe", POOL)?;
        let port = eal.port_by_name("net_vhost0")?;
        let mac = port.mac()?;
        let port = port.configure(PortConfig::default(), std::slice::from_ref(&pool))?;
        let (port, mut queues) = port.start()?;
        let (rx, tx) = queues.remove(0);
        let parts: [&[u8]; 8] =
            [&[0xff; 6], &mac, &ARP, &REQUEST, &mac, &from.octets(), &[0; 6], &to.octets()];
        let mut question = [0; FRAME];
        for (byte, value) in question.iter_mut().zip(parts.concat()) {
            *byte = value;
        }
        Ok(Self {
            rx,
            tx,
            question,
            to,
            queue: VecDeque::new(),
            received: ArrayVec::new(),
            pool,
            _port: port,
            _eal: eal,
        })
    }

    /// Whether the port took the question.
    pub fn ask(&mut self) -> bool {
        let Some(mut frame) = self.pool.alloc() else { return false };
        if frame.set_len(FRAME).is_err() {
            return false;
        }
        frame.data_mut().copy_from_slice(&self.question);
        self.queue.push_back(frame);
        let taken = self.tx.burst(&mut self.queue) > 0;
        self.queue.clear();
        taken
    }

    /// Whether an answer has come since the last look.
    pub fn is_answered(&mut self) -> bool {
        self.rx.burst(&mut self.received);
        let mut answered = false;
        for frame in self.received.drain(..) {
            let part = |from: usize, wanted: &[u8]| {
                frame.data().get(from..).is_some_and(|data| data.starts_with(wanted))
            };
            answered |= part(12, &ARP) && part(20, &REPLY) && part(28, &self.to.octets());
        }
        answered
    }
}
