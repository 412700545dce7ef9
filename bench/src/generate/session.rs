//! EAL, the ports of both sides, and the threads that run loads on them, one load after another.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clgw::config::{Device, EalSettings};
use clgw::control::{data_room, mbufs_per_port, start_eal};
use clgw::host::HostConfig;
use clgw::net::Route;
use clgw::port::dpdk::DpdkPort;
use clgw::port::{self, FrameIo as _, PortRequest};
use clgw::time::MonotonicClock;
use dpdk_bindings::{Eal, MbufPool, Port, Started};
use ipnet::IpNet;

use super::exchanges::Latencies;
use super::load::{Plan, Target};
use super::schedule::Broken;
use super::side::{ClientResult, Idle, Orders, Sample, Side, Usage, run};
use super::tally::{Counts, Published};
use super::watch::{Tick, Watched};
use crate::lab::runtime_dir::RuntimeDir;
use crate::progress::print_line;

/// Between closing the two ports.
const SETTLE: Duration = Duration::from_millis(200);

/// A side's port and addresses.
#[derive(Clone, Debug)]
pub struct SideSetup {
    pub device: Device,
    /// With the prefix of the subnet.
    pub address: IpNet,
    /// Own addresses from `address` on.
    pub addresses: u32,
    /// Router towards everything outside the subnet.
    pub via: Option<IpAddr>,
    /// `None`: wherever the kernel puts the thread.
    pub cpu: Option<u16>,
}

impl SideSetup {
    fn all_addresses(&self) -> anyhow::Result<Vec<IpNet>> {
        let address = |n: u32| {
            let next = match self.address.addr() {
                IpAddr::V4(ip) => IpAddr::V4(u32::from(ip).checked_add(n)?.into()),
                IpAddr::V6(ip) => IpAddr::V6(u128::from(ip).checked_add(n.into())?.into()),
            };
            IpNet::new(next, self.address.prefix_len())
                .ok()
                .filter(|_| self.address.contains(&next))
        };
        let all: Option<Vec<IpNet>> = (0..self.addresses.max(1)).map(address).collect();
        all.with_context(|| {
            format!(
                "{} addresses from {} on leave its subnet; take fewer, or a shorter prefix",
                self.addresses, self.address
            )
        })
    }

    fn host(&self, buffer: usize) -> anyhow::Result<HostConfig> {
        let mut routes = Vec::new();
        if let Some(via) = self.via {
            let to = if via.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            routes.push(Route { to: to.parse()?, via });
        }
        Ok(HostConfig { addresses: self.all_addresses()?, routes, buffer })
    }
}

/// What the whole process uses.
#[derive(Clone, Debug)]
pub struct Setup {
    pub client: Option<SideSetup>,
    pub server: Option<SideSetup>,
    pub eal: EalSettings,
    /// IP packet, bytes.
    pub mtu: usize,
    pub idle: Idle,
}

/// One load.
#[derive(Clone, Debug)]
pub struct Job {
    /// What the client does, and to whom. `None`: only serve.
    pub load: Option<(Plan, SocketAddr)>,
    /// Where the server listens.
    pub listen: Vec<u16>,
    /// The server compares what streams carry.
    pub verify: bool,
    /// Bytes of each connection's receive buffer, and of its send buffer.
    pub buffer: usize,
}

/// What a load has measured.
#[derive(Debug, Default)]
pub struct Outcome {
    pub samples: Vec<Sample>,
    /// Of the whole run, warm-up and end included.
    pub client: Counts,
    pub server: Counts,
    pub latencies: Option<Latencies>,
    pub first_failure: Option<String>,
    /// What was measured is not what was asked for.
    pub broken: Option<Broken>,
    /// Where connections went.
    pub target: Option<SocketAddr>,
    /// Of each thread.
    pub usage: Vec<(&'static str, Usage)>,
    /// Frames that the generator's own stacks have dropped, by reason.
    pub drops: Vec<(String, u64)>,
}

impl Outcome {
    /// Connections that failed in the window. The client sees each of them: the server's count
    /// has the same ones again.
    pub fn failed(&self) -> u64 {
        self.measured().client.failed
    }

