//! The generator on real ports: both sides in one process, joined by net_memif. Needs no
//! privileges and no hugepages.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use serde_json::Value;

/// A process with EAL polls two CPUs; several at once would be measured at each other's cost.
static ONE: Mutex<()> = Mutex::new(());

fn generate(target: &str, mode: &[&str]) -> (Output, Option<Value>) {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (socket, out) = (dir.path().join("socket"), dir.path().join("out"));
    let device = |number: u8, role: &str| {
        format!(
            "net_memif{number},role={role},id=0,socket={},socket-abstract=no,rsize=12",
            socket.display()
        )
    };
    let output = program(dir.path())
        .args(["generate", "--client-device", &device(0, "server")])
        .args(["--client-address", "10.0.0.1/24", "--server-address", "10.0.0.2/24"])
        .args(["--server-device", &device(1, "client"), "--target", target])
        .args(["--hugepages", "off", "--memory-mib", "128", "--idle", "sleep"])
        .arg("--out")
        .arg(&out)
        .args(mode)
        .output()
        .unwrap();
    nothing_of_eal_is_left(dir.path());
    let text = std::fs::read_to_string(out.join("results.json")).ok();
    (output, text.map(|text| serde_json::from_str(&text).unwrap()))
}

/// With EAL's directories in `dir`.
fn program(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clgw-bench"));
    command.env("RUNTIME_DIRECTORY", dir);
    command
}

fn nothing_of_eal_is_left(dir: &Path) {
    let left: Vec<_> = std::fs::read_dir(dir.join("dpdk")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Samples of a metric.
fn samples(result: &Value, metric: &str) -> Vec<f64> {
    let all = result["measurements"].as_array().unwrap();
    let found = all.iter().find(|m| m["metric"] == metric);
    let found = found.unwrap_or_else(|| panic!("no {metric} in {all:#?}"));
    found["samples"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn streams_in_both_directions() {
    let mode = ["streams", "--streams", "2", "--direction", "both", "--seconds", "1", "--verify"];
    let (output, result) = generate("10.0.0.2:8080", &mode);
    let result = result.unwrap_or_else(|| panic!("{output:?}"));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(samples(&result, "failed"), [0.0]);
    for metric in ["upload", "download"] {
        let rates = samples(&result, metric);
        assert!(rates.len() == 1 && rates[0] > 0.001, "{metric}: {rates:?} Gb/s");
    }
}

#[test]
fn new_connections_at_a_rate() {
    let mode = ["connections", "--rate", "500", "--seconds", "2", "--request", "200"];
    let (output, result) = generate("10.0.0.2:8080", &mode);
    let result = result.unwrap_or_else(|| panic!("{output:?}"));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        (samples(&result, "failed"), samples(&result, "unanswered")),
        (vec![0.0], vec![0.0])
    );
    let rates = samples(&result, "rate");
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    assert!((400.0..600.0).contains(&mean), "{rates:?}");
    let micros = |metric| samples(&result, metric)[0];
    assert!(micros("p50") > 0.0 && micros("p50") <= micros("p99"), "{result:#}");
    assert!(micros("p99.9") <= micros("max"), "{result:#}");
}

#[test]
fn connections_that_do_not_come_up_are_an_error_that_says_why() {
    let (output, result) = generate("10.0.0.2:81", &["requests", "--seconds", "1"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    let report = result.expect("the report of it");
    assert!(report["notes"].to_string().contains("first failure"), "{report:#}");
    let said = "10.0.0.2:81: 0 of 16 connections came up, 16 failed";
    assert!(text.contains(said) && text.contains("refused"), "{text}");
    let (output, _) = generate("10.9.0.2:80", &["requests", "--seconds", "1"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("give --client-via"), "{text}");
}

#[test]
fn a_server_ends_by_signals_as_it_should() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for signal in ["-INT", "-TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = program(dir.path())
            .args(["generate", "serve", "--server-device", "net_null0"])
            .args(["--server-address", "10.0.0.2/24", "--hugepages", "off"])
            .args(["--memory-mib", "128", "--idle", "sleep"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("to server") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it ended before it served");
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert!(child.wait().unwrap().success(), "{signal}: {rest}");
        assert!(!rest.contains("interrupted"), "{rest}");
        nothing_of_eal_is_left(dir.path());
    }
}
