//! `churn`: what a new connection costs a gateway, over tunnels that are warm.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use clgw::config::Crypto;
use clgw::sim::{Offload, Spread};
use clgw::time::Instant;
use clgw::tls::Suite;
use clgw::worker::Turn;

use crate::apps::{Caller, Echo, MESSAGE, Orders};
use crate::chain::{Chain, IMPORTS, Meter, Setup, SimWorker};
use crate::scenario::{Bench, Scenario, at_least_one};

/// Of the chain's own clock.
const PATIENCE: Duration = Duration::from_secs(10);
/// Tunnels that are warm, as many as a gateway keeps by itself.
pub const WARM: usize = 16;

/// How small connections are served.
pub const SETUP: Setup = Setup {
    mtu: 1500,
    crypto: Crypto::Ring,
    suite: Suite::Aes128Gcm,
    offload: Offload::Checksums,
    service_kib: 64,
    peer_kib: 64,
    host_buffer: 65_536,
    frames: 512,
    workers: 1,
    spread: Spread::Rss,
};

#[derive(Clone, Debug, Args)]
pub struct ChurnArgs {
    /// Connections open at the same time; up to 16, so that no tunnel is brought up.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16],
          value_parser = at_least_one::<usize>().range(..=WARM as u64))]
    pub connections: Vec<usize>,
    /// Windows per setting; each gives one sample.
    #[arg(long, default_value_t = 15, value_parser = at_least_one::<usize>())]
    pub repetitions: usize,
    /// Connections in a window.
    #[arg(long, default_value_t = 4_000, value_parser = at_least_one::<usize>())]
    pub window: usize,
}

impl ChurnArgs {
    /// Of one setting: all four members take some 60 us for a connection.
    fn expected(&self) -> Duration {
        Duration::from_micros((self.repetitions * self.window * 60) as u64)
    }
}

impl Scenario for ChurnArgs {
    fn name(&self) -> &'static str {
        "churn"
    }

    fn estimate(&self) -> Duration {
        self.expected() * self.connections.len() as u32
    }

    fn shorten(&mut self) {
        self.repetitions = self.repetitions.min(5);
        self.window = self.window.min(400);
    }

    /// # Errors
    /// Connections are not served, or tunnels were brought up in most windows.
    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        bench.pin(self.name())?;
        let hz = bench.report.environment.tsc_hz;
        for &connections in &self.connections {
            bench.step(&format!("churn: {connections} at a time"), self.expected())?;
            let windows = self.windows(connections, bench)?;
            type Of = fn(&(Meter, Meter)) -> Meter;
            let gateways: [(&str, Of); 2] = [("A", |w| w.0), ("B", |w| w.1)];
            for (name, of) in gateways {
                let parameters =
                    [("at a time", connections.to_string()), ("gateway", name.to_owned())];
                let mut metric = |name, unit, value: &dyn Fn(Meter) -> f64| {
                    let samples = windows.iter().map(|w| value(of(w))).collect();
                    bench.report.add("churn", &parameters, name, unit, samples);
                };
                let each = |m: Meter| m.cycles as f64 / self.window as f64;
                metric("one core", "connections/s", &|m| hz / each(m));
                metric("cost of a connection", "cycles", &|m| each(m));
                metric("frames received", "", &|m| m.rx_frames as f64 / self.window as f64);
            }
        }
        bench.report.note(format!(
            "churn: connect, {MESSAGE} bytes there and back, close; {} connections a window over {WARM} \
             warm tunnels. Only turns of the gateway that found work are timed",
            self.window
        ));
        Ok(())
    }
}

impl ChurnArgs {
    fn windows(&self, connections: usize, bench: &Bench) -> anyhow::Result<Vec<(Meter, Meter)>> {
        let mut chain = warm_chain()?;
        // The pool may grow at first.
        visit(&mut chain, connections, None)?;
        let mut windows = Vec::new();
        for _ in 0..self.repetitions {
            bench.interrupt.check()?;
            let tunnels = chain.counters().0.tunnels_opened;
            let (a, b) = chain.meters();
            let mut left = self.window;
            while left > 0 {
                let batch = left.min(connections);
                visit(&mut chain, batch, None)?;
                left -= batch;
            }
            // One in which a tunnel was brought up is about something else.
            if chain.counters().0.tunnels_opened == tunnels {
                let (later_a, later_b) = chain.meters();
                windows.push((later_a.since(a), later_b.since(b)));
            }
        }
        let (good, all) = (windows.len(), self.repetitions);
        ensure!(2 * good > all, "tunnels were brought up in {} of {all} windows", all - good);
        chain.ensure_no_loss()?;
        Ok(windows)
    }
}

/// A chain with [`WARM`] tunnels and a server that answers.
///
/// # Errors
/// The tunnels do not come up.
pub fn warm_chain() -> anyhow::Result<Chain> {
    let mut chain = Chain::new(&SETUP)?;
    chain.server.listen(IMPORTS[0].1, Box::new(|_| Box::new(Echo::default())));
    chain.run_until("warm tunnels", PATIENCE, |c| c.counters().0.tunnels_opened > 0)?;
    visit(&mut chain, WARM, None)?;
    Ok(chain)
}

/// Opens connections, all at the same time, and closes them once each has had its answer. Gateway A
/// has its turns by `counted` until the answers are there.
///
/// # Errors
/// They are not served.
pub fn visit(
    chain: &mut Chain,
    connections: usize,
    counted: Option<fn(&mut SimWorker, Instant) -> Turn>,
) -> anyhow::Result<()> {
    if let Some(poll) = counted {
        chain.poll_a_by(poll);
    }
    let mut open = Vec::new();
    for _ in 0..connections {
        let orders = Rc::new(Orders::default());
        orders.owed.set(1);
        open.push((chain.connect(0, Box::new(Caller(Rc::clone(&orders))))?, orders));
    }
    let answered = |_: &Chain| open.iter().all(|(_, o)| o.answered.get() >= MESSAGE as u64);
    chain.run_until("first bytes", PATIENCE, answered)?;
    chain.poll_a_by(SimWorker::poll);
    for (number, orders) in &open {
        orders.close.set(true);
        chain.client.nudge(*number);
    }
    let closed = |c: &Chain| c.client.connections() + c.server.connections() == 0;
    chain.run_until("ends", PATIENCE, closed)?;
    // Until both gateways have their tunnels back.
    let later = chain.now + Duration::from_millis(5);
    chain.run_until("rest", PATIENCE, |c| c.now >= later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_is_counted() {
        let args = ChurnArgs { connections: vec![1, WARM], repetitions: 2, window: 32 };
        let mut bench = Bench::new(None).unwrap();
        args.run(&mut bench).unwrap();
        assert_eq!(bench.report.measurements.len(), 2 * 2 * 3);
        for (a, b) in args.windows(5, &bench).unwrap() {
            // The handshake, the message, its acknowledgement and both ends at the least.
            assert!(a.rx_frames >= 160 && b.rx_frames >= 160, "{a:?} {b:?}");
        }
    }
}