    /// Sum of all samples.
    pub fn measured(&self) -> Sample {
        let mut sum = Sample::default();
        for sample in &self.samples {
            sum.seconds += sample.seconds;
            sum.client = sum.client.plus(sample.client);
            if let Some(server) = sample.server {
                sum.server = Some(sum.server.unwrap_or_default().plus(server));
            }
        }
        sum
    }
}

/// A port that runs. In this order: a queue pair ends before its port, and that before its pools.
#[derive(Debug)]
struct Attached {
    /// `None` while a thread has it.
    io: Option<DpdkPort>,
    port: Port<Started>,
    pools: Vec<MbufPool>,
    setup: SideSetup,
}

#[derive(Debug)]
pub struct Session {
    client: Option<Attached>,
    server: Option<Attached>,
    idle: Idle,
    runs: u64,
    eal: Eal,
    /// Behind EAL, which may still use it.
    _runtime_dir: RuntimeDir,
}

/// A side's thread gives its ports back.
type Done = (Vec<(bool, DpdkPort)>, Option<ClientResult>, Usage, Vec<(String, u64)>);

impl Session {
    /// Starts EAL, once per process, and the ports.
    ///
    /// # Errors
    /// A device or memory is missing, or the settings contradict each other.
    pub fn start(setup: Setup) -> anyhow::Result<Self> {
        let sides = [("client", setup.client), ("server", setup.server)];
        let devices = sides.iter().filter_map(|(_, side)| side.as_ref().map(|s| &s.device));
        let count = devices.clone().count();
        ensure!(count > 0, "no device: give --client-device, --server-device or both");
        for (name, side) in sides.iter().filter_map(|(n, s)| Some((n, s.as_ref()?))) {
            if let Some(most) = side.device.max_mtu() {
                ensure!(
                    setup.mtu <= most,
                    "{name} device {}: frames hold {most} bytes and --mtu is {}; set framesz",
                    side.device,
                    setup.mtu
                );
            }
        }
        let runtime_dir = RuntimeDir::of(&setup.eal.file_prefix);
        let (eal, huge) = start_eal("clgw-bench", &setup.eal, devices).context("EAL")?;
        let room = data_room(setup.mtu);
        let mbufs = mbufs_per_port(setup.eal.memory_mib, count, room, huge)
            .context("the generator's memory; raise --memory-mib")?;
        let attach = |name: &str, side: SideSetup| {
            let request = PortRequest {
                device: side.device.name(),
                pool: &format!("generate-{name}"),
                mbufs,
                data_room: room,
                large: 0,
                mtu: setup.mtu,
                queues: 1,
                rss: None,
                interrupts: false,
            };
            let started = port::start(&eal, &request)
                .with_context(|| format!("{name} device {}", side.device))?;
            let io = started.queues.into_iter().next();
            anyhow::Ok(Attached { io, port: started.port, pools: started.pools, setup: side })
        };
        let [client, server] = sides.map(|(name, side)| side.map(|side| attach(name, side)));
        Ok(Self {
            client: client.transpose()?,
            server: server.transpose()?,
            idle: setup.idle,
            runs: 0,
            eal,
            _runtime_dir: runtime_dir,
        })
    }

    /// Whether the ports compute checksums, for the report.
    pub fn checksum_offload(&self) -> bool {
        let sides = [&self.client, &self.server];
        let mut ports = sides.into_iter().flatten().filter_map(|a| a.io.as_ref());
        ports.all(|io| io.caps().tx_checksum && io.caps().rx_checksum)
    }

