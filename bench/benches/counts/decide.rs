//! Policy decisions of both gateways.

// The criterion benchmarks it belongs to use all of it.
#[allow(dead_code)]
#[path = "../policy/questions.rs"]
mod questions;

use std::hint::black_box;

use clgw_policy::PolicyTable;
use gungraun::prelude::*;

use self::questions::{Egress, Ingress, Kind};

pub const DECISIONS: usize = 100;

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
#[bench::policies_10(args = (Kind::Everyday, 10))]
#[bench::policies_1000(args = (Kind::Everyday, 1_000))]
#[bench::policies_10000(args = (Kind::Everyday, 10_000))]
#[bench::worst_10000(args = (Kind::Worst, 10_000))]
fn egress((table, questions): (PolicyTable, Vec<Egress>)) -> (usize, PolicyTable, Vec<Egress>) {
    let allowed = questions.iter().filter(|q| questions::ask_egress(&table, black_box(q))).count();
    // Handed back, so that taking them down is not counted.
    (allowed, table, questions)
}

#[library_benchmark(setup = ingress_setup)]
#[bench::policies_10(args = (Kind::Everyday, 10))]
#[bench::policies_1000(args = (Kind::Everyday, 1_000))]
#[bench::policies_10000(args = (Kind::Everyday, 10_000))]
#[bench::worst_10000(args = (Kind::Worst, 10_000))]
fn ingress((table, questions): (PolicyTable, Vec<Ingress>)) -> (usize, PolicyTable, Vec<Ingress>) {
    let allowed = questions.iter().filter(|q| questions::ask_ingress(&table, black_box(q))).count();
    (allowed, table, questions)
}

library_benchmark_group!(name = decide; benchmarks = egress, ingress);
