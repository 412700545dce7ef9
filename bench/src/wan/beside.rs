//! Flows through the subject beside as many of the kernel's CUBIC, which share the line.

use std::time::Duration;

use super::{Carrier, Congestion, Fault, LineArgs, START, WanArgs, on_line};
use crate::lab::{Lab, Subject};
use crate::scenario::Bench;

/// The line's rate, Mb/s: its process, the hosts and a gateway have time to spare on one CPU, so that
/// nothing but the queue in front of it decides.
const RATE_MBIT: u64 = 100;
/// Flows of either kind.
const FLOWS: usize = 4;
/// Once the subject's flows begin, once the others: who finds the line empty keeps more of it for a while.
const ORDERS: [bool; 2] = [true, false];

impl WanArgs {
    pub(super) fn beside_cases(&self) -> usize {
        let carriers = self.beside.len() * self.congestion.len();
        self.beside_rtt.len() * self.queue.len() * carriers * self.repetitions * ORDERS.len()
    }

    /// Of one of them.
    pub(super) fn expected_beside(&self) -> Duration {
        START + Duration::from_secs(self.warm_up() + self.beside_seconds)
    }

    fn warm_up(&self) -> u64 {
        self.beside_seconds.div_ceil(2)
    }

    /// # Errors
    /// Interrupted. Failures of single cases are returned.
    pub(super) fn flows_beside(
        &self,
        bench: &mut Bench,
        lab: &mut Lab,
    ) -> anyhow::Result<Vec<String>> {
        let mut failures = Vec::new();
        for &rtt in &self.beside_rtt {
            for &queue in &self.queue {
                for &subject in &self.beside {
                    for &congestion in &self.congestion {
                        let carrier = (subject, congestion);
                        failures.extend(self.beside_cubic(bench, lab, carrier, (rtt, queue))?);
                    }
                }
            }
        }
        lab.congestion = None;
        bench.report.note(format!(
            "wan, beside CUBIC: {FLOWS} flows through the subject and {FLOWS} of the kernel's CUBIC \
             between the hosts, through one queue in front of a line of {RATE_MBIT} Mb/s; goodput of \
             {} s, {} s after they have begun, once with the subject first and once with the others. \
             TCP = congestion control of the subject between the sites, for clgw its own; queue = by \
             what the line holds in a round trip",
            self.beside_seconds,
            self.warm_up()
        ));
        Ok(failures)
    }

    fn beside_cubic(
        &self,
        bench: &mut Bench,
        lab: &mut Lab,
        (subject, congestion): Carrier,
        (rtt, queue): (u64, f64),
    ) -> anyhow::Result<Vec<String>> {
        let label = format!(
            "wan: {FLOWS} flows of {subject} ({}) beside {FLOWS} of CUBIC, RTT {rtt} ms, queue {queue}",
            congestion.name()
        );
        let between = LineArgs {
            rate_mbit: RATE_MBIT,
            queue_ms: queue * rtt as f64,
            shared: true,
            ..LineArgs::of(rtt, Fault::Loss(0.0))
        };
        // The kernel between a host and our gateway is not what is measured.
        let ours = subject == Subject::Clgw;
        let kernel = if ours { Congestion::Cubic } else { congestion };
        lab.congestion = ours.then(|| congestion.name());
        let (mut shares, mut through, mut past) = (Vec::new(), Vec::new(), Vec::new());
        let mut failures = Vec::new();
        let orders = ORDERS.into_iter().cycle().take(ORDERS.len() * self.repetitions);
        for first in orders {
            bench.step(&label, self.expected_beside())?;
            let measured = on_line(lab, (subject, kernel), &between, |line| {
                let rates =
                    line.iperf_beside(FLOWS, (self.warm_up(), self.beside_seconds), first)?;
                let [one, other] = rates.map(|transfer| transfer.gbps() * 1e3);
                shares.push(100.0 * one / (one + other));
                through.push(one);
                past.push(other);
                Ok(())
            });
            if let Err(error) = measured {
                bench.interrupt.check()?;
                failures.push(format!("{label}: {error:#}"));
            }
        }
        let parameters = [
            ("RTT, ms", rtt.to_string()),
            ("queue", queue.to_string()),
            ("subject", subject.name().to_owned()),
            ("TCP", congestion.name().to_owned()),
        ];
        let scenario = "wan, beside CUBIC";
        bench.report.add(scenario, &parameters, "share", "%", shares);
        bench.report.add(scenario, &parameters, "subject", "Mb/s", through);
        bench.report.add(scenario, &parameters, "CUBIC", "Mb/s", past);
        Ok(failures)
    }
}
