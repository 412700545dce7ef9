//! `memory`: what a connection that carries nothing costs a gateway, in memory and time.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use crate::lab::ends::{HELD, HOLDING, LISTENING};
use crate::lab::{
    Between, Buffers, HOLD_PORTS, Lab, LabArgs, Line, Links, Net, PATIENCE, Place, Process,
    Subject, usage,
};
use crate::progress::print_line;
use crate::scenario::{Bench, Scenario};

/// How long the connections idle while CPU time is taken.
const IDLE: Duration = Duration::from_secs(2);
/// After the last connection has come: buffers go back.
const SETTLE: Duration = Duration::from_secs(1);
/// Opening connections, at the least.
const OPENED_A_SECOND: usize = 150;

#[derive(Clone, Debug, Args)]
pub struct MemoryArgs {
    #[command(flatten)]
    pub lab: LabArgs,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Subject::relays())]
    pub subjects: Vec<Subject>,
    /// Open connections. Relays on the kernel's TCP need two files for each; where the limit on
    /// open files is lower than that, they and clgw are measured with what it allows as well.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 50_000])]
    pub connections: Vec<usize>,
}

impl MemoryArgs {
    /// As many as the subject can have, where a relay on the kernel's TCP can have `most`.
    fn counts(&self, subject: Subject, most: usize) -> Vec<usize> {
        let mut counts: Vec<usize> = self.connections.iter().map(|n| (*n).min(most)).collect();
        if subject == Subject::Clgw {
            counts.extend(&self.connections);
        }
        counts.sort_unstable();
        counts.dedup();
        counts
    }
}

fn expected(connections: usize) -> Duration {
    Duration::from_secs(5) + Duration::from_micros(900) * connections as u32
}

impl Scenario for MemoryArgs {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn estimate(&self) -> Duration {
        // Without the limit `run` says what is wrong.
        let most = usage::relayed_limit().unwrap_or_default() as usize;
        self.subjects.iter().flat_map(|s| self.counts(*s, most)).map(expected).sum()
    }

    fn shorten(&mut self) {
        self.connections.truncate(1);
    }

    fn run(&self, bench: &mut Bench) -> anyhow::Result<()> {
        let mut lab = Lab::new(&self.lab, &self.subjects, Buffers::default(), &bench.interrupt)?;
        lab.record("memory", &self.subjects, &mut bench.report)?;
        let most = usage::relayed_limit()? as usize;
        let mut failures = Vec::new();
        for &subject in &self.subjects {
            for connections in self.counts(subject, most) {
                let label = format!("memory: {subject}, {connections} connections");
                bench.step(&label, expected(connections))?;
                // Many connections need rings as small as they can be.
                let small = Buffers { service_kib: Some(8), peer_kib: Some(32) };
                let least = connections > most;
                lab.buffers = if least { small } else { Buffers::default() };
                if let Err(error) = measure(bench, &lab, subject, connections) {
                    bench.interrupt.check()?;
                    failures.push(format!("{subject}, {connections}: {error:#}"));
                }
            }
        }
        bench.report.note(format!(
            "memory: what gateway A and B grew by (proportional set size, huge pages included), by \
             connection; each has carried a byte there and back. Memory of the kernel's \
             sockets is not in it, which favours relays on the kernel's TCP. CPU = share of a CPU \
             while all are idle; clgw polls its ports whatever comes (workers.idle: sleep). All are \
             counted at client and server after that: none has been closed. A process may have {} \
             files open here, so relays on the kernel's TCP are measured with {most} connections \
             at most; clgw with more than that has the smallest buffers (8 and 32 KiB), else the \
             defaults",
            usage::open_files_limit()?,
        ));
        ensure!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
        Ok(())
    }
}

fn measure(
    bench: &mut Bench,
    lab: &Lab,
    subject: Subject,
    connections: usize,
) -> anyhow::Result<()> {
    let links = Links {
        ends: subject.ends(),
        mtu: 1_500,
        offloads: subject != Subject::Clgw,
        between: Between::Wire,
        congestion: "cubic",
        cpus: lab.cpus,
    };
    let net = Net::new(links, &lab.interrupt)?;
    let line = lab.start(subject, net)?;
    let held = hold(&line, connections);
    if held.is_err() {
        print_line(&line.logs());
    }
    let [memory, cpu] = held?;
    let parameters =
        [("connections", connections.to_string()), ("subject", subject.name().to_owned())];
    for (n, [kib, busy]) in [["A", "A, CPU"], ["B", "B, CPU"]].into_iter().enumerate() {
        let each = memory[n] / 1024.0 / connections as f64;
        bench.report.add("memory", &parameters, kib, "KiB/connection", vec![each]);
        bench.report.add("memory", &parameters, busy, "%", vec![cpu[n] * 100.0]);
    }
    // Killed, not drained: thousands of connections have just been cut.
    drop(line);
    Ok(())
}

/// Growth of memory, bytes, and share of a CPU, of gateways A and B.
fn hold(line: &Line<'_>, connections: usize) -> anyhow::Result<[[f64; 2]; 2]> {
    let mut servers = Vec::new();
    for port in HOLD_PORTS {
        let listen = format!("10.2.0.2:{port}");
        // Half of the connections go to each port.
        let processes = (connections / 2 / HELD + 1).to_string();
        let role = ["hold-server", &listen, "--processes", &processes];
        let mut server = line.end(Place::Server, &role)?;
        server.wait_for(LISTENING, PATIENCE)?;
        servers.push(server);
    }
    let before = line.memory()?;
    let mut clients: Vec<Process> = Vec::new();
    let mut left = connections;
    let within = PATIENCE + Duration::from_secs((connections / OPENED_A_SECOND) as u64);
    while left > 0 {
        for port in HOLD_PORTS {
            let count = left.min(HELD / 2).min(connections.div_ceil(2));
            if count == 0 {
                continue;
            }
            left -= count;
            let to = format!("{}:{port}", line.subject.target());
            let role = ["hold", &to, "--count", &count.to_string()];
            let mut client = line.end(Place::Client, &role)?;
            client.wait_for(HOLDING, within)?;
            clients.push(client);
        }
    }
    line.net.pause(SETTLE)?;
    let (after, cpu) = (line.memory()?, line.cpu_seconds()?);
    line.net.pause(IDLE)?;
    let busy = line.cpu_seconds()?;
    for process in servers.iter_mut().chain(&mut clients) {
        ensure!(process.is_running(), "an end of the connections has ended");
    }
    for place in [Place::Client, Place::Server] {
        let open = line.established(place, &HOLD_PORTS)?;
        ensure!(open == connections, "{open} of {connections} connections are left at {place:?}");
    }
    let share = |n: usize| (busy[n] - cpu[n]) / IDLE.as_secs_f64();
    let grown = |n: usize| (after[n] - before[n]).max(0.0);
    Ok([[grown(0), grown(1)], [share(0), share(1)]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_of_the_kernel_hold_what_their_files_allow() {
        let args = MemoryArgs {
            lab: LabArgs { clgw: None },
            subjects: Subject::relays(),
            connections: vec![1_000, 50_000],
        };
        assert_eq!(args.counts(Subject::Clgw, 9_000), [1_000, 9_000, 50_000]);
        assert_eq!(args.counts(Subject::Nginx, 9_000), [1_000, 9_000]);
        assert_eq!(args.counts(Subject::Clgw, 60_000), [1_000, 50_000]);
    }
}
