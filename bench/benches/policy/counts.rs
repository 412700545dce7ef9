//! Instructions that decisions take: the same in every run, whatever else the machine does.

// The criterion benchmarks beside this one use all of it.
#[allow(dead_code)]
mod questions;

use std::hint::black_box;

use clgw_policy::PolicyTable;
use gungraun::{library_benchmark, library_benchmark_group, main};

use self::questions::{Egress, Ingress, Kind};

/// The figure of a benchmark is for this many decisions.
const DECISIONS: usize = 100;

fn egress_setup(kind: Kind, policies: usize) -> (PolicyTable, Vec<Egress>) {
    let table = questions::site(kind, policies).compile();
    let mut questions = questions::egress(&table);
    questions.truncate(DECISIONS);
    (table, questions)
}

fn ingress_setup(kind: Kind, policies: usize) -> (PolicyTable, Vec<Ingress>) {
    let table = questions::site(kind, policies).compile();
    let mut questions = questions::ingress(&table);
    questions.truncate(DECISIONS);
    (table, questions)
}

#[library_benchmark(setup = egress_setup)]
#[bench::policies_10(Kind::Everyday, 10)]
#[bench::policies_1000(Kind::Everyday, 1_000)]
#[bench::policies_10000(Kind::Everyday, 10_000)]
#[bench::worst_10000(Kind::Worst, 10_000)]
fn egress((table, questions): (PolicyTable, Vec<Egress>)) -> (usize, PolicyTable, Vec<Egress>) {
    let allowed = questions.iter().filter(|q| questions::ask_egress(&table, black_box(q))).count();
    // Handed back, so that taking them down is not counted.
    (allowed, table, questions)
}

#[library_benchmark(setup = ingress_setup)]
#[bench::policies_10(Kind::Everyday, 10)]
#[bench::policies_1000(Kind::Everyday, 1_000)]
#[bench::policies_10000(Kind::Everyday, 10_000)]
#[bench::worst_10000(Kind::Worst, 10_000)]
fn ingress((table, questions): (PolicyTable, Vec<Ingress>)) -> (usize, PolicyTable, Vec<Ingress>) {
    let allowed = questions.iter().filter(|q| questions::ask_ingress(&table, black_box(q))).count();
    (allowed, table, questions)
}

library_benchmark_group!(name = decide; benchmarks = egress, ingress);
main!(library_benchmark_groups = decide);
