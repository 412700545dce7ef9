//! Both gateways and the generator, in a process of its own: DPDK 22.11 may crash in whoever has
//! a net_memif port while its peer goes away.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum as _};
use clgw::config::{EalSettings, Hugepages};

use super::child::Said;
use super::config::{
    CLIENT, CLIENT_END, CLIENT_VIA, Links, SERVER, SERVER_END, SERVER_PORT, SERVER_VIA, VIP,
    file_prefixes,
};
use super::row::Row;
use crate::generate::{
    Direction, ExchangesPlan, Idle, Job, Plan, Session, Setup, SideSetup, Timing, ensure_moved,
    parse_rate,
};
use crate::interrupt::Interrupt;
use crate::lab::counters::{Counters, ask};
use crate::lab::{LabArgs, PATIENCE, Process, SITES, fabric};
use crate::progress::print_line;

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
    /// What A does when there is nothing to do (workers.idle).
    #[arg(long, default_value = "poll", value_parser = ["poll", "sleep"])]
    pub gateway_idle: String,
    /// What the generator does when there is nothing to do.
    #[arg(long, value_enum, default_value_t = Idle::Sleep)]
    pub generator_idle: Idle,
    /// Memory of each of the three processes for packet buffers, MiB.
    #[arg(long, default_value_t = 256)]
    pub memory_mib: u32,
}

impl BedArgs {
    /// Binds this thread, and those that it starts from here on, to the CPU that is not A's.
    ///
    /// # Errors
    /// There is no such CPU.
    pub fn leave_a_alone(&self) -> anyhow::Result<()> {
        dpdk_bindings::pin_current_thread(self.other_cpu).context("--other-cpu")
    }
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

impl OneArgs {
    /// The command line that is read as these.
    ///
    /// # Errors
    /// An option has a value that cannot be written.
    pub fn words(&self) -> anyhow::Result<Vec<OsString>> {
        let Self { bed, mtu, dir, zero_copy } = self;
        let BedArgs {
            lab: LabArgs { clgw },
            seconds,
            rate,
            gateway_cpu,
            other_cpu,
            gateway_idle,
            generator_idle,
            memory_mib,
        } = bed;
        let idle = generator_idle.to_possible_value().context("--generator-idle")?;
        let mut words = Vec::new();
        let mut option = |name: &str, value: &OsStr| words.extend([name.into(), value.into()]);
        if let Some(clgw) = clgw {
            option("--clgw", clgw.as_os_str());
        }
        option("--seconds", seconds.to_string().as_ref());
        option("--rate", rate.to_string().as_ref());
        option("--gateway-cpu", gateway_cpu.to_string().as_ref());
        option("--other-cpu", other_cpu.to_string().as_ref());
        option("--gateway-idle", gateway_idle.as_ref());
        option("--generator-idle", idle.get_name().as_ref());
        option("--memory-mib", memory_mib.to_string().as_ref());
        option("--mtu", mtu.to_string().as_ref());
        option("--dir", dir.as_os_str());
        words.extend(zero_copy.then(|| "--zero-copy".into()));
        Ok(words)
    }
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

/// Measures, and says what came of it on stdout.
///
/// # Errors
/// What was measured cannot be said, or a gateway does not end as it should.
pub fn run(args: &OneArgs) -> anyhow::Result<()> {
    let interrupt = Interrupt::install()?;
    args.bed.leave_a_alone()?;
    let measured = Bed::start(args, &interrupt).and_then(|mut bed| {
        for step in steps(&args.bed) {
            print_line(&format!("memif: MTU {}: {}", args.mtu, step.label));
            let measured = bed.measure(&step);
            interrupt.check()?;
            if measured.is_err() {
                print_line(&bed.logs());
            }
            bed.ensure_running().with_context(|| step.label.clone())?;
            match measured {
                Ok(row) => Said::Row(Box::new(row)).say()?,
                Err(error) => Said::Failed(format!("{}: {error:#}", step.label)).say()?,
            }
        }
        Ok(bed)
    });
    match measured {
        Ok(bed) => bed.stop(),
        Err(error) => Said::Failed(format!("the rest was not measured: {error:#}")).say(),
    }
}

/// In which the gateways start: B's end of the link between them listens.
const ORDER: [usize; 2] = [1, 0];

struct Bed<'a> {
    session: Session,
    /// By [`ORDER`].
    gateways: Vec<Process>,
    interrupt: &'a Interrupt,
}

impl<'a> Bed<'a> {
    fn start(args: &OneArgs, interrupt: &'a Interrupt) -> anyhow::Result<Self> {
        let OneArgs { bed, mtu, dir, zero_copy } = args;
        let links = Links { dir, mtu: *mtu, zero_copy: *zero_copy, idle: &bed.gateway_idle };
        let side = |number, end, address: &str, via: &str| {
            anyhow::Ok(SideSetup {
                device: links.device(number, end).parse()?,
                address: address.parse()?,
                addresses: 1,
                via: Some(via.parse()?),
                cpu: Some(bed.other_cpu),
            })
        };
        let [file_prefix, ..] = file_prefixes(std::process::id());
        let eal = EalSettings {
            hugepages: if *zero_copy { Hugepages::On } else { Hugepages::Off },
            memory_mib: bed.memory_mib,
            file_prefix,
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
        for site in ORDER {
            let cpu = if site == 0 { bed.gateway_cpu } else { bed.other_cpu };
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

    /// Without a gateway nothing gets through, and none is started again: also what was just
    /// measured is not that of both.
    fn ensure_running(&mut self) -> anyhow::Result<()> {
        for (gateway, site) in self.gateways.iter_mut().zip(ORDER) {
            ensure!(gateway.is_running(), "gateway {} has ended", SITES[site]);
        }
        Ok(())
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
                print_line(&format!("memif: a gateway ended with {status} after SIGTERM"));
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

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches as _};

    use super::*;

    fn read(words: impl IntoIterator<Item = OsString>) -> Result<OneArgs, clap::Error> {
        let command = OneArgs::augment_args(Command::new("memif-one").no_binary_name(true));
        OneArgs::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    #[test]
    fn options_are_read_as_they_are_written() {
        let some = OneArgs {
            bed: BedArgs {
                lab: LabArgs { clgw: Some("/a b/clgw".into()) },
                seconds: 7,
                rate: 1234.5,
                gateway_cpu: 3,
                other_cpu: 4,
                gateway_idle: "sleep".to_owned(),
                generator_idle: Idle::Yield,
                memory_mib: 99,
            },
            mtu: 1280,
            dir: "/c d".into(),
            zero_copy: true,
        };
        let other = OneArgs { zero_copy: false, ..some.clone() };
        let other = OneArgs { bed: BedArgs { lab: LabArgs { clgw: None }, ..other.bed }, ..other };
        for args in [some, other] {
            let again = read(args.words().unwrap()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{args:?}"));
        }
    }

    #[test]
    fn a_rate_that_never_ends_is_refused() {
        let with =
            |rate: &str| ["--mtu=1500", "--dir=/x", &format!("--rate={rate}")].map(Into::into);
        for rate in ["-1", "0", "NaN", "inf", "1e300", "many"] {
            assert!(read(with(rate)).is_err(), "{rate}");
        }
        assert_eq!(read(with("2.5")).unwrap().bed.rate, 2.5);
    }
}
