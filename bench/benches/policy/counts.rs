//! Instructions that decisions take: the same in every run, whatever else the machine does. The
//! limits are a quarter above what was measured last: more is a decision that got dearer, not noise.

// The criterion benchmarks beside this one use all of it.
#[allow(dead_code)]
mod questions;

use std::hint::black_box;

use clgw_policy::PolicyTable;
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind, main};

use self::questions::{Egress, Ingress, Kind};

/// The figure of a benchmark is for this many decisions.
const DECISIONS: usize = 100;

const EGRESS: u64 = 195;
const EGRESS_WORST: u64 = 5_100;
const INGRESS: u64 = 2_580;
const INGRESS_WORST: u64 = 27_200;

/// Fails above this many instructions for one decision.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let limit = [(EventKind::Ir, instructions * DECISIONS as u64)];
    LibraryBenchmarkConfig::default().tool(Callgrind::default().hard_limits(limit)).clone()
}

fn setup<Q>(kind: Kind, policies: usize, ask: fn(&PolicyTable) -> Vec<Q>) -> (PolicyTable, Vec<Q>) {
    let table = questions::site(kind, policies).compile();
    let mut questions = ask(&table);
    questions.truncate(DECISIONS);
    (table, questions)
}

fn egress_setup(kind: Kind, policies: usize) -> (PolicyTable, Vec<Egress>) {
    setup(kind, policies, questions::egress)
}

fn ingress_setup(kind: Kind, policies: usize) -> (PolicyTable, Vec<Ingress>) {
    setup(kind, policies, questions::ingress)
}

#[library_benchmark(setup = egress_setup)]
#[bench::policies_10(args = (Kind::Everyday, 10), config = at_most(EGRESS))]
#[bench::policies_1000(args = (Kind::Everyday, 1_000), config = at_most(EGRESS))]
#[bench::policies_10000(args = (Kind::Everyday, 10_000), config = at_most(EGRESS))]
#[bench::worst_10000(args = (Kind::Worst, 10_000), config = at_most(EGRESS_WORST))]
fn egress((table, questions): (PolicyTable, Vec<Egress>)) -> (usize, PolicyTable, Vec<Egress>) {
    let allowed = questions.iter().filter(|q| questions::ask_egress(&table, black_box(q))).count();
    // Handed back, so that taking them down is not counted.
    (allowed, table, questions)
}

#[library_benchmark(setup = ingress_setup)]
#[bench::policies_10(args = (Kind::Everyday, 10), config = at_most(INGRESS))]
#[bench::policies_1000(args = (Kind::Everyday, 1_000), config = at_most(INGRESS))]
#[bench::policies_10000(args = (Kind::Everyday, 10_000), config = at_most(INGRESS))]
#[bench::worst_10000(args = (Kind::Worst, 10_000), config = at_most(INGRESS_WORST))]
fn ingress((table, questions): (PolicyTable, Vec<Ingress>)) -> (usize, PolicyTable, Vec<Ingress>) {
    let allowed = questions.iter().filter(|q| questions::ask_ingress(&table, black_box(q))).count();
    (allowed, table, questions)
}

library_benchmark_group!(name = decide; benchmarks = egress, ingress);
main!(library_benchmark_groups = decide);
