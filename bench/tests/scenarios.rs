//! Every scenario once, shortened: that it measures what it says, not how fast that is. Needs root,
//! and the gateway's program beside this package's (`cargo build`, or tests of the whole workspace).

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs a scenario; its measurements.
fn run(args: &[&str]) -> Vec<Value> {
    let out = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_clgw-bench"));
    let gateway = program.with_file_name("clgw");
    assert!(gateway.is_file(), "{}: build it with cargo build -p clgw", gateway.display());
    let output = Command::new(program)
        .args(args)
        .args(["--short", "--out"])
        .arg(out.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {}\n{text}", output.status);
    let json = std::fs::read_to_string(out.path().join("results.json")).unwrap();
    for file in ["results.csv", "report.md", "report.html"] {
        assert!(out.path().join(file).is_file(), "{file}");
    }
    let report: Value = serde_json::from_str(&json).unwrap();
    report["measurements"].as_array().unwrap().clone()
}

/// The median of a metric where all these parameters are as given.
fn median(measurements: &[Value], metric: &str, parameters: &[(&str, &str)]) -> f64 {
    let fits = |m: &&Value| {
        let has = |(key, value): &(&str, &str)| {
            let of = m["parameters"].as_array().unwrap();
            of.iter().any(|p| p[0] == *key && p[1] == *value)
        };
        m["metric"] == metric && parameters.iter().all(has)
    };
    let found: Vec<&Value> = measurements.iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "{metric} of {parameters:?}");
    found[0]["summary"]["median"].as_f64().unwrap()
}

#[test]
fn hop() {
    let measurements = run(&["hop", "--suite", "aes128-gcm", "--mtu", "1500"]);
    for (direction, gateway) in [("upload", "A seals"), ("download", "B seals")] {
        let of = [("direction", direction), ("gateway", gateway), ("the port does", "checksums")];
        assert!(median(&measurements, "one core", &of) > 0.1);
        assert!(median(&measurements, "cost of a frame", &of) > 100.0);
    }
}

#[test]
fn end_to_end() {
    let subjects = "clgw,haproxy,nginx,stunnel,relay,direct";
    let measurements = run(&["e2e", "--modes", "1500", "--subjects", subjects]);
    for subject in subjects.split(',') {
        let of = [("subject", subject)];
        for metric in ["1 stream", "8 streams", "connections", "round trip p50"] {
            assert!(median(&measurements, metric, &of) > 0.0, "{subject}: {metric}");
        }
        assert_eq!(median(&measurements, "failed", &of), 0.0, "{subject}");
    }
}

#[test]
fn memory_of_idle_connections() {
    let subjects = ["--subjects", "clgw,haproxy", "--connections", "300"];
    let measurements = run(&[&["memory"][..], &subjects].concat());
    for subject in ["clgw", "haproxy"] {
        let kib = median(&measurements, "A", &[("subject", subject)]);
        assert!(kib > 0.5 && kib < 2_000.0, "{subject}: {kib} KiB a connection");
    }
}

#[test]
fn a_gateway_without_work() {
    let settings = ["--policies", "poll,sleep,interrupt", "--gaps-us", "0,50000"];
    let measurements = run(&[&["idle"][..], &settings].concat());
    let cpu = |policy| median(&measurements, "CPU", &[("idle", policy), ("gap", "none")]);
    assert!(cpu("poll") > 2.0 * cpu("sleep"), "{} and {} %", cpu("poll"), cpu("sleep"));
    assert!(cpu("sleep") > cpu("interrupt"), "{} and {} %", cpu("sleep"), cpu("interrupt"));
    for policy in ["poll", "sleep", "interrupt"] {
        let of = [("idle", policy), ("gap", "50000 us")];
        assert!(median(&measurements, "p50", &of) > 0.0, "{policy}");
        assert_eq!(median(&measurements, "lost", &of), 0.0, "{policy}");
    }
}

#[test]
fn a_new_connection_over_a_long_line_waits_for_one_round_trip() {
    let settings = ["--rtt", "50", "--fault", "0", "--subjects", "clgw", "--seconds", "2"];
    let whose = ["--parts", "transfers,first-byte", "--first-byte", "clgw,haproxy,direct"];
    let measurements = run(&[&["wan"][..], &settings, &whose].concat());
    assert!(median(&measurements, "1 stream", &[("subject", "clgw")]) > 1.0);
    let trips = |subject| median(&measurements, "first byte", &[("subject", subject)]);
    // Connect and exchange; TCP, TLS (resumed) and exchange; OPEN with the first bytes behind it.
    for (subject, least) in [("direct", 2.0), ("haproxy", 3.0), ("clgw", 1.0)] {
        let trips = trips(subject);
        assert!(trips >= least && trips < least + 0.8, "{subject}: {trips} round trips");
    }
}

#[test]
fn a_line_is_shared_with_the_kernels_flows() {
    let measurements = run(&["wan", "--parts", "beside", "--beside", "clgw,direct"]);
    for subject in ["clgw", "direct"] {
        let of = |metric| median(&measurements, metric, &[("subject", subject)]);
        let (share, through, past) = (of("share"), of("subject"), of("CUBIC"));
        // Medians of two runs, with nearly the same total.
        assert!((100.0 * through / (through + past) - share).abs() < 1.0, "{subject}: {share} %");
        assert!(through > 5.0 && past > 5.0, "{subject}: {through} and {past} Mb/s");
        // The line carries 100 Mb/s, headers and all.
        assert!((60.0..97.0).contains(&(through + past)), "{subject}: {through} and {past} Mb/s");
    }
}
