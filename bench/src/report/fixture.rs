//! A made-up report with every shape of data, for the tests of this module.

use time::OffsetDateTime;

use super::Report;
use crate::environment::Environment;

pub(super) fn environment() -> Environment {
    Environment {
        commit: Some("0123456789ab".to_owned()),
        changed: true,
        command: "clgw-bench all --out \"<dir>\"".to_owned(),
        started: OffsetDateTime::UNIX_EPOCH,
        duration: 61.5,
        cpu: "Some CPU & more".to_owned(),
        cpus: 2,
        cpu_flags: vec!["aes".to_owned(), "vaes".to_owned()],
        virtual_machine: true,
        memory: 16 << 30,
        kernel: "6.18".to_owned(),
        dpdk: "DPDK 22.11".to_owned(),
        load_before: 0.25,
        load_after: 1.5,
        tsc_hz: 2.5e9,
        profile: "release".to_owned(),
        rustc: "rustc 1.91.0".to_owned(),
    }
}

pub(super) fn report() -> Report {
    let mut report = Report::new(environment());
    report.pinning("relays", "gateway A on CPU 0".to_owned());
    report.peer("haproxy", "2.6.12".to_owned());
    relays(&mut report);
    scale(&mut report);
    latency(&mut report);
    report.note("scale: one <small> note: with a colon");
    report.note("nobody: a note on the whole run");
    report
}

fn relays(report: &mut Report) {
    let figures = [
        ("clgw", "none", 1.3, Some(0.7)),
        ("haproxy", "none", 1.4, Some(0.33)),
        ("direct", "none", 9.0, None),
        ("haproxy", "veth's", 3.4, Some(0.21)),
    ];
    for (subject, offloads, rate, cost) in figures {
        let parameters = [
            ("subject", subject.to_owned()),
            ("offloads", offloads.to_owned()),
            ("site", "a & b".to_owned()),
        ];
        report.add("relays", &parameters, "1 stream", "Gb/s", vec![rate, rate - 1.0, rate + 1.0]);
        if let Some(cost) = cost {
            report.add("relays", &parameters, "A (1)", "s/Gbit", vec![cost, cost, cost + 0.1]);
        }
        report.add("relays", &parameters, "failed", "", vec![0.0; 3]);
    }
    for (subject, delay) in [("clgw", "5"), ("clgw", "50"), ("haproxy", "5"), ("haproxy", "50")] {
        let parameters = [("subject", subject.to_owned()), ("delay", delay.to_owned())];
        report.add("relays", &parameters, "goodput", "Mb/s", vec![100.0, 90.0, 110.0]);
    }
}

fn scale(report: &mut Report) {
    for (connections, cost) in [(1, 4000.0), (1000, 3000.0), (50000, 3100.0)] {
        for (frames, more) in [("one hot", 0.0), ("random", 100.0)] {
            let parameters =
                [("open connections", connections.to_string()), ("frames of", frames.to_owned())];
            let samples = vec![cost + more, cost + more + 100.0];
            report.add("scale", &parameters, "cost of a frame", "cycles", samples);
            if frames == "one hot" {
                report.add("scale", &parameters, "memory", "bytes/connection", vec![150e3]);
            }
        }
    }
}

fn latency(report: &mut Report) {
    for (rate, factor) in [("1000", 1.0), ("50000", 1.5)] {
        for (subject, fastest) in [("clgw", 50.0), ("haproxy", 60.0)] {
            // Shaped as latencies are: each further nine costs as much again.
            let point =
                |quantile: f64| (quantile, fastest * factor * (1.0 - (1.0 - quantile).log2()));
            let points = [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999].map(point).to_vec();
            let parameters = [("subject", subject.to_owned()), ("rate", rate.to_owned())];
            report.add_distribution("latency", &parameters, "round trip", "us", points);
        }
    }
}
