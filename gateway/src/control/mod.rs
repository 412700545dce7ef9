//! The control thread: brings the gateway up, publishes generations, writes the log, takes the
//! gateway down. It never touches a packet, and workers never wait for it.

mod dry_run;
mod generation;
mod idle;
mod journal;
mod launch;
mod lcore;
mod material;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use clgw_policy::Diagnostic;
use ring::rand::{SecureRandom, SystemRandom};

pub use generation::{Generations, Resolver, SystemResolver};
#[cfg(feature = "simulation")]
pub(crate) use launch::stack_config;
pub use launch::{LaunchError, data_room, mbufs_per_port, start_eal};
pub use material::{Material, check_together, identity, load, objects};

use self::journal::Journal;
use self::lcore::{Order, Orders};
use crate::config::GatewayConfig;
use crate::lifecycle::{Drain, ExitCode, Level, Lifecycle, Shutdown, State};
use crate::telemetry::{Counters, EventQueue, Published, Shares};
use crate::time::{Clock, MonotonicClock};
use crate::tls::spawn_helpers;
use crate::worker::{Inboxes, Shared, Snapshot, Worker, WorkerConfig};

/// How often the control thread looks at events and requests.
const TICK: Duration = Duration::from_millis(20);

/// Why the gateway did not start, or did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{}", render(.0))]
    Configuration(Vec<Diagnostic>),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("the system gives no random numbers")]
    Random,
    #[error("thread {name} cannot be started: {error}")]
    Thread { name: String, error: std::io::Error },
    #[error("worker {0} panicked; its connections are lost")]
    Worker(usize),
}

fn render(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl RunError {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::Configuration,
            Self::Launch(_) | Self::Random | Self::Thread { .. } => ExitCode::Environment,
            Self::Worker(_) => ExitCode::Failure,
        }
    }
}

/// How a gateway that ran has ended.
#[derive(Debug)]
pub struct RunReport {
    /// Connections still open when the drain deadline, or a second signal, ended them.
    pub cut: usize,
    /// All workers' counters.
    pub counters: Counters,
}

impl RunReport {
    pub fn exit_code(&self) -> ExitCode {
        if self.cut > 0 { ExitCode::Cut } else { ExitCode::Ok }
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counters;
        write!(
            f,
            "{} client connections, {} bytes to peers, {} bytes from peers, {} cut",
            c.clients_accepted, c.bytes_to_peer, c.bytes_from_peer, self.cut
        )
    }
}

