//! What a decision costs, from 10 to 10,000 policies, beside an evaluator that looks at one policy
//! after the other; what compiling a table costs, and its size.

mod linear;
mod questions;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dpdk_bindings::testing::{CountingAllocator, allocated_bytes};

use self::linear::Linear;
use self::questions::{Kind, QUESTIONS, Site};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SIZES: [usize; 3] = [10, 1_000, 10_000];

/// Calls `ask` with one question after the other.
fn in_turn<Q>(questions: &[Q], mut ask: impl FnMut(&Q) -> bool) -> impl FnMut() -> bool {
    let mut next = 0;
    move || {
        let question = &questions[next];
        next = (next + 1) % QUESTIONS;
        ask(black_box(question))
    }
}

fn decisions(criterion: &mut Criterion) {
    for kind in [Kind::Everyday, Kind::Worst] {
        for policies in SIZES {
            let site = questions::site(kind, policies);
            let table = site.compile();
            let linear = Linear::new(&site);
            let (egress, ingress) = (questions::egress(&table), questions::ingress(&table));
            for question in &egress {
                assert_eq!(
                    questions::ask_egress(&table, question),
                    linear.egress(question),
                    "two evaluators must agree on what they are timed with"
                );
            }
            for question in &ingress {
                assert_eq!(questions::ask_ingress(&table, question), linear.ingress(question));
            }
            let allowed = egress.iter().filter(|q| questions::ask_egress(&table, q)).count();
            eprintln!("{kind:?}, {policies} policies: {allowed} of {QUESTIONS} allowed");

            let name = format!("{kind:?}").to_lowercase();
            let mut group = criterion.benchmark_group(format!("decide/{name}"));
            let id = |what| BenchmarkId::new(what, policies);
            group.bench_function(id("egress"), |b| {
                b.iter(in_turn(&egress, |q| questions::ask_egress(&table, q)));
            });
            group.bench_function(id("ingress"), |b| {
                b.iter(in_turn(&ingress, |q| questions::ask_ingress(&table, q)));
            });
            group.bench_function(id("linear egress"), |b| {
                b.iter(in_turn(&egress, |q| linear.egress(q)));
            });
            group.bench_function(id("linear ingress"), |b| {
                b.iter(in_turn(&ingress, |q| linear.ingress(q)));
            });
            group.finish();
        }
    }
}

/// The client behind an address, of 10,000.
fn client(criterion: &mut Criterion) {
    let table = questions::site(Kind::Everyday, 10).compile();
    let egress = questions::egress(&table);
    criterion.bench_function("client by address", |b| {
        b.iter(in_turn(&egress, |q| table.client(q.address).index() > 0));
    });
}

fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for policies in SIZES {
        let site = questions::site(Kind::Everyday, policies);
        print_size(&site, policies);
        group.bench_function(BenchmarkId::from_parameter(policies), |b| b.iter(|| site.compile()));
    }
    group.finish();
}

fn print_size(site: &Site, policies: usize) {
    let before = allocated_bytes();
    let table = site.compile();
    let whole = allocated_bytes() - before;
    eprintln!(
        "table of {policies} policies, {} workloads, {} sources and {} exports: {:.1} MiB",
        questions::WORKLOADS,
        table.imports().iter().map(|import| import.sources.len()).sum::<usize>(),
        table.exports().len(),
        whole as f64 / f64::from(1 << 20),
    );
}

criterion_group!(benches, decisions, client, compile);
criterion_main!(benches);
