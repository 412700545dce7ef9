//! Both gateways and the generator, in a process of its own: DPDK 22.11 may crash in whoever has
//! a net_memif port while its peer goes away.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use clgw::config::{EalSettings, Hugepages};

use super::config::{
    CLIENT, CLIENT_END, CLIENT_VIA, Links, SERVER, SERVER_END, SERVER_PORT, SERVER_VIA, VIP,
};
use super::row::Row;
use crate::generate::{
    Direction, ExchangesPlan, Idle, Job, Plan, Session, Setup, SideSetup, Timing, ensure_moved,
    parse_rate,
};
use crate::interrupt::Interrupt;
use crate::lab::counters::{Counters, ask};
use crate::lab::{LabArgs, PATIENCE, Process, SITES, fabric};

/// Before each measurement: windows and pools of tunnels grow.
pub const WARM_UP: Duration = Duration::from_secs(1);
/// Until SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// What a gateway's log has to say, and not a line for each connection.
const FILTER: &str = "RUST_LOG=warn,clgw::control=info,clgw::control::journal=off";
const STREAM_BUFFER: usize = 512 * 1024;
const BUFFER: usize = 64 * 1024;
/// New connections at a time.
pub const CONCURRENCY: u64 = 32;

/// The part of the command line that both processes have.
#[derive(Clone, Debug, Args)]
pub struct BedArgs {
    #[command(flatten)]
    pub lab: LabArgs,
    /// Of each measurement; A's counters are read once a second in it.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(3..))]
    pub seconds: u64,
    /// Requests due per second, where latency is measured.
    #[arg(long, default_value_t = 1000.0, value_parser = parse_rate)]
    pub rate: f64,
    /// CPU of gateway A, which has it for itself.
    #[arg(long, default_value_t = 0)]
    pub gateway_cpu: u16,
    /// CPU of gateway B and of the generator.
    #[arg(long, default_value_t = 1)]
    pub other_cpu: u16,
    /// What the generator does when there is nothing to do.
    #[arg(long, value_enum, default_value_t = Idle::Sleep)]
    pub generator_idle: Idle,
    /// Memory of each of the three processes for packet buffers, MiB.
    #[arg(long, default_value_t = 256)]
    pub memory_mib: u32,
}

/// One MTU; rows go to stdout.
#[derive(Clone, Debug, Args)]
pub struct OneArgs {
    #[command(flatten)]
    pub bed: BedArgs,
    #[arg(long)]
    pub mtu: usize,
    /// Empty, and whoever starts this takes it away.
    #[arg(long)]
    pub dir: PathBuf,
    #[arg(long)]
    pub zero_copy: bool,
}

/// A measurement.
pub struct Step {
    pub label: String,
    plan: Plan,
    buffer: usize,
}

pub fn steps(args: &BedArgs) -> Vec<Step> {
    let timing = Timing { warm_up: WARM_UP, measure: Duration::from_secs(args.seconds) };
    let mut steps = Vec::new();
    for streams in [1, 8] {
        for direction in [Direction::Upload, Direction::Download] {
            steps.push(Step {
                label: format!("{streams} streams, {direction:?}").to_lowercase(),
                plan: Plan::Streams(direction.streams(streams, timing, false)),
                buffer: STREAM_BUFFER,
            });
        }
    }
    let mut add = |label: &str, churn, connections, rate| {
        let (request, response) = (64, 64);
        let plan = ExchangesPlan { churn, connections, rate, request, response, timing };
        steps.push(Step { label: label.into(), plan: Plan::Exchanges(plan), buffer: BUFFER });
    };
    add("new connections", true, CONCURRENCY, None);
    add("requests", false, CONCURRENCY, None);
    add("latency of requests", false, 16, Some(args.rate));
    add("latency of new connections", true, 1024, Some(args.rate));
    steps
}

/// # Errors
/// A process does not start or ends, a measurement moved nothing, or SIGINT or SIGTERM came.
pub fn run(args: &OneArgs) -> anyhow::Result<()> {
    let interrupt = Interrupt::install()?;
    let mut bed = Bed::start(args, &interrupt)?;
    for step in steps(&args.bed) {
        interrupt.check()?;
        eprintln!("memif: MTU {}: {}", args.mtu, step.label);
        let row = match bed.measure(&step) {
            Ok(row) => row,
            Err(error) => return Err(error.context(bed.logs()).context(step.label)),
        };
        println!("{}", serde_json::to_string(&row)?);
    }
    bed.stop()
}

struct Bed<'a> {
    session: Session,
    /// B, then A.
    gateways: Vec<Process>,
    interrupt: &'a Interrupt,
}