/// Runs the gateway until `shutdown` asks for its end.
///
/// # Errors
/// What keeps it from starting, or a worker that panicked.
pub fn run(config: GatewayConfig, shutdown: Shutdown) -> Result<RunReport, RunError> {
    let lifecycle = Lifecycle::new();
    let material = load(&config).map_err(RunError::Configuration)?;
    let mut generations = Generations::default();
    let first = publish_first(&config, &mut generations, material);
    // Ports after the configuration is known to be good: taking a NIC disturbs its link.
    let (launched, by_worker, steering) = launch::launch(&config)?;
    let workers = config.workers.count();

    let snapshot = Arc::new(ArcSwap::new(Arc::clone(&first)));
    let events = EventQueue::default();
    let mut journal = Journal::new(events.clone());
    journal.remember(first);
    let inboxes = Inboxes::new(workers as u16);
    let orders = Arc::new(Orders::default());
    let published: Vec<Arc<Published>> = (0..workers).map(|_| Arc::default()).collect();
    let (helper_threads, helpers) = spawn_helpers(config.workers.handshake_threads, workers)
        .map_err(|error| RunError::Thread { name: "tls".into(), error })?;
    let origin = std::time::Instant::now();
    let mut clock = MonotonicClock::starting_at(origin);

    let mut threads: Vec<JoinHandle<usize>> = Vec::new();
    for (n, (own, helper)) in by_worker.into_iter().zip(helpers).enumerate() {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| RunError::Random)?;
        let worker_config = WorkerConfig {
            id: n as u16,
            workers: workers as u16,
            buffers: config.buffers.clone(),
            congestion: config.congestion,
            warm_tunnels: config.tunnel.warm,
            max_idle_tunnels: config.tunnel.max_idle,
            seed,
        };
        let shared = Shared {
            snapshot: Arc::clone(&snapshot),
            counters: Arc::clone(&published[n]),
            events: events.clone(),
            inboxes: inboxes.clone(),
        };
        let (steering, orders, idle) = (steering.clone(), Arc::clone(&orders), config.workers.idle);
        let (eal, cpu) = (launched.eal.clone(), config.workers.cpus[n]);
        let name = format!("worker-{n}");
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            prepare_lcore(&eal, n, cpu);
            let _lcore = register(&eal, n);
            let worker = Worker::new(worker_config, shared, own.ports, helper, steering);
            let clock = MonotonicClock::starting_at(origin);
            lcore::run(worker, clock, idle, own.interrupts, &orders)
        });
        threads.push(thread.map_err(|error| RunError::Thread { name, error })?);
    }
    drop(inboxes);
    lifecycle.advance(State::Ready);
    tracing::info!(
        peer = config.peer.name,
        workers,
        generation = snapshot.load().generation(),
        hugepages = launched.huge,
        "ready"
    );

    let mut seen = 0;
    let (mut reloads, mut stats) = (0, 0);
    let mut last_stats = vec![Counters::default(); workers];
    let mut drain: Option<Drain> = None;
    loop {
        seen = shutdown.wait(seen, TICK);
        let now = clock.now();
        journal.write(now);
        if threads.iter().any(JoinHandle::is_finished) {
            // A worker only returns when told to stop: this one panicked.
            orders.give(Order::Stop);
            break;
        }
        if shutdown.reloads() != reloads {
            reloads = shutdown.reloads();
            reload(&config, &mut generations, &snapshot, &mut journal);
        }
        if shutdown.stats() != stats {
            stats = shutdown.stats();
            log_stats(&published, &mut last_stats);
        }
        journal.forget();
        match (shutdown.level(), drain) {
            (Level::None, _) => {}
            (Level::Drain, None) => {
                lifecycle.advance(State::Draining);
                tracing::info!(deadline = ?config.drain.deadline, "draining");
                orders.give(Order::Drain);
                drain = Some(Drain::begin(now, config.drain.deadline));
            }
            (Level::Drain, Some(drain)) => {
                let begun = orders.draining.load(Ordering::Acquire) == threads.len();
                let left = orders.unfinished.load(Ordering::Acquire);
                if (begun && left == 0) || drain.expired(now) {
                    break;
                }
            }
            (Level::Now, _) => break,
        }
    }
    lifecycle.advance(State::Draining);
    if drain.is_some() {
        // Answers of the last connections and close_notify of the tunnels are still on their way.
        std::thread::sleep(TICK);
    }
    orders.give(Order::Stop);
    let mut cut = 0;
    let mut panicked = None;
    for (n, thread) in threads.into_iter().enumerate() {
        match thread.join() {
            Ok(n) => cut += n,
            Err(_) => panicked = Some(n),
        }
    }
    helper_threads.join();
    journal.close(clock.now());
    let mut counters = Counters::default();
    for worker in &published {
        counters.add(&worker.load());
    }
    log_counters(&counters);
    stop_ports(launched);
    lifecycle.advance(State::Stopped);
    match panicked {
        Some(n) => Err(RunError::Worker(n)),
        None => Ok(RunReport { cut, counters }),
    }
}

fn publish_first(
    config: &GatewayConfig,
    generations: &mut Generations,
    material: Material,
) -> Arc<Snapshot> {
    for warning in &material.warnings {
        tracing::warn!("{warning}");
    }
    let (snapshot, unresolved) = generations.next(config, material, &SystemResolver);
    for warning in unresolved {
        tracing::warn!("{warning}");
    }
    Arc::new(snapshot)
}

