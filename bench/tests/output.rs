//! What a run leaves and how it ends, whatever happens to its outputs and to itself. No root.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use serde_json::Value;

/// Of less than a second.
const QUICK: [&str; 11] = [
    "hop",
    "--mtu",
    "1500",
    "--suite",
    "aes128-gcm",
    "--port",
    "checksums",
    "--direction",
    "upload",
    "--short",
    "--repetitions=1",
];
/// Of minutes, in case it is not ended.
const LONG: [&str; 4] = ["hop", "--mtu=1500", "--suite=aes128-gcm", "--repetitions=500"];

/// In a directory that is no checkout.
fn bench(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clgw-bench"));
    command.current_dir(dir).args(args).stdin(Stdio::null());
    command
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts it, and waits until it measures.
fn begin(command: &mut Command) -> (Child, BufReader<ChildStderr>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let measures = line.contains("hop: AES-128-GCM");
    if !measures {
        // It would take both CPUs from the tests that follow.
        let _ = child.kill();
        let _ = child.wait();
    }
    assert!(measures, "{line}");
    (child, stderr)
}

fn signal(child: &Child, name: &str) {
    let status =
        Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn end(mut child: Child, mut stderr: BufReader<ChildStderr>) -> (ExitStatus, String) {
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    (child.wait().unwrap(), text)
}

#[test]
fn the_commit_is_that_of_the_build() {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(dir.path(), &QUICK).args(["--out", "out"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let json = fs::read_to_string(dir.path().join("out/results.json")).unwrap();
    let report: Value = serde_json::from_str(&json).unwrap();
    let git = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short=12", "HEAD"])
        .output();
    let commit = git.ok().filter(|o| o.status.success()).map(|o| o.stdout);
    let commit = commit.map(|bytes| String::from_utf8(bytes).unwrap().trim().to_owned());
    assert_eq!(report["environment"]["commit"].as_str(), commit.as_deref());
    assert!(report["environment"]["changed"].is_boolean());
}

#[test]
fn files_are_written_though_nobody_reads_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = bench(dir.path(), &QUICK).args(["--out", "out"]).stdout(writer).output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
    assert!(dir.path().join("out/results.json").is_file());
    // Nor the progress.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = bench(dir.path(), &QUICK).args(["--out", "2"]).stderr(writer).status().unwrap();
    assert!(status.success(), "{status}");
    assert!(dir.path().join("2/results.json").is_file());
    // A table that is lost is an error.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = bench(dir.path(), &QUICK).stdout(full).output().unwrap();
    assert!(stderr(&output).contains("the table cannot be printed"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_cannot_be_written_is_known_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let output = bench(dir.path(), &LONG).args(["--out", "file/out"]).output().unwrap();
    let text = stderr(&output);
    assert!(text.starts_with("clgw-bench: file/out: cannot be written"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn both_failures_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = bench(dir.path(), &LONG);
    command.args(["--out", "out"]);
    let (child, stderr) = begin(&mut command);
    fs::remove_dir(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("out"), "").unwrap();
    signal(&child, "INT");
    let (status, text) = end(child, stderr);
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("interrupted;") && text.contains("out: cannot be written"), "{text}");
}

#[test]
fn signals_that_end_a_session_end_it_in_order() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["INT", "TERM", "HUP", "QUIT"] {
        let (child, stderr) = begin(&mut bench(dir.path(), &LONG));
        signal(&child, name);
        let (status, text) = end(child, stderr);
        assert_eq!((status.signal(), status.code()), (None, Some(1)), "SIG{name}: {text}");
        assert!(text.contains("interrupted;"), "SIG{name}: {text}");
    }
}

#[test]
fn nohup_is_respected() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("nohup");
    command.arg(env!("CARGO_BIN_EXE_clgw-bench")).args(QUICK).args(["--window-mib", "128"]);
    let (child, stderr) = begin(command.current_dir(dir.path()).stdin(Stdio::null()));
    signal(&child, "HUP");
    let (status, text) = end(child, stderr);
    assert!(status.success(), "{status}: {text}");
}