impl<'a> Bed<'a> {
    fn start(args: &OneArgs, interrupt: &'a Interrupt) -> anyhow::Result<Self> {
        let OneArgs { bed, mtu, dir, zero_copy } = args;
        let links = Links { dir, mtu: *mtu, zero_copy: *zero_copy };
        let side = |number, end, address: &str, via: &str| {
            anyhow::Ok(SideSetup {
                device: links.device(number, end).parse()?,
                address: address.parse()?,
                addresses: 1,
                via: Some(via.parse()?),
                cpu: Some(bed.other_cpu),
            })
        };
        let eal = EalSettings {
            hugepages: if *zero_copy { Hugepages::On } else { Hugepages::Off },
            memory_mib: bed.memory_mib,
            file_prefix: format!("clgw-bench-{}", std::process::id()),
            extra: Vec::from_iter(zero_copy.then(|| "--single-file-segments".to_owned())),
        };
        let session = Session::start(Setup {
            client: Some(side(0, CLIENT_END, CLIENT, CLIENT_VIA)?),
            server: Some(side(1, SERVER_END, SERVER, SERVER_VIA)?),
            eal,
            mtu: *mtu,
            idle: bed.generator_idle,
        })?;
        let program = bed.lab.program()?;
        let fabric = fabric(&program, dir)?;
        let mut this = Self { session, gateways: Vec::new(), interrupt };
        // B's end of the link between them listens.
        for (site, cpu) in [(1, bed.other_cpu), (0, bed.gateway_cpu)] {
            let home = fabric.join(SITES[site]);
            let (config, objects) = links.gateway(site, cpu, bed.memory_mib);
            let file = home.join("gateway.yaml");
            fs::write(&file, config).with_context(|| file.display().to_string())?;
            fs::create_dir_all(home.join("objects")).context("objects")?;
            fs::write(home.join("objects/objects.yaml"), objects).context("objects.yaml")?;
            let (clgw, file) = (program.display().to_string(), file.display().to_string());
            let command = ["env", FILTER, &clgw, "run", "--config", &file];
            let mut gateway = Process::spawn(SITES[site], dir, &[], cpu, &command, interrupt)?;
            gateway.wait_for(" ready ", PATIENCE)?;
            this.gateways.push(gateway);
        }
        this.wait_until_open().map_err(|error| error.context(this.logs()))?;
        Ok(this)
    }

    /// Until a request gets through.
    fn wait_until_open(&mut self) -> anyhow::Result<()> {
        let timing = Timing { warm_up: Duration::ZERO, measure: Duration::from_millis(200) };
        let plan = Plan::Exchanges(ExchangesPlan {
            churn: false,
            connections: 1,
            rate: None,
            request: 1,
            response: 1,
            timing,
        });
        let until = Instant::now() + PATIENCE;
        loop {
            let outcome =
                self.session.run(&job(plan, BUFFER)?, self.interrupt.flag(), &mut |_| {})?;
            match ensure_moved(Some(plan), &outcome) {
                Ok(()) => return Ok(()),
                Err(_) if self.interrupt.is_set() => bail!("interrupted"),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn measure(&mut self, step: &Step) -> anyhow::Result<Row> {
        let Self { session, gateways, interrupt } = self;
        let a = gateways.last_mut().context("gateway A")?;
        let mut counters: Vec<anyhow::Result<Counters>> = Vec::new();
        // Once a second while the load runs: connecting takes less than a second, so the first
        // after the warm-up and the last are in the window.
        let begin = WARM_UP + Duration::from_millis(500);
        let outcome =
            session.run(&job(step.plan, step.buffer)?, interrupt.flag(), &mut |tick| {
                if tick.since >= begin && tick.measuring {
                    counters.push(ask(a));
                }
            })?;
        interrupt.check()?;
        ensure_moved(Some(step.plan), &outcome)?;
        let counters = counters.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let [first, .., last] = counters[..] else {
            bail!("gateway A's counters were read {} times; take more --seconds", counters.len());
        };
        Ok(Row::new(step.plan, &outcome, [first, last]))
    }

    fn logs(&self) -> String {
        self.gateways.iter().map(Process::last_lines).collect::<Vec<_>>().join("\n")
    }

    /// Both at once, since each is the other's peer.
    fn stop(mut self) -> anyhow::Result<()> {
        for gateway in &mut self.gateways {
            gateway.signal("-TERM")?;
        }
        for gateway in &mut self.gateways {
            let status = gateway.wait(GRACE)?;
            if !status.success() {
                // Measured is measured; the driver's crash at the end of its peer is known.
                eprintln!("memif: a gateway ended with {status} after SIGTERM");
            }
        }
        Ok(())
    }
}

fn job(plan: Plan, buffer: usize) -> anyhow::Result<Job> {
    Ok(Job {
        load: Some((plan, VIP.parse().context("VIP")?)),
        listen: vec![SERVER_PORT],
        verify: false,
        buffer,
    })
}