/// Reads objects and certificates again. With any error, what runs goes on running.
fn reload(
    config: &GatewayConfig,
    generations: &mut Generations,
    published: &ArcSwap<Snapshot>,
    journal: &mut Journal,
) {
    let material = match load(config) {
        Ok(material) => material,
        Err(findings) => {
            let generation = published.load().generation();
            tracing::error!(generation, "reload refused, the running generation stays");
            for finding in findings {
                tracing::error!("{finding}");
            }
            return;
        }
    };
    let next = publish_first(config, generations, material);
    published.store(Arc::clone(&next));
    tracing::info!(generation = next.generation(), "reloaded");
    journal.remember(next);
}

/// Pins the thread to its CPU. Not fatal: the gateway works unpinned, only less evenly.
fn prepare_lcore(_eal: &dpdk_bindings::Eal, worker: usize, cpu: usize) {
    let pinned = u16::try_from(cpu).map(dpdk_bindings::pin_current_thread);
    match pinned {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(worker, cpu, %error, "worker not pinned"),
        Err(_) => tracing::warn!(worker, cpu, "worker not pinned: no such CPU"),
    }
    if let Err(error) = dpdk_bindings::idle::set_timer_slack(Duration::from_nanos(1)) {
        tracing::warn!(worker, %error, "short sleeps will be longer than asked for");
    }
}

/// Makes the thread an lcore, which makes its mempool accesses 2-4 times cheaper.
fn register(eal: &dpdk_bindings::Eal, worker: usize) -> Option<dpdk_bindings::ThreadGuard> {
    eal.register_thread()
        .inspect_err(|error| tracing::warn!(worker, %error, "worker is not an lcore"))
        .ok()
}

/// One event a worker: its counters as one JSON object, for programs that read the log, and where its
/// time went since the event before.
fn log_stats(published: &[Arc<Published>], last: &mut [Counters]) {
    for (worker, (published, last)) in published.iter().zip(last).enumerate() {
        let counters = published.load();
        let Shares { busy, asleep } = counters.shares_since(last);
        let tenths = |percent: f64| (percent * 10.0).round() / 10.0;
        tracing::info!(
            worker,
            busy_percent = tenths(busy),
            asleep_percent = tenths(asleep),
            counters = %counters.to_json(),
            "stats"
        );
        *last = counters;
    }
}

fn log_counters(counters: &Counters) {
    for (reason, n) in counters.all_drops() {
        tracing::info!(%reason, n, "frames dropped");
    }
    for (reason, n) in counters.all_closes() {
        tracing::info!(%reason, n, "connections closed");
    }
    tracing::info!(
        rx_frames = counters.rx_frames,
        tx_frames = counters.tx_frames,
        handshakes_full = counters.handshakes_full,
        handshakes_resumed = counters.handshakes_resumed,
        tunnels_reused = counters.tunnels_reused,
        strays = counters.strays,
        syn_cookies_sent = counters.syn_cookies_sent,
        syn_cookies_accepted = counters.syn_cookies_accepted,
        syn_cookies_bad = counters.syn_cookies_bad,
        pmtu_black_holes = counters.pmtu_black_holes,
        busy_seconds = counters.busy_nanos as f64 / 1e9,
        asleep_seconds = counters.asleep_nanos as f64 / 1e9,
        "counters"
    );
}

fn stop_ports(launched: launch::Launched) {
    for port in launched.ports {
        let name = port.name().to_owned();
        if let Err(error) = port.stop() {
            tracing::warn!(port = name, %error, "port does not stop");
        }
    }
    for pool in &launched.pools {
        let out = pool.in_use();
        if out > 0 {
            tracing::warn!(pool = pool.name(), mbufs = out, "mbufs were not given back");
        }
    }
}