    /// Runs one load to its end, or until `interrupt` is set.
    ///
    /// # Errors
    /// A side is missing, or a thread panicked. A load that moved nothing is none yet.
    pub fn run(
        &mut self,
        job: &Job,
        interrupt: &AtomicBool,
        tick: &mut dyn FnMut(&Tick),
    ) -> anyhow::Result<Outcome> {
        self.runs += 1;
        let published = [Arc::new(Published::default()), Arc::new(Published::default())];
        let orders = Arc::new(Orders::default());
        let mut specs = Vec::new();
        if let Some((plan, to)) = job.load {
            let client = self.client.as_mut().context("a load takes a --client-device")?;
            let reached = client.setup.via.is_some() || client.setup.address.contains(&to.ip());
            ensure!(reached, "{to} is not in {}; give --client-via", client.setup.address);
            let host = client.setup.host(job.buffer)?;
            let from = host.addresses.iter().map(IpNet::addr).collect();
            specs.push(Spec {
                name: "client",
                io: client.io.take().context("the client's port was lost")?,
                cpu: client.setup.cpu,
                host,
                load: Some((plan, Target { to, from })),
                published: Arc::clone(&published[0]),
            });
        }
        if let Some(server) = &mut self.server {
            specs.push(Spec {
                name: "server",
                io: server.io.take().context("the server's port was lost")?,
                cpu: server.setup.cpu,
                host: server.setup.host(job.buffer)?,
                load: None,
                published: Arc::clone(&published[1]),
            });
        }
        ensure!(!specs.is_empty(), "nothing to do: neither a load nor a --server-device");
        let with_server = self.server.is_some().then(|| Arc::clone(&published[1]));
        let origin = std::time::Instant::now();
        let mut threads: Vec<(&'static str, JoinHandle<anyhow::Result<Done>>)> = Vec::new();
        let one = specs.len() == 2 && specs[0].cpu == specs[1].cpu;
        let groups = match one {
            true => vec![specs],
            false => specs.into_iter().map(|spec| vec![spec]).collect(),
        };
        for group in groups {
            let name = if group.len() == 2 { "both sides" } else { group[0].name };
            let thread = Thread {
                specs: group,
                job: job.clone(),
                server: with_server.clone(),
                idle: self.idle,
                orders: Arc::clone(&orders),
                seed: self.runs,
            };
            let eal = self.eal.clone();
            let spawned = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || thread.run(&eal, origin))
                .context("a thread of the generator")?;
            threads.push((name, spawned));
        }
        let watched = Watched {
            threads: &threads,
            published: &published,
            with_client: job.load.is_some(),
            with_server: self.server.is_some(),
            orders: &orders,
        };
        watched.watch(interrupt, tick);
        let target = job.load.map(|(_, to)| to);
        let mut outcome = Outcome { target, ..Outcome::default() };
        for (name, thread) in threads {
            let Ok(done) = thread.join() else { bail!("the thread of {name} panicked") };
            let (ios, result, usage, drops) = done?;
            outcome.drops.extend(drops);
            for (client, io) in ios {
                let side = if client { &mut self.client } else { &mut self.server };
                if let Some(side) = side {
                    side.io = Some(io);
                }
            }
            if let Some(result) = result {
                outcome.samples = result.samples;
                outcome.latencies = result.latencies;
                outcome.first_failure = result.first_failure;
                outcome.broken = result.broken;
            }
            outcome.usage.push((name, usage));
        }
        (outcome.client, outcome.server) = (published[0].load(), published[1].load());
        Ok(outcome)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for (n, side) in [self.client.take(), self.server.take()].into_iter().flatten().enumerate()
        {
            let Attached { io, port, pools, .. } = side;
            if n > 0 {
                // If both ports are the ends of a net_memif, this one hears of the other's end in
                // a thread of EAL's, and DPDK 22.11 crashes when it is closed meanwhile.
                std::thread::sleep(SETTLE);
            }
            drop(io);
            if let Err(error) = port.stop() {
                print_line(&format!("clgw-bench: the port does not stop: {error}"));
            }
            let out: u32 = pools.iter().map(MbufPool::in_use).sum();
            if out > 0 {
                print_line(&format!("clgw-bench: {out} mbufs were not given back"));
            }
        }
    }
}

/// A side on its way into its thread.
struct Spec {
    name: &'static str,
    io: DpdkPort,
    cpu: Option<u16>,
    host: HostConfig,
    load: Option<(Plan, Target)>,
    published: Arc<Published>,
}

struct Thread {
    specs: Vec<Spec>,
    job: Job,
    server: Option<Arc<Published>>,
    idle: Idle,
    orders: Arc<Orders>,
    seed: u64,
}

impl Thread {
    fn run(self, eal: &Eal, origin: std::time::Instant) -> anyhow::Result<Done> {
        if let Some(cpu) = self.specs.first().and_then(|s| s.cpu) {
            dpdk_bindings::pin_current_thread(cpu).context("CPU of the generator")?;
        }
        if self.idle == Idle::Sleep {
            dpdk_bindings::idle::set_timer_slack(Duration::from_nanos(1))?;
        }
        let _lcore = eal.register_thread()?;
        let mut clock = MonotonicClock::starting_at(origin);
        let mut sides = Vec::new();
        for spec in self.specs {
            // Other ports and sequence numbers in each run: the gateway remembers the last one's.
            let seed = self.seed.wrapping_mul(7_919) + u64::from(spec.load.is_some());
            let side = match spec.load {
                Some(load) => Side::client(
                    spec.io,
                    spec.host,
                    seed,
                    load,
                    spec.published,
                    self.server.clone(),
                ),
                None => {
                    let Job { listen, verify, .. } = &self.job;
                    Side::server(spec.io, spec.host, seed, listen, *verify, spec.published)
                }
            };
            sides.push(side.with_context(|| format!("addresses of the {}", spec.name))?);
        }
        let usage = run(&mut sides, &mut clock, self.idle, &self.orders);
        let mut ios = Vec::new();
        let mut result = None;
        let drops = sides.iter().flat_map(Side::drops).collect();
        for side in sides {
            let (io, of_client) = side.finish();
            ios.push((of_client.is_some(), io));
            result = result.or(of_client);
        }
        Ok((ios, result, usage, drops))
    }
}
